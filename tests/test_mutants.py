"""The tests tested: each mistake of tests/mutants.py shows on a day of tests/machine.py on which nothing else goes wrong.

Those days are written down here, so that they stay what they are. What is not rare, random days must find by themselves
too, within as many as are lived every time.
"""

from __future__ import annotations

from functools import partial

import pytest
from django.db import IntegrityError
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from . import mutants
from .machine import Machine, Script, Stage
from .profiles import chosen


@pytest.fixture
def stage(db, monkeypatch, settings):
    with Stage.set(monkeypatch, settings) as stage:
        yield stage


def live(stage: Stage, *steps) -> None:
    """A day of these steps; after each one, and at rest, everything adds up."""
    day = Machine(stage)
    try:
        for step in (press, *steps):
            step(day)
            day.everything_adds_up()
    finally:
        day.teardown()


@pytest.fixture
def only_wrong_with(stage):
    """only_wrong_with(mutant, "I2", *steps): the day is a good one, and with the mutant it breaks that promise."""

    def judge(mutant, promise: str, *steps) -> None:
        live(stage, *steps)
        with mutant(), pytest.raises(AssertionError, match=promise):
            live(stage, *steps)

    return judge


# --- What happens on a day -------------------------------------------------------------------------------------------


def press(day: Machine, **given) -> None:
    day.member_presses(**{"who": 0, "provider": "", "count": 1, "seen": None, "old": 1, "also": "", "dies": ""} | given)


def send(day: Machine, **script) -> None:
    day.task_falls_due(0, Script(**script), "")


another_press_between_quote_and_hold = partial(press, count=2, also="press")
press_that_dies_once_committed = partial(press, dies="CP2")
send_and_lose_the_answer = partial(send, create="accept and cut")


def cancel(day: Machine) -> None:
    day.member_cancels(0, "")


def cancel_and_die_once_committed(day: Machine) -> None:
    day.member_cancels(0, "CP8")


def ring_that_says_it_failed(day: Machine) -> None:
    day.provider_rings(0, "fail", "")


def hours_without_an_answer(day: Machine) -> None:
    day.time_passes(400)
    day.clock_ticks("")


# --- The seven -------------------------------------------------------------------------------------------------------


def test_a_budget_read_before_it_is_written_loses_a_hold(only_wrong_with):
    only_wrong_with(mutants.check_then_act, "I2", another_press_between_quote_and_hold)


def test_a_task_committed_before_its_hold_may_be_left_without_one(only_wrong_with):
    only_wrong_with(mutants.hold_apart_from_task, "I3", press_that_dies_once_committed)


def test_an_end_committed_before_its_money_may_keep_the_hold_for_ever(only_wrong_with):
    only_wrong_with(mutants.money_apart_from_state, "I5", cancel_and_die_once_committed)


def test_an_end_without_a_guard_cancels_what_a_provider_is_drawing(only_wrong_with):
    only_wrong_with(mutants.no_guard_at_the_end, "it was running", send, cancel)


def test_a_believed_callback_fails_what_no_provider_failed(only_wrong_with):
    only_wrong_with(mutants.callbacks_believed, "I18", send, ring_that_says_it_failed)


def test_a_create_that_is_retried_is_paid_for_twice(only_wrong_with):
    only_wrong_with(mutants.creates_retried, "I16", send_and_lose_the_answer)


def test_a_hold_that_expires_leaves_its_task_alive_and_unpaid(only_wrong_with):
    only_wrong_with(mutants.holds_that_expire, "I5", send, hours_without_an_answer)


@pytest.mark.parametrize(
    "mutant",
    [
        mutants.hold_apart_from_task,
        mutants.money_apart_from_state,
        mutants.no_guard_at_the_end,
        mutants.holds_that_expire,
    ],
    ids=lambda mutant: mutant.__name__,
)
def test_random_days_find_by_themselves(mutant, stage):
    """The same days, from the first on, are good ones without it: tests/test_state_machine.py lives them all."""
    days = settings(chosen(), phases=[Phase.generate])  # that it is found is enough; nobody reads the smallest example
    with mutant(), pytest.raises((AssertionError, IntegrityError)):
        run_state_machine_as_test(partial(Machine, stage), settings=days)
