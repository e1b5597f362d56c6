"""Which kinds of picture a team makes, of pricing.KINDS: its admins may close some. It binds them as well."""

from __future__ import annotations

from collections.abc import Collection

from . import routing
from .caps import Rule
from .models import Budget, Membership
from .orders import Order, Quote, Refusal
from .pricing import KINDS, Place

Kind = tuple[str, str]  # family, resolution


def name(kind: Kind) -> str:
    """ "Pro 1K"."""
    return Place("", *kind).picture


def code(kind: Kind) -> str:
    """ "pro-1K": as the column and the form say it."""
    return "-".join(kind)


def read(column: str) -> list[Kind]:
    """Those that are open; a column that names none closes none."""
    return [kind for kind in KINDS if code(kind) in column.split()] or list(KINDS)


def column(codes: Collection[str]) -> str:
    left_open = [code(kind) for kind in KINDS if code(kind) in codes]
    return "" if len(left_open) == len(KINDS) else " ".join(left_open)


def words(column: str) -> str:
    return ", ".join(map(name, read(column))) if column else "every kind"


RULE = Rule("kinds", words, "set which kinds are made in")


def made_in(budget: Budget) -> list[Kind]:
    return read(budget.kinds)


def quote(member: Membership, order: Order) -> Quote | Refusal:
    """What an order costs; or why this member's team does not make it, or nobody does."""
    return refusal(member, order) or routing.quote(order)


def refusal(member: Membership, order: Order) -> Refusal | None:
    """Why an order is not one that this member's team makes; None where it is."""
    made = made_in(member.team.budget)
    closed = next((cell for cell in order.cells if (cell.family, cell.resolution) not in made), None)
    if closed is None:
        return None
    what = name((closed.family, closed.resolution))
    said = f"{member.team} does not make {what}: its admins have left open {_listed(list(map(name, made)))}."
    return Refusal("kind", "family", said)


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
