"""One real picture from each vendor. Costs money: needs FLUX2WEB_LIVE=1 and the vendor's <SLUG>_API_KEY."""

import os
import time

import pytest

from flux2web import providers
from flux2web.providers.base import Account, Request

PATIENCE_S = 300


def account_of(slug: str) -> Account:
    if os.environ.get("FLUX2WEB_LIVE") != "1":
        pytest.skip("live tests spend money: set FLUX2WEB_LIVE=1 to run them")
    key = os.environ.get(f"{slug.upper()}_API_KEY", "")
    if not key:
        pytest.skip(f"{slug.upper()}_API_KEY is not set")
    return Account(key, os.environ.get(f"{slug.upper()}_URL", ""))


@pytest.mark.parametrize("slug", providers.ALL)
def test_it_draws_a_picture(slug):
    account = account_of(slug)
    provider = providers.get(slug)
    can = provider.capabilities(account)
    accepted = provider.submit(Request("A small red boat, in ink", can.families[0], "1:1", "1K"), account, None)
    began = time.monotonic()
    report = None
    while (age_s := time.monotonic() - began) < PATIENCE_S and (report is None or report.state == "running"):
        time.sleep(can.poll.wait_s(age_s))
        report = provider.report(accepted.upstream_id, accepted.route, account, age_s=age_s)
    assert report is not None
    assert (report.state, report.message) == ("succeeded", "")
    assert report.unknown_word == ""


@pytest.mark.parametrize("slug", ["apikley", "apixo"])
def test_it_tells_its_balance(slug):
    assert providers.get(slug).balance(account_of(slug)) is not None
