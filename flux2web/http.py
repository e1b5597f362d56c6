"""The wire: the one module that imports httpx. `call` asks a provider, `fetch` gets a picture from a stranger.

A provider's address is the operator's own setting and may be loopback. A stranger's address came out of somebody's
answer, so it passes the rules against server-side request forgery: the name is resolved once, every address it has must lie
outside the forbidden networks, and the connection goes to exactly the address that was judged.

Both keep a deadline for the whole exchange. httpx limits each read alone, so a server that sends a byte a second could
hold a thread for hours; `_Wire`, our network backend, cuts every connect, read and write to what is left of the
deadline. It also notes whether any byte of the request left the house, which decides what "not sent" means without
guessing from exceptions.

Clients: one pair per thread. One httpx.Client shared by 64 threads costs 3.7 ms a call, most of it in the pool's lock
and its scan of all connections (measured 2026-11, encode/httpx#3215); a pool used by one thread contends with nobody.
"""

from __future__ import annotations

import ipaddress
import json as jsonlib
import re
import socket
import ssl
import threading
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal
from urllib.parse import quote

import httpcore
import httpx

from . import faults

CONNECT_TIMEOUT_S = 5.0
RESOLVE_TIMEOUT_S = 5.0
CALL_BODY_MAX_BYTES = 2**20
JSON_DEPTH_MAX = 64

FETCH_URL_MAX_CHARS = 4096  # signed addresses are long; what adapters let pass (wire.URL_MAX_CHARS) must be fetched
FETCH_REDIRECTS_MAX = 3
FETCH_HEADERS_MAX_BYTES = 64 * 2**10
FETCH_GRACE_S = 10.0  # to connect, shake hands and send the head, before the minimum rate counts

# uvicorn and Node close an idle connection after 5 s, others later: below that, reuse meets no dying connection.
KEEPALIVE_S = 4.0
IDLE_CONNECTIONS_PER_THREAD = 2

USER_AGENT = "flux2web"
MESSAGE_MAX_CHARS = 300

Sent = Literal["no", "unknown"]
FetchKind = Literal["gone", "refused", "unreachable"]


class Unreachable(Exception):
    """No usable answer came. `sent` is "no" only when not one byte of the request left; `message` is safe to show."""

    def __init__(self, message: str, *, sent: Sent) -> None:
        super().__init__(message)
        self.message, self.sent = message, sent


class FetchFailed(Exception):
    """A stranger's file did not come; `message` names the host at most.

    gone: 403, 404, 410. refused: against our rules (address, scheme, size, encoding). unreachable: try again later.
    """

    def __init__(self, message: str, kind: FetchKind) -> None:
        super().__init__(message)
        self.message, self.kind = message, kind


class _Forbidden(Exception):
    """A rule of ours says no. The text is for people."""


# --- calls to providers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """What a provider answered, redirects included: nothing here follows one. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any | None:
        """The object or array in the body, fractions as Decimal; None when there is none that we can read."""
        try:
            text = self.body.decode("utf-8-sig")
            value = jsonlib.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
        except (ValueError, ArithmeticError, RecursionError):
            return None
        return value if isinstance(value, dict | list) and not _is_deeper_than(JSON_DEPTH_MAX, value) else None


def call(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    json: Any = None,
    params: Mapping[str, str] | None = None,
    data: Mapping[str, Any] | None = None,
    files: Any = None,
    timeout_s: float = 60.0,
    repeatable: bool = False,
) -> Reply:
    """One request to a provider's address, sent once at most, over within `timeout_s` whatever the server does.

    `repeatable`: asking twice would do no harm, so it may go over a kept connection. A GET always is.
    """
    client, wire = _own_client(repeatable or method.upper() in ("GET", "HEAD"))
    try:
        request = client.build_request(method, url, headers=headers, json=json, params=params, data=data, files=files)
    except (httpx.InvalidURL, ValueError) as problem:
        raise Unreachable(f"The request cannot be sent: {type(problem).__name__}.", sent="no") from None
    wire.begin(timeout_s)
    try:
        return _exchange(client, request)
    except _FAILURES as failure:
        raise Unreachable(f"{_shown(request.url.host)} {_reason(failure)}", sent=wire.sent) from None
    except _Forbidden as rule:
        raise Unreachable(f"{_shown(request.url.host)} {rule}", sent=wire.sent) from None


def _exchange(client: httpx.Client, request: httpx.Request) -> Reply:
    response = client.send(request, stream=True)
    try:
        raw = b"".join(_capped(response.iter_raw(), CALL_BODY_MAX_BYTES))
    finally:
        response.close()
    body = _unpack(raw, response.headers.get("content-encoding", "identity").strip().lower())
    return Reply(response.status_code, dict(response.headers), body)


