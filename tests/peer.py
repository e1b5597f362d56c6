"""A provider on loopback that does exactly what a test tells it: Revid's wire (docs.revidapi.com), over a real socket.

peer.answers.append(peer.accept)            # what the next creates get; empty: accept
peer.jobs["id-1"] = "success"               # how a task stands; "waiting" until told
"""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from PIL import Image

Answer = Callable[["Handler", str], None]


def picture(width: int = 96, height: int = 72, colour: str = "teal", fmt: str = "PNG") -> bytes:
    """A small real picture."""
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(out, fmt, comment=colour)
    return out.getvalue()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.peer.get(self)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.peer.post(self, body)

    def say(self, status: int, body: bytes, mime: str = "application/json", **headers: str):
        self.send_response(status)
        for name, value in {"Content-Type": mime, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def envelope(self, code: int, data: object = None, msg: str = "success", status: int = 200, **headers: str):
        self.say(status, json.dumps({"code": code, "msg": msg, "data": data}).encode(), **headers)

    def cut(self):
        """Close in the middle of the answer."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{")
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)


class Peer:
    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self.creates: list[dict] = []  # the bodies that arrived, in order
        self.accepted: list[str] = []  # the ids given out
        self.looks: list[str] = []
        self.fetches = 0
        self.answers: list[Answer] = []
        self.look_answers: list[Answer] = []
        self.jobs: dict[str, str] = {}
        self.picture = picture()
        self.fetch_status = 200
        self.default_state = "waiting"
        self.latency_s = 0.0
        self.url = ""

    # --- What creates may be answered

    def accept(self, handler: Handler, upstream_id: str) -> None:
        self._take(upstream_id)
        handler.envelope(200, {"taskId": upstream_id})

    def accept_then_cut(self, handler: Handler, upstream_id: str) -> None:
        self._take(upstream_id)
        handler.cut()

    def cut(self, handler: Handler, upstream_id: str) -> None:
        handler.cut()

    def refuse(self, code: int, msg: str = "no", status: int = 200, **headers: str) -> Answer:
        return lambda handler, _: handler.envelope(code, None, msg, status, **headers)

    def html(self, status: int) -> Answer:
        return lambda handler, _: handler.say(status, b"<html>Bad gateway</html>", "text/html")

    def _take(self, upstream_id: str) -> None:
        self.accepted.append(upstream_id)
        self.jobs.setdefault(upstream_id, self.default_state)

    # --- Serving

    def post(self, handler: Handler, body: bytes) -> None:
        parts = urlsplit(handler.path)
        if parts.path == "/paid/flux-2/create":
            return self._create(handler, body)
        if (
            parts.path == "/v1/generate"
        ):  # Flux2API (flux2api.com/docs), for tests in which one provider follows another
            return handler.envelope(200, {"task_id": "f2-1"})
        self._look(handler, parse_qs(parts.query)["taskId"][0])

    def _create(self, handler: Handler, body: bytes) -> None:
        time.sleep(self.latency_s)
        with self._lock:
            self.creates.append(json.loads(body) | {"_key": handler.headers["x-api-key"]})
            upstream_id = f"up-{next(self._ids)}"
            answer = self.answers.pop(0) if self.answers else self.accept
        answer(handler, upstream_id)

    def _look(self, handler: Handler, upstream_id: str) -> None:
        with self._lock:
            self.looks.append(upstream_id)
            answer = self.look_answers.pop(0) if self.look_answers else None
        if answer:
            return answer(handler, upstream_id)
        state = self.jobs.get(upstream_id)
        if state is None:
            return handler.envelope(422, None, "recordInfo is null")
        handler.envelope(200, self.record(upstream_id, state))

    def record(self, upstream_id: str, state: str) -> dict:
        done = json.dumps({"resultUrls": [f"{self.url}/files/{upstream_id}.png"]}) if state == "success" else None
        failed = {"failCode": "500", "failMsg": "it broke"} if state == "fail" else {"failCode": None, "failMsg": None}
        return {"taskId": upstream_id, "state": state, "resultJson": done, **failed}

    def callback_body(self, upstream_id: str, state: str = "success") -> bytes:
        return json.dumps({"code": 200, "msg": "success", "data": self.record(upstream_id, state)}).encode()

    def get(self, handler: Handler) -> None:
        with self._lock:
            self.fetches += 1
        if self.fetch_status != 200:
            return handler.say(self.fetch_status, b"gone", "text/plain")
        handler.say(200, self.picture, "image/png")


class _Server(ThreadingHTTPServer):
    request_queue_size = 512  # calls that come at once


@contextmanager
def serving(peer: Peer | None = None) -> Iterator[Peer]:
    peer = peer or Peer()
    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.peer = peer
    peer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        server.server_close()
