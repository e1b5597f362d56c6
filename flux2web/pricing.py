"""What a picture costs, and since when. A price nobody knows refuses; it is never zero.

A price is never edited: a change is another row, valid from now or from a moment to come, so that what once held stays
known. Only confirming an assumed price touches a row, and only a price that has not begun is ever taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from . import providers
from .models import Act, Price, Tally, User
from .money import credits_text, usd_to_credits

FAMILIES, RESOLUTIONS = ("pro", "flex"), ("1K", "2K")

# (provider, family, resolution): credits, credits a reference, approximate USD, published by the provider.
# Published: Revid (docs.revidapi.com) and Flux2API (flux2api.com/docs, no USD). Assumed from kie.ai's list, Apixo's range and
# BFL's list, 2026-11. The USD figures are the vendors' own and follow no single rate.
SEED: dict[tuple[str, str, str], tuple[int, int, str | None, bool]] = {
    ("revid", "pro", "1K"): (10, 0, "0.025", True),
    ("revid", "pro", "2K"): (15, 0, "0.035", True),
    ("revid", "flex", "1K"): (25, 0, "0.07", True),
    ("revid", "flex", "2K"): (40, 0, "0.12", True),
    ("apikley", "flex", "1K"): (28, 0, "0.07", False),
    ("apikley", "flex", "2K"): (48, 0, "0.12", False),
    ("apixo", "pro", "1K"): (20, 0, "0.05", False),
    ("apixo", "pro", "2K"): (28, 0, "0.07", False),
    ("apixo", "flex", "1K"): (40, 0, "0.10", False),
    ("apixo", "flex", "2K"): (52, 0, "0.13", False),
    ("flux2api", "pro", "1K"): (30, 0, None, True),
    ("flux2api", "pro", "2K"): (30, 0, None, True),
    ("flux2api", "flex", "1K"): (100, 0, None, True),
    ("flux2api", "flex", "2K"): (100, 0, None, True),
    ("vtrix", "pro", "1K"): (12, 6, "0.03", False),
    ("vtrix", "pro", "2K"): (30, 6, "0.075", False),
}


@dataclass(frozen=True)
class PictureQuote:
    """One picture's price. `assumed` until its provider publishes it or an admin confirms it."""

    credits: int
    usd: Decimal | None
    assumed: bool


def quote_all(family: str, resolution: str, references: int) -> dict[str, PictureQuote]:
    """One picture's price by provider; a provider without a row is missing. One query."""
    rows = Price.objects.in_force(timezone.now()).filter(family=family, resolution=resolution)
    return {row.provider: _of(row, references) for row in rows}


def priced() -> set[str]:
    """The providers that have a price for something."""
    return set(priced_pictures())


def priced_pictures() -> dict[str, set[tuple[str, str]]]:
    """What has a price: (family, resolution) by provider; one without any is missing. One query."""
    found: dict[str, set[tuple[str, str]]] = {}
    for row in Price.objects.in_force(timezone.now()):
        found.setdefault(row.provider, set()).add((row.family, row.resolution))
    return found


KINDS = [(family, resolution) for family in FAMILIES for resolution in RESOLUTIONS]


def table(slugs: Sequence[str]) -> list[tuple[str, list[tuple[str, Price | None]]]]:
    """(provider's name, what it takes for "Pro 1K" and each other of KINDS now). One query."""
    rows = Price.objects.in_force(timezone.now()).filter(provider__in=slugs)
    held = {(row.provider, row.family, row.resolution): row for row in rows}
    places = {slug: [Place(slug, *kind) for kind in KINDS] for slug in slugs}
    return [(providers.get(slug).name, [(place.picture, held.get(place)) for place in places[slug]]) for slug in slugs]


def _of(row: Price, references: int) -> PictureQuote:
    credits = row.credits + row.credits_per_reference * references
    return PictureQuote(credits, row.usd, not (row.published or row.confirmed_at))


