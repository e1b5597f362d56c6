"""The audit finds each kind of damage, calls it by its number, and changes nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from PIL import Image

from flux2web import audit, ledger, storage
from flux2web.models import (
    Attempt,
    Budget,
    CreditRequest,
    Entry,
    Event,
    Heartbeat,
    Period,
    Result,
    State,
    Tally,
    Task,
    Team,
    Usage,
    write,
)
from flux2web.models.base import new_token, token_hash

from . import factories

pytestmark = pytest.mark.django_db


# --- Breaking things ---------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def checks_on_again():
    """SQLite's switch for CHECKs outlives the test's transaction."""
    yield
    if connection.vendor == "sqlite":
        run("PRAGMA ignore_check_constraints=OFF")


def run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def let_entries_be_edited() -> None:
    """The database itself refuses; what is checked here is that damage done behind its back is found."""
    run(f"DROP TRIGGER entry_never_edited{' ON flux2web_entry' if connection.vendor == 'postgresql' else ''}")


def loosen(model: type[models.Model], name: str) -> None:
    """Take one constraint away until the test's transaction is rolled back."""
    constraint = next(one for one in model._meta.constraints if one.name == name)
    if isinstance(constraint, models.UniqueConstraint) and constraint.condition:
        run(f"DROP INDEX {name}")
    elif connection.vendor == "postgresql":
        run("SET CONSTRAINTS ALL IMMEDIATE")  # a table with pending checks cannot be altered
        run(f"ALTER TABLE {model._meta.db_table} DROP CONSTRAINT {name}")
    elif isinstance(constraint, models.CheckConstraint):
        run("PRAGMA ignore_check_constraints=ON")
    else:
        _copy_without(model._meta.db_table, name)


