"""`manage.py up` as an operator sees it: one address, one Ctrl-C, and it goes on where it stopped."""

from __future__ import annotations

import signal
import threading
import time

import httpx
import pytest

from .site import Person, running


@pytest.fixture
def site(tmp_path):
    with running(tmp_path / "var") as site:
        yield site


def test_from_the_printed_address_to_the_first_picture(site):
    ana = site.set_up()
    assert ana.press("A harbour at dawn").status_code == 200
    assert site.wait_at_rest() == ["done"]
    picture = ana.get("/t/north/results/1/original")
    assert picture.status_code == 200
    assert picture.headers["content-type"] in ("image/jpeg", "image/png")
    assert Person(site).get("/t/north/results/1/original").url.path == "/accounts/login/"


def test_the_setup_link_works_once(site):
    assert 'name="password"' in httpx.get(site.setup_url).text
    site.set_up()
    late = httpx.get(site.setup_url)
    assert late.status_code == 410
    assert 'name="password"' not in late.text


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_within_five_seconds_with_streams_open(site, sig):
    ana, ends = site.set_up(), []

    def watch():
        with ana.http.stream("GET", f"{site.url}/t/north/live/", timeout=None) as stream:
            heard = b"".join(stream.iter_bytes())
            ends.append(heard)

    watchers = [threading.Thread(target=watch) for _ in range(12)]
    for watcher in watchers:
        watcher.start()
    time.sleep(1)
    took_s = site.stop(sig)
    for watcher in watchers:
        watcher.join(5)
    assert took_s < 5
    assert site.process.returncode == 0
    assert len(ends) == 12
    assert all(end.endswith(b"event: bye\ndata: \n\n") for end in ends)


def test_a_start_goes_on_where_the_stop_was(site):
    ana = site.set_up()
    ana.press("A harbour at dawn", count="4")
    site.stop()
    assert set(site.states()) - {"done"}  # the sandbox needs longer than that
    site.start()
    assert site.wait_at_rest() == ["done"] * 4
    assert site.manage("check_ledger").returncode == 0


def test_a_second_site_takes_the_next_port_or_says_so(site):
    taken = site.manage("up", "--port", str(site.port))
    assert taken.returncode == 1
    assert "another program uses" in taken.stderr
