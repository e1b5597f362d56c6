"""A member asks for more credits; whoever can, answers; and the order that did not fit is sent when it does.

A request is decided once: by a conditional UPDATE, in one transaction with what it gives. Who comes second is told who was
first. The draft is sent under a key of its request's own, so that however often it is tried, it is one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from . import bus, ledger, lifecycle
from .ledger.limits import cap_of
from .models import Act, Batch, Budget, CreditRequest, Membership, Notice, Team, User, write
from .models.teams import MANAGERS
from .money import CREDITS_MAX, credits_text
from .notices import put_away, tell
from .orders import Cell, Order, Refusal

OPEN_MAX = 5  # requests of one member that wait for an answer
FORM = "form"  # beside the order's own fields in a request's draft
SEND_LEASE_S = 60  # a sending that died is tried again after this
State = CreditRequest.State
Limit = CreditRequest.Limit


class _Undo(Exception):
    """Carries a refusal out of the transaction that it undoes."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


# --- Asking ---------------------------------------------------------------------------------------------------------


def ask(
    member: Membership,
    *,
    limit: str,
    amount: int,
    reason: str,
    key: str,
    draft: Order | None,
    price_seen: int | None,
    sends_itself: bool,
    form: Mapping[str, Any] | None = None,
) -> CreditRequest | Refusal:
    """Write down the wish and tell who can grant it. `limit` is the name of the one that binds: own, cap or team.

    `form` is what the draft was read from: a matrix, once crossed, does not tell how it was written. The same key again
    is the same request.
    """
    if limit == "own":
        return Refusal("own", "", "This is your own limit. Change it under My usage; nobody needs to be asked.")
    request = CreditRequest(
        team=member.team,
        user=member.user,
        key=f"{member.user_id}:{key}"[:80],
        limit=Limit.TEAM if limit == "team" else Limit.MEMBER,
        amount=amount,
        reason=reason[:200],
        draft={**asdict(draft), FORM: dict(form or {})} if draft else None,
        price_seen=price_seen,
        sends_itself=sends_itself and draft is not None,
    )
    try:
        with write():
            return _same(request) or _open(request, member)
    except IntegrityError:  # the same key was being written just now
        return _same(request) or Refusal("conflict", "", "This was being asked already. Look at My usage.")


def _same(request: CreditRequest) -> CreditRequest | Refusal | None:
    known = CreditRequest.objects.select_related("team", "user").filter(team=request.team, key=request.key).first()
    if known is None or (known.amount, known.reason) == (request.amount, request.reason):
        return known
    return Refusal("conflict", "", "This was asked already, with another amount or reason. Press again to ask anew.")


def _open(request: CreditRequest, member: Membership) -> CreditRequest | Refusal:
    if not Membership.objects.select_for_update().filter(pk=member.pk):  # two at once must not both be the fifth
        return Refusal("role", "", f"You are not in {request.team} any more. Nothing was asked.")
    waiting = CreditRequest.objects.filter(team=request.team, user=request.user, state=State.OPEN)
    if waiting.count() >= OPEN_MAX:
        message = f"{OPEN_MAX} of your requests wait for an answer. Withdraw one under My usage, or wait."
        return Refusal("input", "", message)
    request.save(force_insert=True)
    why = f": {request.reason}" if request.reason else ""
    for user, url in _to_tell(request):
        text = f"{request.user} asks for {credits_text(request.amount)} in {request.team}{why}"
        tell(user, key=_told(request), text=text, url=url, team=request.team, mails=True)
    return request


def _to_tell(request: CreditRequest) -> list[tuple[User, str]]:
    """Everyone whose business it is, with where they answer: the console for who has no place in the team's inbox."""
    inbox, managers = reverse("requests", args=[request.team.slug]), managers_of(request.team, request.user)
    if request.limit == Limit.MEMBER:
        return [(user, inbox) for user in managers]
    console, admins = reverse("console-requests"), site_admins()
    return [*((user, console) for user in admins), *((user, inbox) for user in managers if user not in admins)]


def deciders(team: Team, asker: User, limit: str) -> list[User]:
    """Who can grant more under the limit of this name."""
    return site_admins() if limit == "team" else managers_of(team, asker)


def managers_of(team: Team, asker: User) -> list[User]:
    """The team's admins; whoever asks is not asked, unless there is nobody else."""
    rows = Membership.objects.filter(team=team, role__in=MANAGERS, user__is_active=True).select_related("user")
    found = [row.user for row in rows.order_by("joined", "pk")]
    return [user for user in found if user.pk != asker.pk] or found


def site_admins() -> list[User]:
    return list(User.objects.filter(is_site_admin=True, is_active=True).order_by("pk"))


def names(people: Sequence[User]) -> str:
    """ "Ben", "Ben and Ana", "Ben, Ana and 3 others"."""
    shown = [str(person) for person in people[:2]]
    if len(people) > 2:
        return f"{', '.join(shown)} and {len(people) - 2} other{'' if len(people) == 3 else 's'}"
    return " and ".join(shown) or "the site admins"


