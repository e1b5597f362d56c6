"""The price list: what is shown, what is saved, what is refused."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web import pricing
from flux2web.models import Act, Price, Tally

from . import factories
from .amounts import BAD_AMOUNTS


@pytest.fixture
def admin(client_for, sam):
    """Sam's browser."""
    return client_for(sam)


def text(answer) -> str:
    return answer.content.decode()


def error_at(answer, field: str) -> str:
    found = re.search(rf'id="{field}_error">(.*?)</', text(answer), re.S)
    return found.group(1) if found else ""


@pytest.fixture
def price_list(db) -> dict[str, str]:
    """The seeded prices, as the form holds them."""
    factories.make_prices()
    return form_of(Price.objects.all())


def form_of(prices) -> dict[str, str]:
    """What a browser would send of a page that shows these prices, untouched."""
    given = {}
    for row in prices:
        name = f"{row.provider}-{row.family}-{row.resolution}"
        given |= {
            f"{name}-seen": f"{row.pk}-",
            f"{name}-credits": str(row.credits),
            f"{name}-each": str(row.credits_per_reference or ""),
            f"{name}-usd": str(row.usd or ""),
        }
    return given


def price(slug: str = "revid", family: str = "pro", resolution: str = "1K") -> Price:
    """The one in force."""
    return Price.objects.in_force(timezone.now()).get(provider=slug, family=family, resolution=resolution)


def everything() -> list[dict]:
    return list(Price.objects.order_by("pk").values())


def row_of(answer, name: str) -> str:
    return re.search(rf'<tr id="price-{name}">.*?</tr>', text(answer), re.S).group()


# --- What is shown -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ana", "ben", "cleo", "eve", "zoe"])
def test_for_anyone_but_site_admins_there_is_no_price_list(client_for, cast, price_list, name):
    client = client_for(cast[name])
    before = everything()
    for address in ("/console/prices/", "/console/prices/simulate/"):
        assert client.post(address, price_list | {"revid-pro-1K-credits": "1"}).status_code in (404, 405)
        assert client.get(address).status_code in (404, 405)
    assert everything() == before


def test_published_and_assumed_prices_are_told_apart(admin, price_list):
    page = text(admin.get("/console/prices/"))
    assert page.count(">Published<") == 8
    assert page.count(">Assumed<") == 8


def test_a_mode_without_a_price_is_said_to_be_off_above_and_in_its_row(admin, price_list):
    Price.objects.filter(provider="revid", family="pro", resolution="2K").delete()
    answer = admin.get("/console/prices/")
    assert "No price: 1 picture cannot be sent." in text(answer)
    assert "Revid Pro 2K" in text(answer)
    assert "No price: this mode is off" in row_of(answer, "revid-pro-2K")
    assert "No price" not in row_of(answer, "revid-pro-1K")


def test_a_price_says_since_when_it_holds_and_what_held_before(admin, price_list):
    old = timezone.now() - timedelta(days=400)
    Price.objects.filter(provider="revid").update(valid_from=old)
    factories.make_priced_from(timezone.now() - timedelta(days=40), credits=11)
    row = row_of(admin.get("/console/prices/"), "revid-pro-1K")
    assert 'value="11"' in row
    assert f"since {timezone.now() - timedelta(days=40):%-d %b %Y}" in row
    assert "Earlier prices" in row
    assert f'10 credits <span class="quiet">from {old:%-d %B %Y, %H:%M} UTC' in row
    assert "Earlier prices" not in row_of(admin.get("/console/prices/"), "revid-pro-2K")


def test_a_longer_history_asks_no_more_queries(admin, price_list):
    with CaptureQueriesContext(connection) as few:
        admin.get("/console/prices/")
    for days in range(1, 30):
        factories.make_priced_from(timezone.now() - timedelta(days=days), credits=days)
    with CaptureQueriesContext(connection) as many:
        admin.get("/console/prices/")
    assert len(many) == len(few)


def test_what_an_account_can_do_since_an_option_changed_can_be_priced(admin):
    assert "apikley-pro-1K" not in text(admin.get("/console/prices/"))
    factories.make_account("apikley", prices=False, options={"pro": "on"})
    assert "apikley-pro-1K" in text(admin.get("/console/prices/"))


