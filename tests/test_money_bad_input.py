"""Nonsense at every address that moves credits or shows where they went: a message where it was typed, nothing moved.

Run on PostgreSQL too, which refuses NUL bytes and large numbers that SQLite takes.
"""

from __future__ import annotations

import re

import pytest
from django.db.models import Model
from django.urls import URLResolver, get_resolver, resolve

from flux2web import audit, exports
from flux2web.models import (
    Act,
    Budget,
    CreditRequest,
    Entry,
    Export,
    Membership,
    Notice,
    Period,
    Price,
    Statement,
    Tally,
    Task,
    Team,
    Usage,
    write,
)

from . import factories

pytestmark = pytest.mark.django_db
REFUSED = (403, 404, 405, 409, 422)
ANSWERED = (200, 302, *REFUSED)
NUL, LONG = "5\0", "9" * 5000
MONEY: tuple[type[Model], ...] = (
    *(Act, Budget, CreditRequest, Entry, Export, Membership, Period, Price, Statement, Tally, Task, Team, Usage),
)

# What is wrong in a field of each kind. A word is free text: most nonsense is fine there.
BAD = {
    "credits": ["-5", "0", str(2**63), "1e9", "1,5", "1 5", "NaN", "١٢٣٤٥٦٧٨", "", "+5", "0x10", "²", NUL, LONG],
    "limit": ["-5", str(2**63), "1e9", "1,5", "1 5", "NaN", "١٢٣٤٥٦٧٨", "00", NUL, LONG],
    "signed": ["5", "-0", "+", "-", f"+{2**63}", "-1e9", "+1,5", "-NaN", "+١٢٣٤٥٦٧٨", "", NUL, f"-{LONG}"],
    "each": ["-1", str(2**63), "1e3", "1,5", "NaN", "١٢", NUL, LONG],
    "usd": ["-1", str(2**63), "1e3", "1,5", "NaN", "Infinity", "0.00001", "١٢", NUL, LONG],
    "day": ["0", "29", "31", "-1", "1.5", "٣", "", NUL, LONG],
    "zone": ["Mars/Base", "../../etc/passwd", "UTC\0", "x" * 5000, "", "/etc/localtime", "europe"],
    "choice": ["", "everything", NUL, LONG],
    "optional choice": ["everything", NUL, LONG],
    "word": [NUL, LONG],
    "reason": ["", "   ", NUL, LONG],
    "key": ["", NUL, LONG],
    "number": ["", "-1", "x", "1.5", "١٢", str(2**63), "999999", NUL, LONG],
    "was": ["-1", "x", "١٢", NUL, LONG],
    "moment": ["yesterday", "2000-01-01 00:00", "9999-12-31", "2027-02-30", "2027-01-01 25:00", NUL, LONG],
    "mail": ["nonsense", "a@b", f"{'x' * 300}@example.com", "a@example.com\nBcc: b@example.com", NUL, LONG],
}
GRANT = {"kind": "grant", "amount": "40", "reason": "for the catalogue", "key": "k1", "task": ""}
PRICE = "revid-pro-1K"
PRICES = {f"{PRICE}-credits": "12", f"{PRICE}-each": "1", f"{PRICE}-usd": "0.03", "valid_from": ""}
PRICE_KINDS = {f"{PRICE}-credits": "credits", f"{PRICE}-each": "each", f"{PRICE}-usd": "usd", "valid_from": "moment"}
CAP = {"cap": "70", "was": "inherits"}

