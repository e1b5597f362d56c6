"""Revid as docs.revidapi.com describes it: a key in x-api-key, a status that is asked for by POST."""

from __future__ import annotations

import json
import secrets
from typing import Any

from ..store import Order, Task
from ..wire import Answer, Call
from .base import Refused, Route, envelope, is_key
from .kie import KieDialect


class Revid(KieDialect):
    slug = "revid"
    models = tuple(
        f"flux-2/{family}-{way}" for family in ("pro", "flex") for way in ("image-to-image", "text-to-image")
    )
    messages = {
        400: "Invalid request parameters",
        401: "Authentication failed, please check API Key",
        402: "Insufficient account balance",
        404: "Resource not found",
        405: "Method not allowed",
        422: "Parameter validation failed",
        429: "Request rate limit exceeded",
        455: "Service is under maintenance",
        500: "Internal server error",
    }

    def route(self, path: str) -> Route | None:
        return {
            "/paid/flux-2/create": Route("POST", self.create),
            "/paid/get/taskid": Route("POST", self.query),
        }.get(path)

    def has_key(self, call: Call) -> bool:
        """The prose says "Bearer", every sample x-api-key: the samples are what a server was seen to take."""
        return is_key(call.headers.get("x-api-key", ""))

    def new_id(self, order: Order, request: Any) -> str:
        return secrets.token_hex(16)

    def query(self, call: Call) -> Answer:
        return self.status(call.one("taskId"), unknown=Refused(422, "recordInfo is null"))

    def view(self, task: Task) -> Answer:
        return envelope(200, "msg", "success", self.data(task))

    def data(self, task: Task) -> dict[str, Any]:
        """Seed 000's example fills resultJson while the state is `waiting`. So do we: who obeys the state is not harmed."""
        data = super().data(task)
        if not task.is_done:
            data["resultJson"] = json.dumps({"resultUrls": [self.studio.file_url(task.origin, "not-drawn-yet.png")]})
        return data

    def callback_body(self, task: Task) -> Any:
        """ "Identical to the query reply" (docs.revidapi.com)."""
        return {"code": 200, "msg": "success", "data": self.data(task)}

    def refusal(self, refused: Refused) -> Answer:
        """The table is headed "Status Code": HTTP's and the body's are the same. Only the unknown id is kie's own 200."""
        message = refused.message or self.messages[refused.code]
        status = 200 if message == "recordInfo is null" else refused.code
        return envelope(refused.code, "msg", message, None, status=status, headers=refused.headers)
