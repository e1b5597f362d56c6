"""Whom "auto" asks and why, as a member sees it before anything is sent; who takes it where one does not; whose turn it is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from ..peer import Peer, serving
from ..site import Site, running

pytestmark = pytest.mark.browser
DONE_MS = 30_000
REVID = "/console/providers/revid/sandbox/"
WELL_AND_NOT = """
from flux2web import health
from flux2web.models import ProviderAccount, Task, Team
from tests import factories
revid, north = ProviderAccount.objects.get(provider="revid", sandbox=True), Team.objects.get()
for state in ("done", "failed"):
    for _ in range(8):
        factories.make_task(north, state=state, account=revid, price=1, fail_kind="provider" if state == "failed" else "")
health.take_stock()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    patient = {"DJANGO_SETTINGS_MODULE": "tests.settings_patient"}
    with running(tmp_path_factory.mktemp("site") / "var", **patient) as site:
        site.set_up()
        yield site


def shell(site: Site, code: str) -> None:
    done = site.manage("shell", "-c", code)
    assert done.returncode == 0, done.stderr


def reprice(page: Page) -> None:
    """Something of the form changes and changes back, as it does while one writes."""
    for resolution in ("2K", "1K"):
        before = page.locator("#go .cost").inner_text()
        page.locator(f"label[data-resolution='{resolution}']").click()
        expect(page.locator("#go .cost")).not_to_have_text(before)


def others(page: Page) -> dict[str, str]:
    """Who else could make it, and what is said of each."""
    if page.locator("#others").get_attribute("open") is None:
        page.locator("#others summary").click()
    lines = page.locator("#others li").all_inner_texts()
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines}


def press(page: Page, prompt: str):
    """Send it; its card."""
    expect(page.locator("#go")).to_contain_text("credits")
    page.fill("#prompt", prompt)
    page.press("#prompt", "Control+Enter")
    return page.locator("article.card", has_text=prompt)


def pause(page: Page, site: Site, words: str) -> None:
    page.goto(site.url + REVID)
    page.locator("#pause").get_by_role("button", name=words).click()
    expect(page.locator("h1")).to_contain_text("Paused" if words.startswith("Pause") else "On")


# --- Who, why, and what the others would cost --------------------------------------------------------------------------------


def test_who_is_asked_why_and_what_the_others_cost_is_seen_before_sending_and_follows_a_pause(sign_in, site):
    member, admin = sign_in(), sign_in()
    expect(member.locator("#others summary")).to_have_text("The cheapest that can do this")
    assert others(member) == {"Vtrix": "12 credits", "Apixo": "20 credits", "Flux2API": "30 credits"}

    pause(admin, site, "Pause 5 min")
    reprice(member)
    expect(member.locator("#go")).to_contain_text("12 credits")
    expect(member.locator("#others summary")).to_have_text("The cheapest that is well: Revid is paused")
    assert re.fullmatch(r"paused for \d min 10 credits", others(member)["Revid"])
    made = press(member, "A loom while one rests")
    expect(made).to_have_attribute("data-state", "done", timeout=DONE_MS)
    expect(made).to_contain_text("Held 12 · charged 12")
    assert site.rows(
        "SELECT a.provider FROM flux2web_task t JOIN flux2web_provideraccount a ON a.id = t.account_id"
    ) == [("vtrix",)]

    pause(admin, site, "Resume")
    reprice(member)
    expect(member.locator("#go")).to_contain_text("10 credits")
    expect(member.locator("#others summary")).to_have_text("The cheapest that can do this")


def test_a_price_that_has_risen_since_it_was_shown_is_said_and_asked_about_before_anything_is_held(sign_in, site):
    member, admin = sign_in(), sign_in()
    expect(member.locator("#go")).to_contain_text("10 credits")
    pause(admin, site, "Pause 5 min")
    held = "SELECT held, spent FROM flux2web_budget"
    before = site.rows(held)
    made = press(member, "A loom that has grown dear")
    expect(member.locator("#compose-problems")).to_contain_text("The price has changed from 10 to 12 credits.")
    expect(member.locator("#prompt")).to_have_value("A loom that has grown dear")
    expect(made).to_have_count(0)
    assert site.rows(held) == before
    expect(member.locator("#go")).to_contain_text("12 credits")
    member.locator("#go").click()
    expect(made).to_have_attribute("data-state", "done", timeout=DONE_MS)
    expect(made).to_contain_text("charged 12")
    pause(admin, site, "Resume")


