"""The team's history: everyone's pictures, newest first, a page at a time."""

from __future__ import annotations

import gzip
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web.models import Budget, Collection, Favourite, Result, SavedSearch, Tag, Task

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


def test_a_picture_whose_original_is_lost_says_so_on_its_tile(client_for, eve, north):
    there, lost = made(north, 0.02), made(north, 0.01)
    Result.objects.filter(task=lost).update(lost_at=timezone.now())
    page = text(client_for(eve).get(PAGE))
    [tile] = re.findall(rf'<li class="tile" id="tile-{lost.pk}".*?</li>', page, re.S)
    assert re.findall(r'src="[^"]+/(\w+)"', tile) == ["left"]
    assert "data-lost" in tile
    assert "The original is no longer available" in tile
    assert page.count("data-lost") == 1
    assert f"/results/{there.pk}/320" in page


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


# --- Finding ---------------------------------------------------------------------------------------------------------


def shown(client, query: str = "", **headers) -> list[int]:
    return tiles(text(client.get(f"{PAGE}?{query}", headers=headers)))


def test_words_and_filters_narrow_and_are_shown_as_chips_that_can_be_taken_off(client_for, eve, cleo, dan, north):
    owl, heron = made(north, 2, prompt="An owl", user=cleo), made(north, 1, prompt="A heron", user=dan)
    client = client_for(eve)
    assert shown(client, "q=ow") == [owl.pk]
    assert shown(client, f"person={dan.pk}") == [heron.pk]
    page = text(client.get(f"{PAGE}?q=owl&person={dan.pk}"))
    assert tiles(page) == []
    assert "Nothing matches “owl” by Dan" in page
    assert f'href="?person={dan.pk}"' in page
    assert 'href="?q=owl"' in page


@pytest.mark.parametrize(
    "query",
    [
        "tab=x&person=x&family=x&mode=x&resolution=x&ratio=x&provider=x&state=x&collection=x&tag=x&tags=x&since=x&until=x",
        "refs=x&liked=x&cost_min=x&cost_max=x&sort=x&on=x&many=x&grid=x&cursor=x&day=x&go=x",
        "q=" + "x" * 10_001,
        "q=" + "%22" * 3000 + "*" * 3000,
        "q=%00",
        "q=%f0%9f%a6%89&tag=%d7%a9",
        "on=9999-12-31",
        "many=-1&many=99999999999",
        "cursor=%00&tab=trash",
    ],
)
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_nonsense_is_said_in_words_and_the_page_is_there(client_for, eve, north, query, headers):
    made(north)
    for address in (PAGE, f"{PAGE}filters/"):
        answer = client_for(eve).get(f"{address}?{query}", headers=headers)
        assert answer.status_code == 200
        assert len(answer.content) < 120_000


def test_nonsense_is_left_out_and_the_rest_holds(client_for, eve, north):
    flex, _ = made(north, family="flex"), made(north)
    page = text(client_for(eve).get(f"{PAGE}?family=flex&person=99"))
    assert tiles(page) == [flex.pk]
    assert "Nobody of this number has pictures here." in page


def test_the_search_never_shows_what_one_may_not_see(client_for, cleo, dan, zoe, north, south):
    made(north, user=dan, private=True, prompt="owl one")
    made(north, user=dan, deleted_at=timezone.now(), prompt="owl two")
    made(south, user=zoe, prompt="owl three")
    for query in ("q=owl", "tab=trash", f"person={dan.pk}", "q=owl&tab=trash", "sort=cost"):
        assert shown(client_for(cleo), query) == []


