"""The same pages over few rows and over many: time and queries, on both databases.

Each database and size has a process of its own (`python -m tests.bench.depth WHICH ROWS`), because the settings decide.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

from ..site import ROOT
from . import stage
from .holds import POSTGRESQL_URL, make_database

ROUNDS = 15


def compare(title: str, which: str, sizes: tuple[int, int], target: float) -> None:
    for name in ("sqlite", "postgresql"):
        small, large = (measured(name, which, size) for size in sizes)
        rows = [
            [page, small[page][0], large[page][0], _ratio(small, large, page), small[page][1], large[page][1]]
            for page in small
        ]
        head = ["page", f"ms at {sizes[0]:,}", f"ms at {sizes[1]:,}", f"ratio (target {target})", "queries", "queries"]
        stage.table(f"{title} on {name}, medians of {ROUNDS}, in process", head, rows)


def _ratio(small: dict, large: dict, page: str) -> str:
    return f"{large[page][0] / small[page][0]:.2f}"


def measured(name: str, which: str, rows: int) -> dict[str, tuple[float, int]]:
    with tempfile.TemporaryDirectory() as var:
        env = os.environ | {"VAR_DIR": var, "LOG_LEVEL": "ERROR", "DJANGO_SETTINGS_MODULE": "flux2web.settings"}
        if name == "postgresql":
            make_database()
            redis = "redis://127.0.0.1:6379/8"
            env |= {"DATABASE_URL": POSTGRESQL_URL, "BROKER_URL": redis, "REDIS_URL": redis, "SECRET_KEY": "b" * 50}
        command = [sys.executable, "-m", "tests.bench.depth", which, str(rows)]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])


# --- Inside the process that has the database ---------------------------------------------------------------------------


def figures(which: str, rows: int) -> dict[str, tuple[float, int]]:
    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    factories.make_account("revid")
    team = fill(rows // 2 if which == "books" else rows)
    assert [found for found in audit.ledger() if found.invariant != "I6"] == []  # events are not multiplied
    client = somebody(team)
    places = PLACES[which](team)
    return {page: timed(client, path.format(team=team.slug, **places)) for page, path in PAGES[which].items()}


def somebody(team) -> Client:
    """Signed in as the team's owner, who is a site admin too."""
    person = team.memberships.first()
    team.memberships.filter(pk=person.pk).update(role="owner")
    person.user.is_site_admin = True
    person.user.save()
    client = Client()
    client.force_login(person.user, backend=settings.AUTHENTICATION_BACKENDS[0])
    return client


def timed(client, path: str) -> tuple[float, int]:
    """(median ms, queries)"""
    times = []
    for _ in range(ROUNDS + 2):
        with CaptureQueriesContext(connection) as said:
            began = time.perf_counter()
            answer = client.get(path, SERVER_NAME="127.0.0.1")
            times.append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 200, (path, answer.status_code)
    return stage.median(times[2:]), len(said)


if __name__ == "__main__":
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from flux2web import audit

    from .. import factories
    from .fill import fill
    from .places import PAGES, PLACES

    print(json.dumps(figures(sys.argv[1], int(sys.argv[2]))))
