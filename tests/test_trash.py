"""What lay in the trash for its time loses its files, once, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.storage import FileSystemStorage, default_storage
from django.utils import timezone

from flux2web import access, audit, clock, references, shelf, storage, trash
from flux2web.models import Entry, Event, Reference, Result, State, Task
from flux2web.models.base import new_token

from . import factories
from .pictures import picture
from .test_races import at_once

pytestmark = pytest.mark.django_db
OLD = timedelta(days=settings.TRASH_DAYS, minutes=1)


def thrown(team, user, *, since: timedelta = OLD, state: str = State.DONE, **fields) -> Task:
    return factories.make_task(team, user=user, state=state, deleted_at=timezone.now() - since, **fields)


def keys(task: Task) -> list[str]:
    row = Result.objects.get(task=task)
    return [row.key, row.key_640, row.key_320]


def there(names: list[str]) -> list[bool]:
    return [default_storage.exists(name) for name in names]


def test_files_go_when_the_time_is_up_and_the_row_stays(north, cleo):
    old, young, kept = thrown(north, cleo), thrown(north, cleo, since=OLD / 2), factories.make_task(north, state="done")
    names, others = keys(old), keys(young) + keys(kept)
    before = Entry.objects.count(), Event.objects.filter(task=old).count()
    assert trash.empty() == 1
    assert (there(names), there(others)) == ([False] * 3, [True] * 6)
    assert Result.objects.get(task=old).purged_at
    assert (Entry.objects.count(), Event.objects.filter(task=old).count()) == before
    assert [trash.empty(), audit.ledger()] == [0, []]
    assert old.pk not in {finding.task for finding in audit.files()}


def test_a_failed_one_has_no_files_and_is_no_trouble(north, cleo):
    thrown(north, cleo, state=State.FAILED)
    assert trash.empty() == 0


def test_a_file_that_another_picture_has_too_stays_until_that_goes(north, cleo):
    old, other = thrown(north, cleo), factories.make_task(north, user=cleo, state=State.DONE)
    names = keys(old)
    Result.objects.filter(task=other).update(**dict(zip(("key", "key_640", "key_320"), names, strict=True)))
    trash.empty()
    assert there(names) == [True] * 3
    Task.objects.filter(pk=other.pk).update(deleted_at=timezone.now() - OLD)
    trash.empty()
    assert there(names) == [False] * 3


def test_two_thrown_pictures_that_share_their_files_take_them_along(north, cleo):
    old, other = thrown(north, cleo), thrown(north, cleo)
    names = keys(old)
    Result.objects.filter(task=other).update(**dict(zip(("key", "key_640", "key_320"), names, strict=True)))
    assert trash.empty() == 2
    assert there(names) == [False] * 3


def test_what_was_cut_off_in_between_is_gone_on_with(north, cleo, monkeypatch):
    old = thrown(north, cleo)
    names = keys(old)

    def down(storage: FileSystemStorage, name: str) -> None:
        raise OSError("no disk")

    with monkeypatch.context() as broken:
        broken.setattr(FileSystemStorage, "delete", down)
        assert trash.empty() == 1
    assert there(names) == [True] * 3
    assert shelf.restore(access.membership(cleo, "north"), [old]).done == 0
    assert trash.empty() == 0
    assert there(names) == [False] * 3


def test_files_that_are_gone_already_are_no_error(north, cleo):
    for name in keys(thrown(north, cleo)):
        default_storage.delete(name)
    assert trash.empty() == 1


def test_a_folder_goes_with_its_last_file(north, cleo):
    folder = f"results/{north.pk}/{new_token()}"  # other workers store beside us
    names = [factories.store(f"{folder}/{number}.png") for number in (1, 2)]
    storage.delete_files(names[:1])
    assert Path(default_storage.path(folder)).exists()
    storage.delete_files(names[1:])
    assert not Path(default_storage.path(folder)).exists()


def test_more_than_one_chunk_goes_whole(north, cleo, monkeypatch):
    monkeypatch.setattr(trash, "CHUNK", 2)
    for _ in range(5):
        thrown(north, cleo)
    assert trash.empty() == 5
    assert not Result.objects.filter(purged_at=None).exists()


def test_the_trash_shows_nothing_whose_time_is_up(north, ana, cleo):
    thrown(north, cleo)
    young = thrown(north, cleo, since=OLD / 2)
    assert list(access.trash(access.membership(ana, "north"))) == [young]


@pytest.mark.django_db(transaction=True)
def test_emptied_and_restored_at_once_is_one_or_the_other(north, cleo, monkeypatch):
    """At the very limit: whoever restores it has its files, or it is gone and stays in the trash."""
    member = access.membership(cleo, "north")
    tasks = [thrown(north, cleo) for _ in range(6)]
    monkeypatch.setattr(access, "trash", lambda _: Task.objects.filter(deleted_at__isnull=False))
    at_once([trash.empty, *(lambda task=task: shelf.restore(member, [task]) for task in tasks)])
    for task in Task.objects.select_related("result"):
        assert (task.deleted_at is None) == (task.result.purged_at is None)


@pytest.mark.django_db(transaction=True)
def test_the_clock_empties_it(north, cleo, settings):
    settings.TRASH_EVERY_S = 0
    thrown(north, cleo)
    looper = clock.Clock()
    looper._start_beside(timezone.now())
    looper._beside["trash"].join(10)
    assert Result.objects.get().purged_at


# --- Images of the library -----------------------------------------------------------------------------------------------


def out_of_the_library(team, user, *, since: timedelta = OLD, **fields) -> Reference:
    return factories.make_reference(team, user=user, deleted_at=timezone.now() - since, **fields)


def files_of(row: Reference) -> list[str]:
    return [row.key, row.thumb_key]


def test_an_image_that_nobody_used_goes_when_its_time_is_up_and_others_stay(north, cleo):
    old, used, young = (out_of_the_library(north, cleo, since=since) for since in (OLD, OLD, OLD / 2))
    factories.make_task(north, user=cleo, references=[used])
    kept = factories.make_reference(north, user=cleo)
    assert trash.empty_library() == 1
    assert there(files_of(old)) == [False] * 2
    assert there([key for row in (used, young, kept) for key in files_of(row)]) == [True] * 6
    assert set(Reference.objects.all()) == {used, young, kept}
    assert [trash.empty_library(), list(audit.files())] == [0, []]


def test_one_that_is_going_cannot_be_restored_any_more(north, cleo, membership):
    old = out_of_the_library(north, cleo)
    Reference.objects.filter(pk=old.pk).update(purged_at=timezone.now())
    assert not references.restore(membership(cleo, north), old)
    assert trash.empty_library() == 1


def test_the_same_file_of_somebody_else_stays(north, cleo, dan):
    old = out_of_the_library(north, cleo)
    other = factories.make_reference(north, user=dan, key=old.key, thumb_key=old.thumb_key)
    assert trash.empty_library() == 1
    assert there(files_of(other)) == [True] * 2


def test_one_that_is_uploaded_again_at_this_moment_keeps_its_file(north, cleo, dan, monkeypatch):
    old, delete = out_of_the_library(north, cleo), storage.delete_files

    def delete_late(keys):
        factories.make_reference(north, user=dan, key=old.key, thumb_key=old.thumb_key)
        delete(keys)

    monkeypatch.setattr(storage, "delete_files", delete_late)
    trash.empty_library()
    assert there(files_of(old)) == [True] * 2


def test_an_upload_whose_file_was_thrown_out_meanwhile_stores_it_again(north, cleo, monkeypatch):
    same_or_new = storage._same_or_new

    def thrown_meanwhile(row):
        storage.delete_files([row.key, row.thumb_key])
        return same_or_new(row)

    monkeypatch.setattr(storage, "_same_or_new", thrown_meanwhile)
    row = storage.save_reference(north, cleo, BytesIO(picture("teal")), "teal.png")
    assert there(files_of(row)) == [True] * 2


def test_who_died_between_row_and_file_or_file_and_row_is_followed_by_the_next_pass(north, cleo, monkeypatch):
    old, rows = out_of_the_library(north, cleo), Reference.objects
    with monkeypatch.context() as broken:
        broken.setattr(storage, "delete_files", dies)
        with pytest.raises(SystemExit):
            trash.empty_library()
    assert (there(files_of(old)), rows.exclude(purged_at=None).count()) == ([True] * 2, 1)
    storage.delete_files([old.key])
    assert trash.empty_library() == 1
    assert (there(files_of(old)), rows.count()) == ([False] * 2, 0)


def test_what_was_stored_anew_since_a_pass_that_died_stays(north, cleo, dan, monkeypatch):
    old, read = out_of_the_library(north, cleo), storage.read_if_there
    Reference.objects.filter(pk=old.pk).update(purged_at=timezone.now())
    storage.delete_files(files_of(old))

    def read_then_uploaded(key):
        data = read(key)
        factories.make_reference(north, user=dan, key=old.key, thumb_key=old.thumb_key)
        for each in files_of(old):
            factories.store(each)
        return data

    monkeypatch.setattr(storage, "read_if_there", read_then_uploaded)
    assert trash.empty_library() == 1
    assert there(files_of(old)) == [True] * 2


def dies(*_):
    raise SystemExit


def test_while_storage_is_down_images_stay(north, cleo, monkeypatch):
    old = out_of_the_library(north, cleo)

    def down(keys):
        raise storage.StorageDown("down")

    with monkeypatch.context() as broken:
        broken.setattr(storage, "delete_files", down)
        assert trash.empty_library() == 0
    assert trash.empty_library() == 1
    assert not default_storage.exists(old.key)
