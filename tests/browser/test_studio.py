"""The studio, the history and a task's page in a real browser: slots, what fits a provider, one stream, every width."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from ..pictures import picture
from .conftest import until

pytestmark = pytest.mark.browser
DONE_MS = 30_000
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def file(color: str, name: str) -> dict:
    return {"name": name, "mimeType": "image/png", "buffer": picture(color, (300, 200))}


RED, TEAL, GOLD = file("tomato", "red.png"), file("teal", "teal.png"), file("gold", "gold.png")
TEXT = {"name": "notes.png", "mimeType": "image/png", "buffer": b"Dear diary"}


def add(page: Page, *files: dict) -> None:
    page.set_input_files("#files", list(files))


def numbers(page: Page) -> list[str]:
    return [image.get_attribute("alt") for image in page.locator("#slots img").all()]


def press(page: Page, prompt: str) -> str:
    before = page.locator("article.card").count()
    page.fill("#prompt", prompt)
    page.press("#prompt", "Control+Enter")
    expect(page.locator("article.card")).to_have_count(before + 1)
    return page.locator("article.card").first.get_attribute("id")


def slow_uploads(page: Page, seconds: float) -> None:
    page.route("**/references/", lambda route: (time.sleep(seconds), route.continue_()))


# --- Slots -----------------------------------------------------------------------------------------------------------------


def test_several_images_at_once_get_numbers_and_can_be_moved_and_removed(sign_in):
    page = sign_in()
    expect(page.locator("[data-mode=text-to-image]")).to_be_visible()
    add(page, RED, TEAL, GOLD)
    expect(page.locator("#slots img")).to_have_count(3)
    expect(page.locator("[data-mode=image-to-image]")).to_be_visible()
    page.locator("#slots .slot").nth(2).hover()
    page.get_by_label("Move image 3 left").click()
    assert numbers(page) == ["Image 1: red.png", "Image 2: gold.png", "Image 3: teal.png"]
    page.get_by_label("Remove image 1").focus()
    page.keyboard.press("Enter")
    assert numbers(page) == ["Image 1: gold.png", "Image 2: teal.png"]


def test_a_file_that_is_no_picture_is_refused_in_its_slot_and_holds_the_button_back(sign_in):
    page = sign_in()
    add(page, RED, TEXT)
    expect(page.locator(".slot[data-state=refused]")).to_contain_text("notes.png: ")
    page.fill("#prompt", "Image 1 on a wall")
    page.locator("#go").click()
    expect(page.locator("#go-said")).to_have_text("Remove the refused image first.")
    page.locator(".slot[data-state=refused] [data-slot=remove]").click()
    expect(page.locator("#go-said")).to_be_empty()


def test_pressed_while_uploading_it_sends_by_itself_when_all_are_there(sign_in, site):
    page = sign_in()
    slow_uploads(page, 1.5)
    before = page.locator("article.card").count()
    page.fill("#prompt", "Both images on one wall")
    add(page, RED, TEAL)
    page.locator("#go").click(no_wait_after=True)
    expect(page.locator("article.card")).to_have_count(before + 1, timeout=15_000)
    assert site.rows("SELECT reference_count FROM flux2web_task ORDER BY id DESC LIMIT 1") == [(2,)]


def test_the_ninth_image_is_not_taken_and_that_is_said(sign_in):
    page = sign_in()
    add(page, *(file(f"#{number}0a0c0", f"{number}.png") for number in range(1, 10)))
    expect(page.locator("#slots-said")).to_have_text("8 of 8: remove one to add “9.png”.")
    expect(page.locator("#slots img")).to_have_count(8)
    expect(page.locator("#add-slot")).to_be_hidden()


# --- What fits -------------------------------------------------------------------------------------------------------------


def test_what_a_provider_lacks_is_hidden_and_a_lost_choice_is_said(sign_in):
    page = sign_in()
    page.locator("label[data-ratio='3:2']").click()
    page.select_option("#provider", "flux2api")
    expect(page.locator("label[data-ratio='3:2']")).to_be_hidden()
    expect(page.locator("#fit-said")).to_have_text("Shape is now 1:1: 3:2 is not offered here.")
    expect(page.locator("#more")).to_be_hidden()
    page.select_option("#provider", "vtrix")
    expect(page.locator("label[data-family=flex]")).to_be_hidden()
    expect(page.locator("#more")).to_be_visible()


def test_a_lost_choice_comes_back_where_it_is_offered_again_and_the_draft_keeps_it(sign_in, site):
    page = sign_in()
    page.locator("label[data-ratio='3:2']").click()
    page.locator("label[data-family=flex]").click()
    page.locator("#more summary").click()
    page.fill("#seed", "77")
    page.fill("#prompt", "A pier that waits for its shape")
    page.select_option("#provider", "flux2api")
    expect(page.locator("#fit-said")).to_contain_text("Seed is kept for providers that use it.")
    page.select_option("#provider", "vtrix")
    expect(page.locator("#fit-said")).to_contain_text("Family is now Pro: Flex is not offered here.")
    expect(page.locator("#draft-said")).to_have_text("Draft kept")
    page.reload()
    expect(page.locator("#go")).to_contain_text("credits")  # priced as it stands now, not as it is wished for
    expect(page.locator("[name=family]:checked")).to_have_value("pro")
    page.select_option("#provider", "")
    expect(page.locator("#fit-said")).to_contain_text("Family is Flex again.")
    expect(page.locator("[name=aspect_ratio]:checked")).to_have_value("3:2")
    expect(page.locator("[name=family]:checked")).to_have_value("flex")
    expect(page.locator("#seed")).to_have_value("77")
    page.select_option("#provider", "flux2api")
    page.locator("label[data-ratio='4:3']").click()  # a new wish
    page.select_option("#provider", "")
    expect(page.locator("[name=aspect_ratio]:checked")).to_have_value("4:3")


def test_automatic_shape_comes_and_goes_with_the_images(sign_in):
    page = sign_in()
    auto = page.locator("label[data-ratio=auto]")
    expect(auto).to_be_hidden()
    add(page, RED)
    expect(auto).to_be_visible()
    auto.click()
    expect(page.get_by_text("Auto takes the shape of image 1.")).to_be_visible()
    page.get_by_label("Remove image 1").focus()
    page.keyboard.press("Enter")
    expect(auto).to_be_hidden()
    expect(page.locator("[name=aspect_ratio]:checked")).to_have_value("1:1")


def test_the_price_on_the_button_follows(sign_in):
    page = sign_in()
    page.locator("label[data-resolution='2K']").click()
    page.locator("#field-count label", has_text="4").click()
    expect(page.locator("#go")).to_have_text(re.compile("Generate 4 · 60 credits"))


def test_what_pictures_cost_and_when_is_one_press_from_the_price(sign_in):
    page = sign_in()
    page.locator("#others summary").click()
    page.locator("#others").get_by_role("link", name="What pictures cost").click()
    row = page.locator("tbody tr", has_text="Revid")
    for price in ("10", "15", "25", "40"):
        expect(row).to_contain_text(price)
    expect(page.locator("tbody tr", has_text="Vtrix")).to_contain_text("and 6 an image")
    for what in ("It fails", "The model’s filter refuses it", "You cancel while it waits", "No answer comes"):
        expect(page.locator("main li", has_text=what)).to_be_visible()


def test_a_refusal_keeps_everything_and_puts_the_cursor_where_it_is_wrong(sign_in):
    page = sign_in()
    add(page, RED)
    expect(page.locator("#slots img")).to_have_count(1)
    page.select_option("#provider", "vtrix")
    page.locator("#more summary").click()
    page.fill("#prompt", "A red wall")
    page.fill("#seed", "many")
    page.press("#seed", "Control+Enter")
    expect(page.locator("#seed-error")).to_contain_text("A seed is a whole number")
    expect(page.locator("#seed")).to_be_focused()
    assert page.input_value("#prompt") == "A red wall"
    assert numbers(page) == ["Image 1: red.png"]


# --- The prompt --------------------------------------------------------------------------------------------------------------


def test_the_prompt_has_the_cursor_grows_and_counts_near_its_end(sign_in):
    page = sign_in()
    prompt = page.locator("#prompt")
    expect(prompt).to_be_focused()
    expect(prompt).to_have_attribute("placeholder", "What do you want to see?")
    expect(prompt).to_have_attribute("spellcheck", "true")
    add(page, RED)
    expect(prompt).to_have_attribute("placeholder", re.compile("Call them image 1, image 2"))
    low = prompt.bounding_box()["height"]
    prompt.fill("A tower of words\n" * 9)
    until(page, f"document.querySelector('#prompt').getBoundingClientRect().height > {low + 40}")
    expect(page.locator("#prompt-count")).to_be_empty()
    prompt.fill("a" * 4200)
    expect(page.locator("#prompt-count")).to_have_text("4,200 of 5,000")
    prompt.fill("a" * 5001)
    expect(page.locator("#prompt-count")).to_have_attribute("data-over", "")
    page.locator("#go").click()
    expect(page.locator("#prompt-error")).to_contain_text("Write 5,000 characters at most; this has 5,001.")
    expect(prompt).to_be_focused()
    assert len(page.input_value("#prompt")) == 5001


def test_each_problem_of_the_summary_leads_to_its_field(sign_in):
    page = sign_in()
    page.select_option("#provider", "vtrix")
    page.locator("#more summary").click()
    page.fill("#seed", "many")
    page.fill("#prompt", "A {tower} with a wrong seed")
    page.locator("#go").click()
    problems = page.locator("#compose-problems a")
    expect(problems).to_have_count(2)
    problems.filter(has_text="A seed is a whole number").click()
    expect(page.locator("#seed")).to_be_focused()
    problems.filter(has_text="Give {tower} a value.").click()
    expect(page.get_by_label("tower", exact=True)).to_be_focused()


def test_the_form_stands_in_its_order_beside_the_pictures_and_on_a_phone_above_them(sign_in):
    order = ["#prompt", "#field-references", "#field-family", "#field-aspect_ratio", "#field-count", "#provider", "#go"]
    desk = sign_in(1280)
    tops = [desk.locator(place).bounding_box()["y"] for place in order]
    assert tops == sorted(tops)
    form, pictures = (desk.locator(place).bounding_box() for place in ("#compose", ".studio > .table"))
    assert form["x"] + form["width"] <= pictures["x"]
    phone = sign_in(360, 780, has_touch=True, is_mobile=True)
    form, pictures = (phone.locator(place).bounding_box() for place in ("#compose", ".studio > .table"))
    assert (form["width"], pictures["width"]) == (pytest.approx(360, abs=40), pytest.approx(360, abs=40))


def test_a_phone_is_asked_for_several_pictures_of_its_own(sign_in):
    page = sign_in(360, 780, has_touch=True, is_mobile=True)
    page.locator("#sheet-toggle").click()
    with page.expect_file_chooser() as chooser:
        page.locator("#add-slot label").tap()
    assert chooser.value.is_multiple()
    assert "image/*" in page.get_attribute("#files", "accept")
    chooser.value.set_files([RED, TEAL])
    expect(page.locator("#slots img")).to_have_count(2)


@pytest.fixture
def empty_team(site) -> Iterator[str]:
    """The address of a team's studio in which nobody has made anything; Ana is in it, for as long as it takes."""
    make = "from tests import factories; from flux2web.models import User; team = factories.make_team(name='South')"
    join = "factories.make_member(team, User.objects.get(), role='owner')"
    assert site.manage("shell", "-c", f"{make}; {join}").returncode == 0
    yield f"{site.url}/t/south/"
    site.change("DELETE FROM flux2web_membership WHERE team_id = (SELECT id FROM flux2web_team WHERE slug = 'south')")
    site.change("UPDATE flux2web_team SET slug = slug || '-' || id WHERE slug = 'south'")


