"""Notices: on one's own pages until put away, by mail where asked for, and nobody else's business."""

from __future__ import annotations

import re
from datetime import timedelta
from smtplib import SMTPRecipientsRefused, SMTPServerDisconnected

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from flux2web import actors, notices
from flux2web.clock import Clock
from flux2web.models import Notice, write

from . import factories

pytestmark = pytest.mark.django_db
SITE = "https://studio.example.com"


@pytest.fixture(autouse=True)
def public(settings):
    settings.PUBLIC_URL = SITE


def told(user, text="Ben gave you 100 credits.", **fields) -> Notice:
    key = fields.pop("key", f"test:{Notice.objects.count()}")
    assert notices.tell(user, key=key, text=text, **fields)
    return Notice.objects.get(user=user, key=key)


def strip_of(client, address: str = "/t/north/history/") -> str:
    """What a page says at its top."""
    found = re.search(r'<section id="strip".*?(?=<div id="notices")', client.get(address).content.decode(), re.S)
    return found[0] if found else ""


# --- Telling ---------------------------------------------------------------------------------------------------------


def test_one_thing_is_told_once_to_each(cleo, dan):
    assert notices.tell(cleo, key="granted:1", text="Granted.")
    assert not notices.tell(cleo, key="granted:1", text="Granted again.")
    assert notices.tell(dan, key="granted:1", text="Granted.")
    assert [notice.text for notice in notices.of(cleo)] == ["Granted."]


# --- On pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["/t/north/", "/t/north/history/", "/t/north/members/", "/accounts/password/change/"]
)
def test_every_page_of_a_person_shows_what_they_were_not_shown(client_for, cleo, north, address):
    told(cleo, "Ben gave you 100 credits.", url="/t/north/usage/", tone="good", team=north)
    strip = strip_of(client_for(cleo), address)
    assert "Ben gave you 100 credits." in strip
    assert 'data-kind="good"' in strip
    assert 'href="/t/north/usage/"' in strip


def test_the_newest_three_are_shown_and_how_many_more_there_are(client_for, cleo):
    for number in range(5):
        told(cleo, f"Number {number}.")
    strip = strip_of(client_for(cleo))
    assert re.findall(r"<p class=\"grow\">(Number \d)", strip) == ["Number 4", "Number 3", "Number 2"]
    assert f'<a href="{reverse("notices")}">and 2 more</a>' in strip


def test_a_great_many_are_not_counted(client_for, cleo):
    for number in range(notices.STRIP + notices.MORE_MAX + 5):
        told(cleo, f"Number {number}.")
    assert "and many more" in strip_of(client_for(cleo))


def test_texts_are_escaped(client_for, cleo):
    told(cleo, 'North & "<script>alert(1)</script>" asks', url='/t/north/"onclick=x')
    for address in ("/t/north/history/", "/notices/"):
        page = client_for(cleo).get(address).content.decode()
        assert "<script>alert" not in page
        assert '"onclick' not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_others_notices_are_not_shown(client_for, cleo, dan):
    told(cleo, "Only for Cleo.")
    assert "Only for Cleo" not in strip_of(client_for(dan))
    assert "Only for Cleo" not in client_for(dan).get("/notices/").content.decode()


def test_whoever_is_in_several_teams_reads_which_one_it_is_about(client_for, cleo, north, south):
    told(cleo, "You have used 82 %.", team=south)
    assert "South" not in strip_of(client_for(cleo))
    factories.make_member(south, cleo)
    assert "South" in strip_of(client_for(cleo))


def test_nobody_signed_in_has_no_strip(client_for, db):
    assert 'id="strip"' not in client_for(None).get("/accounts/login/").content.decode()


def test_the_strip_takes_one_query_a_page_and_none_of_a_fragment(client_for, cleo, north):
    client = client_for(cleo)
    client.get("/t/north/history/")

    def asked(address: str) -> int:
        with CaptureQueriesContext(connection) as seen:
            client.get(address)
        return sum("flux2web_notice" in query["sql"] for query in seen)

    for number in range(12):
        told(cleo, f"Number {number}.", team=north)
        if number in (0, 11):
            assert asked("/t/north/history/") == 1
            assert asked("/t/north/balance/") == 0