def _capped(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    received_bytes = 0
    for chunk in chunks:
        received_bytes += len(chunk)
        if received_bytes > max_bytes:
            raise _Forbidden(f"sent more than {max_bytes // 2**20} MB.")
        yield chunk


def _unpack(raw: bytes, encoding: str) -> bytes:
    """We ask for identity, but an answer to a paid request must be read even where a proxy compresses regardless."""
    if encoding in ("", "identity"):
        return raw
    if encoding not in ("gzip", "x-gzip"):
        raise _Forbidden("answered in an encoding that was not asked for.")
    unzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = unzip.decompress(raw, CALL_BODY_MAX_BYTES)
    except zlib.error:
        raise _Forbidden("sent a damaged answer.") from None
    if not unzip.eof:
        raise _Forbidden("sent a cut answer, or one that is too long.")
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _is_deeper_than(limit: int, value: Any) -> bool:
    level = [value]
    for _ in range(limit):
        level = [child for item in level for child in _children(item)]
    return bool(level)


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


# --- files from strangers --------------------------------------------------------------------------------------------


def fetch(
    url: str,
    *,
    own_origin: str | None = None,
    max_bytes: int = 30 * 2**20,
    total_s: float = 60.0,
    min_bytes_per_s: int = 1024,
) -> bytes:
    """The bytes at a stranger's address, or FetchFailed.

    `own_origin` ("http://127.0.0.1:8000") is the origin of the account's own base URL, set by the operator: what lies
    on exactly that scheme, host and port is fetched without the rules about schemes and networks.
    """
    pace = _Pace(time.monotonic(), total_s, min_bytes_per_s)
    try:
        target = _permitted(url, own_origin)
        for _ in range(FETCH_REDIRECTS_MAX + 1):
            found = _hop(target, own_origin, max_bytes, pace)
            if isinstance(found, bytes):
                return found
            target = _permitted(str(found), own_origin)
    except _Forbidden as rule:
        raise FetchFailed(f"{_host_of(url)} {rule}", "refused") from None
    except _FAILURES as failure:
        raise FetchFailed(f"{_host_of(url)} {_reason(failure)}", "unreachable") from None
    raise FetchFailed(f"{_host_of(url)} redirects too often.", "refused")


@dataclass(frozen=True)
class _Pace:
    """How long the next byte may take: a slow sender's time runs out as surely as a silent one's."""

    began: float
    total_s: float
    min_bytes_per_s: int

    def deadline(self, received_bytes: int) -> float:
        allowed_s = FETCH_GRACE_S + received_bytes / self.min_bytes_per_s
        return self.began + min(self.total_s, allowed_s)


def _hop(target: httpx.URL, own_origin: str | None, max_bytes: int, pace: _Pace) -> bytes | httpx.URL:
    """One request: the body, or where it sends us next. A connection of its own, closed behind it."""
    wire = _Wire(_anywhere if _is_own(target, own_origin) else _outside_forbidden_networks)
    wire.deadline = pace.deadline(0)
    headers = {"accept": "image/*", "connection": "close"}
    with _new_client(wire, idle_connections=0) as client, client.stream("GET", target, headers=headers) as response:
        if response.has_redirect_location:
            return _next_address(target, response.headers["location"])
        _check_head(response, target.host, max_bytes)
        return _body(response, wire, max_bytes, pace)


def _next_address(target: httpx.URL, location: str) -> httpx.URL:
    try:
        return target.join(location)
    except (httpx.InvalidURL, ValueError):
        raise _Forbidden("redirects to an address that cannot be read.") from None


def _check_head(response: httpx.Response, host: str, max_bytes: int) -> None:
    if response.status_code != 200:
        kind: FetchKind = "gone" if response.status_code in (403, 404, 410) else "unreachable"
        raise FetchFailed(f"{_shown(host)} answered {response.status_code}.", kind)
    if sum(len(name) + len(value) for name, value in response.headers.raw) > FETCH_HEADERS_MAX_BYTES:
        raise _Forbidden("sent more headers than we read.")
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise _Forbidden("compressed a picture, which we do not accept.")
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:18]) > max_bytes:
        raise _Forbidden(f"offers more than {max_bytes / 2**20:.0f} MB.")


def _body(response: httpx.Response, wire: _Wire, max_bytes: int, pace: _Pace) -> bytes:
    """The whole body. Shorter than its Content-Length is an error of h11's; what is longer is left unread."""
    body = bytearray()
    for chunk in _capped(response.iter_raw(), max_bytes):
        body += chunk
        wire.deadline = pace.deadline(len(body))
    if not body:
        raise httpcore.RemoteProtocolError("empty body")
    return bytes(body)