def test_who_comes_first_is_shown_how_to_begin(sign_in, request):
    page = sign_in()
    page.goto(request.getfixturevalue("empty_team"))
    expect(page.locator("#first")).to_contain_text("you may close this page meanwhile")
    examples = page.locator("#first .examples a")
    assert examples.count() >= 3
    words = examples.first.inner_text()
    examples.first.click()
    page.wait_for_url("**/t/south/?**")
    expect(page.locator("#prompt")).to_have_value(re.compile(f"^{words}"))
    expect(page.locator("#go")).to_contain_text("credits")
    page.locator("#go").click()
    expect(page.locator("article.card")).to_have_attribute("data-state", "done", timeout=DONE_MS)
    expect(page.locator("#first")).to_be_hidden()


def test_an_example_that_changes_an_image_brings_its_image(sign_in, site, request):
    page = sign_in()
    page.goto(request.getfixturevalue("empty_team"))
    page.locator("#first .examples button").click()
    page.wait_for_url("**/t/south/?**")
    expect(page.locator("#prompt")).to_have_value(re.compile("^The lighthouse of image 1"))
    expect(page.locator("#slots [name=references]")).to_have_count(1)
    expect(page.locator("#go")).to_contain_text("credits")
    page.locator("#go").click()
    expect(page.locator("article.card")).to_have_attribute("data-state", "done", timeout=DONE_MS)
    assert site.rows("SELECT reference_count FROM flux2web_task ORDER BY id DESC LIMIT 1") == [(1,)]


