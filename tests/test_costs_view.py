"""What a picture costs, before anybody asks for one: every kind at every provider that takes pictures now."""

from __future__ import annotations

import re

import pytest

from flux2web.models import Price, ProviderAccount

from . import factories

PAGE = "/t/north/costs/"


@pytest.fixture
def page(north, cleo, client_for, membership, settings):
    settings.SANDBOX = False
    membership(cleo, north)

    def text() -> str:
        answer = client_for(cleo).get(PAGE)
        assert answer.status_code == 200
        return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())

    return text


def test_every_kind_at_every_provider(page):
    factories.make_account("revid")
    factories.make_account("vtrix")
    Price.objects.filter(family="pro", resolution="1K").update(usd="0.025")
    said = page()
    assert "Provider Pro 1K Pro 2K Flex 1K Flex 2K" in said
    assert "Revid 10 $0.025 15 25 40" in said
    assert "Vtrix 12 and 6 an image $0.025 assumed 30 and 6 an image assumed – not made there" in said


def test_who_takes_nothing_now_is_left_out(page):
    factories.make_account("revid")
    factories.make_account("vtrix")
    ProviderAccount.objects.filter(provider="vtrix").update(enabled=False)
    assert "Vtrix" not in page()


def test_a_confirmed_price_is_not_called_assumed(page):
    factories.make_account("apixo")
    assert "assumed" in page()
    Price.objects.filter(provider="apixo").update(published=True)
    assert "assumed" not in page()


def test_where_nobody_has_a_price_it_says_who_can_help(page):
    assert "A site admin sets prices in the console" in page()


def test_it_says_when_nothing_is_charged(page):
    said = page()
    assert "It fails, for whatever reason: all of it returns" in said
    assert "You cancel while it waits: all of it returns" in said
