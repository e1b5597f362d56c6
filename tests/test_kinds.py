"""Which kinds of picture a team makes: what its admins close is neither offered nor made, whoever asks and however."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

import pytest

from flux2web import lifecycle
from flux2web.models import Act, Batch, Budget, CreditRequest, Membership, Task
from flux2web.orders import Refusal

from . import factories
from .test_studio_view import CREATE, GOOD, QUOTE, STUDIO, revid, send, text, value

__all__ = ["revid", "send"]
KINDS, COSTS = "/t/north/budget/kinds/", "/t/north/costs/"
ALL = ["pro-1K", "pro-2K", "flex-1K", "flex-2K"]
FLEX = {"family": "flex", "price": "25"}
NOT_FLEX = "North does not make Flex 1K: its admins have left open Pro 1K and Pro 2K."


@pytest.fixture
def makes(north):
    """makes("pro-1K") and nothing else."""

    def put(*kinds: str) -> None:
        Budget.objects.filter(team=north).update(kinds=" ".join(kinds))

    return put


def ways(page: str) -> dict[str, dict[str, list[str]]]:
    """What else is offered at the button, by its label, with what the form becomes."""
    found = re.findall(r'name="instead" value="([^"]*)">([^<]*)<', page)
    return {label: parse_qs(change.replace("&amp;", "&")) for change, label in found}


def choices(page: str, name: str) -> list[str]:
    return re.findall(rf'type="(?:radio|checkbox)" name="{name}" value="([^"]*)"', page)


# --- What an admin sets ------------------------------------------------------------------------------------------------


def test_a_new_team_makes_every_kind(client_for, ben, north):
    page = text(client_for(ben).get("/t/north/budget/"))
    assert re.findall(r'name="kinds" value="([^"]*)" checked', page) == ALL
    assert Budget.objects.get(team=north).kinds == ""


@pytest.mark.parametrize(
    ("ticked", "column", "said"),
    [
        (["pro-1K"], "pro-1K", "North makes Pro 1K."),
        (["flex-1K", "pro-1K", "pro-1K", "pro-1K"], "pro-1K flex-1K", "North makes Pro 1K, Flex 1K."),
        (ALL, "", "North makes every kind."),
    ],
)
def test_an_admin_says_which_kinds_are_made(client_for, ben, north, makes, ticked, column, said):
    makes("pro-2K")
    answer = client_for(ben).post(KINDS, {"kinds": ticked, "was": "pro-2K"}, follow=True)
    assert said in text(answer)
    assert Budget.objects.get(team=north).kinds == column
    assert Act.objects.get().note.endswith("Was: Pro 2K")


def test_a_team_that_makes_nothing_is_refused(client_for, ben, north, makes):
    makes("pro-2K")
    answer = client_for(ben).post(KINDS, {"was": "pro-2K"})
    assert answer.status_code == 422
    assert "Leave at least one: else nobody could make a picture." in text(answer)
    assert Budget.objects.get(team=north).kinds == "pro-2K"


def test_of_two_admins_the_second_sees_what_the_first_said(client_for, ana, ben, north):
    client_for(ana).post(KINDS, {"kinds": "pro-1K", "was": ""})
    answer = client_for(ben).post(KINDS, {"kinds": ["pro-1K", "pro-2K"], "was": ""})
    assert answer.status_code == 422
    assert "Meanwhile somebody set it: Pro 1K. Save again to set yours." in text(answer)
    assert 'name="was" value="pro-1K"' in text(answer)
    client_for(ben).post(KINDS, {"kinds": ["pro-1K", "pro-2K"], "was": "pro-1K"})
    assert Budget.objects.get(team=north).kinds == "pro-1K pro-2K"


# --- What is offered ---------------------------------------------------------------------------------------------------


def test_the_form_offers_what_is_made_and_begins_with_it(client_for, cleo, revid, makes):
    makes("flex-1K")
    page = text(client_for(cleo).get(STUDIO))
    assert choices(page, "family") == ["flex"]
    assert choices(page, "resolution") == ["1K"]
    assert re.search(r'id="field-also_family" hidden', page)
    assert value(page, "price") == "25"


def test_what_was_chosen_before_it_was_closed_stays_in_the_form_and_is_said(client_for, cleo, revid, makes):
    makes("pro-1K", "pro-2K")
    page = text(client_for(cleo).get(f"{STUDIO}?family=flex"))
    assert re.search(r'name="family" value="flex" checked', page)
    assert NOT_FLEX in page


def test_the_price_line_says_it_and_offers_the_same_as_what_is_made(client_for, cleo, revid, makes):
    makes("pro-1K", "pro-2K")
    given = {"family": "flex", "resolution": "1K", "count": "4", "also_family": "pro"}
    page = text(client_for(cleo).get(QUOTE, given))
    assert NOT_FLEX in page
    assert list(ways(page)) == ["Pro 1K instead · 40 credits", "Pro 2K instead · 60 credits"]
    assert value(page, "price") == ""


def test_a_viewer_is_offered_nothing(client_for, eve, revid, makes):
    makes("pro-1K")
    page = text(client_for(eve).get(QUOTE, {"family": "flex"}))
    assert not ways(page)


def test_a_provider_that_cannot_make_it_instead_is_not_asked_to(client_for, cleo, revid, makes):
    factories.make_account("apikley")
    makes("pro-1K", "flex-1K")
    page = text(client_for(cleo).get(QUOTE, {"family": "flex", "resolution": "2K", "provider": "apikley"}))
    assert list(ways(page)) == ["Flex 1K instead · 28 credits"]


def test_the_price_list_says_what_is_not_made_here(client_for, cleo, revid, makes):
    makes("pro-1K")
    page = re.sub(r"<[^>]*>", " ", text(client_for(cleo).get(COSTS)))
    assert page.count("not made in North") == 3


# --- What is made ------------------------------------------------------------------------------------------------------


def test_what_is_closed_is_refused_at_the_button_and_nothing_is_held(send, client_for, cleo, north, makes):
    makes("pro-1K", "pro-2K")
    answer = send(**FLEX)
    page = text(answer)
    assert answer.status_code == 422
    assert re.search(r'id="short"[^>]*>.*?' + re.escape(NOT_FLEX), page, re.S)
    assert page.count(NOT_FLEX) == 1
    assert "data-problems" not in page.split('id="compose-problems"')[0]
    assert list(ways(page)) == ["Pro 1K instead · 10 credits", "Pro 2K instead · 15 credits"]
    assert not Batch.objects.exists()
    assert Budget.objects.get(team=north).held == 0
    assert GOOD["prompt"] in text(client_for(cleo).get(STUDIO))


def test_the_button_that_is_offered_sends_the_other_kind_at_its_price(send, makes):
    makes("pro-1K", "pro-2K")
    page = text(send(**FLEX, also_family="flex"))
    change = re.search(r'name="instead" value="([^"]*)">Pro 2K', page)[1].replace("&amp;", "&")
    assert send(**FLEX, also_family="flex", instead=change, key=value(page, "key")).status_code == 200
    task = Task.objects.get()
    assert (task.family, task.resolution, task.price_credits) == ("pro", "2K", 15)


def test_a_price_that_rose_since_it_was_offered_is_not_paid(send, makes):
    makes("pro-1K")
    page = text(send(**FLEX))
    change = re.search(r'name="instead" value="([^"]*)"', page)[1].replace("&amp;", "&")
    factories.make_price("revid", credits=12)
    answer = send(**FLEX, instead=change, key="press-2")
    assert "The price has changed from 10 to 12 credits" in text(answer)
    assert not Task.objects.exists()


def test_one_closed_kind_among_variations_stops_them_all(send, makes):
    makes("pro-1K", "pro-2K")
    assert send(also_family="flex", price="").status_code == 422
    assert not Task.objects.exists()


@pytest.mark.parametrize("again", [lifecycle.retry, lifecycle.more])
def test_what_was_made_before_it_was_closed_is_not_made_again(north, cleo, membership, revid, makes, again):
    member = membership(cleo, north)
    task = factories.make_task(north, user=cleo, state="done", family="flex")
    makes("pro-1K", "pro-2K")
    outcome = again(member, task, price_seen=None)
    assert isinstance(outcome, Refusal)
    assert outcome.message == NOT_FLEX


def test_the_pictures_page_says_why_it_is_not_run_again(client_for, cleo, north, membership, revid, makes):
    task = factories.make_task(north, user=cleo, state="done", family="flex")
    client = client_for(membership(cleo, north).user)
    assert "Run again · 25 credits" in text(client.get(f"/t/north/tasks/{task.pk}/"))
    makes("pro-1K", "pro-2K")
    page = text(client.get(f"/t/north/tasks/{task.pk}/"))
    assert page.count(f'disabled title="{NOT_FLEX}"') == 2


def test_nobody_asks_for_credits_for_what_is_not_made(client_for, cleo, north, membership, revid, makes):
    Membership.objects.filter(user=membership(cleo, north).user).update(cap=5)
    makes("pro-1K", "pro-2K")
    wish = {"amount": "20", "reason": "more", "sends_itself": "on", "short": "20"}
    answer = client_for(cleo).post("/t/north/ask/", GOOD | FLEX | wish, headers={"HX-Request": "true"})
    assert answer.status_code == 422
    assert NOT_FLEX in text(answer)
    assert not CreditRequest.objects.exists()


def test_a_tick_of_what_was_closed_meanwhile_is_there_to_be_taken_off(client_for, cleo, revid, makes):
    makes("pro-1K", "pro-2K")
    page = text(client_for(cleo).get(f"{STUDIO}?family=pro&also_family=flex"))
    assert re.search(r'name="also_family" value="flex" checked', page)
    assert NOT_FLEX in page


def test_it_binds_admins_as_well(send, ben, makes):
    makes("pro-1K", "pro-2K")
    assert send(ben, **FLEX).status_code == 422


@pytest.mark.parametrize(
    "instead", ["family=", "resolution=9K", "user=1", "family=pro&team=2", "&&&=", "%00=1", "x" * 5000]
)
def test_nonsense_in_place_of_an_offer_sends_nothing_that_is_closed(send, makes, instead):
    makes("pro-2K")
    assert send(**FLEX, instead=instead).status_code == 422
    assert not Task.objects.exists()


def test_another_team_is_not_concerned(client_for, zoe, south, revid, makes, membership):
    makes("pro-1K")
    page = text(client_for(zoe).get(QUOTE.replace("north", "south"), {"family": "flex", "resolution": "1K"}))
    assert "does not make" not in page


def test_the_address_keeps_to_posts_of_admins(client_for, cleo, north):
    assert client_for(cleo).post(KINDS, {"kinds": "pro-1K"}).status_code == 403
    assert client_for(cleo).get(CREATE).status_code == 405
