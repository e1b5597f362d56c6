"""Is every credit where the entries say, and every task where its story says? Reads; never repairs.

Each check is one invariant of the ledger and re-adds it from the entries, in one query, whatever the number of rows. All
of them see one snapshot. SQL rather than QuerySets: what is counted here must not depend on the code that is audited, and
can be pasted into psql or sqlite3.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from . import imaging, lost
from .models import Audit, Budget, Entry, Heartbeat, Period, Reference, Result, Tally, Task, TaskReference, Team, Usage
from .money import CREDITS_MAX, credits_text, format_credits

FINDINGS_MAX = 100  # of one invariant; beyond that the number says enough
OVERDUE_S = 120  # a task whose time came longer ago than this is not looked after
ASLEEP_S = 15 * 60  # and so is one that is not to be looked at for longer than this
STRAY_AFTER = timedelta(hours=24)  # a file is stored before its row is written; a crash between the two leaves it alone
STORED_IN = ("results", "references")
ROWS_AT_ONCE = 500
KEPT_FINDINGS, KEPT_RESULTS = 50, 1000
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Finding:
    """Something that must never be. `invariant` is its number in the list of promises (I1 ...)."""

    invariant: str
    message: str
    team_id: int | None = None
    task: int | None = None
    team: str = ""  # the slug, filled in at the end


def ledger() -> list[Finding]:
    """All that rows alone can tell."""
    with snapshot():
        return _with_teams(finding for check in CHECKS for finding in check())


def run() -> Audit:
    """Check the ledger and keep what was found; of the older results only the last few."""
    began = time.monotonic()
    found = [f"{finding.invariant} {finding.team}: {finding.message}" for finding in ledger()]
    result = Audit.objects.create(took_s=round(time.monotonic() - began, 2), findings=found[:KEPT_FINDINGS])
    Audit.objects.filter(pk__lte=result.pk - KEPT_RESULTS).delete()
    log.log(logging.ERROR if found else logging.DEBUG, "ledger audited", findings=len(found), took_s=result.took_s)
    return result


def files() -> list[Finding]:
    """Whether what the rows promise really lies in storage, and what lies there that no row knows. Slow: reads it all.

    In no transaction, for it may take hours: rows are read page by page. Of each picture the row and the open pages say
    from then on whether its original is there.
    """
    known: set[str] = set()
    found = [*_unreadable_results(known), *_missing_references(known), *_strays(known)]
    return _with_teams(found)


@contextmanager
def snapshot() -> Iterator[None]:
    """What is read inside belongs together. Within a transaction of the caller's, that one is the snapshot."""
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "sqlite":
        with _reading_transaction():
            yield
    else:
        with transaction.atomic():
            _run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield


@contextmanager
def _reading_transaction() -> Iterator[None]:
    """Not atomic(): that begins IMMEDIATE here and would keep all writers waiting while we add up."""
    _run("BEGIN DEFERRED")
    try:
        yield
    finally:
        _run("ROLLBACK")


def _run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def _found(invariant: str, sql: str, say: Callable[..., str]) -> list[Finding]:
    """A finding for each row of a query: team id, task id (or null), and what `say` makes a sentence of."""
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} ORDER BY 1, 2 LIMIT {FINDINGS_MAX + 1}")
        rows = cursor.fetchall()
    found = [Finding(invariant, say(*values), team_id, task) for team_id, task, *values in rows[:FINDINGS_MAX]]
    return [*found, Finding(invariant, f"and more: only {FINDINGS_MAX} are shown")] if rows[FINDINGS_MAX:] else found


def _with_teams(findings: Iterable[Finding]) -> list[Finding]:
    found = list(findings)
    slugs = dict(Team.objects.filter(pk__in={one.team_id for one in found}).values_list("pk", "slug"))
    return [replace(one, team=slugs.get(one.team_id or 0, "")) for one in found]


# --- Sums ----------------------------------------------------------------------------------------------------------


