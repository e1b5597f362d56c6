"""The library of images: found, named, thrown out, opened to the outside, checked; and what is wrong with what comes in."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from flux2web import audit, http, imaging, references, search, storage
from flux2web.models import Hosting, Reference, State

from . import factories
from .pictures import picture, upload

LIBRARY = "/t/north/references/"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def vase(north, cleo):
    return factories.make_reference(north, user=cleo, name="Vase.png")


@pytest.fixture
def me(cleo, north, membership):
    return membership(cleo, north)


def names(answer) -> list[str]:
    return re.findall(r'<strong class="clip">([^<]*)</strong>', answer.content.decode())


def text(answer) -> str:
    return answer.content.decode()


# --- All of them -----------------------------------------------------------------------------------------------------------


def test_the_library_shows_every_image_the_newest_first_and_how_often_it_was_used(client_for, dan, north, cleo, vase):
    newer = factories.make_reference(north, name="Jug.png")
    factories.make_reference(north, name="Gone.png", deleted_at=timezone.now())
    for _ in range(2):
        factories.make_task(north, user=cleo, references=[vase])
    answer = client_for(dan).get(LIBRARY)
    assert names(answer) == ["Jug.png", "Vase.png"]
    assert "used 2 times" in text(answer)
    assert "not used yet" in text(answer)
    assert f"?references={newer.pk}&amp;what=image" in text(answer)


def test_it_is_read_page_by_page_with_as_many_queries_for_many_as_for_few(
    client_for, dan, north, vase, django_assert_max_num_queries, monkeypatch
):
    monkeypatch.setattr(references, "PAGE", 3)
    for number in range(7):
        factories.make_reference(north, name=f"image {number}")
    client, address, seen = client_for(dan), LIBRARY, []
    client.get(address)
    while address:
        with django_assert_max_num_queries(12):
            answer = client.get(address)
        seen += names(answer)
        following = re.search(r'href="(\?cursor=[^"]+)"', text(answer))
        address = following and LIBRARY + following[1].replace("&amp;", "&")
    assert seen == [f"image {number}" for number in reversed(range(7))] + ["Vase.png"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("vase", ["Vase.png"]),
        ("PNG vas", ["Vase.png"]),
        ("élan", ["ÉLAN.jpg"]),
        ("Élan", ["ÉLAN.jpg"]),
        ("100%", ["100% wool"]),
        ("a_e", []),
        ("%", ["100% wool"]),
        ("jug", []),
        ("", ["100% wool", "ÉLAN.jpg", "Vase.png"]),
    ],
)
def test_it_is_searched_by_name(client_for, dan, north, vase, asked, found):
    factories.make_reference(north, name="ÉLAN.jpg")
    factories.make_reference(north, name="100% wool")
    assert names(client_for(dan).get(LIBRARY, {"q": asked})) == found


@pytest.mark.parametrize("bad", [{"q": "\0"}, {"q": "x" * 5000}, {"cursor": "yesterday"}, {"cursor": "2026-02-30,1"}])
def test_nonsense_in_its_address_is_no_error(client_for, dan, vase, bad):
    assert client_for(dan).get(LIBRARY, bad).status_code == 200
    assert client_for(dan).get(f"{LIBRARY}pick/", bad).status_code == 200
    assert client_for(dan).get(f"{LIBRARY}pick/", bad | {"of": "history"}).status_code == 200


def test_a_viewer_looks_and_is_offered_nothing_to_do(client_for, eve, vase):
    for address in (LIBRARY, f"{LIBRARY}{vase.pk}/"):
        page = text(client_for(eve).get(address))
        assert "Vase.png" in page
        assert 'type="file"' not in page
        assert "what=image" not in page
        assert "/delete/" not in page


def test_the_picker_shows_nobody_the_private_pictures_of_others(client_for, cleo, dan, north):
    hidden = factories.make_task(north, user=dan, state=State.DONE, private=True)
    assert f"from/{hidden.pk}/" not in text(client_for(cleo).get(f"{LIBRARY}pick/?of=history"))
    assert f"from/{hidden.pk}/" in text(client_for(dan).get(f"{LIBRARY}pick/?of=history"))


# --- Coming in -------------------------------------------------------------------------------------------------------------


def test_from_the_librarys_page_the_good_ones_of_nine_files_are_kept(client_for, cleo, north):
    files = [upload(picture(f"#{n}0a0c0"), name=f"{n}.png") for n in range(1, 9)] + [upload(name="9.png")]
    files[3] = upload(b"Dear diary", name="4.png")
    answer = client_for(cleo).post(LIBRARY, {"file": files, "back": "library"}, follow=True)
    page = text(answer)
    assert Reference.objects.count() == 7
    assert "7 images kept." in page
    assert "4.png: This file is text." in page
    assert "8 at once: 9.png was not taken." in page


def test_what_is_too_large_is_shrunk_only_for_who_agrees(client_for, cleo, north):
    large = picture("teal", (80, 60)) + bytes(11 * 2**20)
    refused = client_for(cleo).post(LIBRARY, {"file": upload(large, name="large.png")}, headers=HTMX)
    assert refused.status_code == 422
    assert "more than 10 MB" in text(refused)
    taken = client_for(cleo).post(LIBRARY, {"file": upload(large, name="large.png"), "shrink": "1"}, headers=HTMX)
    assert taken.status_code == 200
    assert Reference.objects.get().size_bytes <= imaging.UPLOAD_MAX_BYTES


def test_a_phones_photo_becomes_a_jpeg(client_for, cleo, north):
    heic = picture("plum", (64, 48), "HEIF")
    assert (
        client_for(cleo).post(LIBRARY, {"file": upload(heic, "IMG_1.HEIC", "image/heic")}, headers=HTMX).status_code
        == 200
    )
    assert Reference.objects.get().mime == "image/jpeg"


def test_an_order_of_foreign_deleted_and_missing_images_moves_no_credit(client_for, cleo, north, south):
    factories.make_account()
    deleted = factories.make_reference(north, deleted_at=timezone.now())
    foreign = factories.make_reference(south)
    for pk in (deleted.pk, foreign.pk, 99999999, "9" * 40, "x"):
        form = {"prompt": "A vase", "family": "pro", "aspect_ratio": "1:1", "resolution": "1K", "count": "1"}
        answer = client_for(cleo).post("/t/north/tasks/", form | {"references": pk, "key": f"k{pk}"}, headers=HTMX)
        assert answer.status_code in (409, 422), pk
        assert "Image 1 is not here any more" in text(answer)
    assert not north.tasks.exists()


def test_a_picture_of_the_teams_becomes_an_image_in_a_slot(client_for, cleo, north):
    task = factories.make_task(north, user=cleo, state=State.DONE)
    answer = client_for(cleo).post(f"{LIBRARY}from/{task.pk}/", headers=HTMX)
    row = Reference.objects.get()
    assert f'name="references" value="{row.pk}"' in text(answer)
    assert row.name == f"picture-{task.pk}.png"
    default_storage.delete(task.result.key)
    lost = client_for(cleo).post(f"{LIBRARY}from/{task.pk}/", headers=HTMX)
    assert (lost.status_code, 'data-state="refused"' in text(lost)) == (422, True)


# --- One of them -----------------------------------------------------------------------------------------------------------


def test_it_gets_another_name_of_which_nothing_is_markup(client_for, cleo, vase):
    client = client_for(cleo)
    client.post(f"{LIBRARY}{vase.pk}/rename/", {"name": "  <b>Blue</b>   vase "})
    vase.refresh_from_db()
    assert vase.name == "<b>Blue</b> vase"
    assert "&lt;b&gt;Blue" in text(client.get(f"{LIBRARY}{vase.pk}/"))


def test_its_new_name_finds_the_pictures_made_from_it_and_the_old_one_no_more(client_for, cleo, north, vase):
    client = client_for(cleo)
    task = factories.make_task(north, user=cleo, state="done", references=[vase])
    for name, found in (("amphora", [task.pk]), ("bowl", [])):
        client.post(f"{LIBRARY}{vase.pk}/rename/", {"name": name})
        assert search.find(north.pk, search.parse("amphora")) == found


@pytest.mark.parametrize(("name", "said"), [("", "Give the image a name."), ("x" * 121, "has 121"), (" \0 ", "name")])
def test_a_name_that_does_not_do_is_refused_and_kept_in_the_field(client_for, cleo, vase, name, said):
    answer = client_for(cleo).post(f"{LIBRARY}{vase.pk}/rename/", {"name": name})
    assert answer.status_code == 422
    assert said in text(answer)
    vase.refresh_from_db()
    assert vase.name == "Vase.png"


def test_thrown_out_it_leaves_the_library_and_the_form_but_not_the_pictures_made_from_it(client_for, cleo, north, vase):
    task = factories.make_task(north, user=cleo, state=State.DONE, references=[vase])
    client = client_for(cleo)
    answer = client.post(f"{LIBRARY}{vase.pk}/delete/", follow=True)
    assert "is out of the library" in text(answer)
    assert names(answer) == []
    assert client.get(f"{LIBRARY}{vase.pk}/slot/").status_code == 404
    assert client.get(f"{LIBRARY}{vase.pk}/thumb").status_code == 200
    assert f"references/{vase.pk}/thumb" in text(client.get(f"/t/north/tasks/{task.pk}/"))
    client.post(f"{LIBRARY}{vase.pk}/delete/")
    assert not [finding for finding in audit.files() if finding.message.startswith("reference ")]
    client.post(f"{LIBRARY}{vase.pk}/restore/")
    assert names(client.get(LIBRARY)) == ["Vase.png"]


def test_the_audit_misses_the_file_of_a_deleted_image_only_while_a_picture_shows_it(north, cleo):
    shown, unused = (factories.make_reference(north, deleted_at=timezone.now()) for _ in range(2))
    factories.make_task(north, user=cleo, references=[shown])
    for row in (shown, unused):
        default_storage.delete(row.key)
    told = [finding.message for finding in audit.files() if finding.message.startswith("reference ")]
    assert len(told) == 1
    assert f"reference {shown.pk} " in told[0]


# --- Open addresses --------------------------------------------------------------------------------------------------------


def opened(client, vase) -> Hosting:
    client.post(f"{LIBRARY}{vase.pk}/addresses/")
    return Hosting.objects.select_related("reference").latest("pk")


def test_an_address_is_opened_for_some_hours_and_closed_at_once(client_for, client, cleo, vase, settings):
    hosting = opened(client_for(cleo), vase)
    path = storage.hosting_path(hosting)
    assert abs(hosting.closes_at - timezone.now() - timedelta(seconds=settings.HOSTED_OPEN_S)) < timedelta(minutes=1)
    assert client.get(path).status_code == 200
    page = text(client_for(cleo).get(f"{LIBRARY}{vase.pk}/"))
    assert f"http://testserver{path}" in page
    assert "whoever holds one sees the image without signing in" in page
    closed = client_for(cleo).post(f"{LIBRARY}{vase.pk}/addresses/{hosting.pk}/close/", headers=HTMX)
    assert "Closed." in text(closed)
    assert path not in text(closed)
    assert client.get(path).status_code == 404


def test_no_address_is_closed_while_a_picture_needs_it(client_for, client, cleo, north, vase):
    task = factories.make_task(north, user=cleo, state=State.RUNNING, references=[vase])
    hosting = factories.make_hosting(vase, task)
    answer = client_for(cleo).post(f"{LIBRARY}{vase.pk}/addresses/{hosting.pk}/close/", headers=HTMX)
    assert "A picture is being made from this image" in text(answer)
    assert "Open while a picture is being made from it" in text(answer)
    assert f"addresses/{hosting.pk}/close/" not in text(answer)
    client_for(cleo).post(f"{LIBRARY}{vase.pk}/delete/")
    assert client.get(storage.hosting_path(hosting)).status_code == 200


def test_what_a_picture_does_not_need_any_more_closes_early_and_with_the_image(client_for, client, cleo, north, vase):
    ended = factories.make_task(north, user=cleo, state=State.DONE, references=[vase])
    later = timezone.now() + timedelta(hours=5)
    hosting, mine = factories.make_hosting(vase, ended, closes_at=later), opened(client_for(cleo), vase)
    client_for(cleo).post(f"{LIBRARY}{vase.pk}/delete/")
    for row in (hosting, mine):
        assert client.get(storage.hosting_path(row)).status_code == 404


def test_only_so_many_addresses_of_one_image_are_open(client_for, cleo, vase):
    for _ in range(references.OPEN_MAX + 1):
        answer = client_for(cleo).post(f"{LIBRARY}{vase.pk}/addresses/", headers=HTMX)
    assert "Close one first." in text(answer)
    assert Hosting.objects.count() == references.OPEN_MAX


def test_an_address_that_has_closed_is_not_checked(client_for, cleo, vase, settings):
    settings.PUBLIC_URL = "https://studio.example.com"
    hosting = opened(client_for(cleo), vase)
    client_for(cleo).post(f"{LIBRARY}{vase.pk}/addresses/{hosting.pk}/close/")
    answer = client_for(cleo).post(f"{LIBRARY}{vase.pk}/addresses/{hosting.pk}/check/", headers=HTMX)
    assert "has closed meanwhile" in text(answer)


# --- Can it be fetched? ----------------------------------------------------------------------------------------------------


def failing(message: str, kind: str):
    def fetch(url, **options):
        raise http.FetchFailed(message, kind)

    return fetch


@pytest.fixture
def check(client_for, cleo, vase, settings, monkeypatch):
    """check(fetch) presses the button of an address where fetching it ends so; what is said."""
    settings.PUBLIC_URL = "https://studio.example.com"
    hosting = opened(client_for(cleo), vase)

    def press(fetch) -> str:
        monkeypatch.setattr(http, "fetch", fetch)
        answer = client_for(cleo).post(f"{LIBRARY}{vase.pk}/addresses/{hosting.pk}/check/", headers=HTMX)
        assert answer.status_code == 200
        return text(answer)

    return press


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        ("studio.example.com answered 404.", "gone", "what begins with /i/"),
        (
            "studio.example.com cannot be reached (certificate verify failed).",
            "unreachable",
            "Its certificate is not one",
        ),
        ("studio.example.com did not take the connection in time.", "unreachable", "cannot be reached from elsewhere"),
        ("studio.example.com leads into a private network.", "refused", "from another network"),
    ],
)
def test_the_check_says_what_it_met_and_what_to_do(check, message, kind, said):
    page = check(failing(message, kind))
    assert message in page
    assert said in page
    assert "Sending is not stopped by this check." in page


def test_the_check_is_fine_only_where_this_very_image_came(check, vase):
    assert "Something else than this image" in check(lambda url, **_: b"<html>Sign in</html>")
    data = picture("teal")
    Reference.objects.filter(pk=vase.pk).update(sha256=imaging._picture(data, "PNG", (60, 40)).sha256)
    asked = []
    assert "Fine: the image came" in check(lambda url, **_: asked.append(url) or data)
    assert asked[0].startswith("https://studio.example.com/i/")


def test_a_team_checks_only_so_often(check):
    for _ in range(references.TRIES_MAX):
        assert "answered 404" in check(failing("studio.example.com answered 404.", "gone"))
    assert "Try again in a minute." in check(failing("studio.example.com answered 404.", "gone"))


def test_without_a_public_address_there_is_no_check(client_for, cleo, vase):
    hosting = opened(client_for(cleo), vase)
    assert "can be fetched" not in text(client_for(cleo).get(f"{LIBRARY}{vase.pk}/"))
    answer = client_for(cleo).post(f"{LIBRARY}{vase.pk}/addresses/{hosting.pk}/check/", headers=HTMX)
    assert "This site has no public address" in text(answer)
