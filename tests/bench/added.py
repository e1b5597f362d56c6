"""Time added to a picture: from the POST sent to the card that is done, beyond the provider's own.

People press without pause, each as soon as the last picture is there: 32 of them at a provider of 200 ms ask for more
than one process has CPU for, and the figure is then the queue. The third case is what 32 in flight are in life.
"""

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

CASES = [
    (1, 0.2, 12, 100),
    (32, 0.2, 6, 250),
    (32, 6.0, 2, 250),
]  # in flight, provider's s, presses each, target p50 ms
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


def press(http: httpx.Client, site: Site, token: str, count: int = 1) -> tuple[float, float, int]:
    """(when sent, when answered, a task's id) of one press as HTMX sends it."""
    asked = {"prompt": "A harbour at dawn", "family": "pro", "aspect_ratio": "1:1", "resolution": "1K"}
    asked |= {"count": str(count), "again": "1"}  # the same picture over and over is what is wanted here
    data = asked | {"provider": "revid", "key": secrets.token_urlsafe(16), "csrfmiddlewaretoken": token}
    sent_at = time.monotonic()
    answer = http.post(f"{site.url}/t/north/tasks/", data=data, headers={"HX-Request": "true", "Referer": site.url})
    assert answer.status_code == 200, answer.text[:500]
    return sent_at, time.monotonic(), int(NEW_CARD.search(answer.text)[1])


def one_case(
    site: Site, person: Person, ear: Ear, in_flight: int, work_s: float, presses: int
) -> list[tuple[float, float]]:
    """(added ms, of which until the answer to the press) for each picture, with so many people pressing without pause."""
    found: queue.SimpleQueue[tuple[float, float]] = queue.SimpleQueue()
    token = person.fields("/t/north/")["csrfmiddlewaretoken"]

    def someone(number: int) -> None:
        time.sleep(work_s * number / in_flight)  # not all at the same moment
        with httpx.Client(cookies=dict(person.http.cookies), timeout=60, trust_env=False) as http:
            for _ in range(presses):
                sent_at, answered_at, task_id = press(http, site, token)
                added_s = ear.done_at(task_id) - sent_at - work_s
                found.put((1000 * added_s, 1000 * (answered_at - sent_at)))

    people = [threading.Thread(target=someone, args=(number,)) for number in range(in_flight)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    return [found.get() for _ in range(found.qsize())]


def main() -> None:
    provider, rows, yards = stage.RingingPeer(0.2), [], []
    with stage.playing(provider) as (site, person):
        ear = Ear(site.url, dict(person.http.cookies))
        one_case(site, person, ear, 4, provider.work_s, 3)  # warm
        added: dict[tuple, list] = {case: [] for case in CASES}
        cpu_s: dict[tuple, float] = dict.fromkeys(CASES, 0.0)
        for _, case in itertools.product(range(ROUNDS), CASES):
            in_flight, provider.work_s, presses, _ = case
            yards.append(stage.yardstick_ms(site.url))
            before = stage.cpu_s(site.process.pid)
            added[case] += one_case(site, person, ear, in_flight, provider.work_s, presses)
            cpu_s[case] += stage.cpu_s(site.process.pid) - before
    for case, figures in added.items():
        in_flight, work_s, _, target = case
        times, answers = zip(*figures, strict=True)
        row = [in_flight, work_s, len(times), stage.percentile(times, 50), stage.percentile(times, 99), f"<= {target}"]
        rows.append([*row, stage.median(answers), 1000 * cpu_s[case] / len(times)])
    head = [
        "in flight",
        "provider s",
        "n",
        "added p50 ms",
        "p99 ms",
        "target p50",
        "press answered p50 ms",
        "CPU ms each",
    ]
    stage.table("From the press to the finished card, beyond the provider's own time", head, rows)
    print(f"smallest answer of the same server meanwhile: {stage.median(yards):.1f} ms")
