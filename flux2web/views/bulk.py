"""Many pictures at once: what the bar over the history does with those that were chosen, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from django.contrib import messages
from django.db.models import QuerySet
from django.forms import Form
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from .. import access, actors, collecting, exports, files, history, shelf
from ..forms_bulk import NOTHING, PICTURES_MAX, TOO_MANY, BulkForm, CollectForm, TagForm
from ..forms_history import FilterForm
from ..models import Membership, Role, State, Task
from ..money import format_credits
from ..orders import Refusal
from ..shelf import GONE, Done, Refused
from ..templatetags.flux2web import megabytes
from .ways import own_path

Verb = Callable[[Membership, Iterable[Task]], Done]
CHUNK = 500


@dataclass(frozen=True)
class Act:
    """What is done, and how it is said of those with which it was: "9 deleted"."""

    verb: Verb
    said: str


PLAIN = {
    "like": Act(shelf.like, "liked"),
    "unlike": Act(shelf.unlike, "not liked any more"),
    "private": Act(partial(shelf.set_private, private=True), "seen by you only"),
    "team": Act(partial(shelf.set_private, private=False), "seen by the team"),
    "delete": Act(shelf.throw_away, "deleted"),
    "restore": Act(shelf.restore, "brought back"),
}
# Verbs that need a word more, and what asks for it.
ASKING: dict[str, tuple[type[Form], str, str]] = {
    "tag": (TagForm, "Tag", "Tag"),
    "untag": (TagForm, "Take a tag off", "Take off"),
    "collect": (CollectForm, "Add to a collection", "Add"),
}
VERBS = (*PLAIN, *ASKING, *files.KINDS)


@require_POST
@access.team(Role.VIEWER)
def act(request: HttpRequest, member: Membership) -> HttpResponse:
    form = BulkForm(request.POST, verbs=VERBS)
    if not form.is_valid():
        return _said(request, member, "error", form.problem, status=422)
    verb, ids = form.cleaned_data["verb"], form.cleaned_data["ids"]
    if form.cleaned_data["all"]:
        ids = matching(member, form.cleaned_data["filters"])
    if not ids or len(ids) > PICTURES_MAX:
        return _said(request, member, "error", TOO_MANY if ids else NOTHING, status=422)
    if verb in files.KINDS:
        return _make_file(request, member, verb, ids)
    if verb in ASKING:
        return _ask_or_do(request, member, verb, ids)
    return _do(request, member, verb, PLAIN[verb], ids)


def matching(member: Membership, query: str) -> list[int]:
    """All pictures that a history page of this address leads to; one more than may be taken where there are more. What
    failed has no box to tick, and is among them only where it was asked for."""
    filters = FilterForm(QueryDict(query.lstrip("?").encode()), member=member).filters()
    if not filters.state and filters.tab != "trash":
        filters = replace(filters, state=State.DONE)
    return history.ids(member, filters, PICTURES_MAX + 1)


@require_safe
@access.team(Role.VIEWER)
@never_cache
def count(request: HttpRequest, member: Membership) -> HttpResponse:
    """How many there are, and how large, for whoever wants all of them: counted only then, and only so far."""
    ids = matching(member, request.META.get("QUERY_STRING", ""))
    found, is_more = len(ids), len(ids) > PICTURES_MAX
    said = f"{PICTURES_MAX:,}+" if is_more else format_credits(found)
    size_bytes = 0 if is_more else files.weigh(member, ids)[1]
    return JsonResponse({"count": min(found, PICTURES_MAX), "more": is_more, "said": said, "bytes": size_bytes})


# --- Doing ---------------------------------------------------------------------------------------------------------------


def _do(request: HttpRequest, member: Membership, name: str, what: Act, ids: list[int]) -> HttpResponse:
    began = timezone.now()
    try:
        done = _in_chunks(member, what.verb, ids, in_trash=name == "restore")
    except Refused as problem:
        return _said(request, member, "error", str(problem), status=422)
    undo = _way_back(member, began) if name == "delete" and done.done else ""
    gone = _gone(member, ids, in_trash=name == "restore") if name in ("delete", "restore") else []
    tone = "warning" if done.skipped else "success"
    return _said(request, member, tone, told(done, what.said), undo=undo, gone=gone)


def _gone(member: Membership, ids: list[int], *, in_trash: bool) -> list[int]:
    """Which of them are not where they were chosen any more: in the history, or in the trash."""
    there, rows = set[int](), access.trash(member) if in_trash else access.tasks(member)
    for start in range(0, len(ids), CHUNK):
        there |= set(rows.filter(pk__in=ids[start : start + CHUNK]).values_list("pk", flat=True))
    return [pk for pk in ids if pk not in there]


def _in_chunks(member: Membership, verb: Verb, ids: list[int], *, in_trash: bool) -> Done:
    """Only rows that access.py lets this member see reach a verb; of the others nobody learns whether they exist."""
    seen = access.tasks(member) | access.trash(member) if in_trash else access.tasks(member)
    done = Done()
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        tasks = list(seen.filter(pk__in=chunk).only("pk"))
        missing = len(chunk) - len(tasks)
        done += verb(member, tasks) + Done(0, {GONE: missing} if missing else {})
    return done


def told(done: Done, said: str) -> str:
    """ "9 deleted, 3 belong to others.", and what there is to know beside it."""
    did = f"{format_credits(done.done)} {said}" if done.done else ""
    text = ", ".join(filter(None, [did, done.left])) or "Nothing was done"
    return " ".join(filter(None, [f"{text}.", done.seen_still]))


def _ask_or_do(request: HttpRequest, member: Membership, verb: str, ids: list[int]) -> HttpResponse:
    """The bar's button asks; the answer to that does."""
    kind, title, button = ASKING[verb]
    if not member.may_make:
        return _said(request, member, "error", access.REFUSALS[Role.MEMBER], status=422)
    asked = kind(request.POST if "name" in request.POST else None, member=member)  # type: ignore[call-arg]
    if not asked.is_valid():
        return _ask(request, member, asked, verb, title, button, len(ids))
    try:
        what = _collect(member, asked) if verb == "collect" else _tagging(verb, asked.cleaned_data["name"])
    except Refused as problem:
        asked.add_error("name", str(problem))
        return _ask(request, member, asked, verb, title, button, len(ids))
    return _do(request, member, verb, what, ids)