def sums_in_bounds() -> list[Finding]:
    """I1: granted, held and spent are not negative, and no more is held and spent than was granted."""
    sql = """
        SELECT team_id, CAST(NULL AS BIGINT), granted, held, spent FROM flux2web_budget
        WHERE granted < 0 OR held < 0 OR spent < 0 OR held + spent > granted"""
    return _found("I1", sql, _say_sums)


def _say_sums(granted: int, held: int, spent: int) -> str:
    left = granted - held - spent
    return f"{credits_text(granted)} granted, {credits_text(held)} held, {credits_text(spent)} spent: {left} are left"


def sums_match_entries() -> list[Finding]:
    """I2: granted, held and spent are what the entries add up to."""
    sql = """
        SELECT team.id, CAST(NULL AS BIGINT),
            COALESCE(budget.granted, 0), COALESCE(told.granted, 0),
            COALESCE(budget.held, 0), COALESCE(told.held, 0),
            COALESCE(budget.spent, 0), COALESCE(told.spent, 0)
        FROM flux2web_team team
        LEFT JOIN flux2web_budget budget ON budget.team_id = team.id
        LEFT JOIN (
            SELECT entry.team_id,
                SUM(CASE kind WHEN 'grant' THEN amount WHEN 'adjust' THEN amount WHEN 'revoke' THEN -amount ELSE 0 END)
                    AS granted,
                SUM(CASE WHEN kind = 'hold' AND ended.task_id IS NULL THEN amount ELSE 0 END) AS held,
                SUM(CASE kind WHEN 'settle' THEN amount WHEN 'refund' THEN -amount ELSE 0 END) AS spent
            FROM flux2web_entry entry
            LEFT JOIN (SELECT DISTINCT task_id FROM flux2web_entry WHERE kind IN ('settle', 'release')) ended
                ON ended.task_id = entry.task_id AND entry.kind = 'hold'
            GROUP BY entry.team_id
        ) told ON told.team_id = team.id
        WHERE COALESCE(budget.granted, 0) <> COALESCE(told.granted, 0)
            OR COALESCE(budget.held, 0) <> COALESCE(told.held, 0)
            OR COALESCE(budget.spent, 0) <> COALESCE(told.spent, 0)"""
    return _found("I2", sql, _say_drift)


def _say_drift(*pairs: int) -> str:
    """Of (granted, granted by entries, held, ...), those that differ."""
    amounts = [int(amount) for amount in pairs]
    sums = zip(("granted", "held", "spent"), amounts[::2], amounts[1::2], strict=True)
    return "; ".join(
        f"{name} says {format_credits(said)}, entries say {format_credits(added)}, drift {said - added:+,} credits"
        for name, said, added in sums
        if said != added
    )


def nothing_held_at_rest() -> list[Finding]:
    """I13: without a live task nothing is held; and every held credit is held for some task."""
    sql = """
        SELECT budget.team_id, CAST(NULL AS BIGINT), budget.held, COALESCE(loose.amount, 0)
        FROM flux2web_budget budget
        LEFT JOIN (
            SELECT team_id, SUM(amount) AS amount FROM flux2web_entry
            WHERE kind = 'hold' AND task_id IS NULL GROUP BY team_id
        ) loose ON loose.team_id = budget.team_id
        WHERE loose.amount IS NOT NULL OR (budget.held <> 0 AND NOT EXISTS (
            SELECT 1 FROM flux2web_task task WHERE task.team_id = budget.team_id
            AND task.state NOT IN ('done', 'failed', 'cancelled')))"""
    return _found("I13", sql, _say_held_for_nothing)


def _say_held_for_nothing(held: int, loose: int) -> str:
    if loose:
        return f"{credits_text(int(loose))} of {format_credits(held)} held are held for no task"
    return f"{credits_text(held)} held, and no task is live"


# --- A task's entries ------------------------------------------------------------------------------------------------


