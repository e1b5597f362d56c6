"""How long until the next look: pure sums over the settings, the provider's advice and what failed before."""

from __future__ import annotations

import random

from django.conf import settings
from django.db.models import F

from .. import accounts, health
from ..models import Attempt

ASK_AGAIN_S = 15  # a task that no account may take is looked at this often
CALLBACK_PATIENCE = 3  # an attempt that may be called back is polled this many times slower
# Where callbacks come, nobody asks before so many times what pictures take. Of the median: what was asked for late, because
# its ring was lost, must not make the next ones wait longer.
QUIET_TIMES, QUIET_MAX_S = 3, 900


def backoff_s(strikes: int) -> float:
    steps = settings.BACKOFF_S
    return steps[min(strikes, len(steps) - 1)] * random.uniform(0.9, 1.1)


def uncertain_wait_s() -> float:
    """So that the wanted number of looks fills the wanted time."""
    return settings.UNCERTAIN_LIMIT_S / settings.UNCERTAIN_LOOKS


def burst_wait_s(attempt: Attempt) -> float | None:
    """After a ring, a few quick looks, once per attempt: some providers ring a moment before their query knows."""
    steps = settings.RING_BURST_S
    taken = Attempt.objects.filter(pk=attempt.pk, burst=attempt.burst, burst__lt=len(steps)).update(
        burst=F("burst") + 1
    )
    return steps[attempt.burst] if taken else None


def poll_wait_s(attempt: Attempt, age_s: float) -> float:
    """The provider's own advice, slower where we gave an address to ring at, never all at once. Nobody asks who rings: a ring
    that is lost costs about the time of a picture more."""
    plan = accounts.capabilities(attempt.account).poll
    patience = CALLBACK_PATIENCE if attempt.with_callback and age_s < 300 else 1
    wait_s = max(plan.wait_s(age_s) * patience, _quiet_s(attempt) - age_s)
    return wait_s * settings.LOOK_SCALE * random.uniform(0.9, 1.1)


def _quiet_s(attempt: Attempt) -> float:
    """The age at which a task that we are to be rung for is asked after; 0 where rings do not come, and once one came."""
    if attempt.rung_at or not (attempt.with_callback and health.rings(attempt.account)):
        return 0
    return min(QUIET_TIMES * (health.record_of(attempt.account).median_s or 0), QUIET_MAX_S)