def charge(hold: int, price: int, cost_usd: Decimal | None, credit_usd: Decimal) -> int:
    """What is settled: the delivering account's price, or what it reported as its cost; never above the hold."""
    if cost_usd is None:
        return min(hold, price)
    return max(1, min(hold, usd_to_credits(cost_usd, credit_usd)))


# --- The list ------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A line of the list: what is priced."""

    provider: str
    family: str
    resolution: str

    @property
    def title(self) -> str:
        return f"{providers.get(self.provider).name} {self.picture}"

    @property
    def picture(self) -> str:
        return f"{self.family.capitalize()} {self.resolution}"


class Terms(NamedTuple):
    """What a line says. Two rows of the same terms are the same price."""

    credits: int
    each: int = 0  # for each reference
    usd: Decimal | None = None  # what the provider takes for it, about

    def of(self, done: int, references: int) -> int:
        """What so many pictures cost, made from so many references in all."""
        return done * self.credits + references * self.each

    def __str__(self) -> str:
        each = f" and {self.each} an image" if self.each else ""
        about = f", about ${dollars(self.usd)}" if self.usd is not None else ""
        return f"{credits_text(self.credits)}{each}{about}"


def dollars(usd: Decimal) -> str:
    """ "0.025", "0.10": as many places as it takes, at least two."""
    whole, _, part = f"{usd:.4f}".rstrip("0").partition(".")
    return f"{whole}.{part:0<2}"


def terms(row: Price) -> Terms:
    return Terms(row.credits, row.credits_per_reference, row.usd)


@dataclass(frozen=True)
class Line:
    """One picture's prices: what holds, what is planned, what held before (the newest first)."""

    place: Place
    current: Price | None = None
    planned: Price | None = None
    past: list[Price] = field(default_factory=list)


def book(now: datetime) -> dict[Place, Line]:
    """Every picture that ever had a price, with all of them. One query."""
    rows: dict[Place, list[Price]] = {}
    for row in Price.objects.order_by("-valid_from", "-pk"):
        rows.setdefault(Place(row.provider, row.family, row.resolution), []).append(row)
    return {place: _line(place, of_it, now) for place, of_it in rows.items()}


def _line(place: Place, rows: list[Price], now: datetime) -> Line:
    begun = [row for row in rows if row.valid_from <= now]
    coming = [row for row in rows if row.valid_from > now]
    return Line(place, begun[0] if begun else None, coming[-1] if coming else None, begun[1:])


