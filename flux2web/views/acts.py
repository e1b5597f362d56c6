"""What admins did: the newest first, by team, person and deed."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .. import access
from ..forms_console import ActsForm
from ..models import Act

PAGE = 50
# Words have no index: that many acts are looked through for a page. A million took 250 ms on SQLite and 600 on PostgreSQL
# when the word was in none of them (2026-11), and nobody bounds their number.
LOOKED_THROUGH = 100_000


@access.site_admin
def page(request: HttpRequest) -> HttpResponse:
    form = ActsForm(request.GET)
    cursor = read_cursor(request.GET.get("before"))
    end = _end(cursor) if form.is_valid() and form.has_words else 0
    rows = list(older(form.rows(), cursor).filter(pk__gte=end)[: PAGE + 1]) if form.is_valid() else []
    cut = Act.objects.filter(pk__lt=end).order_by("-pk").first() if len(rows) <= PAGE else None
    context = {
        "form": form,
        "rows": rows[:PAGE],
        "cut": cut,
        "next": link(request, rows[PAGE - 1].pk) if len(rows) > PAGE else link(request, end) if cut else "",
        "newest": link(request) if cursor else "",
        "is_filtered": form.is_valid() and any(form.cleaned_data.values()),
    }
    return render(request, "console/acts.html", context, status=200 if form.is_valid() else 422)


def _end(cursor: int | None) -> int:
    """The oldest act that a page with words looks at."""
    newest = Act.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return (cursor or newest + 1) - LOOKED_THROUGH


def older(rows, cursor: int | None):
    """By id, which grows with time: as quick at depth as at the start."""
    return (rows.filter(pk__lt=cursor) if cursor else rows).select_related("team").order_by("-pk")


def read_cursor(text: str | None) -> int | None:
    """An id out of a query string; None for anything that is not one."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


def link(request: HttpRequest, before: int | None = None) -> str:
    """This page with its filters, elsewhere in the list."""
    query = request.GET.copy()
    query.pop("before", None)
    if before:
        query["before"] = str(before)
    return f"?{query.urlencode()}"