# Who, where, what is sent and accepted, and of which kind each of its fields is.
FORMS = [
    ("cleo", "/t/north/usage/limit/", {"own_limit": "70"}, {"own_limit": "limit"}),
    (
        *("cleo", "/t/north/ask/"),
        {"amount": "40", "reason": "more", "key": "k1"},
        {"amount": "credits", "reason": "word", "key": "key"},
    ),
    ("ben", "/t/north/budget/caps/", {"member_cap": "70", "was": ""}, {"member_cap": "limit", "was": "was"}),
    ("ben", "/t/north/budget/confirm/", {"confirm_above": "70", "was": ""}, {"confirm_above": "limit", "was": "was"}),
    ("ben", "/t/north/budget/kinds/", {"kinds": "pro-1K", "was": ""}, {"kinds": "choice", "was": "was"}),
    ("ben", "/t/north/members/CLEO/cap/", CAP, {"cap": "limit", "was": "was"}),
    ("ben", "/t/north/members/caps/", {"cap": "70", "ids": "CLEO"}, {"cap": "limit", "ids": "number"}),
    (
        *("ben", "/t/north/requests/ASKED/decide/"),
        {"verdict": "approve", "amount": "70", "lasts": "period", "note": "well"},
        {"verdict": "choice", "amount": "credits", "lasts": "optional choice", "note": "word"},
    ),
    (
        *("sam", "/console/requests/SHORT/"),
        {"verdict": "approve", "amount": "70", "lasts": "lasts", "note": ""},
        {"verdict": "choice", "amount": "credits", "lasts": "optional choice", "note": "word"},
    ),
    (
        *("sam", "/console/teams/north/grant/", GRANT),
        {"kind": "choice", "amount": "credits", "reason": "reason", "key": "key"},
    ),
    (
        *("sam", "/console/teams/north/grant/", GRANT | {"kind": "adjust", "amount": "-40"}),
        {"kind": "choice", "amount": "signed", "reason": "reason", "key": "key"},
    ),
    (
        *("sam", "/console/teams/north/grant/", GRANT | {"kind": "revoke"}),
        {"kind": "choice", "amount": "credits", "reason": "reason", "key": "key"},
    ),
    (
        *("sam", "/console/teams/north/grant/", GRANT | {"kind": "refund", "task": "TASK"}),
        {"kind": "choice", "amount": "credits", "task": "number", "reason": "reason", "key": "key"},
    ),
    (
        *("sam", "/console/teams/north/rules/"),
        {"allowance": "500", "start_day": "15", "time_zone": "Europe/Berlin", "rolls_over": "on"},
        {"allowance": "limit", "start_day": "day", "time_zone": "zone", "seen": "word"},
    ),
    (
        *("sam", "/console/teams/", {"name": "East", "credits": "100", "owner": ""}),
        {"name": "reason", "credits": "credits", "owner": "mail"},
    ),
    ("sam", "/console/teams/north/", {"owner": "zoe@example.com"}, {"owner": "mail"}),
    ("sam", "/console/prices/", PRICES, PRICE_KINDS),
    ("sam", "/console/prices/simulate/", PRICES, PRICE_KINDS),
]
BARE = [  # posts without fields: whatever comes along is not looked at
    ("cleo", "/t/north/requests/ASKED/withdraw/"),
    ("cleo", "/notices/NOTICE/dismiss/"),
    ("cleo", "/notices/dismiss/"),
    ("sam", "/console/statements/check/"),
]
PAGES = [
    ("cleo", "/t/north/usage/", ("since", "before")),
    ("cleo", "/t/north/balance/", ("x",)),
    ("cleo", "/t/north/", ("draft", "like")),
    ("ben", "/t/north/requests/", ("before",)),
    ("ben", "/t/north/budget/", ("before", "kind", "person", "since", "until", "task")),
    ("ben", "/t/north/budget/ledger.csv", ("before", "kind", "person", "since", "until", "task")),
    ("ben", "/t/north/members/", ("x",)),
    ("ben", "/t/north/exports/", ("x",)),
    ("ben", "/notices/", ("before",)),
    ("ben", "/notices/strip/", ("x",)),
    ("sam", "/console/", ("x",)),
    ("sam", "/console/teams/north/", ("before",)),
    ("sam", "/console/requests/", ("before",)),
    ("sam", "/console/spend/", ("period", "since", "until", "team")),
    ("sam", "/console/spend/spend.csv", ("period", "since", "until", "team")),
    ("sam", "/console/acts/", ("before", "team", "who", "what")),
    ("sam", "/console/prices/", ("x",)),
    ("sam", "/console/statements/", ("x",)),
]
QUERIES = [
    *(
        "x",
        "-1",
        "1.5",
        str(2**31),
        str(2**63),
        "9" * 400,
        "1e9",
        "١٢٣٤٥٦٧٨",
        "a\0b",
        "../../etc/passwd",
        "' OR 1=1 --",
    ),
    *("<script>", "2026-02-30", "0001-01-01", "9999-12-31", "0001-01-01T00:00:00+23:59,1", "é" * 300),
    *("9999-12-31T23:59:59-23:59,1", f"2026-11-21T00:00:00+00:00,{2**63}", f"2026-11-21T00:00:00Z,{10**18 - 1}"),
]
IDS = ["0", str(2**31), str(2**63), "9" * 30, "9" * 5000, "-1", "x", "%00", "1%00", "١"]


