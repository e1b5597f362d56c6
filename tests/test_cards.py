"""What a card says in each state."""

from __future__ import annotations

import gzip
import re
from datetime import timedelta

import pytest
from django.utils import timezone

from flux2web import cards, live, queries, turns
from flux2web.cards import Card
from flux2web.models import Event, Result, State, Task

from . import factories


def card(team, state: str, **fields) -> Card:
    return Card(factories.make_task(team, state=state, **fields), usual_s=24)


WORDS = {
    State.QUEUED: ("Waiting", "Starts by itself", "Held 24", ["cancel"]),
    State.SUBMITTING: ("Sending", "to Revid", "Held 24", []),
    State.RUNNING: ("Running", "Revid usually takes 24 s", "Held 24", ["check"]),
    State.SAVING: ("Saving our copy", "Made by Revid", "Held 24", []),
    State.UNCERTAIN: ("No answer yet", "we keep looking", "Held 24", ["check", "report"]),
    State.DONE: ("Done", "", "Held 24 · charged 24", []),
    State.FAILED: ("Revid failed", "could not make this picture", "Not charged: 24 returned", ["retry"]),
    State.CANCELLED: ("Cancelled", "Taken back before it was sent", "Not charged: 24 returned", ["retry"]),
}


def test_every_state_has_words():
    assert set(WORDS) == set(State)


@pytest.mark.parametrize("state", State)
def test_a_card_says_how_it_stands_what_it_costs_and_what_one_can_do(north, state):
    shown = card(north, state, price=24)
    headline, detail, money, verbs = WORDS[state]
    assert shown.headline == headline
    assert detail in shown.detail
    assert shown.money == money
    assert [action.verb for action in shown.actions] == verbs


@pytest.mark.parametrize(
    ("kind", "headline"),
    [
        ("moderation", "Refused by the model's filter"),
        ("input", "Revid did not accept this"),
        ("auth", "Revid refused our key"),
        ("balance", "Revid has no balance left"),
        ("maintenance", "No provider was free"),
        ("bad_reply", "Revid gave no usable answer"),
        ("a kind nobody knows", "Revid failed"),
    ],
)
def test_failures_are_told_in_plain_words(north, kind, headline):
    assert card(north, "failed", fail_kind=kind[:16], fail_message="Because.").headline == headline


def test_a_refusal_by_the_filter_says_what_to_change(north):
    plain = card(north, "failed", fail_kind="moderation")
    assert plain.detail == "Change the prompt, then send again."
    with_images = card(north, "failed", fail_kind="moderation", references=[factories.make_reference(north)])
    assert with_images.detail == "Change the prompt or the images, then send again."


def test_a_picture_lost_on_its_way_is_not_called_the_providers_refusal(north):
    lost = card(north, "failed", fail_kind="bad_reply", fail_code="result_lost")
    assert lost.headline == "The picture was lost on its way"


def test_what_came_back_of_the_hold_is_told(north):
    assert card(north, "failed", price=24).money == "Not charged: 24 returned"
    assert card(north, "done", price=24, charged=20).returned == "4 returned"
    assert card(north, "done", price=24).returned == ""
    assert card(north, "running", price=24).returned == ""


def test_the_clock_starts_when_the_provider_accepted_and_the_ring_fills_along_its_usual_time(north):
    accepted = timezone.now() - timedelta(seconds=12)
    shown = card(north, "running", accepted_at=accepted)
    assert 11 < shown.elapsed_s < 14
    assert 48 <= shown.ring <= 54
    assert card(north, "running", accepted_at=accepted - timedelta(hours=1)).ring == 100


def test_what_is_usual_is_its_own_record_of_the_last_day(north):
    factories.make_account("revid", record={"done": 50, "failed": 0, "median_s": 21.0, "p90_s": 34.2})
    shown = card(north, "running", accepted_at=timezone.now() - timedelta(seconds=30))
    assert shown.detail == "Revid usually takes 24 to 34 s"
    assert (shown.slow_after_s, shown.is_slow) == (35, False)
    assert card(north, "running", accepted_at=timezone.now() - timedelta(seconds=40)).is_slow


