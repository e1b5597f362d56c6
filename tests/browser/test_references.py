"""The images of a picture in a real browser: brought in every way, moved, named in the prompt, kept in the library."""

from __future__ import annotations

import base64
import io
import re
import time
import zlib

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from pillow_heif import register_heif_opener
from playwright.sync_api import Page, expect

from ..pictures import picture
from .conftest import until

pytestmark = pytest.mark.browser
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
BOTH = pytest.mark.parametrize("wide", [True, False], ids=["desktop", "phone"])


def drawn(name: str) -> bytes:
    """Another picture for each name: the same one again from the same person is the image that is there already."""
    return picture(f"#{zlib.crc32(name.encode()) & 0xFFFFFF:06x}", (300, 200))


def file(name: str) -> dict:
    return {"name": name, "mimeType": "image/png", "buffer": drawn(name)}


TEXT = {"name": "notes.png", "mimeType": "image/png", "buffer": b"Dear diary"}


@pytest.fixture
def studio(sign_in, site):
    """studio(wide) is a fresh browser on an empty form, its images in sight."""

    def make(wide: bool = True) -> Page:
        options = {} if wide else {"has_touch": True, "is_mobile": True}
        page = sign_in(width=1280 if wide else 360, height=900 if wide else 780, **options)
        until(page, "Boolean(window.flux2web?.slots)")
        page.evaluate("document.querySelectorAll('#slots [data-slot=remove]').forEach((button) => button.click())")
        expect(page.locator("#slots .slot:not(.add)")).to_have_count(0)  # what the draft of another test left
        page.fill("#prompt", "")
        open_images(page)
        return page

    return make


def open_images(page: Page) -> None:
    if page.locator("#sheet-toggle").is_visible() and page.get_attribute("#sheet-toggle", "aria-expanded") != "true":
        page.click("#sheet-toggle")
    expect(page.locator("#add-slot, [data-full]").first).to_be_visible()


def add(page: Page, *files: dict) -> None:
    page.set_input_files("#files", list(files))


def ready(page: Page, *names: str) -> None:
    """These images, in this order, and no other."""
    images = page.locator("#slots img")
    expect(images).to_have_count(len(names))
    for number, name in enumerate(names, 1):
        expect(images.nth(number - 1)).to_have_attribute("alt", f"Image {number}: {name}")


def findings(page: Page) -> list[str]:
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
    return [f"{it['id']}: {node['html'][:120]}" for it in found.response["violations"] for node in it["nodes"]]


