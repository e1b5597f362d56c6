"""Thousands of tasks that wait for a callback: what they cost in memory, and whether anybody asks for them meanwhile.

First come pictures that are made, rung for and done, so that the process has worked and the provider is known to ring.
"""

from __future__ import annotations

import time

import httpx

from .. import peer
from ..site import Person, Site
from . import stage
from .added import press
from .streams import rss_kib

WARM, WAITING = 640, 10_000
A_PRESS = 8
SETTLE_S, WATCH_S = 20, 60
AS_IF_SLOW = """
from flux2web import health
from flux2web.models import Task
Task.objects.update(provider_s=300)
health.take_stock()
"""  # else its pictures are overdue long before ten thousand are asked for


class Rings(stage.RingingPeer):
    """Until it is told to keep whatever it takes."""

    keeps = False

    def accept(self, handler: peer.Handler, upstream_id: str) -> None:
        (peer.Peer if self.keeps else stage.RingingPeer).accept(self, handler, upstream_id)


def main() -> None:
    provider = Rings(1.0)
    with stage.playing(provider) as (site, person):
        site.manage("provider", "set", "revid", "--rate", "10000/1", "--concurrency", "100000")
        ask_for(site, person, WARM, "done")
        assert site.manage("shell", "-c", AS_IF_SLOW).returncode == 0
        before_kib = rss_kib(site.process.pid)
        provider.keeps, looks = True, len(provider.looks)
        ask_for(site, person, WAITING, "running")
        time.sleep(WATCH_S)
        kib, looks = rss_kib(site.process.pid), len(provider.looks) - looks
        ran = site.states().count("running")
    head = ["tasks that wait", "MiB before", "MiB", "ratio (target 1.1)", "looks at them"]
    row = [ran, before_kib / 1024, kib / 1024, f"{kib / before_kib:.2f}", looks]
    stage.table("Tasks that wait for a callback, in one process", head, [row])


def ask_for(site: Site, person: Person, total: int, state: str) -> None:
    """So many more tasks, until all have come to this state."""
    token, before = person.fields("/t/north/")["csrfmiddlewaretoken"], site.states().count(state)
    with httpx.Client(cookies=dict(person.http.cookies), timeout=60, trust_env=False) as http:
        for _ in range(total // A_PRESS):
            press(http, site, token, A_PRESS)
    site.wait_until(lambda: site.states().count(state) == before + total, 600)
    time.sleep(SETTLE_S)
