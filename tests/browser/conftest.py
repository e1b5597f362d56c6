"""A real Chromium, one for all browser tests; they are skipped, and say so, where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from ..site import PERSON, Site, running

# The background flags keep Chromium from asking the internet for anything; the sandbox flag is for root in containers.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CLEO = {"name": "Cleo", "email": "cleo@example.com", "password": "a long enough password"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Browser:
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    """`manage.py up` in a process of its own, with the sandbox and one team."""
    with running(tmp_path_factory.mktemp("site") / "var") as site:
        site.set_up()
        yield site


@pytest.fixture
def sign_in(chromium, site):
    """sign_in(width=360, color_scheme="dark") is a fresh browser in which Ana has signed in through the page."""
    contexts = []

    def make(width: int = 1280, height: int = 900, **options) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        site.forget_drafts()  # of Ana's in other tests: each begins with an empty form
        page = signed_in(context, site, PERSON["email"], PERSON["password"], "north")
        if site.rows("SELECT 1 FROM flux2web_draft"):  # one that a page sent as it was closed came late
            site.forget_drafts()
            page.reload()
        return page

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def cleo(chromium, sign_in, site) -> Iterator[Page]:
    """A member of the team, in a browser of her own; she came by an invitation."""
    if not site.rows("SELECT 1 FROM flux2web_user WHERE email = ?", CLEO["email"]):
        accept(chromium, invitation(sign_in(), site))
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield signed_in(context, site, CLEO["email"], CLEO["password"], "north")
    context.close()


def invitation(admin: Page, site: Site) -> str:
    admin.goto(f"{site.url}/t/north/members/")
    admin.click("#invite button")
    return admin.input_value("#link")


def accept(chromium: Browser, link: str) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(link)
    for name, value in CLEO.items():
        page.fill(f"[name={name}]", value)
    page.click("main form button")
    page.wait_for_url("**/t/north/")
    context.close()


def signed_in(context: BrowserContext, site: Site, email: str, password: str, team: str) -> Page:
    """A page on which somebody has signed in and come to their studio; `page.errors` is what the browser complains of."""
    page = context.new_page()
    page.errors = []
    page.on("console", lambda said: page.errors.append(said.text) if is_complaint(said) else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(f"{site.url}/accounts/login/")
    page.fill("[name=login]", email)
    page.fill("[name=password]", password)
    page.click("main form button")
    page.wait_for_url(f"**/t/{team}/")
    return page


def is_complaint(said: ConsoleMessage) -> bool:
    """An error, but for htmx's word that a newer price replaced an older one. What fails is told by the browser as well."""
    return said.type == "error" and not said.text.startswith(("htmx:afterRequest", "htmx:sendAbort"))


def until(page: Page, expression: str, *, within_s: float = 20) -> None:
    """Wait until the expression holds. Page.wait_for_function asks by `eval`, which this site's pages forbid."""
    for _ in range(int(within_s / 0.05)):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"Not within {within_s} s: {expression}")
