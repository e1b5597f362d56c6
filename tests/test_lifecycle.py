"""The life of a task, against a real provider on loopback. Every transition and limit of the story."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError
from django.test import override_settings
from django.utils import timezone

from flux2web import accounts, bus, imaging, lifecycle, storage
from flux2web.cards import Card
from flux2web.models import Attempt, Batch, Entry, Event, Price, ProviderAccount, ProviderKey, Reference, State, Task
from flux2web.orders import Refusal
from flux2web.providers.base import Accepted, Kind

from . import factories
from .peer import serving
from .road import age, expire_lease, look, press, sums, task_of, walk


@pytest.fixture
def peer():
    with serving() as peer:
        yield peer


@pytest.fixture
def revid(db, peer, settings):
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    return factories.make_account("revid", base_url=peer.url)


@pytest.fixture
def member(cleo, north, membership, revid):
    return membership(cleo, north)


@pytest.fixture
def task(member) -> Task:
    return task_of(press(member))


@pytest.fixture
def running(task) -> Task:
    task = look(task)
    assert task.state == State.RUNNING
    return task


@pytest.fixture
def told(task, settings):
    """The tasks that open pages are told of from now on."""
    settings.REDIS_URL, heard = "", []  # by the bus of this process
    hang_up = bus.subscribe(lambda hint: heard.append(hint.task_id) if hint.kind == "task" else None)
    yield heard
    hang_up()


@pytest.fixture
def secret(monkeypatch):
    """The callback secrets handed out, newest last."""
    made: list[str] = []

    def remember():
        made.append(f"secret-{len(made)}")
        return made[-1]

    monkeypatch.setattr(lifecycle.sending, "new_token", remember)
    return made


def kinds(task: Task) -> list[str]:
    return list(task.entries.order_by("id").values_list("kind", flat=True))


class TestCreating:
    def test_it_holds_the_price_and_queues_every_task_of_a_press(self, member, north):
        batch = press(member, count=3)
        assert batch.tasks.count() == 3
        assert sums(north) == (1000, 30, 0)
        assert {task.state for task in batch.tasks.all()} == {State.QUEUED}
        assert Entry.objects.filter(kind="hold", amount=10).count() == 3

    def test_it_writes_what_is_left_after_each_hold(self, member, north):
        press(member, count=3)
        holds = Entry.objects.filter(kind="hold").order_by("id")
        assert [entry.available_after for entry in holds] == [990, 980, 970]

    def test_it_answers_the_same_press_with_the_same_batch(self, member, north):
        first, second = press(member, key="k"), press(member, key="k")
        assert first == second
        assert sums(north)[1] == 10

    def test_it_refuses_other_content_under_the_same_key(self, member, north):
        press(member, key="k")
        refusal = press(member, key="k", prompt="Something else")
        assert isinstance(refusal, Refusal)
        assert refusal.kind == "conflict"
        assert sums(north)[1] == 10

    def test_it_refuses_all_of_a_batch_that_does_not_fit(self, member, north):
        Price.objects.filter(family="pro", resolution="1K").update(credits=400)
        refusal = press(member, count=3)
        assert refusal.kind == "budget"
        assert "1,200 credits" in refusal.message
        assert "1,000 credits" in refusal.message
        assert (Task.objects.count(), Batch.objects.count(), sums(north)) == (0, 0, (1000, 0, 0))

    def test_it_does_not_burn_the_key_of_a_refused_press(self, member, north):
        Price.objects.update(credits=2000)
        assert press(member, key="k").kind == "budget"
        Price.objects.update(credits=10)
        assert isinstance(press(member, key="k"), Batch)

    def test_it_shows_both_prices_when_the_price_has_risen(self, member, north):
        Price.objects.update(credits=25)
        refusal = press(member, price_seen=10)
        assert refusal.kind == "price"
        assert "from 10 to 25 credits" in refusal.message
        assert sums(north)[1] == 0

    def test_it_takes_a_price_that_has_fallen(self, member, north):
        assert isinstance(press(member, price_seen=99), Batch)
        assert sums(north)[1] == 10

    def test_it_refuses_what_has_no_price(self, member):
        Price.objects.all().delete()
        assert "has a price for pro 1K, so it is off" in press(member).message

    def test_it_refuses_a_reference_of_another_team(self, member, south, north):
        foreign = factories.make_reference(south)
        refusal = press(member, references=(foreign.pk,))
        assert (refusal.kind, refusal.field) == ("reference", "references")
        assert "Image 1" in refusal.message
        assert sums(north)[1] == 0

    def test_it_gives_each_reference_an_address_that_is_open_while_the_task_lives(self, member, north):
        reference = factories.make_reference(north)
        task = task_of(press(member, references=(reference.pk,)))
        assert task.hostings.get().closes_at is None

    def test_it_counts_seeds_up_within_a_press(self, member, peer):
        factories.make_account("vtrix", base_url=peer.url)
        batch = press(member, provider="vtrix", seed=7, count=3)
        assert sorted(batch.tasks.values_list("seed", flat=True)) == [7, 8, 9]

    def test_a_price_edited_later_changes_no_existing_task(self, task, peer, north):
        Price.objects.update(credits=1)
        peer.default_state = "success"
        assert walk(task).charged_credits == 10
        assert sums(north) == (1000, 0, 10)

    def test_a_price_that_rose_sends_nobody_away_who_held_the_old_one(self, task, peer, north):
        Price.objects.update(credits=99)
        peer.default_state = "success"
        assert walk(task).charged_credits == 10
        assert sums(north) == (1000, 0, 10)


class TestTheRoad:
    def test_it_ends_with_our_own_copy_and_a_settled_hold(self, task, peer, north):
        peer.default_state = "success"
        done = walk(task)
        assert done.state == State.DONE
        assert done.due_at is None
        assert (done.result.width_px, done.result.height_px) == (96, 72)
        assert sums(north) == (1000, 0, 10)
        assert kinds(done) == ["hold", "settle"]

    def test_it_tells_its_story_in_events(self, task, peer):
        peer.default_state = "success"
        told = list(Event.objects.filter(task=walk(task)).values_list("kind", flat=True))
        assert told == ["queued", "submitting", "running", "saving", "done"]

    def test_the_version_grows_with_every_move(self, task, peer):
        peer.default_state = "success"
        assert walk(task).version == 5

    def test_it_sends_what_was_asked_with_a_callback_of_its_own(self, running, peer):
        sent = peer.creates[0]
        assert sent["model"] == "flux-2/pro-text-to-image"
        assert sent["callBackUrl"].startswith("http://127.0.0.1:9/hooks/revid/")
        assert sent["_key"] == "test-key-of-revid-1234"

    def test_it_names_hosted_references_in_their_order(self, member, north, peer):
        first, second = factories.make_reference(north), factories.make_reference(north)
        look(task_of(press(member, references=(second.pk, first.pk))))
        urls = peer.creates[0]["input"]["input_urls"]
        tokens = {h.reference_id: h.token for h in Task.objects.get().hostings.all()}
        assert urls == [f"http://127.0.0.1:9/i/{tokens[pk]}.png" for pk in (second.pk, first.pk)]

    def test_it_closes_hosted_references_some_hours_after_the_end(self, member, north, peer):
        peer.default_state = "success"
        task = walk(task_of(press(member, references=(factories.make_reference(north).pk,))))
        assert task.hostings.get().closes_at > task.finished_at

    def test_a_failure_releases_the_hold_and_says_why(self, running, peer, north):
        peer.jobs["up-1"] = "fail"
        failed = look(running)
        assert (failed.state, failed.fail_message) == (State.FAILED, "it broke")
        assert sums(north) == (1000, 0, 0)
        assert kinds(failed) == ["hold", "release"]

    def test_looking_twice_changes_nothing_the_second_time(self, task, peer, north):
        peer.default_state = "success"
        done = walk(task)
        for step in (lifecycle.submit, lifecycle.check, lifecycle.save):
            assert step(done.pk) is None
        assert sums(north) == (1000, 0, 10)

    def test_a_look_that_is_not_due_does_nothing(self, running, peer):
        assert lifecycle.check(running.pk) is None
        assert peer.looks == []

    def test_a_missing_task_is_no_error(self, db):
        assert lifecycle.submit(10**9) is None

    def test_vtrix_settles_what_it_reports_within_the_hold(self, running, north, peer):
        Task.objects.filter(pk=running.pk).update(cost_usd="0.012")
        peer.jobs["up-1"] = "success"
        task = look(running)
        Task.objects.filter(pk=task.pk).update(cost_usd="0.012")
        assert look(task).charged_credits == 5
        assert sums(north) == (1000, 0, 5)


class TestCancelling:
    def test_a_waiting_task_can_be_taken_back(self, task, cleo, north):
        assert lifecycle.cancel(task, cleo) is True
        task.refresh_from_db()
        assert task.state == State.CANCELLED
        assert sums(north) == (1000, 0, 0)

    def test_a_sent_task_cannot(self, running, cleo, north):
        assert lifecycle.cancel(running, cleo) is False
        assert sums(north)[1] == 10

    def test_a_cancelled_task_is_not_sent(self, task, cleo, peer):
        lifecycle.cancel(task, cleo)
        assert lifecycle.submit(task.pk) is None
        assert peer.creates == []


class TestRetrying:
    def test_a_failed_task_is_tried_again_as_a_child_with_its_own_hold(self, running, peer, member, north):
        peer.jobs["up-1"] = "fail"
        failed = look(running)
        again = task_of(lifecycle.retry(member, failed))
        assert (again.parent, again.prompt, again.state) == (failed, failed.prompt, State.QUEUED)
        assert sums(north) == (1000, 10, 0)

    def test_the_same_press_twice_is_one_and_the_press_of_a_fresh_card_another(self, running, peer, member, north):
        peer.jobs["up-1"] = "fail"
        failed = look(running)
        first = lifecycle.retry(member, failed, version_seen=failed.version)
        assert lifecycle.retry(member, failed, version_seen=failed.version) == first
        fresh = Task.objects.get(pk=failed.pk)
        assert fresh.version == failed.version + 1
        assert lifecycle.retry(member, fresh, version_seen=fresh.version) != first
        assert sums(north) == (1000, 20, 0)

    def test_what_somebody_tried_again_meanwhile_is_not_and_that_is_said(
        self, running, peer, member, membership, dan, north
    ):
        peer.jobs["up-1"] = "fail"
        failed = look(running)
        lifecycle.retry(membership(dan, north), failed)
        refusal = lifecycle.retry(member, failed, version_seen=failed.version)
        assert "has changed meanwhile" in refusal.message
        assert sums(north) == (1000, 10, 0)

    def test_a_price_that_has_risen_is_shown_first(self, running, peer, member, north):
        peer.jobs["up-1"] = "fail"
        failed = look(running)
        Price.objects.update(credits=25)
        refusal = lifecycle.retry(member, failed)
        assert "from 10 to 25 credits. Choose Edit" in refusal.message
        assert sums(north)[1] == 0

    def test_a_done_or_live_task_is_not(self, running, member):
        assert isinstance(lifecycle.retry(member, running), Refusal)


class TestAnswersToACreate:
    def test_a_lost_answer_is_uncertain_and_never_sent_again(self, task, peer, north):
        peer.answers.append(peer.accept_then_cut)
        task = look(task)
        assert task.state == State.UNCERTAIN
        for _ in range(30):
            task = look(task)
        assert len(peer.creates) == 1
        assert sums(north)[1] == 10

    @pytest.mark.parametrize("status", [500, 502, 504])
    def test_an_unreadable_5xx_is_uncertain(self, task, peer, status):
        peer.answers.append(peer.html(status))
        assert look(task).state == State.UNCERTAIN

    def test_a_200_without_an_id_is_uncertain(self, task, peer):
        peer.answers.append(peer.refuse(200))
        assert look(task).state == State.UNCERTAIN

    def test_an_id_that_is_already_in_use_is_uncertain(self, running, member, peer):
        peer.answers.append(lambda handler, _: handler.envelope(200, {"taskId": "up-1"}))
        other = look(task_of(press(member)))
        assert other.state == State.UNCERTAIN
        assert "already in use" in other.events.last().note

    @pytest.mark.parametrize("code", [401, 402, 429, 455, 503])
    def test_a_refusal_that_speaks_of_the_account_pauses_it_and_the_task_waits(self, task, peer, revid, north, code):
        peer.answers.append(peer.refuse(code))
        task = look(task)
        revid.refresh_from_db()
        assert task.state == State.QUEUED
        assert revid.paused_until is not None
        assert sums(north)[1] == 10

    def test_nothing_is_sent_to_a_paused_account(self, task, peer):
        peer.answers.append(peer.refuse(402))
        walk(task, steps=5)
        assert len(peer.creates) == 1

    def test_auto_goes_to_the_next_provider_that_the_hold_covers(self, task, peer):
        with serving() as other:
            factories.make_account("flux2api", base_url=other.url)
            factories.make_price("flux2api", credits=10)
            peer.answers.append(peer.refuse(402))
            task = look(look(task))
            assert task.account.provider == "flux2api"

    def test_who_delivers_for_less_is_paid_less(self, member, peer, north):
        with serving() as dear:
            quoted = factories.make_account("flux2api", base_url=dear.url)
            ProviderAccount.objects.filter(provider="revid").update(enabled=False)
            task = task_of(press(member))
            assert (task.price_credits, task.quoted_provider) == (30, "flux2api")
            ProviderAccount.objects.filter(provider="revid").update(enabled=True)
            ProviderAccount.objects.filter(pk=quoted.pk).update(enabled=False)
            peer.default_state = "success"
            assert walk(task).charged_credits == 10
        assert sums(north) == (1000, 0, 10)

    def test_auto_never_goes_to_a_dearer_provider(self, task, peer):
        factories.make_account("flux2api", base_url=peer.url)
        peer.answers.append(peer.refuse(402))
        assert look(look(task)).state == State.QUEUED

    def test_a_chosen_provider_stays_the_members_choice(self, member, peer):
        factories.make_account("flux2api", base_url=peer.url)
        factories.make_price("flux2api", credits=10)
        peer.answers.append(peer.refuse(402))
        task = look(look(task_of(press(member, provider="revid"))))
        assert (task.state, task.account) == (State.QUEUED, None)

    def test_the_pause_follows_retry_after_within_bounds(self, task, peer, revid):
        peer.answers.append(peer.refuse(429, status=429, Retry_After="99999"))
        look(task)
        revid.refresh_from_db()
        assert (revid.paused_until - task.created).total_seconds() < 310

    def test_a_shorter_pause_does_not_cut_a_longer_one(self, revid):
        until = accounts.pause(revid, Kind.AUTH, "wrong key")
        assert accounts.pause(revid, Kind.RATE, "too fast", 1) == until
        revid.refresh_from_db()
        assert (revid.paused_until, revid.pause_kind) == (until, "auth")

    @pytest.mark.parametrize("code", [500, 501])
    def test_a_readable_failure_fails_and_releases(self, task, peer, north, code):
        peer.answers.append(peer.refuse(code, "out of order"))
        task = look(task)
        assert (task.state, task.fail_message) == (State.FAILED, "Revid says: out of order")
        assert sums(north) == (1000, 0, 0)

    def test_after_a_readable_failure_auto_asks_the_next_provider(self, task, peer):
        with serving() as other:
            factories.make_account("flux2api", base_url=other.url)
            factories.make_price("flux2api", credits=10)
            peer.answers.append(peer.refuse(500))
            task = look(task)
            assert task.state == State.QUEUED
            assert look(task).account.provider == "flux2api"
            assert len(peer.creates) == 1

    @pytest.mark.parametrize("code", [400, 404, 422])
    def test_a_refusal_of_this_very_request_fails_and_releases(self, task, peer, north, code):
        peer.answers.append(peer.refuse(code, "bad ratio"))
        task = look(task)
        assert (task.state, task.fail_kind) == (State.FAILED, "input")
        assert sums(north) == (1000, 0, 0)

    def test_what_surely_never_left_is_sent_again(self, member, revid, north, peer):
        revid.base_url = "http://127.0.0.1:1"
        revid.save()
        task = look(task_of(press(member)))
        assert (task.state, task.attempts.get().outcome) == (State.QUEUED, Attempt.Outcome.NOT_SENT)
        revid.base_url, revid.paused_until = peer.url, None
        revid.save()
        assert look(task).state == State.RUNNING

    def test_a_passed_lease_makes_it_uncertain(self, task, peer, monkeypatch):
        monkeypatch.setattr(lifecycle.sending, "_create_call", lambda sending: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            look(task)
        task.refresh_from_db()
        assert look(task).state == State.SUBMITTING  # due, but its lease has not passed
        expire_lease(task)
        lifecycle.check(task.pk)
        task.refresh_from_db()
        assert task.state == State.UNCERTAIN

    def test_an_acceptance_outlasts_a_database_that_is_away(self, task, monkeypatch):
        answer = lifecycle.answers._answer
        away = [OperationalError("closed"), InterfaceError("closed"), OperationalError("starting")]

        def answer_or_fail(*args, **fields):
            if away:
                raise away.pop()
            return answer(*args, **fields)

        monkeypatch.setattr(lifecycle.answers, "_answer", answer_or_fail)
        monkeypatch.setattr(lifecycle.answers, "KEEP_ID_S", (0, 0, 0))
        assert look(task).upstream_id == "up-1"

    test_an_acceptance_outlasts_a_database_that_is_away = pytest.mark.django_db(transaction=True)(
        test_an_acceptance_outlasts_a_database_that_is_away
    )

    def test_a_late_acceptance_heals_an_uncertain_task(self, task, peer):
        peer.answers.append(peer.cut)
        task = look(task)
        attempt = task.attempts.get()
        lifecycle.answers.accept(attempt, Accepted("up-late"), cause="create answer")
        task.refresh_from_db()
        assert (task.state, task.upstream_id) == (State.RUNNING, "up-late")

    def test_an_acceptance_after_the_end_is_kept_as_a_note(self, task, peer, north):
        peer.answers.append(peer.cut)
        task = age(look(task), looks=30, waited_s=10**6)
        task = look(task)
        assert task.state == State.FAILED
        lifecycle.answers.accept(task.attempts.get(), Accepted("up-late"), cause="create answer")
        task.refresh_from_db()
        assert task.state == State.FAILED
        assert task.events.filter(kind="late").exists()
        assert sums(north) == (1000, 0, 0)


class TestRinging:
    def test_a_ring_makes_us_ask_the_provider_itself(self, secret, running, peer):
        peer.jobs["up-1"] = "success"
        task_id, next_ = lifecycle.ring("revid", secret[-1], "POST", b"not even json")
        assert task_id == running.pk
        lifecycle.check(task_id)
        running.refresh_from_db()
        assert running.state == State.SAVING

    def test_a_body_that_lies_changes_nothing(self, secret, running, peer):
        lifecycle.ring("revid", secret[-1], "POST", peer.callback_body("up-1", "success"))
        lifecycle.check(running.pk)
        running.refresh_from_db()
        assert running.state == State.RUNNING
        assert running.result_urls == []

    def test_an_unknown_secret_is_nobody(self, running):
        assert lifecycle.ring("revid", "guessed", "POST", b"{}") is None

    def test_a_secret_opens_only_its_own_providers_door(self, secret, running):
        assert lifecycle.ring("apixo", secret[-1], "POST", b"{}") is None

    def test_an_id_of_another_task_keeps_nothing_uncertain_for_ever(self, secret, running, member, peer, north):
        peer.answers.append(lambda handler, _: handler.envelope(200, {"taskId": "up-1"}))
        other = look(task_of(press(member)))
        lifecycle.ring("revid", secret[-1], "POST", peer.callback_body("up-1"))
        assert look(other).state == State.UNCERTAIN
        assert look(age(other, waited_s=10**5, looks=50)).state == State.FAILED
        assert sums(north) == (1000, 10, 0)

    def test_a_ring_while_we_give_up_is_heard(self, secret, task, peer, monkeypatch):
        peer.answers.append(peer.accept_then_cut)
        task, told = age(look(task), waited_s=10**5, looks=50), lifecycle.looks._told_id

        def ring_behind(attempt):
            monkeypatch.setattr(lifecycle.looks, "_told_id", told)
            lifecycle.ring("revid", secret[-1], "POST", peer.callback_body("up-1"))

        monkeypatch.setattr(lifecycle.looks, "_told_id", ring_behind)
        peer.jobs["up-1"] = "success"
        assert walk(task).state == State.DONE

    def test_it_teaches_us_the_id_of_an_uncertain_task(self, secret, task, peer):
        peer.answers.append(peer.accept_then_cut)
        task = look(task)
        peer.jobs["up-1"] = "success"
        lifecycle.ring("revid", secret[-1], "POST", peer.callback_body("up-1"))
        done = walk(task)
        assert (done.state, done.upstream_id) == (State.DONE, "up-1")
        assert len(peer.creates) == 1

    def test_a_ring_before_the_answer_waits_for_it(self, secret, task, peer):
        def ring_first(handler, upstream_id):
            peer.jobs[upstream_id] = "success"
            lifecycle.ring("revid", secret[-1], "POST", peer.callback_body(upstream_id))
            peer.accept(handler, upstream_id)

        peer.answers.append(ring_first)
        Task.objects.filter(pk=task.pk).update(due_at=task.created)
        next_ = lifecycle.submit(task.pk)
        task.refresh_from_db()
        assert task.state == State.RUNNING
        assert next_.at <= task.due_at
        lifecycle.check(task.pk)
        task.refresh_from_db()
        assert task.state == State.SAVING

    test_a_ring_before_the_answer_waits_for_it = pytest.mark.django_db(transaction=True)(
        test_a_ring_before_the_answer_waits_for_it
    )

    def test_a_late_ring_is_kept_and_changes_nothing(self, secret, running, peer, north):
        peer.jobs["up-1"] = "fail"
        failed = look(running)
        assert lifecycle.ring("revid", secret[-1], "POST", peer.callback_body("up-1")) is not None
        failed.refresh_from_db()
        assert failed.state == State.FAILED
        assert sums(north) == (1000, 0, 0)

    def test_a_flood_of_rings_makes_few_looks(self, secret, running, peer):
        for _ in range(40):
            lifecycle.ring("revid", secret[-1], "POST", b"{}")
            lifecycle.check(running.pk)
        assert len(peer.looks) <= 6
        assert running.attempts.get().callbacks.count() <= lifecycle.rings.CALLBACKS_KEPT

    def test_a_ring_during_a_look_is_not_forgotten(self, secret, running, peer):
        def ring_meanwhile(handler, upstream_id):
            lifecycle.ring("revid", secret[-1], "POST", b"{}")
            handler.envelope(200, peer.record(upstream_id, "waiting"))

        peer.look_answers.append(ring_meanwhile)
        Task.objects.filter(pk=running.pk).update(due_at=running.created)
        next_ = lifecycle.check(running.pk)
        running.refresh_from_db()
        assert running.due_at <= next_.at

    test_a_ring_during_a_look_is_not_forgotten = pytest.mark.django_db(transaction=True)(
        test_a_ring_during_a_look_is_not_forgotten
    )


class TestLimits:
    def test_a_task_that_no_account_may_take_fails_after_a_quarter_of_an_hour(self, task, revid, north):
        revid.enabled = False
        revid.save()
        assert look(task).state == State.QUEUED
        assert look(age(task, waited_s=901)).state == State.FAILED
        assert sums(north) == (1000, 0, 0)

    def test_open_pages_hear_once_that_nobody_may_take_it_and_again_when_somebody_may(
        self, task, revid, told, django_capture_on_commit_callbacks
    ):
        with django_capture_on_commit_callbacks(execute=True):
            accounts.pause(revid, Kind.BALANCE, "No money.")
            look(task)
            look(task)
        assert told == [task.pk]
        accounts.worked(ProviderAccount.objects.get(pk=revid.pk))
        ProviderAccount.objects.update(rate_count=1, rate_s=3600)
        revid.refresh_from_db()
        revid.take_call()
        with django_capture_on_commit_callbacks(execute=True):
            look(task)
            look(task)
        assert (told, Task.objects.get().in_line) == ([task.pk] * 2, True)

    def test_tries_that_never_reach_a_provider_do_not_make_the_limit_unreachable(self, task, revid, north):
        revid.base_url = "http://127.0.0.1:1"
        revid.save()
        tried = look(age(task, waited_s=890))
        assert (tried.state, tried.waited_s) == (State.QUEUED, 890)
        a_minute_ago = tried.state_since - timedelta(seconds=60)
        assert look(age(tried, state_since=a_minute_ago)).state == State.FAILED
        assert sums(north) == (1000, 0, 0)

    def test_a_reference_that_our_own_storage_has_lost_pauses_no_provider(self, member, north, peer):
        reference = factories.make_reference(north)
        vtrix = factories.make_account("vtrix", base_url=peer.url, options={"references": "base64"})
        storage.default_storage.delete(reference.key)
        task = look(task_of(press(member, provider="vtrix", references=(reference.pk,))))
        vtrix.refresh_from_db()
        assert (task.state, vtrix.paused_until, peer.creates) == (State.QUEUED, None, [])

    def test_a_reference_that_is_lost_for_good_ends_the_waiting(self, member, north, peer):
        reference = factories.make_reference(north)
        factories.make_account("vtrix", base_url=peer.url, options={"references": "base64"})
        storage.default_storage.delete(reference.key)
        task = task_of(press(member, provider="vtrix", references=(reference.pk,)))
        task = look(age(task, waited_s=880))
        assert task.state == State.QUEUED
        task = look(task)
        assert (task.state, "could not be read" in task.fail_message) == (State.FAILED, True)
        assert sums(north) == (1000, 0, 0)

    def test_a_reference_behind_a_storage_that_is_down_is_waited_for(self, member, north, peer, monkeypatch):
        reference = factories.make_reference(north)
        factories.make_account("vtrix", base_url=peer.url, options={"references": "base64"})
        down = lambda *_: (_ for _ in ()).throw(OSError("down"))  # noqa: E731
        monkeypatch.setattr(storage.default_storage, "open", down)
        monkeypatch.setattr(storage.default_storage, "exists", down)
        task = task_of(press(member, provider="vtrix", references=(reference.pk,)))
        assert look(age(task, waited_s=890)).waited_s == 890

    def test_a_rate_that_was_raised_frees_those_who_wait(self, task, revid):
        accounts.set_account("revid", rate=(1, 86_400))
        revid.refresh_from_db()
        revid.take_call()
        waiting = look(task)
        assert (waiting.due_at - timezone.now()).total_seconds() < 2 * lifecycle.sending.TURN_MAX_S
        accounts.set_account("revid", rate=(20, 10))
        assert look(waiting).state == State.RUNNING

    def test_a_key_that_does_not_open_pauses_the_account_and_nothing_is_sent(self, task, revid, peer, settings):
        settings.SECRET_KEYS = ["another secret altogether"]
        revid.refresh_from_db()
        assert look(task).state == State.QUEUED
        revid.refresh_from_db()
        assert (revid.pause_kind, peer.creates) == ("auth", [])

    def test_waiting_for_a_turn_has_no_limit(self, task, revid, peer):
        revid.concurrent = 0
        revid.rate_count, revid.rate_s = 1, 3600
        revid.save()
        revid.take_call()
        waiting = look(age(task, waited_s=0))
        assert (waiting.state, waiting.waited_s, peer.creates) == (State.QUEUED, 0, [])

    def test_a_pause_while_one_stood_in_line_counts_from_then_on(self, task, revid):
        revid.concurrent = 0
        revid.rate_count, revid.rate_s = 1, 3600
        revid.save()
        revid.take_call()
        assert look(task).in_line
        accounts.pause(revid, Kind.MAINTENANCE, "closed")
        hour_ago = timezone.now() - timedelta(hours=1)
        assert look(age(task, looked_at=hour_ago, state_since=hour_ago)).waited_s == 0
        assert look(age(task, looked_at=hour_ago, state_since=hour_ago)).waited_s > 0

    def test_a_ceiling_of_tasks_at_once_is_kept(self, member, revid, peer):
        revid.concurrent = 2
        revid.save()
        tasks = [look(task_of(press(member))) for _ in range(4)]
        assert [task.state for task in tasks].count(State.RUNNING) == 2
        assert len(peer.creates) == 2

    def test_an_uncertain_task_is_given_up_only_after_time_and_looks(self, task, peer, north):
        peer.answers.append(peer.cut)
        task = look(task)
        assert look(age(task, waited_s=10**5, looks=3)).state == State.UNCERTAIN
        assert look(age(task, waited_s=0, looks=50)).state == State.UNCERTAIN
        assert look(age(task, waited_s=10**5, looks=50)).state == State.FAILED
        assert sums(north) == (1000, 0, 0)

    def test_a_running_task_is_given_up_only_on_a_fresh_answer(self, running, peer, north):
        peer.look_answers.append(peer.html(502))
        overdue = look(age(running, waited_s=10**5))
        assert overdue.state == State.RUNNING
        assert look(overdue).state == State.FAILED
        assert sums(north) == (1000, 0, 0)

    def test_a_success_after_the_limit_is_still_a_success(self, running, peer):
        peer.jobs["up-1"] = "success"
        assert look(age(running, waited_s=10**5)).state == State.SAVING

    def test_time_in_which_this_site_was_down_counts_as_one_gap(self, running, settings):
        long_ago = running.created - timedelta(hours=9)
        task = look(age(running, looked_at=long_ago, state_since=long_ago))
        assert task.waited_s == pytest.approx(settings.GAP_MAX_S)

    def test_look_errors_never_fail_a_task(self, running, peer):
        for code in (401, 402, 429, 455, 500):
            peer.look_answers.append(peer.refuse(code))
        peer.look_answers += [peer.html(502), peer.cut]
        for _ in range(7):
            assert look(running).state == State.RUNNING
        peer.jobs["up-1"] = "success"
        assert walk(running).state == State.DONE

    def test_an_unreadable_success_is_given_up_after_three_looks(self, running, peer, north):
        empty = {"taskId": "up-1", "state": "success", "resultJson": "{}"}
        peer.look_answers += [lambda handler, _: handler.envelope(200, empty)] * 3
        assert [look(running).state for _ in range(3)] == [State.RUNNING, State.RUNNING, State.FAILED]
        assert sums(north) == (1000, 0, 0)

    def test_one_unreadable_success_after_an_outage_is_not_the_third(self, running, peer):
        empty = {"taskId": "up-1", "state": "success", "resultJson": "{}"}
        peer.look_answers += [peer.html(502)] * 4 + [lambda handler, _: handler.envelope(200, empty)]
        for _ in range(5):
            assert look(running).state == State.RUNNING
        peer.jobs["up-1"] = "success"
        assert walk(running).state == State.DONE

    def test_an_old_key_that_closed_falls_back_to_the_newest(self, running, revid, peer):
        ProviderKey.objects.create(account=revid, version=2, secret="newer-key-12345678")
        peer.look_answers.append(peer.refuse(401))
        peer.jobs["up-1"] = "success"
        assert look(running).state == State.SAVING


class TestSaving:
    @pytest.fixture
    def saving(self, running, peer) -> Task:
        peer.jobs["up-1"] = "success"
        task = look(running)
        assert task.state == State.SAVING
        return task

    def test_a_picture_that_is_late_is_waited_for(self, saving, peer):
        peer.fetch_status = 500
        assert look(saving).state == State.SAVING
        peer.fetch_status = 200
        assert look(saving).state == State.DONE

    def test_a_gone_address_is_asked_for_afresh_and_then_given_up(self, saving, peer, north):
        peer.fetch_status = 404
        task = walk(saving, steps=60)
        assert task.events.filter(kind="saving").count() == lifecycle.saving.REFETCHES_MAX
        assert task.state == State.SAVING  # a delivery network may be late by more than a few minutes
        task = look(age(task, waited_s=10**5))
        assert (task.state, task.fail_code) == (State.FAILED, "result_lost")
        assert sums(north) == (1000, 0, 0)

    def test_what_is_no_picture_is_given_up_after_three_tries(self, saving, peer, north):
        peer.picture = b"<html>busy</html>"
        assert walk(saving, steps=10).state == State.FAILED
        assert peer.fetches == 3
        assert sums(north) == (1000, 0, 0)

    def test_one_page_after_other_troubles_is_not_the_third(self, saving, peer):
        peer.fetch_status = 500
        for _ in range(4):
            look(saving)
        peer.fetch_status, good, peer.picture = 200, peer.picture, b"<html>busy</html>"
        assert look(saving).state == State.SAVING
        peer.picture = good
        assert walk(saving).state == State.DONE

    def test_one_page_after_a_full_disk_is_not_the_third(self, saving, peer, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(storage, "_write_atomically", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
            for _ in range(4):
                look(saving)
        peer.picture = b"<html>busy</html>"
        assert look(saving).state == State.SAVING

    def test_past_the_limit_the_provider_is_asked_once_more(self, saving, peer):
        peer.fetch_status = 400  # how some buckets say that a signed address has run out
        asked = look(age(saving, waited_s=10**5))
        assert asked.state == State.RUNNING
        peer.fetch_status = 200
        assert walk(asked).state == State.DONE

    def test_an_impatient_member_does_not_use_up_its_tries(self, saving, cleo):
        assert lifecycle.look_now(saving, cleo) is None

    def test_of_several_addresses_each_gets_its_turn(self, saving):
        age(saving, result_urls=["https://127.0.0.1:1/refused.png", *saving.result_urls])
        assert walk(saving).state == State.DONE

    def test_a_page_in_place_of_the_picture_heals(self, saving, peer):
        good, peer.picture = peer.picture, b"<html>busy</html>"
        assert look(saving).state == State.SAVING
        peer.picture = good
        assert look(saving).state == State.DONE

    def test_our_own_full_disk_costs_nobody_anything(self, saving, peer, north, monkeypatch, settings):
        with override_settings(MEDIA_ROOT="/proc/nowhere"), monkeypatch.context() as patch:
            patch.setattr(storage, "_put", lambda *_: (_ for _ in ()).throw(storage.StorageDown("full")))
            for _ in range(20):
                task = look(saving)
        assert (task.state, task.waited_s) == (State.SAVING, 0)
        assert peer.fetches == 1  # the bytes wait on our disk
        assert look(task).state == State.DONE
        assert sums(north) == (1000, 0, 10)

    def test_a_child_of_ours_that_dies_loses_no_picture_that_was_paid_for(self, saving, peer, north, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(imaging, "_children", imaging._Children(1))
            patch.setattr(imaging.sys, "executable", "/bin/false")
            for _ in range(6):
                assert look(saving).state == State.SAVING
        assert peer.fetches == 1  # the bytes wait on our disk
        assert walk(saving).state == State.DONE
        assert sums(north) == (1000, 0, 10)

    def test_a_picture_that_kills_every_child_ends_with_its_time(self, saving, north, monkeypatch):
        monkeypatch.setattr(imaging, "_children", imaging._Children(1))
        monkeypatch.setattr(imaging.sys, "executable", "/bin/false")
        task = look(age(saving, waited_s=10**5))
        assert (task.state, task.fail_code) == (State.FAILED, "result_lost")
        assert sums(north) == (1000, 0, 0)

    def test_an_address_inside_our_network_is_refused(self, saving, north):
        age(saving, result_urls=["http://169.254.169.254/latest/meta-data"])
        assert walk(saving, steps=5).state == State.FAILED
        assert sums(north) == (1000, 0, 0)


class TestRefunding:
    @pytest.fixture
    def done(self, task, peer) -> Task:
        peer.default_state = "success"
        return walk(task)

    def give_back(self, task, amount, ana, key="r1"):
        return lifecycle.refund(task, amount, actor=ana, reason="blurred", key=key)

    def test_part_of_a_charge_is_given_back_with_its_reason(self, done, ana, north):
        entry = self.give_back(done, 4, ana)
        assert (entry.kind, entry.amount, entry.available_after, entry.actor) == ("refund", 4, 994, ana)
        done.refresh_from_db()
        assert (done.state, done.charged_credits, done.refunded_credits) == (State.DONE, 10, 4)
        assert sums(north) == (1000, 0, 6)
        assert Card(done).returned == "4 refunded"

    def test_never_more_than_was_charged(self, done, ana, north):
        self.give_back(done, 7, ana)
        refusal = self.give_back(done, 4, ana, key="r2")
        assert "3 credits left to give back" in refusal.message
        assert sums(north) == (1000, 0, 3)

    def test_the_same_refund_posted_twice_is_one(self, done, ana, north):
        assert self.give_back(done, 4, ana) == self.give_back(done, 4, ana)
        assert sums(north) == (1000, 0, 6)

    def test_the_same_key_for_another_amount_is_refused(self, done, ana, north):
        self.give_back(done, 4, ana)
        assert self.give_back(done, 5, ana).kind == "conflict"
        assert sums(north) == (1000, 0, 6)

    def test_what_was_not_charged_cannot_be_refunded(self, running, ana, north):
        assert "was not charged" in self.give_back(running, 4, ana).message
        assert sums(north) == (1000, 10, 0)


def test_waking_makes_every_claimed_look_due(running):
    assert lifecycle.wake() == 1
    assert look(running).state == State.RUNNING


def test_a_deleted_reference_cannot_be_sent(member, north):
    gone = factories.make_reference(north)
    Reference.objects.filter(pk=gone.pk).update(deleted_at=gone.created)
    assert press(member, references=(gone.pk,)).field == "references"
