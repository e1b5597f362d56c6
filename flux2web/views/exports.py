"""Files that take a while to make: who asked for them sees how far they are, and fetches them."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .. import access, exports, storage
from ..models import Membership


@require_safe
@access.team()
@never_cache
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    """The list alone for a page that asks again; it stops asking once nothing is being made."""
    rows = [(row, exports.KINDS[row.kind].unit) for row in exports.mine(member)]
    context = {"rows": rows, "running": any(row.state in exports.LIVE for row, _ in rows)}
    return render(request, "exports/_list.html" if request.htmx else "exports/page.html", context)  # type: ignore[attr-defined]


@require_safe
@access.team()
@never_cache
def file(request: HttpRequest, member: Membership, export_id: int) -> HttpResponse:
    export = exports.ready(member, export_id)
    if export is None:
        raise Http404
    try:
        mime = exports.KINDS[export.kind].mime
        return storage.response(export.key, mime, request=request, download_name=export.name)
    except FileNotFoundError:
        raise Http404 from None
