"""A team with a long past in seconds: rows multiplied inside the database from one that the factories made.

Sums and days' sums are added up from them, so that the audit finds nothing. For pages at depth, not for looking at.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import connection
from django.utils import timezone

from flux2web.models import Entry, Membership, Result, Task, Team

from .. import factories

SPAN_S = 28 * 86_400  # the past is so long, however many rows it has


def fill(tasks: int, *, members: int = 20) -> Team:
    """A team whose `tasks` pictures are all done: two ledger lines each."""
    team = factories.make_team(credits=tasks * 10 + 10_000)
    people = [factories.make_member(team) for _ in range(members)]
    first = factories.make_task(team, user=people[0].user, state="done", price=10)
    many = tasks - 1
    _copy(Task, first.pk, many, _task_columns(first, people, many))
    _copy(Result, first.result.pk, many, {"task_id": f"{first.pk} + n.i", "created": _moment(many)})
    for entry in first.entries.all():
        _copy(Entry, entry.pk, many, _entry_columns(entry, first, many))
    _add_up(team, first)
    return team


def _task_columns(first: Task, people: list[Membership], many: int) -> dict[str, str]:
    user = f"{people[0].user_id} + n.i % {len(people)}"  # made one after the other
    moment = _moment(many)
    times = dict.fromkeys(("created", "state_since", "accepted_at", "finished_at"), moment)
    return times | {
        "id": f"{first.pk} + n.i",
        "user_id": user,
        "upstream_id": "''",
        "prompt": _prompt(first),
    }


def _prompt(first: Task) -> str:
    """Every picture is a harbour, one of 50 has herons, one of 5,000 an okapi; each has a number of its own."""
    words = "CASE WHEN n.i % 5000 = 7 THEN ' okapi' WHEN n.i % 50 = 7 THEN ' heron' ELSE ' gull' END"
    return f"'{first.prompt}, no ' || n.i || {words}"


def _entry_columns(entry: Entry, first: Task, many: int) -> dict[str, str]:
    return {
        "task_id": f"{first.pk} + n.i",
        "key": f"'{entry.kind}:' || ({first.pk} + n.i)",
        "created": _moment(many),
    }


def _moment(many: int) -> str:
    """The older the smaller n.i; the last one is a minute ago."""
    end = (timezone.now() - timedelta(minutes=1)).strftime("%Y-%m-%d %H:%M:%S")
    back_s = f"CAST(({many} - n.i) * {SPAN_S / max(1, many):.6f} AS BIGINT)"
    if connection.vendor == "postgresql":
        return f"TIMESTAMPTZ '{end}+00' - make_interval(secs => {back_s})"
    return f"datetime('{end}', '-' || {back_s} || ' seconds')"


def _copy(model: type, pk: int, many: int, changed: dict[str, str]) -> None:
    """`many` more of the row `pk`, each with the changed columns' expressions of n.i, 1 to many."""
    table = model._meta.db_table  # type: ignore[attr-defined]
    columns = [field.column for field in model._meta.concrete_fields if field.column != "id" or "id" in changed]  # type: ignore[attr-defined]
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(changed.get(name, f't."{name}"') for name in columns)
    _run(f"""
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {many})
        INSERT INTO {table} ({names}) SELECT {values} FROM {table} t, n WHERE t.id = {pk}""")


def _add_up(team: Team, first: Task) -> None:
    period = first.period
    day = "CAST(finished_at AT TIME ZONE 'UTC' AS date)" if connection.vendor == "postgresql" else "date(finished_at)"
    _run(f"""UPDATE flux2web_budget SET held = 0, spent =
        (SELECT SUM(amount) FROM flux2web_entry WHERE team_id = {team.pk} AND kind = 'settle') WHERE team_id = {team.pk}""")
    _run(f"DELETE FROM flux2web_usage WHERE period_id = {period.pk}")
    _run(f"""INSERT INTO flux2web_usage (period_id, user_id, held, spent, refunded, extra, warned_percent)
        SELECT {period.pk}, user_id, 0, SUM(charged_credits), 0, 0, 100 FROM flux2web_task
        WHERE team_id = {team.pk} GROUP BY user_id""")
    _run(f"DELETE FROM flux2web_tally WHERE team_id = {team.pk}")
    _run(f"""INSERT INTO flux2web_tally (team_id, user_id, day, provider, family, mode, resolution, done, failed,
            cancelled, "references", credits, refunded, cost_usd)
        SELECT team_id, user_id, {day}, 'revid', family, 'text-to-image', resolution, COUNT(*), 0, 0, 0,
            SUM(charged_credits), 0, 0 FROM flux2web_task
        WHERE team_id = {team.pk} GROUP BY team_id, user_id, {day}, family, resolution""")
    if connection.vendor == "postgresql":
        _run("""INSERT INTO flux2web_words (task_id, team_id, vector) SELECT id, team_id, to_tsvector('simple', lower(prompt))
            FROM flux2web_task ON CONFLICT DO NOTHING""")
        _run("SELECT setval(pg_get_serial_sequence('flux2web_task', 'id'), (SELECT MAX(id) FROM flux2web_task))")
    else:
        _run("""INSERT OR REPLACE INTO flux2web_words (rowid, team, text) SELECT id, 't' || team_id, lower(prompt)
            FROM flux2web_task""")
    _run("ANALYZE")


def _run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
