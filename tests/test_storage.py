"""Pictures on our own disk and in a real bucket: what is stored is whole, found again, and nobody else's to read."""

from __future__ import annotations

import hashlib
import io
import re
import resource
import runpy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
import time_machine
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone
from moto.server import ThreadedMotoServer
from PIL import Image
from storages.backends.s3 import S3Storage

from flux2web import imaging, lost, storage
from flux2web.models import Hosting, Reference, Result, State

from . import factories
from .peer import picture, serving
from .road import look, press, sums, task_of, walk
from .site import ROOT, running

pytestmark = pytest.mark.django_db
BUCKET = "pictures"
EVIL_NAMES = ["../../../etc/passwd", "..\\..\\boot.ini", "/etc/passwd", "a\x00b.png", "x" * 500, "<b>.html", "CON"]


class Bucket:
    """A real S3 API on loopback, which can go away and come back with what it held."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            "S3_BUCKET": BUCKET,
            "S3_ENDPOINT_URL": self.url,
            "S3_ACCESS_KEY_ID": "somebody",
            "S3_SECRET_ACCESS_KEY": "$ecret",
        }
        names = {"aws_access_key_id": "somebody", "aws_secret_access_key": "$ecret", "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=self.url, **names)
        self.client.create_bucket(Bucket=BUCKET)

    def keys(self) -> list[str]:
        return sorted(item["Key"] for item in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", []))

    def empty(self) -> None:
        for key in self.keys():
            self.client.delete_object(Bucket=BUCKET, Key=key)

    def close(self) -> None:
        self._server.stop()
        self._server._server.server_close()  # else callers would wait in its queue

    @contextmanager
    def down(self) -> Iterator[None]:
        self.close()
        try:
            yield
        finally:
            self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
            self._server.start()


@pytest.fixture(scope="module")
def s3() -> Iterator[Bucket]:
    bucket = Bucket()
    yield bucket
    bucket.close()


@pytest.fixture
def disk(tmp_path, settings) -> Path:
    """Our own disk, empty."""
    settings.MEDIA_ROOT = tmp_path / "media"
    files = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": settings.MEDIA_ROOT}}
    settings.STORAGES = settings.STORAGES | {"default": files}
    settings.SPOOL_DIR = tmp_path / "spool"
    return settings.MEDIA_ROOT


@pytest.fixture
def bucket(s3, tmp_path, settings, monkeypatch) -> Bucket:
    """A bucket, set as an operator sets it: what settings.py makes of this environment."""
    made = settings_with(monkeypatch, s3.env)
    settings.S3_BUCKET = made["S3_BUCKET"]
    settings.STORAGES = settings.STORAGES | {"default": made["STORAGES"]["default"]}
    settings.CONTENT_SECURITY_POLICY = made["CONTENT_SECURITY_POLICY"]
    settings.SPOOL_DIR = tmp_path / "spool"
    s3.empty()
    return s3


def settings_with(monkeypatch, env: dict[str, str]) -> dict:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return runpy.run_path(str(ROOT / "flux2web" / "settings.py"))


@pytest.fixture(params=["disk", "bucket"])
def kept(request):
    """Each place where pictures can be kept."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def peer():
    with serving() as peer:
        yield peer


@pytest.fixture
def member(cleo, north, membership, peer, settings):
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    factories.make_account("revid", base_url=peer.url)
    return membership(cleo, north)


def upload(member, colour: str = "teal", name: str = "bowl.png") -> Reference:
    return storage.save_reference(member.team, member.user, io.BytesIO(picture(colour=colour)), name)


def files_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def stored_names(kept) -> list[str]:
    if isinstance(kept, Bucket):
        return kept.keys()
    return [path.relative_to(kept).as_posix() for path in files_under(kept)]


def content(answer) -> bytes:
    return b"".join(answer.streaming_content)


def saving(member, peer):
    """A task whose picture is ready at the provider."""
    peer.default_state = "success"
    task = look(look(task_of(press(member))))
    assert task.state == State.SAVING
    return task


# --- Names ------------------------------------------------------------------------------------------------------------


def test_a_result_is_stored_under_its_content_and_twice_is_once(kept, north):
    task = factories.make_task(north, state="saving")
    first, again = storage.store_result(task, picture()), storage.store_result(task, picture())
    assert (first.key, first.key_640, first.key_320) == (again.key, again.key_640, again.key_320)
    assert first.key == f"results/{north.pk}/{task.pk}/{first.picture.sha256[:32]}.png"
    assert stored_names(kept) == sorted([first.key, first.key_640, first.key_320])
    with storage.open_file(first.key) as file:
        assert hashlib.sha256(file.read()).hexdigest() == first.picture.sha256