def no_sideways_scroll(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# --- The errand ------------------------------------------------------------------------------------------------------------


@BOTH
def test_images_are_brought_moved_named_kept_renamed_thrown_out_and_used_again(studio, site, wide):
    mark = "wide" if wide else "narrow"
    page = studio(wide)
    add(page, file(f"red-{mark}.png"), TEXT, file(f"teal-{mark}.png"))
    refused = page.locator(".slot[data-state=refused]")
    expect(refused).to_contain_text("notes.png: This file is text.")
    refused.locator("[data-slot=remove]").click()
    ready(page, f"red-{mark}.png", f"teal-{mark}.png")
    page.locator("#slots .slot").nth(1).hover()
    page.get_by_label("Move image 2 left").click()
    ready(page, f"teal-{mark}.png", f"red-{mark}.png")
    page.fill("#prompt", "Hang on a wall")
    page.get_by_label("Write “image 2” into the prompt").click()
    expect(page.locator("#prompt")).to_have_value("Hang on a wall image 2")
    expect(page.locator("#prompt")).to_be_focused()
    open_images(page)
    assert findings(page) == []
    no_sideways_scroll(page)

    page.goto(f"{site.url}/t/north/references/?q={mark}")
    expect(page.locator("#library .cover")).to_have_count(2)
    assert findings(page) == []
    no_sideways_scroll(page)
    page.get_by_role("link", name=f"red-{mark}.png", exact=False).first.click()
    page.fill("[name=name]", f"Wall {mark}")
    page.get_by_role("button", name="Rename").click()
    expect(page.locator("h1")).to_have_text(f"Wall {mark}")
    page.get_by_role("button", name="Open an address").click()
    expect(page.locator("#addresses .copy input")).to_have_count(1)
    address = page.locator("#addresses .copy input").input_value()
    assert page.request.get(address).ok
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#addresses").get_by_role("button", name="Copy").click()
    expect(page.locator("#addresses").get_by_role("button", name="Copied")).to_be_focused()
    assert page.evaluate("navigator.clipboard.readText()") == address
    assert findings(page) == []
    no_sideways_scroll(page)
    page.get_by_role("button", name="Close now").click()
    expect(page.locator("#addresses .copy input")).to_have_count(0)
    assert page.request.get(address).status == 404

    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete the image").click()
    expect(page.locator("#notices")).to_contain_text(f"“Wall {mark}” is out of the library.")
    page.locator("#notices").get_by_role("button", name="Undo").click()
    expect(page.locator("#notices")).to_contain_text("is in the library again.")
    page.goto(f"{site.url}/t/north/references/?q={mark}")
    expect(page.locator("#library .cover")).to_have_count(2)
    page.get_by_label(f"Use Wall {mark}").click()
    page.wait_for_url("**/t/north/**")
    expect(page.locator(f"#slots img[alt$='Wall {mark}']")).to_have_count(1)
    assert page.errors == [error for error in page.errors if "422" in error or "404" in error]


def odd() -> list[dict]:
    """What phones, scanners and archives hold: each another picture."""
    register_heif_opener()
    written = {"moving.gif": ("GIF", "P"), "phone.heic": ("HEIF", "RGB"), "scan.tiff": ("TIFF", "RGB")}
    written |= {"small.avif": ("AVIF", "RGB"), "old.bmp": ("BMP", "RGB"), "press.jpg": ("JPEG", "CMYK")}
    files = []
    for number, (name, (kind, mode)) in enumerate(written.items()):
        photo, file = Image.linear_gradient("L").resize((320, 200 + number)).convert("RGB").convert(mode), io.BytesIO()
        more = {"save_all": True, "append_images": [Image.new("P", photo.size, 3)]} if kind == "GIF" else {}
        photo.save(file, kind, **more)
        files.append({"name": name, "mimeType": "", "buffer": file.getvalue()})
    return files


def test_what_phones_scanners_and_archives_hold_becomes_an_image_like_any_other(studio, site):
    page = studio()
    files = odd()
    add(page, *files)
    images = page.locator("#slots img")
    expect(images).to_have_count(len(files), timeout=30_000)
    assert {image.get_attribute("alt").split(": ")[1] for image in images.all()} == {file["name"] for file in files}
    until(page, "[...document.querySelectorAll('#slots img')].every((image) => image.naturalWidth > 0)")
    newest = f"SELECT DISTINCT mime FROM (SELECT mime FROM flux2web_reference ORDER BY id DESC LIMIT {len(files)})"
    assert {mime for (mime,) in site.rows(newest)} <= {"image/jpeg", "image/png", "image/webp"}


def test_an_image_says_how_often_it_was_used_why_its_address_is_open_and_until_when(studio, site):
    page = studio()
    add(page, file("counted.png"))
    ready(page, "counted.png")
    number = page.locator("#slots [name=references]").get_attribute("value")
    page.goto(f"{site.url}/t/north/references/?q=counted")
    expect(page.locator("#library .cover")).to_contain_text("not used yet")
    page.get_by_label("Use counted.png").click()
    page.wait_for_url("**/t/north/**")
    for words in ("Image 1 as a stamp", "Image 1 as a seal"):
        page.fill("#prompt", words)
        page.press("#prompt", "Control+Enter")
        expect(page.locator("article.card", has_text=words)).to_have_attribute("data-state", "done", timeout=30_000)
    page.goto(f"{site.url}/t/north/references/?q=counted")
    expect(page.locator("#library .cover")).to_contain_text("used 2 times")
    page.goto(f"{site.url}/t/north/references/{number}/")
    expect(page.locator("dl.facts")).to_contain_text("2 times")
    said = page.locator("#addresses")
    expect(said).to_contain_text("whoever holds one sees the image without signing in until it closes")
    expect(said.locator(".open-at li")).to_have_count(2)  # of the two pictures, for some hours yet
    expect(said.locator(".open-at li").first).to_contain_text(re.compile(r"Closes on \d+ \w+, \d\d:\d\d"))
    expect(said).to_contain_text("only what runs on this machine can fetch images from it")
    for left in (1, 0):
        said.get_by_role("button", name="Close now").first.click()
        expect(said.locator(".open-at li")).to_have_count(left)


# --- Slots -----------------------------------------------------------------------------------------------------------------


def test_an_image_is_dragged_to_its_place(studio):
    page = studio()
    add(page, file("one.png"), file("two.png"), file("three.png"))
    ready(page, "one.png", "two.png", "three.png")
    slots = page.locator("#slots .slot")
    slots.nth(2).drag_to(slots.nth(0))
    ready(page, "three.png", "one.png", "two.png")


def test_a_picture_is_dragged_from_its_card_into_the_form(studio):
    page = studio()
    page.fill("#prompt", "A vase to drag about")
    page.press("#prompt", "Control+Enter")
    made = page.locator("article.card", has_text="A vase to drag about")
    expect(made).to_have_attribute("data-state", "done", timeout=30_000)
    task = made.get_attribute("data-task")
    open_images(page)
    made.locator(".picture img").drag_to(page.locator("#add-slot"))
    expect(page.locator("#slots .slot[data-state=ready] [name=references]")).to_have_count(1)
    assert task in page.locator("#slots img").get_attribute("alt")
    made.locator(".picture img").drag_to(page.locator(".top"))  # let go elsewhere
    expect(page.locator("#slots .slot:not(.add)")).to_have_count(1)


def test_the_name_of_an_image_goes_where_the_cursor_is(studio):
    page = studio()
    add(page, file("first.png"), file("second.png"))
    ready(page, "first.png", "second.png")
    page.locator("#prompt").click()
    page.keyboard.type("Put  beside the door")
    page.evaluate("document.querySelector('#prompt').setSelectionRange(4, 4)")
    page.get_by_label("Write “image 2” into the prompt").click()
    expect(page.locator("#prompt")).to_have_value("Put image 2 beside the door")


@BOTH
def test_each_image_is_called_by_its_name_without_a_pointer_over_it(studio, wide):
    page = studio(wide)
    page.route("**/references/", lambda route: None, times=1)
    add(page, file("held-in-the-air.png"), file("a-rather-long-name-of-a-heron-at-low-tide.png"))
    for name in ("held-in-the-air.png", "a-rather-long-name-of-a-heron-at-low-tide.png"):
        expect(page.locator("#slots").get_by_text(name, exact=True)).to_be_visible()
    expect(page.locator("#slots img")).to_have_count(1)
    no_sideways_scroll(page)


def test_what_is_too_large_is_known_before_it_is_sent_and_shrunk_by_who_agrees(studio):
    page = studio()
    sent = []
    page.on("request", lambda request: request.method == "POST" and "/references/" in request.url and sent.append(1))
    page.evaluate(
        """() => {
          const transfer = new DataTransfer();
          const film = new File(["x"], "film.jpg", { type: "image/jpeg" });
          Object.defineProperty(film, "size", { value: 2 ** 30 });
          window.film = film;
        }"""
    )
    page.evaluate(
        """() => {
          const event = new Event("paste", { bubbles: true, cancelable: true });
          event.clipboardData = { files: [window.film], getData: () => "" };
          document.body.dispatchEvent(event);
        }"""
    )
    refused = page.locator(".slot[data-state=refused]")
    expect(refused).to_contain_text("film.jpg: 1.0 GB is too large, 10 MB at most. Make it smaller first.")
    expect(refused.locator(".remedy")).to_have_count(0)
    refused.locator("[data-slot=remove]").click()
    large = {"name": "large.png", "mimeType": "image/png", "buffer": drawn("large.png") + bytes(11 * 2**20)}
    add(page, large)
    expect(refused).to_contain_text("large.png: 11.1 MB is too large, 10 MB at most.")
    assert sent == []
    page.get_by_role("button", name="Shrink it").click()
    ready(page, "large.png")


def test_an_upload_that_was_cut_off_is_tried_again_while_the_others_go_on(studio):
    page = studio()
    state = {"cut": True}

    def once(route):
        if state["cut"] and "torn.png" in (route.request.post_data_buffer or b"").decode("latin1"):
            state["cut"] = False
            return route.abort()
        return route.continue_()

    page.route("**/references/", once)
    add(page, file("torn.png"), file("whole.png"))
    expect(page.locator(".slot[data-state=refused]")).to_contain_text("torn.png: the upload was cut off.")
    expect(page.locator("#slots img")).to_have_count(1)
    page.get_by_role("button", name="Try again").click()
    ready(page, "torn.png", "whole.png")


def test_an_upload_that_took_too_long_says_so_and_can_be_tried_again(studio):
    page = studio()
    page.route("**/references/", lambda route: route.fulfill(status=408), times=1)
    add(page, file("slow-line.png"))
    expect(page.locator(".slot[data-state=refused]")).to_contain_text("slow-line.png: it came too slowly.")
    page.get_by_role("button", name="Try again").click()
    ready(page, "slow-line.png")


def test_three_are_uploaded_at_once_and_each_tells_how_far_it_is(studio):
    page = studio()
    held, holding = [], [True]
    page.route("**/references/", lambda route: held.append(route) if holding else route.continue_())
    add(page, *(file(f"three-{number}.png") for number in range(1, 6)))
    expect(page.locator("#slots .slot[data-state=uploading]")).to_have_count(5)
    expect(page.locator("#slots .step", has_text="Waiting")).to_have_count(2)
    expect(page.locator("#go-said")).to_have_text("Waiting for 5 uploads.")
    deadline = time.monotonic() + 10
    while len(held) < 3 and time.monotonic() < deadline:
        page.wait_for_timeout(20)
    assert len(held) == 3
    holding.clear()
    for route in held:
        route.continue_()
    ready(page, *(f"three-{number}.png" for number in range(1, 6)))


SLOW = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 60_000}
UNHURRIED = SLOW | {"uploadThroughput": -1}
STEPS = """() => {
  window.steps = new Set();
  const look = () => document.querySelectorAll("#slots .step").forEach((step) => window.steps.add(step.textContent));
  new MutationObserver(look).observe(document.querySelector("#slots"), { childList: true, subtree: true, characterData: true });
}"""


