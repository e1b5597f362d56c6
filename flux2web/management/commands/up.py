"""The embedded shape: web, actors and clock in one process, one Ctrl-C."""

import os
import socket
import sys

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from flux2web import accounts, lifecycle, serve
from flux2web.models import User
from flux2web.views.setup import setup_path

from .prepare import bring_up_to_date


class Command(BaseCommand):
    help = "Start flux2web on this machine: web, workers and clock in one process."

    def add_arguments(self, parser):
        parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine only)")
        parser.add_argument("--port", type=int, help="port to listen at (default: the first free one from 8000 on)")

    def handle(self, *, host: str, port: int | None, **_):
        if not settings.EMBEDDED:
            raise CommandError("DATABASE_URL is set: start `web`, `rundramatiq` and `clock` instead (README, growing).")
        try:
            sock = serve.bind(host, port)
        except OSError as error:
            raise CommandError(str(error)) from None
        prepare(local_origin(sock))
        lifecycle.wake()
        engine = serve.Engine()
        engine.start()
        self.stdout.write(welcome(), ending="\n\n")
        self.stdout.flush()
        serve.run(sock, before_stop=engine.stop)
        sys.stdout.flush()
        os._exit(0)  # nothing that still hangs in a thread may keep Ctrl-C waiting


def local_origin(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


def prepare(origin: str) -> None:
    """Bring database, static files, prices and accounts up to date. Safe at every start."""
    # The one setting that is known only now: where nothing was said, we are reached at the port we got.
    settings.PUBLIC_URL = settings.PUBLIC_URL or origin
    bring_up_to_date()
    accounts.seed_sandbox(origin)


def welcome() -> str:
    first = not User.objects.exists()
    lines = [f"flux2web is ready: {settings.PUBLIC_URL}{setup_path() if first else '/'}"]
    if accounts.sandbox_on():
        lines.append("Sandbox: five pretend providers draw the pictures. Set a provider's key to make real ones.")
    return "\n".join([*lines, "Ctrl-C stops it."])