def test_thumbnails_are_small_pictures(kept, north):
    stored = storage.store_result(factories.make_task(north, state="saving"), picture(1200, 900))
    for key, width in ((stored.key_640, 640), (stored.key_320, 320)):
        with storage.open_file(key) as file, Image.open(file) as image:
            assert (image.format, image.width) == ("WEBP", width)


def test_the_same_upload_twice_is_one_reference(kept, member, dan, north, membership):
    first, again = upload(member, name="bowl.png"), upload(member, name="other name.png")
    assert first == again
    assert upload(membership(dan, north)) != first  # somebody else's is his own
    assert len(stored_names(kept)) == 2  # picture and thumbnail


def test_an_upload_again_heals_a_lost_file(kept, member):
    reference = upload(member)
    default_storage.delete(reference.key)
    assert upload(member) == reference
    assert default_storage.exists(reference.key)


def test_a_deleted_reference_is_uploaded_anew(kept, member):
    first = upload(member)
    Reference.objects.filter(pk=first.pk).update(deleted_at=timezone.now())
    assert upload(member) != first


@pytest.mark.django_db(transaction=True)
def test_the_same_upload_eight_times_at_once_is_one_reference(disk, member):
    imaging.save_upload(picture())  # the child is up
    start, found = threading.Barrier(8), []

    def send() -> None:
        start.wait()
        found.append(upload(member))
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row.pk for row in found} == {Reference.objects.get().pk}
    assert len(found) == 8


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_a_files_name_is_for_people_and_never_a_path(disk, member, name):
    reference = upload(member, name=name)
    assert re.fullmatch(rf"references/{member.team.pk}/[0-9a-f]{{32}}\.png", reference.key)
    assert all(path.is_relative_to(disk) for path in files_under(disk.parent))
    assert reference.name.isprintable()


@pytest.mark.parametrize("key", ["../../secret_key", "/etc/passwd", "results/../../secret_key"])
def test_no_key_leads_out_of_the_store(disk, client, key):
    with pytest.raises(SuspiciousFileOperation):
        storage.open_file(key)
    assert storage.open_hosting(f"{key}.png") is None
    assert client.get(f"/i/{key}").status_code in (400, 404)


# --- Answers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def done(kept, member, peer):
    """A finished task whose files lie where `kept` says."""
    task = walk(saving(member, peer))
    assert task.state == State.DONE
    return task


@pytest.mark.parametrize("kept", ["disk"], indirect=True)
def test_from_disk_a_result_comes_with_headers_of_ours(done, client_for, eve):
    answer = client_for(eve).get(f"/t/north/results/{done.pk}/original")
    assert hashlib.sha256(content(answer)).hexdigest() == done.result.sha256
    assert answer["Content-Type"] == done.result.mime == "image/png"
    assert answer["Cache-Control"].startswith("private")
    assert answer["X-Content-Type-Options"] == "nosniff"
    named = client_for(eve).get(f"/t/north/results/{done.pk}/download")
    assert named["Content-Disposition"] == f'attachment; filename="flux2web-{done.pk}.png"'
    content(named)


@pytest.mark.parametrize("kept", ["bucket"], indirect=True)
def test_from_a_bucket_a_result_comes_by_a_signed_address_that_answers_and_expires(done, client_for, eve, zoe):
    answer = client_for(eve).get(f"/t/north/results/{done.pk}/download")
    assert answer.status_code == 302
    assert "private" in answer["Cache-Control"]
    asked = parse_qs(urlsplit(answer["Location"]).query)
    assert asked["X-Amz-Expires"] == ["600"]
    kept_s = int(re.search(r"max-age=(\d+)", answer["Cache-Control"])[1])
    assert kept_s < 600  # no browser keeps an address that has expired
    file = httpx.get(answer["Location"], trust_env=False)
    assert hashlib.sha256(file.content).hexdigest() == done.result.sha256
    assert file.headers["content-type"] == "image/png"
    assert file.headers["content-disposition"] == f'attachment; filename="flux2web-{done.pk}.png"'
    assert client_for(zoe).get(f"/t/north/results/{done.pk}/download").status_code == 404


@pytest.mark.parametrize("kept", ["bucket"], indirect=True)
def test_the_page_may_show_what_the_bucket_sends(done, client_for, eve, bucket):
    page = client_for(eve).get("/t/north/")
    sources = re.search(r"img-src ([^;]+)", page["Content-Security-Policy"])[1].split()
    target = urlsplit(client_for(eve).get(f"/t/north/results/{done.pk}/320")["Location"])
    assert f"{target.scheme}://{target.netloc}" == bucket.url
    assert bucket.url in sources


