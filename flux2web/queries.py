"""Reads that join: live cards, history, ledger. Each takes a constant number of queries, however many rows there are."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from django.core.cache import cache
from django.db.models import Case, Count, Exists, F, Max, Min, Model, OuterRef, Q, QuerySet, Sum, When
from django.db.models.functions import Coalesce
from django.utils.dateparse import parse_datetime

from .access import tasks as visible_tasks
from .models import LIVE, Entry, Membership, State, Task, Team, one

Row = TypeVar("Row", bound=Model)
HAVE_MAX = 200  # cards a page may ask about at once
NEWER_MAX = 250  # and new ones it is told of
USUAL_SAMPLE = 50
USUAL_CACHE_S = 30
OLD_PAGE = 500


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some rows, newest first, and the cursor of the next page, None on the last."""

    rows: list[Row]
    next: str | None


def with_card(rows: QuerySet[Task]) -> QuerySet[Task]:
    """Everything that a card shows, in one query. `origin` is the picture that it was made from, where all may see that."""
    there = Q(parent__state=State.DONE, parent__deleted_at=None, parent__private=False)
    rows = rows.annotate(origin=Case(When(there, then=F("parent"))))
    return rows.select_related("team", "user", "account", "result")


def newest_first(rows: QuerySet[Row]) -> QuerySet[Row]:
    return rows.order_by("-created", "-id")


def cards(member: Membership, limit: int = 24) -> list[Task]:
    """What the studio opens with."""
    return list(newest_first(with_card(visible_tasks(member)))[:limit])


def card_task(task_id: int) -> Task | None:
    return one(with_card(Task.objects.filter(pk=task_id)))


@dataclass(frozen=True)
class Since:
    """What a page missed: cards that changed or are newer, and ids of its tasks that this member does not see now."""

    cards: list[Task]
    gone: list[int]


def cards_since(member: Membership, have: dict[int, int], after: tuple[datetime, int] | None) -> Since:
    """Of a page that shows `have`, {task id: version}, and whose newest card is `after`."""
    asked, visible = list(have)[:HAVE_MAX], visible_tasks(member)
    there = {pk: rest for pk, *rest in visible.filter(pk__in=asked).values_list("pk", "version", "waits_for")}
    behind = [pk for pk, (version, line) in there.items() if have[pk] < version or (line and have[pk] == version)]
    rows = newest_first(with_card(visible))
    found = {task.pk: task for task in [*_newer(rows, after), *(rows.filter(pk__in=behind) if behind else ())]}
    cards = [task for task in found.values() if task.pk in behind or have.get(task.pk, 0) < task.version]
    return Since(cards, [pk for pk in asked if pk not in there])


def _newer(rows: QuerySet[Task], after: tuple[datetime, int] | None) -> QuerySet[Task]:
    """Apart from the known ones: however many came since, they must not push those out of the answer."""
    if after is None:
        return rows.none()
    created, task_id = after
    return rows.filter(Q(created__gt=created) | Q(created=created, pk__gt=task_id))[:NEWER_MAX]


@dataclass(frozen=True)
class Tally:
    """How the pictures of one batch stand, of those that a member sees. `again` failed and were not tried again since;
    they cost `price` credits the last time. `prompt` is "" where there are several."""

    batch: int
    user: int | None
    stop_after: int | None
    total: int
    done: int
    failed: int
    cancelled: int
    waiting: int
    live: int
    again: int
    price: int
    prompt: str


def tallies(member: Membership, batch_ids: Iterable[int]) -> dict[int, Tally]:
    """By batch, of those that are more than one picture; one query."""
    tried = Exists(Task.objects.filter(parent=OuterRef("pk")))
    rows = visible_tasks(member).filter(batch__in=set(batch_ids)).order_by().annotate(tried=tried)
    again = Q(state=State.FAILED, tried=False)
    found = rows.values("batch_id", "batch__user_id", "batch__stop_after").annotate(
        total=Count("pk"),
        done=Count("pk", filter=Q(state=State.DONE)),
        failed=Count("pk", filter=Q(state=State.FAILED)),
        cancelled=Count("pk", filter=Q(state=State.CANCELLED)),
        waiting=Count("pk", filter=Q(state=State.QUEUED)),
        live=Count("pk", filter=Q(state__in=LIVE)),
        again=Count("pk", filter=again),
        price=Sum("price_credits", filter=again, default=0),
        first=Min("prompt"),
        last=Max("prompt"),
    )
    return {row["batch_id"]: _tally(row) for row in found if row["total"] > 1}


