"""Warnings before credits run out: at 80 and at 95 percent, once a period, to whoever the limit is for and to its keepers.

The clock sweeps; nothing is warned while money moves. A row remembers the last warning, and one UPDATE of it decides who
tells, however many sweep at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import BigIntegerField, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone

from . import health, ledger, notices, overview, providers
from .models import (
    Budget,
    Event,
    Membership,
    Notice,
    Period,
    ProviderAccount,
    State,
    Task,
    Usage,
    User,
    write,
)
from .models.teams import MAKERS, MANAGERS
from .money import credits_text, format_credits

LEVELS = (95, 80)  # percent, highest first: whoever jumps over both is warned once
TONES = {80: "warn", 95: "bad"}


def sweep(now: datetime) -> int:
    """Tell everyone who has crossed a level since it was looked last. Two queries where nobody has. Returns how many."""
    return sum(_warn_member(member) for member in _members(now)) + sum(_warn_team(budget) for budget in _teams(now))


def level_of(used: int, limit: int) -> int:
    """The highest level that is reached; 0 below the first, and where there is nothing to use."""
    return next((level for level in LEVELS if 0 < limit * level <= used * 100), 0)


# --- A member's cap --------------------------------------------------------------------------------------------------


def _members(now: datetime) -> QuerySet[Membership]:
    """Those who may be over a level that they were not warned of: the cap as cap_of has it, as the database can tell."""
    usage = "team__budget__period__usages"
    of_theirs = {f"{usage}__user": F("user"), f"{usage}__warned_percent__lt": LEVELS[0]}
    open_teams = {"team__closed_at": None, "team__budget__period__ends_at__gt": now}
    rows = Membership.objects.filter(
        **of_theirs, **open_teams, role__in=MAKERS, uncapped=False, user__is_active=True
    ).annotate(
        usage_id=F(f"{usage}__pk"),
        used=F(f"{usage}__held") + F(f"{usage}__spent") - F(f"{usage}__refunded"),
        limit=Coalesce("cap", "team__budget__member_cap") + F(f"{usage}__extra"),
    )
    over = rows.annotate(first_level=F("limit") * LEVELS[-1]).filter(limit__gt=0, first_level__lte=F("used") * 100)
    return over.select_related("user", "team__budget__period")


def _warn_member(member: Membership) -> bool:
    usage = Usage.objects.get(pk=member.usage_id)  # type: ignore[attr-defined]
    cap = ledger.cap_of(member, member.team.budget)
    limit = 0 if cap is None else cap + usage.extra
    level = level_of(usage.used, limit)
    with write():
        # With the extra as it was read: who was given more meanwhile is not at this percentage any more.
        mine = Usage.objects.filter(pk=usage.pk, warned_percent__lt=level, extra=usage.extra)
        if mine.update(warned_percent=level):
            _tell_member(member, usage, limit, level)
            return True
    return False


def _tell_member(member: Membership, usage: Usage, limit: int, level: int) -> None:
    used, team = usage.used, member.team
    said = f"You have used {format_credits(used)} of {credits_text(limit)} this period: {used * 100 // limit}\xa0%."
    notices.tell(
        member.user,
        key=f"used:{usage.pk}:{level}:{limit}",
        text=f"{said} Renews on {_day(team.budget)}.",
        url=reverse("usage", args=[team.slug]),
        tone=TONES[level],
        team=team,
        mails=True,
        instead_of=f"used:{usage.pk}:",
    )


# --- A team's budget -------------------------------------------------------------------------------------------------


def _teams(now: datetime) -> QuerySet[Budget]:
    """Those of whose credits this period's members may have used more than the managers were warned of."""
    usage = "period__usages"
    used = Sum(F(f"{usage}__held") + F(f"{usage}__spent") - F(f"{usage}__refunded"), output_field=BigIntegerField())
    rows = Budget.objects.filter(
        team__closed_at=None, period__ends_at__gt=now, period__warned_percent__lt=LEVELS[0]
    ).annotate(used=used)
    rows = rows.annotate(first_level=(F("used") + F("granted") - F("held") - F("spent")) * LEVELS[-1])
    return rows.filter(used__gt=0, first_level__lte=F("used") * 100).select_related("team", "period")


def _warn_team(found: Budget) -> bool:
    used, limit = found.used, found.used + found.available  # type: ignore[attr-defined]
    level = level_of(used, limit)
    with write():
        mine = Period.objects.filter(pk=found.period_id or 0, warned_percent__lt=level)
        if mine.update(warned_percent=level):
            _tell_managers(found, used, limit, level)
            return True
    return False


