"""The page of a task, its card, its buttons, and the catch-up of many cards."""

from __future__ import annotations

import re
from io import BytesIO
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from PIL import Image

from flux2web import queries, shelf
from flux2web.models import Budget, Collection, Comment, Membership, Notice, Reference, Result, State, Task

from . import factories
from .pictures import picture

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
    for words in (
        "Cleo",
        f"task {task.pk}",
        "41",
        "Revid",
        "Held 24 · charged 20",
        "4 returned",
        "1024 × 768",
        task.upstream_id,
    ):
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
    for verb in ("cancel", "retry", "check", "report"):
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


def test_hearts_of_ones_own_come_beside_the_cards_never_in_them(client_for, eve, cleo, membership, north):
    mine, others = factories.make_task(north, state="done"), factories.make_task(north, state="done")
    shelf.like(membership(eve, north), [mine])
    shelf.like(membership(cleo, north), [others])
    answer = catch_up(client_for(eve), f"{mine.pk}:1,{others.pk}:1")
    assert answer["X-Liked"] == str(mine.pk)
    assert text(answer).count('aria-pressed="false"') == 2
    page = text(client_for(eve).get("/t/north/"))
    assert re.findall(r'tasks/(\d+)/like/" aria-pressed="true"', page) == [str(mine.pk)]


def test_a_heart_pressed_in_the_studio_without_javascript_leads_back_to_it(client_for, eve, north):
    task = factories.make_task(north, state="done")
    page = text(client_for(eve).get("/t/north/"))
    [back] = re.findall(r'<form id="card-action".*?name="next" value="([^"]+)"', page)
    answer = client_for(eve).post(url(task, "like"), {"next": back})
    assert answer["Location"] == "/t/north/"


def test_the_same_press_of_retry_on_a_page_without_javascript_is_one(client_for, cleo, north):
    factories.make_account("revid")
    task = factories.make_task(north, user=cleo, state="failed")
    client = client_for(cleo)
    for _ in range(2):
        client.post(f"{url(task, 'retry')}?seen={task.version}", {"price": "10"})
    assert Task.objects.filter(parent=task).count() == 1
    assert client.post(f"{url(task, 'retry')}?seen=nonsense", {"price": "10"}).status_code == 302


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


def test_what_is_still_being_made_is_not_run_again(client_for, cleo, north):
    task = factories.make_task(north, user=cleo, state="running")
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


def reports() -> list[Notice]:
    return list(Notice.objects.filter(key__startswith="report:").order_by("user"))


def test_what_nobody_answers_is_reported_to_the_site_admins_once(client_for, cleo, ben, ana, north):
    factories.make_user(name="Sam", is_site_admin=True)
    task = factories.make_task(north, user=cleo, state="uncertain", prompt="A secret harbour", looks=12)
    first = client_for(cleo).post(url(task, "report"), headers=HTMX)
    assert first.status_code == 200
    assert "The site admins know of it now" in text(first)
    again = client_for(ben).post(url(task, "report"), headers=HTMX)
    assert "told of this already" in text(again)
    told = reports()
    assert {notice.user.is_site_admin for notice in told} == {True}
    assert len({notice.user for notice in told}) == len(told) > 0
    said = told[0].text
    assert said.startswith(f"Cleo reports task {task.pk} of North: Revid has not answered since ")
    assert said.endswith("It gave us no id, and we looked 12 times.")
    assert told[0].url == "/console/providers/revid/"
    assert [line.kind for line in task.events.filter(kind="report")] == ["report"]
    assert "Reported to the site admins by Cleo" in text(client_for(cleo).get(url(task)))


def test_what_has_an_answer_by_now_is_not_reported(client_for, cleo, ana, north):
    task = factories.make_task(north, user=cleo, state="running")
    answer = client_for(cleo).post(url(task, "report"), headers=HTMX)
    assert (answer.status_code, reports()) == (422, [])
    plain = client_for(cleo)
    assert "There is an answer by now" in text(plain.get(plain.post(url(task, "report"))["Location"]))


def test_a_member_reports_nothing_of_others(client_for, cleo, dan, north):
    task = factories.make_task(north, user=cleo, state="uncertain")
    assert client_for(dan).post(url(task, "report")).status_code == 403
    assert reports() == []


@pytest.mark.parametrize("verb", ["cancel", "retry", "check", "report"])
def test_a_viewer_presses_nothing(client_for, eve, north, verb):
    task = factories.make_task(north)
    assert client_for(eve).post(url(task, verb)).status_code == 403
    assert client_for(eve).get(url(task, verb)).status_code == 405


# --- What surrounds a picture ----------------------------------------------------------------------------------------------


