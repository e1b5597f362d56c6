"""What the measurements share: the embedded site as its own process with the product's settings, a provider of exactly
known speed in another, and how results are shown."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import peer, site

TICKS_S = os.sysconf("SC_CLK_TCK")


class RingingPeer(peer.Peer):
    """Takes `work_s` for each task, then rings, and says "success" to whoever asks from then on."""

    def __init__(self, work_s: float) -> None:
        super().__init__()
        self.work_s, self.ready_at = work_s, {}
        self.default_state = "waiting"

    def accept(self, handler: peer.Handler, upstream_id: str) -> None:
        body = self.creates[-1]
        super().accept(handler, upstream_id)
        ring = threading.Timer(self.work_s, self.finish, (upstream_id, body.get("callBackUrl")))
        ring.daemon = True
        ring.start()

    def finish(self, upstream_id: str, callback_url: str | None) -> None:
        self.jobs[upstream_id] = "success"
        if callback_url:
            request = urllib.request.Request(callback_url, self.callback_body(upstream_id), method="POST")
            urllib.request.urlopen(request, timeout=10).close()


@contextmanager
def playing(provider: peer.Peer) -> Iterator[tuple[site.Site, site.Person]]:
    """The site at work with `provider` as its only one, and somebody signed in, rich, with no throttle."""
    with serving(provider), at_work(provider.url) as found:
        yield found


@contextmanager
def at_work(url: str, **env: str) -> Iterator[tuple[site.Site, site.Person]]:
    """The same, with the provider at this address."""
    env = {"DJANGO_SETTINGS_MODULE": "flux2web.settings", "REVID_API_KEY": "k", "REVID_URL": url} | env
    with (
        tempfile.TemporaryDirectory() as var,
        site.running(Path(var), SANDBOX="0", LOG_LEVEL="ERROR", **env) as running,
    ):
        person = running.set_up()
        done = running.manage("provider", "set", "revid", "--rate", "10000/1", "--concurrency", "1000")
        assert done.returncode == 0, done.stderr
        grant(running, 900_000)
        yield running, person


def grant(running: site.Site, credits: int) -> None:
    code = (
        "from flux2web import ledger; from flux2web.models import Team, write\n"
        f"with write(): ledger.grant(Team.objects.get(), {credits}, actor=None, reason='bench', key='bench')"
    )
    done = running.manage("shell", "-c", code)
    assert done.returncode == 0, done.stderr


@contextmanager
def serving(provider: peer.Peer) -> Iterator[None]:
    server = peer.ThreadingHTTPServer(("127.0.0.1", 0), peer.Handler)
    server.daemon_threads, server.peer = True, provider
    provider.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


# --- Figures -------------------------------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """Seconds of processor a process and its children that still live have used."""
    return sum(_own_cpu_s(each) for each in [pid, *_children(pid)])


def _own_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_S


def _children(pid: int) -> list[int]:
    said = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in said.split()]


def yardstick_ms(url: str) -> float:
    """What the smallest answer of the same server takes now: how busy the machine is. About 2 on one that rests."""
    began = time.monotonic()
    urllib.request.urlopen(f"{url}/health/live", timeout=30).close()
    return 1000 * (time.monotonic() - began)


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def conditions() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}, {time.strftime('%F %T')}"


def table(title: str, head: list[str], rows: list[list[object]]) -> None:
    texts = [head, *[[f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[n]) for row in texts) for n in range(len(head))]
    print(f"\n{title} ({conditions()})")
    for row in texts:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))


def median(values: list[float]) -> float:
    return statistics.median(values)
