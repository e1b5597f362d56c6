"""The ledger by itself: entries stay as written, sums and entries move together, keys count once."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from flux2web import ledger
from flux2web.models import Budget, Entry, User
from flux2web.orders import Refusal

from . import factories

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("change", [{"amount": 1}, {"kind": "revoke"}, {"reason": "better"}, {"key": "other"}])
def test_the_database_itself_refuses_to_edit_an_entry(north, change):
    with pytest.raises(DatabaseError, match="never edited"), transaction.atomic():
        Entry.objects.update(**change)
    entry = Entry.objects.get()
    entry.amount = 1
    with pytest.raises(DatabaseError, match="never edited"), transaction.atomic():
        entry.save()


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite empties its test tables by deletion")
def test_postgresql_refuses_to_delete_an_entry(north):
    with pytest.raises(DatabaseError, match="never edited"), transaction.atomic():
        Entry.objects.all().delete()


def test_an_entry_outlives_whoever_made_it(north):
    gone = factories.make_user(name="Gone")
    ledger.grant(north, 5, actor=gone, reason="a gift", key="g1")
    User.objects.filter(pk=gone.pk).delete()
    entry = Entry.objects.get(key="g1")
    assert (entry.actor, entry.actor_label) == (None, "Gone")


def test_a_grant_adds_and_says_what_is_left(north, ana):
    entry = ledger.grant(north, 200, actor=ana, reason="more", key="g1")
    assert (entry.available_after, Budget.objects.get(team=north).granted) == (1200, 1200)


def test_a_revoke_takes_only_what_is_free(north, ana):
    factories.make_task(north, state="running", price=300)
    refusal = ledger.revoke(north, 701, actor=ana, reason="less", key="r1")
    assert isinstance(refusal, Refusal)
    assert "700 credits" in refusal.message
    assert ledger.revoke(north, 700, actor=ana, reason="less", key="r2").available_after == 0


def test_a_key_counts_once_and_holds_its_amount(north, ana):
    first = ledger.grant(north, 200, actor=ana, reason="more", key="g1")
    assert ledger.grant(north, 200, actor=ana, reason="more", key="g1") == first
    assert ledger.grant(north, 300, actor=ana, reason="more", key="g1").kind == "conflict"
    assert Budget.objects.get(team=north).granted == 1200


def test_a_task_has_one_outcome_whatever_calls_it(north):
    task = factories.make_task(north, state="done", price=10)
    with pytest.raises(IntegrityError), transaction.atomic():
        ledger.release(task, "again")
    assert Budget.objects.get(team=north).spent == 10


@pytest.mark.parametrize("sums", [{"held": -1}, {"spent": -1}, {"granted": -1}, {"held": 600, "spent": 600}])
def test_the_database_itself_refuses_sums_that_cannot_be(north, sums):
    with pytest.raises(IntegrityError), transaction.atomic():
        Budget.objects.filter(team=north).update(**sums)


def test_the_guard_of_the_entries_is_still_there():
    """SQLite loses triggers when a migration builds a table anew."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name = 'entry_never_edited'")
            assert cursor.fetchone() == (1,)
