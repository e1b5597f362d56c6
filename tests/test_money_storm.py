"""Everything that moves credits, at once, on one team: nobody waits for each other for ever, and every sum is right."""

from __future__ import annotations

import random
from functools import partial

import pytest
from django.utils import timezone

from flux2web import alerts, audit, caps, ledger, lifecycle, notices, pricing, requests
from flux2web.caps import Cap
from flux2web.forms_console import GrantForm
from flux2web.models import Budget, CreditRequest, Membership, Notice, Period, State, Task, User, write
from flux2web.orders import Refusal
from flux2web.pricing import Line, Place, Terms

from . import factories
from .road import press
from .test_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS, TASKS = 3, 12
STORIES = ("I6", "I7", "I18", "I20")  # of pictures: here they end without any


def finish(task: Task) -> None:
    """As a look that found it stored, or failed, does."""
    with write():
        if Task.objects.filter(pk=task.pk, state=State.QUEUED).update(**ENDED, state=State.FAILED):
            ledger.release(task, "the provider failed")


ENDED = {"due_at": None, "finished_at": timezone.now()}


def charge(task: Task) -> None:
    with write():
        ends = {**ENDED, "charged_credits": 7}
        if Task.objects.filter(pk=task.pk, state=State.QUEUED).update(**ends, state=State.DONE):
            ledger.settle(task, 7)


def enter(team, by: User, key: str, **given) -> None:
    form = GrantForm({"kind": "grant", "amount": "20", "reason": "a storm", "key": key} | given)
    assert form.is_valid(), form.errors
    form.save(team, by)


def answer(request: CreditRequest, by: User, *, lasts: bool | None) -> None:
    if lasts is None:
        requests.decline(request, by=by, note="")
    else:
        requests.approve(request, by=by, amount=request.amount, lasts=lasts, note="")


def ask(member: Membership, key: str, limit: str) -> CreditRequest | Refusal:
    wish = {"amount": 10, "reason": "", "draft": None, "price_seen": None, "sends_itself": False}
    return requests.ask(member, limit=limit, key=key, **wish)


def price(by: User, credits: int) -> None:
    with write():
        pricing.one_at_a_time()
        place = Place("revid", "flex", "1K")
        pricing.change(Line(place), Terms(credits), actor=by, valid_from=None)


def rules(team, by: User, day: int) -> None:
    given = {"start_day": day, "time_zone": "Europe/Berlin", "allowance": 50, "rolls_over": False}
    ledger.set_rules(team, actor=by, now=timezone.now(), **given)


@pytest.mark.slow
def test_whatever_moves_credits_at_once_ends_and_adds_up(cast, north, membership):
    factories.make_account("revid")
    chance, ana, ben, sam = random.Random(7), cast["ana"], cast["ben"], cast["sam"]
    members = [membership(cast[name], north) for name in ("cleo", "dan", "ben")]
    Budget.objects.filter(team=north).update(allowance=100, rolls_over=False, member_cap=200)
    for number in range(ROUNDS):
        tasks = [press(members[n % 3]).tasks.get() for n in range(TASKS)]
        done = [factories.make_task(north, user=cast["cleo"], state="done", price=5) for _ in range(4)]
        asked = [ask(who, f"{number}-{limit}", limit) for who in members for limit in ("cap", "team")]
        Period.objects.filter(pk=Budget.objects.get(team=north).period_id).update(ends_at=timezone.now())
        ids = {who.pk for who in members}
        jobs = [
            *(partial(lifecycle.cancel, task, cast["cleo"]) for task in tasks),
            *(partial(finish, task) for task in tasks),
            *(partial(charge, task) for task in tasks),
            *(partial(press, who) for who in members for _ in range(6)),
            *(partial(enter, north, sam, f"g{number}-{n}", expires="on" if n % 2 else "") for n in range(6)),
            *(partial(enter, north, sam, f"r{number}-{n}", kind="revoke") for n in range(4)),
            *(partial(enter, north, sam, f"a{number}-{n}", kind="adjust", amount="-5") for n in range(4)),
            *(
                partial(enter, north, sam, f"f{number}-{n}-{task.pk}", kind="refund", amount="2", task=str(task.pk))
                for task in done
                for n in range(3)
            ),
            *(
                partial(answer, CreditRequest.objects.get(pk=row.pk), sam if row.limit == "team" else by, lasts=lasts)
                for row in asked
                if isinstance(row, CreditRequest)
                for by in (ana, ben)
                for lasts in (True, False, None)
            ),
            *(partial(ledger.renew_due, timezone.now()) for _ in range(6)),
            *(partial(caps.set_caps, north, ids, Cap(150 + n), by=ben) for n in range(3)),
            *(partial(caps.set_cap, who, Cap(None), was=Cap(150), by=ana) for who in members),
            *(partial(caps.set_rule, north, caps.MEMBER_CAP, 210 + number, was=200, by=ana) for _ in range(2)),
            *(partial(price, sam, 20 + n) for n in range(4)),
            *(partial(rules, north, sam, 1 + n) for n in range(3)),
            *(partial(alerts.sweep, timezone.now()) for _ in range(4)),
            *(partial(notices.put_away, Notice.objects.filter(user=by)) for by in (ana, ben, sam)),
        ]
        chance.shuffle(jobs)
        at_once(jobs, threads=16)
        assert [found for found in audit.ledger() if found.invariant not in STORIES] == []
        assert_months_follow_each_other(north)
    assert not CreditRequest.objects.filter(state="open").exists()


def assert_months_follow_each_other(team) -> None:
    months = list(Period.objects.filter(team=team).order_by("starts_at"))
    assert [one.ends_at for one in months[:-1]] == [one.starts_at for one in months[1:]]
