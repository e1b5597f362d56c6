"""Many members at once at one team's credits: how many holds a second, against many teams and against the bare driver.

Each database has a process of its own (`python -m tests.bench.holds`), because the settings decide which it is.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg

from ..site import ROOT
from . import stage

SUBMITTERS, TEAMS, RUN_S, PRICE = 64, 100, 6.0, 10
ACCEPTED, OVER = 100, 10  # a budget for so many pictures, asked for so many times over
POSTGRESQL = "postgres://postgres@127.0.0.1:5432"
DATABASE = "flux2web_bench"
POSTGRESQL_URL = f"{POSTGRESQL}/{DATABASE}"


def main() -> None:
    rows = [[name, *measured(name)] for name in ("sqlite", "postgresql")]
    head = ["database", "overspent", "one team/s", f"{TEAMS} teams/s", "one of many", "bare driver/s", "of the driver"]
    stage.table(f"Holds by {SUBMITTERS} submitters at once; the whole press, from order to commit", head, rows)


def measured(name: str) -> list[object]:
    with tempfile.TemporaryDirectory() as var:
        env = os.environ | {"VAR_DIR": var, "LOG_LEVEL": "ERROR", "DJANGO_SETTINGS_MODULE": "flux2web.settings"}
        if name == "postgresql":
            make_database()
            redis = "redis://127.0.0.1:6379/8"
            env |= {
                "DATABASE_URL": POSTGRESQL_URL,
                "BROKER_URL": redis,
                "REDIS_URL": redis,
                "SECRET_KEY": "b" * 50,
            }
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.holds"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout.splitlines()[-1])
    one, many, bare = found["one"], found["many"], found["bare"]
    return [found["overspent"], one, many, f"{one / many:.2f} (target 0.5)", bare, f"{one / bare:.2f}"]


def make_database() -> None:
    with psycopg.connect(f"{POSTGRESQL}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        connection.execute(f"CREATE DATABASE {DATABASE}")


# --- Inside the process that has the database ---------------------------------------------------------------------------


def storm(job: Callable[[int], object], *, seconds: float = RUN_S) -> float:
    """How many of `job(number)` a second that are done, by all submitters until the time is up."""
    numbers, until, done = itertools.count(), time.monotonic() + seconds, itertools.count()

    def submitter(_: int) -> None:
        while time.monotonic() < until:
            if job(next(numbers)):
                next(done)
        connections.close_all()

    with ThreadPoolExecutor(SUBMITTERS) as pool:
        list(pool.map(submitter, range(SUBMITTERS)))
    return next(done) / seconds


def press(member: Membership, number: int, run: str) -> bool:
    order = Order(prompt="Harbour at dawn", family="pro", aspect_ratio="1:1", resolution="1K")
    return isinstance(lifecycle.create(member, order, key=f"{run}-{number}", price_seen=None), Batch)


def overspent() -> int:
    """Credits held beyond a budget that was asked for ten times over; below zero would be credits kept back."""
    member = factories.make_member(factories.make_team(credits=ACCEPTED * PRICE))
    with ThreadPoolExecutor(SUBMITTERS) as pool:
        start = threading.Barrier(SUBMITTERS)
        list(pool.map(lambda _: start.wait(60), range(SUBMITTERS)))
        list(pool.map(lambda number: press(member, number, "over"), range(ACCEPTED * OVER)))
        list(pool.map(lambda _: (start.wait(60), connections.close_all()), range(SUBMITTERS)))
    return member.team.tasks.count() * PRICE - ACCEPTED * PRICE


def driver_rate(member: Membership) -> float:
    """The same writes, recorded from one press, with nothing but the driver: fresh keys and ids, same commits."""
    spread_ids()
    said: list[tuple[str, tuple]] = []

    def record(execute, sql, params, many, context):
        said.append((sql, tuple(params or ())))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        press(member, 0, "told")
    first = member.team.batches.get(key="told-0")
    inside = [line for line in said if line[0].startswith(("INSERT", "UPDATE"))]
    task = first.tasks.get()

    def again(number: int) -> bool:
        fresh: dict[object, object] = {"told-0": f"bare-{number}", f"hold:{task.pk}": f"bare-hold-{number}"}
        with write(), connection.cursor() as cursor:
            for sql, params in inside:
                cursor.execute(
                    sql, [fresh.get(value, value) if isinstance(value, str | int) else value for value in params]
                )
                if sql.startswith('INSERT INTO "flux2web_batch"'):
                    fresh[first.pk] = cursor.fetchone()[0]
                elif sql.startswith('INSERT INTO "flux2web_task"'):
                    fresh[task.pk] = cursor.fetchone()[0]
        return True

    return storm(again)


def spread_ids() -> None:
    """So that a number among the recorded values is told apart: batches from a million on, tasks from two."""
    with connection.cursor() as cursor:
        for table, start in (("flux2web_batch", 1_000_000), ("flux2web_task", 2_000_000)):
            if connection.vendor == "sqlite":
                cursor.execute("UPDATE sqlite_sequence SET seq = %s WHERE name = %s", [start, table])
            else:
                cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [table, start])


def figures() -> dict[str, float]:
    call_command("migrate", verbosity=0)
    factories.make_account("revid")
    found = {"overspent": overspent()}
    teams = [factories.make_team(credits=10**9) for _ in range(TEAMS)]
    members = [[factories.make_member(team) for _ in range(2)] for team in teams]
    crowd = [factories.make_member(teams[0]) for _ in range(SUBMITTERS)]
    found["one"] = storm(lambda number: press(crowd[number % SUBMITTERS], number, "one"))
    found["many"] = storm(lambda number: press(members[number % TEAMS][0], number, "many"))
    found["bare"] = driver_rate(members[0][0])
    return found


if __name__ == "__main__":
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection, connections

    from flux2web import lifecycle
    from flux2web.models import Batch, Membership, write
    from flux2web.orders import Order

    from .. import factories

    print(json.dumps(figures()))
