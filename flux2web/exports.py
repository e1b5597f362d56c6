"""Files that take a while to make: asked for on a page, made row by row by an actor, fetched, and gone after a week.

The row is the queue of record: `due_at` is the lease of whoever makes it. A maker that dies leaves it due, and the next
one begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from time import sleep
from typing import IO, Any

import structlog
from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from . import access, files, notices, queries, sheets
from .files import Progress
from .models import Entry, Export, Membership, Role, Team, User, write
from .models.base import new_token
from .orders import Refusal
from .queries import LedgerFilter

log = structlog.get_logger(__name__)
LEASE_S = 60  # renewed every ROWS_AT_ONCE rows
STORE_LEASE_S = 600  # while the whole file goes to storage
ROWS_AT_ONCE = 1000
TRY_AFTER_S = (0, 2, 10)  # a disk or a database may be away for a moment
GIVE_UP_AFTER = timedelta(days=1)  # whatever kills its makers, it will not be made
KEPT = timedelta(days=7)
LIVE_MAX = 3  # of one person
LIVE = (Export.State.WAITING, Export.State.RUNNING)

# Writes the whole file for this member and returns how many rows it has. What it tells the progress of may raise LeaseLost.
Writer = Callable[[Membership, Mapping[str, Any], Path, Progress], int]


class LeaseLost(Exception):
    """Somebody else makes this file now, or nobody wants it any more."""


# --- What can be made ----------------------------------------------------------------------------------------------

# Added up, the in columns less the out columns are the budget's sums: granted, held and spent.
LEDGER_HEADER = (
    *("time", "kind", "credits", "granted_in", "granted_out", "held_in", "held_out", "spent_in", "spent_out"),
    *("available_after", "member", "task", "actor", "reason", "key"),
)
MOVES = ("granted_in", "granted_out", "held_in", "held_out", "spent_in", "spent_out")


def ledger_row(entry: Entry) -> list[object]:
    """One line of the ledger as a sheet has it: no number is below zero, so none is taken for a formula."""
    moves = _moves(entry)
    return [
        entry.created.astimezone(UTC).isoformat(),
        "adjust down" if entry.amount < 0 else entry.kind,
        abs(entry.amount),
        *(moves.get(name, 0) for name in MOVES),
        entry.available_after,
        entry.task.user if entry.task else "",
        entry.task_id,
        entry.actor_label,
        entry.reason,
        entry.key,
    ]


def _moves(entry: Entry) -> dict[str, int]:
    amount, price = entry.amount, entry.task.price_credits if entry.task else 0
    match Entry.Kind(entry.kind):
        case Entry.Kind.GRANT:
            return {"granted_in": amount}
        case Entry.Kind.REVOKE:
            return {"granted_out": amount}
        case Entry.Kind.ADJUST:
            return {"granted_in": amount} if amount > 0 else {"granted_out": -amount}
        case Entry.Kind.HOLD:
            return {"held_in": amount}
        case Entry.Kind.SETTLE:
            return {"held_out": price, "spent_in": amount}
        case Entry.Kind.RELEASE:
            return {"held_out": price}
        case Entry.Kind.REFUND:
            return {"spent_out": amount}


def ledger_query(only: LedgerFilter) -> dict[str, Any]:
    """A filter as it is kept with the export."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(only).items()}


def _ledger_filter(query: Mapping[str, Any]) -> LedgerFilter:
    moments = {name: parse_datetime(query[name]) if query.get(name) else None for name in ("since", "until")}
    kinds = tuple(query.get("kinds", ()))
    return LedgerFilter(kinds=kinds, actor=query.get("actor"), task=query.get("task"), **moments)


def _ledger(member: Membership, query: Mapping[str, Any], path: Path, progress: Progress) -> int:
    """All rows, ROWS_AT_ONCE in memory."""
    rows = map(ledger_row, _entries(member.team, _ledger_filter(query)))
    done = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for line in sheets.lines(LEDGER_HEADER, _counted(rows, progress)):
            file.write(line)
            done += 1
    return done - 1


