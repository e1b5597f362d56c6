"""The doctor names what is wrong, one illness at a time, and finds a healthy site healthy."""

from __future__ import annotations

import io
from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from flux2web.models import Heartbeat, Price, ProviderAccount, User
from flux2web.providers.base import Kind

from . import factories

pytestmark = pytest.mark.django_db
CLOSED = "redis://127.0.0.1:1/0"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def healthy(settings, tmp_path, sam):
    """A site that is all right. The test makes it ill."""
    settings.PUBLIC_URL = "https://studio.example.com"
    settings.VAR_DIR = tmp_path
    storage = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "media"}}
    settings.STORAGES = settings.STORAGES | {"default": storage}
    factories.make_account("revid")
    Heartbeat.objects.create(name="clock", at=timezone.now())
    return settings


def doctor() -> tuple[int, list[str]]:
    """The exit code, and of each problem what is wrong."""
    out = io.StringIO()
    try:
        call_command("doctor", stdout=out)
    except SystemExit as exit:
        return exit.code, out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


def only_problem() -> tuple[str, str]:
    """What is wrong and what to do, where exactly one thing is wrong."""
    code, lines = doctor()
    assert code == 1
    assert len(lines) == 2, lines
    assert lines[0].startswith("1. ")
    return lines[0][3:], lines[1].strip()


def test_a_healthy_site_is_told_so(healthy):
    assert doctor() == (0, ["Nothing is wrong."])


def test_nothing_stays_behind_in_storage(healthy):
    doctor()
    assert not [path for path in (healthy.VAR_DIR / "media").rglob("*") if path.is_file()]


def test_debug(healthy):
    healthy.DEBUG = True
    what, do = only_problem()
    assert what.startswith("DEBUG is on")
    assert "Remove DEBUG" in do


def test_a_secret_in_a_file_is_wrong_only_when_scaled_out(healthy):
    (healthy.VAR_DIR / "secret_key").write_text(healthy.SECRET_KEY)
    healthy.EMBEDDED = True
    assert doctor()[0] == 0
    healthy.EMBEDDED = False
    what, do = only_problem()
    assert "SECRET_KEY comes from a file" in what
    assert "on every machine" in do
    assert healthy.SECRET_KEY not in what + do


def test_a_short_secret(healthy):
    healthy.SECRET_KEY = "hunter2"
    assert "SECRET_KEY is short (7 characters)" in only_problem()[0]


def test_a_full_disk(healthy, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**12, 10**12 - 50 * 2**20, 50 * 2**20))
    assert "Only 50 MB are free" in only_problem()[0]


def test_a_storage_that_takes_nothing(healthy):
    (healthy.VAR_DIR / "media").write_text("a file where the folder should be")
    what, do = only_problem()
    assert "cannot be written" in what
    assert "rights" in do


def test_a_redis_that_is_down(healthy):
    healthy.REDIS_URL = CLOSED
    what, _ = only_problem()
    assert what.startswith("Redis at REDIS_URL cannot be reached")


def test_a_broker_that_is_down(healthy, monkeypatch):
    healthy.BROKER_URL = CLOSED
    monkeypatch.setattr("flux2web.management.commands.doctor.broker_answers", refuse)
    what, _ = only_problem()
    assert what.startswith("The broker at BROKER_URL cannot be reached (nobody there)")


def refuse() -> bool:
    raise ConnectionError("nobody there")


def test_missing_migrations_and_then_no_question_to_missing_tables(healthy):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'sessions'")
    Heartbeat.objects.all().delete()
    what, do = only_problem()
    assert what == "The database is behind the program: sessions.0001_initial not applied."
    assert "Bring it up to date" in do


def test_nobody_who_may_look_after_the_site(healthy):
    User.objects.update(is_site_admin=False)
    assert only_problem()[0].startswith("There is no site admin")


