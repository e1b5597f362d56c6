"""A team's collections: the page of all, each with its pictures, who may do what, and the links that show it to guests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings as site_settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from .. import access, collecting, history
from ..collecting import decides, edits
from ..forms_collections import CollectionForm, LinkForm, RoleForm
from ..forms_history import FilterForm
from ..history import Filters
from ..models import Collection, CollectionRole, Membership, Role, Task
from ..shelf import CHUNK, Done, Refused
from . import history as grid
from .ways import own_path

SORTS = {"newest": "Newest first", "oldest": "Oldest first"}
ID_MAX_DIGITS = 18
PICTURES_MAX = 10_000  # in one press


# --- All of them ---------------------------------------------------------------------------------------------------------


@require_safe
@access.team(Role.VIEWER)
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    return _page(request, member)


def _page(request: HttpRequest, member: Membership, *, status: int = 200, **context: object) -> HttpResponse:
    before = as_id(request.GET.get("before"))
    found = collecting.page(member, before)
    about = {"member": member, "found": found, "is_first": before is None, "form": CollectionForm(), **context}
    about["unfiled"] = collecting.unfiled(member) if before is None else None
    return render(request, "collections/page.html", about, status=status)


@require_POST
@access.team(Role.MEMBER)
def make(request: HttpRequest, member: Membership) -> HttpResponse:
    form = CollectionForm(request.POST)
    if form.is_valid():
        try:
            made = collecting.make(member, form.cleaned_data["name"], form.cleaned_data["access"])
            return redirect("collection", member.team.slug, made.pk)
        except Refused as problem:
            form.add_error("name", str(problem))
    return _page(request, member, status=422, form=form)


# --- One of them ---------------------------------------------------------------------------------------------------------


@require_safe
@access.team(Role.VIEWER)
def collection(request: HttpRequest, member: Membership, collection_id: int) -> HttpResponse:
    return _collection(request, member, access.collection(member, collection_id))


def _collection(
    request: HttpRequest, member: Membership, row: Collection, *, status: int = 200, **context: object
) -> HttpResponse:
    """The history's own grid, of this collection only."""
    sort = request.GET.get("sort", "newest")
    form = FilterForm(_asked(row, sort if sort in SORTS else "newest"), member=member)
    with timezone.override(form.zone):
        about = _pictures(request, member, row, form)
        if request.htmx and status == 200:  # type: ignore[attr-defined]
            return render(request, "history/_days.html", about)
        return render(request, "collections/collection.html", about | _rights(member, row) | context, status=status)


def _asked(row: Collection, sort: str) -> QueryDict:
    return QueryDict(f"collection={row.pk}&sort={sort}")


def _pictures(request: HttpRequest, member: Membership, row: Collection, form: FilterForm) -> dict[str, Any]:
    filters, cursor = form.filters(), request.GET.get("cursor")
    found = history.page(member, filters, cursor)
    groups = grid.days(found.rows, shown=request.GET.get("day", ""))
    return {
        "member": member,
        "collection": row,
        "filters": filters,
        "query": form.query(),
        "place": form.query(),
        "days": groups,
        "last_day": groups[-1].key if groups else "",
        "next": found.next,
        "is_first": not cursor,
        "look": grid._look(request),
        "sorts": [(name, label, name == filters.sort) for name, label in SORTS.items()],
        "here": reverse("collection", args=[member.team.slug, row.pk]),
    }


def _rights(member: Membership, row: Collection) -> dict[str, Any]:
    """What this member may do here; for who decides, also what the others may and which links are open."""
    about: dict[str, Any] = {"decides": decides(member, row), "edits": edits(member, row)}
    if about["decides"]:
        rows = CollectionRole.objects.filter(collection=row, user__memberships__team=row.team_id)
        about |= {
            "form": CollectionForm(initial={"name": row.name, "access": row.access}),
            "role_form": RoleForm(collection=row),
            "roles": rows.select_related("user").order_by("user__name", "pk"),
            "link_form": LinkForm(),
            "links": collecting.open_links(row),
            "face": collecting.faces(list(collecting.with_face(member, Collection.objects.filter(pk=row.pk))))[0][1],
        }
    return about


