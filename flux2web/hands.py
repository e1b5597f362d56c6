"""Many threads may wait for providers at once; few work at once.

A thread that waits costs nothing but itself, so that a slow provider may hold hundreds of calls open and starve nobody. What
costs is the work before and after: statements, decoding, the one writer of SQLite. So each queue's threads share a few hands,
and whoever has a hand has a database connection with it; both are given back while it waits (`away`).
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from dramatiq import Middleware

AT_WORK = 8  # threads of one queue
IDLE_MAX = 32  # connections kept open for the next hand; PostgreSQL takes 100 in all by default

_own = threading.local()


class Queue:
    """How many of one queue's threads are at work. Who comes back from a call goes on at once: its answer may have cost
    money. Who begins waits until enough others rest."""

    def __init__(self, at_work_max: int = AT_WORK) -> None:
        self._max, self._at_work, self._changed = at_work_max, 0, threading.Condition()

    def begin(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._at_work < self._max)
            self._at_work += 1
        idle.take()

    def come_back(self) -> None:
        with self._changed:
            self._at_work += 1
        idle.take()

    def rest(self) -> None:
        idle.give_back()
        with self._changed:
            self._at_work -= 1
            self._changed.notify()


class Idle:
    """Open connections that nobody works with just now; the last one in is the first one out, for it is warm.

    A thread that opened its own each time would pay more for it than for its statements: on SQLite 1.7 ms of CPU, and every
    statement prepared anew (2026-11); and one for each of hundreds of threads is more than PostgreSQL gives.
    """

    def __init__(self) -> None:
        self._idle: list[BaseDatabaseWrapper] = []
        self._lock = threading.Lock()

    def take(self) -> None:
        """Into this thread. Where none is idle, Django opens one when it is first needed."""
        with self._lock:
            found = self._idle.pop() if self._idle else None
        if found:
            connections[DEFAULT_DB_ALIAS] = found
            found.close_if_unusable_or_obsolete()

    def give_back(self) -> None:
        for mine in connections.all(initialized_only=True):
            if mine.in_atomic_block:
                continue
            del connections[mine.alias]
            self._keep(mine)

    def _keep(self, mine: BaseDatabaseWrapper) -> None:
        if not mine.allow_thread_sharing:
            mine.inc_thread_sharing()
        with self._lock:
            is_kept = len(self._idle) < IDLE_MAX
            if is_kept:
                self._idle.append(mine)
        if not is_kept:
            mine.close()

    def close(self) -> None:
        with self._lock:
            closing, self._idle = self._idle, []
        for each in closing:
            each.close()


idle = Idle()
_queues: dict[str, Queue] = defaultdict(Queue)
_lock = threading.Lock()


class Hands(Middleware):
    """A message is worked on with a hand of its queue."""

    def before_process_message(self, broker, message):
        queue = _queue(message.queue_name)
        queue.begin()
        _own.queue = queue

    def after_process_message(self, broker, message, *, result=None, exception=None):
        queue, _own.queue = getattr(_own, "queue", None), None
        if queue is not None:
            queue.rest()

    after_skip_message = after_process_message

    def after_worker_shutdown(self, broker, worker):
        idle.close()


def _queue(name: str) -> Queue:
    with _lock:
        return _queues[name]


@contextmanager
def away() -> Iterator[None]:
    """Around a call that may take long: the hand is free meanwhile, and so is its connection. Not inside a transaction."""
    queue = getattr(_own, "queue", None)
    if queue is None:
        yield
        return
    _own.queue = None
    queue.rest()
    try:
        yield
    finally:
        queue.come_back()
        _own.queue = queue
