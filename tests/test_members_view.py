"""Who is in a team, in which role, on how many credits, and out again."""

from __future__ import annotations

import re
import threading
from unittest.mock import patch

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from flux2web import ledger
from flux2web.caps import Cap
from flux2web.forms_people import change_member
from flux2web.models import Act, Budget, Membership, Role

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
    with django_assert_max_num_queries(12):
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


# --- Caps --------------------------------------------------------------------------------------------------------------

NO_CAPS = ["-5", "1,5", "1e9", "NaN", "١٢٣٤٥٦٧٨", str(2**63), "x" * 300, "\x00", "0.0", "00"]


@pytest.fixture
def cap(client_for, membership, north):
    """cap(ben, cleo, cap="500") is ben capping cleo, from a page that showed her cap as it is."""

    def do(by, whom, *, was: str | None = None, htmx: bool = False, **fields):
        row = membership(whom, north)
        shown = str(Cap.of(row)) if was is None else was
        headers = {"HX-Request": "true"} if htmx else {}
        return client_for(by).post(f"{PAGE}{row.pk}/cap/", {"was": shown, **fields}, headers=headers, follow=not htmx)

    return do


def cap_now(user, team) -> str:
    return str(Cap.of(Membership.objects.get(user=user, team=team)))


def row_of(page: str, member: Membership) -> str:
    row = re.search(rf'<tr id="member-{member.pk}">.*?</tr>', page, re.S)
    return " ".join(re.sub(r"<form.*?</form>|<[^>]+>", " ", row[0], flags=re.S).split())


def test_a_number_none_at_all_no_cap_and_the_teams(cap, ben, cleo, north):
    for fields, said in (
        ({"cap": "1,500"}, "1500"),
        ({"cap": "0"}, "0"),
        ({"uncapped": "on"}, "no cap"),
        ({}, "inherits"),
    ):
        assert cap(ben, cleo, **fields).status_code == 200
        assert cap_now(cleo, north) == said
    notes = list(Act.objects.order_by("id").values_list("actor", "about", "note"))
    assert notes[:2] == [(ben.pk, "Cleo", "1500. Was: inherits"), (ben.pk, "Cleo", "0. Was: 1500")]
    assert len(notes) == 4


def test_the_table_says_each_cap_in_words(client_for, ben, cleo, dan, eve, membership, north):
    Membership.objects.filter(user=cleo).update(cap=1500)
    Membership.objects.filter(user=dan).update(uncapped=True)
    Membership.objects.filter(user=ben).update(cap=0)
    page = client_for(ben).get(PAGE).content.decode()
    assert "1,500" in row_of(page, membership(cleo, north))
    assert " no cap " in row_of(page, membership(dan, north))
    assert " none " in row_of(page, membership(ben, north))
    Budget.objects.filter(team=north).update(member_cap=300)
    assert "inherits 300" in row_of(client_for(ben).get(PAGE).content.decode(), membership(eve, north))


def test_the_table_says_what_each_has_used_holds_and_has_left(client_for, ben, cleo, membership, north):
    Membership.objects.filter(user=cleo).update(cap=100)
    factories.make_task(north, user=cleo, state="done", price=40, charged=25)
    factories.make_task(north, user=cleo, state="running", price=15)
    factories.make_task(north, user=cleo, state="failed", price=15)
    row = row_of(client_for(ben).get(PAGE).content.decode(), membership(cleo, north))
    assert " 100 40 40 % 15 60 1 50 % failed " in row


def test_who_has_no_cap_has_what_the_team_has(client_for, ben, cleo, membership, north):
    row = row_of(client_for(ben).get(PAGE).content.decode(), membership(cleo, north))
    assert "no cap, inherited 0 0 1,000 the team's 0 not yet" in row


