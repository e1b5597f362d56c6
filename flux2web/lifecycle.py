"""The story of a task, from the press of the button to the stored picture. Read it top to bottom.

The only place where task, money, provider and storage meet. Rules that hold in every function:

* Change state by a conditional UPDATE and look at the count. Losing the race is no error: whoever was first was right.
* State, money and event are one transaction; no HTTP, decoding or rendering inside it.
* The intention is written before the side effect: `submitting` is committed before the create is sent, so a crash leaves
  something visible (`uncertain`), never a second charge.
* `due_at` on the row is the queue of record. Every function says when to look next (`Next`) or None; a lost message is
  found by the clock, a doubled one finds nothing to claim.
* Every function is safe to run twice, also at once.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, InterfaceError, OperationalError, close_old_connections, transaction
from django.db.models import F, Q
from django.utils import timezone

from . import accounts, bus, faults, http, imaging, ledger, pricing, providers, routing, search, storage
from .models import (
    LIVE,
    Attempt,
    Batch,
    Callback,
    Entry,
    Event,
    Membership,
    Period,
    ProviderAccount,
    Reference,
    State,
    Task,
    TaskReference,
    User,
    write,
)
from .models.base import new_token, token_hash
from .models.tasks import before
from .money import credits_text
from .orders import Order, Quote, Refusal
from .providers import base
from .providers.base import Kind, ProviderError, Report
from .routing import Candidate

log = structlog.get_logger(__name__)
Outcome = Attempt.Outcome
MAY_HAVE_ARRIVED = (Outcome.OPEN, Outcome.ACCEPTED, Outcome.AMBIGUOUS)
ASK_AGAIN_S = 15  # a task that no account may take is looked at this often
TURN_S = 2  # and one that waits for its turn, where a ceiling keeps it
TURN_MAX_S = 60  # the longest between two tries to get a turn: an admin may raise the rate meanwhile
MORE = 4  # pictures that "more like this" asks for
CALLBACKS_KEPT = 20  # per attempt; further rings still make us look
CALLBACK_PATIENCE = 3  # an attempt that will be called back is polled this many times slower
KEEP_ID_S = (0.5, 1, 2, 4, 8, 15, 30)  # waits between tries to write an acceptance down
REFETCHES_MAX = 3  # times a provider is asked again for a fresh address of a picture that is gone


@dataclass(frozen=True)
class Next:
    """Look again at `at`; `state` says who looks."""

    state: State
    at: datetime


# --- Creating ----------------------------------------------------------------------------------------------------------


class _RolledBack(Exception):
    """Carries a refusal out of the transaction that it undoes."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def create(member: Membership, order: Order, *, key: str, price_seen: int | None) -> Batch | Refusal:
    """Hold the price and queue the tasks of one press, all or nothing.

    `key` makes it happen once: the same key and order again is the same batch; another order under it is a conflict.
    `price_seen` is the total the member saw on the button; if the price has risen since, nothing is sent.
    """
    known = _same_press(member, order, key)
    if known is not None:
        return known
    quoted = routing.quote(order)
    if isinstance(quoted, Refusal):
        return quoted
    if price_seen is not None and quoted.total > price_seen:
        return _risen(price_seen, quoted.total)
    try:
        batch = _hold_and_queue(member, order, key, quoted)
    except _RolledBack as stop:
        return stop.refusal
    except IntegrityError:  # the same key was being written just now
        return _same_press(member, order, key) or Refusal(
            "conflict", "", "This was being sent already. Look at the cards."
        )
    faults.point("CP2")
    return batch


def _hold_and_queue(member: Membership, order: Order, key: str, quoted: Quote) -> Batch:
    while True:
        try:
            with write():
                batch = _write_batch(member, order, key, quoted)
                faults.point("CP1")
                return batch
        except ledger.PeriodEnded:
            log.info("period ended while a hold was made", team=member.team_id)


def _same_press(member: Membership, order: Order, key: str) -> Batch | Refusal | None:
    batch = Batch.objects.filter(team=member.team, key=key).first()
    if batch is None or batch.fingerprint == order.fingerprint:
        return batch
    return Refusal(
        "conflict", "", "This form was already sent with other content. Press the button again to send this one."
    )


def _risen(seen: int, now: int) -> Refusal:
    return Refusal(
        "price",
        "price",
        f"The price has changed from {seen} to {now} credits. Nothing was sent: press again to accept it.",
    )


def _write_batch(member: Membership, order: Order, key: str, quoted: Quote) -> Batch:
    references, period = _own_references(member, order), ledger.current(member.team, timezone.now())
    batch = Batch.objects.create(team=member.team, user=member.user, key=key, fingerprint=order.fingerprint)
    tasks = [_new_task(member, order, batch, period, quoted, number) for number in range(order.count)]
    Task.objects.bulk_create(tasks)
    words = " ".join([order.prompt, *(row.name for row in references.values())])
    search.put((task.pk, task.team_id, words) for task in tasks)
    for task in tasks:
        _attach(task, order, references)
        Event.objects.create(task=task, kind=State.QUEUED, cause=_by(member.user))
        bus.publish_task(task.team_id, task.pk)
    refusal = ledger.hold(member, period, tasks)
    if refusal:
        raise _RolledBack(refusal)
    return batch


