"""Who did what: every administrative act leaves one line, a refused one none, and no line holds a secret."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import URLResolver, get_resolver, resolve
from django.utils import timezone

from flux2web import audit
from flux2web.forms_console import GrantForm, RulesForm
from flux2web.models import Act, CreditRequest, Entry, Invite, Membership, Role
from flux2web.teams import new_invite
from flux2web.views import acts

from . import factories
from .test_races import at_once

KEY = "sk-live-9f8e7d6c5b4a3210"
PROVIDER = {
    "key": KEY,
    "enabled": "on",
    "base_url": "https://api.revidapi.com",
    "rate": "20/10",
    "concurrent": "",
    "option_create_path": "/paid/flux-2/create",
    "option_status_path": "/paid/get/taskid",
    "option_status_body": "none",
}
GRANT = {"kind": "grant", "amount": "500", "reason": "for the catalogue", "key": "k1"}
RULES = {"allowance": "5000", "start_day": "15", "time_zone": "Europe/Berlin"}

# Who, where, what is sent, and the line it leaves: verb, about, the note's beginning.
ACTS = [
    (
        "ana",
        "/t/north/members/default/",
        {"private": "1"},
        ("set who sees new pictures of", "North", "only their author"),
    ),
    ("sam", "/console/teams/north/", {"owner": "zoe@example.com"}, ("made an owner of", "Zoe", "owner. Was: not in")),
    ("sam", "/console/teams/north/", {"owner": "cleo@example.com"}, ("made an owner of", "Cleo", "owner. Was: member")),
    ("sam", "/console/teams/north/", {"owner": "new@example.com"}, ("invited", "new@example.com", "as admin")),
    (
        "sam",
        "/console/teams/north/grant/",
        GRANT,
        ("granted", "North", "500 credits: for the catalogue. Available 960 → 1,460"),
    ),
    (
        "sam",
        "/console/teams/north/grant/",
        GRANT | {"expires": "on"},
        ("granted", "North", "500 credits until the period ends: for"),
    ),
    (
        "sam",
        "/console/teams/north/grant/",
        GRANT | {"kind": "revoke"},
        ("took back", "North", "500 credits: for the catalogue. Available 960 → 460"),
    ),
    (
        "sam",
        "/console/teams/north/grant/",
        GRANT | {"kind": "adjust", "amount": "-60"},
        ("corrected", "North", "-60 credits: for the catalogue. Available 960 → 900"),
    ),
    (
        "sam",
        "/console/teams/north/grant/",
        GRANT | {"kind": "refund", "amount": "40", "task": "TASK"},
        ("refunded", "task TASK", "40 credits: for the catalogue. Available 960 → 1,000"),
    ),
    ("sam", "/console/teams/north/rules/", RULES, ("set the allowance of", "North", "5,000 credits on day 15")),
    ("sam", "/console/providers/revid/", PROVIDER, ("changed the provider", "Revid", "set a new key; ")),
    ("sam", "/console/providers/vtrix/", PROVIDER, ("set up the provider", "Vtrix", "set a new key; switched on")),
    (
        "sam",
        "/console/providers/rule/",
        {"premium_percent": "20", "healthy_percent": "70"},
        ("changed the provider rule of", "auto", "premium 20 %, healthy from 70 % (was: premium 50 %"),
    ),
    (
        "sam",
        "/console/providers/accounts/ACCOUNT/pause/",
        {"minutes": "5"},
        ("paused the provider", "Revid", "for 5 minutes, until "),
    ),
    (
        "sam",
        "/console/providers/accounts/RESTING/resume/",
        {},
        ("resumed the provider", "Apixo", "was: No money left there."),
    ),
    ("ben", "/t/north/members/invite/", {"role": "member"}, ("invited", "whoever has the link", "as member")),
    ("ben", "/t/north/members/invites/INVITE/revoke/", {}, ("took back the invitation of", "finn@example.com", "")),
    (
        "ben",
        "/t/north/members/CLEO/role/",
        {"role": "viewer"},
        ("changed the role of", "Cleo", "viewer. Was: member"),
    ),
    ("ben", "/t/north/members/CLEO/remove/", {}, ("removed", "Cleo", "Was: member")),
    (
        "ben",
        "/t/north/members/CLEO/cap/",
        {"cap": "70", "was": "inherits"},
        ("set the cap of", "Cleo", "70. Was: "),
    ),
    ("ben", "/t/north/members/caps/", {"cap": "70", "ids": "CLEO"}, ("set the cap of", "Cleo", "70. Was: ")),
    ("ben", "/t/north/budget/caps/", {"member_cap": "70"}, ("set the cap for members of", "North", "70. Was: ")),
    (
        "ben",
        "/t/north/budget/confirm/",
        {"confirm_above": "70"},
        ("set when presses are confirmed in", "North", "above 70 credits. Was: never"),
    ),
    (
        "ben",
        "/t/north/budget/kinds/",
        {"kinds": "pro-1K"},
        ("set which kinds are made in", "North", "Pro 1K. Was: every kind"),
    ),
    (
        "ben",
        "/t/north/requests/ASKED/decide/",
        {"verdict": "approve", "amount": "70", "lasts": "period"},
        ("granted a request of", "Dan", "70 credits until the period ends."),
    ),
    (
        "ben",
        "/t/north/requests/ASKED/decide/",
        {"verdict": "decline", "note": "no"},
        ("declined a request of", "Dan", ""),
    ),
    (
        "sam",
        "/console/requests/SHORT/",
        {"verdict": "approve", "amount": "70", "lasts": "lasts"},
        ("granted a request of", "Dan", "70 credits for good."),
    ),
]
# What an admin may post besides: prices leave their lines in tests/test_prices_view.py, a look again one at its task, the
# others change nothing.
ELSEWHERE = {"prices", "simulate-prices", "check-statements", "ledger-csv", "look-again"}
READ_ONLY = {"console", "console-requests", "console-spend", "console-spend-csv", "acts", "providers", "statements"}
READ_ONLY |= {"requests", "budget", "callbacks", "provider-balance", "sandbox-provider"}
# What is refused: by the form, by the ledger, by the rules of the team, or because it is not theirs to do.
REFUSED = [
    ("sam", "/console/teams/", {"name": "East", "credits": "-1"}),
    ("sam", "/console/teams/north/", {"owner": "nonsense"}),
    ("sam", "/console/teams/north/grant/", GRANT | {"amount": "0"}),
    ("sam", "/console/teams/north/grant/", GRANT | {"reason": ""}),
    ("sam", "/console/teams/north/grant/", GRANT | {"kind": "revoke", "amount": "961"}),
    ("sam", "/console/teams/north/grant/", GRANT | {"kind": "adjust", "amount": "-961"}),
    ("sam", "/console/teams/north/grant/", GRANT | {"kind": "refund", "amount": "41", "task": "TASK"}),
    ("sam", "/console/teams/north/grant/", GRANT | {"step": "preview"}),
    ("sam", "/console/teams/north/grant/", GRANT | {"step": "edit"}),
    ("sam", "/console/teams/north/rules/", RULES | {"start_day": "31"}),
    ("sam", "/console/teams/north/rules/", RULES | {"seen": "something else"}),
    ("sam", "/console/providers/revid/", PROVIDER | {"rate": "often"}),
    ("sam", "/console/providers/rule/", {"premium_percent": "a lot", "healthy_percent": "70"}),
    ("sam", "/console/providers/accounts/ACCOUNT/pause/", {"minutes": "1000"}),
    ("sam", "/console/providers/accounts/ACCOUNT/resume/", {}),
    ("ben", "/t/north/members/invite/", {"role": "owner"}),
    ("ben", "/t/north/members/ANA/role/", {"role": "viewer"}),
    ("ben", "/t/north/members/ANA/remove/", {}),
    ("cleo", "/t/north/members/CLEO/remove/", {}),
    ("cleo", "/t/north/members/invite/", {"role": "member"}),
    ("ben", "/console/teams/north/grant/", GRANT),
    ("zoe", "/t/north/members/invites/INVITE/revoke/", {}),
]


def name_of(case) -> str:
    return f"{case[0]}-{case[1]}-{'-'.join(map(str, case[2].values()))[:30]}"


@pytest.fixture
def post(client_for, cast, north):
    """post(who, address, data), with the ids of this test's rows in place of their names in capitals."""
    account = factories.make_account("revid")
    until = timezone.now() + timedelta(minutes=5)
    resting = factories.make_account("apixo", paused_until=until, pause_reason="No money left there.")
    task = factories.make_task(north, user=cast["cleo"], state="done", price=40)
    invite, _ = factories.make_invite(north, invited_by=cast["ben"], email="finn@example.com")
    members = {row.user.name.upper(): row.pk for row in Membership.objects.filter(team=north).select_related("user")}
    ids = {"TASK": task.pk, "INVITE": invite.pk, "ACCOUNT": account.pk, "RESTING": resting.pk, **members}
    for word, limit in (("ASKED", "member"), ("SHORT", "team")):
        asked = CreditRequest.objects.create(team=north, user=cast["dan"], key=word, limit=limit, amount=90)
        ids[word] = asked.pk

    def fill(text: str) -> str:
        return re.sub("|".join(ids), lambda found: str(ids[found[0]]), text)

    def send(who: str, address: str, data: dict):
        return client_for(cast[who]).post(fill(address), {name: fill(value) for name, value in data.items()})

    send.fill = fill
    return send


