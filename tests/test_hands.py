"""Hundreds of calls may wait for providers at once, and starve nothing: threads wait, a few hands work."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import connection, connections

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


def a_statement(queue: hands.Queue, found: list) -> None:
    queue.begin()
    connection.ensure_connection()
    found.append(connection.connection)
    queue.rest()


def in_a_thread(function, *args) -> None:
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


def test_a_hand_brings_its_connection_whichever_thread_it_is():
    queue, found = hands.Queue(), []
    hands.idle.close()
    for _ in range(3):
        in_a_thread(a_statement, queue, found)
    hands.idle.close()
    assert len(found) == 3
    assert found[0] is found[1] is found[2]


def test_a_connection_that_broke_is_opened_anew():
    queue, found = hands.Queue(), []
    hands.idle.close()
    in_a_thread(a_statement, queue, found)
    hands.idle._idle[0].errors_occurred = True
    hands.idle._idle[0].is_usable = lambda: False
    in_a_thread(a_statement, queue, found)
    hands.idle.close()
    assert found[0] is not found[1]


def test_only_so_many_connections_are_kept_open(monkeypatch):
    monkeypatch.setattr(hands, "IDLE_MAX", 1)
    queue, found, both = hands.Queue(), [], threading.Barrier(2)

    def at_once() -> None:
        queue.begin()
        connection.ensure_connection()
        found.append(connection.connection)
        both.wait(5)
        queue.rest()

    hands.idle.close()
    threads = [threading.Thread(target=at_once) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(found) == 2
    assert len(hands.idle._idle) == 1
    hands.idle.close()


def test_whoever_waits_for_a_provider_has_no_connection():
    queue = hands.Queue()
    hands.idle.close()

    def call() -> None:
        hands._own.queue = queue
        queue.begin()
        connection.ensure_connection()
        with hands.away():
            assert len(hands.idle._idle) == 1
            assert not list(connections.all(initialized_only=True))
        assert not hands.idle._idle
        queue.rest()

    in_a_thread(call)
    hands.idle.close()