def done(north, user, **fields) -> Task:
    return factories.make_task(north, user=user, state="done", **fields)


def test_the_content_alone_is_for_the_overlay_and_the_page_for_everyone_else(client_for, eve, north):
    task, client = factories.make_task(north, state="done"), client_for(eve)
    whole = text(client.get(url(task)))
    assert whole.startswith("<!doctype html>")
    for inside in (client.get(url(task), headers=HTMX), client.get(f"{url(task)}?overlay=1")):
        page = text(inside)
        assert page.lstrip().startswith('<article class="sheet" id="detail"')
        assert "HX-Request" in inside["Vary"]


def walk(page: str) -> tuple[str | None, str | None]:
    found = [re.search(rf'href="([^"]*)"[^>]*data-walk="{way}"', page) for way in ("before", "after")]
    return tuple(link and link[1].replace("&amp;", "&") for link in found)


def test_the_arrows_walk_the_list_that_it_was_opened_from(client_for, eve, cleo, dan, north):
    rows = [
        done(north, user, prompt=prompt) for user, prompt in ((cleo, "heron one"), (dan, "bowl"), (cleo, "heron two"))
    ]
    client = client_for(eve)
    assert walk(text(client.get(url(rows[1])))) == (url(rows[2]), url(rows[0]))
    words = text(client.get(f"{url(rows[2])}?q=heron"))
    assert walk(words) == (None, f"{url(rows[0])}?q=heron")
    assert 'href="/t/north/history/?q=heron"' in words
    assert walk(text(client.get(f"{url(rows[0])}?person={cleo.pk}"))) == (f"{url(rows[2])}?person={cleo.pk}", None)


@pytest.mark.parametrize(
    "query", ["q=%00%22%2A", "sort=up&tab=x", "person=9&tag=x", "derived=x&earlier=-1", "q=" + "a" * 9000]
)
def test_a_list_that_makes_no_sense_is_walked_as_far_as_it_does(client_for, eve, north, query):
    task = factories.make_task(north, state="done")
    assert client_for(eve).get(f"{url(task)}?{query}").status_code == 200


def test_it_shows_what_it_began_from_and_how_it_differs(client_for, eve, cleo, north):
    vase = factories.make_reference(north, name="vase.png")
    parent = done(north, cleo, prompt="A heron at dawn, three colours", price=10)
    child = done(
        north, cleo, prompt="A heron at dusk, three colours", family="flex", price=25, parent=parent, references=[vase]
    )
    page = text(client_for(eve).get(url(child)))
    assert f'href="{url(parent)}"' in page
    assert "<del>dawn</del><ins>dusk</ins>" in page
    for words in ("Pro → Flex", "10 credits → 25 credits", "none → vase.png"):
        assert words in page
    assert f'href="{url(child)}" data-inside' in text(client_for(eve).get(url(parent)))


def test_what_others_keep_to_themselves_is_no_kin(client_for, eve, cleo, north):
    parent = done(north, cleo, private=True)
    task = done(north, cleo, parent=parent)
    done(north, cleo, parent=task, private=True)
    page = text(client_for(eve).get(url(task)))
    assert "lineage" not in page
    assert f"/tasks/{parent.pk}/" not in page


def test_many_derived_pictures_come_twelve_at_a_time(client_for, eve, cleo, north):
    parent = done(north, cleo)
    kids = [done(north, cleo, parent=parent, price=1) for _ in range(14)]
    page = text(client_for(eve).get(url(parent)))
    assert sum(f'href="{url(kid)}" data-inside' in page for kid in kids) == 12
    more = re.search(r"\?derived=\d+", page)[0]
    page = text(client_for(eve).get(url(parent) + more))
    assert [kid.pk for kid in kids if f'href="{url(kid)}" data-inside' in page] == [kids[0].pk, kids[1].pk]


def test_a_picture_with_much_around_it_takes_no_more_queries(client_for, ana, cleo, north):
    parent = done(north, cleo)
    task = done(north, cleo, parent=parent, references=[factories.make_reference(north)])
    client = client_for(ana)

    def surround(times: int) -> int:
        for number in range(times):
            done(north, cleo, parent=task, price=1)
            task.comments.create(user=cleo, text=f"word {number}")
            shelf.add_tag(Membership.objects.get(user=cleo, team=north), [task], f"tag {number % 19}")
            liker = factories.make_member(north)
            shelf.like(liker, [task])
            row = Collection.objects.create(team=north, name=f"c {number}-{times}", owner=ana)
            row.items.create(task=task)
        client.get(url(task))
        with CaptureQueriesContext(connection) as seen:
            client.get(url(task))
        return len(seen)

    assert surround(3) == surround(27)


# --- Words under it and instead of it --------------------------------------------------------------------------------------


