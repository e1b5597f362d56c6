"""The loop that finds rows whose time has come. Any number of clocks may run: a look is claimed by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connections
from django.db.models import Q
from django.utils import timezone

from . import actors, audit, faults
from .models import Heartbeat, Task

log = structlog.get_logger(__name__)
PAGE = 500
BEAT_S = 10


class Clock:
    """Ticks until stopped; remembers what it sent lately, so that a full queue is not filled again each second."""

    def __init__(self) -> None:
        self._sent_at: dict[tuple[int, datetime], float] = {}  # by look: a task that is due anew is sent anew
        self._beat_at = 0.0
        self._auditor = threading.Thread()

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                close_old_connections()
                self.tick()
            except Exception as error:  # whatever it was: without a clock nothing here ever ends
                log.error("clock missed a tick", error=repr(error))
            stop.wait(settings.CLOCK_TICK_S)

    def tick(self) -> int:
        """Send everything that is due and was not sent lately. Returns how many."""
        sent = 0
        self._forget()
        for task_id, state, due_at in due(timezone.now()):
            if (task_id, due_at) not in self._sent_at:
                self._sent_at[task_id, due_at] = time.monotonic()
                actors.send_due(state, task_id, due_at)
                sent += 1
        self._beat()
        return sent

    def _forget(self) -> None:
        limit = time.monotonic() - settings.CLOCK_RESEND_S
        self._sent_at = {look: at for look, at in self._sent_at.items() if at > limit}

    def _beat(self) -> None:
        if time.monotonic() - self._beat_at >= BEAT_S:
            self._beat_at = time.monotonic()
            Heartbeat.objects.update_or_create(name="clock", defaults={"at": timezone.now()})
            self._audit()

    def _audit(self) -> None:
        """Beside the ticks, because it reads everything; by one clock of all, whoever claims it."""
        if not self._auditor.is_alive() and claim_audit():
            self._auditor = threading.Thread(target=run_audit, name="audit", daemon=True)
            self._auditor.start()


def claim_audit() -> bool:
    now = timezone.now()
    Heartbeat.objects.get_or_create(name="audit", defaults={"at": now - timedelta(days=1)})
    late = now - timedelta(seconds=settings.AUDIT_EVERY_S)
    return bool(Heartbeat.objects.filter(name="audit", at__lte=late).update(at=now))


def run_audit() -> None:
    try:
        audit.run()
    except DatabaseError as error:
        log.error("ledger not audited", error=repr(error))
    finally:
        connections.close_all()


def due(now: datetime) -> Iterator[tuple[int, str, datetime]]:
    """(task id, state, due_at) of every due row, page by page by keyset: rows that stay due never hide the others."""
    after: tuple[datetime, int] | None = None
    while True:
        rows = Task.objects.due(now).order_by("due_at", "pk")
        if after:
            rows = rows.filter(Q(due_at__gt=after[0]) | Q(due_at=after[0], pk__gt=after[1]))
        found = rows.values_list("pk", "state", "due_at")[:PAGE]
        page = [(task_id, state, due_at) for task_id, state, due_at in found if due_at]
        if page:
            faults.point("CP13")
        yield from page
        if len(page) < PAGE:
            return
        after = (page[-1][2], page[-1][0])