def _decided(member: Membership, collection_id: int) -> Collection:
    row = access.collection(member, collection_id)
    if not decides(member, row):
        raise PermissionDenied(collecting.DECIDES)
    return row


@require_POST
@access.team(Role.MEMBER)
def settings(request: HttpRequest, member: Membership, collection_id: int) -> HttpResponse:
    """Its name, and what the team may do."""
    row = _decided(member, collection_id)
    form = CollectionForm(request.POST)
    if form.is_valid():
        try:
            collecting.change(member, row, name=form.cleaned_data["name"], may=form.cleaned_data["access"])
            messages.success(request, "Saved.")
            return redirect("collection", member.team.slug, row.pk)
        except Refused as problem:
            form.add_error("name", str(problem))
    return _collection(request, member, row, status=422, form=form)


@require_POST
@access.team(Role.MEMBER)
def cover(request: HttpRequest, member: Membership, collection_id: int) -> HttpResponse:
    """The picture `task` stands for the collection; without one, its first does."""
    row = _decided(member, collection_id)
    task_id = as_id(request.POST.get("task"))
    task = access.task(member, task_id) if task_id else None
    try:
        collecting.set_cover(member, row, task)
    except Refused as problem:
        messages.warning(request, str(problem))
        return back(request, member, row)
    messages.success(request, f"The cover of “{row.name}” is {'this picture' if task else 'its first picture'} now.")
    return back(request, member, row)


@require_POST
@access.team(Role.MEMBER)
def role(request: HttpRequest, member: Membership, collection_id: int) -> HttpResponse:
    row = _decided(member, collection_id)
    form = RoleForm(request.POST, collection=row)
    if form.is_valid():
        try:
            collecting.set_role(member, row, form.cleaned_data["user"], form.cleaned_data["role"])
            return redirect(f"{reverse('collection', args=[member.team.slug, row.pk])}#roles")
        except Refused as problem:
            form.add_error("user", str(problem))
    return _collection(request, member, row, status=422, role_form=form)


@require_POST
@access.team(Role.MEMBER)
def delete(request: HttpRequest, member: Membership, collection_id: int) -> HttpResponse:
    row = _decided(member, collection_id)
    collecting.delete(member, row)
    messages.success(request, f"“{row.name}” is gone, and its links with it. Its pictures are where they were.")
    return redirect("collections", member.team.slug)


# --- Pictures in and out ---------------------------------------------------------------------------------------------------


