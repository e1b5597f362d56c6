"""The history in a real browser: found by words, come back to, looked at in one's own way, driven by keys."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from ..site import Site, running
from .conftest import signed_in, until

pytestmark = pytest.mark.browser
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PASSWORD = "pw-demo-12345"
HISTORY = "/t/demo/history/"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    """A team with a past of some two hundred pictures."""
    var = tmp_path_factory.mktemp("history") / "var"
    made = Site(var).manage("demo", "--password", PASSWORD)
    assert made.returncode == 0, made.stderr
    with running(var) as site:
        yield site


@pytest.fixture
def look(chromium, site):
    """look("ana", 360, has_touch=True) is a fresh browser in which she is at the history."""
    contexts = []

    def make(name: str = "ana", width: int = 1440, height: int = 900, **options) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = signed_in(context, site, f"{name}@example.com", PASSWORD, "demo")
        page.goto(site.url + HISTORY)
        return page

    yield make
    for context in contexts:
        assert [error for page in context.pages for error in getattr(page, "errors", [])] == []
        context.close()


def top_of(page: Page, tile: str) -> float:
    return page.evaluate(f"document.getElementById('{tile}').getBoundingClientRect().top")


def query(page: Page) -> str:
    return page.evaluate("location.search")


def deep(page: Page, pictures: int = 100) -> str:
    """Scroll down until so many are there and no more are on their way; the id of the one in the middle of the window."""
    count = "document.querySelectorAll('.tile').length"
    while (there := page.locator(".tile").count()) < pictures:
        page.evaluate("document.querySelector('#found .pager').scrollIntoView()")
        until(page, f"{count} > {there}")
    page.evaluate("scrollTo(0, document.body.scrollHeight * .6)")
    until(page, "!document.querySelector('#found .htmx-request')")
    return page.evaluate(
        """() => {
            const middle = (box) => (box.top + box.bottom - innerHeight) / 2;
            const far = (tile) => Math.abs(middle(tile.getBoundingClientRect()));
            return [...document.querySelectorAll('.tile')].reduce((best, tile) => (far(tile) < far(best) ? tile : best)).id;
        }"""
    )


# --- Finding ---------------------------------------------------------------------------------------------------------------


def test_typing_narrows_the_pictures_and_the_address_bar_holds_it(look):
    page = look()
    page.locator("#q").press_sequentially("moun", delay=40)
    expect(page).to_have_url(re.compile(r"\?q=moun$"))
    expect(page.locator("#found .set")).to_contain_text("“moun”")
    expect(page.locator("#q")).to_be_focused()
    some = page.locator(".tile").count()
    page.reload()
    assert page.locator(".tile").count() == some
    expect(page.locator("#q")).to_have_value("moun")
    page.get_by_label("“moun”: remove this filter").click()
    expect(page.locator(".set")).to_have_count(0)
    until(page, f"document.querySelectorAll('.tile').length > {some}")


def test_one_step_back_leads_to_before_the_typing(look):
    page = look()
    for text in ("m", "mo", "moun"):
        page.fill("#q", text)
        expect(page).to_have_url(re.compile(rf"\?q={text}$"))
    page.go_back()
    expect(page).to_have_url(re.compile(r"/history/$"))
    expect(page.locator(".set")).to_have_count(0)
    expect(page.locator("#q")).to_have_value("")


def test_filters_open_count_and_narrow_and_can_all_be_cleared(look):
    page = look()
    page.locator("#filters summary").click()
    flex = page.locator("#facet-family label", has_text="Flex")
    expect(flex.locator(".num")).to_have_text(re.compile(r"^\d+$"))
    flex.click()
    expect(page).to_have_url(re.compile("family=flex"))
    page.select_option("#filter-person", index=1)
    expect(page).to_have_url(re.compile("person="))
    expect(page.locator(".set .chip")).to_have_count(2)
    expect(page.locator("#set-count")).to_have_text("2")
    page.keyboard.press("Escape")
    page.fill("#q", "nosuchword")
    expect(page.locator(".empty h2")).to_contain_text("Nothing matches “nosuchword” by ")
    expect(page.locator("#told")).to_contain_text("Nothing matches")
    page.locator(".empty a", has_text="Clear filters").click()
    expect(page).to_have_url(re.compile(r"/history/\??$"))


def test_a_search_is_saved_and_found_again(look):
    page = look()
    page.fill("#q", "night")
    expect(page).to_have_url(re.compile("q=night"))
    page.locator("#filters summary").click()
    page.fill("#save-search-name", "Nights")
    page.get_by_role("button", name="Save this search").click()
    expect(page.locator("#notices")).to_contain_text("Saved as “Nights”")
    page.goto(page.url.split("?")[0])
    page.locator("#filters summary").click()
    page.locator(".saved a", has_text="Nights").click()
    expect(page).to_have_url(re.compile(r"\?q=night$"))


def test_among_the_favourites_an_unloved_picture_stays_for_a_while_with_a_way_back(look, site):
    page = look("dan")
    for number in (0, 1):
        heart = page.locator(".tile").nth(number).locator(".heart")
        if heart.get_attribute("aria-pressed") != "true":
            heart.click()
            expect(page.locator("#told")).to_have_text("Favourite")
            page.evaluate("document.getElementById('told').textContent = ''")
    page.goto(f"{site.url}{HISTORY}?tab=favourites")
    tile = page.locator(f"#{page.locator('.tile').first.get_attribute('id')}")
    tile.locator(".heart").click()
    expect(tile).to_have_attribute("data-ghost", "")
    tile.get_by_role("button", name="Undo").click()
    expect(tile).not_to_have_attribute("data-ghost", "")
    expect(tile.locator(".heart")).to_have_attribute("aria-pressed", "true")
    tile.locator(".heart").click()
    expect(tile.get_by_role("button", name="Undo")).to_be_visible()
    expect(tile).to_have_count(0, timeout=15_000)
    page.reload()
    expect(page.locator(".tile").first).to_be_visible()
    expect(tile).to_have_count(0)


def test_a_number_opens_its_picture_on_enter(look):
    page = look()
    number = page.locator(".tile").nth(3).get_attribute("data-task")
    page.fill("#q", number)
    expect(page.locator(".whole")).to_contain_text(f"Picture {number}")
    page.press("#q", "Enter")
    page.wait_for_url(f"**/tasks/{number}/")


def test_a_day_is_jumped_to(look):
    page = look()
    day = page.locator("section.day").nth(2).get_attribute("data-day")
    page.fill("#on", day)
    page.wait_for_url("**cursor=**")
    expect(page.locator("section.day").first).to_have_attribute("data-day", day)
    page.locator(".crumb", has_text="Newest").click()
    expect(page).to_have_url(re.compile(r"/history/\??$"))


# --- The grid --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1440, 360])
def test_whoever_comes_back_from_a_picture_is_where_they_were(look, width):
    page = look("ana", width, has_touch=width < 500)
    tile = deep(page)
    before = top_of(page, tile)
    page.evaluate(f"location.href = document.querySelector('#{tile} > a').href")  # its own page, not the overlay
    page.wait_for_url("**/tasks/*/")
    page.go_back()
    until(
        page, f"Math.abs((document.getElementById('{tile}')?.getBoundingClientRect().top ?? Infinity) - {before}) < 8"
    )
    expect(page.locator(f"#{tile}")).to_be_in_viewport()


def test_a_day_that_goes_on_has_one_heading_and_full_rows(look):
    """However many pictures come at a time, no row between the first and the last of a day is left half empty."""
    page = look()
    deep(page)
    days = page.evaluate("[...document.querySelectorAll('#found .day')].map((day) => day.dataset.day)")
    assert len(days) == len(set(days))
    assert page.locator("#found .day h2").count() == len(days)
    gaps = page.evaluate(
        """() => [...document.querySelectorAll('#found .rows')].flatMap((rows) => {
            const boxes = [...rows.children].map((tile) => tile.getBoundingClientRect());
            const ends = boxes.filter((box, n) => boxes[n + 1] && boxes[n + 1].top > box.top + 4);
            return ends.map((box) => rows.getBoundingClientRect().right - box.right);
        })"""
    )
    assert max(gaps, default=0) < 60


def test_rows_or_squares_and_how_large_are_remembered(look, site):
    page = look()
    page.get_by_label("Squares").click()
    page.get_by_label("Large").click()
    one = page.locator(".tile").first.bounding_box()
    assert abs(one["width"] - one["height"]) < 2
    expect(page.get_by_label("Squares")).to_have_attribute("aria-pressed", "true")
    for _ in range(2):
        page.goto(site.url + HISTORY)
        expect(page.locator("#found")).to_have_attribute("data-shape", "squares")
        expect(page.locator("#found")).to_have_attribute("data-size", "l")
        page.context.clear_cookies(name="grid")  # the wish outlives the cookie
    page.fill("#q", "night")
    expect(page.locator(".set")).to_be_visible()
    expect(page.locator("#found")).to_have_attribute("data-shape", "squares")


def test_the_grid_is_one_stop_and_keys_do_the_rest(look):
    page = look()
    first, second = page.locator(".tile").nth(0), page.locator(".tile").nth(1)
    assert page.locator(".tile a:not([tabindex='-1'])").count() == 1
    first.locator("> a").first.focus()
    page.keyboard.press("ArrowRight")
    expect(second.locator("> a").first).to_be_focused()
    liked = second.get_attribute("data-liked")
    page.keyboard.press("l")
    expect(second.locator(".heart")).to_have_attribute("aria-pressed", "false" if liked is not None else "true")
    page.keyboard.press("Space")
    expect(second.locator(".pick")).to_be_checked()
    page.keyboard.press("Space")
    expect(second.locator(".pick")).not_to_be_checked()
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.closest('.tile').getBoundingClientRect().top")
    assert below > second.bounding_box()["y"]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("l?")
    expect(page.locator("#q")).to_have_value("l?")
    expect(page.locator("#keys")).to_be_hidden()


def test_a_picture_becomes_an_image_for_the_next_by_key(look):
    page = look()
    page.locator(".tile > a").first.focus()
    page.keyboard.press("u")
    page.wait_for_url("**/t/demo/?references=*")
    expect(page.locator("#slots img")).to_have_count(1)


def test_enter_opens_and_closing_is_back_on_the_tile(look):
    page = look()
    link = page.locator(".tile > a").first
    link.focus()
    number = page.locator(".tile").first.get_attribute("data-task")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/tasks/{number}/")
    page.keyboard.press("Escape")
    page.wait_for_url("**/history/")
    expect(link).to_be_focused()


def test_single_keys_can_be_switched_off(look, site):
    page = look()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.locator("#letters").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_hidden()
    page.reload()
    page.keyboard.press("/")
    expect(page.locator("#q")).not_to_be_focused()
    page.locator("#open-keys").click()
    page.locator("#letters").check()
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    page.wait_for_url(f"{site.url}/t/demo/")


def test_what_is_thrown_away_by_key_is_in_the_trash_and_comes_back(look, site):
    page = look()
    tile = page.locator(".tile").nth(2)
    number = tile.get_attribute("data-task")
    tile.locator("> a").first.focus()
    page.keyboard.press("Delete")
    expect(page.locator(f"#tile-{number}")).to_have_count(0)
    page.goto(f"{site.url}{HISTORY}?tab=trash")
    expect(page.locator(f"#tile-{number}")).to_contain_text("days left")
    page.get_by_role("button", name=f"Restore picture {number}").click()
    expect(page.locator(f"#tile-{number}")).to_have_count(0)
    page.goto(site.url + HISTORY)
    expect(page.locator(f"#tile-{number}")).to_be_visible()


def test_a_new_picture_slips_in_for_whoever_is_at_the_top_and_is_announced_to_others(look, site):
    top, below = look(), look("cleo")
    deep(below, 60)
    seen = below.evaluate("scrollY")
    maker = look("ben")
    maker.goto(f"{site.url}/t/demo/")
    maker.fill("#prompt", "A heron at low tide")
    maker.press("#prompt", "Control+Enter")
    expect(top.locator(".tile").first.locator("img")).to_have_attribute("alt", "A heron at low tide", timeout=30_000)
    expect(top.locator("#fresh")).to_be_hidden()
    expect(below.locator("#fresh")).to_have_text("1 new", timeout=30_000)
    assert abs(below.evaluate("scrollY") - seen) < 5


def test_after_a_sleep_in_which_more_came_than_one_page_shows_the_list_begins_anew(look, site):
    page = look()
    page.wait_for_timeout(5_100)  # just opened, it has missed nothing
    others = re.sub(r'id="tile-(\d+)"', r'id="tile-77000\1"', page.request.get(site.url + HISTORY).text())
    page.route(f"{site.url}{HISTORY}", lambda route: route.fulfill(body=others, content_type="text/html"))
    page.evaluate("document.dispatchEvent(new Event('flux2web:catch-up'))")
    expect(page.locator("#found .tile").first).to_have_attribute("id", re.compile("tile-77000"))
    expect(page.locator("#found .tile:not([id^='tile-77000'])")).to_have_count(0)
    assert not page.errors


# --- For all eyes, ears and widths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 768, 360])
def test_the_history_is_for_everyone_and_nothing_scrolls_sideways(look, site, width, scheme):
    page = look("ana", width, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce", has_touch=width < 768)
    for path in (HISTORY, f"{HISTORY}?q=nosuchword&family=flex&state=x", f"{HISTORY}?tab=trash", f"{HISTORY}filters/"):
        page.goto(site.url + path)
        page.wait_for_timeout(200)
        check(page, width)
    page.goto(site.url + HISTORY)
    page.locator("#filters summary").click()
    page.wait_for_selector(".facets")
    check(page, width)


def check(page: Page, width: int) -> None:
    found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    assert [(page.url, rule["id"], rule["nodes"][0]["html"]) for rule in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, page.url


def test_on_a_phone_everything_can_be_touched(look):
    page = look("ana", 360, 780, has_touch=True, is_mobile=True)
    tile = page.locator(".tile").first
    for part in (".heart", ".act"):
        box = tile.locator(part).bounding_box()
        assert min(box["width"], box["height"]) >= 36
        assert tile.locator(part).evaluate("node => getComputedStyle(node).opacity") == "1"
    was = tile.locator(".heart").get_attribute("aria-pressed")
    tile.locator(".heart").tap()
    expect(tile.locator(".heart")).not_to_have_attribute("aria-pressed", was)