# --- The press --------------------------------------------------------------------------------------------------------------


def test_a_double_click_is_one_press(sign_in, site):
    page = sign_in()
    page.fill("#prompt", "A gate clicked twice")
    page.locator("#go").dblclick()
    expect(page.locator("article.card", has_text="A gate clicked twice")).to_have_count(1)
    page.wait_for_timeout(500)
    asked = "SELECT count(*) FROM flux2web_task WHERE prompt = 'A gate clicked twice'"
    assert site.rows(asked) == [(1,)]


def test_while_it_is_sent_the_button_says_so_at_the_same_width_and_takes_no_further_press(sign_in, site):
    page = sign_in()
    expect(page.locator("#go")).to_contain_text("credits")
    sent, held = [], []
    page.route("**/tasks/", lambda route: held.append(route))
    page.on("request", lambda said: sent.append(said) if said.url.endswith("/tasks/") else None)
    width = page.locator("#go").bounding_box()["width"]
    page.fill("#prompt", "A gate that takes its time")
    page.locator("#go").click()
    expect(page.locator("#go .busy")).to_be_visible()
    expect(page.locator("#go .idle")).to_be_hidden()
    assert page.locator("#go").bounding_box()["width"] == width
    page.press("#prompt", "Control+Enter")
    page.locator("#go").dispatch_event("click")
    page.wait_for_timeout(300)
    assert len(sent) == 1
    held[0].continue_()
    expect(page.locator("article.card", has_text="A gate that takes its time")).to_have_count(1)
    expect(page.locator("#go .busy")).to_be_hidden()
    assert site.rows("SELECT count(*) FROM flux2web_task WHERE prompt = 'A gate that takes its time'") == [(1,)]


