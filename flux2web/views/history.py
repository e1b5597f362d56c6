"""The team's history: every picture, newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from itertools import groupby
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from .. import access, queries
from ..cards import Card
from ..models import Membership, Role, Task


@require_GET
@access.team(Role.VIEWER)
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    found = queries.history(member, request.GET.get("cursor"))
    groups = days(found.rows, shown=request.GET.get("day", ""))
    context = {
        "member": member,
        "days": groups,
        "next": found.next,
        "last_day": groups[-1]["date"].isoformat() if groups else "",
        "is_first": "cursor" not in request.GET,
    }
    template = "history/_days.html" if request.htmx else "history/page.html"  # type: ignore[attr-defined]
    return render(request, template, context)


def days(tasks: Iterable[Task], *, shown: str) -> list[dict[str, Any]]:
    """Tasks by day. The day `shown` above already, at the end of the page before, gets no second heading."""
    return [
        {"date": day, "is_shown": day.isoformat() == shown, "first": group[0], "tiles": [tile(task) for task in group]}
        for day, group in ((day, list(rows)) for day, rows in groupby(tasks, key=_day))
    ]


def _day(task: Task) -> date:
    return timezone.localtime(task.created).date()


def tile(task: Task) -> dict[str, Any]:
    return {"task": task, "card": Card(task), "width": _width(task)}


def _width(task: Task) -> int:
    """Tenths of its height, for the justified rows; the stylesheet knows each from 4 to 30."""
    result = getattr(task, "result", None)
    return max(4, min(30, round(10 * result.width_px / result.height_px))) if result else 7
