"""What was sent together: how it stands, trying again what failed, taking back what waits."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from .. import access, actors, forms, lifecycle, queries
from .. import cards as words
from .. import live as stream
from ..models import Batch, Membership, Role, State, Task
from ..orders import Quote, Refusal
from . import agree

HEADS_MAX = 64  # of which a page may ask at once
NOTHING_WAITS = "Nothing of this waits any more: it has been sent. You are charged only for pictures that come."


@require_safe
@access.team(Role.VIEWER)
def heads(request: HttpRequest, member: Membership) -> HttpResponse:
    """The heads of these batches (?ids=1,2), as they stand now. Of what is no group for this member: none."""
    ids = [pk for text in request.GET.get("ids", "").split(",")[:HEADS_MAX] if (pk := forms.as_id(text))]
    found = words.heads(member, ids).values()
    drawn = [render(request, "batches/_head.html", {"head": head, "member": member}).content for head in found]
    return HttpResponse(b"".join(drawn), headers={"Cache-Control": "no-store"})


@require_POST
@access.team(Role.MEMBER)
def retry(request: HttpRequest, member: Membership, batch_id: int) -> HttpResponse:
    batch = access.batch(member, batch_id)
    outcome = lifecycle.retry_failed(member, batch, **agree.agreed(request, member))
    if isinstance(outcome, Refusal):
        return _refused(request, member, batch, outcome)
    actors.kick_batch(outcome)
    return _told(request, member, list(access.tasks(member).filter(batch=outcome)), "Sent: {}. Follow along below.")


def _refused(request: HttpRequest, member: Membership, batch: Batch, refusal: Refusal) -> HttpResponse:
    """What it costs now is shown, and may be agreed to."""
    quoted = lifecycle.retry_failed_price(member, batch) if refusal.kind in agree.TITLES else None
    if not isinstance(quoted, Quote):
        return _said(request, member, refusal.message)
    return agree.question(request, member, f"batch-{batch.pk}", refusal, quoted)


@require_POST
@access.team(Role.MEMBER)
def cancel(request: HttpRequest, member: Membership, batch_id: int) -> HttpResponse:
    batch = access.batch(member, batch_id)
    if batch.user_id != member.user_id and not member.may_manage:
        raise PermissionDenied("Only its author or a team admin can cancel pictures.")
    waiting = access.tasks(member).filter(batch=batch, state=State.QUEUED)
    cancelled = [task for task in waiting if lifecycle.cancel(task, member.user)]
    if not cancelled:
        return _said(request, member, NOTHING_WAITS)
    return _told(request, member, cancelled, "Cancelled: {}. Their credits are back.")


# --- Answers -------------------------------------------------------------------------------------------------------------


def _told(request: HttpRequest, member: Membership, tasks: list[Task], said: str) -> HttpResponse:
    """The cards as they are now, or back to the studio."""
    if request.htmx:  # type: ignore[attr-defined]
        rows = queries.newest_first(queries.with_card(access.tasks(member).filter(pk__in=[task.pk for task in tasks])))
        return HttpResponse(stream.render_cards(rows), headers={"Cache-Control": "no-store"})
    messages.success(request, said.format(f"{len(tasks)} {'picture' if len(tasks) == 1 else 'pictures'}"))
    return _back(member)


def _said(request: HttpRequest, member: Membership, message: str) -> HttpResponse:
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "_notice.html", {"message": {"tags": "warning", "text": message}}, status=422)
    messages.warning(request, message)
    return _back(member)


def _back(member: Membership) -> HttpResponse:
    return redirect(reverse("studio", args=[member.team.slug]))