# --- What is saved -------------------------------------------------------------------------------------------------------


def test_saving_what_is_shown_changes_nothing(admin, price_list):
    before = everything()
    assert admin.post("/console/prices/", price_list).status_code == 302
    assert everything() == before
    assert not Act.objects.exists()


def test_a_browser_that_saves_the_page_as_it_is_changes_nothing(admin, price_list):
    Price.objects.filter(provider="revid").update(usd="0.025")
    before = everything()
    admin.post("/console/prices/", fields_of(admin.get("/console/prices/")))
    assert everything() == before


def fields_of(answer) -> dict[str, str]:
    """What a browser would send of this page: hidden and text fields, ticked boxes."""
    form = re.search(r'<form id="prices".*?</form>', text(answer), re.S).group()
    found = {}
    for tag in re.findall(r"<input[^>]*>", form):
        attrs = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if attrs.get("type") != "checkbox" or " checked" in tag:
            found[attrs["name"]] = attrs.get("value", "")
    return found


def test_a_changed_price_is_another_row_and_ours_from_then_on(admin, price_list):
    before = price()
    admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "1,200"})
    assert (price().credits, price().published) == (1200, False)
    assert price().confirmed_at is not None
    assert Price.objects.get(pk=before.pk).credits == 10
    assert price(resolution="2K").published


def test_what_was_changed_is_recorded_with_what_it_was(admin, sam, price_list):
    admin.post("/console/prices/", price_list | {"vtrix-pro-1K-each": "7", "revid-pro-1K-usd": "0.03"})
    told = {(act.verb, act.about): act for act in Act.objects.all()}
    act = told["changed the price of", "Vtrix Pro 1K"]
    assert (act.actor, act.team) == (sam, None)
    assert act.note == "12 credits and 7 an image. Was: 12 credits and 6 an image."
    assert told["changed the price of", "Revid Pro 1K"].note == "10 credits, about $0.03. Was: 10 credits."
    assert len(told) == 2


def test_an_assumed_price_is_confirmed_as_it_is(admin, price_list):
    admin.post("/console/prices/", price_list | {"apixo-pro-1K-confirmed": "on"})
    assert price("apixo").confirmed_at is not None
    assert price("apixo", resolution="2K").confirmed_at is None
    assert text(admin.get("/console/prices/")).count(">Confirmed<") == 1
    assert Act.objects.get().verb == "confirmed the price of"
    assert Price.objects.count() == 16


def test_the_part_for_references_is_changed(admin, price_list):
    admin.post("/console/prices/", price_list | {"vtrix-pro-1K-each": "7", "vtrix-pro-2K-each": ""})
    assert price("vtrix").credits_per_reference == 7
    assert price("vtrix", resolution="2K").credits_per_reference == 0


@pytest.mark.parametrize(("typed", "kept"), [("0.03", "0.03"), ("$0.1", "0.1"), ("0", "0"), ("", None), ("2", "2")])
def test_the_dollars_are_changed(admin, price_list, typed, kept):
    Price.objects.filter(provider="revid").update(usd="0.025")
    admin.post("/console/prices/", price_list | {"revid-pro-1K-usd": typed})
    assert price().usd == (Decimal(kept) if kept else None)


def test_a_picture_without_a_price_gets_one(admin):
    admin.post("/console/prices/", {"revid-pro-1K-credits": "12", "revid-pro-1K-seen": "-"})
    assert price().credits == 12
    assert Price.objects.count() == 1
    assert Act.objects.get().note == "12 credits. Was: none."


def test_the_same_list_posted_twice_is_one_change(admin, price_list):
    for _ in range(2):
        assert admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "12"}).status_code == 302
    assert Price.objects.filter(provider="revid", family="pro", resolution="1K").count() == 2
    assert Act.objects.count() == 1


# --- What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [*BAD_AMOUNTS, str(10**9 + 1)])
def test_a_price_that_cannot_be_read_changes_none_and_keeps_what_was_typed(admin, price_list, amount):
    before = everything()
    answer = admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": amount, "revid-pro-2K-credits": "77"})
    assert answer.status_code == 422
    assert error_at(answer, "id_revid-pro-1K-credits")
    assert 'value="77"' in text(answer)
    if amount.strip():
        assert f'value="{amount}"' in row_of(answer, "revid-pro-1K")
    assert everything() == before


