"""One dispatcher in front of everything: the live stream is raw ASGI, the rest is Django's WSGI handler on small pools.

Why not Django's own ASGI handler: it costs 5 to 12 times the CPU of the WSGI handler for the same page (measured
2026-11). Why several pools: a create at the sandbox that fetches references from this very server, or a storm of
callbacks, must not take the threads that pages need. Bodies are spooled, with limits, before they take a thread, and
answers as they leave it: no client, however slow, holds a thread.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import IO, Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flux2web.settings")

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application

django_pages = get_wsgi_application()

from .live import Receive, Scope, Send, hub, plain_answer  # noqa: E402 - needs Django's registry
from .sandbox import make_app  # noqa: E402

LIVE_PATH = re.compile(r"^/t/([-\w]+)/live/$")
PAGE_THREADS, DOOR_THREADS, SANDBOX_THREADS = 8, 6, 8
SPOOL_MEMORY_BYTES = 256 * 1024
CHUNK_BYTES = 64 * 1024
PROXY_HEADERS = (b"forwarded", b"via", b"x-real-ip")  # and all that begin with x-forwarded-
STALLED_S = 120  # a client that takes no byte for so long is cut off
Environ = dict[str, Any]
WSGIApp = Callable[[Environ, Any], Iterable[bytes]]


class Site:
    """The whole site as one ASGI application."""

    def __init__(self, pages: WSGIHandler = django_pages) -> None:
        self._pages = Pool(pages, PAGE_THREADS, "page")
        self._doors = Pool(pages, DOOR_THREADS, "door")  # callbacks, hosted references, health
        self._sandbox = Sandbox() if settings.EMBEDDED else None  # its state belongs to one process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1000})
        stream = LIVE_PATH.match(scope["path"])
        if stream:
            return await hub.serve(scope, receive, send, stream[1])
        await self._page(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The server's start and stop."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                hub.start(asyncio.get_running_loop())
                await send({"type": "lifespan.startup.complete"})
            else:
                await hub.close()
                if self._sandbox:
                    self._sandbox.close()
                return await send({"type": "lifespan.shutdown.complete"})

    def close(self) -> None:
        """End the threads, for whoever makes more than one site in a process."""
        for pool in (self._pages, self._doors, self._sandbox and self._sandbox.pool):
            if pool:
                pool.close()

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        pool, limit_bytes = self._pool(scope)
        with tempfile.SpooledTemporaryFile(SPOOL_MEMORY_BYTES) as body:
            refused = await _spool(scope, receive, body, limit_bytes)
            if refused:
                return await plain_answer(send, *refused)
            await pool.answer(environ_of(scope, body), send)

    def _pool(self, scope: Scope) -> tuple[Pool, int]:
        path = scope["path"]
        if self._sandbox and path.startswith("/sandbox/") and is_from_here(scope):
            return self._sandbox.pool, settings.BODY_MAX_BYTES
        if path.startswith("/hooks/"):
            return self._doors, settings.CALLBACK_MAX_BYTES
        if path.startswith(("/i/", "/health/")):
            return self._doors, 0
        return self._pages, settings.BODY_MAX_BYTES


class Sandbox:
    """The pretend providers, on threads of their own."""

    def __init__(self) -> None:
        min_s, max_s = settings.SANDBOX_S
        self._app = make_app(settings.VAR_DIR, min_s=min_s, max_s=max_s)
        self.pool = Pool(self._app, SANDBOX_THREADS, "sandbox")
        self.close = self._app.close


def is_from_here(scope: Scope) -> bool:
    """Whether this very machine asks, not through a proxy: the sandbox fetches whatever address it is given, for a key
    that everybody knows."""
    client = scope.get("client") or ("", 0)
    forwarded = any(name.startswith(b"x-forwarded-") or name in PROXY_HEADERS for name, _ in scope["headers"])
    return client[0] in ("127.0.0.1", "::1") and not forwarded


Refused = tuple[int, bytes]
TOO_LARGE = (413, b"This is more than can be taken at once. Send smaller or fewer files.")
TOO_SLOW = (408, b"The request took too long to arrive. Try again.")


async def _spool(scope: Scope, receive: Receive, body: IO[bytes], limit_bytes: int) -> Refused | None:
    """Take the whole body, within size and time. None when it is all there."""
    if _declared_bytes(scope) > limit_bytes:
        return TOO_LARGE
    try:
        async with asyncio.timeout(settings.BODY_MAX_S):
            return await _take(receive, body, limit_bytes)
    except TimeoutError:
        return TOO_SLOW


async def _take(receive: Receive, body: IO[bytes], limit_bytes: int) -> Refused | None:
    size_bytes, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return TOO_SLOW
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            return TOO_LARGE
        body.write(chunk)
    return None


def _declared_bytes(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


# --- From ASGI to WSGI and back ------------------------------------------------------------------------------------------


def environ_of(scope: Scope, body: IO[bytes]) -> Environ:
    """The request as WSGI has it. The length is that of the bytes that came: a chunked body declares none."""
    (server, port), (client, _) = scope.get("server") or ("", 0), scope.get("client") or ("", 0)
    size_bytes = body.tell()
    body.seek(0)
    return _headers(scope) | {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin1"),
        "QUERY_STRING": scope["query_string"].decode("latin1"),
        "CONTENT_LENGTH": str(size_bytes),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server,
        "SERVER_PORT": str(port or 0),
        "REMOTE_ADDR": client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def _headers(scope: Scope) -> Environ:
    """A name with an underscore would pass for one with a dash, past a proxy that sets or strips that: left out."""
    headers: Environ = {}
    for name, value in scope["headers"]:
        if b"_" in name:
            continue
        key = name.decode("latin1").upper().replace("-", "_")
        key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
        text = value.decode("latin1")
        between = "; " if key == "HTTP_COOKIE" else ","
        headers[key] = f"{headers[key]}{between}{text}" if key in headers else text
    return headers


class Pool:
    """A WSGI application on a few threads of its own."""

    def __init__(self, app: WSGIApp, threads: int, name: str) -> None:
        self._app = app
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def close(self) -> None:
        self._threads.shutdown()

    async def answer(self, environ: Environ, send: Send) -> None:
        loop = asyncio.get_running_loop()
        with Outbox(loop) as outbox:
            work = loop.run_in_executor(self._threads, copy_context().run, self._work, environ, outbox)
            await asyncio.gather(outbox.send_to(send), work)

    def _work(self, environ: Environ, outbox: Outbox) -> None:
        """On a thread: run the application, never waiting for its client."""
        try:
            chunks = self._app(environ, outbox.start)
            try:
                for chunk in chunks:
                    outbox.write(chunk)
            finally:
                getattr(chunks, "close", lambda: None)()
        except BaseException:
            outbox.end(whole=False)
            raise
        outbox.end(whole=True)


class Outbox:
    """An answer between the thread that writes it and the loop that sends it, in memory while it is small."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._bell, self._lock = loop, asyncio.Event(), threading.Lock()
        self._file = tempfile.SpooledTemporaryFile(SPOOL_MEMORY_BYTES)  # noqa: SIM115 - closed by __exit__
        self._written_bytes = self._rung_bytes = self._sent_bytes = 0
        self._start: dict[str, Any] = {}
        self._ended, self._whole, self._closed = False, True, False

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            self._file.close()

    # --- On the thread

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], None]:
        pairs = [(name.lower().encode("latin1"), value.strip().encode("latin1")) for name, value in headers]
        self._start = {"type": "http.response.start", "status": int(status[:3]), "headers": pairs}
        return self.write

    def write(self, chunk: bytes) -> None:
        with self._lock:
            if self._closed:  # nobody waits for it any more
                return
            self._file.seek(self._written_bytes)
            self._written_bytes += self._file.write(chunk)
        if self._written_bytes - self._rung_bytes >= CHUNK_BYTES:
            self._rung_bytes = self._written_bytes
            self._ring()

    def end(self, *, whole: bool) -> None:
        self._ended, self._whole = True, whole
        self._ring()

    def _ring(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._bell.set)

    # --- On the loop

    async def send_to(self, send: Send) -> None:
        """All of it. Where the application broke off, the end is not sent, so that nobody takes a part for the whole."""
        ended = False
        while not ended:
            await self._bell.wait()
            self._bell.clear()
            ended = self._ended
            if self._start:
                await send(self._start)
                self._start = {}
            while chunk := self._read():
                if not await _taken(send, chunk):
                    return
        if self._whole:
            await send({"type": "http.response.body", "body": b""})

    def _read(self) -> bytes:
        with self._lock:
            self._file.seek(self._sent_bytes)
            chunk = self._file.read(CHUNK_BYTES)
        self._sent_bytes += len(chunk)
        return chunk


async def _taken(send: Send, chunk: bytes) -> bool:
    """False: this client has stopped reading, let it go."""
    try:
        async with asyncio.timeout(STALLED_S):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except TimeoutError:
        return False
    return True


application = Site()
