"""Picture files: who gets them, under which headers, and who may bring some."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from flux2web import storage
from flux2web.models import Reference

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
