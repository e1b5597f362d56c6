"""The pages of collections: made, filled, shown, given to others and ended by plain forms."""

from __future__ import annotations

import re

import pytest
from django.utils import timezone

from flux2web import collecting
from flux2web.models import Collection, CollectionRole, Membership, ShareLink, State, Task

from . import factories

ALL = "/t/north/collections/"


@pytest.fixture
def pictures(north, cleo) -> list[Task]:
    return [factories.make_task(north, user=cleo, state=State.DONE) for _ in range(3)]


@pytest.fixture
def owls(north, cleo, membership, pictures) -> Collection:
    """Cleo's, with three pictures; the team may add."""
    row = collecting.make(membership(cleo, north), "Owls")
    collecting.collect(membership(cleo, north), row, pictures)
    return row


def text_of(answer) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def at(row: Collection, rest: str = "") -> str:
    return f"{ALL}{row.pk}/{rest}"


# --- All of them -------------------------------------------------------------------------------------------------------


def test_the_page_shows_each_with_cover_size_and_owner(client_for, dan, owls, pictures):
    answer = client_for(dan).get(ALL)
    assert "Owls 3 pictures · Cleo" in text_of(answer)
    assert f"/t/north/results/{pictures[0].pk}/640" in answer.content.decode()


def test_an_empty_page_says_how_to_begin(client_for, cleo, eve):
    assert "Make one here" in text_of(client_for(cleo).get(ALL))
    assert "New collection" not in text_of(client_for(eve).get(ALL))