def test_it_is_never_slower_than_usual_before_its_ring_is_full(north):
    factories.make_account("revid", record={"done": 50, "failed": 0, "median_s": 8.0, "p90_s": 12.0})
    assert card(north, "running").slow_after_s == 24


def test_after_three_minutes_it_is_slower_than_usual_where_there_is_no_record(north):
    assert not card(north, "running", accepted_at=timezone.now() - timedelta(seconds=170)).is_slow
    assert card(north, "running", accepted_at=timezone.now() - timedelta(seconds=190)).is_slow


def verbs(shown: Card) -> list[tuple[str, int]]:
    return [(action.label, action.price) for action in shown.actions]


def test_what_costs_again_says_its_price_and_sends_it_along(north):
    task = factories.make_task(north, state="failed", price=24)
    assert verbs(Card(task)) == [("Retry · 24", 24)]
    html = live.render_card(queries.card_task(task.pk))
    assert re.search(
        rf'formaction="/t/north/tasks/{task.pk}/retry/\?seen={task.version}" name="price" value="24"', html
    )
    assert verbs(card(north, "cancelled", price=640)) == [("Run again · 640", 640)]


def test_of_what_was_sent_together_each_says_which_it_is_for_good(north, cleo):
    batch, states = factories.make_batch(north, cleo), ("done", "failed", "queued")
    tasks = [
        factories.make_task(north, user=cleo, batch=batch, state=state, batch_number=number, batch_size=3)
        for number, state in enumerate(states, 1)
    ]
    Task.objects.filter(pk=tasks[1].pk).update(deleted_at=timezone.now(), private=True)
    assert [Card(queries.card_task(task.pk)).badge for task in tasks] == ["1/3", "2/3", "3/3"]
    assert ">3/3</span>" in live.render_card(queries.card_task(tasks[2].pk))
    alone = queries.card_task(factories.make_task(north).pk)
    assert Card(alone).badge == ""
    assert "badge" not in live.render_card(alone)


def test_cards_take_no_more_queries_for_larger_batches_and_more_parents(north, cleo, django_assert_num_queries):
    parent = factories.make_task(north, state="done")
    batch = factories.make_batch(north, cleo)
    for _ in range(5):
        factories.make_task(north, user=cleo, batch=batch, state="done", parent=parent)
    with django_assert_num_queries(1):
        live.render_cards(list(queries.with_card(Task.objects.filter(batch=batch))))


def test_what_began_from_a_picture_that_all_see_can_be_compared_with_it(north):
    parent = factories.make_task(north, state="done")
    child = factories.make_task(north, state="done", parent=parent)
    shown = lambda: Card(queries.card_task(child.pk))  # noqa: E731
    assert shown().origin == parent.pk
    assert f"compare/?ids={parent.pk},{child.pk}" in live.render_card(shown().task)
    for hidden in ({"private": True}, {"deleted_at": timezone.now()}, {"state": "failed"}):
        Task.objects.filter(pk=parent.pk).update(**{"private": False, "deleted_at": None, "state": "done"} | hidden)
        assert shown().origin == 0


@pytest.mark.parametrize("state", State)
def test_only_what_is_with_the_provider_can_be_left_alone(north, state):
    html = live.render_card(queries.card_task(factories.make_task(north, state=state).pk))
    assert ("Stop watching" in html) is (state in ("submitting", "running", "uncertain"))


def test_what_the_filter_refused_is_not_offered_as_it_was(north):
    shown = card(north, "failed", fail_kind="moderation")
    assert (verbs(shown), shown.edit) == ([], "Edit prompt")


def test_the_providers_own_words_and_code_are_in_the_fine_print(north):
    plain = card(north, "failed", fail_message="No.", fail_code="E17")
    assert (plain.detail, plain.fine_print) == ("No.", "The provider calls it E17.")
    refused = card(north, "failed", fail_kind="moderation", fail_message="Flagged.", fail_code="NSFW")
    assert refused.fine_print == "Flagged. The provider calls it NSFW."


def test_what_the_stop_rule_ended_says_so(north):
    said = "3 of this batch failed, so the rest was not sent."
    assert card(north, "cancelled", fail_message=said).detail == said


