"""Collections: pictures that belong together, who may look, add and decide, and the links that show one to guests.

A collection's owner and the team's admins decide about it; its editors add and take out. `size` changes in the transaction
of the items it counts. Nothing here deletes a picture, and nobody sees one here whom access.py would not show it to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.db.models import BigIntegerField, Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone

from . import access, bus, history, notices, rates
from .models import (
    Collection,
    CollectionItem,
    CollectionRole,
    Comment,
    Membership,
    Role,
    ShareLink,
    State,
    Task,
    Team,
    User,
    write,
)
from .models.base import new_token, token_hash
from .shelf import CHUNK, COMMENT_MAX_CHARS, GONE, VIEWER, Done, Refused, clean

NAME_MAX_CHARS, GUEST_MAX_CHARS = 80, 60
TEAM_MAX = 500  # collections of a team
LINKS_MAX = 20  # open links of a collection
LINK_DAYS, LINK_DAYS_MAX = 14, 90
PAGE = 60  # covers on a page
UNFILED_OF = 1000  # newest pictures among which the unfiled ones are counted
SHARED_PAGE = 40  # pictures on a page for guests
SAID_MAX_CHARS = 120  # of a guest's comment in the notice of it
# How often guests may say something: through one link from one address, and through one link at all; and in which time.
ONE_GUEST, ALL_GUESTS, GUESTS_S = 5, 60, 600

# Why a picture was left as it is: "3 have no picture yet".
NO_PICTURE = "have no picture"
NOT_YOURS = "stay as they are: you may look at this collection, not change it"
NO_COLLECTION = "stay as they are: the collection is not there any more"

FULL = f"Your team has {TEAM_MAX} collections. Delete one first: its pictures stay in the history."
DECIDES = "Only its owner or a team admin can do this."


# --- Who may -----------------------------------------------------------------------------------------------------------


def editable(member: Membership) -> QuerySet[Collection]:
    """The collections this member may add to and take out of."""
    rows = access.collections(member)
    if not member.may_make:
        return rows.none()
    if member.may_manage:
        return rows
    editor = CollectionRole.objects.filter(user=member.user_id, role=CollectionRole.Role.EDITOR)
    return rows.filter(
        Q(access=Collection.Access.EDIT) | Q(owner=member.user_id) | Q(pk__in=editor.values("collection_id"))
    )


def decides(member: Membership, collection: Collection) -> bool:
    """About its name, its cover, who may, who is shown it, and its end."""
    return member.may_manage or (member.may_make and collection.owner_id == member.user_id)


def edits(member: Membership, collection: Collection) -> bool:
    return decides(member, collection) or editable(member).filter(pk=collection.pk).exists()


def _decided(member: Membership, collection: Collection) -> Collection:
    """The row as it is now, ours until the transaction ends. Raises Refused."""
    row = Collection.objects.select_for_update(no_key=True).filter(pk=collection.pk, deleted_at=None).first()
    if row is None or row.team_id != member.team_id:
        raise Refused("This collection is not there any more.")
    if not decides(member, row):
        raise Refused(DECIDES)
    return row


# --- Making, naming, ending ----------------------------------------------------------------------------------------------


def make(member: Membership, name: str, may: str = Collection.Access.EDIT) -> Collection:
    """An empty collection of this member's. `may` says what the rest of the team may do with it. Raises Refused."""
    name = collection_name(name)
    if not member.may_make:
        raise Refused(access.REFUSALS[Role.MEMBER])
    with write():
        Team.objects.select_for_update(no_key=True).get(pk=member.team_id)  # two at once must not both be the last
        _free(member, name)
        if Collection.objects.filter(team=member.team, deleted_at=None).count() >= TEAM_MAX:
            raise Refused(FULL)
        return Collection.objects.create(team=member.team, owner=member.user, name=name, access=Collection.Access(may))


def collection_name(text: str) -> str:
    name = clean(text)
    if not name:
        raise Refused("Give the collection a name.")
    if len(name) > NAME_MAX_CHARS:
        raise Refused(f"A name has at most {NAME_MAX_CHARS} characters; this one has {len(name)}.")
    return name


def of_name(member: Membership, name: str) -> Collection | None:
    """The collection that this member means by a name. Folded here, not by the database: SQLite's knows A to Z only."""
    names = access.collections(member).order_by("pk").values_list("pk", "name")
    found = [pk for pk, known in names if known.casefold() == name.casefold()]
    return Collection.objects.get(pk=found[0]) if found else None