def one_hold_per_task() -> list[Finding]:
    """I3: every task has exactly one hold, of its price. (That both were written at once, a snapshot cannot tell.)"""
    sql = """
        SELECT task.team_id, task.id, task.price_credits, COUNT(entry.id), COALESCE(SUM(entry.amount), 0)
        FROM flux2web_task task
        LEFT JOIN flux2web_entry entry ON entry.task_id = task.id AND entry.kind = 'hold'
        GROUP BY task.team_id, task.id, task.price_credits
        HAVING COUNT(entry.id) <> 1 OR SUM(entry.amount) <> task.price_credits"""
    return _found("I3", sql, _say_holds)


def _say_holds(price: int, holds: int, amount: int) -> str:
    many = "1 hold" if holds == 1 else f"{holds} holds"
    return f"the price is {credits_text(price)}, entries say {many} of {credits_text(int(amount))}"


def one_outcome_per_task() -> list[Finding]:
    """I4: a task is settled or released at most once. (That an ended one is, I5 sees.)"""
    sql = """
        SELECT MIN(team_id), task_id, COUNT(*), SUM(amount) FROM flux2web_entry
        WHERE kind IN ('settle', 'release') AND task_id IS NOT NULL GROUP BY task_id HAVING COUNT(*) > 1"""
    return _found("I4", sql, lambda many, sum_: f"settled or released {many} times, {credits_text(int(sum_))} in all")


def outcome_fits_state() -> list[Finding]:
    """I5: done means settled, failed or cancelled means released, live means neither."""
    sql = """
        SELECT task.team_id, task.id, task.state, COALESCE(told.settles, 0), COALESCE(told.releases, 0)
        FROM flux2web_task task
        LEFT JOIN (
            SELECT task_id, COUNT(CASE WHEN kind = 'settle' THEN 1 END) AS settles,
                COUNT(CASE WHEN kind = 'release' THEN 1 END) AS releases
            FROM flux2web_entry WHERE kind IN ('settle', 'release') GROUP BY task_id
        ) told ON told.task_id = task.id
        WHERE (task.state = 'done') <> (COALESCE(told.settles, 0) > 0)
            OR (task.state IN ('failed', 'cancelled')) <> (COALESCE(told.releases, 0) > 0)"""
    return _found("I5", sql, _say_outcome)


def _say_outcome(state: str, settles: int, releases: int) -> str:
    wanted = {"done": "one settle", "failed": "one release", "cancelled": "one release"}.get(state, "neither yet")
    return f"{state}: there should be {wanted}; entries say {settles} settled and {releases} released"


def charged_within_hold() -> list[Finding]:
    """I8: settled is at most what was held, and is what the task says; refunded at most what was settled; released all."""
    sql = """
        SELECT task.team_id, task.id, told.held, told.settled, told.released, told.refunded, task.charged_credits
        FROM (
            SELECT task_id,
                COALESCE(MAX(CASE WHEN kind = 'hold' THEN amount END), 0) AS held,
                COALESCE(MAX(CASE WHEN kind = 'settle' THEN amount END), 0) AS settled,
                COALESCE(MAX(CASE WHEN kind = 'release' THEN amount END), 0) AS released,
                COALESCE(SUM(CASE WHEN kind = 'refund' THEN amount END), 0) AS refunded
            FROM flux2web_entry WHERE task_id IS NOT NULL GROUP BY task_id
        ) told JOIN flux2web_task task ON task.id = told.task_id
        WHERE told.settled > told.held OR told.refunded > told.settled
            OR (told.released > 0 AND told.released <> told.held)
            OR (told.settled > 0 AND task.charged_credits <> told.settled)
            OR told.refunded <> task.refunded_credits"""
    return _found("I8", sql, _say_charge)


def _say_charge(held: int, settled: int, released: int, refunded: int, charged: int | None) -> str:
    told = {"held": held, "settled": settled, "released": released, "refunded": int(refunded), "charged": charged or 0}
    return ", ".join(f"{format_credits(amount)} {word}" for word, amount in told.items()) + " (credits)"


