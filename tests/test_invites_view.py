"""One-time links into a team: made by its admins, shown once, used once."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from smtplib import SMTPRecipientsRefused
from unittest.mock import patch

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.utils import timezone

from flux2web.models import Invite, Membership, Role, Team, User
from flux2web.models.base import token_hash

from . import factories

NEW = {"name": "Finn", "email": "finn@example.com", "password": factories.PASSWORD}
INVITE = "/t/north/members/invite/"


@pytest.fixture
def link(north, ben) -> str:
    """An open invitation to north as member, from ben."""
    return f"/invites/{factories.make_invite(north, invited_by=ben)[1]}/"


def made_link(answer) -> str:
    return re.search(r'value="http://[^/]+(/invites/[^"]+)"', answer.content.decode()).group(1)


# --- Making them -------------------------------------------------------------------------------------------------------


def test_an_admin_makes_a_link_that_lets_somebody_in(client, client_for, ben, north):
    path = made_link(client_for(ben).post(INVITE, {"role": "viewer"}))
    client.post(path, NEW)
    assert Membership.objects.get(user__email="finn@example.com", team=north).role == Role.VIEWER


def test_the_link_is_shown_once_and_kept_nowhere(client_for, ben, north):
    client = client_for(ben)
    token = made_link(client.post(INVITE, {"role": "member"})).split("/")[2]
    assert Invite.objects.get().token_hash == token_hash(token)
    assert token not in client.get("/t/north/members/").content.decode()


def test_the_link_runs_out_after_14_days(client_for, ben, north):
    client_for(ben).post(INVITE, {"role": "member"})
    assert Invite.objects.get().expires_at - timezone.now() > timedelta(days=13, hours=23)


def test_the_link_leads_to_the_public_address(client_for, ben, north, settings):
    settings.PUBLIC_URL = "https://studio.example.com"
    page = client_for(ben).post(INVITE, {"role": "member"}).content.decode()
    assert 'value="https://studio.example.com/invites/' in page


@pytest.mark.parametrize("role", ["owner", "king", ""])
def test_nobody_is_invited_as_owner_or_as_nothing(client_for, ben, north, role):
    answer = client_for(ben).post(INVITE, {"role": role, "email": "finn@example.com"})
    assert answer.status_code == 422
    assert 'value="finn@example.com"' in answer.content.decode()
    assert not Invite.objects.exists()


@pytest.mark.parametrize("name", ["cleo", "eve"])
def test_members_and_viewers_invite_nobody(client_for, cast, name):
    assert client_for(cast[name]).post(INVITE, {"role": "member"}).status_code == 403
    assert not Invite.objects.exists()


def test_strangers_find_no_such_page(client_for, zoe, sam, north):
    for stranger in (zoe, sam):
        assert client_for(stranger).post(INVITE, {"role": "member"}).status_code == 404


def test_with_an_address_it_is_mailed(client_for, ben, north):
    answer = client_for(ben).post(INVITE, {"role": "member", "email": "finn@example.com"})
    assert mail.outbox[0].to == ["finn@example.com"]
    assert made_link(answer) in mail.outbox[0].body
    assert "also mailed to finn@example.com" in answer.content.decode()


def test_a_team_whose_name_has_a_line_break_invites_all_the_same(client_for, ben, north):
    Team.objects.filter(pk=north.pk).update(name="North\nBcc: everyone@example.com")
    client_for(ben).post(INVITE, {"role": "member", "email": "finn@example.com"})
    assert mail.outbox[0].subject == "Join North Bcc: everyone@example.com on flux2web"


def test_without_a_mail_server_it_is_only_shown(client_for, ben, north, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    answer = client_for(ben).post(INVITE, {"role": "member", "email": "finn@example.com"})
    assert made_link(answer)
    assert "Pass it on yourself" in answer.content.decode()


@pytest.mark.parametrize("fault", [SMTPRecipientsRefused({"finn@example.com": (550, b"no")}), ConnectionRefusedError()])
def test_a_mail_server_that_is_down_loses_nothing(client_for, ben, north, fault, caplog):
    with patch("flux2web.views.teams.send_mail", side_effect=fault):
        answer = client_for(ben).post(INVITE, {"role": "member", "email": "finn@example.com"})
    assert made_link(answer)
    assert "did not take it" in answer.content.decode()
    assert "invitation not mailed" in caplog.text
    assert "finn@" not in caplog.text


# --- Looking after them --------------------------------------------------------------------------------------------------


def test_open_links_are_listed_for_admins_only(client_for, ana, cleo, north):
    factories.make_invite(north, email="finn@example.com", invited_by=ana)
    assert "finn@example.com" in client_for(ana).get("/t/north/members/").content.decode()
    assert "finn@example.com" not in client_for(cleo).get("/t/north/members/").content.decode()


def test_used_and_old_links_are_not_listed(client_for, ana, north):
    factories.make_invite(north, email="used@example.com", invited_by=ana, used_at=timezone.now())
    factories.make_invite(north, email="old@example.com", invited_by=ana, expires_at=timezone.now())
    assert "@example.com</b>" not in client_for(ana).get("/t/north/members/").content.decode()


def test_a_revoked_link_lets_nobody_in(client, client_for, ben, north, link):
    row = Invite.objects.get()
    client_for(ben).post(f"/t/north/members/invites/{row.pk}/revoke/")
    answer = client.post(link, NEW)
    assert answer.status_code == 410
    assert "taken back" in answer.content.decode()
    assert not User.objects.filter(email="finn@example.com").exists()


def test_nobody_revokes_another_teams_link(client_for, zoe, link, south):
    row = Invite.objects.get()
    assert client_for(zoe).post(f"/t/south/members/invites/{row.pk}/revoke/").status_code == 404
    assert Invite.objects.open().exists()


# --- Using them ----------------------------------------------------------------------------------------------------------


def test_the_page_says_which_team_who_invites_and_as_what(client, link):
    page = client.get(link).content.decode()
    assert "North" in page
    assert "Ben" in page
    assert "member" in page


def test_looking_does_not_use_it_up(client, link):
    client.get(link)
    client.get(link)
    assert client.post(link, NEW).status_code == 302


def test_somebody_new_joins_and_is_signed_in(client, link, north):
    answer = client.post(link, NEW)
    assert answer.headers["Location"] == "/t/north/"
    finn = Membership.objects.get(team=north, user__email="finn@example.com")
    assert finn.role == Role.MEMBER
    assert client.get("/t/north/members/").status_code == 200
    assert not finn.user.is_site_admin


def test_somebody_signed_in_just_accepts(client_for, zoe, link, north):
    client = client_for(zoe)
    assert 'name="password"' not in client.get(link).content.decode()
    assert client.post(link).headers["Location"] == "/t/north/"
    assert Membership.objects.get(team=north, user=zoe).role == Role.MEMBER


def test_whoever_is_in_already_does_not_use_it_up(client_for, cleo, link):
    assert client_for(cleo).post(link).headers["Location"] == "/t/north/"
    assert Invite.objects.open().exists()


def test_a_weak_password_is_refused_and_uses_nothing_up(client, link):
    answer = client.post(link, NEW | {"password": "finn@example"})
    assert answer.status_code == 422
    assert 'value="Finn"' in answer.content.decode()
    assert Invite.objects.open().exists()


def test_somebody_who_is_here_already_is_asked_to_sign_in(client, zoe, link):
    answer = client.post(link, NEW | {"email": "ZOE@example.com"})
    assert answer.status_code == 422
    assert "Sign in" in answer.content.decode()
    assert Invite.objects.open().exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"used_at": timezone.now()}, "used already"),
        ({"revoked_at": timezone.now()}, "taken back"),
        ({"expires_at": timezone.now()}, "too old"),
    ],
)
def test_a_link_that_is_over_says_why(client, north, ben, fields, said):
    _, token = factories.make_invite(north, invited_by=ben, **fields)
    for answer in (client.get(f"/invites/{token}/"), client.post(f"/invites/{token}/", NEW)):
        assert answer.status_code == 410
        assert said in answer.content.decode()


def test_a_link_into_a_closed_team_says_so(client, north, link):
    north.closed_at = timezone.now()
    north.save()
    answer = client.post(link, NEW)
    assert answer.status_code == 410
    assert "closed" in answer.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("token", ["x", "x" * 500, "%00", "ümläut"])
def test_an_unknown_link_does_not_exist(client, token):
    assert client.get(f"/invites/{token}/").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_of_many_who_accept_at_once_one_joins(north, ben):
    _, token = factories.make_invite(north, invited_by=ben)
    crowd, gate, codes = 6, threading.Barrier(6), []

    def accept(number: int) -> None:
        gate.wait()
        given = NEW | {"email": f"finn{number}@example.com"}
        codes.append(Client().post(f"/invites/{token}/", given).status_code)
        connection.close()

    threads = [threading.Thread(target=accept, args=[number]) for number in range(crowd)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(codes) == [302] + [410] * (crowd - 1)
    assert User.objects.filter(email__startswith="finn").count() == 1
