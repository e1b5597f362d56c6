"""The studio: what to make on the left, the team's pictures on the right."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from .. import (
    access,
    actors,
    caps,
    cards,
    drafts,
    forms,
    imaging,
    kinds,
    lifecycle,
    promptbook,
    queries,
    references,
    requests,
    routing,
    shelf,
    storage,
    twins,
)
from ..cards import Card
from ..forms import DEFAULTS, RATIOS, ComposeForm
from ..forms_usage import AskForm
from ..models import Batch, Membership, Role, SavedPrompt, Task
from ..money import format_credits
from ..orders import COUNT_MAX, Quote, Refusal
from .context import purse

CARDS = 24
COUNTS = [str(number) for number in range(1, COUNT_MAX + 1)]
STATUS = {"conflict": 409}  # every other refusal is a 422
LIMITS = ("budget", "cap", "own", "kind")  # refusals that are said at the button, as is what is only asked about:
AT_THE_BUTTON = (*LIMITS, "confirm")  # nothing is wrong with the form
# What may make an order cheaper: field, values to try in this order, and what its button says.
CHEAPER = {"count": ["4", "2", "1"], "resolution": ["1K"], "family": ["pro"]}
CHEAPER_LABELS = {"count": "Make {} instead", "resolution": "In {} instead", "family": "With Pro instead"}
INSTEAD = (*CHEAPER, "also_family", "price")  # what an offer's button may change
EXAMPLES = [
    {"prompt": "Harbour at dawn, flat gouache, five layers of hills, pale sun", "aspect_ratio": "16:9"},
    {"prompt": "A glazed stoneware bowl on a linen cloth, morning light from the left", "aspect_ratio": "4:3"},
    {"prompt": "Poster of a heron, three colours, screen print, wide margins", "aspect_ratio": "2:3"},
]
EDITED = {"prompt": "The lighthouse of image 1 in winter, snow on the rocks, stars", "aspect_ratio": "4:3"}


@require_safe
@access.team(Role.VIEWER)
def page(request: HttpRequest, member: Membership) -> HttpResponse:
    form = ComposeForm(initial=_initial(member, request.GET), member=member)
    return render(request, "studio/page.html", _page_context(member, form, form.initial) | _draft_context(member))


@require_safe
@access.team(Role.VIEWER)
def quote(request: HttpRequest, member: Membership) -> HttpResponse:
    return render(request, "studio/_quote.html", _quote_context(member, request.GET))


@require_POST
@access.team(Role.MEMBER)
def create(request: HttpRequest, member: Membership) -> HttpResponse:
    form = ComposeForm(_instead(request.POST), request.FILES, member=member)
    is_right = form.is_valid()
    drafts.keep(
        member, with_slots(request.POST, form)
    )  # refused, sent, or cut off from here on: what was typed is there
    mark = _mark(form) if is_right else ""
    outcome = _send(member, form, mark) if is_right else None
    if isinstance(outcome, Batch):
        return _sent(request, member, outcome, mark)
    if isinstance(outcome, Task):
        return again(request, member, form, STATUS["conflict"], twin=outcome)
    status = STATUS.get(outcome.kind, 422) if outcome else 422
    return again(request, member, form, status, refusal=outcome, mark=mark)


def _mark(form: ComposeForm) -> str:
    """What "make it anyway" was said of: this order, now or before; "" where it was not, or of another."""
    mark = twins.mark(form.order())
    return mark if form.cleaned_data["again"] in ("1", mark) else ""


def _instead(given: QueryDict) -> QueryDict:
    """The form with the changes that an offer's button names."""
    given = given.copy()
    for name, value in parse_qsl(given.get("instead", ""), keep_blank_values=True):
        if name in INSTEAD:
            given[name] = value
    return given


def _send(member: Membership, form: ComposeForm, mark: str) -> Batch | Task | Refusal:
    """Sends it; or, before anything is spent, the picture that somebody made of the same already."""
    key = form.cleaned_data["key"].replace(":", "-") or forms.new_key()  # those with a colon are the house's own
    order = form.order()
    twin = None if mark or order.rest else twins.find(member, order, key=key)
    if twin is not None:
        return twin
    above = caps.ask_above(member, form.confirmed)
    outcome = lifecycle.create(member, order, key=key, price_seen=form.price_seen, ask_above=above)
    if isinstance(outcome, Batch):
        actors.kick_batch(outcome)
    elif outcome.kind not in AT_THE_BUTTON:
        form.refuse(outcome)
    return outcome


