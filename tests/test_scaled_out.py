"""The scaled-out shape for real: two web processes, two workers, two clocks, PostgreSQL, Redis, and either broker."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from pika.exceptions import ChannelClosedByBroker

from . import site
from .brokers import RABBITMQ_URL, reachable
from .peer import Peer, serving
from .site import PERSON, Person

POSTGRES = "postgres://postgres@127.0.0.1:5432/"
REDIS = "redis://127.0.0.1:6379/"
REDIS_DB = {"redis": 11, "rabbitmq": 12}  # numbers of their own: they are emptied here
KEY = "key-for-the-peer-0123456789"
QUEUES = ("submit", "check", "save", "export", "mail")
THREADS, AT_REST_S = 4, 45

pytestmark = pytest.mark.slow


@dataclass
class Web:
    url: str
    process: subprocess.Popen


class Cluster:
    """Everything an operator starts, and what a test needs to see and to break."""

    def __init__(self, var: Path, broker: str, database: str, peer: Peer) -> None:
        self.var, self.peer, self.broker = var, peer, broker
        self.database_url = POSTGRES + database
        self.redis_url = f"{REDIS}{REDIS_DB[broker]}"
        ports = [free_port(), free_port()]
        self.env = site.environment(
            VAR_DIR=str(var),
            SECRET_KEY="one-secret-for-all-of-them-" + "x" * 40,
            DATABASE_URL=self.database_url,
            BROKER_URL=self.redis_url if broker == "redis" else RABBITMQ_URL,
            REDIS_URL=self.redis_url,
            PUBLIC_URL=f"http://127.0.0.1:{ports[0]}",
        )
        self.running: list[subprocess.Popen] = []
        self.killed_threads = 0
        self.setup_path = self._prepare()
        self.webs = [Web(f"http://127.0.0.1:{port}", self.start("web", "--port", str(port))) for port in ports]
        self.workers = [self.start_worker() for _ in range(2)]
        self.clocks = [self.start("clock") for _ in range(2)]
        for web in self.webs:
            wait_until(lambda url=web.url: site.answers(url), 40, f"{web.url} does not answer: {self.said()}")

    def _prepare(self) -> str:
        said = self.manage("prepare").stdout
        # As many calls as it likes: the provider's own throttle would make the test wait.
        self.manage("provider", "set", "revid", "--key", "-", "--url", self.peer.url, "--rate", "500/1", stdin=KEY)
        return re.search(r"administrator: http://[^/\s]+(/\S+)", said)[1]

    def manage(self, *args: str, stdin: str = "") -> subprocess.CompletedProcess:
        ended = site.manage(*args, env=self.env, stdin=stdin)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended

    def start(self, *args: str) -> subprocess.Popen:
        process = site.spawn(*args, env=self.env, log=self.var / "test.log")
        self.running.append(process)
        return process

    def start_worker(self) -> subprocess.Popen:
        return self.start("rundramatiq", "-p", "1", "-t", str(THREADS))

    def stop(self) -> None:
        for process in self.running:
            site.kill(process)

    def said(self) -> str:
        return (self.var / "test.log").read_text()[-4000:]

    # --- The rows

    def rows(self, sql: str) -> list[tuple]:
        with psycopg.connect(self.database_url) as db:
            return db.execute(sql).fetchall()

    def states(self) -> list[str]:
        return [state for (state,) in self.rows("SELECT state FROM flux2web_task ORDER BY id")]

    def wait_at_rest(self) -> None:
        live = {"queued", "submitting", "uncertain", "running", "saving"}
        wait_until(lambda: not live & set(self.states()), AT_REST_S, lambda: f"{self.states()}; {self.said()}")

    def assert_whole(self) -> None:
        """Every task is done, each was created once at the provider, and every credit is where the entries say.

        A worker that is killed in the milliseconds between the claim and the wire leaves a create that never arrived:
        nobody can know, so its task ends with the hold released.
        """
        states = self.states()
        done, failed = states.count("done"), states.count("failed")
        assert done + failed == len(states)
        assert done == len(self.peer.creates) == len(self.peer.accepted)
        assert failed <= self.killed_threads, self.rows("SELECT id, fail_kind, fail_message FROM flux2web_task")
        assert self.manage("check_ledger", "--storage").stdout.startswith("Clean")
        assert self.rows("SELECT held, spent FROM flux2web_budget") == [(0, 10 * done)]

    # --- What goes wrong

    def kill_worker_and_clock(self) -> None:
        for process in (self.workers[0], self.clocks[0]):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        self.killed_threads += THREADS

    def lose_messages(self) -> None:
        """Everything the broker holds is gone."""
        if self.broker == "redis":
            return empty_redis("redis")
        with rabbitmq() as channel:
            for name in QUEUES:
                channel.queue_purge(name)
                channel.queue_purge(f"{name}.DQ")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_until(true: Callable[[], object], limit_s: float, why: str | Callable[[], str]) -> None:
    until = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < until, why() if callable(why) else why
        time.sleep(0.05)


def empty_redis(broker: str) -> None:
    """The test's own database number, no other."""
    with redis.Redis.from_url(f"{REDIS}{REDIS_DB[broker]}") as client:
        client.flushdb()


