"""The team's history: everyone's pictures, newest first, a page at a time."""

from __future__ import annotations

import re
from datetime import timedelta

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web.models import Task

from . import factories

PAGE = "/t/north/history/"


def text(answer) -> str:
    return answer.content.decode()


def tiles(page: str) -> list[int]:
    return [int(pk) for pk in re.findall(r'id="tile-(\d+)"', page)]


def more(page: str) -> str:
    return re.search(r'href="(\?cursor=[^"]+)"', page)[1]


def made(team, hours_ago: float = 0, **fields) -> Task:
    task = factories.make_task(team, **{"state": "done", **fields})
    Task.objects.filter(pk=task.pk).update(created=timezone.now() - timedelta(hours=hours_ago))
    return task


def test_everyone_sees_everyones_pictures_with_their_authors(client_for, eve, cleo, dan, north):
    first, second = made(north, 0.02, user=cleo), made(north, 0.01, user=dan)
    page = text(client_for(eve).get(PAGE))
    assert tiles(page) == [second.pk, first.pk]
    assert "Cleo" in page
    assert "Dan" in page


def test_nothing_of_another_team_is_in_it(client_for, ana, north, south):
    made(south)
    assert tiles(text(client_for(ana).get(PAGE))) == []
    assert client_for(ana).get("/t/south/history/").status_code == 404


def test_an_empty_history_says_what_will_be_here_and_where_to_begin(client_for, cleo, eve, north):
    assert "Make the first picture" in text(client_for(cleo).get(PAGE))
    assert "Make the first picture" not in text(client_for(eve).get(PAGE))


def test_days_have_headings(client_for, eve, north):
    made(north)
    made(north, 24)
    page = text(client_for(eve).get(PAGE))
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Today", "Yesterday"]


def test_what_is_live_or_failed_is_there_in_short(client_for, eve, north):
    for state in ("queued", "failed", "cancelled", "uncertain"):
        made(north, state=state)
    page = text(client_for(eve).get(PAGE))
    for words in ("Waiting", "Revid failed", "Cancelled", "No answer yet"):
        assert words in page
    assert "<img" not in page


def test_pages_meet_without_gap_or_repeat_also_where_times_are_equal(client_for, eve, north):
    expected = [factories.make_task(north, state="done").pk for _ in range(45)][::-1]
    Task.objects.update(created=timezone.now())
    client = client_for(eve)
    first = text(client.get(PAGE))
    second = text(client.get(PAGE + more(first).replace("&amp;", "&")))
    assert tiles(first) == expected[:40]
    assert tiles(second) == expected[40:]
    assert "?cursor=" not in second


def test_more_comes_as_a_fragment_that_does_not_repeat_the_days_heading(client_for, eve, north):
    for _ in range(41):
        factories.make_task(north, state="done")
    client = client_for(eve)
    link = re.search(r'hx-get="(\?cursor=[^"]+)"', text(client.get(PAGE)))[1].replace("&amp;", "&")
    fragment = text(client.get(PAGE + link, headers={"HX-Request": "true"}))
    assert "<html" not in fragment
    assert "<h2>" not in fragment
    assert len(tiles(fragment)) == 1


def test_a_cursor_that_is_none_shows_the_first_page(client_for, eve, north):
    task = made(north)
    for cursor in ("x", "2026-13-45,1", "2026-01-01T00:00:00,1", "'"):
        assert tiles(text(client_for(eve).get(PAGE, {"cursor": cursor}))) == [task.pk]


def test_the_history_takes_as_many_queries_for_forty_tasks_as_for_two(client_for, eve, north):
    client = client_for(eve)

    def queries_with(number: int) -> int:
        for _ in range(number):
            made(north, references=[factories.make_reference(north)])
            made(north, state="running")
        client.get(PAGE)
        with CaptureQueriesContext(connection) as seen:
            assert client.get(PAGE).status_code == 200
        return len(seen)

    assert queries_with(1) == queries_with(20) <= 12
