"""One task: its page, its card, what a member may do with it, and the catch-up of many cards at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_POST, require_safe

from .. import (
    access,
    actors,
    alerts,
    collecting,
    forms,
    history,
    imaging,
    lifecycle,
    lineage,
    queries,
    references,
    shelf,
    storage,
)
from .. import cards as words
from .. import live as stream
from ..cards import Card
from ..forms_history import FilterForm
from ..models import Batch, Comment, Membership, Role, State, Task, TaskReference
from ..orders import Quote, Refusal
from . import agree
from . import shelf as shelf_page

Row = TypeVar("Row")
NOBODY_TAKES_IT = "No provider takes this at the moment"
TOO_LATE = "Too late to cancel: it has been sent to the provider. You are charged only if a picture comes."
REPORTED = "The site admins know of it now. We keep looking, and your credits stay held until it is clear."
REPORTED_BEFORE = "The site admins were told of this already. We keep looking."
ANSWERED = "There is an answer by now, so nothing was reported."
RESTED = "We looked a moment ago. The card changes by itself as soon as there is news."


@require_safe
@access.team(Role.VIEWER)
def page(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    """The page; of htmx, or with ?overlay, its content alone. The filters in its address are the list it is walked in."""
    return _shown(request, member, access.task(member, task_id))


def _shown(request: HttpRequest, member: Membership, task: Task, *, status: int = 200, **said: object) -> HttpResponse:
    inside = request.htmx or "overlay" in request.GET  # type: ignore[attr-defined]
    template = "tasks/_detail.html" if inside else "tasks/page.html"
    answer = render(request, template, _page_context(request, member, task) | said, status=status)
    patch_vary_headers(answer, ["HX-Request"])
    return answer


def _page_context(request: HttpRequest, member: Membership, task: Task) -> dict[str, object]:
    given = request.GET
    return {
        "member": member,
        "task": task,
        "card": Card(task),
        "references": _images_of(member, task),
        "siblings": access.tasks(member).filter(batch_id=task.batch_id).select_related("result").order_by("id"),
        "story": words.story(task.events.all()),
        "receipt": words.receipt(task),
        "is_author": task.user_id == member.user_id,
        "walk": _walk(member, task, given),
        "origin": _origin(member, task),
        "derived": _derived(member, task, forms.as_id(given.get("derived"))),
        "comments": _comments(task, forms.as_id(given.get("earlier"))),
        "again": _again(member, task),
        **(_kept(member, task) if task.state == State.DONE else {}),
    }


def _kept(member: Membership, task: Task) -> dict[str, object]:
    """Hearts, tags and collections."""
    placed = access.collections(member).filter(items__task=task).order_by("name")
    addable = collecting.holding(task, collecting.editable(member)).order_by("-holds", "name")  # type: ignore[misc]
    return {
        **shelf_page.heart(member, task),
        "task": task,
        "tags": shelf_page.tags(task),
        "placed": placed[:COLLECTIONS_SHOWN],
        "addable": addable[:COLLECTIONS_SHOWN] if member.may_make else (),
    }


# --- What surrounds it -------------------------------------------------------------------------------------------------

COLLECTIONS_SHOWN = 100
CHILDREN_SHOWN, COMMENTS_SHOWN = 12, 50


@dataclass(frozen=True)
class Walk:
    """The pictures before and after this one in the list that it was opened from, and that list's query string."""

    before: int | None
    after: int | None
    query: str


def _walk(member: Membership, task: Task, given: QueryDict) -> Walk:
    form = FilterForm(given, member=member)
    before, after = history.neighbours(member, form.filters(), task)
    return Walk(before, after, form.query())


@dataclass(frozen=True)
class Origin:
    """What a picture was made after, and how the two orders differ."""

    task: Task
    card: Card
    words: list[lineage.Piece]
    rows: list[lineage.Row]


def _origin(member: Membership, task: Task) -> Origin | None:
    parent = access.tasks(member).select_related("user", "account", "result").filter(pk=task.parent_id).first()
    if parent is None:
        return None
    images = image_names(member, [parent, task])
    rows = [row for row in lineage.rows([parent, task], images) if row.differs]
    return Origin(parent, Card(parent), lineage.words(parent.prompt, task.prompt), rows)


def _images_of(member: Membership, task: Task) -> list[tuple[TaskReference, bool]]:
    """Each use, and whether this member sees what was used."""
    uses = task.task_references.select_related("reference")
    return [(use, access.sees_reference(use.reference, member.user_id)) for use in uses]


