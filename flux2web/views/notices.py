"""What one person should know: the strip on their pages, and the page of all."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from .. import access, notices, queries
from ..models import Notice
from .ways import came_from

PAGE = 30


@access.signed_in
def page(request: HttpRequest) -> HttpResponse:
    cursor = request.GET.get("before")
    mine = notices.of(request.user)  # type: ignore[arg-type]
    found = queries.page_of(mine, cursor, PAGE)
    unseen = any(notice.seen_at is None for notice in found.rows) or mine.filter(seen_at=None).exists()
    return render(request, "notices/page.html", {"page": found, "cursor": cursor, "unseen": unseen})


@access.signed_in
@never_cache
def strip(request: HttpRequest) -> HttpResponse:
    return render(request, "notices/_strip.html")


@require_POST
@access.signed_in
def dismiss(request: HttpRequest, notice_id: int) -> HttpResponse:
    """Somebody else's does not exist. Twice is as good as once."""
    mine = notices.of(request.user)  # type: ignore[arg-type]
    notice = get_object_or_404(mine, pk=notice_id)
    notices.put_away(Notice.objects.filter(pk=notice.pk))
    return render(request, "notices/_strip.html") if request.htmx else redirect(back(request))  # type: ignore[attr-defined]


@require_POST
@access.signed_in
def dismiss_all(request: HttpRequest) -> HttpResponse:
    notices.put_away(Notice.objects.filter(user=request.user))  # type: ignore[misc]
    return redirect("notices")


def back(request: HttpRequest) -> str:
    return came_from(request) or reverse("notices")
