"""Which provider takes this: able, priced, healthy, cheapest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils import timezone
from django.utils.functional import cached_property

from . import accounts, health, pricing, providers
from .models import ProviderAccount, RoutingRule, Task
from .orders import Order, Other, Quote, Refusal
from .pricing import PictureQuote
from .providers.base import Capabilities

__all__ = ["Candidate", "Offer", "Order", "Quote", "Refusal", "candidates", "choose", "offers", "quote"]


@dataclass(frozen=True)
class Offer:
    """An account as the form shows it."""

    slug: str
    name: str
    capabilities: Capabilities
    sandbox: bool
    ready: bool
    note: str
    is_priced: bool  # False: off, for nothing of it has a price
    callback: bool
    reachable_references: bool

    @property
    def usual_s(self) -> float:
        return self.capabilities.usual_s


@dataclass(frozen=True)
class Candidate:
    """An account that can take an order, and what one picture costs there."""

    account: ProviderAccount
    price: PictureQuote
    paused: bool

    @property
    def name(self) -> str:
        return providers.get(self.account.provider).name


def offers() -> list[Offer]:
    """Every account that new tasks may be sent to, in the providers' order."""
    now, priced = timezone.now(), pricing.priced_pictures()
    return [_offer(account, priced.get(account.provider, set()), now) for account in accounts.usable()]


def _offer(account: ProviderAccount, priced: set[tuple[str, str]], now: datetime) -> Offer:
    able, reachable = accounts.capabilities(account), accounts.reaches_us(account)
    able, is_priced = _with_price(able, priced)
    note = accounts.paused_for(account, now) if is_priced else "No price: off"
    return Offer(
        slug=account.provider,
        name=providers.get(account.provider).name,
        capabilities=able,
        sandbox=account.sandbox,
        ready=not note,
        note=note,
        is_priced=is_priced,
        callback=able.callback and reachable,
        reachable_references=able.takes_uploads or reachable,
    )


def _with_price(able: Capabilities, priced: set[tuple[str, str]]) -> tuple[Capabilities, bool]:
    """Without the families and resolutions that have no price at all; what is missing between them, the quote says.

    As it is, and False, where nothing has a price.
    """
    pairs = [(family, each) for family in able.families for each in able.resolutions if (family, each) in priced]
    if not pairs:
        return able, False
    families = tuple(dict.fromkeys(family for family, _ in pairs))
    resolutions = tuple(each for each in able.resolutions if each in {each for _, each in pairs})
    return replace(able, families=families, resolutions=resolutions), True


class Market:
    """The accounts and prices of one moment: what several cells of one order are quoted from."""

    def __init__(self) -> None:
        self.now = timezone.now()
        self.accounts = accounts.usable()
        self._prices: dict[tuple[str, str, int], dict[str, PictureQuote]] = {}

    @cached_property
    def rule(self) -> RoutingRule:
        """Asked for only where there is a choice."""
        return RoutingRule.current()

    def prices(self, order: Order) -> dict[str, PictureQuote]:
        asked = order.family, order.resolution, len(order.references)
        if asked not in self._prices:
            self._prices[asked] = pricing.quote_all(*asked)
        return self._prices[asked]


def order_of(task: Task, references: Iterable[int]) -> Order:
    """What was asked for, again, with these images."""
    return Order(
        prompt=task.prompt,
        family=task.family,
        aspect_ratio=task.aspect_ratio,
        resolution=task.resolution,
        provider=task.provider,
        seed=task.seed,
        output_format=task.output_format,
        safety_tolerance=task.safety_tolerance,
        references=tuple(references),
    )


def candidates(order: Order, market: Market | None = None) -> list[Candidate]:
    """The accounts that can take this order, in the order in which they should be asked."""
    market = market or Market()
    prices = market.prices(order)
    able = [
        Candidate(account, prices[account.provider], account.is_paused(market.now))
        for account in market.accounts
        if account.provider in prices and order.provider in ("", account.provider) and not problem(order, account)
    ]
    return _in_order(able, market.rule) if len(able) > 1 else able


def _in_order(able: list[Candidate], rule: RoutingRule) -> list[Candidate]:
    """Who is not paused first; of them who is healthy, as long as that costs no more than the premium; then the cheapest."""
    cheapest = min((each.price.credits for each in able if not each.paused), default=0)
    limit = cheapest * (100 + rule.premium_percent) / 100

    def is_preferred(each: Candidate) -> bool:
        return each.price.credits <= limit and health.is_healthy(each.account, rule)

    return sorted(able, key=lambda each: (each.paused, not is_preferred(each), each.price.credits, each.account.pk))


def problem(order: Order, account: ProviderAccount) -> tuple[str, str] | None:
    """What of this order the account cannot say: (form field, sentence), or None."""
    able, name = accounts.capabilities(account), providers.get(account.provider).name
    if order.family not in able.families:
        return "family", f"{name} does not offer {order.family}. Choose another provider or family."
    if order.mode not in able.modes:
        return "references", f"{name} cannot work from {'images' if order.references else 'text alone'}."
    if len(order.references) > able.max_references:
        return "references", f"{name} takes at most {able.max_references} images."
    if order.resolution not in able.resolutions:
        return "resolution", f"{name} has no {order.resolution}."
    return (
        _shape_problem(order, able, name) or _extras_problem(order, able, name) or _reach_problem(order, account, name)
    )


