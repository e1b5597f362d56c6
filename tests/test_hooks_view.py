"""The door where providers ring: open to the whole world, so it believes nothing, tells nothing and falls over nothing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import io
import json
import logging
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from flux2web import accounts, lifecycle, queries
from flux2web.models import Act, Attempt, Callback, Event, ProviderAccount, State, Task

from . import factories, peer, road, serving

SECRET = "canary-secret-8d1f"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND"]
LIMIT = 64 * 1024
BODIES = {
    "empty": b"",
    "nul": b"\x00",
    "nuls in a string": b'{"taskId": "a\\u0000b\x00"}',
    "brackets": b"[" * 40_000,
    "braces": b'{"data":' * 7_000,
    "closed brackets": b"[" * 20_000 + b"]" * 20_000,
    "a lone surrogate": b'{"taskId": "\\ud800"}',
    "a raw surrogate": b'{"taskId": "\xed\xa0\x80"}',
    "invalid UTF-8": b"\xff\xfe\x80\xc3(",
    "UTF-16": '{"taskId": "x"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"taskId": "x"}',
    "a number": b"7",
    "a huge number": b'{"taskId": ' + b"9" * 5000 + b"}",
    "a huge exponent": b'{"taskId": 1e999999, "code": -1e-999999}',
    "not a number": b'{"taskId": NaN, "code": Infinity}',
    "null": b"null",
    "a list": b'[{"taskId": "x"}]',
    "nulls inside": b'{"data": null, "code": null, "taskId": null}',
    "lists inside": b'{"data": {"taskId": []}, "code": {}, "taskId": {"x": 1}}',
    "the same name twice": b'{"taskId": "a", "taskId": "b"}',
    "a form": b"taskId=x&code=200",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8,
    "compressed": gzip.compress(b'{"taskId": "x"}'),
    "a page": b"<html><script>alert(1)</script>",
    "SQL": b"'; DROP TABLE flux2web_task; --",
    "as much as is taken": b" " * LIMIT,
}


@pytest.fixture
def rung(north, ana):
    """A running task whose callback secret is SECRET."""
    return factories.make_task(north, user=ana, state=State.RUNNING, secret=SECRET)


def ring(body: bytes = b"{}", *, provider: str = "revid", secret: str = SECRET, method: str = "POST", **kwargs):
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    return client.generic(method, f"/hooks/{provider}/{secret}/", body, content_type="application/json", **kwargs)


def standing(task: Task) -> tuple:
    """Everything about a task that a forger could want to change."""
    task.refresh_from_db()
    sums = road.sums(task.team)
    return task.state, task.version, task.upstream_id, task.result_urls, task.charged_credits, task.due_at, sums


# --- Whoever knows the secret --------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("method", METHODS)
def test_any_method_makes_us_look(method, rung):
    assert ring(method=method).status_code == 200
    rung.refresh_from_db()
    assert rung.due_at <= timezone.now()
    assert Callback.objects.get().method == method


@pytest.mark.django_db
@pytest.mark.parametrize("name", BODIES)
def test_any_body_is_kept_as_it_came_and_believed_in_nothing(name, rung):
    before = standing(rung)
    assert ring(BODIES[name]).status_code == 200
    assert bytes(Callback.objects.get().body) == BODIES[name]
    assert standing(rung)[:5] == before[:5]


@pytest.mark.django_db
def test_a_success_that_a_forger_could_have_written_changes_nothing(rung):
    before = standing(rung)
    body = {"taskId": "up-of-somebody-else", "state": "success", "resultJson": '{"resultUrls": ["http://10.0.0.1/x"]}'}
    assert ring(json.dumps({"code": 200, "data": body, **body}).encode()).status_code == 200
    assert standing(rung)[:5] == before[:5]


@pytest.mark.django_db
@pytest.mark.parametrize("state", [State.DONE, State.FAILED])
def test_a_late_ring_is_thanked_for_and_changes_nothing(state, north, ana):
    task = factories.make_task(north, user=ana, state=state, secret=SECRET)
    before = standing(task)
    answers = [ring(body).status_code for body in BODIES.values()]
    assert set(answers) == {200}
    assert standing(task) == before


@pytest.mark.django_db
def test_a_provider_needs_no_session_no_token_and_gets_no_cookie(rung):
    answer = ring(headers={"Origin": "https://evil.example", "Referer": "https://evil.example/"})
    assert answer.status_code == 200
    assert answer.json() == {"code": 200, "msg": "success"}
    assert not answer.cookies


@pytest.mark.django_db
def test_it_never_sends_anyone_elsewhere(rung):
    for query in ("?next=https://evil.example", "?url=//evil.example", "?redirect=https://evil.example&state=success"):
        for secret in (SECRET, "nobody"):
            answer = Client().post(f"/hooks/revid/{secret}/{query}", b"{}", content_type="application/json")
            assert answer.status_code in (200, 404)
            assert "Location" not in answer


# --- Whoever does not ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_to_everyone_else_all_doors_look_the_same(rung):
    tries = [ring(body, secret="nobody") for body in BODIES.values()]
    tries += [ring(method=method, secret="nobody") for method in METHODS if method != "HEAD"]
    tries += [ring(provider="apixo"), ring(provider="nobody"), ring(secret=SECRET.upper()), ring(secret=SECRET[:-1])]
    tries += [ring(secret=rung.upstream_id), ring(secret=str(rung.pk)), ring(secret="%00"), ring(secret="é" * 500)]
    tries += [ring(secret=Attempt.objects.get().secret_hash)]
    assert {(answer.status_code, answer.content) for answer in tries} == {(404, b"Not found.")}
    assert set(Callback.objects.values_list("verdict", "attempt")) == {("unknown", None)}
    assert not Event.objects.filter(kind="callback").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("secret", ["nobody", SECRET])
def test_no_log_line_holds_a_secret_or_a_key(secret, rung, written_to_the_log):
    ring(json.dumps({"echo": SECRET, "key": rung.account.key.secret}).encode(), secret=secret)
    ring(secret=f"{SECRET}/x")
    ring(provider="apixo")
    said = written_to_the_log()
    assert "/hooks/" in said
    assert SECRET not in said
    assert rung.account.key.secret not in said


@pytest.fixture
def written_to_the_log(caplog):
    """Call it for all that this site's own handlers have written, down to the last debug line."""
    handlers = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    before, into = [handler.stream for handler in handlers], io.StringIO()
    for handler in handlers:
        handler.setStream(into)
    with caplog.at_level(logging.DEBUG):
        yield into.getvalue
    for handler, stream in zip(handlers, before, strict=True):
        handler.setStream(stream)