def one_at_a_time() -> None:
    """Two admins must not both find the price that each of them changes. SQLite has one writer anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE flux2web_price IN SHARE ROW EXCLUSIVE MODE")


def change(line: Line, to: Terms, *, actor: User, valid_from: datetime | None) -> Price:
    """Another price from now on or, in place of any other that is planned, from a moment to come.

    Ours from then on, no longer the provider's. In the caller's transaction.
    """
    was = str(terms(line.current)) if line.current else "none"
    if valid_from:
        Price.objects.filter(**line.place._asdict(), valid_from__gt=timezone.now()).delete()
        instead = f" Instead of {terms(line.planned)} from {moment(line.planned.valid_from)}." if line.planned else ""
        note = f"{to} from {moment(valid_from)}. Now: {was}.{instead}"
        Act.objects.record(actor, "planned a price of", about=line.place.title, note=note)
    else:
        Act.objects.record(actor, "changed the price of", about=line.place.title, note=f"{to}. Was: {was}.")
    return Price.objects.create(
        **line.place._asdict(),
        credits=to.credits,
        credits_per_reference=to.each,
        usd=to.usd,
        published=False,
        confirmed_at=timezone.now(),
        valid_from=valid_from or timezone.now(),
    )


def confirm(line: Line, *, actor: User) -> bool:
    """An assumed price is right as it stands. False where nothing is assumed any more."""
    if line.current is None:
        return False
    assumed = Price.objects.filter(pk=line.current.pk, published=False, confirmed_at=None)
    if not assumed.update(confirmed_at=timezone.now()):
        return False
    Act.objects.record(actor, "confirmed the price of", about=line.place.title, note=f"{terms(line.current)}.")
    return True


def withdraw(line: Line, *, actor: User) -> bool:
    """Take back a price that has not begun. False where none is planned."""
    planned = line.planned
    if planned is None or not Price.objects.filter(pk=planned.pk, valid_from__gt=timezone.now()).delete()[0]:
        return False
    note = f"{terms(planned)} from {moment(planned.valid_from)}."
    Act.objects.record(actor, "withdrew the planned price of", about=line.place.title, note=note)
    return True


def moment(when: datetime) -> str:
    return f"{when:%-d %B %Y, %H:%M} UTC"


def seed_prices() -> None:
    """Write the prices that are missing; never touch one that is there."""
    known = set(Price.objects.values_list("provider", "family", "resolution"))
    rows = [
        Price(
            provider=provider,
            family=family,
            resolution=resolution,
            credits=credits,
            credits_per_reference=per_reference,
            usd=Decimal(usd) if usd else None,
            published=published,
        )
        for (provider, family, resolution), (credits, per_reference, usd, published) in SEED.items()
        if (provider, family, resolution) not in known
    ]
    Price.objects.bulk_create(rows, ignore_conflicts=True)


# --- What if -------------------------------------------------------------------------------------------------------


@dataclass
class Change:
    """What pictures were charged, and what they would have been."""

    label: str
    done: int = 0
    old: int = 0
    new: int = 0
    is_most: bool = False  # settled is what the provider reports; the price is only the most
    is_unpriced: bool = False  # no price to try: as it was

    @property
    def difference(self) -> int:
        return self.new - self.old

    def add(self, done: int, old: int, new: int) -> None:
        self.done, self.old, self.new = self.done + done, self.old + old, self.new + new


@dataclass(frozen=True)
class Simulation:
    since: date
    places: list[Change]
    teams: list[Change]
    total: Change


def simulate(prices: Mapping[Place, Terms], since: date) -> Simulation:
    """What the pictures that were made since then would have cost at these prices, from the daily sums. One query.

    Exact, for a price is so much a picture and so much a reference. Where a provider's reported cost is settled, a lower
    price binds and a higher one changes nothing.
    """
    rows = (
        Tally.objects.filter(day__gte=since, done__gt=0)
        .values_list("team__name", "team_id", "provider", "family", "resolution")
        .order_by("team__name", "team_id")
        .annotate(Sum("done"), Sum("references"), Sum("credits"))
    )
    places: dict[Place, Change] = {}
    teams: dict[int, Change] = {}
    total = Change("All")
    for name, team_id, provider, family, resolution, done, references, old in rows:
        place = Place(provider, family, resolution)
        new = _would_cost(place, prices.get(place), done, references, old)
        of_place = places.setdefault(place, _change(place, prices))
        for sum_ in (of_place, teams.setdefault(team_id, Change(name)), total):
            sum_.add(done, old, new)
    return Simulation(since, sorted(places.values(), key=_by_size), sorted(teams.values(), key=_by_size), total)


def _by_size(change: Change) -> tuple[int, int, str]:
    return -abs(change.difference), -change.old, change.label


def _would_cost(place: Place, terms: Terms | None, done: int, references: int, old: int) -> int:
    if terms is None:
        return old
    new = terms.of(done, references)
    return min(old, new) if _reports_cost(place) else new


def _change(place: Place, prices: Mapping[Place, Terms]) -> Change:
    title = place.title if place.provider in providers.ALL else " ".join(place)
    return Change(title, is_most=_reports_cost(place), is_unpriced=place not in prices)


def _reports_cost(place: Place) -> bool:
    return place.provider in providers.ALL and providers.get(place.provider).reports_cost
