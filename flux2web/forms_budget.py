"""Forms of a team's admins: caps, and which lines of the ledger to see. A form that changes something has a save()."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict

from . import caps, kinds, pricing
from .caps import Cap, Rule
from .fields import DayField, LimitField
from .models import Budget, Entry, Membership, Team, User
from .orders import Refusal
from .queries import ITSELF, LedgerFilter

# --- Caps ----------------------------------------------------------------------------------------------------------


class CapForm(forms.Form):
    """A member's limit: a number, the box for no cap, or neither for what the team says. `was` is what the page showed."""

    cap = LimitField(label="Credits per member and month", required=False)
    uncapped = forms.BooleanField(label="No cap", required=False)
    was = forms.CharField(max_length=20, widget=forms.HiddenInput)

    def __init__(self, data: QueryDict | None = None, *, member: Membership, for_all: int | None) -> None:
        now = Cap.of(member)
        shown = {"cap": "" if now.credits is None else now.credits, "uncapped": now.unlimited, "was": now}
        super().__init__(data, initial=shown, auto_id=f"cap-{member.pk}-%s")
        self.member = member
        _describe(self.fields["cap"], for_all)
        if data is not None:  # shown again because something is wrong: that is the place to go on
            self.fields["cap"].widget.attrs["autofocus"] = True

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        _one_or_the_other(self, given)
        if Cap.read(given.get("was", "")) is None:
            self.add_error(None, "This form is incomplete. Load the page again.")
        return given

    @property
    def wanted(self) -> Cap:
        return Cap(self.cleaned_data["cap"], self.cleaned_data["uncapped"])

    def save(self, by: User) -> bool:
        """False after a refusal, which is then in the form."""
        was = Cap.read(self.cleaned_data["was"]) or Cap()
        refusal = caps.set_cap(self.member, self.wanted, was=was, by=by)
        if refusal:
            self.add_error("cap", refusal.message)
            now = Membership.objects.filter(pk=self.member.pk).first()
            _shown_now(self, str(Cap.of(now)) if now else "")
        return refusal is None


class CapsForm(forms.Form):
    """One cap for several members. `ids` are those of their memberships; `everyone` stands for all of them."""

    cap = LimitField(label="Credits per member and month", required=False)
    uncapped = forms.BooleanField(label="No cap", required=False)
    everyone = forms.BooleanField(label="Everyone", required=False)

    def __init__(self, data: QueryDict | None = None, *, team: Team, for_all: int | None) -> None:
        super().__init__(data, auto_id="caps-%s")
        self.team = team
        self.ticked: list[str] = data.getlist("ids") if data is not None else []
        _describe(self.fields["cap"], for_all)

    @property
    def ticked_ids(self) -> set[int]:
        """To show them ticked again."""
        return {int(text) for text in self.ticked if text.isascii() and text.isdigit() and len(text) < 19}

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        _one_or_the_other(self, given)
        given["ids"] = self._ids(everyone=given.get("everyone", False))
        return given

    def _ids(self, *, everyone: bool) -> set[int]:
        if everyone:
            return set(self.team.memberships.values_list("pk", flat=True))
        if not self.ticked:
            self.add_error(None, "Tick the members it is for, or Everyone.")
        if not all(text.isascii() and text.isdigit() and len(text) < 19 for text in self.ticked):
            self.add_error(None, "This is no list of members. Nothing was changed: load the page again.")
            return set()
        return self.ticked_ids

    @property
    def wanted(self) -> Cap:
        return Cap(self.cleaned_data["cap"], self.cleaned_data["uncapped"])

    def save(self, by: User) -> list[Membership] | None:
        """Those whose cap is another now; None after a refusal, which is then in the form."""
        changed = caps.set_caps(self.team, self.cleaned_data["ids"], self.wanted, by=by)
        if isinstance(changed, Refusal):
            self.add_error(None, changed.message)
            return None
        return changed


