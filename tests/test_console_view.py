"""The site admin's pages: teams and credits, providers, prices."""

from __future__ import annotations

import re
from unittest.mock import patch

import pytest
from django.urls import reverse

from flux2web.models import Audit, Entry, Membership, Price, ProviderAccount, ProviderKey, Role, Team
from flux2web.providers.base import Kind, ProviderError

from . import factories

BAD_AMOUNTS = [
    "-5",
    "0",
    str(2**63),
    "1e9",
    "1,5",
    "NaN",
    "٣٠",
    "1.5",
    "ten",
    "",
    " ",
    "+-1",
    "0x10",
    "²",
    "1_000",
    "1" * 5000,
]
PAGES = ["console", "providers", "prices"]


@pytest.fixture
def admin(client_for, sam):
    """Sam's browser."""
    return client_for(sam)


def text(answer) -> str:
    return answer.content.decode()


def error_at(answer, field: str) -> str:
    found = re.search(rf'id="{field}_error">(.*?)</', text(answer), re.S)
    return found.group(1) if found else ""


# --- Who may -------------------------------------------------------------------------------------------------------------


def every_address(north) -> list[str]:
    plain = [reverse(name) for name in [*PAGES, "make-team"]]
    return [
        *plain,
        reverse("console-team", args=["north"]),
        reverse("grant", args=["north"]),
        reverse("provider", args=["revid"]),
    ]


@pytest.mark.parametrize("name", ["ana", "ben", "cleo", "eve", "zoe"])
def test_for_anyone_but_site_admins_there_is_no_console(client_for, cast, north, name):
    client = client_for(cast[name])
    for address in every_address(north):
        assert client.post(address, {"amount": "5", "reason": "mine", "kind": "grant", "key": "k"}).status_code in (
            404,
            405,
        )
        assert client.get(address).status_code in (404, 405)
    assert Entry.objects.filter(team=north).count() == 1


def test_without_signing_in_one_is_led_to_sign_in(client, north):
    for address in every_address(north):
        assert client.get(address).headers["Location"].startswith("/accounts/login/")


def test_owning_a_team_opens_no_other_ones_console_page(client_for, zoe, north):
    assert client_for(zoe).get("/console/teams/north/").status_code == 404


# --- Teams ---------------------------------------------------------------------------------------------------------------


def test_every_team_is_listed_with_its_sums(admin, north, south):
    factories.make_task(north, state="done", price=40)
    factories.make_task(north, state="running", price=15)
    row = re.search(r'<tr id="team-north">.*?</tr>', text(admin.get("/console/")), re.S).group()
    numbers = re.findall(r">([\d,]+)<", row)
    assert numbers == ["1", "1,000", "40", "15", "945"]
    assert "South" in text(admin.get("/console/"))


def test_before_the_first_team_the_page_says_what_to_do(admin):
    assert "No team yet" in text(admin.get("/console/"))


def test_more_teams_ask_no_more_queries(admin, django_assert_max_num_queries):
    for _ in range(20):
        factories.make_team()
    with django_assert_max_num_queries(6):
        admin.get("/console/")


def test_a_team_is_made_with_credits_and_an_owner_who_is_here(admin, sam, ana):
    answer = admin.post("/console/teams/", {"name": "Ost & West", "credits": "1,200", "owner": "ANA@example.com"})
    team = Team.objects.get(slug="ost-west")
    assert answer.headers["Location"] == "/console/teams/ost-west/"
    assert team.budget.available == 1200
    assert Membership.objects.get(team=team).user == ana
    assert Entry.objects.get(team=team).actor == sam


def test_a_team_for_somebody_new_gives_a_link_that_makes_its_owner(admin, client):
    answer = admin.post("/console/teams/", {"name": "East", "credits": "10", "owner": "finn@example.com"})
    path = re.search(r"http://[^/]+(/invites/[^\"]+)", text(answer)).group(1)
    assert "owner" in text(client.get(path))
    client.post(path, {"name": "Finn", "email": "finn@example.com", "password": factories.PASSWORD})
    assert Membership.objects.get(user__email="finn@example.com").role == Role.OWNER


