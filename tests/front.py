"""What stands in front of a site in life: a proxy that speaks TLS under the site's public name."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable


class Front:
    """Passes on everything, but for what `instead` has an answer of its own to: path -> bytes, or None."""

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self.behind, self.tls = port, tls
        self.instead: Callable[[str], bytes | None] = lambda path: None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        """One request of a connection; then it is closed."""
        with contextlib.suppress(OSError), self.tls.wrap_socket(line, server_side=True) as client:
            request = _whole(client)
            own = self.instead(request.split(b" ")[1].decode()) if request else b""
            if own is not None:
                return client.sendall(own)
            with socket.create_connection(("127.0.0.1", self.behind)) as site:
                site.sendall(_passed_on(request))
                while chunk := site.recv(65536):
                    client.sendall(chunk)


def _whole(client: socket.socket) -> bytes:
    """A request with its body; nothing where none came."""
    read = b""
    while not _is_whole(read):
        if not (chunk := client.recv(65536)):
            return b""
        read += chunk
    return read


def _is_whole(read: bytes) -> bool:
    head, end, body = read.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= _length(head)


def _length(head: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0


def _passed_on(head: bytes) -> bytes:
    """As a proxy passes it on: it says that it was asked over https, and for one answer only."""
    head, _, body = head.partition(b"\r\n\r\n")
    head = re.sub(rb"\r\n(connection|x-forwarded-proto):[^\r]*", b"", head, flags=re.IGNORECASE)
    return head + b"\r\nConnection: close\r\nX-Forwarded-Proto: https\r\n\r\n" + body