def test_pages_ask_for_the_strip_alone(client_for, cleo):
    told(cleo, "Fresh.")
    answer = client_for(cleo).get("/notices/strip/", headers={"HX-Request": "true"})
    assert answer.content.decode().strip().startswith('<section id="strip"')
    assert "Fresh." in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]


# --- Putting away ----------------------------------------------------------------------------------------------------


def test_put_away_by_a_plain_press_leads_back_to_the_page(client_for, cleo):
    notice = told(cleo)
    client = client_for(cleo)
    here = "/t/north/history/?q=owl"
    answer = client.post(reverse("dismiss-notice", args=[notice.pk]), headers={"Referer": f"http://testserver{here}"})
    assert (answer.status_code, answer["Location"]) == (302, here)
    assert "100 credits" not in strip_of(client)


@pytest.mark.parametrize("referer", ["", "https://evil.example.com/", "//evil.example.com", "javascript:alert(1)"])
def test_a_press_never_leads_elsewhere(client_for, cleo, referer):
    notice = told(cleo)
    answer = client_for(cleo).post(reverse("dismiss-notice", args=[notice.pk]), headers={"Referer": referer})
    assert answer["Location"] == "/notices/"


def test_with_htmx_the_strip_comes_back_with_the_next_one(client_for, cleo):
    rows = [told(cleo, f"Number {number}.") for number in range(4)]
    answer = client_for(cleo).post(reverse("dismiss-notice", args=[rows[3].pk]), headers={"HX-Request": "true"})
    strip = answer.content.decode()
    assert strip.strip().startswith('<section id="strip"')
    assert re.findall(r"<p class=\"grow\">(Number \d)", strip) == ["Number 2", "Number 1", "Number 0"]


def test_putting_away_twice_is_as_good_as_once(client_for, cleo):
    notice = told(cleo)
    client = client_for(cleo)
    for _ in range(2):
        assert client.post(reverse("dismiss-notice", args=[notice.pk])).status_code == 302
    first = Notice.objects.get().seen_at
    client.post(reverse("dismiss-notice", args=[notice.pk]))
    assert Notice.objects.get().seen_at == first


def test_anothers_notice_does_not_exist(client_for, cleo, dan):
    notice = told(cleo)
    assert client_for(dan).post(reverse("dismiss-notice", args=[notice.pk])).status_code == 404
    assert client_for(dan).post(reverse("dismiss-notice", args=[10**12])).status_code == 404
    assert Notice.objects.get().seen_at is None


def test_a_look_puts_nothing_away(client_for, cleo):
    notice = told(cleo)
    assert client_for(cleo).get(reverse("dismiss-notice", args=[notice.pk])).status_code == 405
    client_for(cleo).get("/notices/")
    assert Notice.objects.get().seen_at is None


def test_all_are_put_away_at_once_and_only_ones_own(client_for, cleo, dan):
    told(cleo), told(cleo), told(dan)
    client = client_for(cleo)
    assert "Put all away" in client.get("/notices/").content.decode()
    assert client.post(reverse("dismiss-notices")).status_code == 302
    assert "Put all away" not in client.get("/notices/").content.decode()
    assert [notice.user for notice in Notice.objects.filter(seen_at=None)] == [dan]


@pytest.mark.parametrize("name", ["notices", "notice-strip", "dismiss-notices"])
def test_strangers_are_sent_to_sign_in(client_for, db, name):
    answer = client_for(None).post(reverse(name)) if "dismiss" in name else client_for(None).get(reverse(name))
    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/login/")


# --- The page of all -------------------------------------------------------------------------------------------------


