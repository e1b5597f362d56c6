"""Accounts with the providers, their keys, and what a picture costs there."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import cache

from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models import Exists, Max, OuterRef, Q
from django.utils import timezone

from .base import EncryptedField, write

WINDOW_MAX_S = 25.0  # longer than that nobody waits behind a burst, where the allowance comes more often
CALLS_KEPT = 256  # of an account, in its row


@cache
def _part(count: int, window_s: float) -> tuple[int, float]:
    """What is kept instead of an allowance: an equal part of it, in as much less time. Kept everywhere, the whole is too."""
    often = window_s / count <= WINDOW_MAX_S
    fewest = max(1, count / CALLS_KEPT, window_s / WINDOW_MAX_S if often else 1)
    parts = next(number for number in range(math.ceil(fewest), count + 1) if count % number == 0)
    return count // parts, window_s / parts


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
    # What its callbacks are signed with, sealed; opened only where one is checked (accounts.callback_secret).
    sealed_callback_secret = models.TextField(blank=True, default="", db_default="")
    enabled = models.BooleanField(default=True)
    created = models.DateTimeField(default=timezone.now, editable=False)

    # Throttle: at most `rate_count` calls in `rate_s` seconds, at most `concurrent` tasks at once (null: no ceiling).
    rate_count = models.PositiveIntegerField()
    rate_s = models.FloatField()
    concurrent = models.PositiveIntegerField(null=True, blank=True)
    calls = models.JSONField(default=list, blank=True, db_default=[])  # when the last ones were taken, in seconds

    paused_until = models.DateTimeField(null=True, blank=True)
    pause_kind = models.CharField(max_length=16, blank=True)
    pause_reason = models.CharField(max_length=300, blank=True)
    failures = models.PositiveIntegerField(default=0)  # in a row; the pause grows with them

    # Of the last 24 hours here, by the clock (health.py): done, failed (through its own fault), median_s, p90_s.
    record = models.JSONField(default=dict, blank=True, db_default={})
    recorded_at = models.DateTimeField(null=True, blank=True)

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

    def take_call(self) -> datetime | None:
        """Take one call of the allowance, exactly, across processes. None when taken, else when the next one is free.

        The row is locked and remembers its last calls, so that no window of `rate_s` seconds, wherever it begins, has more
        than `rate_count` of them. A burst and then a steady rate would have nearly twice as many.
        """
        count, window_s = _part(self.rate_count, self.rate_s)
        with write():
            mine = ProviderAccount.objects.select_for_update(no_key=True).filter(pk=self.pk)
            calls = mine.values_list("calls", flat=True).get()
            now = timezone.now().timestamp()
            calls = [at for at in calls if at <= now + window_s]  # of a clock that was far ahead: not for ever
            now = max([now, *calls[-1:]])  # another machine's clock may be a little ahead
            free_at = calls[-count] + window_s if len(calls) >= count else now
            if free_at <= now:
                self.calls = [*calls, now][-count:]
                mine.update(calls=self.calls)
                return None
        return datetime.fromtimestamp(free_at, UTC)


class Failures(models.Model):
    """How many looks and fetches failed in one way in one hour (creates have their Attempt). Counted, not believed."""

    account = models.ForeignKey(ProviderAccount, on_delete=models.CASCADE, related_name="looks_failed", db_index=False)
    hour = models.DateTimeField()  # its beginning
    kind = models.CharField(max_length=16)  # as in health.WORDS
    total = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "hour", "kind"], name="failures_counted_once")]

    def __str__(self) -> str:
        return f"{self.total} of {self.account_id}: {self.kind}"


class RoutingRule(models.Model):
    """What a site admin lets "auto" do: one row."""

    premium_percent = models.PositiveIntegerField(
        default=50
    )  # how much dearer than the cheapest a healthier one may be
    healthy_percent = models.PositiveSmallIntegerField(default=80)  # of its tasks must end well for it to be healthy

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="routing_rule_once")]

    def __str__(self) -> str:
        return f"premium {self.premium_percent} %, healthy from {self.healthy_percent} %"

    @classmethod
    def current(cls) -> RoutingRule:
        return cls.objects.filter(pk=1).first() or cls(pk=1)


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


class PriceQuerySet(models.QuerySet["Price"]):
    def in_force(self, at: datetime) -> PriceQuerySet:
        """Of each picture's prices the one that holds at this moment."""
        newer = Price.objects.filter(
            provider=OuterRef("provider"),
            family=OuterRef("family"),
            resolution=OuterRef("resolution"),
            valid_from__gt=OuterRef("valid_from"),
            valid_from__lte=at,
        )
        return self.filter(~Exists(newer), valid_from__lte=at)


class Price(models.Model):
    """What a provider's picture costs a team, from some moment on. No row, no send. Never edited, but for confirming."""

    provider = models.CharField(max_length=20)
    family = models.CharField(max_length=8)
    resolution = models.CharField(max_length=4)
    credits = models.PositiveBigIntegerField()
    credits_per_reference = models.PositiveIntegerField(default=0)
    usd = models.DecimalField(max_digits=10, decimal_places=4, null=True, blank=True)  # approximate, never derived
    published = models.BooleanField()  # by the provider; else assumed, and shown as such until an admin confirms
    confirmed_at = models.DateTimeField(null=True, blank=True)
    valid_from = models.DateTimeField(default=timezone.now)

    objects = PriceQuerySet.as_manager()

    class Meta:
        ordering = ["provider", "-family", "resolution", "valid_from"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "family", "resolution", "valid_from"], name="price_once"),
            models.CheckConstraint(condition=Q(credits__gte=1), name="price_of_nothing_refused"),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {self.family} {self.resolution}: {self.credits}"


class Statement(models.Model):
    """One day of one account: what the provider accepted, what became of it, what it cost there and here."""

    account = models.ForeignKey(ProviderAccount, on_delete=models.CASCADE, related_name="statements")
    day = models.DateField()  # UTC
    at = models.DateTimeField(default=timezone.now)  # when it was drawn up
    accepted = models.PositiveIntegerField()  # tasks that the provider took on that day
    done = models.PositiveIntegerField()  # of them
    failed = models.PositiveIntegerField()
    open = models.PositiveIntegerField()
    credits = models.BigIntegerField()  # charged for them
    cost_usd = models.DecimalField(max_digits=14, decimal_places=6)  # as reported by the provider, else as it lists
    balance = models.DecimalField(max_digits=14, decimal_places=4, null=True, blank=True)  # in the provider's own unit
    drift = models.DecimalField(  # what the balance fell by, beyond what the accepted tasks explain; null: nobody knows
        max_digits=14, decimal_places=4, null=True, blank=True
    )
    findings = models.JSONField(default=list)

    class Meta:
        ordering = ["-day", "account"]
        constraints = [models.UniqueConstraint(fields=["account", "day"], name="statement_once")]

    def __str__(self) -> str:
        return f"{self.account} on {self.day}"
