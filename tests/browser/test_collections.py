"""Somebody gathers pictures, shows them to a client by a link, reads what the client says, and closes the link."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from ..site import PERSON, Person
from .conftest import until

pytestmark = pytest.mark.browser
ALL = "/t/north/collections/"


@pytest.fixture(scope="module")
def pictures(site) -> list[str]:
    """The ids of three finished ones."""
    person = Person(site)
    login = {"login": PERSON["email"], "password": PERSON["password"]}
    person.post("/accounts/login/", login, page="/accounts/login/")
    for prompt in ("An owl in a top hat", "An owl at a desk", "An owl by the sea"):
        person.press(prompt)
    assert site.wait_at_rest() == ["done"] * 3
    return [str(pk) for (pk,) in site.rows("SELECT id FROM flux2web_task ORDER BY id")]


def assert_good(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert getattr(page, "errors", []) == []


def new_collection(page: Page, site, name: str) -> None:
    page.goto(f"{site.url}{ALL}")
    page.get_by_role("button", name="New collection").click()
    page.fill("#id_name", name)
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("h1")).to_have_text(name)


def guest(chromium: Browser, **options) -> Page:
    context = chromium.new_context(viewport={"width": 360, "height": 740}, has_touch=True, **options)
    return context.new_page()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_are_gathered_shown_to_a_guest_and_hidden_again(chromium, sign_in, site, pictures, scheme):
    page, name = sign_in(width=1440, color_scheme=scheme), f"Owls, {scheme}"
    new_collection(page, site, name)
    expect(page.locator(".empty")).to_contain_text("Nothing in it yet")
    assert_good(page)

    for task in pictures:
        page.goto(f"{site.url}/t/north/tasks/{task}/collect/")
        page.get_by_role("button", name=f"Add to {name}").click()
        expect(page.locator(".told-line")).to_contain_text(f"In “{name}” now.")
    assert_good(page)
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.locator("#found .tile")).to_have_count(3)
    assert_good(page)

    page.get_by_text("Name, people and links").click()
    page.get_by_label("Guests may write comments").check()
    assert_good(page)
    page.get_by_role("button", name="Make a link").click()
    link = page.input_value("#link")
    assert_good(page)

    client = guest(chromium, color_scheme=scheme)
    client.goto(link)
    expect(client.locator("h1")).to_have_text(name)
    expect(client.locator(".tile")).to_have_count(3)
    assert "An owl" not in client.content()
    assert "Ana" not in client.content()
    assert_good(client)
    client.locator(".tile a").first.click()
    expect(client.locator(".shown img")).to_be_visible()
    until(client, "document.querySelector('.shown img').naturalWidth > 0")
    client.fill("[name=name]", "Mara")
    client.fill("[name=text]", "This one, please.")
    client.get_by_role("button", name="Send").click()
    expect(client.locator("#notices")).to_contain_text("Sent. The team reads it.")
    expect(client.locator(".say-so .items")).to_contain_text("This one, please.")
    assert_good(client)

    page.goto(f"{site.url}/notices/")
    expect(page.locator("main")).to_contain_text(f"Mara, a guest of “{name}”, says: This one, please.")
    page.goto(f"{site.url}{ALL}")
    page.locator(".cover a", has_text=name).click()
    page.get_by_text("Name, people and links").click()
    page.get_by_role("button", name="Revoke the link").click()
    expect(page.locator("#notices")).to_contain_text("The link shows nothing any more.")

    client.reload()
    expect(client.locator("h1")).to_have_text("This link shows nothing")
    client.goto(link)
    expect(client.locator("h1")).to_have_text("This link shows nothing")
    assert_good(client)
    client.context.close()


def test_pictures_are_taken_out_and_the_collection_ends_but_no_picture_does(sign_in, site, pictures):
    page = sign_in(width=360, has_touch=True)
    new_collection(page, site, "Drafts")
    for task in pictures:
        page.goto(f"{site.url}/t/north/tasks/{task}/collect/")
        page.get_by_role("button", name="Add to Drafts").click()
        expect(page.get_by_role("button", name="Take out of Drafts")).to_be_visible()
    assert_good(page)
    page.goto(f"{site.url}{ALL}")
    expect(page.locator(".cover", has_text="Drafts")).to_contain_text("3 pictures")
    assert_good(page)
    page.get_by_role("link", name="Drafts").click()
    page.locator(f"#tile-{pictures[0]} .pick").check()
    page.locator(f"#tile-{pictures[1]} .pick").check()
    page.get_by_role("button", name="Take out").click()
    expect(page.locator("#notices")).to_contain_text("2 pictures taken out.")
    expect(page.locator("#found .tile")).to_have_count(1)
    assert_good(page)

    page.get_by_text("Name, people and links").click()
    page.get_by_role("button", name="Delete the collection").click()
    question = page.locator("#delete:popover-open")
    expect(question).to_contain_text("no picture is deleted")
    assert_good(page)
    question.get_by_role("button", name="Delete the collection").click()
    expect(page.locator("#notices")).to_contain_text("Its pictures are where they were.")
    expect(page.locator(".cover", has_text="Drafts")).to_have_count(0)
    assert len(site.rows("SELECT id FROM flux2web_task WHERE deleted_at IS NULL")) == 3


def test_what_another_adds_shows_on_the_open_collection_and_on_the_pictures_page(sign_in, site, pictures):
    page = sign_in()
    new_collection(page, site, "Shared")
    place = page.url
    maker, looker, reader = sign_in(), sign_in(), sign_in()
    looker.goto(place)
    reader.goto(f"{site.url}/t/north/tasks/{pictures[0]}/")
    named = reader.locator("#detail .placed a", has_text="Shared")
    expect(named).to_have_count(0)
    maker.goto(f"{site.url}/t/north/tasks/{pictures[0]}/collect/")
    maker.get_by_role("button", name="Add to Shared").click()
    expect(named).to_have_count(1)
    pill = looker.get_by_role("link", name="Changed meanwhile: show")
    expect(pill).to_be_visible()
    assert_good(looker)
    pill.click()
    expect(looker.locator("#found .tile")).to_have_count(1)
    expect(pill).to_have_count(0)
    maker.goto(place)
    maker.get_by_text("Name, people and links").click()
    maker.get_by_role("button", name="Delete the collection").first.click()
    maker.locator("#delete").get_by_role("button", name="Delete the collection").click()
    expect(named).to_have_count(0)


def test_without_scripts_it_all_works_by_plain_forms(chromium, sign_in, site, pictures):
    signed_in = sign_in()
    context = chromium.new_context(java_script_enabled=False, storage_state=signed_in.context.storage_state())
    page = context.new_page()
    page.goto(f"{site.url}/t/north/tasks/{pictures[0]}/collect/")
    page.fill("[name=name]", "Plain")
    page.get_by_role("button", name="Make and add").click()
    page.goto(f"{site.url}{ALL}")
    page.get_by_role("link", name="Plain").click()
    expect(page.locator(".tile")).to_have_count(1)
    page.locator(".tile .pick").check()
    page.get_by_role("button", name="Take out").click()
    expect(page.locator("#notices")).to_contain_text("1 picture taken out.")
    page.get_by_text("Name, people and links").click()
    page.get_by_role("button", name="Make a link").click()
    link = page.input_value("#link")
    page.goto(link)
    expect(page.locator("main")).to_contain_text("No pictures here yet")
    context.close()
