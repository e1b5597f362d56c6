"""The team's pictures, found: filters, words, orders, pages. One read model for grid, arrows, bulk acts and files.

Every page is read by keyset, in an index that has its order; nothing is counted and nothing is skipped over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet

from . import access, queries, search
from .models import CollectionItem, Favourite, Membership, State, Task, TaskTag
from .search import Words

TABS = ("team", "mine", "favourites", "trash")
# sort: its columns, and whether they go downward
SORTS: dict[str, tuple[tuple[str, ...], bool]] = {
    "newest": (("created", "id"), True),
    "oldest": (("created", "id"), False),
    "hearts": (("favourites", "created", "id"), True),
    "cost": (("charged_credits", "created", "id"), True),
}
SEARCH_SORTS = ("newest", "oldest")
CHUNK, CHUNKS_MAX = 400, 25  # ids of matching words that are tried against the other filters, and how often
ALL_CHUNK, ALL_CHUNKS_MAX = 2000, 100  # the same, where all that fit are wanted


@dataclass(frozen=True)
class Filters:
    """What somebody looks for. Ids and slugs as chosen; None and empty: whatever. `until` is the first moment after."""

    tab: str = "team"
    text: str = ""
    person: int | None = None
    family: str = ""
    mode: str = ""
    resolution: str = ""
    ratio: str = ""
    provider: str = ""
    state: str = ""
    collection: int | None = None
    tags: tuple[int, ...] = ()
    any_tag: bool = False
    since: datetime | None = None
    until: datetime | None = None
    references: bool | None = None
    liked: bool = False  # by me
    unfiled: bool = False  # in no collection that the member may look at
    cost_min: int | None = None
    cost_max: int | None = None
    sort: str = "newest"
    words: Words = field(default=Words(()), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", search.parse(self.text))


@dataclass(frozen=True)
class Found:
    """A page of pictures, the place where the next one begins, and whether we stopped looking before the end."""

    rows: list[Task]
    next: str | None
    is_cut: bool = False


def page(member: Membership, filters: Filters, cursor: str | None = None, limit: int = 40) -> Found:
    found = _found(member, filters, cursor, limit)
    for task in found.rows:
        task.team = member.team
    return found


def _found(member: Membership, filters: Filters, cursor: str | None, limit: int) -> Found:
    rows = shown(filtered(member, filters)).annotate(is_liked=_is_liked(member))
    if filters.words:
        return _searched(member, rows, filters, cursor, limit)
    if filters.collection is not None or filters.tags or filters.liked or filters.tab == "favourites":
        found = _gathered(member, rows, filters, cursor, limit)
    else:
        found = list(_from(rows, filters.sort, cursor)[: limit + 1])
    return Found(found[:limit], write_place(filters.sort, found[limit - 1]) if len(found) > limit else None)


def _gathered(member: Membership, rows: QuerySet[Task], filters: Filters, cursor: str | None, limit: int) -> list[Task]:
    """What is listed elsewhere (a collection, a tag, one's hearts) has no index of its own in this order and is sorted:
    ids alone, then the tiles of one page. With all that tiles show, 3,000 of a collection took 67 ms (2026-11)."""
    ids = list(_from(filtered(member, filters), filters.sort, cursor).values_list("pk", flat=True)[: limit + 1])
    by_id = rows.in_bulk(ids)
    return [by_id[pk] for pk in ids if pk in by_id]


def shown(rows: QuerySet[Task]) -> QuerySet[Task]:
    """With everything a tile shows, in the same query. The team is known: joined, SQLite would begin with its table and
    sort half a million rows for each page (450 ms, 2026-11)."""
    return rows.select_related("user", "account", "result")


def _is_liked(member: Membership) -> Exists:
    """By this member: looked up for the rows of a page, in the same query."""
    return Exists(Favourite.objects.filter(user=member.user_id, task=OuterRef("pk")))


def filtered(member: Membership, filters: Filters) -> QuerySet[Task]:
    """All that the member may see of what the filters say, words apart. In no order."""
    rows = access.trash(member) if filters.tab == "trash" else access.tasks(member)
    if filters.tab == "mine":
        rows = rows.filter(user_id=member.user_id)
    said = {
        "user_id": filters.person,
        "family": filters.family,
        "resolution": filters.resolution,
        "aspect_ratio": filters.ratio,
        "account__provider": filters.provider,
        "state": filters.state,
        "created__gte": filters.since,
        "created__lt": filters.until,
        "charged_credits__gte": filters.cost_min,
        "charged_credits__lte": filters.cost_max,
    }
    rows = rows.filter(**{name: value for name, value in said.items() if value not in (None, "")})
    return _kept(member, _with_references(rows, filters), filters)


def _with_references(rows: QuerySet[Task], filters: Filters) -> QuerySet[Task]:
    wants = {"text-to-image": False, "image-to-image": True}.get(filters.mode, filters.references)
    if wants is None:
        return rows
    return rows.filter(reference_count__gt=0) if wants else rows.filter(reference_count=0)


def _kept(member: Membership, rows: QuerySet[Task], filters: Filters) -> QuerySet[Task]:
    """Hearts, collections and tags: by the ids that their own tables have."""
    if filters.tab == "favourites" or filters.liked:
        rows = rows.filter(pk__in=Favourite.objects.filter(team=member.team, user=member.user_id).values("task_id"))
    if filters.sort == "hearts":
        rows = rows.filter(favourites__gt=0)
    if filters.sort == "cost":
        rows = rows.filter(state=State.DONE)
    if filters.collection is not None:
        mine = access.collections(member).filter(pk=filters.collection)
        rows = rows.filter(pk__in=CollectionItem.objects.filter(collection__in=mine).values("task_id"))
    if filters.unfiled:
        rows = unfiled(member, rows)
    if filters.tags and filters.any_tag:
        return rows.filter(pk__in=TaskTag.objects.filter(tag__in=filters.tags).values("task_id"))
    for tag in filters.tags:
        rows = rows.filter(pk__in=TaskTag.objects.filter(tag=tag).values("task_id"))
    return rows


def unfiled(member: Membership, rows: QuerySet[Task]) -> QuerySet[Task]:
    """What lies in no collection, as far as this member may know."""
    mine = access.collections(member).values("pk")
    return rows.filter(~Exists(CollectionItem.objects.filter(task=OuterRef("pk"), collection__in=mine)))


# --- Words -----------------------------------------------------------------------------------------------------------


def jump(member: Membership, text: str) -> Task | None:
    """The one task whose whole id was typed, if the member may see it."""
    number = text.strip().removeprefix("#")
    is_id = number.isascii() and number.isdigit() and len(number) < 19
    return access.tasks(member).filter(pk=int(number)).first() if is_id else None


def _searched(member: Membership, rows: QuerySet[Task], filters: Filters, cursor: str | None, limit: int) -> Found:
    """Ids from the words, newest first, tried against the rest until the page is full."""
    upward, found = filters.sort == "oldest", list[Task]()
    place = int(cursor) if cursor and cursor.isascii() and cursor.isdigit() and len(cursor) < 19 else None
    many = limit + 1 if filters == Filters(text=filters.text, sort=filters.sort) else CHUNK
    for _ in range(CHUNKS_MAX):
        ids = search.find(member.team_id, filters.words, beyond=place, upward=upward, limit=many)
        by_id = rows.in_bulk(ids)
        found += [by_id[pk] for pk in ids if pk in by_id]
        if len(found) > limit or len(ids) < many:
            break
        place = ids[-1]
    else:
        return Found(found[:limit], str(place), is_cut=True)
    return Found(found[:limit], str(found[limit - 1].pk) if len(found) > limit else None)


def ids(member: Membership, filters: Filters, most: int) -> list[int]:
    """All that fit, up to `most`, in the order of the pages: for acts on many at once."""
    rows = filtered(member, filters)
    if not filters.words:
        return list(_from(rows, filters.sort, None).values_list("pk", flat=True)[:most])
    upward, found, place = filters.sort == "oldest", list[int](), None
    for _ in range(ALL_CHUNKS_MAX):
        chunk = search.find(member.team_id, filters.words, beyond=place, upward=upward, limit=ALL_CHUNK)
        fitting = set(rows.filter(pk__in=chunk).values_list("pk", flat=True))
        found += [pk for pk in chunk if pk in fitting]
        if len(found) >= most or len(chunk) < ALL_CHUNK:
            break
        place = chunk[-1]
    return found[:most]


# --- Places ------------------------------------------------------------------------------------------------------------


def _from(rows: QuerySet[Task], sort: str, cursor: str | None) -> QuerySet[Task]:
    columns, downward = SORTS[sort]
    place = read_place(sort, cursor)
    if place is not None:
        rows = _beyond(rows, columns, place, downward=downward)
    return rows.order_by(*(f"-{column}" if downward else column for column in columns))


def _beyond(rows: QuerySet[Task], columns: Sequence[str], place: Sequence[object], *, downward: bool) -> QuerySet[Task]:
    """Whole rows compared at once, which both databases look up in an index of these columns; Django 5.2 writes an OR
    of single columns for SQLite, and that reads the index from its start."""
    names = ", ".join(f'"flux2web_task"."{column}"' for column in columns)
    values = [connection.ops.adapt_datetimefield_value(v) if isinstance(v, datetime) else v for v in place]
    marks = ", ".join(["%s"] * len(columns))
    return rows.extra(where=[f"({names}) {'<' if downward else '>'} ({marks})"], params=values)  # noqa: S610 - our own names


def write_place(sort: str, task: Task) -> str:
    """Where a page ended: the values that its order goes by."""
    numbers = [str(getattr(task, column)) for column in SORTS[sort][0][:-2]]
    return ",".join([*numbers, queries.write_cursor(task)])


def read_place(sort: str, text: str | None) -> tuple[object, ...] | None:
    """What write_place wrote; None for anything else, which then begins at the start."""
    parts = (text or "").split(",")
    if len(parts) != len(SORTS[sort][0]):
        return None
    *numbers, created, row_id = parts
    place = queries.read_cursor(f"{created},{row_id}")
    if place is None or not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        return None
    return (*map(int, numbers), *place)


# --- Walking ---------------------------------------------------------------------------------------------------------


def neighbours(member: Membership, filters: Filters, task: Task) -> tuple[int | None, int | None]:
    """The pictures before and after this one in the list that it was opened from."""
    rows = filtered(member, filters).filter(state=State.DONE)
    if filters.words:
        upward = filters.sort == "oldest"
        one, other = (_next_with_words(rows, member, filters, task, upward=way) for way in (not upward, upward))
        return one, other
    columns, downward = SORTS[filters.sort]
    place = [getattr(task, column) for column in columns]
    before = _beyond(rows, columns, place, downward=not downward)
    before = before.order_by(*(column if downward else f"-{column}" for column in columns))
    after = _from(rows, filters.sort, write_place(filters.sort, task))
    return _first_id(before), _first_id(after)


def _next_with_words(
    rows: QuerySet[Task], member: Membership, filters: Filters, task: Task, *, upward: bool
) -> int | None:
    ids = search.find(member.team_id, filters.words, beyond=task.pk, upward=upward, limit=CHUNK)
    fitting = set(rows.filter(pk__in=ids).values_list("pk", flat=True))
    return next((pk for pk in ids if pk in fitting), None)


def _first_id(rows: QuerySet[Task]) -> int | None:
    return rows.values_list("pk", flat=True).first()
