"""What the compose form accepts, and what it says when it does not."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils.datastructures import MultiValueDict
from django.utils.functional import cached_property

from . import access, collecting, imaging, kinds, prompts, storage
from .fields import CreditsField
from .models import Membership, Reference, Task
from .orders import COUNT_MAX, PICTURES_MAX, Cell, Order, Quote, Refusal
from .providers.base import PROMPT_MAX, PROMPT_MIN, REFERENCES_MAX

FAMILIES = [("pro", "Pro"), ("flex", "Flex")]
RATIOS = ["1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3"]
RESOLUTIONS = ["1K", "2K"]
FORMATS = [("", "Any"), ("jpeg", "JPEG"), ("png", "PNG")]
TOLERANCES = [("", "Default"), *((str(step), str(step)) for step in range(1, 6))]
VISIBILITIES = [("0", "The team"), ("1", "Only me")]
SEED_MAX = 2**32 - 1
DEFAULTS = {"family": "pro", "aspect_ratio": "1:1", "resolution": "1K", "count": "1", "provider": ""}
ID_DIGITS_MAX = 18
STORAGE_DOWN = "This site cannot store pictures right now. Try again in a minute."
SAVED_MAX = 2 * REFERENCES_MAX  # files kept of one post, however many it brings
MANY = 1_000_000  # beyond this, how many exactly makes no difference


class PromptField(forms.CharField):
    """3 to 5,000 code points, trimmed, with line ends as people see them."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> str:
        return (super().to_python(value) or "").replace("\r\n", "\n").strip()

    def run_validators(self, value: str) -> None:
        if broken := next((index for index, char in enumerate(value, 1) if is_broken(char)), 0):
            raise ValidationError(f"Character {broken} of the prompt is broken and cannot be sent. Type it again.")
        if 0 < len(value) < PROMPT_MIN:
            raise ValidationError(f"Write at least {PROMPT_MIN} characters; this has {len(value)}.")
        if len(value) > PROMPT_MAX:
            raise ValidationError(f"Write {PROMPT_MAX:,} characters at most; this has {len(value):,}.")


def is_broken(char: str) -> bool:
    """NUL, half of a surrogate pair, or the mark that decoding leaves in place of one."""
    return char in "\0\ufffd" or "\ud800" <= char <= "\udfff"


