"""Files that take a while: made once, by one, whoever dies; fetched by who asked, while they may; gone after a week."""

from __future__ import annotations

import csv
import io
import threading
import tracemalloc
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.db.models import F
from django.utils import timezone

from flux2web import actors, exports
from flux2web.clock import Clock
from flux2web.models import Budget, Entry, Export, Membership, Notice, Role
from flux2web.orders import Refusal

from . import factories

PAGE = "/t/north/exports/"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(exports, "TRY_AFTER_S", (0, 0, 0))


@pytest.fixture
def asked(ben, north) -> Export:
    """Ben asked for all of north's ledger."""
    return start(ben, north)


def start(user, team, query: dict | None = None) -> Export:
    export = exports.start(user, team, "ledger", query or {}, "ledger-north.csv")
    assert isinstance(export, Export)
    return export


def grants(team, count: int) -> None:
    """Many lines at once, with their sum."""
    Budget.objects.filter(team=team).update(granted=F("granted") + count)
    Entry.objects.bulk_create(
        [
            Entry(team=team, kind="grant", amount=1, available_after=1, actor_label="x", reason="y" * 150, key=f"n{n}")
            for n in range(count)
        ],
        batch_size=1000,
    )


def lines_of(export: Export) -> list[dict[str, str]]:
    with default_storage.open(export.key) as file:
        return list(csv.DictReader(io.StringIO(file.read().decode("utf-8-sig"))))


# --- Making ------------------------------------------------------------------------------------------------------------


def test_the_file_has_every_line_and_adds_up(asked, ben, north):
    factories.make_task(north, state="done", price=40, charged=25)
    factories.make_task(north, state="running", price=15)
    grants(north, 2500)
    actors.export(asked.pk)
    asked.refresh_from_db()
    lines, budget = lines_of(asked), Budget.objects.get(team=north)
    assert (asked.state, asked.rows_done, asked.due_at) == ("done", len(lines), None)
    assert len({line["key"] for line in lines}) == Entry.objects.filter(team=north).count()
    for name in ("granted", "held", "spent"):
        total = sum(int(line[f"{name}_in"]) - int(line[f"{name}_out"]) for line in lines)
        assert total == getattr(budget, name)
    assert asked.size_bytes == default_storage.size(asked.key)
    assert timedelta(days=6) < asked.expires_at - timezone.now() <= timedelta(days=7)


def test_it_has_the_lines_that_the_page_showed(client_for, ben, cleo, dan, north, monkeypatch):
    monkeypatch.setattr("flux2web.views.budget.CSV_LINES", 1)
    for user in (cleo, cleo, dan):
        factories.make_task(north, user=user, state="done")
    today = f"{timezone.now():%Y-%m-%d}"
    asked = {"kind": ["hold", "settle"], "person": cleo.pk, "since": today, "until": today}
    client_for(ben).post("/t/north/budget/ledger.csv", asked)
    export = Export.objects.get()
    exports.run(export.pk)
    export.refresh_from_db()
    assert [(line["kind"], line["actor"]) for line in lines_of(export)] == [("hold", "Cleo")] * 2


def test_who_asked_is_told_once_when_it_is_ready(asked, ben):
    for _ in range(2):
        exports.run(asked.pk)
    notice = Notice.objects.get(user=ben)
    assert (notice.tone, notice.url) == ("good", PAGE)
    assert "ledger-north.csv is ready" in notice.text


def test_a_message_that_comes_twice_makes_one_file(asked):
    exports.run(asked.pk)
    key = Export.objects.get().key
    exports.run(asked.pk)
    assert Export.objects.get().key == key


def test_a_message_for_a_row_that_is_gone_does_nothing(asked):
    asked.delete()
    exports.run(asked.pk)


def test_nobody_makes_what_somebody_else_is_making(asked):
    exports._claim(asked.pk)
    exports.run(asked.pk)
    asked.refresh_from_db()
    assert asked.state == "running"
    assert not asked.key


def test_after_a_maker_died_the_next_begins_anew(asked, north):
    grants(north, 10)
    exports._claim(asked.pk)
    Export.objects.update(due_at=timezone.now() - timedelta(seconds=1), rows_done=1000)
    exports.run(asked.pk)
    asked.refresh_from_db()
    assert (asked.state, asked.rows_done) == ("done", 11)


def test_a_maker_who_lost_the_lease_leaves_no_file_and_no_word(asked, ben, north):
    making = exports._claim(asked.pk)
    lease = timezone.now() + timedelta(seconds=99)
    Export.objects.update(due_at=lease)  # another holds it now
    with pytest.raises(exports.LeaseLost):
        exports._make(making)
    assert Export.objects.get().due_at == lease
    assert not Notice.objects.exists()