@pytest.mark.parametrize("each", ["-1", "x", "1.5", "1,5", str(2**63), "1e9", "NaN", "١٢٣", "1_000", "9" * 5000])
def test_a_part_for_references_that_cannot_be_read_is_refused(admin, price_list, each):
    answer = admin.post("/console/prices/", price_list | {"vtrix-pro-1K-each": each})
    assert answer.status_code == 422
    assert error_at(answer, "id_vtrix-pro-1K-each")
    assert price("vtrix").credits_per_reference == 6


@pytest.mark.parametrize(
    "usd", ["-1", "x", "1,5", "NaN", "inf", "1e9", "0.00001", "100000", "١٢٣", "1_0", ".5", "$", str(2**63), "0x1"]
)
def test_dollars_that_cannot_be_read_are_refused(admin, price_list, usd):
    before = everything()
    answer = admin.post("/console/prices/", price_list | {"revid-pro-1K-usd": usd})
    if usd == "$":
        assert answer.status_code == 302  # nothing is written there
    else:
        assert answer.status_code == 422
        assert error_at(answer, "id_revid-pro-1K-usd")
        assert f'value="{usd}"' in row_of(answer, "revid-pro-1K")
    assert everything() == before


# --- Planned prices ------------------------------------------------------------------------------------------------------


def in_days(days: int) -> str:
    return f"{timezone.now() + timedelta(days=days):%Y-%m-%dT%H:%M}"


def planned() -> list[int]:
    return list(Price.objects.filter(valid_from__gt=timezone.now()).values_list("credits", flat=True))


def test_a_price_can_be_planned_and_holds_from_its_moment(admin, price_list):
    when = (timezone.now() + timedelta(days=3)).replace(second=0, microsecond=0)
    said = f"{when:%-d %B %Y, %H:%M} UTC"
    changed = price_list | {"revid-pro-1K-credits": "12", "valid_from": f"{when:%Y-%m-%d %H:%M}"}
    page = text(admin.post("/console/prices/", changed, follow=True))
    assert f"What changed holds for tasks sent from {said} on." in page
    assert f"<strong>12 credits</strong> from {said}" in row_of(admin.get("/console/prices/"), "revid-pro-1K")
    assert Act.objects.get().note == f"12 credits from {said}. Now: 10 credits."
    assert pricing.quote_all("pro", "1K", 0)["revid"].credits == 10
    with time_machine.travel(when, tick=False):
        assert pricing.quote_all("pro", "1K", 0)["revid"].credits == 12
        assert "Earlier prices" in row_of(admin.get("/console/prices/"), "revid-pro-1K")


def test_another_planned_price_takes_the_place_of_the_first(admin, price_list):
    admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "12", "valid_from": in_days(9)})
    shown = fields_of(admin.get("/console/prices/"))
    admin.post("/console/prices/", shown | {"revid-pro-1K-credits": "14", "valid_from": in_days(3)})
    assert planned() == [14]
    assert "Instead of 12 credits from" in Act.objects.latest("pk").note


def test_a_price_from_now_on_leaves_the_planned_one(admin, price_list):
    admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "12", "valid_from": in_days(9)})
    admin.post("/console/prices/", fields_of(admin.get("/console/prices/")) | {"revid-pro-1K-credits": "11"})
    assert price().credits == 11
    assert planned() == [12]


def test_a_planned_price_is_taken_back(admin, price_list):
    admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "12", "valid_from": in_days(9)})
    shown = fields_of(admin.get("/console/prices/"))
    for _ in range(2):  # posted twice: once
        assert admin.post("/console/prices/", shown | {"revid-pro-1K-withdrawn": "on"}).status_code == 302
    assert planned() == []
    assert price().credits == 10
    assert [act.verb for act in Act.objects.order_by("pk")] == ["planned a price of", "withdrew the planned price of"]