class Files(forms.FileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Several files at once, for browsers without JavaScript."""

    widget = Files

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        return list(data or [])


class IdsField(forms.Field):
    """Ordered ids, repeated. What is no id stays as text, so that it is looked for, not found, and named."""

    widget = forms.MultipleHiddenInput

    def to_python(self, value: Any) -> list[int]:
        return [as_id(text) for text in value or []]


class TextsField(forms.Field):
    """Texts, repeated, in their order; empty ones too."""

    widget = forms.MultipleHiddenInput

    def to_python(self, value: Any) -> list[str]:
        return [str(text) for text in value or []]


class ChoicesField(forms.MultipleChoiceField):
    """Any of the choices. What is none is left out: nobody can tick it."""

    def clean(self, value: Any) -> list[str]:
        known = dict(self.choices)  # type: ignore[arg-type]
        return [choice for choice in dict.fromkeys(value or []) if choice in known]


def as_id(text: object) -> int:
    """The id, or 0, which no row has."""
    digits = str(text)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= ID_DIGITS_MAX else 0


@dataclass(frozen=True)
class Slot:
    """A numbered place in the form; `reference` is None where this team has none of that id (any more)."""

    number: int
    id: int
    reference: Reference | None


@dataclass(frozen=True)
class Blank:
    """A place to fill in of the prompt, what was typed there, and what is wrong with it."""

    name: str
    typed: str
    problem: str = ""

    @property
    def values(self) -> list[str]:
        return prompts.values(self.typed)


class ComposeForm(forms.Form):
    """One press of the button. As a draft it is only priced: the prompt may still be missing."""

    prompt = PromptField(error_messages={"required": "Say what to draw."})
    family = forms.ChoiceField(choices=FAMILIES)
    aspect_ratio = forms.ChoiceField(choices=[*((ratio, ratio) for ratio in RATIOS), ("auto", "auto")])
    resolution = forms.ChoiceField(choices=[(size, size) for size in RESOLUTIONS])
    count = forms.IntegerField(min_value=1, max_value=COUNT_MAX, required=False)
    provider = forms.CharField(max_length=20, required=False)
    seed = forms.IntegerField(min_value=0, max_value=SEED_MAX, required=False)
    output_format = forms.ChoiceField(choices=FORMATS, required=False)
    safety_tolerance = forms.TypedChoiceField(choices=TOLERANCES, coerce=int, empty_value=None, required=False)
    private = forms.TypedChoiceField(
        choices=VISIBILITIES, coerce=lambda text: text == "1", empty_value=None, required=False
    )
    collection = forms.CharField(required=False)
    references = IdsField(required=False)
    files = FilesField(required=False)  # type: ignore[assignment]
    variable = TextsField(required=False)
    value = TextsField(required=False)
    also_ratio = ChoicesField(choices=[(ratio, ratio) for ratio in RATIOS], required=False)
    also_family = ChoicesField(choices=FAMILIES, required=False)
    ceiling = CreditsField(max_length=20, required=False)
    stop_after = forms.IntegerField(min_value=1, max_value=PICTURES_MAX, required=False)
    saved = forms.CharField(required=False)
    parent = forms.CharField(required=False)
    price = forms.CharField(required=False)
    key = forms.CharField(max_length=80, required=False)
    again = forms.CharField(max_length=80, required=False)  # "make it anyway": said now, or of what twins.mark names
    confirm = forms.CharField(required=False)  # the total that was agreed to when asked

    def __init__(self, *args: Any, member: Membership, draft: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.member = member
        self.slots = [] if self.is_bound else self._slots([as_id(pk) for pk in self.initial.get("references", [])])
        self.is_draft = draft
        self.blanks = self._blanks()
        self.fields["prompt"].required = not draft
        for name in ("family", "aspect_ratio", "resolution", "private"):
            self.fields[name].error_messages["invalid_choice"] = "There is no such choice: %(value)s."
        self.fields["seed"].error_messages["invalid"] = f"A seed is a whole number from 0 to {SEED_MAX:,}."
        for words in ("invalid", "min_value", "max_value"):
            self.fields["stop_after"].error_messages[words] = f"Write a number of failures from 1 to {PICTURES_MAX}."

    # --- what was given ------------------------------------------------------------------------------------------------

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        ids = self._in_place(values) + [kept.pk for kept in self._keep_files(values.get("files") or [])]
        values["references"] = ids
        self.slots = self._slots(ids)  # before any error: Django forgets the value of a field that has one
        self._check_references()
        if values.get("aspect_ratio") == "auto" and not ids:
            self.add_error("aspect_ratio", "“Auto” takes the shape of image 1: add an image, or choose a shape.")
        if not self.is_draft:
            self._check_blanks()
            self._check_collection(values)
        self._check_size(values)
        return values

    # --- places to fill in ---------------------------------------------------------------------------------------------

    def _blanks(self) -> list[Blank]:
        """Those of the prompt, with what was typed for them; of a draft, whose prompt is not read, those that came."""
        text, names, typed = self._given("prompt"), self._given_list("variable"), self._given_list("value")
        known = dict(zip(names, typed, strict=False))
        wanted = list(known) if self.is_draft else prompts.variables(text)
        return [Blank(name, known.get(name, "")) for name in wanted[: prompts.VARIABLES_MAX + 1]]

    def _given(self, name: str) -> str:
        return str((self.data if self.is_bound else self.initial).get(name) or "")

    def _given_list(self, name: str) -> list[str]:
        if self.is_bound:
            return self.data.getlist(name) if hasattr(self.data, "getlist") else []
        return [str(text) for text in self.initial.get(name) or []]

    def _check_blanks(self) -> None:
        self.blanks = [Blank(each.name, each.typed, _wrong_with(each)) for each in self.blanks]
        for each in self.blanks:
            if each.problem:
                self.add_error("value", each.problem)

    def _check_size(self, values: dict[str, Any]) -> None:
        """Counted before anything is made of it: ten thousand cells cost no more than one."""
        if len(self.blanks) > (most := prompts.VARIABLES_MAX):
            return self.add_error("prompt", f"A prompt takes {most} variables in braces at most. Use fewer.")
        cells = prompts.how_many(self._values), len(self._ratios(values)), len(self._families(values))
        count = values.get("count") or 1
        total = cells[0] * cells[1] * cells[2] * count
        if total > PICTURES_MAX:
            self.add_error("count", _too_many(total, cells, count))
        elif not self.is_draft and not self.errors:
            self._check_prompts(values["prompt"])
        return None

    def _check_prompts(self, text: str) -> None:
        """One after the other: the first that is too long says it for all."""
        for prompt in prompts.variants(text, self._values):
            if not PROMPT_MIN <= len(prompt) <= PROMPT_MAX:
                length = f"{len(prompt):,} characters; {PROMPT_MIN} to {PROMPT_MAX:,} can be sent"
                return self.add_error("prompt", f"With the values filled in the prompt has {length}.")
        return None

    @property
    def _values(self) -> dict[str, list[str]]:
        return {each.name: each.values for each in self.blanks}

    @staticmethod
    def _ratios(values: dict[str, Any]) -> list[str]:
        return list(dict.fromkeys([values.get("aspect_ratio", ""), *(values.get("also_ratio") or [])]))

    @staticmethod
    def _families(values: dict[str, Any]) -> list[str]:
        return list(dict.fromkeys([values.get("family", ""), *(values.get("also_family") or [])]))

    # --- where the pictures go -----------------------------------------------------------------------------------------

    @cached_property
    def collections(self) -> dict[int, str]:
        """The names of those that this member may add to, by id."""
        return dict(collecting.editable(self.member).order_by("name", "pk").values_list("pk", "name"))

    def _check_collection(self, values: dict[str, Any]) -> None:
        if (text := values.get("collection")) and as_id(text) not in self.collections:
            said = "This collection is not there any more, or you may not add to it. Choose another, or none."
            self.add_error("collection", said)

    def _collection_id(self) -> int | None:
        pk = as_id(self.cleaned_data["collection"])
        return pk if pk and pk in self.collections else None

    # --- images --------------------------------------------------------------------------------------------------------

    def _keep_files(self, files: list[UploadedFile]) -> list[Reference]:
        """Files become references even if the post is refused for another reason: nobody uploads twice."""
        return [kept for file in files[:SAVED_MAX] if (kept := self._keep(file))]

    def _keep(self, file: UploadedFile) -> Reference | None:
        try:
            return storage.save_reference(self.member.team, self.member.user, file, str(file.name)[:120])
        except imaging.BadImage as problem:
            self.add_error("files", f"{file.name}: {problem}")
        except storage.StorageDown:
            self.add_error("files", STORAGE_DOWN)
        return None

    def _in_place(self, values: dict[str, Any]) -> list[int]:
        """In slot order; without JavaScript each slot has a number to type, and an empty one leaves it out."""
        ids, places = (
            values.get("references") or [],
            self.data.getlist("place") if hasattr(self.data, "getlist") else [],
        )
        if len(places) != len(ids):
            return list(ids)
        numbered = [(as_id(place), pk) for place, pk in zip(places, ids, strict=True) if str(place).strip()]
        return [pk for _, pk in sorted(numbered, key=lambda pair: pair[0])]

    def _slots(self, ids: list[int]) -> list[Slot]:
        rows = access.references(self.member).in_bulk(ids)
        return [Slot(number, pk, rows.get(pk)) for number, pk in enumerate(ids, 1)]

    @property
    def gone(self) -> list[int]:
        """Numbers of the images that are not here any more."""
        return [slot.number for slot in self.slots if slot.reference is None]

    def _check_references(self) -> None:
        if (over := len(self.slots) - REFERENCES_MAX) > 0:
            self.add_error("references", f"{len(self.slots)} images; a task takes {REFERENCES_MAX}. Remove {over}.")
        for slot in self.slots:
            if slot.reference is None:
                self.add_error("references", f"Image {slot.number} is not here any more. Remove it or upload it again.")

    # --- what it means -------------------------------------------------------------------------------------------------

    def order(self) -> Order:
        values, (first, *rest) = self.cleaned_data, self._cells()
        return Order(
            **vars(first),
            rest=tuple(rest),
            resolution=values["resolution"],
            count=values["count"] or 1,
            provider=values["provider"],
            output_format=values["output_format"],
            safety_tolerance=values["safety_tolerance"],
            references=tuple(slot.id for slot in self.slots),
            ceiling=values["ceiling"],
            stop_after=values["stop_after"],
            saved=self._saved_id(),
            private=values["private"],
            collection=self._collection_id(),
        )

    def _cells(self) -> list[Cell]:
        """Prompts × families × shapes, what stands in the form first."""
        values = self.cleaned_data
        same = {"seed": values["seed"], "parent": self._parent_id()}
        crossed = product(self._prompts(), self._families(values), self._ratios(values))
        return [Cell(prompt, family, ratio, **same) for prompt, family, ratio in islice(crossed, PICTURES_MAX)]

    def _prompts(self) -> list[str]:
        """Of a draft as many as there will be: what they say makes no difference to the price."""
        if self.is_draft:
            return [""] * prompts.how_many(self._values)
        return list(prompts.variants(self.cleaned_data["prompt"], self._values))

    def _saved_id(self) -> int | None:
        """The shelf's prompt that this was written from, while it is there."""
        pk = as_id(self.cleaned_data["saved"])
        return pk if pk and access.saved_prompts(self.member).filter(pk=pk).exists() else None

    def _parent_id(self) -> int | None:
        """The task this one began from, if it is one that the member may see."""
        pk = as_id(self.cleaned_data["parent"])
        return pk if pk and access.tasks(self.member).filter(pk=pk).exists() else None

    @property
    def price_seen(self) -> int | None:
        """The total on the button; None where none was shown."""
        return as_id(self.cleaned_data["price"].strip()) or None

    @property
    def confirmed(self) -> int | None:
        """The total that was asked about and agreed to."""
        return as_id(self.cleaned_data["confirm"].strip()) or None

    def refuse(self, refusal: Refusal) -> None:
        """Put the back end's no beside the field it speaks of."""
        self.add_error(
            refusal.field if refusal.field in self.fields and refusal.field != "price" else None, refusal.message
        )

    # --- what the page shows -------------------------------------------------------------------------------------------

    @property
    def families(self) -> list[tuple[str, str]]:
        """Those that the team makes, and what was chosen nevertheless."""
        made = {family for family, _ in kinds.made_in(self.member.team.budget)}
        shown = made | {self._given("family"), *self._given_list("also_family")}
        return [choice for choice in FAMILIES if choice[0] in shown]

    @property
    def resolutions(self) -> list[str]:
        made = {size for _, size in kinds.made_in(self.member.team.budget)} | {self._given("resolution")}
        return [size for size in RESOLUTIONS if size in made]

    @property
    def visibility(self) -> str:
        """Who is to see it, as chosen, or as the team has it."""
        given = self._given("private")
        return given if given in dict(VISIBILITIES) else str(int(self.member.team.private_by_default))

    @property
    def problems(self) -> list[tuple[str, str]]:
        """(field or "", message) for the summary above the form."""
        return [
            ("" if name == "__all__" else name, text) for name, texts in self.errors.items() for text in map(str, texts)
        ]


def _wrong_with(blank: Blank) -> str:
    name = f"{{{blank.name}}}"
    if not blank.values:
        return f"Give {name} a value."
    if len(blank.typed) > prompts.VALUE_MAX_CHARS:
        return f"{name} takes {prompts.VALUE_MAX_CHARS:,} characters at most; this has {len(blank.typed):,}."
    return f"A character in {name} is broken and cannot be sent. Type it again." if _has_broken(blank.typed) else ""


def _has_broken(text: str) -> bool:
    return any(is_broken(char) for char in text)


def _too_many(total: int, cells: tuple[int, int, int], count: int) -> str:
    """What makes so many, the largest factors by name."""
    factors = zip(cells, ("prompts", "shapes", "families"), strict=True)
    parts = [f"{number:,} {what}" for number, what in factors if number > 1]
    parts += [f"{count} of each"] if count > 1 else []
    size = f"{total:,}" if total <= MANY else f"More than {MANY:,}"
    made_of = f" ({' × '.join(parts)})" if total <= MANY else ""
    fewer = "fewer values" if cells[0] > 1 else "fewer shapes or pictures"
    return f"{size} pictures{made_of} are too many for one press: {PICTURES_MAX} at most. Use {fewer}."


def new_key() -> str:
    return uuid.uuid4().hex


def price(member: Membership, given: Mapping[str, Any]) -> Quote | Refusal:
    """What the form as it stands would cost; what is missing takes its default."""
    lists = given.lists() if isinstance(given, MultiValueDict) else ((name, _as_list(it)) for name, it in given.items())
    data = MultiValueDict({**{name: [value] for name, value in DEFAULTS.items()}, **dict(lists)})
    _read_blanks(data)
    data.pop("prompt", None)  # judged when it is sent, not while it is written
    form = ComposeForm(data, member=member, draft=True)
    if form.is_valid():
        return kinds.quote(member, form.order())
    field, message = form.problems[0]
    return Refusal("input", field, message)


def _read_blanks(data: MultiValueDict) -> None:
    """Where the prompt came along, its variables count, whatever fields were shown."""
    if text := data.get("prompt"):
        known = dict(zip(data.getlist("variable"), data.getlist("value"), strict=False))
        names = prompts.variables(str(text))
        data.setlist("variable", names)
        data.setlist("value", [known.get(name, "") for name in names])


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def is_setting(name: str, value: str) -> bool:
    """Whether the form takes this for that field."""
    try:
        ComposeForm.base_fields[name].clean(value)
    except ValidationError:
        return False
    return True


WHATS = ("all", "remix", "prompt", "settings")  # what of a task a form may be filled with


def like(task: Task, what: str = "all") -> dict[str, Any]:
    """A form filled as this task was asked for: with all of it, all but its seed, its prompt, or its settings.

    The first two make what is sent then a child of this task.
    """
    prompt = {"prompt": task.prompt}
    settings = {
        "family": task.family,
        "aspect_ratio": task.aspect_ratio,
        "resolution": task.resolution,
        "provider": task.provider,
        "output_format": task.output_format,
        "safety_tolerance": "" if task.safety_tolerance is None else str(task.safety_tolerance),
    }
    images = {"references": [use.reference_id for use in task.task_references.all()], "parent": str(task.pk)}
    seed = {"seed": "" if task.seed is None else str(task.seed)}
    parts: dict[str, list[dict[str, Any]]] = {
        "prompt": [prompt],
        "settings": [settings],
        "remix": [prompt, settings, images],
    }
    return {name: value for part in parts.get(what, [prompt, settings, images, seed]) for name, value in part.items()}
