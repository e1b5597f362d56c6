"""The team's history: every picture, found by filters and words, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers
from django_htmx.http import HttpResponseClientRedirect, push_url, replace_url

from .. import access, history, providers, spend
from ..cards import Card
from ..forms_history import PLAIN, SORTS, TABS, FilterForm, SaveSearchForm
from ..history import Filters, Found
from ..models import Membership, Role, SavedSearch, State, Tag, Task, Team, User, write

PER_PAGE, PER_PAGE_MAX = 40, 400  # several pages at once only for somebody who comes back to one far down
PLACE_MAX = 500  # characters of filters that each tile's link may carry
SIZES = [("s", "Small"), ("m", "Medium"), ("l", "Large")]
LOOKS = [f"{shape}-{size}" for shape in ("rows", "squares") for size, _ in SIZES]
LOOK_COOKIE, LOOK, YEAR_S = "grid", "rows-m", 365 * 86400
FACETS_CACHE_S = 60
TAGS_SHOWN, COLLECTIONS_SHOWN = 40, 200
BY_TIME = ("newest", "oldest")


# --- The page --------------------------------------------------------------------------------------------------------


@require_safe
@vary_on_headers("HX-Request")
@access.team(Role.VIEWER)
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    form = FilterForm(request.GET, member=member)
    filters = form.filters()
    with timezone.override(form.zone):
        elsewhere = _day_asked_for(form, filters) or _whole_id(request, member, filters)
        if elsewhere:
            return HttpResponseClientRedirect(elsewhere) if _is_htmx(request) else redirect(elsewhere)
        return _page(request, member, form, filters)


def _page(request: HttpRequest, member: Membership, form: FilterForm, filters: Filters) -> HttpResponse:
    cursor, look = request.GET.get("cursor"), _look(request)
    found = history.page(member, filters, cursor, _how_many(request))
    context = _shown(member, form, filters, found, day=request.GET.get("day", ""))
    context |= {"look": look, "sizes": SIZES, "is_first": not cursor}
    context["here"] = reverse("history", args=[member.team.slug])
    if _is_htmx(request) and cursor:
        return render(request, "history/_days.html", context)
    if _is_htmx(request):
        context |= {"whole": history.jump(member, filters.text) if filters.text else None, "is_fragment": True}
        return _addressed(render(request, "history/_found.html", context), request, context)
    answer = render(request, "history/page.html", context)
    if request.GET.get("grid") == look:
        answer.set_cookie(LOOK_COOKIE, look, max_age=YEAR_S, samesite="Lax")
    return answer


def _is_htmx(request: HttpRequest) -> bool:
    """For a part of the page. Going back, htmx asks for the whole."""
    htmx = request.htmx  # type: ignore[attr-defined]
    return bool(htmx) and not htmx.history_restore_request


def _how_many(request: HttpRequest) -> int:
    asked = request.GET.get("many", "")
    known = asked.isascii() and asked.isdigit() and len(asked) < 5
    return max(PER_PAGE, min(PER_PAGE_MAX, int(asked))) if known and _is_htmx(request) else PER_PAGE


def _look(request: HttpRequest) -> str:
    """Rows or squares, and how large: as just chosen, else as this browser remembers it."""
    known = (request.GET.get("grid"), request.COOKIES.get(LOOK_COOKIE))
    return next((look for look in known if look in LOOKS), LOOK)


def _addressed(answer: HttpResponse, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """The address bar holds what is shown. While somebody types, one step back leads to before the typing; and the
    beginning of a number is no address, because it would jump to another picture."""
    if context["whole"]:
        return push_url(answer, False)
    address = f"{context['here']}?{context['query']}" if context["query"] else context["here"]
    before = parse_qs(urlsplit(request.htmx.current_url or "").query)  # type: ignore[attr-defined]
    typing = "q" in before and context["filters"].text
    return replace_url(answer, address) if typing else push_url(answer, address)


def _shown(member: Membership, form: FilterForm, filters: Filters, found: Found, *, day: str) -> dict[str, Any]:
    query, chips = form.query(), form.chips()
    by_time = filters.sort in BY_TIME
    groups = days(found.rows, shown=day, by_time=by_time)
    return {
        "member": member,
        "form": form,
        "filters": filters,
        "query": query,
        "place": query if len(query) <= PLACE_MAX else "",
        "chips": chips,
        "clear": urlencode([("tab", filters.tab)] if filters.tab != "team" else []),
        "wrong": form.wrong(),
        "tabs": [Link(label, form.query(tab=tab), tab == filters.tab, tab) for tab, label in TABS.items()],
        "sorts": _sorts(filters),
        "days": groups,
        "last_day": groups[-1].key if groups and by_time else "",
        "next": found.next,
        "is_cut": found.is_cut,
        "is_plain": not query,
    }


@dataclass(frozen=True)
class Link:
    label: str
    query: str
    is_here: bool
    name: str = ""


def _sorts(filters: Filters) -> list[tuple[str, str, bool]]:
    """Those that can be: found by words, pictures come by time."""
    names = [name for name in SORTS if name in history.SEARCH_SORTS or not filters.words]
    return [(name, SORTS[name], name == filters.sort) for name in names]


# --- Going elsewhere -------------------------------------------------------------------------------------------------


def _whole_id(request: HttpRequest, member: Membership, filters: Filters) -> str:
    """A whole id leads to its picture; while it is being typed (htmx, without the button) it may not be whole yet."""
    is_typing = _is_htmx(request) and "go" not in request.GET
    task = (
        history.jump(member, filters.text) if filters.text and not is_typing and "cursor" not in request.GET else None
    )
    return reverse("task", args=[member.team.slug, task.pk]) if task else ""


def _day_asked_for(form: FilterForm, filters: Filters) -> str:
    """The same list from that day on. Where it is not by time alone, what is later is left out instead."""
    day: date | None = form.given.get("on")
    if day is None:
        return ""
    here = reverse("history", args=[form.member.team.slug])
    if filters.sort not in BY_TIME or filters.words:
        return f"{here}?{form.query(until=str(day), since=None)}"
    first = day if filters.sort == "oldest" else day + timedelta(days=1)
    moment = datetime(first.year, first.month, first.day, tzinfo=form.zone).astimezone(UTC)
    return f"{here}?{'&'.join(filter(None, [form.query(), urlencode({'cursor': f'{moment.isoformat()},0'})]))}"


# --- Days ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Day:
    """Pictures in rows; what is live or went wrong in short lines above them."""

    key: str  # of a day, 2026-11-30; "" where the order is not by time
    is_shown: bool  # at the end of the page before
    first: Task
    tiles: list[dict[str, Any]]
    others: list[Card]


def days(tasks: Iterable[Task], *, shown: str, by_time: bool = True) -> list[Day]:
    """Tasks by day. The day `shown` above already, at the end of the page before, gets no second heading."""
    return [_day(key, list(rows), shown) for key, rows in groupby(tasks, key=_key if by_time else lambda _: "")]


def _key(task: Task) -> str:
    return timezone.localtime(task.created).date().isoformat()


def _day(key: str, tasks: list[Task], shown: str) -> Day:
    cards = [Card(task) for task in tasks]
    return Day(
        key=key,
        is_shown=bool(key) and key == shown,
        first=tasks[0],
        tiles=[_tile(card) for card in cards if card.task.state == State.DONE],
        others=[card for card in cards if card.task.state != State.DONE],
    )


def _tile(card: Card) -> dict[str, Any]:
    return {"card": card, "width": _width(card.task), "days_left": _days_left(card.task)}


def _width(task: Task) -> int:
    """Tenths of its height, for the justified rows; the stylesheet knows each from 4 to 30."""
    return max(4, min(30, round(10 * task.result.width_px / task.result.height_px)))


def _days_left(task: Task) -> int:
    """Of one in the trash, before it is gone for good."""
    if task.deleted_at is None:
        return settings.TRASH_DAYS
    return max(0, settings.TRASH_DAYS - (timezone.now() - task.deleted_at).days)


# --- Filters to choose from ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    value: str
    label: str
    count: int | None  # finished pictures; None where nobody keeps that number
    is_on: bool


@dataclass(frozen=True)
class Facet:
    """One filter with its choices, the first of which is to leave it out."""

    name: str
    label: str
    options: list[Option]
    errors: list[str]


@require_safe
@vary_on_headers("HX-Request")
@access.team(Role.VIEWER)
def filters(request: HttpRequest, member: Membership) -> HttpResponse:
    """What there is to choose. With htmx the panel alone; without, a page with the same form."""
    form = FilterForm(request.GET, member=member)
    template = "history/_filters.html" if _is_htmx(request) else "history/filters.html"
    return render(request, template, _choices(member, form))


def _choices(member: Membership, form: FilterForm, saving: SaveSearchForm | None = None) -> dict[str, Any]:
    query, counts = form.query(), _counts(member.team)
    return {
        "member": member,
        "form": form,
        "query": query,
        "facets": _facets(form, counts),
        "people": _people(form, counts["user"]),
        "collections": _collections(form),
        "tags": _tags(form),
        "saved": SavedSearch.objects.filter(team=member.team, user=member.user_id).order_by("name"),
        "saving": saving or SaveSearchForm(member=member, query=query),
    }


def _counts(team: Team) -> dict[str, dict]:
    """Of the day's sums, some seconds old: no page counts pictures."""
    return cache.get_or_set(f"facets:{team.pk}", lambda: spend.finished(team), FACETS_CACHE_S) or {}