def test_a_whole_number_leads_to_its_picture_and_only_to_one_that_one_may_see(client_for, cleo, dan, north, south, zoe):
    mine, secret, foreign = made(north), made(north, user=dan, private=True), made(south, user=zoe)
    client = client_for(cleo)
    assert client.get(f"{PAGE}?q=%23{mine.pk}").headers["Location"] == f"/t/north/tasks/{mine.pk}/"
    by_enter = client.get(f"{PAGE}?q={mine.pk}&go=1", headers={"HX-Request": "true"})
    assert by_enter.headers["HX-Redirect"] == f"/t/north/tasks/{mine.pk}/"
    typing = client.get(f"{PAGE}?q={mine.pk}", headers={"HX-Request": "true"})
    assert f"Picture {mine.pk}" in text(typing)
    assert typing.headers["HX-Push-Url"] == "false"
    for hidden in (secret, foreign):
        answer = client.get(f"{PAGE}?q={hidden.pk}&go=1")
        assert answer.status_code == 200
        assert "Nothing matches" in text(answer)


def test_the_address_bar_holds_what_is_found_and_typing_is_one_step_back(client_for, eve, north):
    made(north, prompt="An owl")
    client = client_for(eve)
    first = client.get(f"{PAGE}?q=ow&tab=team&sort=newest&family=", headers={"HX-Request": "true"})
    assert first.headers["HX-Push-Url"] == f"{PAGE}?q=ow"
    assert "<html" not in text(first)
    at = {"HX-Request": "true", "HX-Current-URL": f"http://testserver{PAGE}?q=ow"}
    assert client.get(f"{PAGE}?q=owl", headers=at).headers["HX-Replace-Url"] == f"{PAGE}?q=owl"
    cleared = client.get(f"{PAGE}?q=", headers=at)
    assert cleared.headers["HX-Push-Url"] == PAGE


def test_going_back_asks_for_the_whole_page(client_for, eve, north):
    asked = {"HX-Request": "true", "HX-History-Restore-Request": "true"}
    answer = client_for(eve).get(f"{PAGE}?q=owl", headers=asked)
    assert "<html" in text(answer)
    assert "HX-Request" in answer.headers["Vary"]


def test_more_keeps_the_filters_and_the_order(client_for, eve, north):
    costs = [factories.make_task(north, state="done", price=1 + n, family="flex").pk for n in range(41)]
    made(north)
    client = client_for(eve)
    first = text(client.get(f"{PAGE}?family=flex&sort=cost"))
    assert "<h2>" not in first.split('id="found"')[1].split("<dialog")[0]
    link = re.search(r'href="\?(family=flex&amp;sort=cost&amp;cursor=[^"]+)"', first)[1].replace("&amp;", "&")
    assert tiles(first) + shown(client, link) == costs[::-1]


def test_a_day_is_jumped_to_and_what_is_newer_is_above(client_for, eve, north):
    today, old = made(north), made(north, 24 * 9)
    day = (timezone.now() - timedelta(days=5)).date()
    client = client_for(eve)
    for query, expected in (
        ("", [old.pk]),
        ("sort=oldest&", [today.pk]),
        ("q=harbour&", [old.pk]),
        ("sort=cost&", [old.pk]),
    ):
        jump = client.get(f"{PAGE}?{query}on={day}")
        assert jump.status_code == 302
        assert tiles(text(client.get(jump.headers["Location"]))) == expected
    asked = client.get(f"{PAGE}?on={day}", headers={"HX-Request": "true"})
    assert "cursor=" in asked.headers["HX-Redirect"]


def test_days_are_those_of_the_team(client_for, eve, north):
    Budget.objects.filter(team=north).update(time_zone="Pacific/Kiritimati")  # 14 h ahead
    task = made(north)
    Task.objects.filter(pk=task.pk).update(created=datetime(2026, 6, 2, 12, tzinfo=UTC))
    client = client_for(eve)
    assert 'data-day="2026-06-03"' in text(client.get(PAGE))
    assert shown(client, "since=2026-06-03&until=2026-06-03") == [task.pk]
    assert shown(client, "until=2026-06-02") == []


# --- Tabs and tiles --------------------------------------------------------------------------------------------------


