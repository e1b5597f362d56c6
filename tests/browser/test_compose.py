"""Writing a prompt in a real browser: places to fill in, variations, the draft, earlier prompts, the shelf, the seed."""

from __future__ import annotations

import re
import signal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from .test_studio import DONE_MS, GOLD, RED, RULES, TEAL, add, press

pytestmark = pytest.mark.browser


def fill_in(page: Page, name: str, values: str) -> None:
    page.get_by_label(name, exact=True).fill(values)


def kept(page: Page) -> None:
    expect(page.locator("#draft-said")).to_have_text("Draft kept")


# --- Places to fill in, and variations -------------------------------------------------------------------------------------


def test_places_to_fill_in_come_and_go_as_one_writes_and_the_price_follows(sign_in, site):
    page = sign_in()
    page.fill("#prompt", "A {bird} in {style} by the sea")
    expect(page.locator("#field-value .blank label")).to_have_text(["bird", "style"])
    fill_in(page, "bird", "heron | owl | crane")
    fill_in(page, "style", "ink | oil")
    expect(page.locator("#go")).to_have_text(re.compile("Generate 6 · 60 credits"))
    page.fill("#prompt", "A {bird} by the sea")
    expect(page.locator("#field-value .blank label")).to_have_text(["bird"])
    expect(page.locator("#go")).to_have_text(re.compile("Generate 3 · 30 credits"))
    page.fill("#prompt", "In {style}, a {bird} by the sea")
    expect(page.locator("#field-value .blank label")).to_have_text(["style", "bird"])
    expect(page.get_by_label("style", exact=True)).to_have_value("ink | oil")
    before = page.locator("article.card").count()
    expect(page.locator("#go")).to_have_text(re.compile("Generate 6 · 60 credits"))
    page.locator("#go").click()
    expect(page.locator("article.card")).to_have_count(before + 6)
    said = {text for (text,) in site.rows("SELECT prompt FROM flux2web_task ORDER BY id DESC LIMIT 6")}
    assert said == {
        f"In {style}, a {bird} by the sea" for style in ("ink", "oil") for bird in ("heron", "owl", "crane")
    }
    expect(page.locator("#prompt")).to_have_value("In {style}, a {bird} by the sea")
    assert not page.errors


def test_a_place_without_a_value_is_named_and_takes_the_cursor(sign_in):
    page = sign_in()
    page.fill("#prompt", "A {bird} on a {thing} at noon")
    fill_in(page, "bird", "heron")
    page.locator("#go").click()
    expect(page.locator("#compose-problems")).to_contain_text("Give {thing} a value.")
    expect(page.get_by_label("thing", exact=True)).to_be_focused()
    expect(page.get_by_label("bird", exact=True)).to_have_value("heron")


def test_ten_thousand_pictures_are_counted_and_not_made_and_all_of_it_stays(sign_in, site):
    page, made = sign_in(), "SELECT count(*), (SELECT held + spent FROM flux2web_budget) FROM flux2web_task"
    before = site.rows(made)
    page.fill("#prompt", "A {bird} in {style} at {hour} from {place}")
    ten = " | ".join(str(number) for number in range(1, 11))
    for name in ("bird", "style", "hour", "place"):
        fill_in(page, name, ten)
    said = "10,000 pictures (10,000 prompts) are too many for one press: 64 at most. Use fewer values."
    expect(page.locator("#quote .warn")).to_have_text(said)
    page.locator("#go").click()
    expect(page.locator("#compose-problems")).to_contain_text(said)
    expect(page.locator("#field-count input:checked")).to_be_focused()
    kept(page)
    assert site.rows(made) == before
    page.reload()
    expect(page.locator("#prompt")).to_have_value("A {bird} in {style} at {hour} from {place}")
    expect(page.get_by_label("place", exact=True)).to_have_value(ten)
    fill_in(page, "bird", "|".join(f"bird {number}" for number in range(200)))
    for name in ("style", "hour", "place"):
        fill_in(page, name, " | ".join(f"{name} {number}" for number in range(90)))
    expect(page.locator("#quote .warn")).to_contain_text("More than 1,000,000 pictures are too many for one press")