@pytest.mark.parametrize("region", ["", "us-east-1", "eu-central-1", "af-south-1", "cn-north-1", "us-gov-west-1"])
def test_the_page_may_show_what_amazons_buckets_send(region, monkeypatch):
    keys = {"S3_ACCESS_KEY_ID": "somebody", "S3_SECRET_ACCESS_KEY": "secret", "S3_ENDPOINT_URL": ""}
    made = settings_with(monkeypatch, keys | {"S3_BUCKET": BUCKET} | ({"S3_REGION": region} if region else {}))
    signed = urlsplit(S3Storage(**made["STORAGES"]["default"]["OPTIONS"]).url("results/1/1/a.png", expire=60))
    assert f"{signed.scheme}://{signed.netloc}" in made["CONTENT_SECURITY_POLICY"]["DIRECTIVES"]["img-src"]


def told_lost(done) -> list[str]:
    return list(done.events.filter(kind__in=["lost", "found"]).values_list("kind", flat=True))


def test_a_lost_original_is_found_out_and_found_again_wherever_it_is_kept(done, client_for, eve):
    address, browser = f"/t/north/results/{done.pk}", client_for(eve)
    data = storage.read(done.result.key)
    storage.delete_files([done.result.key])
    assert browser.get(f"{address}/320").status_code in (200, 302)
    assert told_lost(done) == []  # small copies are sent by the dozen, and ask for nothing else
    assert browser.get(f"{address}/original").status_code == 404
    assert told_lost(done) == ["lost"]
    left = browser.get(f"{address}/left")
    assert (left.status_code in (200, 302), left["Cache-Control"]) == (True, "no-store")
    storage.put_back(done.result.key, data)
    assert browser.get(f"{address}/left").status_code in (200, 302)
    assert told_lost(done) == ["lost", "found"]
    assert browser.get(f"{address}/original").status_code in (200, 302)


@pytest.mark.parametrize("kept", ["bucket"], indirect=True)
def test_a_bucket_that_is_down_or_is_not_there_has_lost_nothing(done, client_for, eve, bucket, settings):
    storage.delete_files([done.result.key])
    with bucket.down():
        assert client_for(eve).get(f"/t/north/results/{done.pk}/original").status_code == 302
        with pytest.raises(storage.StorageDown):
            lost.look(done.result, "page")
    options = settings.STORAGES["default"]["OPTIONS"] | {"bucket_name": "nobodys"}
    settings.STORAGES = settings.STORAGES | {"default": settings.STORAGES["default"] | {"OPTIONS": options}}
    assert client_for(eve).get(f"/t/north/results/{done.pk}/original").status_code == 302
    assert told_lost(done) == []


@pytest.mark.parametrize("kept", ["disk"], indirect=True)
def test_many_who_find_it_at_once_say_it_once(done):
    storage.delete_files([done.result.key])
    rows = [Result.objects.get(task=done) for _ in range(3)]
    assert [lost.look(row, "page") for row in rows] == [False] * 3
    assert told_lost(done) == ["lost"]
    assert all(row.lost_at for row in rows)


# --- Hosted references ------------------------------------------------------------------------------------------------


@pytest.fixture
def hosted(kept, member) -> Hosting:
    return task_of(press(member, references=(upload(member).pk,))).hostings.get()


def test_a_hosted_reference_comes_through_us_wherever_it_is_kept(hosted, client):
    answer = client.get(storage.hosting_path(hosted))
    assert answer.status_code == 200
    assert hashlib.sha256(content(answer)).hexdigest() == hosted.reference.sha256
    assert answer["Content-Type"] == "image/png"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Length"] == str(hosted.reference.size_bytes)


def test_an_address_opens_while_its_task_lives_and_closes_some_hours_after_its_end(disk, member, peer, settings):
    task = task_of(press(member, references=(upload(member).pk,)))
    name = storage.hosting_path(task.hostings.get()).removeprefix("/i/")
    with time_machine.travel(timezone.now() + timedelta(days=3)):
        assert storage.open_hosting(name)
    peer.default_state = "success"
    assert walk(task).state == State.DONE
    ended = timezone.now()
    for passed_s, is_open in ((settings.HOSTED_OPEN_S - 5, True), (settings.HOSTED_OPEN_S + 5, False)):
        with time_machine.travel(ended + timedelta(seconds=passed_s)):
            assert bool(storage.open_hosting(name)) is is_open


