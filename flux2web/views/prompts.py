"""The team's shelf of prompts, and what a member wrote before."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from .. import access, drafts, forms, promptbook
from ..forms_prompts import PromptForm, SheetForm, TitleForm
from ..models import Membership, Role, SavedPrompt
from ..promptbook import BadSheet, Refused

QUERY_CHARS = 200


@require_safe
@access.team(Role.VIEWER)
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    return _page(request, member)


def _page(request: HttpRequest, member: Membership, *, status: int = 200, **said: Any) -> HttpResponse:
    text, after = request.GET.get("q", "")[:QUERY_CHARS], request.GET.get("after", "")
    found = promptbook.page(member, text, after)
    context = {
        "member": member,
        "lines": [(line, promptbook.may_change(member, line.row)) for line in found.lines],
        "next": found.next,
        "text": text,
        "is_first": not after,
        "is_new": "new" in request.GET,
        "form": PromptForm(initial={"text": drafts.kept(member).get("prompt", "")} if "new" in request.GET else {}),
        "sheet_form": SheetForm(),
    }
    return render(request, "prompts/page.html", context | said, status=status)


@require_safe
@access.team(Role.VIEWER)
def own(request: HttpRequest, member: Membership) -> HttpResponse:
    """This member's earlier prompts; of htmx the list alone."""
    text = request.GET.get("q", "")[:QUERY_CHARS]
    context = {"member": member, "found": promptbook.earlier(member, text), "text": text}
    template = "prompts/_earlier.html" if request.htmx else "prompts/earlier.html"  # type: ignore[attr-defined]
    answer = render(request, template, context)
    answer["Vary"], answer["Cache-Control"] = "HX-Request, Cookie", "no-store"
    return answer


# --- Putting there -------------------------------------------------------------------------------------------------------


@require_POST
@access.team(Role.MEMBER)
def save(request: HttpRequest, member: Membership) -> HttpResponse:
    """From the studio, with all that its form says (of htmx: a title that is to be mended comes back in its place); or
    from the shelf's own page, with a title and the words."""
    form = PromptForm(request.POST)
    if form.is_valid():
        try:
            row = promptbook.save(member, **form.cleaned_data, **_of_compose(member, request.POST))
            return _saved(request, member, row)
        except Refused as problem:
            form.add_error("title", str(problem))
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "prompts/_keep.html", {"member": member, "form": form}, status=422)
    return _page(request, member, status=422, form=form, is_new=True)


def _of_compose(member: Membership, given: QueryDict) -> dict[str, Any]:
    """Settings and images of the compose form; of images those that the team has."""
    ids = [forms.as_id(text) for text in given.getlist("references")[: forms.SAVED_MAX]]
    there = set(access.references(member).filter(pk__in=ids).values_list("pk", flat=True))
    said = {name: value for name in promptbook.SETTINGS if (value := given.get(name, ""))}
    settings = {name: value for name, value in said.items() if forms.is_setting(name, value)}
    return {"settings": settings, "references": [pk for pk in ids if pk in there]}


def _saved(request: HttpRequest, member: Membership, row: SavedPrompt) -> HttpResponse:
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "prompts/_keep.html", {"member": member, "form": TitleForm(), "row": row})
    messages.success(request, f"“{row.title}” is on the shelf.")
    return redirect("prompts", member.team.slug)


# --- One of them ---------------------------------------------------------------------------------------------------------


@require_safe
@access.team(Role.VIEWER)
def prompt(request: HttpRequest, member: Membership, prompt_id: int) -> HttpResponse:
    row = access.saved_prompt(member, prompt_id)
    return _prompt(request, member, row, PromptForm(initial={"title": row.title, "text": row.text}))


def _prompt(
    request: HttpRequest, member: Membership, row: SavedPrompt, form: PromptForm, *, status: int = 200
) -> HttpResponse:
    (line,) = promptbook.lines(member, [row])
    context = {
        "member": member,
        "line": line,
        "form": form,
        "may_change": promptbook.may_change(member, row),
        "images": access.references(member).in_bulk(row.references).values(),
        "is_in_studio": drafts.kept(member).get("saved") == str(row.pk),
    }
    return render(request, "prompts/prompt.html", context, status=status)


def _own(member: Membership, prompt_id: int) -> SavedPrompt:
    row = access.saved_prompt(member, prompt_id)
    if not promptbook.may_change(member, row):
        raise PermissionDenied(promptbook.MAY_NOT)
    return row


@require_POST
@access.team(Role.MEMBER)
def change(request: HttpRequest, member: Membership, prompt_id: int) -> HttpResponse:
    row, form = _own(member, prompt_id), PromptForm(request.POST)
    if form.is_valid():
        try:
            promptbook.change(member, row, **form.cleaned_data)
            messages.success(request, "Saved.")
            return redirect("prompt", member.team.slug, row.pk)
        except Refused as problem:
            form.add_error("title", str(problem))
    return _prompt(request, member, row, form, status=422)


@require_POST
@access.team(Role.MEMBER)
def fill(request: HttpRequest, member: Membership, prompt_id: int) -> HttpResponse:
    """What a compose form says takes the place of what is there: the one that was sent along, else this member's draft."""
    row, problem = _own(member, prompt_id), ""
    sent = request.POST if "prompt" in request.POST else QueryDict(urlencode(drafts.kept(member), doseq=True))
    try:
        _fill(member, row, sent)
    except Refused as refused:
        problem = str(refused)
    if request.htmx:  # type: ignore[attr-defined]
        context = {"member": member, "form": TitleForm(), "shelved": row, "problem": problem}
        status, said = (422, context) if problem else (200, context | {"row": row, "is_filled": True})
        return render(request, "prompts/_keep.html", said, status=status)
    messages.warning(request, problem) if problem else messages.success(request, "Saved.")
    return redirect("prompt", member.team.slug, row.pk)


def _fill(member: Membership, row: SavedPrompt, sent: QueryDict) -> None:
    """Only with what was begun from it: the form may say something else by now than when this was offered."""
    if sent.get("saved") != str(row.pk):
        raise Refused(promptbook.NOT_FROM_IT)
    text = sent.get("prompt", "").replace("\r\n", "\n").strip()
    promptbook.fill(member, row, text=text, **_of_compose(member, sent))


@require_POST
@access.team(Role.MEMBER)
def delete(request: HttpRequest, member: Membership, prompt_id: int) -> HttpResponse:
    row = _own(member, prompt_id)
    promptbook.delete(member, row)
    messages.success(request, f"“{row.title}” is off the shelf. The pictures made from it stay.")
    return redirect("prompts", member.team.slug)


# --- As CSV --------------------------------------------------------------------------------------------------------------


@require_safe
@access.team(Role.VIEWER)
def sheet(request: HttpRequest, member: Membership) -> HttpResponse:
    answer = HttpResponse("".join(promptbook.sheet(member)), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="prompts-{member.team.slug}.csv"'
    return answer


@require_POST
@access.team(Role.MEMBER)
def take_in(request: HttpRequest, member: Membership) -> HttpResponse:
    form = SheetForm(request.POST, request.FILES)
    problems: list[str] = []
    if form.is_valid():
        try:
            new, changed = promptbook.take_in(member, form.cleaned_data["sheet"], forms.is_setting)
            messages.success(request, f"Taken in: {new} new, {changed} changed.")
            return redirect("prompts", member.team.slug)
        except BadSheet as problem:
            problems = problem.problems
    return _page(request, member, status=422, sheet_form=form, sheet_problems=problems)