def test_further_shapes_and_families_multiply_and_the_button_says_so(sign_in):
    page = sign_in()
    page.locator("#variations summary").click()
    expect(page.locator("#field-also_ratio [data-also='1:1']")).to_be_hidden()  # it is the first anyway
    page.locator("#field-also_ratio [data-also='16:9']").click()
    page.locator("#field-also_family [data-also='flex']").click()
    expect(page.locator("#go")).to_have_text(re.compile("Generate 4 · 70 credits"))
    expect(page.locator("#quote .line").first).to_contain_text("10 to 25 each × 4")
    page.fill("#ceiling", "50")
    expect(page.locator("#quote")).to_contain_text("Above your ceiling of 50 credits")
    page.fill("#prompt", "A lighthouse of four kinds")
    page.locator("#go").click()
    expect(page.locator("#ceiling-error")).to_contain_text("These 4 cost 70 credits together; your ceiling is 50.")
    expect(page.locator("#ceiling")).to_be_focused()


def test_variations_that_the_provider_lacks_wait_for_one_that_has_them(sign_in):
    page = sign_in()
    page.locator("#variations summary").click()
    page.locator("#field-also_ratio [data-also='3:2']").click()
    page.locator("#field-also_ratio [data-also='16:9']").click()
    page.locator("#field-also_family [data-also='flex']").click()
    page.fill("#prompt", "A pier of several shapes")
    expect(page.locator("#go")).to_have_text(re.compile("Generate 6"))

    def waits(shapes: int, families: int) -> None:
        expect(page.locator("#field-also_ratio :checked:not(:disabled)")).to_have_count(shapes)
        expect(page.locator("#field-also_family :checked:not(:disabled)")).to_have_count(families)

    page.select_option("#provider", "flux2api")
    expect(page.locator("#go")).to_have_text(re.compile("Generate 4"))
    waits(1, 1)
    page.select_option("#provider", "vtrix")
    waits(2, 0)
    page.select_option("#provider", "flux2api")
    expect(page.locator("#draft-said")).to_have_text("Draft kept")
    page.reload()
    waits(1, 1)
    expect(page.locator("#go")).to_have_text(re.compile("Generate 4"))
    page.fill("#ceiling", "1")
    page.locator("#go").click()
    expect(page.locator("#ceiling-error")).to_be_visible()
    page.select_option("#provider", "")
    waits(2, 1)
    expect(page.locator("#go")).to_have_text(re.compile("Generate 6"))


def test_the_quote_tells_why_and_what_the_others_cost(sign_in):
    page = sign_in()
    page.locator("#others summary").click()
    expect(page.locator("#others li", has_text="Flux2API")).to_contain_text("30 credits")
    page.locator("label[data-resolution='2K']").click()
    expect(page.locator("#go")).to_contain_text("15 credits")
    expect(page.locator("#others")).to_have_attribute("open", "")  # what is being read stays open


# --- Made for a collection ----------------------------------------------------------------------------------------------------


def test_a_picture_made_for_a_collection_is_in_it_as_soon_as_it_is_one(sign_in, site):
    page = sign_in()
    expect(page.locator("#field-collection")).to_have_count(0)
    page.goto(f"{site.url}/t/north/collections/")
    page.get_by_role("button", name="New collection").click()
    page.fill("#make [name=name]", "Harbours")
    page.get_by_role("button", name="Make it").click()
    page.wait_for_url("**/collections/*/")
    collection = page.url
    page.goto(f"{site.url}/t/north/")
    page.select_option("#collection", label="Harbours")
    press(page, "A harbour to be kept together")
    expect(page.locator("#collection option:checked")).to_have_text("Harbours")  # also for the next one
    kept(page)
    page.reload()
    expect(page.locator("#collection option:checked")).to_have_text("Harbours")
    expect(page.locator("article.card").first).to_have_attribute("data-state", "done", timeout=DONE_MS)
    page.goto(collection)
    expect(page.locator("#found .tile")).to_have_count(1)
    expect(page.locator(".head")).to_contain_text("1 picture")

    # Deleted in another tab while it stands in the form: said, and nothing is lost but the choice.
    form = page.context.new_page()
    form.goto(f"{site.url}/t/north/")
    before = form.locator("article.card").count()
    page.get_by_text("Name, people and links").click()
    page.get_by_role("button", name="Delete the collection").first.click()
    page.locator("#delete").get_by_role("button", name="Delete the collection").click()
    expect(page.locator("#notices")).to_be_visible()
    form.fill("#prompt", "A harbour with no place to go")
    form.press("#prompt", "Control+Enter")
    expect(form.locator("#compose-problems")).to_contain_text("This collection is not there any more")
    expect(form.locator("#collection")).to_be_focused()
    assert not Axe().run(form, options={"runOnly": RULES}).response["violations"]
    expect(form.locator("#prompt")).to_have_value("A harbour with no place to go")
    assert form.locator("article.card").count() == before
    form.press("#prompt", "Control+Enter")
    expect(form.locator("article.card")).to_have_count(before + 1)


