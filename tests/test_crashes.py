"""Killed with SIGKILL at every point of the story, once; started again; nothing lost, nothing paid twice."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import suppress

import httpx
import pytest

from .peer import picture
from .site import running

ON_THE_ROAD = ["CP3", "CP4", "CP5", "CP6", "CP7", "CP8", "CP9", "CP10", "CP11", "CP12"]


@pytest.fixture
def site(tmp_path):
    with running(tmp_path / "var") as site:
        yield site


def money(site) -> tuple[int, int, int]:
    return site.rows("SELECT granted, held, spent FROM flux2web_budget")[0]


def assert_whole(site) -> None:
    """At rest: nothing held, as much spent as settled, one outcome a task, every picture there."""
    audit = site.manage("check_ledger", "--storage")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert money(site)[1] == 0
    outcomes = "SELECT count(*) FROM flux2web_entry WHERE kind IN ('settle', 'release') GROUP BY task_id"
    assert all(count == 1 for (count,) in site.rows(outcomes))
    assert site.rows("SELECT count(*) FROM flux2web_task WHERE state='done'") == site.rows(
        "SELECT count(*) FROM flux2web_result"
    )


def created_upstream(site) -> int:
    """How many tasks the pretend providers were really asked for."""
    with sqlite3.connect(f"file:{site.var / 'sandbox.sqlite3'}?mode=ro", uri=True) as db:
        return db.execute("SELECT count(*) FROM task").fetchone()[0]


def press_and_see_it_die(site, person, **fields) -> None:
    """The process may die before it has answered, or after."""
    with suppress(httpx.HTTPError):
        person.press("A harbour at dawn", **fields)
    assert site.wait_dead() == -signal.SIGKILL


@pytest.mark.parametrize("point", ON_THE_ROAD)
def test_a_task_survives_a_kill_at(point, site):
    ana = site.set_up()
    site.stop()
    site.start(CRASH_AT=point)
    press_and_see_it_die(site, ana)
    site.start()
    states = site.wait_at_rest(90)
    assert_whole(site)
    assert created_upstream(site) <= 1
    # Killed between the claim and the provider's answer nobody can know; without a callback the hold is released.
    assert states == ["done"] or (point in ("CP4", "CP5", "CP6") and states == ["failed"])


def test_the_clock_may_die_between_reading_and_sending(site):
    site.set_up().press("A harbour at dawn [slow]", count="4")
    site.wait_until(lambda: set(site.states()) == {"running"})
    site.process.kill()
    site.wait_dead()
    site.launch(CRASH_AT="CP13")  # its first tick finds the four rows
    assert site.wait_dead() == -signal.SIGKILL
    site.start()
    assert site.wait_at_rest() == ["done"] * 4
    assert created_upstream(site) == 4
    assert_whole(site)


@pytest.mark.parametrize("point", ["CP1", "CP2"])
def test_a_press_that_was_cut_off_happens_once(point, site):
    ana = site.set_up()
    site.stop()
    site.start(CRASH_AT=point)
    key = ana.fields("/t/north/")["key"]
    press_and_see_it_die(site, ana, key=key)
    site.start()
    ana.press("A harbour at dawn", key=key)
    assert site.wait_at_rest() == ["done"]
    assert_whole(site)


@pytest.mark.parametrize(
    ("point", "given", "granted", "spent"),
    [
        ("CP14", {"kind": "refund", "amount": "4", "task": "1"}, 1000, 6),
        ("CP15", {"kind": "grant", "amount": "200"}, 1200, 10),
    ],
)
def test_an_administrators_entry_that_was_cut_off_counts_once(point, given, granted, spent, site):
    ana, page = site.set_up(), "/console/teams/north/"
    ana.press("A harbour at dawn")
    site.wait_at_rest()
    site.stop()
    site.start(CRASH_AT=point)
    form = given | {"reason": "a reason", "key": "one-form"}
    with suppress(httpx.HTTPError):
        ana.post(f"{page}grant/", form, page=page)
    assert site.wait_dead() == -signal.SIGKILL
    site.start()
    assert money(site) == (1000, 0, 10)
    for _ in range(2):
        assert ana.post(f"{page}grant/", form, page=page).status_code == 200
    assert money(site) == (granted, 0, spent)
    assert_whole(site)


def test_an_upload_that_was_cut_off_can_be_sent_again(site):
    ana = site.set_up()
    site.stop()
    site.start(CRASH_AT="CP16")
    upload = {"file": ("bowl.png", picture(), "image/png")}
    with suppress(httpx.HTTPError):
        ana.post("/t/north/references/", {}, page="/t/north/", files=upload)
    assert site.wait_dead() == -signal.SIGKILL
    site.start()
    assert ana.post("/t/north/references/", {}, page="/t/north/", files=upload).status_code == 200
    assert site.rows("SELECT count(*) FROM flux2web_reference") == [(1,)]


def test_a_lost_answer_is_healed_by_the_callback(site):
    ana = site.set_up()
    ana.press("A harbour at dawn [lost]")
    assert site.wait_at_rest() == ["done"]
    assert created_upstream(site) == 1
    assert_whole(site)


def test_a_lost_answer_without_a_callback_is_given_up_and_released(site):
    ana = site.set_up()
    ana.press("A harbour at dawn [lost silent]")
    assert site.wait_at_rest() == ["failed"]
    assert created_upstream(site) == 1
    assert_whole(site)