def test_two_teams_of_one_name_get_two_addresses(admin, north):
    admin.post("/console/teams/", {"name": "North", "credits": "10"})
    admin.post("/console/teams/", {"name": "North", "credits": "10"})
    assert set(Team.objects.values_list("slug", flat=True)) == {"north", "north-2", "north-3"}


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_a_team_is_not_made_on_an_amount_that_cannot_be_read(admin, amount):
    answer = admin.post("/console/teams/", {"name": "East", "credits": amount, "owner": "finn@example.com"})
    assert answer.status_code == 422
    assert error_at(answer, "id_credits")
    assert 'value="East"' in text(answer)
    assert not Team.objects.exists()


@pytest.mark.parametrize("field", ["name", "owner"])
def test_a_team_is_not_made_from_nonsense(admin, field):
    good = {"name": "East", "credits": "10", "owner": ""}
    answer = admin.post("/console/teams/", good | {field: " " if field == "name" else "finn"})
    assert answer.status_code == 422
    assert error_at(answer, f"id_{field}")
    assert not Team.objects.exists()


def test_an_owner_is_named_afterwards(admin, north, ana, zoe):
    assert admin.post("/console/teams/north/", {"owner": "zoe@example.com"}).status_code == 302
    assert Membership.objects.get(team=north, user=zoe).role == Role.OWNER
    assert "/invites/" in text(admin.post("/console/teams/north/", {"owner": "new@example.com"}))
    assert admin.post("/console/teams/north/", {"owner": "nonsense"}).status_code == 422


def test_a_link_into_a_team_that_has_an_owner_makes_an_admin(admin, client, ana):
    path = re.search(r"http://[^/]+(/invites/[^\"]+)", text(admin.post("/console/teams/north/", {"owner": ""}))).group(
        1
    )
    client.post(path, {"name": "Finn", "email": "finn@example.com", "password": factories.PASSWORD})
    assert Membership.objects.get(user__email="finn@example.com").role == Role.ADMIN


def test_a_team_that_does_not_exist_has_no_page(admin):
    assert admin.get("/console/teams/nowhere/").status_code == 404
    assert admin.post("/console/teams/nowhere/grant/").status_code == 404


# --- Credits -------------------------------------------------------------------------------------------------------------

GRANT = {"kind": "grant", "amount": "500", "reason": "for the spring catalogue", "key": "k1"}


def test_a_grant_reaches_the_team_and_its_ledger(admin, sam, north):
    assert admin.post("/console/teams/north/grant/", GRANT).headers["Location"] == "/console/teams/north/"
    entry = Entry.objects.latest("id")
    assert (entry.amount, entry.reason, entry.actor, entry.available_after) == (500, GRANT["reason"], sam, 1500)
    page = text(admin.get("/console/teams/north/"))
    assert "500 credits granted: 1,500 credits available." in page
    assert "for the spring catalogue" in page


def test_the_same_form_sent_twice_counts_once(admin, north):
    for _ in range(2):
        assert admin.post("/console/teams/north/grant/", GRANT).status_code == 302
    north.budget.refresh_from_db()
    assert north.budget.granted == 1500


def test_the_same_form_with_another_amount_is_refused(admin, north):
    admin.post("/console/teams/north/grant/", GRANT)
    answer = admin.post("/console/teams/north/grant/", GRANT | {"amount": "600"})
    assert answer.status_code == 422
    assert "already sent" in text(answer)
    north.budget.refresh_from_db()
    assert north.budget.granted == 1500


def test_each_form_shown_has_a_key_of_its_own(admin, north):
    keys = [
        re.search(r'name="key" value="([^"]+)"', text(admin.get("/console/teams/north/"))).group(1) for _ in range(2)
    ]
    assert keys[0] != keys[1]