def _own_references(member: Membership, order: Order) -> dict[int, Reference]:
    rows = Reference.objects.filter(team=member.team, deleted_at=None).in_bulk(order.references)
    for number, reference_id in enumerate(order.references, 1):
        if reference_id not in rows:
            message = f"Image {number} is not in this team's references any more. Remove it or upload it again."
            raise _RolledBack(Refusal("reference", "references", message))
    return rows


def _new_task(member: Membership, order: Order, batch: Batch, period: Period, quoted: Quote, number: int) -> Task:
    return Task(
        team=member.team,
        batch=batch,
        period=period,
        user=member.user,
        private=member.team.private_by_default,
        parent_id=order.parent,
        prompt=order.prompt,
        family=order.family,
        aspect_ratio=order.aspect_ratio,
        resolution=order.resolution,
        # One seed asked for eight times would be one picture eight times: the further ones count up from it.
        seed=None if order.seed is None else (order.seed + number) % 2**32,
        output_format=order.output_format,
        safety_tolerance=order.safety_tolerance,
        reference_count=len(order.references),
        provider=order.provider,
        price_credits=quoted.each,
        quoted_provider=quoted.provider,
    )


def _attach(task: Task, order: Order, references: dict[int, Reference]) -> None:
    uses = [TaskReference(task=task, reference_id=pk, number=number) for number, pk in enumerate(order.references, 1)]
    TaskReference.objects.bulk_create(uses)
    storage.mint_hostings(task, references.values())


def retry(member: Membership, task: Task, *, price_seen: int | None = None) -> Batch | Refusal:
    """The same order again, as a new task with its own hold. Pressed twice at once, it is one.

    `price_seen` is what the button said; where it said nothing, what the task cost.
    """
    if task.is_live:
        return Refusal("input", "", "This is still being made. It can be run again when it has ended.")
    key = f"retry:{task.pk}:{task.children.count()}"
    seen = task.price_credits if price_seen is None else price_seen
    return _anew(member, task, _order_of(task, parent=task.pk), key, seen)


def more(member: Membership, task: Task, *, price_seen: int | None) -> Batch | Refusal:
    """MORE pictures like this one, each with a seed of its own. `price_seen` is their total on the button."""
    key = f"more:{task.pk}:{task.children.count()}"
    return _anew(member, task, _more_of(task), key, price_seen)


def _anew(member: Membership, task: Task, order: Order, key: str, price_seen: int | None) -> Batch | Refusal:
    outcome = create(member, order, key=key, price_seen=price_seen)
    if isinstance(outcome, Refusal) and outcome.kind == "price":
        choose = "Remix" if task.state == State.DONE else "Edit"
        return Refusal(
            "price", "", f"{outcome.message.split('.')[0]}. Choose {choose} to see and send it at the new price."
        )
    return outcome


def _more_of(task: Task) -> Order:
    return replace(_order_of(task, parent=task.pk), count=MORE, seed=None)


def again_price(task: Task) -> Quote | Refusal:
    """What one more of this would cost now."""
    return routing.quote(_order_of(task))


def more_price(task: Task) -> Quote | Refusal:
    return routing.quote(_more_of(task))


def _order_of(task: Task, *, parent: int | None = None) -> Order:
    return Order(
        prompt=task.prompt,
        family=task.family,
        aspect_ratio=task.aspect_ratio,
        resolution=task.resolution,
        provider=task.provider,
        seed=task.seed,
        output_format=task.output_format,
        safety_tolerance=task.safety_tolerance,
        references=_reference_ids(task),
        parent=parent,
    )


def _reference_ids(task: Task) -> tuple[int, ...]:
    if not task.reference_count:
        return ()
    return tuple(task.task_references.order_by("number").values_list("reference_id", flat=True))


def cancel(task: Task, user: User) -> bool:
    """Take back a task that waits. False when it has been sent meanwhile."""
    return _finish(task, State.CANCELLED, cause=_by(user), reason="cancelled by its sender", came_from=(State.QUEUED,))


# --- Claiming and moving -------------------------------------------------------------------------------------------------


def _claim(task_id: int, states: tuple[State, ...], lease_s: float) -> Task | None:
    """Take this look, if it is due and nobody else has. The look falls due again by itself if we die.

    Adds to `waited_s` the time since the last look, gaps cut at GAP_MAX_S: hours in which this site was down do not
    count against a task. A waiting task's time counts only while no account may take it (see _blocked).
    """
    now = timezone.now()
    task = Task.objects.select_related("account", "team").filter(pk=task_id, state__in=states, due_at__lte=now).first()
    if task is None:
        return None
    gap_s = _gap_s(task, now)
    claimed = {"due_at": now + timedelta(seconds=lease_s), "looked_at": now, "looks": task.looks + 1}
    if task.state != State.QUEUED:
        claimed["waited_s"] = task.waited_s + gap_s
    same = Task.objects.filter(pk=task_id, state=task.state, due_at=task.due_at, looks=task.looks)
    if not same.update(**claimed):
        return None
    task.gap_s = gap_s  # type: ignore[attr-defined]
    for name, value in claimed.items():
        setattr(task, name, value)
    return task


