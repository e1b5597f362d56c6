"""Who may open and do what where credits are: nine people against every address of these pages.

`found`: they may (what they send is a form's business), `refused`: 403 in words, `nothing`: 404 as if it were not there,
`signs in`: to the sign-in page.
"""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.urls import URLResolver, get_resolver, resolve
from django.utils import timezone

from flux2web.models import Callback, CreditRequest, Export, Membership, Notice, Role
from flux2web.models.base import new_token

from . import factories

pytestmark = pytest.mark.django_db
# In this order: nobody, another team's owner, one put out of the team, the viewer, two members, admin, owner, site admin.
PEOPLE = ("nobody", "zoe", "finn", "eve", "cleo", "dan", "ben", "ana", "sam")
FOUND, REFUSED, NOTHING, SIGNS_IN = "found", "refused", "nothing", "signs in"


def roles(eve: str, cleo: str, dan: str, ben: str, ana: str, *, sam: str = NOTHING) -> dict[str, str]:
    """A team's page: to those outside of it, site admins too, it does not exist."""
    answers = (SIGNS_IN, NOTHING, NOTHING, eve, cleo, dan, ben, ana, sam)
    return dict(zip(PEOPLE, answers, strict=True))


VIEWERS = roles(FOUND, FOUND, FOUND, FOUND, FOUND)
MAKERS = roles(REFUSED, FOUND, FOUND, FOUND, FOUND)
ADMINS = roles(REFUSED, REFUSED, REFUSED, FOUND, FOUND)
CLEOS = roles(NOTHING, FOUND, NOTHING, NOTHING, NOTHING)
BENS = roles(NOTHING, NOTHING, NOTHING, FOUND, NOTHING)
SITE = dict.fromkeys(PEOPLE, NOTHING) | {"nobody": SIGNS_IN, "sam": FOUND}
ANYONE = dict.fromkeys(PEOPLE, FOUND) | {"nobody": SIGNS_IN}
ONLY_CLEO = dict.fromkeys(PEOPLE, NOTHING) | {"nobody": SIGNS_IN, "cleo": FOUND}

ADDRESSES = [
    ("get", "/t/north/usage/", VIEWERS),
    ("post", "/t/north/usage/limit/", MAKERS),
    ("get", "/t/north/costs/", VIEWERS),
    ("post", "/t/north/ask/", MAKERS),
    ("get", "/t/north/balance/", VIEWERS),
    ("get", "/t/north/requests/", ADMINS),
    ("post", "/t/north/requests/ASKED/decide/", ADMINS),
    ("post", "/t/north/requests/SOUTHERN/decide/", roles(REFUSED, REFUSED, REFUSED, NOTHING, NOTHING)),
    ("post", "/t/north/requests/MISSING/decide/", roles(REFUSED, REFUSED, REFUSED, NOTHING, NOTHING)),
    ("post", "/t/north/requests/ASKED/withdraw/", CLEOS),
    ("post", "/t/north/requests/SOUTHERN/withdraw/", dict.fromkeys(PEOPLE, NOTHING) | {"nobody": SIGNS_IN}),
    ("get", "/t/north/budget/", ADMINS),
    ("get", "/t/north/budget/ledger.csv", ADMINS),
    ("post", "/t/north/budget/ledger.csv", ADMINS),
    ("post", "/t/north/budget/caps/", ADMINS),
    ("post", "/t/north/budget/confirm/", ADMINS),
    ("post", "/t/north/budget/kinds/", ADMINS),
    ("get", "/t/north/exports/", VIEWERS),
    ("get", "/t/north/exports/BENS_FILE/", BENS),
    ("get", "/t/south/exports/BENS_FILE/", dict.fromkeys(PEOPLE, NOTHING) | {"nobody": SIGNS_IN}),
    ("get", "/t/north/exports/EVES_FILE/", dict.fromkeys(PEOPLE, NOTHING) | {"nobody": SIGNS_IN}),
    ("get", "/t/north/members/", VIEWERS),
    ("post", "/t/north/members/CLEO/role/", ADMINS),
    ("post", "/t/north/members/CLEO/cap/", ADMINS),
    ("post", "/t/north/members/ZOE/cap/", roles(REFUSED, REFUSED, REFUSED, NOTHING, NOTHING)),
    ("post", "/t/north/members/ZOE/role/", roles(REFUSED, REFUSED, REFUSED, NOTHING, NOTHING)),
    ("post", "/t/north/members/ZOE/remove/", roles(REFUSED, REFUSED, REFUSED, NOTHING, NOTHING)),
    ("post", "/t/north/members/caps/", ADMINS),
    ("post", "/t/north/members/invite/", ADMINS),
    ("post", "/t/north/members/invites/INVITE/revoke/", ADMINS),
    ("get", "/console/", SITE),
    ("post", "/console/teams/", SITE),
    ("get", "/console/teams/north/", SITE),
    ("post", "/console/teams/north/", SITE),
    ("post", "/console/teams/north/grant/", SITE),
    ("post", "/console/teams/north/rules/", SITE),
    ("get", "/console/requests/", SITE),
    ("post", "/console/requests/SHORT/", SITE),
    ("post", "/console/requests/ASKED/", dict.fromkeys(PEOPLE, NOTHING) | {"nobody": SIGNS_IN}),  # a team's business
    ("get", "/console/spend/", SITE),
    ("get", "/console/spend/spend.csv", SITE),
    ("get", "/console/acts/", SITE),
    ("get", "/console/providers/", SITE),
    ("get", "/console/providers/revid/", SITE),
    ("get", "/console/providers/vtrix/sandbox/", SITE),
    ("post", "/console/providers/rule/", SITE),
    ("post", "/console/providers/accounts/ACCOUNT/pause/", SITE),
    ("post", "/console/providers/accounts/ACCOUNT/resume/", SITE),
    ("get", "/console/providers/accounts/SANDBOXED/balance/", SITE),
    ("get", "/console/callbacks/", SITE),
    ("post", "/console/callbacks/RUNG/look/", SITE),
    ("get", "/t/north/batches/", VIEWERS),
    ("post", "/t/north/batches/BATCH/retry/", MAKERS),
    ("post", "/t/north/batches/BATCH/cancel/", roles(REFUSED, FOUND, REFUSED, FOUND, FOUND)),
    ("post", "/t/north/batches/SOUTHERN/cancel/", roles(REFUSED, NOTHING, NOTHING, NOTHING, NOTHING)),
    ("get", "/console/prices/", SITE),
    ("post", "/console/prices/", SITE),
    ("post", "/console/prices/simulate/", SITE),
    ("get", "/console/statements/", SITE),
    ("post", "/console/statements/check/", SITE),
    ("get", "/notices/", ANYONE),
    ("get", "/notices/strip/", ANYONE),
    ("post", "/notices/dismiss/", ANYONE),
    ("post", "/notices/NOTICE/dismiss/", ONLY_CLEO),
]


