"""A team's month begins at local midnight, once, whatever the clocks and calendars do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux2web import periods

ZONES = sorted(available_timezones())
moments = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(moments, st.sampled_from(periods.DAYS), st.sampled_from(ZONES))
def test_every_moment_lies_in_one_period_of_about_a_month(moment, day, name):
    begins, ends = periods.around(moment, day, ZoneInfo(name))
    assert begins <= moment < ends
    assert timedelta(days=26) < ends - begins < timedelta(days=33)


@given(moments, st.sampled_from(periods.DAYS), st.sampled_from(ZONES))
def test_periods_follow_each_other_without_a_gap(moment, day, name):
    zone = ZoneInfo(name)
    begins, ends = periods.around(moment, day, zone)
    assert periods.around(ends, day, zone)[0] == ends
    assert periods.around(begins, day, zone) == (begins, ends)
    assert periods.after(begins, day, zone) == ends


@pytest.mark.parametrize(
    ("moment", "day", "zone", "begins", "ends"),
    [
        ("2028-02-29 12:00", 1, "UTC", "2028-02-01 00:00", "2028-03-01 00:00"),
        ("2026-02-28 23:59", 28, "UTC", "2026-02-28 00:00", "2026-03-28 00:00"),
        ("2026-12-31 23:30", 1, "Europe/Berlin", "2026-12-31 23:00", "2027-01-31 23:00"),
        ("2026-04-10 00:00", 29 - 1, "Europe/Berlin", "2026-03-27 23:00", "2026-04-27 22:00"),  # summer time begins
        ("2026-11-20 00:00", 25, "America/New_York", "2026-10-25 04:00", "2026-11-25 05:00"),  # and ends
        (
            "2018-11-05 00:00",
            4,
            "America/Sao_Paulo",
            "2018-11-04 03:00",
            "2018-12-04 02:00",
        ),  # a midnight that never was
    ],
)
def test_local_midnight_decides(moment, day, zone, begins, ends):
    assert periods.around(at(moment), day, ZoneInfo(zone)) == (at(begins), at(ends))


def test_pace_tells_when_a_limit_is_reached():
    begins, ends = at("2026-11-01 00:00"), at("2026-12-01 00:00")
    assert periods.pace(200, 400, begins, ends, at("2026-11-11 00:00")) == at("2026-11-21 00:00")
    assert periods.pace(400, 400, begins, ends, at("2026-11-11 00:00")) == at("2026-11-11 00:00")


@pytest.mark.parametrize(
    ("used", "now"), [(0, "2026-11-20 00:00"), (100, "2026-11-20 00:00"), (90, "2026-11-01 20:00")]
)
def test_pace_is_silent_where_nothing_tells_or_the_limit_is_far(used, now):
    assert periods.pace(used, 400, at("2026-11-01 00:00"), at("2026-12-01 00:00"), at(now)) is None
