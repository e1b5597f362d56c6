"""Asking for more credits, and answering. The console lists and answers with the same words (rows_of, answer)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from .. import access, actors, drafts, kinds, queries, requests
from ..cards import shortened
from ..forms import ComposeForm
from ..forms_usage import AskForm, DecisionForm
from ..ledger.limits import cap_of
from ..models import CreditRequest, Membership, Reference, Role, Usage, User
from ..money import credits_text
from ..orders import Order, Quote, Refusal
from . import studio, usage
from .context import purse

OPEN_SHOWN = 100
DECIDED = 30  # a page
PROMPT_CHARS = 200
STATUS = {"conflict": 409, "role": 403}  # every other refusal is a 422
State = CreditRequest.State
HIDDEN = "Not shown: its author keeps these pictures to themselves."


# --- What the inbox shows -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A request with what one wants to know before answering it. `form` is None where this viewer does not answer it."""

    request: CreditRequest
    order: Order | None
    is_hidden: bool  # what it is for is seen by its author only
    references: list[Reference]
    used: int
    limit: int | None  # what the member may use this period, extra included; None where nothing caps them
    is_here: bool  # still in the team
    form: DecisionForm | None

    @property
    def is_about_team(self) -> bool:
        return self.request.limit == CreditRequest.Limit.TEAM

    @property
    def prompt(self) -> str:
        if self.is_hidden:
            return HIDDEN
        return shortened(self.order.prompt, PROMPT_CHARS) if self.order else ""

    @property
    def settings(self) -> list[str]:
        if self.order is None:
            return []
        count = f"{self.order.pictures} picture{'' if self.order.pictures == 1 else 's'}"
        price = [credits_text(self.request.price_seen)] if self.request.price_seen else []
        return [self.order.family.title(), self.order.resolution, self.order.aspect_ratio, count, *price]

    @property
    def answer(self) -> str:
        return requests.answer_text(self.request)


def asked() -> QuerySet[CreditRequest]:
    return CreditRequest.objects.select_related("team__budget", "user", "decided_by")


def rows_of(found: Sequence[CreditRequest], viewer: User, bound: DecisionForm | None = None) -> list[Row]:
    """Of one team or of many: three queries, however many there are. `bound` is the form of the one just answered."""
    orders = {row.pk: requests.order_of(row.draft) for row in found}
    references = Reference.objects.in_bulk({pk for order in orders.values() if order for pk in order.references})
    members, used = _members(found), _usages(found)
    return [
        Row(
            request=row,
            order=orders[row.pk],
            is_hidden=_is_hidden(row, orders[row.pk], viewer),
            references=_own(references, row, orders[row.pk], viewer),
            used=used[row.pk].used,
            limit=_limit(row, members.get((row.team_id, row.user_id)), used[row.pk]),
            is_here=(row.team_id, row.user_id) in members,
            form=bound if bound and bound.request.pk == row.pk else _form(row, viewer),
        )
        for row in found
    ]


def _is_hidden(row: CreditRequest, order: Order | None, viewer: User) -> bool:
    if order is None or viewer.pk == row.user_id:
        return False
    return row.team.private_by_default if order.private is None else order.private


def _members(found: Iterable[CreditRequest]) -> dict[tuple[int, int], Membership]:
    rows = Membership.objects.filter(team__in={row.team_id for row in found}, user__in={row.user_id for row in found})
    return {(row.team_id, row.user_id): row for row in rows}


def _usages(found: Iterable[CreditRequest]) -> dict[int, Usage]:
    """By request: what its member uses in the period that its team is in."""
    periods = {row.team.budget.period_id for row in found}
    rows = Usage.objects.filter(period__in=periods, user__in={row.user_id for row in found})
    by_place: dict[tuple[int | None, int], Usage] = {(row.period_id, row.user_id): row for row in rows}
    return {row.pk: by_place.get((row.team.budget.period_id, row.user_id)) or Usage() for row in found}


def _own(references: dict[int, Reference], asked: CreditRequest, order: Order | None, viewer: User) -> list[Reference]:
    """Those of its images that the viewer sees; what a hidden picture is made from is hidden with it."""
    if order is None or _is_hidden(asked, order, viewer):
        return []
    found = (references.get(pk) for pk in order.references)
    return [row for row in found if row and row.team_id == asked.team_id and access.sees_reference(row, viewer.pk)]


def _limit(row: CreditRequest, member: Membership | None, usage: Usage) -> int | None:
    cap = cap_of(member, row.team.budget) if member else None
    return None if cap is None else cap + usage.extra


def _form(row: CreditRequest, viewer: User) -> DecisionForm | None:
    decides = row.limit == CreditRequest.Limit.MEMBER or viewer.is_site_admin
    return DecisionForm(request=row) if decides and row.state == State.OPEN else None


# --- The team's inbox -----------------------------------------------------------------------------------------------


