"""From the press of the button to queued tasks with their hold, all or nothing; and the same again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog
from django.db import IntegrityError
from django.db.models import F
from django.utils import timezone

from .. import access, bus, collecting, faults, kinds, ledger, routing, search, storage
from ..models import (
    Batch,
    Collection,
    Event,
    Membership,
    Period,
    Reference,
    SavedPrompt,
    State,
    Task,
    TaskReference,
    User,
    write,
)
from ..money import credits_text
from ..orders import Cell, Order, Quote, Refusal
from . import moves

log = structlog.get_logger(__name__)
MORE = 4  # pictures that "more like this" asks for
CHANGED = "Some of this has changed meanwhile. Look at the cards; press again if you still want one more."
GONE = "Image {} is not among this team's images any more. Remove it or upload it again."
NONE_LEFT = "Nothing of this failed, all of it was tried again already, or it has an image that only its author sees."
HIDDEN = "Image {} is one that only its author sees. Ask them to try it again, or to show the image to the team."


class _RolledBack(Exception):
    """Carries a refusal out of the transaction that it undoes."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def create(
    member: Membership,
    order: Order,
    *,
    key: str,
    price_seen: int | None,
    ask_above: int | None = None,
    again: Mapping[int, int] | None = None,
) -> Batch | Refusal:
    """Hold the price and queue the tasks of one press, all or nothing.

    `key` makes it happen once: the same key and order again is the same batch; another order under it is a conflict.
    `price_seen` is the total the member saw on the button; if the price has risen since, nothing is sent.
    `ask_above`: what costs more than these credits in all is not sent, but asked about (a refusal of kind "confirm").
    `again`, {id: version}, are the tasks that this tries again, as they were seen.
    """
    known = _same_press(member, order, key)
    if known is not None:
        return known
    quoted = kinds.quote(member, order)
    if isinstance(quoted, Refusal):
        return quoted
    if price_seen is not None and quoted.total > price_seen:
        return _risen(price_seen, quoted.total)
    if order.ceiling is not None and quoted.total > order.ceiling:
        return _above(order.ceiling, quoted)
    try:
        batch = _hold_and_queue(member, order, key, quoted, again or {}, ask_above)
    except _RolledBack as stop:
        return stop.refusal
    except IntegrityError:  # the same key was being written just now
        return _same_press(member, order, key) or Refusal(
            "conflict", "", "This was being sent already. Look at the cards."
        )
    faults.point("CP2")
    return batch


def _hold_and_queue(
    member: Membership, order: Order, key: str, quoted: Quote, again: Mapping[int, int], ask_above: int | None
) -> Batch:
    while True:
        try:
            with write():
                batch = _write_batch(member, order, key, quoted, again)
                _ask(quoted, ask_above)  # after the limits: who cannot pay for it is told so, not asked
                faults.point("CP1")
                return batch
        except ledger.PeriodEnded:
            log.info("period ended while a hold was made", team=member.team_id)


def _same_press(member: Membership, order: Order, key: str) -> Batch | Refusal | None:
    batch = Batch.objects.filter(team=member.team, key=key).first()
    if batch is None or batch.fingerprint == order.fingerprint:
        return batch
    return Refusal(
        "conflict", "", "This form was already sent with other content. Press the button again to send this one."
    )


def _risen(seen: int, now: int) -> Refusal:
    return Refusal(
        "price",
        "price",
        f"The price has changed from {seen} to {now} credits. Nothing was sent: press again to accept it.",
    )


def _above(ceiling: int, quoted: Quote) -> Refusal:
    message = (
        f"These {quoted.pictures} cost {quoted.total} credits together; your ceiling is {ceiling}. Nothing was sent."
    )
    return Refusal("input", "ceiling", message)


def _ask(quoted: Quote, above: int | None) -> None:
    if above is None or quoted.total <= above:
        return
    what = "This picture costs" if quoted.pictures == 1 else f"These {quoted.pictures} pictures cost"
    message = f"{what} {credits_text(quoted.total)}. Your team asks before a press costs so much; nothing was sent."
    raise _RolledBack(Refusal("confirm", "", message))


