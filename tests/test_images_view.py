"""Picture files: who gets them, under which headers, and who may bring some."""

from __future__ import annotations

import io
import threading
from datetime import timedelta
from xml.etree import ElementTree

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone
from PIL import Image

from flux2web import bus, imaging, lost, storage
from flux2web.models import Budget, Membership, Reference, Result, State, Task
from flux2web.views import images

from . import factories
from .pictures import HUGE_WEBP, picture, upload

UPLOAD = "/t/north/references/"
HTMX = {"HX-Request": "true"}


def content(answer) -> bytes:
    return b"".join(answer.streaming_content)


@pytest.fixture
def done(north):
    return factories.make_task(north, state="done")


@pytest.fixture
def reference(north):
    return factories.make_reference(north)


@pytest.fixture
def hosted(north, reference):
    """The path at which a live task's reference is open."""
    task = factories.make_task(north, state="running", references=[reference])
    return factories.make_hosting(reference, task)


# --- Results ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["original", "640", "320", "download"])
def test_members_get_results_and_only_their_browser_keeps_them(client_for, eve, done, variant):
    answer = client_for(eve).get(f"/t/north/results/{done.pk}/{variant}")
    assert answer.status_code == 200
    assert content(answer) == factories.PNG
    assert "private" in answer["Cache-Control"]
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Type"] == ("image/webp" if variant in ("640", "320") else "image/png")


def test_a_download_has_a_name(client_for, eve, done):
    answer = client_for(eve).get(f"/t/north/results/{done.pk}/download")
    assert answer["Content-Disposition"] == f'attachment; filename="flux2web-{done.pk}.png"'


def test_nobody_else_gets_results(client_for, zoe, sam, client, done):
    for stranger in (zoe, sam):
        assert client_for(stranger).get(f"/t/north/results/{done.pk}/original").status_code == 404
    assert client.get(f"/t/north/results/{done.pk}/original").status_code == 302
    assert client_for(zoe).get(f"/t/south/results/{done.pk}/original").status_code == 404


def test_what_is_not_there_is_404(client_for, eve, done, north):
    client = client_for(eve)
    assert client.get(f"/t/north/results/{done.pk}/1280").status_code == 404
    assert client.get(f"/t/north/results/{factories.make_task(north).pk}/original").status_code == 404
    default_storage.delete(done.result.key)
    assert client.get(f"/t/north/results/{done.pk}/original").status_code == 404


# --- References ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["thumb", "full"])
def test_members_see_their_teams_references(client_for, eve, zoe, reference, variant):
    address = f"/t/north/references/{reference.pk}/{variant}"
    assert content(client_for(eve).get(address)) == factories.PNG
    assert client_for(zoe).get(address).status_code == 404
    assert client_for(eve).get(f"/t/north/references/{reference.pk}/other").status_code == 404


def test_a_hosted_reference_is_open_to_whoever_holds_its_address(client, hosted):
    answer = client.get(storage.hosting_path(hosted))
    assert content(answer) == factories.PNG
    assert answer["Content-Type"] == "image/png"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer["Content-Disposition"] == "inline"
    assert not answer.cookies


def test_a_hosted_reference_answers_head(client, hosted):
    assert client.head(storage.hosting_path(hosted)).status_code == 200


def test_a_closed_unknown_or_renamed_address_is_404(client, hosted):
    assert client.get(f"/i/{hosted.token}.jpg").status_code == 404
    assert client.get(f"/i/{hosted.token}").status_code == 404
    assert client.get("/i/unknown.png").status_code == 404
    hosted.closes_at = timezone.now() - timedelta(seconds=1)
    hosted.save()
    assert client.get(storage.hosting_path(hosted)).status_code == 404


# --- Uploads ---------------------------------------------------------------------------------------------------------------


def test_an_upload_becomes_a_slot(client_for, cleo, north):
    answer = client_for(cleo).post(UPLOAD, {"file": upload(picture("teal", (80, 60)), name="a & b.png")}, headers=HTMX)
    row = Reference.objects.get()
    page = answer.content.decode()
    assert answer.status_code == 200
    assert f'name="references" value="{row.pk}"' in page
    assert "a &amp; b.png" in page
    assert (row.team, row.user, row.width_px, row.height_px) == (north, cleo, 80, 60)