def _free(member: Membership, name: str, apart: Collection | None = None) -> None:
    known = of_name(member, name)
    if known is not None and known != apart:
        raise Refused(f"There is a collection “{known.name}” already. Choose another name.")


def change(member: Membership, collection: Collection, *, name: str, may: str) -> Collection:
    """Another name, other rights of the team. Raises Refused."""
    name = collection_name(name)
    with write():
        row = _decided(member, collection)
        if name != row.name:
            _free(member, name, apart=row)
        row.name, row.access = name, Collection.Access(may)
        row.save(update_fields=["name", "access"])
        bus.publish_filed(row.team_id, row.pk)
    return row


def set_cover(member: Membership, collection: Collection, task: Task | None) -> None:
    """This picture of it stands for it; None: the first one does. Raises Refused."""
    with write():
        row = _decided(member, collection)
        if task is not None and not row.items.filter(task=task).exists():
            raise Refused("Only a picture of the collection can be its cover. Add it first.")
        row.cover = task
        row.save(update_fields=["cover"])
        bus.publish_filed(row.team_id, row.pk)


def delete(member: Membership, collection: Collection) -> bool:
    """The collection goes, its links with it. Its pictures stay where they were. False: it was gone already."""
    with write():
        if not Collection.objects.filter(pk=collection.pk, team=member.team, deleted_at=None).exists():
            return False
        row = _decided(member, collection)
        now = timezone.now()
        row.links.filter(revoked_at=None).update(revoked_at=now)
        bus.publish_filed(row.team_id, row.pk)
        return bool(Collection.objects.filter(pk=row.pk, deleted_at=None).update(deleted_at=now))


def set_role(member: Membership, collection: Collection, user: User, role: str) -> None:
    """What one person of the team may do beside what everyone may; "" takes it back. Raises Refused."""
    with write():
        row = _decided(member, collection)
        if not role:
            CollectionRole.objects.filter(collection=row, user=user).delete()
            return
        if not Membership.objects.filter(team=row.team_id, user=user).exists():
            raise Refused(f"{user} is not in {member.team}.")
        if user.pk == row.owner_id:
            raise Refused(f"{user} made this collection and may do everything already.")
        CollectionRole.objects.update_or_create(collection=row, user=user, defaults={"role": CollectionRole.Role(role)})


# --- Pictures in and out ---------------------------------------------------------------------------------------------------


def collect(member: Membership, collection: Collection, tasks: Iterable[Task]) -> Done:
    """Add pictures. Those that were in it already count as done."""
    return _each(member, collection, tasks, partial(_collect, member))


def _collect(member: Membership, row: Collection, ids: list[int]) -> Done:
    seen = dict(access.tasks(member).filter(pk__in=ids).values_list("pk", "state"))
    pictures = [pk for pk in ids if seen.get(pk) == State.DONE]
    inside = set(row.items.filter(task__in=pictures).values_list("task_id", flat=True))
    fresh = [pk for pk in pictures if pk not in inside]
    CollectionItem.objects.bulk_create(
        [CollectionItem(collection=row, task_id=pk, added_by=member.user) for pk in fresh]
    )
    _resize(row, len(fresh))
    _tell(row, fresh)
    return _done(len(pictures), {GONE: len(ids) - len(seen), NO_PICTURE: len(seen) - len(pictures)})


def take_out(member: Membership, collection: Collection, tasks: Iterable[Task]) -> Done:
    """Take pictures out; they stay in the history. Those that were not in it count as done."""
    return _each(member, collection, tasks, partial(_take_out, member))


def _take_out(member: Membership, row: Collection, ids: list[int]) -> Done:
    seen = set(access.tasks(member).filter(pk__in=ids).values_list("pk", flat=True))
    _tell(row, row.items.filter(task__in=seen).values_list("task_id", flat=True))
    gone, _ = row.items.filter(task__in=seen).delete()
    _resize(row, -gone)
    Collection.objects.filter(pk=row.pk, cover__in=seen).update(cover=None)
    return _done(len(seen), {GONE: len(ids) - len(seen)})


def _tell(row: Collection, ids: Iterable[int]) -> None:
    """Its own page shows these pictures, and theirs say in which collections they are."""
    for pk in ids:
        bus.publish_task(row.team_id, pk)
    bus.publish_filed(row.team_id, row.pk)