def _facets(form: FilterForm, counts: dict[str, dict]) -> list[Facet]:
    names = {slug: provider.name for slug, provider in providers.ALL.items()}
    words = {"family": PLAIN["family"], "mode": PLAIN["mode"], "resolution": PLAIN["resolution"], "provider": names}
    words |= {"ratio": PLAIN["ratio"], "refs": PLAIN["refs"], "state": PLAIN["state"]}
    return [_facet(form, name, choices, counts.get(name)) for name, choices in words.items()]


def _facet(form: FilterForm, name: str, choices: dict[str, str], counts: dict | None) -> Facet:
    chosen = form.given.get(name) or ""
    options = [Option("", "Any", None, not chosen)]
    options += [
        Option(value, label, counts.get(value, 0) if counts is not None else None, value == chosen)
        for value, label in choices.items()
    ]
    return Facet(name, str(form.fields[name].label), options, [str(error) for error in form.errors.get(name, [])])


def _people(form: FilterForm, counts: dict[int, int]) -> list[Option]:
    """The team, and whoever has left pictures here; who made most comes first."""
    team, chosen = form.member.team_id, form.given.get("person")
    ids = {*counts, chosen.pk} if chosen else set(counts)
    found = User.objects.filter(pk__in=ids) | User.objects.filter(memberships__team=team)
    people = sorted(found.distinct(), key=lambda user: (-counts.get(user.pk, 0), str(user)))
    return [Option(str(user.pk), str(user), counts.get(user.pk, 0), user == chosen) for user in people]