def _permitted(url: str, own_origin: str | None) -> httpx.URL:
    """The address, when its spelling breaks no rule. Where its name leads is judged by `_Wire`, at the connection."""
    target = _parsed(url)
    if target.userinfo:
        raise _Forbidden("is an address with a name or password in it.")
    if _is_own(target, own_origin):
        return target
    if target.scheme != "https":
        raise _Forbidden("is not an https address.")
    if target.port not in (None, 443):
        raise _Forbidden("is an address with an unusual port.")
    return target


def _parsed(url: str) -> httpx.URL:
    if len(url) > FETCH_URL_MAX_CHARS:
        raise _Forbidden(f"is an address of more than {FETCH_URL_MAX_CHARS} characters.")
    if re.search(r"[\x00-\x20\x7f\\]", url):  # what different parsers read differently
        raise _Forbidden("is an address with characters that do not belong there.")
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise _Forbidden("is no address that can be read.") from None
    if not target.raw_host or b"%" in target.raw_host:
        raise _Forbidden("is an address without a proper host.")
    return target


def _is_own(target: httpx.URL, own_origin: str | None) -> bool:
    return own_origin is not None and _origin(target) == _origin(httpx.URL(own_origin))


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _host_of(url: str) -> str:
    try:
        return _shown(httpx.URL(url).host)
    except (httpx.InvalidURL, ValueError):
        return "This"


def _shown(host: str) -> str:
    return redact(host)[:100] or "This"


# --- forbidden networks ----------------------------------------------------------------------------------------------

# IANA's special-purpose registries (iana-ipv4-special-registry, iana-ipv6-special-registry), written out because Python
# 3.11's `is_global` lets 14 of 83 of them through (measured 2026-11).
_FORBIDDEN_V4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier NAT; Alibaba's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host agent: a public number that is the machine below
        "169.254.0.0/16",  # link-local; everybody's metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]
# Global unicast only, which leaves out loopback, mapped, translated and compatible IPv4, NAT64, site-local, multicast.
_ALLOWED_V6 = ipaddress.IPv6Network("2000::/3")
_FORBIDDEN_V6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
]


