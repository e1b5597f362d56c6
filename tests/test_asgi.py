"""The dispatcher in front of Django, over real sockets: limits before threads, and no guest that starves another."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from flux2web import asgi, providers, storage
from flux2web.asgi import is_from_here
from flux2web.models import Callback
from flux2web.providers import base

from . import factories, serving
from .peer import picture

pytestmark = pytest.mark.django_db(transaction=True)
QUICKLY_S = 5  # generous: this machine may be busy. What starves, starves until a limit far above it


@pytest.fixture
def url():
    with serving.site() as url:
        yield url


@pytest.fixture
def ana_cookies(ana, client_for):
    return serving.cookies(client_for(ana))


@contextmanager
def wire(url: str):
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as sock:
        yield sock


def said(sock: socket.socket) -> bytes:
    """All that comes until the server closes."""
    chunks = []
    while chunk := sock.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def ask(url: str, request: bytes) -> bytes:
    with wire(url) as sock:
        sock.sendall(request)
        return said(sock)


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode("latin1")


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def seconds(do) -> float:
    began = time.monotonic()
    do()
    return time.monotonic() - began


# --- How much, how fast ------------------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(settings):
    settings.BODY_MAX_BYTES = 1000
    with serving.site() as url:
        answer = ask(url, head("POST", "/accounts/login/", "Content-Length: 1001"))
    assert status_of(answer) == 413
    assert b"Send smaller or fewer files" in answer


def test_a_body_that_grows_too_large_is_refused(settings):
    settings.BODY_MAX_BYTES = 1000
    with serving.site() as url:
        chunk = b"1f4\r\n" + b"x" * 500 + b"\r\n"
        answer = ask(url, head("POST", "/accounts/login/", "Transfer-Encoding: chunked") + chunk * 2 + b"1\r\nx\r\n")
    assert status_of(answer) == 413


def test_a_body_that_drips_is_let_go(settings):
    settings.BODY_MAX_S = 0.3
    with serving.site() as url:
        answer = ask(url, head("POST", "/accounts/login/", "Content-Length: 100") + b"x")
    assert status_of(answer) == 408


def test_a_body_in_chunks_arrives_whole(north, ana):
    task = factories.make_task(north, user=ana, state="running", secret="ding")
    provider, body = task.account.provider, [b'{"task', b'Id": "', b"7" * 70, b'"}']
    with serving.site() as url:
        assert httpx.post(f"{url}/hooks/{provider}/ding/", content=iter(body)).status_code == 200
    assert bytes(Callback.objects.get().body) == b"".join(body)


def test_dripping_uploads_take_no_thread_from_pages(url, ana_cookies):
    with ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(wire(url))
            sock.sendall(head("POST", "/t/north/references/", "Content-Length: 5000000") + b"drip")
        page = httpx.get(f"{url}/t/north/", cookies=ana_cookies, timeout=QUICKLY_S)
    assert page.status_code == 200


def test_readers_who_stop_reading_take_no_thread_from_pages(north, ana_cookies, url):
    task = factories.make_task(north, state="done")
    task.result.key = factories.store("results/large.png", b"x" * 20 * 2**20)
    task.result.save()
    cookie = "; ".join(f"{name}={value}" for name, value in ana_cookies.items())
    with ExitStack() as stack:
        for _ in range(asgi.PAGE_THREADS + 4):
            sock = stack.enter_context(wire(url))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(head("GET", f"/t/north/results/{task.pk}/original", f"Cookie: {cookie}"))
            assert sock.recv(12) == b"HTTP/1.1 200"
        page = httpx.get(f"{url}/t/north/", cookies=ana_cookies, timeout=QUICKLY_S)
    assert page.status_code == 200


def test_a_large_file_arrives_whole(north, ana_cookies, url):
    task = factories.make_task(north, state="done")
    content = bytes(range(256)) * 4096 * 5
    task.result.key = factories.store("results/whole.png", content)
    task.result.save()
    got = httpx.get(f"{url}/t/north/results/{task.pk}/original", cookies=ana_cookies)
    assert got.content == content


def test_a_reader_who_stalls_for_long_is_cut_off(north, ana_cookies, monkeypatch):
    monkeypatch.setattr(asgi, "STALLED_S", 0.3)
    task = factories.make_task(north, state="done")
    task.result.key = factories.store("results/large.png", b"x" * 20 * 2**20)
    task.result.save()
    with (
        serving.site() as url,
        httpx.stream("GET", f"{url}/t/north/results/{task.pk}/original", cookies=ana_cookies) as r,
    ):
        time.sleep(2)
        with pytest.raises(httpx.RemoteProtocolError):
            r.read()


def test_two_hundred_pages_start_no_thread_beyond_the_pools(url, ana_cookies):
    def many():
        with ThreadPoolExecutor(20) as pool:
            asked = [pool.submit(httpx.get, f"{url}/health/live") for _ in range(100)]
            assert {future.result().status_code for future in asked} == {200}

    many()
    before = len(threading.enumerate())
    many()
    assert (
        len(threading.enumerate()) <= before + FEW
    )  # a clock or a worker of the site may come; 100 pages would not hide


FEW = 5


# --- Whatever is asked -------------------------------------------------------------------------------------------------

PATHS = [
    "/t/n%C3%B8rth/",
    "/t/%FF%FE/",
    "/%00",
    "/i/%F0%9F%92%A9",
    "/hooks/revid/%ED%A0%80/",
    "/t/north/cards/?have=%FF&after=%ED%A0%80",
    "/?q=" + "ü".encode().decode("latin1"),
    "/?q=%",
    "//evil.example/",
    "/../../etc/passwd",
    "/static/../manage.py",
    "/static/%2e%2e/manage.py",
    "/t/north/live",
    "/" + "a" * 8000,
]


@pytest.mark.parametrize("path", PATHS)
def test_no_address_is_an_error_of_ours(path, url):
    status = status_of(ask(url, head("GET", path, "Connection: close")))
    assert status < 500
    assert status != 200 or path.startswith("/?")


def test_a_query_in_another_alphabet_reaches_the_page_as_it_was_sent(url, ana_cookies):
    page = httpx.get(f"{url}/t/north/", params={"prompt": "høst – 秋"}, cookies=ana_cookies)
    assert "høst – 秋" in page.text
    raw = head("GET", "/t/north/?prompt=", "Connection: close", f"Cookie: session={ana_cookies['session']}")
    answer = ask(url, raw.replace(b"prompt= ", b"prompt=" + "秋".encode() + b" "))
    assert status_of(answer) == 400 or "秋".encode() in answer


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "CONNECT"])
def test_no_method_is_an_error_of_ours(method, url):
    for path in ("/", "/health/live", "/t/north/live/", "/accounts/login/", "/sandbox/"):
        assert status_of(ask(url, head(method, path, "Connection: close"))) < 500


def test_head_is_get_without_the_body(url):
    got, headed = httpx.get(f"{url}/health/live"), httpx.head(f"{url}/health/live")
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["content-length"] == str(len(got.content))


def test_a_websocket_is_refused(url):
    upgrade = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: " + "a" * 22 + "==",
        "Sec-WebSocket-Version: 13",
    ]
    for path in ("/t/north/live/", "/"):
        with wire(url) as sock:
            sock.sendall(head("GET", path, *upgrade))
            assert status_of(sock.recv(1000)) in (302, 400, 403, 404)


def test_a_header_with_underscores_does_not_pass_for_one_with_dashes(settings):
    settings.SECURE_SSL_REDIRECT, settings.SECURE_PROXY_SSL_HEADER = True, ("HTTP_X_FORWARDED_PROTO", "https")
    with serving.site() as url:
        assert httpx.get(f"{url}/accounts/login/", headers={"X_Forwarded_Proto": "https"}).status_code == 301
        assert httpx.get(f"{url}/accounts/login/", headers={"X-Forwarded-Proto": "https"}).status_code == 200


# --- The pretend providers ---------------------------------------------------------------------------------------------


@pytest.fixture
def sandbox_url(settings):
    settings.EMBEDDED = True
    with serving.site() as url:
        yield url


def test_the_sandbox_is_there_for_this_machine_alone(sandbox_url):
    assert httpx.get(f"{sandbox_url}/sandbox/").status_code == 200
    for name in ("X-Forwarded-For", "x-forwarded-for", "X-Forwarded-Proto", "X-Real-IP", "Via", "Forwarded"):
        for value in ("203.0.113.7", "127.0.0.1", "for=127.0.0.1", ""):
            assert httpx.get(f"{sandbox_url}/sandbox/", headers={name: value}).status_code == 404


@pytest.mark.parametrize("client", [("203.0.113.7", 1), ("10.0.0.1", 1), ("::ffff:10.0.0.1", 1), None])
def test_another_machine_is_not_this_one(client):
    assert not is_from_here({"client": client, "headers": []})


def test_there_is_no_sandbox_where_many_machines_serve(settings):
    settings.EMBEDDED = False
    with serving.site() as url:
        assert httpx.get(f"{url}/sandbox/").status_code == 404


def test_creates_that_fetch_references_from_us_pass_while_every_page_thread_is_busy(north, ana, settings):
    """Every create holds a sandbox thread and needs another answer of this very server meanwhile."""
    settings.EMBEDDED, count = True, asgi.SANDBOX_THREADS + 4
    reference = factories.make_reference(north, user=ana, content=picture())
    hosting = factories.make_hosting(reference, factories.make_task(north, user=ana, references=[reference]))
    with serving.site() as url, busy_pages(url), ThreadPoolExecutor(count) as pool:
        hosted = base.Reference(url + storage.hosting_path(hosting), None, "image/png")
        request = base.Request(
            prompt="At dusk", family="pro", aspect_ratio="4:3", resolution="1K", references=(hosted,)
        )
        account = base.Account("sandbox", f"{url}/sandbox/revid", {})
        sent = [pool.submit(providers.get("revid").submit, request, account, None) for _ in range(count)]
        assert len({future.result(20).upstream_id for future in sent}) == count


# --- Nobody starves another --------------------------------------------------------------------------------------------


@contextmanager
def busy_pages(url: str):
    """More people asking for pages, all the time, than there are threads for pages."""
    with storm(lambda http: http.get(f"{url}/accounts/login/"), asgi.PAGE_THREADS + 4):
        yield


@contextmanager
def storm(do, people: int):
    stop, statuses = threading.Event(), []

    def rage():
        with httpx.Client(timeout=30) as http:
            while not stop.is_set():
                statuses.append(do(http).status_code)

    raging = [threading.Thread(target=rage) for _ in range(people)]
    for thread in raging:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in raging:
            thread.join(30)


def test_a_storm_on_the_hooks_does_not_starve_pages(url, ana_cookies):
    with storm(lambda http: http.post(f"{url}/hooks/revid/nobody/", content=b"{}"), 16) as statuses:
        time.sleep(0.3)
        page = httpx.get(f"{url}/t/north/", cookies=ana_cookies, timeout=QUICKLY_S)
    assert page.status_code == 200
    assert set(statuses) == {404}


def test_busy_pages_do_not_starve_the_hooks(url, north, ana):
    task = factories.make_task(north, user=ana, state="running", secret="ding")
    with busy_pages(url):
        time.sleep(0.3)
        rung = httpx.post(f"{url}/hooks/{task.account.provider}/ding/", content=b"{}", timeout=QUICKLY_S)
    assert rung.status_code == 200