def _copy_without(table: str, unique: str) -> None:
    """SQLite drops no constraint of a table: a copy that never had it takes its place."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = %s", [table])
        [made_by] = cursor.fetchone()
    shorter = re.sub(rf', CONSTRAINT "{unique}" UNIQUE \([^)]*\)', "", made_by).replace(f'"{table}"', '"copy"', 1)
    assert shorter != made_by
    for sql in (shorter, f"INSERT INTO copy SELECT * FROM {table}", f"DROP TABLE {table}"):
        run(sql)
    run(f"ALTER TABLE copy RENAME TO {table}")


def entry(team: Team, kind: str, amount: int, **fields) -> None:
    """An entry and nothing else."""
    told = {"available_after": 0, "actor_label": "vandal", "reason": "damage", "key": new_token()}
    Entry.objects.create(team=team, kind=kind, amount=amount, **told | fields)


def move_sums(team: Team, **by: int) -> None:
    Budget.objects.filter(team=team).update(**{name: F(name) + change for name, change in by.items()})


def overdraw(team: Team) -> Task:
    """More spent than granted, and the entries agree."""
    task = factories.make_task(team, state=State.DONE)
    loosen(Budget, "budget_never_overdrawn")
    entry(team, "revoke", 995)
    move_sums(team, granted=-995)
    return task


def grant_without_entry(team: Team) -> None:
    move_sums(team, granted=10)


def change_a_price(team: Team) -> Task:
    task = factories.make_task(team, state=State.DONE)
    Task.objects.filter(pk=task.pk).update(price_credits=11)
    return task


def move_usage(task: Task, **moves: int) -> None:
    changes = {name: F(name) + by for name, by in moves.items()}
    Usage.objects.filter(period=task.period, user=task.user).update(**changes)


def forget_usage(team: Team) -> None:
    move_usage(factories.make_task(team, state=State.DONE), spent=-1)


def use_without_a_task(team: Team) -> None:
    user = factories.make_member(team).user
    Usage.objects.create(period=ledger.current(team, timezone.now()), user=user, spent=5)


def expire_without_an_entry(team: Team) -> None:
    ledger.grant(team, 20, actor=None, reason="until the end", key="g", expires=True)
    Period.objects.filter(team=team).update(expired=5)


def forget_a_tally(team: Team) -> None:
    factories.make_task(team, state=State.DONE)
    Tally.objects.filter(team=team).update(credits=3)


def give_extra_to_nobody_who_asked(team: Team) -> None:
    ledger.give_extra(factories.make_member(team), ledger.current(team, timezone.now()), 30)


def grant_a_request_without_an_entry(team: Team) -> None:
    user, granted = factories.make_member(team).user, {"state": "granted", "granted": 40}
    CreditRequest.objects.create(team=team, user=user, key="k", limit="team", amount=40, **granted)


def settle_twice(team: Team) -> Task:
    task = factories.make_task(team, state=State.DONE)
    loosen(Entry, "entry_one_outcome_per_task")
    entry(team, "settle", 10, task=task)
    move_sums(team, spent=10)
    move_usage(task, spent=10)
    return task


def settle_a_failure(team: Team) -> Task:
    task = factories.make_task(team, state=State.FAILED)
    let_entries_be_edited()
    Entry.objects.filter(task=task, kind="release").update(kind="settle")
    move_sums(team, spent=10)
    move_usage(task, spent=10)
    return task


def forget_the_end(team: Team) -> Task:
    task = factories.make_task(team, state=State.DONE)
    Task.objects.filter(pk=task.pk).update(finished_at=None)
    Tally.objects.filter(team=team).delete()
    return task


def due_after_the_end(team: Team) -> Task:
    task = factories.make_task(team, state=State.FAILED)
    loosen(Task, "task_due_exactly_while_live")
    Task.objects.filter(pk=task.pk).update(due_at=timezone.now())
    return task


def resurrect(team: Team) -> Task:
    task = factories.make_task(team, state=State.FAILED)
    Event.objects.create(task=task, kind=State.RUNNING, cause="a late callback")
    return task


def lose_the_result(team: Team) -> Task:
    task = factories.make_task(team, state=State.DONE)
    Result.objects.filter(task=task).delete()
    return task


def settle_more_than_held(team: Team) -> Task:
    task = factories.make_task(team, state=State.DONE)
    let_entries_be_edited()
    Entry.objects.filter(task=task, kind="settle").update(amount=11)
    move_sums(team, spent=1)
    move_usage(task, spent=1)
    return task


def refund_more_than_settled(team: Team) -> Task:
    task = factories.make_task(team, state=State.DONE)
    factories.make_task(team, user=task.user, state=State.DONE)
    entry(team, "refund", 11, task=task)
    move_sums(team, spent=-11)
    move_usage(task, refunded=11)
    return task


def say_no_reason(team: Team) -> None:
    loosen(Entry, "entry_says_why")
    let_entries_be_edited()
    Entry.objects.filter(team=team).update(reason="")


def use_a_key_twice(team: Team) -> None:
    loosen(Entry, "entry_key_once")
    for _ in range(2):
        entry(team, "grant", 10, key="pressed twice")
        move_sums(team, granted=10)


def grant_nothing(team: Team) -> None:
    loosen(Entry, "entry_amount_in_range")
    entry(team, "grant", 0)


def hold_for_no_task(team: Team) -> None:
    loosen(Entry, "entry_names_its_task")
    entry(team, "hold", 10)
    move_sums(team, held=10)


def send_twice(team: Team) -> Task:
    task = factories.make_task(team, state=State.RUNNING)
    loosen(Attempt, "attempt_at_most_one_may_have_arrived")
    sent = {"account": task.account, "key_version": 1, "secret_hash": token_hash(new_token())}
    Attempt.objects.create(task=task, number=2, lease_until=timezone.now(), outcome="ambiguous", **sent)
    return task


def share_an_upstream_id(team: Team) -> Task:
    task, other = (factories.make_task(team, state=State.RUNNING) for _ in range(2))
    loosen(Task, "task_upstream_id_once")
    for rows in (Task.objects.filter(pk=other.pk), Attempt.objects.filter(task=other)):
        rows.update(upstream_id=task.upstream_id)
    return task


def learn_an_id_from_nowhere(team: Team) -> Task:
    task = factories.make_task(team, state=State.RUNNING)
    Task.objects.filter(pk=task.pk).update(upstream_id="from a stranger")
    return task


def forget_a_task(team: Team) -> Task:
    return factories.make_task(team, state=State.RUNNING, due_at=timezone.now() - timedelta(minutes=5))


def put_a_task_to_sleep(team: Team) -> Task:
    return factories.make_task(team, state=State.QUEUED, due_at=timezone.now() + timedelta(hours=5))


DAMAGE = [
    ("I1", overdraw),
    ("I2", grant_without_entry),
    ("I3", change_a_price),
    ("I4", settle_twice),
    ("I5", settle_a_failure),
    ("I6", forget_the_end),
    ("I6", due_after_the_end),
    ("I6", resurrect),
    ("I7", lose_the_result),
    ("I8", settle_more_than_held),
    ("I8", refund_more_than_settled),
    ("I10", say_no_reason),
    ("I11", use_a_key_twice),
    ("I12", grant_nothing),
    ("I13", hold_for_no_task),
    ("I16", send_twice),
    ("I17", share_an_upstream_id),
    ("I17", learn_an_id_from_nowhere),
    ("I19", forget_a_task),
    ("I19", put_a_task_to_sleep),
    ("I38", forget_usage),
    ("I38", use_without_a_task),
    ("I39", expire_without_an_entry),
    ("I40", forget_a_tally),
    ("I41", give_extra_to_nobody_who_asked),
    ("I41", grant_a_request_without_an_entry),
]


# --- The rows ------------------------------------------------------------------------------------------------------------


def every_state(team: Team) -> None:
    for state in State:
        factories.make_task(team, state=state)
    factories.make_task(team, state=State.DONE, price=40, charged=12)


def test_a_sound_house_gives_no_finding(north):
    every_state(north)
    assert audit.ledger() == []


@pytest.mark.parametrize(("invariant", "damage"), DAMAGE, ids=[f"{i} {f.__name__}" for i, f in DAMAGE])
def test_each_damage_is_reported_by_exactly_its_number(north, south, invariant, damage):
    every_state(south)
    task = damage(north)
    found = audit.ledger()
    assert {finding.invariant for finding in found} == {invariant}
    assert {finding.team for finding in found} == {"north"}
    if invariant != "I1":  # which is about a team
        assert {finding.task for finding in found} == {task.pk if task else None}


def test_a_drift_is_told_in_credits(north):
    factories.make_task(north, price=120)
    move_sums(north, held=10)
    [finding] = audit.ledger()
    assert finding.message == "held says 130, entries say 120, drift +10 credits"


def test_held_credits_of_a_team_at_rest_are_told(north):
    move_sums(north, held=10)
    assert [finding.invariant for finding in audit.ledger()] == ["I2", "I13"]


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite alters no column's type")
def test_a_float_column_is_told(north):
    let_entries_be_edited()
    run("SET CONSTRAINTS ALL IMMEDIATE")
    run("ALTER TABLE flux2web_entry ALTER COLUMN available_after TYPE double precision")
    [finding] = audit.ledger()
    assert finding.message == "flux2web_entry.available_after is a float: credits are whole"


def test_a_stopped_site_has_forgotten_nothing(north):
    """Its tasks wait for the next start; only those that were overdue while the clock still beat are broken promises."""
    Heartbeat.objects.create(name="clock", at=timezone.now() - timedelta(hours=3))
    factories.make_task(north, state=State.RUNNING, due_at=timezone.now() - timedelta(hours=3, seconds=30))
    assert audit.ledger() == []
    forgotten = factories.make_task(north, state=State.RUNNING, due_at=timezone.now() - timedelta(hours=4))
    assert [finding.task for finding in audit.ledger()] == [forgotten.pk]


def test_much_damage_is_not_listed_without_end(north, monkeypatch):
    monkeypatch.setattr(audit, "FINDINGS_MAX", 3)
    for _ in range(5):
        change_a_price(north)
    found = audit.ledger()
    assert len(found) == 4
    assert found[-1].message == "and more: only 3 are shown"


def test_it_asks_as_many_questions_of_many_rows_as_of_few(north):
    every_state(north)
    with CaptureQueriesContext(
        connection,
    ) as few:
        audit.ledger()
    for _ in range(3):
        every_state(north)
    with CaptureQueriesContext(connection) as many:
        audit.ledger()
    assert len(few) == len(many)


@pytest.mark.django_db(transaction=True)
def test_it_sees_one_moment_and_keeps_no_writer_waiting():
    with audit.snapshot():
        before = Team.objects.count()
        writer = threading.Thread(target=write_a_team)
        writer.start()
        writer.join(timeout=10)
        assert not writer.is_alive()
        assert Team.objects.count() == before
    assert Team.objects.count() == before + 1


def write_a_team() -> None:
    try:
        with write():
            Team.objects.create(name="Late", slug="late")
    finally:
        connection.close()


# --- The command -----------------------------------------------------------------------------------------------------------


def check_ledger(*options: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("check_ledger", *options, stdout=out)
    except SystemExit as exit:
        return exit.code, out.getvalue()
    return 0, out.getvalue()


def test_the_command_says_clean_and_exits_with_0(north):
    assert check_ledger() == (0, "Clean: every credit is where the entries say.\n")


def test_the_command_names_what_it_found_exits_with_1_and_repairs_nothing(north):
    move_sums(north, granted=10)
    first, second = check_ledger(), check_ledger()
    drift = "I2: team north: granted says 1,010, entries say 1,000, drift +10 credits"
    assert first == second == (1, f"{drift}\n1 finding. Nothing was repaired.\n")


def test_the_command_prints_json_for_machines(north):
    task = change_a_price(north)
    code, text = check_ledger("--json")
    message = "the price is 11 credits, entries say 1 hold of 10 credits"
    assert (code, json.loads(text)) == (
        1,
        [{"invariant": "I3", "team": "north", "task": task.pk, "message": message}],
    )


def test_the_command_exits_with_2_where_it_could_not_run(tmp_path):
    bare = {key: value for key, value in os.environ.items() if not key.endswith("_URL")}
    environment = bare | {"VAR_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "flux2web.settings"}
    command = [sys.executable, "manage.py", "check_ledger"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "could not run" in done.stderr


# --- Files -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def media(settings, tmp_path):
    """An empty storage of this test's own."""
    here = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = settings.STORAGES | {"default": here}
    return tmp_path


