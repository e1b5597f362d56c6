"""The team's shelf of prompts: kept under a title, filled in again and again, and what came of it. Carried as CSV.

What a prompt made is told by the batches that were sent from it; nothing is counted here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import IntegrityError
from django.db.models import Avg, Count, Exists, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from . import access, history, prompts, search, sheets
from .history import Filters
from .models import Batch, Membership, Result, SavedPrompt, State, Task, write
from .providers.base import PROMPT_MAX, PROMPT_MIN, REFERENCES_MAX

TITLE_MAX_CHARS = 80
SHELF_MAX = 2000  # prompts of one team
PAGE = 24
SETTINGS = (
    "family",
    "aspect_ratio",
    "resolution",
    "count",
    "provider",
    "seed",
    "output_format",
    "safety_tolerance",
)  # of the compose form, kept as they were typed
SETTING_MAX_CHARS = 20
TAKEN = "There is a prompt called “{}” already. Choose another title, or change that one."
FULL = f"The shelf holds {SHELF_MAX:,} prompts. Take one off the shelf first that nobody uses."
GONE = "This prompt is not on the shelf any more."
MAY_NOT = "Only who put it there, or a team admin, can change this prompt."
NOT_FROM_IT = "What stands in the form was not begun from this prompt. Nothing was changed: save it as a new one."


class Refused(Exception):
    """What was given does not do; the message says to people what would."""


# --- Putting there, changing, taking away ----------------------------------------------------------------------------


def may_change(member: Membership, row: SavedPrompt) -> bool:
    return member.may_make and (member.may_manage or row.user_id == member.user_id)


def save(
    member: Membership, *, title: str, text: str, settings: dict[str, Any], references: Sequence[int]
) -> SavedPrompt:
    row = SavedPrompt(team=member.team, user=member.user, title=title, text=text)
    row.settings, row.references = _settings(settings), list(references)[:REFERENCES_MAX]
    with write():
        if access.saved_prompts(member).filter(title=title).exists():
            raise Refused(TAKEN.format(title))
        if access.saved_prompts(member).count() >= SHELF_MAX:
            raise Refused(FULL)
        return _insert(row)


def _insert(row: SavedPrompt) -> SavedPrompt:
    try:
        with write():
            row.save(force_insert=True)
    except IntegrityError:  # somebody else chose the same title just now
        raise Refused(TAKEN.format(row.title)) from None
    return row


def _settings(given: dict[str, Any]) -> dict[str, str]:
    said = {name: prompts.storable(given.get(name) or "")[:SETTING_MAX_CHARS] for name in SETTINGS}
    return {name: value for name, value in said.items() if value}


def change(member: Membership, row: SavedPrompt, *, title: str, text: str) -> None:
    """Its title and its words. Who may, the caller has asked."""
    try:
        _update(member, row, title=title, text=text)
    except IntegrityError:
        raise Refused(TAKEN.format(title)) from None


def fill(
    member: Membership, row: SavedPrompt, *, text: str, settings: dict[str, Any], references: Sequence[int]
) -> None:
    """All but its title: as a compose form has it now."""
    if problem := text_problem(text):
        raise Refused(problem)
    _update(member, row, text=text, settings=_settings(settings), references=list(references)[:REFERENCES_MAX])


def _update(member: Membership, row: SavedPrompt, **fields: Any) -> None:
    with write():
        if not access.saved_prompts(member).filter(pk=row.pk).update(**fields, changed=timezone.now()):
            raise Refused(GONE)


def delete(member: Membership, row: SavedPrompt) -> None:
    """The pictures made from it stay. Of one that is gone already: it is what was asked for.

    First it is ours: a press that names it at this moment comes before us, or finds it gone.
    """
    with write():
        same = access.saved_prompts(member).filter(pk=row.pk)
        if same.select_for_update():
            same.delete()


# --- Looking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A prompt with what came of it: presses, pictures that ended, of them good ones, and what a good one cost."""

    row: SavedPrompt
    face: Task | None
    uses: int
    done: int
    ended: int
    mean_credits: float | None

    @property
    def share_percent(self) -> int | None:
        return round(100 * self.done / self.ended) if self.ended else None

    @property
    def variables(self) -> list[str]:
        return prompts.variables(self.row.text)

    @property
    def settings(self) -> list[str]:
        """Those that one wants to know before using it."""
        known = self.row.settings
        images = len(self.row.references)
        said = [known.get("family", "").title(), known.get("resolution", ""), known.get("aspect_ratio", "")]
        return [*filter(None, said), *([f"{images} image{'' if images == 1 else 's'}"] if images else [])]


class Page(NamedTuple):
    lines: list[Line]
    next: str  # where the next page begins; "" where this is the last


def page(member: Membership, text: str = "", after: str = "") -> Page:
    """The newest changes first, those with all of these words."""
    rows = list(_matching(_beyond(access.saved_prompts(member), after), text, PAGE + 1))
    more = f"{rows[PAGE - 1].changed.isoformat()},{rows[PAGE - 1].pk}" if len(rows) > PAGE else ""
    return Page(lines(member, rows[:PAGE]), more)