def test_a_picture_whose_file_is_gone_says_so_and_may_be_made_again_or_thrown_away(north):
    task = factories.make_task(north, state="done", price=24)
    Result.objects.update(purged_at=timezone.now(), key="")
    shown = Card(queries.card_task(task.pk))
    assert shown.headline == "The original is no longer available"
    assert verbs(shown) == [("Run again · 24", 24), ("Delete", 0)]
    assert "<img" not in live.render_card(shown.task)


def test_a_lost_original_is_said_beside_what_is_left_of_it(north, django_assert_num_queries):
    task = factories.make_task(north, state="done", price=24)
    Result.objects.update(lost_at=timezone.now())
    shown = Card(queries.card_task(task.pk))
    assert (shown.headline, shown.is_shown) == ("The original is no longer available", False)
    assert shown.detail == "Its file is missing from storage."
    assert verbs(shown) == [("Run again · 24", 24), ("Delete", 0)]
    assert shown.money == "Held 24 · charged 24"
    with django_assert_num_queries(0):
        html = live.render_card(shown.task)
    assert re.findall(r"results/\d+/(\w+)", html) == ["left"]
    assert "data-lost" in html
    Result.objects.update(lost_at=None)
    assert "data-lost" not in live.render_card(queries.card_task(task.pk))


def test_what_was_thrown_away_is_not_looked_for(north):
    task = factories.make_task(north, state="done")
    Result.objects.update(lost_at=timezone.now(), purged_at=timezone.now(), key="")
    html = live.render_card(queries.card_task(task.pk))
    assert "Its file was thrown away." in html
    assert "/results/" not in html


def test_what_waits_says_that_cancelling_gives_it_back(north):
    assert (card(north, "queued", price=24).money, card(north, "queued").aside) == (
        "Held 24",
        "Comes back if cancelled",
    )


def test_places_in_line_cost_one_query_however_many_wait(north, cleo, dan, django_assert_num_queries):
    revid, apixo = factories.make_account("revid"), factories.make_account("apixo")
    for user in (cleo, dan, cleo, dan, cleo):
        factories.make_task(north, user=user, waits_for=revid)
    factories.make_task(north, user=cleo, waits_for=apixo)
    tasks = list(Task.objects.order_by("pk"))
    with django_assert_num_queries(1):
        said = [re.search(r"\d..", shown.detail)[0] for shown in cards.of(tasks)]
    assert said == ["1st", "1st", "2nd", "2nd", "3rd", "1st"]
    with django_assert_num_queries(0):
        cards.of([factory for factory in tasks if not factory.in_line])


def test_places_told_one_by_one_and_all_at_once_are_the_same(north, cleo):
    revid = factories.make_account("revid")
    for _ in range(turns.PLACES_SHOWN + 2):
        factories.make_task(north, user=cleo, waits_for=revid, price=1)
    tasks = list(Task.objects.order_by("pk"))
    assert [Card(task).detail for task in tasks] == [shown.detail for shown in cards.of(tasks)]


# --- Nobody may take it --------------------------------------------------------------------------------------------------


def paused(provider: str, kind: str = "balance", minutes: int = 5):
    until = timezone.now() + timedelta(minutes=minutes)
    return factories.make_account(provider, paused_until=until, pause_kind=kind, pause_reason="quota 0 of 17")


def blocked(team, **fields) -> Card:
    """The card of one that was looked at, and that nobody may take."""
    return card(team, "queued", looks=1, price=100, **fields)


def test_what_waits_for_a_paused_provider_says_why_and_offers_another(north):
    paused("revid")
    factories.make_account("apixo")
    shown = blocked(north, provider="revid")
    assert shown.detail == "Revid is paused: no money left there. This is not your budget."
    assert shown.edit == "Change the provider"
    html = live.render_card(queries.card_task(shown.task.pk))
    assert "This is not your budget." in html
    assert "Change the provider" in html


