"""Many pictures as one file: a zip of them, or a list of what they are, as a sheet or as JSON. And what a picture's own
file may say of how it was made.

Written straight to disk, a picture at a time and in small pieces: a thousand take no more memory than one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from time import monotonic
from typing import IO, Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from django.db.models import Count, Prefetch, Sum
from django.utils import timezone
from django.utils.text import slugify

from . import access, lost, sheets, storage
from .models import Membership, Result, Task, TaskReference

KINDS = ("zip", "manifest-csv", "manifest-json")
CHUNK = 200  # rows in memory
PIECE_BYTES = 256 * 1024
ZIP_MAX_BYTES = 10 * 2**30
SPARE_BYTES = 500 * 2**20  # of the disk, for everything else
PROGRESS_S = 1.0
SLUG_MAX_CHARS = 40

Progress = Callable[[int], None]  # how many are done; whoever is told may raise, and then it is not wanted any more


class TooMuch(Exception):
    """It cannot be made like this; the message says to people what would do."""


# --- What each picture is ------------------------------------------------------------------------------------------------

LISTS = ("references", "tags")
COLUMNS = (
    *("number", "task", "file", "missing", "created", "author", "prompt", "family", "mode", "ratio", "resolution"),
    *("seed", "provider", "state", "credits", "width", "height", "bytes", "sha256", "references", "tags"),
    *("favourites", "private", "made_from", "alt"),
)


def described(task: Task) -> dict[str, Any]:
    """What a line of the list says, in COLUMNS' names."""
    result = _result(task)
    pixels = {"width": result.width_px, "height": result.height_px} if result else {}
    file = {"bytes": result.size_bytes, "sha256": result.sha256} if result else {}
    return {
        "created": task.created.astimezone(UTC).isoformat(),
        "author": str(task.user) if task.user else "",
        "prompt": task.prompt,
        "family": task.family,
        "mode": task.mode,
        "ratio": task.aspect_ratio,
        "resolution": task.resolution,
        "seed": task.seed,
        "provider": task.account.provider if task.account else "",
        "state": task.state,
        "credits": task.charged_credits,
        "references": [use.reference.name for use in task.task_references.all()],
        "tags": [use.tag.name for use in task.task_tags.all()],
        "favourites": task.favourites,
        "private": task.private,
        "made_from": task.parent_id,
        "alt": task.alt,
        **pixels,
        **file,
    }


def settings_of(task: Task) -> dict[str, str]:
    """What a picture's file may say of how it was made. Nobody's name is in it: files travel far."""
    return {
        "prompt": task.prompt,
        "model": f"FLUX.2 {task.family}",
        "ratio": task.aspect_ratio,
        "resolution": task.resolution,
        "seed": "" if task.seed is None else str(task.seed),
        "provider": task.account.provider if task.account else "",
        "task": str(task.pk),
    }


def _result(task: Task) -> Result | None:
    result = getattr(task, "result", None)
    return result if result and result.purged_at is None else None


def _rows(member: Membership, ids: Sequence[int]) -> Iterator[tuple[int, int, Task | None]]:
    """Number, task id, and the task where this member may see it at this moment."""
    related = access.tasks(member).select_related("user", "account", "result")
    uses = TaskReference.objects.filter(reference__in=access.seen_references(member)).select_related("reference")
    whole = related.prefetch_related("task_tags__tag", Prefetch("task_references", uses))
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        found = whole.in_bulk(chunk)
        yield from ((start + place, pk, found.get(pk)) for place, pk in enumerate(chunk, 1))


GONE, NO_PICTURE, LOST = "not there any more", "no picture", "its file is lost"


def _lack(result: Result | None) -> str:
    """Why there is no file of it, as far as the row knows."""
    return NO_PICTURE if result is None else LOST if result.lost_at else ""


def _line(number: int, task_id: int, task: Task | None, *, file: str = "", missing: str = "") -> dict[str, Any]:
    said = {"number": number, "task": task_id, "file": file, "missing": missing if task else GONE}
    return said | described(task) if task else said


def _cells(line: Mapping[str, Any]) -> list[object]:
    """As a sheet has them."""
    return [", ".join(line[name]) if name in LISTS and name in line else line.get(name) for name in COLUMNS]


# --- Lists ---------------------------------------------------------------------------------------------------------------


def _listed(member: Membership, ids: Sequence[int], progress: Progress) -> Iterator[dict[str, Any]]:
    tell = _now_and_then(progress)
    for number, task_id, task in _rows(member, ids):
        yield _line(number, task_id, task, missing=_lack(_result(task)) if task else "")
        tell(number)


def write_csv(member: Membership, query: Mapping[str, Any], path: Path, progress: Progress) -> int:
    ids = query["ids"]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(sheets.lines(COLUMNS, map(_cells, _listed(member, ids, progress))))
    return len(ids)


