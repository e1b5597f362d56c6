"""Who is in a team, in which role, and out again."""

from __future__ import annotations

import threading
from unittest.mock import patch

import pytest
from django.db import connection

from flux2web.forms_people import change_member
from flux2web.models import Membership, Role

from . import factories

PAGE = "/t/north/members/"


@pytest.fixture
def act(client_for, membership, north):
    """act(ben, cleo, "viewer") is ben changing cleo's role; without a role, ben removing her."""

    def do(by, whom, role: str | None = None):
        row = membership(whom, north)
        if role is None:
            return client_for(by).post(f"{PAGE}{row.pk}/remove/")
        return client_for(by).post(f"{PAGE}{row.pk}/role/", {"role": role})

    return do


def role_of(user, team) -> str | None:
    return Membership.objects.filter(user=user, team=team).values_list("role", flat=True).first()


# --- Looking -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ana", "ben", "cleo", "eve"])
def test_everyone_in_the_team_sees_who_is_in(client_for, cast, name):
    page = client_for(cast[name]).get(PAGE).content.decode()
    for person in ("Ana", "Ben", "Cleo", "Dan", "Eve"):
        assert person in page
    assert "Zoe" not in page


@pytest.mark.parametrize("name", ["cleo", "eve"])
def test_only_admins_see_controls(client_for, cast, name):
    page = client_for(cast[name]).get(PAGE).content.decode()
    assert "/role/" not in page
    assert "/remove/" not in page
    assert "/invite/" not in page


def test_strangers_find_no_such_team(client_for, zoe, sam, north):
    for stranger in (zoe, sam):
        assert client_for(stranger).get(PAGE).status_code == 404


def test_without_signing_in_one_is_led_to_sign_in(client, north):
    assert client.get(PAGE).headers["Location"] == f"/accounts/login/?next={PAGE}"


def test_more_members_ask_no_more_queries(client_for, ana, north, django_assert_max_num_queries):
    client = client_for(ana)
    client.get(PAGE)
    for _ in range(20):
        factories.make_member(north)
    with django_assert_max_num_queries(10):
        client.get(PAGE)


# --- Roles ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["viewer", "member", "admin"])
def test_an_admin_changes_roles(act, ben, cleo, north, role):
    assert act(ben, cleo, role).headers["Location"] == PAGE
    assert role_of(cleo, north) == role


def test_only_an_owner_makes_an_owner(act, ana, ben, cleo, north):
    answer = act(ben, cleo, "owner")
    assert answer.status_code == 409
    assert "Only an owner" in answer.content.decode()
    assert role_of(cleo, north) == Role.MEMBER
    act(ana, cleo, "owner")
    assert role_of(cleo, north) == Role.OWNER


def test_only_an_owner_changes_an_owner(act, ana, ben, cleo, north):
    act(ana, cleo, "owner")
    assert act(ben, ana, "member").status_code == 409
    assert act(ben, ana).status_code == 409
    assert role_of(ana, north) == Role.OWNER


def test_the_last_owner_stays_owner(act, ana, north):
    for answer in (act(ana, ana, "member"), act(ana, ana)):
        assert answer.status_code == 409
        assert "only owner" in answer.content.decode()
    assert role_of(ana, north) == Role.OWNER


def test_one_of_two_owners_may_go(act, ana, cleo, north):
    act(ana, cleo, "owner")
    assert act(ana, ana).headers["Location"] == "/"
    assert role_of(ana, north) is None


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_remove_each_other_at_once_leave_one(client_for, ana, north, membership):
    cleo = factories.make_member(north, role=Role.OWNER).user
    gate, codes = threading.Barrier(2), []

    def remove(by, whom: int) -> None:
        client = client_for(by)
        gate.wait()
        codes.append(client.post(f"{PAGE}{whom}/remove/").status_code)
        connection.close()

    pairs = [(ana, membership(cleo, north).pk), (cleo, membership(ana, north).pk)]
    threads = [threading.Thread(target=remove, args=pair) for pair in pairs]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert Membership.objects.filter(team=north, role=Role.OWNER).count() == 1
    assert 302 in codes


@pytest.mark.parametrize("role", ["king", "", "OWNER"])
def test_a_role_that_does_not_exist_is_refused(act, ana, cleo, north, role):
    assert act(ana, cleo, role).status_code == 409
    assert role_of(cleo, north) == Role.MEMBER


@pytest.mark.parametrize("name", ["cleo", "eve"])
def test_members_and_viewers_change_nobody(act, cast, dan, north, name):
    assert act(cast[name], dan, "admin").status_code == 403
    assert act(cast[name], dan).status_code == 403
    assert role_of(dan, north) == Role.MEMBER


def test_an_admin_of_another_team_reaches_nobody_here(client_for, zoe, cleo, membership, north, south):
    row = membership(cleo, north)
    client = client_for(zoe)
    for team in ("north", "south"):
        assert client.post(f"/t/{team}/members/{row.pk}/role/", {"role": "viewer"}).status_code == 404
        assert client.post(f"/t/{team}/members/{row.pk}/remove/").status_code == 404
    assert role_of(cleo, north) == Role.MEMBER


@pytest.mark.parametrize("verb", ["role", "remove"])
def test_looking_at_the_address_changes_nothing(client_for, ana, cleo, membership, north, verb):
    row = membership(cleo, north)
    assert client_for(ana).get(f"{PAGE}{row.pk}/{verb}/").status_code == 405


# --- Out -----------------------------------------------------------------------------------------------------------------


def test_whoever_is_removed_is_out_at_once(act, client_for, ben, cleo, north):
    client = client_for(cleo)
    assert client.get(PAGE).status_code == 200
    act(ben, cleo)
    assert client.get(PAGE).status_code == 404
    assert "in no team yet" in client.get("/").content.decode()


def test_open_pages_are_told_to_look_again(act, ben, cleo, north):
    with patch("flux2web.bus.publish_access_changed") as told:
        act(ben, cleo, "viewer")
        act(ben, cleo)
    assert [call.args for call in told.call_args_list] == [(north.pk,), (north.pk,)]


@pytest.mark.parametrize("role", [None, "member"])
def test_the_links_of_an_admin_who_is_none_any_more_open_nothing(act, ana, ben, sam, north, role):
    mine, theirs = (factories.make_invite(north, invited_by=user)[0] for user in (ben, ana))
    from_console, _ = factories.make_invite(north, invited_by=sam)
    act(ana, ben, role)
    assert set(north.invites.open()) == {theirs, from_console}
    assert mine not in north.invites.open()


def test_two_who_remove_somebody_at_once_get_an_answer_each(membership, ana, ben, cleo, north):
    first, second = membership(cleo, north), membership(cleo, north)
    assert change_member(first, membership(ana, north), None) is None
    assert "not in North any more" in change_member(second, membership(ben, north), None).message


def test_their_pictures_stay(act, ben, cleo, north):
    task = factories.make_task(north, user=cleo, state="done")
    act(ben, cleo)
    task.refresh_from_db()
    assert task.user == cleo


def test_nobody_is_removed_twice(act, client_for, ben, cleo, membership, north):
    row = membership(cleo, north)
    act(ben, cleo)
    assert client_for(ben).post(f"{PAGE}{row.pk}/remove/").status_code == 404
