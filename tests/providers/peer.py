"""A vendor made of samples: a real server on loopback that answers what the test laid out and keeps what it was asked."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from werkzeug import Response

SAMPLES = Path(__file__).parent.parent / "samples"


def sample(slug: str, name: str) -> bytes:
    return (SAMPLES / slug / name).read_bytes()


@dataclass(frozen=True)
class Asked:
    """One request exactly as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    form: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, str, bytes]] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """Answers in the order laid out, the last one again and again."""

    def __init__(self, server: Any, prefix: str) -> None:
        self.url = server.url_for(prefix)
        self.asked: list[Asked] = []
        self._prefix, self._answers = prefix, []
        server.expect_request(re.compile(".*")).respond_with_handler(self._answer)

    def answers(self, body: bytes | dict, status: int = 200, **headers: str) -> "Peer":
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self._answers.append((raw, status, headers))
        return self

    def _answer(self, request: Any) -> Response:
        body = request.get_data(cache=True, parse_form_data=False)
        is_form = "multipart" in request.headers.get("content-type", "")
        files = {n: (f.filename, f.mimetype, f.read()) for n, f in request.files.items()} if is_form else {}
        self.asked.append(
            Asked(
                method=request.method,
                path=request.path.removeprefix(self._prefix),
                query=request.query_string.decode(),
                headers={name.lower(): value for name, value in request.headers.items()},
                body=body,
                form=dict(request.form) if is_form else {},
                files=files,
            )
        )
        raw, status, headers = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return Response(raw, status, {"Content-Type": "application/json", **headers})