def _beyond(rows: QuerySet[SavedPrompt], after: str) -> QuerySet[SavedPrompt]:
    place = history.read_place("newest", after)
    rows = rows.select_related("user").order_by("-changed", "-id")
    return rows.filter(Q(changed__lt=place[0]) | Q(changed=place[0], pk__lt=place[1])) if place else rows


def _matching(rows: QuerySet[SavedPrompt], text: str, most: int) -> Iterable[SavedPrompt]:
    """Looked through here, not in the database: a shelf is small, and both databases then find the same."""
    words = search.parse(text)
    if not words:
        return rows[:most]
    found: list[SavedPrompt] = []
    for row in rows.iterator(chunk_size=200):
        if _has(f"{row.title} {row.text}", words.phrases):
            found.append(row)
        if len(found) >= most:
            break
    return found


def _has(text: str, phrases: Iterable[Sequence[str]]) -> bool:
    """As the search of pictures has it: a word finds what begins with it, words in quotes each other in their order."""
    said = " " + " ".join(search.fold(text)) + " "
    return all(f" {' '.join(phrase)}{'' if len(phrase) == 1 else ' '}" in said for phrase in phrases)


def lines(member: Membership, rows: Sequence[SavedPrompt]) -> list[Line]:
    """With what came of each: three queries, however many there are."""
    ids = [row.pk for row in rows]
    uses = dict(Batch.objects.filter(saved_prompt__in=ids).values_list("saved_prompt").annotate(Count("pk")))
    ended, faces = _ended(ids), _faces(member, ids)
    empty = {"done": 0, "ended": 0, "mean": None}
    return [_line(row, faces.get(row.pk), uses.get(row.pk, 0), ended.get(row.pk, empty)) for row in rows]


def _line(row: SavedPrompt, face: Task | None, uses: int, ended: dict[str, Any]) -> Line:
    return Line(row, face, uses, ended["done"], ended["ended"], ended["mean"])


def _ended(ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    done = Q(state=State.DONE)
    cost = Avg(F("charged_credits") - F("refunded_credits"), filter=done)
    rows = Task.objects.filter(batch__saved_prompt__in=ids).values("batch__saved_prompt")
    found = rows.annotate(
        done=Count("pk", filter=done), ended=Count("pk", filter=done | Q(state=State.FAILED)), mean=cost
    )
    return {row["batch__saved_prompt"]: dict(row) for row in found}


def _faces(member: Membership, ids: Sequence[int]) -> dict[int, Task]:
    """The newest finished picture of each that this member may see."""
    shown = Exists(Result.objects.filter(task=OuterRef("pk"), purged_at=None, lost_at=None))
    seen = access.tasks(member).filter(shown, state=State.DONE, batch__saved_prompt=OuterRef("pk")).order_by("-pk")
    newest = SavedPrompt.objects.filter(pk__in=ids).annotate(face=Coalesce(Subquery(seen.values("pk")[:1]), Value(0)))
    by_prompt = dict(newest.values_list("pk", "face"))
    tasks = access.tasks(member).select_related("result").in_bulk(set(by_prompt.values()))
    return {pk: tasks[face] for pk, face in by_prompt.items() if face in tasks}


# --- What this member wrote before -------------------------------------------------------------------------------------

EARLIER_MAX = 100
READ_MAX = 2000  # of one's newest pictures: one press may have made 64 of the same words
SEARCH_PAGES = 5


class Earlier(NamedTuple):
    """A prompt as it was sent, and the newest picture that was asked for with it."""

    task_id: int
    text: str


def earlier(member: Membership, text: str = "") -> list[Earlier]:
    """This member's own prompts, each once, the newest first; with words, those of the whole history that have them."""
    found: dict[str, Earlier] = {}
    for task_id, prompt in _searched(member, text) if search.parse(text) else _newest(member):
        found.setdefault(prompt, Earlier(task_id, prompt))
        if len(found) >= EARLIER_MAX:
            break
    return list(found.values())


def _newest(member: Membership) -> Iterator[tuple[int, str]]:
    rows = access.tasks(member).filter(user=member.user_id).order_by("-created", "-id")
    yield from rows.values_list("pk", "prompt")[:READ_MAX].iterator(chunk_size=200)


def _searched(member: Membership, text: str) -> Iterator[tuple[int, str]]:
    filters, cursor = Filters(tab="mine", text=text), None
    for _ in range(SEARCH_PAGES):
        found = history.page(member, filters, cursor, limit=EARLIER_MAX)
        yield from ((task.pk, task.prompt) for task in found.rows)
        cursor = found.next
        if cursor is None:
            return


# --- As CSV ------------------------------------------------------------------------------------------------------------

SHEET_MAX_BYTES, SHEET_ROWS_MAX = 2**20, 1000
COLUMNS = ("title", "text", *SETTINGS)
PROBLEMS_SHOWN = 20
IsSetting = Callable[[str, str], bool]


def sheet(member: Membership) -> Iterator[str]:
    rows = access.saved_prompts(member).order_by("title", "pk").iterator(chunk_size=200)
    said = ((row.title, row.text, *(row.settings.get(name, "") for name in SETTINGS)) for row in rows)
    return sheets.lines(COLUMNS, said)


class BadSheet(Exception):
    """Nothing of it was taken in; `problems` say why, line by line."""

    def __init__(self, *problems: str) -> None:
        super().__init__(problems[0])
        self.problems = list(problems)


def take_in(member: Membership, data: bytes, is_setting: IsSetting) -> tuple[int, int]:
    """All of its rows, or none: how many are new, and how many were there and are changed. `is_setting` knows which
    values the compose form takes."""
    given = _read(data)
    with write():
        known = {row.title: row for row in access.saved_prompts(member)}
        problems = [f"Line {line}: {problem}" for line, row in given for problem in _wrong_with(row, is_setting)]
        problems += [f"Line {line}: {MAY_NOT}" for line, row in given if _is_closed(member, known.get(row["title"]))]
        problems += _twice(given)
        fresh = [row for _, row in given if row["title"] not in known]
        if len(known) + len(fresh) > SHELF_MAX:
            problems.append(f"The shelf holds {SHELF_MAX:,} prompts; this would make {len(known) + len(fresh):,}.")
        if problems:
            raise BadSheet(*_shortened(problems))
        return _put_all(member, given, known)


def _read(data: bytes) -> list[tuple[int, dict[str, str]]]:
    """(line number, row) of each; the header says which column is which."""
    if len(data) > SHEET_MAX_BYTES:
        raise BadSheet("This file is larger than 1 MB. Split it.")
    try:
        lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip().lower() for name in next(lines, [])]
        rows = [(lines.line_num, line) for line in lines if any(cell.strip() for cell in line)]
    except UnicodeDecodeError:
        raise BadSheet("This is no CSV file in UTF-8. Save it as “CSV UTF-8” and try again.") from None
    except csv.Error as error:
        raise BadSheet(f"This is no CSV file that can be read ({error}).") from None
    if not {"title", "text"} <= set(header):
        raise BadSheet("The first line has to name the columns: title and text, and any settings beside them.")
    if len(rows) > SHEET_ROWS_MAX:
        raise BadSheet(f"{len(rows):,} rows; {SHEET_ROWS_MAX:,} at most. Split the file.")
    return [(number, _row(header, line)) for number, line in rows]


