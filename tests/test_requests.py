"""Asking for more: who hears of it, who may answer, that it is answered once, and that the draft is sent once."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone

from flux2web import alerts, audit, clock, collecting, ledger, notices, requests
from flux2web.models import (
    Act,
    Batch,
    Budget,
    CreditRequest,
    Entry,
    Membership,
    Notice,
    Period,
    Price,
    Reference,
    Role,
    SavedPrompt,
    Task,
    Team,
    Usage,
    write,
)
from flux2web.orders import Order

from . import factories
from .road import order, sums
from .test_races import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def revid(db):
    return factories.make_account("revid")


@pytest.fixture
def member(cleo, north, membership, revid):
    """Cleo, with a cap of 50 a period: pro 1K is 10 credits."""
    Membership.objects.filter(user=cleo).update(cap=50)
    return membership(cleo, north)


@pytest.fixture
def ask(member):
    """ask(amount=30) is cleo asking; ask(draft=order(count=8)) with what did not fit."""
    keys = iter(range(1000))

    def do(who: Membership | None = None, *, draft: Order | None = None, **given):
        price = draft.count * 10 if draft else None
        defaults = {"limit": "cap", "amount": 30, "reason": "", "key": f"k{next(keys)}", "sends_itself": bool(draft)}
        return requests.ask(who or member, draft=draft, **defaults | {"price_seen": price} | given)

    return do


def grant(request, by, **given):
    return requests.approve(request, by=by, **{"amount": request.amount, "lasts": False, "note": ""} | given)


def room(member: Membership) -> int:
    return ledger.left(Membership.objects.get(pk=member.pk)).least


def told(user) -> list[str]:
    return list(Notice.objects.filter(user=user).order_by("pk").values_list("text", flat=True))


def current(team: Team) -> Period:
    with write():
        return ledger.current(team, timezone.now())


def send(request) -> Batch | None:
    return requests.send_due(request.pk)


# --- Asking -----------------------------------------------------------------------------------------------------------


def test_asking_tells_the_teams_admins_and_nobody_else(ask, cast):
    request = ask(amount=30, reason="the harbour series")
    assert (request.state, request.limit, request.amount) == ("open", "member", 30)
    for admin in (cast["ana"], cast["ben"]):
        assert told(admin) == ["Cleo asks for 30 credits in North: the harbour series"]
        assert Notice.objects.get(user=admin).url == "/t/north/requests/"
        assert Notice.objects.get(user=admin).mail_due_at
    assert not any(told(cast[name]) for name in ("cleo", "dan", "eve", "zoe", "sam"))


def test_asking_for_the_team_tells_the_site_admins_too(ask, cast):
    assert ask(limit="team").limit == "team"
    assert Notice.objects.get(user=cast["sam"]).url == "/console/requests/"
    assert Notice.objects.get(user=cast["ben"]).url == "/t/north/requests/"


def test_who_decides_follows_from_the_limit(cast, north):
    names = {limit: [user.name for user in requests.deciders(north, cast["ben"], limit)] for limit in ("cap", "team")}
    assert names == {"cap": ["Ana"], "team": ["Sam"]}


def test_ones_own_limit_is_nobody_elses_business(ask, cast):
    refusal = ask(limit="own")
    assert refusal.kind == "own"
    assert not CreditRequest.objects.exists()
    assert not Notice.objects.exists()


def test_the_same_key_is_the_same_request(ask, ben):
    assert ask(key="one") == ask(key="one")
    assert len(told(ben)) == 1
    assert ask(key="one", amount=31).kind == "conflict"


def test_two_members_may_have_the_same_key(ask, dan, north, membership):
    assert ask(key="one") != ask(membership(dan, north), key="one")


def test_a_sixth_open_request_is_refused_until_one_is_answered(ask, ben):
    first = [ask() for _ in range(5)][0]
    assert "5 of your requests wait" in ask().message
    requests.decline(first, by=ben, note="")
    assert isinstance(ask(), CreditRequest)


def test_who_was_put_out_a_moment_ago_is_told_so(ask, member):
    Membership.objects.filter(pk=member.pk).delete()
    refusal = ask()
    assert (refusal.kind, CreditRequest.objects.count()) == ("role", 0)
    assert "not in North any more" in refusal.message


def test_a_lone_admin_asks_themselves(north, ana, membership, ask):
    ask(membership(ana, north))
    assert told(ana) == ["Ana asks for 30 credits in North"]


# --- Answering --------------------------------------------------------------------------------------------------------


def test_until_the_period_ends_it_is_extra_on_top_of_the_cap(ask, member, ben, cleo):
    request = grant(ask(amount=30), ben, note="for the series")
    assert (request.state, request.granted, request.lasts) == ("granted", 30, False)
    assert room(member) == 80
    assert Membership.objects.get(pk=member.pk).cap == 50
    assert told(cleo) == ["Ben granted you 30 credits until the period ends. for the series"]
    assert Act.objects.get().verb == "granted a request of"
    assert audit.ledger() == []


def test_it_ends_with_the_period(ask, member, ben, north):
    grant(ask(amount=30), ben)
    later = Budget.objects.get(team=north).period.ends_at + timedelta(seconds=1)
    with write():
        ledger.current(north, later)
    assert room(member) == 50


def test_for_good_it_raises_the_members_own_cap(ask, member, ben):
    assert grant(ask(amount=30), ben, lasts=True).period is None
    grant(ask(amount=20), ben, lasts=True)
    assert Membership.objects.get(pk=member.pk).cap == 100
    assert room(member) == 100
    assert audit.ledger() == []


def test_for_good_it_begins_from_the_cap_for_everyone(ask, north, dan, ben, membership):
    Budget.objects.filter(team=north).update(member_cap=200)
    grant(ask(membership(dan, north), amount=30), ben, lasts=True)
    assert membership(dan, north).cap == 230


def test_where_there_is_no_cap_any_more_there_is_none_to_raise(ask, member, ben, cleo):
    request = ask()
    Membership.objects.filter(user=cleo).update(cap=None)
    assert grant(request, ben, lasts=True).state == "granted"
    assert Membership.objects.get(user=cleo).cap is None


def test_a_cap_cannot_be_raised_beyond_what_it_can_hold(ask, ben, cleo):
    for _ in range(2):
        assert grant(ask(), ben, amount=10**12, lasts=True).state == "granted"
    assert Membership.objects.get(user=cleo).cap == 10**12


def test_another_amount_may_be_granted(ask, member, ben):
    grant(ask(amount=500), ben, amount=5)
    assert room(member) == 55


def test_a_request_about_the_team_is_a_site_admins(ask, north, ana, sam):
    request = ask(limit="team", amount=300, reason="launch")
    assert "a site admin decides" in grant(request, ana).message
    assert requests.decline(request, by=ana, note="").kind == "role"
    grant(request, sam)
    entry = Entry.objects.get(key=f"request:{request.pk}")
    assert (entry.amount, entry.reason, entry.period) == (
        300,
        "Asked for by Cleo: launch",
        north.budget.__class__.objects.get(team=north).period,
    )
    assert sums(north)[0] == 1300
    assert audit.ledger() == []


def test_for_good_the_team_keeps_it(ask, north, sam):
    request = grant(ask(limit="team", amount=300), sam, lasts=True)
    assert Entry.objects.get(key=f"request:{request.pk}").period is None


def test_declining_says_why_and_moves_nothing(ask, member, ben, cleo):
    request = requests.decline(ask(), by=ben, note="wait for December")
    assert request.state == "declined"
    assert room(member) == 50
    assert told(cleo) == ["Ben declined your request for 30 credits. wait for December"]
    assert Act.objects.get().verb == "declined a request of"


def test_an_answer_takes_the_question_off_the_other_admins_pages(ask, ana, ben):
    grant(ask(), ben)
    question = Notice.objects.get(user=ana)
    assert question.seen_at
    assert question.mail_due_at is None


def test_who_comes_second_is_told_who_was_first(ask, member, ana, ben):
    request = ask()
    grant(request, ana, amount=20)
    for late in (grant(request, ben), requests.decline(request, by=ben, note="")):
        assert late.kind == "conflict"
        assert "Ana granted 20 credits already" in late.message
    assert room(member) == 70


def test_the_same_answer_posted_twice_counts_once_and_is_no_conflict(ask, member, ben):
    request = ask()
    assert grant(request, ben) == grant(CreditRequest.objects.get(), ben)
    assert room(member) == 80


def test_withdrawn_is_withdrawn(ask, member, ben):
    request = ask()
    assert requests.withdraw(request, member).state == "withdrawn"
    assert "Cleo withdrew this already" in grant(request, ben).message


def test_too_late_to_withdraw_is_said(ask, member, ben):
    request = ask()
    grant(request, ben)
    assert "Ben granted 30 credits already" in requests.withdraw(request, member).message


def test_someone_who_left_cannot_be_granted_anything(ask, member, ben):
    request = ask()
    member.delete()
    assert "not in North any more" in grant(request, ben).message
    request.refresh_from_db()
    assert request.state == "open"
    assert requests.decline(request, by=ben, note="").state == "declined"


@pytest.mark.django_db(transaction=True)
def test_of_many_who_answer_at_once_exactly_one_decides(ask, member, north, ana, ben):
    for lasts in (False, True):
        before, request = room(member), ask(amount=30)
        copies = [CreditRequest.objects.get(pk=request.pk) for _ in range(16)]
        jobs = [
            partial(grant, copy, (ana, ben)[number % 2], amount=10 + number, lasts=lasts)
            if number  # one decline alone: the same answer of the same person again is one answer
            else partial(requests.decline, copy, by=ben, note="")
            for number, copy in enumerate(copies)
        ]
        answers = at_once(jobs, threads=16)
        assert sum(isinstance(answer, CreditRequest) for answer in answers) == 1
        request.refresh_from_db()
        assert room(member) - before == (request.granted or 0)
    assert audit.ledger() == []


@pytest.mark.django_db(transaction=True)
def test_two_grants_for_good_at_once_add_up_also_from_the_cap_for_everyone(ask, member, north, ana, ben):
    """Neither may find the other's raise half done: the cap of one's own begins with whoever comes first."""
    Budget.objects.filter(pk=north.pk).update(member_cap=50)
    for _ in range(8):
        Membership.objects.filter(pk=member.pk).update(cap=None)
        asked = [ask(amount=10) for _ in range(4)]
        jobs = [partial(grant, request, by, lasts=True) for request, by in zip(asked, (ana, ben) * 2, strict=True)]
        assert all(isinstance(answer, CreditRequest) for answer in at_once(jobs, threads=4))
        assert Membership.objects.get(pk=member.pk).cap == 90


@pytest.mark.django_db(transaction=True)
def test_a_grant_and_the_warning_that_it_makes_out_of_date_wait_for_nobody_twice(ask, member, ben, cleo, monkeypatch):
    """The sweep has the usage and wants the old notice; the grant must not have the notice and want the usage."""
    usage = Usage.objects.create(period=current(member.team), user=cleo, held=0, spent=0)
    notices.tell(cleo, key=f"used:{usage.pk}:80:50", text="80", team=member.team)
    Usage.objects.filter(pk=usage.pk).update(spent=50, warned_percent=80)
    request, met = ask(), threading.Barrier(2)

    def meet(wait):
        def met_first(*args, **given):
            with suppress(threading.BrokenBarrierError):
                met.wait(2)
            return wait(*args, **given)

        return met_first

    monkeypatch.setattr(alerts, "_tell_member", meet(alerts._tell_member))
    monkeypatch.setattr(ledger, "give_extra", meet(ledger.give_extra))
    answers = at_once([partial(alerts.sweep, timezone.now()), partial(grant, request, ben)])
    assert isinstance(answers[1], CreditRequest)
    assert not Notice.objects.filter(user=cleo, key__startswith="used:", key__contains=":80:", seen_at=None).exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_who_ask_at_once_five_are_heard(ask):
    answers = at_once([partial(ask, key=f"c{number}") for number in range(16)], threads=16)
    assert sum(isinstance(answer, CreditRequest) for answer in answers) == 5


# --- Sending what it was for ------------------------------------------------------------------------------------------


@pytest.fixture
def granted(ask, ben):
    """Eight pictures for 80, with 50 left and 30 more granted."""

    def do(**fields):
        return grant(ask(draft=order(count=8, **fields)), ben)

    return do


def test_a_granted_draft_is_sent_once(granted, member, north):
    request = granted()
    assert request.send_due_at
    batch = send(request)
    assert send(request) is None
    request.refresh_from_db()
    assert (request.batch, request.send_due_at, request.not_sent) == (batch, None, "")
    assert Task.objects.filter(batch=batch, user=member.user).count() == 8
    assert sums(north) == (1000, 80, 0)
    assert audit.ledger() == []


@pytest.mark.django_db(transaction=True)
def test_a_draft_is_sent_although_its_prompt_is_off_the_shelf_by_then(granted, member):
    row = SavedPrompt.objects.create(team=member.team, user=member.user, title="Birds", text="A heron")
    request = granted(saved=row.pk)
    row.delete()
    batch = send(request)
    request.refresh_from_db()
    assert (request.not_sent, request.batch) == ("", batch)
    assert batch.saved_prompt is None


@pytest.mark.django_db(transaction=True)
def test_a_draft_is_sent_although_its_collection_is_gone_by_then(granted, member):
    row = collecting.make(member, "Finals")
    request = granted(collection=row.pk)
    collecting.delete(member, row)
    batch = send(request)
    request.refresh_from_db()
    assert (request.not_sent, request.batch) == ("", batch)
    assert batch.collection is None


def test_nobody_is_asked_once_more_about_a_draft_that_was_granted(granted, north):
    Budget.objects.filter(team=north).update(confirm_above=5)
    request = granted()
    assert send(request).tasks.count() == 8
    assert sums(north) == (1000, 80, 0)


def test_what_is_not_to_send_itself_is_kept_and_not_sent(ask, ben):
    request = grant(ask(draft=order(count=8), sends_itself=False), ben)
    assert request.send_due_at is None
    assert send(request) is None


def test_the_clock_finds_a_draft_that_nobody_sent(granted, monkeypatch):
    request, sent = granted(), []
    monkeypatch.setattr(clock.actors, "kick_draft", sent.append)
    clock.Clock().tick()
    assert sent == [request.pk]


def test_killed_between_sending_and_writing_it_down_it_is_one_batch(granted, north, monkeypatch):
    request = granted()
    with monkeypatch.context() as patch:
        patch.setattr(requests, "_note_sent", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            send(request)
    assert send(request) is None  # whoever died may still be at it
    CreditRequest.objects.update(send_due_at=timezone.now())
    batch = send(request)
    assert Batch.objects.get() == batch == CreditRequest.objects.get().batch
    assert sums(north) == (1000, 80, 0)


@pytest.mark.django_db(transaction=True)
def test_sent_by_many_at_once_it_is_one_batch(granted, north):
    request = granted()
    answers = at_once([lambda: send(request)] * 16, threads=16)
    assert len([answer for answer in answers if answer]) == 1
    assert sums(north) == (1000, 80, 0)


def not_sent(request, cleo) -> str:
    assert send(request) is None
    request.refresh_from_db()
    assert (request.batch, request.send_due_at) == (None, None)
    notice = Notice.objects.get(user=cleo, key=f"request:{request.pk}:draft")
    assert notice.url == f"/t/north/?draft={request.pk}"
    assert request.not_sent in notice.text
    return request.not_sent


def test_a_price_that_rose_meanwhile_stops_it(granted, cleo, north):
    request = granted()
    Price.objects.filter(provider="revid").update(credits=12)
    assert "from 80 to 96 credits" in not_sent(request, cleo)
    assert sums(north) == (1000, 0, 0)


def test_what_is_still_short_stops_it(ask, ben, cleo):
    request = grant(ask(draft=order(count=8)), ben, amount=5)
    assert "needs 80 credits, you have 55 left of 55" in not_sent(request, cleo)


def test_a_reference_that_is_gone_stops_it(granted, north, cleo, settings):
    settings.PUBLIC_URL = "https://studio.example.com"
    reference = factories.make_reference(north)
    request = granted(references=(reference.pk,))
    Reference.objects.update(deleted_at=timezone.now())
    assert "Image 1 is not among this team's images any more" in not_sent(request, cleo)


def test_a_viewer_sends_nothing(granted, cleo):
    request = granted()
    Membership.objects.filter(user=cleo).update(role=Role.VIEWER)
    assert "no longer make pictures" in not_sent(request, cleo)


def test_who_left_sends_nothing(granted, cleo):
    request = granted()
    Membership.objects.filter(user=cleo).delete()
    assert "not in North any more" in not_sent(request, cleo)


@pytest.mark.parametrize(
    ("draft", "found"),
    [
        (None, None),
        ({"prompt": "abc"}, None),
        (
            {"prompt": "abc", "family": "pro", "aspect_ratio": "1:1", "resolution": "1K", "mood": "calm"},
            Order("abc", "pro", "1:1", "1K"),
        ),
        (
            {"prompt": "abc", "family": "pro", "aspect_ratio": "1:1", "resolution": "1K", "references": [3, 1]},
            Order("abc", "pro", "1:1", "1K", references=(3, 1)),
        ),
    ],
)
def test_drafts_of_other_releases_are_read_as_far_as_they_go(draft, found):
    assert requests.order_of(draft) == found
