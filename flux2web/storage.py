"""Safe bytes to and from storage: references in, results in, and the addresses at which references are open."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import IO
from urllib.parse import quote

import structlog
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models import Q
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag

from . import faults, http, imaging
from .models import Hosting, Reference, Result, Task, Team, User
from .models.base import new_token, write

log = structlog.get_logger(__name__)
SIGNED_OPEN_S = 600  # a signed address of the bucket answers this long
NAME_MAX_CHARS = 120
# For ever, but by one browser only, and by that only for who was signed in: the answers say `Vary: Cookie`, because the
# session was looked at, so whoever signs in next asks anew; what is the same is answered with 304, what is not theirs
# with 404. A name with a version in it would have to change for a whole team whenever one of them leaves.
KEPT_BY_ONE = "private, max-age=31536000, immutable"
EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


class StorageDown(Exception):
    """Our own disk or bucket does not take or give a file now. Nobody's fault but ours: wait, and count no time."""


@dataclass(frozen=True)
class Stored:
    """A result's three files in storage, and what is known of the original."""

    picture: imaging.Picture
    key: str
    key_640: str
    key_320: str


# --- References ------------------------------------------------------------------------------------------------------


def save_reference(
    team: Team, user: User, file: IO[bytes], name: str, *, shrinks: bool = False, made_from: Task | None = None
) -> Reference:
    """Keep an upload as our own re-encoded picture. Raises imaging.BadImage with a message for people.

    `shrinks`: its owner agreed that one which is too long is made smaller. `made_from`: the picture that it is; where only
    its author sees that, only they see the image.

    The same picture from the same person again is the same reference: a form posted twice stays the same order. Its
    files are stored again all the same: they may have been lost since.
    """
    source = file.read((imaging.SHRINK_MAX_BYTES if shrinks else settings.UPLOAD_MAX_BYTES) + 1)
    picture, thumbs = imaging.save_upload(source, shrinks=shrinks)
    folder = f"references/{team.pk}"
    key, thumb_key = _put(folder, picture), _put(folder, thumbs[320], "-320")
    faults.point("CP16")
    row = Reference(
        team=team,
        user=user,
        name="".join(char for char in name if char.isprintable())[:NAME_MAX_CHARS],
        key=key,
        thumb_key=thumb_key,
        mime=picture.mime,
        sha256=picture.sha256,
        size_bytes=len(picture.data),
        width_px=picture.width_px,
        height_px=picture.height_px,
        made_from=made_from,
    )
    known = _same_or_new(row)
    if has_lost([key, thumb_key]):  # thrown out at this moment, with an image of the same bytes that nobody used
        _put(folder, picture)
        _put(folder, thumbs[320], "-320")
    return known


def _same_or_new(row: Reference) -> Reference:
    with write():
        Team.objects.select_for_update(no_key=True).get(pk=row.team_id)  # a form posted twice at once queues here
        if row.made_from_id:  # who makes it private at this moment comes before us, or finds the image
            row.private = Task.objects.select_for_update(no_key=True).get(pk=row.made_from_id).private
        same = {"team": row.team, "user": row.user, "sha256": row.sha256, "key": row.key, "private": row.private}
        known = Reference.objects.filter(**same, deleted_at=None).first()
        if known is None:
            row.save(force_insert=True)
        elif row.made_from_id:
            Reference.objects.filter(pk=known.pk, made_from=None).update(made_from=row.made_from_id)
        return known or row


def mint_hostings(task: Task, references: Iterable[Reference]) -> None:
    """A fresh address for each reference of a task, open while the task lives."""
    Hosting.objects.bulk_create(
        [Hosting(token=new_token(), task=task, reference=reference) for reference in set(references)]
    )


def close_hostings(task: Task) -> None:
    """The task has ended: its addresses close some hours from now."""
    if task.reference_count:
        Hosting.objects.filter(task=task).update(closes_at=timezone.now() + timedelta(seconds=settings.HOSTED_OPEN_S))


def hosting_path(hosting: Hosting) -> str:
    return f"/i/{hosting.token}.{EXTENSIONS[hosting.reference.mime]}"


def open_hosting(name: str) -> Hosting | None:
    """The hosting that this file name opens, if it is still open."""
    token, _, extension = name.rpartition(".")
    still_open = Q(closes_at=None) | Q(closes_at__gt=timezone.now())
    hosting = Hosting.objects.select_related("reference").filter(still_open, token=token).first()
    return hosting if hosting and extension == EXTENSIONS[hosting.reference.mime] else None


# --- Results -----------------------------------------------------------------------------------------------------------


def fetch_result(task: Task, url: str, own_origin: str) -> bytes:
    """The provider's bytes, spooled on our disk before anything else is done with them. Raises http.FetchFailed."""
    spooled = _spool(task)
    if spooled.exists():
        return spooled.read_bytes()
    data = http.fetch(url, own_origin=own_origin, total_s=settings.FETCH_TIMEOUT_S)
    _write_atomically(spooled, data)
    return data


