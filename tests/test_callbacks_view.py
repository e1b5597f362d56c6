"""The callback desk: who rang, what it was, what came, and looking again."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web import accounts
from flux2web.models import Callback, State, Task

from . import factories, road

DESK = "/console/callbacks/"
ANOTHER = b'{"code": 200, "data": {"taskId": "up-another"}}'  # names a task, not the one that was rung for


@pytest.fixture
def admin(client_for, sam):
    """Sam's browser. Sam is in no team."""
    return client_for(sam)


@pytest.fixture
def running(north, ana) -> Task:
    return factories.make_task(north, user=ana, state=State.RUNNING)


def rang(task: Task | None = None, body: bytes = b"{}", **fields) -> Callback:
    attempt = task.attempts.get() if task else None
    given = {
        "provider": "revid",
        "method": "POST",
        "size_bytes": len(body),
        "verdict": "matched" if task else "unknown",
    }
    return Callback.objects.create(attempt=attempt, body=body, **given | fields)


def row(answer, callback: Callback) -> str:
    found = re.search(rf'<tr id="callback-{callback.pk}">.*?</tr>', answer.content.decode(), re.S)
    return found.group() if found else ""


def text(markup) -> str:
    markup = markup if isinstance(markup, str) else markup.content.decode()
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", markup)))


def shown(answer) -> list[int]:
    return [int(pk) for pk in re.findall(r'<tr id="callback-(\d+)">', answer.content.decode())]


# --- Who may -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ana", "ben", "cleo", "eve", "zoe"])
def test_for_anyone_but_site_admins_there_is_no_desk(client_for, cast, running, name):
    client, callback, before = client_for(cast[name]), rang(running), running.due_at
    assert client.get(DESK).status_code == 404
    assert client.post(f"{DESK}{callback.pk}/look/").status_code == 404
    running.refresh_from_db()
    assert running.due_at == before


def test_a_callback_that_does_not_exist_is_not_found(admin):
    assert admin.post(f"{DESK}99/look/").status_code == 404
    assert admin.get(f"{DESK}99/look/").status_code == 405


# --- What it shows ---------------------------------------------------------------------------------------------------------


def test_before_anybody_rang_the_page_says_so(admin):
    assert "Nobody has rung yet" in text(admin.get(DESK))


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        ("matched", "Matched"),
        ("duplicate", "Rang before"),
        ("late", "After the end"),
        ("malformed", "Not readable"),
        ("unknown", "Unknown address"),
    ],
)
def test_each_has_its_verdict_in_words(admin, running, verdict, word):
    callback = rang(None if verdict == "unknown" else running, verdict=verdict)
    assert word in text(row(admin.get(DESK), callback))


@pytest.mark.parametrize(
    ("body", "how", "status", "word"),
    [
        ("[" * 40_000, {}, 200, "Not readable"),
        (ANOTHER.decode(), {}, 200, "Names no task of this address"),
        ("", {"method": "GET"}, 200, "Not readable"),
        ("{}", {"method": "PROPFIND"}, 200, "Not readable"),
        ("{}", {"provider": "apixo"}, 404, "Unknown address"),
        ("{}", {"secret": "guessed"}, 404, "Unknown address"),
    ],
)
def test_whoever_rings_wrongly_is_answered_quietly_and_stands_on_the_desk(admin, north, ana, body, how, status, word):
    task = factories.make_task(north, user=ana, state=State.RUNNING, secret="known")
    other = factories.make_task(north, user=ana, state=State.RUNNING, upstream_id="up-another")
    before = road.sums(north), other.due_at
    door = {"provider": "revid", "secret": "known", "method": "POST"} | how
    address = f"/hooks/{door['provider']}/{door['secret']}/"
    assert Client().generic(door["method"], address, body, content_type="application/json").status_code == status
    said = text(row(admin.get(DESK), Callback.objects.get()))
    assert word in said
    assert ((f"{task.pk}" in said), "Traceback" in said) == (status == 200, False)
    other.refresh_from_db()
    assert (road.sums(north), other.due_at) == before


def test_a_row_says_who_rang_for_which_task_of_whom_and_how_much_came(admin, running):
    callback = rang(running, b'{"code": 200}', signature="bad", method="PUT")
    said = text(row(admin.get(DESK), callback))
    for word in ("Revid", "Wrongly signed", f"{running.pk} North", "Running", "PUT, 13 bytes", '{"code": 200}'):
        assert word in said


def test_a_task_is_linked_where_this_admin_may_see_it(client_for, admin, ana, running, membership):
    callback, link = rang(running), f'href="/t/north/tasks/{running.pk}/"'
    assert link not in row(admin.get(DESK), callback)
    ana.is_site_admin = True
    ana.save()
    assert link in row(client_for(ana).get(DESK), callback)


def test_what_its_author_keeps_to_themselves_stays_so(client_for, admin, ana, running):
    callback = rang(running, json.dumps({"param": "my secret garden"}).encode())
    Task.objects.update(private=True)
    page = admin.get(DESK)
    assert "secret garden" not in page.content.decode()
    assert "its author keeps this picture to themselves" in text(row(page, callback))
    ana.is_site_admin = True
    ana.save()
    assert "secret garden" in client_for(ana).get(DESK).content.decode()


def test_what_came_is_shown_as_text_and_nothing_else(admin):
    callback = rang(None, b"<script>alert(1)</script>\x00\xff\xfe\x1b[31m\xe2\x80\xae")
    shown = row(admin.get(DESK), callback)
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown
    assert not re.search("[\x00\x1b\u202e]", shown)


