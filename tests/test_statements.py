"""The daily statements: what was accepted against what was settled, and against the provider's balance."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from unittest.mock import Mock

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web import clock, statements
from flux2web.models import Attempt, Heartbeat, Notice, ProviderAccount, Statement

from . import factories
from .providers.peer import sample

APIXO_BALANCE = "/apixo/api/v1/apikeys/current-balance"
APIKLEY_BALANCE = "/apikley/api/v1/chat/credit"


@pytest.fixture
def day():
    """The day that is summed; it ends half an hour before `now`."""
    return timezone.now().date()


@pytest.fixture
def now(day) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(0, 30), UTC)


@pytest.fixture
def apixo(httpserver, db) -> ProviderAccount:
    """Tells its balance in US dollars."""
    says(httpserver, APIXO_BALANCE, "10.00")
    return an_account("apixo", httpserver)


@pytest.fixture
def apikley(httpserver, db) -> ProviderAccount:
    """Tells its balance in credits of its own kind."""
    says(httpserver, APIKLEY_BALANCE, "1000")
    return an_account("apikley", httpserver)


def an_account(provider: str, server) -> ProviderAccount:
    return factories.make_account(
        provider, base_url=server.url_for(f"/{provider}"), created=timezone.now() - timedelta(days=60)
    )


def says(server, path: str, balance: str) -> None:
    server.expect_request(path).respond_with_data(
        f'{{"code":200,"message":"success","data":{balance}}}', content_type="application/json"
    )


def made(account, at: datetime, *, state: str = "done", usd: str | None = "0.05", team=None, **fields):
    """A task that this account accepted then, and what it lists for it."""
    team = team or factories.make_team(credits=100_000)
    task = factories.make_task(team, account=account, state=state, accepted_at=at, **fields)
    Attempt.objects.filter(task=task).update(list_usd=usd, created=at)
    return task


def noon(day) -> datetime:
    return datetime.combine(day, time(12), UTC)


def earlier(account, day, balance: str, *, days: int = 1) -> Statement:
    """A final statement of a day before, with the balance of the midnight after it."""
    before = day - timedelta(days=days)
    at = datetime.combine(before + timedelta(days=1), time(0, 10), UTC)
    sums = {"accepted": 0, "done": 0, "failed": 0, "open": 0, "credits": 0, "cost_usd": 0}
    return Statement.objects.create(account=account, day=before, at=at, balance=balance, **sums)


def drawn(account, day) -> Statement:
    return Statement.objects.get(account=account, day=day)


# --- Counts and sums -----------------------------------------------------------------------------------------------------


def test_a_day_is_added_up_by_what_became_of_what_was_accepted(apixo, day, now):
    made(apixo, noon(day), price=24, charged=20)
    made(apixo, noon(day), cost_usd="0.031")
    made(apixo, noon(day), state="failed")
    made(apixo, noon(day), state="running")
    made(apixo, noon(day - timedelta(days=1)))  # another day's
    made(factories.make_account("revid"), noon(day))  # another account's
    statements.draw_due(now)
    row = drawn(apixo, day)
    assert (row.accepted, row.done, row.failed, row.open) == (4, 2, 1, 1)
    assert (row.credits, row.cost_usd) == (30, Decimal("0.081"))
    assert (row.balance, row.drift, row.findings) == (Decimal(10), None, [])


def test_the_day_is_from_midnight_to_midnight_utc(apixo, day, now):
    made(apixo, datetime.combine(day, time.min, UTC))
    made(apixo, datetime.combine(day, time.max, UTC))
    made(apixo, datetime.combine(day + timedelta(days=1), time.min, UTC))
    statements.draw_due(now)
    assert drawn(apixo, day).accepted == 2


def test_what_was_open_is_followed_and_the_balance_stays(apixo, httpserver, day, now):
    made(apixo, noon(day), state="running")
    statements.draw_due(now)
    Statement.objects.update(open=3, accepted=3)  # as if two had ended since
    httpserver.clear_all_handlers()
    says(httpserver, APIXO_BALANCE, "3")
    statements.draw_due(now + timedelta(hours=1))
    row = drawn(apixo, day)
    assert (row.accepted, row.open, row.balance, row.at) == (1, 1, Decimal(10), now)


def test_a_final_statement_is_drawn_up_once_and_never_changed(apixo, day, now):
    statements.draw_due(now)
    before = drawn(apixo, day)
    made(apixo, noon(day))
    assert statements.draw_due(now + timedelta(minutes=10)) == []
    assert drawn(apixo, day).accepted == before.accepted


def test_nothing_is_drawn_up_in_the_first_minutes_of_a_day(apixo, day, now):
    statements.draw_due(now.replace(minute=2))
    assert not Statement.objects.filter(day=day).exists()


def test_days_on_which_nothing_ran_are_caught_up_with_and_the_balance_is_asked_once(apixo, httpserver, day, now):
    earlier(apixo, day, "12", days=4)
    statements.draw_due(now)
    days = Statement.objects.order_by("day").values_list("day", "balance")
    assert [found - day for found, _ in days] == [timedelta(days=-number) for number in (4, 3, 2, 1, 0)]
    assert [balance for _, balance in days] == [12, None, None, None, 10]
    assert len(httpserver.log) == 1


def test_an_account_that_is_off_or_new_gets_no_statement_until_it_has_something_to_say(db, day, now):
    off = factories.make_account("revid", enabled=False)
    new = factories.make_account("flux2api", created=now - timedelta(minutes=1))
    statements.draw_due(now)
    assert not Statement.objects.exists()
    made(off, noon(day))
    statements.draw_due(now + timedelta(minutes=10))
    assert [row.account for row in Statement.objects.all()] == [off]
    statements.draw_due(now + timedelta(days=1))
    assert Statement.objects.filter(account=new, day=day + timedelta(days=1)).exists()


def test_a_sandbox_account_has_its_statement_too(httpserver, db, settings, day, now):
    settings.SANDBOX = True
    says(httpserver, APIXO_BALANCE, "74.87")
    pretend = factories.make_account("apixo", sandbox=True, base_url=httpserver.url_for("/apixo"))
    statements.draw_due(now)
    assert drawn(pretend, day).balance == Decimal("74.87")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="a planner with statistics of an empty table reads it all")
def test_no_statement_reads_more_tasks_than_it_speaks_of(apixo, day):
    after, until = noon(day), noon(day) + timedelta(days=1)
    assert "task_by_acceptance" in statements.accepted(apixo, after, until).explain()
    assert "task_in_flight" in statements.still_open(apixo).explain()
    assert (
        "attempt_by_account"
        in Attempt.objects.filter(account=apixo, outcome="ambiguous", created__gte=after, created__lt=until).explain()
    )


# --- Drift ---------------------------------------------------------------------------------------------------------------


def test_a_balance_that_fell_by_what_was_made_has_no_drift(apixo, day, now):
    earlier(apixo, day, "10.30")
    for _ in range(6):
        made(apixo, noon(day))
    made(apixo, noon(day), state="failed")
    statements.draw_due(now)
    row = drawn(apixo, day)
    assert (row.drift, row.findings) == (0, [])


def test_a_balance_that_fell_by_more_is_found_with_the_numbers(apixo, day, now):
    earlier(apixo, day, "11")
    made(apixo, noon(day), price=24)
    made(apixo, noon(day), state="failed")
    statements.draw_due(now)
    row = drawn(apixo, day)
    assert row.drift == Decimal("0.95")
    assert row.findings == [
        "The balance fell by 1 USD, 0.95 more than expected: 1 made for 24 credits explain 0.05. "
        "1 failed, counted as free."
    ]


def test_what_is_still_open_may_be_paid_for_already(apixo, day, now):
    earlier(apixo, day, "10.10")
    made(apixo, noon(day))
    made(apixo, noon(day), state="running")
    statements.draw_due(now)
    row = drawn(apixo, day)
    assert (row.drift, row.findings) == (Decimal("0.05"), [])


def test_what_was_accepted_between_two_balances_explains_not_what_was_that_day(apixo, day, now):
    earlier(apixo, day, "10.05")
    made(apixo, datetime.combine(day, time(0, 5), UTC))  # before the last balance was read
    made(apixo, datetime.combine(day + timedelta(days=1), time(0, 20), UTC))  # after midnight, before this one
    statements.draw_due(now)
    row = drawn(apixo, day)
    assert (row.accepted, row.drift) == (1, 0)


def test_a_balance_that_rose_was_paid_in_and_nobody_knows_the_drift(apixo, day, now):
    earlier(apixo, day, "2")
    statements.draw_due(now)
    row = drawn(apixo, day)
    assert (row.drift, row.findings) == (None, [])


def test_a_picture_of_unknown_cost_is_found_and_the_drift_is_unknown(apixo, day, now):
    earlier(apixo, day, "11")
    made(apixo, noon(day), usd=None)
    statements.draw_due(now)
    row = drawn(apixo, day)
    assert row.drift is None
    assert row.findings == [
        "1 picture was made at a cost that nobody knows: write it into the price list, in US dollars."
    ]


def test_credits_of_the_providers_own_kind_are_not_compared_with_dollars(apikley, day, now):
    earlier(apikley, day, "1100")
    made(apikley, noon(day))
    statements.draw_due(now)
    row = drawn(apikley, day)
    assert (row.balance, row.drift, row.findings) == (1000, None, [])


def test_credits_that_went_though_nothing_was_made_are_found_in_any_unit(apikley, day, now):
    earlier(apikley, day, "1100")
    made(apikley, noon(day), state="failed")
    statements.draw_due(now)
    assert drawn(apikley, day).findings == [
        "The balance fell by 100 credits, though no picture was made since the last statement. 1 failed, counted as free."
    ]


# --- What else is found --------------------------------------------------------------------------------------------------


def test_a_task_that_is_open_for_more_than_a_day_is_named(apixo, day, now):
    task = made(apixo, now - timedelta(hours=25), state="running")
    made(apixo, now - timedelta(hours=23), state="running")
    statements.draw_due(now)
    assert drawn(apixo, day).findings == [f"Accepted more than a day ago and still open: task {task.pk}."]


def test_what_was_sent_without_an_answer_is_named(apixo, day, now):
    lost = [made(apixo, noon(day), state="uncertain") for _ in range(2)]
    statements.draw_due(now)
    assert drawn(apixo, day).findings == [
        f"Sent without an answer, maybe paid for nothing: tasks {lost[0].pk}, {lost[1].pk}."
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>Bad gateway</html>", 200),
        (b"<html>Bad gateway</html>", 502),
        (b"", 200),
        (b"[]", 200),
        (b'{"code":200,"data":"much"}', 200),
        (b'{"code":200,"data":null}', 200),
        (b'{"code":200,"data":99999999999}', 200),
        (b'{"code":200,"data":1e400}', 200),
        (b'{"code":200,"data":"NaN"}', 200),
        (b'{"code":200,"data":true}', 200),
        (b'{"code":401,"message":"Invalid or missing API key"}', 401),
        (b"\xff\xfe", 200),
    ],
)
def test_a_provider_that_answers_nonsense_stops_no_other_statement(apikley, httpserver, day, now, body, status):
    httpserver.expect_request(APIXO_BALANCE).respond_with_data(body, status=status, content_type="text/html")
    apixo = an_account("apixo", httpserver)
    made(apixo, noon(day))
    statements.draw_due(now)
    row = drawn(apixo, day)
    assert (row.done, row.balance) == (1, None)
    assert row.findings[0].startswith("The balance could not be read: ")
    assert drawn(apikley, day).balance == 1000
    assert drawn(apikley, day).findings == []


def test_a_provider_that_nobody_reaches_stops_no_other_statement(apikley, day, now):
    apixo = factories.make_account("apixo", base_url="http://127.0.0.1:9")
    statements.draw_due(now)
    assert "could not be read: Apixo gave no answer" in drawn(apixo, day).findings[0]
    assert drawn(apikley, day).balance == 1000


def test_an_adapter_that_breaks_stops_no_other_statement(apikley, apixo, monkeypatch, day, now):
    monkeypatch.setattr("flux2web.providers.apixo.Apixo.balance", lambda *_: 1 / 0)
    statements.draw_due(now)
    assert "could not be read" in drawn(apixo, day).findings[0]
    assert drawn(apikley, day).balance == 1000


def test_the_vendors_own_sample_is_read(httpserver, db, day, now):
    httpserver.expect_request(APIXO_BALANCE).respond_with_data(sample("apixo", "balance_ok.json"))
    account = an_account("apixo", httpserver)
    statements.draw_due(now)
    assert drawn(account, day).balance == Decimal("74.87")


# --- Who hears of it -----------------------------------------------------------------------------------------------------


def test_site_admins_are_told_once_of_a_statement_with_findings(apixo, apikley, sam, ana, day, now):
    made(apixo, noon(day), usd=None)
    task = made(apixo, noon(day), state="uncertain")
    for minutes in (0, 10):
        statements.draw_due(now + timedelta(minutes=minutes))
    notice = Notice.objects.get()
    assert (notice.user, notice.tone, notice.url) == (sam, "warn", "/console/statements/")
    assert notice.key == f"statement:{drawn(apixo, day).pk}"
    assert notice.text == (
        f"Statement of Apixo, {day:%-d %B}: Sent without an answer, maybe paid for nothing: task {task.pk}. And 1 more."
    )


def test_costs_that_nobody_knows_are_told_once_an_account_not_every_day(apixo, sam, day, now):
    for days in range(3):
        made(apixo, noon(day) + timedelta(days=days), usd=None)
        statements.draw_due(now + timedelta(days=days))
    assert Statement.objects.exclude(findings=[]).count() == 3
    assert Notice.objects.get().text.endswith("write it into the price list, in US dollars.")


# --- By the clock --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_one_clock_of_many_draws_them_up(httpserver, settings):
    settings.STATEMENTS_EVERY_S = 600
    says(httpserver, APIXO_BALANCE, "10.00")
    account = an_account("apixo", httpserver)
    clocks = [clock.Clock() for _ in range(3)]
    for one in clocks:
        one.tick()
    for one in clocks:
        if one._beside["statements"].ident:
            one._beside["statements"].join(20)
    assert Statement.objects.filter(account=account).count() == 1
    assert len(httpserver.log) == 1
    assert Heartbeat.objects.filter(name="statements").exists()


def test_a_run_that_fails_leaves_the_clock_alive(db, monkeypatch):
    monkeypatch.setitem(clock.BESIDE, "statements", lambda: 1 / 0)
    monkeypatch.setattr("flux2web.clock.connections", Mock())
    clock.run_beside("statements")


# --- The page ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def admin(client_for, sam):
    return client_for(sam)


def text(answer) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


@pytest.mark.parametrize("name", ["ana", "ben", "cleo", "eve", "zoe"])
def test_for_anyone_but_site_admins_there_are_no_statements(client_for, cast, apixo, name):
    client = client_for(cast[name])
    assert client.get("/console/statements/").status_code == 404
    assert client.post("/console/statements/check/").status_code in (404, 405)
    assert not Statement.objects.exists()


def test_without_statements_the_page_says_when_the_first_comes(admin):
    assert "No statement yet" in text(admin.get("/console/statements/"))
    answer = admin.post("/console/statements/check/", follow=True)
    assert "no account to check" in text(answer)


def test_a_statement_stands_with_its_sums_and_findings(admin, apixo, day):
    earlier(apixo, day, "12.50", days=2)
    row = earlier(apixo, day, "11.25")
    Statement.objects.filter(pk=row.pk).update(
        accepted=9, done=7, failed=1, open=1, credits=1200, cost_usd="2.5", drift="0.75", findings=["Something <odd>."]
    )
    page = text(admin.get("/console/statements/"))
    cells = [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td class=\"num\".*?</td>", page)][:9]
    assert cells == ["9", "7", "1", "1", "1,200", "$2.50", "$0.50", "11.25fell by 1.25", "+0.75"]
    assert "Something &lt;odd&gt;." in page


def test_a_loss_is_said_in_words(admin, apixo, day):
    row = earlier(apixo, day, "1")
    Statement.objects.filter(pk=row.pk).update(credits=100, cost_usd="0.5")
    assert "−$0.25 loss" in text(admin.get("/console/statements/"))


def test_checking_now_shows_today_so_far_and_midnight_replaces_it(admin, apixo, sam, day, now):
    made(apixo, timezone.now() - timedelta(seconds=1), usd=None)
    answer = admin.post("/console/statements/check/", follow=True)
    assert "1 finding, listed below" in text(answer)
    assert ">so far<" in text(answer)
    assert not Notice.objects.exists()
    admin.post("/console/statements/check/")
    assert Statement.objects.count() == 1
    statements.draw_due(now)
    assert ">so far<" not in text(admin.get("/console/statements/"))
    assert drawn(apixo, day).at == now
    assert Notice.objects.count() == 1


def test_checking_is_a_post(admin):
    assert admin.get("/console/statements/check/").status_code == 405


def test_more_days_and_accounts_ask_no_more_queries(admin, apixo, day):
    earlier(apixo, day, "1")
    with CaptureQueriesContext(connection) as few:
        admin.get("/console/statements/")
    for provider in ("revid", "vtrix", "flux2api"):
        account = factories.make_account(provider)
        for days in range(1, 14):
            earlier(account, day, "1", days=days)
    with CaptureQueriesContext(connection) as many:
        admin.get("/console/statements/")
    assert len(many) == len(few)
