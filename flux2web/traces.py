"""What the demo team left behind beside its pictures: hearts, tags, collections, words; images, prompts on a shelf, drafts.

A handful of each, by the verbs that members use: few enough to cost nothing, however long the past is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from io import BytesIO
from random import Random

from django.utils import timezone
from django.utils.text import slugify

from . import collecting, promptbook, shelf, storage
from .models import Batch, Draft, Membership, Reference, Role, SavedPrompt, State, Task, write

RECENT = 120  # of the newest pictures: what a team touches
HEARTS, IMAGES = 9, 4
TAGS = ("Festival", "Client A", "Keep")
COLLECTIONS = ("Festival poster, first round", "Kitchen calendar", "For the print shop")
COMMENTS = (
    "This one. Can we have the sky a little calmer, @{}?",
    "Printed it as A3: the greys hold. @{} has the proof.",
    "Too close to last year’s, I would say.",
)
PROMPTS = (  # title, words, settings, what the pictures made from it begin with
    (
        "Poster, three colours",
        "Poster for a {occasion}, geometric shapes in ochre, black and cream",
        {"family": "pro", "aspect_ratio": "3:4", "resolution": "2K"},
        "Poster for a jazz festival",
    ),
    (
        "Gouache harbour",
        "Harbour at {hour}, flat gouache, three boats and a long jetty",
        {"family": "pro", "aspect_ratio": "4:3", "resolution": "1K", "count": "4"},
        "Harbour at dawn",
    ),
    (
        "Still life, hard light",
        "{thing} on a blue kitchen table, hard morning light",
        {"family": "flex", "aspect_ratio": "1:1", "resolution": "1K"},
        "Bowl of lemons",
    ),
    (
        "Framed above a sofa",
        "Hang image 1 in a {room}, eye level, linen wall",
        {"family": "pro", "aspect_ratio": "4:3", "resolution": "1K"},
        "Hang image 1",
    ),
)
DRAFTS = (
    "Cover for the autumn programme: a heron over reeds, two inks, wide margins",
    "The same lemons, but at dusk, and a wasp on",
)


def leave(people: Sequence[Membership], rng: Random) -> None:
    """`people`: owner first, the viewer last, as the demo has them."""
    makers = [member for member in people if member.role != Role.VIEWER]
    recent = list(_done(people[0]).select_related("result").order_by("-pk")[:RECENT])
    if recent:
        _touch(makers, recent, rng)
        _file(makers[0], recent, rng)
        _comment(makers, recent, rng)
    images = _bring(makers, recent, rng)
    _shelve(makers, images)
    _begin(makers, images)


def _done(member: Membership):
    return Task.objects.for_team(member.team).filter(state=State.DONE)


def _some(tasks: Sequence[Task], many: int, rng: Random) -> list[Task]:
    return rng.sample(tasks, min(many, len(tasks)))


def _touch(makers: Sequence[Membership], recent: Sequence[Task], rng: Random) -> None:
    for member in makers:
        shelf.like(member, _some(recent, HEARTS, rng))
    for name in TAGS:
        shelf.add_tag(rng.choice(makers), _some(recent, 6, rng), name)


def _file(owner: Membership, recent: Sequence[Task], rng: Random) -> None:
    for name in COLLECTIONS:
        row = collecting.make(owner, name)
        collecting.collect(owner, row, _some(recent, rng.randint(5, 12), rng))


def _comment(makers: Sequence[Membership], recent: Sequence[Task], rng: Random) -> None:
    for text, task in zip(COMMENTS, _some(recent, len(COMMENTS), rng), strict=False):
        author, other = rng.choice(makers), rng.choice(makers)
        shelf.comment(author, task, text.format(str(other.user).split()[0]))


def _bring(makers: Sequence[Membership], recent: Iterable[Task], rng: Random) -> list[Reference]:
    """Images of the library: some of what was made, as files that members uploaded."""
    prompts = {task.prompt.split(",")[0]: task for task in recent}
    chosen = list(prompts.items())[:IMAGES]
    return [_brought(rng.choice(makers), words, task, days) for days, (words, task) in enumerate(chosen, 1)]


def _brought(member: Membership, words: str, task: Task, days: int) -> Reference:
    data = storage.read(task.result.key)
    row = storage.save_reference(member.team, member.user, BytesIO(data), f"{slugify(words)}.jpg")
    Reference.objects.filter(pk=row.pk).update(created=timezone.now() - timedelta(days=days, hours=days))
    return row


def _shelve(makers: Sequence[Membership], images: Sequence[Reference]) -> None:
    """Each with the batches whose pictures it could have been filled in for: they tell its uses and what came of them."""
    for number, (title, text, settings, begins) in enumerate(PROMPTS):
        member = makers[number % len(makers)]
        ids = [row.pk for row in images[:1]] if "image 1" in text else []
        row = promptbook.save(member, title=title, text=text, settings=settings, references=ids)
        made = _done(member).filter(prompt__startswith=begins).order_by("-pk").values_list("batch_id", flat=True)[:20]
        with write():
            Batch.objects.filter(pk__in=list(made)).update(saved_prompt=row)
            changed = timezone.now() - timedelta(days=2 + number, hours=5 * number)
            SavedPrompt.objects.filter(pk=row.pk).update(created=changed, changed=changed)


def _begin(makers: Sequence[Membership], images: Sequence[Reference]) -> None:
    """What two of them had begun to write."""
    ids = [str(row.pk) for row in images[:1]]
    for member, text in zip(reversed(makers), DRAFTS, strict=False):
        values = {"prompt": text, "family": "pro", "aspect_ratio": "3:4", "resolution": "1K", "references": ids}
        Draft.objects.create(team=member.team, user=member.user, values=values)
