"""The provider pages: how each account stands, what went wrong, pausing it, its balance, and the rule for “auto”."""

from __future__ import annotations

import html
import re
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web import accounts, health
from flux2web.models import Act, Attempt, ProviderAccount, RoutingRule, State, Task
from flux2web.providers import wire
from flux2web.providers.base import Kind

from . import factories
from .test_races import at_once

SETTINGS = {"enabled": "on", "key": "", "base_url": "https://api.example.com", "rate": "5/10", "concurrent": ""}
REVID = SETTINGS | {"option_create_path": "", "option_status_path": "", "option_status_body": "none"}
RULE = {"premium_percent": "20", "healthy_percent": "70"}


@pytest.fixture
def admin(client_for, sam):
    """Sam's browser."""
    return client_for(sam)


@pytest.fixture
def revid(db):
    return factories.make_account("revid")


def text(answer) -> str:
    """What is to be read on a page."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode())))


def part(answer, root: str) -> str:
    """What is to be read in one part of it."""
    found = re.search(rf'<(\w+)[^>]*id="{root}".*?</\1>', answer.content.decode(), re.S)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found.group())))


def ended(north, account, state: str = State.DONE, *, minutes: float = 1, **fields) -> Task:
    task = factories.make_task(north, state=state, account=account, price=1)
    Task.objects.filter(pk=task.pk).update(finished_at=timezone.now() - timedelta(minutes=minutes), **fields)
    return task


# --- Who may -------------------------------------------------------------------------------------------------

ADDRESSES = ["providers/", "providers/revid/", "providers/revid/sandbox/", "providers/accounts/{}/balance/"]
DEEDS = ["providers/rule/", "providers/accounts/{}/pause/", "providers/accounts/{}/resume/"]


@pytest.mark.parametrize("name", ["ana", "ben", "cleo", "eve", "zoe"])
def test_for_anyone_but_site_admins_none_of_it_exists(client_for, cast, north, revid, name):
    client = client_for(cast[name])
    assert {client.get(f"/console/{address.format(revid.pk)}").status_code for address in ADDRESSES} == {404}
    deeds = [client.post(f"/console/{deed.format(revid.pk)}", {"minutes": "5", **RULE}) for deed in DEEDS]
    assert {answer.status_code for answer in deeds} == {404}
    revid.refresh_from_db()
    assert revid.paused_until is None
    assert not RoutingRule.objects.exists()


def test_an_account_that_does_not_exist_is_not_found(admin, db):
    assert admin.get("/console/providers/accounts/99/balance/").status_code == 404
    assert admin.post("/console/providers/accounts/99/pause/", {"minutes": "5"}).status_code == 404
    assert admin.get("/console/providers/revid/sandbox/").status_code == 404


@pytest.mark.parametrize("deed", DEEDS)
def test_what_changes_something_is_a_post(admin, revid, deed):
    assert admin.get(f"/console/{deed.format(revid.pk)}").status_code == 405


# --- How it stands -----------------------------------------------------------------------------------------------


def test_the_page_says_what_it_has_and_how_it_did(admin, north, revid):
    for seconds in (8, 9, 11, 14, 31):
        ended(north, revid, provider_s=seconds)
    ended(north, revid, State.FAILED, fail_kind="provider", fail_message="It broke.")
    factories.make_task(north, state=State.RUNNING, account=revid, price=1)
    health.take_stock()
    page = admin.get("/console/providers/revid/")
    today = text(page)
    assert "Tasks it has now 1" in today
    assert "Creates in 24 hours 7 7 accepted" in today
    assert "Ended well 83 % 5 of 6 tasks" in today
    assert "Usually takes 11 s" in today
    assert "0–5 s" in part(page, "chart-how-long-pictures-took")
    assert "It broke." in today


def test_before_its_first_task_the_page_says_so(admin, revid):
    page = text(admin.get("/console/providers/revid/"))
    assert "no task has ended" in page
    assert "No picture was finished in the last 24 hours." in page
    assert "None in the last 30 days." in page


def test_before_there_is_an_account_there_are_only_settings(admin, db):
    page = admin.get("/console/providers/revid/").content.decode()
    assert 'id="provider"' in page
    assert 'id="today"' not in page
    assert 'id="pause"' not in page


def test_one_that_is_unwell_is_said_to_be_with_its_share(admin, revid):
    ProviderAccount.objects.update(record={"done": 4, "failed": 6, "median_s": 9.0, "p90_s": 12.0})
    said = "40 % of its 10 tasks in 24 hours ended well. “Auto” asks the others first, within the premium."
    for address in ("/console/providers/", "/console/providers/revid/"):
        page = text(admin.get(address))
        assert "Unwell" in page
        assert said in page
    assert f"Revid: unwell. {said}" in text(admin.get("/console/"))


def test_one_that_is_slow_is_unwell_and_said_to_be_slow(admin, revid):
    ProviderAccount.objects.update(record={"done": 10, "median_s": 90.0, "p90_s": 99.0, "slow": True})
    said = "Slow: it usually takes 90 s, over 3 times what the others take."
    assert said in text(admin.get("/console/providers/revid/"))


def test_errors_are_counted_by_what_they_were(admin, north, revid):
    task = ended(north, revid, State.FAILED, fail_kind="moderation")
    for number, (outcome, kind) in enumerate([("refused", "rate"), ("refused", "rate"), ("not_sent", "")], 2):
        Attempt.objects.create(
            task=task, number=number, account=revid, key_version=1, secret_hash=str(number),
            lease_until=timezone.now(), outcome=outcome, refused_kind=kind,
        )  # fmt: skip
    for _ in range(3):
        health.count_failure(revid.pk, "rate")
    said = part(admin.get("/console/providers/revid/"), "troubles")
    assert "Too fast for it 2 3 0" in said
    assert "Not reached 1 0 0" in said
    assert "Moderated 0 0 1" in said


def test_errors_of_yesterday_are_not_todays(admin, north, revid):
    ended(north, revid, State.FAILED, minutes=25 * 60)
    assert "Nothing in the last 24 hours." in part(admin.get("/console/providers/revid/"), "troubles")


def test_the_last_ten_failures_stand_there_in_its_words(admin, north, revid):
    for number in range(12):
        ended(north, revid, State.FAILED, minutes=number + 1, fail_message=f"Broke for the {number}th time.")
    task = ended(north, revid, minutes=30)
    Attempt.objects.filter(task=task).update(
        outcome="refused", refused_kind="balance", message="<b>no</b> money", answered_at=timezone.now()
    )
    page = admin.get("/console/providers/revid/")
    said = part(page, "failures")
    assert said.index("<b>no</b> money") < said.index("the 0th") < said.index("the 8th")
    assert "the 9th" not in said
    assert "&lt;b&gt;no" in page.content.decode()


def test_of_what_an_author_keeps_private_a_failure_says_no_words(admin, north, revid):
    """A provider that refuses a prompt may repeat it."""
    ended(north, revid, State.FAILED, fail_message="No: “my secret heron”.", private=True)
    task = ended(north, revid, private=True)
    Attempt.objects.filter(task=task).update(outcome="refused", refused_kind="provider", message="No “secret owl”.")
    said = part(admin.get("/console/providers/revid/"), "failures")
    assert "secret" not in said
    assert said.count("Not shown: its author keeps this picture to themselves.") == 2


def test_a_thousand_tasks_ask_no_more_than_ten(admin, north, revid):
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            admin.get("/console/providers/revid/")
        return len(seen)

    for _ in range(3):
        ended(north, revid)
        ended(north, revid, State.FAILED)
    few = queries()
    for _ in range(9):
        ended(north, revid)
        ended(north, revid, State.FAILED)
    assert queries() == few


def test_a_pretend_account_has_a_page_without_settings(admin, north):
    account = factories.make_account("revid", sandbox=True, key="sandbox")
    admin.post(f"/console/providers/accounts/{account.pk}/pause/", {"minutes": "5"})
    account.refresh_from_db()
    assert account.paused_until
    page = admin.get("/console/providers/revid/sandbox/").content.decode()
    assert 'id="today"' in page
    assert 'id="provider"' not in page
    assert Act.objects.latest("pk").about == "Revid (sandbox)"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ([], []),
        ([0.4, 9.9], ["0–1 s", "9–10 s"]),
        ([3.0, 12.0], ["2–4 s", "12–14 s"]),
        ([70.0], ["70–80 s"]),
        ([3600.0], ["to 70 min"]),
        ([20000.0], ["over 200 min"]),
    ],
)
def test_waits_are_counted_in_steps_that_fit(seconds, said):
    found = health.waits(seconds)
    assert sum(total for _, total in found) == len(seconds)
    assert len(found) <= 11
    assert [label for label, total in found if total] == said


# --- Pausing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minutes", "said"), [("5", "for 5 minutes"), ("60", "for 60 minutes")])
def test_an_account_is_paused_on_record(admin, sam, revid, minutes, said):
    began = timezone.now()
    answer = admin.post(f"/console/providers/accounts/{revid.pk}/pause/", {"minutes": minutes}, follow=True)
    revid.refresh_from_db()
    assert began <= revid.paused_until - timedelta(minutes=int(minutes)) <= timezone.now()
    assert f"Paused by Sam {said}." in text(answer)
    act = Act.objects.get()
    assert (act.actor, act.verb, act.about) == (sam, "paused the provider", "Revid")
    assert said in act.note


@pytest.mark.parametrize("minutes", ["", "0", "-5", "99999", "x", "5.0"])
def test_only_the_pauses_that_are_offered_can_be_had(admin, revid, minutes):
    answer = admin.post(f"/console/providers/accounts/{revid.pk}/pause/", {"minutes": minutes}, follow=True)
    assert "choose 5 minutes or 1 hour" in text(answer)
    revid.refresh_from_db()
    assert revid.paused_until is None


def test_what_an_admin_paused_no_success_resumes(admin, revid):
    admin.post(f"/console/providers/accounts/{revid.pk}/pause/", {"minutes": "5"})
    revid.refresh_from_db()
    accounts.worked(revid)
    revid.refresh_from_db()
    assert revid.is_paused(timezone.now())


def test_what_an_admin_paused_a_failure_makes_no_shorter(admin, revid):
    """One that was under way may be refused, and another accepted, while it rests."""
    admin.post(f"/console/providers/accounts/{revid.pk}/pause/", {"minutes": "5"})
    until = accounts.pause(revid, Kind.BALANCE, "No money left there.", retry_after_s=300)
    revid.refresh_from_db()
    assert revid.paused_until == until
    accounts.worked(revid)
    revid.refresh_from_db()
    assert revid.is_paused(timezone.now())


def test_any_pause_is_ended_on_record(admin, revid):
    accounts.pause(revid, Kind.BALANCE, "No money left there.")
    answer = admin.post(f"/console/providers/accounts/{revid.pk}/resume/", follow=True)
    revid.refresh_from_db()
    assert (revid.paused_until, revid.failures) == (None, 0)
    assert "Revid takes tasks again." in text(answer)
    act = Act.objects.get()
    assert (act.verb, act.note) == ("resumed the provider", "was: No money left there.")


def test_resuming_what_is_not_paused_changes_nothing(admin, revid):
    answer = admin.post(f"/console/providers/accounts/{revid.pk}/resume/", follow=True)
    assert "was not paused any more" in text(answer)
    assert not Act.objects.exists()


# --- Key and balance -----------------------------------------------------------------------------------------------


@contextmanager
def answering(
    status: int,
    body: bytes,
    mime: str = "application/json",
    *,
    after_s: float = 0,
    then_says: bool = False,
    drop_s: float = 0,
):
    """A server that says this to whatever it is asked: after so long, or nothing for so long, or a byte at a time."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if after_s and (stop.wait(after_s) or not then_says):
                return
            self.send_response(status)
            self.send_header("Content-Type", mime)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for byte in [body] if not drop_s else [body[at : at + 1] for at in range(len(body))]:
                if stop.wait(drop_s):
                    return
                self.wfile.write(byte)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()


