"""Signing in and out, and where `/` leads."""

from __future__ import annotations

import base64
import hmac
import re
import struct
import time
from pathlib import Path

import pytest
from django.core import mail
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone

from . import factories

SIGN_IN = "/accounts/login/"
OWN_PAGES = ["account_change_password", "account_email", "mfa_index", "account_logout"]
OPEN_PAGES = ["account_login", "account_reset_password", "account_reset_password_done", "account_signup"]


def sign_in(client, email: str = "ana@example.com", password: str = factories.PASSWORD, **extra):
    return client.post(SIGN_IN, {"login": email, "password": password}, **extra)


# --- Home ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_strangers_are_led_to_sign_in(client):
    assert client.get("/").headers["Location"].startswith(SIGN_IN)


def test_home_is_the_first_team(client_for, ana):
    assert client_for(ana).get("/").headers["Location"] == "/t/north/"


def test_home_is_the_team_last_seen(client_for, ana, south):
    factories.make_member(south, ana)
    client = client_for(ana)
    client.get("/t/south/members/")
    assert client.get("/").headers["Location"] == "/t/south/"


def test_home_forgets_a_team_that_one_is_no_longer_in(client_for, ana, south, membership):
    factories.make_member(south, ana)
    client = client_for(ana)
    client.get("/t/south/members/")
    membership(ana, south).delete()
    assert client.get("/").headers["Location"] == "/t/north/"


def test_home_passes_over_a_closed_team(client_for, ana, north):
    north.closed_at = timezone.now()
    north.save()
    assert "in no team yet" in client_for(ana).get("/").content.decode()


def test_home_of_a_site_admin_without_a_team_is_the_console(client_for, sam):
    assert client_for(sam).get("/").headers["Location"] == "/console/"


@pytest.mark.django_db
def test_home_without_a_team_says_what_is_missing(client_for):
    page = client_for(factories.make_user(email="lone@example.com")).get("/").content.decode()
    assert "in no team yet" in page
    assert "lone@example.com" in page


# --- Signing in and out ------------------------------------------------------------------------------------------------


def test_signing_in_leads_home(client, ana):
    assert sign_in(client).headers["Location"] == "/"


def test_capitals_in_the_address_do_not_matter(client, ana):
    assert sign_in(client, "ANA@example.COM").status_code == 302


def test_a_wrong_password_is_refused_without_saying_who_is_here(client, ana):
    known, unknown = sign_in(client, password="wrong"), sign_in(client, "nobody@example.com", "wrong")
    said = [
        re.search(r'id="form-errors".*?</div>', answer.content.decode(), re.S).group() for answer in (known, unknown)
    ]
    assert said[0] == said[1]


def test_guessing_is_throttled(client, ana):
    for _ in range(5):
        sign_in(client, password="wrong")
    answer = sign_in(client)
    assert answer.status_code != 302
    assert "Too many failed" in answer.content.decode()


def test_someone_who_was_switched_off_cannot_sign_in(client, ana):
    ana.is_active = False
    ana.save()
    assert not sign_in(client).wsgi_request.user.is_authenticated


def test_signing_in_leads_on_to_the_page_that_was_wanted(client, ana):
    answer = client.post(SIGN_IN, {"login": ana.email, "password": factories.PASSWORD, "next": "/t/north/members/"})
    assert answer.headers["Location"] == "/t/north/members/"


def test_it_does_not_lead_off_the_site(client, ana):
    answer = client.post(SIGN_IN, {"login": ana.email, "password": factories.PASSWORD, "next": "https://evil.example/"})
    assert answer.headers["Location"] == "/"


def test_signing_out_is_a_post(client_for, ana):
    client = client_for(ana)
    assert client.get("/accounts/logout/").status_code == 200
    assert client.get("/").status_code == 302
    client.post("/accounts/logout/")
    assert client.get("/").headers["Location"].startswith(SIGN_IN)


@pytest.mark.django_db
def test_nobody_signs_up_by_themselves(client):
    answer = client.post(
        reverse("account_signup"), {"email": "x@example.com", "password1": "a" * 20, "password2": "a" * 20}
    )
    assert "By invitation only" in answer.content.decode()
    assert answer.wsgi_request.user.is_anonymous


# --- Passwords and second factor ---------------------------------------------------------------------------------------