@pytest.mark.django_db(transaction=True)
def test_while_the_database_is_broken_the_answer_is_try_again_later(rung):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE flux2web_attempt RENAME TO flux2web_gone")
    try:
        answer = ring()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE flux2web_gone RENAME TO flux2web_attempt")
    assert answer.status_code == 503
    assert ring().status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_ring_that_cannot_be_written_down_is_not_thanked_for(rung):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE flux2web_callback RENAME TO flux2web_gone")
    try:
        assert ring().status_code == 503
        assert Attempt.objects.get().rung_at is None
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE flux2web_gone RENAME TO flux2web_callback")


# --- What it was ---------------------------------------------------------------------------------------------------------


def body_of(upstream_id: str) -> bytes:
    return json.dumps({"code": 200, "data": {"taskId": upstream_id, "state": "success"}}).encode()


def verdicts() -> list[str]:
    return list(Callback.objects.order_by("pk").values_list("verdict", flat=True))


@pytest.mark.django_db
def test_the_first_that_speaks_of_our_task_is_a_match_and_the_next_a_double(rung):
    for _ in range(3):
        ring(body_of(rung.upstream_id))
    assert verdicts() == ["matched", "duplicate", "duplicate"]
    assert set(Callback.objects.values_list("provider", "size_bytes")) == {("revid", len(body_of(rung.upstream_id)))}


@pytest.mark.django_db
def test_a_ring_after_the_end_is_late(north, ana):
    task = factories.make_task(north, user=ana, state=State.DONE, secret=SECRET)
    ring(body_of(task.upstream_id))
    assert verdicts() == ["late"]


@pytest.mark.django_db
@pytest.mark.parametrize("name", BODIES)
def test_what_names_no_task_is_not_readable(name, rung):
    ring(BODIES[name])
    assert verdicts() == ["malformed"]


@pytest.mark.django_db
def test_an_id_of_another_task_is_no_match_and_touches_neither(rung, north, ana):
    other = factories.make_task(north, user=ana, state=State.RUNNING)
    before = standing(other)
    ring(body_of(other.upstream_id))
    assert verdicts() == ["malformed"]
    assert standing(other) == before


@pytest.mark.django_db
@pytest.mark.parametrize(("owner", "verdict"), [("nobody", "matched"), ("other", "malformed")])
def test_while_we_know_no_id_any_that_is_no_other_tasks_may_be_ours(owner, verdict, north, ana):
    factories.make_task(north, user=ana, state=State.RUNNING, upstream_id="up-other")
    factories.make_task(north, user=ana, state=State.UNCERTAIN, secret=SECRET)
    ring(body_of(f"up-{owner}"))
    assert verdicts() == [verdict]