def test_a_maker_who_loses_the_lease_at_the_very_end_takes_the_file_back(asked, monkeypatch):
    kept = []

    def store_and_lose(export, file):
        kept.append(default_storage.save(f"exports/{export.pk}-late.csv", file))
        Export.objects.update(due_at=timezone.now() + timedelta(seconds=99))
        return kept[0]

    monkeypatch.setattr(exports, "store", store_and_lose)
    exports.run(asked.pk)
    assert not default_storage.exists(kept[0])


def test_the_lease_is_renewed_and_the_rows_are_counted_on_the_way(asked, north, monkeypatch):
    seen = []
    plain = exports._Making.renew

    def watched(self, *args, **columns):
        plain(self, *args, **columns)
        row = Export.objects.get(pk=self.export.pk)
        seen.append(row.rows_done)
        assert row.due_at > timezone.now() + timedelta(seconds=exports.LEASE_S - 5)

    monkeypatch.setattr(exports._Making, "renew", watched)
    grants(north, 2500)
    exports.run(asked.pk)
    assert seen == [0, 1000, 2000, 2501, 2501]


def test_what_fails_is_tried_three_times_and_then_said(asked, ben, monkeypatch):
    tries = []

    def broken(export, file):
        tries.append(1)
        raise OSError("disk full")

    monkeypatch.setattr(exports, "store", broken)
    exports.run(asked.pk)
    asked.refresh_from_db()
    assert len(tries) == 3
    assert (asked.state, asked.due_at, asked.key) == ("failed", None, "")
    assert "disk full" not in asked.problem
    assert Notice.objects.get(user=ben).tone == "bad"


def test_what_fails_once_is_made_all_the_same(asked, monkeypatch):
    plain, tries = exports.store, []

    def shaky(export, file):
        tries.append(1)
        if len(tries) < 2:
            raise OSError
        return plain(export, file)

    monkeypatch.setattr(exports, "store", shaky)
    exports.run(asked.pk)
    asked.refresh_from_db()
    assert (asked.state, asked.rows_done) == ("done", 1)


def test_no_draft_of_a_file_stays_behind(asked, settings):
    exports.run(asked.pk)
    assert not list((settings.SPOOL_DIR / "exports").iterdir())


@pytest.mark.parametrize("change", ["left", "viewer", "closed"])
def test_who_may_not_see_it_any_more_does_not_get_it_made(asked, ben, north, change):
    if change == "left":
        Membership.objects.filter(user=ben).delete()
    elif change == "viewer":
        Membership.objects.filter(user=ben).update(role=Role.VIEWER)
    else:
        north.closed_at = timezone.now()
        north.save()
    exports.run(asked.pk)
    asked.refresh_from_db()
    assert asked.state == "failed"
    assert "may not see this" in asked.problem


def test_what_could_not_be_made_in_a_day_is_given_up(asked):
    Export.objects.update(created=timezone.now() - timedelta(days=2))
    exports.run(asked.pk)
    asked.refresh_from_db()
    assert asked.state == "failed"