def _counted(rows: Iterator[Sequence[object]], progress: Progress) -> Iterator[Sequence[object]]:
    """The rows, and word of how many there were so far."""
    done = 0
    while page := list(islice(rows, ROWS_AT_ONCE)):
        yield from page
        done += len(page)
        progress(done)


def _entries(team: Team, only: LedgerFilter) -> Iterator[Entry]:
    cursor = None
    while True:
        page = queries.ledger_page(team, cursor, ROWS_AT_ONCE, only)
        yield from page.rows
        cursor = page.next
        if cursor is None:
            return


@dataclass(frozen=True)
class Kind:
    """Who may have such a file, what writes it, and what it is."""

    role: Role
    writer: Writer
    extension: str
    mime: str
    unit: str  # what a row of it is


KINDS = {
    "ledger": Kind(Role.ADMIN, _ledger, "csv", "text/csv", "line"),
    "zip": Kind(Role.VIEWER, files.write_zip, "zip", "application/zip", "picture"),
    "manifest-csv": Kind(Role.VIEWER, files.write_csv, "csv", "text/csv", "picture"),
    "manifest-json": Kind(Role.VIEWER, files.write_json, "json", "application/json", "picture"),
}

# --- Asking --------------------------------------------------------------------------------------------------------


def start(
    user: User, team: Team, kind: str, query: dict[str, Any], name: str, rows: int | None = None
) -> Export | Refusal:
    """A row for an actor to take, of so many rows where that is known. One that is under way already, and the same, is it."""
    with write():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)  # a button pressed twice at once queues here
        live = list(Export.objects.filter(user=user, state__in=LIVE))
        same = [row for row in live if (row.team_id, row.kind, row.query) == (team.pk, kind, _plain(query))]
        if same:
            return same[0]
        if len(live) >= LIVE_MAX:
            return Refusal("conflict", "", f"{LIVE_MAX} files of yours are being made. Wait until one is ready.")
        return Export.objects.create(user=user, team=team, kind=kind, query=_plain(query), name=name, rows_total=rows)


def _plain(query: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in query.items()}


def mine(member: Membership, limit: int = 50) -> list[Export]:
    """For the list; what they were asked for, ten thousand ids perhaps, is left where it is."""
    rows = Export.objects.filter(user=member.user, team=member.team).defer("query")
    return list(rows.order_by("-created", "-id")[:limit])


def may_have(member: Membership, export: Export) -> bool:
    """Roles change: who asked for it as an admin does not fetch it as a viewer."""
    return access.ORDER.index(Role(member.role)) >= access.ORDER.index(KINDS[export.kind].role)


def ready(member: Membership, export_id: int) -> Export | None:
    """A finished file of this member's, in this team, that they may still have."""
    rows = Export.objects.filter(user=member.user, team=member.team, state=Export.State.DONE)
    found = rows.filter(pk=export_id, expires_at__gt=timezone.now()).first()
    return found if found and may_have(member, found) else None


# --- Making --------------------------------------------------------------------------------------------------------


def due(now: datetime) -> list[int]:
    """For the clock: those that nobody makes."""
    return list(Export.objects.filter(due_at__lte=now).order_by("due_at").values_list("pk", flat=True)[:100])


def run(export_id: int) -> None:
    """Make one file, if it is due. Safe to call any number of times, by anyone."""
    making = _claim(export_id)
    if making is None:
        return
    try:
        _make(making)
    except LeaseLost:
        log.info("export left to another", export=export_id)


@dataclass
class _Making:
    """An export and the lease under which we make it: whoever holds another one is not us."""

    export: Export
    lease: datetime

    def renew(self, lease_s: float = LEASE_S, **columns: object) -> None:
        """Write down how far we are. Raises LeaseLost."""
        lease = timezone.now() + timedelta(seconds=lease_s)
        with write():
            if not self._rows().update(due_at=lease, **columns):
                raise LeaseLost
        self.lease = lease

    def end(self, state: str, **columns: object) -> None:
        """In the caller's transaction. Raises LeaseLost."""
        expires = timezone.now() + KEPT
        if not self._rows().update(state=state, due_at=None, expires_at=expires, **columns):
            raise LeaseLost

    def _rows(self):
        return Export.objects.filter(pk=self.export.pk, state=Export.State.RUNNING, due_at=self.lease)