@pytest.mark.parametrize("case", ACTS, ids=name_of)
def test_every_administrative_act_leaves_one_line(post, cast, case):
    who, address, data, (verb, about, note) = case
    assert post(who, address, data).status_code in (200, 302)
    act = Act.objects.get()
    assert (act.actor, act.actor_label, act.verb) == (cast[who], str(cast[who]), verb)
    assert act.about == post.fill(about)
    assert act.note.startswith(note)
    assert (act.team is None) == ("provider" in verb)


def test_no_admins_address_is_forgotten_above():
    """Whoever adds one decides: it leaves a line, or it is named among those that change nothing."""
    admins = {
        str(pattern.name)
        for pattern in addresses(get_resolver().url_patterns)
        if getattr(pattern.callback, "access", "") in ("site_admin", "team:admin", "team:owner")
    }
    here = {resolve(re.sub("[A-Z]{3,}", "1", address)).url_name for _, address, *_ in ACTS}
    assert admins == here | {"make-team"} | ELSEWHERE | READ_ONLY


def addresses(patterns):
    for pattern in patterns:
        yield from addresses(pattern.url_patterns) if isinstance(pattern, URLResolver) else [pattern]


def test_a_new_team_leaves_two_lines_its_own_and_its_owners(post):
    post("sam", "/console/teams/", {"name": "East", "credits": "10", "owner": "zoe@example.com"})
    lines = [(act.verb, act.about, act.team.name, act.note) for act in Act.objects.order_by("pk")]
    assert lines == [
        ("made the team", "East", "East", "10 credits to begin with"),
        ("made an owner of", "Zoe", "East", "owner. Was: not in the team"),
    ]


