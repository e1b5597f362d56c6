"""A team's credits: the sums, the entries they are the sums of, and the periods in which limits hold.

Written by flux2web/ledger alone.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from .periods import Period
from .tasks import Task
from .teams import Team


class Budget(models.Model):
    """The sums over a team's entries, and the rules by which they grow. `available` is what may still be held."""

    team = models.OneToOneField(Team, on_delete=models.PROTECT, related_name="budget", primary_key=True)
    granted = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)
    spent = models.BigIntegerField(default=0)

    # The period that limits hold for now; null until somebody needs one. When it begins: day of the month, local midnight.
    period = models.ForeignKey(Period, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    start_day = models.PositiveSmallIntegerField(default=1)
    time_zone = models.CharField(max_length=64, default="UTC")
    allowance = models.BigIntegerField(default=0)  # granted when a period begins
    rolls_over = models.BooleanField(default=True)  # whether what is unused of it outlives the period
    member_cap = models.BigIntegerField(null=True, blank=True)  # a period's, for members without their own; null: none
    confirm_above = models.BigIntegerField(null=True, blank=True)  # of one press: what costs more is asked about first
    kinds = models.CharField(max_length=40, blank=True, default="", db_default="")  # that are made; empty: all

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(start_day__gte=1, start_day__lte=28), name="budget_start_day_in_any_month"
            ),
            models.CheckConstraint(
                condition=Q(allowance__gte=0, allowance__lte=10**12)
                & (Q(member_cap=None) | Q(member_cap__gte=0, member_cap__lte=10**12)),
                name="budget_rules_in_range",
            ),
            models.CheckConstraint(
                condition=Q(confirm_above=None) | Q(confirm_above__gte=0, confirm_above__lte=10**12),
                name="budget_confirm_above_in_range",
            ),
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
    amount = models.BigIntegerField()  # of an adjustment with its sign, else positive
    period = models.ForeignKey(  # of a grant that ends with it, and of the taking back when it did
        Period, null=True, blank=True, on_delete=models.PROTECT, related_name="entries"
    )
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
            models.CheckConstraint(
                condition=Q(amount__gte=1, amount__lte=10**12)
                | Q(kind="adjust", amount__lte=-1, amount__gte=-(10**12)),
                name="entry_amount_in_range",
            ),
            models.CheckConstraint(
                condition=Q(period=None) | Q(kind__in=["grant", "revoke"]), name="entry_of_a_period_is_a_grant"
            ),
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
        indexes = [
            models.Index(fields=["team", "-created", "-id"], name="entry_by_team"),
            models.Index(fields=["team", "kind", "-created", "-id"], name="entry_by_kind"),
            models.Index(fields=["actor", "team", "-created", "-id"], name="entry_by_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount}"


class Tally(models.Model):
    """A day's pictures of one member, in one way, summed as they end: no page adds up tasks."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="tallies")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    day = models.DateField()  # on which they ended, UTC
    provider = models.CharField(max_length=20, blank=True)  # empty where none ever took it
    family = models.CharField(max_length=8)
    mode = models.CharField(max_length=16)
    resolution = models.CharField(max_length=4)
    done = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)  # and cancelled apart: that is nobody's failure
    cancelled = models.PositiveIntegerField(default=0)
    references = models.PositiveIntegerField(default=0)  # of the done ones, added up
    credits = models.BigIntegerField(default=0)  # charged
    refunded = models.BigIntegerField(default=0)  # of what was charged on this day, whenever it was given back
    cost_usd = models.DecimalField(max_digits=14, decimal_places=6, default=0)  # what providers reported, or list

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "user", "day", "provider", "family", "mode", "resolution"], name="tally_once"
            ),
            models.CheckConstraint(
                condition=Q(credits__gte=0, refunded__gte=0, refunded__lte=F("credits")), name="tally_within_charges"
            ),
        ]
        indexes = [models.Index(fields=["day", "team"], name="tally_by_day")]

    def __str__(self) -> str:
        return f"{self.day}: {self.done} done for {self.credits}"