def test_a_comment_is_shown_and_whoever_it_names_is_told(client_for, cleo, dan, north):
    task = done(north, cleo)
    answer = client_for(dan).post(url(task, "comments"), {"text": "Warmer, @Cleo?"})
    assert answer["Location"] == f"{url(task)}#comments"
    assert "Warmer, @Cleo?" in text(client_for(cleo).get(url(task)))
    assert Notice.objects.filter(user=cleo).count() == 1


def test_with_javascript_a_comment_answers_with_the_content(client_for, cleo, north):
    task = done(north, cleo)
    page = text(client_for(cleo).post(f"{url(task, 'comments')}?q=harbour", {"text": "Mine"}, headers=HTMX))
    assert 'id="detail"' in page
    assert "Mine" in page
    assert "comments/?q=harbour" in page


@pytest.mark.parametrize(
    ("typed", "words"), [(" \n ", "Write something first"), ("x" * 2001, "at most 2,000 characters")]
)
def test_a_comment_that_does_not_do_is_kept_and_said(client_for, cleo, north, typed, words):
    task = done(north, cleo)
    answer = client_for(cleo).post(url(task, "comments"), {"text": typed})
    assert answer.status_code == 422
    assert words in text(answer)
    assert typed.strip() in text(answer)
    assert not Comment.objects.exists()


def test_ones_own_comment_is_taken_back_an_admin_takes_back_any_others_none(client_for, ben, cleo, dan, north):
    task = done(north, cleo)
    mine, other = (task.comments.create(user=dan, text=words) for words in ("one", "two"))
    assert client_for(cleo).post(url(task, f"comments/{mine.pk}/delete")).status_code == 403
    assert client_for(dan).post(url(task, f"comments/{mine.pk}/delete")).status_code == 302
    assert client_for(dan).post(url(task, f"comments/{mine.pk}/delete")).status_code == 302
    assert client_for(ben).post(url(task, f"comments/{other.pk}/delete")).status_code == 302
    assert not Comment.objects.exists()


def test_a_description_replaces_the_prompts_start_for_who_cannot_see(client_for, cleo, dan, ben, north):
    task = done(north, cleo, prompt="A heron")
    assert client_for(dan).post(url(task, "alt"), {"alt": "no"}).status_code == 403
    assert (
        client_for(cleo).post(url(task, "alt"), {"alt": "A grey bird on one leg"})["Location"].endswith("#description")
    )
    assert 'alt="A grey bird on one leg"' in text(client_for(dan).get(url(task)))
    assert 'alt="A grey bird on one leg"' in text(client_for(dan).get(url(task, "card")))
    assert client_for(ben).post(url(task, "alt"), {"alt": ""}).status_code == 302
    assert 'alt="A heron"' in text(client_for(dan).get(url(task)))


def test_a_description_that_is_too_long_is_kept_and_said(client_for, cleo, north):
    task = done(north, cleo)
    answer = client_for(cleo).post(url(task, "alt"), {"alt": "y" * 301})
    assert answer.status_code == 422
    assert "at most 300 characters" in text(answer)
    assert "y" * 301 in text(answer)


