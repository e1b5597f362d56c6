"""Cards in every state, and batches as groups, in a real browser: what they say, what one can do, and whom it suits."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from ..site import Site

pytestmark = pytest.mark.browser
DONE_MS = 30_000
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# One task of each kind, none of which is due before tomorrow, and a batch that rests half failed.
STATES = """
from datetime import timedelta
from django.core.files.storage import default_storage
from django.utils import timezone
from flux2web.models import Batch, ProviderAccount, Result, Task, Team, User
from tests import factories
north, ana = Team.objects.get(slug="north"), User.objects.get(email="ana@example.com")
revid = ProviderAccount.objects.get(provider="revid", sandbox=True)
ProviderAccount.objects.filter(pk=revid.pk).update(record={"done": 40, "failed": 1, "median_s": 22, "p90_s": 40.5})
now = timezone.now()
later = {"due_at": now + timedelta(days=1)}
def make(state, prompt, **fields):
    known = {"account": revid} if state not in ("queued", "cancelled") else {}
    return factories.make_task(north, user=ana, state=state, prompt=prompt, **known | fields)
one = make("done", "A picture that is there")
gone = make("done", "A picture whose file is gone")
Result.objects.filter(task=gone).update(purged_at=now)
lost = make("done", "A picture whose file is lost")
lost.result.lost_at = now
lost.result.save()
default_storage.delete(lost.result.key)
make("done", "A picture about to be lost")
make("cancelled", "Taken back")
make("cancelled", "Ended by the rule", fail_message="2 of this batch failed, so the rest was not sent.")
make("failed", "Failed", provider="revid", fail_message="Out of memory on worker 4.", fail_code="E_WORKER_OOM")
make("failed", "Refused", fail_kind="moderation", fail_message="Flagged: violence.", fail_code="NSFW")
make("uncertain", "Nobody knows", **later)
make("saving", "Nearly there", provider_s=21.0, **later)
make("running", "On its way", accepted_at=now - timedelta(seconds=11), **later)
make("running", "Slower than usual", accepted_at=now - timedelta(minutes=5), **later)
make("submitting", "Just sent", **later)
make("queued", "In line first", waits_for=revid, **later)
rest = {"paused_until": now + timedelta(days=1), "pause_kind": "balance"}
ProviderAccount.objects.filter(provider="apixo", sandbox=True).update(**rest)
make("queued", "Chosen for one who is paused", provider="apixo", price=20, looks=1, **later)
make("queued", "In line second", waits_for=revid, seed=77, **later)
batch = factories.make_batch(north, ana)
for state in ("done", "failed", "done", "failed"):
    make(state, "Four of a kind, half of them failed", batch=batch)
going = factories.make_batch(north, ana)
Batch.objects.filter(pk=going.pk).update(stop_after=2)
for number, state in enumerate(("done", "running", "queued"), 1):
    place = {"batch": going, "batch_number": number, "batch_size": 3}
    make(state, f"Three prompts, {state}", **place, **({} if state == "done" else later))
