"""A press of more than one kind of picture: its price, its ceiling, when it stops, and what failed of it once more."""

from __future__ import annotations

import pytest

from flux2web import collecting, history, lifecycle, requests, routing, search, storage
from flux2web.history import Filters
from flux2web.models import Batch, Collection, Entry, State, Task
from flux2web.orders import Cell, Order, Refusal

from . import factories
from .peer import serving
from .road import look, order, press, sums, task_of, walk

CELLS = (Cell("A heron", "pro", "1:1"), Cell("An owl", "flex", "16:9"))


@pytest.fixture
def peer():
    with serving() as peer:
        yield peer


@pytest.fixture
def member(db, peer, cleo, north, membership, settings):
    """Revid: pro 10 credits, flex 25."""
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    factories.make_account("revid", base_url=peer.url)
    return membership(cleo, north)


def cells_of(batch: Batch) -> list[tuple]:
    return list(batch.tasks.order_by("pk").values_list("prompt", "family", "aspect_ratio", "seed", "price_credits"))


class TestMatrix:
    def test_each_cell_is_a_task_with_its_own_price(self, member, north):
        batch = press(member, rest=CELLS)
        assert cells_of(batch) == [
            ("A quiet harbour at dawn", "pro", "4:3", None, 10),
            ("A heron", "pro", "1:1", None, 10),
            ("An owl", "flex", "16:9", None, 25),
        ]
        assert sums(north) == (1000, 45, 0)

    def test_so_many_of_each_cell(self, member, north):
        batch = press(member, count=2, rest=CELLS[:1])
        assert [cell[0] for cell in cells_of(batch)] == ["A quiet harbour at dawn"] * 2 + ["A heron"] * 2
        assert sums(north) == (1000, 40, 0)

    def test_each_picture_knows_which_of_how_many_it_is(self, member):
        batch = press(member, count=2, rest=CELLS[:1])
        numbers = batch.tasks.order_by("pk").values_list("batch_number", "batch_size")
        assert list(numbers) == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert list(press(member).tasks.values_list("batch_number", "batch_size")) == [(1, 1)]

    def test_the_quote_is_what_is_held(self, member, north):
        quote = routing.quote(order(count=2, rest=CELLS))
        assert (quote.total, quote.pictures) == (90, 6)
        press(member, count=2, rest=CELLS, price_seen=90)
        assert sums(north) == (1000, 90, 0)

    def test_one_cell_that_nobody_can_make_refuses_all(self, member, north):
        outcome = press(member, rest=(Cell("A heron", "pro", "21:9"),))
        assert isinstance(outcome, Refusal)
        assert outcome.field == "aspect_ratio"
        assert sums(north) == (1000, 0, 0)
        assert not Batch.objects.exists()

    def test_what_the_budget_does_not_cover_as_a_whole_holds_nothing(self, member, north):
        cells = tuple(Cell(f"Bird {number}", "flex", "1:1") for number in range(50))
        outcome = press(member, rest=cells)
        assert isinstance(outcome, Refusal)
        assert outcome.kind == "budget"
        assert (sums(north), Task.objects.count()) == ((1000, 0, 0), 0)

    def test_the_same_press_twice_is_one_and_another_matrix_under_its_key_is_refused(self, member):
        first = press(member, key="k1", rest=CELLS)
        assert press(member, key="k1", rest=CELLS) == first
        assert press(member, key="k1", rest=CELLS[:1]).kind == "conflict"
        assert Task.objects.count() == 3

    def test_plain_orders_keep_the_fingerprint_they_always_had(self):
        assert order().fingerprint == order(rest=(), ceiling=None, stop_after=None, saved=None).fingerprint
        assert order().fingerprint == order(collection=None).fingerprint
        assert len({order(**said).fingerprint for said in ({}, {"ceiling": 10}, {"collection": 10})}) == 3

    def test_a_request_keeps_a_matrix(self, member):
        asked = order(rest=CELLS, stop_after=2)
        made = requests.ask(
            member, amount=10, reason="", key="r1", limit="member", draft=asked, price_seen=45, sends_itself=False
        )
        made.refresh_from_db()
        assert requests.order_of(made.draft) == asked

    def test_each_cell_is_found_by_its_own_words(self, member):
        batch = press(member, rest=CELLS)
        found = search.find(member.team_id, search.parse("heron"), limit=10)
        assert found == [batch.tasks.get(prompt="A heron").pk]


