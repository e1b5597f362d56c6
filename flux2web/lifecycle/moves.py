"""Every step a task takes: claiming a look, moving from state to state, coming to an end. Nothing else writes `state`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from .. import bus, faults, ledger, storage, turns
from ..models import Event, State, Task, User, one, write
from ..models.tasks import IN_FLIGHT, before
from ..providers.base import Kind

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Next:
    """Look again at `at`; `state` says who looks."""

    state: State
    at: datetime


def claim(task_id: int, states: tuple[State, ...], lease_s: float) -> Task | None:
    """Take this look, if it is due and nobody else has. The look falls due again by itself if we die.

    Adds to `waited_s` the time since the last look, gaps cut at GAP_MAX_S: hours in which this site was down do not
    count against a task. A waiting task's time counts only while no account may take it (see _blocked).
    """
    now = timezone.now()
    due = Task.objects.filter(pk=task_id, state__in=states, due_at__lte=now)
    task = one(due.select_related("account"))
    if task is None:
        return None
    gap_s = _gap_s(task, now)
    claimed = {"due_at": now + timedelta(seconds=lease_s), "looked_at": now, "looks": task.looks + 1, "waits_for": None}
    if task.state != State.QUEUED:
        claimed["waited_s"] = task.waited_s + gap_s
    same = Task.objects.filter(pk=task_id, state=task.state, due_at=task.due_at, looks=task.looks)
    if not same.update(**claimed):
        return None
    task.gap_s, task.stood_in_line = gap_s, task.in_line  # type: ignore[attr-defined]
    for name, value in claimed.items():
        setattr(task, name, value)
    return task


def _gap_s(task: Task, now: datetime) -> float:
    since = (now - (task.looked_at or task.state_since)).total_seconds()
    return max(0.0, min(since, settings.GAP_MAX_S))


def move(
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
    fresh = {"state_since": now, "looked_at": None, "waited_s": 0, "looks": 0, "strikes": 0, "waits_for": None}
    rows = Task.objects.filter(pk=task.pk, state__in=came_from or before(to))
    changed = rows.update(**fresh | {"state": to, "version": F("version") + 1, "due_at": due_at} | fields)
    if not changed:
        return False
    Event.objects.create(task=task, kind=to, cause=cause, note=note[:300])
    bus.publish_task(task.team_id, task.pk)
    if task.state in IN_FLIGHT and to not in IN_FLIGHT:
        transaction.on_commit(partial(_call_next, task.account_id))
    log.info("task moved", task_id=task.pk, state=str(to), cause=cause)
    return True


def _call_next(account_id: int | None) -> None:
    """A place under a ceiling is free: somebody in line falls due, and gives it to who has the best claim."""
    now = timezone.now()
    waiting = turns.in_line(account_id).filter(due_at__gt=now).order_by("team_id", "user_id", "id")
    for task_id in waiting.values_list("pk", flat=True)[:1]:
        turns.in_line(account_id).filter(pk=task_id).update(due_at=now)


def again(task: Task, wait_s: float, **fields: Any) -> Next:
    """Look again after `wait_s`, unless somebody asked for an earlier look while we were looking."""
    at = timezone.now() + timedelta(seconds=wait_s)
    if not Task.objects.filter(pk=task.pk, state=task.state, due_at=task.due_at).update(due_at=at, **fields):
        at = timezone.now()
    return Next(State(task.state), at)


def note(task: Task, kind: str, cause: str, note: str = "") -> None:
    Event.objects.create(task=task, kind=kind, cause=cause, note=note[:300])


def by(user: User) -> str:
    return f"user {user.pk}"


def is_unreadable_for_good(task: Task, cause: str, why: str) -> bool:
    """Note an answer or a file that makes no sense, and whether it was one too many.

    Strikes alone do not tell: a network or a disk that failed meanwhile is counted there as well, for the waits.
    """
    note(task, "unreadable", cause, why)
    unreadable = task.events.filter(kind="unreadable", at__gte=task.state_since).count()
    return min(unreadable, task.strikes + 1) >= settings.STRIKES_MAX


def fail(
    task: Task, kind: Kind, message: str, *, cause: str, code: str = "", came_from: tuple[State, ...] = ()
) -> Next | None:
    """The hold returns; there is nothing to look at next."""
    fields: dict[str, Any] = {"fail_kind": kind, "fail_code": code[:64], "fail_message": message[:300]}
    states = came_from or (State(task.state),)
    if finish(task, State.FAILED, cause=cause, reason=message, came_from=states, **fields) and task.batch.stop_after:
        transaction.on_commit(partial(_call_batch, task.batch_id))
    return None


def _call_batch(batch_id: int) -> None:
    """What waits of it looks whether it is still wanted. After the commit: who has locked money must wait for no task."""
    Task.objects.filter(batch=batch_id, state=State.QUEUED).update(due_at=timezone.now())


def finish(
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
        if not move(task, to, cause=cause, note=reason, due_at=None, came_from=came_from, **ended, **fields):
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
