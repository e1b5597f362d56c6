"""The site admin's pages: teams and credits, providers."""

from __future__ import annotations

import html
import re
from datetime import date, timedelta
from unittest.mock import patch

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from flux2web import accounts
from flux2web.models import (
    Act,
    Audit,
    Budget,
    CreditRequest,
    Entry,
    Membership,
    Period,
    Price,
    ProviderAccount,
    ProviderKey,
    Role,
    Statement,
    Task,
    Team,
    Usage,
)
from flux2web.providers.base import Kind, ProviderError

from . import factories
from .amounts import BAD_AMOUNTS

PAGES = ["console", "providers"]


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
        reverse("set-rules", args=["north"]),
        reverse("console-decide", args=[1]),
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


def test_more_teams_ask_no_more_queries(admin):
    few, many = asked_with(admin, teams=3), asked_with(admin, teams=57)
    assert few == many


def asked_with(client, *, teams: int) -> int:
    """With as many more teams, each short, with a picture of which nobody knows anything and a member who asks."""
    for _ in range(teams):
        team = factories.make_team(credits=100)
        task = factories.make_task(team, state="uncertain", price=99)
        Budget.objects.filter(team=team).update(member_cap=99)
        CreditRequest.objects.create(team=team, user=task.user, key="k", limit="team", amount=5)
    Task.objects.update(state_since=timezone.now() - timedelta(hours=1))
    return asked(client, "/console/")


