"""Whose turn it is, among tasks that wait for one provider's throttle or ceiling. Reads only.

Fair by team, then by member: who had the least of the last minute goes first; of one member's, the oldest. So a member
with 5,000 waiting delays another's first by one turn. A task that was never kept waiting costs one look at an empty index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from django.db.models import Count, F, Min, Q, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from .models import State, Task
from .models.tasks import IN_FLIGHT

RECENT_S = 60
PLACES_SHOWN = 9  # "9th of yours"; further back it says so without a number


def first(task_id: int) -> int:
    """The task that should have the turn that `task_id` came for: itself, unless one in line has a better claim."""
    row = (
        Task.objects.filter(pk=task_id, state=State.QUEUED).values_list("quoted_provider", "team_id", "user_id").first()
    )
    oldest = _oldest_in_line(row[0]) if row else {}
    if not row or not oldest:
        return task_id
    provider, team_id, user_id = row
    oldest[team_id, user_id] = min(task_id, oldest.get((team_id, user_id), task_id))
    teams, members = _served(provider)
    return min(oldest.items(), key=lambda item: (teams[item[0][0]], members[item[0]], item[1]))[1]


def _oldest_in_line(provider: str) -> dict[tuple[int, int | None], int]:
    """Each waiting member's oldest task, by (team, member)."""
    rows = in_line(provider).order_by().values("team_id", "user_id").annotate(oldest=Min("id"))
    return {(row["team_id"], row["user_id"]): row["oldest"] for row in rows}


def in_line(provider: str):
    return Task.objects.filter(in_line=True, quoted_provider=provider)


def _served(provider: str) -> tuple[Counter, Counter]:
    """What each team, and each member of one, had of this provider: in its hands now, or begun in the last minute."""
    recent = Q(state__in=IN_FLIGHT) | Q(accepted_at__gte=timezone.now() - timedelta(seconds=RECENT_S))
    rows = Task.objects.filter(recent, account__provider=provider).order_by().values("team_id", "user_id")
    teams: Counter = Counter()
    members: Counter = Counter()
    for row in rows.annotate(total=Count("id")):
        teams[row["team_id"]] += row["total"]
        members[row["team_id"], row["user_id"]] += row["total"]
    return teams, members


def place(task: Task) -> int:
    """1 for the next of this member's in line, 2 for the one after it; 0 where it is not in line, or too far back."""
    if not task.in_line:
        return 0
    before = _of(task).filter(pk__lt=task.pk)[:PLACES_SHOWN].count()
    return before + 1 if before < PLACES_SHOWN else 0


def places(tasks: Iterable[Task]) -> dict[int, int]:
    """The place of each that has one, by id: one query for all of them, none where nobody is in line."""
    waiting = [task for task in tasks if task.in_line]
    if not waiting:
        return {}
    mates = Task.objects.filter(in_line=True, team__in={task.team_id for task in waiting})
    mates = mates.filter(Q(user__in={task.user_id for task in waiting}) | Q(user=None))
    whose = [F("quoted_provider"), F("team_id"), F("user_id")]
    numbered = mates.annotate(place=Window(RowNumber(), partition_by=whose, order_by=F("pk").asc()))
    return dict(numbered.filter(place__lte=PLACES_SHOWN).values_list("pk", "place"))


def behind(task: Task) -> list[int]:
    """The tasks whose place changes when this one goes: as many as show a number."""
    return list(_of(task).filter(pk__gt=task.pk).order_by("pk").values_list("pk", flat=True)[:PLACES_SHOWN])


def _of(task: Task):
    return in_line(task.quoted_provider).filter(team_id=task.team_id, user_id=task.user_id)
