"""Warnings at 80 and 95 percent, once a period: to a member about the cap, to owners and admins about the budget."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db.models import F
from django.utils import timezone

from flux2web import accounts, alerts, caps, ledger, requests
from flux2web.caps import Cap
from flux2web.clock import Clock
from flux2web.models import Budget, Membership, Notice, Period, State, Usage, write
from flux2web.providers.base import Kind

from . import factories
from .test_races import at_once

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def november():
    with time_machine.travel(NOON, tick=False):
        yield


def cap(user, credits: int | None, **fields) -> Membership:
    Membership.objects.filter(user=user).update(cap=credits, **fields)
    return Membership.objects.get(user=user)


def use(team, user, credits: int, state: str = State.DONE) -> None:
    factories.make_task(team, user=user, price=credits, state=state)


def sweep() -> list[str]:
    """What is told now, and to whom."""
    before = set(Notice.objects.values_list("pk", flat=True))
    alerts.sweep(timezone.now())
    told = Notice.objects.exclude(pk__in=before).select_related("user").order_by("user__name", "pk")
    return [f"{notice.user}: {notice.text}" for notice in told]


# --- A member's cap --------------------------------------------------------------------------------------------------


def test_a_member_at_82_percent_is_told_once(north, cleo):
    cap(cleo, 500)
    use(north, cleo, 412)
    assert sweep() == ["Cleo: You have used 412 of 500 credits this period: 82\xa0%. Renews on 1 December."]
    notice = Notice.objects.get()
    assert (notice.tone, notice.team, notice.url) == ("warn", north, "/t/north/usage/")
    assert notice.mail_due_at == NOON
    assert sweep() == []


@pytest.mark.parametrize(("used", "level"), [(79, 0), (80, 80), (94, 80), (95, 95), (100, 95)])
def test_levels_are_reached_exactly(north, cleo, used, level):
    cap(cleo, 100)
    use(north, cleo, used)
    sweep()
    assert Usage.objects.get(user=cleo).warned_percent == level


@pytest.mark.parametrize("how", ["member", "members", "team", "request"])
def test_under_a_raised_cap_one_is_warned_again(north, ben, cleo, membership, how):
    member = cap(cleo, None if how == "team" else 100)
    Budget.objects.update(member_cap=100)
    use(north, cleo, 96)
    assert len(sweep()) == 1
    if how == "member":
        caps.set_cap(member, Cap(200), was=Cap(100), by=ben)
    elif how == "members":
        caps.set_caps(north, [member.pk], Cap(200), by=ben)
    elif how == "team":
        caps.set_rule(north, caps.MEMBER_CAP, 200, was=100, by=ben)
    else:
        row = requests.ask(
            member, key="r", price_seen=None, limit="cap", amount=100, reason="", sends_itself=False, draft=None
        )
        requests.approve(row, by=ben, amount=100, lasts=True, note="")
    assert sweep() == []
    use(north, cleo, 99)
    assert sweep() == ["Cleo: You have used 195 of 200 credits this period: 97\xa0%. Renews on 1 December."]


def test_80_and_then_95_are_two_warnings_and_no_more(north, cleo):
    cap(cleo, 100)
    use(north, cleo, 85)
    assert len(sweep()) == 1
    use(north, cleo, 10)
    assert sweep() == ["Cleo: You have used 95 of 100 credits this period: 95\xa0%. Renews on 1 December."]
    use(north, cleo, 5)
    assert sweep() == []
    assert Notice.objects.order_by("-pk")[0].tone == "bad"


def test_whoever_jumps_over_both_is_warned_once(north, cleo):
    cap(cleo, 100)
    use(north, cleo, 99)
    assert len(sweep()) == 1
    assert sweep() == []


def test_what_is_held_counts_as_used(north, cleo):
    cap(cleo, 100)
    use(north, cleo, 80, state=State.RUNNING)
    assert len(sweep()) == 1


def test_the_teams_cap_for_everyone_warns_too(north, cleo):
    Budget.objects.filter(team=north).update(member_cap=100)
    use(north, cleo, 80)
    assert len(sweep()) == 1


@pytest.mark.parametrize("limits", [{"cap": None}, {"cap": None, "uncapped": True}, {"cap": 0}])
def test_without_a_cap_to_use_up_nobody_is_warned(north, cleo, limits):
    if limits.get("uncapped"):
        Budget.objects.filter(team=north).update(member_cap=10)
    use(north, cleo, 80)
    Membership.objects.filter(user=cleo).update(**limits)
    assert sweep() == []


def test_extra_credits_count_and_let_the_percentage_warn_again(north, cleo):
    member = cap(cleo, 100)
    use(north, cleo, 80)
    assert len(sweep()) == 1
    with write():
        ledger.give_extra(member, Period.objects.get(), 100)
    assert sweep() == []  # 80 of 200
    use(north, cleo, 80)
    assert sweep() == ["Cleo: You have used 160 of 200 credits this period: 80\xa0%. Renews on 1 December."]


def test_who_is_given_more_while_the_sweep_runs_is_not_warned_of_the_old_limit(north, cleo, monkeypatch):
    member = cap(cleo, 100)
    use(north, cleo, 80)
    cap_of = ledger.cap_of

    def generous(*args):
        with write():
            ledger.give_extra(member, Period.objects.get(), 100)
        return cap_of(*args)

    monkeypatch.setattr(ledger, "cap_of", generous)
    assert sweep() == []


def test_the_next_period_warns_anew(north, cleo):
    cap(cleo, 100)
    use(north, cleo, 80)
    assert len(sweep()) == 1
    with time_machine.travel(datetime(2026, 12, 2, tzinfo=UTC), tick=False):
        assert sweep() == []
        ledger.renew_due(timezone.now())
        assert sweep() == []
        use(north, cleo, 81)
        assert sweep() == ["Cleo: You have used 81 of 100 credits this period: 81\xa0%. Renews on 1 January."]


def test_the_day_of_renewal_is_the_teams_own(north, cleo):
    cap(cleo, 100)
    use(north, cleo, 80)
    Budget.objects.filter(team=north).update(time_zone="Pacific/Auckland")
    Period.objects.update(ends_at=datetime(2026, 11, 30, 11, tzinfo=UTC))
    assert sweep()[0].endswith("Renews on 1 December.")


def test_a_member_of_two_teams_is_warned_of_the_right_one(north, south, cleo):
    factories.make_member(south, cleo, cap=100)
    use(north, cleo, 300)
    use(south, cleo, 10)
    assert sweep() == []
    use(south, cleo, 75)
    assert sweep() == ["Cleo: You have used 85 of 100 credits this period: 85\xa0%. Renews on 1 December."]
    assert Notice.objects.get().team == south


def test_who_left_or_only_looks_is_not_told(north, cleo, dan):
    cap(cleo, 100), cap(dan, 100)
    use(north, cleo, 80)
    use(north, dan, 80)
    Membership.objects.filter(user=cleo).delete()
    Membership.objects.filter(user=dan).update(role="viewer")
    assert sweep() == []


# --- A team's budget -------------------------------------------------------------------------------------------------


def test_owners_and_admins_are_told_of_the_teams_budget(north, ana, ben, cleo, eve):
    use(north, cleo, 820)
    said = "North has used 820 of 1,000 credits this period: 82\xa0%."
    assert sweep() == [f"Ana: {said}", f"Ben: {said}"]
    assert {(notice.url, bool(notice.mail_due_at)) for notice in Notice.objects.all()} == {("/t/north/budget/", True)}
    assert sweep() == []


def test_a_teams_allowance_is_announced_with_its_day(north, ana, cleo):
    Budget.objects.filter(team=north).update(allowance=5000)
    use(north, cleo, 950)
    said = "North has used 950 of 1,000 credits this period: 95\xa0%. 5,000 more come on 1 December."
    assert sweep() == [f"Ana: {said}"]


def test_what_earlier_periods_used_does_not_count(north, ana, cleo):
    """700 were spent in October; of the 300 left, 200 are two thirds."""
    with time_machine.travel(datetime(2026, 10, 20, tzinfo=UTC), tick=False):
        use(north, cleo, 700)
    ledger.renew_due(timezone.now())
    use(north, cleo, 200)
    assert sweep() == []
    use(north, cleo, 50)
    assert sweep() == ["Ana: North has used 250 of 300 credits this period: 83\xa0%."]


def test_a_refund_is_not_used(north, ana, ben, cleo):
    use(north, cleo, 800)
    Usage.objects.update(refunded=F("refunded") + 10)
    Budget.objects.filter(team=north).update(spent=F("spent") - 10)
    assert sweep() == []


def test_a_team_without_credits_and_a_closed_one_are_left_alone(north, ana, cleo):
    factories.make_team(credits=0)
    use(north, cleo, 990)
    type(north).objects.update(closed_at=timezone.now())
    assert sweep() == []


# --- Sweeping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [3, 30])
def test_a_sweep_that_finds_nobody_asks_twice_however_many_there_are(north, django_assert_num_queries, members):
    Budget.objects.filter(team=north).update(member_cap=100)
    for _ in range(members):
        use(north, factories.make_member(north).user, 10)
    with django_assert_num_queries(2):
        assert alerts.sweep(timezone.now()) == 0


@pytest.mark.django_db(transaction=True)
def test_many_sweeps_at_once_tell_once(north, ana, cleo):
    cap(cleo, 900)
    use(north, cleo, 860)
    warned = at_once([lambda: alerts.sweep(NOON)] * 8, threads=8)
    assert sum(warned) == 2
    assert sorted(Notice.objects.values_list("user__name", flat=True)) == ["Ana", "Cleo"]


@pytest.mark.django_db(transaction=True)
def test_a_duty_that_fails_keeps_the_clock_from_no_other(north, cleo, monkeypatch):
    cap(cleo, 500)
    use(north, cleo, 412)

    def trip(_now):
        raise OSError("no space left on device")

    monkeypatch.setattr(ledger, "renew_due", trip)
    Clock().tick()
    assert Notice.objects.get().text.startswith("You have used 412")


# --- An account that refuses us ------------------------------------------------------------------------------------------


def told() -> list[str]:
    return list(Notice.objects.filter(seen_at=None).order_by("pk").values_list("text", flat=True))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Kind.AUTH, "Revid refuses this site’s key, so it takes no task. Set a key that works."),
        (Kind.BALANCE, "No money is left at Revid, so it takes no task. Pay in there, then resume it."),
    ],
)
def test_site_admins_are_told_once_a_day_of_an_account_that_refuses_us(sam, ana, kind, said):
    revid = factories.make_account("revid")
    accounts.pause(revid, kind, "their own words")
    assert (alerts.sweep_accounts(), alerts.sweep_accounts()) == (1, 0)
    notice = Notice.objects.get()
    assert (notice.user, notice.tone, notice.text) == (sam, "bad", said)
    assert notice.url == "/console/providers/revid/"


def test_it_stands_while_the_next_try_is_waited_for_and_goes_when_one_is_taken(sam):
    revid = factories.make_account("revid")
    until = accounts.pause(revid, Kind.BALANCE, "no money")
    alerts.sweep_accounts()
    alerts.sweep_accounts(until + timedelta(minutes=1))
    assert len(told()) == 1
    revid.refresh_from_db()
    accounts.worked(revid)
    alerts.sweep_accounts()
    assert told() == []


@pytest.mark.parametrize("kind", [Kind.RATE, Kind.MAINTENANCE, Kind.PROVIDER])
def test_of_what_ends_by_itself_nobody_is_told(sam, kind):
    accounts.pause(factories.make_account("revid"), kind, "later")
    assert alerts.sweep_accounts() == 0
