"""Settings of a site under a public name, of which only the network in between is ours: the name leads to a public address,
that address is dialled on loopback, and the world trusts our authority. FRONT is the port there, CA the authority's file."""

import os
import ssl

import httpcore

from flux2web import http

from .settings_quick import *  # noqa: F403
from .settings_quick import PUBLIC_HOST

PUBLIC_ADDRESS = "93.184.216.34"


class Dialer(httpcore.SyncBackend):
    def connect_tcp(self, host, port, *rest):
        if host == PUBLIC_ADDRESS:
            return super().connect_tcp("127.0.0.1", int(os.environ["FRONT"]), *rest)
        return super().connect_tcp(host, port, *rest)


def resolve(host: str, _: int) -> list[str]:
    return {PUBLIC_HOST: [PUBLIC_ADDRESS], "127.0.0.1": ["127.0.0.1"]}[host]


httpcore.SyncBackend = Dialer
http.resolve = resolve
http._tls_context = lambda: ssl.create_default_context(cafile=os.environ["CA"])