def test_on_a_slow_line_the_percent_grow_as_the_bytes_go_and_then_it_is_checked(studio):
    page = studio()
    page.evaluate(STEPS)
    line = page.context.new_cdp_session(page)
    line.send("Network.emulateNetworkConditions", SLOW)
    add(page, file("slow.png") | {"buffer": drawn("slow.png") + bytes(200_000)})
    until(page, "[...window.steps].filter((step) => /^[1-9]\\d? %$/.test(step)).length > 2")
    ready(page, "slow.png")
    steps = page.evaluate("[...window.steps]")
    percents = [int(step.removesuffix(" %")) for step in steps if step.endswith("%")]
    assert percents == sorted(percents)
    assert percents[0] == 0
    assert steps[-1] == "Checking"
    line.send("Network.emulateNetworkConditions", UNHURRIED)


def test_who_takes_out_the_image_that_was_waited_for_sends_nothing(studio):
    page, held, sent = studio(), [], []
    page.route("**/references/", lambda route: held.append(route))
    page.on("request", lambda request: sent.append(request) if request.url.endswith("/tasks/") else None)
    page.fill("#prompt", "A heron that waits for an image")
    add(page, file("waited.png"))
    expect(page.locator("#slots .slot[data-state=uploading]")).to_have_count(1)
    page.click("#go")
    expect(page.locator("#go-said")).to_have_text("Sends by itself after 1 upload.")
    page.click("#slots .slot [data-slot=remove]")
    expect(page.locator("#slots .slot:not(.add)")).to_have_count(0)
    expect(page.locator("#go-said")).to_have_text("")
    assert sent == []
    assert page.input_value("#prompt") == "A heron that waits for an image"


