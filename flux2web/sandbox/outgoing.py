"""The sandbox's own HTTP client: fetches references, rings callbacks. Standard library only, like the rest of it."""

from __future__ import annotations

import http.client
import time
import urllib.request

FETCH_TIMEOUT_S = 10.0
CALLBACK_TIMEOUT_S = 15.0  # docs.kie.ai, dedicated APIs; Apixo allows 30
REFERENCE_BYTES = 10 * 1024 * 1024  # docs.revidapi.com, docs.apikley.ru
AGENT = "flux2web-sandbox/1"

# No proxy of the environment: the peers are on this machine. Only http and https: no file:, no data:.
_opener = urllib.request.OpenerDirector()
for _handler in (
    urllib.request.ProxyHandler({}),
    urllib.request.HTTPHandler(),
    urllib.request.HTTPSHandler(),
    urllib.request.HTTPRedirectHandler(),
    urllib.request.HTTPDefaultErrorHandler(),
    urllib.request.HTTPErrorProcessor(),
):
    _opener.add_handler(_handler)

# ValueError: an address that urllib cannot read (UnicodeError is one). OverflowError: a port beyond 65535.
FAULTS = (OSError, ValueError, OverflowError, http.client.HTTPException)


class Unreachable(Exception):
    """An address that gives nothing usable."""


def fetch(address: str) -> bytes:
    """The bytes behind an address: at most `REFERENCE_BYTES`, within about `FETCH_TIMEOUT_S` altogether."""
    deadline = time.monotonic() + FETCH_TIMEOUT_S
    content = bytearray()
    try:
        with _opener.open(_request(address), timeout=FETCH_TIMEOUT_S) as answer:
            while piece := answer.read1(65536):
                content += piece
                if len(content) > REFERENCE_BYTES or time.monotonic() > deadline:
                    raise Unreachable("too large or too slow")
    except FAULTS as error:
        raise Unreachable(str(error)) from error
    return bytes(content)


def post(address: str, body: bytes) -> bool:
    """Whether the receiver said 2xx in time."""
    try:
        with _opener.open(_request(address, body), timeout=CALLBACK_TIMEOUT_S) as answer:
            return 200 <= answer.status < 300
    except FAULTS:
        return False


def _request(address: str, body: bytes | None = None) -> urllib.request.Request:
    headers = {"User-Agent": AGENT} | ({} if body is None else {"Content-Type": "application/json"})
    return urllib.request.Request(address, data=body, headers=headers)  # noqa: S310 - the opener knows http alone
