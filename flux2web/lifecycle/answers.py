"""What a create's answer means: accepted, another's turn, the member's to mend, or nobody knows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, InterfaceError, OperationalError, close_old_connections
from django.utils import timezone

from .. import accounts, routing, storage
from ..models import Attempt, ProviderAccount, State, Task, write
from ..providers import base
from ..providers.base import Kind, ProviderError
from . import moves, pace, press, rings
from .moves import Next

log = structlog.get_logger(__name__)
Outcome = Attempt.Outcome
KEEP_ID_S = (0.5, 1, 2, 4, 8, 15, 30)  # waits between tries to write an acceptance down


@dataclass(frozen=True)
class Sending:
    """A create that is about to go out: committed as an Attempt before the provider hears of it."""

    task: Task
    attempt: Attempt
    account: ProviderAccount
    secret: str


def refused_by(task: Task) -> set[int]:
    """Accounts whose readable refusal spoke of this very task: they are not asked again for it."""
    if task.version == 1:  # never moved, so never sent
        return set()
    return set(task.attempts.filter(refused_kind=Kind.PROVIDER).values_list("account_id", flat=True))


def keep_accepted(attempt: Attempt, accepted: base.Accepted) -> Next | None:
    """Only this thread knows the provider's id, and it costs money: outlast a database that is away for a minute."""
    for wait_s in KEEP_ID_S:
        try:
            return accept(attempt, accepted, cause="create answer")
        except (OperationalError, InterfaceError) as error:
            log.error("accepted, not written down yet", upstream_id=accepted.upstream_id, error=repr(error))
        time.sleep(wait_s)
        close_old_connections()
    return accept(attempt, accepted, cause="create answer")


def accept(attempt: Attempt, accepted: base.Accepted, *, cause: str) -> Next | None:
    """The provider has it. Keeps the provider's id whatever happened meanwhile, also when we had become uncertain."""
    task, now = attempt.task, timezone.now()
    due_at = now + timedelta(seconds=pace.poll_wait_s(attempt, age_s=0))
    try:
        with write():
            _answer(attempt, Outcome.ACCEPTED, upstream_id=accepted.upstream_id)
            moved = moves.move(
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
                moves.note(task, "late", cause, f"accepted after the end as {accepted.upstream_id}")
    except IntegrityError:  # another task of ours already has this id: whose picture it is, nobody can say
        return ambiguous(attempt, f"the provider answered with an id that is already in use: {accepted.upstream_id}")
    accounts.worked(attempt.account)
    if moved and rings.heard(attempt):  # asked after the commit: who rings from now on finds the task running
        return rings.bring_forward(attempt) or Next(State.RUNNING, now)
    return Next(State.RUNNING, due_at) if moved else None


def _answer(attempt: Attempt, outcome: Outcome, **fields: Any) -> bool:
    """Write down how an attempt was answered; an answer that is known already stays."""
    open_ones = Attempt.objects.filter(pk=attempt.pk, outcome__in=(Outcome.OPEN, Outcome.AMBIGUOUS))
    return bool(open_ones.update(outcome=outcome, answered_at=timezone.now(), **fields))


def not_accepted(sending: Sending, error: ProviderError) -> Next | None:
    """Sort out a create that was not accepted: ours to wait, another provider's turn, the member's to mend, or unknown."""
    attempt, account = sending.attempt, sending.account
    log.warning(
        "create not accepted", provider=account.provider, kind=str(error.kind), sent=error.sent, text=error.message
    )
    if error.sent == "unknown":  # the next task must not be lost in the same way
        accounts.pause(account, Kind.PROVIDER, error.message, error.retry_after_s)
        return ambiguous(attempt, error.message)
    if error.kind in (Kind.AUTH, Kind.BALANCE, Kind.RATE, Kind.MAINTENANCE):
        accounts.pause(account, error.kind, error.message, error.retry_after_s)
        return _requeue(sending, Outcome.REFUSED, error, refused_kind=error.kind)
    if error.code == base.OUR_STORAGE:
        return _reference_not_read(sending, error)
    if error.kind == Kind.PROVIDER:
        accounts.pause(account, error.kind, error.message, error.retry_after_s)
        return _failed_there(sending, error)
    return _refused(sending, error)


def _failed_there(sending: Sending, error: ProviderError) -> Next | None:
    """Who was never reached may be asked again; who said so readably has refused this task."""
    if error.sent == "no":
        return _requeue(sending, Outcome.NOT_SENT, error)
    if _another_may_take(sending):
        return _requeue(sending, Outcome.REFUSED, error, refused_kind=Kind.PROVIDER)
    return _refused(sending, error)


def _reference_not_read(sending: Sending, error: ProviderError) -> Next | None:
    """Not the provider's fault: try again in a while. For a storage that is down as long as it takes; for a file that a
    storage which answers does not have, no longer than a task may wait."""
    task = sending.task
    if storage.has_lost(use.reference.key for use in task.task_references.select_related("reference")):
        task.waited_s += pace.ASK_AGAIN_S
    if task.waited_s > settings.QUEUED_LIMIT_S:
        return _refused(sending, error)
    return _requeue(sending, Outcome.NOT_SENT, error, wait_s=pace.ASK_AGAIN_S)


def _another_may_take(sending: Sending) -> bool:
    """After a readable failure, "auto" goes to the next provider; a chosen one is the member's choice."""
    task = sending.task
    tried = refused_by(task) | {sending.account.pk}
    return not task.provider and routing.choose(task, press.order_of(task), refused_by=tried) is not None


def _requeue(
    sending: Sending, outcome: Outcome, error: ProviderError, *, wait_s: float = 0, **fields: Any
) -> Next | None:
    """Back to waiting. What it has waited already still counts: tries that fail must not make the limit unreachable."""
    due_at = timezone.now() + timedelta(seconds=wait_s)
    with write():
        _answer(sending.attempt, outcome, message=error.message[:300], **fields)
        moved = moves.move(
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
        _answer(sending.attempt, Outcome.REFUSED, refused_kind=error.kind, message=error.message[:300])
        states = (State.SUBMITTING, State.UNCERTAIN)
        return moves.fail(
            sending.task, error.kind, error.message, code=error.code, cause="create refused", came_from=states
        )


def ambiguous(attempt: Attempt, why: str) -> Next | None:
    """Nobody knows whether the provider has it. The hold stays; the create is never sent again."""
    now = timezone.now()
    with write():
        _answer(attempt, Outcome.AMBIGUOUS, message=why[:300])
        due_at = now if rings.heard(attempt) else now + timedelta(seconds=pace.uncertain_wait_s())
        moved = moves.move(attempt.task, State.UNCERTAIN, cause="create answer", note=why, due_at=due_at)
    return Next(State.UNCERTAIN, due_at) if moved else None
