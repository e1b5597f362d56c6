"""What an open page hears, what it never hears, and what a hundred of them cost: over real sockets."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import redis
from django.db import connection

from flux2web import access, bus, collecting, ledger, lifecycle, live, shelf
from flux2web.models import Membership, Task
from flux2web.orders import Order
from flux2web.queries import write_cursor

from . import factories, serving
from .stream import Stream

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).parent.parent


@pytest.fixture
def url():
    with serving.site() as url:
        yield url


@pytest.fixture
def watch(url, client_for):
    """watch(ana) is her open page of north."""
    with ExitStack() as stack:

        def open_page(user, team: str = "north") -> Stream:
            stream = stack.enter_context(Stream(url, serving.cookies(client_for(user)), team))
            if stream.status == 200:
                stream.hear("hello")
            return stream

        yield open_page


def card_of(block: bytes) -> tuple[int, str, int]:
    """(task id, state, version) of a card event."""
    found = re.search(rb'data-task="(\d+)" data-state="(\w+)" data-version="(\d+)"', block)
    return int(found[1]), found[2].decode(), int(found[3])


# --- What is heard -----------------------------------------------------------------------------------------------------


def test_a_change_of_a_card_is_heard_with_the_fresh_card(watch, north, ana):
    task = factories.make_task(north, user=ana)
    page = watch(ana)
    lifecycle.cancel(task, ana)
    assert card_of(page.hear("card")) == (task.pk, "cancelled", task.version + 1)


def test_a_viewer_hears_it_too(watch, north, ana, eve):
    task = factories.make_task(north, user=ana)
    page = watch(eve)
    lifecycle.cancel(task, ana)
    assert card_of(page.hear("card"))[0] == task.pk


def test_another_team_hears_nothing(watch, north, ana, zoe):
    task = factories.make_task(north, user=ana)
    ours, theirs = watch(ana), watch(zoe, "south")
    lifecycle.cancel(task, ana)
    ours.hear("card")
    assert theirs.is_silent()


def test_all_pages_get_the_same_bytes_of_one_rendering(watch, north, ana, ben, eve, monkeypatch):
    task, rendered, render = factories.make_task(north, user=ana), [], live.render_card

    def counted(task: Task) -> str:
        rendered.append(task.pk)
        return render(task)

    monkeypatch.setattr(live, "render_card", counted)
    pages = [watch(user) for user in (ana, ben, eve) for _ in range(3)]
    bus.publish_task(north.pk, task.pk)
    assert len({page.hear("card") for page in pages}) == 1
    assert rendered == [task.pk]


def test_a_card_says_nothing_personal(watch, north, ana):
    task = factories.make_task(north, user=ana)
    page = watch(ana)
    bus.publish_task(north.pk, task.pk)
    block = page.hear("card")
    assert b"<form" not in block
    assert b"csrf" not in block
    assert ana.email.encode() not in block


def test_a_change_of_the_budget_says_ask_again_and_no_number(watch, north, ana, ben):
    page = watch(ana)
    ledger.grant(north, 500, actor=ben, reason="more", key="more-1")
    assert page.hear("balance") == b"event: balance\ndata: "


@pytest.mark.parametrize("how", ["collect", "take_out", "change", "cover", "delete", "place"])
def test_a_collection_that_changed_is_named(watch, north, ana, cleo, membership, how):
    member, task = membership(cleo, north), factories.make_task(north, user=cleo, state="done")
    row = collecting.make(member, "Owls")
    if how in ("take_out", "cover"):
        collecting.collect(member, row, [task])
    page = watch(ana)
    acts = {
        "collect": lambda: collecting.collect(member, row, [task]),
        "take_out": lambda: collecting.take_out(member, row, [task]),
        "change": lambda: collecting.change(member, row, name="Barn owls", may="edit"),
        "cover": lambda: collecting.set_cover(member, row, task),
        "delete": lambda: collecting.delete(member, row),
        "place": lambda: collecting.place(task, row.pk),
    }
    acts[how]()
    assert page.hear("filed") == b"event: filed\ndata: %d" % row.pk


def test_a_silent_stream_is_kept_open_by_pings(watch, ana, monkeypatch):
    monkeypatch.setattr(live, "PING_S", 0.1)
    page = watch(ana)
    assert [page.next() for _ in range(3)][1:] == [b"event: ping\ndata: "] * 2  # so that the page hears it


def test_many_changes_arrive_in_order_and_the_last_is_the_latest(watch, north, ana):
    task = factories.make_task(north, user=ana)
    page = watch(ana)
    for version in range(2, 30):
        Task.objects.filter(pk=task.pk).update(version=version)
        bus.publish_task(north.pk, task.pk)
    versions = [card_of(page.hear("card"))[2]]
    while versions[-1] != 29:
        versions.append(card_of(page.hear("card"))[2])
    assert versions == sorted(versions)


def test_a_hint_about_a_task_that_is_gone_harms_nothing(watch, north, ana):
    task = factories.make_task(north, user=ana)
    page = watch(ana)
    bus.publish_task(north.pk, 10**9)
    bus.publish_task(north.pk, task.pk)
    assert card_of(page.hear("card"))[0] == task.pk


def test_a_card_that_cannot_be_drawn_makes_pages_ask_and_stops_nothing(watch, north, ana, monkeypatch):
    broken, whole, render = factories.make_task(north, user=ana), factories.make_task(north, user=ana), live.render_card
    monkeypatch.setattr(live, "render_card", lambda task: 1 / 0 if task.pk == broken.pk else render(task))
    page = watch(ana)
    bus.publish_task(north.pk, broken.pk)
    page.hear("resync")
    bus.publish_task(north.pk, whole.pk)
    assert card_of(page.hear("card"))[0] == whole.pk


# --- Who may listen ----------------------------------------------------------------------------------------------------


STRANGE_COOKIES = [{}, {"session": "x" * 32}, {"session": ';;=,"\\'}, {"session": "ü"}, {"\t": "=" * 3000}]


def test_nobody_else_learns_even_that_the_team_exists(watch, url, north, ana, dan, zoe):
    Membership.objects.filter(user=dan, team=north).delete()
    refused = [watch(zoe), watch(dan), watch(zoe, "nowhere")]
    ana.is_active = False
    ana.save()
    with ExitStack() as stack:
        refused += [watch(ana), *(stack.enter_context(Stream(url, cookies)) for cookies in STRANGE_COOKIES)]
        assert {page.status for page in refused} == {404}
        assert len({page.all_that_came() for page in refused}) == 1


def test_a_closed_team_has_no_stream(watch, north, ana):
    north.closed_at = north.created
    north.save()
    assert watch(ana).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_get_opens_a_stream(method, url, ana, client_for):
    answer = httpx.request(method, f"{url}/t/north/live/", cookies=serving.cookies(client_for(ana)))
    assert answer.status_code in (404, 405)


def test_a_removed_member_is_cut_off_at_once_and_the_others_are_not(watch, north, ana, dan):
    theirs, ours = watch(dan), watch(ana)
    Membership.objects.filter(user=dan, team=north).delete()
    bus.publish_access_changed(north.pk)
    assert theirs.ended(2)
    task = factories.make_task(north, user=ana)
    bus.publish_task(north.pk, task.pk)
    assert card_of(ours.hear("card"))[0] == task.pk


def test_what_changed_after_a_removal_is_not_told_any_more(watch, north, ana, dan):
    page, task = watch(dan), factories.make_task(north, user=ana)
    Membership.objects.filter(user=dan, team=north).delete()
    bus.publish_access_changed(north.pk)
    bus.publish_task(north.pk, task.pk)
    assert page.next(2) == b""


def test_a_session_that_was_signed_out_ends_at_the_next_check(url, ana, client_for, monkeypatch):
    monkeypatch.setattr(live, "PING_S", 0.1)
    monkeypatch.setattr(live, "RECHECK_S", 0.3)
    client = client_for(ana)
    with Stream(url, serving.cookies(client)) as page:
        page.hear("hello")
        assert not page.ended(0.8)
        client.session.flush()
        assert page.ended(2)


# --- What not everyone sees --------------------------------------------------------------------------------------------


def gone_of(block: bytes) -> set[int]:
    return {int(part) for part in block.removeprefix(b"event: gone\ndata: ").split(b",")}


def everything(page: Stream) -> bytes:
    """All that came until the stream has been silent for a moment."""
    came = b""
    try:
        while block := page.next(0.4):
            came += block
    except TimeoutError:
        pass
    return came


def test_a_private_card_is_its_authors_alone(watch, north, ana, ben, cleo, eve):
    task = factories.make_task(north, user=cleo, private=True, prompt="A secret harbour")
    theirs, others = [watch(cleo), watch(cleo)], [watch(user) for user in (ana, ben, eve)]
    bus.publish_task(north.pk, task.pk)
    lifecycle.cancel(task, cleo)
    for page in theirs:
        assert card_of(page.hear("card"))[0] == task.pk
    assert all(b"card" not in everything(page) and b"gone" not in everything(page) for page in others)


def test_a_picture_made_where_pictures_are_private_is_told_to_its_author_alone(watch, north, cleo, dan, membership):
    factories.make_account("revid")
    shelf.set_default(membership(cleo, north), private=True)
    theirs, others = watch(cleo), watch(dan)
    order = Order("A secret harbour", "pro", "4:3", "1K")
    lifecycle.create(access.membership(cleo, "north"), order, key="one", price_seen=None)
    assert Task.objects.get().private
    assert card_of(theirs.hear("card"))[0] == Task.objects.get().pk
    assert b"card" not in everything(others)


def test_what_becomes_private_vanishes_from_others_pages_and_comes_back(watch, north, ana, cleo, membership):
    task, author = factories.make_task(north, user=cleo, state="done"), membership(cleo, north)
    theirs, others = watch(cleo), watch(ana)
    shelf.set_private(author, [task], private=True)
    assert gone_of(others.hear("gone")) == {task.pk}
    assert card_of(theirs.hear("card")) == (task.pk, "done", 2)
    shelf.set_private(author, [task], private=False)
    assert card_of(others.hear("card")) == card_of(theirs.hear("card")) == (task.pk, "done", 3)
    assert b"gone" not in everything(theirs)


def test_what_is_thrown_away_vanishes_everywhere_until_it_comes_back(watch, north, ana, cleo, membership):
    task, author = factories.make_task(north, user=cleo, state="done"), membership(cleo, north)
    pages = [watch(cleo), watch(ana)]
    shelf.throw_away(author, [task])
    assert [gone_of(page.hear("gone")) for page in pages] == [{task.pk}] * 2
    shelf.restore(author, [task])
    assert [card_of(page.hear("card"))[0] for page in pages] == [task.pk] * 2


def test_a_private_one_that_is_restored_comes_back_to_its_author_alone(watch, north, ana, cleo, membership):
    task, author = factories.make_task(north, user=cleo, state="done", private=True), membership(cleo, north)
    shelf.throw_away(author, [task])
    theirs, others = watch(cleo), watch(ana)
    shelf.restore(author, [task])
    assert card_of(theirs.hear("card"))[0] == task.pk
    assert b"card" not in everything(others)


def test_many_at_once_vanish_whole_and_fill_no_backlog(watch, north, ana, cleo, membership, monkeypatch):
    monkeypatch.setattr(live, "BACKLOG", 4)
    tasks = [factories.make_task(north, user=cleo, state="failed") for _ in range(20)]
    others = watch(ana)
    shelf.set_private(membership(cleo, north), tasks, private=True)
    assert gone_of(others.hear("gone")) == {task.pk for task in tasks}


def test_of_many_cards_at_once_pages_are_told_to_ask(watch, north, ana, cleo, membership, monkeypatch):
    monkeypatch.setattr(live, "BACKLOG", 4)
    tasks = [factories.make_task(north, user=cleo, state="failed") for _ in range(20)]
    page = watch(ana)
    shelf.like(membership(cleo, north), tasks)
    page.hear("resync")


def test_who_sees_it_is_said_by_another_process_too(own_redis, north, ana, cleo, client_for):
    task = factories.make_task(north, user=cleo, private=True)
    with page_over(own_redis, serving.cookies(client_for(ana))) as page:
        publish_from_elsewhere(own_redis.url, f"publish_gone({north.pk}, [{task.pk}])")
        assert gone_of(page.hear("gone")) == {task.pk}


# --- What it costs and how it ends ---------------------------------------------------------------------------------------


def test_a_reader_who_falls_behind_is_told_to_ask_for_everything(watch, north, ana, monkeypatch):
    monkeypatch.setattr(live, "BACKLOG", 8)
    slow, quick = watch(ana), watch(ana)
    large = live.event("card", "x" * 100_000)
    for _ in range(200):  # far more than the sockets between us hold: nobody reads `slow`
        live.hub._call(live.hub._to_team, north.pk, large)
        assert quick.next(20).startswith(b"event: card\n")
    slow.hear("resync", 20)


def test_the_server_says_bye_and_ends_every_stream_when_it_closes(ana, client_for):
    with ExitStack() as stack, serving.site() as url:
        pages = [stack.enter_context(Stream(url, serving.cookies(client_for(ana)))) for _ in range(5)]
        for page in pages:
            page.hear("hello")
        stopped = stack.pop_all()
    with stopped:
        for page in pages:
            page.hear("bye")
            assert page.ended()


def connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return cursor.fetchone()[0]


def test_a_stream_holds_no_thread_and_no_connection(watch, north, ana):
    watch(ana), watch(ana), watch(ana)  # the doors' two threads are there from now on
    on_postgres = connection.vendor == "postgresql"
    before = threading.active_count(), connections() if on_postgres else 0
    for _ in range(50):
        watch(ana)
    assert len(live.hub._streams[north.pk]) == 53
    assert (threading.active_count(), connections() if on_postgres else 0) == before


def test_a_page_that_is_closed_is_forgotten(watch, north, ana):
    page = watch(ana)
    page.sock.close()
    until = time.monotonic() + 3
    while live.hub._streams[north.pk] and time.monotonic() < until:
        time.sleep(0.02)
    assert not live.hub._streams[north.pk]


# --- Between machines ----------------------------------------------------------------------------------------------------


class Redis:
    """A Redis of this test's own, to be killed and started again."""

    def __init__(self) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL, cwd="/tmp")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def wait_listened(self) -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                if self.client.pubsub_numsub(bus.CHANNEL)[0][1]:
                    return
            except redis.ConnectionError:
                pass
            time.sleep(0.05)
        raise AssertionError("nobody listens")


