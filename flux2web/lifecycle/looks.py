"""Asking how a sent task stands."""

from __future__ import annotations

from datetime import datetime

import structlog
from django.conf import settings
from django.utils import timezone

from .. import accounts, hands, health, providers
from ..models import Attempt, ProviderAccount, State, Task, write
from ..providers import base
from ..providers.base import Kind, ProviderError, Report
from . import answers, moves, pace
from .moves import Next

log = structlog.get_logger(__name__)


def check(task_id: int) -> Next | None:
    """Ask how a sent task stands."""
    task = moves.claim(task_id, (State.SUBMITTING, State.UNCERTAIN, State.RUNNING), settings.LOOK_LEASE_S)
    if task is None:
        return None
    if task.state == State.SUBMITTING:
        return _check_lease(task)
    if task.state == State.UNCERTAIN:
        return _check_uncertain(task)
    return _check_running(task)


def _last_attempt(task: Task) -> Attempt:
    """Its row is the task's own, and so is its account's where they are one."""
    attempt = max(task.attempts.all(), key=lambda attempt: attempt.number)
    if task.account and attempt.account_id == task.account_id:
        attempt.account = task.account
    return attempt


def _check_lease(task: Task) -> Next | None:
    """Only a passed lease makes an unanswered create uncertain: its sender has died or been cut off."""
    attempt, now = _last_attempt(task), timezone.now()
    if attempt.lease_until > now:
        return moves.again(task, (attempt.lease_until - now).total_seconds())
    return answers.ambiguous(attempt, "the answer never came")


def _check_uncertain(task: Task) -> Next | None:
    """A callback that rang with this attempt's secret teaches us the provider's id. Else, in the end, give up."""
    attempt = _last_attempt(task)
    upstream_id = _told_id(attempt)
    if upstream_id:
        return answers.accept(attempt, base.Accepted(upstream_id), cause="callback with the attempt's secret")
    if task.looks >= settings.UNCERTAIN_LOOKS and task.waited_s >= settings.UNCERTAIN_LIMIT_S:
        return _give_up(task)
    return moves.again(task, pace.uncertain_wait_s())


def _give_up(task: Task) -> Next | None:
    """Unless somebody rang while we looked: a ring that was answered with 200 must not end as a failure."""
    message = "The provider never confirmed that it took this. Nothing was charged."
    with write():
        unrung = Task.objects.filter(pk=task.pk, state=State.UNCERTAIN, due_at=task.due_at)
        if unrung.update(due_at=task.due_at):  # and from here on the row is ours
            return moves.fail(task, Kind.BAD_REPLY, message, cause="give-up rule", came_from=(State.UNCERTAIN,))
    return Next(State.UNCERTAIN, timezone.now())


def _told_id(attempt: Attempt) -> str | None:
    adapter = providers.get(attempt.account.provider)
    for callback in attempt.callbacks.order_by("received"):
        upstream_id = adapter.parse_callback(bytes(callback.body))
        if upstream_id and not _is_another_tasks(attempt, upstream_id):
            return upstream_id
    return None


def _is_another_tasks(attempt: Attempt, upstream_id: str) -> bool:
    """A provider that gave one id to two tasks says it in its callbacks too: such an id teaches nothing."""
    same_id = Task.objects.filter(account_id=attempt.account_id, upstream_id=upstream_id)
    return same_id.exclude(pk=attempt.task_id).exists()


def _check_running(task: Task) -> Next | None:
    attempt = _last_attempt(task)
    free_at = _look_allowance(attempt.account)
    if free_at is not None:
        return moves.again(task, max(0.1, (free_at - timezone.now()).total_seconds()))
    try:
        report = _ask(task, attempt)
    except ProviderError as error:
        return _look_failed(task, error)
    if report.state == "succeeded":
        return _succeeded(task, report)
    if report.state == "failed":
        return moves.fail(task, report.kind or Kind.PROVIDER, report.message, code=report.code, cause="query answer")
    return _still_running(task, attempt, report)


def _look_allowance(account: ProviderAccount) -> datetime | None:
    """When a look is free, at providers that count looks as calls; None means now."""
    if accounts.capabilities(account).throttle.counts_looks:
        return account.take_call()
    return None


def _ask(task: Task, attempt: Attempt) -> Report:
    """The authenticated query, with the key the task was sent with; if that no longer opens, with the newest."""
    adapter, account = providers.get(attempt.account.provider), attempt.account
    age_s = (timezone.now() - (task.accepted_at or task.created)).total_seconds()

    def report(key_version: int | None) -> Report:
        plain = accounts.plain(account, key_version)
        with hands.away():
            return adapter.report(task.upstream_id, task.route, plain, age_s=age_s)

    try:
        return report(attempt.key_version)
    except ProviderError as error:
        if error.kind != Kind.AUTH or account.key_version == attempt.key_version:
            raise
        return report(None)


def _look_failed(task: Task, error: ProviderError) -> Next | None:
    """A look that failed says nothing about the task. Unreadable successes are given up after a few; a task the
    provider does not know any more ends with the running limit; everything else waits for better times."""
    log.warning("look failed", task_id=task.pk, kind=str(error.kind), code=error.code, text=error.message)
    health.count_failure(task.account_id, _what(error))  # type: ignore[arg-type]
    if error.code == "no_urls" and moves.is_unreadable_for_good(task, "query answer", error.message):
        message = "The provider says it finished, but gave no picture."
        return moves.fail(task, Kind.BAD_REPLY, message, code=error.code, cause="query answer")
    if error.code == "not_found" and task.waited_s > settings.RUNNING_LIMIT_S:
        return moves.fail(task, error.kind, error.message, code=error.code, cause="limit")
    wait_s = max(error.retry_after_s or 0, pace.backoff_s(task.strikes))
    return moves.again(task, wait_s, strikes=min(task.strikes + 1, 1000))


def _what(error: ProviderError) -> str:
    """An answer that says no, or none: then whether we reached them at all."""
    if error.kind != Kind.PROVIDER or error.sent == "yes":
        return error.kind
    return "not_sent" if error.sent == "no" else "no_answer"


def _still_running(task: Task, attempt: Attempt, report: Report) -> Next | None:
    if report.unknown_word:
        log.warning("unknown state word", provider=attempt.account.provider, word=report.unknown_word[:40])
    if task.waited_s > settings.RUNNING_LIMIT_S:  # acted on only here: after a fresh answer made since it passed
        return moves.fail(task, Kind.PROVIDER, "The provider has not finished in two hours.", cause="limit")
    age_s = (timezone.now() - (task.accepted_at or task.created)).total_seconds()
    wait_s = pace.burst_wait_s(attempt) if attempt.rung_at else None
    return moves.again(task, pace.poll_wait_s(attempt, age_s) if wait_s is None else wait_s, strikes=0)


def _succeeded(task: Task, report: Report) -> Next | None:
    now = timezone.now()
    provider_s = (now - task.accepted_at).total_seconds() if task.accepted_at else None
    with write():
        moved = moves.move(
            task,
            State.SAVING,
            cause="query answer",
            due_at=now,
            result_urls=list(report.urls),
            cost_usd=report.cost_usd,
            provider_s=task.provider_s or provider_s,
        )
    return Next(State.SAVING, now) if moved else None