def drawn_task(team: Team) -> Task:
    """A done task with a picture that is what its row says."""
    task = factories.make_task(team, state=State.DONE)
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (task.pk % 255, 90, 120)).save(file, "PNG")
    Result.objects.filter(task=task).delete()
    storage.result_row(task, storage.store_result(task, file.getvalue())).save()
    return task


def test_sound_files_give_no_finding(north, media):
    drawn_task(north)
    factories.make_reference(north)
    assert check_ledger("--storage")[0] == 0


def test_a_picture_that_is_gone_is_told(north, media):
    task = drawn_task(north)
    default_storage.delete(task.result.key_640)
    [finding] = audit.files()
    assert (finding.invariant, finding.team, finding.task) == ("I7", "north", task.pk)
    assert finding.message == f"not in storage: {task.result.key_640}; 10 credits charged"


def test_an_original_that_is_gone_is_marked_and_one_that_is_back_is_not_any_more(north, media):
    gone, sound = drawn_task(north), drawn_task(north)
    default_storage.delete(gone.result.key)
    for _ in range(2):
        [finding] = audit.files()
        assert finding.message == f"not in storage: {gone.result.key}; 10 credits charged"
    assert list(Result.objects.exclude(lost_at=None).values_list("task", flat=True)) == [gone.pk]
    assert list(gone.events.filter(kind__in=["lost", "found"]).values_list("kind", "cause")) == [("lost", "audit")]
    assert audit.ledger() == []
    Result.objects.filter(task=sound).update(lost_at=timezone.now())
    audit.files()
    assert sound.events.filter(kind="found").count() == 1
    assert list(Result.objects.exclude(lost_at=None).values_list("task", flat=True)) == [gone.pk]