def asked(client, address: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(address).status_code == 200
    return len(queries)


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


def test_a_team_sent_twice_is_one_team(admin, sam, ana):
    form = {"name": "East", "credits": "500", "owner": ana.email, "key": "once"}
    for _ in range(2):
        assert admin.post("/console/teams/", form).url == "/console/teams/east/"
    assert Team.objects.get(name="East").budget.granted == 500
    assert 'name="key"' in admin.get("/console/").content.decode()


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


# --- Attention -----------------------------------------------------------------------------------------------------------


def matters(client) -> list[tuple[str, str]]:
    """What needs attention, and where each leads."""
    found = re.search(r'<section class="panel" id="matters".*?</section>', text(client.get("/console/")), re.S).group()
    lines = re.findall(r'<p class="grow">(.*?)</p><a class="btn s" href="([^"]+)"', found, re.S)
    return [(html.unescape(line), url) for line, url in lines]


def test_where_all_is_well_nothing_needs_attention(admin, north):
    assert matters(admin) == []
    assert "Nothing needs you now" in text(admin.get("/console/"))


def test_a_request_about_a_teams_budget_leads_to_its_answer(admin, north, cleo, dan):
    for number, user in enumerate([cleo, dan, cleo]):
        limit = "member" if number == 2 else "team"
        CreditRequest.objects.create(team=north, user=user, key=f"k{number}", limit=limit, amount=1500)
    assert matters(admin) == [("North asks for 3,000 credits in 2 requests.", "/console/requests/")]


@pytest.mark.parametrize(
    ("used", "says"),
    [(799, None), (800, "North has used 80 % of what it has this period"), (1000, "North has nothing left.")],
)
def test_a_team_that_runs_short_is_named(admin, north, used, says):
    factories.make_task(north, state="running", price=used)
    lines = [line for line, _ in matters(admin)]
    assert lines[0].startswith(says) if says else not lines


def test_what_was_spent_in_earlier_periods_makes_no_team_short(admin, north):
    factories.book(north, "grant", 9000, granted=9000)
    Budget.objects.filter(team=north).update(spent=9000)
    assert matters(admin) == []


def test_a_closed_team_needs_nobody(admin, north):
    factories.make_task(north, state="running", price=1000)
    Team.objects.update(closed_at=timezone.now())
    assert matters(admin) == []


def test_pictures_nobody_knows_anything_of_are_named_after_ten_minutes(admin, north):
    task = factories.make_task(north, state="uncertain")
    assert matters(admin) == []
    Task.objects.filter(pk=task.pk).update(state_since=timezone.now() - timedelta(minutes=12, seconds=5))
    said = "For 12 minutes nobody knows whether Revid has taken 1 picture of North."
    assert matters(admin) == [(said, "/console/providers/revid/")]


def test_a_provider_without_a_price_is_named_with_what_it_cannot_sell(admin):
    factories.make_account("revid")
    assert matters(admin) == []
    Price.objects.filter(family="flex").delete()
    said = "Revid has no price for Flex 1K, Flex 2K: not offered until it has one."
    assert matters(admin) == [(said, "/console/prices/")]
    ProviderAccount.objects.update(enabled=False)
    assert matters(admin) == []


def test_a_price_that_holds_from_tomorrow_is_none_today(admin):
    factories.make_account("revid")
    Price.objects.filter(resolution="2K").update(valid_from=timezone.now() + timedelta(days=1))
    assert "Pro 2K, Flex 2K" in matters(admin)[0][0]


def test_an_account_that_takes_nothing_is_named(admin):
    account = factories.make_account("revid")
    accounts.pause(account, Kind.BALANCE, "No credits left there.")
    factories.make_account("vtrix", key=None)
    found = dict(matters(admin))
    assert found["Revid: paused. No credits left there."] == "/console/providers/revid/"
    assert found["Vtrix: no key. It takes no task until it has one."] == "/console/providers/vtrix/"


def test_what_the_last_audit_found_is_named_first(admin, north):
    factories.make_task(north, state="running", price=900)
    Audit.objects.create(took_s=0.1, findings=["I2 north: drift +5 credits"])
    assert [url for _, url in matters(admin)] == ["#audit", "/console/teams/north/"]


def test_findings_of_the_last_statements_are_named(admin):
    account = factories.make_account("revid")
    numbers = {"accepted": 1, "done": 1, "failed": 0, "open": 0, "credits": 10, "cost_usd": 0}
    for day, findings in ((1, ["Old news."]), (2, ["Two tasks are not there."])):
        Statement.objects.create(account=account, day=date(2026, 11, day), findings=findings, **numbers)
    said = "Revid's statement of 2 November: Two tasks are not there."
    assert matters(admin) == [(said, "/console/statements/")]


def test_members_at_their_limit_are_named(admin, north, cleo, dan, ben):
    Budget.objects.filter(team=north).update(member_cap=50)
    Membership.objects.filter(user=ben).update(uncapped=True)
    for user in (cleo, dan, ben):
        factories.make_task(north, user=user, state="done", price=50)
    Usage.objects.filter(user=dan).update(extra=10)
    assert [line for line, _ in matters(admin)] == ["1 member of North has reached their limit for this period."]


def test_the_forecast_stands_beside_each_team(admin, north):
    factories.make_task(north, state="done", price=700)
    now = timezone.now()
    Period.objects.update(starts_at=now - timedelta(days=10), ends_at=now + timedelta(days=20))
    day = f"{now + timedelta(days=10 / 0.7 - 10):%-d %B}"
    assert f"empty on {day}" in text(admin.get("/console/"))


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


def test_a_preview_shows_what_would_be_and_writes_nothing(admin, north):
    answer = admin.post("/console/teams/north/grant/", GRANT | {"step": "preview"})
    assert answer.status_code == 200
    assert "1,000 → 1,500" in text(answer)
    assert "500 credits granted" in text(answer)
    assert Entry.objects.filter(team=north).count() == 1
    assert not Act.objects.exists()
    shown = re.search(r'<form class="panel form" id="grant".*?</form>', text(answer), re.S).group()
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', shown))
    assert {name: hidden[name] for name in GRANT} == GRANT
    assert admin.post("/console/teams/north/grant/", hidden | {"step": "write"}).status_code == 302
    north.budget.refresh_from_db()
    assert north.budget.granted == 1500


def test_from_the_preview_one_goes_back_to_what_was_typed(admin, north):
    page = text(admin.post("/console/teams/north/grant/", GRANT | {"step": "edit"}))
    assert f'value="{GRANT["reason"]}"' in page
    assert 'value="k1"' in page
    assert Entry.objects.filter(team=north).count() == 1


def test_a_step_that_does_not_exist_writes_nothing(admin, north):
    admin.post("/console/teams/north/grant/", GRANT | {"step": "nonsense"})
    assert Entry.objects.filter(team=north).count() == 1


def test_the_preview_refuses_what_writing_would(admin, north):
    factories.make_task(north, state="running", price=100)
    answer = admin.post("/console/teams/north/grant/", GRANT | {"kind": "revoke", "amount": "901", "step": "preview"})
    assert answer.status_code == 422
    assert "Only 900 credits" in error_at(answer, "id_amount")


@pytest.mark.parametrize(("typed", "granted"), [("+120", 1120), ("-120", 880), ("−1,000", 0), ("+ 5", 1005)])
def test_a_mistake_is_corrected_up_or_down(admin, north, sam, typed, granted):
    answer = admin.post("/console/teams/north/grant/", GRANT | {"kind": "adjust", "amount": typed})
    assert answer.status_code == 302
    north.budget.refresh_from_db()
    assert north.budget.granted == granted
    entry = Entry.objects.latest("id")
    assert (entry.kind, entry.amount, entry.actor) == ("adjust", granted - 1000, sam)


@pytest.mark.parametrize(
    "typed", ["120", "", "+", "-", "+-1", "--5", "+0", "-0", f"-{2**63}", "+1e9", "+1,5", "-NaN", "+٣٠"]
)
def test_a_correction_needs_a_sign_and_a_number(admin, north, typed):
    answer = admin.post("/console/teams/north/grant/", GRANT | {"kind": "adjust", "amount": typed})
    assert answer.status_code == 422
    assert error_at(answer, "id_amount")
    assert Entry.objects.filter(team=north).count() == 1


def test_no_correction_takes_what_is_in_use(admin, north):
    factories.make_task(north, state="running", price=100)
    answer = admin.post("/console/teams/north/grant/", GRANT | {"kind": "adjust", "amount": "-901"})
    assert answer.status_code == 422
    assert "Only 900 credits" in error_at(answer, "id_amount")


def test_a_grant_may_end_with_the_period(admin, north):
    grant = GRANT | {"expires": "on", "amount": "300"}
    assert "until 1 " in text(admin.post("/console/teams/north/grant/", grant | {"step": "preview"}))
    admin.post("/console/teams/north/grant/", grant)
    assert Entry.objects.latest("id").period.expiring == 300
    assert "300 credits of these end on 1 " in text(admin.get("/console/teams/north/"))
    factories.make_task(north, state="done", price=100)
    assert "200 credits of these end on 1 " in text(admin.get("/console/teams/north/"))


@pytest.mark.parametrize("kind", ["revoke", "adjust", "refund"])
def test_only_a_grant_can_end_with_the_period(admin, north, kind):
    amount = "+500" if kind == "adjust" else "500"
    answer = admin.post("/console/teams/north/grant/", GRANT | {"kind": kind, "amount": amount, "expires": "on"})
    assert answer.status_code == 422
    assert "Only a grant" in error_at(answer, "id_expires")
    assert Entry.objects.filter(team=north).count() == 1


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


# --- Rules ---------------------------------------------------------------------------------------------------------------

RULES = {"allowance": "5,000", "start_day": "15", "time_zone": "Europe/Berlin"}


def rules_of(team) -> tuple:
    budget = Budget.objects.get(team=team)
    return budget.allowance, budget.start_day, budget.time_zone, budget.rolls_over


def test_rules_hold_from_now_on(admin, north):
    assert admin.post("/console/teams/north/rules/", RULES).status_code == 302
    assert rules_of(north) == (5000, 15, "Europe/Berlin", False)
    page = text(admin.get("/console/teams/north/"))
    assert re.search(r"The next period begins on <time[^>]*>15 \w+ \d{4}, 00:00 Europe/Berlin</time>", page)
    assert 'value="5,000"' in page


@pytest.mark.parametrize("nothing", ["", "0", " "])
def test_no_allowance_is_none(admin, north, nothing):
    Budget.objects.update(allowance=7)
    admin.post("/console/teams/north/rules/", RULES | {"allowance": nothing, "rolls_over": "on"})
    assert rules_of(north) == (0, 15, "Europe/Berlin", True)


@pytest.mark.parametrize("day", ["31", "29", "0", "-1", "", "1.5", "٣", "first", "1" * 5000, str(2**63)])
def test_a_period_begins_on_a_day_that_every_month_has(admin, north, day):
    answer = admin.post("/console/teams/north/rules/", RULES | {"start_day": day})
    assert answer.status_code == 422
    assert error_at(answer, "id_start_day")
    assert 'value="5,000"' in text(answer)
    assert rules_of(north) == (0, 1, "UTC", True)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "europe/berlin", "../etc/passwd", "UTC+1", "", "x" * 65, "UTC\0"])
