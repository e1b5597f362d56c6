"""How one picture's order differs from another's: words, settings, images, price. Plain values for pages; no HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from .cards import Card
from .models import Task
from .money import credits_text

AROUND = 6  # words left standing on each side of a change; a longer stretch between two is cut
CUT = " … "


@dataclass(frozen=True)
class Piece:
    """Some words of a prompt: kind "same", "added" or "removed"."""

    kind: str
    text: str


@dataclass(frozen=True)
class Row:
    """One line of a comparison. `differs` unless all values are the same."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def words(before: str, after: str) -> list[Piece]:
    """The later prompt with what was added marked and what was removed put back, far stretches cut; [] where equal."""
    old, new = _tokens(before), _tokens(after)
    if old == new:
        return []
    keys = [[token.strip() or token for token in tokens] for tokens in (old, new)]  # a space more changes no word
    steps = SequenceMatcher(
        None, keys[0], keys[1]
    ).get_opcodes()  # with its shortcut for frequent words: 5,000 of one take ms
    return [piece for number, step in enumerate(steps) for piece in _pieces(old, new, step, number, len(steps) - 1)]


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+\s*|[^\w]\s*", text)


def _pieces(
    old: Sequence[str], new: Sequence[str], step: tuple[str, int, int, int, int], number: int, last: int
) -> Iterator[Piece]:
    kind, old_from, old_to, new_from, new_to = step
    if kind == "equal":
        yield Piece("same", _shortened(new[new_from:new_to], is_first=number == 0, is_last=number == last))
        return
    for changed, text in (("removed", "".join(old[old_from:old_to])), ("added", "".join(new[new_from:new_to]))):
        said = text.rstrip() or text  # no line under or through the space after it
        if said:
            yield Piece(changed, said)
        if said != text:
            yield Piece("same", text[len(said) :])


def _shortened(tokens: Sequence[str], *, is_first: bool, is_last: bool) -> str:
    head, tail = (0 if is_first else AROUND), (0 if is_last else AROUND)
    if len(tokens) <= head + tail + 2:
        return "".join(tokens)
    return "".join(tokens[:head]) + CUT + "".join(tokens[len(tokens) - tail :])


def rows(tasks: Sequence[Task], references: Sequence[Sequence[str]]) -> list[Row]:
    """What was asked for and what came, task by task; `references` are the names of each one's images, in order."""
    tables = [dict(_facts(task)) for task in tasks]
    found = [Row(name, tuple(table[name] for table in tables)) for name in tables[0]]
    most = max(map(len, references), default=0)
    for number in range(most):
        values = tuple(names[number] if number < len(names) else "" for names in references)
        found.append(Row(f"Image {number + 1}", values))
    return [row for row in found if any(row.values)]


def _facts(task: Task) -> Iterable[tuple[str, str]]:
    card = Card(task)
    said = dict(card.settings_table)
    for name in ("Family", "Shape", "Resolution", "Seed", "Format", "Safety tolerance", "Provider"):
        yield name, said.get(name, "")
    yield "Price", credits_text(_price(task))


def _price(task: Task) -> int:
    return task.price_credits if task.charged_credits is None else task.charged_credits