def test_a_planned_price_posted_twice_is_planned_once(admin, price_list):
    given = price_list | {"revid-pro-1K-credits": "12", "valid_from": in_days(9)}
    for _ in range(2):
        assert admin.post("/console/prices/", given).status_code == 302
    assert Act.objects.count() == 1


@pytest.mark.parametrize(
    "moment",
    [
        "2020-01-01T00:00",
        "2099-01-01T00:00",
        "2027-02-30T00:00",
        "2027-01-01T25:00",
        "tomorrow",
        "٢٠٢٧-٠١-٠١",
        "1e9",
        "-1",
        "2027-01-01T00:00+05:00",
        "9999-99-99",
        "x" * 5000,
    ],
)
def test_a_moment_that_is_past_or_none_is_refused_and_nothing_is_saved(admin, price_list, moment):
    before = everything()
    answer = admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "12", "valid_from": moment})
    assert answer.status_code == 422
    assert error_at(answer, "id_valid_from")
    assert f'value="{moment}"' in text(answer)
    assert 'value="12"' in row_of(answer, "revid-pro-1K")
    assert everything() == before


# --- Two admins at once --------------------------------------------------------------------------------------------------


@pytest.fixture
def ben_admin(client_for, db):
    """Another site admin's browser."""
    return client_for(factories.make_user(name="Ben", is_site_admin=True))


def test_a_price_that_somebody_changed_meanwhile_is_not_overwritten_unseen(admin, ben_admin, price_list):
    ben_admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "12"})
    mine = price_list | {"revid-pro-1K-credits": "14", "apixo-pro-1K-credits": "21"}
    answer = admin.post("/console/prices/", mine)
    assert answer.status_code == 409
    row = row_of(answer, "revid-pro-1K")
    assert "Ben changed this to 12 credits" in row
    assert "just now" in row
    assert 'value="14"' in row
    assert 'value="21"' in row_of(answer, "apixo-pro-1K")
    assert (price().credits, price("apixo").credits) == (12, 20)
    assert admin.post("/console/prices/", fields_of(answer)).status_code == 302  # seen now: theirs gives way
    assert (price().credits, price("apixo").credits) == (14, 21)


def test_what_somebody_else_changed_and_i_did_not_stays(admin, ben_admin, price_list):
    ben_admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "12"})
    assert admin.post("/console/prices/", price_list | {"apixo-pro-1K-credits": "21"}).status_code == 302
    assert (price().credits, price("apixo").credits) == (12, 21)


def test_a_slip_beside_somebodys_change_does_not_undo_it_later(admin, ben_admin, price_list):
    ben_admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "12"})
    answer = admin.post("/console/prices/", price_list | {"apixo-pro-1K-credits": "x"})
    assert answer.status_code == 422
    admin.post("/console/prices/", fields_of(answer) | {"apixo-pro-1K-credits": "21"})
    assert (price().credits, price("apixo").credits) == (12, 21)


def test_a_picture_that_somebody_priced_meanwhile_is_not_asked_for_again(admin, ben_admin, price_list):
    Price.objects.filter(provider="revid", family="pro", resolution="1K").delete()
    without = price_list | {"revid-pro-1K-credits": "", "revid-pro-1K-seen": "-"}
    ben_admin.post("/console/prices/", without | {"revid-pro-1K-credits": "12"})
    assert admin.post("/console/prices/", without | {"apixo-pro-1K-credits": "21"}).status_code == 302
    assert price().credits == 12


def test_a_planned_price_that_somebody_put_meanwhile_is_not_overwritten_unseen(admin, ben_admin, price_list):
    ben_admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "12", "valid_from": in_days(5)})
    answer = admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "14", "valid_from": in_days(9)})
    assert answer.status_code == 409
    assert "Ben" in row_of(answer, "revid-pro-1K")
    assert planned() == [12]


@pytest.mark.parametrize("seen", ["nonsense", str(2**63), "-1", "0", "١"])
def test_a_form_that_claims_to_have_seen_nonsense_saves_nothing(admin, price_list, seen):
    before = everything()
    given = price_list | {"revid-pro-1K-credits": "14", "revid-pro-1K-seen": seen}
    assert admin.post("/console/prices/", given).status_code in (409, 422)
    assert everything() == before


