"""Serving and stopping: our server ends its streams itself, and the embedded shape runs workers and clock beside it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import dramatiq
import structlog
import uvicorn
from django.conf import settings

from .clock import Clock
from .live import hub

log = structlog.get_logger(__name__)
STOP_S = 4.5  # the whole stop; then out, whatever hangs
REQUESTS_END_S = 1


class Server(uvicorn.Server):
    """uvicorn waits for open streams for ever, and tells the application only after that: so we end them first.

    `before_stop` runs while pages, hooks and the sandbox are still answered.
    """

    def __init__(self, config: uvicorn.Config, before_stop: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._before_stop = before_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A stop as told is a success: uvicorn would raise the signal again once it has stopped."""
        self.force_exit = self.should_exit  # asked twice: do not wait for requests
        self.should_exit = True

    def watch(self) -> None:
        """From here on this process has STOP_S."""
        watchdog = threading.Timer(STOP_S, os._exit, args=(0,))
        watchdog.daemon = True
        watchdog.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.watch()
        await asyncio.get_running_loop().run_in_executor(None, self._before_stop)
        await hub.close()
        await super().shutdown(sockets)


def bind(host: str, port: int | None) -> socket.socket:
    """The asked port, or the first free one from 8000 on."""
    for candidate in [port] if port is not None else range(8000, 8100):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, candidate))
            sock.listen(1024)
        except OSError:
            sock.close()
            continue
        return sock
    raise OSError(f"no free port on {host}: another program uses {port or '8000 to 8099'}")


def config(app: Any = "flux2web.asgi:application") -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=REQUESTS_END_S,
        timeout_keep_alive=30,
    )


def run(sock: socket.socket, *, before_stop: Callable[[], None] = lambda: None) -> None:
    """Serve until a signal; returns within STOP_S of it."""
    Server(config(), before_stop).run(sockets=[sock])


class Engine:
    """Workers and clock of the embedded shape, in this process: one Dramatiq worker per queue, so none starves another."""

    def __init__(self, broker: dramatiq.Broker | None = None) -> None:
        self._broker = broker or dramatiq.get_broker()
        self._stop = threading.Event()
        self._workers: list[dramatiq.Worker] = []
        self._clock = threading.Thread(target=Clock().run, args=(self._stop,), name="clock", daemon=True)

    def start(self) -> None:
        # Without this signal an in-process worker has no time limits (checked with Dramatiq 2.2.1).
        self._broker.emit_after("process_boot")
        for queue, threads in settings.WORKER_THREADS.items():
            worker = dramatiq.Worker(self._broker, queues={queue}, worker_threads=threads, worker_timeout=1000)
            worker.start()
            self._workers.append(worker)
        self._clock.start()

    def stop(self) -> None:
        """No new claims; what is under way gets CREATE_GRACE_S. Rows of what is not done by then fall due again."""
        self._stop.set()
        stops = [threading.Thread(target=self._stop_worker, args=(worker,), daemon=True) for worker in self._workers]
        for stop in stops:
            stop.start()
        for stop in stops:
            stop.join(settings.CREATE_GRACE_S)

    def _stop_worker(self, worker: Any) -> None:
        worker.stop(timeout=settings.CREATE_GRACE_S * 1000)