def _gap_s(task: Task, now: datetime) -> float:
    since = (now - (task.looked_at or task.state_since)).total_seconds()
    return max(0.0, min(since, settings.GAP_MAX_S))


def _move(
    task: Task,
    to: State,
    *,
    cause: str,
    due_at: datetime | None,
    note: str = "",
    came_from: tuple[State, ...] = (),
    **fields: Any,
) -> bool:
    """Take the edge to `to` if the row still stands before it, and write the event. False: another was first."""
    now = timezone.now()
    fresh = {"state_since": now, "looked_at": None, "waited_s": 0, "looks": 0, "strikes": 0}
    rows = Task.objects.filter(pk=task.pk, state__in=came_from or before(to))
    changed = rows.update(**fresh | {"state": to, "version": F("version") + 1, "due_at": due_at} | fields)
    if not changed:
        return False
    Event.objects.create(task=task, kind=to, cause=cause, note=note[:300])
    bus.publish_task(task.team_id, task.pk)
    log.info("task moved", task_id=task.pk, state=str(to), cause=cause)
    return True


def _again(task: Task, wait_s: float, **fields: Any) -> Next:
    """Look again after `wait_s`, unless somebody asked for an earlier look while we were looking."""
    at = timezone.now() + timedelta(seconds=wait_s)
    if not Task.objects.filter(pk=task.pk, state=task.state, due_at=task.due_at).update(due_at=at, **fields):
        at = timezone.now()
    return Next(State(task.state), at)


def _backoff_s(strikes: int) -> float:
    steps = settings.BACKOFF_S
    return steps[min(strikes, len(steps) - 1)] * random.uniform(0.9, 1.1)


def _note(task: Task, kind: str, cause: str, note: str = "") -> None:
    Event.objects.create(task=task, kind=kind, cause=cause, note=note[:300])


def _by(user: User) -> str:
    return f"user {user.pk}"


# --- Sending -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sending:
    """A create that is about to go out: committed as an Attempt before the provider hears of it."""

    task: Task
    attempt: Attempt
    account: ProviderAccount
    secret: str


def submit(task_id: int) -> Next | None:
    """Send a waiting task to the account that should have it now, or say when to try again."""
    task = _claim(task_id, (State.QUEUED,), settings.LOOK_LEASE_S)
    if task is None:
        return None
    candidate = routing.choose(task, _order_of(task), refused_by=_refused_by(task))
    if candidate is None:
        return _blocked(task)
    sending = _begin(task, candidate)
    if not isinstance(sending, Sending):
        return sending
    faults.point("CP4")
    try:
        accepted = _create_call(sending)
    except ProviderError as error:
        faults.point("CP6")
        return _not_accepted(sending, error)
    faults.point("CP6")
    return _keep_accepted(sending.attempt, accepted)


def _refused_by(task: Task) -> set[int]:
    """Accounts whose readable refusal spoke of this very task: they are not asked again for it."""
    if task.version == 1:  # never moved, so never sent
        return set()
    return set(task.attempts.filter(refused_kind=Kind.PROVIDER).values_list("account_id", flat=True))


def _blocked(task: Task) -> Next | None:
    """No account may take it. Only this waiting counts against the limit; waiting for a turn does not."""
    waited_s = task.waited_s + task.gap_s  # type: ignore[attr-defined]
    if waited_s > settings.QUEUED_LIMIT_S:
        message = "No provider could take this for a quarter of an hour. Try again later, or ask a site admin."
        return _fail(task, Kind.MAINTENANCE, message, cause="limit", came_from=(State.QUEUED,))
    return _again(task, min(ASK_AGAIN_S, settings.QUEUED_LIMIT_S / 4), waited_s=waited_s)


def _begin(task: Task, candidate: Candidate) -> Sending | Next | None:
    """Write down that we are about to send, before anything leaves; or wait for a turn.

    The account's row is locked first, so that its throttle and its ceiling are exact across processes.
    """
    account, now = candidate.account, timezone.now()
    with write():
        wait_s = _turn_wait_s(account, now)
        if wait_s is None:
            sending = _write_sending(task, candidate, now)
            faults.point("CP3")
            return sending
        transaction.set_rollback(True)  # a call that is not made is not counted
    return _again(task, min(wait_s, TURN_MAX_S) * random.uniform(1, 1.2))


def _turn_wait_s(account: ProviderAccount, now: datetime) -> float | None:
    """Take a call of the account's allowance and a place under its ceiling. None: taken; else try again in so long."""
    free_at = account.take_call(now)
    if free_at is not None:
        return max(0.05, (free_at - now).total_seconds())
    in_flight = Task.objects.in_flight().filter(account=account)
    return TURN_S if account.concurrent and in_flight.count() >= account.concurrent else None


def _write_sending(task: Task, candidate: Candidate, now: datetime) -> Sending | None:
    account = candidate.account
    lease_until, secret = now + timedelta(seconds=_lease_s(task, account)), new_token()
    if not _move(task, State.SUBMITTING, cause=f"chose {account}", due_at=lease_until, account=account):
        return None
    attempt = Attempt.objects.create(
        task=task,
        number=task.attempts.count() + 1,
        account=account,
        key_version=account.key_version,
        price_credits=_price_there(task, candidate),
        list_usd=candidate.price.usd,
        secret_hash=token_hash(secret),
        lease_until=lease_until,
        with_callback=_may_ring(account),
    )
    return Sending(task, attempt, account, secret)


