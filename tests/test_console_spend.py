"""What was spent and what it cost us: the site admin's page and file."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web.forms_console import days_of
from flux2web.models import Tally

from . import factories

TODAY = datetime.now(UTC).date


@pytest.fixture
def admin(client_for, sam):
    return client_for(sam)


def text(answer) -> str:
    return answer.content.decode()


def error_at(answer, field: str) -> str:
    found = re.search(rf'id="id_{field}_error">(.*?)</', text(answer), re.S)
    return found.group(1) if found else ""


def tally(team, user, **fields) -> Tally:
    values = {"day": TODAY(), "provider": "revid", "family": "pro", "mode": "text-to-image", "resolution": "1K"}
    return Tally.objects.create(
        team=team, user=user, **values | {"done": 1, "credits": 100, "cost_usd": "0.2"} | fields
    )


def section(answer, name: str) -> str:
    return re.search(rf'id="{name}".*?(?:</section>|\Z)', text(answer), re.S).group()


def sheet(answer) -> list[dict[str, str]]:
    body = b"".join(answer.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(body)))


def test_spend_is_shown_by_team_member_and_provider(admin, north, south, cleo, zoe):
    tally(north, cleo, credits=300, refunded=100, done=3, failed=1)
    tally(south, zoe, provider="vtrix", credits=50)
    answer = admin.get("/console/spend/")
    assert "250" in section(answer, "totals")
    assert "after 100 given back" in text(answer)
    assert re.findall(r'class="strong">(\w+)<', section(answer, "by-team")) == ["North", "South"]
    assert re.findall(r'class="strong">(\w+)<', section(answer, "by-member")) == ["Cleo", "Zoe"]
    assert re.findall(r'class="strong">(\w+)<', section(answer, "by-provider")) == ["Revid", "Vtrix"]
    assert "25 %" in section(answer, "by-provider")


def test_credits_stand_beside_what_the_pictures_cost_there(admin, north, cleo):
    tally(north, cleo, credits=1000, cost_usd="3.10")
    totals = section(admin.get("/console/spend/"), "totals")
    assert "$3.10" in totals
    assert "$2.50 at $0.0025 a credit" in totals
    assert "−$0.60" in totals


def test_one_team_alone_is_shown(admin, north, south, cleo, zoe):
    tally(north, cleo)
    tally(south, zoe)
    page = section(admin.get("/console/spend/?team=south"), "by-team")
    assert "South" in page
    assert "North" not in page


@pytest.mark.parametrize(
    ("period", "since", "until"),
    [
        ("month", date(2024, 3, 1), date(2024, 3, 5)),
        ("", date(2024, 3, 1), date(2024, 3, 5)),
        ("last", date(2024, 2, 1), date(2024, 2, 29)),
        ("30", date(2024, 2, 5), date(2024, 3, 5)),
        ("90", date(2023, 12, 7), date(2024, 3, 5)),
    ],
)
def test_a_named_time_has_its_first_and_last_day(period, since, until):
    assert days_of(period, date(2024, 3, 5)) == (since, until)


def test_days_from_and_to_are_both_included(admin, north, cleo):
    for day in range(1, 6):
        tally(north, cleo, day=date(2026, 3, day), credits=10**day)
    answer = admin.get("/console/spend/?period=days&since=2026-03-02&until=2026-03-04")
    assert "11,100" in section(answer, "totals")
    assert "2 March 2026 to 4 March 2026" in text(answer)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=2026-02-30&until=2026-03-01", "since"),
        ("since=nonsense", "since"),
        ("period=days&until=2026-03-01", "since"),
        ("since=2026-03-02&until=2026-03-01", "since"),
        ("since=0001-01-01&until=9999-12-31", "since"),
        ("since=2026-03-02&until=x%00y", "until"),
        ("since=10000-01-01", "since"),
        ("period=decade", "period"),
        ("period=30&since=2026-03-02", "period"),
        ("period=days", "since"),
        ("team=nowhere", "team"),
        ("team=%00", "team"),
    ],
)
def test_a_time_or_team_that_makes_no_sense_is_said_at_the_field(admin, query, field):
    for address in ("/console/spend/", "/console/spend/spend.csv"):
        answer = admin.get(f"{address}?{query}")
        assert answer.status_code == 422
        assert error_at(answer, field)


def test_what_was_typed_stays_in_the_form(admin):
    page = text(admin.get("/console/spend/?period=days&since=yesterday&until=2026-03-01"))
    assert 'value="yesterday"' in page
    assert 'value="2026-03-01"' in page


def test_the_file_adds_up_to_the_page(admin, north, south, cleo, zoe):
    tally(north, cleo, credits=300, refunded=100, cost_usd="0.123456")
    tally(north, cleo, mode="image-to-image", credits=7)
    tally(south, zoe, provider="vtrix", day=TODAY() - timedelta(days=1), credits=50)
    answer = admin.get("/console/spend/spend.csv?period=30")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert re.search(r'filename="spend-[\d-]+\.csv"', answer.headers["Content-Disposition"])
    rows = sheet(answer)
    assert [row["team"] for row in rows] == ["South", "North", "North"]
    assert sum(int(row["credits"]) for row in rows) == 257
    assert {row["cost USD"] for row in rows} == {"0.123456", "0.200000"}


def test_the_file_runs_nothing_in_a_spreadsheet(admin, north):
    evil = factories.make_member(north, factories.make_user(name='=HYPERLINK("x")', email="evil@example.com")).user
    tally(north, evil)
    assert sheet(admin.get("/console/spend/spend.csv"))[0]["member"] == '\'=HYPERLINK("x")'


def test_a_picture_of_today_is_in_todays_spend(admin, north, cleo):
    factories.make_task(north, user=cleo, state="done", price=40)
    assert "40" in section(admin.get("/console/spend/"), "totals")


def test_more_spend_asks_no_more_queries(admin, north):
    tally(north, factories.make_member(north).user)
    few = asked(admin)
    for number in range(30):
        team = factories.make_team()
        tally(team, factories.make_member(team).user, day=timezone.now().date() - timedelta(days=number))
    assert asked(admin) == few


def asked(client) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/console/spend/?period=90").status_code == 200
    return len(queries)
