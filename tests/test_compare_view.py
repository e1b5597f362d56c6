"""Comparing pictures: who may, which, and what is said where that does not work."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web.models import Result

from . import factories

COMPARE = "/t/north/compare/"


def text(answer) -> str:
    return answer.content.decode()


@pytest.fixture
def look(client_for, eve):
    """look(1, 2) is eve comparing these tasks."""
    return lambda *tasks: client_for(eve).get(COMPARE, {"ids": ",".join(str(task.pk) for task in tasks)})


def test_two_to_four_pictures_stand_beside_each_other_in_the_order_asked_for(look, north):
    tasks = [factories.make_task(north, state="done") for _ in range(4)]
    for few in (tasks[:2], tasks[:3], tasks):
        page = text(look(*reversed(few)))
        places = [page.index(f"/results/{task.pk}/original") for task in reversed(few)]
        assert places == sorted(places)


def test_a_table_says_what_differs_in_words_too(look, north):
    one = factories.make_task(north, state="done", prompt="A red bowl", seed=1)
    other = factories.make_task(north, state="done", prompt="A blue bowl", family="flex", price=25)
    page = text(look(one, other))
    assert "<del>red</del>" in page
    assert "<ins>blue</ins>" in page
    for cell in ("<td>Pro</td><td>Flex</td>", "<td>1</td><td>none</td>", "<td>10 credits</td><td>25 credits</td>"):
        assert cell in page
    assert "shape 4:3" in page


def test_of_a_lost_picture_what_is_left_is_compared_and_one_that_was_thrown_away_is_none(look, north):
    one, other = (factories.make_task(north, state="done") for _ in range(2))
    Result.objects.filter(task=one).update(lost_at=timezone.now())
    page = text(look(one, other))
    assert (f"/results/{one.pk}/left" in page, f"/results/{one.pk}/original" in page) == (True, False)
    assert page.count("The original is no longer available") == 1
    Result.objects.filter(task=one).update(purged_at=timezone.now())
    assert f"Task {one.pk} has no picture to compare." in text(look(one, other))


@pytest.mark.parametrize(
    "given", ["", "1", "x,y", "1,1", "1,2,3,4,5", "0,1", "-1,2", "1;2", ",,,", "9" * 40 + ",1", "1,\0"]
)
def test_numbers_that_make_no_sense_are_answered_with_what_would(client_for, eve, north, given):
    answer = client_for(eve).get(COMPARE, {"ids": given})
    assert answer.status_code == 400
    assert "Nothing to compare" in text(answer)
    assert client_for(eve).get(COMPARE).status_code == 400


def test_what_is_not_finished_has_no_picture_to_compare(look, north):
    waiting = factories.make_task(north)
    answer = look(factories.make_task(north, state="done"), waiting)
    assert answer.status_code == 400
    assert f"Task {waiting.pk} has no picture" in text(answer)


def test_what_one_may_not_see_is_missing(look, north, south, cleo):
    mine = factories.make_task(north, state="done")
    hidden = factories.make_task(north, user=cleo, state="done", private=True)
    thrown = factories.make_task(north, state="done", deleted_at=timezone.now())
    foreign = factories.make_task(south, state="done")
    for other in (hidden, thrown, foreign):
        assert look(mine, other).status_code == 404


def test_four_take_no_more_queries_than_two(client_for, eve, north):
    tasks = [factories.make_task(north, state="done", references=[factories.make_reference(north)]) for _ in range(4)]
    client = client_for(eve)

    def count(few) -> int:
        ids = ",".join(str(task.pk) for task in few)
        client.get(COMPARE, {"ids": ids})
        with CaptureQueriesContext(connection) as seen:
            client.get(COMPARE, {"ids": ids})
        return len(seen)

    assert count(tasks[:2]) == count(tasks)


def test_a_stranger_compares_nothing_here(client_for, zoe, north):
    assert client_for(zoe).get(COMPARE, {"ids": "1,2"}).status_code == 404