def test_a_new_one_is_made_and_opened(client_for, cleo):
    answer = client_for(cleo).post(f"{ALL}make/", {"name": "Final five", "access": "view"}, follow=True)
    row = Collection.objects.get()
    assert (row.name, row.access, answer.request["PATH_INFO"]) == ("Final five", "view", at(row))
    assert "Nothing in it yet" in text_of(answer)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "", "access": "edit"}, "Give the collection a name."),
        ({"name": "x" * 81, "access": "edit"}, "80 characters"),
        ({"name": "Owls", "access": "edit"}, "already"),
        ({"name": "\u202e", "access": "edit"}, "Give the collection a name."),
        ({"name": "Hawks", "access": "everything"}, "not one of the available choices"),
        ({}, "Choose what the team may do"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(client_for, cleo, owls, given, said):
    answer = client_for(cleo).post(f"{ALL}make/", given)
    assert answer.status_code == 422
    assert said in text_of(answer)
    assert f'value="{given.get("name", "")}"' in answer.content.decode() or not given.get("name")
    assert Collection.objects.count() == 1


@pytest.mark.parametrize("number", [3, 30])
def test_the_page_asks_as_often_for_30_as_for_3(
    client_for, cleo, north, membership, number, django_assert_max_num_queries
):
    for place in range(number):
        collecting.make(membership(cleo, north), f"No. {place}")
    client = client_for(cleo)
    client.get(ALL)
    with django_assert_max_num_queries(12):
        client.get(ALL)


@pytest.mark.parametrize("before", ["x", "-1", "9" * 40, "", "1'--"])
def test_a_page_that_is_none_is_the_first_or_an_empty_one(client_for, cleo, owls, before):
    assert client_for(cleo).get(ALL, {"before": before}).status_code == 200


# --- One of them -------------------------------------------------------------------------------------------------------


def test_a_collection_is_the_grid_of_its_pictures(client_for, dan, owls, pictures, north):
    other = factories.make_task(north, state=State.DONE)
    page = client_for(dan).get(at(owls)).content.decode()
    assert all(f'id="tile-{task.pk}"' in page for task in pictures)
    assert f'id="tile-{other.pk}"' not in page
    assert f"/tasks/{pictures[0].pk}/?collection={owls.pk}" in page


def test_its_pictures_come_in_either_order(client_for, dan, owls, pictures):
    def order(sort: str) -> list[str]:
        page = client_for(dan).get(at(owls), {"sort": sort}).content.decode()
        return re.findall(r'id="tile-(\d+)"', page)

    assert order("oldest") == list(reversed(order("newest"))) == [str(task.pk) for task in pictures]
    assert order("nonsense") == order("newest")


def test_private_and_trashed_pictures_are_not_shown_in_it(client_for, dan, cleo, owls, pictures):
    Task.objects.filter(pk=pictures[0].pk).update(private=True)
    Task.objects.filter(pk=pictures[1].pk).update(deleted_at=timezone.now())
    for user, seen in ((dan, [2]), (cleo, [0, 2])):
        page = client_for(user).get(at(owls)).content.decode()
        assert [n for n, task in enumerate(pictures) if f'id="tile-{task.pk}"' in page] == seen
    Task.objects.update(private=True)
    assert "Nothing here for you to see" in text_of(client_for(dan).get(at(owls)))


@pytest.mark.parametrize("many", [3, 30])
def test_its_page_asks_as_often_for_30_pictures_as_for_3(
    client_for, north, ben, cleo, membership, many, django_assert_max_num_queries
):
    tasks = [factories.make_task(north, user=cleo, state=State.DONE, price=1) for _ in range(many)]
    row = collecting.make(membership(cleo, north), "Owls")
    collecting.collect(membership(cleo, north), row, tasks)
    for user in (ben, cleo):
        client = client_for(user)
        client.get(at(row))
        with django_assert_max_num_queries(20):
            client.get(at(row))


def test_more_pictures_come_as_the_grids_own_fragment(client_for, north, cleo, membership):
    tasks = [factories.make_task(north, user=cleo, state=State.DONE, price=1) for _ in range(43)]
    row = collecting.make(membership(cleo, north), "Owls")
    collecting.collect(membership(cleo, north), row, tasks)
    client = client_for(cleo)
    page = client.get(at(row)).content.decode()
    more = re.search(r'hx-get="(\?[^"]+)"', page).group(1).replace("&amp;", "&")
    fragment = client.get(at(row) + more, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in fragment
    assert len(re.findall(r'id="tile-', page)) == 40
    assert len(re.findall(r'id="tile-', fragment)) == 3


@pytest.mark.parametrize("cursor", ["x", "2026-01-01T00:00:00Z,abc", ",,,", "9" * 50])
def test_a_cursor_that_was_tampered_with_begins_anew(client_for, cleo, owls, cursor):
    assert client_for(cleo).get(at(owls), {"cursor": cursor}).status_code == 200


def test_its_owner_renames_it_and_says_who_may(client_for, cleo, dan, owls):
    client_for(cleo).post(at(owls, "settings/"), {"name": "Hawks", "access": "none"})
    owls.refresh_from_db()
    assert (owls.name, owls.access) == ("Hawks", "none")
    assert client_for(dan).get(at(owls)).status_code == 404


def test_a_name_that_is_taken_is_refused_and_kept_in_the_form(client_for, cleo, north, membership, owls):
    collecting.make(membership(cleo, north), "Hawks")
    answer = client_for(cleo).post(at(owls, "settings/"), {"name": "hawks", "access": "edit"})
    assert answer.status_code == 422
    assert 'value="hawks"' in answer.content.decode()
    assert "There is a collection “Hawks” already" in text_of(answer)


def test_a_cover_is_chosen_and_given_back(client_for, cleo, owls, pictures):
    client = client_for(cleo)
    client.post(at(owls, "cover/"), {"task": pictures[1].pk})
    assert f"/results/{pictures[1].pk}/640" in client.get(ALL).content.decode()
    client.post(at(owls, "cover/"))
    assert f"/results/{pictures[0].pk}/640" in client.get(ALL).content.decode()


@pytest.mark.parametrize("task", ["x", "999999", "9" * 40])
def test_a_cover_that_is_no_picture_is_none(client_for, cleo, owls, task):
    assert client_for(cleo).post(at(owls, "cover/"), {"task": task}).status_code in (302, 404)


def test_people_are_named_and_taken_back(client_for, cleo, dan, owls):
    client = client_for(cleo)
    client.post(at(owls, "roles/"), {"user": dan.pk, "role": "view"})
    assert CollectionRole.objects.get().role == "view"
    assert "Dan Looks" in text_of(client.get(at(owls)))
    client.post(at(owls, "roles/"), {"user": dan.pk, "role": "none"})
    assert not CollectionRole.objects.exists()


@pytest.mark.parametrize("given", [{}, {"user": "x"}, {"user": 999}, {"role": "edit"}, {"user": "", "role": "king"}])
def test_nobody_is_named_by_nonsense(client_for, cleo, owls, given):
    answer = client_for(cleo).post(at(owls, "roles/"), given)
    assert answer.status_code == 422
    assert not CollectionRole.objects.exists()


def test_a_stranger_is_not_named(client_for, cleo, zoe, owls):
    answer = client_for(cleo).post(at(owls, "roles/"), {"user": zoe.pk, "role": "edit"})
    assert "Nobody of this number is in the team" in text_of(answer)


def test_deleting_it_says_that_no_picture_is_deleted(client_for, cleo, owls, pictures):
    client = client_for(cleo)
    assert "no picture is deleted" in text_of(client.get(at(owls)))
    assert "Its pictures are where they were" in text_of(client.post(at(owls, "delete/"), follow=True))
    assert client.get(at(owls)).status_code == 404
    assert client.get(f"/t/north/tasks/{pictures[0].pk}/").status_code == 200


# --- In and out --------------------------------------------------------------------------------------------------------


def test_a_picture_goes_into_one_and_out_again(client_for, dan, north, owls):
    task = factories.make_task(north, state=State.DONE)
    url = f"/t/north/tasks/{task.pk}/collect/"
    client = client_for(dan)
    assert "Owls 3 Add" in text_of(client.get(url))
    client.post(url, {"collection": owls.pk})
    assert "In it · take out" in text_of(client.get(url))
    assert owls.items.filter(task=task).exists()
    client.post(url, {"take_out": owls.pk})
    assert not owls.items.filter(task=task).exists()


def test_a_picture_goes_into_a_new_one_or_the_one_of_that_name(client_for, dan, north, owls):
    task = factories.make_task(north, state=State.DONE)
    url, client = f"/t/north/tasks/{task.pk}/collect/", client_for(dan)
    client.post(url, {"name": "Hawks"})
    client.post(url, {"name": " owls "})
    assert set(task.placed.values_list("collection__name", flat=True)) == {"Hawks", "Owls"}
    assert Collection.objects.count() == 2


def test_with_htmx_the_choice_comes_back_as_it_is_now(client_for, dan, owls, pictures):
    url = f"/t/north/tasks/{pictures[0].pk}/collect/"
    answer = client_for(dan).post(url, {"name": "Hawks"}, headers={"HX-Request": "true"})
    assert "<html" not in answer.content.decode()
    assert "In “Hawks” now." in text_of(answer)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 422),
        ({"name": ""}, 422),
        ({"name": "x" * 81}, 422),
        ({"collection": "x"}, 404),
        ({"take_out": "9" * 40}, 422),
    ],
)
def test_nonsense_collects_nothing(client_for, dan, owls, pictures, given, status):
    assert client_for(dan).post(f"/t/north/tasks/{pictures[0].pk}/collect/", given).status_code == status