# --- Entries ---------------------------------------------------------------------------------------------------------


def entries_say_why() -> list[Finding]:
    """I10: every entry says who, why and under which key, and is in its task's team."""
    sql = """
        SELECT entry.team_id, entry.task_id, entry.id, entry.kind, entry.amount, task.team_id
        FROM flux2web_entry entry LEFT JOIN flux2web_task task ON task.id = entry.task_id
        WHERE entry.reason = '' OR entry.actor_label = '' OR entry.key = '' OR task.team_id <> entry.team_id"""
    return _found("I10", sql, _say_entry)


def _say_entry(entry: int, kind: str, amount: int, task_team: int | None) -> str:
    team = "" if task_team is None else f", or belongs to another team than its task (team {task_team})"
    return f"entry {entry} ({kind}, {credits_text(amount)}) lacks actor, reason or key{team}"


def keys_used_once() -> list[Finding]:
    """I11: a key names one entry and one batch of its team. (That a second use changed nothing, a snapshot cannot tell.)"""
    sql = """
        SELECT team_id, CAST(NULL AS BIGINT), 'entries', key, COUNT(*), SUM(amount) FROM flux2web_entry
        GROUP BY team_id, key HAVING COUNT(*) > 1
        UNION ALL
        SELECT team_id, CAST(NULL AS BIGINT), 'batches', key, COUNT(*), 0 FROM flux2web_batch
        GROUP BY team_id, key HAVING COUNT(*) > 1"""
    return _found("I11", sql, _say_key)


def _say_key(what: str, key: str, many: int, amount: int) -> str:
    return f"{many} {what} share the key {key!r}" + (f", {credits_text(int(amount))} in all" if amount else "")


def amounts_are_whole() -> list[Finding]:
    """I12: an entry is of 1 to 10^12 whole credits, an adjustment up or down. SQLite would keep a fraction in the column."""
    sql = f"""
        SELECT team_id, task_id, id, kind, amount FROM flux2web_entry
        WHERE (amount < 1 AND (kind <> 'adjust' OR amount = 0 OR amount < -{CREDITS_MAX}))
            OR amount > {CREDITS_MAX} OR amount <> CAST(amount AS BIGINT)
        UNION ALL
        SELECT team_id, CAST(NULL AS BIGINT), 0, 'budget', held FROM flux2web_budget
        WHERE granted <> CAST(granted AS BIGINT) OR held <> CAST(held AS BIGINT) OR spent <> CAST(spent AS BIGINT)"""  # noqa: S608 - our own number
    return _found("I12", sql, lambda entry, kind, amount: f"{kind} {entry} of {amount} credits")


def money_has_no_floats() -> list[Finding]:
    """I12 again: no column that carries credits has become a float."""
    return [
        finding for model in (Budget, Entry, Period, Usage, Tally) for finding in _float_columns(model._meta.db_table)
    ]


def _float_columns(table: str) -> list[Finding]:
    look = connection.introspection
    with connection.cursor() as cursor:
        columns = look.get_table_description(cursor, table)
    kinds = {column.name: look.get_field_type(column.type_code, column) for column in columns}
    floats = [name for name, kind in kinds.items() if kind == "FloatField"]
    return [Finding("I12", f"{table}.{name} is a float: credits are whole") for name in floats]


# --- Periods and sums --------------------------------------------------------------------------------------------------


