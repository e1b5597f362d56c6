"""The three brokers, for tests that must hold on each: embedded always, Redis and RabbitMQ where they are reachable."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import dramatiq
import pytest
from django_dramatiq.middleware import DbConnectionsMiddleware
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import ShutdownNotifications, TimeLimit

from flux2web import actors
from flux2web.brokers import EmbeddedBroker, LogContext
from flux2web.hands import Hands

from .reach import reachable

REDIS_URL = "redis://127.0.0.1:6379/9"
RABBITMQ_URL = "amqp://guest:guest@127.0.0.1:5672"
KINDS = ["embedded", "redis", "rabbitmq"]
ACTORS = (actors.submit, actors.check, actors.save)


def make(kind: str) -> dramatiq.Broker:
    middleware = [TimeLimit(), ShutdownNotifications(), DbConnectionsMiddleware(), Hands(), LogContext()]
    if kind == "embedded":
        return EmbeddedBroker(middleware=middleware)
    if kind == "redis":
        if not reachable(6379):
            pytest.skip("no Redis at 127.0.0.1:6379")
        options = {"heartbeat_timeout": 15_000, "maintenance_chance": 100_000}
        return RedisBroker(url=REDIS_URL, namespace=f"test-{uuid.uuid4().hex}", middleware=middleware, **options)
    if not reachable(5672):
        pytest.skip("no RabbitMQ at 127.0.0.1:5672")
    return RabbitmqBroker(url=RABBITMQ_URL, middleware=middleware)


@contextmanager
def playing(broker: dramatiq.Broker, *, prefix: str = "") -> Iterator[dramatiq.Broker]:
    """Point our actors at this broker for a while."""
    before = [(actor, actor.broker, actor.queue_name) for actor in ACTORS]
    for actor in ACTORS:
        actor.broker, actor.queue_name = broker, f"{prefix}{actor.queue_name}"
        broker.declare_actor(actor)
    try:
        yield broker
    finally:
        for actor, old, queue_name in before:
            actor.broker, actor.queue_name = old, queue_name
        _forget(broker)
        broker.close()


def _forget(broker: dramatiq.Broker) -> None:
    """Leave nothing behind in a broker that outlives the test."""
    broker.flush_all()
    if isinstance(broker, RabbitmqBroker):
        for name in broker.get_declared_queues() | broker.get_declared_delay_queues():
            for queue in (name, f"{name}.XQ"):
                broker.channel.queue_delete(queue)


@contextmanager
def working(broker: dramatiq.Broker, threads: int = 4) -> Iterator[dramatiq.Worker]:
    broker.emit_after("process_boot")
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=50)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(timeout=5000)
