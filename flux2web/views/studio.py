"""The studio: what to make on the left, the team's pictures on the right."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from .. import access, actors, forms, lifecycle, queries, routing
from ..cards import Card
from ..forms import DEFAULTS, RATIOS, ComposeForm
from ..models import Batch, Membership, Role
from ..orders import COUNT_MAX, Quote, Refusal

CARDS = 24
COUNTS = ["1", "2", "4", "8"]
STATUS = {"conflict": 409}  # every other refusal is a 422
# What may make an order cheaper: field, values to try in this order, and what its button says.
CHEAPER = {"count": ["4", "2", "1"], "resolution": ["1K"], "family": ["pro"]}
CHEAPER_LABELS = {"count": "Make {} instead", "resolution": "In {} instead", "family": "With Pro instead"}
EXAMPLES = [
    {"prompt": "Harbour at dawn, flat gouache, five layers of hills, pale sun", "aspect_ratio": "16:9"},
    {"prompt": "A glazed stoneware bowl on a linen cloth, morning light from the left", "aspect_ratio": "4:3"},
    {"prompt": "Poster of a heron, three colours, screen print, wide margins", "aspect_ratio": "2:3"},
]


@require_safe
@access.team(Role.VIEWER)
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    form = ComposeForm(initial=_initial(member, request.GET), member=member)
    return render(request, "studio/page.html", _page_context(member, form, form.initial))


@require_safe
@access.team(Role.VIEWER)
def quote(request: HttpRequest, member: Membership) -> HttpResponse:
    return render(request, "studio/_quote.html", _quote_context(member, request.GET))


@require_POST
@access.team(Role.MEMBER)
def create(request: HttpRequest, member: Membership) -> HttpResponse:
    form = ComposeForm(_instead(request.POST), request.FILES, member=member)
    outcome = _send(member, form) if form.is_valid() else None
    if isinstance(outcome, Batch):
        return _sent(request, member, outcome)
    return _again(request, member, form, STATUS.get(outcome.kind, 422) if outcome else 422)


def _instead(given: QueryDict) -> QueryDict:
    """The form with the one change that a cheaper offer's button names."""
    name, _, value = given.get("instead", "").partition("=")
    if name not in CHEAPER:
        return given
    given = given.copy()
    given[name] = value
    return given


def _send(member: Membership, form: ComposeForm) -> Batch | Refusal:
    key = form.cleaned_data["key"] or forms.new_key()
    outcome = lifecycle.create(member, form.order(), key=key, price_seen=form.price_seen)
    if isinstance(outcome, Refusal):
        form.refuse(outcome)
    else:
        actors.kick_batch(outcome)
    return outcome


def _sent(request: HttpRequest, member: Membership, batch: Batch) -> HttpResponse:
    """The new cards. The form stays as it is, with a fresh key; without JavaScript it is filled again from the task."""
    tasks = list(queries.newest_first(queries.with_card(access.tasks(member).filter(batch=batch))))
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "studio/_sent.html", {"cards": [Card(task) for task in tasks], "key": forms.new_key()})
    messages.success(request, f"Sent: {len(tasks)} {'picture' if len(tasks) == 1 else 'pictures'}. Follow them below.")
    return redirect(f"{reverse('studio', args=[member.team.slug])}?like={tasks[-1].pk}&count={len(tasks)}&parent=")


def _again(request: HttpRequest, member: Membership, form: ComposeForm, status: int) -> HttpResponse:
    """The form with what was typed and uploaded, what is wrong beside it, and a fresh key."""
    given = _with_slots(request.POST, form)
    if request.htmx:  # type: ignore[attr-defined]
        answer = render(request, "studio/_compose.html", _form_context(member, form, given), status=status)
        answer["HX-Reswap"], answer["HX-Retarget"] = "outerHTML", "#compose"
        return answer
    return render(request, "studio/page.html", _page_context(member, form, given), status=status)


def _with_slots(given: QueryDict, form: ComposeForm) -> QueryDict:
    given = given.copy()
    given.pop("place", None)
    given.setlist("references", [str(slot.id) for slot in form.slots])
    return given


# --- What the templates need -----------------------------------------------------------------------------------------


def _initial(member: Membership, given: QueryDict) -> dict[str, Any]:
    """A fresh form: defaults, or as a task was asked for (?like=), or as the address says."""
    found = access.tasks(member).filter(pk=forms.as_id(given.get("like"))).first() if "like" in given else None
    said: dict[str, Any] = {
        name: given[name] for name in ComposeForm.base_fields if name in given and name not in ("key", "price")
    }
    said |= {"references": given.getlist("references")} if "references" in given else {}
    return {**DEFAULTS, **(forms.like(found) if found else {}), **said}


def _page_context(member: Membership, form: ComposeForm, given: Any) -> dict[str, Any]:
    tasks = queries.cards(member, CARDS)
    return {
        **(_form_context(member, form, given) if member.may_make else {}),
        "member": member,
        "cards": [Card(task) for task in tasks],
        "has_more": len(tasks) == CARDS,
        "examples": [{"label": _label(example), "query": urlencode(example)} for example in EXAMPLES],
    }


def _label(example: dict[str, str]) -> str:
    return example["prompt"].split(",")[0]


def _form_context(member: Membership, form: ComposeForm, given: Any) -> dict[str, Any]:
    return {
        **_quote_context(member, given),
        "form": form,
        "key": forms.new_key(),
        "offers": routing.offers(),
        "shapes": SHAPES,
        "counts": sorted({*COUNTS, *_odd_count(given)}),
    }


def _odd_count(given: Any) -> list[str]:
    """A number that no button has but that is fine all the same: it was asked for, so it is shown."""
    asked = str(given.get("count", ""))
    return [asked] if 1 <= forms.as_id(asked) <= COUNT_MAX else []


def _quote_context(member: Membership, given: Any) -> dict[str, Any]:
    quoted = forms.price(member, given)
    is_short = isinstance(quoted, Quote) and quoted.total > member.team.budget.available
    return {
        "member": member,
        "quote": quoted,
        "is_priced": isinstance(quoted, Quote),
        "balance": member.team.budget,
        "offered": _cheaper(member, given) if is_short else [],
    }


def _cheaper(member: Membership, given: Any) -> list[dict[str, Any]]:
    """What the team's credits do cover: as many of the same as fit, or as many that cost less each."""
    changes = [(name, value) for name, values in CHEAPER.items() for value in values if given.get(name) != value]
    fitting: dict[str, dict[str, Any]] = {}
    for name, value in changes:
        quoted = forms.price(member, {**_plain(given), name: value})
        if name not in fitting and isinstance(quoted, Quote) and quoted.total <= member.team.budget.available:
            fitting[name] = {"change": f"{name}={value}", "label": CHEAPER_LABELS[name].format(value), "quote": quoted}
    return list(fitting.values())


def _plain(given: Any) -> dict[str, Any]:
    return dict(given.lists()) if isinstance(given, QueryDict) else dict(given)


def _shape(ratio: str) -> dict[str, Any]:
    """A little drawing of the shape, its longer side 18 of 24 units."""
    across, up = (1, 1) if ratio == "auto" else (int(part) for part in ratio.split(":"))
    width, height = (round(17 * side / max(across, up), 1) for side in (across, up))
    place = {"x": round((24 - width) / 2, 1), "y": round((24 - height) / 2, 1), "width": width, "height": height}
    return {"value": ratio, "label": "Auto" if ratio == "auto" else ratio, **place}


SHAPES = [_shape(ratio) for ratio in (*RATIOS, "auto")]
