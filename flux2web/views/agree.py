"""A press of a card's or a batch's button that is asked about: its price has risen, or it costs enough to be asked."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .. import caps, forms
from ..models import Membership
from ..orders import Quote, Refusal

TITLES = {"price": "The price has changed", "confirm": "Send it?"}


def agreed(request: HttpRequest, member: Membership) -> dict[str, int | None]:
    """What the lifecycle's verbs are told of the press: the price on its button, and the total that was agreed to."""
    price, confirmed = (forms.as_id(request.POST.get(name)) or None for name in ("price", "confirm"))
    return {"price_seen": price or confirmed, "ask_above": caps.ask_above(member, confirmed)}


def question(request: HttpRequest, member: Membership, name: str, refusal: Refusal, quote: Quote) -> HttpResponse:
    """The refusal with a button that agrees to the price; `name` tells it from the questions of other buttons."""
    context = {"member": member, "id": f"agree-{name}", "message": refusal.message, "quote": quote}
    context |= {"address": request.get_full_path(), "title": TITLES[refusal.kind]}
    context["back"] = request.POST.get("back", "")
    inside = request.htmx  # type: ignore[attr-defined]
    return render(request, "agree/_question.html" if inside else "agree/page.html", context, status=422)
