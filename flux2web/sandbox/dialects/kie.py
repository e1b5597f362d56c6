"""What Revid and Apikley have in common: both resell kie.ai in its own envelope."""

from __future__ import annotations

import json
from typing import Any

from .. import checks
from ..store import Order, Task
from ..wire import Answer
from .base import Dialect, envelope, ms

FAILURES = {  # code and words as kie gives them; kie's codes are strings
    "generation": ("500", "Internal Error, Please try again later."),
    "moderated": ("400", "Your prompt was flagged by Website as violating content policies."),
    "download": ("422", "Image fetch failed. Check access settings or use our File Upload API instead."),
}


class KieDialect(Dialect):
    models: tuple[str, ...]
    wrong_code = 422
    closed_code = 455
    running_words = ("waiting", "queuing", "generating")
    nothing: str | None = None  # how an absent failCode is written

    def read_order(self, request: Any) -> Order:
        body = checks.fields(request, required=("model", "input"), optional=("callBackUrl",), where="this endpoint")
        model = checks.choice(body["model"], "model", self.models)
        edits = model.endswith("image-to-image")
        required = ("prompt", "aspect_ratio", "resolution", *(("input_urls",) if edits else ()))
        given = checks.fields(body["input"], required=required, where=model)
        return Order(
            prompt=checks.prompt(given["prompt"]),
            references=checks.addresses(given["input_urls"], "input_urls") if edits else (),
            callback_url=checks.address(body["callBackUrl"], "callBackUrl") if "callBackUrl" in body else "",
            aspect_ratio=checks.ratio(given["aspect_ratio"], with_references=edits),
            resolution=checks.choice(given["resolution"], "resolution", checks.RESOLUTIONS),
        )

    def accepted(self, task: Task) -> Answer:
        return envelope(200, "msg", "success", {"taskId": task.id})

    def data(self, task: Task) -> dict[str, Any]:
        done, good = task.is_done, task.is_done and not task.failure
        fail_code, fail_msg = FAILURES[task.failure] if done and task.failure else (self.nothing, self.nothing)
        return {
            "taskId": task.id,
            "model": task.request["model"],
            "state": self.word(task, success="success", failure="fail"),
            "param": json.dumps(task.request),
            "resultJson": json.dumps({"resultUrls": [self.studio.result_url(task)]}) if good else None,
            "failCode": fail_code,
            "failMsg": fail_msg,
            "costTime": ms((task.done_at or 0) - task.created_at) if good else None,
            "completeTime": ms(task.done_at) if done else None,
            "createTime": ms(task.created_at),
        }
