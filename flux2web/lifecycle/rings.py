"""Callbacks and impatient members: they bring a look forward, and are believed in nothing."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from .. import faults
from ..models import LIVE, Attempt, Callback, State, Task, User, write
from ..models.base import token_hash
from . import moves
from .moves import Next

CALLBACKS_KEPT = 20  # per attempt; further rings still make us look


def ring(provider: str, secret: str, method: str, body: bytes) -> tuple[int, Next | None] | None:
    """A provider rang. Keep its bytes, look at once, believe nothing. None: no such secret; else (task id, next look)."""
    attempt = Attempt.objects.select_related("task").filter(secret_hash=token_hash(secret)).first()
    if attempt is None or attempt.account.provider != provider:
        return None
    with write():
        _keep_callback(attempt, method, body)
        at = bring_forward(attempt)
        faults.point("CP11")
    faults.point("CP12")
    return attempt.task_id, at


def _keep_callback(attempt: Attempt, method: str, body: bytes) -> None:
    now = timezone.now()
    Attempt.objects.filter(pk=attempt.pk).update(rung_at=now)
    if attempt.callbacks.count() >= CALLBACKS_KEPT:
        return
    Callback.objects.create(attempt=attempt, method=method[:10], body=body[: settings.CALLBACK_MAX_BYTES], received=now)
    late = attempt.task.state not in LIVE
    moves.note(
        attempt.task, "late" if late else "callback", attempt.account.provider, "rang after the end" if late else ""
    )


def bring_forward(attempt: Attempt) -> Next | None:
    """Look now; once the attempt's burst is spent, at most every RING_MIN_S. While the create is open the bytes wait."""
    task, now = attempt.task, timezone.now()
    at = now
    if attempt.burst >= len(settings.RING_BURST_S) and task.looked_at:
        at = max(now, task.looked_at + timedelta(seconds=settings.RING_MIN_S))
    waiting = Task.objects.filter(pk=task.pk, state__in=(State.UNCERTAIN, State.RUNNING), due_at__gt=at)
    return Next(State.RUNNING, at) if waiting.update(due_at=at) else None


def look_now(task: Task, user: User) -> Next | None:
    """A member asks for a look. At most one in RING_MIN_S.

    Saving keeps its own pace: pressed often enough, a picture that is merely late would be given up as lost.
    """
    now = timezone.now()
    rested = Q(looked_at=None) | Q(looked_at__lte=now - timedelta(seconds=settings.RING_MIN_S))
    waiting = Task.objects.filter(rested, pk=task.pk, state__in=(State.UNCERTAIN, State.RUNNING))
    with write():
        if not waiting.update(due_at=now):
            return None
        moves.note(task, "look", moves.by(user))
    return Next(State(task.state), now)
