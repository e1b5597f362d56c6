"""Picture files: results and references for members, hosted references for whoever holds their address."""

from __future__ import annotations

from contextlib import suppress
from threading import BoundedSemaphore
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from .. import access, cards, files, imaging, lost, storage
from ..models import Membership, Result, Role
from . import errors

HOSTED_POLICY = "default-src 'none'; sandbox"
RESULT_KEYS = {"original": "key", "download": "key", "640": "key_640", "320": "key_320"}
ORIGINALS = ("original", "download")
LEFT = "left"  # of a lost picture: the larger small copy that is there
FORMS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}
THUMB_MIME = "image/webp"
# In the place of a picture that our storage has lost; what can be done about it stands around it.
LOST = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<rect width="100%" height="100%" fill="#50555c"/><text x="50%" y="50%" fill="#fff" text-anchor="middle"
font-family="system-ui, sans-serif" font-size="{size}">{words}</text></svg>"""
CONVERTING_MAX, CONVERTING_WAIT_S = imaging.CHILDREN_MAX + 1, 10  # so that pages always find a thread
_converting = BoundedSemaphore(CONVERTING_MAX)


@require_safe
@access.team(Role.VIEWER)
def result(request: HttpRequest, member: Membership, task_id: int, variant: str) -> HttpResponse:
    """A result as it is stored, small, or to take away: also in another format, and with the settings in the file."""
    if variant not in (*RESULT_KEYS, *FORMS, LEFT):
        raise Http404
    row = access.result(member, task_id)
    try:
        with lost.noticed(row, "page"):
            return _answer(request, row, variant)
    except FileNotFoundError:
        return _not_there(request, row, variant)
    except storage.StorageDown:
        return _not_now("Pictures cannot be read right now. Try again in a minute.", 503)


def _answer(request: HttpRequest, row: Result, variant: str) -> HttpResponse:
    """Raises FileNotFoundError, StorageDown."""
    if variant == LEFT:
        return _left(row)
    if variant in FORMS or (variant == "download" and request.GET.get("settings") == "1"):
        return _made_for(request, row, FORMS.get(variant, ""))
    mime = row.mime if variant in ORIGINALS else THUMB_MIME
    name = f"flux2web-{row.task_id}.{storage.EXTENSIONS[row.mime]}" if variant == "download" else None
    key = getattr(row, RESULT_KEYS[variant])
    return storage.response(key, mime, request=request, download_name=name, sure=variant in ORIGINALS)


def _left(row: Result) -> HttpResponse:
    """Of a lost picture what there is. Kept by nobody, so that it is asked for each time, and a file that is back is found."""
    for key in (row.key_640, row.key_320):
        with suppress(FileNotFoundError):
            return _unkept(storage.response(key, THUMB_MIME, sure=True))
    return HttpResponse("Nothing is left of this picture.", status=404, content_type="text/plain")


def _not_there(request: HttpRequest, row: Result, variant: str) -> HttpResponse:
    """In the place of a small copy the original where that is there; else words."""
    if variant == "download" or variant in FORMS:
        return errors.answer(404, cards.GONE, cards.NOT_STORED)
    if row.lost_at is None:
        with suppress(FileNotFoundError):
            return _unkept(storage.response(row.key, row.mime))
    drawn = LOST.format(width=row.width_px, height=row.height_px, size=row.width_px // 20, words=cards.GONE)
    return _unkept(HttpResponse(drawn, status=404, content_type="image/svg+xml"))


def _unkept(answer: HttpResponse) -> HttpResponse:
    answer["Cache-Control"] = "no-store"
    return answer


def _made_for(request: HttpRequest, row: Result, form: str) -> HttpResponse:
    """A copy for this one person; what is stored stays as it is. The same format is the original's very pixels.

    Raises FileNotFoundError, StorageDown.
    """
    has_words = request.GET.get("settings") == "1"
    mime = imaging.MIMES.get(form, row.mime)
    name = f"flux2web-{row.task_id}.{storage.EXTENSIONS[mime]}"
    if mime == row.mime and not has_words:
        return storage.response(row.key, row.mime, request=request, download_name=name, sure=True)
    if not _converting.acquire(timeout=CONVERTING_WAIT_S):
        return _not_now("Other pictures are being converted. Try again in a moment.", 503)
    try:
        data = storage.read(row.key)
        same = imaging.Picture(data, row.mime, "", row.width_px, row.height_px, row.sha256)
        picture = same if mime == row.mime else imaging.convert(data, form)
        picture = imaging.with_words(picture, files.settings_of(row.task)) if has_words else picture
    except imaging.BadImage as problem:
        return _not_now(str(problem), 422)
    finally:
        _converting.release()
    answer = HttpResponse(picture.data, content_type=picture.mime)
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    answer["Cache-Control"] = "private, no-store"
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def _not_now(text: str, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8", headers={"Retry-After": "10"})


@require_safe
@access.team(Role.VIEWER)
def reference(request: HttpRequest, member: Membership, reference_id: int, variant: str) -> HttpResponse:
    if variant not in ("thumb", "full"):
        raise Http404
    row = access.reference(member, reference_id)
    if variant == "thumb":
        return _file(request, row.thumb_key, THUMB_MIME)
    return _file(request, row.key, row.mime)


def _file(request: HttpRequest, key: str, mime: str, **options: Any) -> HttpResponse:
    """A row may outlive its file (a restored backup): then there is nothing at this address."""
    try:
        return storage.response(key, mime, request=request, **options)
    except FileNotFoundError as missing:
        raise Http404 from missing


@access.public
@require_safe
def hosted(request: HttpRequest, name: str) -> HttpResponse:
    """A reference at the address minted for one task, open while that task may need it."""
    hosting = storage.open_hosting(name)
    if hosting is None:
        raise Http404
    answer = _file(request, hosting.reference.key, hosting.reference.mime, private=False)
    answer["Content-Security-Policy"] = HOSTED_POLICY
    answer["Content-Disposition"] = "inline"
    return answer
