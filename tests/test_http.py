"""The wire against servers that misbehave, over real sockets on loopback. A stub resolves names, nothing leaves."""

import contextlib
import datetime as dt
import gzip
import inspect
import json
import re
import socket
import ssl
import threading
import time
from decimal import Decimal
from pathlib import Path

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flux2web import http, imaging
from flux2web.providers import wire

CASES = [
    json.loads(line) for line in (Path(__file__).parent / "data" / "ssrf_cases.jsonl").read_text("utf-8").splitlines()
]
PUBLIC = "93.184.216.34"
PICTURE = b"\x89PNG" + b"p" * 5000
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"


# --- servers and dialers ---------------------------------------------------------------------------------------------


class Server:
    """A raw TCP server on loopback: `answer(connection, request)` does what it likes with each request it can read."""

    def __init__(self, answer, *, tls=None, host="127.0.0.1", port=0):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._answer, self._tls = answer, tls
        self._listener = socket.create_server((host, port), family=family)
        self.port = self._listener.getsockname()[1]
        self.origin = f"http://{host}:{self.port}"
        self.connections, self.requests, self._open = 0, [], []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection:
                while request := _read_request(connection):
                    self.requests.append(request)
                    if self._answer(connection, request) == "close":
                        return

    def close(self):
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def _read_request(connection):
    request = b""
    while b"\r\n\r\n" not in request:
        if not (chunk := connection.recv(65536)):
            return b""
        request += chunk
    head, _, body = request.partition(b"\r\n\r\n")
    announced = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    while announced and len(body) < int(announced[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def http_answer(body=b"", *, status=200, headers=(), length=None):
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def says(data, then=None):
    """A server's manners: sends these bytes, then "close"s or keeps the connection."""

    def answer(connection, _request):
        connection.sendall(data)
        return then

    return answer


def drips(head, every_s=0.02):
    """Sends the head, then a byte at a time, for ever."""

    def answer(connection, _request):
        connection.sendall(head)
        while True:
            time.sleep(every_s)
            connection.sendall(b"x")

    return answer


def stalls(head):
    def answer(connection, _request):
        connection.sendall(head)
        time.sleep(30)

    return answer


def endless(head, chunk):
    def answer(connection, _request):
        connection.sendall(head)
        while True:
            connection.sendall(chunk)

    return answer


@pytest.fixture
def serve():
    servers = []

    def start(answer, **options):
        servers.append(Server(answer, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def scaled(monkeypatch):
    """Every limit a hundredth or so of the real one."""
    monkeypatch.setattr(http, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(http, "RESOLVE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(http, "FETCH_GRACE_S", 0.3)


@pytest.fixture
def dials(monkeypatch):
    """Where connections go. Loopback is really dialled; a public address reaches `dials.server`, or nobody."""

    class Dials(list):
        server = None

    made = Dials()

    class Dialer(httpcore.SyncBackend):
        def connect_tcp(self, host, port, *rest):
            made.append(host)
            if made.server and host == PUBLIC:
                return super().connect_tcp("127.0.0.1", made.server.port, *rest)
            if not host.startswith("127.") and host != "::1":
                raise httpcore.ConnectError("the tests go no further")
            return super().connect_tcp(host, port, *rest)

    monkeypatch.setattr(httpcore, "SyncBackend", Dialer)
    return made


@pytest.fixture
def names(monkeypatch):
    """A stub resolver: name -> addresses, or a function. Spellings of numbers are read as the C library reads them."""
    known = {
        "localhost": ["127.0.0.1", "::1"],
        "localhost.": ["127.0.0.1", "::1"],
        "ip6-localhost": ["::1"],
        "localtest.me": ["127.0.0.1"],
        "customer1.app.localhost.my.company.127.0.0.1.nip.io": ["127.0.0.1"],
        "make-1.2.3.4-rebind-169.254-169.254-rr.1u.ms": ["1.2.3.4", "169.254.169.254"],
        "metadata.google.internal": ["169.254.169.254"],
        "pictures.example.com": [PUBLIC],
        "static.example.com": [PUBLIC],
        "example.com": [PUBLIC],
    }

    def resolve(host, port):
        if host in known:
            return known[host]() if callable(known[host]) else known[host]
        host.encode("idna")  # as getaddrinfo does: a label of more than 63 characters raises UnicodeError
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return [sockaddr[0] for *_, sockaddr in found]

    monkeypatch.setattr(http, "resolve", resolve)
    return known


# --- certificates ----------------------------------------------------------------------------------------------------


def _certificate(name, issuer, issuer_key, key, *, is_ca):
    def common(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(common(name))
        .issuer_name(common(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """(contexts for servers by name, a client context that trusts our authority alone)."""
    folder = tmp_path_factory.mktemp("tls")
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("ca.test", "ca.test", ca_key, ca_key, is_ca=True)

    def server_context(name, issuer="ca.test", issuer_key=ca_key):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, issuer, issuer_key or key, key, is_ca=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = folder / f"{name}-{issuer}.pem"
        path.write_bytes(private + _pem(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    trust = ssl.create_default_context(cadata=_pem(ca).decode())
    return server_context, trust


@pytest.fixture
def trusting(authority, monkeypatch):
    monkeypatch.setattr(http, "_tls_context", lambda: authority[1])
    return authority[0]


# --- call ------------------------------------------------------------------------------------------------------------


def fails(function, *args, **options):
    with pytest.raises((http.Unreachable, http.FetchFailed)) as caught:
        function(*args, **options)
    return caught.value


def test_call_sends_what_it_is_given_and_returns_what_came(serve):
    server = serve(says(http_answer(b'{"code": 200, "cost": 0.012}', headers=["X-Thing: 1", "Set-Cookie: a=b"])))
    reply = http.call(
        "POST", server.origin + "/a", headers={"authorization": "Bearer k"}, json={"prompt": "é"}, params={"id": "x y"}
    )
    assert (reply.status, reply.headers["x-thing"]) == (200, "1")
    assert reply.json() == {"code": 200, "cost": Decimal("0.012")}
    request = server.requests[0].decode()
    assert request.startswith("POST /a?id=x+y HTTP/1.1\r\n")
    assert "authorization: Bearer k" in request.replace("Authorization", "authorization")
    assert request.endswith('{"prompt":"é"}')


def test_call_uploads_files(serve):
    server = serve(says(http_answer(b"{}")))
    http.call("POST", server.origin, headers={}, data={"path": "in"}, files={"file": ("a.png", PICTURE, "image/png")})
    assert PICTURE in server.requests[0]
    assert b'name="path"\r\n\r\nin' in server.requests[0]


def test_refused_port_was_not_sent():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    failure = fails(http.call, "POST", f"http://127.0.0.1:{port}/?key=secret", headers={}, json={})
    assert failure.sent == "no"
    assert "secret" not in failure.message
    assert "127.0.0.1" in failure.message


def test_unknown_name_was_not_sent(names):
    assert fails(http.call, "POST", "http://no.such.example/", headers={}, json={}).sent == "no"


def test_slow_name_was_not_sent_and_is_not_waited_for(names, scaled):
    names["slow.example"] = lambda: time.sleep(1) or [PUBLIC]
    began = time.monotonic()
    assert fails(http.call, "POST", "http://slow.example/", headers={}, json={}).sent == "no"
    assert time.monotonic() - began < 0.8


def test_blackhole_was_not_sent(scaled):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [_connect_quietly(address) for _ in range(3)]  # with the backlog full, the next SYN is dropped
        began = time.monotonic()
        failure = fails(http.call, "POST", f"http://127.0.0.1:{address[1]}/", headers={}, json={})
        for connection in waiting:
            connection.close()
    assert failure.sent == "no"
    assert time.monotonic() - began < 1


def _connect_quietly(address):
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(address)
    return connection


def test_failed_tls_was_not_sent(serve):
    server = serve(says(b""))  # speaks no TLS
    server_port = server.port
    threading.Timer(0.1, server.close).start()
    assert fails(http.call, "POST", f"https://127.0.0.1:{server_port}/", headers={}, json={}).sent == "no"


@pytest.mark.parametrize("headers", [{"x-api-key": "a\nb"}, {"x-api-key": "schlüssel…"}])
def test_key_that_cannot_be_a_header_was_not_sent(serve, headers):
    server = serve(says(http_answer(b"{}")))
    failure = fails(http.call, "POST", server.origin, headers=headers, json={})
    assert failure.sent == "no"
    assert "schl" not in failure.message
    assert server.requests == []


@pytest.mark.parametrize("url", ["", "nonsense", "http://", "ftp://127.0.0.1/", "http://[::1", "http://a b/"])
def test_nonsense_address_was_not_sent(url, names):
    assert fails(http.call, "POST", url, headers={}, json={}).sent == "no"


AMBIGUOUS = {
    "closes without a word": says(b"", "close"),
    "cut body": says(http_answer(b'{"code":', length=500), "close"),
    "cut head": says(b"HTTP/1.1 200 OK\r\nContent-", "close"),
    "no HTTP": says(b"\x00\x01\x02 what?\r\n\r\n", "close"),
    "stalls before the head": stalls(b""),
    "stalls in the head": stalls(b"HTTP/1.1 200 OK\r\nA: "),
    "stalls in the body": stalls(http_answer(b"{", length=100)),
    "drips in the head": drips(b"HTTP/1.1 200 OK\r\nA: "),
    "drips in the body": drips(http_answer(length=10**6)),
    "says continue for ever": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "2 MiB": says(http_answer(b"x" * 2**21)),
    "endless chunks": endless(CHUNKED, CHUNK),
    "headers of 200 KB": says(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000, "close"),
    "zip bomb": says(http_answer(gzip.compress(bytes(2**24)), headers=["Content-Encoding: gzip"])),
    "damaged zip": says(http_answer(b"no zip", headers=["Content-Encoding: gzip"])),
    "unknown encoding": says(http_answer(b"{}", headers=["Content-Encoding: br"])),
    "redirect to nowhere readable": says(http_answer(status=302, headers=["Location: http://[::1"])),
}


@pytest.mark.parametrize("manners", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_after_the_first_byte_nobody_knows(serve, manners, method):
    server = serve(manners)
    began = time.monotonic()
    failure = fails(http.call, method, server.origin + "/hooks/?k=secret", headers={}, timeout_s=0.3)
    assert failure.sent == "unknown"
    assert time.monotonic() - began < 0.8
    assert "secret" not in failure.message
    assert len(server.requests) == 1


def test_reset_after_the_request_is_unknown(serve):
    def reset(connection, _request):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        return "close"

    assert fails(http.call, "POST", serve(reset).origin, headers={}, json={}).sent == "unknown"


def test_upload_that_stops_half_way_is_unknown():
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, never reads
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        failure = fails(http.call, "POST", url, headers={}, files={"f": b"x" * 2**24}, timeout_s=0.3)
    assert failure.sent == "unknown"


def test_zipped_answer_is_read_though_nobody_asked_for_it(serve):
    server = serve(says(http_answer(gzip.compress(b'{"a": 1}'), headers=["Content-Encoding: gzip"])))
    assert http.call("POST", server.origin, headers={}, json={}).json() == {"a": 1}
    assert b"accept-encoding: identity" in server.requests[0].lower()


def test_redirects_are_returned(serve):
    server = serve(says(http_answer(status=307, headers=["Location: /elsewhere"])))
    reply = http.call("POST", server.origin, headers={}, json={})
    assert (reply.status, reply.headers["location"], len(server.requests)) == (307, "/elsewhere", 1)


def test_looks_share_a_connection_and_creates_never_do(serve):
    server = serve(says(http_answer(b"{}")))
    for method in ("GET", "GET", "POST", "POST", "GET"):
        http.call(method, server.origin, headers={})
    http.call("POST", server.origin, headers={}, repeatable=True)  # some providers are asked by POST
    assert server.connections == 3  # one for the four looks, one for each create


def test_look_survives_a_connection_that_died_in_the_pool(serve):
    server = serve(says(http_answer(b"{}"), "close"))
    for _ in range(3):
        assert http.call("GET", server.origin, headers={}).status == 200
        time.sleep(0.02)
    assert server.connections == 3


def test_nobody_s_cookies_are_kept(serve):
    server = serve(says(http_answer(b"{}", headers=["Set-Cookie: session=theirs; Path=/"])))
    for _ in range(2):
        http.call("GET", server.origin, headers={})
    assert b"cookie" not in server.requests[1].lower()


def test_proxies_of_the_environment_are_ignored(serve, monkeypatch):
    proxy, server = serve(says(http_answer(b"proxied"))), serve(says(http_answer(PICTURE)))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.origin)
    assert http.call("GET", server.origin, headers={}).body == PICTURE
    assert http.fetch(server.origin, own_origin=server.origin) == PICTURE
    assert proxy.connections == 0


def test_many_threads_keep_their_answers_apart(serve):
    def echo(connection, request):
        connection.sendall(http_answer(b'{"path": "%s"}' % request.split()[1]))

    server, wrong = serve(echo), []

    def ask(number):
        for turn in range(10):
            path = f"/{number}/{turn}"
            if http.call("GET", server.origin + path, headers={}).json() != {"path": path}:
                wrong.append(path)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert server.connections == 16


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"a":',
        b"\xff\xfe{}",
        b"[NaN]",
        b'{"a": Infinity}',
        b"[-Infinity]",
        b"3",
        b'"text"',
        b"null",
        b"true",
        b"[" * 100_000,
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" + b"9" * 5000 + b"]",
        b"[1e99999999999999999999]",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_usable_json_is_none(body):
    assert http.Reply(200, {}, body).json() is None


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b"[1, 2.50]", [1, Decimal("2.50")]),
        (b'\xef\xbb\xbf{"a": "\xc3\xa9"}', {"a": "é"}),
        (b"[" * 64 + b"]" * 64, json.loads("[" * 64 + "]" * 64)),
    ],
)
def test_json_that_can_be_read(body, value):
    assert http.Reply(200, {}, body).json() == value


# --- fetch: addresses ------------------------------------------------------------------------------------------------

SPECIAL = re.compile(r"(REDIRECT|REDIRECTCHAIN|DNS|BODY|TLS|HEAD|STATUS):")


def _variants(url):
    """The case as it stands and, as http is refused for its scheme alone, the same host by https on its own port."""
    by_https = re.sub(r"^http:", "https:", url, flags=re.IGNORECASE)
    without_port = re.sub(r"^(https://(?:\[[^\]]*\]|[^/:@\[]*)):\d+", r"\1", by_https)
    return dict.fromkeys((url, by_https, without_port))


@pytest.fixture
def canaries(serve):
    """Listeners wherever this machine lets us, to see that nobody comes."""
    found = []
    for host in ("127.0.0.1", "127.0.0.2", "::1"):
        for port in (80, 443, 6379, 8000):
            with contextlib.suppress(OSError):
                found.append(serve(says(b""), host=host, port=port))
    return found


def _id(case):
    return case["url"][:60].encode("unicode_escape").decode()


@pytest.mark.parametrize("case", [case for case in CASES if not SPECIAL.match(case["url"])], ids=_id)
def test_case(case, dials, names, canaries):
    if case["label"] == "block" and "port" not in case["why"] and PUBLIC not in case["url"]:
        for url in _variants(case["url"]):
            assert fails(http.fetch, url).kind in ("refused", "unreachable")
    elif case["label"] == "block":
        assert fails(http.fetch, case["url"]).kind == "refused"
        assert fails(http.fetch, case["url"].replace("http:", "https:")).kind == "refused"
    else:
        assert fails(http.fetch, case["url"]).kind == "unreachable"
        assert dials == [re.search(r"[\d.]{7,}", case["url"])[0]]  # judged good, and the tests go no further
        dials.clear()
    assert dials == []
    assert [canary.connections for canary in canaries] == [0] * len(canaries)


def test_every_case_is_run():
    assert len(CASES) == 158
    assert {c["url"] for c in CASES if SPECIAL.match(c["url"])} == SPECIAL_CASES.keys()


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "198.20.0.1", "2606:4700::1111", "2a00::1"],
)
def test_public_address_is_allowed(address):
    assert not http._is_forbidden(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.255.255.255", "100.127.255.255", "127.255.255.255", "168.63.129.16", "169.254.169.254",
        "172.31.255.255", "192.0.0.8", "192.88.99.1", "198.19.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255",
        "::", "::1", "::7f00:1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::808:808", "64:ff9b:1::1", "100::1",
        "2001::1", "2001:2::1", "2001:20::1", "2001:db8::1", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1",
        "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "ff02::1", "not an address", "",
    ],
)  # fmt: skip
def test_special_address_is_forbidden(address):
    assert http._is_forbidden(address)


@pytest.mark.parametrize(
    "url",
    [
        "https://user@pictures.example.com/",
        "https://pictures.example.com:8443/",
        "https://pictures.example.com:80/",
        "https://pictures.example.com/" + "a" * 4096,
        "https://pictures.example.com/a b",
        "https://pictures.example.com\\@127.0.0.1/",
        "http://pictures.example.com/",
        "http://user@127.0.0.1:8000/a.png",
        "https://127.0.0.1:8000/a.png",
        "http://127.0.0.1:8001/a.png",
        "http://127.0.0.2:8000/a.png",
        "http://localhost:8000/a.png",
    ],
)
def test_own_origin_opens_exactly_itself(url, dials, names):
    assert fails(http.fetch, url, own_origin="http://127.0.0.1:8000").kind == "refused"
    assert dials == []


# --- fetch: servers --------------------------------------------------------------------------------------------------


def fetched_from(serve, answer, **options):
    server = serve(answer)
    return http.fetch(server.origin + "/a.png?signature=s", own_origin=server.origin, **options)


def test_fetch_returns_the_bytes(serve):
    assert fetched_from(serve, says(http_answer(PICTURE))) == PICTURE


def test_fetch_asks_for_plain_bytes_and_sends_no_secret(serve):
    server = serve(says(http_answer(PICTURE)))
    http.fetch(server.origin, own_origin=server.origin)
    request = server.requests[0].lower()
    assert b"accept-encoding: identity" in request
    assert b"authorization" not in request
    assert b"cookie" not in request


def test_fetch_connects_to_the_judged_address_by_the_name(dials, names, serve, trusting):
    dials.server = serve(says(http_answer(PICTURE)), tls=trusting("pictures.example.com"))
    assert http.fetch("https://pictures.example.com/a.png") == PICTURE
    assert dials == [PUBLIC]
    assert b"host: pictures.example.com\r\n" in dials.server.requests[0].lower()


def test_up_to_three_redirects_are_followed(serve):
    def answer(connection, request):
        number = int(request.split()[1].rsplit(b"/", 1)[1])
        if number == 3:
            connection.sendall(http_answer(PICTURE))
        else:
            connection.sendall(http_answer(status=302, headers=[f"Location: /{number + 1}"]))

    server = serve(answer)
    assert http.fetch(server.origin + "/0", own_origin=server.origin) == PICTURE


def _redirect(serve, location, status=302):
    """Refused, and the servers that the address might have meant saw nobody."""
    server = serve(says(http_answer(status=status, headers=[f"Location: {location}"])))
    assert fails(http.fetch, server.origin + "/start", own_origin=server.origin).kind == "refused"
    return server


def redirect_elsewhere(location, status):
    def scenario(serve, dials, **_):
        _redirect(serve, location, status)
        assert dials == ["127.0.0.1"]  # the first hop alone

    return scenario


def redirect_loop(serve, dials, **_):
    assert len(_redirect(serve, "/loop").requests) == 4


def rebinding(serve, dials, names, trusting):
    """The second look-up gives another answer: each connection goes where its own look-up was judged."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    names["rebind.example.com"] = lambda: next(answers)
    moved = http_answer(status=302, headers=["Location: https://rebind.example.com/2"])
    dials.server = serve(says(moved), tls=trusting("rebind.example.com"))
    assert fails(http.fetch, "https://rebind.example.com/1").kind == "refused"
    assert dials == [PUBLIC]


def resolves_to(addresses):
    def scenario(dials, names, **_):
        names["bad.example.com"] = addresses
        assert fails(http.fetch, "https://bad.example.com/").kind == "refused"
        assert dials == []

    return scenario


def slow_dns(dials, names, **_):
    names["slow.example.com"] = lambda: time.sleep(1) or [PUBLIC]
    began = time.monotonic()
    assert fails(http.fetch, "https://slow.example.com/").kind == "unreachable"
    assert time.monotonic() - began < 0.8
    assert dials == []


def body_fails(kind, answer, **options):
    def scenario(serve, **_):
        began = time.monotonic()
        assert fails(fetched_from, serve, answer, **options).kind == kind
        assert time.monotonic() - began < 1.5

    return scenario


def body_is_no_picture(answer):
    """Bytes that come in order are judged by the decoder, never by what the header calls them."""

    def scenario(serve, **_):
        with pytest.raises(imaging.BadImage):
            imaging.clean_result(fetched_from(serve, answer))

    return scenario


def length_lies(serve, **_):
    flood = endless(http_answer(length=100), b"x" * 65536)
    assert fetched_from(serve, flood) == b"x" * 100  # no more than promised is read


def tls_self_signed(serve, dials, trusting, **_):
    dials.server = serve(says(http_answer(PICTURE)), tls=trusting("pictures.example.com", "me", None))
    assert fails(http.fetch, "https://pictures.example.com/").kind == "unreachable"
    assert dials.server.requests == []


def tls_wrong_host(serve, dials, trusting, **_):
    dials.server = serve(says(http_answer(PICTURE)), tls=trusting("other.example.com"))
    assert fails(http.fetch, "https://pictures.example.com/").kind == "unreachable"
    assert dials.server.requests == []


def not_200(serve, **_):
    kinds = {204: "unreachable", 206: "unreachable", 304: "unreachable", 429: "unreachable", 500: "unreachable"}
    for status, kind in {**kinds, 403: "gone", 404: "gone", 410: "gone"}.items():
        failure = fails(fetched_from, serve, says(http_answer(status=status)))
        assert (failure.kind, str(status) in failure.message) == (kind, True)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
SPECIAL_CASES = {
    "REDIRECT:302:http://169.254.169.254/latest/meta-data/": redirect_elsewhere("http://169.254.169.254/latest/", 302),
    "REDIRECT:307:http://127.0.0.1:6379/": redirect_elsewhere("http://127.0.0.1:6379/", 307),
    "REDIRECT:301:file:///etc/passwd": redirect_elsewhere("file:///etc/passwd", 301),
    "REDIRECT:302:/loop": redirect_loop,
    "REDIRECTCHAIN:11": redirect_loop,
    "DNS:public-then-private": rebinding,
    "DNS:mixed": resolves_to([PUBLIC, "10.0.0.1"]),
    "DNS:cname-to-internal": resolves_to(["127.0.0.1"]),
    "DNS:slow-10s": slow_dns,
    "BODY:no-length-endless": body_fails("refused", endless(CHUNKED, CHUNK)),
    "BODY:slowloris-1B/s": body_fails("unreachable", drips(http_answer(length=10**6))),
    "BODY:content-length-lies": length_lies,
    "BODY:gzip-bomb": body_fails(
        "refused", says(http_answer(gzip.compress(bytes(2**20)), headers=["Content-Encoding: gzip"]))
    ),
    "BODY:html-200": body_is_no_picture(says(http_answer(b"<html>", headers=["Content-Type: text/html"]))),
    "BODY:svg-as-png": body_is_no_picture(says(http_answer(SVG, headers=["Content-Type: image/png"]))),
    "BODY:empty-200": body_fails("unreachable", says(http_answer(b""))),
    "BODY:truncated": body_fails("unreachable", says(http_answer(PICTURE, length=9999), "close")),
    "TLS:self-signed": tls_self_signed,
    "TLS:wrong-host": tls_wrong_host,
    "HEAD:100KB-headers": body_fails("refused", says(http_answer(PICTURE, headers=["A: " + "x" * 80_000]))),
    "STATUS:204|206|304|403|404|410|429|500": not_200,
}


@pytest.mark.parametrize("case", SPECIAL_CASES)
def test_special_case(case, serve, dials, names, trusting, scaled):
    SPECIAL_CASES[case](serve=serve, dials=dials, names=names, trusting=trusting)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("unreachable", stalls(b"")),
        ("unreachable", stalls(b"HTTP/1.1 200 OK\r\n")),
        ("unreachable", drips(b"HTTP/1.1 200 OK\r\nA: ")),
        ("unreachable", stalls(http_answer(PICTURE, length=10**6))),
        ("unreachable", says(b"", "close")),
        ("unreachable", says(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000, "close")),
        ("refused", says(http_answer(b"", length=31 * 2**20))),
        ("refused", says(http_answer(b"x" * 31 * 2**20))),
        ("refused", says(http_answer(status=302, headers=["Location: https://10.0.0.1/a.png"]))),
        ("refused", says(http_answer(status=302, headers=["Location: //127.0.0.1/a.png"]))),
        ("refused", says(http_answer(status=302, headers=["Location: https://a@b@c/"]))),
    ],
)
def test_fetch_survives(serve, scaled, kind, answer):
    began = time.monotonic()
    assert fails(fetched_from, serve, answer, min_bytes_per_s=20_000).kind == kind
    assert time.monotonic() - began < 1.5


def test_fetch_ends_at_its_total_time_however_fast_the_bytes_come(serve):
    steady = drips(http_answer(length=10**6), every_s=0.01)
    began = time.monotonic()
    assert fails(fetched_from, serve, steady, total_s=0.5, min_bytes_per_s=1).kind == "unreachable"
    assert 0.4 < time.monotonic() - began < 1


def test_fetch_waits_for_a_slow_sender_that_keeps_the_pace(serve, scaled):
    def slow(connection, _request):
        connection.sendall(http_answer(length=20_000))
        for _ in range(20):
            time.sleep(0.03)
            connection.sendall(b"x" * 1000)

    began = time.monotonic()
    assert len(fetched_from(serve, slow, min_bytes_per_s=10_000)) == 20_000
    assert time.monotonic() - began > http.FETCH_GRACE_S


def test_failures_name_the_host_alone(serve, names):
    messages = [
        fails(fetched_from, serve, says(http_answer(status=404))).message,
        fails(http.fetch, "https://example.com:99/path?signature=s").message,
        fails(http.fetch, "https://gone.example.net/path?signature=s").message,
    ]
    assert all("signature" not in message and "path" not in message for message in messages)
    assert "example.com" in messages[1]


# --- words and conventions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key sk-12345 refused", "key [hidden] refused"),
        ("see https://x.y/?k=a%2Fb%20c", "see https://x.y/?k=[hidden]"),
        ("POST https://x.y/hooks/revid/s3cr3t/ failed", "POST https://x.y/hooks/revid/[hidden]/ failed"),
        (r'{"u": "https:\/\/x.y\/hooks\/vtrix\/s3cr3t\/"}', r'{"u": "https:\/\/x.y\/hooks\/vtrix\/[hidden]\/"}'),
        ("url=https%3A%2F%2Fx.y%2Fhooks%2Fapixo%2Fs3cr3t%2F", "url=https%3A%2F%2Fx.y%2Fhooks%2Fapixo%2F[hidden]%2F"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [hidden]"),
        ("{'x-api-key': 'abc'}", "{'x-api-key': '[hidden]'}"),
        ("X-API-KEY: abc", "X-API-KEY: [hidden]"),
        ("two\r\nlines\x00\x1b[31m \u202eand\ud800 more\u2028", "two lines [31m and more"),
        ("x" * 1000, "x" * 299 + "…"),
        ("", ""),
    ],
)
def test_redact(text, shown):
    assert http.redact(text, "sk-12345", "a/b c", "") == shown


def test_no_private_name_of_httpx_is_used():
    source = inspect.getsource(http)
    assert not re.search(r"\b(httpx|httpcore)(\.\w+)*\._|_pool\._", source)


def test_what_adapters_let_pass_is_fetched():
    assert http.FETCH_URL_MAX_CHARS >= wire.URL_MAX_CHARS