def test_all_of_mine_are_listed_newest_first_page_by_page(client_for, cleo):
    for number in range(35):
        told(cleo, f"Number {number}.", key=f"n{number}")
    Notice.objects.filter(key="n34").update(seen_at=timezone.now())
    client = client_for(cleo)
    first = client.get("/notices/").content.decode()
    assert re.findall(r"<p>Number (\d+)\.", first) == [str(number) for number in range(34, 4, -1)]
    older = client.get(re.search(r'rel="next" href="([^"]+)"', first)[1].join(["/notices/", ""]))
    assert re.findall(r"<p>Number (\d+)\.", older.content.decode()) == ["4", "3", "2", "1", "0"]


def test_an_empty_page_says_what_will_come_here(client_for, cleo):
    page = client_for(cleo).get("/notices/").content.decode()
    assert "Nothing yet" in page
    assert "Put all away" not in page


@pytest.mark.parametrize("mark", ["x", "2026-02-30T00:00:00Z,1", "1,1,1", "%00", "٣"])
def test_a_page_mark_of_nonsense_is_the_first_page(client_for, cleo, mark):
    told(cleo)
    assert "100 credits" in client_for(cleo).get(f"/notices/?before={mark}").content.decode()


def test_more_notices_ask_no_more_queries(client_for, cleo, north):
    client = client_for(cleo)
    client.get("/notices/")

    def asked() -> int:
        with CaptureQueriesContext(connection) as seen:
            client.get("/notices/")
        return len(seen)

    for number in range(30):
        told(cleo, f"Number {number}.", team=north)
        if number == 2:
            few = asked()
    assert asked() == few


# --- By mail ---------------------------------------------------------------------------------------------------------


