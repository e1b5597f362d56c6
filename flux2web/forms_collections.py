"""Forms of collections and of the links that show them to guests. What is wrong is said beside the field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from .collecting import GUEST_MAX_CHARS, LINK_DAYS, LINK_DAYS_MAX, NAME_MAX_CHARS, collection_name
from .models import Collection, CollectionRole, User
from .shelf import COMMENT_MAX_CHARS, Refused, clean


class CollectionForm(forms.Form):
    """What it is called, and what the team may do with it."""

    name = forms.CharField(
        label="Name",
        max_length=NAME_MAX_CHARS,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Give the collection a name."},
    )
    access = forms.ChoiceField(
        label="The team",
        choices=Collection.Access.choices,
        initial=Collection.Access.EDIT,
        error_messages={"required": "Choose what the team may do with it."},
    )

    def clean_name(self) -> str:
        return _checked(collection_name, self.cleaned_data["name"])


def _checked(rule: Callable[[str], str], text: str) -> str:
    try:
        return rule(text)
    except Refused as problem:
        raise ValidationError(str(problem)) from None


class RoleForm(forms.Form):
    """What one person of the team may do, beside what everyone may."""

    user = forms.ModelChoiceField(
        User.objects.none(),
        label="Person",
        empty_label="Choose somebody",
        error_messages={
            "required": "Choose somebody.",
            "invalid_choice": "Nobody of this number is in the team. Choose somebody from the list.",
        },
    )
    role = forms.ChoiceField(
        label="May",
        choices=[
            (CollectionRole.Role.EDITOR.value, "Add and remove"),
            (CollectionRole.Role.VIEWER.value, "Look"),
            ("none", "Nothing more"),
        ],
        initial=CollectionRole.Role.EDITOR,
        error_messages={"required": "Choose what they may do."},
    )

    def __init__(self, data: Any = None, *, collection: Collection) -> None:
        super().__init__(data, auto_id="role-%s")
        people = User.objects.filter(memberships__team=collection.team_id, is_active=True)
        people = people.exclude(pk=collection.owner_id or 0).order_by("name", "pk")
        self.fields["user"].queryset = people  # type: ignore[attr-defined]

    def clean_role(self) -> str:
        """As the verb has it: "" takes back."""
        return self.cleaned_data["role"].removeprefix("none")


class LinkForm(forms.Form):
    """A link for guests."""

    days = forms.IntegerField(
        label="Open for, in days",
        min_value=1,
        max_value=LINK_DAYS_MAX,
        initial=LINK_DAYS,
        error_messages={
            "required": f"Say for how many days, 1 to {LINK_DAYS_MAX}.",
            "invalid": f"Write a whole number of days, 1 to {LINK_DAYS_MAX}.",
            "min_value": "At least 1 day.",
            "max_value": f"At most {LINK_DAYS_MAX} days. Make a new link then.",
        },
    )
    may_comment = forms.BooleanField(label="Guests may write comments", required=False)
    shows_prompts = forms.BooleanField(label="Show the prompts", required=False)

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, auto_id="link-%s")


class GuestForm(forms.Form):
    """A guest's words."""

    name = forms.CharField(
        label="Your name",
        max_length=GUEST_MAX_CHARS,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        error_messages={"required": "Write your name, so that the team knows who says this."},
    )
    text = forms.CharField(
        label="Comment",
        max_length=COMMENT_MAX_CHARS,
        widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": "Write something first."},
    )

    def clean_name(self) -> str:
        return _said(clean(self.cleaned_data["name"]), "Write your name in letters.")

    def clean_text(self) -> str:
        return _said(clean(self.cleaned_data["text"], lines=True), "Write something first.")


def _said(text: str, problem: str) -> str:
    if not text:
        raise ValidationError(problem)
    return text
