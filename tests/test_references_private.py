"""An image made from a picture that is "Only me" stays with its author until that author shows it: wherever one looks."""

from __future__ import annotations

from html import unescape
from importlib import import_module
from io import BytesIO

import pytest
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext

from flux2web import access, files, lifecycle, references, search, shelf, twins
from flux2web.models import (
    Batch,
    CreditRequest,
    Draft,
    Membership,
    Reference,
    Result,
    SavedPrompt,
    State,
    Task,
    TaskReference,
)
from flux2web.orders import Order, Refusal

from . import factories
from .pictures import picture

LIBRARY = "/t/north/references/"
HTMX = {"HX-Request": "true"}


def page(client, url: str, **given) -> str:
    answer = client.get(url, given)
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def drawn(task: Task, colour: str) -> Task:
    """Its result is a picture of one colour."""
    Result.objects.filter(task=task).update(key=factories.store(f"results/{colour}.png", picture(colour)))
    return task


@pytest.fixture
def seller(db, settings):
    """Somebody who would take the order."""
    settings.PUBLIC_URL = "https://studio.example.com"
    return factories.make_account("revid")


@pytest.fixture
def hidden(north, cleo):
    """Cleo's own picture."""
    task = factories.make_task(north, user=cleo, state=State.DONE, private=True, prompt="My secret garden")
    return drawn(task, "teal")


@pytest.fixture
def image(client_for, cleo, hidden):
    """What Cleo made of it, under a name that tells something."""
    client_for(cleo).post(f"{LIBRARY}from/{hidden.pk}/")
    row = Reference.objects.get()
    Reference.objects.filter(pk=row.pk).update(name="Birthday surprise")
    row.refresh_from_db()
    return row


@pytest.fixture
def shown(north, cleo, image):
    """A picture that the team sees, made from it."""
    task = factories.make_task(north, user=cleo, state=State.DONE, references=[image], prompt="Heron with balloons")
    return task


@pytest.mark.parametrize("way", ["references/from/{}/", "tasks/{}/use/"])
def test_what_is_made_from_a_private_picture_is_private_and_from_a_shared_one_is_not(
    client_for, cleo, north, hidden, way
):
    client_for(cleo).post(f"/t/north/{way.format(hidden.pk)}")
    assert Reference.objects.get().private
    open_ = drawn(factories.make_task(north, user=cleo, state=State.DONE), "red")
    client_for(cleo).post(f"/t/north/{way.format(open_.pk)}")
    assert not Reference.objects.latest("pk").private


def test_made_anew_after_its_picture_became_private_it_is_private(client_for, cleo, north):
    task = drawn(factories.make_task(north, user=cleo, state=State.DONE), "red")
    client_for(cleo).post(f"{LIBRARY}from/{task.pk}/")
    Task.objects.filter(pk=task.pk).update(private=True)
    client_for(cleo).post(f"{LIBRARY}from/{task.pk}/")
    assert [row.private for row in Reference.objects.order_by("pk")] == [False, True]


def test_shown_to_the_team_it_is_found_by_its_name(client_for, cleo, dan, membership, north, image, shown):
    search.put(shelf.words_of([shown]))
    dans = client_for(membership(dan, north).user)
    assert "Heron with balloons" not in page(dans, "/t/north/history/", q="birthday")
    client_for(cleo).post(f"{LIBRARY}{image.pk}/share/")
    assert "Heron with balloons" in page(dans, "/t/north/history/", q="birthday")


def test_its_author_sees_it_in_the_library_the_picker_and_by_its_id_and_nobody_else_does(cast, client_for, image):
    for name, status in (("cleo", 200), ("dan", 404), ("ben", 404), ("ana", 404)):
        client = client_for(cast[name])
        for where in (LIBRARY, f"{LIBRARY}pick/"):
            assert ("Birthday surprise" in page(client, where)) == (name == "cleo"), (name, where)
        for part in ("", "slot/", "thumb", "full"):
            assert client.get(f"{LIBRARY}{image.pk}/{part}").status_code == status, (name, part)
        for verb in ("rename/", "restore/", "addresses/", "delete/"):
            if name != "cleo":
                assert client.post(f"{LIBRARY}{image.pk}/{verb}", {"name": "x"}).status_code == 404, (name, verb)


def test_its_author_shows_it_to_the_team_and_only_its_author_can(client_for, cast, image):
    share = f"{LIBRARY}{image.pk}/share/"
    for name, status in (("dan", 404), ("ana", 404)):
        assert client_for(cast[name]).post(share).status_code == status
    cleos = client_for(cast["cleo"])
    assert "Only you see this image" in page(cleos, f"{LIBRARY}{image.pk}/")
    assert cleos.post(share).status_code == 302
    assert "Birthday surprise" in page(client_for(cast["dan"]), LIBRARY)
    assert "Only you see this image" not in page(cleos, f"{LIBRARY}{image.pk}/")
    assert cleos.post(share).status_code == 302  # pressed twice