@pytest.fixture
def own_redis():
    mine = Redis()
    try:
        mine.start()
    except FileNotFoundError:
        pytest.skip("no redis-server on this machine")
    yield mine
    mine.kill()


@contextmanager
def page_over(own_redis: Redis, cookies: dict[str, str]):
    with serving.site(REDIS_URL=own_redis.url) as url, ExitStack() as stack:
        own_redis.wait_listened()
        page = stack.enter_context(Stream(url, cookies))
        page.hear("hello")
        yield page


def publish_from_elsewhere(redis_url: str, call: str) -> None:
    """From a process that shares nothing with us but Redis."""
    clean = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "VAR_DIR")}
    code = f"import django; django.setup(); from flux2web import bus; bus.{call}"
    env = clean | {"REDIS_URL": redis_url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, timeout=60)


def test_a_change_published_by_another_process_is_heard(own_redis, north, ana, client_for):
    task = factories.make_task(north, user=ana)
    with page_over(own_redis, serving.cookies(client_for(ana))) as page:
        publish_from_elsewhere(own_redis.url, f"publish_task({north.pk}, {task.pk})")
        assert card_of(page.hear("card"))[0] == task.pk


def test_what_another_release_says_is_passed_over(own_redis, north, ana, client_for):
    task = factories.make_task(north, user=ana)
    with page_over(own_redis, serving.cookies(client_for(ana))) as page:
        for nonsense in (b"", b"\xff", b"[]", b'{"kind": "new", "colour": 1}', b'{"kind": "dance"}', b'{"team_id": 1}'):
            own_redis.client.publish(bus.CHANNEL, nonsense)
        bus.publish_task(north.pk, task.pk)
        assert card_of(page.hear("card"))[0] == task.pk


