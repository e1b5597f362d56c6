"""One dispatcher in front of everything: the live stream is raw ASGI, the rest is Django's WSGI handler on small pools.

Why not Django's own ASGI handler: it costs 5 to 12 times the CPU of the WSGI handler for the same page (measured
2026-11). Why several pools: a create at the sandbox that fetches references from this very server, or a storm of
callbacks, must not take the threads that pages need. Bodies are spooled, with limits, before they take a thread.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from typing import IO, Any
from urllib.parse import quote

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flux2web.settings")

from a2wsgi import WSGIMiddleware
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application

django_pages: Any = get_wsgi_application()  # two libraries name the WSGI types differently

from .live import Receive, Scope, Send, hub, plain_answer  # noqa: E402 - needs Django's registry
from .sandbox import make_app  # noqa: E402

LIVE_PATH = re.compile(r"^/t/([-\w]+)/live/$")
PAGE_THREADS, DOOR_THREADS, SANDBOX_THREADS = 8, 6, 8
SPOOL_MEMORY_BYTES = 256 * 1024
CHUNK_BYTES = 64 * 1024


class Site:
    """The whole site as one ASGI application."""

    def __init__(self, pages: WSGIHandler = django_pages) -> None:
        self._pages = WSGIMiddleware(pages, workers=PAGE_THREADS)
        self._doors = WSGIMiddleware(pages, workers=DOOR_THREADS)  # callbacks, hosted references, health
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
                pool.executor.shutdown()

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        pool, limit_bytes = self._pool(scope)
        # a2wsgi reads the query string as ASCII; a client may send anything.
        scope["query_string"] = quote(scope["query_string"], safe="!#$%&'()*+,/:;=?@[]~").encode()
        with tempfile.SpooledTemporaryFile(SPOOL_MEMORY_BYTES) as body:
            refused = await _spool(scope, receive, body, limit_bytes)
            if refused:
                return await plain_answer(send, *refused)
            body.seek(0)
            await pool(scope, _replay(body, receive), send)  # type: ignore[arg-type]

    def _pool(self, scope: Scope) -> tuple[WSGIMiddleware, int]:
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
        self.pool = WSGIMiddleware(self._app, workers=SANDBOX_THREADS)  # type: ignore[arg-type]
        self.close = self._app.close


def is_from_here(scope: Scope) -> bool:
    """Whether this very machine asks, not through a proxy: the sandbox fetches whatever address it is given, for a key
    that everybody knows."""
    client = scope.get("client") or ("", 0)
    forwarded = any(name in (b"x-forwarded-for", b"forwarded") for name, _ in scope["headers"])
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


def _replay(body: IO[bytes], receive: Receive) -> Receive:
    """The spooled body as if it had just come; after its end, whatever the client does next."""
    done = False

    async def replayed():
        nonlocal done
        if done:
            return await receive()
        chunk = body.read(CHUNK_BYTES)
        done = len(chunk) < CHUNK_BYTES
        return {"type": "http.request", "body": chunk, "more_body": not done}

    return replayed


application = Site()
