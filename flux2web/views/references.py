"""The library of images: uploads come in here, from the form's script or a plain page; each has a page of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .. import access, accounts, forms, history, imaging, references, storage
from ..cards import GONE
from ..forms_references import FindForm, NameForm
from ..history import Filters
from ..models import LIVE, Hosting, Membership, Reference, Role
from ..providers.base import REFERENCES_MAX
from ..shelf import Refused

PICTURES = 40  # of the history, in the picker


# --- All of them ---------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@access.team(Role.VIEWER)
def library(request: HttpRequest, member: Membership) -> HttpResponse:
    """Whoever sees the team's pictures sees these; to bring some takes the role of member."""
    if request.method != "POST":
        return _library(request, member)
    if not member.may_make:
        raise PermissionDenied(access.REFUSALS[Role.MEMBER])
    return _upload(request, member)


def _library(request: HttpRequest, member: Membership) -> HttpResponse:
    form, cursor = FindForm(request.GET), request.GET.get("cursor")
    about = {
        "member": member,
        "found": references.page(member, form.text, cursor),
        "text": form.text,
        "is_first": not cursor,
        "limits": references.LIMITS,
    }
    return render(request, "references/page.html", about)


@require_safe
@access.team(Role.MEMBER)
def pick(request: HttpRequest, member: Membership) -> HttpResponse:
    """What the form's picker shows: images of the library, or pictures that the team made."""
    form, cursor = FindForm(request.GET), request.GET.get("cursor")
    is_history = request.GET.get("of") == "history"
    about: dict[str, Any] = {"member": member, "text": form.text, "is_history": is_history, "is_first": not cursor}
    if is_history:
        about["found"] = history.page(member, Filters(state="done", text=form.text), cursor, PICTURES)
    else:
        about["found"] = references.page(member, form.text, cursor)
    return render(request, "references/_picker.html", about)


# --- Uploads -------------------------------------------------------------------------------------------------------------


NO_FILE = "No file came. Choose a picture and try again."


def _upload(request: HttpRequest, member: Membership) -> HttpResponse:
    """One picture from the form's script: its slot. From a page: some at once, and back with them."""
    files = request.FILES.getlist("file")
    kept: list[Reference] = []
    problems = [] if files else [NO_FILE]
    for file in files[:REFERENCES_MAX]:
        outcome = _keep(member, file, shrinks=request.POST.get("shrink") == "1")
        (kept if isinstance(outcome, Reference) else problems).append(outcome)  # type: ignore[arg-type]
    problems += [
        f"{REFERENCES_MAX} at once: {file.name} was not taken. Send it again." for file in files[REFERENCES_MAX:]
    ]
    return _slot_of(request, member, kept, problems) if _is_script(request) else _back(request, member, kept, problems)


def _keep(member: Membership, file: UploadedFile, *, shrinks: bool) -> Reference | str:
    name = str(file.name)[: references.NAME_MAX_CHARS]
    try:
        return storage.save_reference(member.team, member.user, file, name, shrinks=shrinks)
    except imaging.BadImage as problem:
        return f"{name}: {problem}" if name else str(problem)
    except storage.StorageDown:
        return forms.STORAGE_DOWN


def _slot_of(request: HttpRequest, member: Membership, kept: list[Reference], problems: list[str]) -> HttpResponse:
    if kept:
        return _slot(request, member, kept[0])
    return render(request, "references/_slot.html", {"member": member, "problem": problems[0]}, status=422)


def _slot(request: HttpRequest, member: Membership, row: Reference) -> HttpResponse:
    about = {"member": member, "reference": row, "reference_id": row.pk, "number": ""}
    return render(request, "references/_slot.html", about)


def _back(request: HttpRequest, member: Membership, kept: list[Reference], problems: list[str]) -> HttpResponse:
    """To the library where the form stood there, else to a studio with the pictures in its slots."""
    for problem in problems:
        messages.error(request, problem)
    if request.POST.get("back") == "library":
        if kept:
            messages.success(request, f"{len(kept)} image{'' if len(kept) == 1 else 's'} kept.")
        return redirect("references", member.team.slug)
    chosen = "&".join(f"references={row.pk}" for row in kept)
    return redirect(f"{reverse('studio', args=[member.team.slug])}{chosen and f'?{chosen}'}")


