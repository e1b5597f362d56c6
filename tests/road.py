"""How tests walk a task along its road without waiting: each step is one real look, made due by hand."""

from __future__ import annotations

import itertools
from datetime import timedelta

from django.utils import timezone

from flux2web import lifecycle
from flux2web.models import Batch, Membership, State, Task, Team
from flux2web.orders import Order

_keys = itertools.count(1)
LOOK = {
    State.QUEUED: lifecycle.submit,
    State.SUBMITTING: lifecycle.check,
    State.UNCERTAIN: lifecycle.check,
    State.RUNNING: lifecycle.check,
    State.SAVING: lifecycle.save,
}


def order(**fields) -> Order:
    asked = {"prompt": "A quiet harbour at dawn", "family": "pro", "aspect_ratio": "4:3", "resolution": "1K"}
    return Order(**(asked | fields))


def press(member: Membership, *, key: str = "", price_seen: int | None = None, **fields):
    """Press the button: a Batch or a Refusal."""
    return lifecycle.create(member, order(**fields), key=key or f"key-{next(_keys)}", price_seen=price_seen)


def task_of(batch: Batch) -> Task:
    assert isinstance(batch, Batch), batch
    return batch.tasks.get()


def look(task: Task) -> Task:
    """One look, now, by whoever looks in this state. Returns the fresh row."""
    Task.objects.filter(pk=task.pk, due_at__isnull=False).update(due_at=timezone.now())
    fresh = Task.objects.get(pk=task.pk)
    LOOK[State(fresh.state)](task.pk)
    return Task.objects.get(pk=task.pk)


def walk(task: Task, *, steps: int = 12) -> Task:
    """Look until the task has ended, or stands where looking does not move it."""
    for _ in range(steps):
        task.refresh_from_db()
        if not task.is_live:
            break
        task = look(task)
    return task


def age(task: Task, **fields) -> Task:
    """Let time in this state pass: `waited_s`, `looks`, and so on, as if it had been looked at meanwhile."""
    Task.objects.filter(pk=task.pk).update(**fields)
    return Task.objects.get(pk=task.pk)


def expire_lease(task: Task) -> None:
    past = timezone.now() - timedelta(seconds=1)
    task.attempts.update(lease_until=past)
    Task.objects.filter(pk=task.pk).update(due_at=past)


def sums(team: Team) -> tuple[int, int, int]:
    """(granted, held, spent)."""
    team.budget.refresh_from_db()
    return team.budget.granted, team.budget.held, team.budget.spent
