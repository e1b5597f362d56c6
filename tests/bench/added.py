"""Time added to a picture: from the POST sent to the card that is done, beyond the provider's own 200 ms."""

from __future__ import annotations

import itertools
import queue
import re
import secrets
import threading
import time

import httpx

from ..site import Person, Site
from ..stream import Stream
from . import stage

WORK_S = 0.2
CASES = [(1, 12, 100), (32, 8, 250)]  # in flight, presses each, target for p50 in ms
ROUNDS = 3
NEW_CARD = re.compile(r'<article[^>]*data-task="(\d+)"')
DONE = re.compile(rb'data-task="(\d+)" data-state="(done|failed|cancelled)"')


class Ear:
    """Hears the team's stream on a thread and notes when each task was done."""

    def __init__(self, url: str, cookies: dict[str, str]) -> None:
        self._stream, self._ends, self._changed = Stream(url, cookies), {}, threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while block := self._stream.next(3600):
            found = DONE.search(block)
            if found:
                with self._changed:
                    self._ends[int(found[1])] = (time.monotonic(), found[2])
                    self._changed.notify_all()

    def done_at(self, task_id: int) -> float:
        with self._changed:
            assert self._changed.wait_for(lambda: task_id in self._ends, 120), f"task {task_id} is never done"
        at, state = self._ends[task_id]
        assert state == b"done", state
        return at


def press(http: httpx.Client, site: Site, token: str) -> tuple[float, float, int]:
    """(when sent, when answered, task id) of one press as HTMX sends it."""
    asked = {"prompt": "A harbour at dawn", "family": "pro", "aspect_ratio": "1:1", "resolution": "1K", "count": "1"}
    data = asked | {"provider": "revid", "key": secrets.token_urlsafe(16), "csrfmiddlewaretoken": token}
    sent_at = time.monotonic()
    answer = http.post(f"{site.url}/t/north/tasks/", data=data, headers={"HX-Request": "true", "Referer": site.url})
    assert answer.status_code == 200, answer.text[:500]
    return sent_at, time.monotonic(), int(NEW_CARD.search(answer.text)[1])


def one_case(site: Site, person: Person, ear: Ear, in_flight: int, presses: int) -> list[tuple[float, float]]:
    """(added ms, of which until the answer to the press) for each picture, with so many people pressing without pause."""
    found: queue.SimpleQueue[tuple[float, float]] = queue.SimpleQueue()
    token = person.fields("/t/north/")["csrfmiddlewaretoken"]

    def someone() -> None:
        with httpx.Client(cookies=dict(person.http.cookies), timeout=60, trust_env=False) as http:
            for _ in range(presses):
                sent_at, answered_at, task_id = press(http, site, token)
                added_s = ear.done_at(task_id) - sent_at - WORK_S
                found.put((1000 * added_s, 1000 * (answered_at - sent_at)))

    people = [threading.Thread(target=someone) for _ in range(in_flight)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    return [found.get() for _ in range(found.qsize())]


def main() -> None:
    rows = []
    with stage.playing(stage.RingingPeer(WORK_S)) as (site, person):
        ear = Ear(site.url, dict(person.http.cookies))
        one_case(site, person, ear, 4, 3)  # warm
        added: dict[int, list] = {in_flight: [] for in_flight, _, _ in CASES}
        cpu: dict[int, float] = dict.fromkeys(added, 0.0)
        for _, (in_flight, presses, _) in itertools.product(range(ROUNDS), CASES):
            before = stage.cpu_s(site.process.pid)
            added[in_flight] += one_case(site, person, ear, in_flight, presses)
            cpu[in_flight] += stage.cpu_s(site.process.pid) - before
    for in_flight, _, target in CASES:
        times, answers = zip(*added[in_flight], strict=True)
        row = [in_flight, len(times), stage.percentile(times, 50), stage.percentile(times, 99), f"<= {target}"]
        rows.append([*row, stage.median(answers), 1000 * cpu[in_flight] / len(times)])
    head = ["in flight", "n", "added p50 ms", "p99 ms", "target p50", "press answered p50 ms", "CPU ms a picture"]
    stage.table("From the press to the finished card, beyond the provider's 200 ms", head, rows)
