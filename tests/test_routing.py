"""Which provider takes a picture, and whether what members are told of it is true."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web import accounts, routing
from flux2web.models import Attempt, ProviderAccount, RoutingRule, State
from flux2web.orders import Cell, Quote, Refusal
from flux2web.providers.base import Kind

from . import factories, peer
from .road import look, order, press, task_of, walk

WELL = {"done": 40, "failed": 0, "median_s": 12.0, "p90_s": 20.0}
UNWELL = {"done": 4, "failed": 6, "median_s": 12.0, "p90_s": 20.0}


def account(provider: str, credits: int, **fields) -> ProviderAccount:
    """One that asks so many credits for pro 1K."""
    made = factories.make_account(provider, prices=False, **fields)
    factories.make_price(provider, credits=credits)
    return made


def quote(**asked) -> Quote:
    found = routing.quote(order(**asked))
    assert isinstance(found, Quote), found
    return found


def paused(minutes: int = 5) -> dict:
    return {"paused_until": timezone.now() + timedelta(minutes=minutes), "pause_reason": "No money left there."}


# --- Whose turn -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_cheapest_takes_it():
    account("flux2api", 30)
    account("revid", 10)
    account("apixo", 20)
    found = quote()
    assert (found.provider, found.total, found.why) == ("revid", 10, "The cheapest that can do this")
    assert [(other.name, other.credits, other.note) for other in found.others] == [
        ("Apixo", 20, ""),
        ("Flux2API", 30, ""),
    ]


@pytest.mark.django_db
def test_of_two_at_one_price_the_one_that_was_here_first():
    account("flux2api", 10)
    account("revid", 10)
    assert quote().provider == "flux2api"


@pytest.mark.django_db
@pytest.mark.parametrize(("credits", "chosen"), [(14, "apixo"), (15, "apixo"), (16, "revid"), (30, "revid")])
def test_a_healthy_one_is_preferred_as_long_as_it_costs_no_more_than_the_premium(credits, chosen):
    account("revid", 10, record=UNWELL)
    account("apixo", credits, record=WELL)
    assert quote().provider == chosen  # half as much again is allowed


@pytest.mark.django_db
def test_whoever_was_passed_over_is_named_with_its_reason():
    account("revid", 10, record=UNWELL)
    account("apixo", 12, record=WELL)
    found = quote()
    assert found.why == "The cheapest that is well: Revid had trouble in the last 24 hours"
    assert [(other.name, other.note) for other in found.others] == [("Revid", "usually 12 s, 40 % ended well")]


@pytest.mark.django_db
def test_one_that_is_slow_is_passed_over_like_one_that_fails():
    account("revid", 10, record=WELL | {"median_s": 90.0, "slow": True})
    account("apixo", 12, record=WELL)
    found = quote()
    assert (found.provider, found.why) == ("apixo", "The cheapest that is well: Revid is slow")
    assert found.others[0].note == "slow, usually 90 s, 100 % ended well"


@pytest.mark.django_db
def test_of_each_other_is_said_how_it_has_done_as_far_as_it_is_known():
    account("revid", 10)
    account("apixo", 20, record={"done": 49, "failed": 1, "median_s": 20.4, "p90_s": 31.0})
    account("flux2api", 30, record={"done": 10, "failed": 0})
    account("vtrix", 40)
    notes = ["usually 20 s, 98 % ended well", "100 % ended well", ""]
    assert [other.note for other in quote().others] == notes


@pytest.mark.django_db
@pytest.mark.parametrize(("rule", "chosen"), [((0, 80), "revid"), ((20, 80), "apixo"), ((20, 40), "revid")])
def test_the_site_admins_rule_decides(rule, chosen):
    account("revid", 10, record=UNWELL)
    account("apixo", 12, record=WELL)
    RoutingRule.objects.create(pk=1, premium_percent=rule[0], healthy_percent=rule[1])
    assert quote().provider == chosen


@pytest.mark.django_db
def test_where_all_are_unwell_the_cheapest_takes_it():
    account("apixo", 12, record=UNWELL)
    account("revid", 10, record=UNWELL)
    assert quote().provider == "revid"


@pytest.mark.django_db
def test_too_few_tasks_make_nobody_unwell():
    account("revid", 10, record={"done": 0, "failed": 4, "median_s": None, "p90_s": None})
    account("apixo", 12, record=WELL)
    assert quote().provider == "revid"


@pytest.mark.django_db
def test_a_record_of_another_version_of_this_site_is_read_as_far_as_it_goes():
    account("revid", 10, record={"done": 4, "mood": "fine"})
    account("apixo", 12, record={})
    assert quote().provider == "revid"


@pytest.mark.django_db
def test_the_paused_come_last_and_say_for_how_long():
    account("revid", 10, **paused())
    account("apixo", 50, record=UNWELL)
    found = quote()
    assert (found.provider, found.total) == ("apixo", 50)
    assert found.why == "The cheapest that is well: Revid is paused"
    assert [(other.name, other.note) for other in found.others] == [("Revid", "paused for 5 min")]


@pytest.mark.django_db
def test_the_form_says_for_how_long_and_keeps_the_providers_words_to_itself():
    account("revid", 10, **paused())
    [offer] = routing.offers()
    assert (offer.ready, offer.note) == (False, "paused for 5 min")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Kind.BALANCE, "Revid is paused: no money left there. This is not your budget."),
        (Kind.AUTH, "Revid is paused: it refuses this site's key. A site admin can mend that."),
        (accounts.BY_ADMIN, "Revid is paused: a site admin has paused it."),
        ("", "Revid is paused: it does not answer well. It is tried again by itself."),
    ],
)
def test_members_are_told_why_it_is_paused_in_our_words_alone(kind, said):
    revid = account("revid", 10, **paused(), pause_kind=kind)
    assert accounts.pause_words(revid) == said


@pytest.mark.django_db
def test_nothing_is_said_of_a_pause_that_is_over():
    assert accounts.pause_words(account("revid", 10, **paused(minutes=-1))) == ""


@pytest.mark.django_db
def test_a_paused_one_does_not_set_what_the_premium_is_measured_by():
    account("revid", 1, **paused())
    account("apixo", 20, record=UNWELL)
    account("flux2api", 30, record=WELL)
    assert quote().provider == "flux2api"


@pytest.mark.django_db
def test_where_all_are_paused_one_may_still_ask():
    account("revid", 10, **paused())
    assert quote().provider == "revid"


@pytest.mark.django_db
def test_a_chosen_provider_is_taken_whatever_its_health():
    account("revid", 10, record=UNWELL)
    account("apixo", 12, record=WELL)
    found = quote(provider="revid")
    assert (found.provider, found.why, found.others) == ("revid", "Your choice", ())


@pytest.mark.django_db
def test_the_only_one_is_called_so():
    account("revid", 10, record=UNWELL)
    assert quote().why == "The only provider here that can do this"


@pytest.mark.django_db
def test_each_cell_of_a_matrix_goes_to_whom_it_costs_least(settings):
    factories.make_account("revid")
    factories.make_account("vtrix", concurrent=None)
    factories.make_price("vtrix", "pro", "1K", credits=5)
    found = quote(family="flex", rest=(Cell("A quiet harbour at dusk", "pro", "4:3"),))
    assert (found.names, found.total) == ("Revid, Vtrix", 30)


# --- What it costs to choose ------------------------------------------------------------------------------------------------


def queries(ask) -> int:
    with CaptureQueriesContext(
        connection,
    ) as seen:
        ask()
    return len(seen)


@pytest.mark.django_db
def test_without_a_choice_nobody_looks_up_the_rule(cleo, north, membership):
    account("revid", 10)
    task = task_of(press(membership(cleo, north)))
    assert queries(lambda: routing.choose(task, order(), refused_by=())) == 2  # the accounts and their prices


@pytest.mark.django_db
def test_choosing_among_five_asks_one_query_more(cleo, north, membership):
    for number, provider in enumerate(("revid", "flux2api", "apixo", "vtrix")):
        account(provider, 10 + number, record=UNWELL)
    task = task_of(press(membership(cleo, north)))
    assert queries(lambda: routing.choose(task, order(), refused_by=())) == 3


@pytest.mark.django_db
def test_a_matrix_of_64_asks_no_more_than_one_of_two():
    for provider in ("revid", "flux2api"):
        factories.make_account(provider)

    def matrix(total: int):
        cells = tuple(Cell(f"A quiet harbour, seen from pier {number}", "pro", "1:1") for number in range(total - 1))
        return queries(lambda: quote(rest=cells))

    assert matrix(64) == matrix(2)


# --- Keeping its word, in a real exchange -------------------------------------------------------------------------------------


@pytest.fixture
def two(db, settings):
    """Revid at 10 credits and Flux2API at 10 and no more, each a real server."""
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    with peer.serving() as first, peer.serving() as second:
        account("revid", 10, base_url=first.url)
        account("flux2api", 10, base_url=second.url)
        yield first, second


@pytest.fixture
def member(two, cleo, north, membership):
    return membership(cleo, north)


def asked(task) -> list[str]:
    return list(task.attempts.order_by("number").values_list("account__provider", flat=True))


def account_of(provider: str) -> ProviderAccount:
    return ProviderAccount.objects.get(provider=provider)


@pytest.mark.parametrize(
    ("code", "kind", "rest_s"),
    [
        (401, "auth", 300),
        (402, "balance", 300),
        (429, "rate", 10),
        (455, "maintenance", 30),
        (500, "provider", 5),
        (503, "maintenance", 30),
    ],
)
def test_a_refusal_of_the_account_rests_it_by_its_kind_and_the_next_takes_the_task(two, member, code, kind, rest_s):
    first, _ = two
    first.answers.append(first.refuse(code, "not now"))
    task, began = task_of(press(member)), timezone.now()
    task = look(task)
    pause = account_of("revid")
    assert (task.state, pause.pause_kind, pause.pause_reason) == (State.QUEUED, kind, "Revid says: not now")
    assert began <= pause.paused_until - timedelta(seconds=rest_s) <= timezone.now()
    refused = task.attempts.get()
    assert (refused.refused_kind, refused.message) == (kind, "Revid says: not now")
    task = look(task)
    assert (task.state, task.account.provider) == (State.RUNNING, "flux2api")
    assert asked(task) == ["revid", "flux2api"]


@pytest.mark.parametrize(("wish", "rest_s"), [("40", 40), ("0", 1), ("-5", 1), ("86400", 300)])
def test_a_providers_own_wish_is_kept_within_reason(two, member, wish, rest_s):
    first, _ = two
    first.answers.append(first.refuse(429, "slow down", status=429, Retry_After=wish))
    task, began = task_of(press(member)), timezone.now()
    look(task)
    assert began <= account_of("revid").paused_until - timedelta(seconds=rest_s) <= timezone.now()


def test_a_refused_connection_rests_the_account_and_the_next_takes_the_task(two, member):
    ProviderAccount.objects.filter(provider="revid").update(base_url="http://127.0.0.1:1")
    task = look(task_of(press(member)))
    attempt = task.attempts.get()
    assert (task.state, attempt.outcome) == (State.QUEUED, Attempt.Outcome.NOT_SENT)
    assert attempt.message.startswith("Revid gave no answer")
    assert account_of("revid").pause_kind == "provider"
    assert look(task).account.provider == "flux2api"


def test_a_wrong_key_is_not_mended_by_waiting_for_the_next_try(two, member):
    until = accounts.pause(account_of("revid"), Kind.AUTH, "wrong key")
    accounts.pause(account_of("revid"), Kind.RATE, "too fast", 1)
    assert account_of("revid").paused_until == until


@time_machine.travel("2026-11-20 12:00:00+00:00", tick=False)
def test_failures_in_a_row_double_the_rest_up_to_five_minutes(two):
    rests = []
    for _ in range(9):
        ProviderAccount.objects.filter(provider="revid").update(paused_until=None)
        until = accounts.pause(account_of("revid"), Kind.RATE, "too fast")
        rests.append(round((until - timezone.now()).total_seconds()))
    assert rests == [10, 20, 40, 80, 160, 300, 300, 300, 300]


@time_machine.travel("2026-11-20 12:00:00+00:00", tick=False)
def test_what_was_under_way_when_the_pause_began_makes_it_no_longer(two):
    for _ in range(40):
        until = accounts.pause(account_of("revid"), Kind.PROVIDER, "bad gateway")
    assert until == timezone.now() + timedelta(seconds=5)
    assert account_of("revid").failures == 1


def test_a_picture_that_was_accepted_is_never_passed_on(two, member):
    first, _ = two
    task = look(task_of(press(member)))
    assert task.account.provider == "revid"
    first.jobs[task.upstream_id] = "fail"
    assert walk(task).state == State.FAILED
    assert asked(task) == ["revid"]


@pytest.mark.parametrize("answer", ["html", "cut", "no id"])
def test_after_an_answer_that_nobody_can_read_the_next_task_goes_to_another(two, member, answer):
    """What it was sent may be lost: it must not be fed more of it while others are well."""
    first, _ = two
    first.answers.append({"html": first.html(502), "cut": first.accept_then_cut, "no id": first.refuse(200)}[answer])
    lost, next_one = task_of(press(member)), task_of(press(member))
    assert look(lost).state == State.UNCERTAIN
    assert account_of("revid").pause_kind == "provider"
    assert look(next_one).account.provider == "flux2api"


def test_a_chosen_provider_that_fails_is_paused_as_well(two, member):
    first, _ = two
    first.answers.append(first.refuse(500, "not now"))
    assert look(task_of(press(member, provider="revid"))).state == State.FAILED
    assert account_of("revid").pause_kind == "provider"


def test_a_create_that_may_have_arrived_is_never_passed_on(two, member):
    first, _ = two
    first.answers.append(first.accept_then_cut)
    task = look(task_of(press(member)))
    for _ in range(5):
        task = look(task)
    assert task.state == State.UNCERTAIN
    assert asked(task) == ["revid"]


def test_nobody_dearer_than_the_hold_takes_over(two, member):
    factories.make_priced_from(timezone.now(), provider="flux2api", credits=11)
    first, _ = two
    first.answers.append(first.refuse(402, "no money"))
    task = walk(task_of(press(member, provider="")), steps=4)
    assert (task.state, asked(task)) == (State.QUEUED, ["revid"])


def test_a_healthier_one_that_is_dearer_holds_its_own_price_and_may_pass_on_to_the_cheaper(two, member):
    """The hold covers who was quoted; whoever delivers for less is paid less."""
    first, _ = two
    ProviderAccount.objects.filter(provider="revid").update(record=UNWELL)
    ProviderAccount.objects.filter(provider="flux2api").update(base_url="http://127.0.0.1:1")
    factories.make_priced_from(timezone.now(), provider="flux2api", credits=14)
    task = task_of(press(member))
    assert (task.price_credits, task.quoted_provider) == (14, "flux2api")
    first.default_state = "success"
    done = walk(task)
    assert (done.state, done.account.provider, done.charged_credits) == (State.DONE, "revid", 10)


def test_health_that_changes_after_the_press_moves_the_task_within_its_hold(two, member):
    task = task_of(press(member))
    ProviderAccount.objects.filter(provider="revid").update(record=UNWELL)
    assert look(task).account.provider == "flux2api"


def test_where_nobody_may_take_it_the_refusal_says_whom_to_ask(two, member):
    ProviderAccount.objects.update(enabled=False)
    refused = press(member)
    assert isinstance(refused, Refusal)
    assert "site admin" in refused.message


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"references": tuple(range(9))}, "Revid takes at most 8 images."),
        ({"references": (1,)}, "Revid fetches images from this site, which it cannot reach"),
        ({"aspect_ratio": "auto"}, "“Auto” takes the shape of image 1: add an image, or choose a shape."),
    ],
)
def test_a_refusal_calls_images_what_the_form_calls_them(asked, said, settings):
    settings.PUBLIC_URL = ""
    account("revid", 10)
    refused = routing.quote(order(provider="revid", **asked))
    assert isinstance(refused, Refusal)
    assert said in refused.message