class TestCeiling:
    @pytest.mark.parametrize(("ceiling", "sent"), [(44, False), (45, True)])
    def test_what_costs_more_in_all_is_not_sent(self, member, north, ceiling, sent):
        outcome = press(member, rest=CELLS, ceiling=ceiling)
        assert isinstance(outcome, Batch) == sent
        if not sent:
            assert outcome.field == "ceiling"
            assert "cost 45 credits together; your ceiling is 44" in outcome.message


class TestStopAfter:
    @pytest.fixture
    def batch(self, member, peer) -> Batch:
        peer.answers = [peer.refuse(422)] * 8
        return press(member, count=6, stop_after=2, provider="revid")

    def test_so_many_failures_end_what_still_waits(self, batch, north):
        tasks = [walk(task) for task in batch.tasks.order_by("pk")]
        assert [task.state for task in tasks] == [State.FAILED] * 2 + [State.CANCELLED] * 4
        assert "2 of this batch failed" in tasks[-1].fail_message
        assert sums(north) == (1000, 0, 0)

    def test_the_failure_that_was_one_too_many_makes_the_others_due(self, batch, django_capture_on_commit_callbacks):
        """After its transaction: tasks are locked before money everywhere, so who has locked money waits for no task."""
        first, second, third = batch.tasks.order_by("pk")[:3]
        walk(first)
        Task.objects.filter(pk=third.pk).update(due_at="2099-01-01T00:00:00Z")
        with django_capture_on_commit_callbacks(execute=True):
            walk(second)
            third.refresh_from_db()
            assert third.due_at.year == 2099
        third.refresh_from_db()
        assert third.due_at.year < 2099
        assert look(third).state == State.CANCELLED

    def test_what_is_already_drawn_goes_on(self, member, peer, north):
        batch = press(member, count=3, stop_after=1, provider="revid")
        first, second, third = batch.tasks.order_by("pk")
        assert look(first).state == State.RUNNING
        peer.answers = [peer.refuse(422)]
        assert look(second).state == State.FAILED
        assert look(third).state == State.CANCELLED
        peer.jobs.update(dict.fromkeys(peer.jobs, "success"))
        assert walk(first).state == State.DONE
        assert sums(north) == (1000, 0, 10)

    def test_without_the_rule_failures_end_nothing(self, member, peer):
        peer.answers = [peer.refuse(422)] * 3
        batch = press(member, count=4, provider="revid")
        states = [look(task).state for task in batch.tasks.order_by("pk")]
        assert states == [State.FAILED] * 3 + [State.RUNNING]


class TestRetryFailed:
    @pytest.fixture
    def batch(self, member, peer) -> Batch:
        """Three cells, of which the last two failed."""
        batch = press(member, rest=CELLS, provider="revid")
        tasks = list(batch.tasks.order_by("pk"))
        look(tasks[0])
        peer.answers = [peer.refuse(422)] * 2
        for task in tasks[1:]:
            look(task)
        return batch

    def test_only_what_failed_is_sent_again_each_as_it_was(self, batch, member, north):
        assert lifecycle.retry_failed_price(member, batch).total == 35
        again = lifecycle.retry_failed(member, batch, price_seen=35)
        assert cells_of(again) == [("A heron", "pro", "1:1", None, 10), ("An owl", "flex", "16:9", None, 25)]
        parents = set(again.tasks.values_list("parent__prompt", flat=True))
        assert parents == {"A heron", "An owl"}
        assert sums(north) == (1000, 45, 0)

    def test_pressed_twice_it_is_once(self, batch, member):
        lifecycle.retry_failed(member, batch, price_seen=35)
        second = lifecycle.retry_failed(member, batch, price_seen=35)
        assert isinstance(second, Refusal)
        assert Entry.objects.filter(kind="hold").count() == 5

    def test_what_is_tried_again_alone_at_the_same_moment_is_not_tried_twice(self, batch, member, north, monkeypatch):
        failed = batch.tasks.filter(state=State.FAILED).order_by("pk")
        quote = routing.quote

        def slowly(order):
            monkeypatch.setattr(routing, "quote", quote)
            lifecycle.retry(member, failed[1])
            return quote(order)

        monkeypatch.setattr(routing, "quote", slowly)
        refusal = lifecycle.retry_failed(member, batch, price_seen=35)
        assert "has changed meanwhile" in refusal.message
        assert [task.children.count() for task in failed] == [0, 1]
        assert sums(north)[1] == 10 + 25
        assert lifecycle.retry_failed(member, batch, price_seen=35).tasks.get().parent == failed[0]

    def test_with_one_among_them_hidden_all_of_it_is(self, batch, member):
        Task.objects.filter(pk=batch.tasks.filter(state=State.FAILED).last().pk).update(private=True)
        again = lifecycle.retry_failed(member, batch, price_seen=35)
        assert list(again.tasks.values_list("private", flat=True)) == [True, True]

    def test_a_price_that_has_risen_is_said(self, batch, member):
        outcome = lifecycle.retry_failed(member, batch, price_seen=20)
        assert outcome.kind == "price"

    def test_a_batch_that_went_well_has_nothing_to_retry(self, member):
        batch = press(member)
        walk(task_of(batch))
        assert lifecycle.retry_failed_price(member, batch) is None
        assert isinstance(lifecycle.retry_failed(member, batch, price_seen=None), Refusal)


