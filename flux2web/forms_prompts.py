"""Forms of the team's shelf of prompts."""

from __future__ import annotations

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile

from .promptbook import SHEET_MAX_BYTES, TITLE_MAX_CHARS, text_problem, title_problem


class TitleForm(forms.Form):
    """What a prompt is called on the shelf."""

    title = forms.CharField(
        label="Title",
        error_messages={"required": title_problem("")},
        widget=forms.TextInput(attrs={"autocomplete": "off", "maxlength": TITLE_MAX_CHARS}),
    )

    def clean_title(self) -> str:
        return _right(title_problem(title := " ".join(self.cleaned_data["title"].split())), title)


class PromptForm(TitleForm):
    """A prompt on the shelf: its title and its words."""

    text = forms.CharField(
        label="Prompt",
        error_messages={"required": text_problem("")},
        widget=forms.Textarea(attrs={"rows": 5}),
        help_text="{like this} is a place to fill in.",
    )

    def clean_text(self) -> str:
        text = self.cleaned_data["text"].replace("\r\n", "\n").strip()
        return _right(text_problem(text), text)


def _right(problem: str, value: str) -> str:
    if problem:
        raise ValidationError(problem)
    return value


class SheetForm(forms.Form):
    """A CSV file of prompts."""

    sheet = forms.FileField(
        label="CSV file",
        widget=forms.FileInput(attrs={"accept": ".csv,text/csv"}),
        error_messages={
            "required": "Choose a CSV file first.",
            "empty": "This file is empty. Choose another.",
            "missing": "Choose a CSV file first.",
            "invalid": "Choose a CSV file first.",
        },
    )

    def clean_sheet(self) -> bytes:
        file: UploadedFile = self.cleaned_data["sheet"]
        if (file.size or 0) > SHEET_MAX_BYTES:
            raise ValidationError("This file is larger than 1 MB. Split it.")
        return file.read()
