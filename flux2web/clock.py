"""The loop that finds rows whose time has come. Any number of clocks may run: a look is claimed by one."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import close_old_connections, connections
from django.db.models import Q
from django.utils import timezone

from . import (
    actors,
    alerts,
    audit,
    cleaning,
    exports,
    faults,
    health,
    ledger,
    lifecycle,
    notices,
    requests,
    statements,
    trash,
)
from .models import Heartbeat, Task

log = structlog.get_logger(__name__)
PAGE = 500
BEAT_S = 10
SWEEP_S = 30
BESIDE: dict[str, Callable[[], object]] = {
    "audit": audit.run,
    "callbacks": lifecycle.forget_callbacks,
    "cleaning": cleaning.run,
    "health": health.take_stock,
    "silence": alerts.sweep_accounts,
    "statements": statements.draw_due,
    "trash": trash.empty,
    "library": trash.empty_library,
}


class Clock:
    """Ticks until stopped; remembers what it sent lately, so that a full queue is not filled again each second."""

    def __init__(self) -> None:
        self._sent_at: dict[tuple[int, datetime], float] = {}  # by look: a task that is due anew is sent anew
        self._beat_at = self._swept_at = -math.inf
        self._beside = {name: threading.Thread() for name in BESIDE}

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
            self._do_duties(timezone.now())

    def _do_duties(self, now: datetime) -> None:
        """Each on its own: what one of them trips over, a full disk say, keeps none of the others waiting."""
        for duty in (ledger.renew_due, send_drafts, self._sweep, send_mail, make_exports, self._start_beside):
            try:
                duty(now)
            except Exception as error:  # whatever it was: it is due again at the next beat
                log.error("clock left a duty undone", duty=duty.__name__, error=repr(error))

    def _sweep(self, now: datetime) -> None:
        if time.monotonic() - self._swept_at >= SWEEP_S:
            self._swept_at = time.monotonic()
            alerts.sweep(now)

    def _start_beside(self, _: datetime) -> None:
        """Beside the ticks, because it reads everything, asks providers or deletes files; by one clock, whoever claims it."""
        every = {
            "audit": settings.AUDIT_EVERY_S,
            "callbacks": settings.CALLBACKS_EVERY_S,
            "cleaning": settings.CLEANING_EVERY_S,
            "health": settings.HEALTH_EVERY_S,
            "silence": settings.HEALTH_EVERY_S,
            "statements": settings.STATEMENTS_EVERY_S,
            "trash": settings.TRASH_EVERY_S,
            "library": settings.TRASH_EVERY_S,
        }
        for name, every_s in every.items():
            if not self._beside[name].is_alive() and claim(name, every_s):
                self._beside[name] = threading.Thread(target=run_beside, args=(name,), name=name, daemon=True)
                self._beside[name].start()


def send_drafts(now: datetime) -> None:
    for request_id in requests.due(now):
        actors.kick_draft(request_id)


def send_mail(now: datetime) -> None:
    if notices.mail_is_due(now):
        actors.kick_mail()


def make_exports(now: datetime) -> None:
    for export_id in exports.due(now):
        actors.kick_export(export_id)
    exports.forget_expired(now)


def claim(name: str, every_s: float) -> bool:
    now = timezone.now()
    Heartbeat.objects.get_or_create(name=name, defaults={"at": now - timedelta(days=1)})
    late = now - timedelta(seconds=every_s)
    return bool(Heartbeat.objects.filter(name=name, at__lte=late).update(at=now))


def run_beside(name: str) -> None:
    try:
        BESIDE[name]()
    except Exception as error:  # whatever it was: it is due again soon, and a thread that dies tells nobody
        log.error("not done, due again soon", what=name, error=repr(error))
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
