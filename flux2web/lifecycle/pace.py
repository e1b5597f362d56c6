"""How long until the next look: pure sums over the settings, the provider's advice and what failed before."""

from __future__ import annotations

import random

from django.conf import settings
from django.db.models import F

from .. import accounts
from ..models import Attempt

ASK_AGAIN_S = 15  # a task that no account may take is looked at this often
CALLBACK_PATIENCE = 3  # an attempt that will be called back is polled this many times slower


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
    """The provider's own advice, slower where callbacks come, never all at once."""
    plan = accounts.capabilities(attempt.account).poll
    patience = CALLBACK_PATIENCE if attempt.with_callback and age_s < 300 else 1
    return plan.wait_s(age_s) * patience * settings.LOOK_SCALE * random.uniform(0.9, 1.1)
