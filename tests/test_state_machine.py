"""Any day on this site ends well: Hypothesis writes the days, tests/machine.py lives them.

300 days here; `pytest -p tests.profiles --hypothesis-profile=thorough tests/test_state_machine.py` lives 3,000 others.
"""

from __future__ import annotations

from functools import partial

from django.db import connection
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import Machine, Stage
from .profiles import chosen


def test_every_credit_and_every_task_is_where_it_should_be_whatever_happens(db, monkeypatch, settings):
    days = chosen()
    if connection.vendor == "postgresql":  # where each of a day's thousand queries is a journey
        days = hypothesis_settings(days, max_examples=days.max_examples // 6)
    with Stage.set(monkeypatch, settings) as stage:
        run_state_machine_as_test(partial(Machine, stage), settings=days)
