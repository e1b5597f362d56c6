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

_hands: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(AT_WORK))
_keepers: set[int] = set()
_lock = threading.Lock()
_own = threading.local()


class Hands(Middleware):
    """A message is worked on with a hand of its queue."""

    def before_process_message(self, broker, message):
        _own.hand = _hand_of(message.queue_name)
        _own.hand.acquire()

    def after_process_message(self, broker, message, *, result=None, exception=None):
        hand, _own.hand = getattr(_own, "hand", None), None
        if hand is not None:
            hand.release()
        _spare_connection()

    after_skip_message = after_process_message


def _hand_of(queue: str) -> threading.Semaphore:
    with _lock:
        return _hands[queue.removesuffix(".DQ")]  # a delayed message waits in a queue beside its own


@contextmanager
def away() -> Iterator[None]:
    """Around a call that may take long: the hand is free meanwhile, and so is the connection. Not inside a transaction."""
    hand = getattr(_own, "hand", None)
    _spare_connection()
    if hand is None:
        yield
        return
    _own.hand = None
    hand.release()
    try:
        yield
    finally:
        hand.acquire()
        _own.hand = hand


def _spare_connection() -> None:
    """Close this thread's connection, unless it is one of the few that keep theirs."""
    with _lock:
        if len(_keepers) < CONNECTIONS_KEPT:
            _keepers.add(threading.get_ident())
        if threading.get_ident() in _keepers:
            return
    if not connection.in_atomic_block:
        connection.close()