@pytest.mark.django_db
def test_a_stranger_leaves_a_line_without_the_secret_he_tried():
    ring(b"x" * 5000, secret="guessed-secret")
    ring(b"{}", provider="nobody", secret="guessed-secret")
    first, second = Callback.objects.order_by("pk")
    assert (first.verdict, first.provider, len(first.body), first.size_bytes) == ("unknown", "revid", 2048, 5000)
    assert second.provider == ""


@pytest.mark.django_db
def test_a_flood_of_strangers_leaves_few_lines_and_asks_little(django_assert_num_queries):
    for _ in range(40):
        ring(secret="nobody")
    assert Callback.objects.count() == 30
    with django_assert_num_queries(2):  # whose secret it is, and how many came lately
        ring(secret="nobody")


@pytest.mark.django_db
def test_of_strangers_the_oldest_lines_go(rung):
    long_ago = timezone.now() - timedelta(hours=1)
    mine = Callback.objects.create(
        attempt=rung.attempts.get(), provider="revid", method="POST", body=b"", received=long_ago
    )
    old = [
        Callback(provider="revid", verdict="unknown", method="POST", body=b"", received=long_ago) for _ in range(520)
    ]
    Callback.objects.bulk_create(old)
    ring(secret="nobody")
    assert Callback.objects.filter(verdict="unknown").count() == 500
    assert Callback.objects.filter(pk=mine.pk).exists()


# --- Signed ----------------------------------------------------------------------------------------------------------------

SIGNING = "signing-secret-of-ours"


@pytest.fixture
def signing(rung):
    accounts.set_account("revid", callback_secret=SIGNING)
    return rung


def signed(upstream_id: str, secret: str = SIGNING, at: str = "1763722800") -> dict:
    """The headers of kie's scheme, worked out here anew."""
    digest = hmac.new(secret.encode(), f"{upstream_id}.{at}".encode(), hashlib.sha256).digest()
    return {"X-Webhook-Timestamp": at, "X-Webhook-Signature": base64.b64encode(digest).decode()}


@pytest.mark.django_db
def test_where_no_secret_is_set_a_signature_is_not_checked(rung):
    ring(body_of(rung.upstream_id), headers=signed(rung.upstream_id, "another"))
    assert Callback.objects.get().signature == ""
    assert Task.objects.get().due_at <= timezone.now()


@pytest.mark.django_db
def test_a_rightly_signed_ring_makes_us_look(signing):
    ring(body_of(signing.upstream_id), headers=signed(signing.upstream_id))
    assert Callback.objects.get().signature == "good"
    assert Task.objects.get().due_at <= timezone.now()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Webhook-Signature": "", "X-Webhook-Timestamp": ""},
        {"X-Webhook-Signature": "é" * 900, "X-Webhook-Timestamp": "\ud800"},
        signed("up-other"),
        signed("any", "another secret"),
        signed("any") | {"X-Webhook-Timestamp": "1"},
    ],
)
def test_a_wrongly_signed_ring_is_thanked_for_and_brings_no_look_forward(headers, signing):
    Task.objects.update(upstream_id="any")
    Attempt.objects.update(upstream_id="any")
    due_at = Task.objects.get().due_at
    assert ring(body_of("any"), headers=headers).status_code == 200
    assert Callback.objects.get().signature == "bad"
    assert Task.objects.get().due_at == due_at
    assert Attempt.objects.get().rung_at is None


@pytest.mark.django_db
def test_a_secret_that_opens_no_more_is_like_none(signing, settings):
    settings.SECRET_KEYS = ["another key altogether, and long enough"]
    assert ring(body_of(signing.upstream_id)).status_code == 200
    assert Callback.objects.get().signature == ""


@pytest.mark.django_db
def test_a_secret_for_signatures_is_sealed_at_rest(signing):
    sealed = ProviderAccount.objects.get().sealed_callback_secret
    assert sealed
    assert SIGNING not in sealed
    assert accounts.callback_secret(ProviderAccount.objects.get()) == SIGNING
    assert not Act.objects.filter(note__contains=SIGNING).exists()
    accounts.set_account("revid", callback_secret="")
    assert accounts.callback_secret(ProviderAccount.objects.get()) == ""


# --- Forgetting ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_bytes_are_forgotten_after_thirty_days_unless_their_task_still_lives(rung, north, ana):
    done = factories.make_task(north, user=ana, state=State.DONE, secret="secret-of-the-done")
    ring(body_of(rung.upstream_id))
    ring(body_of(done.upstream_id), secret="secret-of-the-done")
    ring(secret="nobody")
    Callback.objects.update(received=timezone.now() - timedelta(days=30, minutes=1))
    ring(secret="nobody")
    assert lifecycle.forget_callbacks() == 2
    assert verdicts() == ["matched", "unknown"]