HX = {"HX-Request": "true"}
BALANCE_7 = b'{"code": 200, "msg": "success", "data": 7}'


def balance(admin, url: str, **headers) -> str:
    account = factories.make_account("apikley", base_url=url)
    return text(admin.get(f"/console/providers/accounts/{account.pk}/balance/", headers=headers, follow=True))


def test_the_balance_is_asked_for_when_pressed(admin, db):
    with answering(200, b'{"code": 200, "msg": "success", "data": 1234.5}') as url:
        said = balance(admin, url, HX_Request="true")
    assert "1,234.5 credits left there." in said
    assert "<html" not in said


def test_without_scripts_the_balance_stands_above_the_page(admin, db):
    with answering(200, b'{"code": 200, "msg": "success", "data": 7}') as url:
        assert "7 credits left there." in balance(admin, url)


@pytest.mark.parametrize(
    ("status", "body", "mime"),
    [
        (200, b"<html><h1>Welcome to nginx</h1></html>", "text/html"),
        (502, b"<html>Bad gateway</html>", "text/html"),
        (200, b"[" * 40_000, "application/json"),
        (200, b'{"code": 200, "data": "a lot"}', "application/json"),
        (200, b'{"code": 200, "data": 1e999999}', "application/json"),
        (200, b"", "application/json"),
        (200, b'{"code": 200, "data": "' + b"9" * 3 * 2**20, "application/json"),
    ],
)
def test_a_balance_call_that_answers_nonsense_gives_a_plain_sentence(admin, db, status, body, mime):
    with answering(status, body, mime) as url:
        said = balance(admin, url, HX_Request="true")
    assert "What is left there is not known; try again later." in said
    assert "nginx" not in said