@pytest.mark.parametrize("case", REFUSED, ids=name_of)
def test_what_is_refused_leaves_none(post, case):
    answer = post(*case)
    assert answer.status_code in (200, 302, 403, 404, 409, 422)
    assert not Act.objects.exists()


@pytest.mark.parametrize("kind", ["grant", "revoke", "adjust", "refund"])
def test_what_is_sent_twice_leaves_one_line(post, kind):
    data = GRANT | {"kind": kind, "amount": "+40" if kind == "adjust" else "40", "task": "TASK"}
    for _ in range(2):
        assert post("sam", "/console/teams/north/grant/", data).status_code == 302
    assert Act.objects.count() == 1


@pytest.mark.parametrize(
    ("who", "address", "data"),
    [
        ("sam", "/console/teams/north/rules/", RULES),
        ("sam", "/console/providers/revid/", PROVIDER),
        ("ben", "/t/north/members/CLEO/role/", {"role": "viewer"}),
        ("ben", "/t/north/members/invites/INVITE/revoke/", {}),
    ],
)
def test_what_changes_nothing_leaves_no_second_line(post, who, address, data):
    for _ in range(2):
        post(who, address, data)
    assert Act.objects.count() == 1


def test_no_line_holds_a_key_or_a_token(post, client_for, cast, north):
    for who, address, data, _ in ACTS:
        post(who, address, data | {"key": f"{KEY}-{data.get('kind', '')}"} if "providers" in address else data)
    post("sam", "/console/providers/revid/", PROVIDER | {"key": "another-key-of-theirs-77"})
    _, token = new_invite(north, cast["ana"], role=Role.MEMBER)
    lines = " ".join(f"{act} {act.actor_label} {act.about} {act.note}" for act in Act.objects.all())
    hashes = Invite.objects.values_list("token_hash", flat=True)
    for secret in [KEY[:8], KEY[-4:], "another-key", "eirs-77", token, *hashes]:
        assert secret not in lines


def test_the_command_line_leaves_its_line_too(db):
    call_command("provider", "set", "revid", "--key", KEY, "--rate", "20/10")
    call_command("provider", "set", "revid", "--off")
    made, changed = Act.objects.order_by("pk")
    assert (made.actor, made.actor_label, made.verb) == (None, "command line", "set up the provider")
    assert (changed.verb, changed.about, changed.note) == ("changed the provider", "Revid", "switched off (was: on)")


def test_whoever_loses_a_role_loses_their_open_links_and_that_is_said(post, cast, north):
    post("ana", "/t/north/members/BEN/role/", {"role": "viewer"})
    assert Act.objects.get().note == "viewer. Was: admin. Open invitations taken back: 1"


# --- The page ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def admin(client_for, sam):
    return client_for(sam)


def text(answer) -> str:
    return answer.content.decode()


def shown(answer) -> list[str]:
    return re.findall(r"<b>([^<]*)</b></td>", text(answer))


def test_the_newest_stands_first_and_older_ones_follow(admin, sam, north):
    for number in range(120):
        Act.objects.record(sam, "granted", team=north, about=f"n{number}")
    page = admin.get("/console/acts/?who=sam")
    assert shown(page) == [f"n{number}" for number in range(119, 69, -1)]
    address = re.search(r'rel="next" href="(\?[^"]+)"', text(page)).group(1).replace("&amp;", "&")
    assert "who=sam" in address
    assert shown(admin.get(f"/console/acts/{address}")) == [f"n{number}" for number in range(69, 19, -1)]


