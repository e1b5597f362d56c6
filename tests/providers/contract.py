"""What every adapter promises, as tests that each one inherits. A sixth gets them by naming its samples."""

import io
import itertools
import json
import socket
import threading
from collections.abc import Callable
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flux2web import http
from flux2web.providers import base, wire
from flux2web.providers.base import Accepted, Account, Kind, ProviderError, Reference, Report, Request
from tests.providers.peer import SAMPLES, Peer, sample

KEY = "key-5e7b0c1d9a"
TOKEN = "hook-secret-0123456789abcdef"
PICTURE = b"\x89PNG not really"

TEXT = Request("A quiet harbour, in ink", "pro", "16:9", "2K")
GRACE_S, LATE_S = 30.0, 121.0

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)
FIELDS = ("code", "msg", "message", "data", "id", "status", "error", "output", "usage", "detail")
DATA_FIELDS = (
    "taskId",
    "task_id",
    "state",
    "status",
    "resultJson",
    "response",
    "failCode",
    "failMsg",
    "content",
    "url",
)
WORDS = st.sampled_from(
    ("success", "SUCCESS", "completed", "fail", "FAILED", "waiting", "", '{"resultUrls":[1]}', "200")
)
DATA = st.dictionaries(st.sampled_from(DATA_FIELDS), JSON | WORDS, max_size=8)
LIKELY = st.dictionaries(st.sampled_from(FIELDS), JSON | WORDS | DATA | st.integers(100, 600), max_size=8)
STATUSES = st.sampled_from(
    (200, 201, 204, 302, 400, 401, 402, 403, 404, 408, 418, 422, 429, 433, 455, 500, 501, 503, 505)
)


def picture(number: int, *, is_public: bool = True) -> Reference:
    url = f"https://studio.example.com/i/{number}.png" if is_public else None
    return Reference(url, lambda: io.BytesIO(PICTURE), "image/png")


def changed(body: bytes, path: tuple[str, ...], value: Any) -> dict:
    """This JSON with one value replaced."""
    whole = json.loads(body)
    place = whole
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return whole


def outcome_of(call: Callable[[], Any]) -> Any:
    """What it returns, or the ProviderError it raises."""
    try:
        return call()
    except ProviderError as error:
        return error