# --- What if -------------------------------------------------------------------------------------------------------------


def make_tally(team, user, *, days_ago: int = 1, **fields) -> Tally:
    values = {"provider": "revid", "family": "pro", "mode": "text-to-image", "resolution": "1K"} | fields
    return Tally.objects.create(team=team, user=user, day=timezone.now().date() - timedelta(days=days_ago), **values)


def simulated(answer, table: str) -> list[list[str]]:
    part = re.search(rf'<table class="table" id="simulated-{table}">.*?</table>', text(answer), re.S).group()
    rows = re.findall(r"<tr><td.*?</tr>", part, re.S)
    return [[re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.S)] for row in rows]


def test_last_month_is_added_up_at_the_prices_that_are_typed(admin, price_list, north, south, ana, zoe):
    make_tally(north, ana, done=10, failed=3, credits=100)
    make_tally(north, ana, days_ago=29, done=5, credits=50)
    make_tally(south, zoe, done=2, credits=20)
    make_tally(south, zoe, resolution="2K", done=4, credits=60)
    make_tally(north, ana, days_ago=30, done=1000, credits=10000)  # a day too old
    answer = admin.post("/console/prices/simulate/", price_list | {"revid-pro-1K-credits": "12"})
    assert answer.status_code == 200
    assert simulated(answer, "places") == [
        ["Revid Pro 1K", "17", "170", "204", "+34"],
        ["Revid Pro 2K", "4", "60", "60", "0"],
    ]
    assert simulated(answer, "teams") == [["North", "15", "150", "180", "+30"], ["South", "6", "80", "84", "+4"]]
    assert "21 pictures: 230 credits charged, 264 at the prices below (+34)" in re.sub(r"\s+", " ", text(answer))
    assert 'value="12"' in row_of(answer, "revid-pro-1K")
    assert price().credits == 10


def test_references_are_simulated_exactly(admin, price_list, north, ana):
    make_tally(north, ana, provider="apixo", done=3, references=11, credits=60)
    typed = {"apixo-pro-1K-credits": "15", "apixo-pro-1K-each": "2"}
    answer = admin.post("/console/prices/simulate/", price_list | typed)
    assert simulated(answer, "places") == [["Apixo Pro 1K", "3", "60", str(3 * 15 + 11 * 2), "+7"]]


def test_a_provider_that_reports_its_cost_is_never_simulated_dearer(admin, price_list, north, ana):
    make_tally(north, ana, provider="vtrix", done=2, credits=20)
    dearer = admin.post("/console/prices/simulate/", price_list | {"vtrix-pro-1K-credits": "100"})
    assert simulated(dearer, "places")[0][1:] == ["2", "20", "20", "0"]
    cheaper = admin.post("/console/prices/simulate/", price_list | {"vtrix-pro-1K-credits": "5"})
    assert simulated(cheaper, "places")[0][1:] == ["2", "20", "10", "−10"]


def test_what_has_no_price_is_simulated_as_it_was(admin, north, ana):
    make_tally(north, ana, provider="gone", done=2, credits=20)
    assert "no price to try" in text(admin.post("/console/prices/simulate/", {}))


def test_without_pictures_there_is_nothing_to_simulate_and_it_says_so(admin, price_list):
    assert "nothing to add up" in text(admin.post("/console/prices/simulate/", price_list))


def test_a_simulation_of_nonsense_is_refused_at_the_field(admin, price_list):
    answer = admin.post("/console/prices/simulate/", price_list | {"revid-pro-1K-credits": "1,5"})
    assert answer.status_code == 422
    assert error_at(answer, "id_revid-pro-1K-credits")


def test_simulating_is_a_post_and_asks_no_more_queries_of_more_teams(admin, price_list):
    assert admin.get("/console/prices/simulate/").status_code == 405

    def queries(teams: int) -> int:
        for _ in range(teams):
            team = factories.make_team()
            make_tally(team, factories.make_member(team).user, done=1, credits=10)
        with CaptureQueriesContext(connection) as asked:
            admin.post("/console/prices/simulate/", price_list)
        return len(asked)

    assert queries(3) == queries(30)
