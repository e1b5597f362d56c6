"""Thousands of tasks that wait for a callback: what they cost in memory, and whether anybody asks for them meanwhile."""

from __future__ import annotations

import time

import httpx

from .. import peer
from ..site import Person, Site
from . import stage
from .added import press
from .streams import BEFORE, rss_kib

TOTALS = (640, 10_000)
A_PRESS = 8
SETTLE_S, WATCH_S = 20, 60


def main() -> None:
    provider = peer.Peer()
    with stage.playing(provider) as (site, person):
        site.manage("provider", "set", "revid", "--rate", "10000/1", "--concurrency", "100000")
        assert site.manage("shell", "-c", BEFORE).returncode == 0
        rows: list[list[object]] = []
        first_kib = 0
        for total in TOTALS:
            wait_for(site, person, total)
            looks, kib = len(provider.looks), rss_kib(site.process.pid)
            time.sleep(WATCH_S)
            first_kib = first_kib or kib
            rows.append([total, kib / 1024, kib / first_kib, len(provider.looks) - looks])
    head = ["tasks that wait", "MiB", "of the first (target 1.1)", f"looks in {WATCH_S} s"]
    stage.table("Tasks that wait for a callback, in one process", head, rows)


def wait_for(site: Site, person: Person, total: int) -> None:
    """So many tasks in the provider's hands."""
    token = person.fields("/t/north/")["csrfmiddlewaretoken"]
    with httpx.Client(cookies=dict(person.http.cookies), timeout=60, trust_env=False) as http:
        for _ in range((total - len(site.states())) // A_PRESS):
            press(http, site, token, A_PRESS)
    site.wait_until(lambda: set(site.states()) == {"running"}, 600)
    time.sleep(SETTLE_S)
