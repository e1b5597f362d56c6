"""Apikley, which passes kie.ai on. Facts: docs.apikley.ru (docs.apikley.ru and its sister pages, 2026-11)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from flux2web.providers import wire
from flux2web.providers.base import Accepted, Account, Capabilities, ProviderError, Reference, Report, Request, Throttle

CREATE_PATH = "/api/v1/jobs/createTask"  # docs.apikley.ru
STATUS_PATH = "/api/v1/jobs/recordInfo"  # docs.apikley.ru/get-task-detail
UPLOAD_PATH = "/file-upload/api/file-stream-upload"  # docs.apikley.ru/file-upload-api
BALANCE_PATH = "/api/v1/chat/credit"  # docs.apikley.ru/common-api/common-api_get-account-credits

SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}

CAPABILITIES = Capabilities(
    families=("flex",),  # the only family with pages of its own (docs.apikley.ru and Flux2-flex-text-to-image)
    modes=("text-to-image", "image-to-image"),
    aspect_ratios=("1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3"),
    auto_ratio=True,
    takes_uploads=True,
    signs_callbacks=True,  # as kie does, where its feature is passed on
    throttle=Throttle(10, 10),  # "enforced by Apikley" without a number; kie: 20 in 10 s (docs.kie.ai)
)


class Apikley:
    slug = "apikley"
    name = "Apikley"
    base_url = "https://api.apikley.ru"
    docs_url = "https://docs.apikley.ru/Flux-2/Flux2-flex-image-to-image"
    options: Mapping[str, tuple[str, ...]] = {
        "pro": ("off", "on"),  # kie has it, no page says that Apikley sells it
        "references": ("upload", "url"),
    }
    balance_unit = "credits"
    reports_cost = False

    def capabilities(self, account: Account) -> Capabilities:
        families = ("pro", "flex") if wire.option(self, account, "pro") == "on" else CAPABILITIES.families
        return replace(CAPABILITIES, families=families, takes_uploads=self._uploads(account))

    def submit(self, request: Request, account: Account, callback_url: str | None) -> Accepted:
        wire.check(self, request, account)
        line = wire.Line(self, account, wire.bearer(account), callback_url)
        urls = self._uploaded(request, line) if self._uploads(account) else wire.public_urls(request)
        body = wire.kie_create(request, urls, callback_url)
        answer = line.ask("POST", CREATE_PATH, json=body, timeout_s=wire.CREATE_TIMEOUT_S)
        return line.accepted(answer, answer.fields.get("taskId"))

    def report(self, upstream_id: str, route: str, account: Account, *, age_s: float = 0.0) -> Report:
        line = wire.Line(self, account, wire.bearer(account))
        answer = line.ask("GET", STATUS_PATH, params={"taskId": upstream_id})
        return line.judge(answer, wire.kie_seen(answer), upstream_id, age_s=age_s)

    def parse_callback(self, body: bytes) -> str | None:
        return wire.callback_id(body, "taskId", "task_id")  # kie's signature sample has the second (docs.kie.ai)

    def is_signed(self, body: bytes, headers: Mapping[str, str], secret: str) -> bool | None:
        return wire.kie_is_signed(self.parse_callback(body), headers, secret)

    def balance(self, account: Account) -> Decimal | None:
        """Credits of Apikley's own kind."""
        line = wire.Line(self, account, wire.bearer(account))
        answer = line.ask("GET", BALANCE_PATH, timeout_s=wire.BALANCE_TIMEOUT_S)
        return line.balance(answer, answer.data)

    def _uploads(self, account: Account) -> bool:
        return wire.option(self, account, "references") == "upload"

    def _uploaded(self, request: Request, line: wire.Line) -> list[str]:
        """Upload every reference anew (a link lives 3 days, at kie 24 h). A failure here leaves the create unsent."""
        try:
            return [self._upload(reference, line) for reference in request.references]
        except ProviderError as error:
            error.sent = "no"
            raise

    def _upload(self, reference: Reference, line: wire.Line) -> str:
        name = secrets.token_hex(16) + SUFFIXES.get(reference.mime, "")  # a name used before overwrites that file
        file = (name, wire.read_bytes(self, reference), reference.mime)
        form = {"uploadPath": "flux2web", "fileName": name}
        answer = line.ask("POST", UPLOAD_PATH, data=form, files={"file": file})
        url = answer.fields.get("downloadUrl") or answer.fields.get(
            "fileUrl"
        )  # the second in kie's quick start (docs.kie.ai)
        if answer.failure is not None or not wire.is_url(url):
            raise line.refusal(answer, sent="no")
        return str(url)