@pytest.mark.django_db
def test_forgetting_goes_page_by_page(monkeypatch):
    monkeypatch.setattr(queries, "OLD_PAGE", 3)
    long_ago = timezone.now() - timedelta(days=40)
    old = [Callback(provider="revid", verdict="unknown", method="POST", body=b"", received=long_ago) for _ in range(7)]
    Callback.objects.bulk_create(old)
    assert lifecycle.forget_callbacks() == 7


# --- Over the real server --------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (LIMIT + 1, 413), (2**20, 413)])
def test_a_body_is_taken_up_to_64_kb(size, status, rung):
    with serving.site() as url:
        whole = httpx.post(f"{url}/hooks/revid/{SECRET}/", content=b"x" * size)
        chunked = httpx.post(
            f"{url}/hooks/revid/{SECRET}/", content=iter([b"x" * 1000] * (size // 1000) + [b"x" * (size % 1000)])
        )
    assert (whole.status_code, chunked.status_code) == (status, status)
    assert Callback.objects.count() == (2 if status == 200 else 0)


@pytest.mark.django_db(transaction=True)
def test_a_ring_is_answered_in_milliseconds(rung):
    with serving.site() as url, httpx.Client() as http:
        times = sorted(_timed(lambda: http.post(f"{url}/hooks/revid/{SECRET}/", content=b"{}")) for _ in range(21))
    assert times[10] < 0.2, times  # measured: 10 ms; the limit is for a busy machine


def _timed(do) -> float:
    began = time.monotonic()
    do()
    return time.monotonic() - began


@pytest.mark.django_db(transaction=True)
def test_a_storm_of_every_kind_breaks_nothing_and_asks_the_provider_little(north, ana):
    """2,000 posts: unknown secrets, known ids, doubles, nonsense, wrong methods, and some that are genuine."""
    with peer.serving() as revid:
        factories.make_account("revid", base_url=revid.url)
        with serving.site(working=True, RING_MIN_S=3) as url:
            doors = [_running(revid, north, ana, number) for number in range(4)]
            looked = len(revid.looks)
            requests = [_one_of_a_storm(revid, doors, random.Random(number)) for number in range(2000)]
            began = time.monotonic()
            statuses = Counter(_sent(url, requests))
            took_s = time.monotonic() - began
    assert set(statuses) <= {200, 404, 413}, statuses
    assert statuses[200] > 500
    assert len(revid.looks) - looked <= len(doors) * (5 + took_s)
    assert {task.state for task in Task.objects.all()} == {State.RUNNING}


def _running(revid: peer.Peer, team, user, number: int) -> tuple[str, str]:
    """(secret, upstream id) of a task that the provider is still working on."""
    upstream_id, secret = f"up-storm-{number}", f"storm-secret-{number}"
    revid.jobs[upstream_id] = "waiting"
    factories.make_task(team, user=user, state=State.RUNNING, secret=secret, upstream_id=upstream_id)
    return secret, upstream_id


def _one_of_a_storm(revid: peer.Peer, doors: list[tuple[str, str]], dice: random.Random) -> tuple[str, str, bytes]:
    """(method, path, body)"""
    secret, upstream_id = dice.choice(doors)
    genuine = revid.callback_body(upstream_id)
    kinds = [
        ("POST", f"revid/unknown-{dice.random()}", genuine),
        ("POST", f"revid/{upstream_id}", genuine),
        ("POST", f"revid/{secret}", genuine),
        ("POST", f"revid/{secret}", dice.choice(list(BODIES.values()))),
        (dice.choice(METHODS), f"revid/{secret}", genuine),
        ("POST", f"{dice.choice(['apixo', 'vtrix', 'nobody'])}/{secret}", genuine),
        ("POST", f"revid/{secret}", b"x" * (LIMIT + 1)),
    ]
    method, path, body = dice.choices(kinds, (30, 10, 20, 20, 10, 5, 5))[0]
    return method, f"/hooks/{path}/", body


def _sent(url: str, requests: list[tuple[str, str, bytes]]) -> list[int]:
    def send(part: list[tuple[str, str, bytes]]) -> list[int]:
        with httpx.Client(timeout=30) as http:
            return [http.request(method, url + path, content=body).status_code for method, path, body in part]

    with ThreadPoolExecutor(8) as pool:
        return [status for part in pool.map(send, [requests[n::8] for n in range(8)]) for status in part]