def test_a_shared_image_is_shared_by_its_uploader_alone(client_for, cast, north):
    row = factories.make_reference(north, user=cast["cleo"])
    assert client_for(cast["ben"]).post(f"{LIBRARY}{row.pk}/share/").status_code == 403


def test_nobody_else_can_put_it_into_an_order(seller, membership, cast, north, image):
    order = Order("A heron", "pro", "1:1", "1K", references=(image.pk,))
    refusal = lifecycle.create(membership(cast["dan"], north), order, key="k", price_seen=None)
    assert isinstance(refusal, Refusal)
    assert refusal.kind == "reference"
    assert isinstance(lifecycle.create(membership(cast["cleo"], north), order, key="k", price_seen=None), Batch)


def test_who_tries_again_what_was_made_from_it_is_told_that_only_its_author_sees_it(
    seller, membership, cast, north, image
):
    task = factories.make_task(north, user=cast["cleo"], state=State.FAILED, references=[image])
    refusal = lifecycle.retry(membership(cast["dan"], north), task)
    assert "Image 1 is one that only its author sees" in refusal.message
    assert isinstance(lifecycle.retry(membership(cast["cleo"], north), task), Batch)


def test_a_batch_that_was_made_from_it_is_its_authors_to_try_again(seller, membership, cast, north, image):
    batch = factories.make_batch(north, cast["cleo"])
    for _ in range(2):
        factories.make_task(north, user=cast["cleo"], state=State.FAILED, batch=batch, references=[image])
    dan, cleo = (membership(cast[name], north) for name in ("dan", "cleo"))
    assert lifecycle.retry_failed_price(dan, batch) is None
    assert isinstance(lifecycle.retry_failed(dan, batch, price_seen=None), Refusal)
    assert lifecycle.retry_failed(cleo, batch, price_seen=None).tasks.count() == 2


def test_others_see_that_a_picture_has_an_image_and_not_which(client_for, cast, shown, north, image):
    dans = client_for(cast["dan"])
    there = page(dans, f"/t/north/tasks/{shown.pk}/")
    assert "Birthday surprise" not in there
    assert f"references/{image.pk}/" not in there
    assert "that only its author sees" in there
    assert "Birthday surprise" in page(client_for(cast["cleo"]), f"/t/north/tasks/{shown.pk}/")
    other = factories.make_task(north, user=cast["dan"], state=State.DONE, parent=shown)
    for url in (f"/t/north/tasks/{other.pk}/", f"/t/north/compare/?ids={shown.pk},{other.pk}"):
        answer = dans.get(url)
        assert answer.status_code == 200
        assert "Birthday surprise" not in answer.content.decode()


def test_lists_that_others_take_away_do_not_name_it(membership, cast, north, shown, tmp_path):
    for name, says in (("dan", False), ("cleo", True)):
        path = tmp_path / f"{name}.csv"
        files.write_csv(membership(cast[name], north), {"ids": [shown.pk]}, path, lambda done: None)
        assert ("Birthday surprise" in path.read_text()) == says


def test_nobody_finds_a_picture_by_its_name(seller, membership, cast, north, image):
    order = Order("A heron", "pro", "1:1", "1K", references=(image.pk,))
    lifecycle.create(membership(cast["cleo"], north), order, key="k", price_seen=None)
    task = TaskReference.objects.get(reference=image).task
    assert search.find(north.pk, search.parse("birthday")) == []
    search.put(shelf.words_of([task]))
    assert search.find(north.pk, search.parse("birthday")) == []
    assert search.find(north.pk, search.parse("heron")) == [task.pk]


def test_a_team_admin_who_answers_a_request_does_not_see_it(client_for, cast, north, image):
    draft = {"prompt": "A", "family": "pro", "aspect_ratio": "1:1", "resolution": "1K", "references": [image.pk]}
    CreditRequest.objects.create(team=north, user=cast["cleo"], key="k", limit="member", amount=5, draft=draft)
    assert f"references/{image.pk}/" not in page(client_for(cast["ben"]), "/t/north/requests/")


def test_a_use_is_counted_for_who_sees_the_picture(client_for, cast, north):
    row = factories.make_reference(north, user=cast["dan"], name="Vase")
    factories.make_task(north, user=cast["cleo"], references=[row], private=True)
    factories.make_task(north, user=cast["cleo"], references=[row])
    for name, times in (("dan", "1 time"), ("cleo", "2 times")):
        assert f"used {times}<" in page(client_for(cast[name]), LIBRARY)
        assert f"<dd>{times}</dd>" in page(client_for(cast[name]), f"{LIBRARY}{row.pk}/")


