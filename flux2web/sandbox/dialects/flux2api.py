"""Flux2API as flux2api.com/docs describes it: a flat body, five ratios, and nothing said of callbacks or errors."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from .. import checks
from ..store import Order, Task
from ..wire import Answer, Call
from .base import Dialect, Refused, Route, envelope

MODELS = tuple(f"{family}-{way}" for family in ("pro", "flex") for way in ("text-to-image", "image-to-image"))
RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4")
FAILURES = {  # no words are documented: a plain sentence
    "generation": "Generation failed",
    "moderated": "Content moderated: the request was flagged by the safety filter",
    "download": "Failed to download input image",
}


class Flux2Api(Dialect):
    slug = "flux2api"
    running_words = ("PENDING", "RUNNING", "RUNNING")
    messages = {
        401: "Invalid API key",
        402: "Insufficient credits",
        404: "Not found",
        405: "Method not allowed",
        429: "Too many requests",
        500: "Internal server error",
        503: "Service unavailable",
    }

    def route(self, path: str) -> Route | None:
        return {"/v1/generate": Route("POST", self.create), "/v1/status": Route("GET", self.query)}.get(path)

    def read_order(self, request: Any) -> Order:
        optional = ("aspect_ratio", "resolution", "images", "callBackUrl")
        given = checks.fields(request, required=("model", "prompt"), optional=optional, where="this endpoint")
        return Order(
            references=_references(given),
            prompt=checks.prompt(given["prompt"]),
            callback_url=checks.address(given["callBackUrl"], "callBackUrl") if "callBackUrl" in given else "",
            aspect_ratio=checks.choice(given.get("aspect_ratio", "1:1"), "aspect_ratio", RATIOS),
            resolution=checks.choice(given.get("resolution", "1K"), "resolution", checks.RESOLUTIONS),
        )

    def new_id(self, order: Order, request: Any) -> str:
        """'npro89sfd...' in flux2api.com/docs: the family is in the name."""
        return f"n{request['model'].partition('-')[0]}{secrets.token_hex(12)}"

    def accepted(self, task: Task) -> Answer:
        return envelope(200, "message", "success", {"task_id": task.id})

    def query(self, call: Call) -> Answer:
        return self.status(call.one("task_id"), unknown=Refused(404, "Task not found"))

    def view(self, task: Task) -> Answer:
        return envelope(200, "message", "success", self.data(task))

    def data(self, task: Task) -> dict[str, Any]:
        created = datetime.fromtimestamp(task.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        good = task.is_done and not task.failure
        data = {
            "task_id": task.id,
            "status": self.word(task, success="SUCCESS", failure="FAILED"),
            "response": [self.studio.result_url(task)] if good else None,
            "created_at": created,
        }
        return data | ({"error_message": FAILURES[task.failure]} if task.is_done and task.failure else {})

    def callback_body(self, task: Task) -> Any:
        """Undocumented; assumed to be the status reply."""
        return {"code": 200, "message": "success", "data": self.data(task)}

    def refusal(self, refused: Refused) -> Answer:
        message = refused.message or self.messages[refused.code]
        return envelope(refused.code, "message", message, None, status=refused.code, headers=refused.headers)


def _references(given: dict[str, Any]) -> tuple[str, ...]:
    if checks.choice(given["model"], "model", MODELS).endswith("image-to-image"):
        return checks.addresses(given.get("images"), "images")
    if "images" in given:
        raise checks.Wrong("images is not a parameter of text-to-image models")
    return ()
