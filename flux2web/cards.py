"""A task's row in words: what its card, its tile and its page say. No HTTP, no HTML, nothing that differs by viewer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, cached_property
from typing import Literal

from django.conf import settings
from django.utils import timezone

from . import accounts, health, providers, queries, routing, turns
from .models import Event, Membership, State, Task, User
from .models.tasks import IN_FLIGHT
from .money import credits_text, format_credits
from .queries import Tally
from .routing import Candidate, Market

ALT_MAX_CHARS = 120
USUAL_S = 25.0  # of a provider that we know nothing about
Who = Literal[
    "author", "maker"
]  # whom a button is shown to: the task's author and team admins, or all who make pictures


@dataclass(frozen=True)
class Action:
    """A button that posts to tasks/<id>/<verb>/. `when` "slow" shows it only once the task is slower than usual; `price`
    is what it costs, where it costs something, and goes with it, and so does `seen`, the version that it was pressed on."""

    verb: str
    label: str
    icon: str
    who: Who
    when: str = ""
    price: int = 0
    seen: int = 0


CANCEL = Action("cancel", "Cancel", "x", "author")
RETRY = Action("retry", "Retry", "rotate-ccw", "maker")
RUN_AGAIN = Action("retry", "Run again", "rotate-ccw", "maker")
LOOK = Action("check", "Look now", "eye", "maker")
REPORT = Action("report", "Report", "triangle-alert", "author")
DELETE = Action("delete", "Delete", "trash-2", "author")
LOOK_IF_SLOW = Action("check", "Look now", "eye", "maker", when="slow")

# state: icon ("" draws the ring), headline, buttons
FACES: dict[str, tuple[str, str, tuple[Action, ...]]] = {
    State.QUEUED: ("clock", "Waiting", (CANCEL,)),
    State.SUBMITTING: ("", "Sending", ()),
    State.UNCERTAIN: ("circle-question-mark", "No answer yet", (LOOK, REPORT)),
    State.RUNNING: ("", "Running", (LOOK_IF_SLOW,)),
    State.SAVING: ("hard-drive-download", "Saving our copy", ()),
    State.DONE: ("", "Done", ()),
    State.FAILED: ("circle-alert", "Failed", (RETRY,)),
    State.CANCELLED: ("circle-slash", "Cancelled", (RUN_AGAIN,)),
}
# fail_kind: headline, with {provider}; and what to do, where that is clearer than the provider's own words
FAILURES: dict[str, tuple[str, str]] = {
    "moderation": ("Refused by the model's filter", "Change the prompt{or_images}, then send again."),
    "input": ("{provider} did not accept this", ""),
    "auth": ("{provider} refused our key", "A site admin has to look at it. Another provider may take this now."),
    "balance": ("{provider} has no balance left", "This is not your budget. A site admin has to top it up."),
    "rate": ("{provider} was too busy", ""),
    "maintenance": ("No provider was free", ""),
    "provider": ("{provider} failed", ""),
    "bad_reply": ("{provider} gave no usable answer", ""),
}
DETAILS = {  # state: the part of Card that says more
    State.QUEUED: "_waiting",
    State.SUBMITTING: "_sending",
    State.RUNNING: "_usually",
    State.SAVING: "_made",
    State.UNCERTAIN: "_silent",
    State.DONE: "_why_gone",
    State.FAILED: "_failure_detail",
    State.CANCELLED: "_why_cancelled",
}
LOST = ("The picture was lost on its way", "")
BY_ITSELF = "Starts by itself"
GONE = "The original is no longer available"
THROWN_AWAY = "Its file was thrown away. What was asked for is still here."
NOT_STORED = "Its file is missing from storage."
COSTLY = (RETRY, RUN_AGAIN)


class Card:
    """What the card of `task` says. `usual_s`, `place` (turns.places) and `market` are asked for only where they are
    shown."""

    def __init__(
        self,
        task: Task,
        usual_s: float | None = None,
        place: int | None = None,
        market: Callable[[], Market] = Market,
    ) -> None:
        self.task = task
        self._usual_s = usual_s
        self._place = place
        self._market = market

    # --- the box -------------------------------------------------------------------------------------------------------

    @property
    def icon(self) -> str:
        return "image" if self.is_gone else FACES[self.task.state][0]

    @property
    def is_gone(self) -> bool:
        """Made, but its original is not there any more."""
        if self.task.state != State.DONE:
            return False
        result = getattr(self.task, "result", None)
        return result is None or result.purged_at is not None or result.lost_at is not None

    @property
    def is_lost(self) -> bool:
        """Gone by accident: the small copies may be there still, and the original be found again."""
        return self.is_gone and hasattr(self.task, "result") and self.task.result.purged_at is None

    @property
    def is_shown(self) -> bool:
        return self.task.state == State.DONE and not self.is_gone

    @property
    def headline(self) -> str:
        if self.is_gone:
            return GONE
        if self.task.state == State.FAILED:
            return self._failure[0].format(provider=self.provider)
        return FACES[self.task.state][1]

    @property
    def detail(self) -> str:
        """One line under the headline: what happens next, or what to do."""
        said: str = getattr(self, DETAILS[State(self.task.state)])
        return said

    @property
    def _sending(self) -> str:
        return f"to {self.provider}"

    @property
    def _silent(self) -> str:
        return f"{self.provider} may have taken this, then went quiet. Your credits are held; we keep looking."

    @property
    def _why_gone(self) -> str:
        return NOT_STORED if self.is_lost else THROWN_AWAY if self.is_gone else ""

    @property
    def _why_cancelled(self) -> str:
        return self.task.fail_message or "Taken back before it was sent"

    @property
    def _waiting(self) -> str:
        if not self.task.in_line:
            return self._hindrance or BY_ITSELF
        place = turns.place(self.task) if self._place is None else self._place
        return f"In line, {_ordinal(place)} of yours. {BY_ITSELF}" if place else f"In line. {BY_ITSELF}"

    @cached_property
    def _hindrance(self) -> str:
        """Why nobody may take it; "" where somebody may, or where nobody has looked yet: that costs no query."""
        task = self.task
        if task.state != State.QUEUED or task.in_line or not task.looks:
            return ""
        order = routing.order_of(task, range(task.reference_count))  # who is able goes by how many images they are
        found = routing.candidates(order, self._market())
        able = [each for each in found if routing.covers(task, each)]
        return _pauses(able) if able else _nobody(task)

    @property
    def _usually(self) -> str:
        """From its median to its 90th percentile, where both are known and differ."""
        low, high = round(self.usual_s), round(self._slow_s or 0)
        return (
            f"{self.provider} usually takes {low} to {high} s"
            if high > low
            else f"{self.provider} usually takes {low} s"
        )

    @property
    def _made(self) -> str:
        seconds = self.task.provider_s
        return f"Made by {self.provider} in {seconds:.0f} s" if seconds else f"Made by {self.provider}"

    @property
    def _failure(self) -> tuple[str, str]:
        if self.task.fail_code == "result_lost":
            return LOST
        return FAILURES.get(self.task.fail_kind, ("{provider} failed", ""))

    @property
    def _failure_detail(self) -> str:
        or_images = " or the images" if self.task.reference_count else ""
        return self._failure[1].format(or_images=or_images) or self.task.fail_message

    @cached_property
    def provider(self) -> str:
        return providers.get(self.task.account.provider).name if self.task.account else "The provider"

    @property
    def is_away(self) -> bool:
        """With the provider: nothing of it can be taken back, but nobody has to watch."""
        return self.task.state in IN_FLIGHT

    @property
    def badge(self) -> str:
        """ "2/4": the second of four sent together, whoever sees them; "" of one alone."""
        return f"{self.task.batch_number}/{self.task.batch_size}" if self.task.batch_size > 1 else ""

    @property
    def origin(self) -> int:
        """The picture that this one began from, if all may see it and queries.with_card asked; else 0."""
        return getattr(self.task, "origin", None) or 0

    # --- time ----------------------------------------------------------------------------------------------------------

    @property
    def since(self) -> datetime | None:
        """When the clock on the card started; None where none runs."""
        if self.task.state in (State.SUBMITTING, State.RUNNING):
            return self.task.accepted_at or self.task.state_since
        return self.task.state_since if self.task.state == State.SAVING else None

    @property
    def elapsed_s(self) -> float:
        return (timezone.now() - self.since).total_seconds() if self.since else 0.0

    @cached_property
    def usual_s(self) -> float:
        if self._usual_s is not None:
            return self._usual_s
        slug = self.task.account.provider if self.task.account else ""
        return queries.usual_s(slug, self.task.family, USUAL_S)

    @property
    def ring(self) -> int:
        """How full the ring is, 0 to 100: full after this provider's usual time."""
        return max(2, min(100, round(100 * self.elapsed_s / max(self.usual_s, 1))))

    @cached_property
    def _slow_s(self) -> float | None:
        """What nine in ten of this account's recent pictures took at most; None while that is not known."""
        return health.record_of(self.task.account).p90_s if self.task.account else None

    @property
    def slow_after_s(self) -> int:
        """From here on it is slower than usual. Never before the ring is full: a family of its own may take longer."""
        return settings.SLOW_AFTER_S if self._slow_s is None else math.ceil(max(self._slow_s, self.usual_s))

    @property
    def is_slow(self) -> bool:
        return self.since is not None and self.elapsed_s > self.slow_after_s

    @property
    def next_look(self) -> datetime | None:
        return self.task.due_at if self.task.state == State.UNCERTAIN else None

    # --- the lines below -----------------------------------------------------------------------------------------------

    @property
    def chips(self) -> list[str]:
        task = self.task
        shown = [task.family.title(), task.resolution, task.aspect_ratio]
        if task.reference_count:
            shown.append(f"{task.reference_count} image{'' if task.reference_count == 1 else 's'}")
        return shown if task.seed is None else [*shown, f"seed {task.seed}"]

    @property
    def money(self) -> str:
        """ "Held 24", "Held 24 · charged 24", "Not charged: 24 returned"."""
        held = format_credits(self.task.price_credits)
        if self.task.is_live:
            return f"Held {held}"
        if self.task.state == State.DONE:
            return f"Held {held} · charged {format_credits(self.task.charged_credits or 0)}"
        return f"Not charged: {held} returned"

    @property
    def returned(self) -> str:
        """What a picture gave back: the rest of the hold where it was cheaper, and what was refunded since."""
        if self.task.state != State.DONE:
            return ""
        rest, refunded = self.task.price_credits - (self.task.charged_credits or 0), self.task.refunded_credits
        said = ((rest, "returned"), (refunded, "refunded"))
        return " · ".join(f"{format_credits(amount)} {word}" for amount, word in said if amount)

    @property
    def aside(self) -> str:
        """What else there is to say of the credits."""
        return "Comes back if cancelled" if self.task.state == State.QUEUED else self.returned

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(self._priced(action) if action in COSTLY else action for action in self._actions)

    @property
    def _actions(self) -> tuple[Action, ...]:
        if self.is_gone:
            return RUN_AGAIN, DELETE
        return () if self._is_refused else FACES[self.task.state][2]

    def _priced(self, action: Action) -> Action:
        """Again for what it cost the last time; if that has risen, the press is refused and says so."""
        price = self.task.price_credits
        return replace(action, label=f"{action.label} · {format_credits(price)}", price=price, seen=self.task.version)

    @property
    def _is_refused(self) -> bool:
        """By the filter: the very same would be refused again."""
        return self.task.state == State.FAILED and self.task.fail_kind == "moderation"

    @property
    def edit(self) -> str:
        """What the link says that opens the form filled as this was asked for; "" where there is none."""
        if self._is_refused:
            return "Edit prompt"
        if self.task.provider and self._hindrance:
            return "Change the provider"
        return {State.FAILED: "Edit and retry", State.CANCELLED: "Edit"}.get(State(self.task.state), "")

    @property
    def fine_print(self) -> str:
        """Of a failure, what there is to know beyond its cause: the provider's own words and code."""
        said = self.task.fail_message if self.task.fail_message != self.detail else ""
        code = f"The provider calls it {self.task.fail_code}." if self.task.fail_code else ""
        return " ".join(part for part in (said, code) if part) if self.task.state == State.FAILED else ""

    @property
    def author(self) -> str:
        return str(self.task.user) if self.task.user else "Someone who left"

    @property
    def alt(self) -> str:
        """What the picture shows, in somebody's words; else how its prompt begins."""
        return self.task.alt or shortened(self.task.prompt, ALT_MAX_CHARS)

    @property
    def cursor(self) -> str:
        return queries.write_cursor(self.task)

    # --- the page of a task --------------------------------------------------------------------------------------------

    @property
    def settings_table(self) -> list[tuple[str, str]]:
        task = self.task
        rows = [
            ("Family", task.family.title()),
            ("Mode", task.mode.replace("-", " ").capitalize()),
            ("Shape", "Auto, from image 1" if task.aspect_ratio == "auto" else task.aspect_ratio),
            ("Resolution", task.resolution),
            ("Seed", "" if task.seed is None else str(task.seed)),
            ("Format", task.output_format.upper()),
            ("Safety tolerance", "" if task.safety_tolerance is None else str(task.safety_tolerance)),
            ("Provider", self.provider if task.account else "Not chosen yet"),
        ]
        return [(name, value) for name, value in rows if value]