def test_without_the_script_it_leads_to_a_studio_with_the_picture_in_a_slot(client_for, cleo, north):
    client = client_for(cleo)
    page = client.get(client.post(UPLOAD, {"file": upload()})["Location"]).content.decode()
    assert f'name="references" value="{Reference.objects.get().pk}"' in page


@pytest.mark.parametrize("bad", [b"Dear diary", HUGE_WEBP, picture()[:60], b"GIF89a"])
def test_what_is_no_picture_is_refused_by_name_and_reason(client_for, cleo, north, bad):
    answer = client_for(cleo).post(UPLOAD, {"file": upload(bad, name="notes.png")}, headers=HTMX)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert 'data-state="refused"' in page
    assert "notes.png: " in page
    assert not Reference.objects.exists()


def test_an_upload_without_a_file_is_refused(client_for, cleo, north):
    assert client_for(cleo).post(UPLOAD, headers=HTMX).status_code == 422


def test_when_storage_is_down_it_says_so_and_keeps_nothing(client_for, cleo, north, monkeypatch):
    def broken(*_):
        raise storage.StorageDown("OSError")

    monkeypatch.setattr(storage, "_put", broken)
    answer = client_for(cleo).post(UPLOAD, {"file": upload()}, headers=HTMX)
    assert answer.status_code == 422
    assert "cannot store pictures right now" in answer.content.decode()


def test_viewers_and_strangers_bring_nothing(client_for, eve, zoe, north):
    assert client_for(eve).post(UPLOAD, {"file": upload()}).status_code == 403
    assert client_for(zoe).post(UPLOAD, {"file": upload()}).status_code == 404
    assert not Reference.objects.exists()


# --- Pages that are not there ------------------------------------------------------------------------------------------------


def test_error_pages_say_what_happened_and_lead_back(client_for, cleo, eve, north, done):
    missing = client_for(cleo).get("/t/north/tasks/999999/")
    assert missing.status_code == 404
    assert "Nothing here" in missing.content.decode()
    refused = client_for(eve).post(f"/t/north/tasks/{done.pk}/retry/")
    assert refused.status_code == 403
    assert "Ask a team admin" in refused.content.decode()
    assert 'href="/"' in refused.content.decode()


def test_a_stale_page_is_told_apart_from_a_forbidden_one(client_for, cleo, north):
    answer = client_for(cleo, enforce_csrf_checks=True).post(UPLOAD, {"file": upload()})
    assert answer.status_code == 403
    assert "This page is out of date" in answer.content.decode()


def test_the_page_for_our_own_failures_needs_no_database(client_for, cleo, north, monkeypatch):
    client = client_for(cleo, raise_request_exception=False)
    monkeypatch.setattr("flux2web.queries.cards", lambda *_: 1 / 0)
    answer = client.get("/t/north/")
    assert answer.status_code == 500
    assert "Something broke" in answer.content.decode()


# --- To take away ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def owl(north, cleo):
    """A done task with a real picture, 60 by 40, as JPEG."""
    task = factories.make_task(north, user=cleo, state="done", prompt='An owl & "moon" <b>é', seed=7)
    content = imaging.clean_result(picture("teal", (60, 40), "JPEG"))
    result = task.result
    result.key, result.mime = factories.store(f"results/owl-{task.pk}.jpg", content.data), "image/jpeg"
    result.width_px, result.height_px = 60, 40
    result.save()
    return task


def taken(client, task, variant: str, query: str = ""):
    return client.get(f"/t/north/results/{task.pk}/{variant}{query}")


@pytest.mark.parametrize(("variant", "form", "extension"), [("png", "PNG", "png"), ("webp", "WEBP", "webp")])
def test_a_picture_is_taken_away_in_another_format(client_for, eve, owl, variant, form, extension):
    answer = taken(client_for(eve), owl, variant)
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == (form, (60, 40))
        assert not image.getexif()
        assert "xmp" not in image.info
    assert answer["Content-Type"] == f"image/{variant}"
    assert answer["Content-Disposition"] == f'attachment; filename="flux2web-{owl.pk}.{extension}"'
    assert "no-store" in answer["Cache-Control"]


