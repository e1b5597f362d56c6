"""How long until the next look: as the provider advises where nobody rings, not at all where somebody does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from flux2web import accounts, health
from flux2web.lifecycle import pace
from flux2web.models import Attempt, Callback, State, Task

from . import factories


@pytest.fixture
def revid(db):
    return factories.make_account("revid")


@pytest.fixture
def ended(north, revid):
    """So many pictures of `provider_s` each, and how long before their end somebody rang for them."""

    def make(total: int, *, provider_s: float = 20, rung_s_before: float | None = 0) -> None:
        for _ in range(total):
            task = factories.make_task(north, state=State.DONE, account=revid, price=1)
            now = timezone.now()
            Task.objects.filter(pk=task.pk).update(provider_s=provider_s, finished_at=now)
            task.attempts.update(with_callback=True, created=now)
            if rung_s_before is not None:
                ring_at(task.attempts.get(), now - timedelta(seconds=rung_s_before))
        health.take_stock()
        revid.refresh_from_db()

    return make


def ring_at(attempt: Attempt, at) -> None:
    Callback.objects.create(attempt=attempt, provider="revid", method="POST", body=b"{}", received=at)


def lose_some(revid, *, of_ten: int, seen_after_s: float) -> None:
    """Rings for so many of ten are lost: those pictures are seen late."""
    lost = Task.objects.order_by("pk")[:of_ten]
    Callback.objects.filter(attempt__task__in=list(lost)).delete()
    Task.objects.filter(pk__in=list(lost.values_list("pk", flat=True))).update(provider_s=seen_after_s)
    health.take_stock()
    revid.refresh_from_db()


@pytest.fixture
def attempt(north, revid) -> Attempt:
    found = factories.make_task(north, state=State.RUNNING, account=revid).attempts.get()
    found.with_callback = True
    return found


def waits_s(attempt: Attempt, revid, age_s: float = 0) -> float:
    """The wait without its chance."""
    attempt.account = revid
    return sum(pace.poll_wait_s(attempt, age_s) for _ in range(200)) / 200


def advised_s(revid, age_s: float = 0) -> float:
    return accounts.capabilities(revid).poll.wait_s(age_s)


def test_who_gives_no_address_is_asked_as_the_provider_advises(attempt, revid, ended):
    ended(10)
    attempt.with_callback = False
    assert waits_s(attempt, revid) == pytest.approx(advised_s(revid), rel=0.05)


def test_who_may_ring_is_asked_slower_until_it_is_known_to_ring(attempt, revid):
    assert waits_s(attempt, revid) == pytest.approx(advised_s(revid) * pace.CALLBACK_PATIENCE, rel=0.05)


def test_who_rings_is_not_asked_before_three_times_its_usual_time(attempt, revid, ended):
    ended(10, provider_s=20)
    assert waits_s(attempt, revid) == pytest.approx(60, rel=0.05)
    assert waits_s(attempt, revid, age_s=10) == pytest.approx(50, rel=0.05)
    assert waits_s(attempt, revid, age_s=200) == pytest.approx(advised_s(revid, 200) * pace.CALLBACK_PATIENCE, rel=0.05)


def test_nobody_waits_for_a_ring_longer_than_a_quarter_of_an_hour(attempt, revid, ended):
    ended(10, provider_s=900)
    assert waits_s(attempt, revid) == pytest.approx(pace.QUIET_MAX_S, rel=0.05)


def test_after_a_ring_that_came_too_early_it_is_asked_again(attempt, revid, ended):
    ended(10)
    attempt.rung_at = timezone.now()
    assert waits_s(attempt, revid) < 20


def test_who_stops_ringing_is_asked_again_after_a_few_pictures(attempt, revid, ended):
    ended(health.RINGS_SAMPLE)
    ended(3, rung_s_before=None)
    assert health.record_of(revid).rings_percent == 85
    assert waits_s(attempt, revid) == pytest.approx(advised_s(revid) * pace.CALLBACK_PATIENCE, rel=0.05)


def test_a_ring_that_was_lost_makes_nobody_else_wait_longer(attempt, revid, ended):
    ended(10, provider_s=20)
    lose_some(revid, of_ten=1, seen_after_s=300)
    assert waits_s(attempt, revid) == pytest.approx(60, rel=0.05)


def test_wrongly_signed_rings_are_none(revid, ended):
    ended(10)
    Callback.objects.update(signature=Callback.Signature.BAD)
    health.take_stock()
    revid.refresh_from_db()
    assert health.record_of(revid).rings_percent == 0


def test_rings_after_the_end_are_none(revid, ended):
    ended(10, rung_s_before=-1)
    assert health.record_of(revid).rings_percent == 0


def test_a_few_pictures_say_nothing_about_rings(revid, ended):
    ended(health.KNOWN_FROM - 1)
    assert health.record_of(revid).rings_percent is None