Task.objects.update(version=3)
"""


@pytest.fixture(scope="module")
def table(site) -> Site:
    done = site.manage("shell", "-c", STATES)
    assert done.returncode == 0, done.stderr
    return site


def card(page: Page, prompt: str):
    return page.locator("article.card", has_text=prompt)


def studio(page: Page, site: Site) -> None:
    """With a form as it is for somebody new: what an earlier test typed is kept for its member."""
    page.goto(f"{site.url}/t/north/?count=1")


# --- What a card says and lets one do ----------------------------------------------------------------------------------------


def test_every_state_says_what_is_and_what_one_can_do(table, sign_in):
    page = sign_in()
    said = {
        "In line second": ("In line, 2nd of yours", "Comes back if cancelled", "Cancel"),
        "one who is paused": ("Apixo is paused: no money left there.", "Change the provider", "Cancel"),
        "On its way": ("Revid usually takes", "Held 10"),
        "Slower than usual": ("Slower than usual. You may close this page.", "Look now", "Copy task id"),
        "Nearly there": ("Saving our copy", "Made by Revid in 21 s"),
        "Nobody knows": ("No answer yet", "next look in", "Look now", "Report", "Copy task id", "Stop watching"),
        "Three prompts, done": ("1/3",),
        "Out of memory on worker 4.": ("Not charged: 10 returned", "Retry · 10", "Edit and retry"),
        "Refused": ("Refused by the model's filter", "Edit prompt"),
        "Ended by the rule": ("2 of this batch failed, so the rest was not sent.", "Run again · 10"),
        "whose file is gone": ("The original is no longer available", "Run again · 10", "Delete"),
        "whose file is lost": ("The original is no longer available", "missing from storage", "Run again · 10"),
        "A picture that is there": ("charged 10",),
    }
    for prompt, words in said.items():
        for word in words:
            expect(card(page, prompt).first).to_contain_text(word)
    expect(card(page, "On its way").get_by_role("button", name="Copy task id")).to_be_hidden()
    expect(card(page, "Refused").get_by_role("button", name="Retry")).to_have_count(0)


def test_the_code_and_the_whole_error_are_in_the_details_and_can_be_copied(table, sign_in):
    page = sign_in()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    failed = card(page, "Out of memory")
    page.mouse.move(5, 5)
    failed.scroll_into_view_if_needed()
    box = failed.bounding_box()
    failed.locator("summary").click()
    expect(failed.locator(".fine")).to_contain_text("The provider calls it E_WORKER_OOM.")
    assert failed.bounding_box() == box
    failed.get_by_role("button", name="Copy error").click()
    expect(failed.get_by_role("button", name="Copied")).to_be_visible()
    text = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(
        r"Task \d+: Revid failed\. Out of memory on worker 4\. The provider calls it E_WORKER_OOM\.", text
    )


def test_the_id_of_a_task_is_copied_as_a_number(table, sign_in):
    page = sign_in()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    unclear = card(page, "Nobody knows")
    unclear.get_by_role("button", name="Copy task id").click()
    expect(unclear.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == unclear.get_attribute("data-task")


def renewed(page: Page, prompt: str, version: int, word: str) -> None:
    """As if the server had drawn this card anew."""
    page.evaluate(
        """([prompt, version, word]) => {
          const shown = [...document.querySelectorAll("article.card")];
          const card = shown.find((node) => node.textContent.includes(prompt)).cloneNode(true);
          card.dataset.version = version;
          card.querySelector(".detail").textContent = word;
          window.flux2web.apply(card.outerHTML);
        }""",
        [prompt, version, word],
    )


def test_the_same_version_may_say_something_else_and_an_older_one_nothing(table, sign_in):
    page = sign_in()
    renewed(page, "Nobody knows", 3, "Something else by now")
    expect(card(page, "Nobody knows")).to_contain_text("Something else by now")
    renewed(page, "Nobody knows", 2, "Something older")
    expect(card(page, "Nobody knows")).to_contain_text("Something else by now")


def test_details_that_are_being_read_stay_until_they_are_closed(table, sign_in):
    page = sign_in()
    failed = card(page, "Out of memory")
    failed.locator("summary").click()
    renewed(page, "Out of memory", 4, "Something else.")
    expect(failed.locator("details")).to_have_attribute("open", "")
    expect(failed.locator(".detail")).to_have_text("Out of memory on worker 4.")
    failed.locator("summary").click()
    expect(page.locator(".detail", has_text="Something else.")).to_be_attached()


def test_a_card_that_changes_under_the_focus_keeps_it_and_no_button_becomes_another(table, sign_in):
    page = sign_in()
    waiting = card(page, "In line first")
    card_id = waiting.get_attribute("id")
    waiting.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    expect(page.locator(f"#{card_id}")).to_have_attribute("data-state", "cancelled")
    assert page.evaluate("document.activeElement.closest('article')?.id") == card_id
    assert page.evaluate("document.activeElement.tagName") == "A"
    expect(page.locator("#told")).to_have_text("Cancelled: In line first")


def test_a_picture_becomes_an_image_of_the_form_from_its_card(table, sign_in, site):
    page = sign_in()
    studio(page, site)
    made = card(page, "Three prompts, done")
    made.hover()
    made.get_by_role("button", name="as image").click()
    page.wait_for_url("**references=*")
    expect(page.locator("#slots img")).not_to_have_count(0)


def test_a_lost_original_turns_its_card_on_every_screen_and_back_once_it_is_found(table, sign_in, site):
    page, watcher = sign_in(), sign_in()
    history, own = watcher.context.new_page(), page.context.new_page()
    history.goto(f"{site.url}/t/north/history/")
    prompt, said = "A picture about to be lost", "The original is no longer available"
    task = card(page, prompt).get_attribute("data-task")
    tile = history.locator(f"#tile-{task}")
    [(key,)] = site.rows("SELECT key FROM flux2web_result WHERE task_id = ?", task)
    original, away = site.var / "media" / key, site.var / "away.png"
    original.rename(away)
    own.goto(f"{site.url}/t/north/tasks/{task}/")
    expect(own.locator("#detail .wait")).to_contain_text(said)
    for screen in (page, watcher):
        lost = card(screen, prompt)
        expect(lost).to_contain_text(said)
        lost.scroll_into_view_if_needed()
        expect(lost.locator(".left")).to_be_visible()
        expect(lost.get_by_role("button", name="Run again · 10")).to_be_visible()
        expect(lost.get_by_role("button", name="Delete")).to_be_visible()
    expect(tile).to_contain_text(said)
    expect(tile.get_by_label("Download")).to_be_hidden()
    away.rename(original)
    own.reload()
    expect(own.locator("#detail .ground > a > img")).to_be_visible()
    for screen in (page, watcher):
        expect(card(screen, prompt).locator(".picture img")).to_be_visible()
        expect(card(screen, prompt)).not_to_contain_text(said)
    expect(tile).not_to_contain_text(said)
    expect(tile.locator("img")).to_have_attribute("src", f"/t/north/results/{task}/320")


# --- Hearts, the menu, and what is left alone --------------------------------------------------------------------------------


def more_of(shown):
    """Its menu, open."""
    shown.hover()
    shown.get_by_label("More for picture").click()


def test_a_heart_is_ones_own_on_every_tab_and_its_number_everyones(table, sign_in, site):
    page, watcher = sign_in(), sign_in()
    other_tab = page.context.new_page()
    other_tab.goto(f"{site.url}/t/north/")
    prompt = "Three prompts, done"
    heart = card(page, prompt).locator(".heart")
    expect(heart).to_have_attribute("aria-pressed", "false")
    card(page, prompt).hover()
    heart.click()
    for tab in (page, other_tab):
        expect(card(tab, prompt).locator(".heart")).to_have_attribute("aria-pressed", "true")
    for screen in (page, other_tab, watcher):
        expect(card(screen, prompt).locator(".heart .num")).to_have_text("1")
    expect(page.locator("#told")).to_have_text("Favourite")
    page.reload()
    expect(heart).to_have_attribute("aria-pressed", "true")
    heart.focus()
    page.keyboard.press("Enter")
    expect(heart).to_have_attribute("aria-pressed", "false")
    expect(heart).to_be_focused()
    expect(card(watcher, prompt).locator(".heart .num")).to_have_text("")


def test_a_card_that_everyone_gets_says_nothing_of_whose_heart_it_is(table, sign_in, site):
    page = sign_in()
    heart = page.locator("article.card .heart").first
    heart.click()
    expect(heart).to_have_attribute("aria-pressed", "true")
    task = heart.locator("xpath=ancestor::article").get_attribute("data-task")
    page.evaluate(f"fetch('/t/north/tasks/{task}/card/').then((answer) => answer.text()).then(window.flux2web.apply)")
    page.wait_for_timeout(300)
    expect(heart).to_have_attribute("aria-pressed", "true")
    heart.click()
    expect(heart).to_have_attribute("aria-pressed", "false")


def test_a_heart_given_elsewhere_comes_with_what_was_missed(table, sign_in):
    page, elsewhere = sign_in(), sign_in()
    prompt = "Three prompts, done"
    page.context.set_offline(True)
    card(elsewhere, prompt).hover()
    card(elsewhere, prompt).locator(".heart").click()
    expect(card(elsewhere, prompt).locator(".heart")).to_have_attribute("aria-pressed", "true")
    page.context.set_offline(False)
    expect(card(page, prompt).locator(".heart")).to_have_attribute("aria-pressed", "true")
    card(elsewhere, prompt).locator(".heart").click()
    expect(card(page, prompt).locator(".heart .num")).to_have_text("")


@pytest.mark.parametrize("width", [1280, 360])
def test_the_menu_copies_and_leads_by_keyboard_and_finger(table, sign_in, width):
    phone = {"has_touch": True, "is_mobile": True} if width == 360 else {}
    page = sign_in(width, 900, bypass_csp=True, permissions=["clipboard-read", "clipboard-write"], **phone)
    made = card(page, "Three prompts, done")
    task = made.get_attribute("data-task")
    more = made.get_by_label("More for picture")
    if width == 360:  # where nothing hovers, everything is in sight
        for shown in (made.locator(".heart"), made.locator(".acts")):
            expect(shown).to_have_css("opacity", "1")
    more.focus()
    page.keyboard.press("Enter")
    items = made.locator(".menu .sheet :is(a, button)")
    assert items.all_inner_texts() == ["Add to collection", "Copy prompt", "Copy link", "Only me", "Delete"]
    if width == 360:
        assert min(node.bounding_box()["height"] for node in [more, *items.all()]) >= 44
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found] == []
    made.get_by_role("button", name="Copy link").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.evaluate(f"`${{location.origin}}/t/north/tasks/{task}/`")
    made.get_by_role("button", name="Copy prompt").click()
    assert page.evaluate("navigator.clipboard.readText()") == "Three prompts, done"
    page.keyboard.press("Escape")
    expect(more).to_be_focused()
    more.click()
    made.get_by_role("link", name="Add to collection").click()
    page.wait_for_url(f"**/tasks/{task}/collect/")


def test_a_long_prompt_is_copied_whole(table, sign_in, site):
    long = ("A very long harbour, " * 40).strip()
    change = f"Task.objects.filter(prompt='A picture that is there').update(prompt='{long}')"
    assert site.manage("shell", "-c", f"from flux2web.models import Task; {change}").returncode == 0
    page = sign_in(permissions=["clipboard-read", "clipboard-write"])
    made = card(page, "A very long harbour")
    more_of(made)
    made.get_by_role("button", name="Copy prompt").click()
    expect(made.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == long


# --- Hearts, menus, retries as they were seen ---------------------------------------------------------------------------------


def test_a_heart_does_what_it_shows_also_where_another_device_has_turned_it(table, sign_in):
    page, elsewhere = sign_in(), sign_in()
    prompt = "Three prompts, done"
    theirs, mine = (card(screen, prompt).locator(".heart") for screen in (elsewhere, page))
    theirs.click()
    expect(mine.locator(".num")).to_have_text("1")
    expect(mine).to_have_attribute("aria-pressed", "false")
    mine.click()
    expect(mine).to_have_attribute("aria-pressed", "true")
    expect(mine.locator(".num")).to_have_text("1")
    expect(theirs).to_have_attribute("aria-pressed", "true")
    theirs.click()
    expect(mine.locator(".num")).to_have_text("")
    mine.click()
    expect(mine).to_have_attribute("aria-pressed", "false")
    expect(mine.locator(".num")).to_have_text("")


def test_a_heart_of_the_history_beats_on_the_card_in_another_tab(table, sign_in, site):
    page = sign_in()
    history = page.context.new_page()
    history.goto(f"{site.url}/t/north/history/")
    heart = card(page, "Three prompts, done").locator(".heart")
    task = heart.locator("xpath=ancestor::article").get_attribute("data-task")
    tile = history.locator(f"#tile-{task}")
    tile.locator("> .heart").click()
    expect(heart).to_have_attribute("aria-pressed", "true")
    tile.locator(".pick").click()
    history.locator("#bulk-like").click()
    expect(heart).to_have_attribute("aria-pressed", "false")
    expect(tile.locator("> .heart")).to_have_attribute("aria-pressed", "false")
    expect(tile.locator("> .heart .num")).to_have_text("")


def test_a_retry_that_was_refused_as_out_of_date_is_fresh_for_the_next_press(table, sign_in):
    page = sign_in()
    failed = card(page, "Out of memory on worker 4.")
    failed.evaluate(
        "node => { node.dataset.version = 2; const button = node.querySelector('[formaction*=seen]');"
        " button.setAttribute('formaction', button.getAttribute('formaction').replace(/seen=.*/, 'seen=2')); }"
    )
    retry = failed.locator("[formaction*=seen]")
    retry.click()
    expect(page.locator("#notices")).to_contain_text("has changed meanwhile")
    expect(retry).to_have_attribute("formaction", re.compile("seen=3"))


def test_deleting_by_keyboard_leads_to_undo(table, sign_in):
    page = sign_in()
    made = card(page, "Three prompts, done")
    more_of(made)
    made.get_by_role("button", name="Delete").focus()
    page.keyboard.press("Enter")
    undo = page.locator("#notices").get_by_role("button", name="Undo")
    expect(undo).to_be_focused()
    page.keyboard.press("Enter")
    expect(made).to_have_count(1)


def test_who_keeps_nothing_in_the_browser_stops_watching_more_than_one(table, sign_in):
    page = sign_in()
    page.context.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); };")
    page.reload()
    ids = []
    for prompt in ("Slower than usual", "Nobody knows"):
        shown = card(page, prompt).first
        ids.append(shown.get_attribute("data-task"))
        shown.get_by_role("button", name="Stop watching").click()
        expect(page.locator(f"#task-{ids[-1]}")).to_have_count(0)
    page.locator(f"[data-watch='{ids[1]}']").click()
    expect(page.locator(f"#task-{ids[1]}")).to_have_count(1)
    for task in ids:
        page.evaluate(f"fetch('/t/north/tasks/{task}/card/').then((one) => one.text()).then(window.flux2web.apply)")
    page.wait_for_timeout(500)
    expect(page.locator(f"#task-{ids[0]}")).to_have_count(0)


def test_the_menu_says_who_sees_it_and_throws_it_away_with_undo(table, sign_in):
    page = sign_in()
    made = card(page, "Three prompts, done")
    more_of(made)
    made.get_by_role("button", name="Only me").click()
    expect(page.locator("#notices")).to_contain_text("Only you see this picture now.")
    expect(made.locator(".menu[open]")).to_have_count(0)
    expect(made.locator(".who .lock")).to_be_visible()
    more_of(made)
    made.get_by_role("button", name="Show to the team").click()
    expect(page.locator("#notices")).to_contain_text("North sees this picture now.")
    more_of(made)
    made.get_by_role("button", name="Delete").click()
    expect(made).to_have_count(0)
    page.locator("#notices").get_by_role("button", name="Undo").click()
    expect(made).to_have_count(1)


def test_what_changes_under_an_open_menu_waits_until_it_is_shut(table, sign_in):
    page, other = sign_in(), sign_in()
    prompt = "Three prompts, done"
    made = card(page, prompt)
    more_of(made)
    card(other, prompt).hover()
    card(other, prompt).locator(".heart").click()
    expect(card(other, prompt).locator(".heart .num")).to_have_text("1")
    page.wait_for_timeout(500)
    expect(made.locator(".menu[open]")).to_have_count(1)
    expect(made.locator(".heart .num")).to_have_text("")
    page.keyboard.press("Escape")
    expect(made.locator(".heart .num")).to_have_text("1")
    card(other, prompt).locator(".heart").click()
    expect(made.locator(".heart .num")).to_have_text("")


def test_who_stops_watching_is_left_alone_on_ones_own_pages_only_and_may_take_it_back(table, sign_in, site):
    page, watcher = sign_in(), sign_in()
    other_tab = page.context.new_page()
    other_tab.goto(f"{site.url}/t/north/")
    prompt = "Slower than usual"
    everywhere = [card(tab, prompt).first for tab in (page, other_tab)]
    for shown in everywhere:
        expect(shown).to_be_visible()
    card_id = everywhere[0].get_attribute("id")
    page.locator(f"#{card_id}").get_by_role("button", name="Stop watching").click()
    for tab in (page, other_tab):
        expect(tab.locator(f"#{card_id}")).to_have_count(0)
    expect(watcher.locator(f"#{card_id}")).to_have_count(1)
    expect(page.locator("#notices")).to_contain_text("It goes on, and its picture will be in the history.")
    undo = page.locator("#notices").get_by_role("button", name="Undo")
    expect(undo).to_be_focused()
    undo.click()
    for tab in (page, other_tab):
        expect(tab.locator(f"#{card_id}")).to_have_count(1)
    page.locator(f"#{card_id}").get_by_role("button", name="Stop watching").click()
    page.reload()
    expect(page.locator("article.card").first).to_be_visible()
    expect(page.locator(f"#{card_id}")).to_have_count(0)


def test_what_nobody_answers_is_reported_from_its_card_once(table, sign_in):
    page = sign_in()
    quiet = card(page, "Nobody knows")
    quiet.get_by_role("button", name="Report").click()
    expect(page.locator("#notices")).to_contain_text("The site admins know of it now.")
    quiet.get_by_role("button", name="Report").click()
    expect(page.locator("#notices")).to_contain_text("The site admins were told of this already.")


# --- Batches -----------------------------------------------------------------------------------------------------------------


def press_four(page: Page, site: Site, prompt: str) -> str:
    """Sends four; the id of their group."""
    page.goto(f"{site.url}/t/north/?count=4&provider=revid")
    page.fill("#prompt", prompt)
    expect(page.locator("#go")).to_contain_text("Generate 4 · 40 credits")
    page.locator("#go").click()
    mine = page.locator(".batch", has_text=prompt)
    expect(mine).to_have_count(1)
    return mine.get_attribute("id")


def test_what_is_sent_together_comes_as_one_group_on_every_screen_and_its_head_follows(table, sign_in, site):
    page, watcher = sign_in(), sign_in()
    group = press_four(page, site, "A choir of four")
    for screen in (page, watcher):
        expect(screen.locator(f"#{group} article.card")).to_have_count(4)
        expect(screen.locator(f"#{group} h2")).to_have_text("4 pictures")
        expect(screen.locator(f"#{group} .stand")).to_contain_text("4 of 4 done", timeout=DONE_MS)
    ids = [node.get_attribute("id") for node in page.locator(f"#{group} article.card").all()]
    watcher.reload()
    assert [node.get_attribute("id") for node in watcher.locator(f"#{group} article.card").all()] == ids


def test_what_failed_stands_apart_and_is_tried_again_with_one_press(table, sign_in, site):
    page, watcher = sign_in(), sign_in()
    group = press_four(page, site, "Four that are refused [filter]")
    page.mouse.move(5, 5)
    expect(page.locator(f"#{group} .stand")).to_contain_text("4 failed", timeout=DONE_MS)
    retry = page.locator(f"#{group}").get_by_role("button", name="Retry failed only · 40")
    expect(retry).to_be_visible()
    before = page.locator(".batch").count()
    retry.click()
    expect(page.locator(".batch")).to_have_count(before + 1)
    for screen in (page, watcher):
        expect(screen.locator(f"#{group}").get_by_role("button", name="Retry failed only")).to_have_count(0)


def test_a_resting_group_shows_finished_and_failed_apart_as_a_reload_does(table, sign_in):
    page = sign_in()
    group = page.locator(".batch", has_text="Four of a kind")
    expect(group.locator(".apart")).to_be_visible()
    order = "nodes => nodes.map((node) => node.dataset.state)"
    assert group.locator("article.card").evaluate_all(order) == ["done", "done", "failed", "failed"]
    expect(group.locator(".stand")).to_have_text(re.compile(r"2 of 4 done\s*2 failed"))


def test_what_waits_of_a_batch_is_taken_back_with_one_press(table, sign_in, site):
    page, watcher = sign_in(), sign_in()
    group = page.locator(".batch", has_text="Three prompts, queued")
    group_id = group.get_attribute("id")
    expect(group).to_contain_text("Stops after 2 failures")
    group.get_by_role("button", name="Cancel what waits").click()
    for screen in (page, watcher):
        expect(screen.locator(f"#{group_id} .stand")).to_contain_text("1 cancelled")
        expect(screen.locator(f"#{group_id}").get_by_role("button", name="Cancel what waits")).to_have_count(0)
    assert site.rows("SELECT count(*) FROM flux2web_task WHERE state = 'running' AND prompt = 'Three prompts, running'")


# --- For all eyes and widths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 768, 360])
def test_every_state_is_for_everyone_and_nothing_scrolls_sideways(table, sign_in, width, scheme):
    page = sign_in(width, 900, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce", has_touch=width < 768)
    expect(page.locator("article.card").first).to_be_visible()
    found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.locator("article.card .box").evaluate_all(
        "nodes => nodes.map((node) => node.getBoundingClientRect().height)"
    )
    assert max(boxes) - min(boxes) < 1, "all boxes have one shape"
    over = page.locator("article.card .wait").evaluate_all(
        "nodes => nodes.filter((node) => node.getBoundingClientRect().height > node.parentNode.clientHeight + 1).length"
    )
    assert over == 0, "what a box says lies in it"
