"""My usage: what is used and left under which limit, where it went, picture by picture, and a limit of one's own."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web import ledger, requests
from flux2web.models import Budget, Membership, Tally

from . import factories
from .road import order

PAGE, LIMIT = "/t/north/usage/", "/t/north/usage/limit/"


@pytest.fixture
def capped(cleo, north, membership):
    """Cleo, who may use 500 a period and has used 190 of it: 140 spent, 50 held."""
    Membership.objects.filter(user=cleo).update(cap=500)
    factories.make_task(north, user=cleo, state="done", price=200, charged=140, prompt="An owl")
    factories.make_task(north, user=cleo, state="running", price=50, prompt="A heron")
    return membership(cleo, north)


@pytest.fixture
def show(client_for, cleo):
    def do(user=None, **query) -> str:
        answer = client_for(user or cleo).get(PAGE, query)
        assert answer.status_code == 200
        return answer.content.decode()

    return do


def stats(page: str) -> dict[str, str]:
    return dict(re.findall(r'<div class="stat"><span class="of">(.*?)</span><b>(.*?)</b>', page))


def lines(page: str) -> list[str]:
    rows = re.findall(r'<tr id="line-.*?</tr>', page, re.S)
    return [re.sub(r"<[^>]+>|\s+", " ", row) for row in rows]


def test_it_says_what_is_used_and_left_under_each_limit(show, capped):
    page = show()
    numbers = stats(page)
    assert {name: numbers[name] for name in list(numbers)[:4]} == {
        "Used this period": "190",
        "Held of it": "50",
        "Left of your limit": "310",
        "Left in the team": "810",
    }
    assert "310 left of 500" in page
    assert "810 left of 860" in page


def test_a_limit_that_is_passed_leaves_nothing_and_never_less(show, capped):
    Membership.objects.filter(pk=capped.pk).update(cap=100)
    page = show()
    assert stats(page)["Left of your limit"] == "0"
    assert "used up" in page


def test_each_line_leads_to_its_picture_and_tells_its_story(show, capped, north, cleo):
    factories.make_task(north, user=cleo, state="failed", price=24, prompt="A storm")
    page = show()
    told = lines(page)
    assert [re.search(r"An? \w+", line)[0] for line in told] == ["A storm", "A heron", "An owl"]
    assert "Not charged: 24 returned" in told[0]
    assert "Held 50" in told[1]
    assert "Held 200 · charged 140" in told[2]
    assert "60 returned" in told[2]
    assert len(re.findall(r'class="picked" href="/t/north/tasks/\d+/"', page)) == 3


def test_it_is_ones_own_and_nobody_elses(show, capped, north, dan):
    factories.make_task(north, user=dan, state="done", price=77, prompt="A secret of Dan")
    page = show()
    assert "A secret of Dan" not in page
    assert stats(page)["Used this period"] == "190"
    assert stats(show(dan))["Used this period"] == "77"


def test_it_shows_where_the_credits_went(show, capped, north, cleo):
    reference = factories.make_reference(north)
    account = factories.make_account("vtrix")
    factories.make_task(north, user=cleo, state="done", price=18, account=account, references=[reference])
    words = re.sub(r"<[^>]+>|\s+", " ", show())
    assert re.search(r"From text\s+1 picture\s+140", words)
    assert re.search(r"From images\s+1 picture\s+18", words)
    assert re.search(r"Vtrix\s+1 picture\s+18", words)


def test_the_time_can_be_chosen(show, capped):
    day = timezone.now().date() - timedelta(days=80)
    Tally.objects.update(day=day)
    assert "You spent nothing in this time" in show(since="30")
    assert "140" in re.search(r'id="chart-spent-by-day".*?</figure>', show(since="90"), re.S)[0]
    assert show(since="nonsense")


def test_extra_credits_are_told(show, capped, ben):
    given = {"limit": "cap", "reason": "", "draft": None, "price_seen": None, "sends_itself": False}
    requests.approve(requests.ask(capped, amount=30, key="k", **given), by=ben, amount=30, lasts=False, note="there")
    page = show()
    assert stats(page)["Left of your limit"] == "340"
    assert "Your limit has 30 credits on top" in page
    assert "Ben granted 30 credits." in page
    assert "“there”" in page


def test_a_draft_that_was_not_sent_can_be_opened(show, capped, ben, client_for, cleo):
    factories.any_account()
    given = {"limit": "cap", "reason": "", "draft": order(count=4, seed=7), "price_seen": 1, "sends_itself": True}
    row = requests.approve(requests.ask(capped, amount=30, key="k", **given), by=ben, amount=30, lasts=False, note="")
    assert requests.send_due(row.pk) is None
    assert f"/t/north/?draft={row.pk}" in show()
    studio = client_for(cleo).get(f"/t/north/?draft={row.pk}").content.decode()
    assert ">\nA quiet harbour at dawn" in studio
    assert re.search(r'name="count" value="4" checked', studio)
    assert re.search(r'name="seed"[^>]*value="7"', studio)
    assert "A quiet harbour" not in client_for(ben).get(f"/t/north/?draft={row.pk}").content.decode()


# --- A limit of one's own ---------------------------------------------------------------------------------------------


@pytest.fixture
def limit(client_for, cleo):
    def do(text: str, user=None):
        return client_for(user or cleo).post(LIMIT, {"own_limit": text}, follow=True)

    return do


def test_ones_own_limit_binds_from_now_on(limit, capped):
    assert "Your own limit is 200 credits a period." in limit("200").content.decode()
    assert (ledger.left(Membership.objects.get()).binding.name, Membership.objects.get().own_limit) == ("own", 200)
    limit("")
    assert Membership.objects.get().own_limit is None


def test_zero_is_none_at_all(limit, capped, show):
    limit("0")
    assert Membership.objects.get().own_limit == 0
    assert 'value="0"' in show()


def test_one_above_the_cap_is_allowed_and_said_to_do_nothing(limit, capped):
    assert "It has no effect: the team&#x27;s limit for you, 500 credits, is lower" in limit("600").content.decode()
    assert Membership.objects.get().own_limit == 600


@pytest.mark.parametrize("typed", ["-5", str(2**63), "1e9", "1,5", "NaN", "١٢٣٤٥٦٧٨", "two"])
def test_nonsense_is_refused_and_stays_in_the_field(limit, capped, typed):
    answer = limit(typed)
    assert answer.status_code == 422
    assert f'value="{typed}"' in answer.content.decode()
    assert Membership.objects.get().own_limit is None


# --- Who, and how much it asks ----------------------------------------------------------------------------------------


def test_everyone_has_their_own_page_and_strangers_have_none(client_for, cast, north, show, limit):
    for name in ("ana", "ben", "cleo", "dan"):
        assert "My own limit" in show(cast[name])
    assert "you make no pictures" in show(cast["eve"])
    assert limit("5", cast["eve"]).status_code == 403
    for name in ("zoe", "sam"):
        assert client_for(cast[name]).get(PAGE).status_code == 404
        assert limit("5", cast[name]).status_code == 404


def test_a_team_without_a_period_yet_has_a_page(show, north):
    assert stats(show())["Used this period"] == "0"
    assert Budget.objects.get(team=north).period is None


def test_lines_are_paged(show, north, cleo):
    for _ in range(31):
        factories.make_task(north, user=cleo, state="done")
    page = show()
    before = re.search(r'rel="next" href="\?since=period&amp;before=([^"#]+)', page)[1]
    assert len(lines(page)) == 30
    assert len(lines(show(before=before.replace("%2C", ",").replace("%3A", ":").replace("%2B", "+")))) == 1


def test_it_takes_as_many_queries_for_thirty_pictures_as_for_three(show, client_for, north, cleo):
    def queries_with(number: int) -> int:
        for _ in range(number):
            factories.make_task(north, user=cleo, state="done", references=[factories.make_reference(north)])
            factories.make_task(north, user=cleo, state="failed")
        show()
        with CaptureQueriesContext(connection) as seen:
            show()
        return len(seen)

    assert queries_with(2) == queries_with(13)
