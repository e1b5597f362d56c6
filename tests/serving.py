"""The real site on a real socket, in a thread of the test, on the test's own database (so: transaction=True).

site() has pages, hooks, streams and sandbox; site(working=True) also workers, clock and pretend providers, so that
tasks get done:

    with serving.site() as url:
        httpx.get(url, cookies=serving.cookies(client_for(ana)))
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.test import Client, override_settings

from flux2web import accounts, serve
from flux2web.asgi import Site

from . import brokers, factories

START_S, STOP_S = 10, 5
QUICK = {"EMBEDDED": True, "SANDBOX_S": (0.2, 0.4), "CLOCK_TICK_S": 0.2, "CLOCK_RESEND_S": 1, "LOOK_SCALE": 0.2}


class Server(serve.Server):
    def watch(self) -> None:
        """A stop that hangs must not take the test run with it; `site` notices."""


@contextmanager
def site(*, working: bool = False, **given: Any) -> Iterator[str]:
    """Serve until the block ends; gives the address. `given` are settings for that long."""
    sock = serve.bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    with ExitStack() as stack:
        var = Path(stack.enter_context(TemporaryDirectory()))  # the sandbox's memory: no test inherits another's tasks
        usual = {
            "PUBLIC_URL": url,
            "VAR_DIR": var,
            "WHITENOISE_USE_FINDERS": True,
            "STATIC_ROOT": None,
            "REDIS_URL": "",
        }
        stack.enter_context(override_settings(**usual | (QUICK if working else {}) | given))
        app = Site(get_wsgi_application())
        server = Server(serve.config(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="site", daemon=True)
        stack.callback(_stop, server, thread, app)
        thread.start()
        _wait(lambda: server.started, START_S, "the site does not start")
        if working:
            stack.enter_context(_engine(url))
        yield url


def _stop(server: Server, thread: threading.Thread, app: Site) -> None:
    server.should_exit = True
    thread.join(STOP_S)
    assert not thread.is_alive(), "the site does not stop"
    app.close()


@contextmanager
def _engine(url: str) -> Iterator[None]:
    """Workers and clock as `up` has them, on a broker of their own, and the five pretend providers."""
    factories.make_prices()
    accounts.seed_sandbox(url)
    with override_settings(SANDBOX=True), brokers.playing(brokers.make("embedded")) as broker:
        engine = serve.Engine(broker)
        engine.start()
        try:
            yield
        finally:
            engine.stop()


def _wait(true: Callable[[], object], limit_s: float, why: str) -> None:
    until = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < until, why
        time.sleep(0.005)


def cookies(client: Client) -> dict[str, str]:
    """The session of a Django test client, for httpx or a browser."""
    return {settings.SESSION_COOKIE_NAME: client.cookies[settings.SESSION_COOKIE_NAME].value}


class Stream:
    """One open page's /t/<team>/live/, without a thread of its own."""

    def __init__(self, url: str, cookies: dict[str, str], team: str = "north") -> None:
        parts = urlsplit(url)
        self.sock = socket.create_connection((parts.hostname, parts.port), timeout=10)
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        self.sock.sendall(f"GET /t/{team}/live/ HTTP/1.1\r\nHost: {parts.netloc}\r\nCookie: {cookie}\r\n\r\n".encode())
        self._wire = b""  # as it came
        self._text = b""  # without the framing of chunks
        self.head = self._up_to(b"\r\n\r\n", 10)
        self.status = int(self.head.split(b" ", 2)[1])

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def next(self, timeout_s: float = 5) -> bytes:
        """The next block as it came: an event, or a ping. b"" once the stream has ended; TimeoutError: nothing came."""
        until = time.monotonic() + timeout_s
        while b"\n\n" not in self._text:
            size = self._up_to(b"\r\n", until - time.monotonic())
            if not size or not int(size, 16):
                return b""
            self._text += self._take(int(size, 16) + 2, until - time.monotonic())[:-2]
        block, _, self._text = self._text.partition(b"\n\n")
        return block

    def hear(self, name: str, timeout_s: float = 5) -> bytes:
        """The next event of this name; others are passed over."""
        until = time.monotonic() + timeout_s
        while block := self.next(max(0.01, until - time.monotonic())):
            if block.startswith(f"event: {name}\n".encode()):
                return block
        raise AssertionError(f"the stream ended before {name!r}")

    def ended(self, timeout_s: float = 5) -> bool:
        """Whether the server ends it within this time, whatever comes before."""
        until = time.monotonic() + timeout_s
        try:
            while self.next(max(0.01, until - time.monotonic())):
                pass
        except TimeoutError:
            return False
        return True

    def all_that_came(self) -> bytes:
        """Of an answer that is no stream: the whole of it, until the server closes. Without its date."""
        while self._more(5):
            pass
        return re.sub(rb"date: [^\r]*", b"", self.head) + self._wire

    def is_silent(self, for_s: float = 0.3) -> bool:
        try:
            return not self.next(for_s)
        except TimeoutError:
            return True

    def _up_to(self, mark: bytes, timeout_s: float) -> bytes:
        while mark not in self._wire:
            if not self._more(timeout_s):
                return b""
        found, _, self._wire = self._wire.partition(mark)
        return found

    def _take(self, size: int, timeout_s: float) -> bytes:
        while len(self._wire) < size and self._more(timeout_s):
            pass
        taken, self._wire = self._wire[:size], self._wire[size:]
        return taken

    def _more(self, timeout_s: float) -> bool:
        self.sock.settimeout(max(0.001, timeout_s))
        came = self.sock.recv(65536)
        self._wire += came
        return bool(came)