def _describe(field: forms.Field, for_all: int | None) -> None:
    field.widget.attrs |= {"placeholder": Cap().words(for_all), "size": "12"}
    field.help_text = f"Empty: {Cap().words(for_all)}. 0: none."


def _one_or_the_other(form: forms.Form, given: dict[str, Any]) -> None:
    if given.get("cap") is not None and given.get("uncapped"):
        form.add_error("cap", "Either a number or no cap: clear one of them.")


def _shown_now(form: forms.Form, was: str) -> None:
    """The form says what it is meanwhile: sent again, it means it."""
    form.data = form.data.copy()  # type: ignore[attr-defined]
    form.data["was"] = was  # type: ignore[index]


class RuleForm(forms.Form):
    """One rule of the team's budget, in the field of its column's name. `was` is what the page showed."""

    rule: Rule
    was = forms.CharField(max_length=13, required=False, widget=forms.HiddenInput(attrs={"id": False}))

    def __init__(self, data: QueryDict | None = None, *, budget: Budget) -> None:
        self.budget = budget
        super().__init__(data, initial={self.rule.column: self._now, "was": self._now})

    @property
    def _now(self) -> str:
        credits = getattr(self.budget, self.rule.column)
        return "" if credits is None else str(credits)

    def clean_was(self) -> Any:
        """As the column has it."""
        text = self.cleaned_data["was"]
        if text and not (text.isascii() and text.isdigit()):
            raise ValidationError("This form is incomplete. Load the page again.")
        return int(text) if text else None

    def save(self, by: User) -> bool:
        """False after a refusal, which is then in the form."""
        wanted, was = self.cleaned_data[self.rule.column], self.cleaned_data["was"]
        refusal = caps.set_rule(self.budget.team, self.rule, wanted, was=was, by=by)
        if refusal:
            self.add_error(refusal.field, refusal.message)
            self.budget.refresh_from_db()
            _shown_now(self, self._now)
        return refusal is None


class TeamCapForm(RuleForm):
    """The cap of all members without their own."""

    rule = caps.MEMBER_CAP
    member_cap = LimitField(
        label="Credits per member and month", required=False, help_text="Empty: no cap. 0: nobody may spend."
    )


class ConfirmForm(RuleForm):
    """From which price on a press is confirmed first."""

    rule = caps.CONFIRM_ABOVE
    confirm_above = LimitField(
        label="Credits per press", required=False, help_text="What costs more is asked about. Empty: never. 0: always."
    )


class KindsForm(RuleForm):
    """Which kinds of picture are made."""

    rule = kinds.RULE
    was = forms.CharField(max_length=40, required=False, widget=forms.HiddenInput(attrs={"id": False}))
    kinds = forms.MultipleChoiceField(
        label="Kinds",
        choices=[(kinds.code(kind), kinds.name(kind)) for kind in pricing.KINDS],
        widget=forms.CheckboxSelectMultiple,
        error_messages={
            "required": "Leave at least one: else nobody could make a picture.",
            "invalid_choice": "There is no such kind: %(value)s.",
        },
    )

    def clean_was(self) -> str:
        return self.cleaned_data["was"]

    def clean_kinds(self) -> str:
        return kinds.column(self.cleaned_data["kinds"])

    @property
    def ticked(self) -> list[str]:
        """As sent; else those that are open now."""
        if isinstance(self.data, QueryDict):
            return self.data.getlist("kinds")
        return list(map(kinds.code, kinds.made_in(self.budget)))


# --- The ledger ----------------------------------------------------------------------------------------------------

WORDS = {
    Entry.Kind.GRANT: "Granted",
    Entry.Kind.REVOKE: "Taken back",
    Entry.Kind.HOLD: "Held",
    Entry.Kind.SETTLE: "Charged",
    Entry.Kind.RELEASE: "Returned",
    Entry.Kind.REFUND: "Refunded",
    Entry.Kind.ADJUST: "Adjusted",
}
SAID_MAX = 80  # characters of a filter that are said again
NOBODY = "flux2web"  # in the address bar and on the page: lines that no person wrote


