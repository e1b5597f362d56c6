"""Caps, periods and credits that expire: what binds, in which month, and what goes when the month does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import OperationalError, transaction

from flux2web import audit, ledger, lifecycle
from flux2web.ledger import months
from flux2web.models import Act, Budget, CreditRequest, Entry, Membership, Period, State, Usage
from flux2web.money import CREDITS_MAX
from flux2web.orders import Refusal

from . import factories
from .road import press, sums, task_of

pytestmark = pytest.mark.django_db
NOVEMBER = datetime(2026, 11, 10, 12, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 10, 12, tzinfo=UTC)
FEBRUARY = datetime(2027, 2, 10, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(NOVEMBER, tick=False) as clock:
        yield clock


@pytest.fixture
def member(cleo, north, membership):
    factories.make_account("revid")
    yield membership(cleo, north)
    assert [found for found in audit.ledger() if found.invariant not in ("I19",)] == []


def rules(team, **given):
    Budget.objects.filter(team=team).update(**given)


def cap(member, **given):
    Membership.objects.filter(pk=member.pk).update(**given)
    member.refresh_from_db()


def make(member, many: int = 1):
    return press(member, count=many)


def end(task, *, as_: str = State.CANCELLED):
    assert lifecycle.cancel(task, task.user)


def renew(team, now):
    with transaction.atomic():
        return ledger.current(team, now)


# --- Caps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("team_cap", "own", "fits"),
    [
        (None, {}, 100),
        (30, {}, 3),
        (0, {}, 0),
        (30, {"cap": 50}, 5),
        (30, {"cap": 0}, 0),
        (30, {"uncapped": True}, 100),
        (None, {"own_limit": 20}, 2),
        (30, {"own_limit": 50}, 3),
        (30, {"uncapped": True, "own_limit": 0}, 0),
    ],
)
def test_the_lowest_limit_binds(member, north, team_cap, own, fits):
    rules(north, member_cap=team_cap)
    cap(member, **own)
    sent = 0
    while not isinstance(make(member), Refusal):
        sent += 1
    assert sent == fits
    assert sums(north) == (1000, fits * 10, 0)


def test_a_refusal_names_the_limit_what_the_others_leave_and_when_it_renews(member, north):
    cap(member, cap=50)
    make(member, 3)
    refusal = make(member, 3)
    assert (refusal.kind, refusal.message) == (
        "cap",
        "Not sent: this needs 30 credits, you have 20 left of 50 this period. The team's budget has 970 left. "
        "Your limit renews on 1 December (in 21 days). Nothing was held.",
    )


def test_the_team_is_named_when_it_has_less_than_the_member(member, north):
    cap(member, cap=5000)
    factories.book(north, "revoke", 995, granted=-995)
    assert make(member).kind == "budget"
    assert sums(north) == (5, 0, 0)
    assert Usage.objects.filter(held__gt=0).count() == 0


def test_a_failure_gives_the_cap_back_and_so_does_a_refund(member, north):
    cap(member, cap=10)
    end(task_of(make(member)))
    assert ledger.left(member).least == 10
    task = factories.make_task(north, user=member.user, state="done", price=10)
    assert ledger.left(member).least == 0
    lifecycle.refund(task, 4, actor=member.user, reason="blurred", key="r")
    assert ledger.left(member).least == 4


def test_extra_credits_lift_the_cap_until_the_period_ends(member, north, clock):
    cap(member, cap=10)
    with transaction.atomic():
        period = ledger.current(north, NOVEMBER)
        ledger.give_extra(member, period, 20)
        granted = {"state": "granted", "granted": 20, "period": period}
        CreditRequest.objects.create(team=north, user=member.user, key="k", limit="member", amount=20, **granted)
    assert len(make(member, 3).tasks.all()) == 3
    assert make(member).kind == "cap"
    clock.move_to(DECEMBER)
    assert make(member, 2).kind == "cap"
    assert len(make(member, 1).tasks.all()) == 1


def test_somebody_out_of_the_team_holds_nothing(member, north):
    Membership.objects.filter(pk=member.pk).delete()
    assert make(member).kind == "role"
    assert sums(north) == (1000, 0, 0)


def test_a_cap_belongs_to_its_period_and_a_hold_to_its_own(member, north, clock):
    cap(member, cap=10)
    november = task_of(make(member))
    clock.move_to(DECEMBER)
    assert len(make(member).tasks.all()) == 1
    assert make(member).kind == "cap"
    end(november)
    assert make(member).kind == "cap"
    assert list(Usage.objects.order_by("period").values_list("held", flat=True)) == [0, 10]


# --- Periods ---------------------------------------------------------------------------------------------------------


def test_an_allowance_comes_once_a_month_also_for_months_in_which_nobody_looked(north, clock):
    rules(north, allowance=100)
    renew(north, NOVEMBER)
    for _ in range(3):
        renew(north, FEBRUARY)
    reasons = Entry.objects.filter(key__startswith="allowance:").order_by("id").values_list("reason", flat=True)
    assert list(reasons) == [
        f"Allowance from 1 {month}" for month in ("December 2026", "January 2027", "February 2027")
    ]
    assert sums(north) == (1300, 0, 0)


def test_what_does_not_roll_over_goes_at_the_end_as_far_as_it_was_unused(member, north, clock):
    rules(north, allowance=100, rolls_over=False)
    renew(north, NOVEMBER)
    clock.move_to(DECEMBER)
    task = task_of(make(member, 1))
    assert sums(north) == (1100, 10, 0)
    clock.move_to(FEBRUARY)
    renew(north, FEBRUARY)
    assert sums(north) == (1110, 10, 0), "of December's 100 the held 10 stay, January's 100 are gone"
    end(task)
    assert sums(north) == (1100, 0, 0), "a hold that comes back late does not bring expired credits back"
    assert Period.objects.get(starts_at__month=12).expired == 100


def test_an_expiring_grant_is_used_first_and_a_revoke_takes_what_lasts(member, north, ana, clock):
    ledger.grant(north, 50, actor=ana, reason="for the fair", key="g", expires=True)
    factories.make_task(north, user=member.user, state="done", price=30)
    ledger.revoke(north, 1000, actor=ana, reason="less", key="r")
    assert sums(north) == (50, 0, 30)
    clock.move_to(DECEMBER)
    assert make(member, 1).kind == "budget"
    renew(north, DECEMBER)
    assert sums(north) == (30, 0, 30)


def test_expired_credits_bind_even_before_a_clock_has_noticed(member, north, ana, clock):
    ledger.revoke(north, 1000, actor=ana, reason="none", key="r")
    ledger.grant(north, 50, actor=ana, reason="for the fair", key="g", expires=True)
    clock.move_to(DECEMBER)
    assert make(member).kind == "budget"
    assert len(make(member, 1).message) > 0


def test_a_late_hold_takes_only_itself_along_whatever_a_revoke_left(member, north, ana, clock):
    """The revoke took 50 that would have expired. They are gone: the next month's credits do not pay for them again."""
    ledger.revoke(north, 1000, actor=ana, reason="none", key="r1")
    ledger.grant(north, 100, actor=ana, reason="for the fair", key="g", expires=True)
    task = task_of(make(member))
    ledger.revoke(north, 50, actor=ana, reason="less", key="r2")
    rules(north, allowance=100)
    clock.move_to(DECEMBER)
    renew(north, DECEMBER)
    assert sums(north) == (110, 10, 0)
    end(task)
    assert sums(north) == (100, 0, 0)


