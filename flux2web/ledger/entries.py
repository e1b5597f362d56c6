"""What a task's life and an admin's hand do to the credits: each a move of the sums and the entry that says why."""

from __future__ import annotations

from decimal import Decimal

from django.db import IntegrityError
from django.db.models import F
from django.utils import timezone

from .. import bus, faults
from ..models import Budget, Entry, Membership, Period, Tally, Task, Team, Usage, User, write
from ..money import credits_text
from ..orders import Refusal
from . import limits, months
from .book import add_granted, budget_of, of_task, of_team, require_transaction

# --- A task's -------------------------------------------------------------------------------------------------------


def hold(member: Membership, period: Period, tasks: list[Task]) -> Refusal | None:
    """Reserve the price of each task, all or nothing, in the period that the tasks name.

    A refusal names the limit that bound; the caller rolls back. Raises PeriodEnded when another one has begun meanwhile.
    """
    require_transaction()
    total = sum(task.price_credits for task in tasks)
    fresh = Membership.objects.select_related("team__budget", "user").filter(pk=member.pk).first()
    if fresh is None or not fresh.may_make:
        return Refusal("role", "", f"You can no longer make pictures in {member.team}. Nothing was held.")
    if not limits.use(fresh, period, total):
        return limits.refusal(limits.left(fresh), total)
    enough = Budget.objects.filter(pk=fresh.team_id, period=period, granted__gte=F("held") + F("spent") + total)
    if not enough.update(held=F("held") + total):
        return _short(fresh, period, total)
    _write_holds(fresh, tasks, total)
    return None


def _short(member: Membership, period: Period, total: int) -> Refusal:
    if budget_of(member.team_id).period_id != period.pk:
        raise months.PeriodEnded
    Usage.objects.filter(period=period, user=member.user_id).update(
        held=F("held") - total
    )  # as it was before this hold
    return limits.refusal(limits.left(member), total)


def _write_holds(member: Membership, tasks: list[Task], total: int) -> None:
    after = budget_of(member.team_id).available + total
    entries = []
    for task in tasks:
        after -= task.price_credits
        price, reason = task.price_credits, "asked for a picture"
        entries.append(of_task(task, Entry.Kind.HOLD, price, after, reason=reason, actor=member.user))
    Entry.objects.bulk_create(entries)
    bus.publish_balance(member.team_id)


def settle(task: Task, charged: int) -> None:
    """The picture is ours: `charged` of the hold is spent (at most all of it), the rest returns."""
    _outcome(task, Entry.Kind.SETTLE, charged, spent=charged, reason="picture stored")
    _count(task, done=1, credits=charged, references=task.reference_count, cost_usd=_cost_usd(task))


def release(task: Task, reason: str, *, counts_as: str = "failed") -> None:
    """No picture: the whole hold returns. It counts as failed, or as cancelled."""
    _outcome(task, Entry.Kind.RELEASE, task.price_credits, spent=0, reason=reason)
    _count(task, **{counts_as: 1})


def _outcome(task: Task, kind: Entry.Kind, amount: int, *, spent: int, reason: str) -> None:
    """End a hold. A second end breaks the unique constraint and, with it, the caller's transaction."""
    require_transaction()
    moves = {"held": F("held") - task.price_credits, "spent": F("spent") + spent}
    Usage.objects.filter(period=task.period_id, user=task.user_id).update(**moves)
    Budget.objects.filter(pk=task.team_id).update(**moves)
    budget = budget_of(task.team_id)
    of_task(task, kind, amount, budget.available, reason=reason).save(force_insert=True)
    months.expire_late(task, budget, returned=task.price_credits - spent)
    bus.publish_balance(task.team_id)


def _cost_usd(task: Task) -> Decimal:
    """What the provider reported, else what it lists for this; nothing where neither is known."""
    if task.cost_usd is not None:
        return task.cost_usd
    accepted = task.attempts.filter(outcome="accepted").values_list("list_usd", flat=True).first()
    return accepted or Decimal(0)