VERBS = ["retry", "more", "use", "alt", "comments", "comments/1/delete"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_viewer_and_a_stranger_change_nothing(client_for, eve, zoe, cleo, north, verb):
    task = done(north, cleo)
    assert client_for(eve).post(url(task, verb)).status_code == 403
    assert client_for(zoe).post(url(task, verb)).status_code == 404


@pytest.mark.parametrize("verb", VERBS)
def test_a_hidden_picture_is_a_missing_one(client_for, dan, cleo, north, verb):
    for hidden in (done(north, cleo, private=True), done(north, dan, deleted_at=timezone.now())):
        assert client_for(dan).post(url(hidden, verb)).status_code == 404


# --- Again -----------------------------------------------------------------------------------------------------------------


def test_a_finished_picture_is_run_again_at_the_price_on_the_button(client_for, cleo, dan, north):
    task = done(north, cleo, seed=7, price=9, account=factories.make_account("vtrix"))
    assert "Run again · 12 credits" in text(client_for(dan).get(url(task)))
    answer = client_for(dan).post(url(task, "retry"), {"price": "12", "back": "task"})
    new = Task.objects.latest("id")
    assert answer["Location"] == url(new)
    assert (new.parent_id, new.user, new.seed, new.price_credits) == (task.pk, dan, 7, 12)
    client_for(dan).post(url(task, "retry"), {"price": "12"})
    assert Task.objects.filter(parent=task).count() == 2


@pytest.mark.parametrize(("verb", "price", "pictures"), [("retry", "10", 1), ("more", "40", 4)])
def test_what_is_pressed_twice_on_a_page_without_javascript_is_sent_once(
    client_for, cleo, north, verb, price, pictures
):
    task, client = done(north, cleo, price=9), client_for(cleo)
    [press] = re.findall(rf'formaction="([^"]*/{verb}/[^"]*)"', text(client.get(url(task))))
    for _ in range(2):
        client.post(press, {"price": price})
    assert Task.objects.filter(parent=task).count() == pictures


def test_a_price_that_rose_meanwhile_stops_it(client_for, cleo, north):
    task = done(north, cleo, price=9)
    answer = client_for(cleo).post(url(task, "retry"), {"price": "9"}, headers=HTMX)
    assert answer.status_code == 422
    assert "from 9 to 10 credits" in text(answer)
    assert "Choose Remix" in text(answer)


def test_more_like_this_is_four_with_seeds_of_their_own(client_for, cleo, north):
    task = done(north, cleo, seed=7)
    assert "More like this × 4 · 40 credits" in text(client_for(cleo).get(url(task)))
    answer = client_for(cleo).post(url(task, "more"), {"price": "40"}, headers=HTMX)
    new = Task.objects.filter(parent=task)
    assert ids(text(answer)) == [new.earliest("id").pk]
    assert [row.seed for row in new] == [None] * 4
    assert Budget.objects.get(team=north).held == 40


@pytest.mark.parametrize(
    ("verb", "price", "pictures", "words"),
    [
        ("retry", 10, 1, "This picture costs 10 credits."),
        ("more", 40, 4, "These 4 pictures cost 40 credits."),
    ],
)
def test_what_a_team_has_asked_about_is_asked_about_here_too(client_for, cleo, north, verb, price, pictures, words):
    task, client = done(north, cleo, price=10), client_for(cleo)
    Budget.objects.filter(team=north).update(confirm_above=price - 1)
    [press] = re.findall(rf'formaction="([^"]*/{verb}/[^"]*)"', text(client.get(url(task))))
    given = {"price": price, "back": "task"}
    asked = client.post(press, given, headers=HTMX)
    page = client.post(press, given)
    for answer in (asked, page):
        assert answer.status_code == 422
        assert f"{words} Your team asks before a press costs so much; nothing was sent." in text(answer)
        assert f'formaction="{press}" name="confirm" value="{price}"' in text(answer)
    assert text(asked).lstrip().startswith('<div class="notice"')
    assert 'name="back" value="task"' in text(page)
    assert not Task.objects.filter(parent=task).exists()
    for _ in range(2):
        client.post(press, {"confirm": price, "back": "task"})
    assert Task.objects.filter(parent=task).count() == pictures


def test_a_picture_becomes_an_image_of_the_team_and_the_studio_has_it(client_for, cleo, dan, north):
    task, client = done(north, cleo), client_for(dan)
    task.result.key = factories.store("results/a-real-one.png", picture("teal", (64, 48)))
    task.result.save()
    address = client.post(url(task, "use"))["Location"]
    row = Reference.objects.get()
    assert (row.team, row.user, row.name) == (north, dan, f"picture-{task.pk}.png")
    assert f'name="references" value="{row.pk}"' in text(client.get(address))
    assert client.post(url(task, "use"))["Location"] == address  # the same picture is the same image


def grain(size: tuple[int, int]) -> bytes:
    """A PNG that does not pack well."""
    out = BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(out, "PNG")
    return out.getvalue()


def test_a_picture_too_large_to_upload_is_an_image_all_the_same(client_for, cleo, north, settings):
    task = done(north, cleo)
    content = grain((300, 300))
    settings.UPLOAD_MAX_BYTES = len(content) - 1
    task.result.key = factories.store("results/a-large-one.png", content)
    task.result.save()
    client_for(cleo).post(url(task, "use"))
    assert Reference.objects.get().mime == "image/jpeg"


def test_the_page_of_a_picture_whose_file_is_gone_shows_none_and_offers_what_is_left(client_for, cleo, north):
    task = done(north, cleo)
    Result.objects.update(purged_at=timezone.now(), key="")
    said = text(client_for(cleo).get(url(task)))
    assert "The original is no longer available" in said
    assert "/results/" not in said
    assert "Download" not in said
    assert (said.count(url(task, "retry")), said.count(url(task, "delete"))) == (1, 1)


def test_a_picture_whose_file_is_lost_is_no_image_and_that_is_said(client_for, cleo, north):
    task = done(north, cleo)
    task.result.key = "results/lost.png"
    task.result.save()
    answer = client_for(cleo).post(url(task, "use"), {"back": "task"}, follow=True)
    assert "no longer available, so it cannot be used as an image" in text(answer)
