"""Apixo as apixo.ai/docs and apixo.ai's API reference describe it."""

from __future__ import annotations

import json
import secrets
from typing import Any

from .. import checks
from ..store import Order, Task
from ..wire import Answer, Call
from .base import Dialect, Refused, Route, envelope, ms

MODES = tuple(f"{family}-{way}" for family in ("pro", "flex") for way in ("text-to-image", "image-to-image"))
FAILURES = {
    "generation": ("GENERATION_FAILED", "Image generation failed, please try again"),
    "moderated": ("CONTENT_VIOLATION", "Content does not meet safety guidelines"),
    "download": ("IMAGE_DOWNLOAD_FAILED", "Failed to download image from the provided URL"),
}


class Apixo(Dialect):
    slug = "apixo"
    running_words = ("pending", "processing", "processing")
    retry_waits_s = (30.0, 120.0, 600.0)  # apixo.ai/docs/api-reference/webhooks
    messages = {
        401: "Invalid or missing API key",
        402: "Insufficient credits",
        404: "Not found",
        405: "Method not allowed",
        429: "Too many requests",
        500: "Internal server error",
        503: "Service temporarily unavailable",
    }

    def route(self, path: str) -> Route | None:
        return {
            "/api/v1/generateTask/flux-2": Route("POST", self.create),
            "/api/v1/statusTask/flux-2": Route("GET", self.query),
            "/api/v1/apikeys/current-balance": Route("GET", self.balance),
        }.get(path)

    def read_order(self, request: Any) -> Order:
        """`provider`, a routing tier, is documented too but has no meaning here."""
        optional = ("callback_url", "provider")
        body = checks.fields(request, required=("request_type", "input"), optional=optional, where="this endpoint")
        checks.choice(body.get("provider", "auto"), "provider", ("auto", "value", "official"))
        given = checks.fields(
            body["input"],
            required=("mode", "prompt", "aspect_ratio", "resolution"),
            optional=("image_urls",),
            where="input",
        )
        references = _references(given)
        return Order(
            prompt=checks.prompt(given["prompt"]),
            references=references,
            callback_url=_callback_url(body),
            aspect_ratio=checks.ratio(given["aspect_ratio"], with_references=bool(references)),
            resolution=checks.choice(given["resolution"], "resolution", checks.RESOLUTIONS),
        )

    def new_id(self, order: Order, request: Any) -> str:
        return f"task_{secrets.token_hex(8)}"

    def accepted(self, task: Task) -> Answer:
        return envelope(200, "message", "success", {"taskId": task.id})

    def query(self, call: Call) -> Answer:
        return self.status(call.one("taskId"), unknown=Refused(404, "Task not found"))

    def view(self, task: Task) -> Answer:
        """A failed task is a successful query (apixo.ai/docs); it has no costTime then."""
        data = self.data(task)
        if task.failure:
            data.pop("costTime", None)
        return envelope(200, "message", "success", data)

    def data(self, task: Task) -> dict[str, Any]:
        data: dict[str, Any] = {"taskId": task.id, "state": self.word(task, success="success", failure="failed")}
        if task.is_done and task.failure:
            data["failCode"], data["failMsg"] = FAILURES[task.failure]
        elif task.is_done:
            data["resultJson"] = json.dumps({"resultUrls": [self.studio.result_url(task)]})
        data["createTime"] = ms(task.created_at)
        if task.is_done:
            data["completeTime"] = ms(task.done_at)
            data["costTime"] = ms((task.done_at or 0) - task.created_at)
        return data

    def callback_body(self, task: Task) -> Any:
        code, message = (400, "failed") if task.failure else (200, "success")
        return {"code": code, "message": message, "data": self.data(task)}

    def refusal(self, refused: Refused) -> Answer:
        message = self.messages.get(refused.code, "Invalid request")
        data = {"error": refused.message} if refused.message else None
        return envelope(refused.code, "message", message, data, status=refused.code, headers=refused.headers)

    def balance(self, call: Call) -> Answer:
        return envelope(200, "message", "success", 74.87)


def _references(given: dict[str, Any]) -> tuple[str, ...]:
    """Needed for editing, refused otherwise: the two-way rule of apixo.ai/ko/docs/models/image/flux-2."""
    if checks.choice(given["mode"], "mode", MODES).endswith("image-to-image"):
        return checks.addresses(given.get("image_urls"), "image_urls")
    if "image_urls" in given:
        raise checks.Wrong("image_urls is not a parameter of text-to-image modes")
    return ()


def _callback_url(body: dict[str, Any]) -> str:
    if checks.choice(body["request_type"], "request_type", ("async", "callback")) == "callback":
        return checks.address(body.get("callback_url"), "callback_url")
    if "callback_url" in body:
        raise checks.Wrong("callback_url needs request_type callback")
    return ""