def test_its_own_format_is_the_very_file(client_for, eve, owl):
    answer = taken(client_for(eve), owl, "jpeg")
    assert content(answer) == storage.read(owl.result.key)
    assert answer["Content-Disposition"] == f'attachment; filename="flux2web-{owl.pk}.jpg"'


@pytest.mark.parametrize("variant", ["download", "jpeg", "png", "webp"])
def test_the_settings_are_in_the_file_for_whoever_wants_them(client_for, eve, cleo, owl, variant):
    kept = storage.read(owl.result.key)
    answer = taken(client_for(eve), owl, variant, "?settings=1")
    with Image.open(io.BytesIO(answer.content)) as image:
        image.load()
        assert image.size == (60, 40)
        packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
        if variant == "png":
            assert "seed: 7" in image.text["parameters"]
    said = ElementTree.fromstring(packet)
    texts = [text.strip() for text in said.itertext() if text.strip()]
    assert texts[0] == 'An owl & "moon" <b>é'
    assert {"FLUX.2 pro", "4:3", "1K", "7", "revid", str(owl.pk)} <= set(texts)
    for somebody in (str(cleo), cleo.email, str(eve)):
        assert somebody.encode() not in answer.content
    assert storage.read(owl.result.key) == kept
    assert b"owl" not in kept


def test_the_same_pixels_with_settings_and_without(client_for, eve, owl):
    plain, worded = (taken(client_for(eve), owl, "png", query).content for query in ("", "?settings=1"))
    with Image.open(io.BytesIO(plain)) as one, Image.open(io.BytesIO(worded)) as other:
        assert one.tobytes() == other.tobytes()


def test_copies_are_made_for_members_only(client_for, zoe, sam, owl, north):
    for stranger in (zoe, sam):
        for variant in ("png", "jpeg", "download"):
            assert taken(client_for(stranger), owl, variant, "?settings=1").status_code == 404
    assert taken(client_for(zoe), owl, "gif").status_code == 404


def test_a_private_picture_is_only_its_authors_to_take(client_for, cleo, ben, owl):
    owl.private = True
    owl.save()
    assert taken(client_for(ben), owl, "png").status_code == 404
    assert taken(client_for(cleo), owl, "png").status_code == 200


def test_when_too_many_are_being_converted_it_says_so(client_for, eve, owl, monkeypatch):
    monkeypatch.setattr(images, "CONVERTING_WAIT_S", 0)
    monkeypatch.setattr(images, "_converting", threading.BoundedSemaphore(1))
    with images._converting:
        answer = taken(client_for(eve), owl, "png")
    assert (answer.status_code, answer["Retry-After"]) == (503, "10")
    assert "Try again in a moment" in answer.content.decode()
    assert taken(client_for(eve), owl, "png").status_code == 200


def test_a_copy_of_what_is_lost_or_unreadable_is_refused_in_words(client_for, eve, owl, monkeypatch):
    with monkeypatch.context() as down:
        down.setattr(storage, "open_file", lambda key: (_ for _ in ()).throw(OSError("down")))
        answer = taken(client_for(eve), owl, "png")
        assert (answer.status_code, b"cannot be read right now" in answer.content) == (503, True)
    default_storage.delete(owl.result.key)
    assert taken(client_for(eve), owl, "png").status_code == 404
    factories.store(owl.result.key, b"\xff\xd8\xff broken")
    assert taken(client_for(eve), owl, "png").status_code == 422


def test_a_picture_that_is_lost_says_so_where_it_would_be(client_for, eve, owl):
    for key in (owl.result.key, owl.result.key_320):
        default_storage.delete(key)
    for variant in ("original", "320"):
        answer = taken(client_for(eve), owl, variant)
        assert (answer.status_code, answer["Content-Type"]) == (404, "image/svg+xml")
        assert (b"no longer available" in answer.content, answer["Cache-Control"]) == (True, "no-store")
    assert taken(client_for(eve), owl, "640").status_code == 200
    for variant in ("download", "jpeg", "png", "download?settings=1"):
        answer = taken(client_for(eve), owl, variant)
        assert (answer.status_code, answer["Content-Type"].split(";")[0]) == (404, "text/html")
        assert "The original is no longer available" in answer.content.decode()


