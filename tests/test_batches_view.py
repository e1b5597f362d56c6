"""A batch as one group in the studio: its head, trying again what failed, taking back what waits."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from flux2web.models import Batch, Budget, Membership, Role, State, Task, Team

from . import factories

HTMX = {"HX-Request": "true"}


def text(answer) -> str:
    return answer.content.decode()


def batch_of(team: Team, user, *states: str, **fields) -> Batch:
    batch = factories.make_batch(team, user)
    for state in states:
        factories.make_task(team, user=user, state=state, batch=batch, **fields)
    return batch


def url(batch: Batch, verb: str) -> str:
    return f"/t/north/batches/{batch.pk}/{verb}/"


def head(client, batch: Batch) -> str:
    """The head as the page asks for it; "" where there is none."""
    return text(client.get(f"/t/north/batches/?ids={batch.pk}"))


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def group_of(page: str, batch: Batch) -> str:
    """A batch's part of the studio: up to the next group, or the end of the cards."""
    rest = page.split(f'<div class="batch" role="group" id="batch-{batch.pk}"')[1]
    return re.split(r'<div class="batch"|</section>', rest)[0]


# --- The group -------------------------------------------------------------------------------------------------------------


def test_pictures_sent_together_stand_under_one_head_and_one_alone_under_none(client_for, eve, cleo, north):
    many, single = batch_of(north, cleo, "done", "running", "failed"), batch_of(north, cleo, "done")
    page = text(client_for(eve).get("/t/north/"))
    group = group_of(page, many)
    assert group.count("<article") == 3
    assert "1 of 3 done" in group
    assert "1 failed" in group
    assert f"batch-{single.pk}" not in page


def test_once_it_rests_what_failed_stands_apart_and_before_that_in_its_place(client_for, eve, cleo, north):
    resting, going = (batch_of(north, cleo, "done", "failed", last) for last in ("done", "running"))
    page = text(client_for(eve).get("/t/north/"))
    for batch, states in ((resting, ["done", "done", "failed"]), (going, ["running", "failed", "done"])):
        assert re.findall(r'data-state="(\w+)"', group_of(page, batch)) == states


def test_a_head_says_the_one_prompt_or_only_how_many(client_for, eve, cleo, north):
    same, mixed = batch_of(north, cleo, "done", "done"), factories.make_batch(north, cleo)
    for prompt in ("A heron", "A harbour"):
        factories.make_task(north, user=cleo, batch=mixed, prompt=prompt)
    assert "Harbour at dawn, flat gouache" in head(client_for(eve), same)
    assert words(head(client_for(eve), mixed)) == "2 pictures 0 of 2 done 2 waiting"


def test_a_rule_that_stops_it_is_said_while_it_goes_on(client_for, eve, cleo, north):
    batch = batch_of(north, cleo, "queued", "failed")
    Batch.objects.update(stop_after=3)
    assert "Stops after 3 failures" in head(client_for(eve), batch)
    Task.objects.filter(state="queued").update(state="cancelled", due_at=None)
    assert "Stops after" not in head(client_for(eve), batch)


def test_heads_count_only_what_one_sees(client_for, eve, cleo, north):
    batch = batch_of(north, cleo, "done", "done", "done")
    hidden = Task.objects.filter(batch=batch).earliest("id")
    Task.objects.filter(pk=hidden.pk).update(private=True)
    assert "of 2 done" in head(client_for(eve), batch)
    assert "of 3 done" in head(client_for(cleo), batch)
    Task.objects.update(private=True)
    assert head(client_for(eve), batch) == ""


def test_another_teams_batch_has_no_head_here(client_for, ana, south, zoe):
    batch = batch_of(south, zoe, "done", "done")
    assert head(client_for(ana), batch) == ""
    assert client_for(zoe).get(f"/t/north/batches/?ids={batch.pk}").status_code == 404


@pytest.mark.parametrize("ids", ["", "x", "-1", ",,,", "9" * 400, "1," * 5000, "\x00", "²", "9223372036854775808"])
def test_nonsense_for_ids_is_answered_with_nothing(client_for, eve, north, ids):
    answer = client_for(eve).get("/t/north/batches/", {"ids": ids})
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_studio_takes_no_more_queries_for_more_batches_and_a_longer_line(client_for, ana, cleo, dan, north):
    client, revid = client_for(ana), factories.make_account("revid")

    def count() -> int:
        client.get("/t/north/")
        with CaptureQueriesContext(connection) as seen:
            client.get("/t/north/")
        return len(seen)

    batch_of(north, cleo, "done", "failed")
    batch_of(north, cleo, "queued", "queued", waits_for=revid)
    before = count()
    for user in (cleo, dan):
        batch_of(north, user, "done", "failed", "uncertain")
        batch_of(north, user, "queued", "queued", "queued", waits_for=revid)
    assert count() == before