PASTE = """([files, target]) => {
  const transfer = new DataTransfer();
  const bytes = (data) => Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  const parts = (data, times) => Array(times).fill(new Blob([bytes(data)]));
  for (const { name, type, data, times = 1 } of files) transfer.items.add(new File(parts(data, times), name, { type }));
  const event = new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true });
  document.querySelector(target).dispatchEvent(event);
}"""
DROP = PASTE.replace('new ClipboardEvent("paste", { clipboardData:', 'new DragEvent("drop", { dataTransfer:')


def carried(name: str, kind: str, data: bytes) -> dict:
    return {"name": name, "type": kind, "data": base64.b64encode(data).decode()}


def test_a_picture_is_pasted_and_what_is_none_changes_nothing(studio):
    page = studio()
    page.fill("#prompt", "As it was")
    page.evaluate(PASTE, [[carried("list.pdf", "application/pdf", b"%PDF")], "#prompt"])
    expect(page.locator("#slots-said")).to_have_text("“list.pdf” is no picture, so nothing was added.")
    page.evaluate(PASTE, [[], "#prompt"])
    expect(page.locator("#slots .slot:not(.add)")).to_have_count(0)
    page.evaluate(PASTE, [[carried("pasted.png", "image/png", drawn("pasted.png"))], "#prompt"])
    ready(page, "pasted.png")
    expect(page.locator("#prompt")).to_have_value("As it was")


