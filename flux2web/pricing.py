"""What a picture costs. A price nobody knows refuses; it is never zero."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from .models import Price
from .money import usd_to_credits

# (provider, family, resolution): credits, credits a reference, approximate USD, published by the provider.
# Published: Revid (docs.revidapi.com) and Flux2API (flux2api.com/docs, no USD). Assumed from kie.ai's list, Apixo's range and
# BFL's list, 2026-11. The USD figures are the vendors' own and follow no single rate.
SEED: dict[tuple[str, str, str], tuple[int, int, str | None, bool]] = {
    ("revid", "pro", "1K"): (10, 0, "0.025", True),
    ("revid", "pro", "2K"): (15, 0, "0.035", True),
    ("revid", "flex", "1K"): (25, 0, "0.07", True),
    ("revid", "flex", "2K"): (40, 0, "0.12", True),
    ("apikley", "flex", "1K"): (28, 0, "0.07", False),
    ("apikley", "flex", "2K"): (48, 0, "0.12", False),
    ("apixo", "pro", "1K"): (20, 0, "0.05", False),
    ("apixo", "pro", "2K"): (28, 0, "0.07", False),
    ("apixo", "flex", "1K"): (40, 0, "0.10", False),
    ("apixo", "flex", "2K"): (52, 0, "0.13", False),
    ("flux2api", "pro", "1K"): (30, 0, None, True),
    ("flux2api", "pro", "2K"): (30, 0, None, True),
    ("flux2api", "flex", "1K"): (100, 0, None, True),
    ("flux2api", "flex", "2K"): (100, 0, None, True),
    ("vtrix", "pro", "1K"): (12, 6, "0.03", False),
    ("vtrix", "pro", "2K"): (30, 6, "0.075", False),
}


@dataclass(frozen=True)
class PictureQuote:
    """One picture's price. `assumed` until its provider publishes it or an admin confirms it."""

    credits: int
    usd: Decimal | None
    assumed: bool


def quote_all(family: str, resolution: str, references: int) -> dict[str, PictureQuote]:
    """One picture's price by provider; a provider without a row is missing. One query."""
    rows = Price.objects.filter(family=family, resolution=resolution)
    return {row.provider: _of(row, references) for row in rows}


def _of(row: Price, references: int) -> PictureQuote:
    credits = row.credits + row.credits_per_reference * references
    return PictureQuote(credits, row.usd, not (row.published or row.confirmed_at))


def charge(hold: int, price: int, cost_usd: Decimal | None, credit_usd: Decimal) -> int:
    """What is settled: the delivering account's price, or what it reported as its cost; never above the hold."""
    if cost_usd is None:
        return min(hold, price)
    return max(1, min(hold, usd_to_credits(cost_usd, credit_usd)))


def seed_prices() -> None:
    """Write the prices that are missing; never touch one that is there."""
    rows = [
        Price(
            provider=provider,
            family=family,
            resolution=resolution,
            credits=credits,
            credits_per_reference=per_reference,
            usd=Decimal(usd) if usd else None,
            published=published,
        )
        for (provider, family, resolution), (credits, per_reference, usd, published) in SEED.items()
    ]
    Price.objects.bulk_create(rows, ignore_conflicts=True)
