"""Collections: who may do what, what a count says, and that nothing is deleted or shown that should not be."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from flux2web import access, collecting, history, shelf, teams
from flux2web.collecting import NO_COLLECTION, NO_PICTURE, NOT_YOURS
from flux2web.history import Filters
from flux2web.models import (
    Act,
    Collection,
    CollectionItem,
    CollectionRole,
    Comment,
    Membership,
    Notice,
    Result,
    Role,
    ShareLink,
    State,
    Task,
)
from flux2web.models.base import token_hash
from flux2web.shelf import GONE, VIEWER, Refused

from . import factories


@pytest.fixture
def m(cast, north, south):
    """m("cleo") is her membership."""

    def find(name: str) -> Membership:
        return Membership.objects.select_related("team", "user").get(user=cast[name])

    return find


@pytest.fixture
def pictures(north, cleo) -> list[Task]:
    return [factories.make_task(north, user=cleo, state=State.DONE) for _ in range(3)]


def sizes(row: Collection) -> tuple[int, int]:
    """What it says, and what is in it."""
    return Collection.objects.get(pk=row.pk).size, row.items.count()


def ids(found) -> list[int]:
    return [task.pk for task in found.rows]


# --- Making ------------------------------------------------------------------------------------------------------------


def test_a_member_makes_a_collection_and_owns_it(m):
    row = collecting.make(m("cleo"), "  Owls \n at night ")
    assert (row.name, row.owner, row.access, row.size) == ("Owls at night", m("cleo").user, "edit", 0)


@pytest.mark.parametrize("name", ["", "  ", "\x07\u202e", "x" * 81])
def test_a_name_that_is_none_is_refused_with_what_to_do(m, name):
    with pytest.raises(Refused, match="name"):
        collecting.make(m("cleo"), name)


def test_a_name_is_given_once_among_those_one_sees(m):
    collecting.make(m("cleo"), "Owls")
    with pytest.raises(Refused, match="Owls"):
        collecting.make(m("dan"), "OWLS")
    collecting.make(m("cleo"), "Secret", "none")
    assert collecting.make(m("dan"), "secret").pk


def test_a_viewer_makes_none(m):
    with pytest.raises(Refused):
        collecting.make(m("eve"), "Owls")


def test_a_team_has_500_at_most_and_one_more_again_after_one_was_deleted(m, north, monkeypatch):
    monkeypatch.setattr(collecting, "TEAM_MAX", 2)
    first = collecting.make(m("cleo"), "One")
    collecting.make(m("dan"), "Two", "none")
    with pytest.raises(Refused, match="Delete one first"):
        collecting.make(m("cleo"), "Three")
    collecting.delete(m("cleo"), first)
    assert collecting.make(m("cleo"), "Three").pk


# --- Changing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("who", "may"), [("cleo", True), ("ben", True), ("ana", True), ("dan", False), ("eve", False)])
def test_its_owner_and_the_admins_decide_about_it(m, who, may):
    row = collecting.make(m("cleo"), "Owls", "edit")
    acts = [
        lambda: collecting.change(m(who), row, name="Hawks", may="view"),
        lambda: collecting.set_cover(m(who), row, None),
        lambda: collecting.set_role(m(who), row, m("dan").user, "edit"),
        lambda: collecting.share(m(who), row, may_comment=False, shows_prompts=False),
        lambda: collecting.delete(m(who), row),
    ]
    for act in acts:
        if may:
            act()
        else:
            with pytest.raises(Refused, match="owner"):
                act()


def test_an_owner_who_only_looks_now_decides_no_more(m):
    row = collecting.make(m("cleo"), "Owls")
    Membership.objects.filter(pk=m("cleo").pk).update(role=Role.VIEWER)
    with pytest.raises(Refused):
        collecting.delete(m("cleo"), row)


def test_deleting_it_deletes_no_picture_and_closes_its_links(m, pictures):
    row = collecting.make(m("cleo"), "Owls")
    collecting.collect(m("cleo"), row, pictures)
    _, token = collecting.share(m("cleo"), row, may_comment=False, shows_prompts=False)
    assert collecting.delete(m("cleo"), row)
    assert not collecting.delete(m("cleo"), row)
    assert access.tasks(m("dan")).count() == 3
    assert access.share_link(token) is None
    assert not access.collections(m("ana")).exists()
    with pytest.raises(Refused, match="not there"):
        collecting.change(m("cleo"), row, name="Hawks", may="view")


def test_a_cover_is_a_picture_of_it(m, pictures):
    row = collecting.make(m("cleo"), "Owls")
    collecting.collect(m("cleo"), row, pictures[:2])
    collecting.set_cover(m("cleo"), row, pictures[1])
    with pytest.raises(Refused, match="Add it first"):
        collecting.set_cover(m("cleo"), row, pictures[2])
    assert collecting.page(m("dan")).rows == [(row, pictures[1])]


def test_a_cover_that_one_may_not_see_is_the_first_picture_that_one_may(m, pictures):
    row = collecting.make(m("cleo"), "Owls")
    collecting.collect(m("cleo"), row, pictures)
    collecting.set_cover(m("cleo"), row, pictures[1])
    Task.objects.filter(pk__in=[pictures[0].pk, pictures[1].pk]).update(private=True)
    assert collecting.page(m("dan")).rows == [(row, pictures[2])]
    assert collecting.page(m("cleo")).rows == [(row, pictures[1])]
    Task.objects.update(deleted_at=timezone.now())
    assert collecting.page(m("cleo")).rows == [(row, None)]


def test_a_cover_whose_original_is_lost_gives_way_until_it_is_found(m, pictures):
    row = collecting.make(m("cleo"), "Owls")
    collecting.collect(m("cleo"), row, pictures)
    collecting.set_cover(m("cleo"), row, pictures[1])
    lost = Result.objects.filter(task__in=pictures[:2])
    lost.update(lost_at=timezone.now())
    assert collecting.page(m("cleo")).rows == [(row, pictures[2])]
    lost.update(lost_at=None)
    assert collecting.page(m("cleo")).rows == [(row, pictures[1])]


def test_a_cover_that_is_taken_out_is_none_any_more(m, pictures):
    row = collecting.make(m("cleo"), "Owls")
    collecting.collect(m("cleo"), row, pictures)
    collecting.set_cover(m("cleo"), row, pictures[1])
    collecting.take_out(m("cleo"), row, [pictures[1]])
    assert collecting.page(m("cleo")).rows == [(row, pictures[0])]


# --- Who sees it, who adds to it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("may", "sees", "adds"),
    [
        ("none", {"ana", "ben", "cleo"}, {"ana", "ben", "cleo"}),
        ("view", {"ana", "ben", "cleo", "dan", "eve"}, {"ana", "ben", "cleo"}),
        ("edit", {"ana", "ben", "cleo", "dan", "eve"}, {"ana", "ben", "cleo", "dan"}),
    ],
)
def test_what_the_team_may(m, may, sees, adds):
    row = collecting.make(m("cleo"), "Owls", may)
    team = ("ana", "ben", "cleo", "dan", "eve")
    assert {name for name in team if row in access.collections(m(name))} == sees
    assert {name for name in team if row in collecting.editable(m(name))} == adds
    assert {name for name in team if collecting.edits(m(name), row)} == adds
    assert row not in access.collections(m("zoe"))


def test_named_people_may_more_and_may_no_more_once_it_is_taken_back(m, pictures):
    row = collecting.make(m("cleo"), "Owls", "none")
    collecting.set_role(m("cleo"), row, m("dan").user, "view")
    assert row in access.collections(m("dan"))
    assert row not in collecting.editable(m("dan"))
    collecting.set_role(m("cleo"), row, m("dan").user, "edit")
    assert collecting.collect(m("dan"), row, pictures).done == 3
    assert CollectionRole.objects.count() == 1
    collecting.set_role(m("cleo"), row, m("dan").user, "")
    assert row not in access.collections(m("dan"))


def test_a_named_viewer_of_the_team_still_only_looks(m, pictures):
    row = collecting.make(m("cleo"), "Owls", "none")
    collecting.set_role(m("cleo"), row, m("eve").user, "edit")
    assert row in access.collections(m("eve"))
    assert collecting.collect(m("eve"), row, pictures).skipped == {VIEWER: 3}


def test_only_people_of_the_team_are_named_and_never_its_owner(m):
    row = collecting.make(m("cleo"), "Owls")
    with pytest.raises(Refused, match="not in North"):
        collecting.set_role(m("cleo"), row, m("zoe").user, "edit")
    with pytest.raises(Refused, match="already"):
        collecting.set_role(m("ben"), row, m("cleo").user, "view")


# --- In and out --------------------------------------------------------------------------------------------------------


def test_pictures_go_in_once_however_often_they_are_added(m, pictures):
    row = collecting.make(m("cleo"), "Owls")
    assert collecting.collect(m("dan"), row, [*pictures, pictures[0]]) == shelf.Done(3)
    assert collecting.collect(m("cleo"), row, pictures) == shelf.Done(3)
    assert sizes(row) == (3, 3)
    assert {item.added_by for item in row.items.all()} == {m("dan").user}


def test_pictures_come_out_and_stay_in_the_history(m, pictures):
    row = collecting.make(m("cleo"), "Owls")
    collecting.collect(m("cleo"), row, pictures)
    assert collecting.take_out(m("dan"), row, pictures[:2]) == shelf.Done(2)
    assert collecting.take_out(m("dan"), row, pictures[:2]) == shelf.Done(2)
    assert sizes(row) == (1, 1)
    assert access.tasks(m("dan")).count() == 3


def test_what_cannot_go_in_is_counted_with_why(m, north, south, dan, pictures):
    row = collecting.make(m("cleo"), "Owls")
    failed = factories.make_task(north, state=State.FAILED)
    running = factories.make_task(north, state=State.RUNNING)
    private = factories.make_task(north, user=dan, state=State.DONE, private=True)
    trashed = factories.make_task(north, state=State.DONE, deleted_at=timezone.now())
    foreign = factories.make_task(south, state=State.DONE)
    done = collecting.collect(m("cleo"), row, [*pictures, failed, running, private, trashed, foreign])
    assert done == shelf.Done(3, {GONE: 3, NO_PICTURE: 2})
    assert sizes(row) == (3, 3)


def test_who_may_not_change_it_changes_nothing_and_is_told(m, pictures):
    row = collecting.make(m("cleo"), "Owls", "view")
    assert collecting.collect(m("dan"), row, pictures).skipped == {NOT_YOURS: 3}
    assert collecting.take_out(m("dan"), row, pictures).skipped == {NOT_YOURS: 3}
    assert collecting.collect(m("zoe"), row, pictures).skipped == {NO_COLLECTION: 3}
    collecting.delete(m("cleo"), row)
    assert collecting.collect(m("cleo"), row, pictures).skipped == {NO_COLLECTION: 3}
    assert sizes(row) == (0, 0)


def test_a_private_picture_in_a_collection_is_there_for_its_author_only(m, pictures):
    row = collecting.make(m("cleo"), "Owls")
    Task.objects.filter(pk=pictures[0].pk).update(private=True)
    collecting.collect(m("cleo"), row, pictures)
    own, others = (history.page(m(name), Filters(collection=row.pk)) for name in ("cleo", "dan"))
    assert pictures[0].pk in ids(own)
    assert pictures[0].pk not in ids(others)
    assert collecting.take_out(m("dan"), row, pictures).skipped == {GONE: 1}
    assert sizes(row) == (1, 1)


def test_ten_thousand_go_in_some_hundreds_at_a_time(m, north, cleo, pictures, django_assert_max_num_queries):
    batch = factories.make_batch(north, cleo)
    now = timezone.now()
    plain = Task(team=north, user=cleo, batch=batch, prompt="Owl", family="pro", aspect_ratio="1:1", resolution="1K")
    fields = ("team", "user", "batch", "prompt", "family", "aspect_ratio", "resolution")
    same = {name: getattr(plain, name) for name in fields}
    same |= {"state": State.DONE, "price_credits": 10, "charged_credits": 10, "due_at": None, "finished_at": now}
    Task.objects.bulk_create([Task(**same) for _ in range(9_997)], batch_size=2_000)
    tasks = list(Task.objects.all())
    row = collecting.make(m("cleo"), "All")
    with django_assert_max_num_queries(20 * 12):
        assert collecting.collect(m("cleo"), row, tasks).done == 10_000
    assert sizes(row) == (10_000, 10_000)
    assert collecting.take_out(m("cleo"), row, tasks).done == 10_000
    assert sizes(row) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_two_who_add_the_same_at_once_add_it_once(m, pictures):
    row = collecting.make(m("cleo"), "Owls")
    start, answers = threading.Barrier(8), []

    def add(member: Membership) -> None:
        start.wait(10)
        try:
            answers.append(collecting.collect(member, row, pictures))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=add, args=[m(name)]) for name in ("cleo", "dan") * 4]
    [thread.start() for thread in threads]
    [thread.join(20) for thread in threads]
    assert answers == [shelf.Done(3)] * 8
    assert sizes(row) == (3, 3)


@pytest.mark.django_db(transaction=True)
def test_of_those_who_add_and_take_out_at_once_the_count_stays_true(m, pictures):
    row = collecting.make(m("cleo"), "Owls")
    start, members = threading.Barrier(6), [m(name) for name in ("cleo", "dan", "ben")]

    def churn(act, member: Membership) -> None:
        start.wait(10)
        try:
            for _ in range(5):
                act(member, row, pictures)
        finally:
            connections.close_all()

    acts = (collecting.collect, collecting.take_out)
    threads = [threading.Thread(target=churn, args=[act, member]) for member in members for act in acts]
    [thread.start() for thread in threads]
    [thread.join(20) for thread in threads]
    said, there = sizes(row)
    assert said == there


# --- Looking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [3, 30])
def test_a_page_of_covers_asks_twice_however_many_there_are(m, pictures, django_assert_num_queries, number):
    for place in range(number):
        row = collecting.make(m("cleo"), f"No. {place}")
        collecting.collect(m("cleo"), row, pictures)
    dan = m("dan")
    with django_assert_num_queries(2):
        found = collecting.page(dan)
        assert [str(row.owner) for row, _ in found.rows] == ["Cleo"] * number


def test_pages_of_covers_follow_one_another(m, monkeypatch):
    monkeypatch.setattr(collecting, "PAGE", 2)
    rows = [collecting.make(m("cleo"), f"No. {place}") for place in range(3)]
    first = collecting.page(m("dan"))
    assert [row for row, _ in first.rows] == [rows[2], rows[1]]
    last = collecting.page(m("dan"), first.next)
    assert ([row for row, _ in last.rows], last.next) == ([rows[0]], None)


# --- Links -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def row(m, pictures) -> Collection:
    row = collecting.make(m("cleo"), "Owls")
    collecting.collect(m("cleo"), row, pictures)
    return row


def shared(m, row, **options) -> tuple[ShareLink, str]:
    return collecting.share(m("cleo"), row, **{"may_comment": True, "shows_prompts": False, **options})


def test_the_links_of_somebody_who_leaves_the_team_are_closed(m, row, north):
    _, hers = shared(m, row)
    ben, token = collecting.share(m("ben"), row, may_comment=True, shows_prompts=False)
    _, gone = shared(m, row)
    teams.change_member(m("cleo"), m("ana"), Role.VIEWER)
    assert access.share_link(hers) is not None  # still one of them
    teams.change_member(m("cleo"), m("ana"), None)
    assert [access.share_link(one) for one in (hers, gone)] == [None, None]
    assert access.share_link(token) == ben
    assert list(collecting.open_links(row)) == [ben]
    assert "Links for guests closed: 2" in Act.objects.latest("pk").note


def test_a_link_opens_until_it_runs_out_and_is_kept_hashed(m, row):
    link, token = shared(m, row)
    assert len(token) >= 22
    assert link.token_hash == token_hash(token)
    assert timedelta(days=13, hours=23) < link.expires_at - timezone.now() <= timedelta(days=14)
    assert access.share_link(token) == link
    ShareLink.objects.update(expires_at=timezone.now())
    assert access.share_link(token) is None


@pytest.mark.parametrize("days", [0, 91, -1])
def test_a_link_is_open_from_1_to_90_days(m, row, days):
    with pytest.raises(Refused, match="90"):
        shared(m, row, days=days)


def test_a_revoked_link_is_closed_at_once_and_only_once(m, row):
    link, token = shared(m, row)
    other = collecting.make(m("cleo"), "Hawks")
    assert not collecting.revoke(m("cleo"), other, link.pk)
    with pytest.raises(Refused):
        collecting.revoke(m("dan"), row, link.pk)
    assert collecting.revoke(m("ben"), row, link.pk)
    assert not collecting.revoke(m("ben"), row, link.pk)
    assert access.share_link(token) is None


def test_a_collection_has_20_open_links_at_most(m, row, monkeypatch):
    monkeypatch.setattr(collecting, "LINKS_MAX", 1)
    shared(m, row)
    with pytest.raises(Refused, match="Revoke one"):
        shared(m, row)


def test_guests_see_what_the_whole_team_sees(m, row, pictures, north):
    link, _ = shared(m, row)
    Task.objects.filter(pk=pictures[0].pk).update(private=True)
    Task.objects.filter(pk=pictures[1].pk).update(deleted_at=timezone.now())
    elsewhere = factories.make_task(north, state=State.DONE)
    assert collecting.shared_page(link) == ([pictures[2]], None)
    seen = [access.shared_task(link, task.pk) for task in [*pictures, elsewhere]]
    assert seen == [None, None, pictures[2], None]


def test_guests_walk_through_pages_and_pictures(m, row, pictures, monkeypatch):
    monkeypatch.setattr(collecting, "SHARED_PAGE", 2)
    link, _ = shared(m, row)
    one, two, three = pictures
    assert collecting.shared_page(link) == ([three, two], two.pk)
    assert collecting.shared_page(link, two.pk) == ([one], None)
    assert collecting.shared_neighbours(link, two) == (three.pk, one.pk)
    assert collecting.shared_neighbours(link, one) == (two.pk, None)


def say(link, task, text="Lovely.", address="192.0.2.1"):
    return collecting.say(link, task, guest="Mara", text=text, address=address)


def test_what_a_guest_says_is_kept_and_the_owner_is_told(m, row, pictures):
    link, _ = shared(m, row)
    version = pictures[0].version
    said = say(link, pictures[0])
    assert (said.user, said.guest, said.text) == (None, "Mara", "Lovely.")
    notice = Notice.objects.get()
    assert (notice.user, notice.text) == (m("cleo").user, "Mara, a guest of “Owls”, says: Lovely.")
    assert notice.url == f"/t/north/tasks/{pictures[0].pk}/#comment-{said.pk}"
    assert Task.objects.get(pk=pictures[0].pk).version == version + 1


def test_who_has_left_the_team_is_not_told(m, row, pictures):
    link, _ = collecting.share(m("ben"), row, may_comment=True, shows_prompts=False)
    Membership.objects.filter(user=m("cleo").user).delete()
    say(link, pictures[0])
    assert Notice.objects.get().user == m("ben").user
    Membership.objects.filter(user=m("ben").user).delete()
    say(link, pictures[0])
    assert Notice.objects.count() == 1


def test_a_guest_who_says_too_much_is_asked_to_wait(m, row, pictures):
    link, _ = shared(m, row)
    for _ in range(collecting.ONE_GUEST):
        say(link, pictures[0])
    with pytest.raises(collecting.TooMany, match="Wait"):
        say(link, pictures[0])
    assert say(link, pictures[0], address="192.0.2.2").pk
    assert say(shared(m, row)[0], pictures[0]).pk
    assert Comment.objects.count() == collecting.ONE_GUEST + 2


def test_many_guests_of_one_link_are_held_up_too(m, row, pictures, monkeypatch):
    monkeypatch.setattr(collecting, "ALL_GUESTS", 3)
    link, _ = shared(m, row)
    for number in range(3):
        say(link, pictures[0], address=f"192.0.2.{number}")
    with pytest.raises(collecting.TooMany):
        say(link, pictures[0], address="192.0.2.77")


def test_the_items_are_read_along_their_index(m, row, pictures):
    link, _ = shared(m, row)
    plan = access.shared_items(link).order_by("-task_id")[:40].explain()
    if connection.vendor == "sqlite":
        assert "collection_id=" in plan.splitlines()[0]
    assert CollectionItem.objects.count() == 3


# --- Unfiled -----------------------------------------------------------------------------------------------------------


def test_what_lies_in_no_collection_one_may_see_is_unfiled(m, pictures, north):
    row = collecting.make(m("cleo"), "Owls", "none")
    collecting.collect(m("cleo"), row, pictures[:1])
    found = {name: ids(history.page(m(name), Filters(unfiled=True))) for name in ("cleo", "dan")}
    assert sorted(found["cleo"]) == sorted(task.pk for task in pictures[1:])
    assert len(found["dan"]) == 3, "a collection that is not shown to him tells him nothing"
    assert collecting.unfiled(m("cleo")) == collecting.Unfiled(2, 3, is_all=True)


def test_unfiled_pictures_are_counted_among_the_newest_alone(m, pictures, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(collecting, "UNFILED_OF", 2)
    cleo = m("cleo")
    with django_assert_num_queries(2):
        assert collecting.unfiled(cleo) == collecting.Unfiled(2, 2, is_all=False)