def test_credits_are_taken_back(admin, north):
    admin.post("/console/teams/north/grant/", GRANT | {"kind": "revoke", "amount": "400"})
    north.budget.refresh_from_db()
    assert north.budget.granted == 600


def test_what_is_held_or_spent_cannot_be_taken_back(admin, north):
    factories.make_task(north, state="running", price=100)
    answer = admin.post("/console/teams/north/grant/", GRANT | {"kind": "revoke", "amount": "901"})
    assert answer.status_code == 422
    assert "Only 900 credits" in error_at(answer, "id_amount")
    assert 'value="901"' in text(answer)
    north.budget.refresh_from_db()
    assert north.budget.granted == 1000


@pytest.mark.parametrize("kind", ["grant", "revoke"])
@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_an_amount_that_cannot_be_read_moves_nothing(admin, north, kind, amount):
    answer = admin.post("/console/teams/north/grant/", GRANT | {"kind": kind, "amount": amount})
    assert answer.status_code == 422
    assert error_at(answer, "id_amount")
    assert f'value="{GRANT["reason"]}"' in text(answer)
    assert 'value="k1"' in text(answer)
    assert re.search(rf'value="{kind}" checked', text(answer))
    if amount.strip():
        assert f'name="amount" value="{amount}"' in text(answer)
    north.budget.refresh_from_db()
    assert (north.budget.granted, Entry.objects.filter(team=north).count()) == (1000, 1)


@pytest.mark.parametrize(
    "change", [{"reason": " "}, {"reason": "x" * 201}, {"kind": "settle"}, {"kind": ""}, {"key": ""}]
)
def test_a_grant_without_reason_kind_or_key_is_refused(admin, north, change):
    answer = admin.post("/console/teams/north/grant/", GRANT | change)
    assert answer.status_code == 422
    assert 'value="500"' in text(answer)
    assert Entry.objects.filter(team=north).count() == 1


def test_granting_is_a_post(admin, north):
    assert admin.get("/console/teams/north/grant/").status_code == 405


# --- Providers -----------------------------------------------------------------------------------------------------------

SETTINGS = {"enabled": "on", "key": "", "base_url": "https://api.example.com", "rate": "5/10", "concurrent": ""}
VTRIX = SETTINGS | {"option_body": "wrapped", "option_references": "url"}


def state_of(admin, slug: str) -> str:
    row = re.search(rf'<tr id="accounts-{slug}">.*?</tr>', text(admin.get("/console/providers/")), re.S).group()
    return re.sub(r"<[^>]+>|\s+", " ", row)


def test_all_five_are_listed_before_any_is_set_up(admin):
    for slug in ("revid", "apikley", "apixo", "flux2api", "vtrix"):
        assert "Not set up" in state_of(admin, slug)


def test_the_list_says_how_each_stands_and_why(admin, settings):
    settings.SANDBOX = False
    factories.make_account("revid")
    factories.make_account("apikley", enabled=False)
    factories.make_account("apixo", key=None)
    factories.make_account("flux2api", prices=False)
    later = factories.timezone.now() + factories.timedelta(minutes=5)
    factories.make_account("vtrix", paused_until=later, pause_kind="balance", pause_reason="No money left there.")
    assert " On " in state_of(admin, "revid")
    assert "…1234" in state_of(admin, "revid")
    assert " Off " in state_of(admin, "apikley")
    assert "No key" in state_of(admin, "apixo")
    assert "No price" in state_of(admin, "flux2api")
    assert "No money left there." in state_of(admin, "vtrix")


def test_an_account_is_set_up(admin):
    given = VTRIX | {"key": "sk-secret-123456", "concurrent": "3", "option_body": "flat"}
    assert admin.post("/console/providers/vtrix/", given).headers["Location"] == "/console/providers/vtrix/"
    account = ProviderAccount.objects.get()
    assert (account.provider, account.sandbox, account.enabled) == ("vtrix", False, True)
    assert (account.base_url, account.rate_count, account.rate_s, account.concurrent) == (
        "https://api.example.com",
        5,
        10,
        3,
    )
    assert account.options == {"body": "flat", "references": "url"}
    assert account.key.secret == "sk-secret-123456"


