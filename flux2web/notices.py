"""Telling one person something, once: on their pages until they put it away, by mail where that is asked for.

A mail is tried until the server takes it, MAIL_TRIES times at most; sent twice only if we die between its yes and our note.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from smtplib import SMTPException

import structlog
from django.conf import settings
from django.core.mail import send_mail
from django.db.models import F, QuerySet
from django.template.loader import render_to_string
from django.utils import timezone

from . import bus
from .models import Notice, Team, User, write

log = structlog.get_logger(__name__)
STRIP = 3  # on every page; the others are one press away
MORE_MAX = 20
MAIL_AGAIN = timedelta(minutes=10)
MAIL_TRIES = 5
MAIL_BATCH = 20
SUBJECT_MAX = 100


def tell(
    user: User,
    *,
    key: str,
    text: str,
    url: str = "",
    tone: str = "info",
    team: Team | None = None,
    mails: bool = False,
    instead_of: str = "",
) -> bool:
    """Write a notice, in the caller's transaction. False when it was told before: `key` names it for this person.

    `tone` is info, good, warn or bad; `url` is a path of this site; `instead_of` is how the keys of those begin that it
    makes out of date: they are put away.
    """
    if instead_of:
        stale = Notice.objects.filter(user=user, key__startswith=instead_of, seen_at=None).exclude(key=key)
        stale.update(seen_at=timezone.now(), mail_due_at=None)
    due_at = timezone.now() if mails and can_mail() else None
    row = Notice(user=user, team=team, key=key, tone=tone, text=text[:300], url=url, mail_due_at=due_at)
    known = Notice.objects.filter(user=user, key=key).exists()
    if not known:
        Notice.objects.bulk_create([row], ignore_conflicts=True)
    if team and not known:
        bus.publish_balance(team.pk)  # pages ask for what is personal to them again
    return not known


# --- On pages --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strip:
    """What a person's pages say at the top, newest first."""

    rows: list[Notice]
    more: int  # that are not in rows; MORE_MAX may be any number from there on

    @property
    def is_many(self) -> bool:
        return self.more >= MORE_MAX


def strip(user: User) -> Strip:
    """One query. Never a count: whoever has thousands waits for no page."""
    rows = list(of(user).filter(seen_at=None).order_by("-created", "-id")[: STRIP + MORE_MAX])
    return Strip(rows[:STRIP], len(rows[STRIP:]))


def of(user: User) -> QuerySet[Notice]:
    return Notice.objects.filter(user=user).select_related("team")


def put_away(rows: QuerySet[Notice]) -> None:
    """No longer on every page; still on the page of all."""
    with write():
        rows.filter(seen_at=None).update(seen_at=timezone.now())


# --- By mail ---------------------------------------------------------------------------------------------------------


def can_mail() -> bool:
    """Whether there is a mail server. What nobody reads is not written to the console, except while developing."""
    backend = settings.EMAIL_BACKEND.rsplit(".", 2)[-2]
    return backend != "dummy" and (backend != "console" or settings.DEBUG)


def mail_is_due(now: datetime) -> bool:
    return Notice.objects.filter(mail_due_at__lte=now).exists()


def mail_due() -> int:
    """Send what is due, oldest first; returns how many went. Stops at the first that does not: the server is ill."""
    due = Notice.objects.filter(mail_due_at__lte=timezone.now()).order_by("mail_due_at")
    sent = 0
    for notice_id in list(due.values_list("pk", flat=True)[:MAIL_BATCH]):
        notice = _claim(notice_id)
        if notice and not _mail(notice):
            break
        sent += bool(notice)
    return sent


def _claim(notice_id: int) -> Notice | None:
    """Ours for MAIL_AGAIN; after that somebody tries again, unless we say that it went."""
    now = timezone.now()
    with write():
        due = Notice.objects.filter(pk=notice_id, mail_due_at__lte=now)
        if not due.update(mail_due_at=now + MAIL_AGAIN, mail_tries=F("mail_tries") + 1):
            return None
    return Notice.objects.select_related("user", "team").get(pk=notice_id)


def _mail(notice: Notice) -> bool:
    """Whether the next may be tried."""
    if not can_mail() or not notice.user.is_active:
        return _done(notice)
    if notice.mail_tries > MAIL_TRIES:  # whoever tried last died of it
        return _give_up(notice, "no answer")
    try:
        send_mail(subject(notice), body(notice), None, [notice.user.email])
    except Exception as error:  # whatever a mail backend raises: the row knows when to try again
        log.warning("notice not mailed", notice=notice.pk, tries=notice.mail_tries, error=mail_problem(error))
        return _give_up(notice, mail_problem(error)) if notice.mail_tries == MAIL_TRIES else False
    return _done(notice)


def mail_problem(error: Exception) -> str:
    """For the log. What a mail server answers may name whom the mail was for."""
    if isinstance(error, SMTPException):
        return f"{type(error).__name__} {getattr(error, 'smtp_code', '')}".rstrip()
    return repr(error)


def _done(notice: Notice) -> bool:
    with write():
        return bool(Notice.objects.filter(pk=notice.pk).update(mail_due_at=None))


def _give_up(notice: Notice, error: str) -> bool:
    log.error("notice never mailed, it stays on the person's pages", notice=notice.pk, error=error)
    return _done(notice)


def subject(notice: Notice) -> str:
    """The first sentence. A name in it may hold a line break, a header must not."""
    said = re.split(r"(?<=[.!?]) |: ", notice.text)[0].rstrip(".")
    return " ".join(f"flux2web: {said}".split())[:SUBJECT_MAX]


def body(notice: Notice) -> str:
    return render_to_string("notices/mail.txt", {"notice": notice, "site": settings.PUBLIC_URL})
