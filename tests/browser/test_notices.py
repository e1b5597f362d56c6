"""What a person is told comes by itself, is said aloud, and disturbs nobody; putting it away keeps one's place."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from ..site import Site, manage

pytestmark = pytest.mark.browser
STRIP_MS = 8000  # the page asks for it every 5 s at most


def tell(site: Site, *texts: str) -> None:
    """From a process of its own: the open pages hear nothing of it until they ask again."""
    lines = ["from flux2web import notices", "from flux2web.models import User", "ana = User.objects.get()"]
    lines += [f"notices.tell(ana, key={text!r}, text={text!r}, tone='warn', url='/t/north/usage/')" for text in texts]
    done = manage("shell", env=site._environment({}), stdin="\n".join(lines))
    assert done.returncode == 0, done.stderr


def shown(page) -> list[str]:
    return [row.removesuffix(" Show") for row in page.locator("#strip .notice p").all_inner_texts()]


def test_a_notice_arrives_is_told_and_is_put_away_by_key(sign_in, site):
    page = sign_in()
    assert page.locator("#strip").bounding_box()["height"] == 0
    page.focus("#prompt")
    page.keyboard.type("An owl")
    tell(site, "First.", "Second.")
    page.evaluate("dispatchEvent(new Event('online'))")
    page.wait_for_selector("#strip .notice >> text=Second.", timeout=STRIP_MS)
    assert shown(page) == ["Second.", "First."]
    assert page.inner_text("#told") == "Second. First."
    assert page.evaluate("document.activeElement.id") == "prompt"
    assert page.input_value("#prompt") == "An owl"
    assert Axe().run(page).response["violations"] == []

    page.focus("#strip .notice:first-child button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#strip .notice >> text=Second.", state="detached")
    assert shown(page) == ["First."]
    assert page.evaluate("document.activeElement.closest('.notice').innerText").startswith("First.")
    page.keyboard.press("Enter")
    page.wait_for_selector("#strip .notice", state="detached")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.input_value("#prompt") == "An owl"

    page.goto(f"{site.url}/notices/")
    assert page.locator(".notices li").count() == 2
    assert page.errors == []


def test_putting_away_works_without_scripts(chromium, sign_in, site):
    signed_in = sign_in()
    tell(site, "Third.")
    context = chromium.new_context(java_script_enabled=False, storage_state=signed_in.context.storage_state())
    page = context.new_page()
    page.goto(f"{site.url}/t/north/history/")
    page.click("#strip .notice button")
    assert page.url == f"{site.url}/t/north/history/"
    assert shown(page) == []
    context.close()
