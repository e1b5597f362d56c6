"""Many screens at once: leaving and coming back, sleep, a restart, a lost network. Each ends in a page that is right."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from .conftest import until

pytestmark = pytest.mark.browser
DONE_MS = 30_000
SOUND = """
window.rung = [];
window.AudioContext = class {
  constructor() { this.currentTime = 0; this.destination = {}; }
  resume() { return Promise.resolve(); }
  createOscillator() { window.rung.push("note"); return { frequency: {}, connect: (to) => to, start() {}, stop() {} }; }
  createGain() { return { gain: { setValueAtTime() {}, exponentialRampToValueAtTime() {} }, connect: (to) => to }; }
};
"""
NOTICES = """
window.told = [];
window.Notification = class {
  static permission = "default";
  static async requestPermission() { return (Notification.permission = window.mayTell ? "granted" : "denied"); }
  constructor(title, options) { window.told.push([title, options.body]); }
};
"""
HIDE = """(state) => {
  Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def press(page: Page, prompt: str) -> str:
    """Send it; the new card's id."""
    before, key = page.locator("article.card").count(), page.input_value("#compose-key")
    page.fill("#prompt", prompt)
    page.press("#prompt", "Control+Enter")
    expect(page.locator("#compose-key")).not_to_have_value(key)  # answered: a press before that would be the same press
    expect(page.locator("article.card")).to_have_count(before + 1)
    return page.locator("article.card").first.get_attribute("id")


def expect_done(page: Page, card_id: str) -> None:
    expect(page.locator(f"#{card_id}")).to_have_attribute("data-state", "done", timeout=DONE_MS)


def hide(page: Page) -> None:
    page.evaluate(HIDE, "hidden")


def show(page: Page) -> None:
    page.evaluate(HIDE, "visible")


# --- What ends while nobody looks --------------------------------------------------------------------------------------------


def test_what_ends_while_the_tab_is_hidden_is_counted_in_title_and_icon_until_somebody_looks(sign_in):
    page = sign_in()
    plain = page.locator("link[rel=icon]").get_attribute("href")
    ids = [press(page, f"A lighthouse, hidden {number}") for number in (1, 2)]
    hide(page)
    for card_id in ids:
        expect_done(page, card_id)
    expect(page).to_have_title(re.compile(r"^\(2\) Studio"))
    assert page.locator("link[rel=icon]").get_attribute("href") != plain
    show(page)
    expect(page).to_have_title(re.compile(r"^Studio"))
    assert page.locator("link[rel=icon]").get_attribute("href") == plain


def test_what_ends_before_ones_eyes_is_not_counted(sign_in):
    page = sign_in()
    expect_done(page, press(page, "A lighthouse, seen"))
    expect(page.locator("#told")).to_have_text("Finished: A lighthouse, seen")
    expect(page).to_have_title(re.compile(r"^Studio"))


def test_sound_is_off_until_it_is_switched_on_and_stays_so_in_this_browser(sign_in):
    page = sign_in()
    page.context.add_init_script(SOUND)
    page.reload()
    expect_done(page, press(page, "A bell, unheard"))
    assert page.evaluate("window.rung") == []
    page.get_by_label("Your account").click()
    switch = page.get_by_role("switch", name="Sound when a picture ends")
    expect(switch).to_have_attribute("aria-checked", "false")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    page.reload()
    page.get_by_label("Your account").click()
    expect(page.get_by_role("switch", name="Sound when a picture ends")).to_have_attribute("aria-checked", "true")
    page.keyboard.press("Escape")
    expect_done(page, press(page, "A bell, heard"))
    until(page, "window.rung.length === 2")


def test_notices_are_asked_for_only_on_the_switch_and_shown_only_while_nobody_looks(sign_in):
    page = sign_in()
    page.context.add_init_script(NOTICES)
    page.reload()
    assert page.evaluate("Notification.permission") == "default"
    page.get_by_label("Your account").click()
    switch = page.get_by_role("switch", name="Browser notices")
    switch.click()
    expect(page.locator("#notices")).to_contain_text("This browser shows no notices of this site")
    expect(switch).to_have_attribute("aria-checked", "false")
    page.evaluate("window.mayTell = true")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    page.keyboard.press("Escape")
    expect_done(page, press(page, "A postcard, seen"))
    card_id = press(page, "A postcard, unseen")
    hide(page)
    expect_done(page, card_id)
    until(page, "window.told.length === 1")
    assert page.evaluate("window.told") == [["Finished · flux2web", "A postcard, unseen"]]


def test_nothing_takes_the_focus_when_pictures_come(sign_in):
    page, watcher = sign_in(), sign_in()
    watcher.fill("#prompt", "")
    watcher.keyboard.type("half a ")
    expect_done(watcher, press(page, "A gate that opens"))
    watcher.keyboard.type("thought")
    assert watcher.input_value("#prompt") == "half a thought"
    assert watcher.evaluate("document.activeElement.id") == "prompt"


def test_what_one_does_not_watch_any_more_ends_in_silence_and_is_in_the_history(sign_in, site):
    page = sign_in()
    plain = page.locator("link[rel=icon]").get_attribute("href")
    press(page, "A snail that nobody watches [slow]")
    snail = page.locator("article.card", has_text="A snail")
    snail.get_by_role("button", name="Stop watching").dispatch_event("click")  # it may change while it is aimed at
    expect(snail).to_have_count(0)
    hide(page)
    expect_done(page, press(page, "A hare that somebody watches"))
    for _ in range(100):
        if site.rows("SELECT id FROM flux2web_task WHERE state = 'done' AND prompt LIKE 'A snail%'"):
            break
        page.wait_for_timeout(300)
    page.wait_for_timeout(500)
    expect(page).to_have_title(re.compile(r"^\(1\) Studio"))
    expect(page.locator("#told")).to_have_text("Finished: A hare that somebody watches")
    assert page.locator("link[rel=icon]").get_attribute("href") != plain
    show(page)
    expect(snail).to_have_count(0)
    page.goto(f"{site.url}/t/north/history/?q=snail")
    expect(page.locator(".tile")).to_have_count(1)


# --- Sleep, loss, restart ----------------------------------------------------------------------------------------------------


def freeze(page: Page) -> Callable[[], None]:
    """Nothing of the page runs any more, as in a tab put to sleep; what it holds (its lock, its stream) it keeps.

    A headless browser's tabs are never hidden, so Page.setWebLifecycleState leaves them running: a debugger does not.
    """
    devtools = page.context.new_cdp_session(page)
    devtools.send("Debugger.enable")
    devtools.send("Debugger.pause")
    return lambda: devtools.send("Debugger.resume")


def test_a_page_that_was_frozen_is_right_when_it_goes_on(sign_in):
    page, sleeper = sign_in(), sign_in()
    expect(sleeper.locator("#prompt")).to_be_visible()
    thaw = freeze(sleeper)
    card_id = press(page, "A bear in winter")
    expect_done(page, card_id)
    thaw()
    expect_done(sleeper, card_id)


def test_a_tab_whose_leader_is_frozen_listens_for_itself(sign_in, site):
    """Two tabs of one browser share one stream. The one that holds it is frozen, and its lock with it."""
    leader, far = sign_in(), sign_in()
    follower = leader.context.new_page()
    asked = []
    follower.on("request", lambda request: asked.append(request.url) if "/live/" in request.url else None)
    follower.goto(f"{site.url}/t/north/")
    follower.wait_for_timeout(500)
    assert asked == []
    thaw = freeze(leader)
    missed = press(far, "A bear in its cave")
    expect_done(far, missed)
    expect(follower.locator(f"#{missed}")).to_have_count(0)
    expect(follower.locator(f"#{missed}")).to_have_attribute(
        "data-state", "done", timeout=DONE_MS + 25_000
    )  # of silence
    assert len(asked) == 1
    expect_done(follower, press(far, "A bear outside its cave"))
    thaw()
    expect_done(leader, missed)


def test_a_lost_network_that_comes_back_ends_in_a_page_that_is_right(sign_in):
    page, far = sign_in(), sign_in()
    expect(far.locator("#prompt")).to_be_visible()
    far.context.set_offline(True)
    card_id = press(page, "A letter in a bottle")
    expect_done(page, card_id)
    expect(far.locator(f"#{card_id}")).to_have_count(0)
    far.context.set_offline(False)
    expect_done(far, card_id)
    again = press(page, "A second letter in a bottle")
    expect_done(far, again)


def test_a_stream_that_says_nothing_any_more_is_given_up_and_opened_anew(sign_in):
    """As after a sleep: the connection is gone, and nobody has told the browser."""
    page, sleeper = sign_in(), sign_in()
    sleeper.clock.install()
    with sleeper.expect_request("**/live/"):
        sleeper.reload()
    with sleeper.expect_request("**/live/"):
        sleeper.clock.fast_forward(60_000)
    expect_done(sleeper, press(page, "A clock that stood still"))


def test_both_screens_are_right_after_the_server_was_stopped_and_started(sign_in, site):
    page, watcher = sign_in(), sign_in()
    card_id = press(page, "A mill that stands still [slow]")
    expect(watcher.locator(f"#{card_id}")).to_be_visible()
    site.stop()
    site.start()
    for screen in (page, watcher):
        expect_done(screen, card_id)
    again = press(page, "A mill that turns again")
    expect_done(watcher, again)


def test_coming_back_to_a_tab_catches_up_where_there_is_no_stream(sign_in):
    page, watcher = sign_in(), sign_in()
    watcher.context.route("**/live/", lambda route: route.abort())
    watcher.reload()
    hide(watcher)
    card_id = press(page, "A kite over the dunes")
    expect_done(page, card_id)
    expect(watcher.locator(f"#{card_id}")).to_have_count(0)
    show(watcher)
    expect_done(watcher, card_id)