def _told(request: CreditRequest) -> str:
    return f"request:{request.pk}"


# --- Answering ------------------------------------------------------------------------------------------------------


def approve(request: CreditRequest, *, by: User, amount: int, lasts: bool, note: str) -> CreditRequest | Refusal:
    """Give `amount`: until the team's period ends, or (`lasts`) for good. The draft, if it is to be sent, falls due."""
    now = timezone.now()
    decision = {"granted": amount, "lasts": lasts, "send_due_at": now if request.sends_itself else None}
    try:
        with write():
            return _decide(request, State.GRANTED, by, note, now, **decision) or _give(request, by)
    except _Undo as stop:
        request.refresh_from_db()
        return stop.refusal


def decline(request: CreditRequest, *, by: User, note: str) -> CreditRequest | Refusal:
    with write():
        known = _decide(request, State.DECLINED, by, note, timezone.now())
        if known:
            return known
        about = str(request.user)
        Act.objects.record(by, "declined a request of", team=request.team, about=about, note=_asked(request))
        _answer(request, "warn", f"{by} declined your request for {credits_text(request.amount)}")
    return request


def withdraw(request: CreditRequest, member: Membership) -> CreditRequest | Refusal:
    """The asker needs it no more."""
    with write():
        known = _decide(request, State.WITHDRAWN, member.user, "", timezone.now())
        if known is None:
            _put_away(request)
    return known or request


def _decide(
    request: CreditRequest, state: State, by: User, note: str, now: datetime, **decision: Any
) -> CreditRequest | Refusal | None:
    """Be the one who decides. None: it is us, and `request` is as it stands now; else who was, or why we may not."""
    if request.limit == Limit.TEAM and state != State.WITHDRAWN and not by.is_site_admin:
        return Refusal("role", "", "This is about the whole team's budget: a site admin decides.")
    changes = {"state": state, "decided_at": now, "decided_by": by, "note": note[:200], **decision}
    if not CreditRequest.objects.filter(pk=request.pk, state=State.OPEN).update(**changes):
        return _decided(request, state, by, decision)
    for name, value in changes.items():
        setattr(request, name, value)
    return None


def _decided(request: CreditRequest, state: State, by: User, decision: dict[str, Any]) -> CreditRequest | Refusal:
    """The same answer by the same person is a form sent twice; any other comes too late."""
    fresh = CreditRequest.objects.select_related("team", "user", "decided_by").get(pk=request.pk)
    said = (state, by.pk, decision.get("granted"), decision.get("lasts", False))
    if said == (fresh.state, fresh.decided_by_id, fresh.granted, fresh.lasts):
        return fresh
    return Refusal("conflict", "", f"Too late: {answer_text(fresh).rstrip('.')} already. Nothing was changed.")


def answer_text(request: CreditRequest) -> str:
    """What became of it: "Ana granted 56 credits." """
    did = {
        State.GRANTED: f"granted {credits_text(request.granted or 0)}",
        State.DECLINED: "declined this",
        State.WITHDRAWN: "withdrew this",
    }
    return f"{request.decided_by or 'Someone'} {did[State(request.state)]}."


def _give(request: CreditRequest, by: User) -> CreditRequest:
    """What was granted, in the transaction of the decision."""
    if request.limit == Limit.TEAM:
        _give_team(request, by)
    else:
        _give_member(request)
    until = "for good" if request.lasts else "until the period ends"
    note = f"{request.granted:,} credits {until}. {_asked(request)}"
    Act.objects.record(by, "granted a request of", team=request.team, about=str(request.user), note=note)
    sends = " Your draft is being sent." if request.send_due_at else ""
    words = f"{by} granted you {credits_text(request.granted or 0)} {until}.{sends}"
    _answer(request, "good", words if request.limit == Limit.MEMBER else words.replace("you", str(request.team), 1))
    return request


def _give_team(request: CreditRequest, by: User) -> None:
    reason = f"Asked for by {request.user}" + (f": {request.reason}" if request.reason else "")
    entry = ledger.grant(
        request.team,
        request.granted or 0,
        actor=by,
        reason=reason[:200],
        key=f"request:{request.pk}",
        expires=not request.lasts,
    )
    if isinstance(entry, Refusal):
        raise _Undo(entry)


def _give_member(request: CreditRequest) -> None:
    # Its row is ours from here on: two who grant at once must not both begin from the same cap.
    member = Membership.objects.select_for_update().filter(team=request.team, user=request.user).first()
    if member is None:
        gone = f"{request.user} is not in {request.team} any more. Decline this instead."
        raise _Undo(Refusal("role", "", gone))
    if request.lasts:
        _raise_cap(member, request.granted or 0)
    else:
        _give_extra(request, member)
    # True no more. After the usage, as whoever warns has it: else each may wait for the other.
    put_away(Notice.objects.filter(user=request.user, team=request.team, key__startswith="used:"))