def test_where_the_whole_folder_is_missing_nothing_is_called_lost(north, media):
    drawn_task(north)
    shutil.move(media / "results", media / "elsewhere")
    with pytest.raises(CommandError, match="is the disk mounted"):
        call_command("check_ledger", "--storage")
    assert not Result.objects.exclude(lost_at=None).exists()


def test_a_picture_that_was_changed_is_told(north, media):
    task = drawn_task(north)
    with (media / task.result.key).open("ab") as file:
        file.write(b"x")
    [finding] = audit.files()
    assert finding.invariant == "I7"
    assert "SHA-256 differs" in finding.message


def test_a_file_that_never_was_a_picture_is_told(north, media):
    task = drawn_task(north)
    (media / task.result.key).write_bytes(b"<html>gone</html>")
    Result.objects.update(sha256=hashlib.sha256(b"<html>gone</html>").hexdigest())
    [finding] = audit.files()
    assert (finding.invariant, finding.task) == ("I7", task.pk)
    assert "does not decode" in finding.message


def test_a_reference_without_its_file_is_told_unless_it_was_deleted(north, media):
    gone, deleted = factories.make_reference(north), factories.make_reference(north, deleted_at=timezone.now())
    for reference in (gone, deleted):
        default_storage.delete(reference.key)
    [finding] = audit.files()
    assert finding.invariant == "I33"
    assert f"reference {gone.pk} " in finding.message


def test_a_file_without_a_row_is_told_once_it_is_a_day_old(north, media):
    for name, age_h in (("fresh.png", 1), ("old.png", 25)):
        path = media / factories.store(f"results/{north.pk}/7/{name}")
        os.utime(path, (time.time() - age_h * 3600,) * 2)
    [finding] = audit.files()
    assert (finding.invariant, finding.team) == ("I33", "north")
    assert f"results/{north.pk}/7/old.png" in finding.message