# --- Asked before much is spent -----------------------------------------------------------------------------------------------


@pytest.fixture
def asks_above_30(sign_in, site):
    """The team's owner has said so on its budget page; afterwards nothing is asked any more."""
    owner = sign_in()

    def say(typed: str) -> None:
        owner.goto(f"{site.url}/t/north/budget/")
        owner.fill("#confirm-above [name=confirm_above]", typed)
        owner.click("#confirm-above button")
        expect(owner.locator("#notices")).to_contain_text("confirmed first")

    say("30")
    assert not Axe().run(owner, options={"runOnly": RULES}).response["violations"]
    yield
    say("")


def used(site) -> int:
    return site.rows("SELECT held + spent FROM flux2web_budget")[0][0]


def test_what_costs_much_is_asked_about_first_and_sent_once_when_confirmed(asks_above_30, site, cleo):
    before = cleo.locator("article.card").count(), used(site)
    cleo.fill("#prompt", "Four herons for the question")
    cleo.locator("#field-count label", has_text="4").click()
    expect(cleo.locator("#go")).to_contain_text("Generate 4 · 40 credits")
    cleo.press("#prompt", "Control+Enter")
    question = cleo.locator("#confirm")
    expect(question).to_be_focused()
    expect(question).to_contain_text("These 4 pictures cost 40 credits. Above 30 your team asks first.")
    assert not Axe().run(cleo, options={"runOnly": RULES}).response["violations"]
    assert (cleo.locator("article.card").count(), used(site)) == before

    # It follows the form, goes away with "Not now", and comes again with the next press.
    cleo.locator("#field-count label", has_text="8").click()
    expect(question.locator("[name=confirm]")).to_have_text("Send 8 · 80 credits")
    expect(question.locator("[name=confirm]")).to_have_attribute("value", "80")
    cleo.locator("#field-count label", has_text="3").click()
    expect(question).to_have_count(0)
    cleo.locator("#field-count label", has_text="4").click()
    expect(cleo.locator("#go")).to_contain_text("Generate 4 · 40 credits")
    cleo.locator("#go").click()
    question.get_by_role("link", name="Not now").click()
    expect(question).to_have_count(0)
    expect(cleo.locator("#go")).to_be_focused()
    expect(cleo.locator("#prompt")).to_have_value("Four herons for the question")
    cleo.keyboard.press("Enter")
    expect(question).to_be_focused()
    cleo.keyboard.press("Tab")
    expect(question.locator("[name=confirm]")).to_be_focused()
    assert (cleo.locator("article.card").count(), used(site)) == before

    cleo.keyboard.press("Enter")
    expect(cleo.locator("article.card")).to_have_count(before[0] + 4)
    expect(question).to_have_count(0)
    expect(cleo.locator("#go")).to_be_focused()
    expect(cleo.locator("article.card[data-state=done]")).to_have_count(before[0] + 4, timeout=DONE_MS)
    assert used(site) == before[1] + 40

    # The buttons beside a picture ask as well.
    cleo.locator("article.card .picture").first.click()
    cleo.get_by_role("button", name=re.compile("More like this")).click()
    asked = cleo.locator("#notices .notice[data-asks]")
    expect(asked).to_be_focused()
    expect(asked).to_contain_text("These 4 pictures cost 40 credits.")
    asked.get_by_role("button", name="Send 4 · 40 credits").click()
    site.wait_until(lambda: used(site) == before[1] + 80, 10)


# --- The draft --------------------------------------------------------------------------------------------------------------


