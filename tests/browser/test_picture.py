"""A picture in a real browser: over the grid and by itself, walked, kept and spoken about, made again, compared."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from ..site import PERSON, Site

pytestmark = pytest.mark.browser
DONE_MS = 30_000
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
HISTORY = "/t/north/history/"
PROMPTS = ["A heron in three colours", "A glazed bowl on linen", "A harbour at dawn"]
PHONE = {"width": 360, "height": 740, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def pictures(chromium, site: Site) -> list[str]:
    """Three finished pictures, the oldest first: the addresses of their pages."""
    page = chromium.new_page()
    page.goto(f"{site.url}/accounts/login/")
    page.fill("[name=login]", PERSON["email"])
    page.fill("[name=password]", PERSON["password"])
    page.click("main form button")
    page.wait_for_url("**/t/north/")
    for number, prompt in enumerate(PROMPTS, 1):
        page.fill("#prompt", prompt)
        page.press("#prompt", "Control+Enter")
        expect(page.locator("article.card[data-state=done]")).to_have_count(number, timeout=DONE_MS)
    links = page.locator("article.card .picture")
    found = [links.nth(place).get_attribute("href") for place in range(3)]
    page.context.close()
    return found[::-1]


def open_first(page: Page, site: Site, query: str = "") -> None:
    page.goto(f"{site.url}{HISTORY}{query}")
    page.locator(".tile > a[href*='/tasks/']:not([download])").first.click()
    expect(page.locator("#picture #detail")).to_be_visible()


def nothing_wrong(page: Page, inside: str | None = None) -> None:
    found = (
        Axe().run(page, context=inside, options={"runOnly": {"type": "tag", "values": RULES}}).response["violations"]
    )
    assert not [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in found]


def sideways(page: Page) -> bool:
    return page.evaluate("""() => [document.documentElement, document.querySelector('#picture')]
        .some((node) => node && node.scrollWidth > innerWidth)""")


@pytest.mark.parametrize("size", [{"width": 1440}, PHONE], ids=["desk", "phone"])
def test_from_the_grid_a_picture_opens_over_it_and_the_arrows_walk_the_list(sign_in, site, pictures, size):
    page = sign_in(**size)
    open_first(page, site)
    expect(page).to_have_url(re.compile(re.escape(pictures[2])))
    expect(page.locator("#detail h1")).to_have_text(PROMPTS[2])
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(re.escape(pictures[1])))
    expect(page.locator("#detail h1")).to_have_text(PROMPTS[1])
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile(re.escape(pictures[2])))
    page.keyboard.press("ArrowRight")
    expect(page.locator("#detail h1")).to_have_text(PROMPTS[1])
    page.keyboard.press("Escape")
    expect(page.locator("#picture")).to_be_hidden()
    expect(page).to_have_url(f"{site.url}{HISTORY}")
    assert page.evaluate("document.activeElement.closest('.tile').dataset.task") == pictures[1].split("/")[-2]
    assert not page.errors


def test_words_that_were_searched_for_are_the_list_that_is_walked(sign_in, site, pictures):
    page = sign_in()
    open_first(page, site, "?q=heron")
    expect(page.locator("#detail [data-walk]")).to_have_count(0)
    expect(page.locator("#detail h1")).to_have_text(PROMPTS[0])


def test_back_closes_forward_opens_and_a_reload_shows_it_by_itself(sign_in, site, pictures):
    page = sign_in()
    open_first(page, site)
    page.go_back()
    expect(page.locator("#picture")).to_be_hidden()
    expect(page.locator(".tile")).to_have_count(3)
    page.go_forward()
    expect(page.locator("#picture #detail")).to_be_visible()
    page.reload()
    expect(page.locator("main #detail h1")).to_have_text(PROMPTS[2])
    page.keyboard.press("ArrowRight")
    expect(page.locator("main #detail h1")).to_have_text(PROMPTS[1])
    page.go_back()
    expect(page.locator(".tile")).to_have_count(3)
    assert not page.errors


def test_size_facts_and_letters(sign_in, site, pictures):
    page = sign_in(width=1440)
    open_first(page, site)
    page.get_by_role("button", name="100 %").click()
    expect(page.get_by_role("button", name="100 %")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("(image => image.clientWidth == image.naturalWidth)(document.querySelector('.ground img'))")
    page.get_by_role("button", name="Fit").click()
    page.keyboard.press("i")
    expect(page.locator("#told-column")).to_be_hidden()
    page.keyboard.press("i")
    expect(page.locator("#told-column")).to_be_visible()
    page.keyboard.press("l")
    expect(page.locator("#detail .heart")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("l")
    expect(page.locator("#detail .heart")).to_have_attribute("aria-pressed", "false")
    page.evaluate("localStorage.setItem('flux2web:letters', 'off')")
    page.keyboard.press("i")
    expect(page.locator("#told-column")).to_be_visible()
    page.evaluate("localStorage.removeItem('flux2web:letters')")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "alone"])
def test_its_heart_turns_with_every_other_tab(sign_in, site, pictures, stream):
    page = sign_in(width=1440)
    if not stream:
        page.context.route("**/live/", lambda route: route.abort())
    grid, studio = page.context.new_page(), page.context.new_page()
    page.goto(f"{site.url}{pictures[2]}")
    open_first(grid, site)
    studio.goto(f"{site.url}/t/north/")
    task = page.locator("#detail").get_attribute("data-task")
    places = ((page, "#detail .acts > .heart"), (grid, "#picture .acts > .heart"), (grid, f"#tile-{task} > .heart"))
    hearts = [tab.locator(place) for tab, place in (*places, (studio, f"#task-{task} .heart"))]
    for pressed, is_liked, number in ((0, "true", "1"), (3, "false", "")):
        hearts[pressed].dispatch_event("click")
        for heart in hearts:
            expect(heart).to_have_attribute("aria-pressed", is_liked)
            expect(heart.locator(".num")).to_have_text(number)
        likers = grid.locator("#picture .likers")
        expect(likers).to_have_text("Liked by Ana") if number else expect(likers).to_have_count(0)


def test_its_heart_turns_with_another_device(sign_in, site, pictures):
    page, elsewhere = sign_in(), sign_in()
    for screen in (page, elsewhere):
        screen.goto(f"{site.url}{pictures[1]}")
    mine, theirs = (screen.locator("#detail .acts > .heart") for screen in (page, elsewhere))
    for is_liked, number in (("true", "1"), ("false", "")):
        theirs.click()
        for heart in (mine, theirs):
            expect(heart).to_have_attribute("aria-pressed", is_liked)
            expect(heart.locator(".num")).to_have_text(number)


def test_what_is_written_under_it_stays_there_and_a_half_written_comment_survives_esc(sign_in, site, pictures):
    page = sign_in()
    open_first(page, site)
    page.fill("#comment-text", "Half a thou")
    page.keyboard.press("Escape")
    expect(page.locator("#comment-text")).to_have_value("Half a thou")
    page.fill("#comment-text", "Warmer, please")
    page.get_by_role("button", name="Comment", exact=True).click()
    expect(page.locator(".said-list")).to_contain_text("Warmer, please")
    page.get_by_text("Describe it").click()
    page.fill("#alt-text", "Boats under a low sun")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".ground img")).to_have_attribute("alt", "Boats under a low sun")
    page.get_by_role("button", name="Delete this comment").click()
    expect(page.locator(".said-list")).to_have_count(0)
    page.get_by_text("Describe it").click()
    page.fill("#alt-text", "")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".ground img")).to_have_attribute("alt", PROMPTS[2])
    assert not page.errors


def test_a_second_esc_closes_it_and_leaves_nothing_of_it_behind(sign_in, site, pictures):
    page = sign_in()
    open_first(page, site)
    page.fill("#comment-text", "Half a thou")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#picture")).to_be_hidden()
    expect(page).to_have_url(f"{site.url}{HISTORY}")
    expect(page.locator("#detail")).to_have_count(0)
    assert page.evaluate("!document.querySelector('#picture #notices') && !document.querySelector('#picture #told')")
    assert not page.errors


def test_a_half_written_comment_stays_when_its_page_comes_anew(sign_in, site, pictures):
    page, elsewhere = sign_in(), sign_in()
    for screen in (page, elsewhere):
        screen.goto(f"{site.url}{pictures[1]}")
    page.fill("#comment-text", "Half a thou")
    page.locator("#detail .ground").focus()
    elsewhere.locator("#detail .acts > .heart").click()
    expect(page.locator("#detail .likers")).to_have_text("Liked by Ana")
    expect(page.locator("#comment-text")).to_have_value("Half a thou")
    elsewhere.locator("#detail .acts > .heart").click()
    expect(page.locator("#detail .likers")).to_have_count(0)


@pytest.mark.parametrize("hindrance", ["signed out", "out of reach"])
def test_a_comment_that_could_not_be_sent_stays_and_why_is_said(sign_in, site, pictures, hindrance):
    page = sign_in()
    open_first(page, site)
    page.fill("#comment-text", "Warmer, please")
    if hindrance == "signed out":
        page.context.clear_cookies()
    else:
        page.context.set_offline(True)
    page.get_by_role("button", name="Comment", exact=True).click()
    said = {"signed out": "You are signed out", "out of reach": "The server did not answer"}[hindrance]
    expect(page.locator("#notices")).to_contain_text(said)
    expect(page.locator("#picture")).to_be_visible()
    expect(page.locator("#comment-text")).to_have_value("Warmer, please")
    expect(page.get_by_role("button", name="Comment", exact=True)).to_be_enabled()


@pytest.mark.parametrize("size", [{"width": 1440}, PHONE], ids=["desk", "phone"])
def test_looking_at_a_picture_leaves_the_form_alone_and_remixing_it_can_be_undone(sign_in, site, pictures, size):
    page = sign_in(**size)
    page.fill("#prompt", "A bear of my own")
    page.locator("article.card .picture").first.click()
    expect(page.locator("#picture #detail")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#prompt")).to_have_value("A bear of my own")
    page.locator("article.card .picture").first.click()
    page.get_by_role("link", name="Remix", exact=True).click()
    expect(page.locator("#prompt")).to_have_value(PROMPTS[2])
    expect(page.locator("#compose-from")).to_contain_text("Remixing your picture")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#prompt")).to_have_value("A bear of my own")
    expect(page.locator("#compose-from")).to_be_hidden()
    assert not sideways(page)


def test_a_picture_used_as_reference_takes_the_next_free_place_of_the_draft(sign_in, site, pictures):
    page = sign_in(width=1440)
    page.fill("#prompt", "Like image 1, at night")
    for places in (1, 2):
        page.goto(f"{site.url}{pictures[places]}")
        page.get_by_role("button", name="Use as image").click()
        expect(page.locator("#slots img")).to_have_count(places)
        expect(page.locator("#prompt")).to_have_value("Like image 1, at night")
    page.goto(f"{site.url}{pictures[0]}")
    page.get_by_label("More", exact=True).click()
    page.get_by_role("link", name="Use prompt").click()
    expect(page.locator("#prompt")).to_have_value(PROMPTS[0])
    expect(page.locator("#slots img")).to_have_count(2)


@pytest.mark.parametrize("size", [{"width": 1440}, PHONE], ids=["desk", "phone"])
def test_what_was_made_already_is_offered_before_anything_is_spent(sign_in, site, pictures, size):
    page = sign_in(**size)
    before = page.locator("article.card").count()
    page.fill("#prompt", PROMPTS[1].upper())
    page.press("#prompt", "Control+Enter")
    expect(page.locator("#twin")).to_contain_text("You made this on")
    expect(page.locator("#twin")).to_be_in_viewport(ratio=0.9)
    expect(page.locator("#prompt")).to_have_value(PROMPTS[1].upper())
    nothing_wrong(page)
    assert page.locator("article.card").count() == before
    page.locator("#twin").get_by_role("link", name="Open it").click()
    expect(page.locator("#picture #detail h1")).to_have_text(re.compile(PROMPTS[1], re.IGNORECASE))
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Make it anyway").click()
    expect(page.locator("article.card")).to_have_count(before + 1)
    expect(page.locator("article.card[data-state=done]")).to_have_count(before + 1, timeout=DONE_MS)


def test_run_again_leads_to_the_new_picture_with_where_it_comes_from(sign_in, site, pictures):
    page = sign_in(width=1440)
    page.goto(f"{site.url}{pictures[0]}")
    page.get_by_role("button", name=re.compile("Run again · ")).click()
    page.wait_for_url(lambda address: "/tasks/" in address and not address.endswith(pictures[0]))
    expect(page.locator("main #detail[data-state=done]")).to_be_visible(timeout=DONE_MS)
    expect(page.locator(".lineage")).to_contain_text("in the very same words and settings")
    page.get_by_label("More", exact=True).click()
    page.get_by_role("link", name="Compare with what it began from").click()
    expect(page.locator(".compare img")).to_have_count(2)
    page.keyboard.press("s")
    expect(page.get_by_label("Where picture 1 ends")).to_be_visible()
    page.get_by_label("Where picture 1 ends").press("ArrowRight")
    page.keyboard.press("2")
    expect(page.locator("figure[data-number='2']")).to_be_visible()
    expect(page.locator("figure[data-number='1']")).to_be_hidden()
    nothing_wrong(page)
    page.keyboard.press("b")
    expect(page.locator("figure[data-number='1']")).to_be_visible()
    nothing_wrong(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1440}, {"width": 768}, PHONE], ids=["desk", "tablet", "phone"])
def test_the_picture_is_for_everyone_at_every_width(sign_in, site, pictures, size, scheme):
    page = sign_in(**size, color_scheme=scheme)
    open_first(page, site)
    nothing_wrong(page)
    page.get_by_label("More", exact=True).click()
    nothing_wrong(page, ".acts-menu[open]")
    assert not sideways(page)
    page.reload()
    nothing_wrong(page)
    assert not sideways(page)


def test_without_javascript_links_walk_and_forms_write(chromium, site, pictures):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.url}/accounts/login/")
    page.fill("[name=login]", PERSON["email"])
    page.fill("[name=password]", PERSON["password"])
    page.click("main form button")
    page.goto(f"{site.url}{pictures[1]}")
    page.click("[data-walk=before]")
    expect(page).to_have_url(f"{site.url}{pictures[2]}")
    page.fill("#comment-text", "By hand")
    page.get_by_role("button", name="Comment", exact=True).click()
    expect(page.locator(".said-list")).to_contain_text("By hand")
    page.goto(f"{site.url}/t/north/compare/?ids={pictures[0].split('/')[-2]},{pictures[1].split('/')[-2]}")
    expect(page.locator(".compare img")).to_have_count(2)
    context.close()
