"""Many pictures at once in a real browser: chosen by box, range, key and long press; acted on, undone, taken home."""

from __future__ import annotations

import re
import zipfile

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from ..site import Site, running
from .conftest import signed_in

pytestmark = pytest.mark.browser
PASSWORD = "pw-demo-12345"
HISTORY = "/t/demo/history/"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    """A team with a past of some ninety pictures."""
    var = tmp_path_factory.mktemp("select") / "var"
    made = Site(var).manage("demo", "--password", PASSWORD, "--tasks", "110")
    assert made.returncode == 0, made.stderr
    with running(var) as site:
        yield site


@pytest.fixture
def look(chromium, site):
    """look("ana", 360, has_touch=True) is a fresh browser in which she is at the history."""
    contexts = []

    def make(name: str = "ana", width: int = 1440, height: int = 900, path: str = HISTORY, **options) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = signed_in(context, site, f"{name}@example.com", PASSWORD, "demo")
        page.goto(site.url + path)
        return page

    yield make
    for context in contexts:
        errors = [error for page in context.pages for error in getattr(page, "errors", [])]
        assert [error for error in errors if "422" not in error] == []  # a refusal is no fault
        context.close()


def assert_clear(page: Page) -> None:
    options = {"runOnly": {"type": "tag", "values": RULES}}
    found = Axe().run(page, options=options).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []


def tile(page: Page, number: int) -> Locator:
    return page.locator("#found .tile").nth(number)


def chosen(page: Page) -> int:
    return page.locator("#found .pick:checked").count()


def many(page: Page) -> Locator:
    return page.locator("#bulk-many")


def press(page: Page, name: str) -> None:
    """A button of the bar, or what opens one of its menus."""
    page.locator("#bulk").locator("button:visible, summary", has_text=name).first.click()


# --- Choosing ----------------------------------------------------------------------------------------------------------


def test_boxes_ranges_and_keys_choose(look):
    page = look()
    expect(page.locator("#bulk")).to_be_hidden()
    tile(page, 1).locator(".pick").click()
    expect(many(page)).to_have_text("1 selected")
    tile(page, 6).locator(".pick").click(modifiers=["Shift"])
    expect(many(page)).to_have_text("6 selected")
    tile(page, 9).locator("> a").first.click(modifiers=["Control"])
    expect(many(page)).to_have_text("7 selected")
    tile(page, 11).locator("> a").first.click()  # while some are chosen, a press chooses
    expect(many(page)).to_have_text("8 selected")
    assert "/tasks/" not in page.url
    tile(page, 3).locator(".pick").click()
    expect(many(page)).to_have_text("7 selected")
    page.keyboard.press("Escape")
    expect(page.locator("#bulk")).to_be_hidden()
    assert chosen(page) == 0
    page.keyboard.press("Control+a")
    expect(many(page)).to_have_text(re.compile(r"^\d\d selected$"))
    page.keyboard.press("Escape")
    page.focus("#q")
    page.keyboard.press("Control+a")  # in a field that is the field's own
    assert chosen(page) == 0


def test_space_chooses_and_enter_still_opens(look):
    page = look()
    tile(page, 2).locator("> a").first.focus()
    page.keyboard.press("Space")
    expect(many(page)).to_have_text("1 selected")
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()


def test_what_is_chosen_stays_so_while_one_scrolls_on_and_goes_with_another_list(look):
    page = look()
    tile(page, 0).locator(".pick").click()
    first = page.locator("#found .tile").count()
    while page.locator("#found .tile").count() == first:
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(200)
    tile(page, first + 3).locator(".pick").click()
    expect(many(page)).to_have_text("2 selected")
    page.locator("#order select").select_option("oldest")
    expect(page).to_have_url(re.compile("sort=oldest"))
    expect(page.locator("#bulk")).to_be_hidden()
    assert chosen(page) == 0


def test_all_that_match_are_counted_when_asked_for_and_taken_with_those_below(look):
    page = look(path=f"{HISTORY}?tab=mine")
    tile(page, 0).locator(".pick").click()
    page.get_by_role("button", name="Select all matching").click()
    expect(many(page)).to_have_text(re.compile(r"^All \d+ selected$"))
    total = int(re.sub(r"\D", "", many(page).inner_text()))
    press(page, "Tag")
    page.get_by_role("button", name="Add a tag…").click()
    page.locator("#asking [name=name]").fill("Everything")
    page.locator("#asking button", has_text="Tag").click()
    expect(page.locator("#notices")).to_contain_text(f"{total} tagged “Everything”.")