def test_after_redis_was_lost_pages_are_told_to_ask_and_hear_again(own_redis, north, ana, client_for):
    task = factories.make_task(north, user=ana)
    with page_over(own_redis, serving.cookies(client_for(ana))) as page:
        own_redis.kill()
        lifecycle.cancel(task, ana)  # what changes meanwhile fails nobody
        own_redis.start()
        page.hear("resync", 15)
        bus.publish_task(north.pk, task.pk)
        assert card_of(page.hear("card", 10))[1] == "cancelled"


def test_a_connection_that_was_cut_for_a_moment_is_no_secret(own_redis, north, ana, client_for):
    with page_over(own_redis, serving.cookies(client_for(ana))) as page:
        own_redis.client.client_kill_filter(_type="pubsub")
        page.hear("resync", 10)


# --- Where there was no stream: the cards one missed -----------------------------------------------------------------------


def missed(client, have: dict[int, int], after: Task | None = None):
    pairs = ",".join(f"{task_id}:{version}" for task_id, version in have.items())
    return client.get("/t/north/cards/", {"have": pairs, "after": write_cursor(after) if after else ""})


def test_nothing_missed_is_an_empty_answer(north, ana, client_for):
    task = factories.make_task(north, user=ana)
    assert missed(client_for(ana), {task.pk: task.version}, task).status_code == 204


