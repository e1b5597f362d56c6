"""The only writer of money. Every change is one conditional UPDATE of the sums, beside the entry that says why.

All functions are called inside the caller's transaction (`write()`), so that state, money and event stand or fall together.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models import F

from . import bus, faults
from .models import Budget, Entry, Task, Team, User, write
from .money import credits_text
from .orders import Refusal

SYSTEM = "flux2web"


def hold(team: Team, tasks: list[Task], *, actor: User) -> Refusal | None:
    """Reserve the price of each task, all or nothing. A refusal names the limit that bound; the caller rolls back."""
    total = sum(task.price_credits for task in tasks)
    held = Budget.objects.filter(team=team, granted__gte=F("held") + F("spent") + total).update(held=F("held") + total)
    if not held:
        return _short(team, total)
    after = _available(team) + total
    entries = []
    for task in tasks:
        after -= task.price_credits
        entries.append(
            _entry(task, Entry.Kind.HOLD, task.price_credits, after, reason="asked for a picture", actor=actor)
        )
    Entry.objects.bulk_create(entries)
    bus.publish_balance(team.pk)
    return None


def settle(task: Task, charged: int) -> None:
    """The picture is ours: `charged` of the hold is spent (at most all of it), the rest returns."""
    Budget.objects.filter(team_id=task.team_id).update(held=F("held") - task.price_credits, spent=F("spent") + charged)
    _record(task, Entry.Kind.SETTLE, charged, reason="picture stored")


def release(task: Task, reason: str) -> None:
    """No picture: the whole hold returns."""
    Budget.objects.filter(team_id=task.team_id).update(held=F("held") - task.price_credits)
    _record(task, Entry.Kind.RELEASE, task.price_credits, reason=reason)


def refund(task: Task, amount: int, *, actor: User, reason: str, key: str) -> Entry:
    """Give back credits of a settled task. The caller has made sure, by UPDATE, that they were charged."""
    _require_transaction()
    Budget.objects.filter(team_id=task.team_id).update(spent=F("spent") - amount)
    after = Budget.objects.get(team_id=task.team_id).available
    entry = _entry(task, Entry.Kind.REFUND, amount, after, reason=reason, actor=actor)
    entry.key = key
    entry.save(force_insert=True)
    bus.publish_balance(task.team_id)
    return entry


def grant(team: Team, amount: int, *, actor: User | None, reason: str, key: str) -> Entry | Refusal:
    """Give a team credits. The same key again changes nothing and returns the first entry."""
    return _administer(team, Entry.Kind.GRANT, amount, actor=actor, reason=reason, key=key)


def revoke(team: Team, amount: int, *, actor: User | None, reason: str, key: str) -> Entry | Refusal:
    """Take back credits that are neither held nor spent."""
    return _administer(team, Entry.Kind.REVOKE, amount, actor=actor, reason=reason, key=key)


def _administer(
    team: Team, kind: Entry.Kind, amount: int, *, actor: User | None, reason: str, key: str
) -> Entry | Refusal:
    try:
        with write():
            return _apply(team, kind, amount, actor=actor, reason=reason, key=key)
    except IntegrityError:  # the same key was being written just now
        return same(team, kind, amount, key) or Refusal(
            "conflict", "", "This was being done already. Look at the ledger."
        )


def _apply(team: Team, kind: Entry.Kind, amount: int, *, actor: User | None, reason: str, key: str) -> Entry | Refusal:
    before = same(team, kind, amount, key)
    if before is not None:
        return before
    delta = amount if kind == Entry.Kind.GRANT else -amount
    budget = Budget.objects.filter(team=team, granted__gte=F("held") + F("spent") - delta)
    if not budget.update(granted=F("granted") + delta):
        return Refusal(
            "budget", "amount", f"Only {credits_text(_available(team))} can be taken back; the rest is in use."
        )
    entry = Entry.objects.create(
        team=team,
        kind=kind,
        amount=amount,
        available_after=_available(team),
        actor=actor,
        actor_label=_label(actor),
        reason=reason,
        key=key,
    )
    bus.publish_balance(team.pk)
    faults.point("CP15")
    return entry


def same(team: Team, kind: Entry.Kind, amount: int, key: str) -> Entry | Refusal | None:
    """What was entered under this key before: the entry, a refusal if it was another one, or None."""
    entry = Entry.objects.filter(team=team, key=key).first()
    if entry is None or (entry.kind == kind and entry.amount == amount):
        return entry
    return Refusal("conflict", "", "This form was already sent with another amount. Open it again to send a new one.")


def _require_transaction() -> None:
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("money moves only inside the transaction of its cause")


def _short(team: Team, total: int) -> Refusal:
    left = _available(team)
    return Refusal(
        "budget",
        "",
        f"Not sent: this needs {credits_text(total)}, and the team has {credits_text(left)} left. "
        "Nothing was held. Make fewer or cheaper pictures, or ask a team admin for more.",
    )


def _available(team: Team) -> int:
    return Budget.objects.get(team=team).available


def _label(actor: User | None) -> str:
    return str(actor)[:80] if actor else SYSTEM


def _entry(task: Task, kind: Entry.Kind, amount: int, after: int, *, reason: str, actor: User | None = None) -> Entry:
    return Entry(
        team_id=task.team_id,
        task=task,
        kind=kind,
        amount=amount,
        available_after=after,
        actor=actor,
        actor_label=_label(actor),
        reason=reason[:200],
        key=f"{kind}:{task.pk}",
    )


def _record(task: Task, kind: Entry.Kind, amount: int, *, reason: str) -> None:
    """Write a task's outcome. A second one breaks the unique constraint and, with it, the caller's transaction."""
    _require_transaction()
    _entry(task, kind, amount, Budget.objects.get(team_id=task.team_id).available, reason=reason).save(
        force_insert=True
    )
    bus.publish_balance(task.team_id)
