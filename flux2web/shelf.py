"""What members do with finished pictures: hearts, tags, who sees them, the trash, comments, words for who cannot see.

Each verb takes any number of tasks and does what this member may; the rest is counted with its reason. None of it moves
credits. Counts that rows keep (Task.favourites, Tag.used) change in the transaction of the rows they count.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from django.db.models import Count, F, Q, Value
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone

from . import access, bus, notices, search
from .models import (
    FINAL,
    Act,
    Comment,
    CreditRequest,
    Draft,
    Event,
    Favourite,
    Membership,
    Reference,
    Role,
    SavedPrompt,
    Tag,
    Task,
    TaskReference,
    TaskTag,
    Team,
    User,
    write,
)
from .money import format_credits

CHUNK = 500  # tasks in one transaction: nobody else waits long to write
TAG_MAX_CHARS, TAGS_MAX, TEAM_TAGS_MAX = 40, 20, 500
COMMENT_MAX_CHARS, ALT_MAX_CHARS = 2000, 300
SAID_MAX_CHARS = 120  # of a comment in the notice of it

# Why something was left as it is: "3 belong to others". How that begins, and what it is of one alone:
OF_ONE = {"are": "is", "belong": "belongs", "have": "has", "stay as they are": "stays as it is", "were": "was"}
GONE = "are not there any more"
OTHERS = "belong to others"
VIEWER = "are only yours to look at: ask a team admin for the role of member"
STILL_LIVE = "are still being made: cancel first"
FULL = f"have {TAGS_MAX} tags already: take one off first"
PURGED = "were in the trash for too long"


class Refused(Exception):
    """What was typed does not do; the message says to people what would."""


@dataclass(frozen=True)
class Done:
    """How many are as was asked for, those included that were so before; and of the others how many, by reason."""

    done: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    images: int = 0  # made from pictures that are private now, and that the team sees all the same

    def __add__(self, other: Done) -> Done:
        skipped = dict(Counter(self.skipped) + Counter(other.skipped))
        return Done(self.done + other.done, skipped, self.images + other.images)

    @property
    def left(self) -> str:
        """ "3 belong to others, 1 is still being made"; "" where none was left."""
        return ", ".join(f"{format_credits(number)} {_of(number, reason)}" for reason, number in self.skipped.items())

    @property
    def seen_still(self) -> str:
        if not self.images:
            return ""
        which, whose = ("image", "it") if self.images == 1 else ("images", "them")
        stay = "stays" if self.images == 1 else "stay"
        return f"{self.images} {which} made from what you hid {stay} with the team: others use {whose}."


def _of(number: int, reason: str) -> str:
    many = next(words for words in OF_ONE if reason.startswith(words))
    return OF_ONE[many] + reason[len(many) :] if number == 1 else reason


Step = Callable[[list[int]], Done]


def _each(tasks: Iterable[Task], step: Step) -> Done:
    """Some hundreds at a time, each in a transaction of its own: done twice, the second changes nothing."""
    ids, done = list(dict.fromkeys(task.pk for task in tasks)), Done()
    for start in range(0, len(ids), CHUNK):
        with write():
            done += step(ids[start : start + CHUNK])
    return done


def _locked(rows, ids: list[int]) -> list[Task]:
    """Those of the ids that are among `rows`, ours until the transaction ends: nobody changes them in between."""
    return list(rows.filter(pk__in=ids).select_for_update(no_key=True).order_by("pk"))


def _result(done: int, ids: Sequence[int], seen: Sequence[Task], **others: int) -> Done:
    skipped = {GONE: len(ids) - len(seen), **others}
    return Done(done, {reason: number for reason, number in skipped.items() if number})


def _changed(tasks: Iterable[Task], **columns: object) -> None:
    """Write the columns and let open pages know. The version grows: an older card never replaces a newer."""
    tasks = list(tasks)
    if tasks:
        Task.objects.filter(pk__in=[task.pk for task in tasks]).update(version=F("version") + 1, **columns)
    for task in tasks:
        bus.publish_task(task.team_id, task.pk)


def _note(tasks: Iterable[Task], kind: str, by: User) -> None:
    Event.objects.bulk_create([Event(task=task, kind=kind, cause=f"user {by.pk}") for task in tasks])


# --- Hearts ----------------------------------------------------------------------------------------------------------


def like(member: Membership, tasks: Iterable[Task]) -> Done:
    return _each(tasks, partial(_like, member))


def _like(member: Membership, ids: list[int]) -> Done:
    seen = _locked(access.tasks(member), ids)
    mine = liked(member, seen)
    fresh = [task for task in seen if task.pk not in mine]
    Favourite.objects.bulk_create([Favourite(team=member.team, user=member.user, task=task) for task in fresh])
    _changed(fresh, favourites=F("favourites") + 1)
    return _result(len(seen), ids, seen)


def unlike(member: Membership, tasks: Iterable[Task]) -> Done:
    return _each(tasks, partial(_unlike, member))


def _unlike(member: Membership, ids: list[int]) -> Done:
    seen = _locked(access.tasks(member), ids)
    mine = liked(member, seen)
    Favourite.objects.filter(user=member.user_id, task__in=mine).delete()
    _changed((task for task in seen if task.pk in mine), favourites=F("favourites") - 1)
    return _result(len(seen), ids, seen)


def liked(member: Membership, tasks: Iterable[Task]) -> set[int]:
    """Those that this member likes; one query."""
    hearts = Favourite.objects.filter(user=member.user_id, task__in=[task.pk for task in tasks])
    return set(hearts.values_list("task_id", flat=True))


# --- Tags ------------------------------------------------------------------------------------------------------------


def add_tag(member: Membership, tasks: Iterable[Task], name: str) -> Done:
    """Raises Refused where the name is no name, or the team has too many already."""
    return _each(tasks, partial(_add_tag, member, tag_name(name)))


def _add_tag(member: Membership, name: str, ids: list[int]) -> Done:
    if not member.may_make:
        return Done(0, {VIEWER: len(ids)})
    tag = _tag(member.team, name)
    seen = _locked(access.tasks(member), ids)
    uses = TaskTag.objects.filter(task__in=[task.pk for task in seen])
    has_it = set(uses.filter(tag=tag).values_list("task_id", flat=True))
    counted = uses.order_by().values("task").annotate(tags=Count("pk")).filter(tags__gte=TAGS_MAX)
    full = set(counted.values_list("task_id", flat=True)) - has_it
    fresh = [task for task in seen if task.pk not in has_it | full]
    TaskTag.objects.bulk_create([TaskTag(task=task, tag=tag) for task in fresh])
    _used(tag, len(fresh))
    _retagged(fresh)
    return _result(len(seen) - len(full), ids, seen, **{FULL: len(full)})


def remove_tag(member: Membership, tasks: Iterable[Task], name: str) -> Done:
    return _each(tasks, partial(_remove_tag, member, tag_name(name)))


def _remove_tag(member: Membership, name: str, ids: list[int]) -> Done:
    if not member.may_make:
        return Done(0, {VIEWER: len(ids)})
    tag = _known_tags(member.team).get(name.casefold())
    seen = _locked(access.tasks(member), ids)
    if tag is not None:
        uses = TaskTag.objects.filter(tag=tag, task__in=[task.pk for task in seen])
        has_it = set(uses.values_list("task_id", flat=True))
        uses.delete()
        _used(tag, -len(has_it))
        _retagged([task for task in seen if task.pk in has_it])
    return _result(len(seen), ids, seen)


def tag_name(text: str) -> str:
    """A tag as it is kept: on one line, of letters, digits, signs, emoji, in any direction."""
    name = clean(text)
    if not any(unicodedata.category(char)[0] in "LNPS" for char in name):
        raise Refused("A tag needs a letter, a digit or a sign.")
    if len(name) > TAG_MAX_CHARS:
        raise Refused(f"A tag has at most {TAG_MAX_CHARS} characters; this one has {len(name)}.")
    return name


def clean(text: str, *, lines: bool = False) -> str:
    """Without what cannot be seen: control characters, halves of characters, and orders to turn the direction around."""
    kept = "\n" if lines else ""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    spaced = (char if char in kept or not char.isspace() else " " for char in text)
    shown = "".join(char for char in spaced if char in kept or not _is_hidden(char))
    return re.sub(r" *\n *", "\n", shown).strip() if lines else " ".join(shown.split())


def _is_hidden(char: str) -> bool:
    """Joiners and direction marks stay: emoji and right-to-left names are made with them."""
    return (
        unicodedata.category(char) in ("Cc", "Cs", "Cn")
        or char in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


def _known_tags(team: Team) -> dict[str, Tag]:
    """The team's tags by their folded name. Whoever changes them queues at the team, so that none is made twice.

    Folded here, not by the database: SQLite's knows A to Z only.
    """
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)
    return {tag.name.casefold(): tag for tag in Tag.objects.filter(team=team)}


def _tag(team: Team, name: str) -> Tag:
    known = _known_tags(team)
    if name.casefold() in known:
        return known[name.casefold()]
    if len(known) >= TEAM_TAGS_MAX:
        raise Refused(f"{team} has {TEAM_TAGS_MAX} tags already. Use one of them, or take one off its last picture.")
    Tag.objects.bulk_create([Tag(team=team, name=name)], ignore_conflicts=True)  # where the database folds otherwise
    return Tag.objects.alias(folded=Lower("name")).get(team=team, folded=Lower(Value(name)))


def _used(tag: Tag, by: int) -> None:
    """A tag that is on no picture any more is forgotten."""
    if by:
        Tag.objects.filter(pk=tag.pk).update(used=F("used") + by)
    Tag.objects.filter(pk=tag.pk, used=0).delete()


def _retagged(tasks: list[Task]) -> None:
    _changed(tasks)
    search.put(words_of(tasks))


def words_of(tasks: Iterable[Task]) -> list[tuple[int, int, str]]:
    """What pictures are found by: prompt, words for who cannot see, tags, names of references that the team sees. For
    search.put."""
    tasks = list(tasks)
    ids = [task.pk for task in tasks]
    words = {task.pk: [task.prompt, task.alt] for task in tasks}
    for task_id, name in TaskTag.objects.filter(task__in=ids).order_by("pk").values_list("task_id", "tag__name"):
        words[task_id].append(name)
    uses = TaskReference.objects.filter(task__in=ids, reference__private=False).order_by("number")
    for task_id, name in uses.values_list("task_id", "reference__name"):
        words[task_id].append(name)
    return [(task.pk, task.team_id, " ".join(words[task.pk])) for task in tasks]


# --- Who sees it -----------------------------------------------------------------------------------------------------


def set_private(member: Membership, tasks: Iterable[Task], private: bool) -> Done:
    """For its author only, or for the team again. Nobody but the author decides that, an admin neither."""
    return _each(tasks, partial(_set_private, member, private))


def _set_private(member: Membership, private: bool, ids: list[int]) -> Done:
    if not member.may_make:
        return Done(0, {VIEWER: len(ids)})
    if private:
        _lock_with_uses(member, ids)
    seen = _locked(access.tasks(member), ids)
    own = [task for task in seen if task.user_id == member.user_id]
    turned = [task for task in own if task.private != private]
    _changed(turned, private=private)
    _note(turned, "made private" if private else "shown to the team", member.user)
    done = _result(len(own), ids, seen, **{OTHERS: len(seen) - len(own)})
    if private:
        bus.publish_gone(member.team_id, [task.pk for task in turned])
        done = replace(done, images=_hide_images(member, turned))
    return done


def _lock_with_uses(member: Membership, ids: list[int]) -> None:
    """These pictures, and those made from images of them: all before any image, as a press does that tries one again."""
    uses = TaskReference.objects.filter(reference__made_from__in=ids, reference__user=member.user_id)
    both = Task.objects.filter(Q(pk__in=ids) | Q(pk__in=uses.values("task")), team=member.team)
    list(both.select_for_update(no_key=True).order_by("pk").values_list("pk"))


def _hide_images(member: Membership, tasks: list[Task]) -> int:
    """Those that their author made of these pictures, but for what others have used since. How many the team sees still.

    Nobody can use one at this moment: whoever does so comes before us and is seen, or waits until we are done.
    """
    images = Reference.objects.filter(made_from__in=[task.pk for task in tasks], private=False, purged_at=None)
    own = images.filter(user=member.user_id).select_for_update().order_by("pk")
    ids = {image.pk for image in own}
    hidden = ids - _used_by_others(member, ids)
    Reference.objects.filter(pk__in=hidden).update(private=True)
    made_from_them = Task.objects.filter(task_references__reference__in=hidden).distinct()
    _retagged(list(made_from_them))  # their names find these no more
    return images.filter(deleted_at=None).count()


def _used_by_others(member: Membership, ids: set[int]) -> set[int]:
    """Of these images: those in pictures of others, in prompts that they put on the shelf, in what they are about to send."""
    if not ids:
        return set()
    others = TaskReference.objects.filter(reference__in=ids).exclude(task__user=member.user_id)
    used = set(others.values_list("reference_id", flat=True))
    known = {str(pk): pk for pk in ids}
    for named in _named_by_others(member):
        used |= {known[str(pk)] for pk in named if str(pk) in known}
    return used


def _named_by_others(member: Membership) -> Iterator[list[Any]]:
    """Lists of images, each of somebody else; maybe written by another release."""
    asking = Q(state=CreditRequest.State.OPEN) | Q(send_due_at__isnull=False)
    for rows, name in (
        (SavedPrompt.objects.all(), "references"),
        (Draft.objects.all(), "values__references"),
        (CreditRequest.objects.filter(asking), "draft__references"),
    ):
        found = rows.filter(team=member.team).exclude(user=member.user_id).values_list(name, flat=True)
        yield from (named for named in found if isinstance(named, list))


def set_default(member: Membership, *, private: bool) -> bool:
    """What new pictures of the team are. Whether that is a change."""
    with write():
        rows = Team.objects.filter(pk=member.team_id, private_by_default=not private)
        changed = bool(rows.update(private_by_default=private))
        if changed:
            words = ("the team", "only their author")
            note = f"{words[private]}. Was: {words[not private]}"
            Act.objects.record(
                member.user, "set who sees new pictures of", team=member.team, about=str(member.team), note=note
            )
    member.team.private_by_default = private
    return changed


# --- The trash -------------------------------------------------------------------------------------------------------


def throw_away(member: Membership, tasks: Iterable[Task]) -> Done:
    """Into the trash: seen there by its author and the admins, and gone for good some weeks later."""
    return _each(tasks, partial(_throw_away, member))


def _throw_away(member: Membership, ids: list[int]) -> Done:
    if not member.may_make:
        return Done(0, {VIEWER: len(ids)})
    seen = _locked(access.tasks(member), ids)
    own = [task for task in seen if member.may_manage or task.user_id == member.user_id]
    ended = [task for task in own if task.state in FINAL]
    _changed(ended, deleted_at=timezone.now(), deleted_by=member.user)
    _note(ended, "deleted", member.user)
    bus.publish_gone(member.team_id, [task.pk for task in ended])
    return _result(len(ended), ids, seen, **{OTHERS: len(seen) - len(own), STILL_LIVE: len(own) - len(ended)})


def restore(member: Membership, tasks: Iterable[Task]) -> Done:
    """Out of the trash, as it was: also without a file, if that was gone before. What is not in there stays as it is."""
    return _each(tasks, partial(_restore, member))


def _restore(member: Membership, ids: list[int]) -> Done:
    if not member.may_make:
        return Done(0, {VIEWER: len(ids)})
    thrown = _locked(access.trash(member), ids)
    there = access.tasks(member).filter(pk__in=ids).count()
    purged = Task.objects.filter(pk__in=[task.pk for task in thrown], result__purged_at__gte=F("deleted_at"))
    lost = set(purged.values_list("pk", flat=True))
    back = [task for task in thrown if task.pk not in lost]
    _changed(back, deleted_at=None, deleted_by=None)
    _note(back, "restored", member.user)
    done = Done(len(back) + there, {GONE: len(ids) - len(thrown) - there, PURGED: len(lost)})
    return Done(done.done, {reason: number for reason, number in done.skipped.items() if number > 0})


# --- Words under and instead of it -----------------------------------------------------------------------------------


def comment(member: Membership, task: Task, text: str) -> Comment:
    """Words under a picture; whoever is named in them with an @ is told. Raises Refused."""
    said = clean(text, lines=True)
    if not member.may_make:
        raise Refused(access.REFUSALS[Role.MEMBER])
    if not said:
        raise Refused("Write something first.")
    if len(said) > COMMENT_MAX_CHARS:
        raise Refused(f"A comment has at most {COMMENT_MAX_CHARS:,} characters; this one has {len(said):,}.")
    with write():
        [task] = _visible(member, task)
        row = Comment.objects.create(task=task, user=member.user, text=said)
        _changed([task])
        for user in mentioned(member.team, said):
            if user.pk != member.user_id and access.sees(task, user.pk):
                _tell(user, member, row)
    return row


def _visible(member: Membership, task: Task) -> list[Task]:
    rows = _locked(access.tasks(member), [task.pk])
    if not rows:
        raise Refused("This picture is not there any more.")
    return rows


def _tell(user: User, member: Membership, row: Comment) -> None:
    said = " ".join(row.text.split())
    said = said if len(said) <= SAID_MAX_CHARS else f"{said[:SAID_MAX_CHARS]}…"
    url = f"{reverse('task', args=[member.team.slug, row.task_id])}#comment-{row.pk}"
    notices.tell(user, key=f"comment:{row.pk}", text=f"{member.user} mentioned you: {said}", url=url, team=member.team)


def mentioned(team: Team, text: str) -> list[User]:
    """The members whom `@Name`, or `@` and the front of their address, means. The longest name that fits counts."""
    if "@" not in text:
        return []
    names: dict[str, set[User]] = {}
    for user in User.objects.filter(memberships__team=team, is_active=True):
        for name in (str(user), user.email.partition("@")[0]):
            names.setdefault(name.casefold(), set()).add(user)
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    found = re.findall(rf"(?<![\w@])@({either})(?![\w@])", text.casefold())
    return sorted({user for name in found for user in names[name]}, key=lambda user: user.pk)


def delete_comment(member: Membership, task: Task, comment_id: int) -> bool:
    """One's own, or as an admin anybody's. False: it is not there any more. Raises Refused."""
    with write():
        [task] = _visible(member, task)
        row = Comment.objects.filter(task=task, pk=comment_id).first()
        if row is None:
            return False
        if row.user_id != member.user_id and not member.may_manage:
            raise Refused("Only who wrote a comment, or a team admin, can delete it.")
        row.delete()
        _changed([task])
    return True


def set_alt(member: Membership, task: Task, text: str) -> None:
    """What the picture shows, for who cannot see it; nothing: its prompt says so. Raises Refused."""
    said = clean(text)
    if not member.may_make:
        raise Refused(access.REFUSALS[Role.MEMBER])
    if len(said) > ALT_MAX_CHARS:
        raise Refused(f"A description has at most {ALT_MAX_CHARS} characters; this one has {len(said)}.")
    with write():
        [task] = _visible(member, task)
        if task.alt != said:
            _changed([task], alt=said)
            task.alt = said
            search.put(words_of([task]))
