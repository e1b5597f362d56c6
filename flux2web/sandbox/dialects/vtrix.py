"""Vtrix as doc.vtrix.ai and the vendor's own command line describe it: bare objects, no callback, a price afterwards."""

from __future__ import annotations

import base64
import binascii
import math
import secrets
from decimal import Decimal
from typing import Any

from .. import checks
from ..checks import Wrong
from ..store import Order, Task
from ..wire import INLINE_BYTES, Answer, Call, json_answer
from .base import Dialect, Refused, Route

CREATE = "/model/v1/generation"
MODEL = "flux_2_pro"
IMAGES = ("input_image", *(f"input_image_{n}" for n in range(2, 9)))
OPTIONAL = (*IMAGES, "seed", "width", "height", "safety_tolerance", "output_format")
SIDE_PX = (64, 2048)  # the lower end is doc.vtrix.ai's, the upper one our own: 4 megapixels, as at BFL
REFERENCE_BYTES = 10 * 1024 * 1024
FIRST_MP_USD, FURTHER_MP_USD = Decimal("0.03"), Decimal("0.015")  # BFL's list price for pro
FAILURES = {  # codes are strings; only the first is documented
    "generation": ("002014001", "Generation failed"),
    "moderated": ("002014003", "Content Moderated: the request was flagged by the safety filter"),
    "download": ("002014002", "Failed to download input image"),
}


class Vtrix(Dialect):
    slug = "vtrix"
    running_words = ("pending", "in_progress", "in_progress")
    body_bytes = INLINE_BYTES
    messages = {
        401: "Unauthorized: invalid API key",
        402: "Insufficient credits",
        404: "not found",
        405: "method not allowed",
        429: "rate limit exceeded",
        500: "internal error",
        503: "service unavailable",
    }

    def route(self, path: str) -> Route | None:
        if path == CREATE:
            return Route("POST", self.create)
        if path.startswith(f"{CREATE}/task/"):
            return Route("GET", self.query)
        return None

    def read_order(self, request: Any) -> Order:
        given = _parameters(request)
        checks.choice(given.get("safety_tolerance", "2"), "safety_tolerance", [str(n) for n in range(1, 7)])
        width_px, height_px = (_side(given, name) for name in ("width", "height"))
        return Order(
            prompt=checks.prompt(given["prompt"]),
            width_px=width_px,
            height_px=height_px,
            seed=checks.integer(given["seed"], "seed", low=0, high=2**63 - 1) if "seed" in given else None,
            output_format=checks.choice(given.get("output_format", "jpeg"), "output_format", ("jpeg", "png")),
            references=self._references(given),
        )

    def _references(self, given: dict[str, Any]) -> tuple[str, ...]:
        images = [name for name in IMAGES if name in given]
        if images != list(IMAGES[: len(images)]):
            raise Wrong("input images must be numbered without a gap")
        return tuple(self._reference(given[name], name) for name in images)

    def _reference(self, value: Any, name: str) -> str:
        """An address, or bare base64, as the vendor's and its twin's clients send it."""
        if checks.text(value, name).startswith(("http://", "https://")):
            return checks.address(value, name)
        try:
            content = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Wrong(f"{name} must be a URL or base64") from error
        if len(content) > REFERENCE_BYTES:
            raise Wrong(f"{name} exceeds 10MB")
        return self.studio.keep_picture(content) or "no-picture"

    def new_id(self, order: Order, request: Any) -> str:
        return secrets.token_hex(12)

    def accepted(self, task: Task) -> Answer:
        return json_answer(200, self._common(task))

    def query(self, call: Call) -> Answer:
        return self.status(call.path.rpartition("/")[2], unknown=Refused(404, "task not found"))

    def view(self, task: Task) -> Answer:
        return json_answer(200, self._common(task) | self._ending(task))

    def _common(self, task: Task) -> dict[str, Any]:
        return {
            "id": task.id,
            "model": MODEL,
            "status": self.word(task, success="completed", failure="failed"),
            "created_at": int(task.created_at),
            "progress": 1 if task.is_done else round(task.progress, 2),
        }

    def _ending(self, task: Task) -> dict[str, Any]:
        """`error` only when failed, `output` and `usage` only when completed (doc.vtrix.ai)."""
        if not task.is_done:
            return {}
        if task.failure:
            code, message = FAILURES[task.failure]
            return {"error": {"code": code, "message": message}}
        picture = {"type": "image", "url": self.studio.result_url(task)}
        usage = {"cost": str(cost_usd(task)), "discount": 0}
        return {"output": [{"content": [picture]}], "usage": usage, "metadata": {}}

    def refusal(self, refused: Refused) -> Answer:
        """`{error}` mostly; about money the longer form that the vendor's client and its twin know."""
        message = refused.message or self.messages[refused.code]
        body: dict[str, Any] = {"error": message}
        if refused.code == 402:
            body = {"status": {"code": 402, "message": message, "error_code": 40201}}
        return json_answer(refused.code, body, headers=refused.headers)


def _parameters(request: Any) -> dict[str, Any]:
    """Out of the wrapped body of the vendor's client, or of the seed's flat one."""
    if isinstance(request, dict) and "input" in request:
        outer = checks.fields(request, required=("model", "input"), where="this endpoint")
        if not isinstance(outer["input"], list) or len(outer["input"]) != 1:
            raise Wrong("input must be an array of one object")
        inner = checks.fields(outer["input"][0], required=("params",), where="input")
        given = checks.fields(inner["params"], required=("prompt",), optional=OPTIONAL, where=MODEL)
        model = outer["model"]
    else:
        given = checks.fields(request, required=("model", "prompt"), optional=OPTIONAL, where=MODEL)
        model = given["model"]
    checks.choice(model, "model", (MODEL,))
    return given


def _side(given: dict[str, Any], name: str) -> int | None:
    low, high = SIDE_PX
    return checks.integer(given[name], name, low=low, high=high, step=32) if name in given else None


def cost_usd(task: Task) -> Decimal:
    """Whole megapixels, the first dearer; a reference costs as much as a further one."""
    further = max(0, math.ceil(task.size_mp / 1.048576 - 0.001) - 1)
    return FIRST_MP_USD + FURTHER_MP_USD * (further + len(task.order.references))
