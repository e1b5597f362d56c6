"""Where credits went, from the day's sums that the ledger keeps: by day, and by whom, whose, what. And where it is heading.

Each function asks once, however much was made; none adds up tasks or entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal

from django.db.models import F, QuerySet, Sum

from . import periods
from .models import Tally, Team, User
from .money import format_credits

# What a share is of: the columns that name it.
KEYS = {
    "user": ("user_id", "user__name", "user__email"),
    "team": ("team_id", "team__name"),
    "provider": ("provider",),
    "mode": ("mode",),
    "family": ("family",),
    "resolution": ("resolution",),
}
NOBODY = "never taken"  # of a provider: it ended before any took it
SUMS = ("done", "failed", "cancelled", "references", "credits", "refunded", "cost_usd")


@dataclass(frozen=True)
class Share:
    """One part of what was made in a time. `credits` is what it cost in the end: charged less refunded."""

    key: object
    label: str
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    references: int = 0
    credits: int = 0
    refunded: int = 0
    cost_usd: Decimal = Decimal(0)

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.cancelled

    @property
    def failed_percent(self) -> int:
        """Of those that were tried to the end; what somebody cancelled is nobody's failure."""
        tried = self.done + self.failed
        return round(self.failed * 100 / tried) if tried else 0


def rows(
    team: Team | None = None, user: User | None = None, since: date | None = None, until: date | None = None
) -> QuerySet[Tally]:
    """The sums of these days, both included. What is None is everyone's, or of all time."""
    asked = {"team": team, "user": user, "day__gte": since, "day__lte": until}
    return Tally.objects.filter(**{name: value for name, value in asked.items() if value is not None})


def by_day(rows: QuerySet[Tally], since: date, until: date) -> list[tuple[date, int]]:
    """Net credits of each day, those on which nothing was spent too."""
    found = rows.filter(day__gte=since, day__lte=until).order_by().values("day")
    spent = dict(found.annotate(net=Sum(F("credits") - F("refunded"))).values_list("day", "net"))
    days = [since + timedelta(days=n) for n in range((until - since).days + 1)]
    return [(day, spent.get(day, 0)) for day in days]


def by(rows: QuerySet[Tally], what: str) -> list[Share]:
    """What each one made and spent, biggest first. `what` is one of KEYS."""
    columns = KEYS[what]
    found = rows.order_by().values(*columns).annotate(**_sums())
    shares = [Share(key=row[columns[0]], label=_label(row, columns), **_numbers(row)) for row in found]
    return sorted(shares, key=lambda share: (-share.credits, -share.ended, share.label))


def total(rows: QuerySet[Tally]) -> Share:
    """All of it as one share."""
    return Share(key=None, label="All", **_numbers(rows.aggregate(**_sums())))


FACETS = {"user": "user_id", "provider": "provider", "family": "family", "mode": "mode", "resolution": "resolution"}


def finished(team: Team) -> dict[str, dict]:
    """How many pictures each person, provider, family, ... of a team has finished. One query for all of them."""
    found: dict[str, dict] = {name: {} for name in FACETS}
    for *values, done in rows(team).order_by().values_list(*FACETS.values()).annotate(sum_done=Sum("done")):
        for counts, value in zip(found.values(), values, strict=True):
            counts[value] = counts.get(value, 0) + done
    return found


def _sums() -> dict:
    return {f"sum_{name}": Sum(name) for name in SUMS}


def _numbers(row: dict) -> dict:
    """Nothing at all sums to None."""
    numbers = {name: row[f"sum_{name}"] or 0 for name in SUMS}
    return numbers | {"credits": numbers["credits"] - numbers["refunded"], "cost_usd": Decimal(numbers["cost_usd"])}


def _label(row: dict, columns: tuple[str, ...]) -> str:
    named = columns[1:] or columns
    return next((str(row[column]) for column in named if row[column]), NOBODY)


# --- Where it is heading ---------------------------------------------------------------------------------------------


def forecast(used: int, begins: datetime, ends: datetime, now: datetime) -> int | None:
    """What will be used when the period ends if it goes on as since it began; None on the first day, which tells nothing."""
    passed = now - begins
    if passed < timedelta(days=1):
        return None
    return round(used * ((ends - begins) / min(passed, ends - begins)))


def pace_text(
    used: int,
    limit: int,
    begins: datetime,
    ends: datetime,
    now: datetime,
    *,
    zone: tzinfo = UTC,
    name: str = "the cap",
) -> str:
    """Where one limit is heading, in a sentence; "" where nothing tells. Days are those of the team's `zone`."""
    if used >= limit:
        return ""  # the page says so already
    reached = periods.pace(used, limit, begins, ends, now)
    if reached:
        return f"At this pace {name} is reached on {_day(reached, zone)}."
    expected = forecast(used, begins, ends, now)
    if not expected:
        return ""
    return f"At this pace {format_credits(expected)} of {format_credits(limit)} will be used by {_day(ends, zone)}."


def _day(moment: datetime, zone: tzinfo) -> str:
    return f"{moment.astimezone(zone):%-d %B}"
