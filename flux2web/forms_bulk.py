"""What is to be done with many pictures at once, as the bar over the history posts it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from .collecting import NAME_MAX_CHARS, editable
from .models import Collection, Membership, Tag
from .shelf import TAG_MAX_CHARS, Refused, tag_name

PICTURES_MAX = 10_000  # at once
ID_MAX_DIGITS = 18
TOO_MANY = f"At most {PICTURES_MAX:,} pictures at once. Choose fewer, or narrow the search, and do it in parts."
GARBAGE = "What was sent names no pictures. Reload the page and choose them again."
NOTHING = "Nothing was chosen. Tick some pictures first."
RELOAD = "There is no such action. Reload the page and try again."


class BulkForm(forms.Form):
    """`verb`, and on which pictures: `ids` (repeated, or with commas), or `all` of what `filters` finds."""

    verb = forms.CharField(error_messages={"required": RELOAD})
    all = forms.BooleanField(required=False)
    filters = forms.CharField(required=False)
    ids = forms.Field(required=False, widget=forms.MultipleHiddenInput)

    def __init__(self, data: Any, *, verbs: tuple[str, ...]) -> None:
        super().__init__(data)
        self.verbs = verbs

    def clean_verb(self) -> str:
        if self.cleaned_data["verb"] not in self.verbs:
            raise ValidationError(RELOAD)
        return self.cleaned_data["verb"]

    def clean_ids(self) -> list[int]:
        """Each once, in the order in which they came."""
        if self.cleaned_data.get("all"):
            return []
        parts = [part for text in self.data.getlist("ids") for part in text.split(",") if part]  # type: ignore[attr-defined]
        if len(parts) > PICTURES_MAX:
            raise ValidationError(TOO_MANY)
        if not all(part.isascii() and part.isdigit() and len(part) <= ID_MAX_DIGITS for part in parts):
            raise ValidationError(GARBAGE)
        if not parts:
            raise ValidationError(NOTHING)
        return list(dict.fromkeys(map(int, parts)))

    @property
    def problem(self) -> str:
        return next(str(error) for errors in self.errors.values() for error in errors)


class TagForm(forms.Form):
    """The tag that all of them get, or lose."""

    KNOWN = 100  # of the team's tags, offered while one types
    name = forms.CharField(
        label="Tag",
        max_length=10 * TAG_MAX_CHARS,
        error_messages={"required": "Write a tag."},
        widget=forms.TextInput(attrs={"list": "bulk-known", "autocomplete": "off"}),
    )

    def __init__(self, data: Any = None, *, member: Membership) -> None:
        super().__init__(data, auto_id="bulk-%s")
        self.known = Tag.objects.filter(team=member.team_id).order_by("-used")[: self.KNOWN]

    def clean_name(self) -> str:
        try:
            return tag_name(self.cleaned_data["name"])
        except Refused as problem:
            raise ValidationError(str(problem)) from None


class CollectForm(forms.Form):
    """One of the collections, or the name of a new one."""

    collection = forms.ModelChoiceField(
        label="Collection",
        queryset=Collection.objects.none(),
        required=False,
        empty_label="A new one",
        error_messages={"invalid_choice": "This collection is not there any more, or not yours to change."},
    )
    name = forms.CharField(
        label="Name of the new one",
        required=False,
        max_length=NAME_MAX_CHARS,
        error_messages={"max_length": f"At most {NAME_MAX_CHARS} characters."},
    )

    def __init__(self, data: Any = None, *, member: Membership) -> None:
        super().__init__(data, auto_id="bulk-%s")
        self.fields["collection"].queryset = editable(member).order_by("name", "pk")  # type: ignore[attr-defined]

    def clean_name(self) -> str:
        name = self.cleaned_data["name"].strip()
        if not name and not self.cleaned_data.get("collection") and "collection" not in self.errors:
            raise ValidationError("Choose a collection, or write a name for a new one.")
        return name