@pytest.fixture
def site(client_for, cast, north):
    """site(who) is their browser; site.fill("/t/north/members/CLEO/") names this test's rows."""
    for provider in ("revid", "vtrix"):
        factories.make_account(provider)
    task = factories.make_task(north, user=cast["cleo"], state="done", price=40)
    ids = {row.user.name.upper(): row.pk for row in Membership.objects.filter(team=north).select_related("user")}
    for word, limit, who in (("ASKED", "member", "cleo"), ("SHORT", "team", "dan")):
        ids[word] = CreditRequest.objects.create(team=north, user=cast[who], key=word, limit=limit, amount=90).pk
    with write():
        notice = Notice.objects.create(user=cast["cleo"], key="n", text="Look")
    export = exports.start(cast["ben"], north, "ledger", {}, "ledger.csv")
    ids |= {"TASK": task.pk, "NOTICE": notice.pk, "EXPORT": export.pk}

    def browser(who: str):
        return client_for(cast[who])

    browser.fill = lambda text: re.sub(r"\b(" + "|".join(ids) + r")\b", lambda found: str(ids[found[0]]), text)
    browser.filled = lambda data: {**_others(data), **{name: browser.fill(value) for name, value in data.items()}}
    yield browser
    assert audit.ledger() == []


def _others(data: dict[str, str]) -> dict[str, str]:
    """The rest of the price list, which is sent as a whole."""
    rows = Price.objects.all() if f"{PRICE}-credits" in data else []
    return {f"{row.provider}-{row.family}-{row.resolution}-credits": str(row.credits) for row in rows}


def money() -> list[list[tuple]]:
    return [sorted(model._default_manager.values_list(), key=repr) for model in MONEY]


def says_why(page: str) -> bool:
    return bool(re.search(r'class="error[ "]|role="alert"', page))


CASES = [(who, address, good, name, kind) for who, address, good, kinds in FORMS for name, kind in kinds.items()]


@pytest.mark.parametrize(("who", "address", "good", "field", "kind"), CASES, ids=lambda value: str(value)[:30])
def test_nonsense_is_refused_in_words_and_moves_nothing(site, who, address, good, field, kind):
    before, client = money(), site(who)
    for value in BAD[kind]:
        answer = client.post(site.fill(address), site.filled(good) | {field: value})
        assert answer.status_code in REFUSED, repr(value[:20])
        assert says_why(answer.content.decode()), f"no message for {value[:20]!r}"
        assert money() == before, repr(value[:20])


@pytest.mark.parametrize(("who", "address", "good", "fields"), FORMS)
def test_what_is_good_is_taken(site, who, address, good, fields):
    """Or the refusals above would prove nothing."""
    before = money()
    assert site(who).post(site.fill(address), site.filled(good)).status_code in (200, 302)
    assert (money() != before) == ("simulate" not in address)


