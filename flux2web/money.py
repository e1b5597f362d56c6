"""Credits are int, USD is Decimal: parse, format, round up. Pure."""

import re
from decimal import ROUND_CEILING, Decimal, InvalidOperation

CREDITS_MAX = 10**12  # the largest amount one entry may carry


def parse_credits(text: str) -> int:
    """A whole, positive number of credits as people write it ("1,200", "1 200"). Raises ValueError with a clear message."""
    plain = re.sub("[ \u202f\xa0]", ",", text.strip())  # thousands, as "1,5" and "1 5" are not
    if "," in plain:
        head, *groups = plain.split(",")
        if not head or any(len(group) != 3 for group in groups):
            raise ValueError("Write whole credits, for example 1200.")
        plain = head + "".join(groups)
    if not (plain.isascii() and plain.isdigit()):
        raise ValueError("Write a whole number of credits in the digits 0 to 9, for example 1200.")
    amount = int(plain) if len(plain) < 20 else CREDITS_MAX + 1
    if not 1 <= amount <= CREDITS_MAX:
        raise ValueError(f"Between 1 and {format_credits(CREDITS_MAX)} credits.")
    return amount


def format_credits(amount: int) -> str:
    """4120 -> "4,120"."""
    return f"{amount:,}"


def credits_text(amount: int) -> str:
    """ "1 credit", "24 credits"."""
    return f"{format_credits(amount)} credit{'' if amount == 1 else 's'}"


def parse_usd(value: object) -> Decimal | None:
    """A finite, non-negative amount of USD from a provider's string or number, else None."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount < 10**6 else None


def usd_to_credits(usd: Decimal, credit_usd: Decimal) -> int:
    """Rounded up: a part of a credit is a credit."""
    return int((usd / credit_usd).to_integral_value(ROUND_CEILING))


def usd_text(amount: Decimal) -> str:
    """ "$12.30", "−$0.05"."""
    return f"{'−' if amount < 0 else ''}${abs(amount):,.2f}"