def test_with_htmx_the_answer_is_the_row(cap, ben, cleo, membership, north):
    answer = cap(ben, cleo, cap="500", htmx=True)
    page = answer.content.decode()
    assert page.lstrip().startswith(f'<tr id="member-{membership(cleo, north).pk}">')
    assert "500" in row_of(page, membership(cleo, north))
    wrong = cap(ben, cleo, cap="x", htmx=True)
    assert wrong.status_code == 422
    assert 'value="x"' in wrong.content.decode()
    assert '<details class="edit" open>' in wrong.content.decode()


@pytest.mark.parametrize("typed", NO_CAPS)
def test_what_is_no_cap_is_said_at_the_field_and_kept(cap, ben, cleo, membership, north, typed):
    answer = cap(ben, cleo, cap=typed)
    assert answer.status_code == 422
    assert f'id="cap-{membership(cleo, north).pk}-cap_error"' in answer.content.decode()
    assert cap_now(cleo, north) == "inherits"
    assert not Act.objects.exists()


def test_a_number_and_no_cap_at_once_is_refused(cap, ben, cleo, north):
    answer = cap(ben, cleo, cap="5", uncapped="on")
    assert answer.status_code == 422
    assert "Either a number or no cap" in answer.content.decode()
    assert cap_now(cleo, north) == "inherits"


@pytest.mark.parametrize("was", ["", "x", "9" * 20, "-1", "\x00"])
def test_a_form_that_was_tampered_with_changes_nothing(client_for, ben, cleo, membership, north, was):
    row = membership(cleo, north)
    assert client_for(ben).post(f"{PAGE}{row.pk}/cap/", {"cap": "5", "was": was}).status_code == 422
    assert cap_now(cleo, north) == "inherits"


def test_the_same_cap_twice_is_one_act(cap, ben, cleo, north):
    for _ in range(2):
        assert cap(ben, cleo, cap="500", was="inherits").status_code == 200
    assert Act.objects.count() == 1


def test_two_admins_do_not_overwrite_each_other(cap, ana, ben, cleo, north):
    cap(ana, cleo, cap="300", was="inherits")
    answer = cap(ben, cleo, cap="200", was="inherits")
    assert answer.status_code == 422
    assert "Meanwhile somebody set it: 300" in answer.content.decode()
    assert cap_now(cleo, north) == "300"
    cap(ben, cleo, cap="200", was="300")
    assert cap_now(cleo, north) == "200"


def test_a_cap_below_what_is_used_is_set_and_said(cap, ben, cleo, membership, north):
    task = factories.make_task(north, user=cleo, state="running", price=40)
    answer = cap(ben, cleo, cap="30")
    assert "Above it already: Cleo (40 used)" in answer.content.decode()
    assert "Above it: nothing new until" in row_of(answer.content.decode(), membership(cleo, north))
    assert ledger.left(membership(cleo, north)).least == 0
    task.refresh_from_db()
    assert task.is_live


def test_open_pages_ask_again_for_what_is_left(cap, ben, cleo, north, django_capture_on_commit_callbacks):
    with patch("flux2web.bus.publish_balance") as told:
        cap(ben, cleo, cap="30")
    told.assert_called_once_with(north.pk)


@pytest.mark.parametrize("name", ["cleo", "eve"])
def test_members_and_viewers_cap_nobody(client_for, cast, dan, membership, north, name):
    row = membership(dan, north)
    client = client_for(cast[name])
    assert client.post(f"{PAGE}{row.pk}/cap/", {"cap": "5", "was": "inherits"}).status_code == 403
    assert client.post(f"{PAGE}caps/", {"cap": "5", "ids": [row.pk]}).status_code == 403
    assert cap_now(dan, north) == "inherits"


def test_an_admin_of_another_team_caps_nobody_here(client_for, zoe, cleo, membership, north, south):
    row = membership(cleo, north)
    for team in ("north", "south"):
        answer = client_for(zoe).post(f"/t/{team}/members/{row.pk}/cap/", {"cap": "5", "was": "inherits"})
        assert answer.status_code == 404
    answer = client_for(zoe).post("/t/south/members/caps/", {"cap": "5", "ids": [row.pk]})
    assert answer.status_code == 422
    assert cap_now(cleo, north) == "inherits"