def _collections(form: FilterForm) -> list[Option]:
    chosen = form.given.get("collection")
    rows = list(access.collections(form.member).order_by("name", "pk")[:COLLECTIONS_SHOWN])
    if chosen and chosen not in rows:
        rows.append(chosen)
    return [Option(str(row.pk), str(row), row.size, row == chosen) for row in rows]


def _tags(form: FilterForm) -> list[Option]:
    """The most used ones, and those that are chosen."""
    chosen = form.given.get("tag") or []
    most = list(Tag.objects.filter(team=form.member.team_id, used__gt=0).order_by("-used", "name")[:TAGS_SHOWN])
    rows = [*chosen, *(tag for tag in most if tag not in chosen)]
    return [Option(str(tag.pk), str(tag), tag.used, tag in chosen) for tag in rows]


# --- Saved searches --------------------------------------------------------------------------------------------------


@require_POST
@access.team(Role.VIEWER)
def save(request: HttpRequest, member: Membership) -> HttpResponse:
    saving = SaveSearchForm(request.POST, member=member)
    if not saving.is_valid():
        form = FilterForm(QueryDict(request.POST.get("query", "").encode()), member=member)
        return render(request, "history/filters.html", _choices(member, form, saving), status=422)
    saved = saving.save()
    messages.success(request, f"Saved as “{saved.name}”. You find it under Filters.")
    return redirect(f"{reverse('history', args=[member.team.slug])}?{saved.query}")


@require_POST
@access.team(Role.VIEWER)
def forget(request: HttpRequest, member: Membership, search_id: int) -> HttpResponse:
    mine = SavedSearch.objects.filter(team=member.team, user=member.user_id)
    saved = get_object_or_404(mine, pk=search_id)
    with write():
        mine.filter(pk=search_id).delete()
    messages.success(request, f"“{saved.name}” is forgotten.")
    return redirect("history", member.team.slug)
