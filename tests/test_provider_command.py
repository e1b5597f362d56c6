"""Accounts from the command line: what is set is set, what is wrong is said, and no key is ever printed."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from flux2web import accounts
from flux2web.models import ProviderAccount, ProviderKey

from . import factories

pytestmark = pytest.mark.django_db
KEY = "sk-live-9f8e7d6c5b4a"


def provider(*arguments: str) -> str:
    out = io.StringIO()
    call_command("provider", *arguments, stdout=out)
    return out.getvalue()


def account(slug: str = "revid") -> ProviderAccount:
    return ProviderAccount.objects.real().get(provider=slug)


def test_set_makes_an_account_at_the_providers_own_address():
    provider("set", "revid", "--key", KEY)
    assert account().base_url == "https://api.revidapi.com"
    assert account().enabled
    assert accounts.plain(account()).key == KEY


def test_set_changes_only_what_is_named():
    provider("set", "apixo", "--key", KEY, "--rate", "20/10", "--concurrency", "7")
    provider("set", "apixo", "--off")
    assert not account("apixo").enabled
    assert (account("apixo").rate_count, account("apixo").rate_s, account("apixo").concurrent) == (20, 10.0, 7)
    assert accounts.plain(account("apixo")).key == KEY
    provider("set", "apixo", "--on", "--url", "https://proxy.example.com/apixo/")
    assert account("apixo").enabled
    assert account("apixo").base_url == "https://proxy.example.com/apixo"


def test_a_new_key_is_a_new_version_and_the_old_one_stays_for_running_tasks():
    provider("set", "revid", "--key", KEY)
    provider("set", "revid", "--key", "another-key-12345")
    assert [key.secret for key in ProviderKey.objects.order_by("version")] == [KEY, "another-key-12345"]


def test_a_dash_reads_the_key_from_stdin(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    provider("set", "revid", "--key", "-")
    assert accounts.plain(account()).key == KEY


def test_no_output_holds_a_key():
    shown = provider("set", "revid", "--key", KEY) + provider("list")
    assert KEY not in shown
    assert "key …5b4a" in shown


def test_list_tells_switches_addresses_and_why_an_account_is_paused():
    until = timezone.now() + timedelta(minutes=5)
    factories.make_account("revid", paused_until=until, pause_reason="Revid says: no credits left")
    factories.make_account("apixo", key=None, enabled=False, concurrent=3)
    first, second = provider("list").splitlines()
    assert first.startswith("revid ")
    assert "on " in first
    assert f"paused until {until:%H:%M:%S} UTC: Revid says: no credits left" in first
    assert second.startswith("apixo ")
    assert "off  no key  https://apixo.example.com  1000/1 s, 3 at once" in second


def test_list_of_nothing_says_how_to_begin():
    assert "manage.py provider set SLUG" in provider("list")


def test_the_first_real_account_says_that_the_sandbox_is_over(settings):
    settings.PUBLIC_URL = "http://127.0.0.1:8000"
    assert "sandbox takes no more tasks" in provider("set", "revid", "--key", KEY)
    assert "sandbox" not in provider("set", "revid", "--off")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Say what to set"),
        (("--key", ""), "The key is empty"),
        (("--key", "two words"), "no spaces"),
        (("--key", "schlüssel"), "accents"),
        (("--url", "ftp://example.com"), "--url: Write an address that begins with https://"),
        (("--url", "http://example.com"), "only https:// and a public host"),
        (("--url", "https://10.0.0.7"), "only https:// and a public host"),
        (("--url", "https://user:pw@example.com"), "no name, password"),
        (("--rate", "often"), "--rate: Write calls/seconds"),
        (("--rate", "0/10"), "--rate: Write calls/seconds"),
        (("--concurrency", "0"), "--concurrency: at least 1"),
        (("--on", "--concurrency", "many"), "invalid int value"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_set(arguments, message):
    with pytest.raises(CommandError, match=message):
        provider("set", "revid", *arguments)
    assert not ProviderAccount.objects.exists()


def test_an_unknown_provider_is_refused_with_the_known_ones():
    with pytest.raises(CommandError, match="revid"):
        provider("set", "midjourney", "--on")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8123/sandbox/revid", "http://localhost:9000", "https://a.example.com"]
)
def test_this_machine_and_public_https_are_fine(url):
    provider("set", "revid", "--url", url)
    assert account().base_url == url


def test_check_asks_the_provider_and_tells_the_balance(httpserver):
    httpserver.expect_request("/api/v1/apikeys/current-balance").respond_with_json({"code": 200, "data": 12.5})
    provider("set", "apixo", "--key", KEY, "--url", httpserver.url_for("/"))
    assert provider("check", "apixo") == "apixo: The key works. Balance there: 12.5.\n"


def test_check_fails_when_a_key_is_refused_or_missing(httpserver, capsys):
    answer = {"code": 401, "message": f"invalid key {KEY}"}
    httpserver.expect_request("/api/v1/apikeys/current-balance").respond_with_json(answer, status=401)
    provider("set", "apixo", "--key", KEY, "--url", httpserver.url_for("/"))
    provider("set", "vtrix", "--on")
    out = io.StringIO()
    with pytest.raises(SystemExit) as exit:
        call_command("provider", "check", stdout=out)
    assert exit.value.code == 1
    refused, missing = out.getvalue().splitlines()
    assert refused.startswith("apixo: Apixo says: invalid key")
    assert KEY not in refused
    assert missing == "vtrix: No key is set."


def test_check_without_an_account_says_how_to_make_one():
    with pytest.raises(CommandError, match="manage.py provider set SLUG"):
        provider("check", "revid")


def test_a_key_that_no_longer_opens_is_told_in_words(settings):
    provider("set", "revid", "--key", KEY)
    settings.SECRET_KEYS = ["quite another secret"]
    assert "key does not open" in provider("list")
    with pytest.raises(SystemExit):
        provider("check")
