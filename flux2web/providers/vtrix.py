"""Vtrix. Parameters: doc.vtrix.ai/docs/api/blackforestlabs/flux-2-pro (2026-11).

That page has neither addresses nor states. They come from docs.vtrix.ai (model_api_documentation_gitbook: V1) and from
the vendor's own client (github.com/VtrixAI/vtrix-cli, 2026-04: V4), which serve all its models alike.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from flux2web import http
from flux2web.providers import wire
from flux2web.providers.base import (
    Accepted,
    Account,
    Capabilities,
    Kind,
    PollPlan,
    ProviderError,
    Report,
    Request,
    Throttle,
)

CREATE_PATH = "/model/v1/generation"  # V1
STATUS_PATH = "/model/v1/generation/task/"  # and the id (V4)

# Vtrix takes pixels, both sides multiples of 32 (doc.vtrix.ai). 1K stays within 1 megapixel (2**20), 2K within 2048 a side.
SIZES_PX = {
    "1:1": {"1K": (1024, 1024), "2K": (2048, 2048)},
    "4:3": {"1K": (1152, 864), "2K": (2048, 1536)},
    "3:4": {"1K": (864, 1152), "2K": (1536, 2048)},
    "16:9": {"1K": (1344, 768), "2K": (2048, 1152)},  # 1K is 7:4: exact 16:9 in steps of 32 would be 1024 x 576
    "9:16": {"1K": (768, 1344), "2K": (1152, 2048)},
    "3:2": {"1K": (1248, 832), "2K": (2016, 1344)},
    "2:3": {"1K": (832, 1248), "2K": (1344, 2016)},
}

SEEDS = range(2**32)
SAFETY_TOLERANCES = range(1, 6)  # text "0-6", range "1-6" (doc.vtrix.ai), twins 0-5: what all of them allow
OUTPUT_FORMATS = ("jpeg", "png")
BALANCE_CODES = range(40201, 40209)  # the vendor's client takes these eight for one: no money left (V4)

CAPABILITIES = Capabilities(
    families=("pro",),
    modes=("text-to-image", "image-to-image"),
    aspect_ratios=tuple(SIZES_PX),
    auto_ratio=True,
    extras=frozenset({"seed", "output_format", "safety_tolerance"}),
    callback=False,
    poll=PollPlan(5, ((0, 5), (120, 10))),  # the client looks every 5 s (V4)
    throttle=Throttle(5, 10),  # limits "apply", their numbers are not told
)


class Vtrix:
    slug = "vtrix"
    name = "Vtrix"
    base_url = "https://cloud.vtrix.ai"
    docs_url = "https://doc.vtrix.ai/docs/api/blackforestlabs/flux-2-pro"
    options: Mapping[str, tuple[str, ...]] = {
        "body": ("wrapped", "flat"),  # as the client sends for every model (V4), or as doc.vtrix.ai lists the fields
        "references": ("url", "base64"),
    }
    balance_unit = ""
    reports_cost = True

    def capabilities(self, account: Account) -> Capabilities:
        return replace(CAPABILITIES, takes_uploads=self._inlines(account))

    def submit(self, request: Request, account: Account, callback_url: str | None) -> Accepted:
        """Ask for one picture. There are no callbacks: `callback_url` is not used."""
        wire.check(self, request, account)
        _check_extras(request)
        line = self._line(account)
        body = self._body({**self._content(request, account), **_size(request), **_extras(request)}, account)
        answer = line.ask("POST", CREATE_PATH, json=body, timeout_s=wire.CREATE_TIMEOUT_S)
        return line.accepted(answer, _id(answer.fields))

    def report(self, upstream_id: str, route: str, account: Account, *, age_s: float = 0.0) -> Report:
        line = self._line(account)
        answer = line.ask("GET", STATUS_PATH + upstream_id)
        return line.judge(answer, _seen(answer.fields), upstream_id, age_s=age_s)

    def parse_callback(self, body: bytes) -> str | None:
        return None  # nothing is ever sent

    def is_signed(self, body: bytes, headers: Mapping[str, str], secret: str) -> bool | None:
        return None

    def balance(self, account: Account) -> Decimal | None:
        return None  # no page tells of a call

    def _line(self, account: Account) -> wire.Line:
        return wire.Line(self, account, wire.bearer(account), read=_read)

    def _inlines(self, account: Account) -> bool:
        return wire.option(self, account, "references") == "base64"

    def _content(self, request: Request, account: Account) -> dict[str, str]:
        """`prompt`, `input_image`, `input_image_2`, ... without a gap."""
        pictures = self._inlined(request) if self._inlines(account) else wire.public_urls(request)
        names = ("input_image", *(f"input_image_{n}" for n in range(2, len(pictures) + 1)))
        return {"prompt": request.prompt.strip(), **dict(zip(names, pictures, strict=False))}

    def _inlined(self, request: Request) -> list[str]:
        """Bare base64, as the twin's client sends it: no `data:` before it."""
        return [base64.b64encode(wire.read_bytes(self, reference)).decode() for reference in request.references]

    def _body(self, params: dict[str, Any], account: Account) -> dict[str, Any]:
        if wire.option(self, account, "body") == "flat":
            return {"model": "flux_2_pro", **params}
        return {"model": "flux_2_pro", "input": [{"params": params}]}


