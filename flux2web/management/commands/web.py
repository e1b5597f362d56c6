"""One web process of the scaled-out shape."""

import os

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from flux2web import serve


class Command(BaseCommand):
    help = "Serve pages, callbacks and live events. Run any number; beside them `rundramatiq` and `clock`."

    def add_arguments(self, parser):
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *, host: str, port: int, **_):
        if not settings.PUBLIC_URL:
            raise CommandError("Set PUBLIC_URL: the address at which people and providers reach this site.")
        serve.run(serve.bind(host, port))
        os._exit(0)
