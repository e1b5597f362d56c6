"""Two to four pictures beside each other, and how their settings differ."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from .. import access, forms, lineage
from ..cards import Card
from ..models import Membership, Role, Task
from .tasks import image_names

LEAST, MOST = 2, 4


@require_safe
@access.team(Role.VIEWER)
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    tasks, problem = _asked(member, request.GET.get("ids", ""))
    if problem:
        return render(request, "compare/page.html", {"member": member, "problem": problem}, status=400)
    rows = lineage.rows(tasks, image_names(member, tasks))
    context = {
        "member": member,
        "cards": [Card(task) for task in tasks],
        "prompts": _prompts(tasks),
        "rows": [row for row in rows if row.differs],
        "same": [row for row in rows if not row.differs],
    }
    return render(request, "compare/page.html", context)


def _asked(member: Membership, text: str) -> tuple[list[Task], str]:
    """The pictures of `1,2,3` in that order, or why not. What the member may not see is missing: 404."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    ids = list(dict.fromkeys(forms.as_id(part) for part in parts[: MOST + 1]))
    if 0 in ids:
        return [], "An address to compare pictures has their numbers in it, for example ?ids=12,15."
    if not LEAST <= len(ids) <= MOST:
        return [], f"Choose {LEAST} to {MOST} different pictures; this names {'more' if len(ids) > MOST else len(ids)}."
    found = access.tasks(member).select_related("user", "account", "result").in_bulk(ids)
    if len(found) < len(ids):
        raise Http404
    tasks = [found[pk] for pk in ids]
    without = next((task for task in tasks if not (Card(task).is_shown or Card(task).is_lost)), None)
    return tasks, f"Task {without.pk} has no picture to compare." if without else ""


def _prompts(tasks: list[Task]) -> list[list[lineage.Piece]]:
    """The first prompt whole, and of each other one how it differs from that; [] where it is the same."""
    first, *others = (task.prompt for task in tasks)
    return [[lineage.Piece("same", first)], *(lineage.words(first, other) for other in others)]