def test_the_key_never_comes_out_again(admin):
    factories.make_account("revid", key="sk-secret-123456")
    for address in ("/console/providers/", "/console/providers/revid/"):
        page = text(admin.get(address))
        assert "sk-secret" not in page
        assert "…3456" in page
    answer = admin.post("/console/providers/revid/", SETTINGS | {"key": "sk-other-999999", "rate": "x"})
    assert answer.status_code == 422
    assert "sk-other" not in text(answer)


def test_an_empty_key_keeps_the_one_we_have(admin):
    factories.make_account("revid", key="sk-secret-123456")
    admin.post("/console/providers/revid/", SETTINGS)
    assert ProviderKey.objects.get().secret == "sk-secret-123456"


def test_a_new_key_stands_beside_the_old_one(admin):
    account = factories.make_account("revid", key="sk-secret-123456")
    admin.post("/console/providers/revid/", SETTINGS | {"key": "sk-other-999999"})
    assert [key.version for key in account.keys.order_by("version")] == [1, 2]
    assert account.key.secret == "sk-other-999999"


def test_saving_ends_a_pause_and_can_switch_off(admin):
    later = factories.timezone.now() + factories.timedelta(minutes=5)
    account = factories.make_account(
        "revid", paused_until=later, pause_kind="auth", pause_reason="Wrong key.", concurrent=4
    )
    admin.post("/console/providers/revid/", {name: value for name, value in SETTINGS.items() if name != "enabled"})
    account.refresh_from_db()
    assert (account.enabled, account.paused_until, account.concurrent) == (False, None, None)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "api.example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https://user:pass@example.com",
        "https://@example.com",
        "https://example.com/../x",
        "https://example.com/a/../../b",
        "https://example.com/./a",
        "https://example.com/%2e%2e/x",
        "https://example.com//x",
        "https://example.com/a;b",
        "https://example.com/a\\b",
        "https://example.com?x=1",
        "https://example.com/?",
        "https://example.com/#",
        "https://exa mple.com",
        "https://example.com:99999",
        "https://example.com:x",
        "https://[::1",
        "https://exämple.com",
        "https://" + "a" * 300,
    ],
)
def test_an_address_with_tricks_is_refused(admin, address):
    answer = admin.post("/console/providers/revid/", SETTINGS | {"key": "sk-secret-123456", "base_url": address})
    assert answer.status_code == 422
    assert error_at(answer, "id_base_url")
    assert not ProviderAccount.objects.exists()


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("https://api.example.com/", "https://api.example.com"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("http://127.0.0.1:8123/sandbox/revid", "http://127.0.0.1:8123/sandbox/revid"),
        ("http://[::1]:8123", "http://[::1]:8123"),
        (" https://api.example.com ", "https://api.example.com"),
    ],
)
def test_a_plain_address_is_taken(admin, typed, kept):
    answer = admin.post("/console/providers/revid/", SETTINGS | {"key": "sk-secret-123456", "base_url": typed})
    assert answer.status_code == 302, error_at(answer, "id_base_url")
    assert ProviderAccount.objects.get().base_url == kept


@pytest.mark.parametrize("rate", ["", "5", "0/10", "5/0", "-1/10", "5/-1", "5/nan", "1e3/1", "x/y", "5/10/15", "٥/١٠"])
def test_a_rate_that_cannot_be_read_is_refused(admin, rate):
    answer = admin.post("/console/providers/revid/", SETTINGS | {"key": "sk-secret-123456", "rate": rate})
    assert answer.status_code == 422
    assert error_at(answer, "id_rate")


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel-123456", "x" * 501])
def test_a_key_that_cannot_be_one_is_refused(admin, key):
    answer = admin.post("/console/providers/revid/", SETTINGS | {"key": key})
    assert answer.status_code == 422
    assert error_at(answer, "id_key")
    assert not ProviderAccount.objects.exists()


