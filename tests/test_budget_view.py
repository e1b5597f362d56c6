"""A team's credits: the sums, this period, the cap for members, the ledger as a page and as a file, the chip."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web import ledger
from flux2web.models import Act, Budget, CreditRequest, Entry, Export, Membership
from flux2web.queries import ITSELF, LedgerFilter, ledger_page

from . import factories

PAGE = "/t/north/budget/"


def rows(page: str) -> list[str]:
    return [re.sub(r"<[^>]+>|\s+", " ", row) for row in re.findall(r'<tr id="entry-.*?</tr>', page, re.S)]


def test_the_page_says_what_is_available_held_spent_and_granted(client_for, ben, north):
    factories.make_task(north, state="done", price=40, charged=25)
    factories.make_task(north, state="running", price=15)
    page = client_for(ben).get(PAGE).content.decode()
    numbers = re.findall(r'<div class="stat">.*?<b>(.*?)</b>', page)
    assert numbers == ["960", "15", "25", "1,000"]


def test_the_ledger_names_who_what_how_much_and_why(client_for, ben, north):
    task = factories.make_task(north, user=ben, state="done", price=40, charged=25)
    page = client_for(ben).get(PAGE).content.decode()
    charged, held, granted = rows(page)
    assert "Charged" in charged
    assert "15 of the hold returned" in charged
    assert "Held" in held
    assert "−40" in held
    assert "Ben" in held
    assert "+1,000" in granted
    assert f'href="/t/north/tasks/{task.pk}/"' in page


def test_every_kind_of_entry_has_a_word(client_for, ben, north):
    factories.make_task(north, state="failed")
    factories.book(north, "revoke", 5, granted=-5)
    factories.book(north, "adjust", 5)
    task = factories.make_task(north, state="done")
    factories.book(north, "refund", 2, task=task, spent=-2)
    page = client_for(ben).get(PAGE).content.decode()
    for word in ("Granted", "Taken back", "Held", "Charged", "Returned", "Refunded", "Adjusted"):
        assert word in page


def test_older_entries_are_a_page_further_and_none_is_missing(client_for, ben, north):
    for number in range(119):
        factories.book(north, "grant", 1, reason=f"reason {number}", granted=1)
    client, seen, address = client_for(ben), [], PAGE
    while address:
        page = client.get(address).content.decode()
        seen += re.findall(r'id="entry-(\d+)"', page)
        older = re.search(r'rel="next" href="[^"?]*\?([^"#]+)(?:#ledger)?"', page)
        address = f"{PAGE}?{older.group(1)}" if older else ""
    assert seen == [str(pk) for pk in Entry.objects.order_by("-created", "-id").values_list("pk", flat=True)]


@pytest.mark.parametrize("cursor", ["x", ",", "2026-01-01T00:00:00Z,x", "1", "9" * 400, "\x00"])
def test_a_page_mark_that_cannot_be_read_is_the_first_page(client_for, ben, north, cursor):
    assert len(rows(client_for(ben).get(PAGE, {"before": cursor}).content.decode())) == 1


def test_a_team_without_credits_is_told_so(client_for, south):
    owner = factories.make_member(factories.make_team(name="Bare", credits=0), role="owner").user
    page = client_for(owner).get("/t/bare/budget/").content.decode()
    assert "No credits were granted yet" in page
    assert "No entry yet" in page


def test_the_text_of_others_is_not_markup(client_for, ben, north):
    factories.book(north, "grant", 1, reason="<b>free</b>", granted=1)
    assert "<b>free</b>" not in client_for(ben).get(PAGE).content.decode()


@pytest.mark.parametrize("name", ["cleo", "eve"])
def test_members_and_viewers_do_not_see_the_ledger(client_for, cast, name):
    answer = client_for(cast[name]).get(PAGE)
    assert answer.status_code == 403


def test_strangers_find_no_such_team(client_for, zoe, sam, north):
    for stranger in (zoe, sam):
        assert client_for(stranger).get(PAGE).status_code == 404
        assert client_for(stranger).get("/t/north/balance/").status_code == 404


def test_without_signing_in_one_is_led_to_sign_in(client, north):
    assert client.get(PAGE).headers["Location"].startswith("/accounts/login/")


def test_more_entries_ask_no_more_queries(client_for, ben, north, django_assert_max_num_queries):
    for _ in range(30):
        factories.make_task(north, state="done")
    client = client_for(ben)
    client.get(PAGE)
    with django_assert_max_num_queries(18):
        client.get(PAGE)


# --- This period -------------------------------------------------------------------------------------------------------


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split()).replace(" .", ".").replace(" ,", ",")


@time_machine.travel(datetime(2026, 11, 21, 12, tzinfo=UTC), tick=False)
def test_it_says_what_was_used_and_what_the_next_period_brings(client_for, ben, north):
    factories.make_task(north, state="done", price=40, charged=25)
    factories.make_task(north, state="running", price=15)
    text = text_of(client_for(ben).get(PAGE).content.decode())
    assert "40 credits used since 1 November, 15 of it held." in text
    assert "No allowance comes with the next period, on 1 December." in text
    Budget.objects.filter(team=north).update(allowance=500)
    assert "500 more come on 1 December" in text_of(client_for(ben).get(PAGE).content.decode())


@time_machine.travel(datetime(2026, 11, 21, tzinfo=UTC), tick=False)
def test_it_says_where_the_pace_leads(client_for, ben, north):
    factories.make_task(north, state="done", price=200)
    assert "At this pace 300 of 1,000 will be used by 1 December." in text_of(
        client_for(ben).get(PAGE).content.decode()
    )
    factories.make_task(north, state="done", price=600)
    said = text_of(client_for(ben).get(PAGE).content.decode())
    assert "At this pace the end of the credits is reached on 26 November." in said


def test_charts_say_who_spent_and_on_which_day(client_for, ben, cleo, north):
    factories.make_task(north, user=cleo, state="done", price=40, charged=25)
    page = client_for(ben).get(PAGE).content.decode()
    assert "Cleo: 25 credits" in page
    assert f"{timezone.now():%-d %b}: 25 credits" in page


def test_requests_that_wait_are_counted_on_the_button(client_for, ben, cleo, north):
    assert "to answer" not in client_for(ben).get(PAGE).content.decode()
    for number in range(2):
        CreditRequest.objects.create(team=north, user=cleo, key=f"r{number}", limit="member", amount=5)
    assert "2 requests to answer" in text_of(client_for(ben).get(PAGE).content.decode())


# --- The cap for members -----------------------------------------------------------------------------------------------

CAPS = "/t/north/budget/caps/"


def cap_of(team) -> int | None:
    return Budget.objects.get(team=team).member_cap


def test_an_admin_caps_everyone_and_it_is_written_down(client_for, cast, ben, north):
    with patch("flux2web.bus.publish_balance") as told:
        answer = client_for(ben).post(CAPS, {"member_cap": "1,200", "was": ""}, follow=True)
    assert cap_of(north) == 1200
    assert "may use 1,200 credits a month" in answer.content.decode()
    act = Act.objects.get(verb="set the cap for members of")
    assert (act.actor, act.team, act.note) == (ben, north, "1,200. Was: no cap")
    assert told.called


def test_nothing_is_no_cap_and_zero_lets_nobody_spend(client_for, ben, cleo, north, membership):
    client = client_for(ben)
    client.post(CAPS, {"member_cap": "0", "was": ""})
    assert cap_of(north) == 0
    assert ledger.left(membership(cleo, north)).least == 0
    client.post(CAPS, {"member_cap": "", "was": "0"})
    assert cap_of(north) is None


@pytest.mark.parametrize(
    "typed", ["-5", str(2**63), "1e9", "1,5", "NaN", "١٢٣٤٥٦٧٨", "x" * 400, "\x00", "1 0 0 0 0 0 0 0 0 0 0 0 0 0"]
)
def test_what_is_no_cap_is_said_at_the_field_and_changes_nothing(client_for, ben, north, typed):
    answer = client_for(ben).post(CAPS, {"member_cap": typed, "was": ""})
    assert answer.status_code == 422
    assert 'id="id_member_cap_error"' in answer.content.decode()
    assert cap_of(north) is None
    assert not Act.objects.exists()


@pytest.mark.parametrize("was", ["x", "-1", "9" * 30, "١"])
def test_a_form_that_was_tampered_with_changes_nothing(client_for, ben, north, was):
    assert client_for(ben).post(CAPS, {"member_cap": "5", "was": was}).status_code == 422
    assert cap_of(north) is None


def test_the_same_cap_twice_is_one_act(client_for, ben, north):
    for _ in range(2):
        assert client_for(ben).post(CAPS, {"member_cap": "300", "was": ""}).status_code == 302
    assert Act.objects.count() == 1


def test_two_admins_do_not_overwrite_each_other(client_for, ana, ben, north):
    client_for(ana).post(CAPS, {"member_cap": "300", "was": ""})
    answer = client_for(ben).post(CAPS, {"member_cap": "200", "was": ""})
    assert answer.status_code == 422
    assert "Meanwhile somebody set it: 300" in answer.content.decode()
    assert cap_of(north) == 300
    assert 'name="was" value="300"' in answer.content.decode()
    client_for(ben).post(CAPS, {"member_cap": "200", "was": "300"})
    assert cap_of(north) == 200


def test_a_cap_below_what_is_used_is_set_and_says_who_is_above(client_for, ben, cleo, dan, north):
    factories.make_task(north, user=cleo, state="running", price=40)
    Membership.objects.filter(user=dan).update(cap=1)
    factories.make_task(north, user=dan, state="running", price=40)
    answer = client_for(ben).post(CAPS, {"member_cap": "30", "was": ""}, follow=True)
    text = text_of(answer.content.decode())
    assert cap_of(north) == 30
    assert "Above it already: Cleo (40 used). What is being made is finished and charged" in text
    assert "1 has their own" in text


@pytest.mark.parametrize("name", ["cleo", "eve"])
def test_members_and_viewers_cap_nobody(client_for, cast, north, name):
    assert client_for(cast[name]).post(CAPS, {"member_cap": "5"}).status_code == 403
    assert cap_of(north) is None


def test_strangers_find_no_team_to_cap(client_for, zoe, sam, north):
    for stranger in (zoe, sam):
        assert client_for(stranger).post(CAPS, {"member_cap": "5"}).status_code == 404
        assert client_for(stranger).get("/t/north/budget/ledger.csv").status_code == 404


# --- Asking first ------------------------------------------------------------------------------------------------------

CONFIRM = "/t/north/budget/confirm/"


def confirm_above(team) -> int | None:
    return Budget.objects.get(team=team).confirm_above


@pytest.mark.parametrize(
    ("typed", "was", "now", "said"),
    [
        ("1,200", "", 1200, "A press that costs more than 1,200 credits is confirmed first."),
        ("0", "", 0, "Every press is confirmed first."),
        ("", "50", None, "No press is confirmed first."),
    ],
)
def test_an_admin_says_from_which_price_on_a_press_is_confirmed(client_for, ben, north, typed, was, now, said):
    Budget.objects.filter(team=north).update(confirm_above=int(was) if was else None)
    answer = client_for(ben).post(CONFIRM, {"confirm_above": typed, "was": was}, follow=True)
    assert confirm_above(north) == now
    assert said in answer.content.decode()


@pytest.mark.parametrize("typed", ["-5", str(2**63), "1e9", "1,5", "NaN", "١٢٣", "x" * 400, "\x00"])
def test_what_is_no_price_is_said_at_the_field_and_kept(client_for, ben, north, typed):
    answer = client_for(ben).post(CONFIRM, {"confirm_above": typed, "was": ""})
    assert answer.status_code == 422
    assert 'id="id_confirm_above_error"' in answer.content.decode()
    assert 'id="id_member_cap_error"' not in answer.content.decode()
    assert confirm_above(north) is None


def test_of_two_admins_the_second_sees_what_the_first_said_of_asking(client_for, ana, ben, north):
    client_for(ana).post(CONFIRM, {"confirm_above": "300", "was": ""})
    answer = client_for(ben).post(CONFIRM, {"confirm_above": "200", "was": ""})
    assert answer.status_code == 422
    assert "Meanwhile somebody set it: above 300 credits. Save again to set yours." in answer.content.decode()
    assert confirm_above(north) == 300
    client_for(ben).post(CONFIRM, {"confirm_above": "200", "was": "300"})
    assert [act.note for act in Act.objects.order_by("pk")] == [
        "above 300 credits. Was: never",
        "above 200 credits. Was: above 300 credits",
    ]


# --- Filters -----------------------------------------------------------------------------------------------------------


def words(page: str) -> list[str]:
    """The "what" of each line."""
    return [row.split("</td>")[2].split("<td>")[1] for row in re.findall(r'<tr id="entry-.*?</tr>', page, re.S)]


@pytest.fixture
def storied(north, ben, cleo, dan):
    """A grant, three holds of two people, a charge, a return, a refund."""
    done = factories.make_task(north, user=cleo, state="done", price=40, charged=25)
    factories.make_task(north, user=cleo, state="failed", price=15)
    factories.make_task(north, user=dan, state="running", price=10)
    factories.book(north, "refund", 5, task=done, actor=ben, spent=-5)
    return done


def test_lines_of_some_kinds(client_for, ben, storied):
    page = client_for(ben).get(PAGE, {"kind": ["grant", "refund"]}).content.decode()
    assert words(page) == ["Refunded", "Granted"]
    assert len(re.findall(r'name="kind"[^>]*checked', page)) == 2


def test_lines_that_somebody_caused(client_for, ben, cleo, storied):
    client = client_for(ben)
    assert words(client.get(PAGE, {"person": cleo.pk}).content.decode()) == ["Held", "Held"]
    assert words(client.get(PAGE, {"person": ben.pk}).content.decode()) == ["Refunded"]
    assert words(client.get(PAGE, {"person": "flux2web"}).content.decode()) == ["Returned", "Charged", "Granted"]
    assert words(client.get(PAGE, {"person": ben.pk, "kind": ["hold", "refund"]}).content.decode()) == ["Refunded"]
    assert words(client.get(PAGE, {"person": cleo.pk, "kind": ["settle", "hold"]}).content.decode()) == ["Held"] * 2
    assert words(client.get(PAGE, {"person": "flux2web", "kind": ["hold", "settle"]}).content.decode()) == ["Charged"]


def test_somebody_who_left_can_still_be_asked_for(client_for, ben, cleo, north, storied):
    Membership.objects.filter(user=cleo).delete()
    page = client_for(ben).get(PAGE, {"person": cleo.pk})
    assert page.status_code == 200
    assert words(page.content.decode()) == ["Held", "Held"]


def test_lines_of_one_picture(client_for, ben, storied):
    client = client_for(ben)
    for typed in (storied.pk, f"#{storied.pk}", f" {storied.pk} "):
        assert words(client.get(PAGE, {"task": typed}).content.decode()) == ["Refunded", "Charged", "Held"]
    assert words(client.get(PAGE, {"task": storied.pk, "kind": "hold"}).content.decode()) == ["Held"]


def test_another_teams_picture_has_no_line_here(client_for, ben, south, zoe, storied):
    theirs = factories.make_task(south, user=zoe, state="done")
    page = client_for(ben).get(PAGE, {"task": theirs.pk}).content.decode()
    assert words(page) == []
    assert "No line is like this" in page


def test_days_are_the_teams_own(client_for, ben, north):
    Budget.objects.filter(team=north).update(time_zone="Asia/Tokyo")
    with time_machine.travel(datetime(2026, 11, 20, 15, 30, tzinfo=UTC)):  # the 21st in Tokyo
        factories.book(north, "grant", 7, granted=7)
    with time_machine.travel(datetime(2026, 11, 20, 14, 30, tzinfo=UTC)):
        factories.book(north, "adjust", 7, granted=7)
    client = client_for(ben)
    assert words(client.get(PAGE, {"since": "2026-11-21", "until": "2026-11-21"}).content.decode())[-1:] == ["Granted"]
    assert words(client.get(PAGE, {"until": "2026-11-20"}).content.decode()) == ["Adjusted"]


NONSENSE = [
    ("kind", "king"),
    ("kind", "\x00"),
    ("person", "0"),
    ("person", "999999"),
    ("person", "-1"),
    ("person", "x" * 300),
    ("person", "٣"),
    ("person", "9" * 18),
    ("since", "yesterday"),
    ("since", "2026-02-30"),
    ("since", "0001-01-01"),
    ("until", "9999-12-31"),
    ("until", "\x00"),
    ("task", "x"),
    ("task", "-1"),
    ("task", "٣"),
    ("task", "9" * 40),
    ("task", "1;drop table"),
]


@pytest.mark.parametrize(("name", "value"), NONSENSE)
def test_nonsense_in_a_filter_is_said_and_the_others_still_count(client_for, ben, storied, name, value):
    answer = client_for(ben).get(PAGE, {name: [value], **({} if name == "kind" else {"kind": "grant"})})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert page.count('class="error"') == 1
    assert words(page) == (
        ["Refunded", "Held", "Returned", "Held", "Charged", "Held", "Granted"] if name == "kind" else ["Granted"]
    )


def test_a_last_day_before_the_first_is_said(client_for, ben, storied):
    answer = client_for(ben).get(PAGE, {"since": "2026-11-20", "until": "2026-11-19"})
    assert answer.status_code == 422
    assert "before the first day" in answer.content.decode()


def test_somebody_of_another_team_is_nobody_here(client_for, ben, zoe, storied):
    answer = client_for(ben).get(PAGE, {"person": zoe.pk})
    assert answer.status_code == 422
    assert "Zoe" not in answer.content.decode()


def test_pages_keep_the_filters_and_miss_nothing(client_for, ben, north):
    for number in range(130):
        factories.book(north, "grant" if number % 3 else "adjust", 1, granted=1)
    client, seen, address = client_for(ben), [], f"{PAGE}?kind=grant&kind=adjust"
    while address:
        page = client.get(address.replace("&amp;", "&")).content.decode()
        seen += re.findall(r'id="entry-(\d+)"', page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        address = older[1] if older else ""
    wanted = Entry.objects.filter(kind__in=["grant", "adjust"]).order_by("-created", "-id")
    assert seen == [str(pk) for pk in wanted.values_list("pk", flat=True)]


def test_every_mix_of_filters_finds_what_a_plain_reading_finds(north, south, zoe, ben, cleo, dan, storied):
    factories.make_task(south, user=zoe, state="done")
    noon = timezone.now() - timedelta(hours=1)
    filters = [
        LedgerFilter(kinds=kinds, actor=actor, since=since, task=task)
        for kinds in ((), ("hold",), ("settle",), ("grant", "hold", "release"), tuple(Entry.Kind.values))
        for actor in (None, ITSELF, cleo.pk, ben.pk)
        for since in (None, noon, timezone.now() + timedelta(days=1))
        for task in (None, storied.pk)
    ]
    everything = list(Entry.objects.filter(team=north).order_by("-created", "-id"))
    for only in filters:
        wanted = [entry for entry in everything if suits(entry, only)]
        assert ledger_page(north, only=only).rows == wanted, only


def suits(entry: Entry, only: LedgerFilter) -> bool:
    return (
        (not only.kinds or entry.kind in only.kinds)
        and (only.actor is None or (entry.actor_id or ITSELF) == only.actor)
        and (only.since is None or entry.created >= only.since)
        and (only.task is None or entry.task_id == only.task)
    )


def test_filtered_pages_ask_no_more_queries_for_more_lines(client_for, ben, cleo, north):
    def asked() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            client.get(PAGE, {"kind": ["hold", "settle"], "person": cleo.pk})
        return len(queries)

    client = client_for(ben)
    factories.make_task(north, user=cleo, state="done")
    client.get(PAGE)
    before = asked()
    for _ in range(30):
        factories.make_task(north, user=cleo, state="done")
    assert asked() == before


# --- As a file ---------------------------------------------------------------------------------------------------------

CSV = "/t/north/budget/ledger.csv"


def read(answer) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer
    return list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))


def added_up(lines: list[dict[str, str]]) -> dict[str, int]:
    return {
        name: sum(int(line[f"{name}_in"]) - int(line[f"{name}_out"]) for line in lines)
        for name in ("granted", "held", "spent")
    }


def test_the_file_added_up_gives_the_budgets_sums(client_for, ben, north, storied):
    ledger.grant(north, 300, actor=ben, reason="more", key="g")
    ledger.revoke(north, 120, actor=ben, reason="less", key="r")
    ledger.adjust(north, -50, actor=ben, reason="a slip", key="a1")
    ledger.adjust(north, 7, actor=ben, reason="another", key="a2")
    budget = Budget.objects.get(team=north)
    lines = read(client_for(ben).get(CSV))
    assert added_up(lines) == {"granted": budget.granted, "held": budget.held, "spent": budget.spent}
    assert len(lines) == Entry.objects.filter(team=north).count()
    assert lines[0]["available_after"] == str(budget.available)


def test_the_file_says_who_what_and_why(client_for, ben, north, storied):
    answer = client_for(ben).post(CSV, {"kind": ["settle"]})
    assert answer["Content-Disposition"].startswith('attachment; filename="ledger-north-')
    assert "no-store" in answer["Cache-Control"]
    (line,) = read(answer)
    assert line["kind"] == "settle"
    assert (line["credits"], line["held_out"], line["spent_in"]) == ("25", "40", "25")
    assert (line["member"], line["task"], line["actor"]) == ("Cleo", str(storied.pk), "flux2web")


def test_no_cell_of_the_file_is_taken_for_a_formula(client_for, ben, north):
    ben.name = "@SUM(A1)"
    ben.save()
    ledger.adjust(north, -50, actor=ben, reason='=HYPERLINK("http://evil")', key="-1+1")
    text = b"".join(client_for(ben).get(CSV).streaming_content).decode("utf-8-sig")
    for row in csv.reader(io.StringIO(text)):
        assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert "adjust down" in text


def test_a_filter_that_says_nothing_makes_no_file(client_for, ben, north):
    answer = client_for(ben).get(CSV, {"task": "x", "kind": "grant"})
    assert answer.headers["Location"] == f"{PAGE}?kind=grant&task=x"


def test_a_long_ledger_is_made_into_a_file_when_asked_for(client_for, ben, north, monkeypatch):
    monkeypatch.setattr("flux2web.views.budget.CSV_LINES", 3)
    for _ in range(3):
        factories.book(north, "grant", 1, granted=1)
    client = client_for(ben)
    assert client.get(CSV).headers["Location"] == f"{PAGE}?"
    assert not Export.objects.exists()
    answer = client.post(CSV, {"kind": "grant"})
    assert answer.headers["Location"] == "/t/north/exports/"
    export = Export.objects.get()
    assert (export.user, export.team, export.kind) == (ben, north, "ledger")
    assert export.query["kinds"] == ["grant"]
    client.post(CSV, {"kind": "grant"})
    assert Export.objects.count() == 1


@pytest.mark.parametrize("name", ["cleo", "eve"])
def test_members_and_viewers_get_no_file(client_for, cast, name):
    assert client_for(cast[name]).get(CSV).status_code == 403


# --- The chip ------------------------------------------------------------------------------------------------------------


def test_the_chip_says_what_is_available_and_held(client_for, eve, north):
    factories.make_task(north, state="running", price=15)
    chip = client_for(eve).get("/t/north/balance/").content.decode()
    assert 'id="balance"' in chip
    assert 'data-available="985"' in chip
    assert 'data-held="15"' in chip
    assert "<meter" in chip


def test_the_chip_is_a_fragment_that_nobody_keeps(client_for, eve, north):
    answer = client_for(eve).get("/t/north/balance/")
    assert "<html" not in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]


def test_every_page_of_a_team_has_the_chip_once(client_for, ben, north):
    for page in (PAGE, "/t/north/members/"):
        assert client_for(ben).get(page).content.decode().count('id="balance"') == 1
