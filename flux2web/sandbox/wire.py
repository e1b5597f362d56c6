"""What comes in and goes out over HTTP, without a word of any vendor."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

BODY_BYTES = 2 * 1024 * 1024  # a create is a few kilobytes
INLINE_BYTES = 32 * 1024 * 1024  # a create with base64 pictures in it, or one uploaded picture
DRAIN_BYTES = 64 * 1024 * 1024  # read and thrown away, so that the sender gets to read our refusal
PIECE_BYTES = 64 * 1024


class Unreadable(Exception):
    """The request cannot be read; `status` says why in HTTP's words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass(frozen=True)
class Call:
    """One request, as much of it as a dialect needs. `path` is what the vendor's own documents call the path."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    origin: str  # scheme and host that the caller used: addresses in answers are built from it
    environ: Mapping[str, Any] = field(repr=False)

    def one(self, name: str) -> str:
        """A query parameter given exactly once, else nothing."""
        values = self.query.get(name, [])
        return values[0] if len(values) == 1 else ""

    def json(self, limit_bytes: int = BODY_BYTES) -> Any:
        if self.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise Unreadable(400, "Content-Type must be application/json")
        return parse_json(self.body(limit_bytes))

    def body(self, limit_bytes: int = BODY_BYTES) -> bytes:
        size_bytes = self._size_bytes()
        if size_bytes > limit_bytes:
            self._drain(size_bytes)
            raise Unreadable(413, "Request body too large")
        return b"".join(self._pieces(size_bytes))

    def _size_bytes(self) -> int:
        """What the sender says. A body without a length cannot be read safely under every WSGI server."""
        declared = self.environ.get("CONTENT_LENGTH") or ""
        if not declared and "chunked" in self.headers.get("transfer-encoding", ""):
            raise Unreadable(411, "Content-Length required")
        if declared and not re.fullmatch(r"[0-9]{1,15}", declared):
            raise Unreadable(400, "Bad Content-Length")
        return int(declared or 0)

    def _pieces(self, size_bytes: int) -> Iterator[bytes]:
        while size_bytes > 0 and (piece := self.environ["wsgi.input"].read(min(size_bytes, PIECE_BYTES))):
            size_bytes -= len(piece)
            yield piece

    def _drain(self, size_bytes: int) -> None:
        for _ in self._pieces(min(size_bytes, DRAIN_BYTES)):
            pass


def read_call(environ: Mapping[str, Any], path: str) -> Call:
    headers = {k[5:].replace("_", "-").lower(): v for k, v in environ.items() if k.startswith("HTTP_")}
    headers["content-type"] = environ.get("CONTENT_TYPE") or ""
    return Call(
        method=environ["REQUEST_METHOD"],
        path=path,
        query=parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True, max_num_fields=None),
        headers=headers,
        origin=_origin(environ, headers.get("host", "")),
        environ=environ,
    )


def _origin(environ: Mapping[str, Any], host: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:\[\]-]{1,255}", host):
        host = f"{environ.get('SERVER_NAME', '127.0.0.1')}:{environ.get('SERVER_PORT', '80')}"
    return f"{environ.get('wsgi.url_scheme', 'http')}://{host}"


def parse_json(raw: bytes) -> Any:
    """The body as JSON that can also be written again: no lone surrogates, no bottomless nesting."""
    try:
        value = json.loads(raw)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Unreadable(400, "Request body is not valid JSON") from error
    return value


def parse_multipart(content_type: str, body: bytes) -> dict[str, bytes]:
    """Name to content of a multipart/form-data body."""
    found = re.search(r'multipart/form-data;.*boundary="?([^";]{1,70})"?', content_type, re.IGNORECASE)
    if not found:
        raise Unreadable(400, "Content-Type must be multipart/form-data")
    parts = (b"\r\n" + body).split(b"\r\n--" + found[1].encode("latin-1", "replace"))
    fields = {}
    for part in parts[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        if name := re.search(rb'[; ]name="([^"]{0,100})"', head):
            fields[name[1].decode("utf-8", "replace")] = content
    return fields


@dataclass(frozen=True)
class Answer:
    """One reply. `missing_bytes` are promised in Content-Length and never sent: an answer cut off on its way."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    missing_bytes: int = 0

    def send(self, start_response: Any, *, head_only: bool = False) -> Iterable[bytes]:
        try:
            reason = HTTPStatus(self.status).phrase
        except ValueError:
            reason = "Unavailable"  # 455 is nobody's standard
        start_response(
            f"{self.status} {reason}",
            [
                ("Content-Type", self.content_type),
                ("Content-Length", str(len(self.body) + self.missing_bytes)),
                ("X-Content-Type-Options", "nosniff"),
                *self.headers,
            ],
        )
        return [] if head_only else [self.body]


def json_answer(status: int, value: Any, **more: Any) -> Answer:
    return Answer(status, json.dumps(value).encode(), **more)


def html_answer(status: int, title: str, text: str) -> Answer:
    page = f"<!doctype html><html lang=en><title>{title}</title><h1>{title}</h1>{text}</html>"
    return Answer(status, page.encode(), content_type="text/html; charset=utf-8")