def refuse(monkeypatch, error: Exception) -> None:
    def send(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(notices, "send_mail", send)


def later(minutes: int) -> None:
    """As if so much time had passed."""
    for notice in Notice.objects.exclude(mail_due_at=None):
        Notice.objects.filter(pk=notice.pk).update(mail_due_at=notice.mail_due_at - timedelta(minutes=minutes))


def test_a_notice_that_asks_for_it_is_mailed_once(cleo, north):
    text = "You have used 412 of 500 credits this period: 82 %. Renews on 1 December."
    told(cleo, text, url="/t/north/usage/", team=north, mails=True)
    told(cleo, "Only on pages.")
    assert notices.mail_due() == 1
    assert notices.mail_due() == 0
    (letter,) = mail.outbox
    assert letter.to == ["cleo@example.com"]
    assert letter.subject == "flux2web: You have used 412 of 500 credits this period"
    assert letter.body == f"{text}\n\nTeam: North\n\n{SITE}/t/north/usage/\n"
    assert Notice.objects.get(mail_tries=1).mail_due_at is None


def test_a_letter_is_not_html(cleo, north):
    told(cleo, "Ann & Bob's <3 team asks.", mails=True)
    notices.mail_due()
    assert mail.outbox[0].body.startswith("Ann & Bob's <3 team asks.")


def test_a_name_with_a_line_break_breaks_no_header(cleo):
    told(cleo, "Ev\r\nBcc: all@example.com asks for 100 credits.", mails=True)
    assert notices.mail_due() == 1
    assert mail.outbox[0].subject == "flux2web: Ev Bcc"
    assert mail.outbox[0].bcc == []


def test_without_an_address_of_our_own_the_letter_has_no_half_link(cleo, settings):
    settings.PUBLIC_URL = ""
    told(cleo, "Ready.", url="/t/north/usage/", mails=True)
    notices.mail_due()
    assert mail.outbox[0].body == "Ready.\n\nSign in to flux2web to see it.\n"


def test_a_mail_that_the_server_does_not_take_is_tried_again_later(cleo, monkeypatch):
    told(cleo, mails=True)
    with monkeypatch.context() as broken:
        refuse(broken, SMTPServerDisconnected("gone"))
        assert notices.mail_due() == 0
    assert notices.mail_due() == 0  # not yet
    later(minutes=10)
    assert notices.mail_due() == 1
    assert len(mail.outbox) == 1


def test_no_address_is_logged_whatever_the_server_says(cleo, monkeypatch, caplog):
    told(cleo, mails=True)
    refuse(monkeypatch, SMTPRecipientsRefused({"cleo@example.com": (550, b"cleo@example.com is unknown")}))
    for _ in range(notices.MAIL_TRIES):
        notices.mail_due()
        later(minutes=10)
    assert "SMTPRecipientsRefused" in caplog.text
    assert "cleo@" not in caplog.text


def test_after_five_tries_it_is_given_up_and_stays_on_the_pages(client_for, cleo, monkeypatch):
    told(cleo, mails=True)
    refuse(monkeypatch, OSError("no route"))
    for tries in range(1, 6):
        assert Notice.objects.get().mail_due_at
        notices.mail_due()
        assert Notice.objects.get().mail_tries == tries
        later(minutes=10)
    assert Notice.objects.get().mail_due_at is None
    assert "100 credits" in strip_of(client_for(cleo))


def test_one_whose_every_try_died_is_given_up_too(cleo):
    told(cleo, mails=True)
    Notice.objects.update(mail_tries=notices.MAIL_TRIES)
    notices.mail_due()
    assert mail.outbox == []
    assert Notice.objects.get().mail_due_at is None


def test_a_sick_server_is_not_asked_for_each(cleo, monkeypatch):
    for _ in range(3):
        told(cleo, mails=True)
    refuse(monkeypatch, OSError("no route"))
    notices.mail_due()
    assert sorted(Notice.objects.values_list("mail_tries", flat=True)) == [0, 0, 1]


def test_a_letter_that_nobody_takes_does_not_hold_up_the_others(cleo, dan):
    told(cleo, mails=True)
    Notice.objects.update(mail_tries=notices.MAIL_TRIES)
    told(dan, mails=True)
    notices.mail_due()
    assert [letter.to for letter in mail.outbox] == [["dan@example.com"]]


def test_who_claimed_it_first_sends_it(cleo, monkeypatch):
    """Another worker looked at the same moment, and was slower."""
    notice = told(cleo, mails=True)
    assert notices._claim(notice.pk)
    assert notices._claim(notice.pk) is None


def test_a_worker_that_dies_while_sending_loses_nothing(cleo):
    notice = told(cleo, mails=True)
    notices._claim(notice.pk)  # and here it dies
    assert notices.mail_due() == 0
    later(minutes=10)
    assert notices.mail_due() == 1


def test_who_may_not_sign_in_any_more_is_not_written_to(cleo):
    told(cleo, mails=True)
    type(cleo).objects.filter(pk=cleo.pk).update(is_active=False)
    notices.mail_due()
    assert mail.outbox == []
    assert Notice.objects.get().mail_due_at is None


@pytest.mark.parametrize("backend", ["console", "dummy"])
def test_without_a_mail_server_notices_are_on_pages_alone(cleo, settings, backend, capsys):
    settings.EMAIL_BACKEND = f"django.core.mail.backends.{backend}.EmailBackend"
    notice = told(cleo, mails=True)
    assert notice.mail_due_at is None
    Notice.objects.update(mail_due_at=timezone.now())  # from when there was one
    notices.mail_due()
    assert Notice.objects.get().mail_due_at is None
    assert "100 credits" not in capsys.readouterr().out


def test_while_developing_letters_are_shown_on_the_console(cleo, settings, capsys):
    settings.EMAIL_BACKEND, settings.DEBUG = "django.core.mail.backends.console.EmailBackend", True
    told(cleo, mails=True)
    notices.mail_due()
    assert "Ben gave you 100 credits." in capsys.readouterr().out


@pytest.mark.django_db(transaction=True)
def test_the_clock_finds_a_due_letter_and_the_actor_sends_it(cleo, monkeypatch):
    kicked = []
    monkeypatch.setattr(actors.mail, "send_with_options", lambda **options: kicked.append(options))
    Clock().tick()
    assert kicked == []
    with write():
        told(cleo, mails=True)
    Clock().tick()
    assert len(kicked) == 1
    actors.mail.fn()
    assert len(mail.outbox) == 1
