"""How each account has done here in the last 24 hours: what routing, the provider page and the cards go by."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from django.db.models import F
from django.utils import timezone

from .models import Attempt, ProviderAccount, RoutingRule, State, Task

HOURS = 24
SAMPLE_MAX = 2000  # newest pictures whose seconds are looked at
KNOWN_FROM = 5  # tasks; fewer say nothing about an account
# Failures that speak of the provider, not of what was asked for (providers.base.Kind).
ITS_FAULT = ("auth", "balance", "rate", "maintenance", "provider", "bad_reply")


@dataclass(frozen=True)
class Record:
    """Tasks that ended in the last 24 hours, and what its finished pictures took. Seconds are None until there are some."""

    done: int = 0
    failed: int = 0  # through its own fault
    median_s: float | None = None
    p90_s: float | None = None

    @property
    def total(self) -> int:
        return self.done + self.failed

    @property
    def share_percent(self) -> int | None:
        """Of its tasks, how many ended well; None while there are too few to tell."""
        return round(100 * self.done / self.total) if self.total >= KNOWN_FROM else None


def record_of(account: ProviderAccount) -> Record:
    known = {name: account.record.get(name, default) for name, default in asdict(Record()).items()}
    return Record(**known)


def is_healthy(account: ProviderAccount, rule: RoutingRule) -> bool:
    """Well until known otherwise."""
    share = record_of(account).share_percent
    return share is None or share >= rule.healthy_percent


def take_stock(now: datetime | None = None) -> None:
    """Work out every account's record anew. For the clock."""
    now = now or timezone.now()
    for account in ProviderAccount.objects.all():
        record = measure(account, now - timedelta(hours=HOURS))
        ProviderAccount.objects.filter(pk=account.pk).update(record=asdict(record), recorded_at=now)


def measure(account: ProviderAccount, since: datetime) -> Record:
    ended = Task.objects.filter(account=account, finished_at__gte=since)
    seconds = _seconds(ended)
    return Record(
        done=ended.filter(state=State.DONE).count(),
        failed=ended.filter(state=State.FAILED, fail_kind__in=ITS_FAULT).count() + _passed_on(account, since),
        median_s=round(statistics.median(seconds), 1) if len(seconds) >= KNOWN_FROM else None,
        p90_s=round(statistics.quantiles(seconds, n=10)[-1], 1) if len(seconds) >= KNOWN_FROM else None,
    )


def _passed_on(account: ProviderAccount, since: datetime) -> int:
    """Tasks that it failed and another took over."""
    refused = Attempt.objects.filter(account=account, created__gte=since, refused_kind="provider")
    return refused.exclude(task__account=F("account")).count()


def _seconds(ended) -> list[float]:
    rows = ended.filter(state=State.DONE, provider_s__isnull=False).order_by("-finished_at")
    return list(rows.values_list("provider_s", flat=True)[:SAMPLE_MAX])
