"""A site under its public name, behind a proxy with a certificate: the browser comes over https, and the check that an image
can be fetched from outside says what is wrong in front of the site."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from ..front import Front
from ..pictures import picture
from ..site import PERSON, Site, answers, kill
from ..test_http import authority, http_answer  # noqa: F401
from ..test_scaled_out import free_port
from .conftest import CHROMIUM, FLAGS

pytestmark = pytest.mark.browser
NAME = "studio.example.com"
ORIGIN = f"https://{NAME}"
VASE = {"name": "vase.png", "mimeType": "image/png", "buffer": picture("teal", (300, 200))}


class PublicSite(Site):
    """It says its public address, and is answered for on loopback."""

    def _wait_ready(self, start: int) -> None:
        until = time.monotonic() + 90
        while not (found := re.search(rf"ready: {ORIGIN}(/\S*)", self.log.read_text()[start:])) or not answers(
            f"http://127.0.0.1:{self.port}"
        ):
            assert time.monotonic() < until, self.log.read_text()[-2000:]
            time.sleep(0.05)
        self.url, self.setup_url = ORIGIN, ORIGIN + found[1]


@pytest.fixture(scope="module")
def tls(authority):  # noqa: F811
    return authority[0]


@pytest.fixture(scope="module")
def front(tls) -> Iterator[Front]:
    front = Front(free_port(), tls(NAME))
    yield front
    front.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, front, authority) -> Iterator[PublicSite]:  # noqa: F811
    folder = tmp_path_factory.mktemp("site")
    [ca] = authority[1].get_ca_certs(binary_form=True)
    (folder / "ca.pem").write_text(ssl.DER_cert_to_PEM_cert(ca))
    env = {"DJANGO_SETTINGS_MODULE": "tests.settings_public", "FRONT": str(front.port), "CA": str(folder / "ca.pem")}
    site = PublicSite(folder / "var", PUBLIC_URL=ORIGIN, LOG_LEVEL="ERROR", **env)
    site.port = front.behind
    try:
        yield site.start()
    finally:
        kill(site.process)


@pytest.fixture(scope="module")
def world(chromium, front) -> Iterator[Browser]:
    """A Chromium for which the name leads to our front."""
    there = f"--host-resolver-rules=MAP {NAME} 127.0.0.1:{front.port}"
    browser = chromium.browser_type.launch(executable_path=CHROMIUM, args=[*FLAGS, there])
    yield browser
    browser.close()


@pytest.fixture
def page(world, site) -> Iterator[Page]:
    """Ana's: set up where nobody is yet, else signed in."""
    with world.new_context(ignore_https_errors=True) as context:
        page = context.new_page()
        is_first = not site.rows("SELECT 1 FROM flux2web_user")
        page.goto(site.setup_url if is_first else f"{ORIGIN}/accounts/login/")
        known = {"login": PERSON["email"], "password": PERSON["password"]}
        for name, value in (PERSON | {"team": "North"} if is_first else known).items():
            page.fill(f"[name={name}]", value)
        page.click("main form button")
        page.wait_for_url("**/t/north/")
        yield page


@pytest.fixture
def hosted(page) -> Page:
    """The page of an image that has an open address."""
    page.goto(f"{ORIGIN}/t/north/references/")
    if not page.locator("#library .cover").count():
        page.set_input_files("#file", VASE)
        page.get_by_role("button", name="Upload", exact=True).click()
    page.locator("#library .cover a").first.click()
    if not page.locator("#addresses .copy input").count():
        page.get_by_role("button", name="Open an address").click()
    expect(page.locator("#addresses .copy input")).to_have_value(re.compile(rf"{ORIGIN}/i/"))
    return page


def check(page: Page) -> str:
    """Press it; what is said there."""
    page.evaluate("document.querySelector('#addresses').dataset.was = 'asked'")
    page.get_by_role("button", name="Check that it can be fetched").click()
    expect(page.locator("#addresses:not([data-was])")).to_be_visible(timeout=15_000)
    return page.locator("#addresses [role=status]").first.inner_text()


def test_over_https_its_cookies_are_for_nobody_else_and_pages_stay_live(page, front):
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert cookies["__Host-session"]["secure"]
    assert cookies["__Host-session"]["httpOnly"]
    with page.expect_response("**/live/") as stream:
        page.reload()
    assert stream.value.status == 200


def test_what_the_world_can_fetch_is_fine(hosted):
    assert "Fine: the image came, whole, as a provider would fetch it." in check(hosted)
    address = hosted.locator("#addresses .copy input").input_value()
    ask = "address => fetch(address).then((answer) => [answer.status, answer.headers.get('content-type')])"
    assert hosted.evaluate(ask, address) == [200, "image/png"]


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        (http_answer(b"no", status=404), "what begins with /i/"),
        (http_answer(b"<html>Sign in</html>"), "Something else than this image came from its address."),
    ],
    ids=["kept back", "sign-in page"],
)
def test_what_the_front_does_to_it_is_said(hosted, front, instead, said):
    front.instead = lambda path: instead if path.startswith("/i/") else None
    try:
        words = check(hosted)
    finally:
        front.instead = lambda path: None
    assert said in words
    assert "Sending is not stopped by this check." in words


def test_a_certificate_that_nobody_trusts_is_said_to_be_so(hosted, front, tls):
    good, front.tls = front.tls, tls("another.example.com")
    try:
        assert "Its certificate is not one that the world trusts" in check(hosted)
    finally:
        front.tls = good


def test_who_checks_too_often_is_asked_to_wait(hosted):
    for _ in range(7):
        said = check(hosted)
    assert "Your team has checked often just now. Try again in a minute." in said