def usage_matches_holds() -> list[Finding]:
    """I38: what a member has held, spent and had back in a period is what the entries of the tasks held then say."""
    sql = """
        SELECT period.team_id, CAST(NULL AS BIGINT), told.user_id,
            COALESCE(kept.held, 0), told.held, COALESCE(kept.spent, 0), told.spent,
            COALESCE(kept.refunded, 0), told.refunded
        FROM (
            SELECT task.period_id, task.user_id,
                SUM(CASE WHEN task.state IN ('done', 'failed', 'cancelled') THEN 0 ELSE task.price_credits END) AS held,
                SUM(COALESCE(paid.spent, 0)) AS spent, SUM(COALESCE(paid.refunded, 0)) AS refunded
            FROM flux2web_task task
            LEFT JOIN (
                SELECT task_id, SUM(CASE kind WHEN 'settle' THEN amount ELSE 0 END) AS spent,
                    SUM(CASE kind WHEN 'refund' THEN amount ELSE 0 END) AS refunded
                FROM flux2web_entry WHERE kind IN ('settle', 'refund') GROUP BY task_id
            ) paid ON paid.task_id = task.id
            WHERE task.period_id IS NOT NULL AND task.user_id IS NOT NULL
            GROUP BY task.period_id, task.user_id
        ) told
        JOIN flux2web_period period ON period.id = told.period_id
        LEFT JOIN flux2web_usage kept ON kept.period_id = told.period_id AND kept.user_id = told.user_id
        WHERE COALESCE(kept.held, 0) <> told.held OR COALESCE(kept.spent, 0) <> told.spent
            OR COALESCE(kept.refunded, 0) <> told.refunded
        UNION ALL
        SELECT period.team_id, CAST(NULL AS BIGINT), kept.user_id,
            kept.held, 0, kept.spent, 0, kept.refunded, 0
        FROM flux2web_usage kept JOIN flux2web_period period ON period.id = kept.period_id
        WHERE kept.held + kept.spent + kept.refunded > 0 AND NOT EXISTS (
            SELECT 1 FROM flux2web_task task WHERE task.period_id = kept.period_id AND task.user_id = kept.user_id)"""
    return _found("I38", sql, _say_usage)


def _say_usage(user: int, *pairs: int) -> str:
    return f"usage of user {user}: {_say_pairs(('held', 'spent', 'refunded'), pairs)}"


def periods_match_entries() -> list[Finding]:
    """I39: what a period has of expiring credits, and what of them has expired, is what its entries say."""
    sql = """
        SELECT period.team_id, CAST(NULL AS BIGINT), period.id, period.expiring, COALESCE(told.granted, 0),
            period.expired, COALESCE(told.taken, 0)
        FROM flux2web_period period
        LEFT JOIN (
            SELECT period_id, SUM(CASE kind WHEN 'grant' THEN amount ELSE 0 END) AS granted,
                SUM(CASE kind WHEN 'revoke' THEN amount ELSE 0 END) AS taken
            FROM flux2web_entry WHERE period_id IS NOT NULL GROUP BY period_id
        ) told ON told.period_id = period.id
        WHERE period.expiring <> COALESCE(told.granted, 0) OR period.expired <> COALESCE(told.taken, 0)"""
    return _found("I39", sql, _say_period)


def _say_period(period: int, *pairs: int) -> str:
    return f"period {period}: {_say_pairs(('expiring', 'expired'), pairs)}"


def tallies_match_tasks() -> list[Finding]:
    """I40: the days' sums are the ended tasks', added up by member and day."""
    sql = f"""
        SELECT team_id, CAST(NULL AS BIGINT), user_id, day, SUM(kept_ends), SUM(told_ends), SUM(kept_credits),
            SUM(told_credits), SUM(kept_refunded), SUM(told_refunded)
        FROM (
            SELECT team_id, user_id, CAST(day AS TEXT) AS day, done + failed + cancelled AS kept_ends,
                credits AS kept_credits, refunded AS kept_refunded,
                0 AS told_ends, 0 AS told_credits, 0 AS told_refunded
            FROM flux2web_tally
            UNION ALL
            SELECT team_id, user_id, {_utc_day("finished_at")}, 0, 0, 0,
                1, COALESCE(charged_credits, 0), refunded_credits
            FROM flux2web_task WHERE finished_at IS NOT NULL AND user_id IS NOT NULL
        ) both_sides
        GROUP BY team_id, user_id, day
        HAVING SUM(kept_ends) <> SUM(told_ends) OR SUM(kept_credits) <> SUM(told_credits)
            OR SUM(kept_refunded) <> SUM(told_refunded)"""  # noqa: S608 - our own words
    return _found("I40", sql, _say_tally)


