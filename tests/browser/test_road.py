"""From a prompt to a stored picture, in a real browser, on all five providers; and every other screen sees it."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect

from ..peer import picture
from .conftest import until

pytestmark = pytest.mark.browser
DONE_MS = 30_000
CREDITS = {"revid": 10, "apikley": 28, "apixo": 20, "flux2api": 30, "vtrix": 12}  # a picture at 1K, of the family used
FOR_TWO_REFERENCES = {"vtrix": 12}
FAMILY = {"apikley": "flex"}
NO_CALLBACKS = {"vtrix"}
BOWL = {"name": "bowl.png", "mimeType": "image/png", "buffer": picture(400, 300)}
CLOTH = {"name": "cloth.jpg", "mimeType": "image/jpeg", "buffer": picture(300, 400, fmt="JPEG")}


def compose(page: Page, provider: str, prompt: str, *, more: int = 0) -> None:
    """Fill the form, and wait until the button says the price of just this: a press before that would be refused."""
    page.select_option("#provider", provider)
    page.locator(f"label[data-family={FAMILY.get(provider, 'pro')}]").click()
    page.fill("#prompt", prompt)
    expect(page.locator("#go")).to_contain_text(f"· {CREDITS[provider] + more} credits")


def send(page: Page) -> str:
    """Press the button; the id of the newest card."""
    before, key = page.locator("article.card").count(), page.input_value("#compose-key")
    button = page.locator("#compose button:has-text('Generate')")
    expect(button).to_be_enabled()
    expect(button).to_contain_text(re.compile(r"\d+ credits"))
    button.click()
    expect(page.locator("article.card")).to_have_count(before + 1)
    expect(page.locator("#compose-key")).not_to_have_value(key)  # answered: a press before that would be the same press
    return page.locator("article.card").first.get_attribute("id")


def expect_picture(page: Page, card_id: str) -> None:
    card = page.locator(f"#{card_id}")
    expect(card).to_have_attribute("data-state", "done", timeout=DONE_MS)
    expect(card.locator("img")).to_be_visible()
    until(page, f"document.querySelector('#{card_id} img').naturalWidth > 0")
    expect(card).to_contain_text("charged")


@pytest.mark.parametrize("provider", CREDITS)
def test_pictures_from_text_and_from_two_references_show_on_every_screen(provider, sign_in, site):
    maker, watcher = sign_in(), sign_in()
    made = []
    for prompt in (f"A harbour at dawn, {provider}", f"A harbour at dusk, {provider} [silent]"):
        compose(maker, provider, prompt)
        made.append(send(maker))
    maker.set_input_files("#files", [BOWL, CLOTH])
    expect(maker.locator("#slots .slot img")).to_have_count(2)
    for prompt in (
        f"The bowl of image 1 on the cloth of image 2, {provider}",
        f"Image 1 over image 2, {provider} [silent]",
    ):
        compose(maker, provider, prompt, more=FOR_TWO_REFERENCES.get(provider, 0))
        made.append(send(maker))
    for card_id in made:
        expect_picture(watcher, card_id)
        expect_picture(maker, card_id)
    assert maker.errors + watcher.errors == []

    ids = [int(card_id.removeprefix("task-")) for card_id in made]
    rung = "SELECT count(*) FROM flux2web_callback c JOIN flux2web_attempt a ON a.id = c.attempt_id WHERE a.task_id = ?"
    heard = [site.rows(rung, task_id)[0][0] > 0 for task_id in ids]
    assert heard == ([False] * 4 if provider in NO_CALLBACKS else [True, False, True, False])
    modes = site.rows(f"SELECT reference_count FROM flux2web_task WHERE id IN ({','.join(map(str, ids))}) ORDER BY id")
    assert modes == [(0,), (0,), (2,), (2,)]


def test_without_a_stream_the_page_asks_by_itself(sign_in):
    page = sign_in()
    page.context.route("**/live/", lambda route: route.abort())
    page.reload()
    compose(page, "revid", "A quiet valley")
    expect_picture(page, send(page))


def test_what_is_being_typed_and_focus_survive_a_change_of_cards(sign_in):
    page = sign_in()
    compose(page, "revid", "A quiet valley in moss greens")
    card_id = send(page)
    page.fill("#prompt", "half a thought")
    page.focus("#prompt")
    expect_picture(page, card_id)
    assert page.input_value("#prompt") == "half a thought"
    assert page.evaluate("document.activeElement.id") == "prompt"


def test_a_failure_says_why_and_what_was_returned(sign_in):
    page = sign_in()
    compose(page, "revid", "A valley [filter]")
    card = page.locator(f"#{send(page)}")
    expect(card).to_have_attribute("data-state", "failed", timeout=DONE_MS)
    expect(card).to_contain_text("filter")
    expect(card).to_contain_text("Not charged")
    expect(card).to_contain_text("10 returned")


def wait_for(condition, timeout_s: float = 20) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.1)


def test_a_waiting_task_is_cancelled_and_the_credits_return(sign_in, site):
    """Apixo's account is paused by a refusal, so the task waits."""
    page = sign_in()
    compose(page, "apixo", "A valley [broke]")
    card = page.locator(f"#{send(page)}")
    paused = "SELECT count(*) FROM flux2web_provideraccount WHERE provider = 'apixo' AND paused_until IS NOT NULL"
    wait_for(lambda: site.rows(paused) == [(1,)])
    expect(card.locator("button", has_text="Cancel")).to_be_visible(timeout=DONE_MS)
    card.locator("button", has_text="Cancel").click()
    expect(card).to_have_attribute("data-state", "cancelled")
    expect(card).to_contain_text("20 returned")


def test_the_balance_follows(sign_in):
    page, watcher = sign_in(), sign_in()
    before = int(watcher.get_attribute("#balance", "data-available"))
    compose(page, "revid", "A valley with a mill")
    expect_picture(page, send(page))
    expect(watcher.locator("#balance")).to_have_attribute("data-available", str(before - 10))


def test_the_original_can_be_downloaded(sign_in):
    page = sign_in()
    compose(page, "revid", "A valley to take home")
    card_id = send(page)
    expect_picture(page, card_id)
    with page.expect_download() as download:
        page.locator(f"#{card_id} a[download]").click()
    assert download.value.suggested_filename.endswith((".jpg", ".png"))


def test_a_restarted_server_ends_in_a_page_that_is_right(sign_in, site):
    page = sign_in()
    compose(page, "revid", "A quiet valley [slow]")
    card_id = send(page)
    site.stop()
    site.start()
    expect_picture(page, card_id)
