"""The picture that an order asks for, where somebody made it already: found by its words, without a table of its own."""

from __future__ import annotations

import hashlib
import json

from . import access, search
from .models import Batch, Membership, State, Task, TaskReference
from .orders import Order
from .search import Words

PHRASE_WORDS_MAX = 40  # of a prompt that are looked for in this order; the rest is compared on what was found
FOUND_MAX = 200  # newest pictures with these words that are compared


def find(member: Membership, order: Order, *, key: str) -> Task | None:
    """The newest finished picture of the same request that the member may see; None for a press sent before.

    Same family, shape, resolution, words and images in their order; and the seed, format, tolerance and provider that
    were chosen, where they were.
    """
    said = search.fold(order.prompt)[:PHRASE_WORDS_MAX]
    if not said or Batch.objects.filter(team=member.team, key=key).exists():
        return None
    ids = search.find(member.team_id, Words((tuple(said),)), limit=FOUND_MAX)
    same = plain(order.prompt)
    alike = [task for task in _alike(member, order, ids) if plain(task.prompt) == same]
    return _with_images(member, order, alike) if alike else None


def _alike(member: Membership, order: Order, ids: list[int]):
    rows = access.tasks(member).filter(
        pk__in=ids,
        state=State.DONE,
        result__lost_at=None,
        family=order.family,
        aspect_ratio=order.aspect_ratio,
        resolution=order.resolution,
        reference_count=len(order.references),
    )
    chosen = {
        "seed": order.seed,
        "output_format": order.output_format,
        "safety_tolerance": order.safety_tolerance,
        "account__provider": order.provider,
    }
    rows = rows.filter(**{name: value for name, value in chosen.items() if value not in (None, "")})
    return rows.select_related("user", "result").order_by("-pk")


def _with_images(member: Membership, order: Order, tasks: list[Task]) -> Task | None:
    if not order.references:
        return tasks[0]
    hashes = dict(access.references(member).filter(pk__in=order.references).values_list("pk", "sha256"))
    wanted = [hashes.get(pk) for pk in order.references]
    used = TaskReference.objects.filter(task__in=tasks).order_by("number")
    by_task: dict[int, list[str]] = {}
    for task_id, sha256 in used.values_list("task_id", "reference__sha256"):
        by_task.setdefault(task_id, []).append(sha256)
    return next((task for task in tasks if by_task.get(task.pk) == wanted), None)


def plain(prompt: str) -> str:
    """A prompt without what makes no difference: capitals and spaces."""
    return " ".join(prompt.casefold().split())


def mark(order: Order) -> str:
    """Equal for orders that would find each other: what a form carries once somebody said "make it anyway"."""
    said = [
        plain(order.prompt),
        order.family,
        order.aspect_ratio,
        order.resolution,
        order.seed,
        order.output_format,
        order.safety_tolerance,
        order.provider,
        order.references,
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]