def is_spooled(task: Task) -> bool:
    return _spool(task).exists()


def forget_spooled(task: Task) -> None:
    _spool(task).unlink(missing_ok=True)


def forget_left_behind(limit: datetime) -> int:
    """Spooled files that nobody has touched since: their process died. What a task that lives may yet store stays."""
    old = [path for path in Path(settings.SPOOL_DIR).rglob("*") if _is_file_older(path, limit)]
    ids = {int(number) for path in old if (number := path.name.partition("-")[0][:18]).isdecimal()}
    wanted = {_spool(task) for task in Task.objects.live().filter(pk__in=ids)}
    left = [path for path in old if path not in wanted]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def _is_file_older(path: Path, limit: datetime) -> bool:
    try:
        return path.is_file() and path.stat().st_mtime < limit.timestamp()
    except FileNotFoundError:  # stored, and gone, at this moment
        return False


def store_result(task: Task, data: bytes) -> Stored:
    """Decode strictly, thumbnail, store. Raises imaging.BadImage or StorageDown. Safe to repeat: names are by content."""
    picture, thumbs = imaging.save_result(data)
    folder = f"results/{task.team_id}/{task.pk}"
    stored = Stored(
        picture, _put(folder, picture), _put(folder, thumbs[640], "-640"), _put(folder, thumbs[320], "-320")
    )
    faults.point("CP9")
    return stored


def result_row(task: Task, stored: Stored) -> Result:
    picture = stored.picture
    return Result(
        task=task,
        key=stored.key,
        key_640=stored.key_640,
        key_320=stored.key_320,
        mime=picture.mime,
        sha256=picture.sha256,
        size_bytes=len(picture.data),
        width_px=picture.width_px,
        height_px=picture.height_px,
    )


# --- Serving -----------------------------------------------------------------------------------------------------------


def open_file(key: str) -> IO[bytes]:
    return default_storage.open(key)


def is_there(key: str) -> bool:
    """Raises StorageDown where nobody can tell."""
    try:
        with suppress(FileNotFoundError):
            default_storage.open(key).close()
            return True
        _check_place(key)
    except Exception as error:  # boto's errors again
        raise StorageDown(str(error)) from error
    return False


def _check_place(key: str) -> None:
    """A disk that is not mounted, or a bucket that is not there, has lost nothing."""
    if settings.S3_BUCKET:
        bucket = default_storage.bucket_name  # type: ignore[attr-defined]
        default_storage.connection.meta.client.head_bucket(Bucket=bucket)  # type: ignore[attr-defined]
    elif not Path(default_storage.path(folder := key.partition("/")[0])).is_dir():
        raise FileNotFoundError(f"there is no folder of {folder}: is the disk mounted?")


def has_lost(keys: Iterable[str]) -> bool:
    """Whether our storage answers and has no file of one of these names."""
    try:
        return not all(is_there(key) for key in keys)
    except StorageDown as error:  # it may have them all
        log.error("storage is down, nobody knows what it has", error=repr(error))
        return False


def read(key: str) -> bytes:
    """All of a file that is no larger than a picture. Raises FileNotFoundError or StorageDown."""
    try:
        with open_file(key) as file:
            return file.read()
    except FileNotFoundError:
        raise
    except Exception as error:  # boto's errors again
        raise StorageDown(type(error).__name__) from error


def read_if_there(key: str) -> bytes | None:
    """Raises StorageDown."""
    try:
        return read(key)
    except FileNotFoundError:
        return None


def response(
    key: str,
    mime: str,
    *,
    request: HttpRequest | None = None,
    download_name: str | None = None,
    private: bool = True,
    sure: bool = False,
) -> HttpResponse:
    """A stored file as an answer: by the web server in front of us, by a short-lived signed address of the bucket, or
    from our disk; then with the parts and the 304 that `request` asks for. Raises FileNotFoundError.

    The type is our encoder's, never the client's. `private` files may be kept by the browser that asked, by nobody else.
    `sure`: a bucket is asked whether it has the file before its address is handed out.
    """
    if private and settings.S3_BUCKET:
        if sure and has_lost([key]):
            raise FileNotFoundError(key)
        return _sent_to_bucket(_signed_url(key, mime, download_name))
    etag = quote_etag(sha256(key.encode()).hexdigest()[:32])  # names are by content, or used once
    try:
        answer = _sent(key, mime, download_name, request, etag)
    except FileNotFoundError:
        raise
    except Exception as error:  # boto's errors again; a bucket's file has been read whole by now
        log.error("storage is down, a file was not served", error=repr(error))
        return HttpResponse(
            "Pictures cannot be read right now. Try again in a minute.", status=503, content_type="text/plain"
        )
    answer["ETag"] = etag
    answer["Cache-Control"] = KEPT_BY_ONE if private else "public, max-age=3600"
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def _sent(key: str, mime: str, name: str | None, request: HttpRequest | None, etag: str) -> HttpResponse:
    if settings.X_ACCEL and not settings.S3_BUCKET:
        return _sent_by_the_server(key, mime, name)
    known = get_conditional_response(request, etag=etag) if request else None
    if known is not None:
        return known
    file = open_file(key)
    return _part(file, mime, name, request, etag) or _whole(file, mime, name)


