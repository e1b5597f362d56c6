"""When a team's month begins and ends: local midnight of one day of the month. Pure.

The days are 1 to 28, which every month has. A midnight that a change of clocks skips or doubles is one moment all the same.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

DAYS = range(1, 29)


def around(moment: datetime, start_day: int, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The period that `moment` lies in: its first moment, and the first after it. Aware UTC, like `moment`."""
    local = moment.astimezone(zone)
    begins = [_beginning(local.year, local.month + months, start_day, zone) for months in (-1, 0, 1, 2)]
    return max(at for at in begins if at <= moment), min(at for at in begins if at > moment)


def after(moment: datetime, start_day: int, zone: ZoneInfo) -> datetime:
    """The next beginning after `moment`."""
    return around(moment, start_day, zone)[1]


def _beginning(year: int, month: int, day: int, zone: ZoneInfo) -> datetime:
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    return datetime(year, month, day, tzinfo=zone).astimezone(UTC)


def pace(used: int, limit: int, begins: datetime, ends: datetime, now: datetime) -> datetime | None:
    """When `limit` is reached if it goes on as since the period began; None if not before it ends, or nothing tells.

    The first day tells nothing: one busy hour is no pace.
    """
    passed = now - begins
    if used <= 0 or passed < timedelta(days=1):
        return None
    if used * ((ends - begins) / passed) <= limit:  # and a vast limit is not divided by little: no date is so far
        return None
    return max(begins + passed * (limit / used), now)