def _price_there(task: Task, candidate: Candidate) -> int:
    """What is settled if this account delivers: its own price, never above the hold. Where it is the account that was
    quoted, that is the hold: a price edited since changes no task that is under way."""
    if candidate.account.provider == task.quoted_provider:
        return task.price_credits
    return min(candidate.price.credits, task.price_credits)


def _lease_s(task: Task, account: ProviderAccount) -> float:
    """The longest a create can take, and a margin: uploads to the provider come before it, one after another."""
    uploads = task.reference_count if accounts.capabilities(account).takes_uploads else 0
    return settings.SUBMIT_LEASE_S + uploads * settings.UPLOAD_LEASE_S


def _may_ring(account: ProviderAccount) -> bool:
    return accounts.capabilities(account).callback and accounts.reaches_us(account)


def _create_call(sending: Sending) -> base.Accepted:
    """The one call that costs money. Runs in no transaction. Raises ProviderError."""
    adapter = providers.get(sending.account.provider)
    ring = f"{settings.PUBLIC_URL}/hooks/{adapter.slug}/{sending.secret}/" if sending.attempt.with_callback else None
    account = accounts.plain(sending.account, sending.attempt.key_version)
    return adapter.submit(_request(sending), account, ring)


def _request(sending: Sending) -> base.Request:
    task = sending.task
    return base.Request(
        prompt=task.prompt,
        family=task.family,
        aspect_ratio=task.aspect_ratio,
        resolution=task.resolution,
        references=tuple(_plain_references(task, accounts.reaches_us(sending.account))),
        seed=task.seed,
        output_format=task.output_format or None,
        safety_tolerance=task.safety_tolerance,
    )


def _plain_references(task: Task, reachable: bool) -> list[base.Reference]:
    if not task.reference_count:
        return []
    paths = {
        hosting.reference_id: storage.hosting_path(hosting) for hosting in task.hostings.select_related("reference")
    }
    found = []
    for use in task.task_references.select_related("reference").order_by("number"):
        reference = use.reference
        url = f"{settings.PUBLIC_URL}{paths[reference.pk]}" if reachable and reference.pk in paths else None
        found.append(base.Reference(url, lambda key=reference.key: storage.open_file(key), reference.mime))  # type: ignore[misc]
    return found


# --- The answer to a create ----------------------------------------------------------------------------------------------


def _keep_accepted(attempt: Attempt, accepted: base.Accepted) -> Next | None:
    """Only this thread knows the provider's id, and it costs money: outlast a database that is away for a minute."""
    for wait_s in KEEP_ID_S:
        try:
            return _accepted(attempt, accepted, cause="create answer")
        except (OperationalError, InterfaceError) as error:
            log.error("accepted, not written down yet", upstream_id=accepted.upstream_id, error=repr(error))
        time.sleep(wait_s)
        close_old_connections()
    return _accepted(attempt, accepted, cause="create answer")


def _accepted(attempt: Attempt, accepted: base.Accepted, *, cause: str) -> Next | None:
    """The provider has it. Keeps the provider's id whatever happened meanwhile, also when we had become uncertain."""
    task, now = attempt.task, timezone.now()
    due_at = now + timedelta(seconds=_poll_wait_s(attempt, age_s=0))
    try:
        with write():
            _answer(attempt, Outcome.ACCEPTED, upstream_id=accepted.upstream_id)
            moved = _move(
                task,
                State.RUNNING,
                cause=cause,
                due_at=due_at,
                came_from=(State.SUBMITTING, State.UNCERTAIN),
                account=attempt.account,
                upstream_id=accepted.upstream_id,
                route=accepted.route,
                accepted_at=now,
            )
            if not moved and not Task.objects.live().filter(pk=task.pk).exists():
                _note(task, "late", cause, f"accepted after the end as {accepted.upstream_id}")
    except IntegrityError:  # another task of ours already has this id: whose picture it is, nobody can say
        return _ambiguous(attempt, f"the provider answered with an id that is already in use: {accepted.upstream_id}")
    accounts.worked(attempt.account)
    if moved and attempt.callbacks.exists():  # asked after the commit: who rings from now on finds the task running
        return _bring_forward(attempt) or Next(State.RUNNING, now)
    return Next(State.RUNNING, due_at) if moved else None


def _answer(attempt: Attempt, outcome: Outcome, **fields: Any) -> bool:
    """Write down how an attempt was answered; an answer that is known already stays."""
    open_ones = Attempt.objects.filter(pk=attempt.pk, outcome__in=(Outcome.OPEN, Outcome.AMBIGUOUS))
    return bool(open_ones.update(outcome=outcome, answered_at=timezone.now(), **fields))


