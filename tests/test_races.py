"""Storms: many at once at the same credits and the same task. Exactly one outcome, on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, connections
from django.utils import timezone

from flux2web import audit, caps, ledger, lifecycle, promptbook, requests, teams
from flux2web.models import Batch, Budget, Entry, Membership, Period, Result, Role, SavedPrompt, State, Task, Usage
from flux2web.orders import Refusal

from . import factories
from .peer import serving
from .road import look, press, sums, task_of, walk
from .site import ROOT

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(jobs, *, threads: int = 48):
    """Run all jobs from a common start, many at a time, each thread with its own connection."""
    start = threading.Barrier(min(threads, len(jobs)))
    ready = threading.local()

    def run(job):
        if not getattr(ready, "now", False):
            ready.now = True
            start.wait(30)
        return job()

    def tidy(_):
        connections.close_all()

    with ThreadPoolExecutor(min(threads, len(jobs))) as pool:
        answers = list(pool.map(run, jobs))
        finish = threading.Barrier(min(threads, len(jobs)))
        list(pool.map(lambda _: (finish.wait(30), tidy(_)), range(min(threads, len(jobs)))))
    return answers


@pytest.fixture
def peer(settings):
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    settings.RING_BURST_S = (0,) * 50
    with serving() as peer:
        yield peer


@pytest.fixture
def member(peer, cleo, north, membership):
    factories.make_account("revid", base_url=peer.url, rate_count=100_000)
    yield membership(cleo, north)
    assert audit.ledger() == []


def test_200_submits_at_once_against_a_budget_for_50_give_exactly_50(member, north):
    factories.book(north, "revoke", 500, granted=-500)
    answers = at_once([lambda: press(member)] * 200)
    assert Counter(type(answer) for answer in answers) == {Batch: 50, Refusal: 150}
    assert {answer.kind for answer in answers if isinstance(answer, Refusal)} == {"budget"}
    assert sums(north) == (500, 500, 0)
    assert Task.objects.count() == Entry.objects.filter(kind="hold").count() == 50


def test_200_submits_at_once_against_a_cap_for_20_give_exactly_20(member, north):
    Membership.objects.filter(pk=member.pk).update(cap=200)
    answers = at_once([lambda: press(member)] * 200)
    assert Counter(type(answer) for answer in answers) == {Batch: 20, Refusal: 180}
    assert {answer.kind for answer in answers if isinstance(answer, Refusal)} == {"cap"}
    assert sums(north) == (1000, 200, 0)
    assert Usage.objects.get().held == 200


def test_many_clocks_and_members_at_a_months_end_renew_it_once(member, north):
    """The period ended a moment ago; whoever comes first opens the next, with its allowance and without the old credits."""
    Budget.objects.filter(team=north).update(allowance=100, rolls_over=False)
    factories.book(north, "revoke", 1000, granted=-1000)
    ledger.grant(north, 300, actor=None, reason="until the end", key="g", expires=True)
    Period.objects.update(starts_at=timezone.now() - timedelta(days=31), ends_at=timezone.now())
    answers = at_once([lambda: ledger.renew_due(timezone.now()), lambda: press(member)] * 40)
    assert Counter(type(answer) for answer in answers if not isinstance(answer, int)) == {Batch: 10, Refusal: 30}
    assert Counter(Entry.objects.values_list("kind", flat=True)) == {"grant": 3, "revoke": 2, "hold": 10}
    assert sums(north) == (100, 100, 0)


def test_holds_of_the_last_month_that_come_back_at_once_bring_no_expired_credit(member, north, cleo):
    factories.book(north, "revoke", 1000, granted=-1000)
    ledger.grant(north, 300, actor=None, reason="until the end", key="g", expires=True)
    tasks = [task_of(press(member)) for _ in range(30)]
    Period.objects.update(starts_at=timezone.now() - timedelta(days=31), ends_at=timezone.now())
    at_once([partial(lifecycle.cancel, task, cleo) for task in tasks] + [lambda: ledger.renew_due(timezone.now())] * 10)
    assert sums(north) == (0, 0, 0)
    assert Period.objects.order_by("starts_at").first().expired == 300


def test_64_presses_of_one_form_are_one(member, north):
    answers = at_once([lambda: press(member, key="one")] * 64)
    assert len(set(answers)) == 1
    assert sums(north) == (1000, 10, 0)


def test_a_failed_picture_retried_alone_and_with_its_batch_at_once_is_retried_once(
    member, north, cleo, dan, membership
):
    others = membership(dan, north)
    for _ in range(8):
        batch = factories.make_batch(north, cleo)
        failed = [factories.make_task(north, user=cleo, state="failed", batch=batch) for _ in range(3)]
        alone = [
            partial(lifecycle.retry, who, task, version_seen=task.version)
            for task in failed
            for who in (member, others)
        ]
        together = [partial(lifecycle.retry_failed, who, batch, price_seen=None) for who in (member, others)]
        answers = at_once([*together, *alone])
        assert {type(answer) for answer in answers} == {Batch, Refusal}
        assert all(task.children.count() <= 1 for task in failed)
        assert any(task.children.exists() for task in failed)
    assert sums(north)[1] == 10 * Task.objects.exclude(parent=None).count()


def test_roles_caps_and_requests_changed_at_once_wait_for_each_other_and_end(member, north, ana, membership):
    owner, cap = Membership.objects.get(team=north, user=ana), caps.Cap()

    def ask(number):
        what = {"limit": "cap", "amount": 10, "reason": "", "draft": None, "price_seen": None, "sends_itself": False}
        return requests.ask(member, key=f"r{number}", **what)

    for _ in range(4):
        jobs = [partial(teams.change_member, member, owner, role) for role in (Role.ADMIN, Role.MEMBER) * 6]
        jobs += [partial(caps.set_cap, member, caps.Cap(to), was=cap, by=ana) for to in range(100, 112)]
        jobs += [partial(ask, number) for number in range(12)]
        at_once(jobs, threads=12)
        cap = caps.Cap.of(Membership.objects.get(pk=member.pk))


def test_64_posts_of_one_grant_are_one(north, ana):
    give = lambda: ledger.grant(north, 100, actor=ana, reason="more", key="one")  # noqa: E731
    assert len({answer.pk for answer in at_once([give] * 64)}) == 1
    assert sums(north)[0] == 1100


def test_grants_revokes_and_submits_at_once_add_up(member, north, ana):
    def grant(n):
        return lambda: ledger.grant(north, 10, actor=ana, reason="more", key=f"g{n}")

    def revoke(n):
        return lambda: ledger.revoke(north, 10, actor=ana, reason="less", key=f"r{n}")

    at_once([job(n) for n in range(40) for job in (grant, revoke)] + [lambda: press(member)] * 60)
    granted = sum(
        (1 if e.kind == "grant" else -1) * e.amount for e in Entry.objects.filter(kind__in=["grant", "revoke"])
    )
    holds = Entry.objects.filter(kind="hold").count() * 10
    assert sums(north) == (granted, holds, 0)


def test_300_finished_tasks_raced_by_checks_and_callbacks_have_300_outcomes(member, north, peer, monkeypatch):
    factories.book(north, "grant", 5000, granted=5000)
    secrets = []
    monkeypatch.setattr(lifecycle.sending, "new_token", lambda: secrets.append(f"s{len(secrets)}") or secrets[-1])
    tasks = [look(task_of(press(member))) for _ in range(300)]
    for number, task in enumerate(tasks):
        peer.jobs[task.upstream_id] = "fail" if number % 3 == 0 else "success"
    Task.objects.update(due_at=timezone.now())

    def racers(task, secret):
        def ring():
            lifecycle.ring("revid", secret, "POST", peer.callback_body(task.upstream_id, "fail"))
            lifecycle.check(task.pk)

        return [lambda: lifecycle.check(task.pk), ring, lambda: lifecycle.check(task.pk), ring]

    at_once([racer for task, secret in zip(tasks, secrets, strict=True) for racer in racers(task, secret)], threads=32)
    Task.objects.filter(state=State.SAVING).update(due_at=timezone.now())
    saving = list(Task.objects.filter(state=State.SAVING).values_list("pk", flat=True))
    assert len(saving) == 200
    at_once([lambda pk=pk: lifecycle.save(pk) for pk in saving for _ in range(2)], threads=16)

    outcomes = Counter(Entry.objects.filter(kind__in=["settle", "release"]).values_list("kind", flat=True))
    assert outcomes == {"settle": 200, "release": 100}
    assert Result.objects.count() == 200
    assert sums(north) == (6000, 0, 2000)


def test_refunds_at_once_never_give_back_more_than_was_charged(member, north, peer, ana):
    peer.default_state = "success"
    task = walk(task_of(press(member)))
    at_once([partial(lifecycle.refund, task, 3, actor=ana, reason="blurred", key=f"r{n}") for n in range(40)])
    assert Entry.objects.filter(kind="refund").count() == 3
    assert sums(north) == (1000, 0, 1)


def test_one_waiting_task_claimed_by_many_is_sent_once(member, peer):
    task = task_of(press(member))
    at_once([lambda: lifecycle.submit(task.pk)] * 32)
    assert len(peer.creates) == 1


def test_cancel_races_submit_and_one_wins(member, north, peer, cleo):
    for _ in range(15):
        task = task_of(press(member))
        at_once([partial(lifecycle.submit, task.pk), partial(lifecycle.cancel, task, cleo)] * 4)
        task.refresh_from_db()
        assert task.state in (State.RUNNING, State.CANCELLED)
        assert (task.entries.filter(kind="release").count() == 1) == (task.state == State.CANCELLED)


def test_a_throttle_is_exact_under_many(member, peer):
    account = factories.any_account("revid")
    account.rate_count, account.rate_s = 5, 3600
    account.save()
    taken = at_once([lambda: account.__class__.objects.get(pk=account.pk).take_call()] * 40)
    assert taken.count(None) == 5


def test_a_ceiling_is_exact_under_many(member, peer):
    account = factories.any_account("revid")
    account.concurrent = 3
    account.save()
    tasks = [task_of(press(member)) for _ in range(20)]
    at_once([lambda pk=task.pk: lifecycle.submit(pk) for task in tasks])
    assert Task.objects.in_flight().count() == len(peer.creates) == 3


# --- Across processes --------------------------------------------------------------------------------------------------


def together(*words: list[object]) -> list[str]:
    """Processes on this database, from a common start, each with its own words (racer.py): what all of them said."""
    command = [sys.executable, "-m", "tests.racer", str(connection.settings_dict["NAME"])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    racers = [subprocess.Popen([*command, *map(str, own)], **pipes) for own in words]
    try:
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        said = [line for racer in racers for line in racer.communicate(timeout=60)[0].splitlines()]
    finally:
        for racer in racers:
            racer.kill()
    assert [racer.returncode for racer in racers] == [0] * len(racers)
    return said


@pytest.mark.parametrize(("count", "rate_s"), [(10, 2.0), (7, 1.0)])
def test_a_throttle_is_exact_across_processes_in_any_window_and_used_up(member, count, rate_s):
    account, windows = factories.any_account("revid"), round(8 / rate_s)
    type(account).objects.filter(pk=account.pk).update(rate_count=count, rate_s=rate_s)
    taken = sorted(map(float, together(*[["take", account.pk, windows * rate_s]] * 3)))
    apart = [last - first for first, last in zip(taken, taken[count:], strict=False)]
    assert min(apart) >= rate_s - 1e-6, "one more than the allowance in one window"
    assert len(taken) >= 0.95 * windows * count


def test_a_ceiling_is_exact_across_processes(member, peer):
    account = factories.any_account("revid")
    type(account).objects.filter(pk=account.pk).update(concurrent=3)
    tasks = [task_of(press(member)).pk for _ in range(24)]
    together(*[["submit", account.pk, *tasks[start::3]] for start in range(3)])
    assert Task.objects.in_flight().count() == len(peer.creates) == 3


class TestShelf:
    """A prompt goes off the shelf while somebody sends what was written from it: sent it is, and off it is."""

    @pytest.fixture
    def row(self, member):
        return promptbook.save(member, title="Heron", text="A heron", settings={}, references=[])

    def interrupted(self, before: str, meanwhile, job):
        """`job`, during which `meanwhile` gets a second of its own right before the statement that begins so."""
        others = []

        def pause(execute, sql, *rest):
            if sql.startswith(before) and not others:
                others.append(threading.Thread(target=lambda: (meanwhile(), connections.close_all())))
                others[0].start()
                others[0].join(1)
            return execute(sql, *rest)

        with connection.execute_wrapper(pause):
            outcome = job()
        others[0].join(30)
        return outcome

    def test_sent_while_it_is_deleted(self, member, row):
        sent = []
        self.interrupted(
            'DELETE FROM "flux2web_savedprompt"',
            lambda: sent.append(press(member, saved=row.pk)),
            lambda: promptbook.delete(member, row),
        )
        assert not SavedPrompt.objects.exists()
        assert isinstance(sent[0], Batch)
        assert Batch.objects.get().saved_prompt is None

    def test_deleted_while_it_is_sent(self, member, row):
        outcome = self.interrupted(
            'INSERT INTO "flux2web_task"',
            lambda: promptbook.delete(member, row),
            lambda: press(member, saved=row.pk),
        )
        assert isinstance(outcome, Batch)
        assert not SavedPrompt.objects.exists()
        assert Batch.objects.get().saved_prompt is None
