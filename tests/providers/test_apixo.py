"""Apixo against the samples of apixo.ai/docs and its other pages."""

import json
from decimal import Decimal

import pytest

from flux2web.providers.apixo import Apixo
from flux2web.providers.base import Kind, ProviderError
from tests.providers.contract import KEY, TEXT, ProviderContract

SHAPE = {"prompt": TEXT.prompt, "aspect_ratio": "16:9", "resolution": "2K"}
UNSAFE = (Kind.MODERATION, "CONTENT_VIOLATION", "Content does not meet safety guidelines")


class TestApixo(ProviderContract):
    provider = Apixo()
    task_id = "task_12345678"
    auth = {"authorization": f"Bearer {KEY}"}
    create_path = "/api/v1/generateTask/flux-2"
    look = ("GET", "/api/v1/statusTask/flux-2", f"taskId={task_id}")

    text_body = {"request_type": "async", "input": {"mode": "pro-text-to-image", **SHAPE}}
    pictures_body = {
        "request_type": "async",
        "input": {
            "mode": "pro-image-to-image",
            "image_urls": ["https://studio.example.com/i/1.png", "https://studio.example.com/i/2.png"],
            **SHAPE,
        },
    }
    callback_fields = {"request_type": "callback", "callback_url": "HOOK"}

    waiting = ("look_pending.json", "look_processing.json")
    success = {
        "look_success.json": ("https://example.com/image.jpg",),
        "look_success_brief.json": ("https://example.com/image.jpg",),
    }
    failures = {"look_failed.json": UNSAFE, "look_failed_400.json": UNSAFE}
    refusals = (
        ("error_400.json", 400, Kind.INPUT, "no"),
        ("error_401.json", 401, Kind.AUTH, "no"),
        ("error_402.json", 402, Kind.BALANCE, "no"),
        ("error_403_policy.json", 403, Kind.MODERATION, "no"),
        ("error_403_permission.json", 403, Kind.AUTH, "no"),
        ("error_404.json", 404, Kind.INPUT, "no"),
        ("error_429.json", 429, Kind.RATE, "no"),
        ("error_500.json", 500, Kind.PROVIDER, "yes"),
        ("error_503.json", 503, Kind.MAINTENANCE, "no"),
        ("error_503.json", 200, Kind.MAINTENANCE, "no"),
    )
    not_found = (("look_404.json", 404), ("look_404.json", 200))
    callbacks = ("callback_success.json", "callback_failed_400.json", "callback_failed_200.json")
    balances = {"balance_ok.json": Decimal("74.87")}

    def with_urls(self, urls):
        body = json.loads(self.sample("look_success.json"))
        body["data"]["resultJson"] = json.dumps({"resultUrls": urls})
        return body

    def test_it_says_what_was_wrong_with_a_request(self, peer, account):
        peer.answers(self.sample("error_400.json"), 400)
        message = self.submit_error(self.text(), account).message
        assert message == "Apixo says: Invalid request: aspect_ratio must be one of the listed values"

    def test_a_task_keeps_the_path_it_was_made_under(self, peer, account):
        peer.answers(self.sample("create_ok.json")).answers(self.sample("look_pending.json"))
        route = self.provider.submit(self.text(), self.with_options(account, path_id="flux2"), None).route
        self.report(account, route=route)
        assert [asked.path for asked in peer.asked] == ["/api/v1/generateTask/flux2", "/api/v1/statusTask/flux2"]

    def test_a_tier_is_sent_when_set(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        self.provider.submit(self.text(), self.with_options(account, tier="value"), None)
        assert peer.asked[0].json == {**self.text_body, "provider": "value"}

    def test_its_balance_can_be_refused(self, peer, account):
        peer.answers(self.sample("error_401.json"), 401)
        with pytest.raises(ProviderError) as caught:
            self.provider.balance(account)
        assert caught.value.kind is Kind.AUTH
        assert (peer.asked[0].method, peer.asked[0].path) == ("GET", "/api/v1/apikeys/current-balance")

    def test_it_waits_longer_before_its_first_look(self, account):
        poll = self.provider.capabilities(account).poll
        assert [poll.wait_s(age_s) for age_s in (0, 10, 60, 600)] == [10, 5, 10, 15]