def test_what_has_no_picture_is_not_collected_and_why_is_said(client_for, dan, north, owls):
    task = factories.make_task(north, state=State.FAILED)
    answer = client_for(dan).post(f"/t/north/tasks/{task.pk}/collect/", {"collection": owls.pk})
    assert answer.status_code == 422
    assert "Not done: this picture is not made yet" in text_of(answer)


def test_who_only_looks_at_it_adds_nothing(client_for, dan, north, owls):
    Collection.objects.update(access="view")
    task = factories.make_task(north, state=State.DONE)
    answer = client_for(dan).post(f"/t/north/tasks/{task.pk}/collect/", {"collection": owls.pk})
    assert "you may look at this collection, not change it" in text_of(answer)
    assert owls.items.count() == 3


def test_many_are_taken_out_at_once(client_for, dan, owls, pictures):
    ids = [f"{pictures[0].pk},{pictures[1].pk}", "x", str(pictures[0].pk), "9" * 40]
    answer = client_for(dan).post(at(owls, "take-out/"), {"ids": ids}, follow=True)
    assert "2 pictures taken out" in text_of(answer)
    assert Collection.objects.get().size == 1
    assert "No picture was chosen" in text_of(client_for(dan).post(at(owls, "take-out/"), follow=True))


def test_it_leads_back_to_where_the_button_was_and_never_elsewhere(client_for, dan, owls, pictures):
    url, client = f"/t/north/tasks/{pictures[0].pk}/collect/", client_for(dan)
    given = {"collection": owls.pk}
    assert client.post(url, given | {"next": "/t/north/history/?tab=mine"}).url == "/t/north/history/?tab=mine"
    for elsewhere in ("https://example.com/", "//example.com/", "/\\example.com", "javascript:1"):
        assert client.post(url, given | {"next": elsewhere}).url == f"/t/north/tasks/{pictures[0].pk}/"