def _tally(row: dict[str, Any]) -> Tally:
    first, last = row.pop("first"), row.pop("last")
    whose = {
        "batch": row.pop("batch_id"),
        "user": row.pop("batch__user_id"),
        "stop_after": row.pop("batch__stop_after"),
    }
    return Tally(**whose, **row, prompt=first if first == last else "")


def page_of(rows: QuerySet[Row], cursor: str | None, limit: int) -> Page[Row]:
    """One page by keyset on (created, id): as quick at depth as at the start, and no row is skipped on equal times."""
    return _page(_older(rows, cursor, limit), limit)


def _older(rows: QuerySet[Row], cursor: str | None, limit: int) -> list[Row]:
    """The next rows, and one more if there is one. Databases take the first condition, not the OR, for where to begin."""
    place = read_cursor(cursor)
    if place is not None:
        created, row_id = place
        rows = rows.filter(created__lte=created).filter(Q(created__lt=created) | Q(pk__lt=row_id))
    return list(newest_first(rows)[: limit + 1])


def _page(found: list[Row], limit: int) -> Page[Row]:
    return Page(found[:limit], write_cursor(found[limit - 1]) if len(found) > limit else None)


def older_than(limit: datetime, rows: QuerySet[Row], moment: str) -> Iterator[list[int]]:
    """Ids of the rows whose `moment` lies before, page by page. By id, which grows with time: the whole is never read to
    find what is old."""
    after = 0
    while page := list(rows.filter(pk__gt=after).order_by("pk").values_list("pk", moment)[:OLD_PAGE]):
        old = [pk for pk, at in page if at < limit]
        if old:
            yield old
        if len(old) < len(page):
            return
        after = page[-1][0]


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
    if (
        moment is None
        or not 1970 <= moment.year < 9999
        or not (row_id.isascii() and row_id.isdigit() and len(row_id) < 19)
    ):
        return None
    return moment, int(row_id)


# --- The ledger ----------------------------------------------------------------------------------------------------

ITSELF = 0  # as an actor: lines that nobody in person wrote
BY_PEOPLE, BY_ITSELF = (Entry.Kind.HOLD,), (Entry.Kind.SETTLE, Entry.Kind.RELEASE)


@dataclass(frozen=True)
class LedgerFilter:
    """Which lines of a ledger. `until` is the first moment after; `actor` is a user's id, or ITSELF."""

    kinds: tuple[str, ...] = ()
    actor: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    task: int | None = None


EVERYTHING = LedgerFilter()


def ledger_page(team: Team, cursor: str | None = None, limit: int = 50, only: LedgerFilter = EVERYTHING) -> Page[Entry]:
    """One page, as quick among a million lines as among a thousand. Several kinds are asked for one by one, because an
    index has the lines of one kind in order, not of two."""
    found = [row for rows in _branches(team, only) for row in _older(rows, cursor, limit)]
    return _page(sorted(found, key=lambda entry: (entry.created, entry.pk), reverse=True)[: limit + 1], limit)


def _branches(team: Team, only: LedgerFilter) -> list[QuerySet[Entry]]:
    rows = Entry.objects.select_related("task__user", "task__result", "actor")
    if only.task is None:
        rows = rows.filter(team=team)
    else:  # a handful of lines: to be found by the task, whatever the planner thinks of the team's index
        rows = rows.alias(plain_team=Coalesce("team", 0)).filter(task=only.task, plain_team=team.pk)
    if only.since:
        rows = rows.filter(created__gte=only.since)
    if only.until:
        rows = rows.filter(created__lt=only.until)
    if not only.kinds:
        return [rows if only.actor is None else rows.filter(actor=only.actor or None)]
    return [_of_kind(rows, kind, only.actor) for kind in only.kinds]


def _of_kind(rows: QuerySet[Entry], kind: str, actor: int | None) -> QuerySet[Entry]:
    """By the index that leads to the fewest lines, whatever the planner believes: what stands inside a function or
    behind a NOT is beyond its indexes. People hold often and do the rest seldom; only flux2web charges and returns."""
    if actor is None:
        return rows.filter(kind=kind)
    if kind in BY_PEOPLE if actor == ITSELF else kind in BY_ITSELF:
        return rows.none()
    if kind == Entry.Kind.HOLD:
        others = [other for other in Entry.Kind if other != Entry.Kind.HOLD]
        return rows.filter(actor=actor).exclude(kind__in=others)
    return rows.alias(plain_actor=Coalesce("actor", ITSELF)).filter(kind=kind, plain_actor=actor)


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