def test_more_than_one_entry_can_carry_expires_all_the_same(north, ana, clock):
    for key in "ab":
        ledger.grant(north, CREDITS_MAX, actor=ana, reason="a slip", key=key, expires=True)
    clock.move_to(DECEMBER)
    renew(north, DECEMBER)
    assert sums(north) == (1000, 0, 0)
    assert audit.ledger() == []


def test_a_team_that_cannot_be_renewed_holds_up_no_other(north, south, clock, monkeypatch):
    for team in (north, south):
        rules(team, allowance=100)
        renew(team, NOVEMBER)
    clock.move_to(DECEMBER)
    allow = months._allow

    def trip(team, *args):
        if team == north:
            raise OperationalError("deadlock detected")
        allow(team, *args)

    monkeypatch.setattr(months, "_allow", trip)
    assert ledger.renew_due(DECEMBER) == 1
    assert (sums(north)[0], sums(south)[0]) == (1000, 600)
    monkeypatch.undo()
    assert ledger.renew_due(DECEMBER) == 1
    assert sums(north)[0] == 1100


def test_a_refund_never_expires(member, north, ana, clock):
    ledger.revoke(north, 1000, actor=ana, reason="none", key="r")
    ledger.grant(north, 50, actor=ana, reason="for the fair", key="g", expires=True)
    task = factories.make_task(north, user=member.user, state="done", price=30)
    clock.move_to(DECEMBER)
    renew(north, DECEMBER)
    lifecycle.refund(task, 30, actor=ana, reason="blurred", key="f")
    clock.move_to(FEBRUARY)
    renew(north, FEBRUARY)
    assert sums(north) == (30, 0, 0)


def test_other_rules_move_the_end_of_the_period_that_lasts(north, ana, clock):
    with transaction.atomic():
        ledger.current(north, NOVEMBER)
    given = {"start_day": 15, "time_zone": "Europe/Berlin", "allowance": 70, "rolls_over": True}
    ledger.set_rules(north, actor=ana, now=NOVEMBER, **given)
    assert Period.objects.get().ends_at == datetime(2026, 11, 14, 23, tzinfo=UTC)
    clock.shift(timedelta(days=5))
    assert ledger.renew_due(datetime.now(UTC)) == 1
    assert sums(north) == (1070, 0, 0)
    assert Act.objects.get().note == (
        "70 credits on day 15, Europe/Berlin, rolling over. Was: 0 credits on day 1, UTC, rolling over"
    )


def test_an_adjustment_corrects_in_both_directions(north, ana):
    ledger.adjust(north, -250, actor=ana, reason="granted twice", key="a1")
    ledger.adjust(north, 30, actor=ana, reason="that was too much", key="a2")
    assert sums(north) == (780, 0, 0)
    assert ledger.adjust(north, -781, actor=ana, reason="all", key="a3").kind == "budget"
    assert audit.ledger() == []
