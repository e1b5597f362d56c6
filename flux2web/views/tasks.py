"""One task: its page, its card, what a member may do with it, and the catch-up of many cards at once."""

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
from ..cards import Card
from ..models import Membership, Role, State, Task
from ..orders import Refusal

TOO_LATE = "Too late to cancel: it has been sent to the provider. You are charged only if a picture comes."
RESTED = "We looked a moment ago. The card changes by itself as soon as there is news."


@require_safe
@access.team(Role.VIEWER)
def page(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    return render(request, "tasks/page.html", _page_context(member, task))


def _page_context(member: Membership, task: Task) -> dict[str, object]:
    return {
        "member": member,
        "task": task,
        "card": Card(task),
        "references": task.task_references.select_related("reference"),
        "siblings": access.tasks(member).filter(batch_id=task.batch_id).select_related("result").order_by("id"),
        "story": words.story(task.events.all()),
        "receipt": words.receipt(task),
    }


@require_safe
@access.team(Role.VIEWER)
def card(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    return _card_of(access.task(member, task_id))


@require_safe
@access.team(Role.VIEWER)
def cards(request: HttpRequest, member: Membership) -> HttpResponse:
    """Cards that are out of date (?have=id:version,...) or newer (?after=created,id); 204 when there is none."""
    after = queries.read_cursor(request.GET.get("after"))
    found = queries.cards_since(member, _have(request.GET.get("have", "")), after)
    if not found:
        return HttpResponse(status=204)
    return HttpResponse("".join(stream.render_card(task) for task in found), headers={"Cache-Control": "no-store"})


def _have(text: str) -> dict[int, int]:
    pairs = (part.partition(":") for part in text.split(",")[: queries.HAVE_MAX])
    return {pk: forms.as_id(version) for name, _, version in pairs if (pk := forms.as_id(name))}


@require_safe
@access.team(Role.VIEWER)
def live(request: HttpRequest, member: Membership) -> HttpResponse:
    """Streams are served before Django is reached (asgi.py). Without that server there is none: pages then poll."""
    return HttpResponse(status=204)


# --- What a member may do ----------------------------------------------------------------------------------------------


@require_POST
@access.team(Role.MEMBER)
def cancel(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    if task.user_id != member.user_id and not member.may_manage:
        raise PermissionDenied("Only its author or a team admin can cancel a picture.")
    cancelled = lifecycle.cancel(task, member.user)
    return _told(request, task, "" if cancelled or task.state == State.CANCELLED else TOO_LATE)


@require_POST
@access.team(Role.MEMBER)
def retry(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    outcome = lifecycle.retry(member, task)
    if isinstance(outcome, Refusal):
        return _refused(request, task, outcome.message)
    actors.kick_batch(outcome)
    return _told(request, outcome.tasks.get())


@require_POST
@access.team(Role.MEMBER)
def check(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    next_ = lifecycle.look_now(task, member.user)
    actors.kick(task.pk, next_)
    return _told(request, task, "" if next_ else RESTED)


def _told(request: HttpRequest, task: Task, problem: str = "") -> HttpResponse:
    """The card as it is now, or back to where the button was."""
    if problem:
        return _refused(request, task, problem)
    if request.htmx:  # type: ignore[attr-defined]
        return _card_of(task)
    return redirect(_back(request, task))


def _refused(request: HttpRequest, task: Task, message: str) -> HttpResponse:
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "_notice.html", {"message": {"tags": "warning", "text": message}}, status=422)
    messages.warning(request, message)
    return redirect(_back(request, task))


def _back(request: HttpRequest, task: Task) -> str:
    """The studio, unless the button stood on a task's own page."""
    own = reverse("task", args=[task.team.slug, task.pk])
    return own if request.POST.get("back") == "task" else reverse("studio", args=[task.team.slug])


def _card_of(task: Task) -> HttpResponse:
    fresh = queries.card_task(task.pk)
    return HttpResponse(stream.render_card(fresh or task), headers={"Cache-Control": "no-store"})