def _sent(request: HttpRequest, member: Membership, batch: Batch, mark: str) -> HttpResponse:
    """The new cards. The form stays as it is, with a fresh key; without JavaScript the draft fills it again.

    `mark`: who said "make it anyway" is not asked about the same again.
    """
    tasks = list(queries.newest_first(queries.with_card(access.tasks(member).filter(batch=batch))))
    if request.htmx:  # type: ignore[attr-defined]
        return render(
            request,
            "studio/_sent.html",
            {"cards": cards.of(tasks), "key": forms.new_key(), "mark": mark},
        )
    messages.success(request, f"Sent: {len(tasks)} {'picture' if len(tasks) == 1 else 'pictures'}. Follow along below.")
    return redirect(f"{reverse('studio', args=[member.team.slug])}{f'?again={mark}' if mark else ''}")


def again(
    request: HttpRequest,
    member: Membership,
    form: ComposeForm,
    status: int,
    *,
    refusal: Refusal | None = None,
    asked: str = "",
    asking: AskForm | None = None,
    twin: Task | None = None,
    mark: str = "",
) -> HttpResponse:
    """The form with what was typed and uploaded, what is wrong beside it, and a fresh key.

    `asked` says that somebody was asked for more; `asking` is that form where it was not right; `twin` is a picture
    of the same that is there already; `mark`: twins.mark of an order that is to be made although there is one.
    """
    given = with_slots(form.data, form)  # type: ignore[arg-type]
    said: dict[str, Any] = {"asking": asking} if asking else {}
    said |= {"twin": Card(twin) if twin else None, "mark": mark, "is_kept": True}
    said |= {"refusal": refusal if refusal and refusal.kind in LIMITS else None, "asked": asked}
    if refusal and refusal.kind == "confirm":
        given["asks"] = "1"
    if request.htmx:  # type: ignore[attr-defined]
        context = _form_context(member, form, given) | said
        answer = render(request, "studio/_compose.html", context, status=status)
        answer["HX-Reswap"], answer["HX-Retarget"] = "outerHTML", "#compose"
        return answer
    return render(request, "studio/page.html", _page_context(member, form, given) | said, status=status)


def with_slots(given: QueryDict, form: ComposeForm) -> QueryDict:
    """What was typed, with the images that are in the slots now."""
    given = given.copy()
    given.pop("place", None)
    given.setlist("references", [str(slot.id) for slot in form.slots])
    return given


# --- What the templates need -----------------------------------------------------------------------------------------


FILLING = {"like", "draft", *drafts.FIELDS}  # of the address: what fills the form, so that the draft does not
PARTS = ("prompt", "settings", "image")  # ?what=: these change a part of the draft and leave the rest


def _initial(member: Membership, given: QueryDict) -> dict[str, Any]:
    """A fresh form: the member's draft; or as a task was asked for (?like=), as a request kept it (?draft=), as the
    shelf has it (?saved=), or as the address says."""
    said: dict[str, Any] = {
        name: given.getlist(name) if name in drafts.LISTS else given[name]
        for name in ComposeForm.base_fields
        if name in given and name not in ("key", "price")
    }
    if FILLING.isdisjoint(given):
        return {**_defaults(member), **_shown(drafts.kept(member)), **said}
    what = given.get("what", "all")
    draft = _shown(drafts.kept(member)) if what in PARTS else {}
    if what == "prompt":
        draft.pop("parent", None)  # with another prompt it is no child of that picture any more
    if what == "image":
        said["references"] = list(dict.fromkeys([*draft.get("references", []), *said.get("references", [])]))
    filled = {**_like(member, given.get("like"), what), **_drafted(member, given.get("draft"))}
    return {**_defaults(member), **draft, **filled, **_from_shelf(member, given.get("saved")), **said}


def _defaults(member: Membership) -> dict[str, Any]:
    """With a kind that the team makes."""
    family, resolution = kinds.made_in(member.team.budget)[0]
    return DEFAULTS | {"family": family, "resolution": resolution}


def _shown(draft: dict[str, Any]) -> dict[str, Any]:
    """A draft without what its form could not show: a picture that it was begun from and that is gone."""
    return {name: value for name, value in draft.items() if value != ""}


def _like(member: Membership, text: str | None, what: str) -> dict[str, Any]:
    found = access.tasks(member).filter(pk=forms.as_id(text)).first() if text else None
    return forms.like(found, what) if found else {}


