"""The sandbox's own memory: one small SQLite file and one directory of files, kept over a restart.

One process at a time: who opens the store takes over all work that is not finished.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

KEPT_TASKS = 500
KEPT_UPLOADS = 2000

SCHEMA = """
create table if not exists task (
    n integer primary key autoincrement,
    id text not null unique,
    provider text not null,
    "order" text not null,              -- Order as JSON
    request text not null,              -- the create request as it came, for `param`
    origin text not null,
    created_at real not null,           -- all times: epoch seconds
    ready_at real not null,             -- not finished before
    done_at real,                       -- finished from then on; may lie ahead; null: still to be drawn, or stuck
    file text not null default '',
    size_mp real not null default 0,
    failure text not null default '',   -- generation, moderated, download; or stuck: never finishes
    looks integer not null default 0,
    callbacks_left integer not null default 0,
    callback_tries integer not null default 0,
    callback_at real
);
create index if not exists task_callback on task (callback_at) where callbacks_left > 0;
create index if not exists task_undrawn on task (n) where done_at is null;
create table if not exists upload (name text primary key, created_at real not null);
create table if not exists refused (what text primary key, times integer not null);
"""


@dataclass(frozen=True)
class Order:
    """What a create asks for, in no vendor's words. A reference is an http address, or the name of a stored upload."""

    prompt: str
    references: tuple[str, ...] = ()
    callback_url: str = ""
    aspect_ratio: str = "auto"
    resolution: str = "1K"
    width_px: int | None = None
    height_px: int | None = None
    seed: int | None = None
    output_format: str = "jpeg"
    wishes: frozenset[str] = field(default=frozenset())

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"wishes": sorted(self.wishes)})

    @classmethod
    def from_json(cls, text: str) -> Order:
        raw = json.loads(text)
        return cls(**raw | {"references": tuple(raw["references"]), "wishes": frozenset(raw["wishes"])})


@dataclass(frozen=True)
class Plan:
    """What will become of a task: known at once, except whether its references can be fetched."""

    ready_at: float
    done_at: float | None  # None: is to be drawn first, or never ends
    failure: str
    callbacks: int


@dataclass(frozen=True)
class Task:
    """One row, as it was when read."""

    n: int
    id: str
    provider: str
    order: Order
    request: Any
    origin: str
    created_at: float
    ready_at: float
    done_at: float | None
    file: str
    size_mp: float
    failure: str
    looks: int
    callbacks_left: int
    callback_tries: int
    callback_at: float | None

    @property
    def is_done(self) -> bool:
        return self.done_at is not None and self.done_at <= time.time()

    @property
    def seed(self) -> int:
        """Without a seed every task draws another picture; its number makes the chance repeatable."""
        return self.n if self.order.seed is None else self.order.seed

    @property
    def progress(self) -> float:
        """How much of its time has gone, 0..1."""
        return min(1.0, (time.time() - self.created_at) / max(0.001, self.ready_at - self.created_at))


