"""Heart, tag, visibility, trash of one picture: by plain POST and by script, by whom and not by whom."""

from __future__ import annotations

import pytest
from django.utils import timezone

from flux2web.models import Act, Event, Favourite, State, Tag, Task

from . import factories

pytestmark = pytest.mark.django_db
HTMX = {"HTTP_HX_REQUEST": "true"}
VERBS = ["like", "tags", "untag", "visibility", "delete", "restore"]


@pytest.fixture
def task(north, cleo) -> Task:
    return factories.make_task(north, user=cleo, state=State.DONE)


def post(client, task: Task, verb: str, data: dict | None = None, **headers):
    return client.post(f"/t/north/tasks/{task.pk}/{verb}/", data or {}, **headers)


def fresh(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def said(answer) -> str:
    return " ".join(str(message) for message in answer.context["messages"])


# --- Who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_nobody_from_outside_learns_that_it_is_there(verb, task, client_for, zoe, sam):
    for user in (zoe, sam):
        assert post(client_for(user), task, verb, {"name": "sea"}).status_code == 404
    assert post(client_for(None), task, verb).status_code == 302
    assert fresh(task).version == 1


@pytest.mark.parametrize("verb", VERBS)
def test_what_others_keep_to_themselves_is_like_what_never_was(verb, task, client_for, ana, dan, south, zoe):
    Task.objects.filter(pk=task.pk).update(private=True)
    never = Task(pk=10**9)
    foreign = factories.make_task(south, user=zoe, state=State.DONE)
    for user in (ana, dan):
        for one in (task, never, foreign):
            assert post(client_for(user), one, verb, {"name": "sea"}).status_code == 404


def test_a_viewer_likes_and_changes_nothing(task, client_for, eve):
    client = client_for(eve)
    assert post(client, task, "like").status_code == 302
    for verb in VERBS[1:]:
        assert post(client, task, verb, {"name": "sea"}).status_code == 403
    assert (fresh(task).favourites, fresh(task).version) == (1, 2)


@pytest.mark.parametrize("verb", VERBS)
def test_looking_changes_nothing(verb, task, client_for, cleo):
    assert client_for(cleo).get(f"/t/north/tasks/{task.pk}/{verb}/").status_code == 405


# --- Hearts ----------------------------------------------------------------------------------------------------------


def test_a_heart_is_turned_and_says_whose_it_is(task, client_for, cleo, dan):
    html = post(client_for(dan), task, "like", **HTMX).content.decode()
    assert 'aria-pressed="true"' in html
    html = post(client_for(cleo), task, "like", **HTMX).content.decode()
    assert "Liked by Dan, Cleo" in html
    assert '<span class="num">2</span>' in html
    html = post(client_for(cleo), task, "like", **HTMX).content.decode()
    assert 'aria-pressed="false"' in html
    assert "<form" not in html


def test_a_heart_may_be_set_instead_of_turned(task, client_for, dan):
    client = client_for(dan)
    for liked, count in (("1", 1), ("1", 1), ("0", 0), ("0", 0)):
        post(client, task, "like", {"liked": liked})
        assert fresh(task).favourites == Favourite.objects.count() == count


def test_without_script_one_is_back_where_the_heart_was(task, client_for, dan):
    answer = post(client_for(dan), task, "like", {"next": "/t/north/history/?tab=mine"})
    assert answer.url == "/t/north/history/?tab=mine"
    assert post(client_for(dan), task, "like").url == f"/t/north/tasks/{task.pk}/"


@pytest.mark.parametrize(
    "path",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\r\nX: 1", "///x.y", "x"],
)
def test_nobody_is_sent_to_another_site(path, task, client_for, dan):
    assert post(client_for(dan), task, "like", {"next": path}).url == f"/t/north/tasks/{task.pk}/"


# --- Tags ------------------------------------------------------------------------------------------------------------


def test_tags_come_and_go(task, client_for, dan):
    client = client_for(dan)
    html = post(client, task, "tags", {"name": " Am Meer "}, **HTMX).content.decode()
    assert "Am Meer" in html
    assert 'value=""' in html
    assert post(client, task, "tags", {"name": "am meer"}).status_code == 302
    assert Tag.objects.get().used == 1
    assert "Am Meer" not in post(client, task, "untag", {"name": "AM MEER"}, **HTMX).content.decode()
    assert not Tag.objects.exists()


@pytest.mark.parametrize("name", ["", "\x00", "x" * 41, "x" * 10_000])
def test_a_bad_tag_is_refused_in_words_and_stays_in_the_box(name, task, client_for, dan):
    answer = post(client_for(dan), task, "tags", {"name": name}, **HTMX)
    assert answer.status_code == 422
    assert "tag" in answer.context["problem"]
    assert answer.context["typed"] == name
    answer = client_for(dan).post(f"/t/north/tasks/{task.pk}/tags/", {"name": name}, follow=True)
    assert "tag" in said(answer).lower()


def test_a_tag_is_text_and_nothing_else(task, client_for, dan):
    html = post(client_for(dan), task, "tags", {"name": '"><script>'}, **HTMX).content.decode()
    assert "<script>" not in html


# --- Who sees it -----------------------------------------------------------------------------------------------------


def test_its_author_hides_it_and_shows_it_again(task, client_for, cleo):
    client = client_for(cleo)
    post(client, task, "visibility")
    assert fresh(task).private
    post(client, task, "visibility", {"private": "1"})
    assert fresh(task).private
    assert "Only you see" in post(client, task, "visibility", {"private": "1"}, **HTMX).content.decode()
    post(client, task, "visibility", {"private": "0"})
    assert not fresh(task).private


def test_nobody_else_decides_that(task, client_for, ana):
    answer = post(client_for(ana), task, "visibility", {"private": "1"}, **HTMX)
    assert (answer.status_code, fresh(task).private) == (422, False)
    assert "Only its author" in answer.content.decode()


def test_admins_set_who_sees_new_pictures(north, client_for, ana, cleo):
    client = client_for(ana)
    assert 'name="private" value="0" checked' in client.get("/t/north/members/").content.decode()
    answer = client.post("/t/north/members/default/", {"private": "1"}, follow=True)
    assert "only their author" in said(answer)
    assert 'name="private" value="1" checked' in answer.content.decode()
    assert Act.objects.count() == 1
    for bad in ("", "2", "yes"):
        assert "Choose who" in said(client.post("/t/north/members/default/", {"private": bad}, follow=True))
    assert client_for(cleo).post("/t/north/members/default/", {"private": "0"}).status_code == 403
    north.refresh_from_db()
    assert north.private_by_default


# --- The trash -------------------------------------------------------------------------------------------------------


def test_a_deleted_picture_can_be_brought_back_from_the_message(task, client_for, cleo):
    client = client_for(cleo)
    answer = client.post(f"/t/north/tasks/{task.pk}/delete/", follow=True)
    assert answer.redirect_chain[0][0] == "/t/north/history/"
    assert "30 days" in said(answer)
    undo = f"/t/north/tasks/{task.pk}/restore/"
    assert f'action="{undo}"' in answer.content.decode()
    answer = client.post(undo, {"next": "/t/north/history/"}, follow=True)
    assert "It is back" in said(answer)
    assert fresh(task).deleted_at is None
    assert client.post(undo).status_code == 302  # pressed twice
    assert Event.objects.filter(task=task, kind="restored").count() == 1


def test_with_script_the_line_itself_offers_undo(task, client_for, cleo):
    client = client_for(cleo)
    where = {"HTTP_HX_CURRENT_URL": "http://testserver/t/north/history/?tab=mine"}
    html = post(client, task, "delete", **HTMX, **where).content.decode()
    assert f'data-gone="{task.pk}"' in html
    assert 'value="/t/north/history/?tab=mine"' in html
    assert f'data-back="{task.pk}"' in post(client, task, "restore", **HTMX).content.decode()


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_what_is_still_made_is_cancelled_first(state, north, cleo, client_for):
    task = factories.make_task(north, user=cleo, state=state)
    answer = post(client_for(cleo), task, "delete", **HTMX)
    assert answer.status_code == 422
    assert "Cancel it first" in answer.content.decode()
    assert fresh(task).deleted_at is None


def test_others_pictures_are_for_admins_to_delete(task, client_for, ben, dan):
    answer = post(client_for(dan), task, "delete", **HTMX)
    assert "Only its author or a team admin" in answer.content.decode()
    assert post(client_for(ben), task, "delete").status_code == 302
    assert post(client_for(dan), task, "restore").status_code == 404
    assert post(client_for(ben), task, "restore").status_code == 302


def test_deleted_is_deleted_for_every_address(task, client_for, cleo):
    Task.objects.filter(pk=task.pk).update(deleted_at=timezone.now())
    for verb in VERBS[:-1]:
        assert post(client_for(cleo), task, verb, {"name": "sea"}).status_code == 404
