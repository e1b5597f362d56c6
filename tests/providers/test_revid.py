"""Revid against the samples of docs.revidapi.com."""

import json

from flux2web.providers.base import Account, Kind
from flux2web.providers.revid import Revid
from tests.peer import serving
from tests.providers.contract import TEXT, ProviderContract, changed

PIC = "https://static.aiquickdraw.com/tools/example/1764235088513_4zZQUda1.png"
SHAPE = {"prompt": TEXT.prompt, "aspect_ratio": "16:9", "resolution": "2K"}


class TestRevid(ProviderContract):
    provider = Revid()
    task_id = "281e5b0c4f0d4f7c9b1a6e2d3c8f39b9"
    auth = {"x-api-key": "key-5e7b0c1d9a"}
    create_path = "/paid/flux-2/create"
    look = ("POST", "/paid/get/taskid", f"taskId={task_id}")

    text_body = {"model": "flux-2/pro-text-to-image", "input": SHAPE}
    pictures_body = {
        "model": "flux-2/pro-image-to-image",
        "input": {
            "input_urls": ["https://studio.example.com/i/1.png", "https://studio.example.com/i/2.png"],
            **SHAPE,
        },
    }
    callback_fields = {"callBackUrl": "HOOK"}

    waiting = ("look_waiting.json", "look_generating.json")  # the first has a filled resultJson, as in the seed
    success = {"look_success.json": (PIC,)}
    failures = {
        "look_fail.json": (Kind.PROVIDER, "500", "Internal Error, Please try again later."),
        "look_fail_501.json": (Kind.PROVIDER, "500", "Internal Error"),
        "look_fail_moderated.json": (
            Kind.MODERATION,
            "400",
            "Your prompt was flagged as violating content policies.",
        ),
        "error_501.json": (Kind.PROVIDER, "501", "Playground task failed."),
    }
    refusals = (
        ("error_400.json", 400, Kind.INPUT, "no"),
        ("error_401.json", 200, Kind.AUTH, "no"),
        ("error_402.json", 200, Kind.BALANCE, "no"),
        ("error_404.json", 404, Kind.INPUT, "no"),
        ("error_422.json", 422, Kind.INPUT, "no"),
        ("error_429.json", 429, Kind.RATE, "no"),
        ("error_500.json", 500, Kind.PROVIDER, "yes"),
        ("error_500.json", 200, Kind.PROVIDER, "yes"),
        ("error_402.json", 500, Kind.BALANCE, "no"),  # the body's own number is the more exact one
        ("error_detail.json", 401, Kind.AUTH, "no"),
        ("error_detail.json", 500, Kind.PROVIDER, "unknown"),  # any gateway may say that
    )
    not_found = (("look_race.json", 200), ("look_race.json", 422), ("error_404.json", 404))
    callbacks = ("callback_success.json", "callback_fail.json")

    def with_urls(self, urls):
        body = json.loads(self.sample("look_success.json"))
        body["data"]["resultJson"] = json.dumps({"resultUrls": urls})
        return body

    def test_it_sends_no_other_credential(self, peer, account):
        peer.answers(self.sample("create_ok.json"))
        self.provider.submit(self.text(), account, None)
        assert "authorization" not in peer.asked[0].headers

    def test_a_text_result_is_no_picture(self, peer, account):
        peer.answers(self.sample("look_success_text.json"))
        assert self.report_error(account).code == "no_urls"

    def test_its_result_may_be_decoded_already_or_twice_encoded(self, peer, account):
        result = {"resultUrls": [PIC]}
        for form in (result, json.dumps(json.dumps(result))):
            peer.answers(changed(self.sample("look_success.json"), ("data", "resultJson"), form))
        assert [self.report(account).urls for _ in range(2)] == [(PIC,), (PIC,)]

    def test_its_paths_and_body_are_settings(self, peer, account):
        account = self.with_options(
            account, create_path="/v2/create", status_path="/paid/get/taskidv", status_body="empty_object"
        )
        peer.answers(self.sample("create_ok.json")).answers(self.sample("look_waiting.json"))
        self.provider.submit(self.text(), account, None)
        self.report(account)
        assert [asked.path for asked in peer.asked] == ["/v2/create", "/paid/get/taskidv"]
        assert peer.asked[1].json == {}

    def test_an_unknown_setting_is_the_default(self, peer, account):
        peer.answers(self.sample("look_waiting.json"))
        self.report(self.with_options(account, status_body="something"))
        assert peer.asked[0].body == b""

    def test_its_id_is_encoded_in_the_query(self, peer):
        peer.answers(self.sample("look_race.json"))
        self.provider.report("a:b", "", Account("k", peer.url), age_s=1)
        assert peer.asked[0].query == "taskId=a%3Ab"

    def test_its_looks_share_a_connection_although_they_are_posts(self):
        ports = []

        def look(handler, upstream_id):
            ports.append(handler.client_address[1])
            handler.envelope(200, site.record(upstream_id, "waiting"))

        with serving() as site:
            site.look_answers = [look, look]
            for _ in range(2):
                Revid().report(self.task_id, "", Account(key="k", base_url=site.url))
        assert len(set(ports)) == 1