def _from_shelf(member: Membership, text: str | None) -> dict[str, Any]:
    row = access.saved_prompts(member).filter(pk=forms.as_id(text)).first() if text else None
    if row is None:
        return {}
    known = {name: str(value) for name, value in row.settings.items() if name in drafts.TEXTS}
    return {**known, "prompt": row.text, "references": [str(pk) for pk in row.references]}


def _drafted(member: Membership, text: str | None) -> dict[str, Any]:
    """What this member's own request holds, as the form says it."""
    row = member.user.credit_requests.filter(team=member.team, pk=forms.as_id(text)).first() if text else None
    order = requests.order_of(row.draft) if row else None
    if row is None or order is None:
        return {}
    if written := _shown(drafts.fitting(requests.form_of(row.draft))):
        return written
    said = vars(order) | {"private": None if order.private is None else int(order.private)}
    plain = {name: "" if value is None else str(value) for name, value in said.items()}
    return plain | {"references": list(order.references)}


def _draft_context(member: Membership) -> dict[str, Any]:
    """Whether there is a draft, what it says (for Undo, where something else fills the form), and a cleared one."""
    draft = drafts.kept(member) if member.may_make else {}
    worth = draft if drafts.is_worth_keeping(draft) else {}
    cleared = member.may_make and not draft and drafts.was_cleared(member)
    return {"is_kept": bool(worth), "draft": urlencode(worth, doseq=True), "is_cleared": cleared}


# --- The draft -------------------------------------------------------------------------------------------------------


@require_POST
@access.team(Role.MEMBER)
def keep_draft(request: HttpRequest, member: Membership) -> HttpResponse:
    """While it is written. Whatever it says is kept within bounds: there is nothing to refuse."""
    drafts.keep(member, request.POST)
    return HttpResponse(status=204)


@require_POST
@access.team(Role.MEMBER)
def clear_draft(request: HttpRequest, member: Membership) -> HttpResponse:
    drafts.clear(member)
    return redirect("studio", member.team.slug)


@require_POST
@access.team(Role.MEMBER)
def bring_back_draft(request: HttpRequest, member: Membership) -> HttpResponse:
    drafts.bring_back(member)
    return redirect("studio", member.team.slug)


@require_POST
@access.team(Role.MEMBER)
def begin_with_image(request: HttpRequest, member: Membership) -> HttpResponse:
    """The example that comes with an image, which becomes one of this member's."""
    try:
        image = references.example(member)
    except (imaging.BadImage, storage.StorageDown):  # nothing is wrong with it: our child or our disk is
        messages.warning(request, forms.STORAGE_DOWN)
        return redirect("studio", member.team.slug)
    return redirect(f"{reverse('studio', args=[member.team.slug])}?{urlencode(EDITED | {'references': image.pk})}")


# --- What the page shows ---------------------------------------------------------------------------------------------


def _page_context(member: Membership, form: ComposeForm, given: Any) -> dict[str, Any]:
    tasks = queries.cards(member, CARDS)
    return {
        **(_form_context(member, form, given) if member.may_make else {}),
        "member": member,
        "groups": cards.grouped(member, cards.of(tasks)),
        "liked": shelf.liked(member, tasks),
        "has_more": len(tasks) == CARDS,
        "examples": [{"label": _label(example), "query": urlencode(example)} for example in EXAMPLES],
        "edited": _label(EDITED),
    }


def _label(example: dict[str, str]) -> str:
    return example["prompt"].split(",")[0]


def _form_context(member: Membership, form: ComposeForm, given: Any) -> dict[str, Any]:
    shelved = _shelved(member, given)
    return {
        **_quote_context(member, given),
        "form": form,
        "key": forms.new_key(),
        "parent": _parent(member, given),
        "shelved": shelved,
        "may_fill": shelved is not None and promptbook.may_change(member, shelved),
        "offers": routing.offers(),
        "shapes": SHAPES,
        "counts": COUNTS,
    }


def _parent(member: Membership, given: Any) -> Card | None:
    """The picture that this form was begun from, for its banner."""
    pk = forms.as_id(given.get("parent") or "")
    found = access.tasks(member).select_related("user", "result").filter(pk=pk).first() if pk else None
    return Card(found) if found else None


