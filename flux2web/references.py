"""The team's library of images: every upload is kept, found by its name, opened to the outside for a while, thrown out.

Throwing one out takes it off the library and out of the form; its files stay where pictures show that they were made
from it, and else until its time in the trash is up. An address is open to whoever holds it; as long as a picture is being
made from the image it cannot be closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from hashlib import sha256
from io import BytesIO
from operator import and_, or_

from django.conf import settings
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from . import access, http, imaging, lost, queries, rates, search, shelf, storage
from .models import LIVE, Hosting, Membership, Reference, Result, Task, TaskReference, write
from .models.base import new_token
from .providers.base import REFERENCES_MAX
from .shelf import Refused, clean

NAME_MAX_CHARS = storage.NAME_MAX_CHARS
PAGE = 40
WORDS_MAX = 8  # of a search that are looked at
OPEN_MAX = 5  # addresses of one image that members opened
TRIES_MAX, TRIES_S = 6, 60  # how often a team may have an address fetched, and in which time
TRY_MAX_S = 10
EXAMPLE = "lighthouse.webp"  # our own drawing

DECIDES = "Only who uploaded it or a team admin can do this."
GONE = "This image is not in the library any more."
NEEDED = "A picture is being made from this image, so its address stays open. It closes by itself some hours later."


@dataclass(frozen=True)
class Limits:
    """What an upload may be."""

    number: int
    size_bytes: int
    shrink_bytes: int

    @property
    def megabytes(self) -> int:
        return self.size_bytes // 2**20


LIMITS = Limits(REFERENCES_MAX, settings.UPLOAD_MAX_BYTES, imaging.SHRINK_MAX_BYTES)


# --- Finding -------------------------------------------------------------------------------------------------------------


def page(member: Membership, text: str = "", cursor: str | None = None) -> queries.Page[Reference]:
    """The library from the newest on, each with `used`: how many pictures were asked for with it."""
    rows = access.references(member).select_related("user").filter(_named(text))
    return queries.page_of(_with_uses(member, rows), cursor, PAGE)


def uses(member: Membership) -> QuerySet[TaskReference]:
    """Those in pictures that this member sees."""
    return TaskReference.objects.filter(task__in=access.tasks(member))


def _with_uses(member: Membership, rows: QuerySet[Reference]) -> QuerySet[Reference]:
    counted = uses(member).filter(reference=OuterRef("pk")).order_by().values("reference")
    return rows.annotate(used=Coalesce(Subquery(counted.annotate(number=Count("pk")).values("number")), 0))


def _named(text: str) -> Q:
    """Each word somewhere in the name, in small letters or large. SQLite's LIKE folds A to Z alone: it is asked for all."""
    words = clean(text).split()[:WORDS_MAX]
    spelt = [reduce(or_, (Q(name__icontains=it) for it in _spellings(word))) for word in words]
    return reduce(and_, spelt, Q())


def _spellings(word: str) -> set[str]:
    return {word, word.lower(), word.upper(), word.capitalize()}


# --- Naming, throwing out --------------------------------------------------------------------------------------------------


def decides(member: Membership, reference: Reference) -> bool:
    return member.may_manage or (member.may_make and reference.user_id == member.user_id)


def name_of(text: str) -> str:
    name = clean(text)
    if not name:
        raise Refused("Give the image a name.")
    if len(name) > NAME_MAX_CHARS:
        raise Refused(f"A name has at most {NAME_MAX_CHARS} characters; this one has {len(name)}.")
    return name


def rename(member: Membership, reference: Reference, name: str) -> None:
    """Raises Refused."""
    name = name_of(name)
    _check_decides(member, reference)
    with write():
        tasks = _made_from(reference)
        if not access.references(member).filter(pk=reference.pk).update(name=name):
            raise Refused(GONE)
        search.put(shelf.words_of(tasks))


def _check_decides(member: Membership, reference: Reference) -> None:
    if not decides(member, reference):
        raise Refused(DECIDES)


def delete(member: Membership, reference: Reference) -> bool:
    """Out of the library; its addresses close, but for those that a picture in the making needs. False: it was out."""
    _check_decides(member, reference)
    now = timezone.now()
    with write():
        thrown = access.references(member).filter(pk=reference.pk).update(deleted_at=now)
        if thrown:
            _closable(reference).update(closes_at=now)
    return bool(thrown)


def restore(member: Membership, reference: Reference) -> bool:
    """Into the library again; closed addresses stay closed. False: it is there."""
    _check_decides(member, reference)
    rows = Reference.objects.filter(pk=reference.pk, team=member.team, deleted_at__isnull=False, purged_at=None)
    return bool(rows.update(deleted_at=None))


