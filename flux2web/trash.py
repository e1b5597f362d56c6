"""The end of the trash: what lay in it for TRASH_DAYS loses its files. Task, ledger and events stay. And of images that
were thrown out of the library: those that no picture was made from go, row and files.

First the row says so, then the files go, then the row forgets their names: whoever dies in between leaves names behind,
and the next pass goes on with them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from . import storage
from .models import Reference, Result, Task, TaskReference, write

log = structlog.get_logger(__name__)
CHUNK = 100


def empty() -> int:
    """Take the files of all whose time is up; how many pictures that were. Stops where our storage does not answer."""
    limit, purged, forgotten = timezone.now() - timedelta(days=settings.TRASH_DAYS), 0, 0
    while number := _purge(limit):
        purged += number
    try:
        while number := _forget_files():
            forgotten += number
    except storage.StorageDown as error:
        log.warning("files of the trash stay until storage is back", error=repr(error))
    if purged or forgotten:
        log.info("trash emptied", purged=purged, forgotten=forgotten)
    return purged


def empty_library() -> int:
    """The same of images; how many went. Stops where our storage does not answer."""
    limit, gone = timezone.now() - timedelta(days=settings.TRASH_DAYS), 0
    unused = ~Exists(TaskReference.objects.filter(reference=OuterRef("pk")))
    with write():
        old = Reference.objects.filter(unused, deleted_at__lte=limit, purged_at=None)
        old.update(purged_at=timezone.now())
    try:
        while rows := list(Reference.objects.exclude(purged_at=None)[:CHUNK]):
            for row in rows:
                for key in {row.key, row.thumb_key}:
                    _forget_image_file(key)
                row.delete()
            gone += len(rows)
    except storage.StorageDown as error:
        log.warning("files of the library stay until storage is back", error=repr(error))
    if gone:
        log.info("library emptied", gone=gone)
    return gone


def _forget_image_file(key: str) -> None:
    """Somebody else's upload of the same bytes is the same file: one that comes at this very moment gets it back."""
    data = None if _is_in_use(key) else storage.read_if_there(key)
    if data is not None:
        storage.delete_files([key])
        if _is_in_use(key):
            storage.put_back(key, data)


def _is_in_use(key: str) -> bool:
    return Reference.objects.filter(Q(key=key) | Q(thumb_key=key), purged_at=None).exists()


def _purge(limit: datetime) -> int:
    """Ours while we say so: whoever restores one at this moment comes before us, or too late."""
    with write():
        thrown = Task.objects.filter(deleted_at__lte=limit, result__purged_at=None, result__isnull=False)
        ids = list(thrown.order_by("deleted_at").values_list("pk", flat=True)[:CHUNK])
        rows = Task.objects.filter(pk__in=ids, deleted_at__lte=limit).select_for_update(no_key=True)
        ids = [task.pk for task in rows.order_by("pk")]
        return Result.objects.filter(task__in=ids, purged_at=None).update(purged_at=timezone.now())


def _forget_files() -> int:
    """The files of some purged results, but for those that another result still has (it may be shown to others)."""
    rows = list(Result.objects.filter(purged_at__isnull=False).exclude(key="")[:CHUNK])
    keys = {key for row in rows for key in _keys(row)}
    storage.delete_files(keys - _in_use(keys))
    Result.objects.filter(pk__in=[row.pk for row in rows]).update(key="", key_640="", key_320="")
    return len(rows)


def _in_use(keys: set[str]) -> set[str]:
    """Reads the whole table, once for some hundred pictures, beside everything: keys have no index."""
    others = Result.objects.filter(Q(key__in=keys) | Q(key_640__in=keys) | Q(key_320__in=keys), purged_at=None)
    return {key for row in others for key in _keys(row)}


def _keys(row: Result) -> tuple[str, str, str]:
    return row.key, row.key_640, row.key_320