def _not_accepted(sending: Sending, error: ProviderError) -> Next | None:
    """Sort out a create that was not accepted: ours to wait, another provider's turn, the member's to mend, or unknown."""
    attempt, account = sending.attempt, sending.account
    log.warning(
        "create not accepted", provider=account.provider, kind=str(error.kind), sent=error.sent, text=error.message
    )
    if error.sent == "unknown":
        return _ambiguous(attempt, error.message)
    if error.kind in (Kind.AUTH, Kind.BALANCE, Kind.RATE, Kind.MAINTENANCE):
        accounts.pause(account, error.kind, error.message, error.retry_after_s)
        return _requeue(sending, Outcome.REFUSED, error)
    if error.code == base.OUR_STORAGE:
        return _reference_not_read(sending, error)
    if error.sent == "no" and error.kind == Kind.PROVIDER:  # never reached them
        accounts.pause(account, error.kind, error.message, error.retry_after_s)
        return _requeue(sending, Outcome.NOT_SENT, error)
    if error.kind == Kind.PROVIDER and _another_may_take(sending):
        return _requeue(sending, Outcome.REFUSED, error, refused_kind=Kind.PROVIDER)
    return _refused(sending, error)


def _reference_not_read(sending: Sending, error: ProviderError) -> Next | None:
    """Not the provider's fault: try again in a while. For a storage that is down as long as it takes; for a file that a
    storage which answers does not have, no longer than a task may wait."""
    task = sending.task
    if storage.has_lost(use.reference.key for use in task.task_references.select_related("reference")):
        task.waited_s += ASK_AGAIN_S
    if task.waited_s > settings.QUEUED_LIMIT_S:
        return _refused(sending, error)
    return _requeue(sending, Outcome.NOT_SENT, error, wait_s=ASK_AGAIN_S)


def _another_may_take(sending: Sending) -> bool:
    """After a readable failure, "auto" goes to the next provider; a chosen one is the member's choice."""
    task = sending.task
    refused_by = _refused_by(task) | {sending.account.pk}
    return not task.provider and routing.choose(task, _order_of(task), refused_by=refused_by) is not None


def _requeue(
    sending: Sending, outcome: Outcome, error: ProviderError, *, wait_s: float = 0, **fields: Any
) -> Next | None:
    """Back to waiting. What it has waited already still counts: tries that fail must not make the limit unreachable."""
    due_at = timezone.now() + timedelta(seconds=wait_s)
    with write():
        _answer(sending.attempt, outcome, **fields)
        moved = _move(
            sending.task,
            State.QUEUED,
            cause="create answer",
            note=f"{sending.account}: {error.message}",
            due_at=due_at,
            came_from=(State.SUBMITTING, State.UNCERTAIN),
            account=None,
            waited_s=sending.task.waited_s,
        )
    return Next(State.QUEUED, due_at) if moved else None


def _refused(sending: Sending, error: ProviderError) -> Next | None:
    with write():
        _answer(sending.attempt, Outcome.REFUSED, refused_kind=error.kind)
        states = (State.SUBMITTING, State.UNCERTAIN)
        return _fail(sending.task, error.kind, error.message, code=error.code, cause="create refused", came_from=states)


def _ambiguous(attempt: Attempt, why: str) -> Next | None:
    """Nobody knows whether the provider has it. The hold stays; the create is never sent again."""
    now = timezone.now()
    with write():
        _answer(attempt, Outcome.AMBIGUOUS)
        due_at = now if attempt.callbacks.exists() else now + timedelta(seconds=_uncertain_wait_s())
        moved = _move(attempt.task, State.UNCERTAIN, cause="create answer", note=why, due_at=due_at)
    return Next(State.UNCERTAIN, due_at) if moved else None


def _uncertain_wait_s() -> float:
    """So that the wanted number of looks fills the wanted time."""
    return settings.UNCERTAIN_LIMIT_S / settings.UNCERTAIN_LOOKS


# --- Ringing ---------------------------------------------------------------------------------------------------------------


def ring(provider: str, secret: str, method: str, body: bytes) -> tuple[int, Next | None] | None:
    """A provider rang. Keep its bytes, look at once, believe nothing. None: no such secret; else (task id, next look)."""
    attempt = Attempt.objects.select_related("task").filter(secret_hash=token_hash(secret)).first()
    if attempt is None or attempt.account.provider != provider:
        return None
    with write():
        _keep_callback(attempt, method, body)
        at = _bring_forward(attempt)
        faults.point("CP11")
    faults.point("CP12")
    return attempt.task_id, at


def _keep_callback(attempt: Attempt, method: str, body: bytes) -> None:
    now = timezone.now()
    Attempt.objects.filter(pk=attempt.pk).update(rung_at=now)
    if attempt.callbacks.count() >= CALLBACKS_KEPT:
        return
    Callback.objects.create(attempt=attempt, method=method[:10], body=body[: settings.CALLBACK_MAX_BYTES], received=now)
    late = attempt.task.state not in LIVE
    _note(attempt.task, "late" if late else "callback", attempt.account.provider, "rang after the end" if late else "")


def _bring_forward(attempt: Attempt) -> Next | None:
    """Look now; once the attempt's burst is spent, at most every RING_MIN_S. While the create is open the bytes wait."""
    task, now = attempt.task, timezone.now()
    at = now
    if attempt.burst >= len(settings.RING_BURST_S) and task.looked_at:
        at = max(now, task.looked_at + timedelta(seconds=settings.RING_MIN_S))
    waiting = Task.objects.filter(pk=task.pk, state__in=(State.UNCERTAIN, State.RUNNING), due_at__gt=at)
    return Next(State.RUNNING, at) if waiting.update(due_at=at) else None