def test_no_one_learns_by_a_guessed_id_what_it_shows(membership, cast, north, image):
    """A twin of an order is a picture with the same images: asked with another's image, nothing is a twin."""
    mine = factories.make_reference(north, user=cast["dan"], sha256=image.sha256)
    factories.make_task(north, user=cast["dan"], state=State.DONE, prompt="A heron", references=[mine])
    order = Order("A heron", "pro", "1:1", "1K", references=(image.pk,))
    search.put(shelf.words_of(access.tasks(membership(cast["dan"], north))))
    assert twins.find(membership(cast["dan"], north), order, key="k") is None


def test_the_same_file_uploaded_by_somebody_else_is_an_image_of_its_own(client_for, cast, image):
    data = BytesIO(picture("teal"))
    data.name = "teal.png"
    client_for(cast["dan"]).post(LIBRARY, {"file": data})
    assert "teal.png" in page(client_for(cast["ben"]), LIBRARY)


def test_those_that_were_made_before_are_hidden_when_the_site_is_brought_up_to_date(north, cleo, hidden):
    old = factories.make_reference(north, user=cleo, name=f"picture-{hidden.pk}.png")
    shared = factories.make_reference(north, user=cleo, name="picture-99999999.png")
    import_module("flux2web.migrations.0011_private_images").hide(apps, None)
    assert set(Reference.objects.filter(private=True)) == {old}
    assert not Reference.objects.get(pk=shared.pk).private


def test_what_its_author_shows_stays_named_for_all(membership, cast, north, image):
    references.share(membership(cast["cleo"], north), image)
    assert access.references(membership(cast["dan"], north)).filter(pk=image.pk).exists()


# --- A picture that becomes private after images were made from it -----------------------------------------------------------


@pytest.fixture
def open_picture(north, cleo) -> Task:
    """Cleo's, that the team sees."""
    return drawn(factories.make_task(north, user=cleo, state=State.DONE), "plum")


@pytest.fixture
def from_it(client_for, cast, open_picture):
    """from_it("dan") is what Dan made from it."""

    def make(name: str) -> Reference:
        client_for(cast[name]).post(f"{LIBRARY}from/{open_picture.pk}/")
        return Reference.objects.latest("pk")

    return make


@pytest.fixture
def seen(client_for, cleo, open_picture):
    """seen(private=1) is what Cleo is told who says who sees it."""

    def say(private: int) -> str:
        url = f"/t/north/tasks/{open_picture.pk}/visibility/"
        return unescape(client_for(cleo).post(url, {"private": private}, headers=HTMX).content.decode())

    return say


def is_hidden(image: Reference) -> bool:
    return Reference.objects.get(pk=image.pk).private


def test_what_its_author_made_from_it_is_private_with_it_and_stays_so_when_it_is_shown(cast, client_for, from_it, seen):
    image = from_it("cleo")
    said = seen(private=1)
    assert "Only you see this picture now." in said
    assert "stay" not in said
    assert is_hidden(image)
    assert client_for(cast["dan"]).get(f"{LIBRARY}{image.pk}/").status_code == 404
    assert "sees this picture now." in seen(private=0)
    assert is_hidden(image)


def in_a_picture(team, user, image):
    factories.make_task(team, user=user, state=State.FAILED, references=[image])


def on_the_shelf(team, user, image):
    SavedPrompt.objects.create(team=team, user=user, title="Plum", text="A plum", references=[image.pk])


def in_a_draft(team, user, image):
    Draft.objects.create(team=team, user=user, values={"prompt": "A", "references": [str(image.pk)]})


def in_a_request(team, user, image):
    draft = {"prompt": "A", "references": [image.pk]}
    CreditRequest.objects.create(team=team, user=user, key=str(user), limit="member", amount=5, draft=draft)


@pytest.mark.parametrize("use", [in_a_picture, on_the_shelf, in_a_draft, in_a_request])
def test_what_others_use_stays_and_its_author_is_told_and_what_only_the_author_uses_does_not(
    cast, north, from_it, seen, use
):
    image = from_it("cleo")
    use(north, cast["cleo"], image)
    assert "stay" not in seen(private=1)
    assert is_hidden(image)
    Reference.objects.update(private=False)
    seen(private=0)
    use(north, cast["dan"], image) if use is not on_the_shelf else SavedPrompt.objects.update(user=cast["dan"])
    assert "1 image made from what you hid stays with the team: others use it." in seen(private=1)
    assert not is_hidden(image)


