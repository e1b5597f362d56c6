"""Reads that join: live cards, history, ledger. Each takes a constant number of queries, however many rows there are."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from django.core.cache import cache
from django.db.models import Model, Prefetch, Q, QuerySet
from django.utils.dateparse import parse_datetime

from .access import tasks as visible_tasks
from .models import Entry, Membership, State, Task, TaskReference, Team

Row = TypeVar("Row", bound=Model)
HAVE_MAX = 200  # cards a page may ask about at once
NEWER_MAX = 250  # and new ones it is told of
USUAL_SAMPLE = 50
USUAL_CACHE_S = 30


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some rows, newest first, and the cursor of the next page, None on the last."""

    rows: list[Row]
    next: str | None


def with_card(rows: QuerySet[Task]) -> QuerySet[Task]:
    """Everything that a card shows, in two queries."""
    references = TaskReference.objects.select_related("reference")
    return rows.select_related("team", "user", "account", "result").prefetch_related(
        Prefetch("task_references", queryset=references)
    )


def newest_first(rows: QuerySet[Row]) -> QuerySet[Row]:
    return rows.order_by("-created", "-id")


def cards(member: Membership, limit: int = 24) -> list[Task]:
    """What the studio opens with."""
    return list(newest_first(with_card(visible_tasks(member)))[:limit])


def card_task(task_id: int) -> Task | None:
    return with_card(Task.objects.filter(pk=task_id)).first()


def cards_since(member: Membership, have: dict[int, int], after: tuple[datetime, int] | None) -> list[Task]:
    """The cards of a page that are out of date, and those newer than its newest. `have` is {task id: version shown}."""
    rows = newest_first(with_card(visible_tasks(member)))
    found = {task.pk: task for task in [*_newer(rows, after), *rows.filter(pk__in=list(have)[:HAVE_MAX])]}
    return [task for task in found.values() if have.get(task.pk, 0) < task.version]


def _newer(rows: QuerySet[Task], after: tuple[datetime, int] | None) -> QuerySet[Task]:
    """Apart from the known ones: however many came since, they must not push those out of the answer."""
    if after is None:
        return rows.none()
    created, task_id = after
    return rows.filter(Q(created__gt=created) | Q(created=created, pk__gt=task_id))[:NEWER_MAX]


def history(member: Membership, cursor: str | None = None, limit: int = 40) -> Page[Task]:
    return page_of(with_card(visible_tasks(member)), cursor, limit)


def ledger_page(team: Team, cursor: str | None = None, limit: int = 50) -> Page[Entry]:
    return page_of(Entry.objects.filter(team=team).select_related("task", "actor"), cursor, limit)


def page_of(rows: QuerySet[Row], cursor: str | None, limit: int) -> Page[Row]:
    """One page by keyset on (created, id): as quick at depth as at the start, and no row is skipped on equal times."""
    place = read_cursor(cursor)
    if place is not None:
        created, row_id = place
        rows = rows.filter(Q(created__lt=created) | Q(created=created, pk__lt=row_id))
    found = list(newest_first(rows)[: limit + 1])
    return Page(found[:limit], write_cursor(found[limit - 1]) if len(found) > limit else None)


def write_cursor(row: Model) -> str:
    return f"{row.created.isoformat()},{row.pk}"  # type: ignore[attr-defined]


def read_cursor(text: str | None) -> tuple[datetime, int] | None:
    """A (created, id) out of a query string; None for anything that is not one."""
    created, _, row_id = (text or "").replace(" ", "+").partition(",")
    try:
        moment = parse_datetime(created)
        moment = moment.astimezone(UTC) if moment and moment.tzinfo else None
    except (ValueError, OverflowError):  # the 30th of February; a year 1 that is a year 0 elsewhere
        return None
    if moment is None or not (row_id.isascii() and row_id.isdigit() and len(row_id) < 19):
        return None
    return moment, int(row_id)


def usual_s(provider: str, family: str, default_s: float) -> float:
    """The median seconds of this provider's recent pictures here; `default_s` until there are a few."""
    key = f"usual:{provider}:{family}"
    found = cache.get(key)
    if found is None:
        found = _median(_recent_seconds(provider, family)) or 0.0
        cache.set(key, found, USUAL_CACHE_S)
    return found or default_s


def _recent_seconds(provider: str, family: str) -> list[float]:
    rows = Task.objects.filter(account__provider=provider, family=family, state=State.DONE, provider_s__isnull=False)
    found = rows.order_by("-id").values_list("provider_s", flat=True)[:USUAL_SAMPLE]
    return [seconds for seconds in found if seconds is not None]


def _median(seconds: Sequence[float]) -> float | None:
    return statistics.median(seconds) if len(seconds) >= 3 else None
