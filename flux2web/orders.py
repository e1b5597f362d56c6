"""What a member asks for, what it would cost, and why not: the plain values that pass between the rungs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from decimal import Decimal

COUNT_MAX = 8


@dataclass(frozen=True)
class Order:
    """One press of the button. `provider` "" leaves the choice to routing; `references` are ids in slot order."""

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
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Quote:
    """What an order costs in credits, before sending, and with whom. `others` are dearer able ones: (name, each)."""

    provider: str
    name: str
    each: int
    count: int
    assumed: bool
    usd: Decimal | None = None
    others: tuple[tuple[str, int], ...] = ()

    @property
    def total(self) -> int:
        return self.each * self.count


@dataclass(frozen=True)
class Refusal:
    """Why not, in whole sentences. `field` is the form field it belongs to, "" for the form as a whole.

    kind: "budget", "price", "conflict" (same key, other content), "provider", "reference", "input".
    """

    kind: str
    field: str
    message: str