# --- Lost and found ----------------------------------------------------------------------------------------------------------


def told(task) -> tuple[bool, list[str], int]:
    """Whether its row says that it is lost, its events since it was done, and its version."""
    task = Task.objects.select_related("result").get(pk=task.pk)
    kinds = [event.kind for event in task.events.all() if event.kind not in State.values]
    return bool(task.result.lost_at), kinds, task.version


@pytest.fixture
def hints(settings):
    """Ids of the tasks whose cards were to be drawn anew, heard in this process."""
    settings.REDIS_URL = ""
    heard: list[int] = []
    stop = bus.subscribe(lambda hint: heard.append(hint.task_id) if hint.kind == "task" else None)
    yield heard
    stop()


@pytest.mark.parametrize("variant", ["original", "download", "png", "320"])
def test_whoever_opens_what_is_lost_writes_it_down_once(
    client_for, eve, owl, variant, hints, django_capture_on_commit_callbacks
):
    result, spent = owl.result, Budget.objects.get().spent
    data = storage.read(result.key)
    storage.delete_files([result.key, result.key_320])
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(2):
            taken(client_for(eve), owl, variant)
    assert told(owl) == (True, ["lost"], owl.version + 1)
    assert hints == [owl.pk]
    factories.store(result.key, data)
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(2):
            taken(client_for(eve), owl, variant)
    assert told(owl) == (False, ["lost", "found"], owl.version + 2)
    assert hints == [owl.pk] * 2
    assert Budget.objects.get().spent == spent


def test_what_is_left_of_a_lost_picture_is_its_small_copy_and_nobody_keeps_it(client_for, eve, zoe, owl):
    result = owl.result
    data = storage.read(result.key)
    default_storage.delete(result.key)
    taken(client_for(eve), owl, "original")
    answer = taken(client_for(eve), owl, "left")
    assert (content(answer), answer["Cache-Control"]) == (storage.read(result.key_640), "no-store")
    assert taken(client_for(zoe), owl, "left").status_code == 404
    default_storage.delete(result.key_640)
    assert content(taken(client_for(eve), owl, "left")) == storage.read(result.key_320)
    default_storage.delete(result.key_320)
    assert taken(client_for(eve), owl, "left").status_code == 404
    assert told(owl)[0]
    factories.store(result.key, data)
    assert taken(client_for(eve), owl, "left").status_code == 404
    assert not told(owl)[0]


def test_where_only_a_small_copy_is_lost_the_original_takes_its_place(client_for, eve, owl):
    default_storage.delete(owl.result.key_320)
    answer = taken(client_for(eve), owl, "320")
    assert (answer.status_code, content(answer)) == (200, storage.read(owl.result.key))
    assert (answer["Cache-Control"], answer["Content-Type"]) == ("no-store", "image/jpeg")
    assert told(owl) == (False, [], owl.version)


def test_a_disk_that_cannot_be_read_or_is_not_mounted_has_lost_nothing(client_for, eve, owl, settings, tmp_path):
    options = {"location": tmp_path / "not-mounted"}
    here = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
    settings.STORAGES = settings.STORAGES | {"default": here}
    for variant in ("original", "320", "download", "png", "left"):
        assert taken(client_for(eve), owl, variant).status_code in (503, 404), variant
    (tmp_path / "not-mounted" / owl.result.key / "a folder of that name").mkdir(parents=True)
    assert taken(client_for(eve), owl, "original").status_code == 503
    assert told(owl) == (False, [], owl.version)


def test_what_was_thrown_away_meanwhile_is_not_called_lost(owl):
    result = Result.objects.get(task=owl)
    Result.objects.update(purged_at=timezone.now())
    default_storage.delete(result.key)
    assert not lost.look(result, "page")
    assert told(owl) == (False, [], owl.version)


