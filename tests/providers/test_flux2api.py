"""Flux2API against the samples of flux2api.com/docs. Errors, failures and callbacks are our guess: the page has none."""

import json

from flux2web.providers.base import Kind
from flux2web.providers.flux2api import Flux2API
from tests.providers.contract import KEY, TEXT, ProviderContract

SHAPE = {"prompt": TEXT.prompt, "aspect_ratio": "16:9", "resolution": "2K"}
PIC = "https://generated-image-url.com/image1.png"


class TestFlux2API(ProviderContract):
    provider = Flux2API()
    task_id = "npro89sfd789sdf789sdf789grsa"
    id_path = ("data", "task_id")
    state_path = ("data", "status")
    auth = {"authorization": f"Bearer {KEY}"}
    create_path = "/v1/generate"
    look = ("GET", "/v1/status", f"task_id={task_id}")

    text_body = {"model": "pro-text-to-image", **SHAPE}
    pictures_body = {
        "model": "pro-image-to-image",
        "images": ["https://studio.example.com/i/1.png", "https://studio.example.com/i/2.png"],
        **SHAPE,
    }
    callback_fields = {"callBackUrl": "HOOK"}

    waiting = ("look_pending.json", "look_running.json")
    success = {"look_success.json": (PIC,), "look_success_text.json": (PIC,)}
    failures = {
        "look_failed_reason.json": (Kind.MODERATION, "NSFW", "The prompt was rejected"),
        "look_failed.json": (Kind.PROVIDER, "", "Flux2API gives no reason"),
    }
    refusals = (
        ("error_400.json", 400, Kind.INPUT, "no"),
        ("error_401.json", 200, Kind.AUTH, "no"),
        ("error_402.json", 402, Kind.BALANCE, "no"),
        ("error_422_detail.json", 422, Kind.INPUT, "no"),
        ("error_429.json", 429, Kind.RATE, "no"),
        ("error_500.json", 500, Kind.PROVIDER, "yes"),
    )
    not_found = (("look_404.json", 404), ("look_404.json", 200))
    callbacks = ("callback_data.json", "callback_flat.json")

    def with_urls(self, urls):
        body = json.loads(self.sample("look_success.json"))
        body["data"]["response"] = urls
        return body

    def with_reason(self, body, words):
        body["data"]["error"] = words
        return body

    def test_it_refuses_ratios_that_only_others_have(self, peer, account):
        for ratio in ("3:2", "2:3"):
            assert self.submit_error(self.text(aspect_ratio=ratio), account).kind is Kind.INPUT
        assert peer.asked == []