def _is_script(request: HttpRequest) -> bool:
    return bool(request.htmx)  # type: ignore[attr-defined]


# --- Into the form -------------------------------------------------------------------------------------------------------


@require_safe
@access.team(Role.MEMBER)
def slot(request: HttpRequest, member: Membership, reference_id: int) -> HttpResponse:
    return _slot(request, member, access.kept_reference(member, reference_id))


@require_POST
@access.team(Role.MEMBER)
def from_picture(request: HttpRequest, member: Membership, task_id: int) -> HttpResponse:
    """A picture that the team made, as an image of the library in a slot."""
    result = access.result(member, task_id)
    try:
        row = references.from_result(member, result)
    except imaging.BadImage as problem:
        return _unusable(request, member, f"Picture {task_id} cannot be used as an image: {problem}")
    except FileNotFoundError:
        return _unusable(request, member, f"{GONE}, so picture {task_id} cannot be used as an image.")
    except storage.StorageDown:
        return _unusable(request, member, forms.STORAGE_DOWN)
    return _slot(request, member, row) if _is_script(request) else _back(request, member, [row], [])


def _unusable(request: HttpRequest, member: Membership, problem: str) -> HttpResponse:
    answer = _slot_of if _is_script(request) else _back
    return answer(request, member, [], [problem])


# --- One of them ---------------------------------------------------------------------------------------------------------


@require_safe
@access.team(Role.VIEWER)
def one(request: HttpRequest, member: Membership, reference_id: int) -> HttpResponse:
    row = access.kept_reference(member, reference_id)
    return _one(request, member, row, form=NameForm(initial={"name": row.name}))


def _one(
    request: HttpRequest, member: Membership, row: Reference, *, form: NameForm, status: int = 200
) -> HttpResponse:
    about = {"form": form, "decides": references.decides(member, row), **_addresses(request, member, row)}
    about["used"] = references.uses(member).filter(reference=row).count()
    return render(request, "references/one.html", about, status=status)


@require_POST
@access.team(Role.MEMBER)
def rename(request: HttpRequest, member: Membership, reference_id: int) -> HttpResponse:
    row = _decided(member, access.kept_reference(member, reference_id))
    form = NameForm(request.POST)
    if not form.is_valid():
        return _one(request, member, row, form=form, status=422)
    try:
        references.rename(member, row, form.cleaned_data["name"])
        messages.success(request, "Renamed.")
    except Refused as problem:  # thrown out by somebody else just now
        messages.warning(request, str(problem))
        return redirect("references", member.team.slug)
    return redirect("reference-page", member.team.slug, row.pk)


@require_POST
@access.team(Role.MEMBER)
def share(request: HttpRequest, member: Membership, reference_id: int) -> HttpResponse:
    row = access.kept_reference(member, reference_id)
    try:
        references.share(member, row)
    except Refused as problem:
        raise PermissionDenied(str(problem)) from None
    messages.success(request, f"{member.team} sees this image now.")
    return redirect("reference-page", member.team.slug, row.pk)


@require_POST
@access.team(Role.MEMBER)
def delete(request: HttpRequest, member: Membership, reference_id: int) -> HttpResponse:
    """One that is out already is what was asked for."""
    row = _decided(member, access.reference(member, reference_id))
    references.delete(member, row)
    undo = reverse("restore-reference", args=[member.team.slug, row.pk])
    messages.success(request, f"“{row.name}” is out of the library.", extra_tags=undo)
    return redirect("references", member.team.slug)


@require_POST
@access.team(Role.MEMBER)
def restore(request: HttpRequest, member: Membership, reference_id: int) -> HttpResponse:
    row = _decided(member, access.reference(member, reference_id))
    references.restore(member, row)
    messages.success(request, f"“{row.name}” is in the library again.")
    answer = redirect("references", member.team.slug)
    if _is_script(request):
        return HttpResponse(headers={"HX-Redirect": answer["Location"]})
    return answer


