"""How many provider calls one worker process holds open at once, and what a call costs it, through httpx.

The provider is a process of its own that answers each call after LATENCY_S. First the callers are threads that do nothing
else, as Dramatiq's are; then the whole way: the embedded site with its own threads, which claims, asks, and writes down what
was said.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from flux2web import providers
from flux2web.providers.base import Account

from ..site import Person, Site
from . import stage
from .added import press

LATENCY_S, RUN_S = 2.0, 12.0
PICTURES = 2_560  # so many that creates go on as long as is measured
WARM_S, WATCH_S = 20.0, 20.0
EAGER = {"DJANGO_SETTINGS_MODULE": "tests.bench.settings_eager"}
THREADS = {"submit": 96, "check": 224}  # as the embedded shape has them


def main() -> None:
    with _provider() as provider:
        rows = [[callers, *measured(provider.url, callers)] for callers in (8, 64, 300, 600)]
        head = ["open at once", "calls/s", "of N/latency (target 0.8)", "CPU ms a call (target 2)"]
        stage.table(f"Looks at a provider that takes {LATENCY_S:g} s to answer", head, rows)
    with _provider() as provider:
        whole_way(provider)


def measured(url: str, callers: int) -> tuple[str, str, str]:
    account, provider = Account(key="k" * 20, base_url=url), providers.get("revid")
    done, lock = [0], threading.Lock()
    ready = threading.Barrier(callers + 1)

    def caller(_: int) -> None:
        provider.report("up-1", "", account, age_s=1)  # connected, imported, warm
        ready.wait()
        while time.monotonic() < until:
            provider.report("up-1", "", account, age_s=1)
            with lock:
                done[0] += 1

    until = time.monotonic() + 10**9
    with ThreadPoolExecutor(callers) as pool:
        waiting = [pool.submit(caller, number) for number in range(callers)]
        ready.wait()
        began, cpu = time.monotonic(), time.process_time()
        until = began + RUN_S
        for each in waiting:
            each.result()
        took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    rate = done[0] / took_s
    return f"{rate:.0f}", f"{rate * LATENCY_S / callers:.2f}", f"{1000 * cpu_s / done[0]:.2f}"


# --- The whole way -------------------------------------------------------------------------------------------------------


def whole_way(provider: _provider) -> None:
    """Creates and looks of a site at work, from its threads to its database and back."""
    with stage.at_work(provider.url, **EAGER) as (site, person):
        site.manage("provider", "set", "revid", "--rate", "10000/1", "--concurrency", "100000")
        queue_up(site, person)
        time.sleep(WARM_S)
        rows = [watched(site, provider)]
    head = ["most open at once", "creates/s", "looks/s", "of N/latency (target 0.8)", "CPU ms a call (target 2)"]
    stage.table(f"Calls of a site with {sum(THREADS.values())} threads for them", head, rows)


def queue_up(site: Site, person: Person) -> None:
    """Pictures are asked for while the provider rests, and then fall due at once."""
    pause = "UPDATE flux2web_provideraccount SET paused_until = {}, pause_kind = {}"
    site.change(pause.format("datetime('now', '+1 day')", "'admin'"))
    token = person.fields("/t/north/")["csrfmiddlewaretoken"]
    with httpx.Client(cookies=dict(person.http.cookies), timeout=60, trust_env=False) as http:
        for _ in range(PICTURES // 8):
            press(http, site, token, 8)
    site.change(pause.format("NULL", "''"))
    site.change("UPDATE flux2web_task SET due_at = datetime('now') WHERE state = 'queued'")


def watched(site: Site, provider: _provider) -> list[object]:
    cpu_s, (was, began) = stage.cpu_s(site.process.pid), (provider.count(), time.monotonic())
    time.sleep(WATCH_S)
    cpu_s, now, took_s = stage.cpu_s(site.process.pid) - cpu_s, provider.count(), time.monotonic() - began
    creates, looks = now.creates - was.creates, now.looks - was.looks
    assert site.states().count("queued"), "the creates were over before it was measured"
    share = (creates + looks) / took_s * LATENCY_S / sum(THREADS.values())
    rates = [f"{calls / took_s:.0f}" for calls in (creates, looks)]
    return [now.most_open, *rates, f"{share:.2f}", f"{1000 * cpu_s / (creates + looks):.2f}"]


# --- The provider --------------------------------------------------------------------------------------------------------


@dataclass
class Count:
    """What the provider has seen: answered creates and looks, and the most calls open at once."""

    creates: int = 0
    looks: int = 0
    open: int = 0
    most_open: int = 0


class _provider:
    """A server that only waits, in its own process: its CPU is nobody's."""

    def __enter__(self) -> _provider:
        self._pipe, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        self.url = f"http://127.0.0.1:{self._pipe.recv()}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def count(self) -> Count:
        self._pipe.send("count")
        return self._pipe.recv()


def _serve(pipe) -> None:
    asyncio.run(_waiting(pipe))


async def _waiting(pipe) -> None:
    count = Count()
    server = await asyncio.start_server(lambda *line: _answer(count, *line), "127.0.0.1", 0, backlog=2048)
    asyncio.get_running_loop().add_reader(pipe.fileno(), lambda: pipe.send((pipe.recv(), count)[1]))
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _answer(count: Count, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(await _said(count, head))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _said(count: Count, head: bytes) -> bytes:
    """Every create is taken, every look finds the picture waiting."""
    asked = re.search(rb"taskId=([\w-]+)", head)
    count.open += 1
    count.most_open = max(count.most_open, count.open)
    await asyncio.sleep(LATENCY_S)
    count.open -= 1
    count.looks, count.creates = count.looks + bool(asked), count.creates + (not asked)
    data = {"taskId": asked[1].decode(), "state": "waiting"} if asked else {"taskId": f"up-{count.creates}"}
    body = json.dumps({"code": 200, "msg": "success", "data": data}).encode()
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