def test_what_is_typed_is_kept_and_is_there_in_another_browser(sign_in, site):
    page = sign_in()
    add(page, RED, TEAL)
    page.fill("#prompt", "Kept: {what} and image 1")
    fill_in(page, "what", "a boat")
    page.locator("label[data-family=flex]").click()
    page.locator("#field-count label", has_text="5").click()
    expect(page.locator("#slots img")).to_have_count(2)
    kept(page)
    site.wait_until(lambda: "a boat" in str(site.rows('SELECT "values" FROM flux2web_draft')), 10)
    site.wait_until(lambda: '"count": "5"' in str(site.rows('SELECT "values" FROM flux2web_draft')), 10)
    page.context.clear_cookies()
    page.goto(f"{site.url}/accounts/login/")
    page.fill("[name=login]", "ana@example.com")
    page.fill("[name=password]", "a long pass phrase 1")
    page.click("main form button")
    page.wait_for_url("**/t/north/")
    expect(page.locator("#prompt")).to_have_value("Kept: {what} and image 1")
    expect(page.get_by_label("what", exact=True)).to_have_value("a boat")
    expect(page.locator("[name=family]:checked")).to_have_value("flex")
    expect(page.locator("[name=count]:checked")).to_have_value("5")
    expect(page.locator("#slots img")).to_have_count(2)


def test_a_draft_is_there_after_signing_out_and_in_again_and_nobody_else_sees_it(sign_in, cleo, site):
    page = sign_in()
    add(page, RED)
    page.fill("#prompt", "Left on the desk over night")
    expect(page.locator("#slots img")).to_have_count(1)
    kept(page)
    page.get_by_label("Your account").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/**")
    cleo.reload()
    expect(cleo.locator("#prompt")).to_have_value("")
    page.fill("[name=login]", "ana@example.com")
    page.fill("[name=password]", "a long pass phrase 1")
    page.click("main form button")
    page.wait_for_url("**/t/north/")
    expect(page.locator("#prompt")).to_have_value("Left on the desk over night")
    expect(page.locator("#slots img")).to_have_count(1)


def test_a_draft_outlives_a_refusal_for_want_of_credits(sign_in, site):
    page = sign_in()
    before = site.rows("SELECT count(*) FROM flux2web_task")
    site.change("UPDATE flux2web_membership SET own_limit = 0")
    page.reload()
    add(page, RED, TEAL)
    expect(page.locator("#slots img")).to_have_count(2)
    page.fill("#prompt", "Image 1 beside image 2, dearer than I am")
    page.locator("#field-count label", has_text="3").click()
    expect(page.locator("#go")).to_contain_text("Generate 3 · 30 credits")
    page.locator("#go").click()
    expect(page.locator("#short")).to_contain_text("Not sent: this needs 30 credits, you have 0 left of your own limit")
    expect(page.locator("#prompt")).to_have_value("Image 1 beside image 2, dearer than I am")
    elsewhere = page.context.new_page()  # which remembers nothing by itself
    elsewhere.goto(f"{site.url}/t/north/")
    expect(elsewhere.locator("#prompt")).to_have_value("Image 1 beside image 2, dearer than I am")
    expect(elsewhere.locator("[name=count]:checked")).to_have_value("3")
    expect(elsewhere.locator("#slots img")).to_have_count(2)
    assert site.rows("SELECT count(*) FROM flux2web_task") == before
    site.change("UPDATE flux2web_membership SET own_limit = NULL")


# --- Images that are not there any more --------------------------------------------------------------------------------------


def test_an_image_deleted_meanwhile_is_named_in_its_place_and_the_next_one_takes_it(sign_in, site):
    page, librarian = sign_in(), sign_in()
    add(page, RED, TEAL)
    expect(page.locator("#slots img")).to_have_count(2)
    number = page.locator("#slots [name=references]").first.get_attribute("value")
    librarian.goto(f"{site.url}/t/north/references/{number}/")
    librarian.get_by_role("button", name="Delete", exact=True).click()
    librarian.get_by_role("button", name="Delete the image").click()
    expect(librarian.locator("#notices")).to_contain_text("is out of the library.")
    before = site.rows("SELECT count(*), (SELECT held FROM flux2web_budget) FROM flux2web_task")
    page.fill("#prompt", "The wall of image 1 behind image 2")
    page.locator("#go").click()
    expect(page.locator("#compose-problems")).to_contain_text("Image 1 is not here any more.")
    expect(page.locator("#slots .slot[data-state=refused]")).to_have_text(
        re.compile("Image 1 is gone: upload it again")
    )
    expect(page.locator("#prompt")).to_have_value("The wall of image 1 behind image 2")
    assert site.rows("SELECT count(*), (SELECT held FROM flux2web_budget) FROM flux2web_task") == before
    add(page, GOLD)
    expect(page.locator("#slots img")).to_have_count(2)
    expect(page.locator("#slots img").first).to_have_attribute("alt", "Image 1: gold.png")
    press(page, "The wall of image 1 behind image 2")