def _count(task: Task, **more: int | Decimal) -> None:
    """Add to the sums of the day on which the task ended."""
    if task.user_id is None:
        return
    place = {
        "team_id": task.team_id,
        "user_id": task.user_id,
        "day": (task.finished_at or timezone.now()).date(),
        "provider": task.account.provider if task.account else "",
        "family": task.family,
        "mode": task.mode,
        "resolution": task.resolution,
    }
    if not _add(place, more):
        Tally.objects.bulk_create([Tally(**place)], ignore_conflicts=True)
        _add(place, more)


def _add(place: dict, more: dict) -> bool:
    return bool(Tally.objects.filter(**place).update(**{name: F(name) + by for name, by in more.items()}))


def refund(task: Task, amount: int, *, actor: User, reason: str, key: str) -> Entry:
    """Give back credits of a settled task. The caller has made sure, by UPDATE, that they were charged.

    What is given back does not expire, whatever it was paid from.
    """
    require_transaction()
    Usage.objects.filter(period=task.period_id, user=task.user_id).update(refunded=F("refunded") + amount)
    Budget.objects.filter(pk=task.team_id).update(spent=F("spent") - amount)
    entry = of_task(task, Entry.Kind.REFUND, amount, budget_of(task.team_id).available, reason=reason, actor=actor)
    entry.key = key
    entry.save(force_insert=True)
    _count(task, refunded=amount)
    bus.publish_balance(task.team_id)
    return entry


# --- An admin's -----------------------------------------------------------------------------------------------------


def grant(
    team: Team, amount: int, *, actor: User | None, reason: str, key: str, expires: bool = False
) -> Entry | Refusal:
    """Give a team credits, for good or until its period ends. The same key again changes nothing and returns the first."""
    return _administer(team, Entry.Kind.GRANT, amount, actor=actor, reason=reason, key=key, expires=expires)


def revoke(team: Team, amount: int, *, actor: User | None, reason: str, key: str) -> Entry | Refusal:
    """Take back credits that are neither held nor spent; those that would have lasted first."""
    return _administer(team, Entry.Kind.REVOKE, amount, actor=actor, reason=reason, key=key)


def adjust(team: Team, amount: int, *, actor: User | None, reason: str, key: str) -> Entry | Refusal:
    """Correct what was granted, up or down: `amount` has a sign. For mistakes; the entry says so."""
    return _administer(team, Entry.Kind.ADJUST, amount, actor=actor, reason=reason, key=key)


def _administer(
    team: Team, kind: Entry.Kind, amount: int, *, actor: User | None, reason: str, key: str, expires: bool = False
) -> Entry | Refusal:
    try:
        with write():
            return same(team, kind, amount, key) or _apply(team, kind, amount, actor, reason, key, expires=expires)
    except IntegrityError:  # the same key was being written just now
        return same(team, kind, amount, key) or Refusal(
            "conflict", "", "This was being done already. Look at the ledger."
        )


def _apply(
    team: Team, kind: Entry.Kind, amount: int, actor: User | None, reason: str, key: str, *, expires: bool
) -> Entry | Refusal:
    period = months.current(team, timezone.now()) if expires else None
    if not add_granted(team.pk, -amount if kind == Entry.Kind.REVOKE else amount):
        left = credits_text(budget_of(team.pk).available)
        return Refusal("budget", "amount", f"Only {left} can be taken back; the rest is in use.")
    if period:
        Period.objects.filter(pk=period.pk).update(expiring=F("expiring") + amount)
    if kind == Entry.Kind.GRANT:  # a smaller share is used now: its next crossing is worth a warning again
        Period.objects.filter(pk__in=Budget.objects.filter(pk=team.pk).values("period")).update(warned_percent=0)
    entry = of_team(team, kind, amount, actor=actor, reason=reason, key=key, period=period)
    faults.point("CP15")
    return entry


def same(team: Team, kind: Entry.Kind, amount: int, key: str) -> Entry | Refusal | None:
    """What was entered under this key before: the entry, a refusal if it was another one, or None."""
    entry = Entry.objects.filter(team=team, key=key).first()
    if entry is None or (entry.kind == kind and entry.amount == amount):
        return entry
    return Refusal("conflict", "", "This form was already sent with another amount. Open it again to send a new one.")
