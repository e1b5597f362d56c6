"""The in-memory broker of the embedded shape, and what every message carries into the log."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

import structlog
from dramatiq import Middleware
from dramatiq.brokers.stub import StubBroker

DEAD_LETTERS_KEPT = 100


class EmbeddedBroker(StubBroker):
    """Dramatiq's in-memory broker, fit to run for months: it forgets old dead letters. A lost message costs nothing:
    the row's due_at is the queue of record."""

    def __init__(self, middleware=None) -> None:
        super().__init__(middleware)
        letters: Any = defaultdict(lambda: deque(maxlen=DEAD_LETTERS_KEPT))  # used as the list it replaces
        self.dead_letters_by_queue = letters


class LogContext(Middleware):
    """Every log line of an actor names its task."""

    def before_process_message(self, broker, message):
        structlog.contextvars.bind_contextvars(
            actor=message.actor_name, task_id=message.args[0] if message.args else None
        )

    def after_process_message(self, broker, message, *, result=None, exception=None):
        structlog.contextvars.unbind_contextvars("actor", "task_id")

    after_skip_message = after_process_message
