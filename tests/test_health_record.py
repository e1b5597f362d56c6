"""How an account has done here: what counts, what does not, and for how long."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from flux2web import health
from flux2web.models import Attempt, Failures, RoutingRule, State, Task

from . import factories
from .peer import picture, serving
from .road import look

DAY = timedelta(hours=24)


@pytest.fixture
def revid(db):
    return factories.make_account("revid")


def ended(north, account, state: str = State.DONE, *, ago: timedelta = timedelta(minutes=1), **fields) -> Task:
    task = factories.make_task(north, state=state, account=account, price=1)
    Task.objects.filter(pk=task.pk).update(finished_at=timezone.now() - ago, **fields)
    return task


def record(account) -> health.Record:
    return health.measure(account, timezone.now() - DAY)


def test_what_ended_well_and_what_was_its_fault_counts(north, revid):
    for _ in range(3):
        ended(north, revid)
    for kind in health.ITS_FAULT:
        ended(north, revid, State.FAILED, fail_kind=kind)
    found = record(revid)
    assert (found.done, found.failed, found.total) == (3, len(health.ITS_FAULT), 3 + len(health.ITS_FAULT))


@pytest.mark.parametrize("kind", ["input", "moderation"])
def test_what_was_asked_wrongly_is_nobodys_fault(north, revid, kind):
    ended(north, revid, State.FAILED, fail_kind=kind)
    assert record(revid).total == 0


def test_what_is_older_than_a_day_or_anothers_is_left_out(north, revid):
    ended(north, revid, ago=DAY + timedelta(minutes=1))
    ended(north, factories.make_account("apixo"))
    assert record(revid) == health.Record()


def test_what_it_failed_and_another_took_over_counts_against_it(north, revid):
    task = ended(north, factories.make_account("apixo"))
    refused = {"key_version": 1, "lease_until": timezone.now(), "outcome": Attempt.Outcome.REFUSED}
    Attempt.objects.create(task=task, number=2, account=revid, secret_hash="x", refused_kind="provider", **refused)
    assert record(revid).failed == 1
    Attempt.objects.filter(secret_hash="x").update(refused_kind="rate")  # a pause is no failure
    assert record(revid).failed == 0


def test_a_create_without_an_answer_counts_against_it_before_its_task_has_ended(north, revid):
    task = factories.make_task(north, state=State.UNCERTAIN, account=revid)
    task.attempts.update(outcome=Attempt.Outcome.AMBIGUOUS)
    assert record(revid).failed == 1
    Task.objects.filter(pk=task.pk).update(
        state=State.FAILED, fail_kind="bad_reply", finished_at=timezone.now(), due_at=None
    )
    assert record(revid).failed == 1, "once, not twice"


def test_the_share_is_known_from_five_tasks_on(north, revid):
    for _ in range(3):
        ended(north, revid)
    ended(north, revid, State.FAILED, fail_kind="provider")
    assert record(revid).share_percent is None
    ended(north, revid)
    assert record(revid).share_percent == 80


def test_seconds_are_those_of_its_pictures(north, revid):
    for seconds in (10, 12, 14, 16, 60):
        ended(north, revid, provider_s=seconds)
    ended(north, revid, State.FAILED, provider_s=900.0)
    found = record(revid)
    assert found.median_s == 14.0
    assert 16 < found.p90_s <= 90


def test_the_clock_writes_each_accounts_record_down(north, revid):
    apixo = factories.make_account("apixo")
    for _ in range(5):
        ended(north, revid, State.FAILED, fail_kind="provider")
    health.take_stock()
    revid.refresh_from_db()
    apixo.refresh_from_db()
    assert health.record_of(revid).share_percent == 0
    assert revid.recorded_at is not None
    assert not health.is_healthy(revid, RoutingRule())
    assert health.is_healthy(apixo, RoutingRule())


@pytest.mark.parametrize(("seconds", "slow"), [(36.0, False), (37.0, True)])
def test_whoever_takes_three_times_what_the_others_take_is_not_well(north, revid, seconds, slow):
    pace = {"apixo": 10.0, "flux2api": 12.0, "vtrix": 60.0, "revid": seconds}
    for slug, provider_s in pace.items():
        account = revid if slug == "revid" else factories.make_account(slug)
        for _ in range(5):
            ended(north, account, provider_s=provider_s)
    health.take_stock()
    revid.refresh_from_db()
    assert health.record_of(revid).slow is slow
    assert health.is_healthy(revid, RoutingRule()) is not slow


def test_where_nothing_is_known_of_the_others_nobody_is_slow(north, revid):
    pretend = factories.make_account("revid", sandbox=True, key="sandbox")
    for _ in range(5):
        ended(north, revid, provider_s=900.0)
        ended(north, pretend, provider_s=1.0)
    health.take_stock()
    revid.refresh_from_db()
    assert not health.record_of(revid).slow


def test_a_record_forgets_with_time(north, revid):
    for _ in range(5):
        ended(north, revid, State.FAILED, fail_kind="provider")
    health.take_stock(timezone.now() + DAY + timedelta(minutes=2))
    revid.refresh_from_db()
    assert health.record_of(revid) == health.Record()


# --- Looks and fetches that failed --------------------------------------------------------------------------------------


@pytest.fixture
def peer():
    with serving() as peer:
        yield peer


@pytest.fixture
def running(north, revid, peer) -> Task:
    """Taken by a provider that answers as a test says."""
    revid.base_url = peer.url
    revid.save()
    task = factories.make_task(north, state=State.RUNNING, account=revid)
    peer.jobs[task.upstream_id] = "waiting"
    return task


def troubles(account) -> dict[str, int]:
    return {row.word: row.looking for row in health.today(account, timezone.now()).troubles if row.looking}


def cut(handler, _):
    handler.cut()


def test_a_look_that_failed_is_counted_by_what_it_was(running, peer):
    peer.look_answers = [
        peer.refuse(401, "no such key"),
        peer.refuse(500, "broken"),
        peer.refuse(500, "still broken"),
        peer.html(502),
        cut,
    ]
    for _ in range(5):
        look(running)
    assert troubles(running.account) == {"Key refused": 1, "It failed": 3, "No answer in time": 1}
    assert Failures.objects.count() == 3


def test_a_provider_that_is_not_there_is_counted_as_not_reached(running):
    running.account.base_url = "http://127.0.0.1:9"
    running.account.save()
    look(running)
    assert troubles(running.account) == {"Not reached": 1}


def test_a_look_that_was_answered_is_no_failure(running, peer):
    look(running)
    assert not Failures.objects.exists()


def test_a_fetch_that_failed_is_counted_by_what_it_was(running, peer, settings):
    settings.BACKOFF_S = (0,) * 9
    peer.jobs[running.upstream_id] = "success"
    look(running)
    for status in (404, 503):
        peer.fetch_status = status
        look(running)
    peer.fetch_status, peer.picture = 200, b"<html>no picture</html>"
    look(running)
    peer.picture = picture()
    assert look(running).state == State.DONE
    assert troubles(running.account) == {
        "Picture not there any more": 1,
        "Picture not fetched": 1,
        "What came is no picture": 1,
    }


def test_what_failed_a_day_ago_is_forgotten(running, peer):
    peer.look_answers = [peer.refuse(500)]
    look(running)
    Failures.objects.update(hour=timezone.now() - DAY - timedelta(minutes=1))
    assert troubles(running.account) == {}
    health.take_stock()
    assert not Failures.objects.exists()


def test_of_many_that_count_at_once_none_is_lost(revid):
    for _ in range(20):
        health.count_failure(revid.pk, "provider")
    health.count_failure(revid.pk, "rate")
    assert troubles(revid) == {"It failed": 20, "Too fast for it": 1}