@require_safe
@access.team(Role.ADMIN)
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    return _inbox(request, member)


def _inbox(
    request: HttpRequest, member: Membership, bound: DecisionForm | None = None, status: int = 200
) -> HttpResponse:
    cursor = request.GET.get("before")
    mine = asked().filter(team=member.team)
    waiting = [] if cursor else list(mine.filter(state=State.OPEN).order_by("created", "id")[:OPEN_SHOWN])
    decided = queries.page_of(mine.exclude(state=State.OPEN), cursor, DECIDED)
    rows = rows_of([*waiting, *decided.rows], member.user, bound)
    context = {
        "rows": rows[: len(waiting)],
        "decided": rows[len(waiting) :],
        "next": decided.next,
        "cursor": cursor,
    }
    return render(request, "requests/page.html", context, status=status)


@require_POST
@access.team(Role.ADMIN)
def decide(request: HttpRequest, member: Membership, request_id: int) -> HttpResponse:
    form, status = answer(request, access.credit_request(member, request_id), member.user)
    return redirect("requests", member.team.slug) if status == 200 else _inbox(request, member, form, status)


def answer(request: HttpRequest, row: CreditRequest, by: User) -> tuple[DecisionForm, int]:
    """Decide as the form says. 200: done, and said in a message; else the form says why not, and a message too where
    the request is not there to show it any more."""
    form = DecisionForm(request.POST, request=row)
    outcome = form.save(by) if form.is_valid() else None
    if outcome is None:
        return form, 422
    if isinstance(outcome, Refusal):
        if outcome.kind in STATUS:
            messages.warning(request, outcome.message)
        return form, STATUS.get(outcome.kind, 422)
    if outcome.send_due_at:
        actors.kick_draft(outcome.pk)
    messages.success(request, f"{requests.answer_text(outcome)} {outcome.user} is told.")
    return form, 200


# --- The member's side ----------------------------------------------------------------------------------------------


@require_POST
@access.team(Role.VIEWER)
def withdraw(request: HttpRequest, member: Membership, request_id: int) -> HttpResponse:
    row = access.credit_request(member, request_id)
    if row.user_id != member.user_id:
        raise Http404
    outcome = requests.withdraw(row, member)
    if isinstance(outcome, Refusal):
        messages.warning(request, outcome.message)
    else:
        messages.success(request, f"You do not ask for {credits_text(row.amount)} any more.")
    return redirect(f"{reverse('usage', args=[member.team.slug])}#requests")


@require_POST
@access.team(Role.MEMBER)
def ask(request: HttpRequest, member: Membership) -> HttpResponse:
    """From the studio with all that stands in the form, or from My usage without."""
    form = AskForm(request.POST)
    if "family" not in request.POST:
        return _ask_plainly(request, member, form)
    compose = ComposeForm(request.POST, request.FILES, member=member, draft="sends_itself" not in request.POST)
    is_whole = compose.is_valid() & form.is_valid()
    outcome = _ask_with_draft(request, member, form, compose) if is_whole else None
    if isinstance(outcome, CreditRequest):
        return studio.again(request, member, compose, 200, asked=done(outcome))
    if isinstance(outcome, Refusal):
        form.add_error(None, outcome.message)
    status = STATUS.get(outcome.kind, 422) if outcome else 422
    return studio.again(request, member, compose, status, asking=form)


def _ask_with_draft(
    request: HttpRequest, member: Membership, form: AskForm, compose: ComposeForm
) -> CreditRequest | Refusal:
    order = compose.order()
    quoted = kinds.quote(member, order)
    if isinstance(quoted, Refusal) and form.cleaned_data["sends_itself"]:
        return quoted
    price = quoted.total if isinstance(quoted, Quote) else None
    if price and compose.price_seen and price > compose.price_seen:
        seen = compose.price_seen
        return Refusal("price", "", f"The price has changed from {seen} to {price} credits. Press again to ask.")
    written = drafts.said(studio.with_slots(request.POST, compose))
    return form.save(member, purse(member).binding.name, order if order.prompt else None, price, written)


def _ask_plainly(request: HttpRequest, member: Membership, form: AskForm) -> HttpResponse:
    outcome = form.save(member, purse(member).binding.name) if form.is_valid() else None
    if isinstance(outcome, CreditRequest):
        messages.success(request, done(outcome))
        return redirect("usage", member.team.slug)
    if isinstance(outcome, Refusal):
        form.add_error(None, outcome.message)
    return usage.show(request, member, status=STATUS.get(outcome.kind, 422) if outcome else 422, asking=form)


def done(row: CreditRequest) -> str:
    """ "Asked Ben and Ana for 56 credits." """
    people = requests.deciders(row.team, row.user, row.limit)
    text = f"Asked {requests.names(people)} for {credits_text(row.amount)}."
    return f"{text} What you wrote is sent when they agree." if row.sends_itself else text