def _utc_day(column: str) -> str:
    if connection.vendor == "postgresql":
        return f"CAST(({column} AT TIME ZONE 'UTC')::date AS TEXT)"
    return f"date({column})"


def _say_tally(user: int, day: str, *pairs: int) -> str:
    return f"sums of user {user} on {day}: {_say_pairs(('ends', 'charged', 'refunded'), pairs)}"


def _say_pairs(names: tuple[str, ...], pairs: tuple[int, ...]) -> str:
    """Of (kept, added up, kept, ...), those that differ."""
    amounts = [int(amount) for amount in pairs]
    return "; ".join(
        f"{name} says {format_credits(said)}, entries say {format_credits(added)}"
        for name, said, added in zip(names, amounts[::2], amounts[1::2], strict=True)
        if said != added
    )


def grants_match_requests() -> list[Finding]:
    """I41: a granted request was given once: as extra credits of its period, or as the team's entry of its key."""
    sql = """
        SELECT period.team_id, CAST(NULL AS BIGINT), 0, usage.extra, COALESCE(told.granted, 0)
        FROM flux2web_usage usage
        JOIN flux2web_period period ON period.id = usage.period_id
        LEFT JOIN (
            SELECT period_id, user_id, SUM(granted) AS granted FROM flux2web_creditrequest
            WHERE state = 'granted' AND "limit" = 'member' AND period_id IS NOT NULL GROUP BY period_id, user_id
        ) told ON told.period_id = usage.period_id AND told.user_id = usage.user_id
        WHERE usage.extra <> COALESCE(told.granted, 0)
        UNION ALL
        SELECT asked.team_id, CAST(NULL AS BIGINT), asked.id, COALESCE(entry.amount, 0), asked.granted
        FROM flux2web_creditrequest asked
        LEFT JOIN flux2web_entry entry ON entry.team_id = asked.team_id AND entry.key = 'request:' || asked.id
        WHERE asked.state = 'granted' AND asked."limit" = 'team' AND COALESCE(entry.amount, 0) <> asked.granted"""
    return _found("I41", sql, _say_request)


def _say_request(request: int, given: int, granted: int) -> str:
    what = f"request {request}" if request else "extra credits of a member"
    return f"{what}: {format_credits(int(given))} given, {format_credits(int(granted))} granted"


# --- A task's story ----------------------------------------------------------------------------------------------------


def ends_are_whole() -> list[Finding]:
    """I6, by columns: what has ended has an end and no next look; what is live has no end; done knows its charge."""
    sql = """
        SELECT team_id, id, state, due_at, finished_at, charged_credits FROM flux2web_task
        WHERE (state IN ('done', 'failed', 'cancelled')) <> (finished_at IS NOT NULL)
            OR (state IN ('done', 'failed', 'cancelled') AND due_at IS NOT NULL)
            OR (state = 'done') <> (charged_credits IS NOT NULL)"""
    return _found("I6", sql, _say_end)


def _say_end(state: str, due_at: Any, finished_at: Any, charged: int | None) -> str:
    price = "no charge" if charged is None else f"{credits_text(charged)} charged"
    return f"{state}, yet due at {due_at or 'no time'}, finished at {finished_at or 'no time'}, {price}"