def _claim(export_id: int) -> _Making | None:
    now = timezone.now()
    lease = now + timedelta(seconds=LEASE_S)
    rows = Export.objects.filter(pk=export_id, state__in=LIVE, due_at__lte=now)
    with write():
        if not rows.update(state=Export.State.RUNNING, due_at=lease, rows_done=0):
            return None
    return _Making(Export.objects.select_related("user", "team").get(pk=export_id), lease)


def _make(making: _Making) -> None:
    member = _member(making.export)
    problem = _why_not(making.export, member)
    if member is None or problem:
        return _fail(making, problem)
    for wait_s in TRY_AFTER_S:
        sleep(wait_s)
        try:
            making.renew(rows_done=0)
            return _write_and_store(making, member)
        except LeaseLost:
            raise
        except files.TooMuch as error:
            problem = str(error)
            break
        except Exception as error:  # whatever it was: the row must not stay "being made" for ever
            log.warning("export failed", export=making.export.pk, error=repr(error))
            problem = "It could not be made just now. Ask for it again in a while."
    _fail(making, problem)


def _member(export: Export) -> Membership | None:
    """Who asked for it, as they stand now."""
    rows = Membership.objects.select_related("team", "user").filter(user__is_active=True, team__closed_at=None)
    return rows.filter(team=export.team, user=export.user).first()


def _why_not(export: Export, member: Membership | None) -> str:
    """Asking and making are some time apart."""
    if member is None or not may_have(member, export):
        return "You may not see this any more. Ask an admin of the team."
    if export.created < timezone.now() - GIVE_UP_AFTER:
        return "It could not be made in a day. Ask for less at once."
    return ""


def _write_and_store(making: _Making, member: Membership) -> None:
    path = _draft(making.export)
    try:
        writer = KINDS[making.export.kind].writer
        rows = writer(member, making.export.query, path, lambda done: making.renew(rows_done=done))
        size = path.stat().st_size
        making.renew(STORE_LEASE_S, rows_done=rows)
        with path.open("rb") as file:
            key = store(making.export, file)
    finally:
        path.unlink(missing_ok=True)
    try:
        _done(making, key, size)
    except LeaseLost:
        default_storage.delete(key)
        raise


def _draft(export: Export) -> Path:
    """Where it is written. What a maker who was killed left there is gigabytes perhaps: away with it."""
    folder = Path(settings.SPOOL_DIR) / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{export.pk}-*"):
        left.unlink(missing_ok=True)
    return folder / f"{export.pk}-{new_token()}"


def store(export: Export, file: IO[bytes]) -> str:
    """Private: only our own page hands it out. The name is beyond guessing all the same."""
    name = f"{export.pk}-{new_token()}.{KINDS[export.kind].extension}"
    return default_storage.save(f"exports/{export.team_id or 0}/{name}", File(file))


def _done(making: _Making, key: str, size_bytes: int) -> None:
    with write():
        making.end(Export.State.DONE, key=key, size_bytes=size_bytes)
        _tell(making.export, "good", f"{making.export.name} is ready to save.")


def _fail(making: _Making, problem: str) -> None:
    with write():
        making.end(Export.State.FAILED, problem=problem[:200])
        _tell(making.export, "bad", f"{making.export.name}: {problem}")


def _tell(export: Export, tone: str, text: str) -> None:
    team = export.team
    url = reverse("exports", args=[team.slug]) if team else ""
    notices.tell(export.user, key=f"export:{export.pk}", text=text, url=url, tone=tone, team=team)


# --- Forgetting ----------------------------------------------------------------------------------------------------


def forget_expired(now: datetime) -> int:
    """For the clock: files whose week is over, and their rows. Returns how many."""
    rows = list(Export.objects.filter(due_at=None, expires_at__lte=now)[:100])
    for row in rows:
        try:
            if row.key:
                default_storage.delete(row.key)
        except Exception as error:  # boto's errors share no base with OSError: the next round tries again
            log.warning("export not deleted", export=row.pk, error=repr(error))
            continue
        row.delete()
    return len(rows)
