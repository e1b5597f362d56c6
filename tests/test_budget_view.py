"""A team's credits: the sums, the ledger, and the chip on every page."""

from __future__ import annotations

import re

import pytest

from flux2web.models import Entry

from . import factories

PAGE = "/t/north/budget/"


def rows(page: str) -> list[str]:
    return [re.sub(r"<[^>]+>|\s+", " ", row) for row in re.findall(r'<tr id="entry-.*?</tr>', page, re.S)]


def test_the_page_says_what_is_available_held_spent_and_granted(client_for, ben, north):
    factories.make_task(north, state="done", price=40, charged=25)
    factories.make_task(north, state="running", price=15)
    page = client_for(ben).get(PAGE).content.decode()
    numbers = re.findall(r'<div class="stat">.*?<b>(.*?)</b>', page)
    assert numbers == ["960", "15", "25", "1,000"]


def test_the_ledger_names_who_what_how_much_and_why(client_for, ben, north):
    task = factories.make_task(north, user=ben, state="done", price=40, charged=25)
    page = client_for(ben).get(PAGE).content.decode()
    charged, held, granted = rows(page)
    assert "Charged" in charged
    assert "15 of the hold returned" in charged
    assert "Held" in held
    assert "−40" in held
    assert "Ben" in held
    assert "+1,000" in granted
    assert f'href="/t/north/tasks/{task.pk}/"' in page


def test_every_kind_of_entry_has_a_word(client_for, ben, north):
    factories.make_task(north, state="failed")
    factories.book(north, "revoke", 5, granted=-5)
    factories.book(north, "adjust", 5)
    task = factories.make_task(north, state="done")
    factories.book(north, "refund", 2, task=task, spent=-2)
    page = client_for(ben).get(PAGE).content.decode()
    for word in ("Granted", "Taken back", "Held", "Charged", "Returned", "Refunded", "Adjusted"):
        assert word in page


def test_older_entries_are_a_page_further_and_none_is_missing(client_for, ben, north):
    for number in range(119):
        factories.book(north, "grant", 1, reason=f"reason {number}", granted=1)
    client, seen, address = client_for(ben), [], PAGE
    while address:
        page = client.get(address).content.decode()
        seen += re.findall(r'id="entry-(\d+)"', page)
        older = re.search(r'rel="next" href="\?([^"]+)"', page)
        address = f"{PAGE}?{older.group(1)}" if older else ""
    assert seen == [str(pk) for pk in Entry.objects.order_by("-created", "-id").values_list("pk", flat=True)]


@pytest.mark.parametrize("cursor", ["x", ",", "2026-01-01T00:00:00Z,x", "1", "9" * 400, "\x00"])
def test_a_page_mark_that_cannot_be_read_is_the_first_page(client_for, ben, north, cursor):
    assert len(rows(client_for(ben).get(PAGE, {"before": cursor}).content.decode())) == 1


def test_a_team_without_credits_is_told_so(client_for, south):
    owner = factories.make_member(factories.make_team(name="Bare", credits=0), role="owner").user
    page = client_for(owner).get("/t/bare/budget/").content.decode()
    assert "No credits were granted yet" in page
    assert "No entry yet" in page


def test_the_text_of_others_is_not_markup(client_for, ben, north):
    factories.book(north, "grant", 1, reason="<b>free</b>", granted=1)
    assert "<b>free</b>" not in client_for(ben).get(PAGE).content.decode()


@pytest.mark.parametrize("name", ["cleo", "eve"])
def test_members_and_viewers_do_not_see_the_ledger(client_for, cast, name):
    answer = client_for(cast[name]).get(PAGE)
    assert answer.status_code == 403


def test_strangers_find_no_such_team(client_for, zoe, sam, north):
    for stranger in (zoe, sam):
        assert client_for(stranger).get(PAGE).status_code == 404
        assert client_for(stranger).get("/t/north/balance/").status_code == 404


def test_without_signing_in_one_is_led_to_sign_in(client, north):
    assert client.get(PAGE).headers["Location"].startswith("/accounts/login/")


def test_more_entries_ask_no_more_queries(client_for, ben, north, django_assert_max_num_queries):
    for _ in range(30):
        factories.make_task(north, state="done")
    client = client_for(ben)
    client.get(PAGE)
    with django_assert_max_num_queries(9):
        client.get(PAGE)


# --- The chip ------------------------------------------------------------------------------------------------------------


def test_the_chip_says_what_is_available_and_held(client_for, eve, north):
    factories.make_task(north, state="running", price=15)
    chip = client_for(eve).get("/t/north/balance/").content.decode()
    assert 'id="balance"' in chip
    assert 'data-available="985"' in chip
    assert 'data-held="15"' in chip
    assert "<meter" in chip


def test_the_chip_is_a_fragment_that_nobody_keeps(client_for, eve, north):
    answer = client_for(eve).get("/t/north/balance/")
    assert "<html" not in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]


def test_every_page_of_a_team_has_the_chip_once(client_for, ben, north):
    for page in (PAGE, "/t/north/members/"):
        assert client_for(ben).get(page).content.decode().count('id="balance"') == 1
