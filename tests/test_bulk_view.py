"""Many pictures at once: what each may do with which, what is said of the rest, and that nonsense does nothing."""

from __future__ import annotations

import pytest
from django.contrib.messages import get_messages

from flux2web import actors, exports
from flux2web.forms_bulk import PICTURES_MAX
from flux2web.models import Collection, Export, Favourite, Role, Tag, Task

from . import factories

BULK, COUNT = "/t/north/history/bulk/", "/t/north/history/bulk/count/"
HTMX = {"HX-Request": "true"}
BYTES = len(factories.PNG)  # of each picture


@pytest.fixture
def hers(north, cleo):
    """Three of Cleo's."""
    return [factories.make_task(north, user=cleo, state="done") for _ in range(3)]


@pytest.fixture
def his(north, dan):
    """Two of Dan's."""
    return [factories.make_task(north, user=dan, state="done") for _ in range(2)]


def ids(*groups) -> str:
    return ",".join(str(task.pk) for group in groups for task in group)


def said(answer) -> str:
    """The line above the page that one is led to."""
    return [str(message) for message in get_messages(answer.wsgi_request)][-1]


def act(client, verb: str, chosen: str, **more):
    return client.post(BULK, {"verb": verb, "ids": chosen} | more)


def in_trash(tasks) -> int:
    return Task.objects.filter(pk__in=[task.pk for task in tasks], deleted_at__isnull=False).count()


# --- What is done ------------------------------------------------------------------------------------------------------


def test_what_is_ones_own_is_deleted_and_the_rest_is_counted_and_said(client_for, cleo, hers, his):
    answer = act(client_for(cleo), "delete", ids(hers, his))
    assert answer.status_code == 302
    assert said(answer) == "3 deleted, 2 belong to others."
    assert (in_trash(hers), in_trash(his)) == (3, 0)


def test_an_admin_deletes_anybodys(client_for, ben, hers, his):
    assert said(act(client_for(ben), "delete", ids(hers, his))) == "5 deleted."


def test_undo_brings_the_same_ones_back_and_no_others(client_for, cleo, north, hers):
    client = client_for(cleo)
    act(client, "delete", str(hers[0].pk))
    answer = act(client, "delete", ids(hers[1:]))
    undo = list(get_messages(answer.wsgi_request))[-1].extra_tags
    answer = client.post(undo)
    assert "2 brought back." in said(answer)
    assert [in_trash([task]) for task in hers] == [1, 0, 0]
    assert "Nothing to bring back" in said(client.post(undo))


def test_nobody_undoes_what_another_deleted(client_for, cleo, dan, ben, hers):
    answer = act(client_for(cleo), "delete", ids(hers))
    undo = list(get_messages(answer.wsgi_request))[-1].extra_tags
    for other in (dan, ben):
        client_for(other).post(undo)
    assert in_trash(hers) == 3


@pytest.mark.parametrize("between", ["", "1", "a-b", "1-2-3", f"{'9' * 17}-{'9' * 17}", f"{'9' * 30}-1"])
def test_an_undo_of_nothing_brings_nothing_back(client_for, cleo, hers, between):
    client = client_for(cleo)
    act(client, "delete", ids(hers))
    assert client.post(f"{BULK}undo/?between={between}").status_code == 302
    assert in_trash(hers) == 3


def test_hearts_are_given_and_taken_by_viewers_too(client_for, eve, hers):
    client = client_for(eve)
    assert said(act(client, "like", ids(hers))) == "3 liked."
    assert Favourite.objects.filter(user=eve).count() == 3
    act(client, "unlike", ids(hers[:1]))
    assert [Task.objects.get(pk=task.pk).favourites for task in hers] == [0, 1, 1]


def test_only_its_author_changes_who_sees_a_picture(client_for, ben, cleo, hers, his):
    assert "3 seen by you only, 2 belong to others" in said(act(client_for(cleo), "private", ids(hers, his)))
    assert Task.objects.filter(private=True).count() == 3
    assert "3 are not there any more" in said(act(client_for(ben), "team", ids(hers)))
    assert said(act(client_for(cleo), "team", ids(hers))) == "3 seen by the team."