@pytest.mark.parametrize(("who", "address", "good", "fields"), FORMS)
def test_nothing_at_all_and_everything_twice_is_answered(site, who, address, good, fields):
    client, address, filled = site(who), site.fill(address), site.filled(good)
    for sent in ({}, dict.fromkeys(filled, ""), {name: ["\0", "\0"] for name in filled}):
        before = money()
        answer = client.post(address, sent)
        assert answer.status_code in ANSWERED
        assert answer.status_code in (200, 302) or money() == before
    raw = b"&".join(name.encode() + b"=%ff%fe&" + name.encode() + b"=%ed%a0%80" for name in filled)
    for kind in ("application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=x", "x"):
        before = money()
        assert client.post(address, raw, content_type=kind).status_code in (*ANSWERED, 400)
        assert money() == before
    twice = client.post(address, {name: [value, value] for name, value in filled.items()})
    assert twice.status_code in ANSWERED


@pytest.mark.parametrize(("who", "address"), BARE)
def test_what_asks_for_no_field_looks_at_none(site, who, address):
    data = {name: ["\0", str(2**64), "x" * 5000] for name in ("id", "amount", "key", "step", "before", "next")}
    answer = site(who).post(
        site.fill(address), data, headers={"Referer": "http://testserver/\x01", "HX-Request": "true"}
    )
    assert answer.status_code in (200, 302)


@pytest.mark.parametrize(("who", "address", "names"), PAGES)
def test_an_address_with_nonsense_is_answered(site, who, address, names):
    client, before = site(who), money()
    for value in QUERIES if names != ("x",) else ("\0",):
        for query in ({name: [value, value] for name in names}, *({name: value} for name in names)):
            answer = client.get(address, query)
            assert answer.status_code in (200, 302, 404, 422), query
            assert answer.status_code != 422 or says_why(answer.content.decode()), f"no message for {query}"
    assert money() == before


def money_addresses() -> list[str]:
    """Every address with a number or a name in it that these pages have."""
    return [
        *("/t/north/requests/{}/decide/", "/t/north/requests/{}/withdraw/", "/t/north/members/{}/cap/"),
        *("/t/north/members/{}/role/", "/t/north/members/{}/remove/", "/t/north/members/invites/{}/revoke/"),
        *("/t/north/exports/{}/", "/console/requests/{}/", "/console/teams/{}/grant/", "/console/teams/{}/rules/"),
        *("/console/teams/{}/", "/notices/{}/dismiss/", "/t/{}/budget/", "/t/{}/usage/", "/t/{}/budget/ledger.csv"),
    ]


@pytest.mark.parametrize("address", money_addresses())
def test_a_number_that_nobody_has_is_not_there(site, cast, client_for, address):
    before = money()
    for who in ("ana", "sam"):
        for number in IDS:
            for verb in ("get", "post"):
                answer = getattr(client_for(cast[who]), verb)(address.format(number))
                assert answer.status_code in (404, 405)
    assert money() == before


def test_no_post_only_address_is_changed_by_looking_nor_a_page_by_other_verbs(site):
    before = money()
    for who, address, *_ in [*FORMS, *BARE]:
        answer = site(who).get(site.fill(address))
        assert answer.status_code in (200, 405)
    for who, address, *_ in [*FORMS, *BARE, *PAGES]:
        for verb in ("put", "patch", "delete", "options", "head"):
            assert getattr(site(who), verb)(site.fill(address)).status_code in (200, 302, 405)
    assert money() == before


def addresses(patterns):
    for pattern in patterns:
        yield from addresses(pattern.url_patterns) if isinstance(pattern, URLResolver) else [pattern]


def test_no_money_address_is_forgotten_above(site):
    views = {"usage", "requests", "budget", "console", "spending", "acts", "prices", "statements", "notices", "exports"}
    every = {
        pattern.name
        for pattern in addresses(get_resolver().url_patterns)
        if pattern.callback.__module__.rpartition(".")[2] in views
    }
    tried = {resolve(site.fill(address)).url_name for _, address, *_ in [*FORMS, *BARE, *PAGES]}
    tried |= {resolve(address.format("1")).url_name for address in money_addresses()}
    assert every - {"providers", "provider"} <= tried