def test_choosing_one_of_many_changes_one_tile(look):
    page = look()
    page.evaluate(
        """() => {
            window.touched = new Set();
            new MutationObserver((all) => all.forEach((one) => window.touched.add(one.target.closest('.tile')?.id)))
                .observe(document.querySelector('#found'), {subtree: true, attributes: true, childList: true});
        }"""
    )
    for number in (0, 5):
        tile(page, number).locator(".pick").click()
        page.wait_for_timeout(100)
    ids = {tile(page, number).get_attribute("id") for number in (0, 5)}
    assert set(page.evaluate("[...window.touched]")) - {None} <= ids


# --- Acting ------------------------------------------------------------------------------------------------------------


def test_deleted_and_brought_back(look, site):
    page = look("cleo", path=f"{HISTORY}?state=done")
    cleos = site.rows("SELECT id FROM flux2web_user WHERE email='cleo@example.com'")[0][0]
    own = page.locator(f"#found .tile[data-author='{cleos}']")
    other = page.locator(f"#found .tile:not([data-author='{cleos}'])")
    ids = [own.nth(number).get_attribute("id") for number in range(2)]
    for one in (own.nth(0), own.nth(1), other.nth(0)):
        one.locator(".pick").click()
    press(page, "Delete")
    expect(page.locator("#notices")).to_contain_text("2 deleted, 1 belongs to others.")
    for name in ids:
        expect(page.locator(f"#{name}")).to_have_count(0)
    expect(page.locator("#bulk")).to_be_hidden()
    assert_clear(page)
    page.locator("#notices").get_by_role("button", name="Undo").click()
    expect(page.locator("#notices")).to_contain_text("2 brought back.")
    for name in ids:
        expect(page.locator(f"#{name}")).to_be_visible()
    assert chosen(page) == 0


def test_out_of_the_trash_many_at_once(look):
    page = look("ana", path=f"{HISTORY}?tab=mine&state=done")
    for number in range(3):
        tile(page, number).locator(".pick").click()
    page.keyboard.press("Delete")
    expect(page.locator("#notices")).to_contain_text("3 deleted.")
    page.goto(page.url.replace("tab=mine&state=done", "tab=trash"))
    before = page.locator(".tile").count()
    for number in range(3):
        tile(page, number).locator(".pick").click()
    press(page, "Bring back")
    expect(page.locator("#notices")).to_contain_text("3 brought back.")
    expect(page.locator(".tile")).to_have_count(before - 3)


def test_into_a_new_collection(look):
    page = look()
    for number in (0, 2):
        tile(page, number).locator(".pick").click()
    press(page, "Add to…")
    dialog = page.locator("#asking")
    expect(dialog).to_contain_text("Add to a collection: 2 pictures")
    assert_clear(page)
    dialog.get_by_role("button", name="Add").click()
    expect(dialog).to_contain_text("write a name for a new one")
    dialog.locator("[name=name]").fill("Shortlist")
    dialog.get_by_role("button", name="Add").click()
    expect(page.locator("#notices")).to_contain_text("2 in “Shortlist”.")
    expect(dialog).to_be_hidden()
    expect(many(page)).to_have_text("2 selected")  # more can be done with them


def test_hearts_for_many_and_back(look):
    page = look("dan")
    hearts = [tile(page, number).locator("> .heart") for number in (0, 1)]
    for number in (0, 1):
        if hearts[number].get_attribute("aria-pressed") == "true":
            hearts[number].click()
            expect(hearts[number]).to_have_attribute("aria-pressed", "false")
        tile(page, number).locator(".pick").click()
    press(page, "Favourite")
    expect(page.locator("#notices")).to_contain_text("2 liked.")
    for heart in hearts:
        expect(heart).to_have_attribute("aria-pressed", "true")
    press(page, "Favourite")
    expect(page.locator("#notices")).to_contain_text("2 not liked any more.")
    expect(hearts[0]).to_have_attribute("aria-pressed", "false")


def test_a_lock_comes_and_goes_with_who_sees_a_picture(look):
    page = look("cleo", path=f"{HISTORY}?tab=mine")
    for number in (0, 1):
        tile(page, number).locator(".pick").click()
    press(page, "Visibility")
    page.get_by_role("button", name="Only you see them").click()
    expect(page.locator("#notices")).to_contain_text("2 seen by you only.")
    expect(page.locator("#found .tile .lock")).to_have_count(2)
    expect(tile(page, 0).locator(".lock svg")).to_have_count(1)
    press(page, "Visibility")
    page.get_by_role("button", name="The team sees them").click()
    expect(page.locator("#found .tile .lock")).to_have_count(0)