def test_command_and_enter_press_as_well(sign_in):
    page = sign_in()
    page.fill("#prompt", "A gate opened by its key")
    page.press("#prompt", "Meta+Enter")
    expect(page.locator("article.card", has_text="A gate opened by its key")).to_have_count(1)
    expect(page.locator("#prompt")).to_have_value("A gate opened by its key")


OF_THE_BRIDGE = "SELECT state FROM flux2web_task WHERE prompt LIKE 'A bridge with %'"


def test_so_many_failures_end_what_still_waits_of_the_batch(sign_in, site):
    page = sign_in()
    page.select_option("#provider", "revid")
    page.locator("#field-count label", has_text="8").click()
    page.locator("#variations summary").click()
    page.fill("#stop_after", "2")
    page.fill("#prompt", "A bridge with {piers} that nobody may draw [filter]")
    page.get_by_label("piers", exact=True).fill("one | two | three | four | five | six")
    expect(page.locator("#go")).to_have_text(re.compile("Generate 48 · 480 credits"))
    page.locator("#go").click()
    site.wait_until(lambda: len(site.rows(OF_THE_BRIDGE)) == 48)
    site.wait_at_rest()
    states = [state for (state,) in site.rows(OF_THE_BRIDGE)]
    assert set(states) == {"failed", "cancelled"}
    expect(page.locator("article.card[data-state=cancelled]").first).to_be_attached()


# --- Live ------------------------------------------------------------------------------------------------------------------


def test_two_tabs_of_one_browser_share_one_stream_and_both_see_the_picture(sign_in):
    first = sign_in()
    opened = []  # the pages that opened a stream; the first one's may still be on its way
    first.context.on("request", lambda said: opened.append(said.frame.page) if "/live/" in said.url else None)
    second = first.context.new_page()
    second.goto(first.url)
    card_id = press(first, "A quiet valley")
    for page in (first, second):
        expect(page.locator(f"#{card_id}")).to_have_attribute("data-state", "done", timeout=DONE_MS)
    assert second not in opened
    first.close()
    second.wait_for_timeout(1500)
    assert opened.count(second) == 1


