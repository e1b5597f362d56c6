"""A browser's ear: one open page's stream, over a bare socket and without a thread of its own. Needs no Django."""

from __future__ import annotations

import re
import socket
import time
from urllib.parse import urlsplit


class Stream:
    """One open page's /t/<team>/live/, without a thread of its own."""

    def __init__(self, url: str, cookies: dict[str, str], team: str = "north") -> None:
        parts = urlsplit(url)
        self.sock = socket.create_connection((parts.hostname, parts.port), timeout=10)
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        self.sock.sendall(f"GET /t/{team}/live/ HTTP/1.1\r\nHost: {parts.netloc}\r\nCookie: {cookie}\r\n\r\n".encode())
        self._wire = b""  # as it came
        self._text = b""  # without the framing of chunks
        self.head = self._up_to(b"\r\n\r\n", 10)
        self.status = int(self.head.split(b" ", 2)[1])

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def next(self, timeout_s: float = 5) -> bytes:
        """The next block as it came: an event, or a ping. b"" once the stream has ended; TimeoutError: nothing came."""
        until = time.monotonic() + timeout_s
        while b"\n\n" not in self._text:
            size = self._up_to(b"\r\n", until - time.monotonic())
            if not size or not int(size, 16):
                return b""
            self._text += self._take(int(size, 16) + 2, until - time.monotonic())[:-2]
        block, _, self._text = self._text.partition(b"\n\n")
        return block

    def hear(self, name: str, timeout_s: float = 5) -> bytes:
        """The next event of this name; others are passed over."""
        until = time.monotonic() + timeout_s
        while block := self.next(max(0.01, until - time.monotonic())):
            if block.startswith(f"event: {name}\n".encode()):
                return block
        raise AssertionError(f"the stream ended before {name!r}")

    def ended(self, timeout_s: float = 5) -> bool:
        """Whether the server ends it within this time, whatever comes before."""
        until = time.monotonic() + timeout_s
        try:
            while self.next(max(0.01, until - time.monotonic())):
                pass
        except TimeoutError:
            return False
        return True

    def all_that_came(self) -> bytes:
        """Of an answer that is no stream: the whole of it, until the server closes. Without its date."""
        while self._more(5):
            pass
        return re.sub(rb"date: [^\r]*", b"", self.head) + self._wire

    def is_silent(self, for_s: float = 0.3) -> bool:
        try:
            return not self.next(for_s)
        except TimeoutError:
            return True

    def _up_to(self, mark: bytes, timeout_s: float) -> bytes:
        while mark not in self._wire:
            if not self._more(timeout_s):
                return b""
        found, _, self._wire = self._wire.partition(mark)
        return found

    def _take(self, size: int, timeout_s: float) -> bytes:
        while len(self._wire) < size and self._more(timeout_s):
            pass
        taken, self._wire = self._wire[:size], self._wire[size:]
        return taken

    def _more(self, timeout_s: float) -> bool:
        self.sock.settimeout(max(0.001, timeout_s))
        came = self.sock.recv(65536)
        self._wire += came
        return bool(came)