def test_a_forgotten_password_is_reset_by_mail(client, ana):
    client.post(reverse("account_reset_password"), {"email": ana.email})
    link = re.search(r"https?://testserver(/\S+)", mail.outbox[0].body).group(1)
    page = client.get(link, follow=True)
    new = "another long password"
    client.post(page.request["PATH_INFO"], {"password1": new, "password2": new})
    assert sign_in(client, password=new).status_code == 302


def test_a_reset_link_works_once(client, ana):
    client.post(reverse("account_reset_password"), {"email": ana.email})
    link = re.search(r"https?://testserver(/\S+)", mail.outbox[0].body).group(1)
    page = client.get(link, follow=True)
    new = "another long password"
    client.post(page.request["PATH_INFO"], {"password1": new, "password2": new})
    client.post("/accounts/logout/")
    assert "had its day" in client.get(link, follow=True).content.decode()


def test_one_changes_ones_password(client, ana):
    sign_in(client)
    new = "another long password"
    given = {"oldpassword": factories.PASSWORD, "password1": new, "password2": new}
    client.post(reverse("account_change_password"), given)
    ana.refresh_from_db()
    assert ana.check_password(new)


def code_of(secret: str) -> str:
    """What an authenticator app shows now (RFC 6238)."""
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", int(time.time()) // 30), "sha1")
    number = struct.unpack(">I", digest[digest[-1] & 15 :][:4])[0] & 0x7FFFFFFF
    return f"{number % 10**6:06}"


def sign_in_surely(client) -> None:
    """Signed in, and asked for the password again, as pages about the account's safety do."""
    sign_in(client)
    assert client.get(reverse("mfa_activate_totp")).headers["Location"].startswith(reverse("account_reauthenticate"))
    client.post(reverse("account_reauthenticate"), {"password": factories.PASSWORD})


def switch_on_second_factor(client) -> str:
    sign_in_surely(client)
    page = client.get(reverse("mfa_activate_totp")).content.decode()
    secret = re.search(r'class="secret">(\w+)<', page).group(1)
    answer = client.post(reverse("mfa_activate_totp"), {"code": code_of(secret)})
    assert answer.status_code == 302, answer.content.decode()
    return secret


def test_the_secret_is_shown_as_a_drawing_that_our_policy_allows(client, ana):
    sign_in_surely(client)
    page = client.get(reverse("mfa_activate_totp")).content.decode()
    assert "<svg" in page.split('class="qr"')[1]
    assert "data:image" not in page
    assert "<?xml" not in page


def test_with_a_second_factor_the_password_alone_opens_nothing(client, client_for, ana):
    secret = switch_on_second_factor(client)
    other = client_for(None)
    assert sign_in(other).headers["Location"] == reverse("mfa_authenticate")
    assert other.get("/").headers["Location"].startswith(SIGN_IN)
    cache.clear()  # a code is taken once, and this one was used a moment ago
    assert other.post(reverse("mfa_authenticate"), {"code": code_of(secret)}).status_code == 302
    assert other.get("/").headers["Location"] == "/t/north/"


def test_whoever_once_asked_for_a_reset_link_can_still_set_up_a_second_factor(client, ana):
    client.post(reverse("account_reset_password"), {"email": ana.email})
    switch_on_second_factor(client)


def test_recovery_codes_are_shown(client, ana):
    switch_on_second_factor(client)
    page = client.get(reverse("mfa_view_recovery_codes")).content.decode()
    assert len(re.findall(r"<li>\d+</li>", page)) == 10


# --- The pages themselves ----------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("name", OPEN_PAGES)
def test_pages_before_sign_in_carry_no_inline_code(client, name):
    assert_clean(client.get(reverse(name)).content.decode())


@pytest.mark.parametrize("name", OWN_PAGES)
def test_pages_about_oneself_carry_no_inline_code(client_for, ana, name):
    assert_clean(client_for(ana).get(reverse(name)).content.decode())


def assert_clean(page: str) -> None:
    assert " style=" not in page
    assert "<style" not in page
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert not re.search(r"\son\w+=", page)


def test_no_page_of_ours_carries_inline_code():
    root = Path(__file__).parent.parent / "templates"
    for area in ("account", "allauth", "console", "invites", "mfa", "setup", "teams"):
        for template in (root / area).rglob("*.html"):
            assert_clean(template.read_text())