@pytest.mark.parametrize(
    ("url", "said"),
    [("", "PUBLIC_URL is not set"), ("http://127.0.0.1:8000", "127.0.0.1:8000"), ("https://10.0.0.5", "10.0.0.5")],
)
def test_an_address_that_providers_cannot_reach_and_what_follows(healthy, url, said):
    healthy.PUBLIC_URL = url
    what, do = only_problem()
    assert said in what
    assert "cannot call back" in what
    assert "references work only with providers that take uploads (none is set up)" in what
    assert "https" in do


def test_the_providers_that_still_take_references_are_named(healthy):
    healthy.PUBLIC_URL = ""
    factories.make_account("apikley")
    assert "take uploads (Apikley)" in only_problem()[0]


def test_a_sandbox_is_named(healthy):
    healthy.SANDBOX = True
    assert only_problem()[0].startswith("The sandbox is on")


def test_without_a_real_account_both_are_named_the_sandbox_and_the_missing_key(healthy):
    healthy.EMBEDDED, healthy.PUBLIC_URL = True, ""
    ProviderAccount.objects.all().delete()
    whats = " ".join(doctor()[1])
    assert "The sandbox is on" in whats
    assert "No provider with a key is switched on" in whats


def test_an_account_without_a_key(healthy):
    factories.make_account("vtrix", key=None)
    what, do = only_problem()
    assert what == "Vtrix is switched on without a key: no task goes there."
    assert do == "manage.py provider set vtrix --key -"


def test_a_key_that_does_not_open(healthy):
    healthy.SECRET_KEYS = ["another secret"]
    what, do = only_problem()
    assert what.startswith("The key of Revid does not open")
    assert "SECRET_KEYS" in do


@pytest.mark.parametrize(
    ("kind", "cure"),
    [(Kind.AUTH, "Set the right key"), (Kind.BALANCE, "Pay in"), (Kind.RATE, "--rate"), (Kind.MAINTENANCE, "Nothing")],
)
def test_a_paused_account_why_and_what_to_do(healthy, kind, cure):
    until = timezone.now() + timedelta(minutes=5)
    ProviderAccount.objects.update(paused_until=until, pause_kind=kind, pause_reason="Revid says: no")
    what, do = only_problem()
    assert what == f"Revid is paused until {until:%H:%M:%S} UTC ({kind}): Revid says: no"
    assert cure in do


def test_a_price_that_is_missing(healthy):
    Price.objects.filter(provider="revid", family="flex", resolution="2K").delete()
    assert only_problem()[0] == "Revid has no price for flex 2K: that is not offered there."


def test_an_account_that_is_off_may_lack_anything(healthy):
    factories.make_account("apixo", key=None, prices=False, enabled=False)
    assert doctor()[0] == 0


def test_a_clock_that_stands_still(healthy):
    Heartbeat.objects.update(at=timezone.now() - timedelta(minutes=10))
    assert "The clock has not run for 60" in only_problem()[0]
    Heartbeat.objects.all().delete()
    assert "The clock has never run" in only_problem()[0]


# --- prepare, which the doctor sends people to ----------------------------------------------------------------------


@pytest.fixture
def prepared(settings, tmp_path, db):
    settings.STATIC_ROOT = tmp_path / "static"
    settings.PUBLIC_URL = "https://studio.example.com"
    settings.PROVIDER_SEEDS = {"revid": ("a-key-from-outside", "")}
    return Path(settings.STATIC_ROOT)


def prepare() -> str:
    out = io.StringIO()
    call_command("prepare", stdout=out)
    return out.getvalue()


def test_prepare_seeds_prices_accounts_and_static_files_and_prints_the_setup_link(prepared):
    assert "The first administrator: https://studio.example.com/setup/" in prepare()
    assert Price.objects.filter(provider="flux2api").count() == 4
    assert ProviderAccount.objects.get().key.secret == "a-key-from-outside"
    assert (prepared / "app.css").exists()


def test_prepare_again_changes_nothing_and_shows_no_link_once_somebody_is_here(prepared, sam):
    prepare()
    Price.objects.filter(provider="revid").update(credits=99)
    assert "setup" not in prepare()
    assert set(Price.objects.filter(provider="revid").values_list("credits", flat=True)) == {99}
    assert ProviderAccount.objects.get().keys.count() == 1
