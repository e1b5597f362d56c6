"""What a member does with one finished picture: heart, tag, who sees it, trash. Each works as a plain POST."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from .. import access, shelf
from ..models import Favourite, Membership, Role, Tag, Task
from ..shelf import Done, Refused
from .ways import own_path

NAMES_MAX = 20  # of those who like a picture


@require_POST
@access.team(Role.VIEWER)
def like(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    """Turns the heart, or sets it as `liked` says. With htmx the answer is the heart as it is now."""
    task = access.task(member, task_id)
    wanted = request.POST.get("liked")
    likes = wanted == "1" if wanted in ("0", "1") else not _likes(member, task)
    (shelf.like if likes else shelf.unlike)(member, [task])
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "shelf/_heart.html", {"member": member, **heart(member, task)})
    return _back(request, task)


def heart(member: Membership, task: Task) -> dict[str, object]:
    """What shelf/_heart.html says: mine or not, how many, whose. Two queries."""
    hearts = Favourite.objects.filter(task=task).select_related("user").order_by("pk")
    names = [str(one.user) for one in hearts[:NAMES_MAX]]
    task.favourites = Task.objects.values_list("favourites", flat=True).get(pk=task.pk)
    more = task.favourites - len(names)
    return {
        "task": task,
        "is_liked": _likes(member, task),
        "names": f"{', '.join(names)}{f' and {more} more' if more > 0 else ''}",
    }


def _likes(member: Membership, task: Task) -> bool:
    return Favourite.objects.filter(user=member.user_id, task=task).exists()


@require_POST
@access.team(Role.MEMBER)
def tag(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    typed = request.POST.get("name", "")
    try:
        done = shelf.add_tag(member, [task], typed)
    except Refused as problem:
        return _tags(request, member, task, problem=str(problem), typed=typed)
    return _tags(request, member, task, problem=_why_not(done), typed=typed if done.skipped else "")


@require_POST
@access.team(Role.MEMBER)
def untag(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    try:
        shelf.remove_tag(member, [task], request.POST.get("name", ""))
    except Refused as problem:
        return _tags(request, member, task, problem=str(problem))
    return _tags(request, member, task)


def _tags(request: HttpRequest, member: Membership, task: Task, *, problem: str = "", typed: str = "") -> HttpResponse:
    if request.htmx:  # type: ignore[attr-defined]
        context = {"member": member, "task": task, "tags": tags(task), "problem": problem, "typed": typed}
        return render(request, "shelf/_tags.html", context, status=422 if problem else 200)
    if problem:
        messages.warning(request, problem)
    return _back(request, task)


def tags(task: Task) -> list[Tag]:
    return list(Tag.objects.filter(uses__task=task).order_by("uses__pk"))


@require_POST
@access.team(Role.MEMBER)
def visibility(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    """`private` is 1 or 0; without it, the other way round."""
    task = access.task(member, task_id)
    wanted = request.POST.get("private")
    private = wanted == "1" if wanted in ("0", "1") else not task.private
    done = shelf.set_private(member, [task], private)
    said = "Only you see this picture now." if private else f"{member.team} sees this picture now."
    if done.skipped:
        return _told(request, task, "warning", "Only its author can change who sees a picture.")
    return _told(request, task, "success", " ".join(filter(None, [said, done.seen_still])))


@require_POST
@access.team(Role.MEMBER)
def delete(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    task = access.task(member, task_id)
    done = shelf.throw_away(member, [task])
    if done.skipped:
        return _told(request, task, "warning", WHY_NOT_DELETED.get(next(iter(done.skipped)), _why_not(done)))
    text = f"In the trash. It is gone for good in {settings.TRASH_DAYS} days."
    undo = reverse("restore", args=[member.team.slug, task.pk])
    return _told(request, task, "success", text, undo=undo, gone=str(task.pk))


WHY_NOT_DELETED = {
    shelf.OTHERS: "Only its author or a team admin can delete a picture.",
    shelf.STILL_LIVE: "This is still being made. Cancel it first, or wait for it.",
}


@require_POST
@access.team(Role.MEMBER)
def restore(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    """Also for what is there again already: two presses of Undo are one."""
    rows = access.tasks(member) | access.trash(member)
    task = get_object_or_404(rows, pk=task_id)
    done = shelf.restore(member, [task])
    if not done.done:
        raise Http404
    return _told(request, task, "success", "It is back.", back=str(task.pk))


@require_POST
@access.team(Role.ADMIN)
def default(request: HttpRequest, member: Membership) -> HttpResponse:
    """Who sees the team's new pictures."""
    wanted = request.POST.get("private")
    if wanted not in ("0", "1"):
        messages.error(request, "Choose who sees new pictures: the team, or only their author.")
    elif shelf.set_default(member, private=wanted == "1"):
        who = "only their author" if wanted == "1" else "the team"
        messages.success(request, f"New pictures are seen by {who}. Those there are stay as they are.")
    return redirect(own_path(request) or reverse("members", args=[member.team.slug]))


# --- Answers ---------------------------------------------------------------------------------------------------------


def _why_not(done: Done) -> str:
    return f"Not done: {done.left}." if done.skipped else ""


def _told(request: HttpRequest, task: Task, tone: str, text: str, **more: str) -> HttpResponse:
    """A line that says so; `undo` is the path that takes it back, `gone` and `back` an id for the page's script."""
    if request.htmx:  # type: ignore[attr-defined]
        here = own_path(request) or request.htmx.current_url_abs_path  # type: ignore[attr-defined]
        context = {
            "message": {"tags": tone, "text": text, **more},
            "next": here or reverse("history", args=[task.team.slug]),
        }
        return render(request, "_notice.html", context, status=422 if tone == "warning" else 200)
    messages.add_message(request, getattr(messages, tone.upper()), text, extra_tags=more.get("undo", ""))
    return _back(request, task, gone="gone" in more)


def _back(request: HttpRequest, task: Task, *, gone: bool = False) -> HttpResponse:
    """Where the button was: the path in `next`, else the picture's page, or the history once that is gone."""
    own = reverse("task", args=[task.team.slug, task.pk])
    path = own_path(request) or own
    return redirect(reverse("history", args=[task.team.slug]) if gone and path.startswith(own) else path)
