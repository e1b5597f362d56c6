"""A waiting task gets an account, a turn and an attempt, and goes out: once."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from .. import accounts, bus, faults, hands, providers, routing, storage, turns
from ..models import Attempt, ProviderAccount, State, Task, write
from ..models.base import new_token, token_hash
from ..providers import base
from ..providers.base import Kind, ProviderError
from ..routing import Candidate
from . import answers, moves, pace, press
from .answers import Sending
from .moves import Next

TURN_S = 2  # a task that waits for its turn, where a ceiling keeps it, tries again after so long
TURN_MAX_S = 60  # the longest that a throttle is waited for: an admin may raise the rate meanwhile
LINE_MAX_S = 600  # the longest between two looks of one task in a long line
LINE_LOOK_S = 0.2  # behind a ceiling a whole line looks this often; a place that is free calls somebody anyway


def whose_turn(task_id: int) -> int:
    """Who goes when this one comes: itself, or one with a better claim in the line for whoever takes it, which falls due
    now. Where nobody waits for anything, that costs one look at an empty index."""
    task = Task.objects.filter(pk=task_id, state=State.QUEUED).first() if turns.anybody_waits() else None
    candidate = _choose(task) if task else None
    if not task or not candidate:
        return task_id
    first = turns.first(task, candidate.account)
    if first != task_id:
        turns.in_line(candidate.account).filter(pk=first).update(due_at=timezone.now())
    return first


def _choose(task: Task) -> Candidate | None:
    return routing.choose(task, press.order_of(task), refused_by=answers.refused_by(task))


def submit(task_id: int) -> Next | None:
    """Send a waiting task to the account that should have it now, or say when to try again."""
    task = moves.claim(task_id, (State.QUEUED,), settings.LOOK_LEASE_S)
    if task is None or _was_stopped(task):
        return None
    candidate = _choose(task)
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
        return answers.not_accepted(sending, error)
    faults.point("CP6")
    return answers.keep_accepted(sending.attempt, accepted)


def line_up(task_id: int) -> Next | None:
    """Let one that goes first go first."""
    task = moves.claim(task_id, (State.QUEUED,), settings.LOOK_LEASE_S)
    if task is None:
        return None
    candidate = _choose(task)
    return _wait_in_line(task, candidate.account, Turn(0.05, LINE_LOOK_S)) if candidate else _blocked(task)


def _was_stopped(task: Task) -> bool:
    """Whether so many of its batch have failed that its sender wanted no more of it."""
    stop_after = task.batch.stop_after
    if not stop_after or task.batch.tasks.filter(state=State.FAILED).count() < stop_after:
        return False
    message = f"{stop_after} of this batch failed, so the rest was not sent."
    moves.finish(
        task,
        State.CANCELLED,
        cause="stop rule",
        reason=message,
        came_from=(State.QUEUED,),
        fail_message=message,
    )
    return True


def _blocked(task: Task) -> Next | None:
    """No account may take it. Only this waiting counts against the limit; waiting for a turn does not."""
    waited_s = task.waited_s + (0 if task.stood_in_line else task.gap_s)  # type: ignore[attr-defined]
    if waited_s > settings.QUEUED_LIMIT_S:
        message = "No provider could take this for a quarter of an hour. Try again later, or ask a site admin."
        return moves.fail(task, Kind.MAINTENANCE, message, cause="limit", came_from=(State.QUEUED,))
    wait_s = min(_ask_again_s(), settings.QUEUED_LIMIT_S / 4)
    next_ = moves.again(task, wait_s, waited_s=waited_s)
    if task.looks == 1 or task.stood_in_line:  # type: ignore[attr-defined]
        bus.publish_task(task.team_id, task.pk)  # its card says why
    return next_


def _ask_again_s() -> float:
    """However many wait while a provider rests, their looks must not become the load: fifty a second at most, as long as
    that counts the whole time (settings.GAP_MAX_S)."""
    waiting = Task.objects.filter(state=State.QUEUED, account=None).count()
    return min(max(pace.ASK_AGAIN_S, waiting / 50), settings.GAP_MAX_S) * random.uniform(0.8, 1)


class Turn(NamedTuple):
    """When a turn may be free, and how often one is."""

    wait_s: float
    every_s: float


def _begin(task: Task, candidate: Candidate) -> Sending | Next | None:
    """Write down that we are about to send, before anything leaves; or wait for a turn.

    The account's row is locked first, so that its throttle and its ceiling are exact across processes.
    """
    account, now, sending = candidate.account, timezone.now(), None
    with write():
        turn = _no_turn(account)
        if turn is None:
            sending = _write_sending(task, candidate, now)
            faults.point("CP3")
        if turn is not None or sending is None:
            transaction.set_rollback(True)  # a call that is not made is not counted
    if turn is not None:
        return _wait_in_line(task, account, turn)
    for task_id in turns.behind(task, account):
        bus.publish_task(task.team_id, task_id)
    return sending


def _no_turn(account: ProviderAccount) -> Turn | None:
    """Take a call of the account's allowance and a place under its ceiling. None: taken."""
    free_at = account.take_call()
    if free_at is not None:
        return Turn(max(0.05, (free_at - timezone.now()).total_seconds()), account.rate_s / account.rate_count)
    in_flight = Task.objects.in_flight().filter(account=account)
    is_full = account.concurrent and in_flight.count() >= account.concurrent
    return Turn(TURN_S, LINE_LOOK_S) if is_full else None


def _wait_in_line(task: Task, account: ProviderAccount, turn: Turn) -> Next:
    """Look again when a turn may be free. However long the line, about two looks come for each turn: whoever looks gives
    it to who has the best claim (whose_turn)."""
    line_s = turns.in_line(account).count() * turn.every_s
    spread_s = min(LINE_MAX_S, line_s) * random.random()
    wait_s = max(min(turn.wait_s, TURN_MAX_S) * random.uniform(1, 1.2), spread_s)
    next_ = moves.again(task, wait_s, waits_for=account)
    if not task.stood_in_line:  # type: ignore[attr-defined]
        bus.publish_task(task.team_id, task.pk)  # its card says which of its sender's it is, now that it stands there
    return next_


def _write_sending(task: Task, candidate: Candidate, now: datetime) -> Sending | None:
    account = candidate.account
    lease_until, secret = now + timedelta(seconds=_lease_s(task, account)), new_token()
    if not moves.move(task, State.SUBMITTING, cause=f"chose {account}", due_at=lease_until, account=account):
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
    account, request = accounts.plain(sending.account, sending.attempt.key_version), _request(sending)
    with hands.away():
        return adapter.submit(request, account, ring)


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
