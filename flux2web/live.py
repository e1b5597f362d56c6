"""Events to browsers: one hub per web process, one render a change, many streams.

Runs on the server's event loop; nothing of the ORM does. Reading and rendering happen on one thread of the hub's own,
signing in on two more. A stream holds no thread and no database connection (a streaming Django view would hold both).
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from math import inf
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth import get_user
from django.db import DatabaseError, close_old_connections, connections
from django.http import Http404, HttpRequest
from django.template.loader import render_to_string

from . import access, bus, cards, queries
from .bus import Hint
from .cards import Card
from .models import Task

log = structlog.get_logger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Hints = queue.SimpleQueue[Hint | None]

PING_S = 15
RECHECK_S = 60  # a stream's right to be open is checked anew this often, and at once on "access changed"
BACKLOG = 256  # events a slow browser may be behind; then it is told to ask for everything
HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


def render_card(task: Task) -> str:
    """One card, the same for every viewer: no form, no token, nothing personal."""
    return _drawn(Card(task))


def render_cards(tasks: Iterable[Task]) -> str:
    return "".join(_drawn(card) for card in cards.of(tasks))


def _drawn(card: Card) -> str:
    return render_to_string("tasks/_card.html", {"task": card.task, "card": card})


def event(name: str, data: str = "") -> bytes:
    lines = "".join(f"data: {line}\n" for line in (data.splitlines() or [""]))
    return f"event: {name}\n{lines}\n".encode()


PING = event("ping")  # an event, not a comment: a page that hears none for long knows that its stream is dead


class Stream:
    """One open browser: a short backlog and a bell."""

    __slots__ = ("backlog", "bell", "checked_at", "closed", "pinger", "sent_at", "slug", "team_id", "user_id")

    def __init__(self, slug: str, user_id: int, team_id: int) -> None:
        self.slug, self.user_id, self.team_id = slug, user_id, team_id
        self.backlog: deque[bytes] = deque()
        self.bell = asyncio.Event()
        self.checked_at = self.sent_at = time.monotonic()
        self.closed = False
        self.ping_in(PING_S)

    def push(self, data: bytes) -> None:
        if len(self.backlog) >= BACKLOG:
            self.backlog.clear()
            data = event("resync")
        self.backlog.append(data)
        self.bell.set()

    def ping_in(self, wait_s: float) -> None:
        """One timer a stream, looked at when it is over: a time limit on each wait would cost more than the event."""
        self.pinger = asyncio.get_running_loop().call_later(wait_s, self._ping_if_quiet)

    def _ping_if_quiet(self) -> None:
        quiet_s = time.monotonic() - self.sent_at
        if quiet_s >= PING_S and not self.backlog:
            self.push(PING)
        self.ping_in(PING_S - quiet_s if quiet_s < PING_S else PING_S)

    def close(self) -> None:
        self.closed = True
        self.pinger.cancel()
        self.bell.set()


class Hub:
    """The streams of this process, by team."""

    def __init__(self) -> None:
        self._streams: dict[int, set[Stream]] = defaultdict(set)
        self._hints: Hints = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closing = False

    # --- Starting and stopping

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """May be started again once it is closed: nothing is kept from one life to the next."""
        self._loop, self.closing = loop, False
        self._streams.clear()
        self._hints = queue.SimpleQueue()
        self._doors = ThreadPoolExecutor(2, thread_name_prefix="live-door")
        self._stop_listening = threading.Event()
        self._unsubscribe = bus.subscribe(self._hints.put)
        threading.Thread(target=self._render_hints, name="live-render", args=(self._hints,), daemon=True).start()
        if settings.REDIS_URL:
            listen = threading.Thread(target=bus.listen, args=(self._stop_listening,), name="live-bus", daemon=True)
            listen.start()

    async def close(self) -> None:
        """End every stream with a clean "bye"; browsers come back by themselves."""
        if self._loop is None or self.closing:
            return
        self.closing = True
        self._unsubscribe()
        self._stop_listening.set()
        self._hints.put(None)
        for stream in self._all():
            stream.push(event("bye"))
            stream.close()
        self._doors.shutdown(wait=False)

    def _all(self) -> list[Stream]:
        return [stream for streams in self._streams.values() for stream in streams]

    # --- From hint to event, on the render thread

    def _render_hints(self, queued: Hints) -> None:
        while True:
            hints = _thinned(_take(queued))
            close_old_connections()
            for hint in hints:
                if hint is None:
                    return connections.close_all()
                self._render_or_tell(hint)

    def _render_or_tell(self, hint: Hint) -> None:
        """Whatever one card's fault is, the thread lives on, and its team is told to ask."""
        try:
            self._render(hint)
        except Exception as error:
            log.warning("hint not rendered", kind=hint.kind, task_id=hint.task_id, error=repr(error))
            self._call(self._to_team, hint.team_id, event("resync"))

    def _render(self, hint: Hint) -> None:
        if hint.kind == "resync":
            self._call(self._to_all, event("resync"))
        elif hint.kind == "many":
            self._call(self._to_team, hint.team_id, event("resync"))
        elif not self._streams.get(hint.team_id):
            return
        elif hint.kind == "task":
            task = queries.card_task(hint.task_id)
            if task is not None and task.deleted_at is None:
                self._call(self._to_team, hint.team_id, event("card", render_card(task)), partial(access.sees, task))
        elif hint.kind == "gone":
            for blind, gone in _gone(hint.task_ids):
                self._call(self._to_team, hint.team_id, gone, blind)
        elif hint.kind == "balance":
            self._call(self._to_team, hint.team_id, event("balance"))
        elif hint.kind == "filed":
            self._call(self._to_team, hint.team_id, event("filed", str(hint.collection_id)))
        elif hint.kind == "access":
            self._call(self._recheck, hint.team_id)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    # --- On the event loop

    def _to_team(self, team_id: int, data: bytes, to: Callable[[int], bool] | None = None) -> None:
        """For everyone's pages, or those of the users that `to` says yes to."""
        for stream in self._streams.get(team_id, ()):
            if to is None or to(stream.user_id):
                stream.push(data)

    def _to_all(self, data: bytes) -> None:
        for stream in self._all():
            stream.push(data)

    def _recheck(self, team_id: int) -> None:
        for stream in self._streams.get(team_id, ()):
            stream.checked_at = -inf
            stream.bell.set()

    async def serve(self, scope: Scope, receive: Receive, send: Send, slug: str) -> None:
        """One stream, from its door to its end. The raw ASGI of /t/<team>/live/."""
        cookies = cookies_of(scope)
        found = await self._ask_door(cookies, slug)
        if found is None or scope["method"] != "GET" or self.closing:
            return await plain_answer(send, 404, b"Not found")
        stream = Stream(slug, *found)
        self._streams[stream.team_id].add(stream)
        gone = asyncio.ensure_future(_until_gone(receive, stream))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b"retry: 2000\n\n" + event("hello"), "more_body": True})
            await self._flow(stream, send, cookies)
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            stream.close()
            self._streams[stream.team_id].discard(stream)

    async def _flow(self, stream: Stream, send: Send, cookies: str) -> None:
        while True:
            await stream.bell.wait()
            stream.bell.clear()
            if time.monotonic() - stream.checked_at > RECHECK_S and not stream.closed:
                if await self._ask_door(cookies, stream.slug) != (stream.user_id, stream.team_id):
                    return
                stream.checked_at = time.monotonic()
            data = b"".join(stream.backlog) or PING
            stream.backlog.clear()
            stream.sent_at = time.monotonic()
            await send({"type": "http.response.body", "body": data, "more_body": True})
            if stream.closed:
                return

    async def _ask_door(self, cookies: str, slug: str) -> tuple[int, int] | None:
        """(user id, team id) if this session may watch this team now."""
        if self.closing:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._doors, who_may_watch, cookies, slug)


