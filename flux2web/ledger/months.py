"""Periods: opening the next one, once, with its allowance; and what ends with the last one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import structlog
from django.db import DatabaseError
from django.db.models import F, Sum

from .. import periods
from ..models import Act, Budget, Entry, Period, Task, Team, Usage, User, write
from ..money import CREDITS_MAX
from .book import add_granted, budget_of, of_team, require_transaction

log = structlog.get_logger(__name__)
RULES = ("start_day", "time_zone", "allowance", "rolls_over")


class PeriodEnded(Exception):
    """The period that a hold was prepared for ended a moment ago. Undoes the transaction; the next try has the new one."""


def current(team: Team, now: datetime) -> Period:
    """The period in which `now` lies. Opens it, and closes those before it, if no clock has yet."""
    require_transaction()
    while True:
        budget = budget_of(team.pk)
        if budget.period is None:
            _open_first(budget, now)
        elif budget.period.ends_at <= now:
            _renew(team, budget, budget.period)
        else:
            return budget.period


def renew_due(now: datetime) -> int:
    """For the clock: every team whose period has ended gets its next. Returns how many did."""
    ended = Budget.objects.filter(period__ends_at__lte=now, team__closed_at=None).select_related("team")
    return sum(_renew_alone(budget.team, now) for budget in ended[:500])


def _renew_alone(team: Team, now: datetime) -> bool:
    """What one team trips over keeps none of the others waiting; it is due again at the next beat."""
    try:
        with write():
            current(team, now)
    except DatabaseError as error:
        log.error("team not renewed", team=team.pk, error=repr(error))
        return False
    return True


def _open_first(budget: Budget, now: datetime) -> None:
    starts_at, ends_at = periods.around(now, budget.start_day, ZoneInfo(budget.time_zone))
    period, _ = Period.objects.get_or_create(team_id=budget.pk, starts_at=starts_at, defaults={"ends_at": ends_at})
    Budget.objects.filter(pk=budget.pk, period=None).update(period=period)


def _renew(team: Team, budget: Budget, last: Period) -> None:
    """One step: what was unused of the last period's expiring credits goes, the next one's allowance comes.

    Whoever moves the budget on, by the rules as they were read, does both. Anyone else finds it moved, or the rules
    changed, and looks again. The row is not locked before: a hold that waited for it in vain would keep it, and locks
    its usage later, against the order of everyone else.
    """
    ends_at = periods.after(last.ends_at, budget.start_day, ZoneInfo(budget.time_zone))
    new, _ = Period.objects.get_or_create(team=team, starts_at=last.ends_at, defaults={"ends_at": ends_at})
    as_read = {name: getattr(budget, name) for name in RULES}
    if not Budget.objects.filter(pk=team.pk, period=last, **as_read).update(period=new):
        return
    expire(team, last, key=f"expired:{last.pk}")
    if budget.allowance:
        _allow(team, budget, new)


def _allow(team: Team, budget: Budget, period: Period) -> None:
    add_granted(team.pk, budget.allowance)
    if not budget.rolls_over:
        Period.objects.filter(pk=period.pk).update(expiring=F("expiring") + budget.allowance)
    of_team(
        team,
        Entry.Kind.GRANT,
        budget.allowance,
        actor=None,
        reason=f"Allowance from {period.starts_at.astimezone(ZoneInfo(budget.time_zone)):%-d %B %Y}",
        key=f"allowance:{period.pk}",
        period=None if budget.rolls_over else period,
    )


def expire(team: Team, period: Period, *, key: str, at_most: int | None = None) -> None:
    """Take back what an ended period's expiring credits still are beyond what was used of them.

    Holds use expiring credits first, so unused is what all holds of that period, live or settled, leave of them. The
    budget's row is ours by now: what others released before is in these sums, what they will release comes here again.
    """
    period.refresh_from_db()
    used = Usage.objects.filter(period=period).aggregate(all=Sum(F("held") + F("spent")))["all"] or 0
    unused = min(period.expiring - period.expired - used, budget_of(team.pk).available)
    if at_most is not None:
        unused = min(unused, at_most)
    for number, amount in enumerate(_in_entries(unused)):
        add_granted(team.pk, -amount)
        Period.objects.filter(pk=period.pk).update(expired=F("expired") + amount)
        part = f"{key}:part{number}" if number else key
        reason = "Unused when the period ended"
        of_team(team, Entry.Kind.REVOKE, amount, actor=None, reason=reason, key=part, period=period)


def _in_entries(credits: int) -> Iterator[int]:
    """So much in amounts that one entry may carry: several grants may have come to more."""
    while credits > 0:
        yield min(credits, CREDITS_MAX)
        credits -= CREDITS_MAX


def expire_late(task: Task, budget: Budget, *, returned: int) -> None:
    """A hold came back after its period had ended: what it held of expiring credits goes with them.

    Never more than came back: what an admin had taken of them before is gone, and the rest is another period's.
    """
    if task.period_id is None or task.period_id == budget.period_id or not returned:
        return
    period = Period.objects.select_related("team").get(pk=task.period_id)
    if period.expiring > period.expired:
        expire(period.team, period, key=f"expired:{period.pk}:{task.pk}", at_most=returned)


def set_rules(
    team: Team,
    *,
    actor: User,
    start_day: int,
    time_zone: str,
    allowance: int,
    rolls_over: bool,
    now: datetime,
) -> None:
    """Other rules from now on. The period that lasts ends when the new ones say that the next begins.

    Raises PeriodEnded, and changes nothing, when a renewal came between.
    """
    with write():
        period = current(team, now)
        before = _rules_text(Budget.objects.get(pk=team.pk))
        rules = {"start_day": start_day, "time_zone": time_zone, "allowance": allowance, "rolls_over": rolls_over}
        if not Budget.objects.filter(pk=team.pk, period=period).update(**rules):
            raise PeriodEnded
        ends_at = periods.after(now, start_day, ZoneInfo(time_zone))
        Period.objects.filter(pk=period.pk).update(ends_at=ends_at)
        after = _rules_text(Budget.objects.get(pk=team.pk))
        if after != before:
            Act.objects.record(
                actor, "set the allowance of", team=team, about=str(team), note=f"{after}. Was: {before}"
            )


def _rules_text(budget: Budget) -> str:
    over = "rolling over" if budget.rolls_over else "not rolling over"
    return f"{budget.allowance:,} credits on day {budget.start_day}, {budget.time_zone}, {over}"
