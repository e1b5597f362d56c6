"""Writing one line: what every move of money does beside its own."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from .. import bus
from ..models import Budget, Entry, Period, Task, Team, User

SYSTEM = "flux2web"


def require_transaction() -> None:
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("money moves only inside the transaction of its cause")


def budget_of(team_id: int) -> Budget:
    return Budget.objects.select_related("period").get(pk=team_id)


def label(actor: User | None) -> str:
    return str(actor)[:80] if actor else SYSTEM


def of_task(task: Task, kind: Entry.Kind, amount: int, after: int, *, reason: str, actor: User | None = None) -> Entry:
    """A line about a task, not yet written. Its key lets a task have one of its kind."""
    return Entry(
        team_id=task.team_id,
        task=task,
        kind=kind,
        amount=amount,
        available_after=after,
        actor=actor,
        actor_label=label(actor),
        reason=reason[:200],
        key=f"{kind}:{task.pk}",
    )


def of_team(
    team: Team,
    kind: Entry.Kind,
    amount: int,
    *,
    actor: User | None,
    reason: str,
    key: str,
    period: Period | None = None,
) -> Entry:
    """Write a line that no task caused, after its sums have moved."""
    entry = Entry.objects.create(
        team=team,
        kind=kind,
        amount=amount,
        period=period,
        available_after=budget_of(team.pk).available,
        actor=actor,
        actor_label=label(actor),
        reason=reason[:200],
        key=key,
    )
    bus.publish_balance(team.pk)
    return entry


def add_granted(team_id: int, delta: int) -> bool:
    """Move what is granted, by delta; False where that would take what is held or spent."""
    enough = Budget.objects.filter(pk=team_id, granted__gte=F("held") + F("spent") - delta)
    return bool(enough.update(granted=F("granted") + delta))
