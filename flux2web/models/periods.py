"""The stretch of time for which limits hold, and what each member has used of it. Written by flux2web/ledger alone."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from .teams import Team


class Period(models.Model):
    """A team's month: from one renewal to the next. Credits that expire are used before those that last."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="periods")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()  # moves only when the team's rules do, and only while the period lasts
    expiring = models.BigIntegerField(default=0)  # granted credits that end with it
    expired = models.BigIntegerField(default=0)  # of those, taken back since it ended
    warned_percent = models.PositiveSmallIntegerField(default=0)  # the last warning the team's admins had

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "starts_at"], name="period_once"),
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="period_goes_forward"),
            models.CheckConstraint(
                condition=Q(expired__gte=0, expired__lte=F("expiring")), name="period_expires_what_it_has"
            ),
        ]

    def __str__(self) -> str:
        return f"from {self.starts_at:%Y-%m-%d} to {self.ends_at:%Y-%m-%d}"


class Usage(models.Model):
    """What one member holds and has spent of one period, with the holds made in it. Caps bind here."""

    period = models.ForeignKey(Period, on_delete=models.PROTECT, related_name="usages")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="usages")
    held = models.BigIntegerField(default=0)
    spent = models.BigIntegerField(default=0)
    refunded = models.BigIntegerField(default=0)  # of what was spent
    extra = models.BigIntegerField(default=0)  # granted on top of the cap, for this period only
    warned_percent = models.PositiveSmallIntegerField(default=0)  # the last warning the member had

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["period", "user"], name="usage_once"),
            models.CheckConstraint(
                condition=Q(held__gte=0, spent__gte=0, extra__gte=0, refunded__gte=0, refunded__lte=F("spent")),
                name="usage_never_below_zero",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.used} used, {self.held} of it held"

    @property
    def used(self) -> int:
        """What counts against a cap."""
        return self.held + self.spent - self.refunded