def _decided(member: Membership, row: Reference) -> Reference:
    if not references.decides(member, row):
        raise PermissionDenied(references.DECIDES)
    return row


# --- Its open addresses --------------------------------------------------------------------------------------------------


@require_POST
@access.team(Role.MEMBER)
def open_address(request: HttpRequest, member: Membership, reference_id: int) -> HttpResponse:
    row = access.kept_reference(member, reference_id)
    try:
        references.open_address(member, row)
    except Refused as problem:
        return _told(request, member, row, "warning", str(problem))
    return _told(request, member, row, "success", "Opened. Whoever has the address sees the image until it closes.")


@require_POST
@access.team(Role.MEMBER)
def close_address(request: HttpRequest, member: Membership, reference_id: int, hosting_id: int) -> HttpResponse:
    row = access.kept_reference(member, reference_id)
    try:
        references.close_address(_hosting(row, hosting_id).reference, hosting_id)
    except Refused as problem:
        return _told(request, member, row, "warning", str(problem))
    return _told(request, member, row, "success", "Closed. Nobody sees the image there any more.")


@require_POST
@access.team(Role.MEMBER)
def check_address(request: HttpRequest, member: Membership, reference_id: int, hosting_id: int) -> HttpResponse:
    """Fetches it from where providers would. Where this site has no public address there is nothing to fetch."""
    row = access.kept_reference(member, reference_id)
    hosting = _hosting(row, hosting_id)
    if not accounts.is_public(settings.PUBLIC_URL):
        return _told(request, member, row, "warning", NOT_PUBLIC)
    if storage.open_hosting(storage.hosting_path(hosting).removeprefix("/i/")) is None:
        return _told(request, member, row, "warning", "This address has closed meanwhile. Open another one.")
    try:
        tried = references.try_address(member, hosting)
    except Refused as problem:
        return _told(request, member, row, "warning", str(problem))
    return _told(request, member, row, "success" if tried.is_fine else "warning", tried.text)


NOT_PUBLIC = "This site has no public address (PUBLIC_URL), so nothing outside can fetch images from it."


def _hosting(row: Reference, hosting_id: int) -> Hosting:
    return get_object_or_404(Hosting.objects.select_related("reference"), reference=row, pk=hosting_id)


def _told(request: HttpRequest, member: Membership, row: Reference, tone: str, text: str) -> HttpResponse:
    """The addresses as they are now, and what came of it beside them."""
    if _is_script(request):
        about = _addresses(request, member, row) | {"said": {"tags": tone, "text": text}}
        return render(request, "references/_addresses.html", about)
    messages.add_message(request, getattr(messages, tone.upper()), text)
    return redirect(f"{reverse('reference-page', args=[member.team.slug, row.pk])}#addresses")


@dataclass(frozen=True)
class Address:
    """A line of the list: the whole address, until when, and whether a picture in the making holds it open."""

    hosting: Hosting
    url: str
    is_needed: bool


def _addresses(request: HttpRequest, member: Membership, row: Reference) -> dict[str, Any]:
    """For those who may make pictures: an address is a key that can be handed on."""
    rows = references.addresses(row) if member.may_make else []
    lines = [Address(it, _absolute(request, storage.hosting_path(it)), _is_needed(it)) for it in rows]
    return {
        "member": member,
        "reference": row,
        "addresses": lines,
        "is_public": accounts.is_public(settings.PUBLIC_URL),
        "hours": settings.HOSTED_OPEN_S // 3600,
    }


def _is_needed(hosting: Hosting) -> bool:
    return hosting.task is not None and hosting.task.state in LIVE


def _absolute(request: HttpRequest, path: str) -> str:
    return f"{settings.PUBLIC_URL}{path}" if settings.PUBLIC_URL else request.build_absolute_uri(path)
