"""Pictures found by filters and words: what the member may see, in the order asked for, page by page."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from flux2web import access, history
from flux2web.history import Filters
from flux2web.models import Favourite, Tag, Task, TaskTag

from . import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(cleo, north):
    return access.membership(cleo, "north")


def make(team, **fields) -> Task:
    return factories.make_task(team, **{"state": "done"} | fields)


def ids(member, cursor=None, limit=40, **filters) -> list[int]:
    return [task.pk for task in history.page(member, Filters(**filters), cursor, limit).rows]


def test_what_others_keep_to_themselves_and_what_is_in_the_trash_is_not_there(member, north, dan, zoe, south):
    seen = make(north, user=dan)
    mine = make(north, user=member.user, private=True)
    make(north, user=dan, private=True)
    make(south, user=zoe)
    thrown = make(north, user=member.user, deleted_at=timezone.now())
    make(north, user=dan, deleted_at=timezone.now())
    assert ids(member) == [mine.pk, seen.pk]
    assert ids(member, tab="mine") == [mine.pk]
    assert ids(member, tab="trash") == [thrown.pk]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"family": "flex"}, ["flex"]),
        ({"resolution": "2K"}, ["flex"]),
        ({"ratio": "16:9"}, ["old"]),
        ({"mode": "image-to-image"}, ["edit"]),
        ({"mode": "text-to-image"}, ["old", "failed", "flex"]),
        ({"references": True}, ["edit"]),
        ({"state": "failed"}, ["failed"]),
        ({"provider": "vtrix"}, ["flex"]),
        ({"cost_min": 20}, ["flex"]),
        ({"cost_max": 19, "family": "pro", "references": False}, ["old"]),
        ({"text": "heron"}, ["edit", "old"]),
        ({"text": "heron", "ratio": "16:9"}, ["old"]),
        ({"text": "heron", "sort": "oldest"}, ["old", "edit"]),
        ({"sort": "cost"}, ["flex", "edit", "old"]),
        ({"sort": "oldest"}, ["old", "failed", "flex", "edit"]),
    ],
)
def test_each_filter_says_what_it_says(member, north, filters, names):
    vtrix = factories.make_account("vtrix")
    made = {
        "old": make(north, prompt="heron in rain", aspect_ratio="16:9"),
        "failed": make(north, prompt="stork", state="failed"),
        "flex": make(north, prompt="owl", family="flex", resolution="2K", price=30, account=vtrix),
        "edit": make(north, prompt="heron, framed", price=12, references=[factories.make_reference(north)]),
    }
    names_of = {task.pk: name for name, task in made.items()}
    found = [names_of[pk] for pk in ids(member, **filters)]
    assert sorted(found) == sorted(names)
    assert found == names or "sort" not in filters


def test_dates_people_hearts_and_tags(member, north, dan):
    older = make(north, user=dan, created=timezone.now() - timedelta(days=3))
    newer = make(north, user=member.user)
    night, blue = (Tag.objects.create(team=north, name=name) for name in ("night", "blue"))
    for task, tag in ((older, night), (newer, night), (newer, blue)):
        TaskTag.objects.create(task=task, tag=tag)
    Favourite.objects.create(team=north, user=member.user, task=older)
    Favourite.objects.create(team=north, user=dan, task=newer)
    yesterday = timezone.now() - timedelta(days=1)
    assert ids(member, since=yesterday) == ids(member, person=member.user_id) == [newer.pk]
    assert ids(member, until=yesterday) == ids(member, tab="favourites") == ids(member, liked=True) == [older.pk]
    assert ids(member, tags=(night.pk, blue.pk)) == [newer.pk]
    assert ids(member, tags=(night.pk, blue.pk), any_tag=True) == [newer.pk, older.pk]


@pytest.mark.parametrize(
    "filters", [{}, {"sort": "oldest"}, {"sort": "cost"}, {"text": "heron"}, {"text": "heron", "family": "pro"}]
)
def test_pages_hold_every_picture_once_also_where_times_and_costs_are_equal(member, north, filters):
    now = timezone.now()
    made = {make(north, prompt="heron", created=now, price=10 + n % 2).pk for n in range(11)}
    seen, cursor = [], None
    for _ in range(10):
        found = history.page(member, Filters(**filters), cursor, 3)
        seen += [task.pk for task in found.rows]
        if found.next is None:
            break
        cursor = found.next
    assert len(seen) == len(set(seen)) == 11
    assert set(seen) == made


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "1,2,3",
        "2026-13-45T00:00:00+00:00,1",
        "2026-01-01T00:00:00,1",
        f"{'9' * 40}",
        "-1",
        "0001-01-01T00:00:00+00:00,5",
        "٣",
    ],
)
@pytest.mark.parametrize("filters", [{}, {"sort": "cost"}, {"text": "heron"}])
def test_a_place_that_was_tampered_with_is_the_beginning(member, north, cursor, filters):
    task = make(north, prompt="heron")
    assert ids(member, cursor, **filters) == [task.pk]


def test_a_whole_id_jumps_and_only_to_what_one_may_see(member, north, dan):
    mine, others = make(north), make(north, user=dan, private=True)
    assert history.jump(member, f" #{mine.pk} ") == mine
    assert history.jump(member, str(others.pk)) is None
    assert history.jump(member, "٣") is None


@pytest.mark.parametrize("filters", [{}, {"sort": "oldest"}, {"sort": "cost"}, {"text": "heron"}, {"family": "pro"}])
def test_arrows_walk_the_list_that_one_came_from(member, north, filters):
    for n in range(4):
        make(north, prompt="heron", price=10 + n)
    make(north, prompt="heron", state="failed")
    order = [pk for pk in ids(member, **filters) if Task.objects.get(pk=pk).state == "done"]
    for before, pk, after in zip([None, *order], order, [*order[1:], None], strict=False):
        assert history.neighbours(member, Filters(**filters), Task.objects.get(pk=pk)) == (before, after)


def test_a_page_takes_one_query_and_with_words_one_or_two_more(member, north, django_assert_num_queries):
    for _ in range(3):
        make(north, prompt="heron")
    with django_assert_num_queries(1):
        ids(member)
    with django_assert_num_queries(3 if connection.vendor == "postgresql" else 2):
        ids(member, text="heron")
