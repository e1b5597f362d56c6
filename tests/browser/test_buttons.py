"""Every button of a card, in each state that a picture can be in: pressed once, in a real browser, and what comes of it on two
screens and in the books."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from ..site import Site
from .conftest import until

pytestmark = pytest.mark.browser
DONE_MS = 30_000
# One task for each test, none of which is due before tomorrow.
TABLE = """
from datetime import timedelta
from django.utils import timezone
from flux2web.models import ProviderAccount, Result, Task, Team, User
from tests import factories
north, ana = Team.objects.get(slug="north"), User.objects.get(email="ana@example.com")
revid = ProviderAccount.objects.get(provider="revid", sandbox=True)
now = timezone.now()
def make(state, prompt, **fields):
    known = {"account": revid} if state not in ("queued", "cancelled") else {}
    return factories.make_task(north, user=ana, state=state, prompt=prompt, **known | fields)
later = {"due_at": now + timedelta(days=1)}
for prompt in ("A lamp to try again", "A lamp to change first"):
    make("failed", prompt, provider="revid", fail_message="Out of memory on worker 4.", fail_code="E_WORKER_OOM")
make("failed", "A lamp of ill repute", fail_kind="moderation", fail_message="Flagged: violence.", fail_code="NSFW")
make("cancelled", "A lamp taken back")
make("cancelled", "A lamp taken back to be changed")
for prompt in ("A lamp whose file is gone", "A lamp whose file is gone for good"):
    Result.objects.filter(task=make("done", prompt)).update(purged_at=now)