def test_the_button_of_the_zip_says_how_large_it_will_be(look):
    page = look("dan")
    tile(page, 0).locator(".pick").click()
    press(page, "Download")
    one = page.locator("#bulk-size")
    expect(one).to_have_text(re.compile(r"^\d+ KB$"))
    page.locator("#bulk-all").click()
    expect(many(page)).to_contain_text("All ")
    expect(one).to_have_text(re.compile(r"^\d+\.\d MB$"))
    tile(page, 3).locator(".pick").click()  # of those further down nobody here knows it
    expect(many(page)).to_have_text(re.compile(r"^\d+ selected$"))


def test_a_zip_is_made_and_taken_home(look, tmp_path):
    page = look("eve")  # a viewer: pictures may be looked at, and so be taken
    assert page.locator("#bulk [value=delete]").count() == 0
    for number in range(4):
        tile(page, number).locator(".pick").click()
    press(page, "Download")
    page.get_by_role("button", name="Pictures, as zip").click()
    expect(page.locator("#notices")).to_contain_text("a zip of 4 pictures")
    page.locator("#notices").get_by_role("link", name="Files").click()
    save = page.locator("#exports a[download]").first
    expect(save).to_be_visible(timeout=30_000)
    assert_clear(page)
    with page.expect_download() as download:
        save.click()
    download.value.save_as(tmp_path / "pictures.zip")
    with zipfile.ZipFile(tmp_path / "pictures.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(names) == 5
        assert all(re.fullmatch(r"\d{4}-[\w-]+\.(png|jpg|webp)", name) for name in names[:4])
        assert archive.read("manifest.csv").decode("utf-8-sig").count("\n") == 5


def test_without_the_script_boxes_are_ticked_and_a_button_posts(look, site):
    page = look("dan", java_script_enabled=False)
    expect(page.locator("#bulk")).to_be_visible()
    for number in (0, 1, 2):
        tile(page, number).locator(".pick").check()
    page.locator("#bulk [value=collect]").click()
    expect(page.locator("main")).to_contain_text("Add to a collection: 3 pictures")
    page.locator("[name=name]").fill("No script")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#notices")).to_contain_text("3 in “No script”.")
    assert page.url == site.url + HISTORY


# --- Touch -------------------------------------------------------------------------------------------------------------


def long_press(page: Page, target: Locator) -> None:
    """A finger that stays. Chromium's own touch, so that a click would follow it as on a phone."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    session = page.context.new_cdp_session(page)
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    page.wait_for_timeout(650)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_a_long_press_begins_and_taps_go_on(look, scheme):
    page = look("ana", 360, 740, has_touch=True, is_mobile=True, color_scheme=scheme)
    long_press(page, tile(page, 0))
    expect(many(page)).to_have_text("1 selected")
    assert "/tasks/" not in page.url
    tile(page, 1).locator("> a").first.tap()
    expect(many(page)).to_have_text("2 selected")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate(
        """() => [...document.querySelectorAll('#bulk button, #bulk summary')].filter((node) => node.offsetParent)
            .map((node) => node.getBoundingClientRect()).filter((box) => box.height < 24 || box.width < 24).length"""
    )
    assert small == 0
    assert_clear(page)
    page.locator("#bulk summary", has_text="Visibility").tap()
    page.get_by_role("button", name="Only you see them").tap()
    expect(page.locator("#notices")).to_contain_text(re.compile("seen by you only|belong to others"))


def test_on_a_phone_the_button_begins_too(look):
    page = look("ana", 360, 740, has_touch=True, is_mobile=True)
    page.get_by_role("button", name="Select", exact=True).tap()
    expect(many(page)).to_have_text("0 selected")
    tile(page, 0).locator("> a").first.tap()
    expect(many(page)).to_have_text("1 selected")
    page.get_by_role("button", name="Choose none").tap()
    expect(page.locator("#bulk")).to_be_hidden()


# --- Kept by the browser -------------------------------------------------------------------------------------------------


def test_the_next_person_at_this_browser_sees_no_picture_that_it_kept(look, site):
    page = look("ana")
    address = page.locator("#found .tile img").first.evaluate("(image) => image.currentSrc")
    fetched = """async (address) => {
        const answer = await fetch(address);
        return [answer.status, answer.redirected, answer.headers.get('content-type')];
    }"""
    assert page.evaluate(fetched, address) == [200, False, "image/webp"]
    page.context.clear_cookies()
    assert page.evaluate(fetched, address)[1:] != [False, "image/webp"]