def test_an_image_of_another_team_is_no_image_here_whatever_the_page_is_made_to_say(sign_in, site):
    theirs = """
from flux2web.models import Team
from tests import factories
south = Team.objects.filter(slug="south").first() or factories.make_team(name="South", slug="south")
print("number", factories.make_reference(south, name="secret-plan.png").pk)
"""
    said = site.manage("shell", "-c", theirs).stdout
    number = re.search(r"number (\d+)", said)[1]
    page = sign_in()
    add(page, RED)
    expect(page.locator("#slots img")).to_have_count(1)
    page.locator("#slots [name=references]").evaluate("(input, number) => { input.value = number; }", number)
    before = site.rows("SELECT count(*), (SELECT held FROM flux2web_budget) FROM flux2web_task")
    page.fill("#prompt", "What does image 1 say?")
    page.locator("#go").click()
    expect(page.locator("#compose-problems")).to_contain_text("Image 1 is not here any more.")
    expect(page.locator("#prompt")).to_have_value("What does image 1 say?")
    assert "secret-plan" not in page.content()
    assert site.rows("SELECT count(*), (SELECT held FROM flux2web_budget) FROM flux2web_task") == before
    page.locator("#slots [data-slot=remove]").click()
    press(page, "What does nobody say?")


def test_the_last_words_before_a_reload_are_not_lost(sign_in):
    page = sign_in()
    page.fill("#prompt", "Typed just now, with no time to keep it")
    page.reload()
    expect(page.locator("#prompt")).to_have_value("Typed just now, with no time to keep it")


def test_a_draft_that_cannot_be_kept_says_so_and_is_kept_after_signing_in_again(sign_in, site):
    page = sign_in()
    page.fill("#prompt", "Written while signed in")
    kept(page)
    page.context.clear_cookies()
    page.fill("#prompt", "Written while signed out")
    expect(page.locator("#draft-said")).to_have_text(
        "Draft not kept: you are signed out. Sign in again in another tab."
    )
    other = page.context.new_page()
    other.goto(f"{site.url}/accounts/login/")
    other.fill("[name=login]", "ana@example.com")
    other.fill("[name=password]", "a long pass phrase 1")
    other.click("main form button")
    other.wait_for_url("**/t/north/")
    page.fill("#prompt", "Written after signing in again")
    kept(page)
    assert "after signing in again" in str(site.rows('SELECT "values" FROM flux2web_draft'))


def test_the_button_stays_when_its_price_cannot_be_asked_for(sign_in, site):
    page = sign_in()
    page.fill("#prompt", "A button that stays")
    page.route(
        "**/quote/*", lambda route: route.fulfill(status=502, content_type="text/html", body="<center>Bad</center>")
    )
    page.locator("#field-count label", has_text="2").click()
    expect(page.locator("#notices")).to_contain_text("did not answer as it should")
    expect(page.locator("#go")).to_contain_text("Generate")
    page.unroute("**/quote/*")
    page.context.clear_cookies()
    page.locator("#field-count label", has_text="3").click()
    expect(page.locator("#notices")).to_contain_text("You are signed out")
    expect(page.locator("#go")).to_contain_text("Generate")
    expect(page.locator("#main")).to_have_count(1)


def test_a_picture_for_ones_own_eyes_is_hidden_from_the_start(sign_in, site):
    page = sign_in(360, 780, has_touch=True)
    page.locator("#sheet-toggle").click()
    page.locator("#field-private label", has_text="Only me").click()
    expect(page.locator("#sheet-said")).to_contain_text("only me")
    kept(page)
    page.reload()
    page.locator("#sheet-toggle").click()
    expect(page.locator("[name=private]:checked")).to_have_value("1")
    page.keyboard.press("Escape")
    press(page, "A letter that nobody else reads")
    assert site.rows("SELECT private FROM flux2web_task ORDER BY id DESC LIMIT 1") == [(1,)]


