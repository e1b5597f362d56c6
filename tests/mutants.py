"""Seven ways to get this wrong that people really take. Each, put into the code, must be caught by a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from unittest.mock import patch

from django.utils import timezone

from flux2web import clock, ledger, lifecycle
from flux2web.ledger import entries, limits
from flux2web.lifecycle import moves, sending
from flux2web.models import FINAL, Budget, State, Task, write
from flux2web.providers.base import Kind, ProviderError

TTL = timedelta(minutes=5)


@contextmanager
def check_then_act() -> Iterator[None]:
    """The budget is read before the transaction, and written as if nobody had moved it since."""
    create, read = lifecycle.create, {}

    def reading(member, order, **given):
        read[member.team_id] = Budget.objects.get(pk=member.team_id)
        return create(member, order, **given)

    def unconditional(member, period, tasks):
        total, seen = sum(task.price_credits for task in tasks), read[member.team_id]
        if seen.available < total:
            return limits.refusal(limits.left(member), total)
        limits.use(member, period, total)
        Budget.objects.filter(pk=member.team_id).update(held=seen.held + total)
        return entries._write_holds(member, tasks, total)

    with patch.object(lifecycle, "create", reading), patch.object(ledger, "hold", unconditional):
        yield


@contextmanager
def hold_apart_from_task() -> Iterator[None]:
    """Tasks are committed first, their holds a moment later."""
    create, hold, later = lifecycle.create, ledger.hold, []

    def creating(member, order, **given):
        later.clear()
        outcome = create(member, order, **given)
        with write():
            return next((refusal for put_off in later if (refusal := put_off())), None) or outcome

    def putting_off(*given):
        later.append(partial(hold, *given))

    with patch.object(lifecycle, "create", creating), patch.object(ledger, "hold", putting_off):
        yield


@contextmanager
def money_apart_from_state() -> Iterator[None]:
    """A task's end is committed first, its credits move a moment later."""
    finish, settle, release = moves.finish, ledger.settle, ledger.release

    def finishing(task, to, **given):
        later = []
        with (
            patch.object(ledger, "settle", lambda *money, **how: later.append(partial(settle, *money, **how))),
            patch.object(ledger, "release", lambda *money, **how: later.append(partial(release, *money, **how))),
        ):
            ended = finish(task, to, **given)
        with write():
            for move in later:
                move()
        return ended

    with patch.object(moves, "finish", finishing):
        yield


@contextmanager
def no_guard_at_the_end() -> Iterator[None]:
    """Whoever wants to end a task ends it, wherever it stands by now."""
    move = moves.move

    def moving(task, to, *, came_from=(), **given):
        return move(task, to, came_from=tuple(State) if to in FINAL else came_from, **given)

    with patch.object(moves, "move", moving):
        yield


@contextmanager
def callbacks_believed() -> Iterator[None]:
    """What a ring's body says is done, without asking."""
    ring = lifecycle.ring

    def believing(provider, secret, method, body):
        found = ring(provider, secret, method, body)
        if found and b'"fail"' in body:
            task = Task.objects.get(pk=found[0])
            moves.fail(task, Kind.PROVIDER, "It says so.", cause="callback body")
        elif found and b'"success"' in body:
            urls = json.loads(json.loads(body)["data"]["resultJson"])["resultUrls"]
            task, now = Task.objects.get(pk=found[0]), timezone.now()
            with write():
                moves.move(task, State.SAVING, cause="callback body", due_at=now, result_urls=urls)
        return found

    with patch.object(lifecycle, "ring", believing):
        yield


@contextmanager
def creates_retried() -> Iterator[None]:
    """A create whose answer was lost is simply sent again."""
    call = sending._create_call

    def insisting(create):
        try:
            return call(create)
        except ProviderError as error:
            if error.sent != "unknown":
                raise
            return call(create)

    with patch.object(sending, "_create_call", insisting):
        yield


@contextmanager
def holds_that_expire() -> Iterator[None]:
    """The clock gives back what was held long ago, as reservations of theatre seats go."""
    due = clock.due

    def sweeping(now):
        old = Task.objects.live().filter(created__lt=now - TTL).exclude(entries__kind="release")
        for task in old:
            with write():
                ledger.release(task, "held too long")
        return due(now)

    with patch.object(clock, "due", sweeping):
        yield
