"""What a member asks for, what it would cost, and why not: the plain values that pass between the rungs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import NamedTuple

COUNT_MAX = 8  # of one cell
PICTURES_MAX = 64  # of one press, however many prompts, shapes and families it crosses


@dataclass(frozen=True)
class Cell:
    """One more picture of an order: what differs from the first."""

    prompt: str
    family: str
    aspect_ratio: str
    seed: int | None = None
    parent: int | None = None


@dataclass(frozen=True)
class Order:
    """One press of the button. `provider` "" leaves the choice to routing; `references` are ids in slot order.

    Of a matrix the first cell stands here, the others in `rest`; `count` is how many of each.
    """

    prompt: str
    family: str
    aspect_ratio: str
    resolution: str
    count: int = 1
    provider: str = ""
    seed: int | None = None
    output_format: str = ""
    safety_tolerance: int | None = None
    references: tuple[int, ...] = ()
    parent: int | None = None
    rest: tuple[Cell, ...] = ()
    ceiling: int | None = None  # credits: what costs more in all is not sent
    stop_after: int | None = None  # failures that end what still waits
    saved: int | None = None  # the shelf's prompt that this was written from
    private: bool | None = None  # seen by its author alone; None: as the team has it
    collection: int | None = None  # to which its pictures are added

    @property
    def cells(self) -> list[Order]:
        """One order for each cell, without the others."""
        first = replace(self, rest=())
        return [first, *(replace(first, **vars(cell)) for cell in self.rest)]

    @property
    def pictures(self) -> int:
        return self.count * (1 + len(self.rest))

    @property
    def mode(self) -> str:
        return "image-to-image" if self.references else "text-to-image"

    @property
    def extras(self) -> frozenset[str]:
        """The settings given that not every provider can say."""
        said = {
            "seed": self.seed is not None,
            "output_format": bool(self.output_format),
            "safety_tolerance": self.safety_tolerance is not None,
        }
        return frozenset(name for name, given in said.items() if given)

    @property
    def fingerprint(self) -> str:
        """Equal exactly for equal orders: what a key was used for."""
        said = {name: value for name, value in asdict(self).items() if value or value is False or name not in LATER}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


LATER = (
    "rest",
    "ceiling",
    "stop_after",
    "saved",
    "private",
    "collection",
)  # not in the fingerprints of batches that are older than these


class Other(NamedTuple):
    """An able provider that was not chosen: what one picture costs there, and why not, where price is not the reason."""

    name: str
    credits: int
    note: str = ""


@dataclass(frozen=True)
class Quote:
    """What an order costs in credits, before sending, with whom, and why there. Of a matrix this is the first cell's;
    `rest` are the others', in their order."""

    provider: str
    name: str
    each: int
    count: int
    assumed: bool
    usd: Decimal | None = None
    why: str = ""
    others: tuple[Other, ...] = ()
    rest: tuple[Quote, ...] = ()

    @property
    def parts(self) -> tuple[Quote, ...]:
        return (self, *self.rest)

    @property
    def pictures(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def total(self) -> int:
        return sum(part.each * part.count for part in self.parts)

    @property
    def names(self) -> str:
        """Everyone who is to draw some of it."""
        return ", ".join(dict.fromkeys(part.name for part in self.parts))


@dataclass(frozen=True)
class Refusal:
    """Why not, in whole sentences. `field` is the form field it belongs to, "" for the form as a whole.

    kind: "budget", "price", "confirm" (it costs enough to be asked about), "conflict" (same key, other content),
    "provider", "reference", "input".
    """

    kind: str
    field: str
    message: str
