"""Forms of the library. What is wrong is said beside the field."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from .references import name_of
from .shelf import Refused

SEARCH_MAX_CHARS = 200


class FindForm(forms.Form):
    """What the library is looked through for. Nothing that is typed here is wrong: what is too long is cut."""

    q = forms.CharField(required=False, label="Search by name")

    def clean_q(self) -> str:
        return self.cleaned_data["q"].replace("\0", "")[:SEARCH_MAX_CHARS]

    @property
    def text(self) -> str:
        return self.cleaned_data.get("q", "") if self.is_valid() else ""


class NameForm(forms.Form):
    """What an image is called."""

    name = forms.CharField(
        label="Name",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Give the image a name."},
    )

    def __init__(self, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, auto_id="image-%s", **kwargs)

    def clean_name(self) -> str:
        try:
            return name_of(self.cleaned_data["name"])
        except Refused as problem:
            raise ValidationError(str(problem)) from None