class LedgerForm(forms.Form):
    """Which lines to see. What is wrong is said and left out; the rest still counts."""

    kind = forms.MultipleChoiceField(
        label="What",
        required=False,
        choices=[(kind.value, word) for kind, word in WORDS.items()],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"invalid_choice": "No line is of the kind “%(value)s”. Tick some of these."},
    )
    person = forms.CharField(label="By whom", required=False, max_length=20, widget=forms.Select)
    since = DayField(label="From", required=False)
    until = DayField(label="To", required=False)
    task = forms.CharField(
        label="Picture",
        required=False,
        max_length=18,
        error_messages={"max_length": "No picture has such a long number."},
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off", "placeholder": "its number"}),
    )

    def __init__(self, data: QueryDict, *, team: Team, zone: ZoneInfo) -> None:
        super().__init__(data, auto_id="ledger-%s")
        self.team, self.zone = team, zone
        people = User.objects.filter(memberships__team=team).order_by("name", "pk")
        self.people = {str(user.pk): str(user) for user in people}
        person = data.get("person", "")
        if person and person not in (NOBODY, *self.people):
            self.people |= self._former(person)
        choices = [("", "Anyone"), (NOBODY, "flux2web itself"), *self.people.items()]
        self.fields["person"].widget.choices = choices

    def _former(self, person: str) -> dict[str, str]:
        """Somebody who is not in the team, if the ledger has a line of theirs."""
        if not (person.isascii() and person.isdigit() and len(person) < 19):
            return {}
        line = Entry.objects.filter(actor=int(person), team=self.team).select_related("actor").first()
        return {person: str(line.actor)} if line else {}

    def clean_person(self) -> str:
        person = self.cleaned_data["person"]
        if person and person != NOBODY and person not in self.people:
            raise ValidationError("Nobody of this number is in the ledger. Choose somebody from the list.")
        return person

    def clean_task(self) -> int | None:
        text = self.cleaned_data["task"].strip().removeprefix("#")
        if text and not (text.isascii() and text.isdigit()):
            raise ValidationError("Write the number of a picture in digits, as the ledger shows it.")
        return int(text) if text else None

    def clean_until(self) -> date | None:
        until, since = self.cleaned_data["until"], self.cleaned_data.get("since")
        if until and since and until < since:
            raise ValidationError("This is before the first day.")
        return until

    @property
    def only(self) -> LedgerFilter:
        """What of it is good, once it was looked at."""
        given = self.cleaned_data
        person, until, kinds = given.get("person", ""), given.get("until"), dict.fromkeys(given.get("kind", []))
        return LedgerFilter(
            kinds=() if len(kinds) == len(WORDS) else tuple(kinds),
            actor=ITSELF if person == NOBODY else int(person) if person else None,
            since=self._midnight(given.get("since")),
            until=self._midnight(until + timedelta(days=1)) if until else None,
            task=given.get("task"),
        )

    def _midnight(self, day: date | None) -> datetime | None:
        return datetime(day.year, day.month, day.day, tzinfo=self.zone) if day else None

    @property
    def query(self) -> str:
        """These filters in an address, whatever they are; page marks are added to it."""
        pairs = [(name, value) for name in self.fields for value in self._values(name) if value]
        return urlencode(pairs)

    def _values(self, name: str) -> list[str]:
        """No longer than an address may be; what is cut off was nonsense."""
        values = dict.fromkeys(value[:SAID_MAX] for value in self.data.getlist(name))  # type: ignore[attr-defined]
        return list(values)[: len(WORDS) + 1]

    @property
    def plain(self) -> list[forms.BoundField]:
        """Those that look alike, for the template."""
        return [self["since"], self["until"], self["task"]]

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """The same for a form that is posted."""
        return [(name, value) for name in self.fields for value in self._values(name) if value]
