"""Apixo. Facts: apixo.ai/en/docs/models/flux-2 (apixo.ai/docs) and its other documentation pages, 2026-11."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from flux2web.providers import wire
from flux2web.providers.base import Accepted, Account, Capabilities, PollPlan, Report, Request, Throttle

BALANCE_PATH = "/api/v1/apikeys/current-balance"  # apixo.ai/docs/api-reference/system

CAPABILITIES = Capabilities(
    families=("pro", "flex"),
    modes=("text-to-image", "image-to-image"),
    aspect_ratios=("1:1", "9:16", "16:9", "4:3", "3:4", "3:2", "2:3"),
    auto_ratio=True,
    poll=PollPlan(10, ((5, 5), (60, 10), (120, 15))),  # seed 15 s then 5 s; guides 5 to 10 s, then slower
    throttle=Throttle(10, 60, concurrent=3, counts_looks=True),  # free plan: 10 requests a minute, 3 at once
    usual_s=25,  # "20-30 seconds"
)


class Apixo:
    slug = "apixo"
    name = "Apixo"
    base_url = "https://api.apixo.ai"
    docs_url = "https://apixo.ai/en/docs/models/flux-2"
    options: Mapping[str, tuple[str, ...]] = {
        "path_id": ("flux-2", "flux2"),  # apixo.ai/docs has the first, apixo.ai/ko/docs the second
        "tier": ("", "auto", "value", "official"),  # "provider" on apixo.ai/ko/docs; unset, it is not sent
    }
    balance_unit = "USD"
    reports_cost = False

    def capabilities(self, account: Account) -> Capabilities:
        return CAPABILITIES

    def submit(self, request: Request, account: Account, callback_url: str | None) -> Accepted:
        wire.check(self, request, account)
        line = wire.Line(self, account, wire.bearer(account), callback_url)
        path_id = wire.option(self, account, "path_id")
        body = {**_delivery(callback_url), **self._tier(account), "input": _input(request)}
        answer = line.ask("POST", f"/api/v1/generateTask/{path_id}", json=body, timeout_s=wire.CREATE_TIMEOUT_S)
        return line.accepted(answer, answer.fields.get("taskId"), route=path_id)

    def report(self, upstream_id: str, route: str, account: Account, *, age_s: float = 0.0) -> Report:
        line = wire.Line(self, account, wire.bearer(account))
        path_id = route or wire.option(self, account, "path_id")  # the status address repeats the create's
        answer = line.ask("GET", f"/api/v1/statusTask/{path_id}", params={"taskId": upstream_id})
        return line.judge(answer, wire.kie_seen(answer), upstream_id, age_s=age_s)

    def parse_callback(self, body: bytes) -> str | None:
        return wire.callback_id(body, "taskId", "task_id")

    def is_signed(self, body: bytes, headers: Mapping[str, str], secret: str) -> bool | None:
        return None

    def balance(self, account: Account) -> Decimal | None:
        """US dollars."""
        line = wire.Line(self, account, wire.bearer(account))
        answer = line.ask("GET", BALANCE_PATH, timeout_s=wire.BALANCE_TIMEOUT_S)
        return line.balance(answer, answer.data)

    def _tier(self, account: Account) -> dict[str, str]:
        tier = wire.option(self, account, "tier")
        return {"provider": tier} if tier else {}


def _delivery(callback_url: str | None) -> dict[str, str]:
    if callback_url:
        return {"request_type": "callback", "callback_url": callback_url}
    return {"request_type": "async"}


def _input(request: Request) -> dict[str, Any]:
    pictures = {"image_urls": wire.public_urls(request)} if request.references else {}
    return {
        "mode": f"{request.family}-{request.mode}",
        "prompt": request.prompt.strip(),
        **pictures,
        "aspect_ratio": request.aspect_ratio,
        "resolution": request.resolution,
    }