def test_a_balance_call_that_hangs_is_given_up(admin, db):
    began = time.monotonic()
    with answering(200, b"{}", after_s=20) as url:
        said = balance(admin, url, HX_Request="true")
    assert "What is left there is not known" in said
    assert time.monotonic() - began < 6


def test_a_balance_that_comes_drop_by_drop_is_given_up(admin, db, monkeypatch):
    monkeypatch.setattr(wire, "BALANCE_TIMEOUT_S", 0.5)
    began = time.monotonic()
    with answering(200, b" " * 500, drop_s=0.1) as url:
        said = balance(admin, url, HX_Request="true")
    assert "What is left there is not known" in said
    assert time.monotonic() - began < 3


def test_a_balance_is_asked_for_once_a_minute(admin, db):
    account = factories.make_account("apikley")
    ask = f"/console/providers/accounts/{account.pk}/balance/"
    with answering(200, BALANCE_7) as url:
        ProviderAccount.objects.update(base_url=url)
        first = text(admin.get(ask, headers=HX))
    assert "7 credits left there. Asked at " in first
    assert text(admin.get(ask, headers=HX)) == first  # although nobody is there any more
    accounts.set_account("apikley", key="another-key")
    assert "is not known" in text(admin.get(ask, headers=HX))


@pytest.mark.django_db(transaction=True)
def test_of_many_who_ask_for_a_balance_at_once_one_waits(admin, db):
    account = factories.make_account("apikley")
    with answering(200, BALANCE_7, after_s=1, then_says=True) as url:
        ProviderAccount.objects.update(base_url=url)
        account.refresh_from_db()
        said = at_once([lambda: accounts.balance_there(account).said] * 6)
    assert sorted(said) == ["7 credits left there."] + [accounts.BEING_ASKED.said] * 5