def test_nine_files_dropped_anywhere_at_once_fill_eight_places(studio):
    page = studio()
    files = [carried(f"dropped-{n}.png", "image/png", drawn(f"dropped-{n}.png")) for n in range(1, 10)]
    page.evaluate(DROP, [files, "#cards"])
    expect(page.locator("#slots-said")).to_have_text("8 of 8: remove one to add “dropped-9.png”.")
    ready(page, *(f"dropped-{n}.png" for n in range(1, 9)))


def test_nine_files_in_one_drop_one_of_them_a_gigabyte_and_each_is_answered(studio):
    page = studio()
    files = [carried(f"many-{n}.png", "image/png", drawn(f"many-{n}.png")) for n in range(1, 10)]
    files[3] = carried("film.png", "image/png", bytes(2**20)) | {"times": 1024}
    page.evaluate(DROP, [files, "#cards"])
    refused = page.locator(".slot[data-state=refused]")
    expect(refused).to_contain_text("film.png: 1.0 GB is too large, 10 MB at most. Make it smaller first.")
    expect(page.locator("#slots-said")).to_have_text("8 of 8: remove one to add “many-9.png”.")
    expect(page.locator("#slots img")).to_have_count(7)
    refused.locator("[data-slot=remove]").click()
    ready(page, *(f"many-{n}.png" for n in (1, 2, 3, 5, 6, 7, 8)))


# --- Picking ---------------------------------------------------------------------------------------------------------------


@BOTH
def test_images_are_picked_from_the_library_and_from_what_was_made(studio, site, wide):
    page = studio(wide)
    mark = "wide" if wide else "narrow"
    add(page, file(f"pick-{mark}.png"))
    ready(page, f"pick-{mark}.png")
    prompt = f"A picture to pick, {mark}"
    page.locator("#prompt").fill(prompt)
    page.press("#prompt", "Control+Enter")
    expect(page.locator("article.card[data-state=done]", has_text=prompt)).to_be_visible(timeout=30_000)
    open_images(page)
    page.locator("#slots [data-slot=remove]").first.click()
    ready(page)
    page.locator("[data-pick]").click()
    library = page.locator("#picker .picks button")
    expect(library.first).to_be_visible()
    assert findings(page) == []
    page.fill("#picker-q", f"pick-{mark}")
    expect(library).to_have_count(1)
    library.click()
    expect(library).to_have_attribute("aria-pressed", "true")
    library.click()
    expect(library).to_have_attribute("aria-pressed", "false")
    library.click()
    expect(library).to_have_attribute("aria-pressed", "true")
    page.locator("#picker [data-pick-tab]", has_text="Pictures").click()
    made = page.locator("#picker [data-post]")
    made.first.click()
    expect(made.first).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#picker-said")).to_have_text("2 of 8 images")
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#picker")).to_be_hidden()
    expect(page.locator("#slots img").nth(0)).to_have_attribute("alt", f"Image 1: pick-{mark}.png")
    expect(page.locator("#slots img").nth(1)).to_have_attribute("alt", re.compile(r"Image 2: picture-\d+\."))


# --- Without the script ----------------------------------------------------------------------------------------------------


def test_the_library_works_without_javascript(sign_in, site):
    page = sign_in(java_script_enabled=False)
    page.goto(f"{site.url}/t/north/references/")
    page.set_input_files("#file", [file("plain-one.png"), TEXT, file("plain-two.png")])
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.locator("#notices")).to_contain_text("notes.png: This file is text.")
    expect(page.locator("#notices")).to_contain_text("2 images kept.")
    page.get_by_label("Use plain-two.png").click()
    expect(page.locator("#slots img[alt$='plain-two.png']")).to_have_count(1)