def image_names(member: Membership, tasks: Sequence[Task]) -> list[list[str]]:
    """What this member may call each task's images, in order; one query."""
    found = TaskReference.objects.filter(task__in=tasks).select_related("reference").order_by("number")
    by_task: dict[int, list[str]] = {}
    for use in found:
        by_task.setdefault(use.task_id, []).append(access.reference_name(use.reference, member.user_id))
    return [by_task.get(task.pk, []) for task in tasks]


@dataclass(frozen=True)
class Some(Generic[Row]):
    """Some of many, and the id from which the rest goes on; 0 where these are all."""

    rows: list[Row]
    more: int


def _derived(member: Membership, task: Task, before: int) -> Some[Card]:
    """Pictures made after this one, the newest first."""
    rows = access.tasks(member).filter(parent=task, state=State.DONE).select_related("user", "account", "result")
    rows = rows.filter(pk__lt=before) if before else rows
    found = list(rows.order_by("-id")[: CHILDREN_SHOWN + 1])
    return Some([Card(child) for child in found[:CHILDREN_SHOWN]], _rest(found, CHILDREN_SHOWN))


def _comments(task: Task, before: int) -> Some[Comment]:
    """The newest comments, oldest first."""
    rows = task.comments.select_related("user")
    rows = rows.filter(pk__lt=before) if before else rows
    found = list(rows.order_by("-id")[: COMMENTS_SHOWN + 1])
    return Some(found[:COMMENTS_SHOWN][::-1], _rest(found, COMMENTS_SHOWN))


def _rest(found: Sequence[Model], most: int) -> int:
    return found[most - 1].pk if len(found) > most else 0


def _again(member: Membership, task: Task) -> dict[str, Quote | str | None]:
    """What "Run again" and "More like this" cost now; None where nobody could take it, or the team does not make it: `why`."""
    if not member.may_make or task.state != State.DONE:
        return {}
    once, more = lifecycle.again_price(member, task), lifecycle.more_price(member, task)
    return {
        "once": once if isinstance(once, Quote) else None,
        "more": more if isinstance(more, Quote) else None,
        "why": once.message if isinstance(once, Refusal) and once.kind == "kind" else NOBODY_TAKES_IT,
    }