def _check_extras(request: Request) -> None:
    wishes = (
        ("a seed", request.seed, SEEDS),
        ("an output format", request.output_format, OUTPUT_FORMATS),
        ("a safety tolerance", request.safety_tolerance, SAFETY_TOLERANCES),
    )
    for name, wish, allowed in wishes:
        if wish is not None and wish not in allowed:
            raise ProviderError(Kind.INPUT, f"Vtrix does not take {wish} as {name}", sent="no")


def _size(request: Request) -> dict[str, int]:
    """Pixels. "auto" sends none, and then 1K or 2K makes no difference."""
    if request.aspect_ratio == "auto":
        return {}
    width_px, height_px = SIZES_PX[request.aspect_ratio][request.resolution]
    return {"width": width_px, "height": height_px}


def _extras(request: Request) -> dict[str, Any]:
    tolerance = (
        None if request.safety_tolerance is None else str(request.safety_tolerance)
    )  # typed string in doc.vtrix.ai
    wishes = {"seed": request.seed, "safety_tolerance": tolerance, "output_format": request.output_format}
    return {name: wish for name, wish in wishes.items() if wish is not None}


def _read(reply: http.Reply) -> wire.Answer:
    """Read a bare task object, or one of three error shapes: `message`, `error` (text or object), `status` (object)."""
    body = wire.as_object(reply.json())
    text = wire.said(body.get("status") if isinstance(body.get("status"), Mapping) else body)
    return wire.Answer(reply.status, _code(reply.status, body, text), text, body, wire.retry_after_s(reply.headers))


def _code(http_status: int, body: Mapping[str, Any], text: str) -> int | None:
    """The number that the body stands for, since it rarely has one of its own; None for a body that is not Vtrix's."""
    status, error = wire.as_object(body.get("status")), wire.as_object(body.get("error"))
    if {wire.http_number(status.get("error_code")), wire.http_number(error.get("code"))} & set(BALANCE_CODES):
        return 402
    if (own := wire.http_number(status.get("code"))) and 400 <= own < 600:
        return own
    if http_status >= 400:
        return http_status if text else None
    if _id(body) is None and body.get("error"):
        return 500  # "a reply without id is a failed creation, reason in error" (V4)
    return 200 if "status" in body else None


def _id(body: Mapping[str, Any]) -> Any:
    return body.get("id") or body.get("task_id")  # V4, and doc.vtrix.ai/public/cli/cmd-task


def _seen(body: Mapping[str, Any]) -> wire.Seen:
    error = body.get("error")
    return wire.Seen(
        id=_id(body),
        state=body.get("status"),
        urls=list(_urls(body.get("output"))),
        fail_code=wire.as_object(error).get("code"),  # such as "002014001": a string, and kept as one
        fail_message=wire.said(error),
        cost_usd=wire.as_object(body.get("usage")).get("cost"),
    )


def _urls(output: Any) -> Iterator[Any]:
    for group in _objects(output):
        for content in _objects(group.get("content")):
            if content.get("type") in ("image", None, ""):
                yield content.get("url")


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