def test_the_pictures_own_page_tells_what_happened_to_its_file(client_for, eve, owl):
    data = storage.read(owl.result.key)
    default_storage.delete(owl.result.key)
    taken(client_for(eve), owl, "original")
    page = client_for(eve).get(f"/t/north/tasks/{owl.pk}/").content.decode()
    assert f"/results/{owl.pk}/left" in page
    assert f"/results/{owl.pk}/download" not in page
    factories.store(owl.result.key, data)
    taken(client_for(eve), owl, "left")
    page = client_for(eve).get(f"/t/north/tasks/{owl.pk}/").content.decode()
    assert "Its file is missing from storage" in page  # in its story
    assert "Its file is in storage again" in page
    assert f"/results/{owl.pk}/download" in page


# --- Kept by browsers --------------------------------------------------------------------------------------------------------


def test_a_browser_keeps_a_thumbnail_for_ever_but_for_one_person(client_for, eve, done):
    answer = client_for(eve).get(f"/t/north/results/{done.pk}/320")
    assert answer["Cache-Control"] == "private, max-age=31536000, immutable"
    assert "Cookie" in answer["Vary"]


def test_who_asks_again_is_told_that_it_is_the_same(client_for, eve, zoe, done):
    address = f"/t/north/results/{done.pk}/320"
    client = client_for(eve)
    etag = client.get(address)["ETag"]
    again = client.get(address, headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert "immutable" in again["Cache-Control"]
    assert client.get(address, headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.get(f"/t/north/results/{done.pk}/640")["ETag"] != etag
    # The next person at the same browser has another session: asks anew, and is told nothing.
    assert client_for(zoe).get(address, headers={"If-None-Match": etag}).status_code == 404


def test_who_has_left_does_not_get_a_304_either(client_for, eve, north, done):
    client = client_for(eve)
    etag = client.get(f"/t/north/results/{done.pk}/320")["ETag"]
    Membership.objects.filter(user=eve).delete()
    assert client.get(f"/t/north/results/{done.pk}/320", headers={"If-None-Match": etag}).status_code == 404


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-9", 0, 9), ("bytes=60-", 60, 66), ("bytes=-7", 60, 66), ("bytes=60-9999", 60, 66)],
)
def test_a_part_is_sent_to_who_asks_for_one(client_for, eve, done, asked, first, last):
    size = len(factories.PNG)
    answer = client_for(eve).get(f"/t/north/results/{done.pk}/original", headers={"Range": asked})
    assert size == 67
    assert answer.status_code == 206
    assert answer["Content-Range"] == f"bytes {first}-{last}/{size}"
    assert int(answer["Content-Length"]) == last - first + 1
    assert content(answer) == factories.PNG[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=67-", "bytes=-0"])
def test_a_part_that_is_not_there_is_refused(client_for, eve, done, asked):
    answer = client_for(eve).get(f"/t/north/results/{done.pk}/original", headers={"Range": asked})
    assert (answer.status_code, answer["Content-Range"]) == (416, "bytes */67")


@pytest.mark.parametrize("asked", ["bytes=-", "lines=1-2", "bytes=0-1,3-4", "bytes=a-b", f"bytes={'9' * 40}-", ""])
def test_nonsense_about_parts_gets_the_whole(client_for, eve, done, asked):
    answer = client_for(eve).get(f"/t/north/results/{done.pk}/original", headers={"Range": asked})
    assert (answer.status_code, content(answer)) == (200, factories.PNG)


def test_a_part_of_what_has_changed_since_is_the_whole(client_for, eve, done):
    address, client = f"/t/north/results/{done.pk}/original", client_for(eve)
    etag = client.get(address)["ETag"]
    for known, status in ((etag, 206), ('"old"', 200)):
        assert client.get(address, headers={"Range": "bytes=0-9", "If-Range": known}).status_code == status


def test_behind_nginx_the_file_is_named_and_not_read(client_for, eve, zoe, done, settings, monkeypatch):
    settings.X_ACCEL = "/stored/"
    monkeypatch.setattr(storage, "open_file", lambda key: 1 / 0)
    address = f"/t/north/results/{done.pk}/download"
    answer = client_for(eve).get(address)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer["X-Accel-Redirect"] == f"/stored/{done.result.key}"
    assert (answer["Content-Type"], answer["Content-Disposition"][:10]) == ("image/png", "attachment")
    assert "private" in answer["Cache-Control"]
    assert client_for(zoe).get(address).status_code == 404
    default_storage.delete(done.result.key)
    assert client_for(eve).get(address).status_code == 404