@pytest.mark.django_db(transaction=True)
def test_eight_makers_at_once_make_one_file(asked, north, monkeypatch):
    grants(north, 50)
    gate, stored, plain = threading.Barrier(8), [], exports.store
    monkeypatch.setattr(exports, "store", lambda export, file: stored.append(1) or plain(export, file))

    def make() -> None:
        gate.wait()
        exports.run(asked.pk)
        connection.close()

    threads = [threading.Thread(target=make) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert Export.objects.get().rows_done == 51
    assert Notice.objects.count() == 1
    assert len(stored) == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_ledger(ben, north):
    def peak(lines: int) -> int:
        grants_from = Entry.objects.count()
        Entry.objects.bulk_create(
            [
                Entry(
                    team=north,
                    kind="grant",
                    amount=1,
                    available_after=1,
                    actor_label="x",
                    reason="y" * 150,
                    key=f"m{n}",
                )
                for n in range(grants_from, grants_from + lines)
            ],
            batch_size=1000,
        )
        export = start(ben, north)
        tracemalloc.start()
        exports.run(export.pk)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        export.refresh_from_db()
        assert export.rows_done == grants_from + lines
        return used

    small, large = peak(2000), peak(18_000)
    assert large < small * 1.5


# --- Asking ------------------------------------------------------------------------------------------------------------


def test_the_same_twice_is_one_file_until_it_is_ready(asked, ben, north):
    assert start(ben, north) == asked
    assert start(ben, north, {"kinds": ("grant",)}) != asked
    exports.run(asked.pk)
    assert start(ben, north) != asked


def test_one_person_has_so_many_under_way(ben, ana, north):
    for kind in ("grant", "hold", "settle"):
        start(ben, north, {"kinds": (kind,)})
    refused = exports.start(ben, north, "ledger", {}, "one-more.csv")
    assert isinstance(refused, Refusal)
    assert "Wait until one is ready" in refused.message
    assert start(ana, north)


# --- The page ----------------------------------------------------------------------------------------------------------


def test_the_page_asks_again_while_something_is_being_made(client_for, asked, ben):
    client = client_for(ben)
    assert 'hx-trigger="every 2s"' in client.get(PAGE).content.decode()
    again = client.get(PAGE, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in again
    assert "<progress" in again
    exports.run(asked.pk)
    done = client.get(PAGE, headers={"HX-Request": "true"}).content.decode()
    assert "hx-trigger" not in done
    assert f'href="{PAGE}{asked.pk}/"' in done


def test_the_page_shows_ones_own_files_of_this_team(client_for, asked, ana, cleo, ben, south):
    for other in (ana, cleo):
        assert "No file yet" in client_for(other).get(PAGE).content.decode()
    factories.make_member(south, ben, role=Role.ADMIN)
    assert "No file yet" in client_for(ben).get("/t/south/exports/").content.decode()


def test_a_failure_is_shown_in_words(client_for, asked, ben):
    Export.objects.update(state="failed", due_at=None, problem="It could not be made.")
    assert "Failed. It could not be made." in client_for(ben).get(PAGE).content.decode()


def test_more_files_ask_no_more_queries(client_for, ben, north, django_assert_max_num_queries):
    for number in range(20):
        Export.objects.create(user=ben, team=north, kind="ledger", name=f"{number}.csv")
    client = client_for(ben)
    client.get(PAGE)
    with django_assert_max_num_queries(9):
        client.get(PAGE)


# --- Fetching ----------------------------------------------------------------------------------------------------------


def test_who_asked_fetches_it(client_for, asked, ben):
    exports.run(asked.pk)
    answer = client_for(ben).get(f"{PAGE}{asked.pk}/")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="ledger-north.csv"'
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert "no-store" in answer.headers["Cache-Control"]
    assert b"granted_in" in b"".join(answer.streaming_content)


def test_nobody_else_does(client_for, asked, ana, ben, cleo, zoe, sam, south):
    exports.run(asked.pk)
    for other in (ana, cleo, zoe, sam):
        assert client_for(other).get(f"{PAGE}{asked.pk}/").status_code == 404
    factories.make_member(south, ben, role=Role.ADMIN)
    assert client_for(ben).get(f"/t/south/exports/{asked.pk}/").status_code == 404
    assert client_for(None).get(f"{PAGE}{asked.pk}/").status_code == 302


def test_who_left_or_was_made_a_viewer_does_not_either(client_for, asked, ben):
    exports.run(asked.pk)
    Membership.objects.filter(user=ben).update(role=Role.VIEWER)
    assert client_for(ben).get(f"{PAGE}{asked.pk}/").status_code == 404
    Membership.objects.filter(user=ben).delete()
    assert client_for(ben).get(f"{PAGE}{asked.pk}/").status_code == 404


def test_one_that_is_not_ready_or_lost_or_too_old_is_not_there(client_for, asked, ben):
    client = client_for(ben)
    assert client.get(f"{PAGE}{asked.pk}/").status_code == 404
    assert client.get(f"{PAGE}{10**15}/").status_code == 404
    exports.run(asked.pk)
    Export.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get(f"{PAGE}{asked.pk}/").status_code == 404
    Export.objects.update(expires_at=timezone.now() + timedelta(days=1))
    default_storage.delete(Export.objects.get().key)
    assert client.get(f"{PAGE}{asked.pk}/").status_code == 404


# --- The clock ---------------------------------------------------------------------------------------------------------


def test_the_clock_finds_what_nobody_makes(asked, monkeypatch):
    kicked = []
    monkeypatch.setattr(actors, "kick_export", kicked.append)
    Clock().tick()
    assert kicked == [asked.pk]
    exports._claim(asked.pk)
    Clock().tick()
    assert kicked == [asked.pk]


def test_the_clock_forgets_what_is_too_old(asked, ben, north):
    exports.run(asked.pk)
    key = Export.objects.get().key
    Clock().tick()
    assert default_storage.exists(key)
    Export.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    Clock().tick()
    assert not default_storage.exists(key)
    assert not Export.objects.exists()


def test_a_file_that_cannot_be_deleted_now_is_deleted_later(asked, monkeypatch):
    exports.run(asked.pk)
    Export.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with monkeypatch.context() as broken:
        broken.setattr(default_storage, "delete", lambda key: 1 / 0)
        exports.forget_expired(timezone.now())
    assert Export.objects.exists()
    exports.forget_expired(timezone.now())
    assert not Export.objects.exists()