def test_what_others_made_from_it_is_theirs_and_is_counted(from_it, seen):
    own, dans, bens = (from_it(name) for name in ("cleo", "dan", "ben"))
    assert "2 images made from what you hid stay with the team: others use them." in seen(private=1)
    assert [is_hidden(image) for image in (own, dans, bens)] == [True, False, False]
    seen(private=0)
    Reference.objects.filter(pk=bens.pk).update(private=True)
    assert "1 image made from what you hid stays" in seen(private=1)


def test_what_other_releases_left_in_drafts_and_on_the_shelf_is_nobodys_use(cast, north, from_it, seen):
    image = from_it("cleo")
    for number, odd in enumerate((None, 7, "12", {"a": 1}, [None, {}, "x"])):
        SavedPrompt.objects.create(team=north, user=cast["dan"], title=str(number), text="A plum", references=odd or [])
        Draft.objects.update_or_create(team=north, user=cast["dan"], defaults={"values": {"references": odd}})
        seen(private=1)
        assert is_hidden(image)
        Reference.objects.update(private=False)
        seen(private=0)


def test_many_pictures_made_private_at_once_take_their_images_along(client_for, cast, north, open_picture, from_it):
    other = drawn(factories.make_task(north, user=cast["cleo"], state=State.DONE), "olive")
    image = from_it("cleo")
    client_for(cast["cleo"]).post(f"{LIBRARY}from/{other.pk}/")
    used = Reference.objects.latest("pk")
    in_a_picture(north, cast["dan"], used)
    dans = factories.make_task(north, user=cast["dan"], state=State.DONE)
    ids = [open_picture.pk, other.pk, dans.pk]
    answer = client_for(cast["cleo"]).post("/t/north/history/bulk/", {"verb": "private", "ids": ids}, headers=HTMX)
    said = unescape(answer.content.decode())
    assert "2 seen by you only, 1 belongs to others. 1 image made from what you hid stays with the team" in said
    assert [is_hidden(image), is_hidden(used)] == [True, False]


def test_a_hidden_image_finds_nothing_by_its_name(cast, client_for, north, from_it, seen):
    image = from_it("cleo")
    Reference.objects.filter(pk=image.pk).update(name="Birthday surprise")
    shown = factories.make_task(
        north, user=cast["cleo"], state=State.DONE, references=[Reference.objects.get(pk=image.pk)], prompt="Heron"
    )
    assert search.find(north.pk, search.parse("birthday")) == [shown.pk]
    seen(private=1)
    assert search.find(north.pk, search.parse("birthday")) == []
    there = page(client_for(cast["dan"]), f"/t/north/tasks/{shown.pk}/")
    assert "Birthday surprise" not in there
    assert "that only its author sees" in there


def test_who_makes_an_image_at_the_moment_at_which_its_picture_is_hidden_has_a_hidden_one(
    membership, cast, north, open_picture, seen
):
    stale = Result.objects.select_related("task").get(task=open_picture)
    seen(private=1)
    assert references.from_result(membership(cast["cleo"], north), stale).private


def test_hiding_asks_as_often_for_many_pictures_as_for_few(cast, north):
    member = Membership.objects.select_related("team", "user").get(user=cast["cleo"])

    def asked(many: int) -> int:
        tasks = [factories.make_task(north, user=cast["cleo"], state=State.DONE) for _ in range(many)]
        for task in tasks:
            factories.make_reference(north, user=cast["cleo"], made_from=task)
            on_the_shelf_of_dan = {"team": north, "user": cast["dan"], "text": "A plum", "references": [0]}
            SavedPrompt.objects.create(title=f"Plum {task.pk}", **on_the_shelf_of_dan)
        with CaptureQueriesContext(connection) as queries:
            shelf.set_private(member, tasks, private=True)
        return len(queries)

    assert asked(1) == asked(12)
    assert not Reference.objects.filter(private=False).exists()


def test_an_upload_that_is_used_as_an_image_once_more_is_known_to_be_that_picture(
    client_for, cleo, open_picture, from_it
):
    image = from_it("cleo")
    Reference.objects.filter(pk=image.pk).update(
        made_from=None, name="hero.png"
    )  # as an upload, or of an older release
    assert from_it("cleo").pk == image.pk
    assert Reference.objects.get(pk=image.pk).made_from == open_picture


def test_where_images_were_made_from_is_known_of_old_ones_by_their_names(north, south, cleo, open_picture):
    old = factories.make_reference(north, user=cleo, name=f"picture-{open_picture.pk}.png")
    for team, name in ((south, old.name), (north, "picture-99999999.png"), (north, "picture-x.png")):
        factories.make_reference(team, name=name)
    import_module("flux2web.migrations.0019_image_origins").remember(apps, None)
    assert list(Reference.objects.exclude(made_from=None).values_list("pk", "made_from")) == [(old.pk, open_picture.pk)]
