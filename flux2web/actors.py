"""Dramatiq's functions: shells around one call into lifecycle. A message carries a task id and means "look now".

Messages may be lost, doubled, late or out of order; the row decides. They are never retried: rows retry.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

import dramatiq
import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from . import exports, lifecycle, notices, requests
from .lifecycle import Next
from .models import Batch, State
from .providers.base import SUBMIT_LIMIT_S

log = structlog.get_logger(__name__)
DELAY_MAX_S = 10  # further ahead is the clock's: a delayed message lives in a worker's memory
SPARE_S = 30  # a time limit above the HTTP timeouts: it cannot interrupt a blocking read anyway


@dramatiq.actor(queue_name="submit", time_limit=int(SUBMIT_LIMIT_S + SPARE_S) * 1000)
def submit(task_id: int) -> None:
    """The turn goes to whoever has the best claim; this one has its own with it, or lines up behind."""
    first = lifecycle.whose_turn(task_id)
    next_ = lifecycle.submit(first)
    kick(first, next_)
    if first != task_id:
        has_gone = next_ is not None and next_.state != State.QUEUED
        kick(task_id, lifecycle.line_up(task_id) if has_gone else lifecycle.submit(task_id))


@dramatiq.actor(queue_name="check", time_limit=(2 * settings.LOOK_TIMEOUT_S + SPARE_S) * 1000)
def check(task_id: int) -> None:
    kick(task_id, lifecycle.check(task_id))


@dramatiq.actor(queue_name="save", time_limit=(settings.SAVE_LEASE_S + SPARE_S) * 1000)
def save(task_id: int) -> None:
    kick(task_id, lifecycle.save(task_id))


LOOKERS = {
    State.QUEUED: submit,
    State.SUBMITTING: check,
    State.UNCERTAIN: check,
    State.RUNNING: check,
    State.SAVING: save,
}


def kick(task_id: int, next_: Next | None) -> None:
    """Send whoever looks next, after commit: at once if due, delayed if soon, else leave it to the clock."""
    if next_ is None:
        return
    wait_s = (next_.at - timezone.now()).total_seconds()
    if wait_s <= DELAY_MAX_S:
        transaction.on_commit(partial(_send, next_.state, task_id, max(0.0, wait_s)))


def kick_batch(batch: Batch) -> None:
    for task_id in batch.tasks.values_list("pk", flat=True):
        kick(task_id, Next(State.QUEUED, timezone.now()))


def _send(state: State, task_id: int, wait_s: float) -> None:
    _send_quietly(LOOKERS[state], task_id, wait_s)


def _send_quietly(actor: dramatiq.Actor, row_id: int | None = None, wait_s: float = 0.0) -> None:
    try:
        actor.send_with_options(args=(row_id,) if row_id else (), delay=int(wait_s * 1000) or None)
    except Exception as error:  # whatever the broker raises: the row is due, the clock will find it
        log.warning("broker is down, the clock will look", actor=actor.actor_name, row_id=row_id, error=repr(error))


@dramatiq.actor(queue_name="submit", time_limit=(requests.SEND_LEASE_S + SPARE_S) * 1000)
def send_draft(request_id: int) -> None:
    """What a granted request was for. Its tasks are sent on like any others."""
    batch = requests.send_due(request_id)
    if batch:
        kick_batch(batch)


def kick_draft(request_id: int) -> None:
    """After commit; a lost message is found by the clock."""
    transaction.on_commit(partial(_send_quietly, send_draft, request_id))


@dramatiq.actor(queue_name="mail", time_limit=5 * 60 * 1000)
def mail() -> None:
    """Whatever notice is due: one message for all of them, so that a slow mail server's queue does not grow."""
    notices.mail_due()


def kick_mail() -> None:
    _send_quietly(mail)


@dramatiq.actor(queue_name="export", time_limit=60 * 60 * 1000)
def export(export_id: int) -> None:
    exports.run(export_id)


def kick_export(export_id: int) -> None:
    """After commit; a lost message is found by the clock."""
    transaction.on_commit(partial(_send_quietly, export, export_id))


def send_due(state: str, task_id: int, due_at: datetime) -> None:
    """For the clock."""
    kick(task_id, Next(State(state), due_at))
