"""Canaries in every secret, a provider that repeats whatever it hears, and a look at all that we write down or show."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import quote, urlsplit

import pytest
import structlog
from django.db import OperationalError, connection
from django.utils import timezone

from flux2web import accounts, live
from flux2web.models import Attempt, ProviderAccount, ProviderKey, State, Task
from flux2web.providers.base import ProviderError

from . import factories
from .peer import Peer, serving
from .road import age, expire_lease, look, press, task_of, walk

pytestmark = pytest.mark.django_db
KEY = "canary-key-7f3a9c2e5d81"
SECRET_KEY = "canary-secret-key-" + "s" * 40


# --- A provider that repeats what it hears ----------------------------------------------------------------------------


def heard(peer: Peer) -> str:
    """The last create's secrets, in every spelling that an answer may repeat them in."""
    create = peer.creates[-1]
    key, url = create["_key"], create["callBackUrl"]
    spellings = [key, f"Bearer {key}", f"x-api-key: {key}", f'"x-api-key":"{key}"', f"?api_key={key}&a=b", quote(key)]
    spellings += [url, quote(url, safe=""), url.replace("/", "\\/"), urlsplit(url).path, f"POST {url} failed"]
    return " | ".join(spellings)


def refuse(peer: Peer, code: int, status: int = 200, words: str = ""):
    """A refusal that says it all in the message, and in `param` beside it."""

    def answer(handler, _):
        handler.envelope(code, {"param": json.dumps(peer.creates[-1])}, f"{words} {heard(peer)}", status)

    return answer


def page(peer: Peer, status: int):
    return lambda handler, _: handler.say(status, f"<html>{heard(peer)}</html>".encode(), "text/html")


def report(peer: Peer, **fields: object):
    """A status answer with these fields, and the whole create in `param`."""
    said = {"param": json.dumps(peer.creates[-1]), **fields}
    return lambda handler, upstream_id: handler.envelope(200, {"taskId": upstream_id} | said)


def create_answers(peer: Peer) -> list:
    refusals = [refuse(peer, code) for code in (400, 401, 402, 422, 429, 433, 455, 500, 501, 505, 999)]
    refusals += [refuse(peer, code, status=code) for code in (401, 403, 422, 429, 503)]
    return [
        *refusals,
        page(peer, 502),
        page(peer, 403),
        peer.accept_then_cut,
        lambda h, _: h.say(200, heard(peer).encode()),
    ]


def look_answers(peer: Peer) -> list:
    secret = peer.creates[-1]["callBackUrl"].rstrip("/").rpartition("/")[2]
    return [
        report(peer, state=KEY),
        report(peer, state=f"hooks/revid/{secret}/"),
        report(peer, state="success", resultJson=heard(peer)),
        refuse(peer, 401),
        refuse(peer, 500, status=500),
        page(peer, 502),
        report(peer, state="fail", failCode=KEY, failMsg=heard(peer)),
    ]


# --- What is written and shown ----------------------------------------------------------------------------------------


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Every log line from DEBUG on, of all loggers, as it would be written out."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(production_formatter())
    loggers = [logging.getLogger(name) for name in ("", "flux2web")]
    levels = [logger.level for logger in loggers]
    logging.getLogger().addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield out
    logging.getLogger().removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def production_formatter() -> logging.Formatter:
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    return next(one for one in formatters if isinstance(one, structlog.stdlib.ProcessorFormatter))


