"""However many wait, whoever comes new goes soon: real workers, a real clock, the throttle that no provider tells."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from copy import copy
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from flux2web import actors
from flux2web.clock import Clock
from flux2web.lifecycle import sending
from flux2web.models import ProviderAccount, State, Task

from . import brokers, factories
from .peer import serving
from .road import press, task_of

CROWD, NEWCOMER_MAX_S = 5_000, 30
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def peer():
    with serving() as peer:
        yield peer


@pytest.fixture
def revid(peer, settings):
    """Five creates in ten seconds, as careful as we are where nothing is told."""
    settings.PUBLIC_URL = ""
    account = factories.make_account("revid", base_url=peer.url)
    ProviderAccount.objects.filter(pk=account.pk).update(rate_count=5, rate_s=10, concurrent=None)
    return account


def crowd(member, account, total: int) -> None:
    """As many more tasks as this in line, all of one member's, looked at as far apart as a line that long is."""
    first, now = task_of(press(member)), timezone.now()
    others = [copy(first) for _ in range(total)]
    for number, task in enumerate(others):
        task.pk, task.waits_for, task.due_at = (
            None,
            account,
            now + timedelta(seconds=sending.LINE_MAX_S * number / total),
        )
        task._state = copy(task._state)
        task._state.adding = True
    Task.objects.bulk_create(others, batch_size=500)


@contextmanager
def ticking():
    stop = threading.Event()

    def run() -> None:
        Clock().run(stop)
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


def wait_until(condition, timeout_s: float) -> float:
    """Seconds until it held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, "not in time"
        time.sleep(0.1)
    return time.monotonic() - began


def test_five_thousand_of_one_members_delay_anothers_first_by_less_than_half_a_minute(
    revid, peer, cleo, zoe, north, south, membership
):
    crowd(membership(cleo, north), revid, CROWD)
    with brokers.playing(brokers.make("embedded")) as broker, brokers.working(broker, threads=8), ticking():
        wait_until(lambda: len(peer.creates) >= 6, 60)  # the throttle is spent: from here on one in two seconds
        newcomer = press(membership(zoe, south))
        actors.kick_batch(newcomer)
        wait_until(lambda: task_of(newcomer).state == State.RUNNING, NEWCOMER_MAX_S)
        sent = len(peer.creates)
    assert sent < 20, "the throttle was kept"
    assert Task.objects.filter(state=State.QUEUED).count() > CROWD - 20
