"""Words in square brackets by which a prompt asks for trouble (the table is in README.md)."""

from __future__ import annotations

import re

KNOWN = frozenset(
    {
        *("html", "refuse", "busy", "broke", "closed", "lost"),  # how the create is answered
        *("fail", "filter", "slow", "stuck", "badjson", "gone"),  # how the task goes
        *("silent", "twice", "early"),  # how the callback comes
    }
)
BRACKETS = re.compile(r"\[([a-z][a-z ,+]{0,80})\]", re.IGNORECASE)


def wishes_in(prompt: str) -> frozenset[str]:
    """'[lost silent] a hill [slow]' asks for three."""
    words = (word for group in BRACKETS.findall(prompt) for word in re.findall(r"[a-z]+", group.lower()))
    return KNOWN.intersection(words)


def without_wishes(prompt: str) -> str:
    """The prompt as it is to be drawn."""
    return BRACKETS.sub(lambda found: "" if wishes_in(found[0]) else found[0], prompt).strip()