def test_a_time_zone_exists(admin, north, zone):
    answer = admin.post("/console/teams/north/rules/", RULES | {"time_zone": zone})
    assert answer.status_code == 422
    assert error_at(answer, "id_time_zone")
    assert rules_of(north) == (0, 1, "UTC", True)


@pytest.mark.parametrize("amount", [amount for amount in BAD_AMOUNTS if amount.strip() not in ("", "0")])
def test_an_allowance_that_cannot_be_read_changes_nothing(admin, north, amount):
    answer = admin.post("/console/teams/north/rules/", RULES | {"allowance": amount})
    assert answer.status_code == 422
    assert error_at(answer, "id_allowance")
    assert rules_of(north) == (0, 1, "UTC", True)


def test_of_two_admins_at_once_the_second_is_told(admin, north):
    seen = re.search(r'name="seen" value="([^"]+)"', text(admin.get("/console/teams/north/"))).group(1)
    assert admin.post("/console/teams/north/rules/", RULES | {"seen": seen}).status_code == 302
    answer = admin.post("/console/teams/north/rules/", RULES | {"seen": seen, "time_zone": "UTC", "allowance": "1"})
    assert answer.status_code == 422
    assert "Somebody has changed the rules meanwhile, to: 5,000 credits, day 15, Europe/Berlin" in text(answer)
    assert rules_of(north) == (5000, 15, "Europe/Berlin", False)


