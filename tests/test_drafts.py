"""Each member's draft: kept while it is written and through refusals, cleared and brought back, nobody else's."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from flux2web.models import Draft, Membership, Role, Team

from . import factories
from .test_studio_view import CREATE, GOOD, HTMX, STUDIO, slots, text, value

KEEP, CLEAR, BACK = "/t/north/draft/", "/t/north/draft/clear/", "/t/north/draft/back/"
WRITTEN = {
    "prompt": "A {bird} in reeds",
    "family": "flex",
    "aspect_ratio": "3:2",
    "resolution": "2K",
    "count": "3",
    "provider": "revid",
    "variable": ["bird"],
    "value": ["heron | crane"],
    "also_ratio": ["1:1", "16:9"],
    "also_family": ["pro"],
    "ceiling": "500",
    "stop_after": "2",
}


@pytest.fixture
def revid(db):
    return factories.make_account("revid")


@pytest.fixture
def browser(client_for, cleo, revid):
    """Cleo's."""
    return client_for(cleo)


def prompt(page: str) -> str:
    return re.search(r'id="prompt".*?>\n?(.*?)</textarea>', page, re.S)[1]


def test_who_sees_it_is_kept_and_follows_the_team_where_nobody_said_otherwise(browser, north):
    browser.post(KEEP, WRITTEN | {"private": "1"})
    assert 'name="private" value="1" checked' in text(browser.get(STUDIO))
    browser.post(KEEP, WRITTEN | {"private": "0"})
    assert 'name="private" value="0" checked' in text(browser.get(STUDIO))
    Team.objects.filter(pk=north.pk).update(private_by_default=True)
    assert 'name="private" value="1" checked' in text(browser.get(STUDIO))


def test_what_is_written_is_there_when_the_studio_is_opened_again(browser, client_for, cleo):
    assert browser.post(KEEP, WRITTEN).status_code == 204
    page = text(client_for(cleo).get(STUDIO))  # signed in anew
    assert prompt(page) == "A {bird} in reeds"
    assert value(page, "variable") == "bird"
    assert "heron | crane" in page
    for name, chosen in (("family", "flex"), ("aspect_ratio", "3:2"), ("resolution", "2K"), ("count", "3")):
        assert re.search(rf'name="{name}" value="{chosen}" checked', page), name
    assert re.findall(r'name="also_ratio" value="([^"]*)" checked', page) == ["1:1", "16:9"]
    assert re.search(r'id="variations" open', page)
    assert "Draft kept" in page
    assert re.search(r'id="ceiling"[^>]* value="500"', page)


def test_images_are_kept_in_their_order(browser, north):
    ids = [factories.make_reference(north).pk for _ in range(3)][::-1]
    browser.post(KEEP, {"prompt": "Both", "references": ids})
    assert slots(text(browser.get(STUDIO))) == ids


def test_the_last_write_wins_and_there_is_one_row(browser, client_for, cleo):
    other_tab = client_for(cleo)
    for tab, words in ((browser, "one"), (other_tab, "two"), (browser, "three")):
        assert tab.post(KEEP, {"prompt": words}).status_code == 204
    assert prompt(text(browser.get(STUDIO))) == "three"
    assert Draft.objects.count() == 1


def test_everyone_has_a_draft_of_their_own_in_each_team(browser, client_for, dan, cleo, south):
    factories.make_member(south, cleo)
    browser.post(KEEP, {"prompt": "Cleo’s heron"})
    assert prompt(text(client_for(dan).get(STUDIO))) == ""
    assert prompt(text(browser.get("/t/south/"))) == ""


def test_a_refused_press_keeps_what_was_typed(browser):
    assert browser.post(CREATE, {**GOOD, "prompt": "ab", "seed": "many"}).status_code == 422
    page = text(browser.get(STUDIO))
    assert prompt(page) == "ab"
    assert value(page, "seed") == "many"


def test_sending_clears_nothing(browser):
    assert browser.post(CREATE, {**GOOD, **WRITTEN, "price": "", "ceiling": ""}, headers=HTMX).status_code == 200
    assert prompt(text(browser.get(STUDIO))) == "A {bird} in reeds"


def test_a_picture_fills_the_form_and_the_draft_waits_at_the_side_for_undo(browser, north):
    task = factories.make_task(north, prompt="An owl")
    browser.post(KEEP, {"prompt": "My own", "family": "pro"})
    page = text(browser.get(STUDIO, {"like": task.pk}))
    assert prompt(page) == "An owl"
    assert 'data-draft="prompt=My+own&amp;family=pro"' in page
    assert prompt(text(browser.get(STUDIO))) == "My own"