def test_acts_are_found_by_team_person_and_deed(admin, cast, north, south):
    Act.objects.record(cast["sam"], "granted", team=north, about="a")
    Act.objects.record(cast["ben"], "removed", team=north, about="Cleo")
    Act.objects.record(None, "changed the price of", about="c")
    Act.objects.record(cast["sam"], "granted", team=south, about="d")
    assert shown(admin.get("/console/acts/?team=north")) == ["Cleo", "a"]
    assert shown(admin.get("/console/acts/?who=BEN")) == ["Cleo"]
    assert shown(admin.get("/console/acts/?who=cleo")) == ["Cleo"]
    assert shown(admin.get("/console/acts/?what=price")) == ["c"]
    assert shown(admin.get("/console/acts/?team=south&what=grant&who=sam")) == ["d"]
    assert "Nothing of this kind" in text(admin.get("/console/acts/?who=nobody"))


def test_before_the_first_act_the_page_says_what_will_stand_here(admin):
    assert "Nothing yet" in text(admin.get("/console/acts/"))


@pytest.mark.parametrize("before", ["x", "-1", "0", "٣", "9" * 5000, "%00", "1,2", ""])
def test_a_page_mark_that_is_none_shows_the_newest(admin, sam, before):
    Act.objects.record(sam, "granted", about="a")
    assert shown(admin.get(f"/console/acts/?before={before}")) == ["a"]


@pytest.mark.parametrize(
    ("query", "field"), [("team=nowhere", "team"), ("who=%00", "who"), (f"what={'x' * 41}", "what")]
)
def test_a_filter_that_makes_no_sense_is_said_at_the_field(admin, query, field):
    answer = admin.get(f"/console/acts/?{query}")
    assert answer.status_code == 422
    assert f'id="id_{field}_error"' in text(answer)


def test_more_acts_ask_no_more_queries(admin, sam):
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            admin.get("/console/acts/")
        return len(queries)

    Act.objects.record(sam, "granted", team=factories.make_team(), about="a")
    few = asked()
    for _ in range(30):
        Act.objects.record(sam, "granted", team=factories.make_team(), about="a")
    assert asked() == few


def test_a_word_is_looked_for_page_by_page_and_the_page_says_how_far(admin, sam, monkeypatch):
    monkeypatch.setattr(acts, "LOOKED_THROUGH", 4)
    for about in ("needle", *(f"hay {number}" for number in range(6))):
        Act.objects.record(sam, "granted", about=about)
    page = text(admin.get("/console/acts/?who=needle"))
    assert "Nothing of this kind back to" in page
    further = re.search(r'rel="next" href="([^"]+)"', page)[1].replace("&amp;", "&")
    assert shown(admin.get(f"/console/acts/{further}")) == ["needle"]
    page = admin.get("/console/acts/?who=hay")
    assert shown(page) == ["hay 5", "hay 4", "hay 3", "hay 2"]
    assert "Looked through back to" in text(page)
    assert "Looked through" not in text(admin.get("/console/acts/"))


def test_a_name_is_shown_as_it_is_and_runs_nothing(admin, sam):
    Act.objects.record(sam, "removed", about="<script>alert(1)</script>", note="<b>x</b>")
    assert "<script>alert" not in text(admin.get("/console/acts/"))


# --- At once -------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["grant", "revoke", "adjust", "refund"])
def test_32_posts_of_one_form_write_one_entry_and_one_act(north, sam, cleo, kind):
    task = factories.make_task(north, user=cleo, state="done", price=40)
    data = {"kind": kind, "amount": "+5" if kind == "adjust" else "5", "reason": "r", "key": "k", "task": str(task.pk)}

    def post():
        form = GrantForm(data)
        return form.is_valid() and form.save(north, sam)

    entries = at_once([post] * 32)
    assert (
        len({entry.pk for entry in entries})
        == Entry.objects.filter(kind=kind, amount=5, key__endswith="k").count()
        == 1
    )
    assert Act.objects.count() == 1
    assert audit.ledger() == []


@pytest.mark.django_db(transaction=True)
def test_rules_changed_by_many_at_once_are_one_admins(north, sam):
    """Each saw the same rules: one of them changes them, the others are told."""
    seen = RulesForm(budget=north.budget).initial["seen"]

    def post(allowance: int):
        form = RulesForm(RULES | {"allowance": str(allowance), "seen": seen}, budget=north.budget)
        return form.is_valid() and form.save(north, sam)

    saved = at_once([partial(post, allowance) for allowance in range(1, 17)])
    assert saved.count(True) == 1
    assert Act.objects.count() == 1