def test_a_kept_draft_survives_a_crash_of_the_server_and_the_next_words_are_kept_after_it(sign_in, site):
    page = sign_in()
    page.fill("#prompt", "Kept before the crash")
    kept(page)
    site.stop(signal.SIGKILL)
    page.fill("#prompt", "Written while nobody answers")
    expect(page.locator("#draft-said")).to_contain_text("Draft not kept: the server does not answer.")
    site.start()
    assert "Kept before the crash" in str(site.rows('SELECT "values" FROM flux2web_draft'))
    page.fill("#prompt", "Written after the crash")
    kept(page)
    page.context.new_page().goto(f"{site.url}/t/north/")  # a tab of its own remembers nothing by itself
    expect(page.context.pages[-1].locator("#prompt")).to_have_value("Written after the crash")


def test_clearing_can_be_undone(sign_in, site):
    page = sign_in()
    add(page, GOLD)
    expect(page.locator("#slots img")).to_have_count(1)
    page.fill("#prompt", "Soon gone")
    page.locator("#clear").click()
    expect(page.locator("#cleared")).to_be_visible()
    expect(page.locator("#prompt")).to_have_value("")
    expect(page.locator("#slots img")).to_have_count(0)
    expect(page.locator("#prompt")).to_be_focused()
    page.locator("#cleared button").click()
    expect(page.locator("#prompt")).to_have_value("Soon gone")
    expect(page.locator("#slots img")).to_have_count(1)


# --- Earlier prompts ---------------------------------------------------------------------------------------------------------


def test_alt_and_arrows_walk_through_earlier_prompts_and_back_to_what_was_typed(sign_in):
    page = sign_in()
    for prompt in ("Walk: the first", "Walk: the second"):
        press(page, prompt)
    page.fill("#prompt", "half a thought")
    page.focus("#prompt")
    for key, words in (
        ("ArrowUp", "Walk: the second"),
        ("ArrowUp", "Walk: the first"),
        ("ArrowDown", "Walk: the second"),
        ("ArrowDown", "half a thought"),
        ("ArrowDown", "half a thought"),
    ):
        page.keyboard.press(f"Alt+{key}")
        expect(page.locator("#prompt")).to_have_value(words)


def test_earlier_prompts_are_found_by_words_and_taken_with_undo(sign_in):
    page = sign_in()
    press(page, "Marmalade jars on a sill")
    press(page, "Something else entirely")
    page.fill("#prompt", "not this")
    page.get_by_role("link", name="Earlier").click()
    page.locator("#earlier-q").fill("marmal")
    expect(page.locator("#own-prompts [data-earlier]")).to_have_text(["Marmalade jars on a sill"])
    page.locator("#own-prompts [data-earlier]").click()
    expect(page.locator("#own-prompts")).to_be_hidden()
    expect(page.locator("#prompt")).to_have_value("Marmalade jars on a sill")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#prompt")).to_have_value("not this")


# --- The shelf ---------------------------------------------------------------------------------------------------------------


def test_a_prompt_goes_to_the_shelf_and_comes_back_and_counts_its_uses(sign_in, site):
    page = sign_in()
    page.fill("#prompt", "A {bird} for the shelf")
    fill_in(page, "bird", "wren")
    page.get_by_role("link", name="Save this prompt").click()
    page.locator("#keep-form button", has_text="Put on the shelf").click()
    expect(page.locator("#keep-error")).to_have_text("Give it a title.")
    page.fill("#keep-title", "Shelf bird")
    page.keyboard.press("Enter")
    expect(page.locator("#keep-body")).to_contain_text("is on the shelf")
    page.get_by_role("button", name="Done").click()
    before = page.locator("article.card").count()
    page.locator("#go").click()
    expect(page.locator("article.card")).to_have_count(before + 1)
    expect(page.locator("article.card").first).to_have_attribute("data-state", "done", timeout=DONE_MS)
    page.goto(f"{site.url}/t/north/prompts/")
    line = page.locator(".shelf-line", has_text="Shelf bird")
    expect(line).to_contain_text("used 1 time")
    expect(line).to_contain_text("100 % ended well")
    expect(line.locator("img")).to_be_visible()
    line.get_by_role("link", name="Use").click()
    expect(page.locator("#prompt")).to_have_value("A {bird} for the shelf")
    expect(page.locator("#compose-from")).to_contain_text("From the shelf: Shelf bird")
    expect(page.get_by_label("bird", exact=True)).to_be_visible()


