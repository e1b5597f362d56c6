"""Prompts with places to fill in: "a {animal} in {style}". Pure.

A name begins with a letter, so that the braces of a prompt written as JSON stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod

NAME_MAX_CHARS = 30
VARIABLES_MAX = 8  # in one prompt
VALUE_MAX_CHARS = 1000  # of one field, with all its values
BETWEEN = "|"
VARIABLE = re.compile(rf"\{{([^\W\d_][\w -]{{0,{NAME_MAX_CHARS - 1}}})\}}")


def variables(text: str) -> list[str]:
    """The names in a prompt, each once, in the order in which they are read."""
    return list(dict.fromkeys(found.strip() for found in VARIABLE.findall(text)))


def values(typed: str) -> list[str]:
    """ "gouache | screen print" -> two values; each once, empty ones left out."""
    return list(dict.fromkeys(value for part in typed.split(BETWEEN) if (value := part.strip())))


def how_many(given: Mapping[str, Sequence[str]]) -> int:
    """Prompts that these values make: counted, not made. What has no value yet counts as one."""
    return prod(max(1, len(each)) for each in given.values())


def variants(text: str, given: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Every prompt that these values make, the last variable changing fastest. What stands in a value stays as it is."""
    for chosen in product(*given.values()):
        yield filled(text, dict(zip(given, chosen, strict=True)))


def filled(text: str, said: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda found: said.get(found[1].strip(), found[0]), text)


def storable(text: object) -> str:
    """Without what PostgreSQL does not store: NUL, and halves of characters."""
    return "".join(char for char in str(text) if char != "\0" and not "\ud800" <= char <= "\udfff")