make("uncertain", "A lamp nobody answers for", **later)
rest = {"paused_until": now + timedelta(days=1), "pause_kind": "balance"}
ProviderAccount.objects.filter(provider="apixo", sandbox=True).update(**rest)
make("queued", "A lamp for one who is paused", provider="apixo", price=20, looks=1, **later)
make("done", "A lamp that burns")
"""


@pytest.fixture(scope="module")
def table(site) -> Site:
    done = site.manage("shell", "-c", TABLE)
    assert done.returncode == 0, done.stderr
    return site


def card(page: Page, prompt: str) -> Locator:
    """By the whole of its prompt; the newest of several."""
    return page.locator("article.card", has=page.get_by_role("link", name=prompt, exact=True)).first


def id_of(page: Page, prompt: str) -> str:
    return card(page, prompt).get_attribute("id")


def press(shown: Locator, words: str) -> None:
    """A press that is never aimed at where the button was: cards above may come meanwhile."""
    shown.get_by_role("button", name=words).dispatch_event("click")


def money(site: Site) -> tuple[int, int]:
    """(held, spent)."""
    [found] = site.rows("SELECT held, spent FROM flux2web_budget")
    return found


def again(page: Page, watcher: Page, site: Site, prompt: str, words: str) -> None:
    """The press makes one more of it: done on both screens, 10 credits paid for it and none for the old one."""
    old, (held, spent) = id_of(page, prompt), money(site)
    was = card(page, prompt).get_attribute("data-state")
    press(page.locator(f"#{old}"), words)
    for screen in (page, watcher):
        new = card(screen, prompt)
        expect(new).not_to_have_attribute("id", old)
        expect(new).to_have_attribute("data-state", "done", timeout=DONE_MS)
        expect(new).to_contain_text("Held 10 · charged 10")
        expect(screen.locator(f"#{old}")).to_have_attribute("data-state", was)
    assert money(site) == (held, spent + 10)
    [(parent,)] = site.rows("SELECT parent_id FROM flux2web_task WHERE prompt = ? ORDER BY id DESC LIMIT 1", prompt)
    assert f"task-{parent}" == old


@pytest.mark.parametrize(
    ("prompt", "says", "button"),
    [
        ("A lamp to try again", "Not charged: 10 returned", "Retry · 10"),
        ("A lamp taken back", "Cancelled", "Run again · 10"),
        ("A lamp whose file is gone", "The original is no longer available", "Run again · 10"),
    ],
)
def test_what_gave_no_picture_or_lost_it_is_made_again(table, sign_in, site, prompt, says, button):
    page, watcher = sign_in(), sign_in()
    expect(card(page, prompt)).to_contain_text(says)
    again(page, watcher, site, prompt, button)


def test_what_lost_its_file_is_deleted_on_every_screen_and_comes_back(table, sign_in, site):
    page, watcher = sign_in(), sign_in()
    gone, before = id_of(page, "A lamp whose file is gone for good"), money(site)
    press(page.locator(f"#{gone}"), "Delete")
    for screen in (page, watcher):
        expect(screen.locator(f"#{gone}")).to_have_count(0)
    page.locator("#notices").get_by_role("button", name="Undo").click()
    for screen in (page, watcher):
        expect(screen.locator(f"#{gone}")).to_have_count(1)
    assert money(site) == before


@pytest.mark.parametrize(
    ("prompt", "words", "provider"),
    [
        ("A lamp to change first", "Edit and retry", "revid"),
        ("A lamp of ill repute", "Edit prompt", ""),
        ("A lamp taken back to be changed", "Edit", ""),
        ("A lamp for one who is paused", "Change the provider", "apixo"),
    ],
)
def test_what_did_not_come_fills_the_form_to_be_changed_and_sent(table, sign_in, site, prompt, words, provider):
    page = sign_in()
    link = card(page, prompt).get_by_role("link", name=re.compile(f"^{words} task"))
    number = card(page, prompt).get_attribute("data-task")
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**?like={number}")
    expect(page.locator("#prompt")).to_have_value(prompt)
    expect(page.locator("#provider")).to_have_value(provider)
    expect(page.locator("#compose-from")).to_contain_text("your picture")
    page.select_option("#provider", "revid")
    expect(page.locator("#go")).to_contain_text("10 credits")
    page.fill("#prompt", f"{prompt}, by day")
    page.press("#prompt", "Control+Enter")
    expect(card(page, f"{prompt}, by day")).to_have_attribute("data-state", "done", timeout=DONE_MS)
    rows = site.rows("SELECT parent_id, state FROM flux2web_task WHERE prompt = ?", f"{prompt}, by day")
    assert rows == [(int(number), "done")]


def test_what_nobody_answers_for_is_amber_and_looked_for_at_once_its_credits_held(table, sign_in, site):
    page = sign_in()
    unclear, before = card(page, "A lamp nobody answers for"), money(site)
    expect(unclear).to_contain_text("next look in")
    amber = """node => {
      const probe = node.appendChild(Object.assign(document.createElement("i"), { className: "warn" }));
      const colours = [probe, node.querySelector(".wait > .icon")].map((one) => getComputedStyle(one).color);
      probe.remove();
      return colours;
    }"""
    warn, icon = unclear.evaluate(amber)
    assert warn == icon
    was = unclear.locator("[data-until]").get_attribute("data-until")
    press(unclear, "Look now")
    expect(unclear.locator("[data-until]")).not_to_have_attribute("data-until", was)
    expect(unclear).to_have_attribute("data-state", "uncertain")
    expect(unclear).to_contain_text("Held 10")
    press(unclear, "Look now")
    expect(page.locator("#notices")).to_contain_text("a moment ago")
    assert money(site) == before


def test_what_takes_longer_than_usual_says_so_and_one_look_brings_it(table, sign_in, site):
    page, watcher = sign_in(), sign_in()
    page.select_option("#provider", "revid")
    expect(page.locator("#go")).to_contain_text("10 credits")
    page.fill("#prompt", "A lamp lit slowly [slow] [silent]")
    page.press("#prompt", "Control+Enter")
    slow = card(page, "A lamp lit slowly [slow] [silent]")
    expect(slow).to_have_attribute("data-state", "running", timeout=DONE_MS)
    expect(slow.get_by_role("button", name="Look now")).to_be_hidden()
    grows = "parseFloat(document.querySelector('article.card [data-ring]').getAttribute('stroke-dasharray'))"
    began = page.evaluate(grows)
    until(page, f"{grows} > {began}")
    number = int(slow.get_attribute("data-task"))
    asleep = "due_at = datetime('now', '+1 day'), accepted_at = datetime('now', '-5 minutes'), looked_at = NULL"

    def sleeps() -> bool:
        [(found,)] = site.rows("SELECT due_at > datetime('now', '+1 hour') FROM flux2web_task WHERE id = ?", number)
        if not found:
            site.change(f"UPDATE flux2web_task SET {asleep} WHERE id = ?", number)
        return bool(found)

    site.wait_until(sleeps)
    page.wait_for_timeout(3000)  # the provider is done by then, and has not told anybody
    page.reload()
    expect(slow.locator(".slowly")).to_have_text("Slower than usual. You may close this page.")
    press(slow, "Look now")
    for screen in (page, watcher):
        expect(card(screen, "A lamp lit slowly [slow] [silent]")).to_have_attribute(
            "data-state", "done", timeout=DONE_MS
        )


def test_a_picture_opens_over_the_page_and_is_remixed_from_its_card(table, sign_in, site):
    page = sign_in()
    page.set_viewport_size({"width": 1280, "height": 900})
    made = card(page, "A lamp that burns")
    number = made.get_attribute("data-task")
    made.hover()
    made.get_by_label(f"Open picture {number}").click()
    expect(page.locator("#picture #detail")).to_have_attribute("data-task", number)
    page.keyboard.press("Escape")
    expect(page.locator("#picture #detail")).to_have_count(0)
    made.hover()
    made.get_by_label(f"Remix picture {number}").click()
    expect(page.locator("#prompt")).to_have_value("A lamp that burns")
    expect(page.locator("#compose-from")).to_contain_text("Remixing your picture")


def test_a_failure_is_told_aloud_and_moves_nothing_under_the_hands(table, sign_in, site):
    page, before = sign_in(), money(site)
    page.select_option("#provider", "revid")
    expect(page.locator("#go")).to_contain_text("10 credits")
    page.fill("#prompt", "A lamp that breaks [fail]")
    page.press("#prompt", "Control+Enter")
    lamp = card(page, "A lamp that breaks [fail]")
    expect(lamp).to_have_attribute("data-state", "failed", timeout=DONE_MS)
    expect(page.locator("#told")).to_have_text("Failed: A lamp that breaks [fail]")
    expect(lamp).to_contain_text("Not charged: 10 returned")
    assert page.evaluate("document.activeElement.id") == "prompt"
    assert money(site) == before
