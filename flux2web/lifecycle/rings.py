"""Callbacks and impatient members: they bring a look forward, and are believed in nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from .. import accounts, faults, providers, queries
from ..models import LIVE, Attempt, Callback, State, Task, User, one, write
from ..models.base import token_hash
from . import moves
from .moves import Next

Verdict, Signature = Callback.Verdict, Callback.Signature
CALLBACKS_KEPT = 20  # per attempt; further rings still make us look
UNKNOWN_KEPT = 500  # of all that rang where nobody lives
UNKNOWN_A_MINUTE = 30  # of them; in a flood the others cost one look-up in an index and are not kept
UNKNOWN_BYTES = 2048  # of each body


def ring(
    provider: str, secret: str, method: str, body: bytes, headers: Mapping[str, str] | None = None
) -> tuple[int, Next | None] | None:
    """A provider rang. Keep its bytes, look at once, believe nothing. None: no such secret; else (task id, next look).

    Where a secret for signatures is set, a ring that is not rightly signed is kept and brings no look forward: that
    lowers noise and costs no picture, because we look by ourselves as well, only later. No secret set: not checked.
    """
    attempt = one(Attempt.objects.select_related("task", "account").filter(secret_hash=token_hash(secret)))
    if attempt is None or attempt.account.provider != provider:
        _keep_unknown(provider, method, body)
        return None
    row = Callback(attempt=attempt, provider=provider, method=method[:10], size_bytes=len(body))
    row.body, row.received = body[: settings.CALLBACK_MAX_BYTES], timezone.now()
    row.signature, row.verdict = _signature(attempt, body, headers or {}), _verdict(attempt, body)
    with write():
        _keep(row, attempt)
        at = None if row.signature == Signature.BAD else bring_forward(attempt)
        faults.point("CP11")
    faults.point("CP12")
    return attempt.task_id, at


def _signature(attempt: Attempt, body: bytes, headers: Mapping[str, str]) -> str:
    secret = accounts.callback_secret(attempt.account)
    is_signed = providers.get(attempt.account.provider).is_signed(body, headers, secret) if secret else None
    if is_signed is None:
        return Signature.NONE
    return Signature.GOOD if is_signed else Signature.BAD


def _verdict(attempt: Attempt, body: bytes) -> str:
    if not _names(attempt, providers.get(attempt.account.provider).parse_callback(body)):
        return Verdict.MALFORMED
    if attempt.task.state not in LIVE:
        return Verdict.LATE
    return Verdict.DUPLICATE if attempt.callbacks.filter(verdict=Verdict.MATCHED).exists() else Verdict.MATCHED


def _names(attempt: Attempt, upstream_id: str | None) -> bool:
    """Whether it may speak of this attempt: by its id, or, before we know that, by one that is no other task's."""
    if not upstream_id or attempt.upstream_id:
        return bool(upstream_id) and upstream_id == attempt.upstream_id
    others = Task.objects.filter(account_id=attempt.account_id, upstream_id=upstream_id).exclude(pk=attempt.task_id)
    return not others.exists()


def _keep(row: Callback, attempt: Attempt) -> None:
    is_signed_badly = row.signature == Signature.BAD
    if not is_signed_badly:
        Attempt.objects.filter(pk=attempt.pk).update(rung_at=row.received)
    if attempt.callbacks.count() >= CALLBACKS_KEPT:
        return
    row.save(force_insert=True)
    late = attempt.task.state not in LIVE
    said = "wrongly signed" if is_signed_badly else "rang after the end" if late else ""
    moves.note(attempt.task, "late" if late else "callback", attempt.account.provider, said)


def _keep_unknown(provider: str, method: str, body: bytes) -> None:
    """Somebody guesses, or calls for a task that is long gone: worth a line, up to so many."""
    unknown, now = Callback.objects.filter(verdict=Verdict.UNKNOWN).order_by("-pk"), timezone.now()
    lately = unknown.values_list("received", flat=True)[UNKNOWN_A_MINUTE - 1 : UNKNOWN_A_MINUTE].first()
    if lately and lately > now - timedelta(minutes=1):
        return
    with write():
        Callback.objects.create(
            provider=provider if provider in providers.ALL else "",
            verdict=Verdict.UNKNOWN,
            method=method[:10],
            body=body[:UNKNOWN_BYTES],
            size_bytes=len(body),
            received=now,
        )
        last = unknown.values_list("pk", flat=True)[UNKNOWN_KEPT : UNKNOWN_KEPT + 1].first()
        if last:
            Callback.objects.filter(verdict=Verdict.UNKNOWN, pk__lte=last).delete()


def heard(attempt: Attempt) -> bool:
    """Whether somebody rang who makes us look."""
    return attempt.callbacks.exclude(signature=Signature.BAD).exists()


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


def forget_callbacks(now: datetime | None = None) -> int:
    """Old bytes go, page by page; those of a task that still lives may yet teach us its id. Returns how many. For the clock."""
    limit, gone = (now or timezone.now()) - timedelta(days=settings.CALLBACKS_DAYS), 0
    for page in queries.older_than(limit, Callback.objects.all(), "received"):
        with write():
            gone += Callback.objects.filter(pk__in=page).exclude(attempt__task__in=Task.objects.live()).delete()[0]
    return gone
