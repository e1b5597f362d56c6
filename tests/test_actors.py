"""Actors and clock with real workers, on each broker: the row is the queue of record, a message only a nudge."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
from django.db import InterfaceError
from django.utils import timezone

from flux2web import actors
from flux2web.clock import Clock, due
from flux2web.models import Audit, Heartbeat, State, Task

from . import brokers, factories
from .peer import serving
from .road import press, sums, task_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def peer(settings):
    settings.PUBLIC_URL = ""  # nobody can ring us here: tasks are polled
    settings.LOOK_SCALE = 0.02
    settings.CLOCK_TICK_S, settings.CLOCK_RESEND_S = 0.1, 1
    with serving() as peer:
        peer.default_state = "success"
        yield peer


@pytest.fixture
def member(peer, cleo, north, membership):
    factories.make_account("revid", base_url=peer.url)
    return membership(cleo, north)


@pytest.fixture(params=brokers.KINDS)
def broker(request):
    with brokers.playing(brokers.make(request.param), prefix=f"t{uuid.uuid4().hex[:8]}-") as broker:
        yield broker


@pytest.fixture
def embedded():
    with brokers.playing(brokers.make("embedded")) as broker:
        yield broker


@pytest.fixture
def clock():
    stop = threading.Event()
    thread = threading.Thread(target=Clock().run, args=(stop,), daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(5)


def wait_for(condition, timeout_s: float = 20) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def ended(*tasks: Task) -> bool:
    return not Task.objects.filter(pk__in=[task.pk for task in tasks]).live().exists()


def test_a_kicked_task_reaches_its_picture(broker, clock, member, north):
    batch = press(member, count=3)
    with brokers.working(broker):
        actors.kick_batch(batch)
        wait_for(lambda: ended(*batch.tasks.all()))
    assert {task.state for task in batch.tasks.all()} == {State.DONE}
    assert sums(north) == (1000, 0, 30)


def test_a_doubled_message_sends_once(broker, clock, member, peer):
    task = task_of(press(member))
    with brokers.working(broker):
        for _ in range(10):
            actors.submit.send(task.pk)
        wait_for(lambda: ended(task))
    assert len(peer.creates) == 1


def test_a_lost_message_is_found_by_the_clock(embedded, clock, member):
    task = task_of(press(member))  # and nobody kicks
    with brokers.working(embedded):
        wait_for(lambda: ended(task))


def test_a_message_about_nothing_is_no_error(embedded):
    with brokers.working(embedded):
        actors.submit.send(10**9)
        embedded.join("submit", fail_fast=True)


def test_a_broker_that_is_down_loses_nothing(embedded, clock, member, monkeypatch):
    batch = press(member)
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "enqueue", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("down")))
        actors.kick_batch(batch)
    with brokers.working(embedded):
        wait_for(lambda: ended(*batch.tasks.all()))


def test_a_flushed_broker_loses_nothing(broker, clock, member):
    batch = press(member, count=2)
    actors.kick_batch(batch)
    broker.flush_all()
    with brokers.working(broker):
        wait_for(lambda: ended(*batch.tasks.all()))


def test_three_clocks_at_once_send_once(embedded, member, peer):
    task = task_of(press(member))
    for clock in (Clock(), Clock(), Clock()):
        assert clock.tick() == 1
    with brokers.working(embedded):
        wait_for(lambda: Task.objects.get(pk=task.pk).state != State.QUEUED)
    assert len(peer.creates) == 1


def test_the_clock_does_not_send_again_at_once(member):
    press(member)
    clock = Clock()
    assert [clock.tick() for _ in range(3)] == [1, 0, 0]


def test_a_task_that_is_due_anew_is_sent_anew(member):
    task = task_of(press(member))
    clock = Clock()
    assert clock.tick() == 1
    Task.objects.filter(pk=task.pk).update(due_at=timezone.now())  # somebody has looked meanwhile
    assert [clock.tick() for _ in range(2)] == [1, 0]


def test_the_clock_outlives_whatever_a_tick_raises(db, settings, monkeypatch):
    settings.CLOCK_TICK_S, stop, faults = 0, threading.Event(), [RuntimeError("odd"), InterfaceError("closed")]
    clock = Clock()

    def tick():
        if faults:
            raise faults.pop()
        stop.set()

    monkeypatch.setattr(clock, "tick", tick)
    clock.run(stop)
    assert stop.is_set()


def test_rows_that_stay_due_do_not_hide_the_others(member, monkeypatch):
    monkeypatch.setattr("flux2web.clock.PAGE", 2)
    press(member, count=5)
    assert len(list(due(timezone.now()))) == 5


def test_the_clock_has_a_pulse(db):
    Clock().tick()
    assert (timezone.now() - Heartbeat.objects.get(name="clock").at).total_seconds() < 5


def test_the_clock_has_the_ledger_checked_by_one_of_many(member, north, settings):
    settings.AUDIT_EVERY_S = 600
    factories.book(north, "grant", 5, granted=4)  # one credit too few
    clocks = [Clock() for _ in range(3)]
    for clock in clocks:
        clock.tick()
    for clock in clocks:
        clock._beside["audit"].ident and clock._beside["audit"].join(10)
    finding = Audit.objects.get().findings[0]
    assert finding.startswith("I2 north:")
    assert [clock.tick() for clock in clocks] == [0, 0, 0]
    assert Audit.objects.count() == 1


def test_every_live_state_has_somebody_who_looks():
    assert set(actors.LOOKERS) == {state for state in State if state not in ("done", "failed", "cancelled")}