def ends_are_last() -> list[Finding]:
    """I6, by events: an ended task ended once, and its last state is the one it has; a live one has not ended.

    What a snapshot cannot see: columns of an ended task that somebody edited without touching its state (prompt, price,
    result). For that, two audits would have to compare.
    """
    sql = """
        SELECT task.team_id, task.id, task.state, story.ends, newest.kind
        FROM (
            SELECT task_id, MAX(id) AS newest_id,
                COUNT(CASE WHEN kind IN ('done', 'failed', 'cancelled') THEN 1 END) AS ends
            FROM flux2web_event
            WHERE kind IN
                ('queued', 'submitting', 'uncertain', 'running', 'saving', 'done', 'failed', 'cancelled')
            GROUP BY task_id
        ) story
        JOIN flux2web_event newest ON newest.id = story.newest_id
        JOIN flux2web_task task ON task.id = story.task_id
        WHERE story.ends <> CASE WHEN task.state IN ('done', 'failed', 'cancelled') THEN 1 ELSE 0 END
            OR (story.ends > 0 AND newest.kind <> task.state)"""
    return _found("I6", sql, lambda state, ends, last: f"{state}; its events say {ends} ends, the last state {last}")


def done_has_a_result() -> list[Finding]:
    """I7, by rows: a task has a result exactly when it is done. `files` looks at the picture itself."""
    sql = """
        SELECT task.team_id, task.id, task.state, task.charged_credits, result.id
        FROM flux2web_task task LEFT JOIN flux2web_result result ON result.task_id = task.id
        WHERE (task.state = 'done') <> (result.id IS NOT NULL)"""
    return _found("I7", sql, _say_result)


def _say_result(state: str, charged: int | None, result: int | None) -> str:
    return f"{state}, {credits_text(charged or 0)} charged, and {'a' if result else 'no'} result"


def sent_at_most_once() -> list[Finding]:
    """I16: of a task's attempts at most one may have arrived, so that a provider is asked at most once for a hold."""
    sql = """
        SELECT MIN(task.team_id), task.id, COUNT(*), MIN(task.price_credits)
        FROM flux2web_attempt attempt JOIN flux2web_task task ON task.id = attempt.task_id
        WHERE attempt.outcome IN ('open', 'accepted', 'ambiguous') GROUP BY task.id HAVING COUNT(*) > 1"""
    return _found("I16", sql, lambda n, price: f"{n} attempts may have arrived for one hold of {credits_text(price)}")


def upstream_ids_once() -> list[Finding]:
    """I17: a provider's id belongs to one task, which learnt it from an attempt of its own."""
    sql = """
        SELECT MIN(team_id), MIN(id), upstream_id, COUNT(*) FROM flux2web_task
        WHERE upstream_id <> '' GROUP BY account_id, upstream_id HAVING COUNT(*) > 1
        UNION ALL
        SELECT task.team_id, task.id, task.upstream_id, 0 FROM flux2web_task task
        WHERE task.upstream_id <> '' AND NOT EXISTS (
            SELECT 1 FROM flux2web_attempt attempt WHERE attempt.task_id = task.id
            AND attempt.account_id = task.account_id AND attempt.upstream_id = task.upstream_id)"""
    return _found("I17", sql, _say_upstream_id)


def _say_upstream_id(upstream_id: str, tasks: int) -> str:
    if tasks:
        return f"{tasks} tasks have the provider's id {upstream_id!r}"
    return f"no attempt of this task was told the provider's id {upstream_id!r}"


def live_tasks_are_looked_at() -> list[Finding]:
    """I19: a live task's next look is near, and not long past.

    "Past" by the clock's own last beat: while the site is stopped, nothing is overdue.
    """
    now = timezone.now()
    beat = Heartbeat.objects.filter(name="clock").values_list("at", flat=True).first() or now
    late, far = min(beat, now) - timedelta(seconds=OVERDUE_S), now + timedelta(seconds=ASLEEP_S)
    forgotten = Task.objects.live().filter(Q(due_at=None) | Q(due_at__lt=late) | Q(due_at__gt=far))
    rows = forgotten.order_by("due_at", "id").values_list("team_id", "id", "state", "due_at", "price_credits")
    return [
        Finding("I19", f"{state}, {_say_due(due_at, now)}; {credits_text(price)} held", team_id, task)
        for team_id, task, state, due_at, price in rows[:FINDINGS_MAX]
    ]


