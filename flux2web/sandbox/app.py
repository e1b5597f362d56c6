"""The WSGI app: which counter, which file, or the page that says what this is."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .dialects import ALL
from .store import Store, Task
from .studio import Studio
from .wire import Answer, html_answer, json_answer, read_call
from .worker import Staff

CLOSE_WITHIN_S = 0.8
FILE_NAME = re.compile(r"[0-9a-f]{32}\.(jpg|png|webp)")
MIME = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
# Anybody may upload with a key that everybody knows: what is served from here must never run in the app's origin.
FILE_HEADERS = (("Content-Security-Policy", "default-src 'none'; sandbox"), ("Cache-Control", "private, max-age=3600"))


class SandboxApp:
    """A WSGI callable. `close` ends its threads; what was not finished goes on when the next one opens `state_dir`."""

    def __init__(self, state_dir: Path, *, min_s: float, max_s: float, prefix: str) -> None:
        self._prefix = prefix.rstrip("/")
        self._store = Store(state_dir)
        self._studio = Studio(self._store, min_s=min_s, max_s=max_s, prefix=self._prefix)
        self._dialects: dict[str, Any] = {}
        self._is_closed = False
        self._staff = Staff(self._store, self._ring, self._waits_s)
        self._dialects |= {dialect.slug: dialect(self._studio, self._staff) for dialect in ALL}
        self._staff.wake()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        answer = json_answer(503, {"error": "closed"}) if self._is_closed else self._answer(environ)
        return answer.send(start_response, head_only=environ["REQUEST_METHOD"] == "HEAD")

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._staff.close(CLOSE_WITHIN_S)
            self._store.close()

    def _answer(self, environ: dict[str, Any]) -> Answer:
        first, _, rest = self._path(environ).removeprefix("/").partition("/")
        if first in self._dialects:
            return self._dialects[first].answer(read_call(environ, f"/{rest}"))
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            if first == "files":
                return self._file(rest)
            if not first:
                return self._front_page()
        return json_answer(404, {"error": "not found"})

    def _path(self, environ: dict[str, Any]) -> str:
        """Below the prefix, wherever the server put that."""
        whole = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        return whole.removeprefix(self._prefix)

    def _file(self, name: str) -> Answer:
        found = FILE_NAME.fullmatch(name)
        path = self._store.files / name
        if not found or not path.is_file():
            return json_answer(404, {"error": "not found"})
        return Answer(200, path.read_bytes(), content_type=MIME[found[1]], headers=FILE_HEADERS)

    def _front_page(self) -> Answer:
        names = "".join(f"<li>{html.escape(self._prefix)}/{slug}</li>" for slug in self._dialects)
        text = (
            "<p>Five pretend providers, for trying flux2web without a key. They draw by themselves; nothing leaves this"
            f' machine, nothing costs anything. The key is "sandbox".</p><ul>{names}</ul>'
            "<p>Words in square brackets in a prompt ask for trouble: see flux2web/sandbox/README.md.</p>"
        )
        return html_answer(200, "flux2web sandbox", text)

    # --- for the staff ------------------------------------------------------------------------------------------------

    def _ring(self, task: Task) -> tuple[str, bytes]:
        return task.order.callback_url, json.dumps(self._dialects[task.provider].callback_body(task)).encode()

    def _waits_s(self, task: Task) -> tuple[float, ...]:
        return tuple(self._studio.scaled_s(wait_s) for wait_s in self._dialects[task.provider].retry_waits_s)


def make_app(state_dir: Path, *, min_s: float = 2.0, max_s: float = 6.0, prefix: str = "/sandbox") -> SandboxApp:
    """Five pretend providers under `prefix`; memory in `state_dir`, which one process may use at a time."""
    return SandboxApp(state_dir, min_s=min_s, max_s=max_s, prefix=prefix)
