"""The site admin looks after the providers: how they do, a pause and its end, the balance, the rule, and who rang."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from ..site import PERSON, Person, Site, running

pytestmark = pytest.mark.browser
REVID, APIKLEY, DESK = "/console/providers/revid/sandbox/", "/console/providers/apikley/", "/console/callbacks/"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    """Pretend providers beside a real account."""
    with running(tmp_path_factory.mktemp("site") / "var", SANDBOX="1") as site:
        site.set_up()
        yield site


@pytest.fixture(scope="module")
def made(site) -> str:
    """A picture by Revid, which rang: its task's number."""
    with ana(site) as person:
        answer = person.press("Lighthouse for the console, linocut", provider="revid")
        assert answer.status_code == 200, answer.text[:500]
    site.wait_at_rest()
    site.wait_until(lambda: site.rows("SELECT count(*) FROM flux2web_callback WHERE attempt_id IS NOT NULL")[0][0] > 0)
    return str(site.rows("SELECT max(id) FROM flux2web_task")[0][0])


@contextmanager
def ana(site: Site) -> Iterator[Person]:
    """Without a browser."""
    person = Person(site)
    person.post("/accounts/login/", {"login": PERSON["email"], "password": PERSON["password"]}, page="/accounts/login/")
    yield person
    person.http.close()


def assert_good(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(fits), f"{page.url} scrolls sideways"
    assert page.errors == []


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (768, "dark"), (360, "light"), (360, "dark")])
def test_the_pages_are_accessible_and_fit(sign_in, site, made, width, scheme):
    page = sign_in(width=width, color_scheme=scheme)
    desk = (f"{DESK}?provider=revid", f"{DESK}?verdict=unknown")
    for address in ("/console/providers/", REVID, APIKLEY, *desk, "/console/acts/?who=nobody-of-this-name"):
        page.goto(site.url + address)
        assert_good(page)
        expect(page.locator(".slides [aria-current]")).to_be_in_viewport(ratio=1)


def test_a_pause_turns_auto_to_another_and_its_end_turns_it_back(sign_in, site, made):
    page, studio = sign_in(), sign_in()
    page.goto(site.url + REVID)
    page.click("#pause button:has-text('Pause 5 min')")
    expect(page.locator("h1")).to_contain_text("Paused")
    expect(page.locator(".lede")).to_contain_text("Paused by Ana for 5 minutes.")
    assert_good(page)

    studio.reload()
    expect(studio.locator("#go")).to_contain_text("12 credits")  # Vtrix
    page.click("#pause button:has-text('Resume')")
    expect(page.locator("h1")).to_contain_text("On")
    expect(page.locator("#pause button:has-text('Resume')")).to_have_count(0)
    studio.reload()
    expect(studio.locator("#go")).to_contain_text("10 credits")


def test_the_page_shows_what_was_made_today(sign_in, site, made):
    page = sign_in()
    page.goto(site.url + REVID)
    creates = page.locator("#today .stat", has_text="Creates in 24 hours")
    expect(creates).to_have_text(re.compile(r"Creates in 24 hours\s*[1-9]\d*\s*[1-9]\d* accepted"))
    expect(page.locator("#today")).to_contain_text("nobody in line")
    chart = page.locator("#chart-how-long-pictures-took")
    expect(chart).to_contain_text(re.compile(r"[1-9]\d* pictures"))
    chart.locator("summary").click()
    expect(chart.locator("tbody tr").first).to_be_visible()


def save_apikley(page: Page, site: Site) -> None:
    """A real account that talks to a pretend provider."""
    page.goto(site.url + APIKLEY)
    page.fill("[name=key]", "sandbox")
    page.fill("[name=base_url]", f"{site.url}/sandbox/apikley")
    page.click("#provider button:has-text('Save')")


def test_the_balance_comes_without_leaving_the_page(sign_in, site):
    page = sign_in()
    save_apikley(page, site)
    expect(page.locator("#balance-there")).to_be_visible()
    page.evaluate("window.stayed = true")
    page.click("#balance-there button")
    expect(page.locator("#balance-there")).to_contain_text("credits left there.")
    assert page.evaluate("window.stayed")
    assert_good(page)

    page.fill("[name=base_url]", site.url)  # where a page answers, not an API
    page.click("#provider button:has-text('Save')")
    expect(page.locator("#notices")).to_contain_text("Apikley is saved.")
    page.click("#balance-there button")
    expect(page.locator("#balance-there")).to_contain_text("What is left there is not known; try again later.")
    assert_good(page)
    page.uncheck("[name=enabled]")
    page.click("#provider button:has-text('Save')")
    expect(page.locator("h1")).to_contain_text("Off")


def test_a_saved_key_is_tried_where_it_stands(sign_in, site):
    page = sign_in()
    save_apikley(page, site)
    expect(page.locator("#notices")).to_contain_text("Apikley is saved.")
    page.click("button:has-text('Try the saved key')")
    expect(page.locator("#notices")).to_contain_text("The key works. Balance there:")
    assert_good(page)


def test_the_desk_is_filtered_to_what_was_wrong_and_back(sign_in, site, made):
    httpx.post(f"{site.url}/hooks/revid/a-guess-at-a-secret/", content=b"{}", trust_env=False)
    page = sign_in()
    page.goto(site.url + DESK)
    everything = page.locator("#callbacks tbody tr")
    expect(everything.filter(has_text=made)).not_to_have_count(0)
    page.select_option("[name=verdict]", label="Unknown address")
    page.click("form.filters button")
    page.wait_for_url("**verdict=unknown**")
    expect(everything.filter(has_text="Unknown address")).to_have_count(everything.count())
    page.click("text=Show all")
    expect(everything.filter(has_text=made)).not_to_have_count(0)


def test_of_two_admins_with_the_rule_open_the_second_is_told(sign_in, site):
    first, second = sign_in(), sign_in()
    for page in (first, second):
        page.goto(f"{site.url}/console/providers/")
    first.fill("[name=premium_percent]", "25")
    first.click("#rule button")
    expect(first.locator("#notices")).to_contain_text("The rule is saved.")
    second.fill("[name=premium_percent]", "75")
    second.click("#rule button")
    expect(second.locator("#form-errors")).to_contain_text("premium 25 %")
    assert second.input_value("[name=premium_percent]") == "75"


def test_the_desk_shows_who_rang_and_what_came(sign_in, site, made):
    httpx.post(f"{site.url}/hooks/revid/nobody-knows-this/", content=b"<b>hello</b>", trust_env=False)
    page = sign_in()
    page.goto(site.url + DESK)
    stranger = page.locator("#callbacks tbody tr", has_text="Unknown address").first
    stranger.locator("summary").click()
    expect(stranger.locator("pre")).to_have_text("<b>hello</b>")
    verdict = site.rows("SELECT verdict FROM flux2web_callback WHERE attempt_id IS NOT NULL ORDER BY id")[0][0]
    page.select_option("[name=verdict]", verdict)  # matched, unless we had looked before it rang
    page.click("form.filters button")
    page.wait_for_url(f"**verdict={verdict}**")
    row = page.locator("#callbacks tbody tr", has_text=made).first
    expect(row).to_contain_text("Revid")
    row.locator("summary").click()
    expect(row.locator("pre")).to_be_visible()
    assert not re.search(r"hooks/revid/[\w-]{16}", page.content())
    assert_good(page)
    row.locator("a", has_text=made).first.click()
    page.wait_for_url(f"**/t/north/tasks/{made}/")