@contextmanager
def hangs_up():
    """An address that takes the request, whole, and closes the connection without a word."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join()
    listener.close()


class ProviderContract:
    """Subclass, name the provider and its samples, say what must arrive on the wire."""

    provider: base.Provider
    family = "pro"  # one that an account offers without settings
    task_id: str
    id_path: tuple[str, ...] = ("data", "taskId")
    state_path: tuple[str, ...] = ("data", "state")

    auth: dict[str, str]  # the header that carries the key, and no other does
    create_path: str
    look: tuple[str, str, str]  # method, path, query
    look_body = b""

    text_body: dict  # what TEXT must become
    pictures_body: dict  # the same with pictures 1 and 2
    callback_fields: dict = {}  # what a callback address adds

    waiting: tuple[str, ...]
    success: dict[str, tuple[str, ...]]  # sample: addresses
    failures: dict[str, tuple[Kind, str, str]]  # sample: kind, code, message
    refusals: tuple[tuple[str, int, Kind, str], ...]  # sample, HTTP status, kind, sent
    also_said_of_tasks = ("error_501.json",)  # refusals which, in answer to a look, are about the task
    not_found: tuple[tuple[str, int], ...]  # sample, HTTP status: an id they do not know, or not yet
    callbacks: tuple[str, ...]
    balances: dict[str, Decimal] = {}

    def with_urls(self, urls: Any) -> dict:
        """A successful status answer with these addresses."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test a sample, named after it."""
        cases = {
            "waiting_name": self.waiting,
            "success_name": tuple(self.success),
            "failure_name": tuple(self.failures),
            "refusal": self.refusals,
            "unknown_task": self.not_found,
        }
        for name in cases.keys() & set(metafunc.fixturenames):
            ids = [case if isinstance(case, str) else f"{case[1]}-{case[0]}" for case in cases[name]]
            metafunc.parametrize(name, cases[name], ids=ids)

    # the scene

    @pytest.fixture
    def peer(self, httpserver) -> Peer:
        return Peer(httpserver, f"/sandbox/{self.provider.slug}")

    @pytest.fixture
    def account(self, peer) -> Account:
        return Account(KEY, peer.url)

    def with_options(self, account: Account, **options: str) -> Account:
        return Account(account.key, account.base_url, options)

    def sample(self, name: str) -> bytes:
        return sample(self.provider.slug, name)

    def text(self, **changes: Any) -> Request:
        fields = {**TEXT.__dict__, "family": self.family, "aspect_ratio": "16:9", **changes}
        return Request(**fields)

    def hook(self) -> str:
        return f"https://studio.example.com/hooks/{self.provider.slug}/{TOKEN}/"

    def submit_error(self, request: Request, account: Account, callback_url: str | None = None) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            self.provider.submit(request, account, callback_url)
        return caught.value

    def report(self, account: Account, *, age_s: float = LATE_S, route: str = "") -> Report:
        return self.provider.report(self.task_id, route, account, age_s=age_s)

    def report_error(self, account: Account, *, age_s: float = LATE_S) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            self.report(account, age_s=age_s)
        return caught.value

    # what it says of itself

    def test_it_can_say_what_it_claims(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        can = self.provider.capabilities(account)
        for family, ratio, resolution in itertools.product(can.families, can.aspect_ratios, can.resolutions):
            self.provider.submit(Request("A harbour", family, ratio, resolution), account, None)
        assert len(peer.asked) == len(can.families) * len(can.aspect_ratios) * len(can.resolutions)

    def test_every_sample_is_used(self):
        names = {path.name for path in (SAMPLES / self.provider.slug).iterdir()}
        source = (SAMPLES.parent / "providers" / f"test_{self.provider.slug}.py").read_text() + "create_ok.json"
        assert [name for name in sorted(names) if name not in source] == []

    def test_it_falls_back_on_its_own_address(self, monkeypatch):
        urls = []
        reply = http.Reply(200, {}, self.sample("create_ok.json"))
        monkeypatch.setattr(http, "call", lambda method, url, **what: urls.append(url) or reply)
        self.provider.submit(self.text(), Account(KEY, ""), None)
        assert urls == [self.provider.base_url + self.create_path]

    # submit: what arrives

    def test_it_sends_text_exactly(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        assert self.provider.submit(self.text(), account, None).upstream_id == self.task_id
        [asked] = peer.asked
        assert (asked.method, asked.path, asked.query) == ("POST", self.create_path, "")
        assert asked.json == self.text_body
        assert asked.headers["content-type"] == "application/json"

    def test_it_sends_its_key_once(self, peer, account):
        peer.answers(self.sample("create_ok.json")).answers(self.sample(self.waiting[0]))
        self.provider.submit(self.text(), account, None)
        self.report(account)
        for asked in peer.asked:
            assert {name: value for name, value in asked.headers.items() if KEY in value} == self.auth
            assert KEY.encode() not in asked.body
            assert KEY not in asked.path + asked.query

    def test_it_sends_pictures_exactly(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        request = self.text(references=(picture(1), picture(2)))
        self.provider.submit(request, self.naming_references(account), None)
        assert peer.asked[-1].json == self.pictures_body

    def naming_references(self, account: Account) -> Account:
        """The account set so that references go by their address."""
        return account

    def test_it_sends_a_callback_address_only_when_given(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        self.provider.submit(self.text(), account, self.hook())
        expected = {name: self.hook() if value == "HOOK" else value for name, value in self.callback_fields.items()}
        assert peer.asked[0].json == {**self.text_body, **expected}

    def test_it_trims_the_prompt(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        self.provider.submit(self.text(prompt="  A quiet harbour, in ink\n"), account, None)
        assert peer.asked[0].json == self.text_body

    # submit: what is refused here

    @pytest.mark.parametrize(
        "wrong",
        [
            {"prompt": "  ab  "},
            {"prompt": "a" * 5001},
            {"family": "max"},
            {"aspect_ratio": "auto"},
            {"aspect_ratio": "21:9"},
            {"resolution": "4K"},
            {"references": tuple(map(picture, range(9)))},
        ],
        ids=lambda wrong: next(iter(wrong)),
    )
    def test_it_refuses_what_it_cannot_say(self, peer, account, wrong):
        error = self.submit_error(self.text(**wrong), account)
        assert (error.kind, error.sent, peer.asked) == (Kind.INPUT, "no", [])
        assert error.message.startswith(self.provider.name)

    def test_it_refuses_extras_it_does_not_have(self, peer, account):
        wishes = {"seed": 7, "output_format": "png", "safety_tolerance": 2}
        can = self.provider.capabilities(account)
        for name in wishes.keys() - can.extras:
            error = self.submit_error(self.text(**{name: wishes[name]}), account)
            assert (error.kind, error.sent) == (Kind.INPUT, "no")
        assert peer.asked == []

    def test_it_refuses_a_reference_without_an_address(self, peer, account):
        account = self.naming_references(account)
        assert not self.provider.capabilities(account).takes_uploads
        error = self.submit_error(self.text(references=(picture(1), picture(2, is_public=False))), account)
        assert (error.kind, error.sent, peer.asked) == (Kind.INPUT, "no", [])

    def test_it_takes_auto_with_a_reference_where_it_has_auto(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        request = self.text(aspect_ratio="auto", references=(picture(1),))
        if self.provider.capabilities(account).auto_ratio:
            assert self.provider.submit(request, self.naming_references(account), None)
        else:
            assert self.submit_error(request, account).sent == "no"

    @pytest.mark.parametrize("key", ["", " ", "key\nx", "ключ"])
    def test_it_refuses_a_key_that_no_header_can_carry(self, peer, key):
        error = self.submit_error(self.text(), Account(key, peer.url))
        assert (error.kind, error.sent, peer.asked) == (Kind.AUTH, "no", [])

    # submit: what the answer proves

    def test_it_reads_every_refusal(self, peer, account, refusal):
        name, status, kind, sent = refusal
        peer.answers(self.sample(name), status, retry_after="7")
        error = self.submit_error(self.text(), account)
        assert (error.kind, error.sent) == (kind, sent)
        assert (error.retry_after_s, len(peer.asked)) == (7, 1)

    @pytest.mark.parametrize(
        "name", ["bad_gateway.html", "cut.json", "not_an_object.json", "empty.txt", "wrong_types.json"]
    )
    def test_it_cannot_tell_from_an_unreadable_yes(self, peer, account, name):
        peer.answers(sample("any", name))
        error = self.submit_error(self.text(), account)
        assert (error.kind, error.sent) == (Kind.BAD_REPLY, "unknown")

    @pytest.mark.parametrize("status", [301, 302, 405, 408, 418, 500, 501, 502, 503, 504, 520])
    def test_it_cannot_tell_from_a_gateway_that_broke(self, peer, account, status):
        peer.answers(sample("any", "bad_gateway.html"), status)
        assert self.submit_error(self.text(), account).sent == "unknown"

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, Kind.INPUT),
            (401, Kind.AUTH),
            (402, Kind.BALANCE),
            (403, Kind.AUTH),
            (404, Kind.INPUT),
            (413, Kind.INPUT),
            (422, Kind.INPUT),
            (429, Kind.RATE),
        ],
    )
    def test_it_believes_a_gateway_that_refuses(self, peer, account, status, kind):
        peer.answers(sample("any", "bad_gateway.html"), status)
        error = self.submit_error(self.text(), account)
        assert (error.kind, error.sent) == (kind, "no")

    @pytest.mark.parametrize("bad_id", [None, "", " a", "a b", "a/b", "ä", "x" * 129, [], {}, True, 1.5, "\ud800"])
    def test_it_does_not_take_a_strange_id(self, peer, account, bad_id):
        peer.answers(changed(self.sample("create_ok.json"), self.id_path, bad_id))
        error = self.submit_error(self.text(), account)
        assert (error.kind, error.sent) == (Kind.BAD_REPLY, "unknown")

    def test_it_takes_a_number_as_an_id(self, peer, account):
        peer.answers(changed(self.sample("create_ok.json"), self.id_path, 1765175331507))
        assert self.provider.submit(self.text(), account, None).upstream_id == "1765175331507"

    @pytest.mark.parametrize(("status", "code"), [(500, 200), (200, 500), (429, 429), (502, 200), (200, "200")])
    def test_an_id_is_an_acceptance_whatever_else_is_said(self, peer, account, status, code):
        peer.answers(changed(self.sample("create_ok.json"), ("code",), code), status)
        accepted = self.provider.submit(self.text(), account, None)
        assert isinstance(accepted, Accepted)
        assert accepted.upstream_id == self.task_id

    def test_it_knows_that_nothing_left_for_a_closed_port(self):
        error = self.submit_error(self.text(), Account(KEY, "http://127.0.0.1:1"))
        assert (error.kind, error.sent) == (Kind.PROVIDER, "no")

    def test_it_cannot_tell_when_the_line_goes_dead(self):
        with hangs_up() as url:
            error = self.submit_error(self.text(), Account(KEY, url))
        assert (error.kind, error.sent) == (Kind.PROVIDER, "unknown")

    def test_it_never_repeats_a_create(self, peer, account):
        peer.answers(sample("any", "bad_gateway.html"), 503, retry_after="1")
        self.submit_error(self.text(), account)
        assert len(peer.asked) == 1

    # report

    def test_it_asks_how_a_task_stands(self, peer, account):
        peer.answers(self.sample(self.waiting[0]))
        self.report(account)
        [asked] = peer.asked
        assert (asked.method, asked.path, asked.query) == self.look
        assert asked.body == self.look_body

    def test_it_knows_waiting(self, peer, account, waiting_name):
        peer.answers(self.sample(waiting_name))
        assert self.report(account) == Report("running")

    def test_it_knows_success(self, peer, account, success_name):
        peer.answers(self.sample(success_name))
        report = self.report(account)
        assert (report.state, report.urls) == ("succeeded", self.success[success_name])

    def test_it_knows_failure(self, peer, account, failure_name):
        peer.answers(self.sample(failure_name))
        report = self.report(account)
        assert report.state == "failed"
        assert (report.kind, report.code, report.message) == self.failures[failure_name]

    def test_it_obeys_the_state_before_the_code(self, peer, account):
        peer.answers(changed(self.sample(self.waiting[0]), ("code",), 500), 500)
        assert self.report(account) == Report("running")

    @pytest.mark.parametrize("case", [str.upper, str.lower, str.title])
    def test_it_reads_states_in_any_case(self, peer, account, case):
        word = "completed" if self.provider.slug == "vtrix" else "success"
        success = self.sample(next(iter(self.success)))
        peer.answers(changed(success, self.state_path, case(word)))
        assert self.report(account).state == "succeeded"

    def test_an_unknown_word_means_running(self, peer, account):
        peer.answers(changed(self.sample(self.waiting[0]), self.state_path, "Pondering"))
        assert self.report(account) == Report("running", unknown_word="Pondering")

    @pytest.mark.parametrize("no_state", [None, "", [], {}, True])
    def test_it_does_not_guess_a_missing_state(self, peer, account, no_state):
        peer.answers(changed(self.sample(self.waiting[0]), self.state_path, no_state))
        assert self.report_error(account).kind is Kind.BAD_REPLY

    def test_it_does_not_take_another_tasks_answer(self, peer, account):
        peer.answers(changed(self.sample(self.waiting[0]), self.id_path, "somebody-elses"))
        assert self.report_error(account).kind is Kind.BAD_REPLY

    @pytest.mark.parametrize(
        "urls", [None, "", [], [None], ["", 5, {}], "not json", {}, ["ftp://a/b"], ["javascript:x"]], ids=str
    )
    def test_success_without_a_picture_is_a_bad_reply(self, peer, account, urls):
        peer.answers(self.with_urls(urls))
        error = self.report_error(account)
        assert (error.kind, error.code) == (Kind.BAD_REPLY, "no_urls")

    def test_it_keeps_eight_results_in_order_once_each(self, peer, account):
        urls = [f"https://cdn.example.com/{n // 2}.png" for n in range(10_000)]
        peer.answers(self.with_urls([None, *urls]))
        assert self.report(account).urls == tuple(f"https://cdn.example.com/{n}.png" for n in range(8))

    def test_only_a_young_task_may_be_unknown_to_them(self, peer, account, unknown_task):
        name, status = unknown_task
        peer.answers(self.sample(name), status)
        assert self.report(account, age_s=GRACE_S) == Report("running")
        error = self.report_error(account, age_s=LATE_S)
        assert (error.kind, error.code) == (Kind.INPUT, "not_found")

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (200, Kind.BAD_REPLY),
            (302, Kind.BAD_REPLY),
            (400, Kind.BAD_REPLY),
            (401, Kind.AUTH),
            (404, Kind.BAD_REPLY),
            (429, Kind.RATE),
            (500, Kind.PROVIDER),
            (502, Kind.PROVIDER),
            (503, Kind.MAINTENANCE),
        ],
    )
    def test_a_gateways_page_never_ends_a_task(self, peer, account, status, kind):
        peer.answers(sample("any", "bad_gateway.html"), status)
        assert self.report_error(account).kind is kind

    def test_a_refused_look_is_an_error_not_a_failure(self, peer, account, refusal):
        name, status, kind, _ = refusal
        if name in self.also_said_of_tasks:
            return
        peer.answers(self.sample(name), status)
        assert self.report_error(account).kind is kind

    def test_an_unreachable_look_is_an_error(self):
        assert self.report_error(Account(KEY, "http://127.0.0.1:1")).kind is Kind.PROVIDER

    # callbacks

    def test_it_reads_the_id_out_of_every_callback(self):
        for name in self.callbacks:
            assert (name, self.provider.parse_callback(self.sample(name))) == (name, self.task_id)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"\xff\xfe\x00",
            b"{" * 60000,
            b"[" * 60000,
            b'{"data":"' + b"x" * 70000 + b'"}',
            b"1" * 9000,
        ],
        ids=len,
    )
    def test_it_finds_no_id_in_nonsense(self, body):
        assert self.provider.parse_callback(body) is None

    def test_it_knows_a_signed_callback_or_has_no_such_thing(self, account):
        body, at = json.dumps({"data": {"taskId": "t-1"}}).encode(), "1763722800"
        # openssl: printf 't-1.1763722800' | openssl dgst -sha256 -hmac hush -binary | base64
        right = {"x-webhook-timestamp": at, "x-webhook-signature": "9rqDy0gvGkzmRIVai2qc7Zgrj6uhu6EIUqHSwPKs5Vw="}
        wrong = [{}, right | {"x-webhook-timestamp": "1"}, right | {"x-webhook-signature": "no"}]
        said = [self.provider.is_signed(body, headers, "hush") for headers in [right, *wrong]]
        signs = self.provider.capabilities(account).signs_callbacks
        assert said == ([True, False, False, False] if signs else [None] * 4)

    # balance

    def test_it_tells_its_balance_where_there_is_a_call(self, peer, account):
        for name, amount in self.balances.items():
            peer.answers(self.sample(name))
            assert self.provider.balance(account) == amount
        if not self.balances:
            assert self.provider.balance(account) is None
        assert len(peer.asked) == len(self.balances)

    # secrets

    def test_no_secret_leaves_in_an_error(self, peer, account):
        words = f"key {KEY} (Bearer {KEY}), hook {self.hook()}"
        if self.provider.capabilities(account).callback:
            words += f", token {TOKEN}"
        peer.answers({"code": 400, "msg": words, "message": words, "data": {"error": words}}, 400)
        error = self.submit_error(self.text(), account, self.hook())
        for shown in (str(error), repr(error), error.message, error.code, repr(error.__cause__), repr(account)):
            assert KEY not in shown
            assert TOKEN not in shown

    def test_no_secret_leaves_in_an_error_about_the_line(self):
        with hangs_up() as url:
            error = self.submit_error(self.text(), Account(KEY, url), self.hook())
        assert KEY not in repr(error) + repr(error.__cause__)
        assert TOKEN not in repr(error) + repr(error.__cause__)

    def test_foreign_words_are_made_fit_to_show(self, peer, account):
        words = "<b>no</b>\x00\ud800\n" + f"{self.hook()} " + "x" * 1000
        peer.answers(self.with_reason(json.loads(self.sample(next(iter(self.failures)))), words))
        report = self.report(account)
        assert len(report.message) <= 300
        assert report.message.isprintable()
        assert report.message.startswith("<b>no</b>")
        assert TOKEN not in report.message

    def with_reason(self, body: dict, words: str) -> dict:
        body["data"]["failMsg"] = words
        return body

    # anything at all

    fuzz = settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )

    nowhere = Account(KEY, "http://127.0.0.1:1")

    def whatever(self, monkeypatch, status: int, body: Any, headers: dict[str, str]) -> None:
        reply = http.Reply(status, headers, json.dumps(body).encode())
        monkeypatch.setattr(http, "call", lambda *args, **what: reply)

    @fuzz
    @given(STATUSES, JSON | LIKELY, st.text(max_size=30))
    def test_submit_raises_nothing_but_its_error(self, monkeypatch, status, body, retry_after):
        self.whatever(monkeypatch, status, body, {"retry-after": retry_after})
        outcome = outcome_of(lambda: self.provider.submit(self.text(), self.nowhere, None))
        if isinstance(outcome, ProviderError):
            assert len(outcome.message) <= 300
            assert outcome.retry_after_s is None or 1 <= outcome.retry_after_s <= 300
        else:
            assert wire.task_id(outcome.upstream_id)

    @fuzz
    @given(STATUSES, JSON | LIKELY, st.floats(0, 10_000))
    def test_report_raises_nothing_but_its_error(self, monkeypatch, status, body, age_s):
        self.whatever(monkeypatch, status, body, {})
        outcome = outcome_of(lambda: self.report(self.nowhere, age_s=age_s))
        if isinstance(outcome, ProviderError):
            assert len(outcome.message) <= 300
        else:
            assert outcome.urls or outcome.state != "succeeded"

    @fuzz
    @given(STATUSES, JSON | LIKELY)
    def test_balance_raises_nothing_but_its_error(self, monkeypatch, status, body):
        self.whatever(monkeypatch, status, body, {})
        outcome = outcome_of(lambda: self.provider.balance(self.nowhere))
        assert outcome is None or isinstance(outcome, ProviderError | Decimal)

    @fuzz
    @given(st.binary(max_size=200) | (JSON | LIKELY).map(lambda body: json.dumps(body).encode()))
    def test_parse_callback_never_raises(self, body):
        found = self.provider.parse_callback(body)
        assert found is None or wire.task_id(found) == found

    @fuzz
    @given(st.binary(max_size=200), st.text(max_size=80), st.text(max_size=80))
    def test_a_signature_never_raises(self, body, stamp, signature):
        headers = {"x-webhook-timestamp": stamp, "x-webhook-signature": signature}
        assert self.provider.is_signed(body, headers, "hush") in (None, False)
