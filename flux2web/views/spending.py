"""What was spent, by whom, where, and what it cost us there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .. import access, charts, providers, sheets, spend
from ..forms_console import SpendForm
from ..models import Tally
from ..spend import Share
from .budget import sent

SHOWN = 50  # of each kind; the file has them all
HEADER = (
    "day (UTC)", "team", "member", "email", "provider", "family", "mode", "resolution",
    "done", "failed", "cancelled", "references", "credits charged", "credits refunded", "credits", "cost USD",
)  # fmt: skip
COLUMNS = (
    "day", "team__name", "user__name", "user__email", "provider", "family", "mode", "resolution",
    "done", "failed", "cancelled", "references", "credits", "refunded", "cost_usd",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A share, with what its credits are worth beside what its pictures cost us."""

    share: Share
    label: str

    @property
    def worth_usd(self) -> Decimal:
        return self.share.credits * settings.CREDIT_USD

    @property
    def difference_usd(self) -> Decimal:
        return self.worth_usd - self.share.cost_usd


@access.site_admin
def page(request: HttpRequest) -> HttpResponse:
    form = SpendForm(request.GET)
    return render(request, "console/spend.html", context(request, form)) if form.is_valid() else refused(request, form)


def refused(request: HttpRequest, form: SpendForm) -> HttpResponse:
    return render(request, "console/spend.html", {"form": form}, status=422)


def context(request: HttpRequest, form: SpendForm) -> dict[str, object]:
    rows, since, until = chosen(form), form.since_day, form.until_day
    points = [(f"{day:%-d %b}", credits) for day, credits in spend.by_day(rows, since, until)]
    return {
        "form": form,
        "since": since,
        "until": until,
        "query": request.GET.urlencode(),
        "chart": charts.bars(points),
        "total": Part(spend.total(rows), "All"),
        "groups": [
            (title, parts(rows, what))
            for title, what in (("Team", "team"), ("Member", "user"), ("Provider", "provider"))
        ],
        "shown": SHOWN,
        "credit_usd": settings.CREDIT_USD,
    }


def chosen(form: SpendForm) -> QuerySet[Tally]:
    return spend.rows(team=form.cleaned_data["team"], since=form.since_day, until=form.until_day)


def parts(rows: QuerySet[Tally], what: str) -> list[Part]:
    return [Part(share, label_of(share, what)) for share in spend.by(rows, what)]


def label_of(share: Share, what: str) -> str:
    known = what == "provider" and share.key in providers.ALL
    return providers.get(str(share.key)).name if known else share.label


@access.site_admin
def sheet(request: HttpRequest) -> HttpResponse:
    """All of it as CSV: a line for each member's day in each way."""
    form = SpendForm(request.GET)
    if not form.is_valid():
        return refused(request, form)
    return sent(f"spend-{form.since_day}-{form.until_day}.csv", sheets.lines(HEADER, lines(chosen(form))))


def lines(rows: QuerySet[Tally]) -> Iterator[tuple]:
    for *names, charged, refunded, cost_usd in rows.order_by("day", "pk").values_list(*COLUMNS).iterator(1000):
        yield (*names, charged, refunded, charged - refunded, f"{cost_usd:f}")
