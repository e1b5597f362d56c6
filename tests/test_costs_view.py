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
    assert "Picture Revid Vtrix" in said
    assert "Pro 1K 10 credits about $0.025 12 credits and 6 an image about $0.025 assumed" in said
    assert "Flex 1K 25 credits – not made there" in said


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
    assert "When it fails, for whatever reason All of it returns" in said
    assert "When you cancel while it waits All of it returns" in said
