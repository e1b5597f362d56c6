"""What a picture costs: which price holds when, what is offered without one, what other prices would have meant."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connections
from django.utils import timezone

from flux2web import pricing, routing
from flux2web.forms_prices import PriceList
from flux2web.management.commands.doctor import prices as missing_prices
from flux2web.models import Price, Tally, User
from flux2web.orders import Order, Quote, Refusal
from flux2web.pricing import Line, Place, Terms

from . import factories

REVID = Place("revid", "pro", "1K")


def order(**fields) -> Order:
    asked = {"prompt": "Harbour at dawn", "family": "pro", "aspect_ratio": "1:1", "resolution": "1K"}
    return Order(**asked | fields)


# --- Which price holds ---------------------------------------------------------------------------------------------------


def test_the_newest_price_that_has_begun_holds(db):
    now = timezone.now()
    for days, credits in ((-9, 8), (-1, 11), (-3, 9), (4, 14)):
        factories.make_priced_from(now + timedelta(days=days), credits=credits)
    assert pricing.quote_all("pro", "1K", 0)["revid"].credits == 11
    assert [row.credits for row in Price.objects.in_force(now - timedelta(days=2))] == [9]
    assert [row.credits for row in Price.objects.in_force(now + timedelta(days=5))] == [14]
    assert not Price.objects.in_force(now - timedelta(days=10))


def test_the_list_knows_what_holds_what_is_planned_and_what_held(db):
    now = timezone.now()
    for days, credits in ((-9, 8), (-1, 11), (-3, 9), (4, 14)):
        factories.make_priced_from(now + timedelta(days=days), credits=credits)
    line = pricing.book(now)[REVID]
    assert (line.current.credits, line.planned.credits) == (11, 14)
    assert [row.credits for row in line.past] == [9, 8]


def test_a_price_that_has_not_begun_is_no_price_yet(db):
    factories.make_account("revid", prices=False)
    factories.make_priced_from(timezone.now() + timedelta(days=1))
    assert pricing.quote_all("pro", "1K", 0) == {}
    assert pricing.priced() == set()
    assert isinstance(routing.quote(order()), Refusal)
    assert "Revid has no price for pro 1K" in [problem.what for problem in missing_prices()][0]


def test_a_price_counts_each_reference(db):
    factories.make_priced_from(timezone.now() - timedelta(days=1), credits=12, credits_per_reference=6)
    assert pricing.quote_all("pro", "1K", 3)["revid"].credits == 30


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (Terms(1), "1 credit"),
        (Terms(1200, 6), "1,200 credits and 6 an image"),
        (Terms(10, 0, Decimal("0.0250")), "10 credits, about $0.025"),
        (Terms(10, 0, Decimal(0)), "10 credits, about $0.00"),
        (Terms(10, 1, Decimal("12.5")), "10 credits and 1 an image, about $12.50"),
    ],
)
def test_a_price_in_words(terms, said):
    assert str(terms) == said


# --- Without a price -----------------------------------------------------------------------------------------------------


def test_a_provider_without_any_price_is_off_and_says_so(db):
    factories.make_account("revid")
    factories.make_account("apixo", prices=False)
    offers = {offer.slug: offer for offer in routing.offers()}
    assert (offers["revid"].ready, offers["revid"].is_priced, offers["revid"].note) == (True, True, "")
    assert (offers["apixo"].ready, offers["apixo"].is_priced, offers["apixo"].note) == (False, False, "No price: off")


def test_a_family_or_resolution_without_a_price_is_not_offered(db):
    factories.make_account("revid")
    Price.objects.filter(family="flex").delete()
    Price.objects.filter(resolution="2K").delete()
    [offer] = routing.offers()
    assert (offer.capabilities.families, offer.capabilities.resolutions) == (("pro",), ("1K",))


def test_an_order_that_nobody_prices_is_refused_with_the_reason(db):
    factories.make_account("revid")
    Price.objects.filter(family="pro", resolution="2K").delete()
    assert isinstance(routing.quote(order()), Quote)
    refusal = routing.quote(order(resolution="2K", provider="revid"))
    assert (refusal.field, refusal.message) == (
        "provider",
        "Revid has no price for pro 2K, so it is off. Choose another, or ask a site admin to set one.",
    )
    assert "No provider here has a price for pro 2K" in routing.quote(order(resolution="2K")).message


# --- Changing it ---------------------------------------------------------------------------------------------------------


def line() -> Line:
    return pricing.book(timezone.now()).get(REVID, Line(REVID))


def test_confirming_or_withdrawing_twice_is_no_second_act(sam):
    factories.make_priced_from(timezone.now() - timedelta(days=1), published=False)
    factories.make_priced_from(timezone.now() + timedelta(days=1))
    old = line()
    assert [pricing.confirm(old, actor=sam), pricing.confirm(old, actor=sam)] == [True, False]
    assert [pricing.withdraw(old, actor=sam), pricing.withdraw(old, actor=sam)] == [True, False]
    assert pricing.confirm(Line(REVID), actor=sam) is False


def test_what_has_begun_is_never_taken_back(sam):
    factories.make_priced_from(timezone.now() + timedelta(days=1))
    old = line()
    Price.objects.update(valid_from=timezone.now() - timedelta(seconds=1))
    assert pricing.withdraw(old, actor=sam) is False
    assert Price.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_admins_at_once_one_is_told_and_nothing_is_lost():
    factories.make_prices("revid")
    row = Price.objects.get(provider="revid", family="pro", resolution="1K")
    people = [factories.make_user(name=name, is_site_admin=True) for name in ("Ana", "Ben")]
    others = list(Price.objects.exclude(pk=row.pk))

    def press(person: User, credits: int) -> int | None:
        try:
            given = {"revid-pro-1K-seen": f"{row.pk}-", "revid-pro-1K-credits": str(credits)}
            given |= {f"{p.provider}-{p.family}-{p.resolution}-credits": str(p.credits) for p in others}
            prices = PriceList(given)
            assert prices.is_valid()
            return prices.save(person)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        saved = list(pool.map(press, people, (12, 14)))
    assert sorted(saved, key=str) == [1, None]
    assert pricing.quote_all("pro", "1K", 0)["revid"].credits == (12 if saved[0] else 14)


# --- What if -------------------------------------------------------------------------------------------------------------


def test_a_simulation_at_the_prices_that_held_is_what_was_charged(north, ana):
    """Picture by picture and in sums: the same."""
    terms = {REVID: Terms(10, 3), Place("apixo", "flex", "2K"): Terms(52, 0)}
    pictures = [(REVID, 0), (REVID, 8), (REVID, 2), (Place("apixo", "flex", "2K"), 5)]
    day = timezone.now().date()
    for number, (place, references) in enumerate(pictures):
        Tally.objects.create(
            team=north,
            user=ana,
            day=day - timedelta(days=number),
            mode="image-to-image" if references else "text-to-image",
            done=1,
            references=references,
            credits=terms[place].of(1, references),
            **place._asdict(),
        )
    found = pricing.simulate(terms, day - timedelta(days=29))
    assert (found.total.done, found.total.old, found.total.new) == (4, 112, 112)
    assert [change.difference for change in found.places] == [0, 0]
    dearer = pricing.simulate(terms | {REVID: Terms(11, 4)}, day - timedelta(days=29))
    assert dearer.total.difference == 3 * 1 + 10 * 1
    assert [(change.label, change.difference) for change in dearer.teams] == [("North", 13)]
