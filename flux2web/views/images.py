"""Picture files: results and references for members, hosted references for whoever holds their address, uploads."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from .. import access, forms, imaging, storage
from ..models import Membership, Reference, Role

HOSTED_POLICY = "default-src 'none'; sandbox"
RESULT_KEYS = {"original": "key", "download": "key", "640": "key_640", "320": "key_320"}
THUMB_MIME = "image/webp"


@require_safe
@access.team(Role.VIEWER)
def result(request: HttpRequest, member: Membership, task_id: int, variant: str) -> HttpResponse:
    if variant not in RESULT_KEYS:
        raise Http404
    row = access.result(member, task_id)
    mime = row.mime if RESULT_KEYS[variant] == "key" else THUMB_MIME
    name = f"flux2web-{task_id}.{storage.EXTENSIONS[row.mime]}" if variant == "download" else None
    return _file(getattr(row, RESULT_KEYS[variant]), mime, download_name=name)


@require_safe
@access.team(Role.VIEWER)
def reference(request: HttpRequest, member: Membership, reference_id: int, variant: str) -> HttpResponse:
    if variant not in ("thumb", "full"):
        raise Http404
    row = access.reference(member, reference_id)
    if variant == "thumb":
        return _file(row.thumb_key, THUMB_MIME)
    return _file(row.key, row.mime)


def _file(key: str, mime: str, **options: Any) -> HttpResponse:
    """A row may outlive its file (a restored backup): then there is nothing at this address."""
    try:
        return storage.response(key, mime, **options)
    except FileNotFoundError as missing:
        raise Http404 from missing


@access.public
@require_safe
def hosted(request: HttpRequest, name: str) -> HttpResponse:
    """A reference at the address minted for one task, open while that task may need it."""
    hosting = storage.open_hosting(name)
    if hosting is None:
        raise Http404
    answer = _file(hosting.reference.key, hosting.reference.mime, private=False)
    answer["Content-Security-Policy"] = HOSTED_POLICY
    answer["Content-Disposition"] = "inline"
    return answer


@require_POST
@access.team(Role.MEMBER)
def references(request: HttpRequest, member: Membership) -> HttpResponse:
    """Take one picture. From the form's script: its slot; from anywhere else: the studio with the picture in a slot."""
    file = request.FILES.get("file")
    name = str(file.name)[:120] if file else ""
    try:
        if file is None:
            raise imaging.BadImage("No file came. Choose a picture and try again.")
        row = storage.save_reference(member.team, member.user, file, name)
    except imaging.BadImage as problem:
        return _refused(request, member, f"{name}: {problem}" if name else str(problem))
    except storage.StorageDown:
        return _refused(request, member, forms.STORAGE_DOWN)
    return _kept(request, member, row)


def _kept(request: HttpRequest, member: Membership, row: Reference) -> HttpResponse:
    if request.htmx:  # type: ignore[attr-defined]
        context = {"member": member, "reference": row, "reference_id": row.pk, "number": ""}
        return render(request, "references/_slot.html", context)
    return redirect(f"{reverse('studio', args=[member.team.slug])}?references={row.pk}")


def _refused(request: HttpRequest, member: Membership, problem: str) -> HttpResponse:
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "references/_slot.html", {"member": member, "problem": problem}, status=422)
    messages.error(request, problem)
    return redirect("studio", member.team.slug)