def _is_forbidden(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return True
    if isinstance(ip, ipaddress.IPv4Address):
        return any(ip in network for network in _FORBIDDEN_V4)
    return ip.scope_id is not None or ip not in _ALLOWED_V6 or any(ip in network for network in _FORBIDDEN_V6)


def _outside_forbidden_networks(addresses: list[str]) -> None:
    """One bad address spoils the name: who mixes good and bad answers is trying something."""
    if any(_is_forbidden(address) for address in addresses):
        raise _Forbidden("leads into a private or reserved network.")


def _anywhere(addresses: list[str]) -> None:
    """The operator set this address."""


# --- the wire --------------------------------------------------------------------------------------------------------


class _Wire(httpcore.NetworkBackend):
    """Connects to addresses that `judge` let pass, keeps the deadline, notes whether anything was written.

    Serves one request at a time: it belongs to one thread, or to one fetch.
    """

    def __init__(self, judge: Callable[[list[str]], None]) -> None:
        self._judge = judge
        self._tcp = httpcore.SyncBackend()
        self.deadline = 0.0
        self.wrote = False

    def begin(self, timeout_s: float) -> None:
        self.deadline, self.wrote = time.monotonic() + timeout_s, False

    @property
    def sent(self) -> Sent:
        return "unknown" if self.wrote else "no"

    def left_s(self, at_most_s: float | None, too_late: type[Exception]) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise too_late("the time is up")
        return left if at_most_s is None else min(left, at_most_s)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        addresses = _resolved(host, port, self.left_s(RESOLVE_TIMEOUT_S, httpcore.ConnectTimeout))
        self._judge(addresses)
        return _Stream(self._connect_first(addresses, port, socket_options), self)

    def _connect_first(self, addresses: list[str], port: int, socket_options: Any) -> httpcore.NetworkStream:
        """The first address that answers. Each gets a share of the time: a dead IPv6 route leaves some for IPv4."""
        give_up = time.monotonic() + self.left_s(CONNECT_TIMEOUT_S, httpcore.ConnectTimeout)
        failure: Exception = httpcore.ConnectError("no address")
        for position, address in enumerate(addresses):
            share_s = max((give_up - time.monotonic()) / (len(addresses) - position), 0.01)
            try:
                return self._tcp.connect_tcp(address, port, share_s, None, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as problem:
                failure = problem
        raise failure


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, wire: _Wire) -> None:
        self._inner, self._wire = inner, wire

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        faults.point("CP5")
        return self._inner.read(max_bytes, self._wire.left_s(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # A first write that fails left nothing behind: it is the head of a request, smaller than any socket buffer.
        self._inner.write(buffer, self._wire.left_s(timeout, httpcore.WriteTimeout))
        self._wire.wrote = True

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit_s = min(CONNECT_TIMEOUT_S, self._wire.left_s(timeout, httpcore.ConnectTimeout))
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, limit_s), self._wire)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def close(self) -> None:
        self._inner.close()


class _Transport(httpx.BaseTransport):
    """httpx over an httpcore pool with our wire, which httpx.HTTPTransport has no argument for. All public names."""

    def __init__(self, wire: _Wire, idle_connections: int) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls_context(),
            max_keepalive_connections=idle_connections,
            keepalive_expiry=KEEPALIVE_S,
            retries=0,
            network_backend=wire,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        self._pool.close()

    def __del__(self) -> None:
        self.close()  # the connections that a thread kept end with it


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@cache
def _tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def _new_client(wire: _Wire, idle_connections: int) -> httpx.Client:
    return httpx.Client(
        transport=_Transport(wire, idle_connections),
        headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # keep nobody's cookies
        timeout=None,  # noqa: S113 - the wire keeps the time
        trust_env=False,
        follow_redirects=False,
    )


class _ThreadClients(threading.local):
    """One thread's clients. `looks` keeps connections for the next poll. `creates` never does.

    A kept connection may be closed by the server just as we write: then nobody can tell whether a paid request arrived.
    A fresh one costs a handshake, little beside the seconds a create takes.
    """

    def __init__(self) -> None:
        self.wire = _Wire(_anywhere)
        self.looks = _new_client(self.wire, IDLE_CONNECTIONS_PER_THREAD)
        self.creates = _new_client(self.wire, 0)


_clients = _ThreadClients()


def _own_client(repeatable: bool) -> tuple[httpx.Client, _Wire]:
    return _clients.looks if repeatable else _clients.creates, _clients.wire


# --- names -----------------------------------------------------------------------------------------------------------

# A look-up cannot be interrupted, so one that hangs keeps its thread until the C library gives up. No more than these.
_lookups = threading.BoundedSemaphore(32)


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, in the system's order. May block: `_resolved` sets the limit. Tests replace it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def _resolved(host: str, port: int, timeout_s: float) -> list[str]:
    if not _lookups.acquire(timeout=timeout_s):
        raise httpcore.ConnectTimeout("too many names are being looked up")
    answer: Future[list[str]] = Future()
    threading.Thread(target=_look_up, args=(host, port, answer), daemon=True, name="resolve").start()
    try:
        return answer.result(timeout_s)
    except TimeoutError:
        raise httpcore.ConnectTimeout("the name was not resolved in time") from None
    except (OSError, UnicodeError):
        raise httpcore.ConnectError("the name is not known") from None


def _look_up(host: str, port: int, answer: Future[list[str]]) -> None:
    try:
        answer.set_result(resolve(host, port))
    except Exception as problem:  # handed to whoever waits
        answer.set_exception(problem)
    finally:
        _lookups.release()


# --- words -----------------------------------------------------------------------------------------------------------

_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    httpx.RemoteProtocolError,  # a Location that cannot be read: httpx parses it even where it does not follow
)


def _reason(failure: Exception) -> str:
    """What went wrong, without a word of the peer's: an answer may echo what we sent."""
    match failure:
        case httpcore.ConnectTimeout():
            return "did not take the connection in time."
        case httpcore.ConnectError():
            return redact(f"cannot be reached ({failure}).")  # raised before anything was exchanged
        case httpcore.TimeoutException():
            return "did not answer in time."
        case httpcore.LocalProtocolError() | httpcore.UnsupportedProtocol():
            return "cannot be asked like this: the address or the key has characters that do not belong there."
        case _:
            return "closed the connection or sent an answer that cannot be read."


_HOOK_PATH = re.compile(r"(hooks(?:\\?/|%2F)[\w-]+(?:\\?/|%2F))[^\s/\\\"'%?#]+", re.IGNORECASE)
_CREDENTIAL = re.compile(r"(\bbearer\s+|\bx-api-key[\"']?\s*[:=]?\s*[\"']?)[^\s\"',;]+", re.IGNORECASE)


def redact(text: str, *secrets: str, max_chars: int = MESSAGE_MAX_CHARS) -> str:
    """One line for logs and people: no secret, no callback's secret, no key, no control character, 300 characters."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[hidden]").replace(quote(secret, safe=""), "[hidden]")
    text = _HOOK_PATH.sub(r"\1[hidden]", text)
    text = _CREDENTIAL.sub(r"\1[hidden]", text)
    line = " ".join("".join(" " if _is_unprintable(char) else char for char in text).split())
    return line if len(line) <= max_chars else line[: max_chars - 1] + "…"


def _is_unprintable(char: str) -> bool:
    """Controls, direction marks, surrogates, private and unassigned characters, line separators."""
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
