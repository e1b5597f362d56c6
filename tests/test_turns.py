"""Whose turn it is where a provider's throttle or ceiling keeps tasks waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.utils import timezone

from flux2web import accounts, actors, bus, lifecycle, turns
from flux2web.cards import Card
from flux2web.models import ProviderAccount, State, Task, providers
from flux2web.providers.base import Kind

from . import factories
from .peer import serving
from .road import look, press, task_of


@pytest.fixture
def peer():
    with serving() as peer:
        yield peer


@pytest.fixture
def revid(db, peer, settings):
    """One task at once."""
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    account = factories.make_account("revid", base_url=peer.url)
    ProviderAccount.objects.filter(pk=account.pk).update(concurrent=1)
    return account


@pytest.fixture
def north_member(revid, cleo, north, membership):
    return membership(cleo, north)


@pytest.fixture
def south_member(revid, zoe, south, membership):
    return membership(zoe, south)


def fill(member, total: int) -> list[Task]:
    """Tasks of which the first runs and the others stand in line."""
    tasks = [task_of(press(member)) for _ in range(total)]
    for task in tasks:
        lifecycle.submit(task.pk)
    return tasks


def state(task: Task) -> str:
    return Task.objects.get(pk=task.pk).state


def free(account: ProviderAccount) -> None:
    """Whatever it draws is done; the throttle has rested, and its last minute is over."""
    long_ago = timezone.now() - timedelta(minutes=5)
    running = Task.objects.filter(account=account, state=State.RUNNING)
    running.update(state=State.FAILED, due_at=None, finished_at=long_ago, accepted_at=long_ago)
    ProviderAccount.objects.filter(pk=account.pk).update(calls=[])


def let_rest(account: ProviderAccount) -> None:
    accounts.pause(account, Kind.MAINTENANCE, "Closed.")


def test_what_must_wait_stands_in_line_and_what_goes_does_not(north_member, revid):
    first, second = fill(north_member, 2)
    assert state(first) == State.RUNNING
    second.refresh_from_db()
    assert (second.state, second.in_line) == (State.QUEUED, True)
    assert not Task.objects.get(pk=first.pk).in_line


def test_a_newcomer_goes_before_a_team_that_has_had_its_turn(north_member, south_member, revid):
    fill(north_member, 6)
    newcomer = task_of(press(south_member))
    lifecycle.submit(newcomer.pk)
    free(revid)
    waiting = turns.in_line(revid).filter(team=north_member.team).latest("pk")
    Task.objects.filter(team=north_member.team, state=State.FAILED).update(accepted_at=timezone.now())
    assert lifecycle.whose_turn(waiting.pk) == newcomer.pk
    actors.submit(waiting.pk)
    assert state(newcomer) == State.RUNNING
    assert state(waiting) == State.QUEUED


def test_one_members_tasks_go_in_the_order_in_which_they_came(north_member, revid):
    _, second, third, fourth = fill(north_member, 4)
    free(revid)
    actors.submit(fourth.pk)
    assert [state(task) for task in (second, third, fourth)] == [State.RUNNING, State.QUEUED, State.QUEUED]


def test_members_of_a_team_take_turns(north_member, membership, ben, north, revid):
    _, second, _ = fill(north_member, 3)
    other = task_of(press(membership(ben, north)))
    lifecycle.submit(other.pk)
    free(revid)
    Task.objects.filter(user=north_member.user, state=State.FAILED).update(accepted_at=timezone.now())
    assert lifecycle.whose_turn(second.pk) == other.pk


@pytest.mark.django_db(transaction=True)
def test_a_free_place_calls_somebody(north_member, revid, peer):
    first, second, third = fill(north_member, 3)
    far = timezone.now() + timedelta(minutes=9)
    turns.in_line(revid).update(due_at=far)
    peer.jobs.update(dict.fromkeys(peer.jobs, "success"))
    look(first)
    due = Task.objects.filter(pk__in=[second.pk, third.pk], due_at__lt=far)
    assert list(due.values_list("pk", flat=True)) == [second.pk]


def test_a_task_that_meets_no_line_goes_itself(north_member, revid):
    task = task_of(press(north_member))
    assert lifecycle.whose_turn(task.pk) == task.pk
    assert lifecycle.whose_turn(10**9) == 10**9


def test_those_who_wait_for_another_provider_stand_in_another_line(north_member, south_member, revid, peer):
    fill(north_member, 3)
    factories.make_account("apixo", base_url=peer.url)
    elsewhere = task_of(press(south_member, provider="apixo"))
    assert lifecycle.whose_turn(elsewhere.pk) == elsewhere.pk


def test_a_rerouted_task_stands_in_the_line_of_the_one_that_will_take_it(north_member, south_member, revid, peer):
    """Quoted while the cheapest rested, and sent to it once it was back."""
    factories.make_account("flux2api", base_url=peer.url)
    let_rest(revid)
    rerouted = task_of(press(south_member))
    assert rerouted.quoted_provider == "flux2api"
    accounts.resume(revid, south_member.user)
    _, waiting = fill(north_member, 2)
    lifecycle.submit(rerouted.pk)
    assert state(rerouted) == State.QUEUED
    assert set(turns.in_line(revid)) == {rerouted, waiting}
    rerouted.refresh_from_db()
    assert "1st of yours" in Card(rerouted).detail
    free(revid)
    Task.objects.filter(user=north_member.user, state=State.FAILED).update(accepted_at=timezone.now())
    actors.submit(waiting.pk)
    assert (state(rerouted), state(waiting)) == (State.RUNNING, State.QUEUED)


def test_a_rerouted_newcomer_passes_nobody_who_waits_there_already(north_member, south_member, revid, peer):
    factories.make_account("flux2api", base_url=peer.url)
    _, waiting = fill(south_member, 2)
    let_rest(revid)
    rerouted = task_of(press(north_member))
    accounts.resume(revid, south_member.user)
    free(revid)
    factories.make_task(north_member.team, state=State.RUNNING, account=revid, price=1, finished_at=None)
    ProviderAccount.objects.filter(pk=revid.pk).update(concurrent=2)
    actors.submit(rerouted.pk)
    assert (state(rerouted), state(waiting)) == (State.QUEUED, State.RUNNING)


@pytest.mark.django_db(transaction=True)
def test_a_free_place_calls_somebody_who_waits_for_that_provider(north_member, south_member, revid, peer):
    factories.make_account("flux2api", base_url=peer.url)
    first = task_of(press(north_member, provider="revid"))
    let_rest(revid)
    second = task_of(press(south_member))
    accounts.resume(revid, south_member.user)
    for task in (first, second):
        lifecycle.submit(task.pk)
    far = timezone.now() + timedelta(minutes=9)
    Task.objects.filter(pk=second.pk).update(due_at=far)
    peer.jobs.update(dict.fromkeys(peer.jobs, "success"))
    look(first)
    assert Task.objects.filter(pk=second.pk, due_at__lt=far).exists()


def test_the_card_says_which_of_yours_it_is(north_member, revid):
    _, second, third = fill(north_member, 3)
    for task, place in ((second, "1st of yours"), (third, "2nd of yours")):
        task.refresh_from_db()
        assert place in Card(task).detail
    free(revid)
    actors.submit(third.pk)
    third.refresh_from_db()
    assert "1st of yours" in Card(third).detail


def test_a_place_too_far_back_has_no_number(north_member, revid):
    task = fill(north_member, turns.PLACES_SHOWN + 2)[-1]
    task.refresh_from_db()
    assert turns.place(task) == 0
    assert Card(task).detail == "In line. Starts by itself"


@pytest.mark.parametrize(
    ("allowed", "kept"),
    [
        ((5, 10), (5, 10)),
        ((10, 60), (2, 12)),  # the tenth of a burst would make a newcomer wait for a minute
        ((7, 60), (1, 60 / 7)),
        ((60, 3600), (60, 3600)),  # one a minute: a newcomer waits anyway
        ((1000, 1), (250, 0.25)),
        ((10_000, 1), (250, 0.025)),
    ],
)
def test_an_allowance_is_kept_in_parts_where_a_burst_would_be_long(allowed, kept):
    assert providers._part(*allowed) == pytest.approx(kept)


def test_no_window_has_more_than_the_allowance_wherever_it_begins(revid):
    ProviderAccount.objects.update(rate_count=10, rate_s=60)
    revid.refresh_from_db()
    with time_machine.travel(datetime(2026, 11, 10, tzinfo=UTC), tick=False) as clock:
        taken = []
        for second in range(240):
            taken += [second for _ in range(3) if revid.take_call() is None]
            clock.shift(1)
    assert max(sum(begin <= at < begin + 60 for at in taken) for begin in range(240)) == 10
    assert len(taken) == 40


def test_a_clock_that_was_far_ahead_for_a_moment_holds_nobody_up(revid):
    ProviderAccount.objects.update(rate_count=2, rate_s=10)
    revid.refresh_from_db()
    with time_machine.travel(timezone.now() + timedelta(days=1), tick=False):
        assert revid.take_call() is None
    assert [revid.take_call() for _ in range(2)] == [None, None]
    assert revid.take_call() - timezone.now() < timedelta(seconds=10)


@pytest.mark.django_db(transaction=True)
def test_a_card_is_told_of_its_place_once_it_stands_there(north_member, revid, settings):
    settings.REDIS_URL = ""  # one process hears itself
    *_, second, third = [*fill(north_member, 2), task_of(press(north_member))]
    told = []
    stop = bus.subscribe(lambda hint: told.append((hint.task_id, Task.objects.get(pk=hint.task_id).in_line)))
    try:
        for task in (third, second, third):
            Task.objects.filter(pk=task.pk).update(due_at=timezone.now())
            lifecycle.submit(task.pk)
    finally:
        stop()
    assert told == [(third.pk, True)]
