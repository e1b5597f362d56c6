"""An account that should ring and does not: who is told, how often, and when it is over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from flux2web import alerts, health
from flux2web.models import Attempt, Notice, State, Task

from . import factories

HOUR = timedelta(hours=1)


@pytest.fixture
def revid(db):
    return factories.make_account("revid")


def finish(north, account, total: int = 5, *, ago: timedelta = timedelta(minutes=10), **fields) -> list[Task]:
    """Tasks that ended, and for which nobody rang."""
    tasks = [factories.make_task(north, state=State.DONE, account=account, price=1) for _ in range(total)]
    Task.objects.filter(pk__in=[task.pk for task in tasks]).update(finished_at=timezone.now() - ago)
    if fields:
        Attempt.objects.filter(task__in=tasks).update(**fields)
    return tasks


def silent() -> dict[int, int]:
    return health.silent(timezone.now())


def told() -> list[str]:
    return list(Notice.objects.filter(seen_at=None).order_by("pk").values_list("text", flat=True))


def test_five_tasks_without_a_ring_are_silence_and_four_are_none(north, revid):
    finish(north, revid, 4)
    assert silent() == {}
    finish(north, revid, 1)
    assert silent() == {revid.pk: 5}


def test_one_ring_among_them_is_enough(north, revid):
    task = finish(north, revid)[0]
    Attempt.objects.filter(task=task).update(rung_at=timezone.now() - 3 * HOUR)
    assert silent() == {}


def test_a_ring_for_what_still_runs_ends_it(north, revid):
    finish(north, revid)
    running = factories.make_task(north, state=State.RUNNING, account=revid, price=1)
    Attempt.objects.filter(task=running).update(rung_at=timezone.now())
    assert silent() == {}


@pytest.mark.parametrize("fields", [{"with_callback": False}, {"outcome": "refused"}])
def test_who_was_not_asked_to_ring_is_not_silent(north, revid, fields):
    finish(north, revid, **fields)
    assert silent() == {}


def test_what_ended_earlier_or_at_another_does_not_count(north, revid):
    finish(north, revid, ago=HOUR + timedelta(minutes=1))
    finish(north, factories.make_account("apixo"), 4)
    assert silent() == {}


def test_who_is_switched_off_is_nobodys_worry(north, revid):
    finish(north, revid)
    revid.enabled = False
    revid.save()
    assert silent() == {}


def test_the_site_admins_are_told_once_a_day(north, revid, sam, ana):
    finish(north, revid)
    assert (alerts.sweep_accounts(), alerts.sweep_accounts()) == (1, 0)
    notice = Notice.objects.get()
    assert (notice.user, notice.tone, notice.url) == (sam, "warn", "/console/providers/revid/")
    assert "Revid was asked for callbacks and sent none, for 5 tasks that ended in the last hour." in notice.text
    tomorrow = timezone.now() + timedelta(days=1)
    Task.objects.update(finished_at=tomorrow)
    assert alerts.sweep_accounts(tomorrow + timedelta(minutes=1)) == 1
    assert len(told()) == 1  # the older one makes room


def test_it_is_over_when_it_rings_again(north, revid, sam):
    finish(north, revid)
    alerts.sweep_accounts()
    Attempt.objects.update(rung_at=timezone.now())
    assert alerts.sweep_accounts() == 0
    assert told() == []


def test_one_that_is_mended_leaves_anothers_notice_alone(north, revid, sam):
    apixo = factories.make_account("apixo")
    finish(north, revid)
    finish(north, apixo)
    assert alerts.sweep_accounts() == 2
    Attempt.objects.filter(account=revid).update(rung_at=timezone.now())
    alerts.sweep_accounts()
    assert [text.split()[0] for text in told()] == ["Apixo"]


def test_while_all_is_well_the_sweep_asks_four_times(north, revid, sam, django_assert_num_queries):
    finish(north, revid, rung_at=timezone.now())
    with django_assert_num_queries(4):  # the accounts, their tasks, who refuses us, and what was told before
        alerts.sweep_accounts()


def test_the_console_says_so_in_three_places(client_for, north, revid, sam):
    finish(north, revid)
    for address in ("/console/", "/console/providers/", "/console/providers/revid/"):
        assert "Revid was asked for callbacks and sent none" in client_for(sam).get(address).content.decode(), address


def test_a_pretend_account_leads_to_its_own_page(client_for, north, sam):
    account = factories.make_account("revid", sandbox=True, key="sandbox")
    finish(north, account)
    alerts.sweep_accounts()
    url = Notice.objects.get().url
    assert url == "/console/providers/revid/sandbox/"
    assert "sent none" in client_for(sam).get(url).content.decode()