def test_the_trash_gives_back_what_is_chosen_there(client_for, cleo, hers):
    client = client_for(cleo)
    act(client, "delete", ids(hers))
    answer = client.post(BULK, {"verb": "restore", "ids": ids(hers[:2])}, headers=HTMX)
    assert f'data-gone="{ids(hers[:2])}"' in answer.content.decode()
    assert in_trash(hers) == 1


def test_the_script_gets_one_line_and_learns_which_are_gone(client_for, cleo, hers, his):
    answer = client_for(cleo).post(BULK, {"verb": "delete", "ids": ids(hers, his)}, headers=HTMX)
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "<html" not in page
    assert f'data-gone="{ids(hers)}"' in page
    assert 'action="/t/north/history/bulk/undo/?between=' in page


def test_ids_come_in_one_field_or_in_many(client_for, eve, hers):
    act(client_for(eve), "like", [hers[0].pk, f"{hers[1].pk},{hers[2].pk},{hers[2].pk},"])
    assert Favourite.objects.count() == 3


# --- A word more -------------------------------------------------------------------------------------------------------


def test_a_tag_is_asked_for_and_then_put_on_all(client_for, cleo, hers, his):
    client = client_for(cleo)
    page = act(client, "tag", ids(hers, his)).content.decode()
    assert "Tag: 5 pictures" in page
    assert f'value="{ids(hers, his)}"' in page
    assert said(act(client, "tag", ids(hers, his), name="Dawn")) == "5 tagged “Dawn”."
    assert Tag.objects.get().used == 5
    assert said(act(client, "untag", ids(hers), name="dawn")) == "3 without the tag “dawn”."
    assert Tag.objects.get().used == 2


@pytest.mark.parametrize("name", ["", "   ", "\u202e", "x" * 41, "x" * 5000])
def test_what_is_no_tag_is_refused_and_kept_in_its_field(client_for, cleo, hers, name):
    answer = act(client_for(cleo), "tag", ids(hers), name=name)
    assert answer.status_code == 422
    assert 'class="error"' in answer.content.decode()
    assert not Tag.objects.exists()


def test_pictures_go_into_a_collection_that_is_there_or_new(client_for, cleo, dan, hers, his):
    client = client_for(cleo)
    assert "A new one" in act(client, "collect", ids(hers)).content.decode()
    assert said(act(client, "collect", ids(hers), name="Posters", collection="")) == "3 in “Posters”."
    collection = Collection.objects.get()
    assert (collection.owner, collection.size) == (cleo, 3)
    act(client_for(dan), "collect", ids(his), name="", collection=str(collection.pk))
    act(client_for(dan), "collect", ids(his), name="posters", collection="")
    assert Collection.objects.get().size == 5


def test_a_collection_must_be_named_and_ones_own_to_change(client_for, cleo, dan, zoe, south, hers):
    closed = Collection.objects.create(team=hers[0].team, name="Hers", owner=cleo, access="view")
    theirs = Collection.objects.create(team=south, name="Theirs", owner=zoe)
    client = client_for(dan)
    for chosen in (closed.pk, theirs.pk, "10000000", "x" * 100):
        answer = act(client, "collect", ids(hers), name="", collection=str(chosen))
        assert answer.status_code == 422
        assert "not yours to change" in answer.content.decode()
    assert "write a name" in act(client, "collect", ids(hers), name="").content.decode()
    assert not Collection.objects.filter(size__gt=0).exists()


def test_viewers_change_nothing_but_their_hearts(client_for, eve, hers):
    client = client_for(eve)
    for verb in ("delete", "private", "team", "restore"):
        assert "look at" in said(act(client, verb, ids(hers))) or in_trash(hers) == 0
    for verb in ("tag", "untag", "collect"):
        assert "Ask a team admin" in said(act(client, verb, ids(hers), name="x"))
    assert not Tag.objects.exists()
    assert not Collection.objects.exists()
    assert client.post(f"{BULK}undo/?between=1-2").status_code == 403


