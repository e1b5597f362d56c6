"""Whose turn it is, among tasks that wait for one account's throttle or ceiling. Reads only.

Fair by team, then by member: who had the least of the last minute goes first; of one member's, the oldest. So a member
with 5,000 waiting delays another's first by one turn. A line is that of the account that will take them, whoever was quoted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from django.db.models import Count, F, Min, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from .models import ProviderAccount, Task
from .models.tasks import IN_FLIGHT

RECENT_S = 60
PLACES_SHOWN = 9  # "9th of yours"; further back it says so without a number


def anybody_waits() -> bool:
    return Task.objects.filter(waits_for__isnull=False).exists()


def first(task: Task, account: ProviderAccount) -> int:
    """Who should have the turn that `task` came for: itself, unless one in line there has a better claim. Its id."""
    oldest, whose = _oldest_in_line(account), (task.team_id, task.user_id)
    if not oldest:
        return task.pk
    oldest[whose] = min(task.pk, oldest.get(whose, task.pk))
    teams, members = _served(account)
    return min(oldest.items(), key=lambda item: (teams[item[0][0]], members[item[0]], item[1]))[1]


def _oldest_in_line(account: ProviderAccount) -> dict[tuple[int, int | None], int]:
    """Each waiting member's oldest task, by (team, member)."""
    rows = in_line(account).order_by().values("team_id", "user_id").annotate(oldest=Min("id"))
    return {(row["team_id"], row["user_id"]): row["oldest"] for row in rows}


def in_line(account: ProviderAccount | int | None) -> QuerySet[Task]:
    return Task.objects.filter(waits_for=account) if account else Task.objects.none()


def _served(account: ProviderAccount) -> tuple[Counter, Counter]:
    """What each team, and each member of one, had of this account: in its hands now, or begun in the last minute."""
    recent = Q(state__in=IN_FLIGHT) | Q(accepted_at__gte=timezone.now() - timedelta(seconds=RECENT_S))
    rows = Task.objects.filter(recent, account=account).order_by().values("team_id", "user_id")
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
    before = _of(task, task.waits_for_id).filter(pk__lt=task.pk)[:PLACES_SHOWN].count()
    return before + 1 if before < PLACES_SHOWN else 0


def places(tasks: Iterable[Task]) -> dict[int, int]:
    """The place of each that has one, by id: one query for all of them, none where nobody is in line."""
    waiting = [task for task in tasks if task.in_line]
    if not waiting:
        return {}
    mates = Task.objects.filter(waits_for__isnull=False, team__in={task.team_id for task in waiting})
    mates = mates.filter(Q(user__in={task.user_id for task in waiting}) | Q(user=None))
    whose = [F("waits_for"), F("team_id"), F("user_id")]
    numbered = mates.annotate(place=Window(RowNumber(), partition_by=whose, order_by=F("pk").asc()))
    return dict(numbered.filter(place__lte=PLACES_SHOWN).values_list("pk", "place"))


def behind(task: Task, account: ProviderAccount) -> list[int]:
    """The tasks whose place in this line changes when this one goes: as many as show a number."""
    return list(_of(task, account).filter(pk__gt=task.pk).order_by("pk").values_list("pk", flat=True)[:PLACES_SHOWN])


def _of(task: Task, account: ProviderAccount | int | None) -> QuerySet[Task]:
    return in_line(account).filter(team_id=task.team_id, user_id=task.user_id)  # type: ignore[misc]
