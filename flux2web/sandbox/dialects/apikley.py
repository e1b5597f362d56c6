"""Apikley as docs.apikley.ru and docs.apikley.ru describe it: refusals in the body of an HTTP 200, and a place for uploads."""

from __future__ import annotations

import re
import secrets
import threading
import time
from datetime import UTC, datetime
from typing import Any

from ..checks import Wrong
from ..store import Order, Task
from ..wire import INLINE_BYTES, Answer, Call, json_answer, parse_multipart
from .base import Refused, Route, envelope
from .kie import KieDialect

UPLOAD_BYTES = 10 * 1024 * 1024
NAME = re.compile(r"[\w.() -]{1,200}")
PATH = re.compile(r"[\w./-]{1,200}")
MIME = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


class Apikley(KieDialect):
    slug = "apikley"
    models = ("flux-2/flex-image-to-image", "flux-2/flex-text-to-image")  # pro: no page of Apikley's offers it
    nothing = ""
    messages = {
        401: "You do not have access permissions",
        402: "Credits insufficient",
        404: "Not Found",
        405: "Method Not Allowed",
        429: "Your call frequency is too high. Please try again later.",
        455: "The service is currently being maintained",
        500: "Server exception, please try again later or contact customer service",
    }

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._last_id_ms, self._id_lock = 0, threading.Lock()

    def route(self, path: str) -> Route | None:
        return {
            "/api/v1/jobs/createTask": Route("POST", self.create),
            "/api/v1/jobs/recordInfo": Route("GET", self.query),
            "/api/v1/chat/credit": Route("GET", self.credit),
            "/file-upload/api/file-stream-upload": Route("POST", self.upload),
        }.get(path)

    def new_id(self, order: Order, request: Any) -> str:
        """The time in the name, as in docs.apikley.ru's example; two in one millisecond get two names."""
        with self._id_lock:
            self._last_id_ms = max(self._last_id_ms + 1, int(time.time() * 1000))
            return f"task_flux-2_{self._last_id_ms}"

    def query(self, call: Call) -> Answer:
        return self.status(call.one("taskId"), unknown=Refused(404, "Task not found"))

    def view(self, task: Task) -> Answer:
        """The create says `msg`, the query `message`: docs.apikley.ru/get-task-detail."""
        return envelope(200, "message", "success", self.data(task))

    def data(self, task: Task) -> dict[str, Any]:
        data = super().data(task)
        return data | {"updateTime": data["completeTime"] or data["createTime"]}

    def callback_body(self, task: Task) -> Any:
        """kie's market callback: code 501 on failure, and costTime in seconds where the query has milliseconds."""
        data = self.data(task)
        data["costTime"] = round(data["costTime"] / 1000) if data["costTime"] else None
        if task.failure:
            return {"code": 501, "msg": "Playground task failed.", "data": data}
        return {"code": 200, "msg": "Playground task completed successfully.", "data": data}

    def refusal(self, refused: Refused) -> Answer:
        """Only 200 and 500 are declared as HTTP replies (docs.apikley.ru); everything else is told in the body."""
        message = refused.message or self.messages[refused.code]
        status = 500 if refused.code == 500 else 200
        return envelope(refused.code, "msg", message, None, status=status, headers=refused.headers)

    def credit(self, call: Call) -> Answer:
        return envelope(200, "msg", "success", 1000)

    # --- uploads ------------------------------------------------------------------------------------------------------

    def upload(self, call: Call) -> Answer:
        fields = parse_multipart(call.headers["content-type"], call.body(INLINE_BYTES))
        content = fields.get("file", b"")
        folder = _matching(PATH, fields, "uploadPath")
        file_name = _matching(NAME, fields, "fileName") if "fileName" in fields else secrets.token_hex(8)
        if not content or len(content) > UPLOAD_BYTES:
            raise Wrong("file is required, up to 10MB")
        stored = self.studio.keep_picture(content, name=f"{folder.strip('/')}/{file_name}")
        if not stored:
            raise Wrong("File type not supported")
        return self._uploaded(call, folder, file_name, stored, len(content))

    def _uploaded(self, call: Call, folder: str, file_name: str, stored: str, size_bytes: int) -> Answer:
        data = {
            "fileName": file_name,
            "filePath": f"{folder.strip('/')}/{file_name}",
            "downloadUrl": self.studio.file_url(call.origin, stored),
            "fileSize": size_bytes,
            "mimeType": MIME[stored.rpartition(".")[2]],
            "uploadedAt": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        return json_answer(200, {"success": True, "code": 200, "msg": "File uploaded successfully", "data": data})


def _matching(pattern: re.Pattern[str], fields: dict[str, bytes], name: str) -> str:
    value = fields.get(name, b"").decode("utf-8", "replace")
    if not pattern.fullmatch(value) or ".." in value:
        raise Wrong(f"{name} is required and must be a plain name")
    return value