def test_a_place_in_line_comes_although_its_version_is_the_same(north, ana, client_for):
    revid = factories.make_account("revid")
    first, second = (factories.make_task(north, user=ana, waits_for=revid) for _ in range(2))
    lifecycle.cancel(first, ana)
    answer = missed(client_for(ana), {first.pk: first.version + 1, second.pk: second.version}, second)
    assert b"1st of yours" in answer.content
    assert missed(client_for(ana), {second.pk: second.version + 1}, second).status_code == 204


def test_changed_and_newer_cards_come_and_no_others(north, ana, client_for):
    same, changed, shown, newer = (factories.make_task(north, user=ana) for _ in range(4))
    lifecycle.cancel(changed, ana)
    have = {same.pk: same.version, changed.pk: changed.version, shown.pk: shown.version}
    html = missed(client_for(ana), have, shown).content
    assert set(re.findall(rb'data-task="(\d+)"', html)) == {str(task.pk).encode() for task in (changed, newer)}


def test_another_teams_card_never_comes_whatever_is_asked(north, south, ana, zoe, client_for):
    theirs = factories.make_task(south, user=zoe)
    assert missed(client_for(ana), {theirs.pk: 0}).status_code == 204
    assert client_for(zoe).get("/t/north/cards/", {"have": "1:0"}).status_code == 404