def test_mine_and_favourites_are_mine(client_for, cleo, dan, north):
    mine, his = made(north, 2, user=cleo), made(north, 1, user=dan)
    Favourite.objects.create(team=north, user=cleo, task=his)
    Favourite.objects.create(team=north, user=dan, task=mine)
    client = client_for(cleo)
    assert shown(client, "tab=mine") == [mine.pk]
    assert shown(client, "tab=favourites") == [his.pk]
    page = text(client.get(PAGE))
    assert re.findall(r'id="tile-(\d+)"[^>]*data-liked', page) == [str(his.pk)]
    assert 'href="/t/north/collections/"' in page


def test_a_tile_names_its_author_and_shows_a_lock_on_what_only_i_see(client_for, cleo, north):
    made(north, user=cleo, private=True)
    page = text(client_for(cleo).get(PAGE))
    assert "Only you see this" in page
    assert "Cleo" in page


def test_the_trash_says_how_long_and_offers_to_restore_and_nothing_else(client_for, ana, cleo, eve, north):
    thrown = made(north, user=cleo, deleted_at=timezone.now() - timedelta(days=3, minutes=5))
    failed = made(north, user=cleo, state="failed", deleted_at=timezone.now())
    for user in (cleo, ana):
        page = text(client_for(user).get(f"{PAGE}?tab=trash"))
        assert tiles(page) == [failed.pk, thrown.pk] or tiles(page) == [thrown.pk, failed.pk]
        assert "27 days left" in page
        found = page.split('id="found"')[1].split('id="card-action"')[0].split("<form")[0]
        assert set(re.findall(r'formaction="[^"]+/(\w+)/"', found)) == {"restore"}
        assert {"restore"} == set(re.findall(r'name="verb" value="(\w+)"', page.split('id="bulk"')[1]))
    assert "The trash is empty" in text(client_for(eve).get(f"{PAGE}?tab=trash"))


def test_the_look_is_remembered_and_a_cookie_with_nonsense_is_not_believed(client_for, eve, north):
    client = client_for(eve)
    assert 'data-shape="rows" data-size="m"' in text(client.get(PAGE))
    client.get(f"{PAGE}?grid=squares-s")
    assert client.cookies["grid"].value == "squares-s"
    assert 'data-shape="squares" data-size="s"' in text(client.get(PAGE))
    for bad in ("squares-xl", '"><b>', ""):
        client.cookies["grid"] = bad
        assert 'data-shape="rows" data-size="m"' in text(client.get(PAGE))
    assert "grid" not in client_for(eve).get(f"{PAGE}?grid=big").cookies


def test_the_first_page_is_small_and_so_is_a_tile(client_for, ana, north):
    long = "A quiet harbour at dawn with gulls over the boats, painted in flat gouache with a limited palette and soft light"
    for n in range(40):
        made(north, prompt=f"{long} {n}")
    answer = client_for(ana).get(PAGE)
    assert len(tiles(text(answer))) == 40
    assert len(gzip.compress(answer.content)) < 20_000
    one = re.search(r'<li class="tile".*?</li>', text(answer), re.S)[0]
    assert len(one.encode()) < 1400


def test_the_whole_page_takes_six_queries_however_much_there_is(client_for, eve, north, cleo):
    client = client_for(eve)

    def queries_with(number: int, query: str = "") -> int:
        for _ in range(number):
            task = made(north, references=[factories.make_reference(north)])
            Favourite.objects.create(team=north, user=eve, task=task)
            made(north, state="running")
            factories.make_member(factories.make_team(), eve)
        client.get(PAGE)
        with CaptureQueriesContext(connection) as seen:
            assert client.get(f"{PAGE}?{query}").status_code == 200
        return len(seen)

    assert queries_with(3) == queries_with(12) <= 6
    words = 2 if connection.vendor == "postgresql" else 1
    assert queries_with(0, "q=harbour&family=pro") <= 6 + words


# --- The panel, saved searches -----------------------------------------------------------------------------------------


