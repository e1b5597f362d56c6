"""A task's row in words: what its card, its tile and its page say. No HTTP, no HTML, nothing that differs by viewer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

from django.conf import settings
from django.utils import timezone

from . import providers, queries, turns
from .models import Event, State, Task, User
from .money import credits_text, format_credits

ALT_MAX_CHARS = 120
USUAL_S = 25.0  # of a provider that we know nothing about
Who = Literal[
    "author", "maker"
]  # whom a button is shown to: the task's author and team admins, or all who make pictures


@dataclass(frozen=True)
class Action:
    """A button that posts to tasks/<id>/<verb>/. `when` "slow" shows it only once the task is slower than usual."""

    verb: str
    label: str
    icon: str
    who: Who
    when: str = ""


CANCEL = Action("cancel", "Cancel", "x", "author")
RETRY = Action("retry", "Retry", "rotate-ccw", "maker")
RUN_AGAIN = Action("retry", "Run again", "rotate-ccw", "maker")
LOOK = Action("check", "Look now", "eye", "maker")
LOOK_IF_SLOW = Action("check", "Look now", "eye", "maker", when="slow")

# state: icon ("" draws the ring), headline, buttons
FACES: dict[str, tuple[str, str, tuple[Action, ...]]] = {
    State.QUEUED: ("clock", "Waiting", (CANCEL,)),
    State.SUBMITTING: ("", "Sending", ()),
    State.UNCERTAIN: ("circle-question-mark", "No answer yet", (LOOK,)),
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
LOST = ("The picture was lost on its way", "")


class Card:
    """What the card of `task` says. `usual_s` is asked for only where it is shown."""

    def __init__(self, task: Task, usual_s: float | None = None) -> None:
        self.task = task
        self._usual_s = usual_s

    # --- the box -------------------------------------------------------------------------------------------------------

    @property
    def icon(self) -> str:
        return FACES[self.task.state][0]

    @property
    def headline(self) -> str:
        if self.task.state == State.FAILED:
            return self._failure[0].format(provider=self.provider)
        return FACES[self.task.state][1]

    @property
    def detail(self) -> str:
        """One line under the headline: what happens next, or what to do."""
        say = {
            State.QUEUED: self._waiting,
            State.SUBMITTING: f"to {self.provider}",
            State.RUNNING: f"{self.provider} usually takes {self.usual_s:.0f} s",
            State.SAVING: self._made,
            State.UNCERTAIN: f"{self.provider} may have taken this, then went quiet. Your credits are held; we keep looking.",
            State.FAILED: self._failure_detail,
            State.CANCELLED: self.task.fail_message or "Taken back before it was sent",
        }
        return say.get(State(self.task.state), "")

    @property
    def _waiting(self) -> str:
        if not self.task.in_line:
            return "Starts by itself"
        place = turns.place(self.task)
        return f"In line, {_ordinal(place)} of yours. Starts by itself" if place else "In line. Starts by itself"

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

    @property
    def slow_after_s(self) -> int:
        return settings.SLOW_AFTER_S

    @property
    def is_slow(self) -> bool:
        return self.elapsed_s > settings.SLOW_AFTER_S

    @property
    def next_look(self) -> datetime | None:
        return self.task.due_at if self.task.state == State.UNCERTAIN else None

    # --- the lines below -----------------------------------------------------------------------------------------------

    @property
    def chips(self) -> list[str]:
        task = self.task
        shown = [task.family.title(), task.resolution, task.aspect_ratio]
        if task.reference_count:
            shown.append(f"{task.reference_count} ref{'' if task.reference_count == 1 else 's'}")
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
    def actions(self) -> tuple[Action, ...]:
        return FACES[self.task.state][2]

    @property
    def may_edit(self) -> bool:
        """Whether "Edit and retry" makes sense: it opens the form filled as this was asked for."""
        return self.task.state in (State.FAILED, State.CANCELLED)

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
    "unreadable": "No usable picture came; we ask again",
    "late": "A late word from the provider; nothing changes",
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