@require_safe
@access.team(Role.VIEWER)
def card(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    return _card_of(access.task(member, task_id))


@require_safe
@access.team(Role.VIEWER)
def cards(request: HttpRequest, member: Membership) -> HttpResponse:
    """Cards that are out of date (?have=id:version,...) or newer (?after=created,id); 204 when there is none.

    X-Gone names those that this member does not see any more, X-Liked those of the answer that this member likes.
    """
    after = queries.read_cursor(request.GET.get("after"))
    found = queries.cards_since(member, _have(request.GET.get("have", "")), after)
    headers = {"Cache-Control": "no-store", "X-Gone": ",".join(map(str, found.gone))}
    if not found.cards:
        return HttpResponse(status=204, headers=headers)
    headers["X-Liked"] = ",".join(map(str, shelf.liked(member, found.cards)))
    return HttpResponse(stream.render_cards(found.cards), headers=headers)


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
    outcome = lifecycle.retry(member, task, **_seen(request, member))
    return _sent(request, member, task, outcome, lifecycle.again_price)


@require_POST
@access.team(Role.MEMBER)
def more(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    outcome = lifecycle.more(member, task, **_seen(request, member))
    return _sent(request, member, task, outcome, lifecycle.more_price)


def _seen(request: HttpRequest, member: Membership) -> dict[str, int | None]:
    """What was seen and agreed to: of the button, and the version of the card that it stood on."""
    return agree.agreed(request, member) | {"version_seen": forms.as_id(request.GET.get("seen")) or None}


def _sent(
    request: HttpRequest,
    member: Membership,
    task: Task,
    outcome: Batch | Refusal,
    price_now: Callable[[Membership, Task], Quote | Refusal],
) -> HttpResponse:
    if isinstance(outcome, Refusal):
        quoted = price_now(member, task) if outcome.kind == "confirm" else None
        if isinstance(quoted, Quote):
            return agree.question(request, member, f"task-{task.pk}", outcome, quoted)
        return _refused(request, task, outcome.message)
    actors.kick_batch(outcome)
    return _told(request, outcome.tasks.earliest("id"))


@require_POST
@access.team(Role.MEMBER)
def check(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    next_ = lifecycle.look_now(task, member.user)
    actors.kick(task.pk, next_)
    return _told(request, task, "" if next_ else RESTED)


@require_POST
@access.team(Role.MEMBER)
def report(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    if task.user_id != member.user_id and not member.may_manage:
        raise PermissionDenied("Only its author or a team admin can report a picture.")
    reported = alerts.report(task, member.user)
    if reported is None:
        return _refused(request, task, ANSWERED)
    return _said(request, task, "success" if reported else "info", REPORTED if reported else REPORTED_BEFORE)


# --- Words and uses ------------------------------------------------------------------------------------------------------


@require_POST
@access.team(Role.MEMBER)
def use(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    """The picture becomes one of the team's images. On to the studio, where it takes the next free slot."""
    task = access.task(member, task_id)
    try:
        reference = references.from_result(member, access.result(member, task_id))
    except imaging.BadImage as problem:
        return _refused(request, task, f"This picture cannot be used as an image: {problem}")
    except FileNotFoundError:
        return _refused(request, task, f"{words.GONE}, so it cannot be used as an image.")
    except storage.StorageDown:
        return _refused(request, task, forms.STORAGE_DOWN)
    return redirect(f"{reverse('studio', args=[member.team.slug])}?references={reference.pk}&what=image")


@require_POST
@access.team(Role.MEMBER)
def set_alt(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    if task.user_id != member.user_id and not member.may_manage:
        raise PermissionDenied("Only its author or a team admin can describe a picture.")
    typed = request.POST.get("alt", "")
    try:
        shelf.set_alt(member, task, typed)
    except shelf.Refused as problem:
        return _shown(request, member, task, status=422, alt_problem=str(problem), alt_typed=typed)
    return _changed(request, member, task, "description")


@require_POST
@access.team(Role.MEMBER)
def comment(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    typed = request.POST.get("text", "")
    try:
        shelf.comment(member, task, typed)
    except shelf.Refused as problem:
        return _shown(request, member, task, status=422, comment_problem=str(problem), comment_typed=typed)
    return _changed(request, member, task, "comments")


@require_POST
@access.team(Role.MEMBER)
def delete_comment(request: HttpRequest, member: Membership, task_id: int, comment_id: int) -> HttpResponse:
    """Of one that is gone already: it is what was asked for."""
    task = access.task(member, task_id)
    try:
        shelf.delete_comment(member, task, comment_id)
    except shelf.Refused as problem:
        raise PermissionDenied(str(problem)) from problem
    return _changed(request, member, task, "comments")


def _changed(request: HttpRequest, member: Membership, task: Task, place: str) -> HttpResponse:
    """The content as it is now, or the page again where the form stood on it."""
    if request.htmx:  # type: ignore[attr-defined]
        return _shown(request, member, access.task(member, task.pk))
    query = FilterForm(request.GET, member=member).query()
    return redirect(f"{reverse('task', args=[member.team.slug, task.pk])}{query and f'?{query}'}#{place}")


# --- Answers -------------------------------------------------------------------------------------------------------------


def _told(request: HttpRequest, task: Task, problem: str = "") -> HttpResponse:
    """The card as it is now, or back to where the button was."""
    if problem:
        return _refused(request, task, problem)
    if request.htmx:  # type: ignore[attr-defined]
        return _card_of(task)
    return redirect(_back(request, task))


def _refused(request: HttpRequest, task: Task, message: str) -> HttpResponse:
    return _said(request, task, "warning", message, status=422)


def _said(request: HttpRequest, task: Task, tone: str, text: str, status: int = 200) -> HttpResponse:
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "_notice.html", {"message": {"tags": tone, "text": text}}, status=status)
    messages.add_message(request, getattr(messages, tone.upper()), text)
    return redirect(_back(request, task))


def _back(request: HttpRequest, task: Task) -> str:
    """The studio, unless the button stood on a task's own page."""
    own = reverse("task", args=[task.team.slug, task.pk])
    return own if request.POST.get("back") == "task" else reverse("studio", args=[task.team.slug])


def _card_of(task: Task) -> HttpResponse:
    fresh = queries.card_task(task.pk)
    return HttpResponse(stream.render_card(fresh or task), headers={"Cache-Control": "no-store"})
