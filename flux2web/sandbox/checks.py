"""What a create may hold. Each check gives the value back in its type, or raises `Wrong` with a sentence for the caller."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

PROMPT_CHARACTERS = (3, 5000)  # docs.revidapi.com, docs.apikley.ru, apixo.ai/docs; assumed for the other two
REFERENCES = (1, 8)
ADDRESS_CHARACTERS = 2048
RATIOS = ("1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3")
RESOLUTIONS = ("1K", "2K")


class Wrong(Exception):
    """A value that the vendor would refuse."""


def fields(value: Any, *, required: Collection[str], optional: Collection[str] = (), where: str) -> dict[str, Any]:
    """An object with exactly these members. Unknown ones are refused: a strict peer finds our mistakes."""
    if not isinstance(value, dict):
        raise Wrong(f"{where} must be an object")
    for name in required:
        if value.get(name) is None:
            raise Wrong(f"{name} is required")
    for name in value:
        if name not in required and name not in optional:
            raise Wrong(f"{name[:60]} is not a parameter of {where}")
    return value


def text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{name} must be a string")
    return value


def prompt(value: Any) -> str:
    low, high = PROMPT_CHARACTERS
    if not low <= len(text(value, "prompt").strip()) <= high:
        raise Wrong(f"prompt must be between {low} and {high} characters")
    return value


def choice(value: Any, name: str, options: Collection[str]) -> str:
    if text(value, name) not in options:
        raise Wrong(f"{name} is not within the range of allowed options")
    return value


def ratio(value: Any, *, with_references: bool) -> str:
    if choice(value, "aspect_ratio", (*RATIOS, "auto")) == "auto" and not with_references:
        raise Wrong("aspect_ratio auto requires at least one input image")
    return value


def address(value: Any, name: str) -> str:
    parts = _split(text(value, name))
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise Wrong(f"{name} must be a valid URL")
    return value


def _split(value: str) -> Any:
    try:
        return urlsplit(value) if len(value) <= ADDRESS_CHARACTERS else None
    except ValueError:
        return None


def addresses(value: Any, name: str) -> tuple[str, ...]:
    low, high = REFERENCES
    if not isinstance(value, list) or not low <= len(value) <= high:
        raise Wrong(f"{name} must be an array of {low} to {high} URLs")
    return tuple(address(entry, name) for entry in value)


def integer(value: Any, name: str, *, low: int, high: int, step: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Wrong(f"{name} must be an integer from {low} to {high}")
    if value % step:
        raise Wrong(f"{name} must be a multiple of {step}")
    return value
