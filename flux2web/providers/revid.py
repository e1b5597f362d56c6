"""Revid's legacy API. All facts: docs.revidapi.com/endpoints/aiimage/flux (2026-11)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from flux2web.providers import wire
from flux2web.providers.base import Accepted, Account, Capabilities, Report, Request, Throttle

CAPABILITIES = Capabilities(
    families=("pro", "flex"),
    modes=("text-to-image", "image-to-image"),
    aspect_ratios=("1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3"),
    auto_ratio=True,
    signs_callbacks=True,  # as kie does, where its feature is passed on
    throttle=Throttle(5, 10),  # 429 exists, its limit is not told; kie behind it allows 20 in 10 s (docs.kie.ai)
)


class Revid:
    slug = "revid"
    name = "Revid"
    base_url = "https://api.revidapi.com"
    docs_url = "https://docs.revidapi.com/endpoints/aiimage/flux"
    options: Mapping[str, tuple[str, ...]] = {
        "create_path": ("/paid/flux-2/create",),
        "status_path": ("/paid/get/taskid",),  # the page's usage flow says "taskidv" twice: held for a slip
        "status_body": ("none", "empty_object"),  # a POST whose body is not described
    }
    balance_unit = ""
    reports_cost = False

    def capabilities(self, account: Account) -> Capabilities:
        return CAPABILITIES

    def submit(self, request: Request, account: Account, callback_url: str | None) -> Accepted:
        wire.check(self, request, account)
        line = wire.Line(self, account, _headers(account), callback_url)
        body = wire.kie_create(request, wire.public_urls(request), callback_url)
        path = wire.option(self, account, "create_path")
        answer = line.ask("POST", path, json=body, timeout_s=wire.CREATE_TIMEOUT_S)
        return line.accepted(answer, answer.fields.get("taskId"))

    def report(self, upstream_id: str, route: str, account: Account, *, age_s: float = 0.0) -> Report:
        line = wire.Line(self, account, _headers(account))
        body: dict[str, str] | None = {} if wire.option(self, account, "status_body") == "empty_object" else None
        path = wire.option(self, account, "status_path")
        answer = line.ask("POST", path, params={"taskId": upstream_id}, json=body, repeatable=True)
        return line.judge(answer, wire.kie_seen(answer), upstream_id, age_s=age_s)

    def parse_callback(self, body: bytes) -> str | None:
        return wire.callback_id(body, "taskId", "task_id")

    def is_signed(self, body: bytes, headers: Mapping[str, str], secret: str) -> bool | None:
        return wire.kie_is_signed(self.parse_callback(body), headers, secret)

    def balance(self, account: Account) -> Decimal | None:
        return None  # no page tells of a call


def _headers(account: Account) -> dict[str, str]:
    return {"x-api-key": account.key}  # the page's prose says Bearer, all of its examples say this