def look_now(task: Task, user: User) -> Next | None:
    """A member asks for a look. At most one in RING_MIN_S.

    Saving keeps its own pace: pressed often enough, a picture that is merely late would be given up as lost.
    """
    now = timezone.now()
    rested = Q(looked_at=None) | Q(looked_at__lte=now - timedelta(seconds=settings.RING_MIN_S))
    waiting = Task.objects.filter(rested, pk=task.pk, state__in=(State.UNCERTAIN, State.RUNNING))
    with write():
        if not waiting.update(due_at=now):
            return None
        _note(task, "look", _by(user))
    return Next(State(task.state), now)


# --- Looking ---------------------------------------------------------------------------------------------------------------


def check(task_id: int) -> Next | None:
    """Ask how a sent task stands."""
    task = _claim(task_id, (State.SUBMITTING, State.UNCERTAIN, State.RUNNING), settings.LOOK_LEASE_S)
    if task is None:
        return None
    if task.state == State.SUBMITTING:
        return _check_lease(task)
    if task.state == State.UNCERTAIN:
        return _check_uncertain(task)
    return _check_running(task)


def _last_attempt(task: Task) -> Attempt:
    return Attempt.objects.select_related("account", "task").filter(task=task).latest("number")


def _check_lease(task: Task) -> Next | None:
    """Only a passed lease makes an unanswered create uncertain: its sender has died or been cut off."""
    attempt, now = _last_attempt(task), timezone.now()
    if attempt.lease_until > now:
        return _again(task, (attempt.lease_until - now).total_seconds())
    return _ambiguous(attempt, "the answer never came")


def _check_uncertain(task: Task) -> Next | None:
    """A callback that rang with this attempt's secret teaches us the provider's id. Else, in the end, give up."""
    attempt = _last_attempt(task)
    upstream_id = _told_id(attempt)
    if upstream_id:
        return _accepted(attempt, base.Accepted(upstream_id), cause="callback with the attempt's secret")
    if task.looks >= settings.UNCERTAIN_LOOKS and task.waited_s >= settings.UNCERTAIN_LIMIT_S:
        return _give_up(task)
    return _again(task, _uncertain_wait_s())


def _give_up(task: Task) -> Next | None:
    """Unless somebody rang while we looked: a ring that was answered with 200 must not end as a failure."""
    message = "The provider never confirmed that it took this. Nothing was charged."
    with write():
        unrung = Task.objects.filter(pk=task.pk, state=State.UNCERTAIN, due_at=task.due_at)
        if unrung.update(due_at=task.due_at):  # and from here on the row is ours
            return _fail(task, Kind.BAD_REPLY, message, cause="give-up rule", came_from=(State.UNCERTAIN,))
    return Next(State.UNCERTAIN, timezone.now())


def _told_id(attempt: Attempt) -> str | None:
    adapter = providers.get(attempt.account.provider)
    for callback in attempt.callbacks.order_by("received"):
        upstream_id = adapter.parse_callback(bytes(callback.body))
        if upstream_id and not _is_another_tasks(attempt, upstream_id):
            return upstream_id
    return None


def _is_another_tasks(attempt: Attempt, upstream_id: str) -> bool:
    """A provider that gave one id to two tasks says it in its callbacks too: such an id teaches nothing."""
    same_id = Task.objects.filter(account_id=attempt.account_id, upstream_id=upstream_id)
    return same_id.exclude(pk=attempt.task_id).exists()


def _check_running(task: Task) -> Next | None:
    attempt = _last_attempt(task)
    free_at = _look_allowance(attempt.account)
    if free_at is not None:
        return _again(task, max(0.1, (free_at - timezone.now()).total_seconds()))
    try:
        report = _ask(task, attempt)
    except ProviderError as error:
        return _look_failed(task, error)
    if report.state == "succeeded":
        return _succeeded(task, report)
    if report.state == "failed":
        return _fail(task, report.kind or Kind.PROVIDER, report.message, code=report.code, cause="query answer")
    return _still_running(task, attempt, report)


def _look_allowance(account: ProviderAccount) -> datetime | None:
    """When a look is free, at providers that count looks as calls; None means now."""
    if accounts.capabilities(account).throttle.counts_looks:
        return account.take_call(timezone.now())
    return None


def _ask(task: Task, attempt: Attempt) -> Report:
    """The authenticated query, with the key the task was sent with; if that no longer opens, with the newest."""
    adapter, account = providers.get(attempt.account.provider), attempt.account
    age_s = (timezone.now() - (task.accepted_at or task.created)).total_seconds()
    try:
        return adapter.report(task.upstream_id, task.route, accounts.plain(account, attempt.key_version), age_s=age_s)
    except ProviderError as error:
        if error.kind != Kind.AUTH or account.key_version == attempt.key_version:
            raise
        return adapter.report(task.upstream_id, task.route, accounts.plain(account), age_s=age_s)