class Store:
    """Rows and files. Every method is one short transaction and safe in any thread."""

    def __init__(self, state_dir: Path) -> None:
        self.files = state_dir / "sandbox"
        self.files.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(state_dir / "sandbox.sqlite3", check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")  # a power cut may cost the last pretend task: so be it
        self._db.executescript(SCHEMA)
        self._drawing: set[int] = set()  # claimed in this process; forgotten with it, so a restart goes on
        self._calling: set[int] = set()
        self._remove_orphans()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # --- tasks --------------------------------------------------------------------------------------------------------

    def add(
        self, provider: str, task_id: str, order: Order, request: Any, origin: str, plan: Callable[[int], Plan]
    ) -> Task:
        """A new row. `plan` is asked with the row's number, on which chance depends where the order has no seed."""
        with self._lock:
            n = self._db.execute("select coalesce(max(seq), 0) + 1 from sqlite_sequence where name='task'").fetchone()[
                0
            ]
            when = plan(n)
            row = self._db.execute(
                'insert into task (n, id, provider, "order", request, origin, created_at, ready_at, done_at, failure,'
                " callbacks_left, callback_at) values (?,?,?,?,?,?,?,?,?,?,?,?) returning *",
                (
                    *(n, task_id, provider, order.to_json(), json.dumps(request), origin, time.time()),
                    *(when.ready_at, when.done_at, when.failure, when.callbacks, when.done_at),
                ),
            ).fetchone()
        return _task(row)

    def task(self, provider: str, task_id: str) -> Task | None:
        rows = self._read("select * from task where provider=? and id=?", (provider, task_id))
        return rows[0] if rows else None

    def look(self, task: Task) -> int:
        """Counts a status query; says how many there have been."""
        self._write("update task set looks = looks + 1 where n=?", (task.n,))
        return task.looks + 1

    def finish(self, task: Task, *, file: str = "", size_mp: float = 0.0, failure: str = "") -> None:
        """Drawn, or failed for good; shows from `ready_at` on, and the callback is due then."""
        done_at = max(task.ready_at, time.time())
        self._write(
            "update task set file=?, size_mp=?, failure=?, done_at=?, callback_at=? where n=?",
            (file, size_mp, failure, done_at, done_at, task.n),
        )

    def claim_undrawn(self) -> Task | None:
        return self._claim(self._drawing, "done_at is null and failure = '' order by n", ())

    def release_undrawn(self, task: Task) -> None:
        with self._lock:
            self._drawing.discard(task.n)

    def claim_callback(self) -> Task | None:
        return self._claim(
            self._calling, "callbacks_left > 0 and callback_at <= ? order by callback_at", (time.time(),)
        )

    def next_callback_at(self) -> float | None:
        """When the next callback is due that nobody is busy with."""
        with self._lock:
            rows = self._db.execute(
                "select n, callback_at from task where callbacks_left > 0 and callback_at is not null"
                " order by callback_at limit 16"
            )
            return next((row["callback_at"] for row in rows if row["n"] not in self._calling), None)

    def settle_callback(self, task: Task, *, retry_at: float | None) -> None:
        """Delivered or given up (`retry_at` None: the next copy, if any, is due now), or to be tried again then."""
        if retry_at is None:
            change, values = "callbacks_left = callbacks_left - 1, callback_tries = 0, callback_at = ?", (time.time(),)
        else:
            change, values = "callback_tries = callback_tries + 1, callback_at = ?", (retry_at,)
        self._write(f"update task set {change} where n=?", (*values, task.n))  # noqa: S608 - our own two sentences
        with self._lock:
            self._calling.discard(task.n)

    def _claim(self, taken: set[int], where: str, values: tuple[Any, ...]) -> Task | None:
        with self._lock:
            for row in self._db.execute(f"select * from task where {where} limit 16", values):  # noqa: S608 - ours
                if row["n"] not in taken:
                    taken.add(row["n"])
                    return _task(row)
        return None

    # --- refusals that end after a while --------------------------------------------------------------------------------

    def times_refused(self, what: str) -> int:
        """How often this was asked for before; counts this time too."""
        with self._lock:
            row = self._db.execute(
                "insert into refused values (?, 1) on conflict do update set times = times + 1 returning times", (what,)
            ).fetchone()
        return row["times"] - 1

    # --- files --------------------------------------------------------------------------------------------------------

    def write_file(self, name: str, content: bytes) -> None:
        """Whole or not at all: a reader never sees half a picture."""
        part = self.files / f".{secrets.token_hex(8)}.part"
        part.write_bytes(content)
        part.replace(self.files / name)

    def keep_upload(self, name: str, content: bytes) -> None:
        self._write("insert or replace into upload values (?, ?)", (name, time.time()))
        self.write_file(name, content)

    def prune(self) -> None:
        """Forgets the oldest finished tasks and uploads beyond what is kept."""
        with self._lock:
            tasks = self._db.execute(
                "delete from task where callbacks_left = 0 and (done_at < ?1 or created_at < ?1 - 86400) and n <="
                " (select n from task order by n desc limit 1 offset ?2) returning file",
                (time.time(), KEPT_TASKS),
            ).fetchall()
            uploads = self._db.execute(
                "delete from upload where name in (select name from upload order by created_at desc limit -1 offset ?)"
                " returning name",
                (KEPT_UPLOADS,),
            ).fetchall()
        self._remove(row[0] for row in [*tasks, *uploads])

    def _remove_orphans(self) -> None:
        """Files that a crash left without a row."""
        rows = self._db.execute("select file from task union select name from upload").fetchall()
        known = {row[0] for row in rows}
        self._remove(path.name for path in self.files.iterdir() if path.name not in known)

    def _remove(self, names: Iterable[str]) -> None:
        for name in filter(None, names):
            (self.files / name).unlink(missing_ok=True)

    # --- plumbing -----------------------------------------------------------------------------------------------------

    def _read(self, sql: str, values: tuple[Any, ...]) -> list[Task]:
        with self._lock:
            return [_task(row) for row in self._db.execute(sql, values)]

    def _write(self, sql: str, values: tuple[Any, ...]) -> None:
        with self._lock:
            self._db.execute(sql, values)


def _task(row: sqlite3.Row) -> Task:
    values = dict(row)
    values["order"] = Order.from_json(values["order"])
    values["request"] = json.loads(values["request"])
    return Task(**values)
