"""The pretend providers over real HTTP: their roads, their strictness, their trouble. No mocks."""

from __future__ import annotations

import base64
import io
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
import pytest
import uvicorn
from a2wsgi import WSGIMiddleware
from PIL import Image

from flux2web.sandbox import make_app
from flux2web.sandbox.drawing import draw
from flux2web.sandbox.outgoing import REFERENCE_BYTES
from flux2web.sandbox.scenes import SCENES
from flux2web.sandbox.store import KEPT_TASKS, Order, Plan, Store
from flux2web.sandbox.wire import BODY_BYTES, INLINE_BYTES
from flux2web.sandbox.wishes import wishes_in, without_wishes

FAST = {"min_s": 0.05, "max_s": 0.06}
PATIENCE_S = 8.0
BEARER = {"Authorization": "Bearer sandbox"}
X_KEY = {"x-api-key": "sandbox"}
VENDORS = ("revid", "apikley", "apixo", "flux2api", "vtrix")
WITH_CALLBACK = ("revid", "apikley", "apixo", "flux2api")
DEAD = "http://127.0.0.1:9/nobody.png"


# --- servers ----------------------------------------------------------------------------------------------------------


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


class ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Sandbox:
    """The app behind a real socket, and a client that speaks its five languages."""

    def __init__(self, state_dir: Path, **pace: float) -> None:
        self.app = make_app(state_dir, **(FAST | pace))
        self.server = make_server("127.0.0.1", 0, self.app, ThreadingServer, QuietHandler)
        self.base = f"http://127.0.0.1:{self.server.server_port}/sandbox"
        self.http = httpx.Client(timeout=PATIENCE_S, trust_env=False)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.close()
        self.server.shutdown()
        self.server.server_close()
        self.app.close()

    def post(self, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
        return self.http.post(self.base + path, json=body, headers=headers)

    def create(self, vendor: str, **wanted: Any) -> httpx.Response:
        path, headers, _ = DOORS[vendor]
        return self.post(f"/{vendor}{path}", BODIES[vendor](**wanted), headers)

    def accepted(self, vendor: str, **wanted: Any) -> str:
        answer = self.create(vendor, **wanted)
        assert answer.status_code == 200, answer.text
        return task_id(answer.json())

    def status(self, vendor: str, upstream_id: str) -> httpx.Response:
        _, headers, (method, path) = DOORS[vendor]
        return self.http.request(method, f"{self.base}/{vendor}{path}{upstream_id}", headers=headers)

    def ending(self, vendor: str, upstream_id: str) -> dict[str, Any]:
        """The vendor's data once the task is over; `state` in lower case."""
        return until(lambda: over(self.status(vendor, upstream_id).json()))

    def picture(self, url: str) -> Image.Image:
        answer = self.http.get(url)
        assert answer.status_code == 200
        return Image.open(io.BytesIO(answer.content))


DOORS = {
    "revid": ("/paid/flux-2/create", X_KEY, ("POST", "/paid/get/taskid?taskId=")),
    "apikley": ("/api/v1/jobs/createTask", BEARER, ("GET", "/api/v1/jobs/recordInfo?taskId=")),
    "apixo": ("/api/v1/generateTask/flux-2", BEARER, ("GET", "/api/v1/statusTask/flux-2?taskId=")),
    "flux2api": ("/v1/generate", BEARER, ("GET", "/v1/status?task_id=")),
    "vtrix": ("/model/v1/generation", BEARER, ("GET", "/model/v1/generation/task/")),
}


def kie_body(
    prompt: str = "an abstract tile", references: Any = None, callback: str = "", **more: Any
) -> dict[str, Any]:
    mode = "text-to-image" if references is None else "image-to-image"
    given = {"prompt": prompt, "aspect_ratio": "1:1", "resolution": "1K"} | more
    body = {"model": f"flux-2/flex-{mode}", "input": given}
    if references is not None:
        given["input_urls"] = references
    return body | ({"callBackUrl": callback} if callback else {})


def apixo_body(
    prompt: str = "an abstract tile", references: Any = None, callback: str = "", **more: Any
) -> dict[str, Any]:
    mode = "pro-text-to-image" if references is None else "pro-image-to-image"
    given = {"mode": mode, "prompt": prompt, "aspect_ratio": "1:1", "resolution": "1K"} | more
    if references is not None:
        given["image_urls"] = references
    asked = {"request_type": "callback", "callback_url": callback} if callback else {"request_type": "async"}
    return asked | {"input": given}


def flux2api_body(
    prompt: str = "an abstract tile", references: Any = None, callback: str = "", **more: Any
) -> dict[str, Any]:
    mode = "pro-text-to-image" if references is None else "pro-image-to-image"
    body = {"model": mode, "prompt": prompt} | more
    body |= {} if references is None else {"images": references}
    return body | ({"callBackUrl": callback} if callback else {})


def vtrix_body(prompt: str = "an abstract tile", references: Any = (), **more: Any) -> dict[str, Any]:
    names = ("input_image", *(f"input_image_{n}" for n in range(2, 20)))
    size = {} if references else {"width": 256, "height": 256}
    given = {"prompt": prompt} | size | dict(zip(names, references or (), strict=False)) | more
    return {"model": "flux_2_pro", "input": [{"params": given}]}


BODIES = {
    "revid": kie_body,
    "apikley": kie_body,
    "apixo": apixo_body,
    "flux2api": flux2api_body,
    "vtrix": vtrix_body,
}


def task_id(reply: dict[str, Any]) -> str:
    data = reply.get("data") or reply
    return data.get("taskId") or data.get("task_id") or data["id"]


def over(reply: dict[str, Any]) -> dict[str, Any] | None:
    data = reply.get("data") or reply
    data["state"] = (data.get("state") or data.get("status")).lower()
    return data if data["state"] in ("success", "completed", "fail", "failed") else None


def result_url(data: dict[str, Any]) -> str:
    if "output" in data:
        return data["output"][0]["content"][0]["url"]
    return data["response"][0] if "response" in data else json.loads(data["resultJson"])["resultUrls"][0]


def failure_words(data: dict[str, Any]) -> str:
    return str(data.get("failMsg") or data.get("error_message") or data.get("error"))


def until(look: Any) -> Any:
    """What `look` gives as soon as it gives something."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


class Peer:
    """A little server of ours: hosts references under their names, and takes callbacks."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.rings: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.answers: list[int] = []  # statuses for the next callbacks; 200 afterwards
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def host(self, name: str, content: bytes) -> str:
        self.files[f"/{name}"] = content
        return f"{self.base}/{name}"

    def ring(self) -> dict[str, Any]:
        return self.rings.get(timeout=PATIENCE_S)[1]

    def _handler(peer) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                peer.fetched.append(self.path)
                content = peer.files.get(self.path)
                self._say(404 if content is None else 200, content or b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                peer.rings.put((self.path, json.loads(body)))
                self._say(peer.answers.pop(0) if peer.answers else 200, b"")

            def _say(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def picture_bytes(colour: str = "teal", size: tuple[int, int] = (96, 64), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


# --- the road ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", VENDORS)
def test_it_draws_from_text(sandbox: Sandbox, vendor: str) -> None:
    data = sandbox.ending(vendor, sandbox.accepted(vendor))
    picture = sandbox.picture(result_url(data))
    assert picture.format == "JPEG"
    assert picture.size == ((256, 256) if vendor == "vtrix" else (1024, 1024))


@pytest.mark.parametrize("vendor", VENDORS)
def test_it_draws_from_references(sandbox: Sandbox, peer: Peer, vendor: str) -> None:
    first = peer.host("one.png", picture_bytes("red"))
    second = peer.host("two.webp", picture_bytes("blue", kind="WEBP"))
    data = sandbox.ending(vendor, sandbox.accepted(vendor, references=[first, second]))
    assert peer.fetched == ["/one.png", "/two.webp"]
    colours = sandbox.picture(result_url(data)).resize((64, 64))
    pixels = [colours.getpixel((x, y)) for x in range(64) for y in range(64)]
    reddest, bluest = max(pixels, key=lambda p: p[0] - p[1] - p[2]), max(pixels, key=lambda p: p[2] - p[0] - p[1])
    assert reddest[0] - reddest[1] > 100
    assert bluest[2] - bluest[0] > 100


@pytest.mark.parametrize(
    ("ratio", "resolution", "size"),
    [("16:9", "1K", (1360, 768)), ("2:3", "1K", (832, 1248)), ("1:1", "2K", (2048, 2048))],
)
def test_it_draws_in_the_shape_asked_for(sandbox: Sandbox, ratio: str, resolution: str, size: tuple[int, int]) -> None:
    data = sandbox.ending("revid", sandbox.accepted("revid", aspect_ratio=ratio, resolution=resolution))
    assert sandbox.picture(result_url(data)).size == size


def test_it_takes_the_shape_of_reference_1(sandbox: Sandbox, peer: Peer) -> None:
    wide = peer.host("wide.png", picture_bytes(size=(200, 100)))
    data = sandbox.ending("apixo", sandbox.accepted("apixo", references=[wide], aspect_ratio="auto"))
    picture = sandbox.picture(result_url(data))
    assert picture.width == pytest.approx(2 * picture.height, rel=0.02)


def test_it_passes_through_the_vendors_words(tmp_path: Path) -> None:
    words = {
        "revid": ["waiting", "queuing", "generating", "success"],
        "apixo": ["pending", "processing", "success"],
        "flux2api": ["PENDING", "RUNNING", "SUCCESS"],
        "vtrix": ["pending", "in_progress", "completed"],
    }
    sandbox = Sandbox(tmp_path, min_s=0.6, max_s=0.6)
    ids = {vendor: sandbox.accepted(vendor) for vendor in words}
    seen: dict[str, list[str]] = {vendor: [] for vendor in words}

    def look() -> bool:
        for vendor, upstream_id in ids.items():
            reply = sandbox.status(vendor, upstream_id).json()
            data = reply.get("data") or reply
            word = data.get("state") or data["status"]
            seen[vendor] += [] if word in seen[vendor] else [word]
        return seen == words

    until(look)
    sandbox.close()


def test_an_apikley_upload_can_be_drawn_from(sandbox: Sandbox) -> None:
    files = {"file": ("cat.png", picture_bytes(), "image/png")}
    fields = {"uploadPath": "flux2web", "fileName": "cat.png"}
    url = f"{sandbox.base}/apikley/file-upload/api/file-stream-upload"
    reply = sandbox.http.post(url, files=files, data=fields, headers=BEARER).json()
    assert reply["success"] is True
    assert reply["data"]["fileSize"] == len(picture_bytes())
    data = sandbox.ending("apikley", sandbox.accepted("apikley", references=[reply["data"]["downloadUrl"]]))
    assert data["state"] == "success"


def test_apikley_refuses_uploads_that_are_no_pictures(sandbox: Sandbox) -> None:
    url = f"{sandbox.base}/apikley/file-upload/api/file-stream-upload"
    files = {"file": ("x.html", b"<script>alert(1)</script>", "text/html")}
    fields = {"uploadPath": "a", "fileName": "x.html"}
    assert sandbox.http.post(url, files=files, data=fields, headers=BEARER).json()["code"] == 422


def test_vtrix_takes_base64_and_tells_the_cost(sandbox: Sandbox) -> None:
    inline = base64.b64encode(picture_bytes()).decode()
    body = vtrix_body(references=[inline], width=2048, height=1024, output_format="png", seed=7)
    answer = sandbox.post("/vtrix/model/v1/generation", body, BEARER).json()
    assert "usage" not in answer
    data = sandbox.ending("vtrix", answer["id"])
    assert data["usage"]["cost"] == "0.060"  # 2 megapixels and one reference
    assert sandbox.picture(result_url(data)).format == "PNG"


def test_vtrix_takes_the_flat_body(sandbox: Sandbox) -> None:
    body = {"model": "flux_2_pro", "prompt": "a flat hill", "width": 64, "height": 96}
    data = sandbox.ending("vtrix", sandbox.post("/vtrix/model/v1/generation", body, BEARER).json()["id"])
    assert sandbox.picture(result_url(data)).size == (64, 96)


def test_it_tells_balances(sandbox: Sandbox) -> None:
    for path in ("/apikley/api/v1/chat/credit", "/apixo/api/v1/apikeys/current-balance"):
        reply = sandbox.http.get(sandbox.base + path, headers=BEARER).json()
        assert reply["code"] == 200
        assert reply["data"] > 0


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("content", [None, b"no picture", b"\xff\xd8\xff cut"])
def test_a_bad_reference_fails_the_task_later(sandbox: Sandbox, peer: Peer, vendor: str, content: bytes | None) -> None:
    address = DEAD if content is None else peer.host("bad.png", content)
    data = sandbox.ending(vendor, sandbox.accepted(vendor, references=[address]))
    assert data["state"].startswith("fail")
    assert "image" in failure_words(data).lower()


def test_a_reference_that_is_too_large_fails_the_task(sandbox: Sandbox, peer: Peer) -> None:
    address = peer.host("large.png", picture_bytes() + b"\0" * REFERENCE_BYTES)
    assert sandbox.ending("revid", sandbox.accepted("revid", references=[address]))["failCode"] == "422"


# --- callbacks --------------------------------------------------------------------------------------------------------


def test_revid_rings_with_its_query_reply(sandbox: Sandbox, peer: Peer) -> None:
    upstream_id = sandbox.accepted("revid", callback=f"{peer.base}/ring")
    ring = peer.ring()
    assert ring == sandbox.status("revid", upstream_id).json()
    assert json.loads(ring["data"]["param"])["callBackUrl"] == f"{peer.base}/ring"


def test_apikley_rings_as_kie_does(sandbox: Sandbox, peer: Peer) -> None:
    sandbox.accepted("apikley", prompt="[fail] a hill", callback=f"{peer.base}/ring")
    ring = peer.ring()
    assert (ring["code"], ring["data"]["state"], ring["data"]["failCode"]) == (501, "fail", "500")
    assert json.loads(ring["data"]["param"])["input"]["prompt"] == "[fail] a hill"


def test_apixo_rings_with_400_on_failure(sandbox: Sandbox, peer: Peer) -> None:
    upstream_id = sandbox.accepted("apixo", prompt="[filter] a hill", callback=f"{peer.base}/ring")
    ring = peer.ring()
    assert (ring["code"], ring["message"]) == (400, "failed")
    assert (ring["data"]["state"], ring["data"]["failCode"]) == ("failed", "CONTENT_VIOLATION")
    assert sandbox.status("apixo", upstream_id).json()["code"] == 200


def test_flux2api_rings_with_its_status_reply(sandbox: Sandbox, peer: Peer) -> None:
    upstream_id = sandbox.accepted("flux2api", callback=f"{peer.base}/ring")
    ring = peer.ring()
    assert (ring["data"]["task_id"], ring["data"]["status"]) == (upstream_id, "SUCCESS")


def test_a_callback_is_tried_again(sandbox: Sandbox, peer: Peer) -> None:
    peer.answers = [500, 503]
    sandbox.accepted("apixo", prompt="[fail] a hill", callback=f"{peer.base}/ring")
    assert peer.ring() == peer.ring() == peer.ring()
    time.sleep(0.2)
    assert peer.rings.empty()


def test_a_callback_is_given_up_after_its_tries(sandbox: Sandbox, peer: Peer) -> None:
    peer.answers = [500] * 9
    sandbox.accepted("revid", prompt="[fail] a hill", callback=f"{peer.base}/ring")
    for _ in range(3):
        peer.ring()
    time.sleep(0.4)
    assert peer.rings.empty()


# --- asking for trouble -----------------------------------------------------------------------------------------------


def test_wishes_are_read_and_not_drawn() -> None:
    assert wishes_in("[lost silent] a [red] hill [SLOW]") == {"lost", "silent", "slow"}
    assert without_wishes("[lost silent] a [red] hill [slow]") == "a [red] hill"


@pytest.mark.parametrize("vendor", VENDORS)
def test_fail_and_filter_fail_in_the_vendors_words(sandbox: Sandbox, vendor: str) -> None:
    failed = sandbox.ending(vendor, sandbox.accepted(vendor, prompt="[fail] a hill"))
    filtered = sandbox.ending(vendor, sandbox.accepted(vendor, prompt="[filter] a hill"))
    assert failed["state"].startswith("fail")
    assert failure_words(failed) != failure_words(filtered)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(("wish", "code"), [("broke", 402), ("refuse", 500), ("closed", 503), ("busy", 429)])
def test_a_create_is_refused_in_a_readable_way(sandbox: Sandbox, vendor: str, wish: str, code: int) -> None:
    if wish == "closed" and vendor in ("revid", "apikley"):
        code = 455
    answer = sandbox.create(vendor, prompt=f"[{wish}] a hill")
    assert answer.json().get("code", answer.status_code) == code
    assert answer.status_code == (200 if vendor == "apikley" and code != 500 else code)
    assert (answer.headers.get("Retry-After") == "2") == (wish == "busy")


def test_busy_is_over_after_two(sandbox: Sandbox) -> None:
    codes = [sandbox.create("revid", prompt="[busy] another hill").status_code for _ in range(4)]
    assert codes == [429, 429, 200, 200]


@pytest.mark.parametrize("vendor", VENDORS)
def test_html_is_a_bad_gateway(sandbox: Sandbox, vendor: str) -> None:
    answer = sandbox.create(vendor, prompt="[html] a hill")
    assert answer.status_code == 502
    assert answer.headers["Content-Type"].startswith("text/html")


def test_slow_takes_five_times_as_long(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path, min_s=0.1, max_s=0.1)
    sandbox.ending("apixo", quick := sandbox.accepted("apixo", prompt="[fail] hill"))
    sandbox.ending("apixo", slow := sandbox.accepted("apixo", prompt="[fail slow] hill"))
    times = [sandbox.status("apixo", i).json()["data"] for i in (quick, slow)]
    took_ms = [data["completeTime"] - data["createTime"] for data in times]
    assert took_ms == [pytest.approx(100, abs=15), pytest.approx(500, abs=15)]
    sandbox.close()


def test_stuck_never_ends_and_silent_never_rings(sandbox: Sandbox, peer: Peer) -> None:
    stuck = sandbox.accepted("revid", prompt="[stuck] a hill", callback=f"{peer.base}/ring")
    silent = sandbox.accepted("revid", prompt="[silent] abstract", callback=f"{peer.base}/ring")
    assert sandbox.ending("revid", silent)["state"] == "success"
    time.sleep(0.1)
    assert sandbox.status("revid", stuck).json()["data"]["state"] == "generating"
    assert peer.rings.empty()


@pytest.mark.parametrize("vendor", WITH_CALLBACK)
def test_lost_cuts_the_answer_and_rings_all_the_same(sandbox: Sandbox, peer: Peer, vendor: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        sandbox.create(vendor, prompt="[lost fail] a hill", callback=f"{peer.base}/ring")
    assert sandbox.ending(vendor, task_id(peer.ring()))["state"].startswith("fail")


def test_lost_and_silent_is_both(sandbox: Sandbox, peer: Peer) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        sandbox.create("revid", prompt="[lost silent] a hill", callback=f"{peer.base}/ring")
    time.sleep(0.3)
    assert peer.rings.empty()


def test_lost_is_cut_off_under_uvicorn_too(tmp_path: Path) -> None:
    app = make_app(tmp_path, **FAST)
    config = uvicorn.Config(WSGIMiddleware(app), log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/sandbox/revid/paid/flux-2/create"
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(url, json=kie_body(prompt="[lost fail] a hill"), headers=X_KEY, trust_env=False)
        assert httpx.post(url, json=kie_body(), headers=X_KEY, trust_env=False).json()["code"] == 200
        server.should_exit = True
        thread.join(PATIENCE_S)
    app.close()


def test_twice_rings_three_times(sandbox: Sandbox, peer: Peer) -> None:
    sandbox.accepted("apikley", prompt="[twice fail] a hill", callback=f"{peer.base}/ring")
    assert peer.ring() == peer.ring() == peer.ring()


@pytest.mark.parametrize("vendor", WITH_CALLBACK)
def test_early_rings_before_it_answers(sandbox: Sandbox, peer: Peer, vendor: str) -> None:
    upstream_id = sandbox.accepted(vendor, prompt="[early fail] a hill", callback=f"{peer.base}/ring")
    assert task_id(peer.rings.get_nowait()[1]) == upstream_id


@pytest.mark.parametrize("vendor", VENDORS)
def test_badjson_spoils_the_first_three_looks(sandbox: Sandbox, vendor: str) -> None:
    upstream_id = sandbox.accepted(vendor, prompt="[badjson fail] a hill")
    kinds = [sandbox.status(vendor, upstream_id).headers["Content-Type"].split(";")[0] for _ in range(4)]
    assert kinds == ["text/html"] * 3 + ["application/json"]


def test_gone_has_no_picture(sandbox: Sandbox) -> None:
    data = sandbox.ending("revid", sandbox.accepted("revid", prompt="[gone] abstract"))
    assert sandbox.http.get(result_url(data)).status_code == 404


# --- strictness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer other", "x-api-key": "other"}])
def test_only_the_key_opens(sandbox: Sandbox, vendor: str, headers: dict[str, str]) -> None:
    answer = sandbox.post(f"/{vendor}{DOORS[vendor][0]}", BODIES[vendor](), headers)
    assert answer.json().get("code", answer.status_code) == 401
    assert answer.status_code == (200 if vendor == "apikley" else 401)


def test_revid_wants_its_own_header(sandbox: Sandbox) -> None:
    assert sandbox.post("/revid/paid/flux-2/create", kie_body(), BEARER).status_code == 401


REFERENCE = "http://127.0.0.1:1/a.png"
WRONG_ANYWHERE = [
    {"prompt": "ab"},
    {"prompt": "  a  "},
    {"prompt": "x" * 5001},
    {"prompt": 7},
    {"prompt": None},
    {"guidance": 3},
    {"references": [REFERENCE] * 9},
    {"references": ["ftp://host/a.png"]},
    {"references": [7]},
]
WRONG_RATIOS = [{"aspect_ratio": "5:4"}, {"aspect_ratio": "auto"}, {"resolution": "4K"}, {"resolution": None}]
WRONG_KIE = [*WRONG_RATIOS, {"references": []}, {"input_urls": []}, {"seed": 1}]
WRONG_APIXO = [*WRONG_RATIOS, {"references": []}, {"image_urls": [REFERENCE]}, {"mode": "max-text-to-image"}]
WRONG_FLUX2API = [
    *({"aspect_ratio": "3:2"}, {"aspect_ratio": "auto", "references": [REFERENCE]}, {"resolution": "4K"}),
    *({"references": []}, {"images": [REFERENCE]}, {"model": "flux-2/pro-text-to-image"}),
]
WRONG_VTRIX = [
    *({"width": 100}, {"width": 32}, {"height": "256"}, {"height": 4096}, {"width": True}),
    *({"safety_tolerance": 2}, {"safety_tolerance": "0"}, {"safety_tolerance": "7"}, {"output_format": "webp"}),
    *({"seed": "1"}, {"seed": 1.5}, {"input_image_2": REFERENCE}, {"aspect_ratio": "1:1"}, {"input_image": "%%%"}),
]
CASES = {
    "revid": WRONG_KIE,
    "apikley": [*WRONG_KIE],
    "apixo": WRONG_APIXO,
    "flux2api": WRONG_FLUX2API,
    "vtrix": WRONG_VTRIX,
}


@pytest.mark.parametrize(
    ("vendor", "wanted"),
    [(vendor, case) for vendor, own in CASES.items() for case in [*WRONG_ANYWHERE, *own]],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:50],
)
def test_wrong_input_is_refused(sandbox: Sandbox, vendor: str, wanted: dict[str, Any]) -> None:
    answer = sandbox.create(vendor, **wanted)
    assert answer.json().get("code", answer.status_code) == (422 if vendor in ("revid", "apikley") else 400)
    assert not answer.json().get("id")


def test_apikley_offers_no_pro(sandbox: Sandbox) -> None:
    body = kie_body() | {"model": "flux-2/pro-text-to-image"}
    assert sandbox.post("/apikley/api/v1/jobs/createTask", body, BEARER).json()["code"] == 422


@pytest.mark.parametrize(
    "top",
    [
        {"request_type": "callback"},
        {"request_type": "async", "callback_url": "http://127.0.0.1:1/"},
        {"request_type": "callback", "callback_url": "not an address"},
        {"request_type": "sync"},
        {"request_type": None},
        {"callBackUrl": "http://127.0.0.1:1/"},
    ],
)
def test_apixo_wants_a_callback_address_exactly_for_callbacks(sandbox: Sandbox, top: dict[str, Any]) -> None:
    body = apixo_body() | top
    assert sandbox.post("/apixo/api/v1/generateTask/flux-2", body, BEARER).status_code == 400


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b"", {400}),
        (b"{", {400}),
        (b"[]", {400, 422}),
        (b"null", {400, 422}),
        (b"\xff\xfe", {400}),
        (b'{"prompt": "\\ud800 a hill"}', {400}),
        (b"[" * 100_000, {400}),
        (b'{"seed": ' + b"9" * 5000 + b"}", {400}),
        (b"huge", {413}),
    ],
    ids=["empty", "cut", "list", "null", "bytes", "surrogate", "deep", "long number", "huge"],
)
def test_garbage_is_refused(sandbox: Sandbox, vendor: str, body: bytes, statuses: set[int]) -> None:
    path, headers, _ = DOORS[vendor]
    headers = headers | {"Content-Type": "application/json"}
    if body == b"huge":
        body = b" " * ((INLINE_BYTES if vendor == "vtrix" else BODY_BYTES) + 1)
    answer = sandbox.http.post(f"{sandbox.base}/{vendor}{path}", content=body, headers=headers)
    assert answer.json().get("code", answer.status_code) in statuses


@pytest.mark.parametrize("vendor", VENDORS)
def test_unknown_paths_and_tasks_are_told_in_json(sandbox: Sandbox, vendor: str) -> None:
    nowhere = sandbox.http.get(f"{sandbox.base}/{vendor}/nowhere", headers=BEARER | X_KEY)
    assert nowhere.json().get("code", nowhere.status_code) == 404
    unknown = sandbox.status(vendor, "no-such-task")
    assert unknown.json().get("code", unknown.status_code) == (422 if vendor == "revid" else 404)


def test_the_method_matters(sandbox: Sandbox) -> None:
    answer = sandbox.http.get(f"{sandbox.base}/revid/paid/get/taskid?taskId=x", headers=X_KEY)
    assert answer.status_code == 405


@pytest.mark.parametrize("path", ["/nowhere", "/files/../sandbox.sqlite3", "/files/%2e%2e/sandbox.sqlite3", "/files/"])
def test_nothing_else_is_served(sandbox: Sandbox, path: str) -> None:
    answer = sandbox.http.get(sandbox.base + path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/json")


def test_the_front_page_says_what_this_is(sandbox: Sandbox) -> None:
    page = sandbox.http.get(f"{sandbox.base}/").text
    assert "pretend" in page
    assert "<script" not in page
    assert "style" not in page


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_task_goes_on_after_a_restart(tmp_path: Path, peer: Peer) -> None:
    before = Sandbox(tmp_path, min_s=0.4, max_s=0.4)
    upstream_id = before.accepted("apixo", callback=f"{peer.base}/ring")
    started = time.monotonic()
    before.close()
    assert time.monotonic() - started < 1.5
    assert peer.rings.empty()
    after = Sandbox(tmp_path)
    assert peer.ring()["data"]["taskId"] == upstream_id
    assert after.ending("apixo", upstream_id)["state"] == "success"
    after.close()


def test_a_create_answers_at_once(sandbox: Sandbox, peer: Peer) -> None:
    sandbox.accepted("revid")
    started = time.monotonic()
    sandbox.accepted("revid", references=[DEAD], resolution="2K")
    assert time.monotonic() - started < 0.3


def test_old_tasks_and_their_files_are_forgotten(tmp_path: Path) -> None:
    store = Store(tmp_path)
    now = time.time()
    for n in range(KEPT_TASKS + 3):
        store.write_file(f"{n}.jpg", b"x")
        task = store.add("revid", f"id{n}", Order("a hill"), {}, "http://h", lambda n: Plan(now, None, "", 0))
        store.finish(task, file=f"{n}.jpg")
    time.sleep(0.01)
    store.prune()
    assert store.task("revid", "id2") is None
    assert store.task("revid", "id3") is not None
    assert sum(1 for _ in store.files.iterdir()) == KEPT_TASKS
    store.close()


# --- drawing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_every_scene_fills_every_shape(scene: str) -> None:
    for size in ((64, 64), (320, 96), (96, 320)):
        picture = draw(scene.replace("_", " "), 1, [], size)
        assert (picture.size, picture.mode) == (size, "RGB")
        assert len(picture.getcolors(100_000) or []) > 50


def test_the_same_asked_again_is_the_same() -> None:
    references = [Image.new("RGB", (40, 30), "red")]
    first, again = (draw("a hill", 5, references, (200, 160)) for _ in range(2))
    other = draw("a hill", 6, references, (200, 160))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_a_prompt_may_hold_anything() -> None:
    for prompt in ("\0\n", "холмы на рассвете 🌄", "%s {} [x]"):
        assert draw(prompt, 0, [], (64, 64)).size == (64, 64)
