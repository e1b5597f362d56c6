"""How an account has done here: what counts, what does not, and for how long."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from flux2web import health
from flux2web.models import Attempt, RoutingRule, State, Task

from . import factories

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


def test_a_record_forgets_with_time(north, revid):
    for _ in range(5):
        ended(north, revid, State.FAILED, fail_kind="provider")
    health.take_stock(timezone.now() + DAY + timedelta(minutes=2))
    revid.refresh_from_db()
    assert health.record_of(revid) == health.Record()