def test_what_comes_above_while_one_reads_below_is_counted_and_one_press_away(sign_in):
    reader, writer = sign_in(width=360, height=500), sign_in()
    writer.locator("#field-count label", has_text="6").click()
    expect(writer.locator("#go")).to_contain_text("Generate 6")
    writer.fill("#prompt", "A wall to scroll along")
    writer.locator("#go").click()
    expect(reader.locator("article.card", has_text="A wall to scroll along").nth(5)).to_be_attached(timeout=DONE_MS)
    writer.locator("#field-count label", has_text="1").first.click()
    expect(writer.locator("#go")).not_to_contain_text("Generate 6")
    reader.evaluate("window.scrollTo(0, 1200)")
    until(reader, "window.scrollY > 400")
    writer.fill("#prompt", "Above the wall")
    writer.locator("#go").click()
    expect(reader.locator("#fresh")).to_have_text("1 new", timeout=DONE_MS)
    reader.locator("#fresh").click()
    expect(reader.locator("#fresh")).to_be_hidden()
    until(reader, "window.scrollY < 100")
    expect(reader.locator("article.card", has_text="Above the wall")).to_be_in_viewport()


def test_the_end_is_told_to_those_who_listen(sign_in):
    page = sign_in()
    card_id = press(page, "A heron in reeds")
    expect(page.locator(f"#{card_id}")).to_have_attribute("data-state", "done", timeout=DONE_MS)
    expect(page.locator("#told")).to_have_text("Finished: A heron in reeds")


def test_an_open_page_of_a_task_becomes_its_picture(sign_in, site):
    page, watcher = sign_in(), sign_in()
    card_id = press(page, "A boat at low tide")
    watcher.goto(f"{site.url}/t/north/tasks/{card_id.removeprefix('task-')}/")
    expect(watcher.locator(".ground img")).to_be_visible(timeout=DONE_MS)
    expect(watcher.locator(".told")).to_contain_text("charged 10")


# --- Without the script ------------------------------------------------------------------------------------------------------


def test_without_the_script_images_words_and_a_press_make_a_picture(sign_in, site):
    page = sign_in(java_script_enabled=False)
    page.set_input_files("#files", [RED, TEXT, TEAL])
    page.fill("#prompt", "Image 2 behind image 1, by plain forms")
    page.select_option("#provider", "revid")
    page.locator("#go").click()
    expect(page.locator("#compose-problems")).to_contain_text("notes.png: ")
    expect(page.locator("#prompt")).to_have_value("Image 2 behind image 1, by plain forms")
    assert numbers(page) == ["Image 1: red.png", "Image 2: teal.png"]
    places = page.get_by_label("Number of this image; empty removes it")
    places.nth(0).fill("2")
    places.nth(1).fill("1")
    page.locator("#go").click()
    expect(page.locator("#notices")).to_contain_text("Sent: 1 picture.")
    assert numbers(page) == ["Image 1: teal.png", "Image 2: red.png"]
    expect(page.locator("#prompt")).to_have_value("Image 2 behind image 1, by plain forms")
    site.wait_at_rest()
    page.reload()
    expect(page.locator("article.card").first).to_have_attribute("data-state", "done")
    expect(page.locator("article.card").first).to_contain_text("charged 10")


# --- For all eyes, ears and widths -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(chromium, site) -> list[str]:
    """Addresses of every page of the studio's, with a picture and a failure in them."""
    return ["/t/north/", "/t/north/history/", "/t/north/tasks/1/", "/t/north/?like=1", "/t/nowhere/"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 768, 360])
def test_every_page_is_for_everyone_and_nothing_scrolls_sideways(sign_in, site, pages, width, scheme):
    page = sign_in(width, 780, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce", has_touch=width < 768)
    if not site.rows("SELECT id FROM flux2web_task WHERE state = 'failed'"):
        press(page, "A valley [filter]")
        site.wait_at_rest()
    for path in pages:
        page.goto(site.url + path)
        page.wait_for_load_state("networkidle") if "nowhere" in path else page.wait_for_timeout(300)
        found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
        assert [(path, rule["id"], rule["nodes"][0]["html"]) for rule in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_on_a_phone_the_button_is_always_in_sight_and_the_settings_open_above_it(sign_in):
    page = sign_in(360, 780, has_touch=True)
    assert page.locator("#go").bounding_box()["y"] < 780 - 40
    expect(page.locator("#compose-fields")).to_be_hidden()
    page.locator("#sheet-toggle").click()
    expect(page.locator("#field-aspect_ratio")).to_be_visible()
    fields, button = page.locator("#compose-fields").bounding_box(), page.locator("#go").bounding_box()
    assert fields["y"] + fields["height"] <= button["y"]
    assert button["height"] >= 44