def from_result(member: Membership, result: Result) -> Reference:
    """A picture of the team's becomes an image of its library, as a JPEG where its file is longer than an upload's. From
    one that only this member sees, it is seen by this member only.

    Raises imaging.BadImage, storage.StorageDown, FileNotFoundError.
    """
    with lost.noticed(result, "use"):
        data = storage.read(result.key)
    name = f"picture-{result.task_id}.{storage.EXTENSIONS[result.mime]}"
    if len(data) > settings.UPLOAD_MAX_BYTES:
        data = imaging.convert(data, "JPEG").data
    return storage.save_reference(member.team, member.user, BytesIO(data), name, made_from=result.task)


def example(member: Membership) -> Reference:
    """The picture that an empty studio offers to change, as an image of this member's; once, however often it is asked for.

    Raises storage.StorageDown; imaging.BadImage where no picture can be read here now.
    """
    with (settings.BASE_DIR / "static" / EXAMPLE).open("rb") as file:
        return storage.save_reference(member.team, member.user, file, EXAMPLE)


def share(member: Membership, reference: Reference) -> None:
    """For the whole team from now on. Raises Refused."""
    if not member.may_make or reference.user_id != member.user_id:
        raise Refused("Only who uploaded it can show it to the team.")
    with write():
        tasks = _made_from(reference)
        access.references(member).filter(pk=reference.pk).update(private=False)
        search.put(shelf.words_of(tasks))


def _made_from(reference: Reference) -> list[Task]:
    """Locked before the image is, in one order: they are found by other words, which may be changing just now."""
    uses = TaskReference.objects.filter(reference=reference).values("task")
    return list(Task.objects.filter(pk__in=uses).select_for_update(of=("self",), no_key=True).order_by("pk"))


# --- Open addresses --------------------------------------------------------------------------------------------------------


def addresses(reference: Reference) -> list[Hosting]:
    """Where it can be fetched now, the newest first."""
    rows = _open(reference).select_related("task").order_by("-created", "-id")
    for hosting in (found := list(rows)):
        hosting.reference = reference
    return found


def _open(reference: Reference) -> QuerySet[Hosting]:
    still = Q(closes_at=None) | Q(closes_at__gt=timezone.now())
    return Hosting.objects.filter(still, reference=reference)


def _closable(reference: Reference) -> QuerySet[Hosting]:
    """A task that has ended never lives again, so nobody needs these any more."""
    return _open(reference).exclude(task__state__in=LIVE)


def open_address(member: Membership, reference: Reference) -> Hosting:
    """An address of its own, which closes by itself. Raises Refused."""
    with write():
        row = Reference.objects.select_for_update(no_key=True).filter(pk=reference.pk, team=member.team).first()
        if row is None or row.deleted_at:
            raise Refused(GONE)
        if _open(row).filter(task=None).count() >= OPEN_MAX:
            raise Refused(f"{OPEN_MAX} addresses of this image are open. Close one first.")
        closes_at = timezone.now() + timedelta(seconds=settings.HOSTED_OPEN_S)
        return Hosting.objects.create(token=new_token(), reference=row, closes_at=closes_at)


def close_address(reference: Reference, hosting_id: int) -> bool:
    """False: it was closed already. Raises Refused where a picture in the making needs it."""
    if _closable(reference).filter(pk=hosting_id).update(closes_at=timezone.now()):
        return True
    if _open(reference).filter(pk=hosting_id).exists():
        raise Refused(NEEDED)
    return False


# --- Can it be fetched? ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """What came of fetching an address as a provider would; `text` says it to people, and what to do."""

    is_fine: bool
    text: str


NOT_STOPPED = "Sending is not stopped by this check."


def try_address(member: Membership, hosting: Hosting) -> Tried:
    """Fetch it as a stranger's address: by name, over https, from the networks of the world. Raises Refused: too often."""
    _count_try(member)
    url = f"{settings.PUBLIC_URL}{storage.hosting_path(hosting)}"
    try:
        data = http.fetch(url, max_bytes=settings.UPLOAD_MAX_BYTES, total_s=TRY_MAX_S)
    except http.FetchFailed as failed:
        return Tried(is_fine=False, text=f"{failed.message} {_advice(failed)} {NOT_STOPPED}")
    if sha256(data).hexdigest() != hosting.reference.sha256:
        return Tried(
            is_fine=False, text=f"Something else than this image came from its address. {PROXY_ADVICE} {NOT_STOPPED}"
        )
    return Tried(is_fine=True, text="Fine: the image came, whole, as a provider would fetch it.")


PROXY_ADVICE = "Let the proxy in front of this site pass on what begins with /i/ as it is."
ADVICE = {
    "gone": PROXY_ADVICE,
    "refused": "So it cannot be judged from this machine: open the address from another network, such as a phone’s.",
    "unreachable": "If it cannot be reached from elsewhere either, providers that fetch images cannot work with them.",
}


def _advice(failed: http.FetchFailed) -> str:
    if "certificate" in failed.message.lower():
        return "Its certificate is not one that the world trusts: renew it, or get one of a public authority."
    return ADVICE[failed.kind]


def _count_try(member: Membership) -> None:
    if rates.count(f"tried-address:{member.team_id}", TRIES_S) > TRIES_MAX:
        raise Refused("Your team has checked often just now. Try again in a minute.")
