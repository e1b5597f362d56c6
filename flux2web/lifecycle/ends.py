"""After the end: refunds. And after a stop: waking what waited."""

from __future__ import annotations

from django.db import IntegrityError
from django.db.models import F
from django.utils import timezone

from .. import bus, faults, ledger
from ..models import Entry, State, Task, User, write
from ..money import credits_text
from ..orders import Refusal
from . import moves


def refund(task: Task, amount: int, *, actor: User, reason: str, key: str) -> Entry | Refusal:
    """Give back part or all of what a picture was charged; never more, however many admins are at it.

    The same key again changes nothing and returns the first entry.
    """
    try:
        with write():
            known = ledger.same(task.team, Entry.Kind.REFUND, amount, key)
            return known or _refund(task, amount, actor=actor, reason=reason, key=key)
    except IntegrityError:  # the same key was being written just now
        return ledger.same(task.team, Entry.Kind.REFUND, amount, key) or _not_refundable(task)


def _refund(task: Task, amount: int, *, actor: User, reason: str, key: str) -> Entry | Refusal:
    charged = Task.objects.filter(pk=task.pk, state=State.DONE, charged_credits__gte=F("refunded_credits") + amount)
    if not charged.update(refunded_credits=F("refunded_credits") + amount, version=F("version") + 1):
        return _not_refundable(task)
    moves.note(task, "refund", moves.by(actor), reason)
    bus.publish_task(task.team_id, task.pk)
    entry = ledger.refund(task, amount, actor=actor, reason=reason, key=key)
    faults.point("CP14")
    return entry


def _not_refundable(task: Task) -> Refusal:
    task.refresh_from_db()
    if task.state != State.DONE:
        return Refusal("input", "task", f"Task {task.pk} was not charged: it is {State(task.state).label.lower()}.")
    left = (task.charged_credits or 0) - task.refunded_credits
    return Refusal("budget", "amount", f"Task {task.pk} has {credits_text(left)} left to give back.")


def wake() -> int:
    """At the start of a site that has only this one process: nobody else holds a claim, so every look is due now.

    Leases of creates stay: their answers are lost, and only a passed lease may say so.
    """
    now = timezone.now()
    return Task.objects.filter(state__in=(State.QUEUED, State.UNCERTAIN, State.RUNNING, State.SAVING)).update(
        due_at=now
    )
