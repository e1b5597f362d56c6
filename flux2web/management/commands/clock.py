"""The clock of the scaled-out shape."""

import signal
import threading

from django.core.management import BaseCommand

from flux2web.clock import Clock


class Command(BaseCommand):
    help = "Find tasks whose time has come. Run any number: a look is claimed by one."

    def handle(self, **_):
        stop = threading.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stop.set())
        Clock().run(stop)
