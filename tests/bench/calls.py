"""How many provider calls one worker process holds open at once, and what a call costs it, through httpx.

The provider is a process of its own that answers each look after LATENCY_S; the callers are threads, as Dramatiq's are.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from flux2web import providers
from flux2web.providers.base import Account

from . import stage

LATENCY_S, RUN_S = 2.0, 12.0
ANSWER = json.dumps({"code": 200, "msg": "success", "data": {"taskId": "up-1", "state": "waiting"}}).encode()


def main() -> None:
    with _provider() as url:
        rows = [[callers, *measured(url, callers)] for callers in (8, 64, 300, 600)]
    head = ["open at once", "calls/s", "of N/latency (target 0.8)", "CPU ms a call (target 2)"]
    stage.table(f"Looks at a provider that takes {LATENCY_S:g} s to answer", head, rows)


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


class _provider:
    """A server that only waits, in its own process: its CPU is nobody's."""

    def __enter__(self) -> str:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        return f"http://127.0.0.1:{ours.recv()}"

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def _serve(pipe) -> None:
    asyncio.run(_waiting(pipe))


async def _waiting(pipe) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, backlog=2048)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}\r\n\r\n".encode()
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(LATENCY_S)
            writer.write(head + ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