def _whole(file: IO[bytes], mime: str, name: str | None) -> HttpResponse:
    answer = FileResponse(file, content_type=mime, as_attachment=bool(name), filename=name or "")
    answer["Accept-Ranges"] = "bytes"
    return answer  # type: ignore[return-value]


def _sent_by_the_server(key: str, mime: str, name: str | None) -> HttpResponse:
    """nginx, told where it lies, does the rest: parts, 304, sendfile."""
    if not default_storage.exists(key):
        raise FileNotFoundError(key)
    answer = HttpResponse(content_type=mime)
    answer["X-Accel-Redirect"] = f"{settings.X_ACCEL.rstrip('/')}/{quote(key)}"
    if name:
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")  # one part; whoever wants several at once gets all of it


def _part(file: IO[bytes], mime: str, name: str | None, request: HttpRequest | None, etag: str) -> HttpResponse | None:
    """The bytes that were asked for (RFC 9110, 14): a download that broke off goes on where it was."""
    if request is None or request.method != "GET" or request.headers.get("If-Range", etag) != etag:
        return None
    asked = RANGE.fullmatch(request.headers.get("Range", "").strip())
    if asked is None or not any(asked.groups()):
        return None
    size = file.size  # type: ignore[attr-defined]
    first, last = asked.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        file.close()
        headers = {"Content-Range": f"bytes */{size}"}
        return HttpResponse(status=416, content_type="text/plain", headers=headers)
    file.seek(start)
    part = _Part(file, end - start)
    answer = FileResponse(part, status=206, content_type=mime, as_attachment=bool(name), filename=name or "")
    answer["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    answer["Content-Length"] = str(end - start)
    answer["Accept-Ranges"] = "bytes"
    return answer  # type: ignore[return-value]


class _Part:
    """So many of a file's next bytes, as FileResponse reads them."""

    def __init__(self, file: IO[bytes], length: int) -> None:
        self._file, self._left = file, length
        self.close = file.close

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _sent_to_bucket(url: str) -> HttpResponse:
    """Each signature is another address, so the browser keeps this one, and with it the picture, for half its life."""
    answer = HttpResponseRedirect(url)
    answer["Cache-Control"] = f"private, max-age={SIGNED_OPEN_S // 2}"
    return answer


def _signed_url(key: str, mime: str, download_name: str | None) -> str:
    disposition = f'attachment; filename="{download_name}"' if download_name else "inline"
    parameters = {
        "ResponseContentType": mime,
        "ResponseContentDisposition": disposition,
        "ResponseCacheControl": KEPT_BY_ONE,
    }
    return default_storage.url(key, parameters=parameters, expire=SIGNED_OPEN_S)  # type: ignore[call-arg]


# --- Files -------------------------------------------------------------------------------------------------------------


def _put(folder: str, picture: imaging.Picture, suffix: str = "") -> str:
    """Store under a name made of the content's hash: storing the same bytes twice is storing them once."""
    key = f"{folder}/{picture.sha256[:32]}{suffix}.{picture.ext}"
    put_back(key, picture.data)
    return key


def put_back(key: str, data: bytes) -> None:
    """Under a name that these bytes have or had. Raises StorageDown."""
    try:
        if settings.S3_BUCKET:
            default_storage.save(key, ContentFile(data))
        else:
            _write_atomically(Path(default_storage.path(key)), data)
    except Exception as error:  # boto's errors share no base with OSError; whichever it is, our storage failed
        raise StorageDown(type(error).__name__) from error


def delete_files(keys: Iterable[str]) -> None:
    """For good, and a folder of our disk with its last file. One that is not there any more is no error."""
    for key in keys:
        try:
            default_storage.delete(key)
        except Exception as error:  # boto's errors again
            raise StorageDown(type(error).__name__) from error
        if not settings.S3_BUCKET:
            with suppress(OSError):  # others lie in it
                Path(default_storage.path(key)).parent.rmdir()


def _spool(task: Task) -> Path:
    return Path(settings.SPOOL_DIR) / f"{task.pk}-{task.upstream_id[:40].replace('/', '_')}"


def _write_atomically(path: Path, data: bytes) -> None:
    """Whole or not at all, also over a power cut: a half file never gets the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{new_token()}")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
