"""The site admin's pages: teams and their credits, requests."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from .. import access, overview, queries
from ..forms_console import GrantForm, OwnerForm, RulesForm, TeamForm, change
from ..forms_usage import DecisionForm
from ..models import Audit, CreditRequest, Entry, Role, Team
from ..money import credits_text
from . import requests as inbox
from .budget import ledger_lines, sums
from .teams import invite_link

# --- Teams ---------------------------------------------------------------------------------------------------------


@access.site_admin
def page(request: HttpRequest) -> HttpResponse:
    return overview_page(request, TeamForm())


def overview_page(request: HttpRequest, form: TeamForm, *, status: int = 200) -> HttpResponse:
    now, audit = timezone.now(), Audit.objects.first()
    rows = overview.standings(now)
    context = {
        "rows": [(row, row.forecast(now)) for row in rows],
        "totals": overview.totals(rows),
        "matters": overview.attention(rows, audit, now),
        "form": form,
        "audit": audit,
    }
    return render(request, "console/teams.html", context, status=status)


@require_POST
@access.site_admin
@never_cache
def make_team(request: HttpRequest) -> HttpResponse:
    form = TeamForm(request.POST)
    if not form.is_valid():
        return overview_page(request, form, status=422)
    team, token = form.save(request.user)  # type: ignore[arg-type]
    messages.success(request, f"{team} has {credits_text(form.cleaned_data['credits'])}.")
    return team_page(request, team, token=token) if token else redirect("console-team", team.slug)


@access.site_admin
@never_cache
def team(request: HttpRequest, team: str) -> HttpResponse:
    """A POST names an owner: somebody who is here, or a link to pass on."""
    row = access.any_team(team)
    form = OwnerForm(request.POST or None)
    if request.method != "POST":
        return team_page(request, row)
    if not form.is_valid():
        return team_page(request, row, owner_form=form, status=422)
    token = form.appoint(row, request.user)  # type: ignore[arg-type]
    if token:
        return team_page(request, row, token=token)
    messages.success(request, f"{form.cleaned_data['owner']} is now an owner of {row}.")
    return redirect("console-team", row.slug)


@require_POST
@access.site_admin
def grant(request: HttpRequest, team: str) -> HttpResponse:
    """`step` is preview (shows what would be), edit (back to the form) or write."""
    row, step = access.any_team(team), request.POST.get("step", "write")
    form = GrantForm(request.POST)
    if step == "edit":
        return team_page(request, row, form=form)
    verb = form.save if step == "write" else form.preview
    entry = verb(row, request.user) if form.is_valid() else None  # type: ignore[arg-type]
    if entry is None:
        return team_page(request, row, form=form, status=422)
    if step != "write":
        return team_page(request, row, form=form, preview=entry)
    messages.success(request, f"{said(entry)}: {credits_text(entry.available_after)} available.")
    return redirect("console-team", row.slug)


def said(entry: Entry) -> str:
    """ "500 credits granted", "120 credits taken off by a correction"."""
    amount = credits_text(abs(entry.amount)).capitalize()
    if entry.kind == Entry.Kind.ADJUST:
        return f"{amount} {'added' if entry.amount > 0 else 'taken off'} by a correction"
    verbs = {Entry.Kind.GRANT: "granted", Entry.Kind.REVOKE: "taken back", Entry.Kind.REFUND: "refunded"}
    return f"{amount} {verbs[Entry.Kind(entry.kind)]}"


@require_POST
@access.site_admin
def set_rules(request: HttpRequest, team: str) -> HttpResponse:
    row = access.any_team(team)
    form = RulesForm(request.POST, budget=row.budget)
    if not form.is_valid() or not form.save(row, request.user):  # type: ignore[arg-type]
        return team_page(request, row, rules_form=form, status=422)
    messages.success(request, f"The rules of {row} are saved. They hold from now on.")
    return redirect("console-team", row.slug)


def team_page(
    request: HttpRequest,
    row: Team,
    *,
    form: GrantForm | None = None,
    preview: Entry | None = None,
    rules_form: RulesForm | None = None,
    owner_form: OwnerForm | None = None,
    token: str | None = None,
    status: int = 200,
) -> HttpResponse:
    cursor, now = request.GET.get("before"), timezone.now()
    entries, fresh = queries.ledger_page(row, cursor), access.any_team(row.slug)
    people = list(row.memberships.select_related("user").order_by("joined", "id"))
    standing = overview.standing(fresh, len(people), now)
    context = sums(fresh.budget) | {
        "team": row,
        "standing": standing,
        "forecast": standing.forecast(now),
        "renewal": overview.renewal(standing, now),
        "people": people,
        "has_owner": any(person.role == Role.OWNER for person in people),
        "form": form or GrantForm(),
        "preview": Preview(preview, form) if preview and form else None,
        "rules_form": rules_form or RulesForm(budget=fresh.budget),
        "owner_form": owner_form or OwnerForm(),
        "link": invite_link(request, token) if token else None,
        "lines": ledger_lines(entries.rows),
        "next": entries.next,
        "cursor": cursor,
    }
    return render(request, "console/team.html", context, status=status)


@dataclass(frozen=True)
class Preview:
    """What an entry would do, said before it is written."""

    entry: Entry
    form: GrantForm

    @property
    def fields(self) -> list[tuple[str, str]]:
        """What was typed, to be sent again as it is."""
        names = [name for name in self.form.fields if name != "key"]
        return [(name, self.form.data[name]) for name in names if name in self.form.data]

    @property
    def until(self) -> str:
        """The day on which the credits end, in the team's own time; "" where they last."""
        zone = ZoneInfo(self.entry.team.budget.time_zone)
        return f"{self.entry.period.ends_at.astimezone(zone):%-d %B}" if self.entry.period else ""

    @property
    def said(self) -> str:
        return said(self.entry)

    @property
    def before(self) -> int:
        return self.entry.available_after - change(self.entry)


# --- Requests ------------------------------------------------------------------------------------------------------


@access.site_admin
def requests(request: HttpRequest) -> HttpResponse:
    return inbox_page(request)


@require_POST
@access.site_admin
def decide(request: HttpRequest, request_id: int) -> HttpResponse:
    form, status = inbox.answer(request, get_object_or_404(about_teams(), pk=request_id), request.user)  # type: ignore[arg-type]
    return redirect("console-requests") if status == 200 else inbox_page(request, form, status)


def about_teams() -> QuerySet[CreditRequest]:
    """Where a whole team's budget bound; a member's own limit is their team's business."""
    return inbox.asked().filter(limit=CreditRequest.Limit.TEAM)


def inbox_page(request: HttpRequest, bound: DecisionForm | None = None, status: int = 200) -> HttpResponse:
    cursor, waits = request.GET.get("before"), CreditRequest.State.OPEN
    waiting = [] if cursor else list(about_teams().filter(state=waits).order_by("created", "id")[: inbox.OPEN_SHOWN])
    decided = queries.page_of(about_teams().exclude(state=waits), cursor, inbox.DECIDED)
    rows = inbox.rows_of([*waiting, *decided.rows], request.user, bound)  # type: ignore[arg-type]
    context = {
        "rows": rows[: len(waiting)],
        "decided": rows[len(waiting) :],
        "next": decided.next,
        "cursor": cursor,
    }
    return render(request, "console/requests.html", context, status=status)
