"""Many open pages at once: what each costs in memory, and how soon a change is on all of them.

The listeners are a process of their own. A change is a callback after which the provider says "success"; its time counts
from the provider's status answer to the event at each of the team's streams. The other streams are another team's.
"""

from __future__ import annotations

import multiprocessing
import re
import selectors
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import httpx

from .. import peer
from ..stream import Stream
from . import stage
from .added import press

CASES = [
    (1000, 1000, 40, 1.0),
    (500, 2, 50, 5.0),
    (500, 2, 300, 60.0),
    (500, 500, 120, 60.0),
]  # streams, of them the team's, changes, changes a second
WARM = 20
BEFORE = """
from flux2web.models import Membership, ProviderAccount, Team, User
team = Team.objects.create(name="South", slug="south")
Membership.objects.create(team=team, user=User.objects.get(), role="owner")
ProviderAccount.objects.update(record={"done": 50, "median_s": 40.0, "p90_s": 60.0, "rings_percent": 100})
"""  # a second team, and a provider that is known to ring
SAVING = re.compile(rb'data-task="(\d+)" data-state="saving"')


class Teller(stage.RingingPeer):
    """Rings when it is told to, and notes when each task's success was said."""

    def __init__(self) -> None:
        super().__init__(0)
        self.told_at: dict[str, float] = {}
        self.rings: dict[str, str] = {}

    def accept(self, handler: peer.Handler, upstream_id: str) -> None:
        self.rings[upstream_id] = self.creates[-1]["callBackUrl"]
        peer.Peer.accept(self, handler, upstream_id)

    def _look(self, handler: peer.Handler, upstream_id: str) -> None:
        super()._look(handler, upstream_id)
        if self.jobs.get(upstream_id) == "success":
            self.told_at.setdefault(upstream_id, time.monotonic())

    def ring(self, upstream_id: str) -> None:
        self.jobs[upstream_id] = "success"
        body = self.callback_body(upstream_id)
        urllib.request.urlopen(urllib.request.Request(self.rings[upstream_id], body, method="POST"), timeout=30).close()


def main() -> None:
    rows = [one_case(*case) for case in CASES]
    head = [
        "streams",
        "of the team",
        "KiB each (target 16)",
        "changes",
        "a second",
        "p50 ms",
        "p99 ms",
        "smallest answer p50 ms",
    ]
    stage.table("From the provider's status answer to the event on every open page", head, rows)


def one_case(streams: int, own: int, changes: int, rate: float) -> list[object]:
    provider = Teller()
    with stage.playing(provider) as (site, person), ExitStack() as stack:
        cookies = dict(person.http.cookies)
        assert site.manage("shell", "-c", BEFORE).returncode == 0
        warm = [stack.enter_context(Stream(site.url, cookies, "south")) for _ in range(WARM)]
        before = rss_kib(site.process.pid)
        ears = stack.enter_context(_Ears(site.url, cookies, {"north": own, "south": streams - own}))
        each_kib = (rss_kib(site.process.pid) - before) / streams
        task_ids = _running(site, person, cookies, provider, changes)
        yards = [stage.yardstick_ms(site.url) for _ in range(5)]
        began = time.monotonic()
        for number, upstream_id in enumerate(task_ids):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            provider.ring(upstream_id)
        time.sleep(5)
        heard = ears.heard()
        del warm
    times = [
        1000 * (at - provider.told_at[upstream_id])
        for upstream_id, task_id in task_ids.items()
        for at in heard.get(task_id, [])
    ]
    assert len(times) >= 0.99 * own * changes, f"{len(times)} of {own * changes} events came"
    p50, p99 = stage.percentile(times, 50), stage.percentile(times, 99)
    return [streams, own, each_kib, changes, rate, p50, p99, stage.median(yards)]


def _running(site, person, cookies: dict[str, str], provider: Teller, total: int) -> dict[str, int]:
    """So many tasks that their provider is drawing: task id by its id there."""
    token, found = person.fields("/t/north/")["csrfmiddlewaretoken"], {}
    with httpx.Client(cookies=cookies, timeout=60, trust_env=False) as http:
        for number in range(1, total + 1):
            found[f"up-{number}"] = press(http, site, token)[2]
            until = time.monotonic() + 30
            while f"up-{number}" not in provider.rings:
                assert time.monotonic() < until, "it was not sent"
                time.sleep(0.005)
    time.sleep(1)
    return found


def rss_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


class _Ears:
    """So many streams, read by a process of their own."""

    def __init__(self, url: str, cookies: dict[str, str], totals: dict[str, int]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._ours, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_listen, args=(theirs, url, cookies, totals), daemon=True)

    def __enter__(self) -> _Ears:
        self._process.start()
        assert self._ours.recv() == "open"
        time.sleep(2)
        return self

    def heard(self) -> dict[int, list[float]]:
        """When each task's change came, stream by stream."""
        self._ours.send("stop")
        return self._ours.recv()

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def _listen(pipe, url: str, cookies: dict[str, str], totals: dict[str, int]) -> None:
    waiting, heard = selectors.DefaultSelector(), {}
    for team in [team for team, total in totals.items() for _ in range(total)]:
        stream = Stream(url, cookies, team)
        stream.sock.setblocking(False)
        waiting.register(stream.sock, selectors.EVENT_READ, bytearray())
    waiting.register(pipe, selectors.EVENT_READ)
    pipe.send("open")
    while True:
        ready, now = waiting.select(), time.monotonic()  # they are there now, however long reading them takes us
        for key, _ in ready:
            if key.fileobj is pipe:
                pipe.send(heard)
                return
            _take(key, now, heard)


def _take(key: selectors.SelectorKey, now: float, heard: dict[int, list[float]]) -> None:
    text = key.data
    text += key.fileobj.recv(1 << 20)
    *blocks, rest = bytes(text).split(b"\n\n")
    text[:] = rest
    for found in map(SAVING.search, blocks):
        if found:
            heard.setdefault(int(found[1]), []).append(now)
