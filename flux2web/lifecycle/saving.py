"""Fetch the result, check it, store our own copy, and only then settle."""

from __future__ import annotations

import structlog
from django.conf import settings
from django.utils import timezone

from .. import accounts, collecting, faults, hands, health, http, imaging, pricing, storage
from ..models import Attempt, State, Task, write
from ..providers.base import Kind
from . import moves, pace
from .moves import Next

log = structlog.get_logger(__name__)
Outcome = Attempt.Outcome
REFETCHES_MAX = 3  # times a provider is asked again for a fresh address of a picture that is gone


def save(task_id: int) -> Next | None:
    """Fetch the result, check it, store our own copy, and only then settle."""
    task = moves.claim(task_id, (State.SAVING,), settings.SAVE_LEASE_S)
    if task is None:
        return None
    url = task.result_urls[task.strikes % len(task.result_urls)]  # where there are several, the next one each time
    try:
        origin = accounts.own_origin(task.account)  # type: ignore[arg-type]
        with hands.away():
            data = storage.fetch_result(task, url, origin)
        stored = storage.store_result(task, data)
    except http.FetchFailed as error:
        return _fetch_failed(task, error)
    except imaging.NoAnswer as error:
        return _not_decoded(task, error)
    except imaging.BadImage as error:
        return _bad_picture(task, error)
    except (storage.StorageDown, OSError) as error:
        return _storage_down(task, error)
    return _saved(task, stored)


def _saved(task: Task, stored: storage.Stored) -> Next | None:
    price = task.attempts.get(outcome=Outcome.ACCEPTED).price_credits or task.price_credits
    charged = pricing.charge(task.price_credits, price, task.cost_usd, settings.CREDIT_USD)
    collection = task.batch.collection_id  # asked for before money is locked
    with write():
        if not moves.finish(task, State.DONE, cause="fetch", charged=charged):
            return None
        storage.result_row(task, stored).save(force_insert=True)
        collecting.place(task, collection)
        faults.point("CP10")
    storage.forget_spooled(task)
    return None


def _fetch_failed(task: Task, error: http.FetchFailed) -> Next | None:
    """The picture's address does not give it. Wait; ask the provider for a fresh address; in the end it is lost."""
    log.warning("result not fetched", task_id=task.pk, kind=error.kind, text=error.message)
    health.count_failure(task.account_id, "forbidden" if error.kind == "refused" else error.kind)  # type: ignore[arg-type]
    if error.kind == "refused" and moves.is_unreadable_for_good(task, "fetch", error.message):
        return _lost(task, error.message)
    is_late, may_ask = task.waited_s > settings.SAVING_LIMIT_S, _may_ask_afresh(task)
    if is_late and not may_ask:
        return _lost(task, error.message)
    if may_ask and (is_late or (error.kind == "gone" and task.strikes + 1 >= len(settings.BACKOFF_S))):
        return _ask_afresh(task, error.message)
    return moves.again(task, pace.backoff_s(task.strikes), strikes=task.strikes + 1)


def _bad_picture(task: Task, error: imaging.BadImage) -> Next | None:
    """What came is no picture: a delivery network may have answered with a page. Try again a little, then give up."""
    health.count_failure(task.account_id, "no_picture")  # type: ignore[arg-type]
    storage.forget_spooled(task)
    if moves.is_unreadable_for_good(task, "fetch", str(error)):
        return _lost(task, str(error))
    return moves.again(task, pace.backoff_s(task.strikes), strikes=task.strikes + 1)


def _not_decoded(task: Task, error: imaging.NoAnswer) -> Next | None:
    """Perhaps our own fault (no memory, a machine at its limit): the bytes stay spooled, and only time gives up."""
    log.error("a picture was not decoded", task_id=task.pk)
    if task.waited_s > settings.SAVING_LIMIT_S:
        return _lost(task, str(error))
    return moves.again(task, pace.backoff_s(task.strikes), strikes=task.strikes + 1)


def _storage_down(task: Task, error: Exception) -> Next:
    """Our own fault: the bytes stay spooled, and the time does not count."""
    log.error("storage is down, results wait", task_id=task.pk, error=repr(error))
    waited_s = max(0.0, task.waited_s - settings.GAP_MAX_S)
    return moves.again(task, pace.backoff_s(task.strikes), strikes=task.strikes + 1, waited_s=waited_s)


def _may_ask_afresh(task: Task) -> bool:
    return task.events.filter(kind=State.SAVING).count() < REFETCHES_MAX


def _ask_afresh(task: Task, why: str) -> Next | None:
    """Back to running: the next look brings a fresh address."""
    now = timezone.now()
    with write():
        moved = moves.move(task, State.RUNNING, cause="fetch", note=why, due_at=now, came_from=(State.SAVING,))
    return Next(State.RUNNING, now) if moved else None


def _lost(task: Task, why: str) -> Next | None:
    storage.forget_spooled(task)
    message = f"The provider made this picture, but it could not be fetched: {why}"
    return moves.fail(task, Kind.BAD_REPLY, message, code="result_lost", cause="fetch", came_from=(State.SAVING,))
