"""A team's credits: the sums, this period, the cap for members, the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.db.models import F, Sum
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .. import access, actors, caps, charts, exports, kinds, queries, sheets, spend
from ..caps import Month
from ..forms_budget import WORDS, ConfirmForm, KindsForm, LedgerForm, TeamCapForm
from ..models import Budget, CreditRequest, Entry, Membership, Role, Usage
from ..money import credits_text, format_credits
from ..orders import Refusal

# What each kind does to the credits available. A charge was held before.
SIGNS = {
    Entry.Kind.GRANT: "+",
    Entry.Kind.REVOKE: "−",
    Entry.Kind.HOLD: "−",
    Entry.Kind.RELEASE: "+",
    Entry.Kind.REFUND: "+",
}
CSV_LINES = 5000  # more than these are made into a file by an actor
SHARES = 8


@dataclass(frozen=True)
class Line:
    """One entry as the ledger shows it. `returned` is what a charge below its hold gave back."""

    entry: Entry
    word: str
    sign: str
    returned: int = 0

    @property
    def amount(self) -> int:
        return abs(self.entry.amount)


def ledger_lines(entries: list[Entry]) -> list[Line]:
    return [_line(entry, Entry.Kind(entry.kind)) for entry in entries]


def _line(entry: Entry, kind: Entry.Kind) -> Line:
    sign = SIGNS.get(kind, "")
    if kind == Entry.Kind.ADJUST:
        sign = "+" if entry.amount > 0 else "−"
    return Line(entry, WORDS[kind], sign, returned=_returned(entry))


def _returned(entry: Entry) -> int:
    is_charge = entry.kind == Entry.Kind.SETTLE and entry.task is not None
    return entry.task.price_credits - entry.amount if is_charge else 0  # type: ignore[union-attr]


def sums(budget: Budget) -> dict[str, object]:
    """What teams/_sums.html shows; `left` is the percent of the granted credits that is available, rounded down."""
    return {"budget": budget, "left": budget.available * 100 // budget.granted if budget.granted else 0}


@access.team()
@never_cache
def balance(request: HttpRequest, member: Membership) -> HttpResponse:
    return render(request, "teams/_balance.html")


# --- The page ------------------------------------------------------------------------------------------------------


@require_safe
@access.team(Role.ADMIN)
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    return budget_page(request, member)


def budget_page(
    request: HttpRequest,
    member: Membership,
    *,
    cap_form: TeamCapForm | None = None,
    confirm_form: ConfirmForm | None = None,
    kinds_form: KindsForm | None = None,
    status: int = 200,
) -> HttpResponse:
    """A filter that says nothing is refused in words, beside the lines that the others leave."""
    budget, filters = member.team.budget, ledger_form(request, member)
    status = status if filters.is_valid() else 422
    cursor = request.GET.get("before")
    found = queries.ledger_page(member.team, cursor, only=filters.only)
    month = caps.month(budget)
    context = sums(budget) | this_period(budget, month, timezone.now())
    context |= {
        "heirs": caps.heirs(budget, month),
        "cap_form": cap_form or TeamCapForm(budget=budget),
        "confirm_form": confirm_form or ConfirmForm(budget=budget),
        "kinds_form": kinds_form or KindsForm(budget=budget),
        "filters": filters,
        "lines": ledger_lines(found.rows),
        "next": found.next,
        "cursor": cursor,
        "waiting": CreditRequest.objects.filter(team=member.team, state=CreditRequest.State.OPEN)[:100].count(),
    }
    return render(request, "teams/budget.html", context, status=status)


def ledger_form(request: HttpRequest, member: Membership) -> LedgerForm:
    zone = caps.month(member.team.budget).zone
    return LedgerForm(request.POST if request.method == "POST" else request.GET, team=member.team, zone=zone)


def this_period(budget: Budget, month: Month, now: datetime) -> dict[str, Any]:
    """What teams/_period.html shows."""
    rows = spend.rows(team=budget.team, since=month.first_day)
    used = used_in(month)
    shares = spend.by(rows, "user")
    days = [(f"{day:%-d %b}", credits) for day, credits in spend.by_day(rows, month.first_day, now.date())]
    return {
        "month": month,
        "used": used,
        "pace": pace(used, used + budget.available, month, now),
        "days": charts.bars(days),
        "shares": charts.bars([(share.label, share.credits) for share in shares[:SHARES] if share.credits > 0]),
        "others": max(0, len([share for share in shares if share.credits > 0]) - SHARES),
    }


def used_in(month: Month) -> int:
    """What the team holds and has spent of this period's holds; one member's sum each."""
    usages = Usage.objects.filter(period=month.period) if month.period else Usage.objects.none()
    return usages.aggregate(all=Sum(F("held") + F("spent") - F("refunded")))["all"] or 0


def pace(used: int, limit: int, month: Month, now: datetime) -> str:
    return spend.pace_text(used, limit, month.begins, month.ends, now, zone=month.zone, name="the end of the credits")


# --- Its rules -----------------------------------------------------------------------------------------------------


@require_POST
@access.team(Role.ADMIN)
def team_caps(request: HttpRequest, member: Membership) -> HttpResponse:
    budget = member.team.budget
    form = TeamCapForm(request.POST, budget=budget)
    if not (form.is_valid() and form.save(member.user)):
        return budget_page(request, member, cap_form=form, status=422)
    budget.refresh_from_db()
    month = caps.month(budget)
    heirs = caps.heirs(budget, month)
    limit = form.cleaned_data["member_cap"]
    words = "have no cap" if limit is None else f"may use {format_credits(limit)} credits a month"
    messages.success(request, f"Members without their own cap {words}.")
    if heirs.over:
        messages.warning(request, heirs.over_text)
    return redirect("budget", member.team.slug)


@require_POST
@access.team(Role.ADMIN)
def confirm_above(request: HttpRequest, member: Membership) -> HttpResponse:
    form = ConfirmForm(request.POST, budget=member.team.budget)
    if not (form.is_valid() and form.save(member.user)):
        return budget_page(request, member, confirm_form=form, status=422)
    messages.success(request, _confirm_said(form.cleaned_data["confirm_above"]))
    return redirect("budget", member.team.slug)


def _confirm_said(above: int | None) -> str:
    if above is None:
        return "No press is confirmed first."
    which = f"A press that costs more than {credits_text(above)}" if above else "Every press"
    return f"{which} is confirmed first."


@require_POST
@access.team(Role.ADMIN)
def set_kinds(request: HttpRequest, member: Membership) -> HttpResponse:
    form = KindsForm(request.POST, budget=member.team.budget)
    if not (form.is_valid() and form.save(member.user)):
        return budget_page(request, member, kinds_form=form, status=422)
    messages.success(request, f"{member.team} makes {kinds.words(form.cleaned_data['kinds'])}.")
    return redirect("budget", member.team.slug)


# --- The ledger as a file ------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@access.team(Role.ADMIN)
@never_cache
def ledger_csv(request: HttpRequest, member: Membership) -> HttpResponse:
    """At once where it is short. A longer one is made by an actor, but only for a POST: looking starts nothing."""
    filters = ledger_form(request, member)
    page = f"{reverse('budget', args=[member.team.slug])}?{filters.query}"
    if not filters.is_valid():
        return redirect(page)  # which says what is wrong
    found = queries.ledger_page(member.team, limit=CSV_LINES, only=filters.only)
    name = f"ledger-{member.team.slug}-{timezone.now():%Y-%m-%d}.csv"
    if found.next is None:
        return sent(name, sheets.lines(exports.LEDGER_HEADER, map(exports.ledger_row, found.rows)))
    if request.method != "POST":
        messages.info(request, f"These are more than {format_credits(CSV_LINES)} lines. Press CSV to have a file made.")
        return redirect(page)
    export = exports.start(member.user, member.team, "ledger", exports.ledger_query(filters.only), name)
    if isinstance(export, Refusal):
        messages.error(request, export.message)
    else:
        actors.kick_export(export.pk)
    return redirect("exports", member.team.slug)


def sent(name: str, lines: Iterator[str]) -> HttpResponse:
    answer = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    answer["X-Content-Type-Options"] = "nosniff"
    return answer  # type: ignore[return-value]
