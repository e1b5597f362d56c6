"""What the clock sweeps out: old notices, sessions that are over, what a crash left. And what it leaves alone."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone

from flux2web import cleaning, queries, storage
from flux2web.clock import Clock
from flux2web.models import Notice, State

from . import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def spool(settings, tmp_path) -> Path:
    settings.SPOOL_DIR = tmp_path / "spool"
    settings.SPOOL_DIR.mkdir()
    return settings.SPOOL_DIR


def days_ago(days: float):
    return timezone.now() - timedelta(days=days)


def noticed(user, days: float, *, seen: bool) -> Notice:
    key = f"test:{Notice.objects.count()}"
    row = Notice.objects.create(user=user, key=key, text="Said.", created=days_ago(days))
    Notice.objects.filter(pk=row.pk).update(seen_at=days_ago(days) if seen else None)
    return row


def left(folder: Path, name: str, hours: float) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half a picture")
    at = (timezone.now() - timedelta(hours=hours)).timestamp()
    os.utime(path, (at, at))
    return path


def test_a_notice_goes_after_90_days_if_it_was_put_away_and_after_a_year_if_not(cleo):
    ages = ((settings.NOTICES_DAYS, True), (settings.NOTICES_UNREAD_DAYS, False))
    for days, seen in ages:
        noticed(cleo, days + 1, seen=seen)
    kept = {noticed(cleo, 91, seen=False), noticed(cleo, 89, seen=True), noticed(cleo, 1, seen=False)}
    assert cleaning.forget_notices(timezone.now()) == 2
    assert set(Notice.objects.all()) == kept
    assert cleaning.forget_notices(timezone.now()) == 0


def test_more_than_a_page_of_old_notices_goes_in_one_pass(cleo, monkeypatch):
    monkeypatch.setattr(queries, "OLD_PAGE", 2)
    for number in range(7):
        noticed(cleo, 100, seen=number != 3)
    assert cleaning.forget_notices(timezone.now()) == 6
    assert Notice.objects.count() == 1


def test_sessions_that_are_over_go_and_nobody_is_signed_out(client_for, ana, monkeypatch):
    monkeypatch.setattr(cleaning, "PAGE", 2)
    client = client_for(ana)
    for number in range(5):
        Session.objects.create(session_key=f"old-{number}", session_data="", expire_date=days_ago(1))
    assert cleaning.forget_sessions(timezone.now()) == 5
    assert client.get("/t/north/").status_code in (200, 404)
    assert Session.objects.count() == 1


def test_what_a_crash_left_goes_after_a_day(spool):
    old = [left(spool, name, 25) for name in ("77-up-1", ".77-up-1.Zx81", "exports/3-token", "9" * 40 + "-x")]
    young = left(spool, ".78-up-2.Ab12", 23)
    assert storage.forget_left_behind(timezone.now() - timedelta(hours=24)) == 4
    assert [path.exists() for path in [*old, young]] == [False] * 4 + [True]


def test_what_a_living_task_may_yet_store_stays_however_old(north, spool):
    revid = factories.make_account("revid")
    saving, done = (factories.make_task(north, state=state, account=revid) for state in (State.SAVING, State.DONE))
    kept, gone = (left(spool, storage._spool(task).name, 1000) for task in (saving, done))
    half = left(spool, f".{kept.name}.token", 1000)
    cleaning.run()
    assert [kept.exists(), gone.exists(), half.exists()] == [True, False, False]


def test_no_folder_to_look_through_is_no_trouble(spool):
    spool.rmdir()
    assert cleaning.run() == {"sessions": 0, "notices": 0, "files": 0}


@pytest.mark.django_db(transaction=True)
def test_the_clock_sees_to_it(cleo):
    noticed(cleo, 1000, seen=True)
    clock = Clock()
    clock.tick()
    for beside in clock._beside.values():
        beside.ident and beside.join(10)
    assert not Notice.objects.exists()
