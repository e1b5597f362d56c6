"""Each member's compose form as it stands: one row for a team and member, written whole, the last write wins."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from .models import Draft, Membership, write
from .prompts import storable

TEXTS = (
    "prompt",
    "family",
    "aspect_ratio",
    "resolution",
    "count",
    "provider",
    "seed",
    "output_format",
    "safety_tolerance",
    "private",
    "collection",
    "ceiling",
    "stop_after",
    "parent",
    "saved",
)
LISTS = ("references", "variable", "value", "also_ratio", "also_family")
FIELDS = TEXTS + LISTS
PROMPT_CHARS, TEXT_CHARS, LIST_MAX = 20_000, 2000, 16  # kept of what is refused anyway
CLEARED = "cleared"  # holds what stood in a form that was cleared, for whoever undoes that


def keep(member: Membership, given: Any) -> None:
    """What the form says now. Who sees it only where that is not as the team has it: the team may change its mind."""
    values = said(given)
    if values.get("private") == str(int(member.team.private_by_default)):
        del values["private"]
    _put(member, values)


def said(given: Any) -> dict[str, Any]:
    """Of a form (a QueryDict) the known fields alone, each within bounds."""
    return {**_texts(given), **_lists(given)}


def _texts(given: Any) -> dict[str, str]:
    texts = {name: storable(given[name]) for name in TEXTS if name in given}
    return {name: text[: PROMPT_CHARS if name == "prompt" else TEXT_CHARS] for name, text in texts.items()}


def _lists(given: Any) -> dict[str, list[str]]:
    lists = {name: given.getlist(name)[:LIST_MAX] for name in LISTS if name in given}
    return {name: [storable(text)[:TEXT_CHARS] for text in texts] for name, texts in lists.items()}


def _put(member: Membership, values: dict[str, Any]) -> None:
    """In one statement: two tabs that write at once are no conflict."""
    row = Draft(team=member.team, user=member.user, values=values, changed=timezone.now())
    with write():
        Draft.objects.bulk_create(
            [row], update_conflicts=True, unique_fields=["team", "user"], update_fields=["values", "changed"]
        )


def kept(member: Membership) -> dict[str, Any]:
    """As a form's initial values; {} where there is none, or it was cleared."""
    return fitting(_values(member))


def fitting(values: dict[str, Any]) -> dict[str, Any]:
    """Of what was kept, maybe by another release, what a form can begin with."""
    texts = {name: values[name] for name in TEXTS if isinstance(values.get(name), str)}
    return texts | {name: list(map(str, values[name])) for name in LISTS if isinstance(values.get(name), list)}


def was_cleared(member: Membership) -> bool:
    return CLEARED in _values(member)


def _values(member: Membership) -> dict[str, Any]:
    row = Draft.objects.filter(team=member.team, user=member.user).first()
    return row.values if row and isinstance(row.values, dict) else {}


def clear(member: Membership) -> None:
    if values := kept(member):
        _put(member, {CLEARED: values})


def bring_back(member: Membership) -> None:
    """What was cleared last, unless something else is written there already."""
    values = _values(member).get(CLEARED)
    if values:
        _put(member, values)


def is_worth_keeping(values: dict[str, Any]) -> bool:
    """Whether somebody wrote or added anything; settings alone are nobody's loss."""
    return bool(str(values.get("prompt") or "").strip() or values.get("references"))