def place(task: Task, collection_id: int | None) -> None:
    """Put a picture where it was made for, in the transaction in which it is done: no sooner is it one. Nowhere where
    that was deleted meanwhile."""
    if collection_id is None:
        return
    if Collection.objects.filter(pk=collection_id, deleted_at=None).update(size=F("size") + 1):
        CollectionItem.objects.create(collection_id=collection_id, task=task, added_by_id=task.user_id)
        bus.publish_filed(task.team_id, collection_id)


def _resize(row: Collection, by: int) -> None:
    if by:
        Collection.objects.filter(pk=row.pk).update(size=F("size") + by)


def _done(done: int, skipped: dict[str, int]) -> Done:
    return Done(done, {reason: number for reason, number in skipped.items() if number})


def _each(member: Membership, collection: Collection, tasks: Iterable[Task], step) -> Done:
    """Some hundreds at a time, each in a transaction of its own: done twice, the second changes nothing."""
    ids, done = list(dict.fromkeys(task.pk for task in tasks)), Done()
    for start in range(0, len(ids), CHUNK):
        done += _step(member, collection, ids[start : start + CHUNK], step)
    return done


def _step(member: Membership, collection: Collection, ids: list[int], step) -> Done:
    with write():
        row = Collection.objects.select_for_update(no_key=True).filter(pk=collection.pk, deleted_at=None).first()
        if row is None or row.team_id != member.team_id:
            return Done(0, {NO_COLLECTION: len(ids)})
        if not member.may_make:
            return Done(0, {VIEWER: len(ids)})
        if not edits(member, row):
            return Done(0, {NOT_YOURS: len(ids)})
        return step(row, ids)


# --- Looking ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shelf:
    """A page of collections, each with the picture that stands for it, and where the next one begins."""

    rows: list[tuple[Collection, Task | None]]
    next: int | None


def page(member: Membership, before: int | None = None) -> Shelf:
    """Newest first. Two queries, however many there are and however many pictures they hold."""
    rows = with_face(member, access.collections(member)).select_related("owner").order_by("-pk")
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows[: PAGE + 1])
    shown = found[:PAGE]
    return Shelf(faces(shown), shown[-1].pk if len(found) > PAGE else None)


@dataclass(frozen=True)
class Unfiled:
    """How many of the newest pictures are in no collection; `is_all`: there are no older ones."""

    total: int
    of: int
    is_all: bool


def unfiled(member: Membership) -> Unfiled:
    """Counted among so many only: however long the history, the page asks for no more."""
    newest = access.tasks(member).filter(state=State.DONE).order_by("-created", "-id")
    ids = list(newest.values_list("pk", flat=True)[: UNFILED_OF + 1])
    among = Task.objects.filter(pk__in=ids[:UNFILED_OF])
    return Unfiled(history.unfiled(member, among).count(), min(len(ids), UNFILED_OF), len(ids) <= UNFILED_OF)


def with_face(member: Membership, rows: QuerySet[Collection]) -> QuerySet[Collection]:
    """With `face`: the id of the chosen cover, or of the first picture in it; of those that this member sees, and whose
    original is there."""
    seen = access.tasks(member).filter(state=State.DONE, result__lost_at=None)
    chosen = seen.filter(pk=OuterRef("cover_id")).values("pk")[:1]
    # Row by row along the index of the items: a list of all that may be seen would be the whole history.
    first = (
        CollectionItem.objects.filter(Exists(seen.filter(pk=OuterRef("task_id"))), collection=OuterRef("pk"))
        .order_by("task_id")
        .values("task_id")[:1]
    )
    return rows.annotate(face=Coalesce(Subquery(chosen), Subquery(first), output_field=BigIntegerField()))


def faces(rows: Sequence[Collection]) -> list[tuple[Collection, Task | None]]:
    """Each of with_face with its picture."""
    ids = [row.face for row in rows if row.face]  # type: ignore[attr-defined]
    tasks = Task.objects.select_related("result").in_bulk(ids)
    return [(row, tasks.get(row.face)) for row in rows]  # type: ignore[attr-defined]


def holding(task: Task, rows: QuerySet[Collection]) -> QuerySet[Collection]:
    """With `holds`: whether the picture is in it."""
    return rows.annotate(holds=Exists(CollectionItem.objects.filter(collection=OuterRef("pk"), task=task)))


# --- Links for guests --------------------------------------------------------------------------------------------------------