class TestCollection:
    @pytest.fixture
    def finals(self, member, peer) -> Collection:
        peer.default_state = "success"
        return collecting.make(member, "Finals")

    @staticmethod
    def inside(row: Collection) -> list[int]:
        """What is in it, after the number that it says."""
        placed = list(row.items.order_by("task_id").values_list("task_id", flat=True))
        assert Collection.objects.get(pk=row.pk).size == len(placed)
        return placed

    def test_a_picture_is_in_it_once_it_is_one(self, member, finals):
        task = task_of(press(member, collection=finals.pk))
        for state in (State.RUNNING, State.SAVING):
            assert self.inside(finals) == []
            task = look(task)
            assert task.state == state
        assert look(task).state == State.DONE
        assert self.inside(finals) == [task.pk]
        assert finals.items.get().added_by == member.user

    def test_what_failed_is_in_none_until_it_is_made_after_all(self, member, finals, peer):
        peer.answers = [peer.refuse(422)] * 2
        batch = press(member, collection=finals.pk, count=2, provider="revid")
        alone, other = [walk(task) for task in batch.tasks.order_by("pk")]
        assert self.inside(finals) == []
        again = walk(task_of(lifecycle.retry(member, alone)))
        with_it = walk(task_of(lifecycle.retry_failed(member, batch, price_seen=None)))
        assert self.inside(finals) == [again.pk, with_it.pk]
        assert with_it.parent == other

    def test_made_again_by_who_may_only_look_at_it_it_is_in_none(self, member, finals, membership, dan, north, peer):
        peer.answers = [peer.refuse(422)]
        failed = walk(task_of(press(member, collection=finals.pk, provider="revid")))
        Collection.objects.update(access="view")
        assert walk(task_of(lifecycle.retry(membership(dan, north), failed))).state == State.DONE
        assert self.inside(finals) == []

    def test_once_it_has_its_picture_further_ones_are_in_none(self, member, finals):
        made = walk(task_of(press(member, collection=finals.pk)))
        walk(task_of(lifecycle.retry(member, made)))
        made.refresh_from_db()
        for task in lifecycle.more(member, made, price_seen=None).tasks.all():
            walk(task)
        assert self.inside(finals) == [made.pk]

    def test_made_for_one_that_is_deleted_meanwhile_it_is_made_all_the_same(self, member, finals):
        task = look(task_of(press(member, collection=finals.pk)))
        collecting.delete(member, finals)
        assert walk(task).state == State.DONE
        assert self.inside(finals) == []

    def test_a_picture_for_ones_own_eyes_is_in_it_for_those_alone(self, member, finals, membership, dan, north):
        task = walk(task_of(press(member, collection=finals.pk, private=True)))
        filters = Filters(collection=finals.pk)
        assert [row.pk for row in history.page(member, filters).rows] == [task.pk]
        assert history.page(membership(dan, north), filters).rows == []

    def test_of_another_team_it_is_none(self, member, south, zoe, membership):
        theirs = collecting.make(membership(zoe, south), "Theirs")
        walk(task_of(press(member, collection=theirs.pk)))
        assert self.inside(theirs) == []

    def test_saved_twice_it_is_in_it_once(self, member, finals):
        task = walk(task_of(press(member, collection=finals.pk)), steps=2)
        stored = storage.store_result(task, storage.fetch_result(task, task.result_urls[0], task.account.base_url))
        for _ in range(2):
            lifecycle.saving._saved(task, stored)
        assert self.inside(finals) == [task.pk]


def test_an_order_knows_its_cells():
    rest = (Cell("A heron", "pro", "1:1"), Cell("An owl", "flex", "16:9", seed=7))
    whole = Order("Sea", "pro", "1:1", "1K", count=2, seed=1, rest=rest)
    assert [(cell.prompt, cell.seed, cell.count, cell.rest) for cell in whole.cells] == [
        ("Sea", 1, 2, ()),
        ("A heron", None, 2, ()),
        ("An owl", 7, 2, ()),
    ]
    assert whole.pictures == 6