NONSENSE = [
    "", ":", ",", "1", "a:b", "1:b", "-1:-1", "1:1:1", "٣:٤", "²:1", "1.5:2", "9" * 400 + ":1", "1:" + "9" * 5000,
    "1:1," * 5000, "\x00:1", "NaN:inf", "1:1;DROP TABLE", "{}", "9223372036854775808:1", " 1 : 1 ",
]  # fmt: skip
MOMENTS = [
    "2026-01-01", "2026-01-01T00:00:00", "2026-13-45T99:99:99+00:00,1", "2026-01-01T00:00:00+00:00,", ",1",
    "2026-01-01T00:00:00+00:00,x", "2026-01-01T00:00:00+00:00,-1", "2026-01-01T00:00:00+00:00," + "9" * 30,
    "0001-01-01T00:00:00+23:59,1",
    "9999-12-31T23:59:59-23:59,1",
    "2026-01-01T00:00:00+99:99,1", "²,²", "\x00,1",
]  # fmt: skip


@pytest.mark.parametrize("have", NONSENSE)
def test_nonsense_for_have_is_no_error_of_ours(have, north, ana, client_for):
    factories.make_task(north, user=ana)
    assert client_for(ana).get("/t/north/cards/", {"have": have}).status_code in (200, 204)


@pytest.mark.parametrize("after", MOMENTS)
def test_nonsense_for_after_is_no_error_of_ours(after, north, ana, client_for):
    factories.make_task(north, user=ana)
    assert client_for(ana).get("/t/north/cards/", {"after": after}).status_code in (200, 204)


def test_a_page_that_missed_it_is_told_what_it_may_not_show_any_more(north, south, ana, cleo, zoe, client_for):
    kept, hidden, thrown = (factories.make_task(north, user=cleo, state="done") for _ in range(3))
    foreign = factories.make_task(south, user=zoe)
    Task.objects.filter(pk=hidden.pk).update(private=True)
    Task.objects.filter(pk=thrown.pk).update(deleted_at=kept.created)
    have = dict.fromkeys((kept.pk, hidden.pk, thrown.pk, foreign.pk, 10**9), 1)
    gone = {ana: [hidden.pk, thrown.pk, foreign.pk, 10**9], cleo: [thrown.pk, foreign.pk, 10**9]}
    for user, ids in gone.items():
        answer = missed(client_for(user), have)
        assert (answer.status_code, answer.headers["X-Gone"]) == (204, ",".join(map(str, ids)))


def test_a_private_card_is_no_new_card_for_others(north, ana, cleo, client_for):
    shown, hidden = factories.make_task(north, user=cleo), factories.make_task(north, user=cleo, private=True)
    assert missed(client_for(ana), {}, shown).status_code == 204
    assert f'data-task="{hidden.pk}"' in missed(client_for(cleo), {}, shown).content.decode()
    assert client_for(ana).get(f"/t/north/tasks/{hidden.pk}/card/").status_code == 404