def of(tasks: Iterable[Task]) -> list[Card]:
    """The cards of many tasks: one query for the places of all that are in line, one look at the market for all that
    nobody may take."""
    tasks = list(tasks)
    places, market = turns.places(tasks), cache(Market)
    return [Card(task, place=places.get(task.pk, 0), market=market) for task in tasks]


# --- Why nobody takes it -------------------------------------------------------------------------------------------------


def _pauses(able: list[Candidate]) -> str:
    """Of several, the one that is back first."""
    if not all(each.paused for each in able):
        return ""
    first = min((each.account for each in able), key=lambda account: account.paused_until or timezone.now())
    why = accounts.pause_words(first)
    return why if len(able) == 1 else f"Every provider that can do this is paused. {why}"


def _nobody(task: Task) -> str:
    if task.provider:
        return f"{providers.get(task.provider).name} is off, or does not do this at the price that is held."
    return "No provider does this at the price that is held. A site admin can look."


# --- Batches -------------------------------------------------------------------------------------------------------------


class Head:
    """What stands above the pictures of one batch, for one member: how they stand together, and what to do with them."""

    def __init__(self, tally: Tally, member: Membership) -> None:
        self.tally = tally
        self.batch = tally.batch
        self._member = member

    @property
    def title(self) -> str:
        return f"{self.tally.total} pictures"

    @property
    def prompt(self) -> str:
        return shortened(self.tally.prompt, ALT_MAX_CHARS)

    @property
    def is_at_rest(self) -> bool:
        return not self.tally.live

    @property
    def parts(self) -> list[str]:
        """ "9 of 12 done", "2 failed", "1 waiting": what there is none of is left out."""
        tally = self.tally
        others = ((tally.failed, "failed"), (tally.waiting, "waiting"), (tally.cancelled, "cancelled"))
        return [f"{tally.done} of {tally.total} done", *(f"{number} {word}" for number, word in others if number)]

    @property
    def rule(self) -> str:
        after = self.tally.stop_after
        return f"Stops after {after} {'failure' if after == 1 else 'failures'}" if after and self.tally.live else ""

    @property
    def may_retry(self) -> bool:
        return bool(self.tally.again) and self.is_at_rest and self._member.may_make

    @property
    def may_cancel(self) -> bool:
        own = self.tally.user == self._member.user_id
        return bool(self.tally.waiting) and self._member.may_make and (own or self._member.may_manage)