def _look_failed(task: Task, error: ProviderError) -> Next | None:
    """A look that failed says nothing about the task. Unreadable successes are given up after a few; a task the
    provider does not know any more ends with the running limit; everything else waits for better times."""
    log.warning("look failed", task_id=task.pk, kind=str(error.kind), code=error.code, text=error.message)
    if error.code == "no_urls" and _is_unreadable_for_good(task, "query answer", error.message):
        message = "The provider says it finished, but gave no picture."
        return _fail(task, Kind.BAD_REPLY, message, code=error.code, cause="query answer")
    if error.code == "not_found" and task.waited_s > settings.RUNNING_LIMIT_S:
        return _fail(task, error.kind, error.message, code=error.code, cause="limit")
    wait_s = max(error.retry_after_s or 0, _backoff_s(task.strikes))
    return _again(task, wait_s, strikes=min(task.strikes + 1, 1000))


def _is_unreadable_for_good(task: Task, cause: str, why: str) -> bool:
    """Note an answer or a file that makes no sense, and whether it was one too many.

    Strikes alone do not tell: a network or a disk that failed meanwhile is counted there as well, for the waits.
    """
    _note(task, "unreadable", cause, why)
    unreadable = task.events.filter(kind="unreadable", at__gte=task.state_since).count()
    return min(unreadable, task.strikes + 1) >= settings.STRIKES_MAX


def _still_running(task: Task, attempt: Attempt, report: Report) -> Next | None:
    if report.unknown_word:
        log.warning("unknown state word", provider=attempt.account.provider, word=report.unknown_word[:40])
    if task.waited_s > settings.RUNNING_LIMIT_S:  # acted on only here: after a fresh answer made since it passed
        return _fail(task, Kind.PROVIDER, "The provider has not finished in two hours.", cause="limit")
    age_s = (timezone.now() - (task.accepted_at or task.created)).total_seconds()
    wait_s = _burst_wait_s(attempt) if attempt.rung_at else None
    return _again(task, _poll_wait_s(attempt, age_s) if wait_s is None else wait_s, strikes=0)


def _burst_wait_s(attempt: Attempt) -> float | None:
    """After a ring, a few quick looks, once per attempt: some providers ring a moment before their query knows."""
    steps = settings.RING_BURST_S
    taken = Attempt.objects.filter(pk=attempt.pk, burst=attempt.burst, burst__lt=len(steps)).update(
        burst=F("burst") + 1
    )
    return steps[attempt.burst] if taken else None


def _poll_wait_s(attempt: Attempt, age_s: float) -> float:
    """The provider's own advice, slower where callbacks come, never all at once."""
    plan = accounts.capabilities(attempt.account).poll
    patience = CALLBACK_PATIENCE if attempt.with_callback and age_s < 300 else 1
    return plan.wait_s(age_s) * patience * settings.LOOK_SCALE * random.uniform(0.9, 1.1)


def _succeeded(task: Task, report: Report) -> Next | None:
    now = timezone.now()
    provider_s = (now - task.accepted_at).total_seconds() if task.accepted_at else None
    with write():
        moved = _move(
            task,
            State.SAVING,
            cause="query answer",
            due_at=now,
            result_urls=list(report.urls),
            cost_usd=report.cost_usd,
            provider_s=task.provider_s or provider_s,
        )
    return Next(State.SAVING, now) if moved else None


# --- Saving ----------------------------------------------------------------------------------------------------------------


def save(task_id: int) -> Next | None:
    """Fetch the result, check it, store our own copy, and only then settle."""
    task = _claim(task_id, (State.SAVING,), settings.SAVE_LEASE_S)
    if task is None:
        return None
    url = task.result_urls[task.strikes % len(task.result_urls)]  # where there are several, the next one each time
    try:
        data = storage.fetch_result(task, url, accounts.own_origin(task.account))  # type: ignore[arg-type]
        stored = storage.store_result(task, data)
    except http.FetchFailed as error:
        return _fetch_failed(task, error)
    except imaging.BadImage as error:
        return _bad_picture(task, error)
    except (storage.StorageDown, OSError) as error:
        return _storage_down(task, error)
    return _saved(task, stored)


def _saved(task: Task, stored: storage.Stored) -> Next | None:
    price = task.attempts.get(outcome=Outcome.ACCEPTED).price_credits or task.price_credits
    charged = pricing.charge(task.price_credits, price, task.cost_usd, settings.CREDIT_USD)
    with write():
        if not _finish(task, State.DONE, cause="fetch", charged=charged):
            return None
        storage.result_row(task, stored).save(force_insert=True)
        faults.point("CP10")
    storage.forget_spooled(task)
    return None


def _fetch_failed(task: Task, error: http.FetchFailed) -> Next | None:
    """The picture's address does not give it. Wait; ask the provider for a fresh address; in the end it is lost."""
    log.warning("result not fetched", task_id=task.pk, kind=error.kind, text=error.message)
    if error.kind == "refused" and _is_unreadable_for_good(task, "fetch", error.message):
        return _lost(task, error.message)
    is_late, may_ask = task.waited_s > settings.SAVING_LIMIT_S, _may_ask_afresh(task)
    if is_late and not may_ask:
        return _lost(task, error.message)
    if may_ask and (is_late or (error.kind == "gone" and task.strikes + 1 >= len(settings.BACKOFF_S))):
        return _ask_afresh(task, error.message)
    return _again(task, _backoff_s(task.strikes), strikes=task.strikes + 1)