def test_the_panel_counts_what_was_finished_and_marks_what_is_chosen(client_for, eve, cleo, north):
    for family in ("flex", "pro", "pro"):
        made(north, user=cleo, family=family)
    made(north, user=cleo, state="failed")
    page = text(client_for(eve).get(f"{PAGE}filters/?family=flex"))
    counts = dict(re.findall(r'name="family" value="(\w+)"(?: checked)?>\w+ <span class="num quiet">(\d+)<', page))
    assert counts == {"pro": "2", "flex": "1"}
    assert re.findall(r'name="family" value="(\w*)" checked', page) == ["flex"]
    assert "Cleo (3)" in page
    assert "<html" in page
    assert "<html" not in text(client_for(eve).get(f"{PAGE}filters/", headers={"HX-Request": "true"}))


def test_the_panel_takes_as_many_queries_for_thirty_as_for_three(client_for, cleo, north):
    client = client_for(cleo)

    def queries_with(number: int) -> int:
        for n in range(number):
            user = factories.make_member(north).user
            made(north, user=user)
            Tag.objects.create(team=north, name=f"tag {n} of {number}", used=1)
            Collection.objects.create(team=north, name=f"Box {n}", owner=user)
            SavedSearch.objects.create(team=north, user=cleo, name=f"{n} of {number}", query="q=owl")
        client.get(f"{PAGE}filters/")
        cache.clear()
        with CaptureQueriesContext(connection) as seen:
            assert client.get(f"{PAGE}filters/").status_code == 200
        return len(seen)

    assert queries_with(3) == queries_with(30)


def test_a_search_is_saved_found_again_and_forgotten(client_for, eve, north):
    client = client_for(eve)
    answer = client.post(f"{PAGE}save/", {"name": "Night owls", "query": "tab=team&q=owl&family=flex"}, follow=True)
    assert answer.redirect_chain == [(f"{PAGE}?q=owl&family=flex", 302)]
    assert "Saved as “Night owls”" in text(answer)
    assert "Night owls" in text(client.get(f"{PAGE}filters/"))
    saved = SavedSearch.objects.get()
    client.post(f"{PAGE}saved/{saved.pk}/forget/")
    assert not SavedSearch.objects.exists()


def test_a_search_that_cannot_be_saved_keeps_what_was_typed(client_for, eve, north):
    answer = client_for(eve).post(f"{PAGE}save/", {"name": "x" * 61, "query": "q=owl"})
    assert answer.status_code == 422
    assert "At most 60 characters." in text(answer)
    assert "x" * 61 in text(answer)


def test_saved_searches_are_ones_own(client_for, eve, cleo, zoe, north, south):
    hers = SavedSearch.objects.create(team=north, user=cleo, name="Hers", query="q=owl")
    elsewhere = SavedSearch.objects.create(team=south, user=eve, name="Elsewhere", query="q=owl")
    client = client_for(eve)
    assert "Hers" not in text(client.get(f"{PAGE}filters/"))
    for row in (hers, elsewhere):
        assert client.post(f"{PAGE}saved/{row.pk}/forget/").status_code == 404
    assert SavedSearch.objects.count() == 2


@pytest.mark.parametrize("who", ["ana", "ben", "cleo", "dan", "eve", "zoe", "sam", None])
def test_only_the_team_comes_in(client_for, cast, who):
    client, inside = client_for(cast[who] if who else None), who in ("ana", "ben", "cleo", "dan", "eve")
    for address in (PAGE, f"{PAGE}filters/"):
        assert client.get(address).status_code == (200 if inside else 404 if who else 302)
    for address, inside_status in ((f"{PAGE}save/", 302), (f"{PAGE}saved/999/forget/", 404)):
        posted = client.post(address, {"name": "A", "query": "q=owl"})
        assert posted.status_code == (inside_status if inside else 404 if who else 302)
        assert client.get(address).status_code == (405 if who else 302)
