"""Who rings, rightly or wrongly, as the site admin sees it at the desk and the member on the cards; and who does not ring."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from ..peer import Peer, serving
from ..site import Site, running

pytestmark = pytest.mark.browser
DESK = "/console/callbacks/"
DONE_MS = 30_000


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    """Revid's wire. It draws until a test says "success", and rings only when a test does."""
    with serving() as peer:
        yield peer


@pytest.fixture(scope="module")
def site(tmp_path_factory, peer) -> Iterator[Site]:
    patient = {"DJANGO_SETTINGS_MODULE": "tests.settings_patient", "SANDBOX": "0", "LOG_LEVEL": "ERROR"}
    var = tmp_path_factory.mktemp("site") / "var"
    with running(var, **patient, REVID_API_KEY="k" * 20, REVID_URL=peer.url) as site:
        site.set_up()
        assert site.manage("provider", "set", "revid", "--rate", "1000/1").returncode == 0
        yield site


def press(page: Page, prompt: str) -> str:
    """Send it; its task's number, once the provider has it."""
    key = page.input_value("#compose-key")
    page.fill("#prompt", prompt)
    page.press("#prompt", "Control+Enter")
    expect(page.locator("#compose-key")).not_to_have_value(key)
    card = page.locator("article.card", has_text=prompt)
    expect(card).to_have_attribute("data-state", "running", timeout=DONE_MS)
    return card.get_attribute("data-task")


def upstream_id(site: Site, task: str) -> str:
    [(found,)] = site.rows("SELECT upstream_id FROM flux2web_task WHERE id = ?", int(task))
    return found


def address(site: Site, peer: Peer, task: str) -> str:
    return peer.creates[int(upstream_id(site, task).removeprefix("up-")) - 1]["callBackUrl"]


def ring(site: Site, peer: Peer, task: str, body: bytes | None = None, headers: dict | None = None) -> int:
    body = peer.callback_body(upstream_id(site, task)) if body is None else body
    return httpx.post(address(site, peer, task), content=body, headers=headers, trust_env=False).status_code


def row(page: Page, site: Site, task: str):
    """The newest of this task at the desk."""
    page.goto(f"{site.url}{DESK}")
    return page.locator("#callbacks tbody tr", has=page.get_by_role("link", name=task, exact=True)).first


def leave_alone(site: Site, task: str) -> None:
    """Nobody looks at it by themselves before tomorrow; and nobody did just now."""
    rests = "due_at > datetime('now', '+1 hour') AND coalesce(looked_at, '') < datetime('now', '-4 seconds')"

    def is_left() -> bool:
        [(found,)] = site.rows(f"SELECT {rests} FROM flux2web_task WHERE id = ?", int(task))
        if not found:
            site.change("UPDATE flux2web_task SET due_at = datetime('now', '+1 day') WHERE id = ?", int(task))
        return bool(found)

    site.wait_until(is_left)


def money(site: Site) -> tuple[int, int]:
    """(held, spent)."""
    [found] = site.rows("SELECT held, spent FROM flux2web_budget")
    return found


def test_looking_again_from_the_desk_shows_on_the_members_card(sign_in, site, peer):
    member, admin = sign_in(), sign_in()
    task = press(member, "A kingfisher that nobody asks about")
    assert ring(site, peer, task) == 200
    leave_alone(site, task)
    expect(row(admin, site, task)).to_contain_text("Matched")
    expect(row(admin, site, task)).to_contain_text("Running")
    peer.jobs[upstream_id(site, task)] = "success"
    admin.wait_for_timeout(300)
    expect(member.locator(f"#task-{task}")).to_have_attribute("data-state", "running")
    row(admin, site, task).get_by_role("button", name=f"Look again at task {task}").click()
    expect(admin.locator("#notices")).to_contain_text(f"Task {task}: we ask how it stands, now.")
    expect(member.locator(f"#task-{task}")).to_have_attribute("data-state", "done", timeout=DONE_MS)
    expect(member.locator(f"#task-{task}")).to_contain_text("charged 10")
    expect(row(admin, site, task)).to_contain_text("Done")
    expect(row(admin, site, task).get_by_role("button")).to_have_count(0)
    assert admin.errors == []


def test_whatever_is_posted_at_the_address_of_a_task_moves_nothing_and_stands_at_the_desk(sign_in, site, peer):
    member, admin = sign_in(), sign_in()
    mine, other = press(member, "A heron that is rung for wrongly"), press(member, "A stork whose name is misused")
    held, spent = money(site)
    balance = str(1000 - held - spent)
    expect(member.locator("#balance")).to_have_attribute("data-available", balance)
    posted = {
        bytes(2**20): (413, None),
        b"[" * 40_000: (200, "Not readable"),
        peer.callback_body(upstream_id(site, other)): (200, "Names no task of this address"),
        peer.callback_body(upstream_id(site, mine)): (200, "Matched"),
        peer.callback_body(upstream_id(site, mine), "fail"): (200, "Rang before"),
    }
    for body, (status, verdict) in posted.items():
        began = time.monotonic()
        assert ring(site, peer, mine, body) == status
        assert time.monotonic() - began < 5
        if verdict:
            expect(row(admin, site, mine)).to_contain_text(verdict)
    assert httpx.post(f"{site.url}/hooks/revid/guessed-secret/", content=b"{}", trust_env=False).status_code == 404
    admin.reload()
    expect(admin.locator("#callbacks tbody tr").first).to_contain_text("Unknown address")
    for task in (mine, other):
        expect(member.locator(f"#task-{task}")).to_have_attribute("data-state", "running")
    assert money(site) == (held, spent)
    expect(member.locator("#balance")).to_have_attribute("data-available", balance)

    for task in (mine, other):
        peer.jobs[upstream_id(site, task)] = "success"
        ring(site, peer, task)
        expect(member.locator(f"#task-{task}")).to_have_attribute("data-state", "done", timeout=DONE_MS)
    ring(site, peer, mine, peer.callback_body(upstream_id(site, mine), "fail"))
    expect(row(admin, site, mine)).to_contain_text("After the end")
    expect(member.locator(f"#task-{mine}")).to_have_attribute("data-state", "done")
    assert money(site) == (held - 20, spent + 20)
    assert admin.errors == member.errors == []


