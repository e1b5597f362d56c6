"""The page of a task, its card, its buttons, and the catch-up of many cards."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from flux2web import queries
from flux2web.models import Budget, State, Task

from . import factories

HTMX = {"HX-Request": "true"}


def text(answer) -> str:
    return answer.content.decode()


def ids(page: str) -> list[int]:
    return [int(pk) for pk in re.findall(r'id="task-(\d+)"', page)]


def url(task: Task, verb: str = "") -> str:
    return f"/t/north/tasks/{task.pk}/{verb and verb + '/'}"


# --- The page --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_every_state_has_a_page(client_for, eve, north, state):
    task = factories.make_task(north, state=state, references=[factories.make_reference(north, name="vase.png")])
    page = text(client_for(eve).get(url(task)))
    assert task.prompt in page
    assert "vase.png" in page
    assert "Held 10 credits" in page


def test_a_done_task_shows_picture_settings_provider_money_and_file(client_for, eve, north, cleo):
    task = factories.make_task(north, user=cleo, state="done", seed=41, price=24, charged=20)
    page = text(client_for(eve).get(url(task)))
    for words in ("Cleo", f"task {task.pk}", "41", "Revid", "Charged 20", "4 returned", "1024 × 768", task.upstream_id):
        assert words in page
    assert f'href="/t/north/results/{task.pk}/download"' in page


def test_a_failed_task_says_why_in_the_providers_words_too(client_for, eve, north):
    task = factories.make_task(north, state="failed", fail_kind="moderation", fail_code="NSFW", fail_message="Flagged.")
    page = text(client_for(eve).get(url(task)))
    assert "Refused by the model&#x27;s filter" in page
    assert "Flagged." in page
    assert "NSFW" in page


def test_a_task_of_another_team_does_not_exist(client_for, ana, south, zoe):
    task = factories.make_task(south, user=zoe, state="failed")
    for verb in ("", "card"):
        assert client_for(ana).get(url(task, verb)).status_code == 404
    for verb in ("cancel", "retry", "check"):
        assert client_for(ana).post(url(task, verb)).status_code == 404
    assert client_for(zoe).get(url(task)).status_code == 404


def test_the_page_takes_no_more_queries_for_a_long_story(client_for, eve, north):
    task = factories.make_task(north, state="done", references=[factories.make_reference(north)])
    task.events.create(kind="look", cause=f"user {eve.pk}")
    client = client_for(eve)

    def count() -> int:
        client.get(url(task))
        with CaptureQueriesContext(connection) as seen:
            client.get(url(task))
        return len(seen)

    before = count()
    for number in range(20):
        task.events.create(kind="look", cause=f"user {eve.pk}", note=str(number))
        factories.make_task(north, state="done", batch=task.batch)
    assert count() == before


# --- The card and the catch-up ---------------------------------------------------------------------------------------------


def test_the_card_is_the_same_for_every_viewer(client_for, ana, eve, north):
    task = factories.make_task(north, state="done")
    assert text(client_for(ana).get(url(task, "card"))) == text(client_for(eve).get(url(task, "card")))


def catch_up(client, have: str = "", after: str = ""):
    return client.get("/t/north/cards/?" + urlencode({"have": have, "after": after}))


def test_nothing_new_is_204_and_empty(client_for, eve, north):
    task = factories.make_task(north)
    answer = catch_up(client_for(eve), f"{task.pk}:{task.version}", queries.write_cursor(task))
    assert (answer.status_code, answer.content) == (204, b"")


def test_changed_and_newer_cards_come_in_one_answer_newest_first(client_for, eve, north):
    same, changed = factories.make_task(north), factories.make_task(north)
    newer = factories.make_task(north)
    Task.objects.filter(pk=changed.pk).update(version=5)
    answer = catch_up(client_for(eve), f"{same.pk}:1,{changed.pk}:1", queries.write_cursor(changed))
    assert ids(text(answer)) == [newer.pk, changed.pk]


def test_many_newer_cards_do_not_push_out_what_the_page_shows(client_for, eve, north, monkeypatch):
    monkeypatch.setattr(queries, "NEWER_MAX", 2)
    shown = factories.make_task(north, state="done")
    newer = [factories.make_task(north) for _ in range(4)]
    page = text(catch_up(client_for(eve), f"{shown.pk}:0", queries.write_cursor(shown)))
    assert ids(page) == [newer[3].pk, newer[2].pk, shown.pk]


def test_cards_of_another_team_are_not_told(client_for, ana, north, south):
    foreign = factories.make_task(south)
    assert catch_up(client_for(ana), f"{foreign.pk}:0", "1970-01-01T00:00:00+00:00,0").status_code == 204


@pytest.mark.parametrize("have", ["", "x", "1", "1:x", ":", "1:2:3", "," * 500, "9" * 40 + ":1", "-1:1", "١:1"])
@pytest.mark.parametrize("after", ["", "x", "2026-01-01,1", "1970-01-01T00:00:00+00:00,x"])
def test_nonsense_is_answered_with_nothing(client_for, eve, north, have, after):
    assert catch_up(client_for(eve), have, after).status_code == 204


def test_without_the_streaming_server_there_is_no_stream_and_no_error(client_for, eve, north):
    assert client_for(eve).get("/t/north/live/").status_code == 204


# --- Cancel ----------------------------------------------------------------------------------------------------------------


def test_an_author_cancels_a_waiting_task_and_gets_the_credits_back(client_for, cleo, north):
    task = factories.make_task(north, user=cleo, price=24)
    answer = client_for(cleo).post(url(task, "cancel"), headers=HTMX)
    assert answer.status_code == 200
    assert 'data-state="cancelled"' in text(answer)
    assert "24 returned" in text(answer)
    assert Budget.objects.get(team=north).held == 0


def test_a_team_admin_cancels_for_others_and_a_member_does_not(client_for, ben, cleo, dan, north):
    task = factories.make_task(north, user=cleo)
    assert client_for(dan).post(url(task, "cancel")).status_code == 403
    assert Task.objects.get().state == "queued"
    assert client_for(ben).post(url(task, "cancel")).status_code == 302
    assert Task.objects.get().state == "cancelled"


def test_what_was_sent_cannot_be_cancelled_and_that_is_said(client_for, cleo, north):
    task = factories.make_task(north, user=cleo, state="running")
    answer = client_for(cleo).post(url(task, "cancel"), headers=HTMX)
    assert answer.status_code == 422
    assert "Too late to cancel" in text(answer)
    assert Task.objects.get().state == "running"


def test_cancelling_twice_is_no_error(client_for, cleo, north):
    task = factories.make_task(north, user=cleo)
    for _ in range(2):
        assert client_for(cleo).post(url(task, "cancel"), headers=HTMX).status_code == 200
    assert Budget.objects.get(team=north).held == 0


def test_without_javascript_the_button_leads_back_to_where_it_stood(client_for, cleo, north):
    task = factories.make_task(north, user=cleo)
    assert client_for(cleo).post(url(task, "cancel"))["Location"] == "/t/north/"
    assert client_for(cleo).post(url(task, "cancel"), {"back": "task"})["Location"] == url(task)


# --- Retry -----------------------------------------------------------------------------------------------------------------


def test_a_failed_task_is_tried_again_as_a_new_one_with_its_own_hold(client_for, dan, cleo, north):
    factories.make_account("revid")
    task = factories.make_task(north, user=cleo, state="failed", seed=None)
    answer = client_for(dan).post(url(task, "retry"), headers=HTMX)
    new = Task.objects.latest("id")
    assert answer.status_code == 200
    assert ids(text(answer)) == [new.pk]
    assert (new.parent_id, new.user, new.prompt) == (task.pk, dan, task.prompt)
    assert Budget.objects.get(team=north).held == 10


def test_a_retry_that_the_budget_does_not_cover_says_so(client_for, cleo, north):
    factories.make_account("revid")
    task = factories.make_task(north, user=cleo, state="failed")
    Budget.objects.filter(team=north).update(granted=5)
    answer = client_for(cleo).post(url(task, "retry"), headers=HTMX)
    assert answer.status_code == 422
    assert "this needs 10 credits" in text(answer)
    plain = client_for(cleo)
    page = text(plain.get(plain.post(url(task, "retry"))["Location"]))
    assert "this needs 10 credits" in page


def test_what_did_not_fail_is_not_tried_again(client_for, cleo, north):
    task = factories.make_task(north, user=cleo, state="done")
    assert client_for(cleo).post(url(task, "retry"), headers=HTMX).status_code == 422
    assert Task.objects.count() == 1


# --- Look now --------------------------------------------------------------------------------------------------------------


def test_a_look_can_be_asked_for_and_then_rests(client_for, dan, north):
    task = factories.make_task(north, state="uncertain")
    before = task.due_at
    assert client_for(dan).post(url(task, "check"), headers=HTMX).status_code == 200
    assert Task.objects.get().due_at < before
    Task.objects.update(looked_at=Task.objects.get().due_at)
    answer = client_for(dan).post(url(task, "check"), headers=HTMX)
    assert answer.status_code == 422
    assert "We looked a moment ago" in text(answer)


@pytest.mark.parametrize("verb", ["cancel", "retry", "check"])
def test_a_viewer_presses_nothing(client_for, eve, north, verb):
    task = factories.make_task(north)
    assert client_for(eve).post(url(task, verb)).status_code == 403
    assert client_for(eve).get(url(task, verb)).status_code == 405