@dataclass(frozen=True)
class Group:
    """Cards that stand together: a batch under its head, once it is at rest with what failed apart; or one by itself."""

    head: Head | None
    cards: list[Card]
    failed: list[Card]


def grouped(member: Membership, shown: Iterable[Card]) -> list[Group]:
    """One query for all heads."""
    by_batch: dict[int, list[Card]] = {}
    for card in shown:
        by_batch.setdefault(card.task.batch_id, []).append(card)
    found = heads(member, by_batch)
    return [_group(found.get(batch), cards) for batch, cards in by_batch.items()]


def heads(member: Membership, batch_ids: Iterable[int]) -> dict[int, Head]:
    return {batch: Head(tally, member) for batch, tally in queries.tallies(member, batch_ids).items()}


def _group(head: Head | None, cards: list[Card]) -> Group:
    apart = head is not None and head.is_at_rest
    failed = [card for card in cards if apart and card.task.state == State.FAILED]
    return Group(head, [card for card in cards if card not in failed], failed)


def shortened(text: str, most: int) -> str:
    """The start of a text, on one line, cut at a word."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    return line[: most - 1].rsplit(" ", 1)[0].rstrip(",.;: ") + "…"


# --- What happened, and what it cost -------------------------------------------------------------------------------------

HAPPENED = {
    State.QUEUED: "Waiting",
    State.SUBMITTING: "Sent to a provider",
    State.UNCERTAIN: "No answer; nobody knows whether the provider has it",
    State.RUNNING: "Accepted by the provider",
    State.SAVING: "Finished by the provider; fetching it",
    State.DONE: "Our own copy is stored",
    State.FAILED: "Failed",
    State.CANCELLED: "Cancelled",
    "callback": "The provider rang; we look",
    "look": "Asked to look now",
    "report": "Reported to the site admins",
    "unreadable": "No usable picture came; we ask again",
    "late": "A late word from the provider; nothing changes",
    "lost": "Its file is missing from storage",
    "found": "Its file is in storage again",
}
PAID = {
    "hold": "Held",
    "settle": "Charged",
    "release": "Returned",
    "refund": "Refunded",
}


@dataclass(frozen=True)
class Line:
    """One line of a task's story."""

    at: datetime
    text: str
    note: str = ""


def story(events: Iterable[Event]) -> list[Line]:
    """What happened to a task, oldest first, with people by name. One query for the names."""
    events = list(events)
    names = _names(events)
    return [Line(event.at, _happened(event, names), event.note) for event in events]


def _names(events: list[Event]) -> dict[str, str]:
    ids = [event.cause.removeprefix("user ") for event in events if event.cause.startswith("user ")]
    return {f"user {user.pk}": str(user) for user in User.objects.filter(pk__in=[pk for pk in ids if pk.isdigit()])}


def _happened(event: Event, names: dict[str, str]) -> str:
    text = HAPPENED.get(event.kind, event.kind.replace("_", " ").capitalize())
    if event.kind == State.QUEUED and event.cause in names:
        text = "Asked for"
    return f"{text} by {names[event.cause]}" if event.cause in names else text


def receipt(task: Task) -> list[Line]:
    """The ledger lines of a task, oldest first."""
    return [
        Line(entry.created, f"{PAID.get(entry.kind, entry.kind.capitalize())} {credits_text(entry.amount)}")
        for entry in task.entries.order_by("id")
    ]


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
