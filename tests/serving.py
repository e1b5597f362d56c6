"""The real site on a real socket, in a thread of the test, on the test's own database (so: transaction=True).

site() has pages, hooks, streams and sandbox; site(working=True) also workers, clock and pretend providers, so that
tasks get done:

    with serving.site() as url:
        httpx.get(url, cookies=serving.cookies(client_for(ana)))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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