def _write_batch(member: Membership, order: Order, key: str, quoted: Quote, again: Mapping[int, int]) -> Batch:
    batch = _new_batch(member, order, key)
    _claim(member, again)
    references = _own_references(member, order)
    period = ledger.current(member.team, timezone.now())  # which may lock the budget, and tasks are locked before it
    tasks = [
        _new_task(member, cell, batch, period, part, number)
        for cell, part in zip(order.cells, quoted.parts, strict=True)
        for number in range(order.count)
    ]
    for number, task in enumerate(tasks, 1):
        task.batch_number, task.batch_size = number, len(tasks)
    Task.objects.bulk_create(tasks)
    names = [row.name for row in references.values() if not row.private]
    search.put((task.pk, task.team_id, " ".join([task.prompt, *names])) for task in tasks)
    for task in tasks:
        _attach(task, order, references)
        Event.objects.create(task=task, kind=State.QUEUED, cause=moves.by(member.user))
        bus.publish_task(task.team_id, task.pk)
    refusal = ledger.hold(member, period, tasks)
    if refusal:
        raise _RolledBack(refusal)
    return batch


def _new_batch(member: Membership, order: Order, key: str) -> Batch:
    return Batch.objects.create(
        team=member.team,
        user=member.user,
        key=key,
        fingerprint=order.fingerprint,
        saved_prompt=_still_there(member, order.saved),
        stop_after=order.stop_after,
        collection=_collection(member, order.collection),
    )


def _still_there(member: Membership, saved: int | None) -> SavedPrompt | None:
    """The shelf's prompt, unless somebody took it off the shelf meanwhile: a granted draft is sent days later. From here
    on nobody does before the batch is written."""
    return access.saved_prompts(member).select_for_update(no_key=True).filter(pk=saved).first() if saved else None


def _collection(member: Membership, wanted: int | None) -> Collection | None:
    """The same of a collection: if it is gone, or others' alone by now, the pictures are made and lie in none."""
    return collecting.editable(member).filter(pk=wanted).first() if wanted else None


def _own_references(member: Membership, order: Order) -> dict[int, Reference]:
    """Locked, after tasks and before money: nobody hides one while it is being used."""
    found = access.references(member).filter(pk__in=order.references).select_for_update(of=("self",), no_key=True)
    rows = {row.pk: row for row in found.order_by("pk")}
    for number, reference_id in enumerate(order.references, 1):
        if reference_id not in rows:
            is_hidden = Reference.objects.filter(pk=reference_id, team=member.team, private=True, deleted_at=None)
            said = HIDDEN if is_hidden.exists() else GONE
            raise _RolledBack(Refusal("reference", "references", said.format(number)))
    return rows


def _new_task(member: Membership, order: Order, batch: Batch, period: Period, quoted: Quote, number: int) -> Task:
    return Task(
        team=member.team,
        batch=batch,
        period=period,
        user=member.user,
        private=member.team.private_by_default if order.private is None else order.private,
        parent_id=order.parent,
        prompt=order.prompt,
        family=order.family,
        aspect_ratio=order.aspect_ratio,
        resolution=order.resolution,
        # One seed asked for eight times would be one picture eight times: the further ones count up from it.
        seed=None if order.seed is None else (order.seed + number) % 2**32,
        output_format=order.output_format,
        safety_tolerance=order.safety_tolerance,
        reference_count=len(order.references),
        provider=order.provider,
        price_credits=quoted.each,
        quoted_provider=quoted.provider,
    )


def _attach(task: Task, order: Order, references: dict[int, Reference]) -> None:
    uses = [TaskReference(task=task, reference_id=pk, number=number) for number, pk in enumerate(order.references, 1)]
    TaskReference.objects.bulk_create(uses)
    storage.mint_hostings(task, references.values())


def _claim(member: Membership, again: Mapping[int, int]) -> None:
    """What is tried again is so by one press at a time: alone or with its batch, whoever finds it as it was seen has it.

    A claim is a move of the card: a press of the card as it is afterwards is meant as one more.
    """
    for pk in sorted(again):  # one order for all: two batches never wait for each other
        if not Task.objects.filter(pk=pk, version=again[pk]).update(version=F("version") + 1):
            raise _RolledBack(Refusal("conflict", "", CHANGED))
        bus.publish_task(member.team_id, pk)