def _tagging(verb: str, name: str) -> Act:
    if verb == "tag":
        return Act(partial(shelf.add_tag, name=name), f"tagged “{name}”")
    return Act(partial(shelf.remove_tag, name=name), f"without the tag “{name}”")


def _collect(member: Membership, form: Form) -> Act:
    """Into the one that was chosen, or that has the name already, or is made now."""
    given = form.cleaned_data
    known = given["collection"] or collecting.of_name(member, given["name"])
    collection = known or collecting.make(member, given["name"])

    def verb(member: Membership, tasks: Iterable[Task]) -> Done:
        return collecting.collect(member, collection, tasks)

    return Act(verb, f"in “{collection.name}”")


def _ask(
    request: HttpRequest, member: Membership, form: Form, verb: str, title: str, button: str, many: int
) -> HttpResponse:
    context = {
        "member": member,
        "form": form,
        "verb": verb,
        "title": f"{title}: {_many(many)}",
        "button": button,
        "ids": ",".join(request.POST.getlist("ids")),
        "all": request.POST.get("all", ""),
        "filters": request.POST.get("filters", ""),
        "next": own_path(request),
    }
    template = "history/_select_ask.html" if request.htmx else "history/ask.html"  # type: ignore[attr-defined]
    return render(request, template, context, status=422 if form.is_bound else 200)


# --- Files ---------------------------------------------------------------------------------------------------------------


def _make_file(request: HttpRequest, member: Membership, kind: str, ids: list[int]) -> HttpResponse:
    """By an actor: however many there are, nobody waits for a page."""
    try:
        pictures, size_bytes = files.check_size(member, ids)
    except files.TooMuch as problem:
        return _said(request, member, "error", str(problem), status=422)
    name = f"{member.team.slug}-{timezone.now():%Y-%m-%d}.{exports.KINDS[kind].extension}"
    export = exports.start(member.user, member.team, kind, {"ids": ids}, name, rows=len(ids))
    if isinstance(export, Refusal):
        return _said(request, member, "error", export.message, status=422)
    actors.kick_export(export.pk)
    what = f"a zip of {_many(pictures)}, {megabytes(size_bytes)}" if kind == "zip" else f"a list of {_many(len(ids))}"
    text = f"{name} is being made: {what}. A notice says when it is ready."
    if request.htmx:  # type: ignore[attr-defined]
        return _said(request, member, "success", text, link=reverse("exports", args=[member.team.slug]))
    return redirect("exports", member.team.slug)


def _many(pictures: int) -> str:
    return f"{format_credits(pictures)} picture{'' if pictures == 1 else 's'}"


# --- Undo ----------------------------------------------------------------------------------------------------------------


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _way_back(member: Membership, began: datetime) -> str:
    """To what this member threw away between two moments: an address of ten thousand ids would be too long for most."""
    moments = "-".join(str((moment - EPOCH) // timedelta(microseconds=1)) for moment in (began, timezone.now()))
    return f"{reverse('bulk-undo', args=[member.team.slug])}?between={moments}"


@require_POST
@access.team(Role.MEMBER)
def undo(request: HttpRequest, member: Membership) -> HttpResponse:
    between = _moments(request.GET.get("between", ""))
    rows: QuerySet[Task] = access.trash(member).filter(deleted_by=member.user_id)
    found = list(rows.filter(deleted_at__range=between).only("pk")[:PICTURES_MAX]) if between else []
    if not found:
        text = "Nothing to bring back: look for it in the history or the trash."
        return _said(request, member, "warning", text, status=422)
    done = shelf.restore(member, found)
    return _said(request, member, "success", told(done, PLAIN["restore"].said), back=[task.pk for task in found])


def _moments(text: str) -> tuple[datetime, datetime] | None:
    numbers = text.split("-")
    if len(numbers) != 2 or not all(one.isascii() and one.isdigit() and len(one) <= 17 for one in numbers):
        return None
    first, last = (EPOCH + timedelta(microseconds=int(one)) for one in numbers)
    return first, last


# --- Answers -------------------------------------------------------------------------------------------------------------


def _said(
    request: HttpRequest,
    member: Membership,
    tone: str,
    text: str,
    *,
    undo: str = "",
    link: str = "",
    gone: Sequence[int] = (),
    back: Sequence[int] = (),
    status: int = 200,
) -> HttpResponse:
    """A line that says so, with the ids whose tiles go or come back for pages that no stream reaches."""
    if request.htmx:  # type: ignore[attr-defined]
        ids = {"gone": ",".join(map(str, gone)), "back": ",".join(map(str, back))}
        context = {"message": {"tags": tone, "text": text, "undo": undo, **ids}, "link": link}
        return render(request, "history/_select_said.html", context, status=status)
    messages.add_message(request, getattr(messages, tone.upper()), text, extra_tags=undo)
    return redirect(own_path(request) or _history(request, member))


def _history(request: HttpRequest, member: Membership) -> str:
    query = FilterForm(QueryDict(request.POST.get("filters", "").encode()), member=member).query()
    path = reverse("history", args=[member.team.slug])
    return f"{path}?{query}" if query else path