@access.team(Role.MEMBER)
def collect(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    """The collections this picture may go into, and is in; a POST puts it into one, by id or by a new name, or takes it
    out of one."""
    task = access.task(member, task_id)
    if request.method != "POST":
        return _choice(request, member, task)
    try:
        text = _moved(request, member, task)
    except Refused as problem:
        return _choice(request, member, task, problem=str(problem), typed=request.POST.get("name", ""))
    if request.htmx:  # type: ignore[attr-defined]
        return _choice(request, member, task, told=text)
    messages.success(request, text)
    return back(request, member, task)


def _moved(request: HttpRequest, member: Membership, task: Task) -> str:
    """Do it, and say what was done. Raises Refused."""
    leaving = as_id(request.POST.get("take_out"))
    if leaving is not None:
        row = access.collection(member, leaving)
        _whole(collecting.take_out(member, row, [task]))
        return f"Taken out of “{row.name}”. It stays in the history."
    row = chosen(member, request.POST.get("collection", ""), request.POST.get("name", ""))
    _whole(collecting.collect(member, row, [task]))
    return f"In “{row.name}” now."


def chosen(member: Membership, collection_id: str, name: str) -> Collection:
    """The collection of this id; else of this name, made where there is none. Raises Refused."""
    if collection_id:
        return access.collection(member, as_id(collection_id) or 0)
    known = collecting.of_name(member, collecting.collection_name(name))
    return known or collecting.make(member, name)


def _whole(done: Done) -> None:
    if done.skipped:
        raise Refused(f"Not done: this picture {WHY_NOT.get(next(iter(done.skipped)), next(iter(done.skipped)))}.")


WHY_NOT = {
    collecting.NO_PICTURE: "is not made yet, or never will be",
    collecting.NOT_YOURS: "stays as it is: you may look at this collection, not change it",
    collecting.NO_COLLECTION: "stays as it is: the collection is not there any more",
    collecting.GONE: "is not there any more",
}


def _choice(request: HttpRequest, member: Membership, task: Task, **said: str) -> HttpResponse:
    rows = collecting.holding(task, collecting.editable(member)).order_by("-holds", "-pk")  # type: ignore[misc]
    about = {"member": member, "task": task, "rows": rows, "back": own_path(request), **said}
    template = "collections/_collect.html" if request.htmx else "collections/collect.html"  # type: ignore[attr-defined]
    return render(request, template, about, status=422 if said.get("problem") else 200)


@require_POST
@access.team(Role.MEMBER)
def take_out(request: HttpRequest, member: Membership, collection_id: int) -> HttpResponse:
    """The pictures `ids`, repeated or with commas between them; or, with `all`, every one that this member sees in it."""
    row = access.collection(member, collection_id)
    if not edits(member, row):
        raise PermissionDenied("You may look at this collection, not change it. Ask its owner or a team admin.")
    done = Done()
    for ids in _in_chunks(_marked(request, member, row)):
        done += collecting.take_out(member, row, list(access.tasks(member).filter(pk__in=ids).only("pk")))
    if done.done:
        what = "1 picture" if done.done == 1 else f"{done.done:,} pictures"
        messages.success(request, f"{what} taken out. What is taken out stays in the history.")
    else:
        messages.warning(request, "No picture was chosen. Mark some first.")
    return back(request, member, row)


def _marked(request: HttpRequest, member: Membership, row: Collection) -> list[int]:
    if request.POST.get("all") == "1":
        return history.ids(member, Filters(collection=row.pk), PICTURES_MAX)
    ids = [as_id(part) for text in request.POST.getlist("ids") for part in text.split(",", PICTURES_MAX)]
    return list(dict.fromkeys(pk for pk in ids if pk))[:PICTURES_MAX]


def _in_chunks(ids: list[int]) -> Iterator[list[int]]:
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))


# --- Links -----------------------------------------------------------------------------------------------------------------


@require_POST
@access.team(Role.MEMBER)
@never_cache
def share_link(request: HttpRequest, member: Membership, collection_id: int) -> HttpResponse:
    """Make one, and show it this once."""
    row = _decided(member, collection_id)
    form = LinkForm(request.POST)
    if form.is_valid():
        try:
            made, token = collecting.share(member, row, **form.cleaned_data)
            return _collection(request, member, row, link=link_of(request, token), made=made)
        except Refused as problem:
            form.add_error(None, str(problem))
    return _collection(request, member, row, status=422, link_form=form)


def link_of(request: HttpRequest, token: str) -> str:
    path = reverse("shared", args=[token])
    return f"{site_settings.PUBLIC_URL}{path}" if site_settings.PUBLIC_URL else request.build_absolute_uri(path)


@require_POST
@access.team(Role.MEMBER)
def revoke_link(request: HttpRequest, member: Membership, collection_id: int, link_id: int) -> HttpResponse:
    row = _decided(member, collection_id)
    if collecting.revoke(member, row, link_id):
        messages.success(request, "The link shows nothing any more.")
    else:
        messages.warning(request, "This link was closed already.")
    return redirect(f"{reverse('collection', args=[member.team.slug, row.pk])}#links")


# --- Ways back -----------------------------------------------------------------------------------------------------------


def as_id(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= ID_MAX_DIGITS else None


def back(request: HttpRequest, member: Membership, row: Collection | Task) -> HttpResponse:
    """Where the button was, as `next` says; else the page of the picture or collection."""
    name = "collection" if isinstance(row, Collection) else "task"
    return redirect(own_path(request) or reverse(name, args=[member.team.slug, row.pk]))