@pytest.fixture
def site(client_for, cast, north, south):
    """site("ben", "get", address): what ben gets; this test's rows are named in capitals."""
    account = factories.make_account("revid", enabled=False)
    sandboxed = factories.make_account("vtrix", sandbox=True, base_url="http://127.0.0.1:9")
    task = factories.make_task(north, user=cast["cleo"], account=account, state="running", secret="s")
    cast["finn"] = factories.make_user(name="Finn")
    factories.make_member(north, cast["finn"], role=Role.ADMIN).delete()
    invite, _ = factories.make_invite(north, invited_by=cast["ben"])
    ids = {row.user.name.upper(): row.pk for row in Membership.objects.select_related("user")}
    asked = {"ASKED": (north, "cleo", "member"), "SHORT": (north, "dan", "team"), "SOUTHERN": (south, "zoe", "member")}
    for word, (team, who, limit) in asked.items():
        ids[word] = CreditRequest.objects.create(team=team, user=cast[who], key=word, limit=limit, amount=9).pk
    for word, who in (("BENS_FILE", "ben"), ("EVES_FILE", "eve")):
        ids[word] = _file(north, cast[who]).pk
    ids["NOTICE"] = Notice.objects.create(user=cast["cleo"], key="n", text="Look").pk
    ids |= {"INVITE": invite.pk, "MISSING": 10**9, "ACCOUNT": account.pk, "SANDBOXED": sandboxed.pk}
    rung = Callback.objects.create(attempt=task.attempts.get(), provider="revid", method="POST", body=b"{}")
    ids |= {"RUNG": rung.pk, "BATCH": task.batch_id}

    def ask(who: str, verb: str, address: str, **given):
        client = client_for(None if who == "nobody" else cast[who])
        return getattr(client, verb)(fill(address), **given)

    def fill(address: str) -> str:
        return re.sub("|".join(sorted(ids, key=len, reverse=True)), lambda found: str(ids[found[0]]), address)

    ask.fill = fill
    return ask


def _file(team, user) -> Export:
    key = default_storage.save(f"exports/{new_token()}.csv", ContentFile(b"a,b\n"))
    ends = {"due_at": None, "expires_at": timezone.now() + timedelta(days=1)}
    row = {
        "user": user,
        "team": team,
        "kind": "ledger",
        "name": "ledger.csv",
        "key": key,
        "state": "done",
        "size_bytes": 4,
    }
    return Export.objects.create(**row, **ends)


def said(answer) -> str:
    if answer.status_code == 302 and answer["Location"].startswith("/accounts/login/"):
        return SIGNS_IN
    return {403: REFUSED, 404: NOTHING}.get(answer.status_code, FOUND)


@pytest.mark.parametrize(("verb", "address", "allowed"), ADDRESSES, ids=[" ".join(row[:2]) for row in ADDRESSES])
def test_everyone_gets_what_is_theirs_and_no_more(site, client_for, verb, address, allowed):
    """What is not there for somebody looks like what was never there."""
    answers = {who: site(who, verb, address) for who in PEOPLE}
    assert {who: said(answer) for who, answer in answers.items()} == allowed
    nowhere = client_for(None).get("/i/nowhere.png").content
    assert {answer.content for answer in answers.values() if said(answer) == NOTHING} <= {nowhere}


def test_no_address_is_forgotten_above(site):
    views = {"providers", "callbacks", "batches", "costs"} | {
        "usage",
        "requests",
        "budget",
        "console",
        "spending",
        "acts",
        "prices",
        "statements",
        "notices",
        "exports",
    }
    every = {
        pattern.name
        for pattern in _addresses(get_resolver().url_patterns)
        if pattern.callback.__module__.rpartition(".")[2] in {*views, "teams"}
    }
    assert every - {"accept-invite"} == {resolve(site.fill(address)).url_name for _, address, _ in ADDRESSES}


def _addresses(patterns):
    for pattern in patterns:
        yield from _addresses(pattern.url_patterns) if isinstance(pattern, URLResolver) else [pattern]