def test_where_all_who_could_take_it_are_paused_the_first_back_says_why(north):
    paused("revid", "auth")
    paused("apixo", "maintenance", minutes=1)
    factories.make_account("apikley")  # has no pro
    shown = blocked(north)
    said = "Every provider that can do this is paused. Apixo is paused: it is closed for now. It goes on by itself."
    assert (shown.detail, shown.edit) == (said, "")


def test_one_who_could_take_it_is_enough_to_start_by_itself(north):
    paused("revid")
    factories.make_account("apixo")
    assert blocked(north).detail == "Starts by itself"


def test_what_no_provider_offers_any_more_says_so(north):
    factories.make_account("revid", enabled=False)
    assert blocked(north).detail == "No provider does this at the price that is held. A site admin can look."
    said = "Revid is off, or does not do this at the price that is held."
    assert blocked(north, provider="revid").detail == said


def test_a_price_above_the_hold_is_not_waited_for_in_silence(north):
    factories.make_account("revid")
    assert "at the price that is held" in card(north, "queued", looks=1, price=1, provider="revid").detail


def test_why_many_wait_costs_no_more_queries_than_why_one_does(north, django_assert_num_queries):
    for provider in ("revid", "apixo"):
        paused(provider)
    tasks = [blocked(north).task for _ in range(3)]
    with django_assert_num_queries(3) as asked:
        assert all("is paused. " in shown.detail for shown in cards.of(tasks[:1]))
    with django_assert_num_queries(len(asked)):
        assert all("is paused. " in shown.detail for shown in cards.of(tasks))


def test_what_nobody_has_looked_at_yet_is_asked_nothing(north, django_assert_num_queries):
    paused("revid")
    shown = card(north, "queued", provider="revid")
    with django_assert_num_queries(0):
        assert (shown.detail, shown.edit) == ("Starts by itself", "")


def test_the_settings_are_shown_as_chips(north):
    shown = card(north, "queued", family="flex", seed=41, references=[factories.make_reference(north)])
    assert shown.chips == ["Flex", "1K", "4:3", "1 image", "seed 41"]


def test_the_alternative_text_is_the_start_of_the_prompt_cut_at_a_word():
    assert cards.shortened("a harbour,\n at  dawn", 120) == "a harbour, at dawn"
    assert cards.shortened("one two, three", 11) == "one two…"


@pytest.mark.parametrize("state", State)
def test_a_rendered_card_holds_no_form_no_token_and_its_state(north, state):
    task = queries.card_task(factories.make_task(north, state=state).pk)
    html = live.render_card(task)
    assert f'id="task-{task.pk}"' in html
    assert f'data-state="{state}"' in html
    assert f'data-version="{task.version}"' in html
    for word in ("<form", "csrf", "style=", "onclick", "<script"):
        assert word not in html
    assert len(gzip.compress(html.encode())) < 2048


def test_a_prompt_is_text_and_never_markup(north):
    task = factories.make_task(north, prompt='<img src=x onerror="alert(1)">')
    html = live.render_card(queries.card_task(task.pk))
    assert "<img src=x" not in html
    assert "&lt;img src=x" in html


def test_a_card_of_someone_who_left_is_still_there(north, cleo):
    task = factories.make_task(north, user=cleo, state="done")
    Task.objects.filter(pk=task.pk).update(user=None)
    assert "Someone who left" in live.render_card(queries.card_task(task.pk))


def test_the_story_names_people_and_keeps_the_notes(north, cleo):
    task = factories.make_task(north, user=cleo)
    task.events.all().delete()
    Event.objects.create(task=task, kind="queued", cause=f"user {cleo.pk}")
    Event.objects.create(task=task, kind="queued", cause="create answer", note="apixo: busy")
    Event.objects.create(task=task, kind="look", cause=f"user {cleo.pk}")
    lines = cards.story(task.events.all())
    assert [line.text for line in lines] == ["Asked for by Cleo", "Waiting", "Asked to look now by Cleo"]
    assert lines[1].note == "apixo: busy"


def test_the_receipt_is_the_tasks_ledger_lines(north):
    task = factories.make_task(north, state="failed", price=24)
    assert [line.text for line in cards.receipt(task)] == ["Held 24 credits", "Returned 24 credits"]
