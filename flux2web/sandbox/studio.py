"""What all five pretend providers share behind their counters: taking an order, finding it again, keeping a file."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import Any

from . import pictures
from .store import Order, Plan, Store, Task
from .wishes import wishes_in

SLOW_FACTOR = 5
EARLY_WAIT_S = 12.0
COPIES_TWICE = 3  # [twice] sends one more than it says, to be sure
TYPICAL_S = 30.0  # what a real task takes (apixo.ai/docs: 20-30 s); vendors' waits are scaled by it


class Studio:
    """The store, and the pace: a task takes between `min_s` and `max_s`."""

    def __init__(self, store: Store, *, min_s: float, max_s: float, prefix: str) -> None:
        self.store, self.prefix = store, prefix
        self._min_s, self._max_s = min_s, max_s

    def accept(self, provider: str, task_id: str, order: Order, request: Any, origin: str) -> Task:
        return self.store.add(provider, task_id, order, request, origin, lambda n: self._plan(order, n))

    def _plan(self, order: Order, n: int) -> Plan:
        ready_at = time.time() + self._takes_s(order, n)
        failure = _failure(order)
        done_at = ready_at if failure in ("generation", "moderated") else None
        return Plan(ready_at, done_at, failure, _callbacks(order))

    def _takes_s(self, order: Order, n: int) -> float:
        """By chance of prompt and seed, so that a test can rely on it."""
        if "early" in order.wishes:
            return 0.0
        digest = hashlib.sha256(f"{order.prompt}\n{n if order.seed is None else order.seed}".encode()).digest()
        share = int.from_bytes(digest[:4]) / 2**32
        factor = SLOW_FACTOR if "slow" in order.wishes else 1
        return (self._min_s + share * (self._max_s - self._min_s)) * factor

    def scaled_s(self, vendor_s: float) -> float:
        """A vendor's waiting time at this pace."""
        return vendor_s * self._min_s / TYPICAL_S

    def times_refused(self, provider: str, prompt: str) -> int:
        return self.store.times_refused(f"{provider} {prompt}")

    def keep_picture(self, content: bytes, name: str = "") -> str:
        """Stores an upload; says under which name. The same `name` again overwrites. Empty answer: no picture."""
        extension = pictures.kind(content)
        if not extension:
            return ""
        stem = hashlib.sha256(name.encode()).hexdigest()[:32] if name else secrets.token_hex(16)
        self.store.keep_upload(f"{stem}.{extension}", content)
        return f"{stem}.{extension}"

    def file_url(self, origin: str, name: str) -> str:
        return f"{origin}{self.prefix}/files/{name}"

    def result_url(self, task: Task) -> str:
        return self.file_url(task.origin, task.file)


def with_wishes(order: Order) -> Order:
    return Order(**{**order.__dict__, "wishes": wishes_in(order.prompt)})


def _failure(order: Order) -> str:
    """Stuck wins, for what never ends cannot fail."""
    asked = (("stuck", "stuck"), ("filter", "moderated"), ("fail", "generation"))
    return next((failure for wish, failure in asked if wish in order.wishes), "")


def _callbacks(order: Order) -> int:
    if not order.callback_url or order.wishes & {"silent", "stuck"}:
        return 0
    return COPIES_TWICE if "twice" in order.wishes else 1