@contextmanager
def rabbitmq() -> Iterator[Any]:
    broker = RabbitmqBroker(url=RABBITMQ_URL)
    try:
        yield broker.channel
    finally:
        broker.close()


def forget_queues() -> None:
    """Unless somebody else's workers listen there."""
    for queue in [f"{name}{kind}" for name in QUEUES for kind in ("", ".DQ", ".XQ")]:
        with suppress(ChannelClosedByBroker), rabbitmq() as channel:
            channel.queue_delete(queue, if_unused=True)


@contextmanager
def own_database() -> Iterator[str]:
    name = f"flux2web_scaled_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(POSTGRES + "postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def ringing(peer: Peer) -> Iterator[None]:
    """The peer finishes what it accepted after a moment and rings, as a provider does."""
    stop, rung = threading.Event(), set()

    def ring() -> None:
        while not stop.wait(0.2):
            for upstream_id in set(peer.accepted) - rung:
                peer.jobs[upstream_id] = "success"
                create = peer.creates[int(upstream_id.removeprefix("up-")) - 1]
                httpx.post(create["callBackUrl"], content=peer.callback_body(upstream_id), trust_env=False)
                rung.add(upstream_id)

    thread = threading.Thread(target=ring)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def cluster(request, tmp_path_factory) -> Iterator[Cluster]:
    for name, port in {"PostgreSQL": 5432, "Redis": 6379, "RabbitMQ": 5672}.items():
        if not reachable(port) and (name != "RabbitMQ" or request.param == "rabbitmq"):
            pytest.skip(f"no {name} at 127.0.0.1:{port}")
    empty_redis(request.param)
    with own_database() as database, serving() as peer:
        peer.latency_s = 0.3
        cluster = Cluster(tmp_path_factory.mktemp("var"), request.param, database, peer)
        try:
            with ringing(peer):
                yield cluster
        finally:
            cluster.stop()
            empty_redis(request.param)
            if request.param == "rabbitmq":
                forget_queues()


@pytest.fixture(scope="module")
def ana(cluster) -> Person:
    """Ana has set the site up at web 1 and signs in there with a fresh browser."""
    first = Person(cluster.webs[0])
    chosen = PERSON | {"password1": PERSON["password"], "team": "North"}
    first.post(cluster.setup_path, chosen, page=cluster.setup_path)
    ana = Person(cluster.webs[0])
    entered = {"login": PERSON["email"], "password": PERSON["password"]}
    assert ana.post("/accounts/login/", entered, page="/accounts/login/").url.path == "/t/north/"
    return ana


@contextmanager
def watching(person: Person, web: Web) -> Iterator[list[str]]:
    """The lines that the team's stream at this web process says, as they come."""
    lines: list[str] = []

    def watch() -> None:
        with person.http.stream("GET", f"{web.url}/t/north/live/", timeout=None) as stream:
            lines.extend([] if stream.status_code == 200 else [f"status {stream.status_code}"])
            for line in stream.iter_lines():
                lines.append(line)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    wait_until(lambda: "event: hello" in lines, 10, lambda: f"no stream: {lines}")
    yield lines
    thread.join(5)


def test_what_is_pressed_at_one_web_process_is_watched_at_the_other(cluster, ana):
    with watching(ana, cluster.webs[1]) as lines:
        assert ana.press("A harbour at dawn").status_code == 200
        wait_until(lambda: any('data-state="done"' in line for line in lines), 20, lambda: f"{lines}; {cluster.said()}")
        cluster.wait_at_rest()
        picture = ana.get(f"{cluster.webs[1].url}/t/north/results/1/original")
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
        # And the stream does not keep its server alive.
        took_s = site.stop(cluster.webs[1].process, signal.SIGTERM)
        assert took_s < 5
        assert cluster.webs[1].process.returncode == 0
    assert lines[-3:] == ["event: bye", "data: ", ""]


def test_a_killed_worker_and_a_killed_clock_lose_nothing(cluster, ana):
    before = len(cluster.states())
    for _ in range(4):
        ana.press("A harbour at dusk", count="8")
    wait_until(lambda: cluster.states().count("done") > before + 4, 20, cluster.said)
    cluster.kill_worker_and_clock()
    assert cluster.states().count("done") < before + 28
    cluster.wait_at_rest()
    cluster.assert_whole()


def test_messages_that_are_lost_cost_nothing(cluster, ana):
    before = len(cluster.states())
    for _ in range(2):
        ana.press("A harbour at noon", count="8")
    wait_until(lambda: cluster.states().count("done") > before + 2, 20, cluster.said)
    cluster.lose_messages()
    cluster.wait_at_rest()
    cluster.assert_whole()


def test_workers_and_clocks_stop_within_five_seconds(cluster, ana):
    for process in (cluster.workers[1], cluster.clocks[1], cluster.webs[0].process):
        assert site.stop(process) < 5
        assert process.returncode == 0
