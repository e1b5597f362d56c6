"""The pretend studio's staff: daemon threads that fetch references, draw, and ring back. None of them answers a call."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable

from PIL import Image

from .drawing import draw
from .outgoing import Unreachable, fetch, post
from .pictures import NotAPicture, decoded, encoded, size_px
from .store import Store, Task
from .wishes import without_wishes

log = logging.getLogger(__name__)

DRAWERS, RINGERS = 4, 4
IDLE_S = 0.5

Ring = Callable[[Task], tuple[str, bytes]]  # where to, and what
Waits = Callable[[Task], tuple[float, ...]]  # seconds before each further try


class Staff:
    """Works from the moment it is made until `close`. `wake` tells it that there is something new."""

    def __init__(self, store: Store, ring: Ring, waits_s: Waits) -> None:
        self._store, self._ring, self._waits_s = store, ring, waits_s
        self._news = threading.Condition()
        self._stopped = False
        self._easel = threading.Semaphore(1)  # one picture at a time: the app lives in the same process
        self._threads = [self._hire(self._draw_one, f"sandbox-draw-{i}") for i in range(DRAWERS)]
        self._threads += [self._hire(self._ring_one, f"sandbox-ring-{i}") for i in range(RINGERS)]

    def wake(self) -> None:
        with self._news:
            self._news.notify_all()

    def wait_for(self, is_true: Callable[[], bool], timeout_s: float) -> None:
        """Returns when it is true, when time is up, or when the app closes."""
        with self._news:
            self._news.wait_for(lambda: self._stopped or is_true(), timeout_s)

    def close(self, within_s: float) -> None:
        """Ends what can end in that time; a thread still out on the network is a daemon and is left behind."""
        self._stopped = True
        self.wake()
        deadline = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _hire(self, work: Callable[[], bool], name: str) -> threading.Thread:
        thread = threading.Thread(target=self._work, args=(work,), name=name, daemon=True)
        thread.start()
        return thread

    def _work(self, work: Callable[[], bool]) -> None:
        while not self._stopped:
            try:
                if not work():
                    self._rest()
            except Exception:
                if self._stopped:  # the store was closed while this thread was out on the network
                    return
                log.exception("sandbox: a worker stumbled")
                time.sleep(IDLE_S)

    def _rest(self) -> None:
        due_at = self._store.next_callback_at()
        wait_s = IDLE_S if due_at is None else min(IDLE_S, max(0.01, due_at - time.time()))
        with self._news:
            if not self._stopped:
                self._news.wait(wait_s)

    # --- drawing ------------------------------------------------------------------------------------------------------

    def _draw_one(self) -> bool:
        task = self._store.claim_undrawn()
        if task is None:
            return False
        try:
            self._complete(task)
        except Exception:
            log.exception("sandbox: task %s could not be drawn", task.id)
            self._store.finish(task, failure="generation")
        finally:
            self._store.release_undrawn(task)
        self.wake()
        return True

    def _complete(self, task: Task) -> None:
        try:
            references = [self._reference(reference) for reference in task.order.references]
        except (Unreachable, NotAPicture):
            self._store.finish(task, failure="download")
            return
        with self._easel:
            picture = draw(without_wishes(task.order.prompt), task.seed, references, size_px(task.order, references))
        name = self._keep(task, encoded(picture, task.order.output_format))
        self._store.finish(task, file=name, size_mp=picture.width * picture.height / 1_000_000)
        self._store.prune()

    def _reference(self, reference: str) -> Image.Image:
        if reference.startswith(("http://", "https://")):
            return decoded(fetch(reference))
        path = self._store.files / reference
        return decoded(path.read_bytes() if path.exists() else b"")

    def _keep(self, task: Task, content: bytes) -> str:
        name = f"{secrets.token_hex(16)}.{'png' if task.order.output_format == 'png' else 'jpg'}"
        if "gone" not in task.order.wishes:
            self._store.write_file(name, content)
        return name

    # --- callbacks ----------------------------------------------------------------------------------------------------

    def _ring_one(self) -> bool:
        task = self._store.claim_callback()
        if task is None:
            return False
        address, body = self._ring(task)
        waits_s, retry_at = self._waits_s(task), None
        if not post(address, body) and task.callback_tries < len(waits_s):
            retry_at = time.time() + waits_s[task.callback_tries]
        self._store.settle_callback(task, retry_at=retry_at)
        self.wake()
        return True