@pytest.mark.parametrize("concurrent", ["0", "-1", "x", "1.5", str(10**7)])
def test_a_ceiling_that_cannot_be_read_is_refused(admin, concurrent):
    answer = admin.post("/console/providers/revid/", SETTINGS | {"key": "sk-secret-123456", "concurrent": concurrent})
    assert answer.status_code == 422
    assert error_at(answer, "id_concurrent")


def test_an_option_has_only_the_values_that_the_adapter_names(admin):
    given = VTRIX | {"key": "sk-secret-123456", "option_body": "upside-down"}
    assert admin.post("/console/providers/vtrix/", given).status_code == 422


def test_a_provider_that_does_not_exist_has_no_page(admin):
    assert admin.get("/console/providers/acme/").status_code == 404


def test_the_key_is_tried(admin):
    factories.make_account("revid")
    with patch("flux2web.accounts.check_account", return_value=(True, "The key works. Balance there: 12.5.")):
        answer = admin.post("/console/providers/revid/", {"check": "1"}, follow=True)
    assert "Balance there: 12.5." in text(answer)


def test_a_key_that_is_refused_is_said_so(admin):
    factories.make_account("vtrix")
    error = ProviderError(Kind.AUTH, "Vtrix does not accept the key.", sent="no")
    with patch("flux2web.providers.vtrix.Vtrix.balance", side_effect=error):
        answer = admin.post("/console/providers/vtrix/", {"check": "1"}, follow=True)
    assert "does not accept the key" in text(answer)


def test_without_a_key_there_is_none_to_try(admin):
    assert "no key to try" in text(admin.post("/console/providers/revid/", {"check": "1"}, follow=True))


def test_sandbox_accounts_are_shown_but_not_edited(admin, settings):
    settings.SANDBOX = True
    factories.make_account("revid", sandbox=True, key="sandbox")
    page = text(admin.get("/console/providers/"))
    row = re.search(r'<tr id="sandbox-revid">.*?</tr>', page, re.S).group()
    assert "<a " not in row
    assert " On" in re.sub(r"<[^>]+>", " ", row)


# --- Prices --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def price_list(db) -> dict[str, str]:
    """The seeded prices, as the form holds them."""
    factories.make_prices()
    return {
        f"{price.provider}-{price.family}-{price.resolution}-credits": str(price.credits)
        for price in Price.objects.all()
    } | {"vtrix-pro-1K-each": "6", "vtrix-pro-2K-each": "6"}


def price(slug: str = "revid", family: str = "pro", resolution: str = "1K") -> Price:
    return Price.objects.get(provider=slug, family=family, resolution=resolution)


def test_published_and_assumed_prices_are_told_apart(admin, price_list):
    page = text(admin.get("/console/prices/"))
    assert page.count("Published") == 8
    assert page.count("Assumed") == len(price_list) - 2 - 8


def test_saving_what_is_shown_changes_nothing(admin, price_list):
    before = list(Price.objects.values())
    assert admin.post("/console/prices/", price_list).status_code == 302
    assert list(Price.objects.values()) == before


def test_a_changed_price_is_ours_from_then_on(admin, price_list):
    admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": "1,200"})
    assert (price().credits, price().published) == (1200, False)
    assert price().confirmed_at is not None
    assert price(resolution="2K").published


def test_an_assumed_price_is_confirmed_as_it_is(admin, price_list):
    admin.post("/console/prices/", price_list | {"apixo-pro-1K-confirmed": "on"})
    assert price("apixo").confirmed_at is not None
    assert price("apixo", resolution="2K").confirmed_at is None
    assert text(admin.get("/console/prices/")).count("Confirmed") == 1