def retry(
    member: Membership,
    task: Task,
    *,
    price_seen: int | None = None,
    version_seen: int | None = None,
    ask_above: int | None = None,
) -> Batch | Refusal:
    """The same order again, as a new task with its own hold. The same press twice is one.

    `price_seen` is what the button said; where it said nothing, what the task cost. `version_seen` is of its card.
    `ask_above` here and below: as in `create`.
    """
    if task.is_live:
        return Refusal("input", "", "This is still being made. It can be run again when it has ended.")
    version = task.version if version_seen is None else version_seen
    key = f"retry:{task.pk}:{version}:{member.user_id}"
    seen = task.price_credits if price_seen is None else price_seen
    order = order_of(task, parent=task.pk)
    return _anew(member, task, order, key, price_seen=seen, ask_above=ask_above, again={task.pk: version})


def more(
    member: Membership,
    task: Task,
    *,
    price_seen: int | None,
    version_seen: int | None = None,
    ask_above: int | None = None,
) -> Batch | Refusal:
    """MORE pictures like this one, each with a seed of its own. `price_seen` is their total on the button. The same press
    twice is one."""
    version = task.version if version_seen is None else version_seen
    key = f"more:{task.pk}:{version}:{member.user_id}"
    again = {task.pk: version}
    return _anew(member, task, _more_of(task), key, price_seen=price_seen, ask_above=ask_above, again=again)


def retry_failed(
    member: Membership, batch: Batch, *, price_seen: int | None, ask_above: int | None = None
) -> Batch | Refusal:
    """What failed of a batch, as far as this member sees it, once more as one new batch. `price_seen` is the total on
    the button."""
    tasks = _failed_of(member, batch)
    if not tasks:
        return Refusal("input", "", NONE_LEFT)
    again, key = {task.pk: task.version for task in tasks}, f"failed:{batch.pk}:{tasks[0].pk}"
    order = _order_of_all(tasks)
    return create(member, order, key=key, price_seen=price_seen, ask_above=ask_above, again=again)


def retry_failed_price(member: Membership, batch: Batch) -> Quote | Refusal | None:
    """None where nothing of it is to be tried again."""
    tasks = _failed_of(member, batch)
    return kinds.quote(member, _order_of_all(tasks)) if tasks else None


def _failed_of(member: Membership, batch: Batch) -> list[Task]:
    """But what uses an image that only another sees: this member cannot send that."""
    failed = access.tasks(member).filter(batch=batch, state=State.FAILED, children=None)
    hidden = TaskReference.objects.filter(task__batch=batch).exclude(reference__in=access.seen_references(member))
    return list(failed.exclude(pk__in=hidden.values("task")).order_by("pk"))


def _order_of_all(tasks: list[Task]) -> Order:
    """Tasks of one batch as one order: they differ in no more than a cell does."""
    first, *others = tasks
    cells = [Cell(task.prompt, task.family, task.aspect_ratio, task.seed, task.pk) for task in others]
    private = any(task.private for task in tasks) or None
    order = order_of(first, parent=first.pk)
    return replace(order, rest=tuple(cells), saved=first.batch.saved_prompt_id, private=private)


def _anew(member: Membership, task: Task, order: Order, key: str, **how: Any) -> Batch | Refusal:
    outcome = create(member, order, key=key, **how)
    if isinstance(outcome, Refusal) and outcome.kind == "price":
        choose = "Remix" if task.state == State.DONE else "Edit"
        return Refusal(
            "price", "", f"{outcome.message.split('.')[0]}. Choose {choose} to see and send it at the new price."
        )
    return outcome


def _more_of(task: Task) -> Order:
    return replace(order_of(task, parent=task.pk), count=MORE, seed=None, collection=None)


def again_price(member: Membership, task: Task) -> Quote | Refusal:
    """What one more of this would cost now."""
    return kinds.quote(member, order_of(task))


def more_price(member: Membership, task: Task) -> Quote | Refusal:
    return kinds.quote(member, _more_of(task))


def order_of(task: Task, *, parent: int | None = None) -> Order:
    private = task.private or None  # made again, what one hid stays hidden
    collection = None if task.state == State.DONE else task.batch.collection_id  # which has this one's picture already
    order = routing.order_of(task, _reference_ids(task))
    return replace(order, parent=parent, private=private, collection=collection)


def _reference_ids(task: Task) -> tuple[int, ...]:
    if not task.reference_count:
        return ()
    return tuple(task.task_references.order_by("number").values_list("reference_id", flat=True))


def cancel(task: Task, user: User) -> bool:
    """Take back a task that waits. False when it has been sent meanwhile."""
    return moves.finish(
        task, State.CANCELLED, cause=moves.by(user), reason="cancelled by its sender", came_from=(State.QUEUED,)
    )