# --- All that match ------------------------------------------------------------------------------------------------------


def test_all_that_match_are_taken_without_being_named(client_for, cleo, hers, his):
    answer = act(client_for(cleo), "like", "", all="1", filters=f"person={cleo.pk}")
    assert said(answer) == "3 liked."


def test_all_with_words_are_those_that_the_words_find(client_for, cleo, north, hers):
    owls = [factories.make_task(north, user=cleo, state="done", prompt="An owl in the reeds") for _ in range(4)]
    client = client_for(cleo)
    assert client.get(f"{COUNT}?q=owl").json() == {"count": 4, "more": False, "said": "4", "bytes": BYTES * 4}
    act(client, "delete", "", all="1", filters="q=owl")
    assert (in_trash(owls), in_trash(hers)) == (4, 0)


def test_what_failed_is_among_them_only_where_it_was_asked_for(client_for, cleo, north, hers):
    factories.make_task(north, user=cleo, state="failed")
    client = client_for(cleo)
    assert client.get(COUNT).json()["count"] == 3
    assert client.get(f"{COUNT}?state=failed").json()["count"] == 1
    act(client, "delete", "", all="1", filters="")
    assert client.get(f"{COUNT}?tab=trash").json()["count"] == 3


def test_they_are_counted_only_so_far(client_for, cleo, hers, his, monkeypatch):
    client = client_for(cleo)
    assert client.get(COUNT).json() == {"count": 5, "more": False, "said": "5", "bytes": BYTES * 5}
    for module in ("views.bulk", "forms_bulk"):
        monkeypatch.setattr(f"flux2web.{module}.PICTURES_MAX", 4)
    assert client.get(COUNT).json() == {"count": 4, "more": True, "said": "4+", "bytes": 0}
    answer = act(client, "delete", "", all="1", filters="")
    assert "pictures at once" in said(answer)
    assert in_trash(hers) == 0


def test_all_never_reaches_what_one_may_not_see(client_for, cleo, dan, zoe, hers, his):
    act(client_for(dan), "private", ids(his))
    assert said(act(client_for(cleo), "like", "", all="1", filters="")) == "3 liked."
    assert client_for(zoe).get(COUNT).status_code == 404


# --- Nonsense ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "no such action"),
        ({"verb": "explode", "ids": "1"}, "no such action"),
        ({"verb": "like"}, "Tick some pictures"),
        ({"verb": "like", "ids": ",,,"}, "Tick some pictures"),
        ({"verb": "like", "ids": "1,two"}, "names no pictures"),
        ({"verb": "like", "ids": "9" * 19}, "names no pictures"),
        ({"verb": "like", "ids": "-1"}, "names no pictures"),
        ({"verb": "like", "ids": "٣"}, "names no pictures"),
        ({"verb": "like", "ids": "1,' OR 1=1"}, "names no pictures"),
        ({"verb": "like", "all": "1", "filters": "q=nothing+matches"}, "Tick some pictures"),
        ({"verb": "zip", "ids": "999999"}, "has a picture"),
    ],
)
def test_nonsense_is_refused_in_words_and_does_nothing(client_for, cleo, hers, data, message):
    client = client_for(cleo)
    assert message in said(client.post(BULK, data))
    answer = client.post(BULK, data, headers=HTMX)
    assert answer.status_code == 422
    assert message in answer.content.decode()
    assert not Favourite.objects.exists()


def test_a_hundred_thousand_ids_are_too_many_however_they_come(client_for, cleo, hers):
    client = client_for(cleo)
    many = [str(number) for number in range(1, 100_001)]
    assert f"{PICTURES_MAX:,} pictures at once" in said(act(client, "delete", ",".join(many)))
    answer = act(client, "delete", many)
    assert answer.status_code == 400
    assert "too many" in answer.content.decode()
    assert in_trash(hers) == 0


