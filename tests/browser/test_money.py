"""A month's money in one sitting: a cap, a member who hits it, a request, its answer, the picture, a refund, the books."""

from __future__ import annotations

import csv
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from ..site import PERSON
from .test_road import DONE_MS, compose

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
