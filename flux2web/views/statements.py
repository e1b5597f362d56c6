"""The daily check: what each provider accepted, what became of it, and whether its balance agrees."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from .. import access, statements
from .. import providers as adapters
from ..models import ProviderAccount, Statement

SHOWN_DAYS = 14
CENT = Decimal("0.01")


@dataclass(frozen=True)
class Day:
    """A statement as its row shows it."""

    row: Statement
    fall: Decimal | None  # of the balance since the last one we have; negative where it rose

    @property
    def is_quiet(self) -> bool:
        return not (self.row.accepted or self.row.findings or self.is_provisional)

    @property
    def balance(self) -> str:
        return "" if self.row.balance is None else number(self.row.balance)

    @property
    def moved(self) -> str:
        if not self.fall:
            return ""
        return f"fell by {number(self.fall)}" if self.fall > 0 else f"rose by {number(-self.fall)}: paid in"

    @property
    def drift(self) -> str:
        drift = self.row.drift
        return "" if drift is None else f"{'+' if drift > 0 else ''}{number(drift)}"

    @property
    def is_provisional(self) -> bool:
        return statements.is_provisional(self.row)

    @property
    def cost(self) -> str:
        """ "" where pictures were made and nobody knows what they cost."""
        return "" if self.row.done and not self.row.cost_usd else dollars(self.row.cost_usd)

    @property
    def margin(self) -> str:
        """What teams were charged, at what a credit is worth, beyond what it cost."""
        return dollars(self.row.credits * settings.CREDIT_USD - self.row.cost_usd) if self.cost else ""

    @property
    def is_loss(self) -> bool:
        return self.row.credits * settings.CREDIT_USD < self.row.cost_usd


@dataclass(frozen=True)
class Book:
    """An account's last days, the newest first."""

    account: ProviderAccount
    days: list[Day]

    @property
    def name(self) -> str:
        return adapters.get(self.account.provider).name

    @property
    def unit(self) -> str:
        return statements.unit(self.account)

    @property
    def has_quiet(self) -> bool:
        return any(day.is_quiet for day in self.days)


def number(amount: Decimal) -> str:
    """ "1,000", "74.87", "−0.5": no more places than it has."""
    return f"{amount.normalize():,f}".replace("-", "−")


def dollars(usd: Decimal) -> str:
    """To the cent, or further where there would be nothing to see."""
    places = CENT if abs(usd) >= CENT or not usd else CENT / 100
    return f"{'−' if usd < 0 else ''}${abs(usd).quantize(places):,}"


@access.site_admin
def page(request: HttpRequest) -> HttpResponse:
    since = timezone.now().date() - timedelta(days=SHOWN_DAYS - 1)
    rows = Statement.objects.filter(day__gte=since).select_related("account")
    context = {"books": books(rows.order_by("account__sandbox", "account", "-day")), "days": SHOWN_DAYS}
    return render(request, "console/statements.html", context)


def books(rows: Iterable[Statement]) -> list[Book]:
    """By account; the rows come in its order."""
    by_account: dict[int, list[Statement]] = {}
    for row in rows:
        by_account.setdefault(row.account_id, []).append(row)
    return [Book(of_it[0].account, days_of(of_it)) for of_it in by_account.values()]


def days_of(rows: list[Statement]) -> list[Day]:
    found: list[Day] = []
    last: Decimal | None = None
    for row in reversed(rows):  # oldest first, for what each balance fell by
        fall = last - row.balance if last is not None and row.balance is not None else None
        found.insert(0, Day(row, fall))
        last = last if row.balance is None else row.balance
    return found


@require_POST
@access.site_admin
def check(request: HttpRequest) -> HttpResponse:
    """Draws up this day so far; the day's own statement takes its place."""
    drawn = statements.draw_today()
    findings = sum(len(row.findings) for row in drawn)
    if not drawn:
        messages.info(request, "There is no account to check: no provider is switched on.")
    elif findings:
        messages.warning(request, f"Today so far: {findings} finding{'' if findings == 1 else 's'}, listed below.")
    else:
        messages.success(request, "Today so far: nothing stands out.")
    return redirect("statements")