def _give_extra(request: CreditRequest, member: Membership) -> None:
    request.period = ledger.current(request.team, timezone.now())
    CreditRequest.objects.filter(pk=request.pk).update(period=request.period)
    ledger.give_extra(member, request.period, request.granted or 0)


def _raise_cap(member: Membership, by: int) -> None:
    """By so much from what holds now: a cap of the member's own from here on. Where there is none, there is none to raise."""
    cap = cap_of(member, Budget.objects.get(pk=member.team_id))
    if cap is not None:
        Membership.objects.filter(pk=member.pk).update(cap=min(cap + by, CREDITS_MAX))
        ledger.warn_anew(member.team_id, [member.user_id])
    bus.publish_balance(member.team_id)


def _asked(request: CreditRequest) -> str:
    return f"Asked for {request.amount:,}" + (f": {request.reason}" if request.reason else "")


def _answer(request: CreditRequest, tone: str, text: str) -> None:
    """Tell the member; and take the question off everybody's pages."""
    text = f"{text.rstrip('.')}. {request.note}" if request.note else text
    url = reverse("usage", args=[request.team.slug])
    tell(request.user, key=f"{_told(request)}:answer", text=text, url=url, tone=tone, team=request.team, mails=True)
    _put_away(request)


def _put_away(request: CreditRequest) -> None:
    asked = Notice.objects.filter(key=_told(request), seen_at=None)
    asked.update(seen_at=timezone.now(), mail_due_at=None)
    bus.publish_balance(request.team_id)


# --- Sending what it was for ----------------------------------------------------------------------------------------


def due(now: datetime) -> QuerySet[CreditRequest, int]:
    """Ids of the requests whose draft is to be sent."""
    return CreditRequest.objects.filter(send_due_at__lte=now).values_list("pk", flat=True)[:500]


def send_due(request_id: int) -> Batch | None:
    """Send the draft of a granted request, once however often this is called. None where there is nothing to send."""
    request = _claim(request_id)
    if request is None:
        return None
    outcome = _send(request)
    with write():
        return _note_sent(request, outcome)


def _claim(request_id: int) -> CreditRequest | None:
    now = timezone.now()
    rows = CreditRequest.objects.select_related("team", "user", "decided_by")
    request = rows.filter(pk=request_id, send_due_at__lte=now).first()
    if request is None:
        return None
    lease = now + timedelta(seconds=SEND_LEASE_S)
    same = CreditRequest.objects.filter(pk=request_id, send_due_at=request.send_due_at)
    request.send_due_at = lease
    return request if same.update(send_due_at=lease) else None


def _send(request: CreditRequest) -> Batch | Refusal:
    order = order_of(request.draft)
    member = Membership.objects.select_related("team__budget", "user").filter(
        team=request.team, user=request.user, user__is_active=True, team__closed_at=None
    )
    if order is None:
        return Refusal("input", "", "What was to be sent cannot be read any more.")
    if not (row := member.first()):
        return Refusal("role", "", f"{request.user} is not in {request.team} any more.")
    if not row.may_make:
        return Refusal("role", "", f"You can no longer make pictures in {request.team}.")
    return lifecycle.create(row, order, key=f"request:{request.pk}", price_seen=request.price_seen)


def _note_sent(request: CreditRequest, outcome: Batch | Refusal) -> Batch | None:
    """Done with, if nobody took it over meanwhile; they then come to the same batch."""
    batch = outcome if isinstance(outcome, Batch) else None
    not_sent = "" if isinstance(outcome, Batch) else outcome.message[:300]
    ours = CreditRequest.objects.filter(pk=request.pk, send_due_at=request.send_due_at)
    if ours.update(send_due_at=None, batch=batch, not_sent=not_sent) and not_sent:
        url = f"{reverse('studio', args=[request.team.slug])}?draft={request.pk}"
        text = f"Your draft could not be sent. {not_sent}"
        key = f"{_told(request)}:draft"
        tell(request.user, key=key, text=text, url=url, tone="warn", team=request.team, mails=True)
    return batch


# --- Drafts ---------------------------------------------------------------------------------------------------------


def form_of(draft: dict[str, Any] | None) -> dict[str, Any]:
    """How the order was written; {} where that was not kept."""
    form = (draft or {}).get(FORM)
    return form if isinstance(form, dict) else {}


def order_of(draft: dict[str, Any] | None) -> Order | None:
    """The order that a request kept. Rows of other releases may lack fields, or have some that we do not know."""
    known = {field.name for field in fields(Order)}
    said = {name: value for name, value in (draft or {}).items() if name in known}
    if isinstance(said.get("references"), Iterable):
        said["references"] = tuple(said["references"])
    try:
        said["rest"] = tuple(Cell(**cell) for cell in said.get("rest") or ())
        return Order(**said)
    except TypeError:  # nothing at all, or without what every order has
        return None
