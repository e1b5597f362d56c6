"""Are we alive, and are we of use: for load balancers and people with a terminal. Nothing secret is said."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import structlog
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Min
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from dramatiq import get_broker

from .. import access
from ..models import Audit, Heartbeat, Task

log = structlog.get_logger(__name__)
CLOCK_LATE_S = 120  # it ticks every second: after this long it is not coming back by itself
Answer = TypeVar("Answer")
_migrated = threading.Event()


@access.public
@never_cache
def live(request: HttpRequest) -> HttpResponse:
    """This process answers. No database: a slow one must not get us killed."""
    return HttpResponse("ok", content_type="text/plain")


@access.public
@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """Whether tasks would get done: 200 when every check is true, else 503."""
    age_s = asked("clock", clock_age_s)
    checks = {
        "database": bool(asked("database", database_answers)),
        "migrations": bool(asked("migrations", is_migrated)),
        "broker": bool(asked("broker", broker_answers)),
        "clock": age_s is not None and age_s < CLOCK_LATE_S,
    }
    well = all(checks.values())
    seconds = {"clock_age_s": age_s, "overdue_s": asked("overdue", overdue_s)}
    # A ledger that does not add up wants a person, not a site that is taken out of service.
    told = {"ready": well, **checks, **seconds, "ledger_findings": asked("audit", ledger_findings)}
    return JsonResponse(told, status=200 if well else 503)


def asked(name: str, question: Callable[[], Answer]) -> Answer | None:
    """The answer; None where there is none. What went wrong is for the log: it may name hosts."""
    try:
        return question()
    except Exception as error:
        log.warning("not ready", check=name, error=repr(error))
        return None


def database_answers() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone() == (1,)


def is_migrated() -> bool:
    """Reads every migration file, so only until the answer is yes: what is applied stays applied while we live."""
    if not _migrated.is_set():
        executor = MigrationExecutor(connection)
        if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
            _migrated.set()
    return _migrated.is_set()


def broker_answers() -> bool:
    """Redis is pinged, RabbitMQ's connection opened; the embedded broker is this process."""
    broker = get_broker()
    if hasattr(broker, "client"):
        return bool(broker.client.ping())
    return broker.connection.is_open if hasattr(broker, "connection") else True


def clock_age_s() -> float | None:
    beat = Heartbeat.objects.filter(name="clock").first()
    return seconds_since(beat.at) if beat else None


def overdue_s() -> float:
    """How long the task that waits longest has been due; 0.0 where none is."""
    oldest = Task.objects.due(timezone.now()).aggregate(at=Min("due_at"))["at"]
    return seconds_since(oldest) if oldest else 0.0


def ledger_findings() -> int | None:
    """How many things the last audit found; None before the first."""
    last = Audit.objects.first()
    return len(last.findings) if last else None


def seconds_since(moment: datetime) -> float:
    return round(max(0.0, (timezone.now() - moment).total_seconds()), 1)
