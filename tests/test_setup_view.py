"""The first administrator: whoever holds the link that `up` printed, once."""

from __future__ import annotations

import threading

import pytest
from django.core import signing
from django.db import connection
from django.test import Client

from flux2web.models import Entry, Membership, Role, Team, User
from flux2web.views.setup import setup_path

from . import factories

FORM = {"name": "Ana", "email": "Ana@Example.com", "password": factories.PASSWORD, "team": "North"}


@pytest.mark.django_db
def test_the_link_makes_an_administrator_with_a_team_and_its_first_credits(client, settings):
    answer = client.post(setup_path(), FORM)
    ana = User.objects.get()
    assert (ana.email, ana.is_site_admin) == ("ana@example.com", True)
    assert Membership.objects.get(user=ana).role == Role.OWNER
    assert Team.objects.get().budget.available == settings.FIRST_TEAM_CREDITS
    assert Entry.objects.get().actor == ana
    assert answer.status_code == 302


@pytest.mark.django_db
def test_whoever_set_up_is_signed_in_and_lands_in_the_studio(client):
    client.post(setup_path(), FORM)
    assert client.get("/").headers["Location"] == "/t/north/"


@pytest.mark.django_db
def test_the_page_asks_for_everything_it_needs(client):
    page = client.get(setup_path()).content.decode()
    for name in FORM:
        assert f'name="{name}"' in page


@pytest.mark.django_db
def test_a_weak_password_is_refused_and_what_was_typed_stays(client):
    answer = client.post(setup_path(), FORM | {"password": "short"})
    assert answer.status_code == 422
    assert "too short" in answer.content.decode()
    assert 'value="North"' in answer.content.decode()
    assert not User.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("field", ["name", "email", "password", "team"])
def test_nothing_may_be_missing(client, field):
    assert client.post(setup_path(), FORM | {field: " "}).status_code == 422
    assert not User.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("token", ["", "x", "another", "changed"])
def test_a_link_that_is_not_ours_does_not_exist(client, token):
    token = {"another": signing.dumps("setup", salt="another"), "changed": setup_path().split("/")[2] + "x"}.get(
        token, token
    )
    assert client.get(f"/setup/{token}/").status_code == 404
    assert client.post(f"/setup/{token}/", FORM).status_code == 404
    assert not User.objects.exists()


def test_afterwards_the_page_says_so_and_leads_to_sign_in(client, ana):
    for answer in (client.get(setup_path()), client.post(setup_path(), FORM)):
        assert answer.status_code == 410
        assert "set up already" in answer.content.decode()
        assert "/accounts/login/" in answer.content.decode()
    assert User.objects.get() == ana


@pytest.mark.django_db
def test_a_team_whose_name_no_address_can_carry_still_gets_one(client):
    client.post(setup_path(), FORM | {"team": "北方"})
    assert client.get("/").headers["Location"] == "/t/team/"


@pytest.mark.django_db(transaction=True)
def test_of_two_who_press_at_once_one_wins():
    path, gate, codes = setup_path(), threading.Barrier(2), []

    def press(name: str) -> None:
        gate.wait()
        codes.append(Client().post(path, FORM | {"email": f"{name}@example.com"}).status_code)
        connection.close()

    threads = [threading.Thread(target=press, args=[name]) for name in ("ana", "ben")]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(codes) == [302, 410]
    assert (User.objects.count(), Team.objects.count()) == (1, 1)
