"""Form fields of our own."""

from __future__ import annotations

from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from .money import parse_credits


class CreditsField(forms.CharField):
    """A whole, positive number of credits. What was typed stays in the form, whatever it was."""

    widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"})

    def clean(self, value: object) -> int | None:
        text = super().clean(value)
        try:
            return parse_credits(text) if text else None
        except ValueError as error:
            raise ValidationError(str(error)) from None


class LimitField(CreditsField):
    """A limit: 0 is none at all, nothing typed is no limit."""

    def clean(self, value: object) -> int | None:
        return 0 if str(value or "").strip() == "0" else super().clean(value)


DAYS = (date(2000, 1, 1), date(2100, 1, 1))


class DayField(forms.DateField):
    """A day between 2000 and 2100. Browsers show none that does not exist: the message says what it was."""

    widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    input_formats = ("%Y-%m-%d",)

    def to_python(self, value: Any) -> date | None:
        try:
            day = super().to_python(value)
        except ValidationError:
            raise ValidationError(f"There is no day “{str(value)[:20]}”. Write one as 2026-11-30.") from None
        if day and not DAYS[0] <= day < DAYS[1]:
            raise ValidationError("Choose a day between 2000 and 2100.")
        return day
