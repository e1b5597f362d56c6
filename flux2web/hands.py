"""Many threads may wait for providers at once; few work at once.

A thread that waits costs nothing but itself, so that a slow provider may hold hundreds of calls open and starve nobody. What
costs is the work before and after: statements, decoding, the one writer of SQLite. So each queue's threads share a few hands,
and give theirs back while they wait (`away`), as well as their database connection where many have one.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from dramatiq import Middleware

AT_WORK = 8  # threads of one queue
CONNECTIONS_KEPT = 32  # of one process: PostgreSQL takes 100 in all by default; a thread beyond these opens one anew

_keepers: set[int] = set()
_lock = threading.Lock()
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

    def come_back(self) -> None:
        with self._changed:
            self._at_work += 1

    def rest(self) -> None:
        with self._changed:
            self._at_work -= 1
            self._changed.notify()


_queues: dict[str, Queue] = defaultdict(Queue)


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
        _spare_connection()

    after_skip_message = after_process_message


def _queue(name: str) -> Queue:
    with _lock:
        return _queues[name]


@contextmanager
def away() -> Iterator[None]:
    """Around a call that may take long: the hand is free meanwhile, and so is the connection. Not inside a transaction."""
    queue = getattr(_own, "queue", None)
    _spare_connection()
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


def _spare_connection() -> None:
    """Close this thread's connection, unless it is one of the few that keep theirs."""
    with _lock:
        if len(_keepers) < CONNECTIONS_KEPT:
            _keepers.add(threading.get_ident())
        if threading.get_ident() in _keepers:
            return
    if not connection.in_atomic_block:
        connection.close()