def _bad_picture(task: Task, error: imaging.BadImage) -> Next | None:
    """What came is no picture: a delivery network may have answered with a page. Try again a little, then give up."""
    storage.forget_spooled(task)
    if _is_unreadable_for_good(task, "fetch", str(error)):
        return _lost(task, str(error))
    return _again(task, _backoff_s(task.strikes), strikes=task.strikes + 1)


def _storage_down(task: Task, error: Exception) -> Next:
    """Our own fault: the bytes stay spooled, and the time does not count."""
    log.error("storage is down, results wait", task_id=task.pk, error=repr(error))
    waited_s = max(0.0, task.waited_s - settings.GAP_MAX_S)
    return _again(task, _backoff_s(task.strikes), strikes=task.strikes + 1, waited_s=waited_s)


def _may_ask_afresh(task: Task) -> bool:
    return task.events.filter(kind=State.SAVING).count() < REFETCHES_MAX


def _ask_afresh(task: Task, why: str) -> Next | None:
    """Back to running: the next look brings a fresh address."""
    now = timezone.now()
    with write():
        moved = _move(task, State.RUNNING, cause="fetch", note=why, due_at=now, came_from=(State.SAVING,))
    return Next(State.RUNNING, now) if moved else None


def _lost(task: Task, why: str) -> Next | None:
    storage.forget_spooled(task)
    message = f"The provider made this picture, but it could not be fetched: {why}"
    return _fail(task, Kind.BAD_REPLY, message, code="result_lost", cause="fetch", came_from=(State.SAVING,))


# --- Ending ----------------------------------------------------------------------------------------------------------------


def _fail(
    task: Task, kind: Kind, message: str, *, cause: str, code: str = "", came_from: tuple[State, ...] = ()
) -> Next | None:
    """The hold returns; there is nothing to look at next."""
    fields: dict[str, Any] = {"fail_kind": kind, "fail_code": code[:64], "fail_message": message[:300]}
    states = came_from or (State(task.state),)
    _finish(task, State.FAILED, cause=cause, reason=message, came_from=states, **fields)
    return None


def _finish(
    task: Task,
    to: State,
    *,
    cause: str,
    reason: str = "",
    charged: int | None = None,
    came_from: tuple[State, ...] = (),
    **fields: Any,
) -> bool:
    """The only way to an end: state, money and event in one transaction. False: it had ended, or moved on, already."""
    with write():
        now = timezone.now()
        ended = {"finished_at": now, "charged_credits": charged}
        if not _move(task, to, cause=cause, note=reason, due_at=None, came_from=came_from, **ended, **fields):
            return False
        task.finished_at = now
        if charged is None:
            ledger.release(task, reason or str(to), counts_as=to.value)
        else:
            ledger.settle(task, charged)
        storage.close_hostings(task)
        faults.point("CP7")
    faults.point("CP8")
    return True


# --- After the end -------------------------------------------------------------------------------------------------------


def refund(task: Task, amount: int, *, actor: User, reason: str, key: str) -> Entry | Refusal:
    """Give back part or all of what a picture was charged; never more, however many admins are at it.

    The same key again changes nothing and returns the first entry.
    """
    try:
        with write():
            known = ledger.same(task.team, Entry.Kind.REFUND, amount, key)
            return known or _refund(task, amount, actor=actor, reason=reason, key=key)
    except IntegrityError:  # the same key was being written just now
        return ledger.same(task.team, Entry.Kind.REFUND, amount, key) or _not_refundable(task)


def _refund(task: Task, amount: int, *, actor: User, reason: str, key: str) -> Entry | Refusal:
    charged = Task.objects.filter(pk=task.pk, state=State.DONE, charged_credits__gte=F("refunded_credits") + amount)
    if not charged.update(refunded_credits=F("refunded_credits") + amount, version=F("version") + 1):
        return _not_refundable(task)
    _note(task, "refund", _by(actor), reason)
    bus.publish_task(task.team_id, task.pk)
    entry = ledger.refund(task, amount, actor=actor, reason=reason, key=key)
    faults.point("CP14")
    return entry


def _not_refundable(task: Task) -> Refusal:
    task.refresh_from_db()
    if task.state != State.DONE:
        return Refusal("input", "task", f"Task {task.pk} was not charged: it is {State(task.state).label.lower()}.")
    left = (task.charged_credits or 0) - task.refunded_credits
    return Refusal("budget", "amount", f"Task {task.pk} has {credits_text(left)} left to give back.")


# --- Starting again ----------------------------------------------------------------------------------------------------------


def wake() -> int:
    """At the start of a site that has only this one process: nobody else holds a claim, so every look is due now.

    Leases of creates stay: their answers are lost, and only a passed lease may say so.
    """
    now = timezone.now()
    return Task.objects.filter(state__in=(State.QUEUED, State.UNCERTAIN, State.RUNNING, State.SAVING)).update(
        due_at=now
    )