def test_the_part_for_references_is_changed(admin, price_list):
    admin.post("/console/prices/", price_list | {"vtrix-pro-1K-each": "7", "vtrix-pro-2K-each": ""})
    assert price("vtrix").credits_per_reference == 7
    assert price("vtrix", resolution="2K").credits_per_reference == 0


@pytest.mark.parametrize("amount", BAD_AMOUNTS)
def test_a_price_that_cannot_be_read_changes_none_and_keeps_what_was_typed(admin, price_list, amount):
    before = list(Price.objects.values())
    answer = admin.post("/console/prices/", price_list | {"revid-pro-1K-credits": amount, "revid-pro-2K-credits": "77"})
    assert answer.status_code == 422
    assert error_at(answer, "id_revid-pro-1K-credits")
    assert 'value="77"' in text(answer)
    assert list(Price.objects.values()) == before


@pytest.mark.parametrize("each", ["-1", "x", "1.5", str(2**63)])
def test_a_part_for_references_that_cannot_be_read_is_refused(admin, price_list, each):
    answer = admin.post("/console/prices/", price_list | {"vtrix-pro-1K-each": each})
    assert answer.status_code == 422
    assert error_at(answer, "id_vtrix-pro-1K-each")


def test_a_picture_without_a_price_gets_one(admin):
    assert "not offered" in text(admin.get("/console/prices/"))
    admin.post("/console/prices/", {"revid-pro-1K-credits": "12"})
    assert price().credits == 12
    assert Price.objects.count() == 1


def test_what_an_account_can_do_since_an_option_changed_can_be_priced(admin):
    assert "apikley-pro-1K" not in text(admin.get("/console/prices/"))
    factories.make_account("apikley", prices=False, options={"pro": "on"})
    assert "apikley-pro-1K" in text(admin.get("/console/prices/"))


# --- Refunds ----------------------------------------------------------------------------------------------------------


def refund(client, task: str, amount: str = "4"):
    given = {"kind": "refund", "amount": amount, "task": task, "reason": "blurred", "key": "k-refund"}
    return client.post("/console/teams/north/grant/", given)


def test_a_picture_is_refunded_by_its_number(client_for, sam, north):
    done = factories.make_task(north, state="done", price=10)
    assert refund(client_for(sam), str(done.pk)).status_code == 302
    assert refund(client_for(sam), str(done.pk)).status_code == 302  # posted twice: once
    north.budget.refresh_from_db()
    assert (north.budget.available, north.budget.spent) == (994, 6)


@pytest.mark.parametrize("task", ["", "0", "-1", "x", "٣", "9" * 18])
def test_a_refund_for_no_task_of_this_team_says_so_and_keeps_what_was_typed(client_for, sam, north, task):
    answer = refund(client_for(sam), task)
    assert answer.status_code == 422
    assert "no such task" in answer.content.decode()
    assert 'value="blurred"' in answer.content.decode()


def test_another_teams_picture_is_not_refunded_here(client_for, sam, north, south):
    foreign = factories.make_task(south, state="done", price=10)
    assert refund(client_for(sam), str(foreign.pk)).status_code == 422
    south.budget.refresh_from_db()
    assert south.budget.spent == 10


def test_more_than_was_charged_is_refused_at_the_amount(client_for, sam, north):
    done = factories.make_task(north, state="done", price=10)
    answer = refund(client_for(sam), str(done.pk), amount="11")
    assert answer.status_code == 422
    assert "10 credits left to give back" in answer.content.decode()


def test_the_last_check_of_the_ledger_stands_on_the_first_page(client_for, sam):
    console = client_for(sam)
    assert "will be checked in a moment" in console.get("/console/").content.decode()
    Audit.objects.create(took_s=0.1)
    assert "Every credit adds up" in console.get("/console/").content.decode()
    Audit.objects.create(took_s=0.1, findings=["I2 north: held says 130, entries say 120, drift +10"])
    assert "drift +10" in console.get("/console/").content.decode()
