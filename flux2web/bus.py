"""Hints to whoever listens: "something changed, look". Published after commit; in process, or over Redis between machines.

A hint may be lost; pages catch up by asking. So a bus that is down is logged and never fails what was committed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache, partial

import redis
import structlog
from django.conf import settings
from django.db import transaction
from redis.backoff import NoBackoff
from redis.retry import Retry

log = structlog.get_logger(__name__)
CHANNEL = "flux2web"
RECONNECT_S = 1.0


@dataclass(frozen=True)
class Hint:
    """kind: "task" (its card changed), "gone" (some may not see these tasks any more), "balance", "access" (memberships
    changed), "filed" (a collection changed), "resync" (hints may have been lost)."""

    kind: str
    team_id: int = 0
    task_id: int = 0
    task_ids: tuple[int, ...] = ()  # of "gone"
    collection_id: int = 0  # of "filed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "task_ids", tuple(self.task_ids))  # over Redis it comes as a list


Listener = Callable[[Hint], None]
_listeners: list[Listener] = []


def publish_task(team_id: int, task_id: int) -> None:
    _after_commit(Hint("task", team_id, task_id))


def publish_gone(team_id: int, task_ids: Iterable[int]) -> None:
    """One hint for all: what somebody must not see any more is not lost among others."""
    if ids := tuple(task_ids):
        _after_commit(Hint("gone", team_id, task_ids=ids))


def publish_filed(team_id: int, collection_id: int) -> None:
    _after_commit(Hint("filed", team_id, collection_id=collection_id))


def publish_balance(team_id: int) -> None:
    _after_commit(Hint("balance", team_id))


def publish_access_changed(team_id: int) -> None:
    _after_commit(Hint("access", team_id))


def subscribe(listener: Listener) -> Callable[[], None]:
    """Call `listener` with each hint, from any thread; it must be quick. Returns how to stop."""
    _listeners.append(listener)
    return partial(_listeners.remove, listener)


def deliver(hint: Hint) -> None:
    for listener in list(_listeners):
        listener(hint)


def _after_commit(hint: Hint) -> None:
    transaction.on_commit(partial(_send, hint), robust=True)


def _send(hint: Hint) -> None:
    if not settings.REDIS_URL:
        return deliver(hint)
    try:
        _client(settings.REDIS_URL).publish(CHANNEL, json.dumps(asdict(hint)))
    except redis.RedisError as error:
        log.warning("bus is down, pages catch up by asking", error=str(error))


@cache
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)


def listen(stop: threading.Event) -> None:
    """Deliver what other processes publish, until `stop`; after a lost connection every listener is told to resync."""
    while not stop.is_set():
        try:
            _listen_once(stop)
        except redis.RedisError as error:
            log.warning("bus lost, reconnecting", error=str(error))
            stop.wait(RECONNECT_S)


def _listen_once(stop: threading.Event) -> None:
    """One connection's life. Without retries: a client that comes back silently would hide what was missed."""
    never, alive_s = Retry(NoBackoff(), 0), 10
    client = redis.Redis.from_url(settings.REDIS_URL, retry=never, health_check_interval=alive_s, socket_keepalive=True)
    with client, client.pubsub() as channel:
        channel.subscribe(CHANNEL)
        deliver(Hint("resync"))
        while not stop.is_set():
            message = channel.get_message(ignore_subscribe_messages=True, timeout=0.5)
            if message:
                _deliver_message(message["data"])


def _deliver_message(data: bytes) -> None:
    """Another release may say what we do not know; that is nothing to stop listening for."""
    try:
        hint = Hint(**json.loads(data))
    except (ValueError, TypeError) as error:
        return log.warning("hint not understood", error=repr(error))
    deliver(hint)
