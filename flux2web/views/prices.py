"""The price list: what holds, what is planned, what held; and what last month would have cost at other prices."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from .. import access, pricing
from ..forms_prices import PriceList
from ..pricing import Simulation

SIMULATED_DAYS = 30
TEAMS_SHOWN = 50


@access.site_admin
def page(request: HttpRequest) -> HttpResponse:
    """The whole list in one form: all its changes are saved, or none."""
    if request.method != "POST":
        return prices_page(request, PriceList())
    prices = PriceList(request.POST)
    if not prices.is_valid():
        return prices_page(request, prices, status=422)
    saved = prices.save(request.user)  # type: ignore[arg-type]
    if saved is None:
        return prices_page(request, prices, status=409)
    messages.success(request, told(prices, saved))
    return redirect("prices")


def told(prices: PriceList, saved: int) -> str:
    if not saved:
        return "Nothing was changed."
    what = f"{saved} price{'' if saved == 1 else 's'} saved."
    valid_from = prices.head.cleaned_data["valid_from"]
    when = f"from {pricing.moment(valid_from)} on" if valid_from else "from now on"
    return f"{what} What changed holds for tasks sent {when}."


@require_POST
@access.site_admin
def simulate(request: HttpRequest) -> HttpResponse:
    """Nothing is saved: what was typed stays in the form, with the answer above it."""
    prices = PriceList(request.POST)
    if not prices.is_valid():
        return prices_page(request, prices, status=422)
    since = timezone.now().date() - timedelta(days=SIMULATED_DAYS - 1)
    return prices_page(request, prices, simulation=pricing.simulate(prices.typed, since))


def prices_page(
    request: HttpRequest, prices: PriceList, *, simulation: Simulation | None = None, status: int = 200
) -> HttpResponse:
    context = {
        "prices": prices,
        "overtaken": any(row.overtaken for row in prices.rows),
        "simulation": simulation,
        "teams_shown": TEAMS_SHOWN,
        "days": SIMULATED_DAYS,
    }
    return render(request, "console/prices.html", context, status=status)
