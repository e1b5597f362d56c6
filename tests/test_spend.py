"""Where credits went and where they are heading: sums re-added by hand, one query however many rows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from zoneinfo import ZoneInfo

import pytest

from flux2web import spend
from flux2web.models import State, Tally

from . import factories

pytestmark = pytest.mark.django_db
MONDAY = date(2026, 11, 16)
BEGINS, ENDS = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
RESOLUTIONS = count(1)


def tally(team, user, day=MONDAY, provider="revid", family="pro", mode="text-to-image", **sums) -> Tally:
    place = {"provider": provider, "family": family, "mode": mode, "resolution": f"{next(RESOLUTIONS) % 9999}"}
    return Tally.objects.create(team=team, user=user, day=day, **place, **sums)


@pytest.fixture
def week(north, south, cleo, dan, zoe):
    """north: 40 + 30 - 10 + 5 = 65 net credits; south: 7."""
    tally(north, cleo, done=4, credits=40, cost_usd=Decimal("0.10"))
    tally(north, cleo, MONDAY + timedelta(days=2), done=3, failed=1, credits=30, refunded=10, cost_usd=Decimal("0.05"))
    tally(north, dan, provider="apixo", mode="image-to-image", done=1, failed=2, cancelled=1, references=3, credits=5)
    tally(south, zoe, provider="", failed=1, credits=0)
    tally(south, zoe, family="flex", done=1, credits=7)


def test_days_without_a_picture_are_zero_and_refunds_count_against_their_day(week, north):
    days = spend.by_day(spend.rows(north), MONDAY, MONDAY + timedelta(days=3))
    assert days == [
        (MONDAY, 45),
        (date(2026, 11, 17), 0),
        (date(2026, 11, 18), 20),
        (date(2026, 11, 19), 0),
    ]


def test_days_outside_are_not_counted(week, north):
    assert spend.by_day(spend.rows(north), MONDAY + timedelta(days=1), MONDAY + timedelta(days=1)) == [
        (date(2026, 11, 17), 0)
    ]
    assert spend.total(spend.rows(north, since=MONDAY + timedelta(days=1))).credits == 20
    assert spend.total(spend.rows(north, until=MONDAY)).credits == 45


def test_members_are_listed_by_what_they_spent(week, north, cleo, dan):
    first, second = spend.by(spend.rows(north), "user")
    assert (first.key, first.label, first.done, first.failed, first.credits) == (cleo.pk, "Cleo", 7, 1, 60)
    assert first.cost_usd == Decimal("0.15")
    assert (second.key, second.label, second.credits, second.refunded) == (dan.pk, "Dan", 5, 0)
    assert (second.references, second.cancelled, second.ended) == (3, 1, 4)


def test_the_failed_share_leaves_out_what_was_cancelled(week, north):
    cleo, dan = spend.by(spend.rows(north), "user")
    assert (cleo.failed_percent, dan.failed_percent) == (12, 67)  # 1 of 8, 2 of 3


def test_a_share_of_nothing_has_no_failed_percent():
    assert spend.Share(key=1, label="x", cancelled=2).failed_percent == 0


def test_each_way_to_share_out_adds_up_to_the_whole(week):
    for what in spend.KEYS:
        shares = spend.by(spend.rows(), what)
        assert sum(share.credits for share in shares) == 72
        assert sum(share.ended for share in shares) == 14


def test_what_no_provider_took_has_a_name(week, south):
    assert [share.label for share in spend.by(spend.rows(south), "provider")] == ["revid", "never taken"]


def test_a_member_sees_only_their_own(week, north, dan):
    assert spend.total(spend.rows(north, dan)).credits == 5


def test_nothing_at_all_is_nothing(north):
    assert spend.by(spend.rows(north), "user") == []
    assert spend.total(spend.rows(north)).credits == 0


def test_what_the_ledger_counts_is_what_is_shown(north, cleo):
    for state in (State.DONE, State.DONE, State.FAILED, State.CANCELLED):
        factories.make_task(north, user=cleo, state=state, price=10)
    (share,) = spend.by(spend.rows(north), "user")
    assert (share.done, share.failed, share.cancelled, share.credits) == (2, 1, 1, 20)


@pytest.mark.parametrize("rows", [3, 30])
def test_one_query_however_many_rows(north, django_assert_num_queries, rows):
    for number in range(rows):
        tally(north, factories.make_member(north).user, MONDAY + timedelta(days=number), done=1, credits=1)
    for ask in (
        lambda: spend.by(spend.rows(north), "user"),
        lambda: spend.by_day(spend.rows(north), MONDAY, MONDAY + timedelta(days=30)),
        lambda: spend.total(spend.rows(north)),
    ):
        with django_assert_num_queries(1):
            ask()


# --- Where it is heading ---------------------------------------------------------------------------------------------


def on(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


def test_a_third_of_the_period_with_100_used_makes_300():
    assert spend.forecast(100, BEGINS, ENDS, on(11)) == 300
    assert spend.forecast(0, BEGINS, ENDS, on(11)) == 0


def test_the_first_day_tells_nothing():
    assert spend.forecast(100, BEGINS, ENDS, on(1, 23)) is None
    assert spend.pace_text(100, 500, BEGINS, ENDS, on(1, 23)) == ""


def test_an_ended_period_is_what_was_used():
    assert spend.forecast(310, BEGINS, ENDS, datetime(2026, 12, 9, tzinfo=UTC)) == 310


def test_a_cap_that_will_be_reached_is_named_with_its_day():
    assert spend.pace_text(250, 550, BEGINS, ENDS, on(11)) == "At this pace the cap is reached on 23 November."
    said = spend.pace_text(250, 550, BEGINS, ENDS, on(11), name="the budget")
    assert said == "At this pace the budget is reached on 23 November."


def test_a_cap_that_will_hold_says_how_much_will_be_used():
    said = spend.pace_text(155, 500, BEGINS, ENDS, on(16))
    assert said == "At this pace 310 of 500 will be used by 1 December."


def test_days_are_those_of_the_teams_own_zone():
    """Midnight of 1 December in Auckland is the eleventh hour of 30 November in UTC."""
    begins, ends = BEGINS - timedelta(hours=13), ENDS - timedelta(hours=13)
    said = spend.pace_text(155, 500, begins, ends, on(16), zone=ZoneInfo("Pacific/Auckland"))
    assert said.endswith("will be used by 1 December.")


@pytest.mark.parametrize(("used", "limit"), [(0, 500), (500, 500), (600, 500), (0, 0)])
def test_nothing_is_foretold_where_nothing_tells(used, limit):
    assert spend.pace_text(used, limit, BEGINS, ENDS, on(16)) == ""


def test_the_largest_cap_and_the_smallest_use_tell_no_date():
    said = spend.pace_text(1, 10**12, BEGINS, ENDS, on(11))
    assert said == "At this pace 3 of 1,000,000,000,000 will be used by 1 December."