def test_who_had_trouble_is_passed_over_as_far_as_the_premium_goes(sign_in, site):
    shell(site, WELL_AND_NOT)
    member, admin = sign_in(), sign_in()
    expect(member.locator("#go")).to_contain_text("12 credits")
    expect(member.locator("#others summary")).to_have_text(
        "The cheapest that is well: Revid had trouble in the last 24 hours"
    )
    assert re.search(r"\d+ % ended well 10 credits", others(member)["Revid"])

    admin.goto(f"{site.url}/console/providers/")
    expect(admin.locator("#sandbox-revid [data-name='well']")).to_contain_text("%")
    admin.fill("[name=premium_percent]", "10")
    admin.click("#rule button")
    expect(admin.locator("#notices")).to_contain_text("The rule is saved.")
    reprice(member)
    expect(member.locator("#go")).to_contain_text("10 credits")  # 12 would be more than a tenth dearer
    admin.fill("[name=premium_percent]", "50")
    admin.click("#rule button")
    expect(admin.locator("#notices")).to_contain_text("The rule is saved.")
    shell(
        site,
        "from flux2web.models import *; from flux2web import health\n"
        "Task.objects.filter(price_credits=1).update(finished_at='2020-01-01T00:00Z'); health.take_stock()",
    )


# --- Before acceptance the next one takes it, afterwards nobody does ---------------------------------------------------------


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    """One for all tests: no two tasks of an account have one id there."""
    with serving() as peer:
        peer._ids = itertools.count(10_000)  # nor one that a task in the database was given
        yield peer


@pytest.fixture
def revid(site, peer) -> Iterator[Peer]:
    """Revid as a test wants it; and Vtrix for the same price, so that what is held covers it."""
    [(address,)] = site.rows("SELECT base_url FROM flux2web_provideraccount WHERE provider = 'revid'")
    site.change("UPDATE flux2web_price SET credits = 10 WHERE provider = 'vtrix' AND credits = 12")
    site.change("UPDATE flux2web_provideraccount SET base_url = ? WHERE provider = 'revid'", peer.url)
    peer.default_state = "waiting"
    yield peer
    well = "base_url = ?, failures = 0, paused_until = NULL, pause_kind = '', pause_reason = ''"
    site.change(f"UPDATE flux2web_provideraccount SET {well} WHERE provider = 'revid'", address)
    site.change("UPDATE flux2web_price SET credits = 12 WHERE provider = 'vtrix' AND credits = 10")


KINDS = {  # what its create is answered: the kind of pause, and what the provider's page calls it
    401: ("auth", "Key refused"),
    402: ("balance", "No money left there"),
    429: ("rate", "Too fast for it"),
    455: ("maintenance", "Closed for now"),
    500: ("provider", "It failed"),
    0: ("provider", "Not reached"),
}


@pytest.mark.parametrize("code", KINDS)
def test_what_one_does_not_take_the_next_takes_and_the_admin_sees_why(sign_in, site, revid, code):
    member, admin = sign_in(), sign_in()
    if code:
        revid.answers.append(revid.refuse(code, "not now"))
    else:
        site.change("UPDATE flux2web_provideraccount SET base_url = 'http://127.0.0.1:9' WHERE provider = 'revid'")
    made = press(member, f"A bobbin that another winds, {code}")
    expect(made).to_have_attribute("data-state", "done", timeout=DONE_MS)
    expect(made).to_contain_text("Held 10 · charged 10")
    number = int(made.get_attribute("data-task"))
    tried = (
        "SELECT a.provider, t.outcome FROM flux2web_attempt t JOIN flux2web_provideraccount a ON a.id = t.account_id"
    )
    outcomes = site.rows(f"{tried} WHERE t.task_id = ? ORDER BY t.number", number)
    assert outcomes == [("revid", "refused" if code else "not_sent"), ("vtrix", "accepted")]
    kind, word = KINDS[code]
    assert site.rows("SELECT pause_kind FROM flux2web_provideraccount WHERE provider = 'revid'") == [(kind,)]
    assert site.rows("SELECT held FROM flux2web_budget") == [(0,)]
    admin.goto(site.url + REVID)
    expect(admin.locator("#troubles")).to_contain_text(word)
    expect(admin.locator("#failures tr", has_text=f"{number} North")).to_contain_text(word)
    if kind in ("auth", "balance"):  # the other pauses may be over by now
        expect(admin.locator("h1")).to_contain_text("Paused")
        reprice(member)
        assert others(member)["Revid"].startswith("paused for")