def share(
    member: Membership, collection: Collection, *, days: int = LINK_DAYS, may_comment: bool, shows_prompts: bool
) -> tuple[ShareLink, str]:
    """The link and its token, which exists nowhere else: only its hash is kept. Raises Refused."""
    if not 1 <= days <= LINK_DAYS_MAX:
        raise Refused(f"A link is open from 1 to {LINK_DAYS_MAX} days.")
    token = new_token()
    with write():
        row = _decided(member, collection)
        if open_links(row).count() >= LINKS_MAX:
            raise Refused(f"{LINKS_MAX} links to this collection are open. Revoke one first.")
        link = ShareLink.objects.create(
            collection=row,
            token_hash=token_hash(token),
            may_comment=may_comment,
            shows_prompts=shows_prompts,
            made_by=member.user,
            expires_at=timezone.now() + timedelta(days=days),
        )
    return link, token


def open_links(collection: Collection) -> QuerySet[ShareLink]:
    rows = ShareLink.objects.filter(collection=collection, revoked_at=None, expires_at__gt=timezone.now())
    return rows.select_related("made_by").order_by("-created", "-pk")


def revoke(member: Membership, collection: Collection, link_id: int) -> bool:
    """Closed at once. False: it was closed already, or never was one of this collection. Raises Refused."""
    with write():
        row = _decided(member, collection)
        now = timezone.now()
        still_open = ShareLink.objects.filter(pk=link_id, collection=row, revoked_at=None, expires_at__gt=now)
        return bool(still_open.update(revoked_at=now))


def shared_page(link: ShareLink, before: int | None = None) -> tuple[list[Task], int | None]:
    """Pictures for guests, newest first, and where the next page begins. Read along the index of the items."""
    items = access.shared_items(link).order_by("-task_id")
    if before is not None:
        items = items.filter(task_id__lt=before)
    found = [item.task for item in items[: SHARED_PAGE + 1]]
    shown = found[:SHARED_PAGE]
    return shown, shown[-1].pk if len(found) > SHARED_PAGE else None


def shared_neighbours(link: ShareLink, task: Task) -> tuple[int | None, int | None]:
    """The pictures before and after this one."""
    ids = access.shared_items(link).values_list("task_id", flat=True)
    newer = ids.filter(task_id__gt=task.pk).order_by("task_id").first()
    return newer, ids.filter(task_id__lt=task.pk).order_by("-task_id").first()


# --- What guests say ---------------------------------------------------------------------------------------------------------


class TooMany(Exception):
    """Too much was said in too short a time; the message says what to do."""


def say(link: ShareLink, task: Task, *, guest: str, text: str, address: str) -> Comment:
    """A guest's words under a picture that their link shows; the collection's owner is told. Raises TooMany, Refused."""
    guest, text = clean(guest)[:GUEST_MAX_CHARS], clean(text, lines=True)
    if not guest or not text:
        raise Refused("Write your name and what you want to say.")
    if len(text) > COMMENT_MAX_CHARS:
        raise Refused(f"A comment has at most {COMMENT_MAX_CHARS:,} characters; this one has {len(text):,}.")
    _count(f"guest:{link.pk}:{token_hash(address)[:32]}", ONE_GUEST)
    _count(f"guests:{link.pk}", ALL_GUESTS)
    with write():
        row = Comment.objects.create(task=task, guest=guest, text=text)
        Task.objects.filter(pk=task.pk).update(version=F("version") + 1)
        bus.publish_task(task.team_id, task.pk)
        _tell_owner(link, row)
    return row


def _count(key: str, limit: int) -> None:
    if rates.count(key, GUESTS_S) > limit:
        raise TooMany("That was a lot at once. Wait ten minutes, then send it again: what you wrote is still here.")


def _tell_owner(link: ShareLink, row: Comment) -> None:
    """Whose collection it is, or else who made the link; nobody who has left the team."""
    collection = link.collection
    people = User.objects.filter(memberships__team=collection.team_id, is_active=True).in_bulk(
        [pk for pk in (collection.owner_id, link.made_by_id) if pk]
    )
    user = people.get(collection.owner_id or 0) or people.get(link.made_by_id or 0)
    if user is None:
        return
    said = " ".join(row.text.split())
    said = said if len(said) <= SAID_MAX_CHARS else f"{said[:SAID_MAX_CHARS]}…"
    url = f"{reverse('task', args=[collection.team.slug, row.task_id])}#comment-{row.pk}"
    text = f"{row.guest}, a guest of “{collection.name}”, says: {said}"
    notices.tell(user, key=f"comment:{row.pk}", text=text, url=url, team=collection.team)
