"""Originals that storage has lost: whoever finds out writes it down, once, and takes it back when the file is there again.

The row says so, and every open card with it: nothing asks storage while a card is drawn. No credits move.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
from django.db.models import F
from django.utils import timezone

from . import bus, storage
from .models import Event, Result, Task, write

log = structlog.get_logger(__name__)


@contextmanager
def noticed(row: Result, cause: str) -> Iterator[None]:
    """Inside, a file of this picture is opened: what that tells of the original is written down. Raises StorageDown where
    the file is not there because nothing is."""
    try:
        yield
    except FileNotFoundError:
        look(row, cause)
        raise
    if row.lost_at:
        with suppress(storage.StorageDown):
            look(row, cause)


def look(row: Result, cause: str) -> bool:
    """Whether the original is in storage, as the row says from now on. Raises StorageDown: then nobody knows."""
    is_there = storage.is_there(row.key)
    if is_there == bool(row.lost_at):
        row.lost_at = None if is_there else timezone.now()
        _write_down(row, cause)
    return is_there


def _write_down(row: Result, cause: str) -> None:
    """Of all who find it at once the first one says it. A picture whose time in the trash is up has lost nothing."""
    with write():
        task = Task.objects.select_for_update(no_key=True).get(pk=row.task_id)
        unsaid = Result.objects.filter(pk=row.pk, purged_at=None, lost_at__isnull=bool(row.lost_at))
        if not unsaid.update(lost_at=row.lost_at):
            return
        Event.objects.create(task=task, kind="lost" if row.lost_at else "found", cause=cause)
        Task.objects.filter(pk=task.pk).update(version=F("version") + 1)
        bus.publish_task(task.team_id, task.pk)
    say = log.error if row.lost_at else log.info
    say("original is not in storage" if row.lost_at else "original is in storage again", task_id=task.pk, key=row.key)