def test_who_chose_one_without_money_is_told_so_and_the_admin_is_alarmed_until_it_is_mended(sign_in, site, revid):
    member, admin = sign_in(), sign_in()
    member.select_option("#provider", "revid")
    expect(member.locator("#go")).to_contain_text("10 credits")
    revid.answers.append(revid.refuse(402, "balance is insufficient"))
    made = press(member, "A bobbin at the till")
    expect(made).to_contain_text("Revid is paused: no money left there. This is not your budget.", timeout=DONE_MS)
    expect(made).to_contain_text("Held 10")
    expect(made.get_by_role("link", name="Change the provider")).to_be_visible()
    assert "insufficient" not in member.content()

    sweep = "from flux2web import alerts; alerts.sweep_accounts()"
    shell(site, sweep)
    admin.goto(f"{site.url}/console/")
    expect(admin.locator("#strip .notice")).to_contain_text("Revid")
    expect(admin.locator("#matters")).to_contain_text("Revid")
    pause(admin, site, "Resume")
    expect(made).to_have_attribute("data-state", "running", timeout=DONE_MS)
    draw(revid, site, made.get_attribute("id"))
    expect(made).to_have_attribute("data-state", "done", timeout=DONE_MS)
    shell(site, sweep)
    admin.goto(f"{site.url}/console/")
    expect(admin.locator("#strip .notice", has_text="Revid")).to_have_count(0)


def test_what_was_accepted_is_sent_to_nobody_else(sign_in, site, revid):
    member = sign_in()
    revid.default_state = "fail"
    made = press(member, "A bobbin that broke")
    expect(made).to_have_attribute("data-state", "failed", timeout=DONE_MS)
    expect(made).to_contain_text("Not charged: 10 returned")
    number = int(made.get_attribute("data-task"))
    assert site.rows("SELECT outcome FROM flux2web_attempt WHERE task_id = ?", number) == [("accepted",)]


# --- Turns -------------------------------------------------------------------------------------------------------------------


AS_IT_WAS_ANSWERED = """(here) => {
    const card = here.cloneNode(true);
    card.dataset.looks = 0;
    card.querySelector(".detail").textContent = "Starts by itself";
    window.flux2web.apply(card.outerHTML, { own: true });
}"""


def test_those_in_line_see_their_place_move_up_and_a_newcomer_goes_before_who_had_a_turn(sign_in, cleo, site, revid):
    ana, watcher = sign_in(), sign_in()
    site.change("UPDATE flux2web_provideraccount SET concurrent = 1 WHERE provider = 'revid'")
    cards = []
    for page, number in ((ana, 1), (ana, 2), (ana, 3), (cleo, 4)):
        page.select_option("#provider", "revid")
        expect(page.locator("#go")).to_contain_text("10 credits")
        cards.append(press(page, f"Thread {number}, in line").get_attribute("id"))
        if number == 1:
            expect(ana.locator(f"#{cards[0]}")).to_have_attribute("data-state", "running", timeout=DONE_MS)
    first, second, third, newcomer = cards
    for screen in (ana, watcher, cleo):
        expect(screen.locator(f"#{second}")).to_contain_text("In line, 1st of yours", timeout=DONE_MS)
        expect(screen.locator(f"#{third}")).to_contain_text("In line, 2nd of yours", timeout=DONE_MS)
        expect(screen.locator(f"#{newcomer}")).to_contain_text("In line, 1st of yours", timeout=DONE_MS)
        expect(screen.locator(f"#{third}")).to_contain_text("Comes back if cancelled")
    ana.locator(f"#{third}").evaluate(AS_IT_WAS_ANSWERED)  # what a press answers may come late: it is old by then
    expect(ana.locator(f"#{third}")).to_contain_text("In line, 2nd of yours")

    draw(revid, site, first)
    for screen in (ana, watcher, cleo):
        expect(screen.locator(f"#{first}")).to_have_attribute("data-state", "done", timeout=DONE_MS)
        expect(screen.locator(f"#{newcomer}")).to_have_attribute("data-state", "running", timeout=DONE_MS)
    expect(ana.locator(f"#{second}")).to_have_attribute("data-state", "queued")

    draw(revid, site, newcomer)
    for screen in (ana, watcher, cleo):
        expect(screen.locator(f"#{second}")).to_have_attribute("data-state", "running", timeout=DONE_MS)
        expect(screen.locator(f"#{third}")).to_contain_text("In line, 1st of yours", timeout=DONE_MS)
    revid.default_state = "success"
    draw(revid, site, second)
    for screen in (ana, watcher, cleo):
        expect(screen.locator(f"#{third}")).to_have_attribute("data-state", "done", timeout=DONE_MS)
    site.change("UPDATE flux2web_provideraccount SET concurrent = NULL WHERE provider = 'revid'")


def draw(peer: Peer, site: Site, card_id: str) -> None:
    """From now on it says that this one is done."""
    [(found,)] = site.rows("SELECT upstream_id FROM flux2web_task WHERE id = ?", int(card_id.removeprefix("task-")))
    peer.jobs[found] = "success"
