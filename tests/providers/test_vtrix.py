"""Vtrix against samples made from doc.vtrix.ai, its API page and its own client."""

import base64
import json
from decimal import Decimal

import pytest

from flux2web.providers.base import Kind, Reference
from flux2web.providers.vtrix import SIZES_PX, Vtrix
from tests.providers.contract import KEY, PICTURE, TEXT, ProviderContract, picture

PARAMS = {"prompt": TEXT.prompt, "width": 2048, "height": 1152}


def wrapped(params):
    return {"model": "flux_2_pro", "input": [{"params": params}]}


class TestVtrix(ProviderContract):
    provider = Vtrix()
    task_id = "9f1c2b7e-5f2e-4c1a-8f3e-0d9c4a7b6e21"
    id_path = ("id",)
    state_path = ("status",)
    auth = {"authorization": f"Bearer {KEY}"}
    create_path = "/model/v1/generation"
    look = ("GET", f"/model/v1/generation/task/{task_id}", "")

    text_body = wrapped(PARAMS)
    pictures_body = wrapped(
        {
            **PARAMS,
            "input_image": "https://studio.example.com/i/1.png",
            "input_image_2": "https://studio.example.com/i/2.png",
        }
    )

    waiting = ("look_in_progress.json", "look_pending.json", "look_processing.json")
    success = {"look_completed.json": ("https://cdn.example.com/a.png", "https://cdn.example.com/b.png")}
    failures = {
        "look_failed_object.json": (Kind.PROVIDER, "002014001", "Input image is too large"),
        "look_failed_string.json": (Kind.MODERATION, "", "Content flagged by moderation"),
        "look_failed_error_message.json": (Kind.PROVIDER, "500", "upstream broke"),
    }
    refusals = (
        ("error_400.json", 400, Kind.INPUT, "no"),
        ("error_401.json", 401, Kind.AUTH, "no"),
        ("error_402_status.json", 402, Kind.BALANCE, "no"),
        ("error_402_status.json", 200, Kind.BALANCE, "no"),
        ("error_403_balance.json", 403, Kind.BALANCE, "no"),
        ("error_403_code.json", 403, Kind.BALANCE, "no"),
        ("error_403_permission.json", 403, Kind.AUTH, "no"),
        ("error_429.json", 429, Kind.RATE, "no"),
        ("error_500.json", 500, Kind.PROVIDER, "yes"),
        ("create_refused_200.json", 200, Kind.PROVIDER, "yes"),
    )
    also_said_of_tasks = ("create_refused_200.json",)
    not_found = (("look_404.json", 404),)
    callbacks = ()

    def with_urls(self, urls):
        body = json.loads(self.sample("look_completed.json"))
        contents = [{"type": "image", "url": url} for url in urls] if isinstance(urls, list) else urls
        body["output"] = [{"content": contents}]
        return body

    def with_reason(self, body, words):
        body["error"]["message"] = words
        return body

    def test_it_tells_what_a_picture_cost(self, peer, account):
        peer.answers(self.sample("look_completed.json"))
        assert self.report(account).cost_usd == Decimal("0.045")

    @pytest.mark.parametrize("cost", [None, "", "free", "-1", "NaN", "1e30", [], {}, True])
    def test_a_strange_cost_is_no_cost(self, peer, account, cost):
        body = json.loads(self.sample("look_completed.json"))
        body["usage"]["cost"] = cost
        peer.answers(body)
        assert self.report(account).cost_usd is None

    def test_it_sends_extras_in_the_documented_types(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        self.provider.submit(self.text(seed=7, output_format="png", safety_tolerance=2), account, None)
        extras = {"seed": 7, "output_format": "png", "safety_tolerance": "2"}
        assert peer.asked[0].json == wrapped({**PARAMS, **extras})

    @pytest.mark.parametrize(
        "extra",
        [{"seed": -1}, {"seed": 2**32}, {"safety_tolerance": 0}, {"safety_tolerance": 6}, {"output_format": "webp"}],
        ids=str,
    )
    def test_it_refuses_extras_out_of_range(self, peer, account, extra):
        error = self.submit_error(self.text(**extra), account)
        assert (error.kind, error.sent, peer.asked) == (Kind.INPUT, "no", [])

    def test_its_body_can_be_flat(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        self.provider.submit(self.text(), self.with_options(account, body="flat"), None)
        assert peer.asked[0].json == {"model": "flux_2_pro", **PARAMS}

    def test_auto_sends_no_size(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        self.provider.submit(self.text(aspect_ratio="auto", references=(picture(1),)), account, None)
        url = "https://studio.example.com/i/1.png"
        assert peer.asked[0].json == wrapped({"prompt": TEXT.prompt, "input_image": url})

    def test_references_can_be_sent_inline(self, peer, account):
        account = self.with_options(account, references="base64")
        assert self.provider.capabilities(account).takes_uploads
        peer.answers(self.sample("create_ok.json"))
        self.provider.submit(self.text(references=(picture(1, is_public=False), picture(2))), account, None)
        bare = base64.b64encode(PICTURE).decode()
        assert peer.asked[0].json == wrapped({**PARAMS, "input_image": bare, "input_image_2": bare})

    def test_a_reference_that_cannot_be_read_leaves_it_unsent(self, peer, account):
        def gone():
            raise OSError("disk")

        account = self.with_options(account, references="base64")
        error = self.submit_error(self.text(references=(Reference(None, gone),)), account)
        assert (error.kind, error.sent, peer.asked) == (Kind.PROVIDER, "no", [])

    def test_eight_references_are_numbered_without_a_gap(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        self.provider.submit(self.text(references=tuple(map(picture, range(1, 9)))), account, None)
        params = peer.asked[0].json["input"][0]["params"]
        names = ["input_image", *(f"input_image_{n}" for n in range(2, 9))]
        assert [params[name] for name in names] == [f"https://studio.example.com/i/{n}.png" for n in range(1, 9)]

    def test_its_sizes_keep_the_vendors_rules(self):
        for ratio, sizes in SIZES_PX.items():
            wide, high = map(int, ratio.split(":"))
            for resolution, (width_px, height_px) in sizes.items():
                assert width_px % 32 == height_px % 32 == 0
                assert width_px * height_px <= (2**20 if resolution == "1K" else 2**22)
                assert abs(width_px * high / (height_px * wide) - 1) < 0.02
