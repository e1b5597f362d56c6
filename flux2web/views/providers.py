"""The site admin's pages about providers: how each account stands, what is wrong, pausing it, its settings; the rule."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from .. import access, accounts, charts, health, overview, pricing, turns
from .. import providers as adapters
from ..forms_console import PauseForm, ProviderForm, RoutingForm
from ..models import ProviderAccount, RoutingRule
from ..providers.base import Capabilities, Provider

# --- All of them ---------------------------------------------------------------------------------------------------


@access.site_admin
def page(request: HttpRequest) -> HttpResponse:
    return list_page(request, RoutingForm())


def list_page(request: HttpRequest, form: RoutingForm, *, status: int = 200) -> HttpResponse:
    found = {(account.provider, account.sandbox): account for account in ProviderAccount.objects.all()}
    priced, rule, silent = pricing.priced(), RoutingRule.current(), health.silent(timezone.now())
    rows = [
        overview.of_account(adapter, found.get((slug, False)), priced, rule) for slug, adapter in adapters.ALL.items()
    ]
    sandbox = [
        overview.of_account(adapters.get(slug), account, priced, rule)
        for (slug, pretend), account in found.items()
        if pretend
    ]
    context = {
        "rows": [(row, record(row.account)) for row in rows],
        "sandbox_rows": [(row, record(row.account)) for row in sandbox],
        "sandbox_on": accounts.sandbox_on(),
        "silences": [overview.silent_text(row, silent[row.pk]) for row in found.values() if row.pk in silent],
        "form": form,
    }
    return render(request, "console/providers.html", context, status=status)


def record(account: ProviderAccount | None) -> health.Record:
    return health.record_of(account) if account else health.Record()


@require_POST
@access.site_admin
def set_rule(request: HttpRequest) -> HttpResponse:
    form = RoutingForm(request.POST)
    if not form.is_valid() or not form.save(request.user):  # type: ignore[arg-type]
        return list_page(request, form, status=422)
    messages.success(request, "The rule is saved. It holds for what is sent from now on.")
    return redirect("providers")


# --- One of them ---------------------------------------------------------------------------------------------------


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
        return account_page(request, form.adapter, account, form)
    form.save(request.user)  # type: ignore[arg-type]
    messages.success(request, f"{form.adapter.name} is saved.")
    return redirect("provider", provider)


def check(request: HttpRequest, provider: str, account: ProviderAccount | None) -> HttpResponse:
    missing = False, "There is no key to try yet."
    works, said = accounts.try_key(account, request.user) if account else missing  # type: ignore[arg-type]
    (messages.success if works else messages.error)(request, said)
    return redirect("provider", provider)


@require_GET
@access.site_admin
@never_cache
def sandbox_provider(request: HttpRequest, provider: str) -> HttpResponse:
    """A pretend account has no settings: how it stands, and its pause."""
    account = get_object_or_404(ProviderAccount, provider=provider, sandbox=True)
    return account_page(request, adapters.get(provider), account, None)


def account_page(
    request: HttpRequest, adapter: Provider, account: ProviderAccount | None, form: ProviderForm | None
) -> HttpResponse:
    context = {
        "form": form,
        "row": overview.of_account(adapter, account, pricing.priced(), RoutingRule.current()),
        "able": capabilities(adapter, account),
        "rings": account is not None and accounts.reaches_us(account),
    } | (_standing(account) if account else {})
    return render(request, "console/provider.html", context, status=422 if form and form.is_bound else 200)


def _standing(account: ProviderAccount) -> dict:
    """What the last day was like, and what it has in hand."""
    now = timezone.now()
    today, silent = health.today(account, now), health.silent(now)
    return {
        "today": today,
        "in_line": turns.in_line(account).count(),
        "record": health.record_of(account),
        "share": overview.share_text(account),
        "chart": charts.bars(today.waits, unit="pictures"),
        "failures": health.failures(account),
        "silence": overview.silent_text(account, silent[account.pk]) if account.pk in silent else "",
        "is_paused": account.is_paused(now),
        "is_secret_lost": bool(account.sealed_callback_secret) and not accounts.callback_secret(account),
    }


def capabilities(adapter: Provider, account: ProviderAccount | None) -> Capabilities:
    return accounts.capabilities(account or ProviderAccount(provider=adapter.slug, base_url=adapter.base_url))


@require_POST
@access.site_admin
def pause(request: HttpRequest, account_id: int) -> HttpResponse:
    account, form = get_object_or_404(ProviderAccount, pk=account_id), PauseForm(request.POST)
    if form.is_valid():
        minutes = int(form.cleaned_data["minutes"])
        until = accounts.rest(account, minutes, request.user)  # type: ignore[arg-type]
        messages.success(request, f"{name_of(account)} is paused until {until:%H:%M} UTC. What it has goes on.")
    else:
        messages.error(request, "Nothing was paused: choose 5 minutes or 1 hour.")
    return redirect(overview.account_url(account))


@require_POST
@access.site_admin
def resume(request: HttpRequest, account_id: int) -> HttpResponse:
    account = get_object_or_404(ProviderAccount, pk=account_id)
    if accounts.resume(account, request.user):  # type: ignore[arg-type]
        messages.success(request, f"{name_of(account)} takes tasks again.")
    else:
        messages.info(request, f"{name_of(account)} was not paused any more.")
    return redirect(overview.account_url(account))


@require_GET
@access.site_admin
@never_cache
def balance(request: HttpRequest, account_id: int) -> HttpResponse:
    """A fragment where htmx asks, else back to the page with the answer above it."""
    account = get_object_or_404(ProviderAccount, pk=account_id)
    there = accounts.balance_there(account)
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "console/_balance.html", {"account": account, "there": there})
    (messages.info if there.works else messages.error)(request, there.said)
    return redirect(overview.account_url(account))


def name_of(account: ProviderAccount) -> str:
    return adapters.get(account.provider).name