# --- Links -------------------------------------------------------------------------------------------------------------


def test_a_link_is_shown_once_and_listed_with_who_made_it(client_for, cleo, owls):
    client = client_for(cleo)
    page = client.post(at(owls, "links/"), {"days": "7", "may_comment": "on"})
    token = re.search(r'value="http://[^/]+/s/([^/"]+)/"', page.content.decode()).group(1)
    assert len(token) >= 22
    assert token not in ShareLink.objects.get().token_hash
    again = client.get(at(owls))
    assert token not in again.content.decode()
    assert "Comments by Cleo" in text_of(again)


def test_a_link_leads_to_the_public_address(client_for, cleo, owls, settings):
    settings.PUBLIC_URL = "https://studio.example.com"
    page = client_for(cleo).post(at(owls, "links/"), {"days": "7"}).content.decode()
    assert 'value="https://studio.example.com/s/' in page


@pytest.mark.parametrize(
    ("days", "said"), [("", "Say for how many days"), ("0", "At least"), ("91", "At most"), ("x", "whole number")]
)
def test_a_link_says_for_how_long(client_for, cleo, owls, days, said):
    answer = client_for(cleo).post(at(owls, "links/"), {"days": days})
    assert answer.status_code == 422
    assert said in text_of(answer)
    assert not ShareLink.objects.exists()


def test_a_revoked_link_is_listed_no_more(client_for, ben, cleo, owls):
    client_for(cleo).post(at(owls, "links/"), {"days": "7"})
    link = ShareLink.objects.get()
    client = client_for(ben)
    answer = client.post(at(owls, f"links/{link.pk}/revoke/"), follow=True)
    assert "The link shows nothing any more" in text_of(answer)
    assert f'id="link-{link.pk}"' not in answer.content.decode()
    assert "closed already" in text_of(client.post(at(owls, f"links/{link.pk}/revoke/"), follow=True))


def test_who_only_adds_sees_no_links_and_no_settings(client_for, dan, owls):
    page = text_of(client_for(dan).get(at(owls)))
    assert "Links for guests" not in page
    assert "Delete the collection" not in page


def test_a_named_person_who_left_is_listed_no_more(client_for, cleo, dan, owls):
    CollectionRole.objects.create(collection=owls, user=dan, role="edit")
    Membership.objects.filter(user=dan).delete()
    assert "Dan" not in text_of(client_for(cleo).get(at(owls)))


def test_what_is_filed_nowhere_is_one_press_away(client_for, dan, owls, pictures, north):
    assert "Unfiled" not in text_of(client_for(dan).get(ALL)), "all of them lie in one"
    factories.make_task(north, user=dan, state="done")
    page = client_for(dan).get(ALL)
    assert "Unfiled · 1" in text_of(page)
    assert "?unfiled=yes" in page.content.decode()
    listed = client_for(dan).get("/t/north/history/?unfiled=yes")
    assert "in no collection" in text_of(listed)