def test_the_shelf_keeps_the_images_and_the_settings_and_says_what_one_costs(sign_in, cleo, site):
    page = sign_in()
    add(page, RED, TEAL)
    expect(page.locator("#slots img")).to_have_count(2)
    page.fill("#prompt", "A {tree} between image 1 and image 2")
    fill_in(page, "tree", "lime")
    page.select_option("#provider", "revid")
    page.locator("label[data-ratio='16:9']").click()
    page.locator("label[data-resolution='2K']").click()
    expect(page.locator("#go")).to_contain_text("15 credits")
    page.get_by_role("link", name="Save this prompt").click()
    page.fill("#keep-title", "Tree between walls")
    page.keyboard.press("Enter")
    expect(page.locator("#keep-body")).to_contain_text("is on the shelf")

    cleo.goto(f"{site.url}/t/north/prompts/")  # it is the team's
    cleo.get_by_label("Use Tree between walls").click()
    cleo.wait_for_url("**?saved=*")
    expect(cleo.locator("#slots img")).to_have_count(2)
    expect(cleo.locator("[name=aspect_ratio]:checked")).to_have_value("16:9")
    expect(cleo.locator("[name=resolution]:checked")).to_have_value("2K")
    expect(cleo.locator("#provider")).to_have_value("revid")
    fill_in(cleo, "tree", "elm | oak")
    expect(cleo.locator("#go")).to_contain_text("Generate 2 · 30 credits")
    cleo.locator("#go").click()
    expect(cleo.locator("article.card[data-state=done]", has_text="between image 1")).to_have_count(2, timeout=DONE_MS)
    cleo.goto(f"{site.url}/t/north/prompts/")
    line = cleo.locator(".shelf-line", has_text="Tree between walls")
    expect(line).to_contain_text("used 1 time")
    expect(line).to_contain_text("100 % ended well · 15 credits each")


def test_a_prompt_of_the_shelf_is_changed_in_the_studio(sign_in, site):
    page = sign_in()
    page.fill("#prompt", "A {kite} to be changed")
    page.get_by_role("link", name="Save this prompt").click()
    page.fill("#keep-title", "Changing kite")
    page.keyboard.press("Enter")
    number = page.locator("[data-saved]").get_attribute("data-saved")
    page.goto(f"{site.url}/t/north/?saved={number}")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#cleared")).to_be_visible()
    page.get_by_role("link", name="Save this prompt").click()
    expect(page.locator("#keep-title")).to_be_visible()
    expect(page.locator("#fill-form")).to_be_hidden()
    page.get_by_role("button", name="Not now").click()
    page.goto(f"{site.url}/t/north/?saved={number}")
    page.fill("#prompt", "A red {kite}")
    page.get_by_role("link", name="Save this prompt").click()
    page.get_by_role("button", name="Save to “Changing kite”").click()
    expect(page.locator("#keep-body")).to_contain_text("now says the same")
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#draft-said")).to_have_text("Draft kept")
    page.goto(f"{site.url}/t/north/prompts/{number}/")
    expect(page.locator("textarea")).to_have_value("A red {kite}")
    expect(page.get_by_role("button", name="Save the form to this prompt")).to_be_visible()


def test_the_shelf_goes_out_as_a_table_and_comes_in_again_changed(sign_in, site):
    page = sign_in()
    shelf = f"{site.url}/t/north/prompts/"
    page.goto(shelf)
    sheet = {"name": "shelf.csv", "mimeType": "text/csv", "buffer": b"title,text\r\nTable heron,A heron at noon\r\n"}
    page.set_input_files("#sheets [type=file]", sheet)
    page.get_by_role("button", name="Take in").click()
    expect(page.locator(".shelf-line", has_text="Table heron")).to_contain_text("A heron at noon")
    with page.expect_download() as coming:
        page.get_by_role("link", name="Download all").click()
    written = coming.value.path().read_bytes()
    assert b"A heron at noon" in written
    page.set_input_files("#sheets [type=file]", sheet | {"buffer": written.replace(b"at noon", b"at dusk")})
    page.get_by_role("button", name="Take in").click()
    expect(page.locator(".shelf-line", has_text="Table heron")).to_contain_text("A heron at dusk")
    page.set_input_files("#sheets [type=file]", sheet | {"buffer": b"no,columns\r\n"})
    page.get_by_role("button", name="Take in").click()
    expect(page.locator("#sheets [role=alert]")).to_contain_text("Nothing was taken in.")