def test_ten_thousand_ids_are_not(client_for, cleo, hers):
    many = ",".join(str(number) for number in range(1, PICTURES_MAX + 1))
    assert said(act(client_for(cleo), "like", many)) == "3 liked, 9,997 are not there any more."


def test_a_foreign_id_is_the_same_as_a_missing_one(client_for, cleo, dan, hers, his, south):
    foreign = factories.make_task(south, state="done")
    act(client_for(dan), "private", ids(his))
    chosen = f"{ids(hers)},{ids(his)},{foreign.pk},999999"
    for verb in ("like", "delete"):
        assert "4 are not there any more" in said(act(client_for(cleo), verb, chosen))
    assert Task.objects.get(pk=foreign.pk).deleted_at is None


@pytest.mark.parametrize(
    "path", ["https://evil.example.com/", "//evil.example.com/", "\\\\evil", "javascript:alert(1)", ""]
)
def test_it_leads_back_to_a_page_of_ours(client_for, cleo, hers, path):
    answer = act(client_for(cleo), "like", ids(hers), next=path, filters="person=x&sort=oldest")
    assert answer["Location"] == "/t/north/history/?sort=oldest"


def test_it_is_asked_by_post_and_by_members_of_this_team(client_for, cleo, zoe, sam, hers):
    assert client_for(cleo).get(BULK).status_code == 405
    for stranger in (zoe, sam):
        assert act(client_for(stranger), "like", ids(hers)).status_code == 404
    assert act(client_for(None), "like", ids(hers)).status_code == 302
    assert not Favourite.objects.exists()


def test_more_pictures_ask_only_some_queries_more(client_for, cleo, north, django_assert_max_num_queries):
    tasks = [factories.make_task(north, user=cleo, state="done") for _ in range(40)]
    client = client_for(cleo)
    act(client, "like", str(tasks[0].pk))
    with django_assert_max_num_queries(20):
        act(client, "like", ids(tasks))


# --- Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "extension"), [("zip", "zip"), ("manifest-csv", "csv"), ("manifest-json", "json")])
def test_a_file_is_made_by_an_actor(client_for, eve, hers, kind, extension, monkeypatch):
    kicked = []
    monkeypatch.setattr(actors, "kick_export", kicked.append)
    answer = act(client_for(eve), kind, ids(hers))
    export = Export.objects.get()
    assert answer["Location"] == "/t/north/exports/"
    assert kicked == [export.pk]
    assert (export.kind, export.rows_total, export.query) == (kind, 3, {"ids": [task.pk for task in hers]})
    assert export.name.startswith("north-")
    assert export.name.endswith(f".{extension}")


def test_the_script_is_told_where_the_file_will_be(client_for, eve, hers):
    page = client_for(eve).post(BULK, {"verb": "zip", "ids": ids(hers)}, headers=HTMX).content.decode()
    assert "a zip of 3 pictures" in page
    assert 'href="/t/north/exports/"' in page


def test_a_person_has_so_many_files_under_way(client_for, eve, hers):
    client = client_for(eve)
    for number in range(exports.LIVE_MAX):
        act(client, "zip", str(hers[number].pk))
    assert "Wait until one is ready" in said(act(client, "zip", ids(hers)))


def test_more_than_fits_into_a_file_is_refused(client_for, eve, hers, monkeypatch):
    monkeypatch.setattr("flux2web.files.ZIP_MAX_BYTES", 100)
    assert "Choose fewer" in said(act(client_for(eve), "zip", ids(hers)))
    assert not Export.objects.exists()


def test_who_was_made_a_viewer_still_gets_the_pictures(client_for, cleo, membership, north, hers):
    client = client_for(cleo)
    act(client, "zip", ids(hers))
    row = membership(cleo, north)
    row.role = Role.VIEWER
    row.save()
    export = Export.objects.get()
    exports.run(export.pk)
    assert client.get(f"/t/north/exports/{export.pk}/")["Content-Type"] == "application/zip"