# --- Requests ------------------------------------------------------------------------------------------------------------


def make_request(team, user, **fields) -> CreditRequest:
    return CreditRequest.objects.create(team=team, user=user, **{"key": "k", "limit": "team", "amount": 500} | fields)


def test_requests_about_teams_are_answered_here(admin, north, south, cleo, zoe):
    row = make_request(north, cleo)
    make_request(south, zoe, key="mine", limit="member", amount=77)
    page = text(admin.get("/console/requests/"))
    assert "Cleo asks for" in page
    assert "Zoe" not in page
    data = {"verdict": "approve", "amount": "400", "lasts": "lasts"}
    assert admin.post(f"/console/requests/{row.pk}/", data).status_code == 302
    north.budget.refresh_from_db()
    assert north.budget.granted == 1400
    assert "Nobody waits" in text(admin.get("/console/requests/"))


def test_a_members_own_limit_is_their_teams_business(admin, north, cleo):
    row = make_request(north, cleo, limit="member")
    assert admin.post(f"/console/requests/{row.pk}/", {"verdict": "approve", "amount": "5"}).status_code == 404


def test_an_answer_that_cannot_be_read_says_so_there(admin, north, cleo):
    row = make_request(north, cleo)
    answer = admin.post(f"/console/requests/{row.pk}/", {"verdict": "approve", "amount": "1e9", "lasts": "lasts"})
    assert answer.status_code == 422
    assert 'value="1e9"' in text(answer)
    row.refresh_from_db()
    assert row.state == "open"


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
    assert " On" in re.sub(r"<[^>]+>", " ", row)
    page = text(admin.get("/console/providers/revid/sandbox/"))
    assert 'id="pause"' in page
    assert 'id="provider"' not in page
    assert admin.post("/console/providers/revid/sandbox/", SETTINGS).status_code == 405
    assert admin.get("/console/providers/vtrix/sandbox/").status_code == 404


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