def test_no_other_name_opens(disk, member):
    hosting = task_of(press(member, references=(upload(member).pk,))).hostings.get()
    assert storage.open_hosting(f"{hosting.token}.png") == hosting
    for name in (hosting.token, f"{hosting.token}.jpg", f"{hosting.token}.PNG", "unknown.png", ".png", "", "a/b.png"):
        assert storage.open_hosting(name) is None


def test_each_task_has_an_address_of_its_own(disk, member):
    reference = upload(member)
    tokens = {task_of(press(member, references=(reference.pk,))).hostings.get().token for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) >= 22 for token in tokens)  # 128 bits


# --- Our storage is down ----------------------------------------------------------------------------------------------


@contextmanager
def blocked(folder: Path) -> Iterator[None]:
    """Nothing can be written under this folder: a file lies where it should be (rights do not bind a root user)."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(b"")
    try:
        yield
    finally:
        folder.unlink()


def down(kept):
    return kept.down() if isinstance(kept, Bucket) else blocked(kept)


def test_a_result_waits_while_storage_is_down_and_nothing_is_lost(kept, member, peer, north):
    task = saving(member, peer)
    with down(kept):
        for _ in range(3):
            task = look(task)
            assert task.state == State.SAVING
        assert task.waited_s == 0  # our own fault: the time does not count
        assert sums(north) == (1000, 10, 0)
    peer.fetch_status = 404  # the provider has thrown it away meanwhile
    task = walk(task)
    assert task.state == State.DONE
    assert peer.fetches == 1
    assert sums(north) == (1000, 0, 10)
    assert default_storage.exists(task.result.key)


def test_an_upload_is_refused_while_storage_is_down(kept, member, client_for, cleo):
    with down(kept), pytest.raises(storage.StorageDown):
        upload(member)
    assert not Reference.objects.exists()
    assert upload(member)


@pytest.mark.parametrize("kept", ["bucket"], indirect=True)
def test_a_hosted_reference_says_later_while_the_bucket_is_down(hosted, bucket, client):
    path = storage.hosting_path(hosted)
    with bucket.down():
        assert client.get(path).status_code == 503
    assert content(client.get(path))


def test_a_bucket_that_refuses_is_down_too(bucket, north, settings):
    options = settings.STORAGES["default"]["OPTIONS"] | {"bucket_name": "nobodys"}
    settings.STORAGES = settings.STORAGES | {"default": settings.STORAGES["default"] | {"OPTIONS": options}}
    with pytest.raises(storage.StorageDown):
        storage.store_result(factories.make_task(north, state="saving"), picture())


@contextmanager
def full(room_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond so much, as on a disk that fills up while we write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_no_half_file(disk, member, peer):
    task = saving(member, peer)
    imaging.save_result(peer.picture)  # the child is up
    with full(100), pytest.raises(storage.StorageDown):
        storage.store_result(task, peer.picture)
    assert files_under(disk) == []
    with full(100), pytest.raises(OSError):
        storage.fetch_result(task, task.result_urls[0], peer.url)
    assert not storage.is_spooled(task)
    assert walk(task).state == State.DONE
    assert files_under(disk.parent / "spool") == []  # nothing is kept twice


def test_a_spool_that_cannot_be_written_is_our_fault_too(disk, member, peer, settings):
    task = saving(member, peer)
    with blocked(settings.SPOOL_DIR):
        task = look(task)
        assert (task.state, task.waited_s) == (State.SAVING, 0)
    assert walk(task).state == State.DONE


# --- The whole site on a bucket ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_site_on_a_bucket_from_upload_to_picture(s3, tmp_path):
    s3.empty()
    with running(tmp_path / "var", **s3.env) as site:
        ana = site.set_up()
        file = {"file": ("bowl.png", picture(), "image/png")}
        assert ana.post("/t/north/references/", {}, page="/t/north/", files=file).status_code == 200
        ana.press("The bowl at dawn", references="1", provider="flux2api")
        assert site.wait_at_rest() == ["done"]
        answer = ana.http.get(f"{site.url}/t/north/results/1/original", follow_redirects=False)
        assert answer.headers["location"].startswith(f"{s3.url}/{BUCKET}/results/1/1/")
        assert httpx.get(answer.headers["location"], trust_env=False).status_code == 200
        assert site.manage("check_ledger", "--storage").returncode == 0
        assert not (tmp_path / "var" / "media").exists()
    assert len(s3.keys()) == 5  # a reference and a result, with their thumbnails