def test_no_secret_is_shown_that_a_provider_repeats(admin, running):
    accounts.set_account("revid", callback_secret="hush-hush-1234")
    key = running.account.key.secret
    said = {
        "param": f'{{"callBackUrl": "https://flux.example/hooks/revid/{"s" * 22}/"}}',
        "echo": [key, "hush-hush-1234", f"Bearer {key}"],
    }
    callback = rang(running, json.dumps(said).encode())
    page = row(admin.get(DESK), callback)
    assert "hooks/revid/" in page
    for secret in ("s" * 22, key, "hush-hush"):
        assert secret not in page


def test_of_a_large_body_the_beginning_is_shown(admin, running):
    callback = rang(running, b"x" * 60_000 + b"the end")
    page = row(admin.get(DESK), callback)
    assert "60,007 bytes" in text(page)
    assert "The beginning." in text(page)
    assert "the end" not in page
    assert len(page) < 5000


def test_keys_that_open_no_more_spoil_no_page(admin, running, settings):
    accounts.set_account("revid", callback_secret="hush-hush-1234")
    callback = rang(running)
    settings.SECRET_KEYS = ["another key altogether, and long enough"]
    assert row(admin.get(DESK), callback)


def test_more_rows_ask_no_more_queries(admin, north, ana):
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            admin.get(DESK)
        return len(seen)

    rang(factories.make_task(north, user=ana, state=State.RUNNING))
    one = queries()
    for _ in range(8):
        rang(factories.make_task(north, user=ana, state=State.DONE))
        rang()
    assert queries() == one


# --- Filters and pages -------------------------------------------------------------------------------------------------------


def test_one_chooses_by_verdict_and_provider(admin, running):
    late, stranger = rang(running, verdict="late"), rang(provider="apixo")
    both = rang(provider="revid")
    assert shown(admin.get(DESK)) == [both.pk, stranger.pk, late.pk]
    assert shown(admin.get(f"{DESK}?verdict=late")) == [late.pk]
    assert shown(admin.get(f"{DESK}?provider=revid")) == [both.pk, late.pk]
    assert shown(admin.get(f"{DESK}?provider=revid&verdict=unknown")) == [both.pk]
    assert "Nothing of this kind" in text(admin.get(f"{DESK}?verdict=duplicate"))


def test_the_filter_calls_them_as_their_rows_do(admin, running):
    unreadable, another = rang(running, b"[", verdict="malformed"), rang(running, ANOTHER, verdict="malformed")
    answer = admin.get(f"{DESK}?verdict=malformed")
    option = re.search(r'<option value="malformed" selected>([^<]+)<', answer.content.decode())[1]
    assert option == "Not readable, or names no task of this address"
    for callback, word in ((unreadable, "Not readable"), (another, "Names no task of this address")):
        assert word in text(row(answer, callback))


@pytest.mark.parametrize("query", ["verdict=x", "provider=acme", "verdict=%00", "provider=" + "a" * 900])
def test_a_filter_that_does_not_exist_says_what_to_do(admin, running, query):
    rang(running)
    answer = admin.get(f"{DESK}?{query}")
    assert answer.status_code == 422
    assert "Choose one of the list." in text(answer)
    assert shown(answer) == []


@pytest.mark.parametrize("before", ["x", "-1", "1e3", "9" * 30, "%00", ""])
def test_a_place_that_does_not_exist_is_the_newest(admin, running, before):
    callback = rang(running)
    assert shown(admin.get(f"{DESK}?before={before}")) == [callback.pk]


def test_pages_follow_each_other_with_their_filter(admin):
    rows = [rang(provider="revid").pk for _ in range(65)]
    rang(provider="apixo")
    address, seen = f"{DESK}?provider=revid", []
    while address:
        page = admin.get(address)
        seen += shown(page)
        found = re.search(r'rel="next" href="(\?[^"]*)"', page.content.decode())
        address = DESK + html.unescape(found[1]) if found else ""
    assert seen == rows[::-1]


# --- Looking again ------------------------------------------------------------------------------------------------------------


def test_one_looks_again_at_what_still_runs_and_comes_back_to_the_same_place(admin, sam, running):
    callback = rang(running)
    answer = admin.post(f"{DESK}{callback.pk}/look/?verdict=matched")
    running.refresh_from_db()
    assert answer.headers["Location"] == f"{DESK}?verdict=matched"
    assert running.due_at <= timezone.now()
    assert running.events.filter(kind="look", cause=f"user {sam.pk}").exists()


def test_a_look_again_pressed_often_is_one_look(admin, running):
    callback = rang(running)
    admin.post(f"{DESK}{callback.pk}/look/")
    Task.objects.update(looked_at=timezone.now(), due_at=timezone.now() + timedelta(minutes=1))
    assert "a moment ago" in text(admin.post(f"{DESK}{callback.pk}/look/", follow=True))
    assert running.events.filter(kind="look").count() == 1


@pytest.mark.parametrize("state", [State.DONE, State.FAILED])
def test_what_has_ended_is_left_alone(admin, north, ana, state):
    task = factories.make_task(north, user=ana, state=state)
    callback, before = rang(task), (task.version, task.due_at)
    page = row(admin.get(DESK), callback)
    assert "Look again" not in text(page)
    assert "has ended" in text(admin.post(f"{DESK}{callback.pk}/look/", follow=True))
    task.refresh_from_db()
    assert (task.version, task.due_at, task.state) == (*before, state)


def test_nobodys_callback_has_nothing_to_look_at(admin):
    callback = rang()
    assert "belongs to no task of ours" in text(admin.post(f"{DESK}{callback.pk}/look/", follow=True))
