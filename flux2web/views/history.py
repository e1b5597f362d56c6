"""The team's history: every picture, newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from itertools import groupby
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from .. import access, queries
from ..cards import Card
from ..models import Membership, Role, State, Task


@require_safe
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
    return [_of_day(date, list(rows), shown) for date, rows in groupby(tasks, key=_day)]


def _of_day(date: date, tasks: list[Task], shown: str) -> dict[str, Any]:
    """The pictures in rows, what is live or went wrong in short lines above them."""
    cards = [Card(task) for task in tasks]
    return {
        "date": date,
        "is_shown": date.isoformat() == shown,
        "first": tasks[0],
        "tiles": [{"card": card, "width": _width(card.task)} for card in cards if card.task.state == State.DONE],
        "others": [card for card in cards if card.task.state != State.DONE],
    }


def _day(task: Task) -> date:
    return timezone.localtime(task.created).date()


def _width(task: Task) -> int:
    """Tenths of its height, for the justified rows; the stylesheet knows each from 4 to 30."""
    return max(4, min(30, round(10 * task.result.width_px / task.result.height_px)))
