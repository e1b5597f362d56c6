"""Flux2API. All facts: flux2api.com/docs (flux2api.com/docs, 2026-11), which is one page."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from flux2web.providers import wire
from flux2web.providers.base import Accepted, Account, Capabilities, PollPlan, Report, Request, Throttle

CREATE_PATH = "/v1/generate"
STATUS_PATH = "/v1/status"

# The page has no failed task. These are the places where others put a reason.
FAIL_MESSAGES = ("error", "error_message", "errorMessage", "fail_reason", "failMsg", "message")
FAIL_CODES = ("error_code", "errorCode", "failCode", "code")  # in the task, or in its `error`

CAPABILITIES = Capabilities(
    families=("pro", "flex"),
    modes=("text-to-image", "image-to-image"),
    aspect_ratios=("1:1", "16:9", "9:16", "4:3", "3:4"),
    auto_ratio=False,
    poll=PollPlan(3, ((0, 3), (60, 10), (180, 15))),  # "every 2-3 seconds", which we do for a minute
    throttle=Throttle(5, 10),  # nothing is told: as the most careful of its kind
)


class Flux2API:
    slug = "flux2api"
    name = "Flux2API"
    base_url = "https://flux2api.com"
    docs_url = "https://flux2api.com/docs"
    options: Mapping[str, tuple[str, ...]] = {}
    balance_unit = ""
    reports_cost = False

    def capabilities(self, account: Account) -> Capabilities:
        return CAPABILITIES

    def submit(self, request: Request, account: Account, callback_url: str | None) -> Accepted:
        wire.check(self, request, account)
        line = wire.Line(self, account, wire.bearer(account), callback_url)
        body = _create(request, callback_url)
        answer = line.ask("POST", CREATE_PATH, json=body, timeout_s=wire.CREATE_TIMEOUT_S)
        return line.accepted(answer, answer.fields.get("task_id"))

    def report(self, upstream_id: str, route: str, account: Account, *, age_s: float = 0.0) -> Report:
        line = wire.Line(self, account, wire.bearer(account))
        answer = line.ask("GET", STATUS_PATH, params={"task_id": upstream_id})
        return line.judge(answer, _seen(answer.fields), upstream_id, age_s=age_s)

    def parse_callback(self, body: bytes) -> str | None:
        return wire.callback_id(body, "task_id", "taskId")  # its callback is not described at all

    def is_signed(self, body: bytes, headers: Mapping[str, str], secret: str) -> bool | None:
        return None

    def balance(self, account: Account) -> Decimal | None:
        return None  # no such call on the page


def _create(request: Request, callback_url: str | None) -> dict[str, Any]:
    pictures = {"images": wire.public_urls(request)} if request.references else {}
    callback = {"callBackUrl": callback_url} if callback_url else {}
    return {
        "model": f"{request.family}-{request.mode}",
        "prompt": request.prompt.strip(),
        **pictures,
        "aspect_ratio": request.aspect_ratio,
        "resolution": request.resolution,
        **callback,
    }


def _seen(data: Mapping[str, Any]) -> wire.Seen:
    return wire.Seen(
        id=data.get("task_id"),
        state=data.get("status"),
        urls=wire.unfold(data.get("response")),
        fail_code=_first(data, FAIL_CODES) or _first(wire.as_object(data.get("error")), FAIL_CODES),
        fail_message=_first(data, FAIL_MESSAGES),
    )


def _first(data: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((text for name in names if (text := wire.said(data.get(name)))), "")
