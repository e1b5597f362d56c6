"""The pages about people, credits and the console: for everyone's eyes and ears, on every width, in both themes."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

pytestmark = pytest.mark.browser
PAGES = [
    "/t/north/members/",
    "/t/north/budget/",
    "/console/",
    "/console/teams/north/",
    "/console/requests/",
    "/console/spend/?period=30",
    "/console/acts/",
    "/console/providers/",
    "/console/providers/vtrix/",
    "/console/prices/",
    "/accounts/password/change/",
    "/accounts/2fa/",
    "/accounts/logout/",
]
DOORS = ["/accounts/login/", "/accounts/password/reset/", "/accounts/password/reset/done/", "/accounts/signup/"]


def assert_good(page: Page, address: str) -> None:
    page.goto(address)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), (
        "scrolls sideways"
    )
    assert page.errors == []


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (768, "dark"), (360, "light"), (360, "dark")])
def test_pages_are_accessible_and_fit(sign_in, site, width, scheme):
    page = sign_in(width=width, color_scheme=scheme)
    for address in PAGES:
        assert_good(page, site.url + address)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_before_sign_in_are_accessible_and_fit(sign_in, site, scheme):
    page = sign_in(width=360, color_scheme=scheme)
    page.goto("about:blank")  # the studio's stream is not to be cut off under its feet
    page.context.clear_cookies()
    page.errors.clear()
    for address in DOORS:
        assert_good(page, site.url + address)


def test_an_invitation_is_made_opened_and_accepted(sign_in, site, chromium):
    page = sign_in()
    page.goto(f"{site.url}/t/north/members/")
    page.click("#invite button")
    link = page.input_value("#link")
    other = chromium.new_context().new_page()
    other.goto(link)
    other.fill("[name=name]", "Finn")
    other.fill("[name=email]", "finn@example.com")
    other.fill("[name=password]", "a long enough password")
    other.click("main form button")
    other.wait_for_url("**/t/north/")
    other.context.close()
    page.goto(f"{site.url}/t/north/members/")
    page.click("[aria-label='Remove Finn']")
    page.click("[popover]:popover-open button:has-text('Remove')")
    page.wait_for_load_state()
    assert "Finn is no longer in" in page.inner_text("#notices")
