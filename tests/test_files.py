"""Zips and lists of pictures: what is in them, under which names, what is missing and why, whoever dies on the way."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from datetime import timedelta
from pathlib import PurePosixPath

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from flux2web import exports, files, shelf, storage
from flux2web.models import Collection, Export, Membership, Notice, Result, Task

from . import factories
from .pictures import picture


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(exports, "TRY_AFTER_S", (0, 0))


def done(team, user, prompt: str = "Harbour at dawn", **fields) -> Task:
    return factories.make_task(team, user=user, state="done", prompt=prompt, **fields)


def made(user, tasks, kind: str = "zip") -> Export:
    """What `user` gets who asks for these pictures."""
    team = tasks[0].team
    export = exports.start(user, team, kind, {"ids": [task.pk for task in tasks]}, f"x.{kind}", rows=len(tasks))
    exports.run(export.pk)
    export.refresh_from_db()
    return export


def opened(export: Export) -> zipfile.ZipFile:
    assert export.state == "done", export.problem
    return zipfile.ZipFile(io.BytesIO(storage.read(export.key)))


def manifest(export: Export) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(opened(export).read("manifest.csv").decode("utf-8-sig"))))


# --- Zip ---------------------------------------------------------------------------------------------------------------


def test_a_zip_has_the_pictures_as_they_are_and_a_list_of_them(north, cleo, dan):
    tasks = [done(north, cleo), done(north, dan, "An owl, screen print", seed=7)]
    export = made(cleo, tasks)
    archive = opened(export)
    names = [f"0001-harbour-at-dawn-{tasks[0].pk}.png", f"0002-an-owl-screen-print-{tasks[1].pk}.png"]
    assert archive.namelist() == [*names, "manifest.csv"]
    assert archive.testzip() is None
    assert [archive.read(name) for name in names] == [storage.read(task.result.key) for task in tasks]
    assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    lines = manifest(export)
    assert [line["file"] for line in lines] == names
    assert (lines[1]["author"], lines[1]["prompt"], lines[1]["seed"]) == ("Dan", "An owl, screen print", "7")
    assert lines[1]["sha256"] == tasks[1].result.sha256
    assert (export.rows_done, export.rows_total) == (2, 2)
    assert export.key.endswith(".zip")
    assert Notice.objects.get(user=cleo).tone == "good"


@pytest.mark.parametrize(
    ("prompt", "slug"),
    [
        ("../../etc/passwd", "etcpasswd"),
        ("..\\..\\windows\\system32", "windowssystem32"),
        ("/absolute\x07path\nnewline", "absolutepath-newline"),
        ("=cmd|'/C calc'!A0", "cmdc-calca0"),
        ("CON", "con"),
        ("\u202egpj.exe", "gpjexe"),
        ("🦉🦉🦉", ""),
        ("   ---   ", ""),
        ("Hafen im Morgengrauen, Möwen über dem Wasser und noch viel mehr", "hafen-im-morgengrauen-möwen-über-dem"),
        ("港の夜明け", "港の夜明け"),
        ("x" * 500, "x" * 40),
    ],
)
def test_a_prompt_makes_a_name_that_stays_in_its_folder(north, cleo, prompt, slug):
    task = done(north, cleo, prompt)
    name = opened(made(cleo, [task])).namelist()[0]
    assert name == f"0001-{slug}-{task.pk}.png" if slug else f"0001-{task.pk}.png"
    assert PurePosixPath(name).name == name
    assert not set(name) & set('\\/:*?"<>|\x00\n')


def test_two_of_one_prompt_have_two_names(north, cleo):
    archive = opened(made(cleo, [done(north, cleo), done(north, cleo)]))
    assert len(set(archive.namelist())) == 3


def test_no_cell_of_the_list_is_a_formula(north, cleo):
    assert manifest(made(cleo, [done(north, cleo, "=1+1")]))[0]["prompt"] == "'=1+1"


def test_what_is_missing_is_listed_with_its_reason(north, south, cleo, dan):
    kept, lost, failed, private, thrown, foreign = (
        done(north, cleo),
        done(north, cleo),
        factories.make_task(north, user=cleo, state="failed"),
        done(north, dan, "A secret", private=True),
        done(north, cleo),
        done(south, None, "South's own"),
    )
    default_storage.delete(lost.result.key)
    member = Membership.objects.get(user=cleo, team=north)
    shelf.throw_away(member, [thrown])
    export = made(cleo, [kept, lost, failed, private, thrown, foreign])
    lines = manifest(export)
    reasons = [files.LOST, files.NO_PICTURE, files.GONE, files.GONE, files.GONE]
    assert [line["missing"] for line in lines] == ["", *reasons]
    assert [line["file"] for line in lines[1:]] == [""] * 5
    assert len(opened(export).namelist()) == 2
    text = opened(export).read("manifest.csv").decode()
    assert "A secret" not in text
    assert "South's own" not in text


def test_making_a_zip_finds_out_what_is_lost_and_what_is_back(north, cleo):
    gone, back = done(north, cleo), done(north, cleo)
    default_storage.delete(gone.result.key)
    Result.objects.filter(task=back).update(lost_at=timezone.now())
    assert [line["missing"] for line in manifest(made(cleo, [gone, back]))] == [files.LOST, ""]
    assert list(Result.objects.exclude(lost_at=None).values_list("task", flat=True)) == [gone.pk]


def test_a_lost_picture_weighs_nothing_and_lists_say_that_it_is_lost(north, cleo, tmp_path):
    tasks = [done(north, cleo), done(north, cleo)]
    Result.objects.filter(task=tasks[0]).update(lost_at=timezone.now())
    member = Membership.objects.get(user=cleo)
    ids = [task.pk for task in tasks]
    assert files.check_size(member, ids) == (1, tasks[1].result.size_bytes)
    files.write_json(member, {"ids": ids}, tmp_path / "list.json", lambda done: None)
    listed = json.loads((tmp_path / "list.json").read_text())["pictures"]
    assert [line["missing"] for line in listed] == [files.LOST, ""]


def test_what_was_hidden_between_asking_and_making_is_left_out(north, cleo, dan):
    tasks = [done(north, cleo), done(north, dan)]
    export = exports.start(cleo, north, "zip", {"ids": [task.pk for task in tasks]}, "x.zip", rows=2)
    shelf.set_private(Membership.objects.get(user=dan), tasks[1:], private=True)
    exports.run(export.pk)
    export.refresh_from_db()
    assert [bool(line["missing"]) for line in manifest(export)] == [False, True]


def test_when_nothing_is_left_it_says_so(north, cleo, dan):
    task = done(north, dan)
    export = exports.start(cleo, north, "zip", {"ids": [task.pk]}, "x.zip", rows=1)
    shelf.set_private(Membership.objects.get(user=dan), [task], private=True)
    exports.run(export.pk)
    export.refresh_from_db()
    assert (export.state, export.key) == ("failed", "")
    assert "None of these has a picture" in export.problem


def test_a_full_disk_is_said_before_it_is_filled(north, cleo, monkeypatch):
    monkeypatch.setattr(files, "SPARE_BYTES", 2**60)
    export = made(cleo, [done(north, cleo)])
    assert export.state == "failed"
    assert "not enough room" in export.problem


# --- Who dies on the way -----------------------------------------------------------------------------------------------


def test_killed_in_the_middle_it_begins_anew_and_leaves_nothing_behind(north, cleo, settings, monkeypatch):
    tasks = [done(north, cleo) for _ in range(3)]
    export = exports.start(cleo, north, "zip", {"ids": [task.pk for task in tasks]}, "x.zip", rows=3)
    making = exports._claim(export.pk)
    left = exports._draft(making.export)
    left.write_bytes(b"half a zip")
    exports.run(export.pk)  # somebody makes it, as far as anybody knows
    assert Export.objects.get().state == "running"
    Export.objects.update(due_at=timezone.now() - timedelta(seconds=1), rows_done=2)
    exports.run(export.pk)
    export.refresh_from_db()
    assert len(opened(export).namelist()) == 4
    assert not left.exists()
    assert not list((settings.SPOOL_DIR / "exports").iterdir())


def test_storage_that_is_down_for_a_moment_is_asked_again(north, cleo, monkeypatch):
    plain, asked = storage.open_file, []

    def shaky(key):
        asked.append(key)
        if len(asked) == 2:
            raise OSError("down")
        return plain(key)

    monkeypatch.setattr(storage, "open_file", shaky)
    export = made(cleo, [done(north, cleo), done(north, cleo)])
    assert len(opened(export).namelist()) == 3
    assert len(asked) == 5  # the last by this test


def test_it_says_how_far_it_is_and_stops_when_nobody_wants_it(north, cleo, monkeypatch):
    monkeypatch.setattr(files, "PROGRESS_S", 0)
    tasks, told = [done(north, cleo) for _ in range(3)], []
    plain = exports._Making.renew

    def watched(self, *args, **columns):
        plain(self, *args, **columns)
        told.append(columns.get("rows_done"))

    monkeypatch.setattr(exports._Making, "renew", watched)
    made(cleo, tasks)
    assert told == [0, 1, 2, 3, 3]


def test_while_it_is_made_the_page_says_how_many_of_how_many(client_for, north, cleo):
    export = exports.start(cleo, north, "zip", {"ids": [1, 2, 3]}, "x.zip", rows=3)
    exports._claim(export.pk)
    Export.objects.update(rows_done=2)
    page = client_for(cleo).get("/t/north/exports/").content.decode()
    assert "2 of 3 pictures" in page
    assert 'value="2" max="3"' in page


# --- Lists -------------------------------------------------------------------------------------------------------------


def test_lists_say_the_same_for_people_and_for_programs(north, cleo, dan):
    reference = factories.make_reference(north, name="vase.png")
    tasks = [done(north, cleo, "An owl", references=[reference]), done(north, dan, private=True)]
    shelf.add_tag(Membership.objects.get(user=cleo), tasks, "Dawn")
    sheet = storage.read(made(cleo, tasks, "manifest-csv").key).decode("utf-8-sig")
    whole = json.loads(storage.read(made(cleo, tasks, "manifest-json").key))
    [owl, hidden] = whole["pictures"]
    assert (whole["team"], owl["tags"], owl["references"], owl["seed"]) == ("North", ["Dawn"], ["vase.png"], None)
    assert hidden == {"number": 2, "task": tasks[1].pk, "file": "", "missing": files.GONE}
    lines = list(csv.DictReader(io.StringIO(sheet)))
    assert (lines[0]["tags"], lines[0]["references"], lines[0]["prompt"]) == ("Dawn", "vase.png", "An owl")
    assert list(lines[0]) == list(files.COLUMNS)


@pytest.mark.parametrize("kind", files.KINDS)
def test_more_pictures_ask_no_more_queries(north, cleo, kind, django_assert_num_queries, tmp_path):
    member = Membership.objects.select_related("team", "user").get(user=cleo)
    writer = exports.KINDS[kind].writer

    def asked(tasks) -> int:
        with django_assert_num_queries(5 if kind == "zip" else 4):
            return writer(member, {"ids": [task.pk for task in tasks]}, tmp_path / "x", lambda _: None)

    reference = factories.make_reference(north)
    few, many = ([done(north, cleo, references=[reference]) for _ in range(number)] for number in (2, 20))
    for tasks in (few, many):
        shelf.add_tag(member, tasks, "Dawn")
        assert asked(tasks) == len(tasks)


# --- Fetching ----------------------------------------------------------------------------------------------------------


def test_a_zip_is_fetched_by_who_asked_and_by_nobody_else(client_for, north, eve, ana, zoe):
    export = made(eve, [done(north, ana)])
    address = f"/t/north/exports/{export.pk}/"
    answer = client_for(eve).get(address)
    assert (answer["Content-Type"], answer["Content-Disposition"]) == (
        "application/zip",
        'attachment; filename="x.zip"',
    )
    assert b"".join(answer.streaming_content) == storage.read(export.key)
    for other in (ana, zoe):
        assert client_for(other).get(address).status_code == 404


def test_a_download_that_broke_off_goes_on(client_for, north, eve, ana):
    export = made(eve, [done(north, ana)])
    whole = storage.read(export.key)
    answer = client_for(eve).get(f"/t/north/exports/{export.pk}/", headers={"Range": "bytes=100-"})
    assert answer.status_code == 206
    assert answer["Content-Range"] == f"bytes 100-{len(whole) - 1}/{len(whole)}"
    assert b"".join(answer.streaming_content) == whole[100:]


def test_the_settings_of_a_file_name_nobody(north, cleo):
    collection = Collection.objects.create(team=north, name="Posters", owner=cleo)
    words = " ".join(files.settings_of(done(north, cleo)).values())
    assert str(cleo) not in words
    assert cleo.email not in words
    assert collection.name not in words
    assert "FLUX.2 pro" in words


def test_pictures_keep_their_format_in_the_zip(north, cleo):
    task = done(north, cleo)
    content = picture("teal", (60, 40), "JPEG")
    task.result.key, task.result.mime = factories.store("results/teal.jpg", content), "image/jpeg"
    task.result.save()
    archive = opened(made(cleo, [task]))
    assert archive.namelist()[0].endswith(".jpg")
    assert archive.read(archive.namelist()[0]) == content
