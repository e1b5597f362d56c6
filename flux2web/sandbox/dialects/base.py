"""A counter at which one vendor's customers are served: the order of events is the same at all five."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..checks import Wrong
from ..store import Order, Store, Task
from ..studio import EARLY_WAIT_S, Studio, with_wishes
from ..wire import BODY_BYTES, Answer, Call, Unreadable, html_answer, json_answer
from ..worker import Staff

KEY = "sandbox"
BUSY_TIMES, BUSY_WAIT_S = 2, 2
BAD_LOOKS = 3


class Refused(Exception):
    """A readable no. `code` is the envelope's; the dialect decides what HTTP status goes with it."""

    def __init__(self, code: int, message: str = "", *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.retry_after_s = code, message, retry_after_s

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return () if self.retry_after_s is None else (("Retry-After", str(self.retry_after_s)),)


@dataclass(frozen=True)
class Route:
    method: str
    serve: Callable[[Call], Answer]


class Dialect:
    """One vendor. A subclass says where its doors are and how it speaks; this class says what happens behind them."""

    slug: str
    messages: Mapping[int, str]  # what the vendor says to a code where nothing closer is known
    closed_code = 503
    wrong_code = 400
    body_bytes = BODY_BYTES
    retry_waits_s: tuple[float, ...] = (30.0, 120.0)  # before each further callback, at the vendor's own pace
    running_words: tuple[str, ...]

    def __init__(self, studio: Studio, staff: Staff) -> None:
        self.studio, self.staff = studio, staff

    # --- a vendor's own ---------------------------------------------------------------------------------------------------

    def route(self, path: str) -> Route | None:
        raise NotImplementedError

    def has_key(self, call: Call) -> bool:
        scheme, _, key = call.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and is_key(key)

    def read_order(self, request: Any) -> Order:
        """The order in a create's body, wishes not yet read; raises `Wrong`."""
        raise NotImplementedError

    def new_id(self, order: Order, request: Any) -> str:
        raise NotImplementedError

    def accepted(self, task: Task) -> Answer:
        raise NotImplementedError

    def view(self, task: Task) -> Answer:
        raise NotImplementedError

    def callback_body(self, task: Task) -> Any:
        raise NotImplementedError

    def refusal(self, refused: Refused) -> Answer:
        raise NotImplementedError

    # --- the same for all -------------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        return self.studio.store

    def answer(self, call: Call) -> Answer:
        try:
            return self._served(call)
        except Refused as refused:
            return self.refusal(refused)
        except Unreadable as unreadable:
            return self.refusal(Refused(unreadable.status, unreadable.text))
        except Wrong as wrong:
            return self.refusal(Refused(self.wrong_code, str(wrong)))

    def _served(self, call: Call) -> Answer:
        route = self.route(call.path)
        if route is None:
            raise Refused(404)
        if route.method != call.method:
            raise Refused(405)
        if not self.has_key(call):
            raise Refused(401)
        return route.serve(call)

    def create(self, call: Call) -> Answer:
        request = call.json(self.body_bytes)
        order = with_wishes(self.read_order(request))
        if "html" in order.wishes:
            return html_answer(502, "502 Bad Gateway", "<hr><center>nginx</center>")
        self._refuse_if_asked(order)
        task = self.studio.accept(self.slug, self.new_id(order, request), order, request, call.origin)
        self.staff.wake()
        if "early" in order.wishes:
            self.staff.wait_for(lambda: self._has_rung(task), EARLY_WAIT_S)
        answer = self.accepted(task)
        return cut_off(answer) if "lost" in order.wishes else answer

    def _refuse_if_asked(self, order: Order) -> None:
        for wish, code in (("broke", 402), ("closed", self.closed_code), ("refuse", 500)):
            if wish in order.wishes:
                raise Refused(code)
        if "busy" in order.wishes and self.studio.times_refused(self.slug, order.prompt) < BUSY_TIMES:
            raise Refused(429, retry_after_s=BUSY_WAIT_S)

    def _has_rung(self, task: Task) -> bool:
        """The first callback is out; without one: the task has ended."""
        now = self.store.task(self.slug, task.id)
        if now is None or not task.callbacks_left:
            return now is None or now.is_done or now.failure == "stuck"
        return now.callbacks_left < task.callbacks_left or now.callback_tries > 0

    def status(self, task_id: str, *, unknown: Refused) -> Answer:
        task = self.store.task(self.slug, task_id)
        if task is None:
            raise unknown
        if "badjson" in task.order.wishes and self.store.look(task) <= BAD_LOOKS:
            return html_answer(200, "Just a moment...", "Checking your browser.")
        return self.view(task)

    def word(self, task: Task, *, success: str, failure: str) -> str:
        """The state in the vendor's words: running ones pass in their order as time goes by."""
        if task.is_done:
            return failure if task.failure else success
        return self.running_words[min(len(self.running_words) - 1, int(task.progress * len(self.running_words)))]


def is_key(text: str) -> bool:
    return hmac.compare_digest(text.strip().encode(), KEY.encode())


def cut_off(answer: Answer) -> Answer:
    """Half of it, with the whole's length promised: the reader knows that something is missing."""
    half = len(answer.body) // 2
    return replace(answer, body=answer.body[:half], missing_bytes=len(answer.body) - half)


def envelope(code: int, text_name: str, text: str, data: Any, *, status: int = 200, **more: Any) -> Answer:
    return json_answer(status, {"code": code, text_name: text, "data": data}, **more)


def ms(time_s: float | None) -> int | None:
    return None if time_s is None else int(time_s * 1000)
