"""A team's credits: the sums, and the entries they are the sums of. Written by flux2web/ledger.py alone."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from .tasks import Task
from .teams import Team


class Budget(models.Model):
    """The sums over a team's entries. `available` is what may still be held."""

    team = models.OneToOneField(Team, on_delete=models.PROTECT, related_name="budget", primary_key=True)
    granted = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)
    spent = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(granted__gte=0, held__gte=0, spent__gte=0), name="budget_never_below_zero"
            ),
            models.CheckConstraint(condition=Q(granted__gte=F("held") + F("spent")), name="budget_never_overdrawn"),
        ]

    def __str__(self) -> str:
        return f"{self.available} of {self.granted} available"

    @property
    def available(self) -> int:
        return self.granted - self.held - self.spent


class Entry(models.Model):
    """One line of the ledger. Never edited; a correction is another entry."""

    class Kind(models.TextChoices):
        GRANT = "grant"
        REVOKE = "revoke"
        HOLD = "hold"
        SETTLE = "settle"
        RELEASE = "release"
        REFUND = "refund"
        ADJUST = "adjust"

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="entries")
    task = models.ForeignKey(Task, null=True, blank=True, on_delete=models.PROTECT, related_name="entries")
    kind = models.CharField(max_length=8, choices=Kind)
    amount = models.BigIntegerField()
    available_after = models.BigIntegerField()
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    actor_label = models.CharField(max_length=80)  # stays when the person goes
    reason = models.CharField(max_length=200)
    key = models.CharField(max_length=80)
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=1, amount__lte=10**12), name="entry_amount_in_range"),
            models.CheckConstraint(
                condition=Q(kind__in=["grant", "revoke", "adjust"], task=None)
                | Q(kind__in=["hold", "settle", "release", "refund"], task__isnull=False),
                name="entry_names_its_task",
            ),
            models.CheckConstraint(condition=~Q(reason="") & ~Q(actor_label="") & ~Q(key=""), name="entry_says_why"),
            models.UniqueConstraint(fields=["team", "key"], name="entry_key_once"),
            models.UniqueConstraint(fields=["task"], condition=Q(kind="hold"), name="entry_one_hold_per_task"),
            models.UniqueConstraint(
                fields=["task"], condition=Q(kind__in=["settle", "release"]), name="entry_one_outcome_per_task"
            ),
        ]
        indexes = [models.Index(fields=["team", "-created", "-id"], name="entry_by_team")]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount}"
