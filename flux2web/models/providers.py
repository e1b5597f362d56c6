"""Accounts with the providers, their keys, and what a picture costs there."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models import F, Max, Q
from django.db.models.functions import Greatest
from django.utils import timezone

from .base import EncryptedField


class AccountQuerySet(models.QuerySet["ProviderAccount"]):
    def real(self) -> AccountQuerySet:
        return self.filter(sandbox=False)

    def switched_on(self) -> AccountQuerySet:
        return self.filter(enabled=True)


class ProviderAccount(models.Model):
    """Our account with one provider: its address, switches, throttle and pause. Sandbox accounts stand beside real ones."""

    provider = models.CharField(max_length=20)
    sandbox = models.BooleanField(default=False)
    base_url = models.CharField(max_length=200)
    options = models.JSONField(default=dict, blank=True)
    enabled = models.BooleanField(default=True)
    created = models.DateTimeField(default=timezone.now, editable=False)

    # Throttle: at most `rate_count` calls in `rate_s` seconds, at most `concurrent` tasks at once (null: no ceiling).
    rate_count = models.PositiveIntegerField()
    rate_s = models.FloatField()
    concurrent = models.PositiveIntegerField(null=True, blank=True)
    next_call_at = models.DateTimeField(default=timezone.now)  # the generic cell rate algorithm's "theoretical arrival"

    paused_until = models.DateTimeField(null=True, blank=True)
    pause_kind = models.CharField(max_length=16, blank=True)
    pause_reason = models.CharField(max_length=300, blank=True)
    failures = models.PositiveIntegerField(default=0)  # in a row; the pause grows with them

    objects = AccountQuerySet.as_manager()

    class Meta:
        ordering = ["sandbox", "id"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "sandbox"], name="account_once"),
            models.CheckConstraint(condition=Q(rate_count__gte=1, rate_s__gt=0), name="account_rate_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.provider}{' (sandbox)' if self.sandbox else ''}"

    def is_paused(self, now: datetime) -> bool:
        return self.paused_until is not None and self.paused_until > now

    @property
    def key(self) -> ProviderKey | None:
        """The newest key, or None. Raises ImproperlyConfigured when it does not open any more."""
        return self.keys.order_by("-version").first()

    @property
    def key_hint(self) -> str:
        """The newest key as it may be shown; "" when there is none."""
        try:
            return self.key.hint if self.key else ""
        except ImproperlyConfigured:
            return "does not open"

    @property
    def key_version(self) -> int:
        """The newest key's version without opening it; 0 when there is none."""
        return self.keys.aggregate(newest=Max("version"))["newest"] or 0

    def take_call(self, now: datetime) -> datetime | None:
        """Take one call of the allowance, exactly, across processes. None when taken, else when the next one is free.

        Generic cell rate algorithm in one conditional UPDATE: a call is allowed while the theoretical arrival time is
        not further ahead than the burst of `rate_count` calls, and moves it on by one interval.
        """
        interval = timedelta(seconds=self.rate_s / self.rate_count)
        burst = timedelta(seconds=self.rate_s) - interval
        taken = ProviderAccount.objects.filter(pk=self.pk, next_call_at__lte=now + burst).update(
            next_call_at=Greatest(F("next_call_at"), now) + interval
        )
        if taken:
            return None
        self.refresh_from_db(fields=["next_call_at"])
        return self.next_call_at - burst


class ProviderKey(models.Model):
    """One version of an account's key. Old ones stay, so that tasks sent with them can still be asked about."""

    account = models.ForeignKey(ProviderAccount, on_delete=models.CASCADE, related_name="keys")
    version = models.PositiveIntegerField()
    secret = EncryptedField()
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "version"], name="key_version_once")]

    def __str__(self) -> str:
        return f"key {self.version} of {self.account_id}"

    @property
    def hint(self) -> str:
        """The last four characters, or nothing of a short key."""
        return f"…{self.secret[-4:]}" if len(self.secret) >= 12 else "set"


class Price(models.Model):
    """What a provider's picture costs a team. No row, no send."""

    provider = models.CharField(max_length=20)
    family = models.CharField(max_length=8)
    resolution = models.CharField(max_length=4)
    credits = models.PositiveBigIntegerField()
    credits_per_reference = models.PositiveIntegerField(default=0)
    usd = models.DecimalField(max_digits=10, decimal_places=4, null=True, blank=True)  # approximate, never derived
    published = models.BooleanField()  # by the provider; else assumed, and shown as such until an admin confirms
    confirmed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["provider", "-family", "resolution"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "family", "resolution"], name="price_once"),
            models.CheckConstraint(condition=Q(credits__gte=1), name="price_of_nothing_refused"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.family} {self.resolution}: {self.credits}"
