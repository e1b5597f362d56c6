"""What nobody needs any more: notices long read, sessions long over, what a crash left on our disk. For the clock.

Page by page, each in its own transaction; done twice, or by two at once, it is done.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone

from . import queries, storage
from .models import Notice, write

log = structlog.get_logger(__name__)
PAGE = 500


def run(now: datetime | None = None) -> dict[str, int]:
    """How many of each went."""
    now = now or timezone.now()
    gone = {
        "sessions": forget_sessions(now),
        "notices": forget_notices(now),
        "files": storage.forget_left_behind(now - timedelta(hours=settings.SPOOL_HOURS)),
    }
    if any(gone.values()):
        log.info("cleaned", **gone)
    return gone


def forget_sessions(now: datetime) -> int:
    gone = 0
    while page := list(Session.objects.filter(expire_date__lt=now).values_list("pk", flat=True)[:PAGE]):
        gone += Session.objects.filter(pk__in=page, expire_date__lt=now).delete()[0]
    return gone


def forget_notices(now: datetime) -> int:
    """Those put away go after NOTICES_DAYS, the others after NOTICES_UNREAD_DAYS."""
    limit, unread_limit = (now - timedelta(days=days) for days in (settings.NOTICES_DAYS, settings.NOTICES_UNREAD_DAYS))
    gone = 0
    for page in queries.older_than(limit, Notice.objects.all(), "created"):
        rows = Notice.objects.filter(pk__in=page)
        with write():
            gone += rows.exclude(seen_at=None).delete()[0] + rows.filter(created__lt=unread_limit).delete()[0]
    return gone
