"""A thousand pictures scrolled through in Chromium: what comes over the wire, and whether the page ever stands still."""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from .. import site
from ..browser.conftest import CHROMIUM, FLAGS
from . import stage

TASKS, PICTURES, FIRST = 1_250, 1_000, 40
LONG_MS, THUMBS_MB, PAGE_KB = 100, 1.2, 60
WIDTHS = (1440, 360)
PASSWORD = "pw-demo-12345"
TRACED = ["toplevel", "disabled-by-default-devtools.timeline"]


def main() -> None:
    assert CHROMIUM, "no Chromium on this machine"
    with tempfile.TemporaryDirectory() as name:
        var = Path(name)
        settings = {"DJANGO_SETTINGS_MODULE": "flux2web.settings"}
        made = site.Site(var, **settings).manage("demo", "--tasks", str(TASKS), "--password", PASSWORD)
        assert made.returncode == 0, made.stderr
        with site.running(var, **settings) as running, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            rows = [
                [width, *figures(browser.new_page(viewport={"width": width, "height": 900}), running.url)]
                for width in WIDTHS
            ]
            browser.close()
    head = [
        "width",
        "pictures",
        "longest task, CPU ms",
        f"tasks > {LONG_MS} ms (none)",
        "first page, gzipped KB",
        f"(<= {PAGE_KB})",
    ]
    head += [f"{FIRST} thumbnails MB", f"(<= {THUMBS_MB})", "a tick, CPU ms"]
    stage.table("History scrolled to the end in Chromium", head, rows)


def figures(page: Page, url: str) -> list[object]:
    thumbs: dict[str, int] = {}
    page.on("response", lambda answer: _weigh(answer, thumbs))
    _sign_in(page, url)
    page.context.browser.start_tracing(page=page, categories=TRACED)
    answer = page.goto(f"{url}/t/demo/history/")
    page_kb = len(gzip.compress(answer.body())) / 1024
    first = page.evaluate(f"[...document.querySelectorAll('.tile')].slice(0, {FIRST}).map((tile) => tile.dataset.task)")
    while page.locator(".tile").count() < PICTURES:
        page.mouse.wheel(0, 600)
        page.wait_for_timeout(30)
    tasks = _tasks_ms(page.context.browser.stop_tracing())
    weights = [
        thumbs.get(f"/t/demo/results/{task}/320", thumbs.get(f"/t/demo/results/{task}/640", 0)) for task in first
    ]
    assert all(weights), "each of the first thumbnails came"
    over = sum(ms > LONG_MS for ms in tasks)
    count = page.locator(".tile").count()
    return [count, max(tasks), over, page_kb, "", sum(weights) / 2**20, "", _tick_ms(page)]


def _tasks_ms(trace: bytes) -> list[float]:
    """Each task of the page's own thread, in its processor's time: what else the machine does is not the page's doing."""
    events = json.loads(trace)["traceEvents"]
    main = {
        (e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"
    }
    ours = [e for e in events if e["name"] == "RunTask" and (e["pid"], e["tid"]) in main]
    return [e.get("tdur", e.get("dur", 0)) / 1000 for e in ours]


def _weigh(answer, thumbs: dict[str, int]) -> None:
    path = "/" + answer.url.split("/", 3)[-1]
    if "/results/" in path and answer.ok:
        thumbs[path] = int(answer.headers.get("content-length", 0))


def _sign_in(page: Page, url: str) -> None:
    page.goto(f"{url}/accounts/login/")
    page.fill("[name=login]", "ana@example.com")
    page.fill("[name=password]", PASSWORD)
    page.click("main form button")
    page.wait_for_url("**/t/demo/")


def _tick_ms(page: Page) -> float:
    """The longest task of one more picture's tick, with all of them on the page."""
    ticked = """(from_end) => new Promise((tell) => {
        [...document.querySelectorAll('.pick')].at(from_end).click();
        requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(tell)));
    })"""
    page.evaluate(ticked, -5)  # the first one lets the bar come
    page.context.browser.start_tracing(page=page, categories=TRACED)
    page.evaluate(ticked, -9)
    return max(_tasks_ms(page.context.browser.stop_tracing()))


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s")
