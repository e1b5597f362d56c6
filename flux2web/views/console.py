"""The site admin's pages: teams and their credits, providers, prices."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from .. import access, accounts, queries
from .. import providers as adapters
from ..forms_people import GrantForm, OwnerForm, PriceForm, ProviderForm, TeamForm, save_prices
from ..models import Audit, Entry, Price, ProviderAccount, Role, Team
from ..money import credits_text
from ..providers.base import Capabilities, Provider
from .teams import invite_link, ledger_lines, sums

FAMILIES, RESOLUTIONS = ("pro", "flex"), ("1K", "2K")


# --- Teams ---------------------------------------------------------------------------------------------------------


@access.site_admin
def page(request: HttpRequest) -> HttpResponse:
    return teams_page(request, TeamForm())


def teams_page(request: HttpRequest, form: TeamForm, *, status: int = 200) -> HttpResponse:
    rows = (
        Team.objects.select_related("budget").annotate(people=Count("memberships")).order_by("closed_at", "name", "id")
    )
    context = {"rows": rows, "form": form, "audit": Audit.objects.first()}
    return render(request, "console/teams.html", context, status=status)


@require_POST
@access.site_admin
@never_cache
def make_team(request: HttpRequest) -> HttpResponse:
    form = TeamForm(request.POST)
    if not form.is_valid():
        return teams_page(request, form, status=422)
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
    row = access.any_team(team)
    form = GrantForm(request.POST)
    entry = form.save(row, request.user) if form.is_valid() else None  # type: ignore[arg-type]
    if entry is None:
        return team_page(request, row, form=form, status=422)
    messages.success(request, told(entry))
    return redirect("console-team", row.slug)


def told(entry: Entry) -> str:
    verb = {Entry.Kind.GRANT: "granted", Entry.Kind.REVOKE: "taken back"}.get(entry.kind, "refunded")  # type: ignore[call-overload]
    return f"{credits_text(entry.amount).capitalize()} {verb}: {credits_text(entry.available_after)} available."


def team_page(
    request: HttpRequest,
    row: Team,
    *,
    form: GrantForm | None = None,
    owner_form: OwnerForm | None = None,
    token: str | None = None,
    status: int = 200,
) -> HttpResponse:
    cursor = request.GET.get("before")
    entries = queries.ledger_page(row, cursor)
    context = sums(access.any_team(row.slug).budget) | {
        "team": row,
        "people": row.memberships.select_related("user").order_by("joined", "id"),
        "has_owner": row.memberships.filter(role=Role.OWNER).exists(),
        "form": form or GrantForm(),
        "owner_form": owner_form or OwnerForm(),
        "link": invite_link(request, token) if token else None,
        "lines": ledger_lines(entries.rows),
        "next": entries.next,
        "cursor": cursor,
    }
    return render(request, "console/team.html", context, status=status)


# --- Providers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A provider's account as the list shows it; `kind` colours the word (good, warn, bad or nothing)."""

    adapter: Provider
    account: ProviderAccount | None
    kind: str
    word: str
    why: str = ""


@access.site_admin
def providers(request: HttpRequest) -> HttpResponse:
    found = {(account.provider, account.sandbox): account for account in ProviderAccount.objects.all()}
    priced = set(Price.objects.values_list("provider", flat=True))
    rows = [row_of(adapter, found.get((slug, False)), priced) for slug, adapter in adapters.ALL.items()]
    sandbox = [row_of(adapters.get(slug), account, priced) for (slug, pretend), account in found.items() if pretend]
    context = {"rows": rows, "sandbox_rows": sandbox, "sandbox_on": accounts.sandbox_on()}
    return render(request, "console/providers.html", context)


def row_of(adapter: Provider, account: ProviderAccount | None, priced: set[str]) -> Row:
    return Row(adapter, account, *standing(account, priced))


def standing(account: ProviderAccount | None, priced: set[str]) -> tuple[str, str, str]:
    """How an account stands, in a word, and why."""
    if account is None:
        return "", "Not set up", "No key yet."
    if account.sandbox and not accounts.sandbox_on():
        return "", "Resting", "The sandbox takes no new tasks."
    if not account.enabled:
        return "", "Off", "Switched off here. Running tasks finish."
    if not account.key_version:
        return "bad", "No key", "It takes no task until it has one."
    if not accounts.key_opens(account):
        return "bad", "Key lost", "SECRET_KEY has changed, so the stored key does not open. Set the key again."
    if account.provider not in priced:
        return "bad", "No price", "It takes no task until it has one."
    if account.paused_until and account.is_paused(timezone.now()):
        return "warn", "Paused", account.pause_reason
    return "good", "On", ""


@access.site_admin
@never_cache
def provider(request: HttpRequest, provider: str) -> HttpResponse:
    """A POST saves, or (named "check") tries the key we have."""
    if provider not in adapters.ALL:
        raise Http404
    account = ProviderAccount.objects.real().filter(provider=provider).first()
    if request.method == "POST" and "check" in request.POST:
        return check(request, provider, account)
    form = ProviderForm(request.POST or None, adapter=adapters.get(provider), account=account)
    if not form.is_valid():
        return provider_page(request, form)
    form.save()
    messages.success(request, f"{form.adapter.name} is saved.")
    return redirect("provider", provider)


def check(request: HttpRequest, provider: str, account: ProviderAccount | None) -> HttpResponse:
    works, said = accounts.check_account(account) if account else (False, "There is no key to try yet.")
    (messages.success if works else messages.error)(request, said)
    return redirect("provider", provider)


def provider_page(request: HttpRequest, form: ProviderForm) -> HttpResponse:
    account, priced = form.account, set(Price.objects.values_list("provider", flat=True))
    context = {
        "form": form,
        "row": row_of(form.adapter, account, priced),
        "able": capabilities(form.adapter, account),
        "rings": account is not None and accounts.reaches_us(account),
    }
    return render(request, "console/provider.html", context, status=422 if form.is_bound else 200)


def capabilities(adapter: Provider, account: ProviderAccount | None) -> Capabilities:
    return accounts.capabilities(account or ProviderAccount(provider=adapter.slug, base_url=adapter.base_url))


# --- Prices --------------------------------------------------------------------------------------------------------


@access.site_admin
def prices(request: HttpRequest) -> HttpResponse:
    """The whole list in one form: all its changes are saved, or none."""
    forms = price_forms(request.POST if request.method == "POST" else None)
    if request.method != "POST" or not all(form.is_valid() for form in forms):
        status = 422 if request.method == "POST" else 200
        return render(request, "console/prices.html", {"groups": by_provider(forms)}, status=status)
    save_prices(forms)
    messages.success(request, "Prices saved. They hold for tasks sent from now on.")
    return redirect("prices")


def price_forms(data) -> list[PriceForm]:
    """One form for each picture that a provider can make or that has a price."""
    rows = {(row.provider, row.family, row.resolution): row for row in Price.objects.all()}
    real = {account.provider: account for account in ProviderAccount.objects.real()}
    return [
        PriceForm(data, provider=slug, family=family, resolution=resolution, price=rows.get((slug, family, resolution)))
        for slug, adapter in adapters.ALL.items()
        for family in FAMILIES
        for resolution in RESOLUTIONS
        if (slug, family, resolution) in rows or family in capabilities(adapter, real.get(slug)).families
    ]


def by_provider(forms: list[PriceForm]) -> list[tuple[Provider, list[PriceForm]]]:
    return [
        (adapter, [form for form in forms if form.place["provider"] == slug]) for slug, adapter in adapters.ALL.items()
    ]