def _say_due(due_at: datetime | None, now: datetime) -> str:
    if due_at is None:
        return "never due"
    wait_s = (due_at - now).total_seconds()
    return f"not due for {wait_s:.0f} s" if wait_s > 0 else f"overdue by {-wait_s:.0f} s"


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    sums_in_bounds,
    sums_match_entries,
    one_hold_per_task,
    one_outcome_per_task,
    outcome_fits_state,
    ends_are_whole,
    ends_are_last,
    done_has_a_result,
    charged_within_hold,
    entries_say_why,
    keys_used_once,
    amounts_are_whole,
    money_has_no_floats,
    usage_matches_holds,
    periods_match_entries,
    tallies_match_tasks,
    grants_match_requests,
    nothing_held_at_rest,
    sent_at_most_once,
    upstream_ids_once,
    live_tasks_are_looked_at,
)


# --- Files -----------------------------------------------------------------------------------------------------------


def _unreadable_results(known: set[str]) -> Iterator[Finding]:
    """I7: a result's files exist, its picture decodes and is the one that was hashed. A shared file is read once.

    Those that went with the trash are promised to nobody; what is left of them is nobody's.
    """
    for result in _pages(Result.objects.filter(purged_at=None).select_related("task")):
        keys = (result.key, result.key_640, result.key_320)
        lost.look(result, "audit")
        problem = "" if known.issuperset(keys) else _missing(keys) or _spoilt(result.key, result.sha256)
        known.update(keys)
        if problem:
            spent = credits_text(result.task.charged_credits or 0)
            yield Finding("I7", f"{problem}; {spent} charged", result.task.team_id, result.task_id)


def _missing_references(known: set[str]) -> Iterator[Finding]:
    """I33: a reference that members may still use, or that a task shows although it was deleted, can be opened."""
    shown = Exists(TaskReference.objects.filter(reference=OuterRef("pk")))
    for reference in _pages(Reference.objects.annotate(is_shown=shown)):
        keys = (reference.key, reference.thumb_key)
        known.update(keys)
        problem = "" if reference.deleted_at and not reference.is_shown else _missing(keys)
        if problem:
            yield Finding("I33", f"reference {reference.pk} ({reference.name}): {problem}", reference.team_id)


def _pages(rows: QuerySet) -> Iterator[Any]:
    """Every row, page by page: no query stays open while files are read."""
    after = 0
    while page := list(rows.filter(pk__gt=after).order_by("pk")[:ROWS_AT_ONCE]):
        yield from page
        after = page[-1].pk


def _missing(keys: tuple[str, ...]) -> str:
    missing = [key for key in keys if not default_storage.exists(key)]
    return f"not in storage: {', '.join(missing)}" if missing else ""


def _spoilt(key: str, sha256: str) -> str:
    with default_storage.open(key) as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != sha256:
        return f"{key} is not the picture that was stored: its SHA-256 differs"
    try:
        imaging.clean_result(data)
    except imaging.BadImage as bad:
        return f"{key} does not decode: {bad}"
    return ""


def _strays(known: set[str]) -> Iterator[Finding]:
    """I33: a file that no row knows, once it is old enough to have one."""
    limit = timezone.now() - STRAY_AFTER
    for folder in STORED_IN:
        for key in _walk(folder):
            if key not in known and default_storage.get_modified_time(key) < limit:
                yield Finding("I33", f"no row knows the file {key}, which is more than a day old", _team_in(key))


def _walk(folder: str) -> Iterator[str]:
    try:
        folders, names = default_storage.listdir(folder)
    except FileNotFoundError:  # nothing was ever stored
        return
    yield from (f"{folder}/{name}" for name in names)
    for inner in folders:
        yield from _walk(f"{folder}/{inner}")


def _team_in(key: str) -> int | None:
    """Files lie in results/<team>/..., references/<team>/..."""
    part = key.split("/")[1]
    return int(part) if part.isdigit() else None