def columns() -> Iterator[tuple[str, str]]:
    """(table.column, everything in it) of the whole database. Callbacks are kept as they came, byte by byte."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in cursor.description]
            rows = cursor.fetchall()
            for position, name in enumerate(names):
                if (table, name) != ("flux2web_callback", "body"):
                    yield f"{table}.{name}", " ".join(str(row[position]) for row in rows)


def shown(client, task: Task) -> Iterator[tuple[str, str]]:
    """(where, HTML) of everything that shows this task."""
    yield "card", live.render_card(task)
    for path in (f"/t/north/tasks/{task.pk}/", f"/t/north/tasks/{task.pk}/card/", "/t/north/", "/t/north/history/"):
        yield path, client.get(path).content.decode()


def secrets_told(peer: Peer) -> list[str]:
    tokens = [create["callBackUrl"].rstrip("/").rpartition("/")[2] for create in peer.creates]
    assert len(set(tokens)) == len(tokens)
    return [KEY, SECRET_KEY, *tokens]


def assert_hidden(secrets: list[str], where: str, text: str) -> None:
    for secret in secrets:
        found = text.find(secret)
        assert found < 0, f"{where} tells {secret!r}: …{text[max(0, found - 150) : found + 80]}…"


# --- The cast ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def peer() -> Iterator[Peer]:
    with serving() as peer:
        yield peer


@pytest.fixture
def member(cleo, north, membership, peer, settings):
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    settings.SECRET_KEY, settings.SECRET_KEYS = SECRET_KEY, [SECRET_KEY]
    factories.make_prices("revid")
    well(peer)
    return membership(cleo, north)


def well(peer: Peer) -> None:
    """Set or set again: a pause ends."""
    accounts.set_account("revid", key=KEY, base_url=peer.url, rate=(1000, 1.0))


@pytest.fixture
def walked(member, peer, written, client) -> list[Task]:
    """Tasks that went through every bad answer there is, and one that went well."""
    tasks = [*refused_tasks(member, peer), *failed_tasks(member, peer, client), finished_task(member, peer, client)]
    states = {task.state for task in tasks}
    assert states == {State.QUEUED, State.FAILED, State.UNCERTAIN, State.DONE}, states
    return tasks


def refused_tasks(member, peer: Peer) -> Iterator[Task]:
    for answer in create_answers(peer):
        well(peer)
        peer.answers = [answer]
        yield look(task_of(press(member)))


def failed_tasks(member, peer: Peer, client) -> Iterator[Task]:
    """Looks that go wrong in each way, one after another, and at last a failure; rung at in between."""
    well(peer)
    task = look(task_of(press(member)))
    for answer in look_answers(peer):
        ring(client, peer)
        peer.look_answers = [answer]
        task = look(task)
    yield task
    yield gone_task(member, peer)


def gone_task(member, peer: Peer) -> Task:
    """The provider forgets it, and says so with all it knows."""
    hour_ago = timezone.now() - timedelta(hours=1)
    task = age(look(task_of(press(member))), waited_s=10**6, accepted_at=hour_ago)
    peer.look_answers = [refuse(peer, 422, words="recordInfo is null")]
    return look(task)


def finished_task(member, peer: Peer, client) -> Task:
    """The answer is lost; the callback, which repeats the create, heals it."""
    peer.answers, peer.default_state = [peer.accept_then_cut], "success"
    task = look(task_of(press(member)))
    assert task.state == State.UNCERTAIN
    ring(client, peer)
    return walk(task)


def ring(client, peer: Peer) -> None:
    create, upstream_id = peer.creates[-1], peer.accepted[-1]
    told = {
        "param": json.dumps(create),
        "msg": heard(peer),
        "data": {"taskId": upstream_id, "param": json.dumps(create)},
    }
    path = urlsplit(create["callBackUrl"]).path
    assert client.post(path, json.dumps(told), content_type="application/json").status_code == 200


# --- Nothing is told --------------------------------------------------------------------------------------------------


def test_no_secret_is_logged_shown_or_stored(walked, peer, written, client_for, cleo, sam):
    secrets = secrets_told(peer)
    assert len(secrets) > 20
    assert all(create["_key"] == KEY for create in peer.creates)
    assert_hidden(secrets, "the log", written.getvalue())
    assert "create not accepted" in written.getvalue()
    assert "[hidden]" in written.getvalue()
    browser = client_for(cleo)
    for task in walked:
        for where, html in shown(browser, task):
            assert_hidden(secrets, where, html)
    for path in ("/console/", "/console/providers/", "/console/providers/revid/"):
        assert_hidden(secrets, path, client_for(sam).get(path).content.decode())
    for column, text in columns():
        assert_hidden(secrets, column, text)


def test_people_still_read_what_went_wrong(walked):
    messages = {task.fail_message for task in walked if task.state == State.FAILED}
    assert all(message.startswith(("Revid", "The provider")) or "[hidden]" in message for message in messages), messages
    assert any("[hidden]" in message for message in messages)


def test_only_the_hash_of_a_callbacks_secret_is_kept(walked, peer):
    for create in peer.creates:
        token = create["callBackUrl"].rstrip("/").rpartition("/")[2]
        assert len(token) >= 22  # 128 bits
    assert all(
        re.fullmatch(r"[0-9a-f]{64}", hashed) for hashed in Attempt.objects.values_list("secret_hash", flat=True)
    )


def test_a_ring_that_finds_the_database_down_tells_no_secret(member, peer, written, client):
    look(task_of(press(member)))
    path = urlsplit(peer.creates[-1]["callBackUrl"]).path

    def gone(*_):
        raise OperationalError("the server closed the connection")

    with connection.execute_wrapper(gone):
        assert client.post(path).status_code == 503
    assert "/hooks/revid/[hidden]" in written.getvalue()
    assert_hidden(secrets_told(peer), "the log", written.getvalue())


def test_a_key_is_not_in_what_python_prints_of_an_account(member):
    row = ProviderKey.objects.get()
    for thing in (accounts.plain(row.account), row, row.account):
        assert KEY not in f"{thing!r} {thing}"
    assert row.hint == "…5d81"


# --- The secret that opens them ---------------------------------------------------------------------------------------


def ciphertext() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM flux2web_providerkey ORDER BY version DESC")
        return cursor.fetchone()[0]


def test_a_wrong_secret_key_is_said_and_costs_nothing(member, peer, settings):
    task = task_of(press(member))
    settings.SECRET_KEY, settings.SECRET_KEYS = "another" * 8, ["another" * 8]
    task = look(task)
    account = ProviderAccount.objects.get()
    assert (task.state, peer.creates, account.pause_kind) == (State.QUEUED, [], "auth")
    assert "SECRET_KEY has changed" in account.pause_reason
    settings.SECRET_KEYS = ["another" * 8, SECRET_KEY]
    ProviderAccount.objects.update(paused_until=None)
    peer.default_state = "success"
    assert walk(task).state == State.DONE


def test_a_look_with_a_wrong_secret_key_leaves_the_task_as_it_is(member, peer, settings):
    task = look(task_of(press(member)))
    settings.SECRET_KEYS = ["another" * 8]
    assert look(task).state == State.RUNNING
    settings.SECRET_KEYS = [SECRET_KEY]
    peer.jobs[task.upstream_id] = "success"
    assert walk(task).state == State.DONE


def test_the_console_opens_with_a_wrong_secret_key(member, settings, client_for, sam):
    settings.SECRET_KEYS = ["another" * 8]
    assert client_for(sam).get("/console/providers/").status_code == 200


def test_rotation_opens_old_keys_and_stores_new_ones_under_the_new_secret(member, settings):
    settings.SECRET_KEYS = ["new" * 20, SECRET_KEY]
    account = accounts.set_account("revid")
    assert accounts.plain(account).key == KEY
    accounts.set_account("revid", key="another-key-1234567")
    settings.SECRET_KEYS = ["new" * 20]
    assert account.key.secret == "another-key-1234567"
    with pytest.raises(ProviderError, match="does not open"):
        accounts.plain(account, key_version=1)


def test_a_stored_key_is_ciphertext_and_never_the_same_twice(member):
    first = ciphertext()
    ProviderKey.objects.get().save()
    assert KEY not in first
    assert ciphertext() != first


def test_a_lease_that_passes_says_nothing_either(member, peer, written):
    peer.answers = [peer.cut]
    task = look(task_of(press(member)))
    expire_lease(task)
    look(task)
    assert_hidden(secrets_told(peer), "the log", written.getvalue())