def test_a_balance_call_that_refuses_the_key_says_so(admin, db):
    with answering(200, b'{"code": 401, "msg": "invalid key"}') as url:
        assert "Apikley says: invalid key. What is left" in balance(admin, url, HX_Request="true")


def test_trying_the_key_is_on_record(admin, sam, revid):
    admin.post("/console/providers/revid/", {"check": "1"})
    act = Act.objects.get()
    assert (act.actor, act.verb, act.about) == (sam, "tried the key of", "Revid")


# --- The secret of its callbacks -------------------------------------------------------------------------------------


def test_the_secret_of_its_callbacks_goes_in_and_never_comes_out(admin, revid):
    admin.post("/console/providers/revid/", REVID | {"callback_secret": "hush-hush-1234"})
    revid.refresh_from_db()
    assert accounts.callback_secret(revid) == "hush-hush-1234"
    page = admin.get("/console/providers/revid/").content.decode()
    assert "hush" not in page
    assert "set a new secret for callbacks" in Act.objects.get().note


def test_left_empty_the_secret_stays_and_ticked_it_goes(admin, revid):
    accounts.set_account("revid", callback_secret="hush-hush-1234")
    admin.post("/console/providers/revid/", REVID)
    revid.refresh_from_db()
    assert accounts.callback_secret(revid) == "hush-hush-1234"
    admin.post("/console/providers/revid/", REVID | {"unsigned": "on"})
    revid.refresh_from_db()
    assert revid.sealed_callback_secret == ""


