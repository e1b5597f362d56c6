"""What guests see who have a link: one collection's pictures, and nothing else of the team.

A link that ran out, was revoked, or never was one gets one and the same answer: nobody learns which.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.adapter import get_adapter
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from .. import access, cards, collecting, lost, storage
from ..cards import Card, shortened
from ..forms_collections import GuestForm
from ..models import Comment, ShareLink, Task
from ..shelf import Refused

FILES = {"original": "key", "640": "key_640", "320": "key_320"}
KEPT_BRIEFLY = "private, max-age=300"
SAID = "shared-comments"  # in the guest's session: the ids of what they said, newest last
SAID_MAX = 50
View = Callable[..., HttpResponse]


def by_link(view: View) -> View:
    """The view gets the open ShareLink in place of the token. What it answers is for nobody's index and no cache."""

    @wraps(view)
    def guarded(request: HttpRequest, token: str, **kwargs: Any) -> HttpResponse:
        link = access.share_link(token)
        answer = closed(request) if link is None else view(request, link, token, **kwargs)
        answer.setdefault("Cache-Control", "private, no-store")
        answer.setdefault("Referrer-Policy", "no-referrer")
        answer["X-Robots-Tag"] = "noindex, nofollow, noarchive"
        return answer

    return access.public(guarded)


def closed(request: HttpRequest) -> HttpResponse:
    return render(request, "share/closed.html", status=404)


@by_link
@require_safe
def page(request: HttpRequest, link: ShareLink, token: str) -> HttpResponse:
    before = request.GET.get("before", "")
    place = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    tasks, following = collecting.shared_page(link, place)
    context = {
        "link": link,
        "token": token,
        "tiles": [(task, _alt(link, task), _width(task)) for task in tasks],
        "next": following,
        "is_first": place is None,
    }
    return render(request, "share/page.html", context)


@by_link
@require_http_methods(["GET", "HEAD", "POST"])
def picture(request: HttpRequest, link: ShareLink, token: str, task_id: int) -> HttpResponse:
    """A POST is a guest's comment."""
    task = access.shared_task(link, task_id)
    if task is None:
        return render(request, "share/missing.html", {"token": token}, status=404)
    if request.method == "POST":
        return _say(request, link, token, task)
    return _picture(request, link, token, task, form=GuestForm(initial={"name": request.session.get("guest", "")}))


def _picture(
    request: HttpRequest, link: ShareLink, token: str, task: Task, *, form: GuestForm, status: int = 200
) -> HttpResponse:
    newer, older = collecting.shared_neighbours(link, task)
    context = {
        "link": link,
        "token": token,
        "task": task,
        "alt": _alt(link, task),
        "gone": cards.GONE if Card(task).is_lost else "",
        "newer": newer,
        "older": older,
        "form": form,
        "comments": _own_comments(request, task) if link.may_comment else [],
    }
    answer = render(request, "share/picture.html", context, status=status)
    if link.may_comment:  # with no referrer at all, browsers post from nowhere, and the form would be refused
        answer["Referrer-Policy"] = "same-origin"
    return answer


def _own_comments(request: HttpRequest, task: Task) -> list[Comment]:
    """What this guest said here. Other guests' words are the team's alone, as the team's own are."""
    ids = request.session.get(SAID, [])
    return list(Comment.objects.filter(pk__in=ids, task=task, user=None).order_by("created", "pk")) if ids else []


def _say(request: HttpRequest, link: ShareLink, token: str, task: Task) -> HttpResponse:
    if not link.may_comment:
        return render(request, "share/missing.html", {"token": token}, status=404)
    form = GuestForm(request.POST)
    if not form.is_valid():
        return _picture(request, link, token, task, form=form, status=422)
    guest, text = form.cleaned_data["name"], form.cleaned_data["text"]
    try:
        said = collecting.say(link, task, guest=guest, text=text, address=get_adapter().get_client_ip(request))
    except collecting.TooMany as problem:
        form.add_error(None, str(problem))
        return _picture(request, link, token, task, form=form, status=429)
    except Refused as problem:
        form.add_error(None, str(problem))
        return _picture(request, link, token, task, form=form, status=422)
    request.session["guest"] = guest
    request.session[SAID] = [*request.session.get(SAID, []), said.pk][-SAID_MAX:]
    messages.success(request, "Sent. The team reads it.")
    return redirect("shared-picture", token, task.pk)


@by_link
@require_safe
def file(request: HttpRequest, link: ShareLink, token: str, task_id: int, variant: str) -> HttpResponse:
    task = access.shared_task(link, task_id)
    if task is None or variant not in FILES:
        return HttpResponse("There is no such picture behind this link.", status=404, content_type="text/plain")
    row = task.result
    is_original = variant == "original"
    try:
        with lost.noticed(row, "guest"):
            mime = row.mime if is_original else "image/webp"
            answer = storage.response(getattr(row, FILES[variant]), mime, sure=is_original)
    except FileNotFoundError as missing:
        raise Http404 from missing
    except storage.StorageDown:
        return HttpResponse("Pictures cannot be read right now.", status=503, content_type="text/plain")
    if answer.status_code != 503:
        answer["Cache-Control"] = KEPT_BRIEFLY
    return answer


def _alt(link: ShareLink, task: Task) -> str:
    """In words what it shows: the description that somebody wrote, the prompt only where it may be seen."""
    if task.alt:
        return task.alt
    return shortened(task.prompt, 120) if link.shows_prompts else "Picture"


def _width(task: Task) -> int:
    """Tenths of its height, for rows that fit."""
    return max(4, min(30, round(10 * task.result.width_px / task.result.height_px)))
