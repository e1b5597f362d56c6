"""A month's money in one sitting: a cap, a member who hits it, a request, its answer, the picture, a refund, the books."""

from __future__ import annotations

import csv
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from ..site import PERSON, Site
from .test_road import DONE_MS, compose, send

pytestmark = pytest.mark.browser


def assert_clear(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []


def test_a_cap_a_request_a_grant_a_picture_a_refund_and_the_books(sign_in, site, cleo, tmp_path):
    ana = sign_in()

    # The admin caps Cleo at 15 credits, in place.
    ana.goto(f"{site.url}/t/north/members/")
    row = ana.locator("tr", has_text="Cleo").first
    row.locator("summary", has_text="no cap").click()
    row.locator("[name=cap]").fill("15")
    row.locator("button", has_text="Save").click()
    expect(ana.locator("tr", has_text="Cleo").first).to_contain_text("15")

    # Four pictures do not fit. The form stays, and says which limit binds.
    cleo.reload()
    compose(cleo, "revid", "Heron in the reeds, screen print")
    cleo.locator("#compose label", has_text=re.compile("^4$")).click()
    expect(cleo.locator("#go")).to_contain_text("40 credits")
    cleo.click("#go")
    expect(cleo.locator("#short")).to_contain_text("this needs 40 credits, you have 15 left of 15")
    assert cleo.input_value("#prompt") == "Heron in the reeds, screen print"
    assert_clear(cleo)

    # She asks for the rest, on the spot, to be sent when granted.
    cleo.click("#asking summary")
    assert cleo.input_value("#ask-amount") == "25"
    cleo.fill("#ask-reason", "Four for the fair")
    cleo.click("#ask-go")
    expect(cleo.locator("#asked")).to_contain_text("25 credits")

    # Ana sees the request, and grants it until the period ends.
    ana.goto(f"{site.url}/t/north/requests/")
    request = ana.locator("article.request", has_text="Cleo")
    expect(request).to_contain_text("Four for the fair")
    expect(request).to_contain_text("Heron in the reeds")
    assert_clear(ana)
    request.locator("button", has_text="Approve").click()
    expect(ana.locator("main")).to_contain_text("granted 25 credits")

    # The draft sends itself: four pictures come, on Cleo's open page, and are charged.
    expect(cleo.locator("article.card[data-state=done]")).to_have_count(4, timeout=2 * DONE_MS)
    expect(cleo.locator("article.card").first).to_contain_text("Held 10 · charged 10")
    expect(cleo.locator("#balance")).to_contain_text("0")
    cleo.goto(f"{site.url}/t/north/usage/")
    expect(cleo.locator("main")).to_contain_text("Ana granted 25 credits")
    assert_clear(cleo)

    # One of them is refunded in part by the site admin, after a look at what it does.
    task_id = site.rows("SELECT max(id) FROM flux2web_task")[0][0]
    ana.goto(f"{site.url}/console/teams/north/")
    ana.locator("#grant label", has_text="Refund").click()
    ana.fill("#grant [name=amount]", "4")
    ana.fill("#grant [name=task]", str(task_id))
    ana.fill("#grant [name=reason]", "Blurred")
    ana.click("#grant button:has-text('Preview')")
    expect(ana.locator("#preview")).to_contain_text("960 → 964")
    ana.click("#grant button:has-text('Confirm')")
    expect(ana.locator("#notices")).to_contain_text("4 credits refunded")
    cleo.goto(f"{site.url}/t/north/tasks/{task_id}/")
    expect(cleo.locator("main")).to_contain_text("4 refunded")

    # The books, downloaded, add up to the same.
    ana.goto(f"{site.url}/t/north/budget/")
    with ana.expect_download() as download:
        ana.locator("form[action$='ledger.csv'] button, form[action*='csv'] button").first.click()
    download.value.save_as(tmp_path / "ledger.csv")
    assert added_up(tmp_path / "ledger.csv") == (1000, 0, 36)
    granted, held, spent = site.rows("SELECT granted, held, spent FROM flux2web_budget")[0]
    assert (granted, held, spent) == (1000, 0, 36)
    done = site.manage("check_ledger", "--storage")
    assert done.returncode == 0, done.stdout
    assert PERSON["email"] not in cleo.content()


def added_up(path) -> tuple[int, int, int]:
    """(granted, held, spent) of a downloaded ledger."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert not [cell for row in rows for cell in row.values() if cell[:1] in "=+-@" and cell]
    sums = ("granted", "held", "spent")
    return tuple(sum(int(row[f"{one}_in"] or 0) - int(row[f"{one}_out"] or 0) for row in rows) for one in sums)


# --- At the limit ------------------------------------------------------------------------------------------------------------

USED = """SELECT coalesce(sum(u.held + u.spent - u.refunded), 0), coalesce(sum(u.extra), 0) FROM flux2web_usage u
    JOIN flux2web_user p ON p.id = u.user_id WHERE p.email = 'cleo@example.com'"""
OF_CLEO = "user_id = (SELECT id FROM flux2web_user WHERE email = 'cleo@example.com')"


BOOK = """
from flux2web import ledger
from flux2web.models import Team, write
with write():
    ledger.{}(Team.objects.get(), {}, actor=None, reason="a play", key="{}")
"""


def leave(site: Site, left: int) -> int:
    """Cap Cleo so that she has this much left; what she has used."""
    [(used, extra)] = site.rows(USED)
    site.change(f"UPDATE flux2web_membership SET own_limit = NULL, cap = ? WHERE {OF_CLEO}", used + left - extra)
    return used


def choose(page: Page, **values: str) -> None:
    for name, value in values.items():
        page.locator(f"#compose label[data-{name}='{value}']").click()


def shell(site: Site, code: str) -> None:
    done = site.manage("shell", "-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("left", "asked", "count", "total", "offer", "sent"),
    [
        (15, {"family": "pro", "resolution": "2K"}, "4", 60, "Make 1 instead · 15 credits", ("pro", "2K", 15)),
        (12, {"family": "pro", "resolution": "2K"}, "1", 15, "In 1K instead · 10 credits", ("pro", "1K", 10)),
        (12, {"family": "flex", "resolution": "1K"}, "1", 25, "With Pro instead · 10 credits", ("pro", "1K", 10)),
    ],
)
def test_what_the_limit_does_cover_is_offered_and_sent_with_one_press(
    site, cleo, left, asked, count, total, offer, sent
):
    leave(site, left)
    cleo.goto(f"{site.url}/t/north/?count={count}&provider=revid")
    cleo.fill("#prompt", f"A ladder, {offer}")
    choose(cleo, **asked)
    expect(cleo.locator("#go")).to_contain_text(f"{total} credits")
    cleo.click("#go")
    expect(cleo.locator("#short")).to_contain_text(f"Not sent: this needs {total} credits, you have {left} left of")
    expect(cleo.locator("#short")).to_contain_text("Your limit renews on")
    assert cleo.input_value("#prompt") == f"A ladder, {offer}"
    cleo.get_by_role("button", name=offer).click()
    made = cleo.locator("article.card", has_text=f"A ladder, {offer}")
    expect(made).to_have_attribute("data-state", "done", timeout=DONE_MS)
    query = "SELECT family, resolution, charged_credits FROM flux2web_task WHERE prompt = ?"
    assert site.rows(query, f"A ladder, {offer}") == [sent]


def test_a_limit_of_ones_own_is_named_as_such_and_changed_where_it_stops_one(site, cleo):
    used = leave(site, 5_000)
    cleo.goto(f"{site.url}/t/north/usage/")
    cleo.fill("[name=own_limit]", str(used + 5))
    cleo.click("#own-limit button")
    cleo.goto(f"{site.url}/t/north/?count=1")
    compose(cleo, "revid", "A ladder against my own wall")
    cleo.click("#go")
    expect(cleo.locator("#short")).to_contain_text("you have 5 left of your own limit of")
    expect(cleo.locator("#asking")).to_have_count(0)  # nobody else has to grant that
    with cleo.context.expect_page() as opened:
        cleo.get_by_role("link", name="Change your own limit").click()
    opened.value.fill("[name=own_limit]", "")
    opened.value.click("#own-limit button")
    expect(opened.value.locator("#own-limit input[name=own_limit]")).to_have_value("")
    cleo.click("#go")
    made = cleo.locator("article.card", has_text="A ladder against my own wall")
    expect(made).to_have_attribute("data-state", "done", timeout=DONE_MS)


def test_when_the_team_has_nothing_left_that_is_said_and_who_can_give_more_is_named(site, cleo):
    leave(site, 500)
    [(left,)] = site.rows("SELECT granted - held - spent FROM flux2web_budget")
    shell(site, BOOK.format("revoke", left, "away"))
    cleo.goto(f"{site.url}/t/north/?count=1")
    compose(cleo, "revid", "A ladder for nobody")
    cleo.click("#go")
    short = cleo.locator("#short")
    expect(short).to_contain_text("Not sent: this needs 10 credits, and the team has 0 credits left.")
    expect(short).to_contain_text("Your limit has 500 left.")
    cleo.click("#asking summary")
    expect(cleo.locator("#ask-go")).to_have_text("Ask Ana")
    expect(cleo.locator(".ways button")).to_have_count(0)
    expect(cleo.locator("article.card", has_text="A ladder for nobody")).to_have_count(0)
    shell(site, BOOK.format("grant", left, "back"))
    cleo.click("#go")
    made = cleo.locator("article.card", has_text="A ladder for nobody")
    expect(made).to_have_attribute("data-state", "done", timeout=DONE_MS)


def test_at_80_and_at_95_percent_a_slim_banner_says_so_once_and_the_header_says_what_is_left(site, cleo):
    sweep = "from flux2web import alerts; from django.utils import timezone; alerts.sweep(timezone.now())"
    banner = cleo.locator("#strip .notice", has_text="You have used")
    leave(site, 5_000)
    site.change("DELETE FROM flux2web_notice WHERE key LIKE 'used:%'")  # of what other tests used up
    site.change("UPDATE flux2web_usage SET warned_percent = 0")
    cleo.goto(f"{site.url}/t/north/?count=1")
    compose(cleo, "revid", "A rung of a ladder")
    send(cleo)
    [(used, _)] = site.rows(USED)
    for percent in (85, 96):
        cap = used * 100 // percent
        leave(site, cap - used)
        shell(site, sweep)
        cleo.goto(f"{site.url}/t/north/")
        expect(banner).to_have_count(1)
        expect(banner).to_contain_text(f"You have used {used} of {cap} credits this period: {used * 100 // cap}\xa0%.")
        expect(cleo.locator("#balance")).to_contain_text(re.compile(rf"{cap - used}\s+of your\s+{cap}"))
        assert cleo.locator("#balance meter").get_attribute("value") == str(cap - used)
    assert_clear(cleo)
    banner.get_by_role("button").click()
    expect(banner).to_have_count(0)
    shell(site, sweep)
    cleo.reload()
    expect(banner).to_have_count(0)
    cleo.locator("#balance a").click()
    cleo.wait_for_url("**/t/north/usage/")
    leave(site, 5_000)


@pytest.fixture
def only(sign_in, site):
    """only("Pro 1K"): the owner leaves these kinds open on the budget page; afterwards all are."""
    owner = sign_in()
    kinds = ["Pro 1K", "Pro 2K", "Flex 1K", "Flex 2K"]

    def leave_open(*wanted: str) -> None:
        owner.goto(f"{site.url}/t/north/budget/")
        for kind in kinds:
            owner.locator("#kinds").get_by_label(kind).set_checked(kind in wanted)
        assert_clear(owner)
        owner.click("#kinds button")
        expect(owner.locator("#notices")).to_contain_text("North makes")

    yield leave_open
    leave_open(*kinds)


def test_a_kind_that_is_closed_while_one_composes_is_said_and_another_goes_with_one_press(site, cleo, only):
    leave(site, 500)
    cleo.goto(f"{site.url}/t/north/?count=1&provider=revid")
    cleo.fill("#prompt", "A ladder that is closed")
    choose(cleo, family="flex", resolution="1K")
    expect(cleo.locator("#go")).to_contain_text("25 credits")
    only("Pro 1K", "Pro 2K")
    expect(cleo.locator("#quote")).to_contain_text("North does not make Flex 1K")  # her open form says so by itself
    cleo.click("#go")
    said = "North does not make Flex 1K: its admins have left open Pro 1K and Pro 2K."
    expect(cleo.locator("#short")).to_have_text(said)
    expect(cleo.locator("#short")).to_be_focused()
    expect(cleo.locator("#prompt")).to_have_value("A ladder that is closed")
    assert_clear(cleo)
    cleo.get_by_role("button", name="Pro 2K instead · 15 credits").click()
    made = cleo.locator("article.card", has_text="A ladder that is closed")
    expect(made).to_have_attribute("data-state", "done", timeout=DONE_MS)
    query = "SELECT family, resolution, charged_credits FROM flux2web_task WHERE prompt = ?"
    assert site.rows(query, "A ladder that is closed") == [("pro", "2K", 15)]

    # A form that opens from now on has no Flex in it.
    cleo.goto(f"{site.url}/t/north/?family=pro")
    expect(cleo.locator("#field-family label")).to_have_text(["Pro"])
    choose(cleo, resolution="2K")
    expect(cleo.locator("#go")).to_contain_text("15 credits")
    assert [said for said in cleo.errors if "422" not in said] == []
