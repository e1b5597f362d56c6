"""Hundreds of calls may wait for providers at once, and starve nothing: threads wait, a few hands work."""

from __future__ import annotations

import threading
import time

import pytest

from flux2web import actors, hands
from flux2web.models import State, Task

from . import brokers, factories
from .peer import Peer, serving
from .road import press

OPEN = 40
pytestmark = pytest.mark.django_db(transaction=True)


class SlowPeer(Peer):
    """Keeps every create until it is let go, and counts how many wait."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.waiting, self.most = threading.Event(), 0, 0
        self._counting = threading.Lock()

    def post(self, handler, body: bytes) -> None:
        with self._counting:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        self.gate.wait(30)
        with self._counting:
            self.waiting -= 1
        super().post(handler, body)


def wait_for(condition) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def slow(settings):
    settings.PUBLIC_URL = ""
    peer = SlowPeer()
    with serving(peer):
        yield peer
        peer.gate.set()


@pytest.fixture
def member(slow, cleo, north, membership):
    account = factories.make_account("revid", base_url=slow.url)
    type(account).objects.filter(pk=account.pk).update(rate_count=1000, rate_s=1, concurrent=None)
    return membership(cleo, north)


def test_more_calls_are_open_than_hands_work_and_another_provider_is_served_meanwhile(slow, member):
    batches = [press(member, count=8, prompt=f"Harbour {number}") for number in range(OPEN // 8)]
    with (
        brokers.playing(brokers.make("embedded")) as broker,
        brokers.working(broker, threads=OPEN + 4),
        serving() as quick,
    ):
        factories.make_account("flux2api", base_url=quick.url)
        for batch in batches:
            actors.kick_batch(batch)
        wait_for(lambda: slow.waiting == OPEN)
        assert hands.AT_WORK < OPEN
        actors.kick_batch(other := press(member, provider="flux2api", prompt="A heron"))
        wait_for(lambda: other.tasks.get().state == State.RUNNING)
        assert slow.waiting == OPEN
        slow.gate.set()
        wait_for(lambda: not Task.objects.filter(state__in=(State.QUEUED, State.SUBMITTING)).exists())
    assert len(slow.creates) == len(set(slow.accepted)) == OPEN


def cut_off(queue: hands.Queue) -> None:
    with hands.away():
        queue.begin()  # free while its thread waits
        raise OSError("cut off")


def test_who_comes_back_from_a_call_goes_on_at_once_also_from_one_that_fails(monkeypatch):
    queue = hands.Queue(at_work_max=1)
    monkeypatch.setattr(hands._own, "queue", queue, raising=False)
    queue.begin()
    with pytest.raises(OSError, match="cut off"):
        cut_off(queue)
    beginner = threading.Thread(target=queue.begin, daemon=True)
    beginner.start()
    queue.rest()
    beginner.join(0.2)
    assert beginner.is_alive(), "one is still at work"
    queue.rest()
    beginner.join(5)
    assert not beginner.is_alive()


class Spy:
    """A connection that says how often it was closed."""

    in_atomic_block, closed = False, 0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(("others", "in_atomic_block", "closed"), [({1}, False, 1), ({1}, True, 0), (set(), False, 0)])
def test_only_so_many_threads_keep_their_connection_while_they_wait(monkeypatch, others, in_atomic_block, closed):
    spy = Spy()
    spy.in_atomic_block = in_atomic_block
    monkeypatch.setattr(hands, "connection", spy)
    monkeypatch.setattr(hands, "_keepers", others)
    monkeypatch.setattr(hands, "CONNECTIONS_KEPT", 1)
    with hands.away():
        assert spy.closed == closed
