"""Apikley against the samples of docs.apikley.ru, its sister pages and kie.ai's reference."""

import json
from decimal import Decimal

import pytest

from flux2web.providers.apikley import Apikley
from flux2web.providers.base import Account, Kind, ProviderError, Reference
from tests.providers.contract import GRACE_S, KEY, PICTURE, TEXT, ProviderContract, hangs_up, picture
from tests.providers.peer import sample

SHAPE = {"prompt": TEXT.prompt, "aspect_ratio": "16:9", "resolution": "2K"}
STORED = "https://files.example.com/flux2web/a.png"


class TestApikley(ProviderContract):
    provider = Apikley()
    family = "flex"
    task_id = "task_flux-2_1765175331507"
    auth = {"authorization": f"Bearer {KEY}"}
    create_path = "/api/v1/jobs/createTask"
    look = ("GET", "/api/v1/jobs/recordInfo", f"taskId={task_id}")

    text_body = {"model": "flux-2/flex-text-to-image", "input": SHAPE}
    pictures_body = {
        "model": "flux-2/flex-image-to-image",
        "input": {
            "input_urls": ["https://studio.example.com/i/1.png", "https://studio.example.com/i/2.png"],
            **SHAPE,
        },
    }
    callback_fields = {"callBackUrl": "HOOK"}

    waiting = ("look_waiting.json", "look_queuing.json", "look_generating.json")
    success = {
        "look_success.json": ("https://tempfile.example.com/r/1.png", "https://tempfile.example.com/r/2.png"),
    }
    failures = {
        "look_fail.json": (Kind.INPUT, "422", "Invalid image format"),
        "look_fail_501.json": (Kind.PROVIDER, "501", "Generation failed"),
        "look_501_without_data.json": (Kind.PROVIDER, "501", "Content generation task failed"),
    }
    refusals = (
        ("error_401.json", 200, Kind.AUTH, "no"),
        ("error_402.json", 200, Kind.BALANCE, "no"),
        ("error_402.json", 500, Kind.BALANCE, "no"),  # 500 is the only other HTTP status that the seed declares
        ("error_404.json", 200, Kind.INPUT, "no"),
        ("error_422.json", 200, Kind.INPUT, "no"),
        ("error_429.json", 200, Kind.RATE, "no"),
        ("error_433.json", 200, Kind.BALANCE, "no"),
        ("error_455.json", 200, Kind.MAINTENANCE, "no"),
        ("error_500.json", 200, Kind.PROVIDER, "yes"),
        ("error_500.json", 500, Kind.PROVIDER, "yes"),
        ("error_501.json", 200, Kind.PROVIDER, "yes"),
        ("error_505.json", 200, Kind.MAINTENANCE, "no"),
    )
    not_found = (("look_404.json", 200), ("look_404.json", 404), ("look_race.json", 200), ("look_race.json", 422))
    callbacks = ("callback_success.json", "callback_fail.json")
    balances = {"balance_ok.json": Decimal(100)}

    def naming_references(self, account):
        return self.with_options(account, references="url")

    def with_urls(self, urls):
        body = json.loads(self.sample("look_success.json"))
        body["data"]["resultJson"] = json.dumps({"resultUrls": urls})
        return body

    def test_pro_is_a_setting(self, account):
        assert self.provider.capabilities(account).families == ("flex",)
        with_pro = self.with_options(account, pro="on")
        assert self.provider.capabilities(with_pro).families == ("pro", "flex")

    def test_a_query_that_fails_validation_is_an_error(self, peer, account):
        peer.answers(self.sample("look_422.json"))
        error = self.report_error(account, age_s=GRACE_S)
        assert (error.kind, error.code) == (Kind.INPUT, "422")

    def test_it_uploads_each_reference_before_the_create(self, peer, account):
        peer.answers(self.sample("upload_ok.json")).answers(self.sample("upload_ok_kie.json"))
        peer.answers(self.sample("create_ok.json"))
        request = self.text(references=(picture(1, is_public=False), picture(2)))
        self.provider.submit(request, account, None)
        *uploads, create = peer.asked
        assert {asked.path for asked in uploads} == {"/file-upload/api/file-stream-upload"}
        assert create.json["input"]["input_urls"] == [STORED, "https://files.example.com/kie/a.png"]

    def test_an_upload_carries_three_parts_and_a_name_of_its_own(self, peer, account):
        peer.answers(self.sample("upload_ok.json")).answers(self.sample("upload_ok.json"))
        peer.answers(self.sample("create_ok.json"))
        self.provider.submit(self.text(references=(picture(1), picture(1))), account, None)
        names = set()
        for asked in peer.asked[:2]:
            name, mime, content = asked.files["file"]
            assert asked.form == {"uploadPath": "flux2web", "fileName": name}
            assert (asked.files.keys(), mime, content, name[-4:]) == ({"file"}, "image/png", PICTURE, ".png")
            assert asked.headers["authorization"] == f"Bearer {KEY}"
            names.add(name)
        assert len(names) == 2

    @pytest.mark.parametrize(
        ("name", "status", "kind"),
        [
            ("upload_400.json", 200, Kind.INPUT),
            ("upload_without_url.json", 200, Kind.BAD_REPLY),
            ("error_401.json", 401, Kind.AUTH),
            ("error_500.json", 500, Kind.PROVIDER),
        ],
    )
    def test_a_failed_upload_leaves_the_create_unsent(self, peer, account, name, status, kind):
        peer.answers(self.sample(name), status)
        error = self.submit_error(self.text(references=(picture(1), picture(2))), account)
        assert (error.kind, error.sent, len(peer.asked)) == (kind, "no", 1)

    def test_a_broken_gateway_during_an_upload_leaves_it_unsent(self, peer, account):
        peer.answers(sample("any", "bad_gateway.html"), 502)
        error = self.submit_error(self.text(references=(picture(1),)), account)
        assert (error.kind, error.sent) == (Kind.PROVIDER, "no")

    def test_a_line_gone_dead_during_an_upload_leaves_it_unsent(self):
        with hangs_up() as url:
            error = self.submit_error(self.text(references=(picture(1),)), Account(KEY, url))
        assert (error.kind, error.sent) == (Kind.PROVIDER, "no")

    def test_a_reference_that_cannot_be_read_leaves_it_unsent(self, peer, account):
        def gone():
            raise FileNotFoundError("/var/media/secret-name.png")

        error = self.submit_error(self.text(references=(Reference(None, gone),)), account)
        assert (error.sent, peer.asked) == ("no", [])
        assert "secret-name" not in error.message

    @pytest.mark.parametrize("name", ["bad_gateway.html", "cut.json", "wrong_types.json"])
    def test_a_balance_that_cannot_be_read_is_a_bad_reply(self, peer, account, name):
        self.expect_no_balance(peer.answers(sample("any", name)), account, Kind.BAD_REPLY)

    def test_a_balance_in_words_is_a_bad_reply(self, peer, account):
        self.expect_no_balance(peer.answers(self.sample("balance_text.json")), account, Kind.BAD_REPLY)

    def test_a_refused_balance_says_why(self, peer, account):
        self.expect_no_balance(peer.answers(self.sample("error_401.json")), account, Kind.AUTH)

    def expect_no_balance(self, peer, account, kind):
        with pytest.raises(ProviderError) as caught:
            self.provider.balance(account)
        assert caught.value.kind is kind
        assert [asked.path for asked in peer.asked] == ["/api/v1/chat/credit"]