hub = Hub()


def _gone(task_ids: Iterable[int]) -> Iterator[tuple[Callable[[int], bool], bytes]]:
    """Events that take tasks off the pages of whoever does not see them now: one for all that the same people lost."""
    lost = defaultdict(list)
    for task in Task.objects.filter(pk__in=task_ids).only("user_id", "private", "deleted_at"):
        if task.deleted_at or task.private:
            lost[None if task.deleted_at else task.user_id].append(task)
    for tasks in lost.values():
        yield partial(_is_blind, tasks[0]), event("gone", ",".join(str(task.pk) for task in tasks))


def _is_blind(task: Task, user_id: int) -> bool:
    return not access.sees(task, user_id)


def _thinned(hints: Iterable[Hint | None]) -> Iterator[Hint | None]:
    """Where more cards of a team changed at once than a slow browser may be behind, its pages ask for all instead."""
    hints = list(hints)
    changed = Counter(hint.team_id for hint in hints if hint and hint.kind == "task")
    many = {team_id for team_id, number in changed.items() if number > BACKLOG}
    yield from (Hint("many", team_id) for team_id in many)
    yield from (hint for hint in hints if hint is None or hint.kind != "task" or hint.team_id not in many)


def _take(queued: Hints) -> Iterable[Hint | None]:
    """Wait for a hint, then take all that have come: two of one task are one."""
    hints: dict[Hint | None, None] = {queued.get(): None}
    while not queued.empty():
        hints[queued.get()] = None
    return hints


async def _until_gone(receive: Receive, stream: Stream) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.close()


def who_may_watch(cookies: str, slug: str) -> tuple[int, int] | None:
    """Session, active user and membership, read on a thread whose connection is closed again."""
    try:
        request = HttpRequest()
        request.session = _session(cookies)
        user = get_user(request)
        if not user.is_authenticated:
            return None
        member = access.membership(user, slug)
        return member.user_id, member.team_id
    except (Http404, DatabaseError):
        return None
    finally:
        connections.close_all()


def _session(cookies: str) -> Any:
    try:
        morsel = SimpleCookie(cookies).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        morsel = None
    engine = import_module(settings.SESSION_ENGINE)
    return engine.SessionStore(morsel.value if morsel else None)


def cookies_of(scope: Scope) -> str:
    return "; ".join(value.decode("latin1") for name, value in scope["headers"] if name == b"cookie")


async def plain_answer(send: Send, status: int, text: bytes) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