def write_json(member: Membership, query: Mapping[str, Any], path: Path, progress: Progress) -> int:
    ids = query["ids"]
    head = {"team": member.team.name, "made": timezone.now().astimezone(UTC).isoformat()}
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{json.dumps(head, ensure_ascii=False)[:-1]}, "pictures": [')
        for line in _listed(member, ids, progress):
            file.write("," if line["number"] > 1 else "")
            file.write(f"\n{json.dumps(line, ensure_ascii=False)}")
        file.write("\n]}\n")
    return len(ids)


# --- Zip -----------------------------------------------------------------------------------------------------------------


def check_size(member: Membership, ids: Sequence[int]) -> tuple[int, int]:
    """How many pictures these are now, and their bytes. Raises TooMuch."""
    pictures, size_bytes = weigh(member, ids)
    if not pictures:
        raise TooMuch("None of these has a picture that you may see. Choose others.")
    if size_bytes > ZIP_MAX_BYTES:
        most, here = f"{ZIP_MAX_BYTES / 2**30:.0f}", f"{size_bytes / 2**30:.1f}"
        raise TooMuch(f"These pictures have {here} GB, and at most {most} GB go into one file. Choose fewer.")
    return pictures, size_bytes


def weigh(member: Membership, ids: Sequence[int]) -> tuple[int, int]:
    """How many of these are pictures that the member sees, and their bytes."""
    pictures, size_bytes = 0, 0
    for start in range(0, len(ids), CHUNK):
        seen = access.tasks(member).filter(pk__in=ids[start : start + CHUNK])
        results = Result.objects.filter(purged_at=None, lost_at=None, task__in=seen)
        found = results.aggregate(pictures=Count("pk"), size_bytes=Sum("size_bytes"))
        pictures, size_bytes = pictures + found["pictures"], size_bytes + (found["size_bytes"] or 0)
    return pictures, size_bytes


def write_zip(member: Membership, query: Mapping[str, Any], path: Path, progress: Progress) -> int:
    """The pictures as they are, none packed smaller (they are already), and a list of them."""
    ids = query["ids"]
    _check_room(path, check_size(member, ids)[1])
    with ZipFile(path, "w", ZIP_STORED) as archive, tempfile.TemporaryFile(dir=path.parent) as manifest:
        for line in sheets.lines(COLUMNS, _packed(archive, member, ids, progress)):
            manifest.write(line.encode())
        manifest.seek(0)
        _put(archive, ZipInfo("manifest.csv", timezone.now().timetuple()[:6]), manifest)
    return len(ids)


def _check_room(path: Path, size_bytes: int) -> None:
    """It lies there twice for a moment: as it is written, and in storage."""
    if shutil.disk_usage(path.parent).free < 2 * size_bytes + SPARE_BYTES:
        raise TooMuch("The server has not enough room for this file. Choose fewer pictures, or tell a site admin.")


def _packed(archive: ZipFile, member: Membership, ids: Sequence[int], progress: Progress) -> Iterator[list[object]]:
    tell, digits = _now_and_then(progress), max(4, len(str(len(ids))))
    for number, task_id, task in _rows(member, ids):
        name, missing = _pack(archive, f"{number:0{digits}}", task) if task else ("", GONE)
        yield _cells(_line(number, task_id, task, file=name, missing=missing))
        tell(number)


def _pack(archive: ZipFile, number: str, task: Task) -> tuple[str, str]:
    """The name that its file has in there, or why there is none."""
    result = _result(task)
    if result is None:
        return "", NO_PICTURE
    name = file_name(number, task, storage.EXTENSIONS[result.mime])
    info = ZipInfo(name, max(task.created.astimezone(UTC).timetuple()[:6], (1980, 1, 1, 0, 0, 0)))
    info.file_size = result.size_bytes
    try:
        with lost.noticed(result, "zip"), storage.open_file(result.key) as picture:
            _put(archive, info, picture)
    except FileNotFoundError:
        return "", LOST
    return name, ""


def _put(archive: ZipFile, info: ZipInfo, source: IO[bytes]) -> None:
    info.external_attr = 0o644 << 16
    with archive.open(info, "w", force_zip64=True) as target:
        shutil.copyfileobj(source, target, PIECE_BYTES)


def file_name(number: str, task: Task, extension: str) -> str:
    """ "0001-harbour-at-dawn-123.jpg": letters, digits and dashes, whatever the prompt says."""
    words = slugify(task.prompt[:200], allow_unicode=True).replace("_", "-")
    slug = (
        words
        if len(words) <= SLUG_MAX_CHARS
        else words[: SLUG_MAX_CHARS + 1].rpartition("-")[0] or words[:SLUG_MAX_CHARS]
    )
    return f"{'-'.join(part for part in (number, slug.strip('-'), str(task.pk)) if part)}.{extension}"


def _now_and_then(progress: Progress) -> Progress:
    """Word of each would be a write to the database for each."""
    told_at = monotonic()

    def tell(done: int) -> None:
        nonlocal told_at
        if monotonic() - told_at >= PROGRESS_S:
            progress(done)
            told_at = monotonic()

    return tell