def _shelved(member: Membership, given: Any) -> SavedPrompt | None:
    """The shelf's prompt that this form was begun from."""
    pk = forms.as_id(given.get("saved") or "")
    return access.saved_prompts(member).filter(pk=pk).first() if pk else None


def _quote_context(member: Membership, given: Any) -> dict[str, Any]:
    quoted, mine = forms.price(member, given), purse(member)
    short = max(0, quoted.total - mine.least) if isinstance(quoted, Quote) else 0
    context = {"member": member, "purse": mine, "quote": quoted, "is_priced": isinstance(quoted, Quote), "short": short}
    context |= _said_of(quoted, given) if isinstance(quoted, Quote) else {}
    if isinstance(quoted, Quote) and given.get("asks") == "1" and not short:
        context["question"] = _question(member, quoted, given)
    if isinstance(quoted, Refusal) and quoted.kind == "kind" and member.may_make:
        context["offered"] = _open_ones(member, given)
    if not short or not member.may_make:
        return context
    people = requests.deciders(member.team, member.user, mine.binding.name)
    return context | {
        "offered": _cheaper(member, given, mine.least),
        "people": requests.names(people),
        "asking": _asking(given, short),
    }


def _question(member: Membership, quoted: Quote, given: Any) -> dict[str, Any] | None:
    """Whether to send this, once that was asked: it follows the form until what that says costs too little to ask."""
    above = caps.ask_above(member, None)
    if above is None or quoted.total <= above:
        return None
    return {"above": above, "after": purse(member).after(quoted.total), "offered": _cheaper(member, given, above)}


def _said_of(quoted: Quote, given: Any) -> dict[str, Any]:
    """What one picture costs (of a matrix perhaps from ... to ...), whose price nobody published, and a ceiling below."""
    prices = sorted({part.each for part in quoted.parts})
    ceiling = forms.as_id(str(given.get("ceiling") or "").replace(",", ""))
    return {
        "each": " to ".join(format_credits(price) for price in dict.fromkeys((prices[0], prices[-1]))),
        "assumed": ", ".join(dict.fromkeys(part.name for part in quoted.parts if part.assumed)),
        "above": ceiling if 0 < ceiling < quoted.total else 0,
    }


def _asking(given: Any, short: int) -> AskForm:
    """What is missing, unless another amount was typed; `short` is what the form said when it was shown."""
    typed = given.get("amount", "")
    amount = typed if typed and typed != given.get("short") else short
    sends = "sends_itself" in given or "amount" not in given
    return AskForm(initial={"amount": amount, "reason": given.get("reason", ""), "sends_itself": sends})


def _cheaper(member: Membership, given: Any, most: int) -> list[dict[str, Any]]:
    """What costs no more than that: as many of the same as fit, or as many that cost less each."""
    changes = [(name, value) for name, values in CHEAPER.items() for value in values if given.get(name) != value]
    fitting: dict[str, dict[str, Any]] = {}
    for name, value in changes:
        quoted = forms.price(member, {**_plain(given), name: value})
        if name not in fitting and isinstance(quoted, Quote) and quoted.total <= most:
            fitting[name] = {"change": f"{name}={value}", "label": CHEAPER_LABELS[name].format(value), "quote": quoted}
    return list(fitting.values())


def _open_ones(member: Membership, given: Any) -> list[dict[str, Any]]:
    """The same as each kind that the team makes."""
    offered = []
    for family, resolution in kinds.made_in(member.team.budget):
        changed = {"family": family, "resolution": resolution, "also_family": ""}
        quoted = forms.price(member, {**_plain(given), **changed})
        if isinstance(quoted, Quote):
            change = urlencode({**changed, "price": quoted.total})
            offered.append({"change": change, "label": f"{kinds.name((family, resolution))} instead", "quote": quoted})
    return offered


def _plain(given: Any) -> dict[str, Any]:
    return dict(given.lists()) if isinstance(given, QueryDict) else dict(given)


def _shape(ratio: str) -> dict[str, Any]:
    """A little drawing of the shape, its longer side 18 of 24 units."""
    across, up = (1, 1) if ratio == "auto" else (int(part) for part in ratio.split(":"))
    width, height = (round(17 * side / max(across, up), 1) for side in (across, up))
    place = {"x": round((24 - width) / 2, 1), "y": round((24 - height) / 2, 1), "width": width, "height": height}
    return {"value": ratio, "label": "Auto" if ratio == "auto" else ratio, **place}


SHAPES = [_shape(ratio) for ratio in (*RATIOS, "auto")]