def _shape_problem(order: Order, able: Capabilities, name: str) -> tuple[str, str] | None:
    if order.aspect_ratio == "auto":
        if not order.references:
            return "aspect_ratio", "“Auto” takes the shape of image 1: add an image, or choose a shape."
        return (
            None if able.auto_ratio else ("aspect_ratio", f"{name} cannot follow the shape of image 1. Choose a shape.")
        )
    if order.aspect_ratio not in able.aspect_ratios:
        return "aspect_ratio", f"{name} cannot make {order.aspect_ratio}. Choose {', '.join(able.aspect_ratios)}."
    return None


def _extras_problem(order: Order, able: Capabilities, name: str) -> tuple[str, str] | None:
    for extra in sorted(order.extras - able.extras):
        return extra, f"{name} has no setting for {extra.replace('_', ' ')}. Clear it, or choose another provider."
    return None


def _reach_problem(order: Order, account: ProviderAccount, name: str) -> tuple[str, str] | None:
    if not order.references or accounts.capabilities(account).takes_uploads or accounts.reaches_us(account):
        return None
    return (
        "references",
        f"{name} fetches images from this site, which it cannot reach: PUBLIC_URL is not a public address.",
    )


def quote(order: Order) -> Quote | Refusal:
    """The price of this order, before sending: of a matrix, of every cell."""
    market, parts = Market(), []
    known: dict[tuple[str, str], Quote | Refusal] = {}
    for cell in order.cells:
        what = cell.family, cell.aspect_ratio
        known[what] = part = known[what] if what in known else _quote_one(cell, market)
        if isinstance(part, Refusal):
            return part
        parts.append(part)
    return replace(parts[0], rest=tuple(parts[1:]))


def _quote_one(order: Order, market: Market) -> Quote | Refusal:
    able = candidates(order, market)
    if not able:
        return _why_not(order)
    best, *rest = able
    return Quote(
        provider=best.account.provider,
        name=best.name,
        each=best.price.credits,
        count=order.count,
        assumed=best.price.assumed,
        usd=best.price.usd,
        why=_why(best, rest, order),
        others=tuple(Other(other.name, other.price.credits, _note(other, market.now)) for other in rest),
    )


def _why(best: Candidate, rest: list[Candidate], order: Order) -> str:
    if order.provider:
        return "Your choice"
    if not rest:
        return "The only provider here that can do this"
    passed = [other for other in rest if other.price.credits < best.price.credits]
    if passed:
        return f"The cheapest that is well: {', '.join(map(_trouble, passed))}"
    return "The cheapest that can do this"


def _trouble(passed: Candidate) -> str:
    if passed.paused:
        return f"{passed.name} is paused"
    is_slow = health.record_of(passed.account).slow
    return f"{passed.name} {'is slow' if is_slow else 'had trouble in the last 24 hours'}"


def _note(other: Candidate, now: datetime) -> str:
    """How it stands, or has done in the last 24 hours; "" of whom nothing is known."""
    record = health.record_of(other.account)
    seconds = "" if record.median_s is None else f"{'slow, ' if record.slow else ''}usually {record.median_s:.0f} s"
    share = "" if record.share_percent is None else f"{record.share_percent} % ended well"
    return accounts.paused_for(other.account, now) or ", ".join(filter(None, (seconds, share)))


def _why_not(order: Order) -> Refusal:
    """The reason that is nearest to a working order."""
    rows = [account for account in accounts.usable() if order.provider in ("", account.provider)]
    if not rows and order.provider:
        return Refusal("provider", "provider", "This provider is not available here. Choose another.")
    if not rows:
        return Refusal("provider", "", "No provider is set up yet. A site admin can add one in the console.")
    problems = [found for account in rows if (found := problem(order, account))]
    if not problems:
        who = providers.get(order.provider).name if order.provider else "No provider here"
        what = f"{who} has {'no' if order.provider else 'a'} price for {order.family} {order.resolution}"
        return Refusal("provider", "provider", f"{what}, so it is off. Choose another, or ask a site admin to set one.")
    field, message = problems[0]
    if not order.provider and field != "aspect_ratio":
        message = f"No provider here can do all of this at once. {message}"
    return Refusal("input", field, message)


def choose(task: Task, order: Order, *, refused_by: Iterable[int]) -> Candidate | None:
    """Who takes a waiting task now: able, not paused, not one that refused it, and no dearer than its hold."""
    for candidate in candidates(order):
        if candidate.paused or candidate.account.pk in refused_by:
            continue
        if covers(task, candidate):
            return candidate
    return None


def covers(task: Task, candidate: Candidate) -> bool:
    """Whether a task's hold is enough there. Whose price it is takes it at that: one edited later changes nothing."""
    return candidate.account.provider == task.quoted_provider or candidate.price.credits <= task.price_credits