# --- Retry what failed -----------------------------------------------------------------------------------------------------


@pytest.fixture
def half_failed(cleo, north) -> Batch:
    factories.make_account("revid")
    return batch_of(north, cleo, "done", "failed", "failed")


def test_only_what_failed_is_tried_again_as_one_new_batch_at_the_price_shown(client_for, dan, half_failed, north):
    assert "Retry failed only · 20" in head(client_for(dan), half_failed)
    answer = client_for(dan).post(url(half_failed, "retry"), {"price": "20"}, headers=HTMX)
    new = Task.objects.filter(batch=Batch.objects.latest("id"))
    assert answer.status_code == 200
    assert set(re.findall(r'id="task-(\d+)"', text(answer))) == {str(task.pk) for task in new}
    assert {task.parent.state for task in new} == {"failed"}
    assert len(new) == 2
    assert Budget.objects.get(team=north).held == 20
    assert "Retry failed only" not in head(client_for(dan), half_failed)


def test_pressed_twice_it_happens_once_and_that_is_said(client_for, cleo, half_failed):
    client = client_for(cleo)
    client.post(url(half_failed, "retry"), {"price": "20"})
    answer = client.post(url(half_failed, "retry"), {"price": "20"}, headers=HTMX)
    assert answer.status_code == 422
    assert "tried again already" in text(answer)
    assert Task.objects.count() == 5


def test_a_price_that_has_risen_is_shown_and_may_be_agreed_to(client_for, cleo, half_failed, north):
    factories.make_price("revid", credits=14)
    for headers, page in ((HTMX, False), ({}, True)):
        answer = client_for(cleo).post(url(half_failed, "retry"), {"price": "20"}, headers=headers)
        assert answer.status_code == 422
        assert "from 20 to 28 credits" in text(answer)
        assert 'name="confirm" value="28"' in text(answer)
        assert ("<!doctype html>" in text(answer)) is page
    assert Budget.objects.get(team=north).held == 0
    assert client_for(cleo).post(url(half_failed, "retry"), {"confirm": "28"}).status_code == 302
    assert Budget.objects.get(team=north).held == 28


def test_a_team_that_asks_before_much_is_spent_asks_here_too(client_for, cleo, half_failed, north):
    Budget.objects.filter(team=north).update(confirm_above=15)
    for headers, page in ((HTMX, False), ({}, True)):
        answer = client_for(cleo).post(url(half_failed, "retry"), {"price": "20"}, headers=headers)
        assert answer.status_code == 422
        assert "These 2 pictures cost 20 credits. Your team asks before a press costs so much" in text(answer)
        assert 'name="confirm" value="20"' in text(answer)
        assert f'formaction="{url(half_failed, "retry")}"' in text(answer)
        assert ("<!doctype html>" in text(answer)) is page
    assert Budget.objects.get(team=north).held == 0
    assert "Retry failed only · 20" in head(client_for(cleo), half_failed)
    assert client_for(cleo).post(url(half_failed, "retry"), {"confirm": "20"}, headers=HTMX).status_code == 200
    assert Budget.objects.get(team=north).held == 20


def test_a_risen_price_that_is_agreed_to_is_not_asked_about_once_more(client_for, cleo, half_failed, north):
    Budget.objects.filter(team=north).update(confirm_above=15)
    factories.make_price("revid", credits=14)
    answer = client_for(cleo).post(url(half_failed, "retry"), {"price": "20"}, headers=HTMX)
    assert "from 20 to 28 credits" in text(answer)
    assert client_for(cleo).post(url(half_failed, "retry"), {"confirm": "28"}, headers=HTMX).status_code == 200
    assert Budget.objects.get(team=north).held == 28


def test_a_budget_that_does_not_cover_it_says_so_with_and_without_javascript(client_for, cleo, half_failed, north):
    Budget.objects.filter(team=north).update(granted=15)
    answer = client_for(cleo).post(url(half_failed, "retry"), {"price": "20"}, headers=HTMX)
    assert answer.status_code == 422
    assert "this needs 20 credits" in text(answer)
    plain = client_for(cleo)
    page = text(plain.get(plain.post(url(half_failed, "retry"), {"price": "20"})["Location"]))
    assert "this needs 20 credits" in page
    assert Task.objects.count() == 3