def _tell_managers(budget: Budget, used: int, limit: int, level: int) -> None:
    said = f"{budget.team} has used {format_credits(used)} of {credits_text(limit)} this period: {used * 100 // limit}\xa0%."
    more = f" {format_credits(budget.allowance)} more come on {_day(budget)}." if budget.allowance else ""
    managers = budget.team.memberships.filter(role__in=MANAGERS, user__is_active=True)
    for member in managers.select_related("user"):
        notices.tell(
            member.user,
            key=f"team-used:{budget.period_id}:{level}:{limit}",
            text=said + more,
            url=reverse("budget", args=[budget.team.slug]),
            tone=TONES[level],
            team=budget.team,
            mails=True,
            instead_of=f"team-used:{budget.period_id}:",
        )


def _day(budget: Budget) -> str:
    """The last day's morrow, as the team has it."""
    return f"{budget.period.ends_at.astimezone(ZoneInfo(budget.time_zone)):%-d %B}" if budget.period else ""


# --- A task whose provider went quiet --------------------------------------------------------------------------------------


def report(task: Task, by: User) -> bool | None:
    """Tell the site admins what is known. False: they were told of it before; None: there is an answer by now."""
    with write():
        mine = Task.objects.select_related("team", "account").filter(pk=task.pk, state=State.UNCERTAIN)
        quiet = mine.select_for_update(no_key=True, of=("self",)).first()
        if quiet is None or quiet.account is None:
            return None
        if quiet.events.filter(kind="report").exists():
            return False
        Event.objects.create(task=quiet, kind="report", cause=f"user {by.pk}")
        _tell_of_report(quiet, quiet.account, by)
    return True


def _tell_of_report(task: Task, account: ProviderAccount, by: User) -> None:
    for admin in User.objects.filter(is_site_admin=True, is_active=True):
        notices.tell(
            admin,
            key=f"report:{task.pk}",
            text=_report_text(task, account, by),
            url=overview.account_url(account),
            tone="warn",
            mails=True,
        )


def _report_text(task: Task, account: ProviderAccount, by: User) -> str:
    """What we know of it; never its prompt, which may be private."""
    attempt = task.attempts.order_by("number").last()
    since = f" since {attempt.created.astimezone(UTC):%-d %B %H:%M} UTC" if attempt else ""
    known = f"Their id is {task.upstream_id}" if task.upstream_id else "It gave us no id"
    said = (
        f"{by} reports task {task.pk} of {task.team}: {providers.get(account.provider).name} has not answered{since}."
    )
    return f"{said} {known}, and we looked {task.looks} times."


# --- An account that somebody should look after ----------------------------------------------------------------------------

SILENT, REFUSING = "silent:", "refusing:"


@dataclass(frozen=True)
class Worry:
    """What is wrong with an account, for a site admin. `kind` is SILENT or REFUSING."""

    kind: str
    account: ProviderAccount
    text: str
    tone: str

    @property
    def stem(self) -> str:
        """How the keys of its notices begin: one a day."""
        return f"{self.kind}{self.account.pk}:"


def sweep_accounts(now: datetime | None = None) -> int:
    """Tell the site admins once a day of each that is silent or refuses us; put away what was told of those that are well.

    Returns how many notices were written. For the clock.
    """
    now = now or timezone.now()
    worries = [*_silent(now), *_refusing(now)]
    _put_away_mended(worries)
    return sum(_tell_admins(worry, now) for worry in worries)


def _silent(now: datetime) -> list[Worry]:
    silent = health.silent(now)
    rows = ProviderAccount.objects.filter(pk__in=silent) if silent else ()
    return [Worry(SILENT, row, overview.silent_text(row, silent[row.pk]), "warn") for row in rows]


def _refusing(now: datetime) -> list[Worry]:
    return [Worry(REFUSING, row, overview.refusal_text(row), "bad") for row in health.refusing(now)]


def _put_away_mended(worries: list[Worry]) -> None:
    told = Notice.objects.filter(Q(key__startswith=SILENT) | Q(key__startswith=REFUSING), seen_at=None)
    for worry in worries:
        told = told.exclude(key__startswith=worry.stem)
    if told.exists():
        notices.put_away(told)


def _tell_admins(worry: Worry, now: datetime) -> int:
    what: dict[str, Any] = {
        "key": f"{worry.stem}{now:%Y-%m-%d}",
        "text": worry.text,
        "url": overview.account_url(worry.account),
        "tone": worry.tone,
        "instead_of": worry.stem,
    }
    admins = User.objects.filter(is_site_admin=True, is_active=True)
    with write():
        return sum(notices.tell(admin, mails=True, **what) for admin in admins)
