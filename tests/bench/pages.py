"""Pages through our dispatcher, against Django's own ASGI handler and against a bare Django view on our dispatcher."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

from .. import site
from . import stage

ROUNDS, ROUND_S, CONNECTIONS = 5, 1.5, 8
CASES = [
    ("bare view, our dispatcher", "bare", "/bare/"),
    ("health, our dispatcher", "ours", "/health/live"),
    ("health, Django's ASGI", "asgi", "/health/live"),
    ("studio, our dispatcher", "ours", "/t/north/"),
    ("studio, Django's ASGI", "asgi", "/t/north/"),
]


def main() -> None:
    with tempfile.TemporaryDirectory() as var, ExitStack() as stack:
        with site.running(Path(var), DJANGO_SETTINGS_MODULE="flux2web.settings") as running:
            session = running.set_up().http.cookies["session"]
        servers = {kind: stack.enter_context(server(kind, running)) for kind in ("bare", "ours", "asgi")}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name, _, _ in CASES}
        for round_ in range(ROUNDS + 1):
            for name, kind, path in CASES:
                figures = measured(*servers[kind], path, session)
                found[name] += [figures] if round_ else []  # the first round warms
    rows = [[name, *(stage.median(list(column)) for column in zip(*found[name], strict=True))] for name in found]
    bare_cpu = rows[0][2]
    stage.table(
        f"Pages, medians of {ROUNDS} interleaved rounds, {CONNECTIONS} connections",
        ["what", "requests/s", "CPU ms/request", "CPU against bare"],
        [[*row, row[2] / bare_cpu] for row in rows],
    )
    for ours, asgi in ((1, 2), (3, 4)):
        ratio_rate, ratio_cpu = rows[ours][1] / rows[asgi][1], rows[asgi][2] / rows[ours][2]
        print(f"{rows[ours][0]}: {ratio_rate:.1f} times the requests a second, CPU a request 1/{ratio_cpu:.1f}")


@contextmanager
def server(kind: str, running: site.Site):
    """(pid, port)"""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    env = os.environ | {"VAR_DIR": str(running.var), "LOG_LEVEL": "ERROR"}
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.server", kind, str(port)], cwd=site.ROOT, env=env)
    try:
        wait_answered(port)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(10)


def wait_answered(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server does not start")


def measured(pid: int, port: int, path: str, session: str) -> tuple[float, float]:
    """(requests a second, CPU ms a request)"""
    began, cpu = time.monotonic(), stage.cpu_s(pid)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        counts = list(pool.map(lambda _: keep_asking(port, path, session, began + ROUND_S), range(CONNECTIONS)))
    return sum(counts) / (time.monotonic() - began), 1000 * (stage.cpu_s(pid) - cpu) / sum(counts)


def keep_asking(port: int, path: str, session: str, until: float) -> int:
    http, count = HTTPConnection("127.0.0.1", port, timeout=30), 0
    while time.monotonic() < until:
        http.request("GET", path, headers={"Cookie": f"session={session}"})
        answer = http.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        count += 1
    http.close()
    return count
