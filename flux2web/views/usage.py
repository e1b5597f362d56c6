"""What one member has used, and under which limits: for that member."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from .. import access, charts, periods, providers, queries, requests, spend
from ..cards import Card
from ..forms_usage import AskForm, OwnLimitForm
from ..ledger import Left
from ..models import CreditRequest, Entry, Membership, Role
from ..models.base import new_token
from ..money import credits_text
from ..spend import Share
from .context import purse

LINES = 30  # a page
REQUESTS = 20
SINCE = {"period": "This period", "30": "30 days", "90": "90 days"}
MODES = {"text-to-image": "From text", "image-to-image": "From images"}


@dataclass(frozen=True)
class Time:
    """What the page looks at: the team's period so far, or a number of days that end today."""

    chosen: str
    begins: datetime  # of the team's period
    now: datetime

    @cached_property
    def since(self) -> date:
        until = self.now.astimezone(UTC).date()
        return (
            self.begins.astimezone(UTC).date() if self.chosen == "period" else until - timedelta(int(self.chosen) - 1)
        )

    @property
    def until(self) -> date:
        return self.now.astimezone(UTC).date()


@require_safe
@access.team(Role.VIEWER)
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    return show(request, member)


def show(
    request: HttpRequest,
    member: Membership,
    *,
    status: int = 200,
    asking: AskForm | None = None,
    own_limit: OwnLimitForm | None = None,
) -> HttpResponse:
    now, left = timezone.now(), purse(member).left
    time = Time(_chosen(request.GET.get("since", "")), _begins(member, left, now), now)
    cursor = request.GET.get("before")
    held = queries.LedgerFilter(
        kinds=(Entry.Kind.HOLD,), actor=member.user_id
    )  # each picture has one hold, by whom it is for
    lines = queries.ledger_page(member.team, cursor, LINES, held)
    context = {
        "left": left,
        "limits": [(limit, max(0, limit.left)) for limit in left.limits],
        "pace": _pace(left, time),
        "time": time,
        "choices": SINCE.items(),
        "lines": [(entry, Card(entry.task)) for entry in lines.rows if entry.task],
        "next": lines.next,
        "cursor": cursor,
        "requests": _requests(member),
        "asking": asking or AskForm(initial={"key": new_token()}),
        "form": own_limit or OwnLimitForm(initial={"own_limit": member.own_limit}),
    }
    return render(request, "usage/page.html", context | _spent(member, time), status=status)


def _chosen(text: str) -> str:
    return text if text in SINCE else "period"


def _begins(member: Membership, left: Left, now: datetime) -> datetime:
    """Of the period that lasts, also where nobody has opened it yet."""
    period, budget = member.team.budget.period, member.team.budget
    lasts = period is not None and period.starts_at <= now < period.ends_at
    return period.starts_at if period and lasts else periods.around(now, budget.start_day, left.zone)[0]


def _pace(left: Left, time: Time) -> str:
    """Of the member's own limit that binds first; the team's credits are spent by others too."""
    mine = next((limit for limit in left.limits if limit.name != "team"), None)
    if mine is None:
        return ""
    return spend.pace_text(left.used, mine.of, time.begins, left.renews_at, time.now, zone=left.zone, name="your limit")


def _spent(member: Membership, time: Time) -> dict[str, object]:
    rows = spend.rows(team=member.team, user=member.user, since=time.since, until=time.until)
    days = spend.by_day(rows, time.since, time.until)
    return {
        "chart": charts.bars([(f"{day:%-d %b}", credits) for day, credits in days]),
        "modes": [(MODES.get(str(share.key), share.label), share) for share in spend.by(rows, "mode")],
        "providers": [(_name(share), share) for share in spend.by(rows, "provider")],
    }


def _name(share: Share) -> str:
    known = str(share.key) in providers.ALL
    return providers.get(str(share.key)).name if known else share.label.capitalize()


def _requests(member: Membership) -> list[tuple[CreditRequest, str]]:
    rows = CreditRequest.objects.filter(team=member.team, user=member.user).select_related("decided_by")
    found = rows.order_by("-created", "-id")[:REQUESTS]
    return [(row, "" if row.state == "open" else requests.answer_text(row)) for row in found]


@require_POST
@access.team(Role.MEMBER)
def own_limit(request: HttpRequest, member: Membership) -> HttpResponse:
    form = OwnLimitForm(request.POST)
    if not form.is_valid():
        return show(request, member, status=422, own_limit=form)
    limit = form.save(member)
    member.own_limit = limit
    messages.success(request, _said(limit, purse(member).left))
    return redirect("usage", member.team.slug)


def _said(limit: int | None, left: Left) -> str:
    if limit is None:
        return "You have no limit of your own any more."
    cap, done = left.named("cap"), f"Your own limit is {credits_text(limit)} a period."
    if cap is None or cap.of >= limit:
        return done
    return f"{done} It has no effect: the team's limit for you, {credits_text(cap.of)}, is lower."