# --- One cap for several -----------------------------------------------------------------------------------------------


@pytest.fixture
def cap_several(client_for, north):
    def do(by, ids, **fields):
        return client_for(by).post(f"{PAGE}caps/", {"ids": ids, **fields}, follow=True)

    return do


def caps_now(team) -> list[str]:
    return [str(Cap.of(member)) for member in team.memberships.order_by("user__name")]


def test_several_get_one_cap(cap_several, ana, ben, cleo, dan, membership, north):
    Membership.objects.filter(user=dan).update(cap=200)
    ids = [membership(user, north).pk for user in (cleo, dan)]
    answer = cap_several(ben, [*ids, ids[0]], cap="200")
    assert caps_now(north) == ["inherits", "inherits", "200", "200"]
    assert "The cap of Cleo: 200." in answer.content.decode()
    assert list(Act.objects.values_list("about", "note")) == [("Cleo", "200. Was: inherits")]
    assert "Nothing was changed" in cap_several(ben, ids, cap="200").content.decode()
    cap_several(ben, ids, uncapped="on")
    assert caps_now(north)[2:] == ["no cap", "no cap"]


def test_everyone_gets_one_cap(cap_several, ana, ben, cleo, north):
    cap_several(ben, [], everyone="on", cap="0")
    assert caps_now(north) == ["0", "0", "0"]


def test_nobody_ticked_is_said(cap_several, ben, cleo, north):
    answer = cap_several(ben, [], cap="5")
    assert answer.status_code == 422
    assert "Tick the members" in answer.content.decode()
    assert "inherits" in caps_now(north)


@pytest.mark.parametrize("bad", ["x", "-1", "1.5", "9" * 30, "٣", "999999", "\x00"])
def test_one_bad_id_and_nothing_is_changed(cap_several, ben, cleo, membership, north, bad):
    answer = cap_several(ben, [membership(cleo, north).pk, bad], cap="5")
    assert answer.status_code == 422
    assert "load the page again" in answer.content.decode()
    assert set(caps_now(north)) == {"inherits"}
    assert not Act.objects.exists()


def test_somebody_of_another_team_among_them_and_nothing_is_changed(
    cap_several, ben, cleo, zoe, membership, north, south
):
    answer = cap_several(ben, [membership(cleo, north).pk, membership(zoe, south).pk], cap="5")
    assert answer.status_code == 422
    assert set(caps_now(north)) | set(caps_now(south)) == {"inherits"}


def test_a_hundred_thousand_ids_change_nothing(cap_several, ben, cleo, north):
    assert cap_several(ben, list(range(1, 100_001)), cap="5").status_code == 400
    assert cap_several(ben, list(range(1, 900)), cap="5").status_code == 422
    assert set(caps_now(north)) == {"inherits"}


@pytest.mark.parametrize("typed", NO_CAPS)
def test_what_is_no_cap_for_several_is_said_and_ticks_stay(cap_several, ben, cleo, membership, north, typed):
    row = membership(cleo, north)
    page = cap_several(ben, [row.pk], cap=typed)
    assert page.status_code == 422
    assert 'id="caps-cap_error"' in page.content.decode()
    assert re.search(rf'value="{row.pk}" form="caps"[^>]* checked', page.content.decode())
    assert set(caps_now(north)) == {"inherits"}


def test_sixty_members_ask_no_more_queries_than_three(client_for, ana, ben, cleo, north):
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(PAGE)
        return len(queries)

    client = client_for(ana)
    factories.make_task(north, user=cleo, state="done")
    client.get(PAGE)
    before = asked()
    for number in range(57):
        row = factories.make_member(north, cap=number)
        factories.make_task(north, user=row.user, state="done", price=1)
    assert asked() == before