@pytest.mark.parametrize("secret", ["two words", "schlüssel", "x" * 501])
def test_a_secret_that_cannot_be_one_is_refused(admin, revid, secret):
    answer = admin.post("/console/providers/revid/", REVID | {"callback_secret": secret})
    assert answer.status_code == 422
    assert secret not in answer.content.decode()
    revid.refresh_from_db()
    assert revid.sealed_callback_secret == ""


def test_a_secret_that_opens_no_more_is_said_so(admin, revid):
    accounts.set_account("revid", callback_secret="hush-hush-1234")
    assert "does not open" not in text(admin.get("/console/providers/revid/"))
    with patch.object(accounts, "unseal", side_effect=ImproperlyConfigured):
        assert "signatures are not checked. Set it again." in text(admin.get("/console/providers/revid/"))


@pytest.mark.parametrize("provider", ["apixo", "flux2api", "vtrix"])
def test_who_does_not_sign_has_no_such_field(admin, db, provider):
    assert "callback_secret" not in admin.get(f"/console/providers/{provider}/").content.decode()


# --- The rule ------------------------------------------------------------------------------------------------------


def test_the_rule_is_set_on_record(admin, sam):
    answer = admin.post("/console/providers/rule/", RULE | {"seen": "50/80"}, follow=True)
    rule = RoutingRule.current()
    assert (rule.premium_percent, rule.healthy_percent) == (20, 70)
    assert 'value="20"' in answer.content.decode()
    act = Act.objects.get()
    assert (act.actor, act.verb, act.about) == (sam, "changed the provider rule of", "auto")
    assert act.note == "premium 20 %, healthy from 70 % (was: premium 50 %, healthy from 80 %)"


def test_the_same_rule_again_is_no_act(admin):
    admin.post("/console/providers/rule/", {"premium_percent": "50 %", "healthy_percent": "80", "seen": "50/80"})
    assert not Act.objects.exists()


@pytest.mark.parametrize("premium", ["", "-1", "1001", "1.5", "x", "NaN", "٣٠", "9" * 30])
def test_a_premium_that_cannot_be_one_is_refused(admin, premium):
    answer = admin.post("/console/providers/rule/", RULE | {"premium_percent": premium})
    assert answer.status_code == 422
    assert 'id="id_premium_percent_error"' in answer.content.decode()
    assert RoutingRule.current().premium_percent == 50


@pytest.mark.parametrize("healthy", ["", "-1", "101", "x"])
def test_a_share_that_cannot_be_one_is_refused(admin, healthy):
    answer = admin.post("/console/providers/rule/", RULE | {"healthy_percent": healthy})
    assert answer.status_code == 422
    assert RoutingRule.current().healthy_percent == 80


def test_of_two_admins_at_once_the_second_is_told(admin):
    admin.post("/console/providers/rule/", RULE | {"seen": "50/80"})
    answer = admin.post("/console/providers/rule/", {"premium_percent": "0", "healthy_percent": "90", "seen": "50/80"})
    assert answer.status_code == 422
    assert "to: premium 20 %, healthy from 70 %" in text(answer)
    assert RoutingRule.current().premium_percent == 20


def test_the_rule_shows_in_who_is_called_unwell(admin, revid):
    ProviderAccount.objects.update(record={"done": 7, "failed": 3, "median_s": 9.0, "p90_s": 12.0})
    with patch.object(RoutingRule, "current", return_value=RoutingRule(healthy_percent=60)):
        assert "Unwell" not in text(admin.get("/console/providers/"))
    assert "Unwell" in text(admin.get("/console/providers/"))