def test_what_others_keep_to_themselves_is_not_tried_again_for_them(client_for, dan, cleo, half_failed):
    hidden = Task.objects.filter(state="failed").earliest("id")
    Task.objects.filter(pk=hidden.pk).update(private=True, prompt="A secret harbour")
    client_for(dan).post(url(half_failed, "retry"), {"price": "20"})
    assert [task.parent_id for task in Task.objects.filter(user=dan)] == [hidden.pk + 1]
    Task.objects.filter(batch=half_failed).update(private=True)
    assert client_for(dan).post(url(half_failed, "retry")).status_code == 404
    assert client_for(cleo).post(url(half_failed, "retry"), {"price": "10"}).status_code == 302


@pytest.mark.parametrize("price", ["", "0", "-5", "many", "9" * 400, "1.5", "²"])
def test_nonsense_for_a_price_is_no_error_of_ours(client_for, cleo, half_failed, price):
    assert client_for(cleo).post(url(half_failed, "retry"), {"price": price}, headers=HTMX).status_code in (200, 422)


# --- Cancel what waits -----------------------------------------------------------------------------------------------------


def test_its_author_takes_back_what_waits_and_nothing_else(client_for, cleo, north):
    batch = batch_of(north, cleo, "done", "running", "queued", "queued")
    assert "Cancel what waits" in head(client_for(cleo), batch)
    answer = client_for(cleo).post(url(batch, "cancel"), headers=HTMX)
    assert re.findall(r'data-state="(\w+)"', text(answer)) == ["cancelled", "cancelled"]
    assert sorted(Task.objects.values_list("state", flat=True)) == ["cancelled", "cancelled", "done", "running"]
    assert Budget.objects.get(team=north).held == 10
    assert "Cancel what waits" not in head(client_for(cleo), batch)


def test_a_team_admin_may_too_and_another_member_may_not(client_for, ben, dan, cleo, north):
    batch = batch_of(north, cleo, "queued", "queued")
    assert "Cancel what waits" not in head(client_for(dan), batch)
    assert client_for(dan).post(url(batch, "cancel")).status_code == 403
    assert "Cancel what waits" in head(client_for(ben), batch)
    assert client_for(ben).post(url(batch, "cancel")).status_code == 302
    assert set(Task.objects.values_list("state", flat=True)) == {"cancelled"}


def test_where_nothing_waits_any_more_that_is_said(client_for, cleo, north):
    batch = batch_of(north, cleo, "running", "done")
    answer = client_for(cleo).post(url(batch, "cancel"), headers=HTMX)
    assert answer.status_code == 422
    assert "Nothing of this waits any more" in text(answer)


def test_without_javascript_it_leads_back_to_the_studio_and_says_what_happened(client_for, cleo, north):
    client, batch = client_for(cleo), batch_of(north, cleo, "queued", "queued")
    answer = client.post(url(batch, "cancel"))
    assert answer["Location"] == "/t/north/"
    assert "Cancelled: 2 pictures" in text(client.get("/t/north/"))


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_who_may_press(client_for, cast, north, verb):
    batch = batch_of(north, cast["cleo"], "queued", "failed")
    assert client_for(cast["eve"]).post(url(batch, verb)).status_code == 403
    for stranger in ("zoe", "sam"):
        assert client_for(cast[stranger]).post(url(batch, verb)).status_code == 404
    assert client_for(None).post(url(batch, verb)).status_code == 302
    assert client_for(cast["cleo"]).get(url(batch, verb)).status_code == 405
    assert client_for(cast["cleo"]).post(f"/t/north/batches/{10**9}/{verb}/").status_code == 404
    assert set(Task.objects.values_list("state", flat=True)) == {State.QUEUED, State.FAILED}


def test_a_batch_of_another_team_is_missing_as_one_that_never_was(client_for, ana, zoe, south):
    batch = batch_of(south, zoe, "failed", "queued")
    foreign = client_for(ana).post(url(batch, "retry"))
    missing = client_for(ana).post(f"/t/north/batches/{10**9}/retry/")
    assert (foreign.status_code, foreign.content.split(b"csrf")[0]) == (404, missing.content.split(b"csrf")[0])


def test_who_may_no_longer_make_pictures_sees_no_button(client_for, cleo, half_failed, north):
    Membership.objects.filter(user=cleo, team=north).update(role=Role.VIEWER)
    assert "<button" not in head(client_for(cleo), half_failed)