# --- The seed, and what the prompt says of the images -------------------------------------------------------------------------


def test_a_thrown_seed_stays_while_it_is_locked_and_changes_after_each_press_when_it_is_not(sign_in, site):
    page = sign_in()
    page.select_option("#provider", "vtrix")
    expect(page.locator("#go")).to_contain_text(
        "12 credits"
    )  # what is pressed before that is refused, at another price
    page.locator("#more summary").click()
    page.locator("#seed-throw").click()
    first = page.input_value("#seed")
    assert first.isdigit()
    press(page, "Dice: the same seed")
    expect(page.locator("#seed")).to_have_value(first)
    page.locator("#seed-lock").click()
    expect(page.locator("#seed-lock")).to_have_attribute("aria-pressed", "false")
    press(page, "Dice: another seed")
    expect(page.locator("#seed")).not_to_have_value(first)
    seeds = [seed for (seed,) in site.rows("SELECT seed FROM flux2web_task ORDER BY id DESC LIMIT 2")]
    assert seeds == [int(first)] * 2


def test_format_and_tolerance_go_with_the_picture_and_stand_on_its_page(sign_in, site):
    page = sign_in()
    page.select_option("#provider", "vtrix")
    expect(page.locator("#go")).to_contain_text("12 credits")
    page.locator("#more summary").click()
    page.select_option("#output_format", "png")
    page.select_option("#safety_tolerance", "2")
    card = page.locator(f"#{press(page, 'A sign in plain letters')}")
    expect(card).to_have_attribute("data-state", "done", timeout=DONE_MS)
    page.goto(f"{site.url}/t/north/tasks/{card.get_attribute('data-task')}/")
    facts = page.locator("dl.facts").first
    expect(facts).to_contain_text("PNG")
    expect(facts).to_contain_text("Safety tolerance")
    expect(page.locator("main")).to_contain_text("MB PNG")


def test_an_image_that_is_named_but_missing_or_there_but_never_named_is_hinted_at_and_sent_all_the_same(sign_in):
    page = sign_in()
    hint = page.locator("#images-said")
    page.fill("#prompt", "Put the sky of image 4 behind")
    expect(hint).to_have_text("Image 4 is named but not there.")
    add(page, RED, TEAL, GOLD)
    expect(page.locator("#slots img")).to_have_count(3)
    page.fill("#prompt", "Images 1 and 2 on one wall")
    expect(hint).to_have_text("Image 3 is never named.")
    page.fill("#prompt", "Images 1 to 3 on one wall")
    expect(hint).to_be_empty()
    press(page, "Image 1 on a wall of its own")


# --- For all eyes, ears and widths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 768, 360])
def test_the_form_and_the_shelf_are_for_everyone_and_nothing_scrolls_sideways(sign_in, site, width, scheme):
    page = sign_in(width, 780, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce", has_touch=width < 768)

    def nothing_wrong(place: str) -> None:
        found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
        assert [(place, rule["id"], rule["nodes"][0]["html"]) for rule in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place

    page.fill("#prompt", "A {very long name of a variable} in {style}, image 3")
    if width < 1024:
        page.locator("#sheet-toggle").click()
    page.locator("#variations summary").click()
    page.locator("#more summary").click()
    page.fill("#seed", "4294967295")
    expect(page.locator("#field-value .blank")).to_have_count(2)
    nothing_wrong("form")
    page.get_by_role("link", name="Earlier").click()
    expect(page.locator("#own-prompts #earlier > *").first).to_be_visible()
    nothing_wrong("earlier")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Save this prompt").click()
    page.fill("#keep-title", f"For all eyes {width} {scheme}")
    nothing_wrong("save")
    page.keyboard.press("Enter")
    expect(page.locator("#keep-body")).to_contain_text("is on the shelf")
    number = page.locator("[data-saved]").get_attribute("data-saved")
    for path in ("prompts/", "prompts/?new=1", "prompts/?q=nothingofthis", f"prompts/{number}/", "prompts/mine/"):
        page.goto(f"{site.url}/t/north/{path}")
        nothing_wrong(path)