def _row(header: Sequence[str], line: Sequence[str]) -> dict[str, str]:
    said = {name: sheets.plain(cell).replace("\r\n", "\n").strip() for name, cell in zip(header, line, strict=False)}
    return {"title": "", "text": "", **said}


def _wrong_with(row: dict[str, str], is_setting: IsSetting) -> Iterator[str]:
    yield from filter(None, (title_problem(row["title"]), text_problem(row["text"])))
    for name, value in _settings(row).items():
        if not is_setting(name, value):
            yield f"“{value}” is no {name.replace('_', ' ')}."


def _is_closed(member: Membership, there: SavedPrompt | None) -> bool:
    return there is not None and not may_change(member, there)


def title_problem(title: str) -> str:
    if not title:
        return "Give it a title."
    if len(title) > TITLE_MAX_CHARS:
        return f"A title has {TITLE_MAX_CHARS} characters at most; this has {len(title):,}."
    return "" if title.isprintable() and "\ufffd" not in title else "The title has a character that cannot be shown."


def text_problem(text: str) -> str:
    if not PROMPT_MIN <= len(text) <= PROMPT_MAX:
        return f"A prompt has {PROMPT_MIN} to {PROMPT_MAX:,} characters; this has {len(text):,}."
    if "\ufffd" in text or prompts.storable(text) != text:
        return "The prompt has a broken character. Type it again."
    return ""


def _twice(given: Sequence[tuple[int, dict[str, str]]]) -> Iterator[str]:
    first: dict[str, int] = {}
    for number, row in given:
        if first.setdefault(row["title"], number) != number and row["title"]:
            yield f"Line {number}: “{row['title'][:TITLE_MAX_CHARS]}” stands in line {first[row['title']]} already."


def _shortened(problems: list[str]) -> list[str]:
    more = len(problems) - PROBLEMS_SHOWN
    return [*problems[:PROBLEMS_SHOWN], f"And {more:,} more."] if more > 0 else problems


def _put_all(
    member: Membership, given: Sequence[tuple[int, dict[str, str]]], known: dict[str, SavedPrompt]
) -> tuple[int, int]:
    fresh: list[SavedPrompt] = []
    changed: list[SavedPrompt] = []
    now = timezone.now()
    for _, said in given:
        row = known.get(said["title"]) or SavedPrompt(team=member.team, user=member.user, title=said["title"])
        row.text, row.settings, row.changed = said["text"], _settings(said), now
        (changed if row.pk else fresh).append(row)
    try:
        with write():
            SavedPrompt.objects.bulk_create(fresh)
            SavedPrompt.objects.bulk_update(changed, ["text", "settings", "changed"], batch_size=200)
    except IntegrityError:
        raise BadSheet("Somebody changed the shelf at the same moment. Nothing was taken in; try again.") from None
    return len(fresh), len(changed)