def test_an_answer_that_was_lost_holds_its_credits_until_the_ring_brings_the_picture(sign_in, site, peer):
    member, watcher = sign_in(), sign_in()
    held, spent = money(site)
    peer.answers.append(peer.accept_then_cut)
    creates, prompt = len(peer.creates), "A bittern whose answer was lost"
    member.fill("#prompt", prompt)
    member.press("#prompt", "Control+Enter")
    for screen in (member, watcher):
        lost = screen.locator("article.card", has_text=prompt)
        expect(lost).to_have_attribute("data-state", "uncertain", timeout=DONE_MS)
        expect(lost).to_contain_text(
            "Revid may have taken this, then went quiet. Your credits are held; we keep looking."
        )
        expect(lost.get_by_role("button", name="Retry")).to_have_count(0)
    assert money(site) == (held + 10, spent)
    peer.jobs[peer.accepted[-1]] = "success"
    ring_at = peer.creates[-1]["callBackUrl"]
    assert httpx.post(ring_at, content=peer.callback_body(peer.accepted[-1]), trust_env=False).status_code == 200
    for screen in (member, watcher):
        found = screen.locator("article.card", has_text=prompt)
        expect(found).to_have_attribute("data-state", "done", timeout=DONE_MS)
        expect(found).to_contain_text("Held 10 · charged 10")
    assert money(site) == (held, spent + 10)
    assert len(peer.creates) == creates + 1, "nobody asked for it twice"


def signed(secret: str, task_id: str) -> dict[str, str]:
    """As kie signs: the task's id and the time, not the body."""
    at = str(int(time.time()))
    digest = hmac.new(secret.encode(), f"{task_id}.{at}".encode(), hashlib.sha256).digest()
    return {"X-Webhook-Timestamp": at, "X-Webhook-Signature": base64.b64encode(digest).decode()}


def test_with_a_secret_set_a_wrong_signature_brings_no_look_and_a_right_one_does(sign_in, site, peer):
    member, admin = sign_in(), sign_in()
    admin.goto(f"{site.url}/console/providers/revid/")
    admin.fill("#id_callback_secret", "hush-hush-1234")
    admin.click("#provider button:has-text('Save')")
    expect(admin.locator("#callback-secret-field")).to_contain_text("we have one")
    assert "hush-hush" not in admin.content()

    task = press(member, "An egret with a seal")
    leave_alone(site, task)
    theirs = upstream_id(site, task)
    looks = peer.looks.count(theirs)
    peer.jobs[theirs] = "success"
    assert ring(site, peer, task, headers=signed("another-secret", theirs)) == 200
    expect(row(admin, site, task)).to_contain_text("Wrongly signed")
    admin.wait_for_timeout(500)
    assert peer.looks.count(theirs) == looks
    expect(member.locator(f"#task-{task}")).to_have_attribute("data-state", "running")
    assert ring(site, peer, task, headers=signed("hush-hush-1234", theirs)) == 200
    expect(member.locator(f"#task-{task}")).to_have_attribute("data-state", "done", timeout=DONE_MS)
    expect(row(admin, site, task)).to_contain_text("Signed")

    admin.goto(f"{site.url}/console/providers/revid/")
    admin.check("[name=unsigned]")
    admin.click("#provider button:has-text('Save')")
    expect(admin.locator("#callback-secret-field")).to_contain_text("optional")


def test_who_should_ring_and_does_not_is_told_of_until_somebody_rings(sign_in, site, peer):
    member, admin = sign_in(), sign_in()
    site.change("DELETE FROM flux2web_callback")
    site.change("UPDATE flux2web_attempt SET rung_at = NULL")
    for number in range(5):
        peer.jobs[upstream_id(site, press(member, f"A quiet crane {number}"))] = "success"
    site.change("UPDATE flux2web_task SET due_at = datetime('now') WHERE state = 'running'")
    expect(member.locator("article.card[data-state=running]")).to_have_count(0, timeout=DONE_MS)
    sweep = "from flux2web import alerts; alerts.sweep_accounts()"
    assert site.manage("shell", "-c", sweep).returncode == 0
    said = "Revid was asked for callbacks and sent none"
    admin.goto(f"{site.url}/console/providers/")
    expect(admin.locator("#strip")).to_contain_text(said)
    expect(admin.locator("main")).to_contain_text(said)
    admin.click("#accounts-revid a")
    expect(admin.locator("#silence")).to_contain_text(said)
    admin.locator("#silence").get_by_role("link", name="Its callbacks").click()
    expect(admin.locator("[name=provider]")).to_have_value("revid")

    ring(site, peer, press(member, "A crane that is heard"))
    assert site.manage("shell", "-c", sweep).returncode == 0
    admin.goto(f"{site.url}/console/providers/revid/")
    expect(admin.locator("#silence")).to_have_count(0)
    expect(admin.locator("#strip")).not_to_contain_text(said)
