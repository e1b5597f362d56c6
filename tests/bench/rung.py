"""From a callback's POST to the changed card in the browser, beyond the provider's own status answer; 100 streams open."""

from __future__ import annotations

import re
import selectors
import threading
import time
import urllib.request
from contextlib import ExitStack

import httpx

from .. import peer
from ..stream import Stream
from . import stage
from .added import press

STREAMS, RINGS, LOOK_S, TARGET_MS = 100, 60, 0.05, 25


class SlowToTell(stage.RingingPeer):
    """Never rings by itself; each status answer takes LOOK_S, and how long it really took is noted."""

    def __init__(self) -> None:
        super().__init__(0)
        self.told_s: dict[str, float] = {}
        self.rings: dict[str, str] = {}

    def accept(self, handler: peer.Handler, upstream_id: str) -> None:
        self.rings[upstream_id] = self.creates[-1]["callBackUrl"]
        peer.Peer.accept(self, handler, upstream_id)

    def _look(self, handler: peer.Handler, upstream_id: str) -> None:
        began = time.monotonic()
        time.sleep(LOOK_S)
        super()._look(handler, upstream_id)
        self.told_s[upstream_id] = time.monotonic() - began


def read_and_forget(streams: list[Stream]) -> None:
    """The other browsers: they take what comes."""
    waiting = selectors.DefaultSelector()
    for stream in streams:
        waiting.register(stream.sock, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if not key.fileobj.recv(65536):
                waiting.unregister(key.fileobj)


def main() -> None:
    provider, times, yards = SlowToTell(), [], []
    with stage.playing(provider) as (site, person), ExitStack() as stack:
        cookies = dict(person.http.cookies)
        streams = [stack.enter_context(Stream(site.url, cookies)) for _ in range(STREAMS)]
        threading.Thread(target=read_and_forget, args=(streams[1:],), daemon=True).start()
        token = person.fields("/t/north/")["csrfmiddlewaretoken"]
        with httpx.Client(cookies=cookies, timeout=60, trust_env=False) as http:
            for number in range(RINGS + 5):
                took_ms = one_ring(provider, streams[0], press(http, site, token)[2], number + 1)
                if number >= 5:  # the first ones warm
                    times.append(took_ms)
                    yards.append(stage.yardstick_ms(site.url))
    row = [
        STREAMS,
        RINGS,
        stage.percentile(times, 50),
        stage.percentile(times, 99),
        f"<= {TARGET_MS}",
        stage.median(yards),
    ]
    head = ["streams", "n", "p50 ms", "p99 ms", "target p50", "smallest answer p50 ms"]
    stage.table("From the callback to the changed card, beyond the provider's status answer", head, [row])


def one_ring(provider: SlowToTell, stream: Stream, task_id: int, number: int) -> float:
    upstream_id = f"up-{number}"
    hear(stream, task_id, "running")
    time.sleep(0.05)
    request = urllib.request.Request(provider.rings[upstream_id], provider.callback_body(upstream_id), method="POST")
    provider.jobs[upstream_id] = "success"
    began, heard = time.monotonic(), []
    ear = threading.Thread(target=lambda: heard.append(hear(stream, task_id, "saving|done")))
    ear.start()
    urllib.request.urlopen(request, timeout=10).close()
    ear.join()
    took_s = heard[0] - began - provider.told_s[upstream_id]
    hear(stream, task_id, "done") if not stream.was_done else None
    return 1000 * took_s


def hear(stream: Stream, task_id: int, states: str) -> float:
    while block := stream.next(30):
        found = re.search(rf'data-task="{task_id}" data-state="({states})"'.encode(), block)
        if found:
            stream.was_done = found[1] == b"done"
            return time.monotonic()
    raise AssertionError("the stream ended")