@pytest.mark.parametrize(
    ("what", "words", "flex"), [("prompt", "An owl", False), ("settings", "My own", True), ("all", "An owl", True)]
)
def test_a_part_of_a_picture_leaves_the_rest_of_the_draft(browser, north, what, words, flex):
    task = factories.make_task(north, prompt="An owl", family="flex")
    image = factories.make_reference(north).pk
    browser.post(KEEP, {"prompt": "My own", "family": "pro", "references": [image]})
    page = text(browser.get(STUDIO, {"like": task.pk, "what": what}))
    assert prompt(page) == words
    assert bool(re.search(r'value="flex" checked', page)) is flex
    assert slots(page) == ([image] if what != "all" else [])


def test_an_image_takes_the_next_free_place_of_the_draft(browser, north):
    one, two = (factories.make_reference(north).pk for _ in range(2))
    browser.post(KEEP, {"prompt": "Like image 1", "references": [one]})
    page = text(browser.get(STUDIO, {"references": two, "what": "image"}))
    assert slots(page) == [one, two]
    assert prompt(page) == "Like image 1"


def test_clearing_is_separate_and_can_be_undone(browser):
    browser.post(KEEP, WRITTEN)
    assert browser.post(CLEAR).status_code == 302
    page = text(browser.get(STUDIO))
    assert prompt(page) == ""
    assert "Cleared." in page
    browser.post(BACK)
    assert prompt(text(browser.get(STUDIO))) == "A {bird} in reeds"


def test_undo_comes_too_late_where_something_new_is_written(browser):
    browser.post(KEEP, WRITTEN)
    browser.post(CLEAR)
    browser.post(KEEP, {"prompt": "Something new"})
    browser.post(BACK)
    assert prompt(text(browser.get(STUDIO))) == "Something new"


def test_clearing_what_is_clear_forgets_nothing(browser):
    browser.post(KEEP, WRITTEN)
    browser.post(CLEAR)
    browser.post(CLEAR)
    browser.post(BACK)
    assert prompt(text(browser.get(STUDIO))) == "A {bird} in reeds"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"prompt": "x" * 200_000},
        {"prompt": "NUL \0 and half \ud800"},
        {"family": "max", "count": "many", "seed": "-1", "references": ["x", "-1", "9" * 40]},
        {"value": ["v"] * 300, "variable": ["n"] * 300},
        {"admin": "yes", "cleared": "x", "csrfmiddlewaretoken": "t", "files": "f"},
    ],
)
def test_whatever_comes_is_kept_within_bounds_and_opens(browser, given):
    body = urlencode(given, doseq=True, errors="surrogatepass")
    assert browser.post(KEEP, body, content_type="application/x-www-form-urlencoded").status_code == 204
    values = Draft.objects.get().values
    assert len(str(values)) < 60_000
    assert {"admin", "cleared", "files"}.isdisjoint(values)
    assert browser.get(STUDIO).status_code == 200


def test_a_draft_of_an_older_release_is_no_obstacle(browser, cleo, north):
    Draft.objects.create(team=north, user=cleo, values={"prompt": 7, "references": None, "size": "huge"})
    assert browser.get(STUDIO).status_code == 200
    Draft.objects.update(values=["what"], changed=timezone.now())
    assert browser.get(STUDIO).status_code == 200


def test_a_viewer_has_none(client_for, eve, north, revid):
    for address in (KEEP, CLEAR, BACK):
        assert client_for(eve).post(address, {"prompt": "x"}).status_code == 403
    assert not Draft.objects.exists()


def test_a_member_who_became_a_viewer_sees_no_draft(browser, cleo, north):
    browser.post(KEEP, WRITTEN)
    Membership.objects.filter(user=cleo).update(role=Role.VIEWER)
    assert "reeds" not in text(browser.get(STUDIO))


def test_strangers_find_no_draft(client_for, zoe, north):
    for address in (KEEP, CLEAR, BACK):
        assert client_for(zoe).post(address, {"prompt": "x"}).status_code == 404
        assert client_for(None).post(address, {"prompt": "x"}).status_code == 302


@pytest.mark.parametrize("address", [KEEP, CLEAR, BACK])
def test_keeping_and_clearing_are_posts(browser, address):
    assert browser.get(address).status_code == 405
