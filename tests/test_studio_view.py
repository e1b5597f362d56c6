"""The studio: opening it, asking the price, pressing the button, and everything that can be wrong with a form."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from flux2web.models import Batch, Budget, Price, Reference, Role, Task

from . import factories
from .pictures import HUGE_WEBP, picture, upload

STUDIO, CREATE, QUOTE = "/t/north/", "/t/north/tasks/", "/t/north/quote/"
HTMX = {"HX-Request": "true"}
GOOD = {
    "prompt": "A quiet harbour at dawn",
    "family": "pro",
    "aspect_ratio": "4:3",
    "resolution": "1K",
    "count": "1",
    "provider": "",
    "price": "10",
    "key": "press-1",
}


@pytest.fixture
def revid(db):
    """Pro at 10 and 15 credits, flex at 25 and 40."""
    return factories.make_account("revid")


@pytest.fixture
def send(client_for, cleo, revid):
    """send(prompt="ab") is cleo pressing the button, her browser with JavaScript unless told otherwise."""

    def do(user=None, *, htmx: bool = True, **given):
        client = client_for(user or cleo)
        return client.post(CREATE, {**GOOD, **given}, headers=HTMX if htmx else {})

    return do


def text(answer) -> str:
    return answer.content.decode()


def value(page: str, name: str) -> str:
    return re.search(rf'name="{name}"[^>]*? value="([^"]*)"', page)[1]


def slots(page: str) -> list[int]:
    return [int(pk) for pk in re.findall(r'name="references" value="(\d+)"', page)]


def problems(page: str) -> str:
    return re.search(r'id="compose-problems".*?</div>', page, re.S)[0]


# --- Opening ---------------------------------------------------------------------------------------------------------------


def test_the_studio_shows_the_form_with_its_price_and_the_newest_cards_first(client_for, cleo, north, revid):
    old, new = factories.make_task(north), factories.make_task(north, state="done")
    page = text(client_for(cleo).get(STUDIO))
    assert "Generate" in page
    assert "10 credits" in page
    assert value(page, "price") == "10"
    assert len(value(page, "key")) == 32
    assert re.findall(r'id="task-(\d+)"', page) == [str(new.pk), str(old.pk)]


def test_a_viewer_sees_the_pictures_and_no_form(client_for, eve, north, revid):
    factories.make_task(north, state="done")
    page = text(client_for(eve).get(STUDIO))
    assert 'id="compose"' not in page
    assert 'id="task-' in page


def test_an_empty_studio_offers_examples_that_fill_the_form(client_for, cleo, north, revid):
    page = text(client_for(cleo).get(STUDIO))
    assert "No pictures yet" in page
    link = re.search(r'href="(\?prompt=Harbour[^"]*)"', page)[1].replace("&amp;", "&")
    filled = text(client_for(cleo).get(STUDIO + link))
    assert ">\nHarbour at dawn" in filled
    assert re.search(r'value="16:9" checked', filled)


def test_the_form_can_be_filled_from_a_task_of_this_team_only(client_for, cleo, north, south, revid):
    reference = factories.make_reference(north)
    own = factories.make_task(north, prompt="An owl", family="flex", references=[reference])
    foreign = factories.make_task(south, prompt="A secret")
    page = text(client_for(cleo).get(f"{STUDIO}?like={own.pk}"))
    assert ">\nAn owl" in page
    assert slots(page) == [reference.pk]
    assert value(page, "parent") == str(own.pk)
    assert "A secret" not in text(client_for(cleo).get(f"{STUDIO}?like={foreign.pk}"))


def test_a_provider_that_is_off_is_not_offered(client_for, cleo, north, revid):
    factories.make_account("vtrix", enabled=False)
    page = text(client_for(cleo).get(STUDIO))
    assert '<option value="revid"' in page
    assert '<option value="vtrix"' not in page


def test_a_studio_without_any_provider_says_so(client_for, cleo, north):
    assert "No provider is set up yet" in text(client_for(cleo).get(STUDIO))


def test_strangers_find_nothing(client_for, zoe, sam, north, revid):
    for stranger in (zoe, sam):
        client = client_for(stranger)
        assert client.get(STUDIO).status_code == 404
        assert client.get(QUOTE).status_code == 404
        assert client.post(CREATE, GOOD).status_code == 404
    assert not Task.objects.exists()


def test_the_studio_takes_as_many_queries_for_twenty_tasks_as_for_two(client_for, cleo, north, revid):
    client = client_for(cleo)

    def queries_with(number: int) -> int:
        for _ in range(number):
            factories.make_task(north, state="done", references=[factories.make_reference(north)])
            factories.make_task(north, state="running")
        client.get(STUDIO)  # warms caches
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert client.get(STUDIO).status_code == 200
        return len(seen)

    assert queries_with(1) == queries_with(9)


# --- Asking the price --------------------------------------------------------------------------------------------------------


def test_the_price_follows_what_is_chosen(client_for, cleo, north, revid):
    page = text(client_for(cleo).get(QUOTE, {"family": "flex", "resolution": "2K", "count": "4"}))
    assert "Generate 4" in page
    assert "160 credits" in page
    assert "40 each × 4" in page
    assert value(page, "price") == "160"


def test_an_assumed_price_is_shown_as_such(client_for, cleo, north):
    factories.make_account("apixo")
    assert "assumed price" in text(client_for(cleo).get(QUOTE))


def test_where_there_is_no_price_there_is_a_reason_and_none_is_sent_along(client_for, cleo, north, revid):
    page = text(client_for(cleo).get(QUOTE, {"aspect_ratio": "auto"}))
    assert "add an image" in page
    assert value(page, "price") == ""


def test_where_credits_are_short_what_they_do_cover_is_offered(client_for, cleo, north, revid):
    Budget.objects.filter(team=north).update(granted=50)
    page = text(client_for(cleo).get(QUOTE, {"resolution": "2K", "count": "4"}))
    assert "only 50 left" in page
    assert "Make 2 instead · 30 credits" in page
    assert "In 1K instead · 40 credits" in page


# --- Pressing the button -----------------------------------------------------------------------------------------------------


def test_pressing_the_button_holds_the_price_and_shows_the_new_cards(send, north):
    answer = send(count="2", price="20")
    page = text(answer)
    assert answer.status_code == 200
    assert page.count('data-state="queued"') == 2
    assert Budget.objects.get(team=north).held == 20
    assert value(page, "key") != "press-1"  # the next press is another one
    assert "<form" not in page


def test_without_javascript_it_leads_back_to_a_studio_that_is_still_filled(send, client_for, cleo, north):
    answer = send(htmx=False, count="2", price="20")
    assert answer.status_code == 302
    page = text(client_for(cleo).get(answer["Location"]))
    assert ">\nA quiet harbour at dawn" in page
    assert page.count('data-state="queued"') == 2
    assert value(page, "parent") == ""


def test_the_same_form_twice_is_one_batch_and_the_same_answer(send, north):
    first, second = send(), send()
    assert second.status_code == 200
    assert Batch.objects.count() == Task.objects.count() == 1
    assert re.findall(r'id="task-\d+"', text(first)) == re.findall(r'id="task-\d+"', text(second))


def test_the_same_form_with_a_file_twice_is_one_batch(send, settings):
    settings.PUBLIC_URL = "https://studio.example.com"  # where the provider can fetch it
    for _ in range(2):
        assert send(htmx=False, files=[upload(picture("teal"))]).status_code == 302
    assert Batch.objects.count() == 1


def test_the_same_key_with_other_content_is_a_conflict_that_keeps_what_was_typed(send):
    send()
    answer = send(prompt="Something else")
    page = text(answer)
    assert answer.status_code == 409
    assert "already sent with other content" in problems(page)
    assert ">\nSomething else" in page
    assert value(page, "key") != "press-1"
    assert Task.objects.count() == 1


def test_a_number_that_no_button_has_is_sent_and_kept(send):
    assert re.search(r'value="3" checked', text(send(prompt="ab", count="3")))
    assert text(send(count="3", price="30")).count('data-state="queued"') == 3


def test_a_viewer_may_not_send(send, eve):
    answer = send(eve)
    assert answer.status_code == 403
    assert "not make or change any" in text(answer)
    assert not Task.objects.exists()


def test_a_cheaper_offer_sends_just_that(send, north):
    Budget.objects.filter(team=north).update(granted=15)
    assert send(count="4", price="40", instead="count=1").status_code == 200
    assert Task.objects.count() == 1
    assert Budget.objects.get(team=north).held == 10


def test_an_offer_cannot_change_anything_else(send):
    send(instead="prompt=Something else")
    assert Task.objects.get().prompt == GOOD["prompt"]


# --- Refusals: each at its field, everything kept -----------------------------------------------------------------------


def test_without_javascript_a_refusal_is_the_whole_page_again(send):
    answer = send(htmx=False, prompt="ab", resolution="2K")
    page = text(answer)
    assert answer.status_code == 422
    assert "<html" in page
    assert "Write at least 3 characters" in problems(page)
    assert re.search(r'value="2K" checked', page)


def test_with_javascript_it_is_the_form_alone_in_its_place(send):
    answer = send(prompt="ab")
    assert answer.status_code == 422
    assert (answer["HX-Retarget"], answer["HX-Reswap"]) == ("#compose", "outerHTML")
    assert "<html" not in text(answer)
    assert 'aria-invalid="true"' in text(answer)


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"prompt": "ab"}, "prompt", "at least 3 characters"),
        ({"prompt": "x" * 5001}, "prompt", "5,000 characters at most; this has 5,001"),
        ({"prompt": "x" * 2**20}, "prompt", "this has 1,048,576"),
        ({"prompt": "abc\0"}, "prompt", "Character 4 of the prompt is broken"),
        ({"aspect_ratio": "auto"}, "aspect_ratio", "add an image"),
        ({"aspect_ratio": "3:2", "provider": "flux2api"}, "aspect_ratio", "Flux2API cannot make 3:2"),
        ({"provider": "nobody"}, "provider", "not available here"),
        ({"seed": "41"}, "seed", "no setting for seed"),
        ({"seed": "many"}, "seed", "A seed is a whole number"),
        ({"family": "max"}, "family", "There is no such choice: max."),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_in_the_summary(send, given, field, words):
    factories.make_account("flux2api")
    answer = send(**given)
    page = text(answer)
    assert answer.status_code == 422
    assert words in re.search(rf'id="{field}-error".*?</p>', page, re.S)[0]
    assert f'href="#{field}-error"' in problems(page)
    assert not Task.objects.exists()


def test_bytes_that_are_no_text_are_refused_like_any_broken_prompt(client_for, cleo, revid):
    body = b"prompt=abc%ED%A0%80def&family=pro&aspect_ratio=1:1&resolution=1K&key=k"
    answer = client_for(cleo).post(CREATE, body, content_type="application/x-www-form-urlencoded", headers=HTMX)
    assert answer.status_code == 422
    assert "Character 4 of the prompt is broken" in text(answer)


def test_nine_references_are_refused_and_kept(send, north):
    ids = [factories.make_reference(north).pk for _ in range(9)]
    answer = send(references=ids)
    assert answer.status_code == 422
    assert "9 images; a task takes 8. Remove 1." in text(answer)
    assert slots(text(answer)) == ids


def test_a_reference_of_another_team_is_refused_without_a_word_about_it(send, south):
    foreign = factories.make_reference(south, name="their secret.png")
    page = text(send(references=[foreign.pk]))
    assert "Image 1 is not here any more" in page
    assert "their secret" not in page


def test_files_of_a_failing_post_become_slots(send):
    answer = send(htmx=False, prompt="ab", files=[upload(picture("teal")), upload(picture("gold"))])
    kept = list(Reference.objects.order_by("id").values_list("pk", flat=True))
    assert answer.status_code == 422
    assert len(kept) == 2
    assert slots(text(answer)) == kept


@pytest.mark.parametrize("content", [b"Dear diary", HUGE_WEBP])
def test_a_file_that_is_no_picture_is_named(send, content):
    page = text(send(htmx=False, files=[upload(content, name="notes.png")]))
    assert "notes.png: " in problems(page)
    assert not Task.objects.exists()


def test_a_price_that_rose_meanwhile_is_shown_old_and_new(send):
    Price.objects.filter(provider="revid").update(credits=12)
    answer = send()
    page = text(answer)
    assert answer.status_code == 422
    assert "from 10 to 12 credits" in problems(page)
    assert value(page, "price") == "12"  # pressing again accepts it
    assert not Task.objects.exists()


def test_a_price_that_fell_is_no_obstacle(send):
    Price.objects.filter(provider="revid").update(credits=8)
    assert send().status_code == 200


def test_too_few_credits_are_said_with_what_is_left(send, north):
    Budget.objects.filter(team=north).update(granted=15)
    answer = send(count="4", price="40")
    page = text(answer)
    assert answer.status_code == 422
    assert "this needs 40 credits, and the team has 15 credits left" in problems(page)
    assert "Make 1 instead · 10 credits" in page
    assert ">\nA quiet harbour at dawn" in page
    assert Budget.objects.get(team=north).held == 0


def test_a_prompt_is_shown_again_as_text_and_never_as_markup(send):
    page = text(send(prompt="</textarea><script>alert(1)</script>", family="max"))
    assert "<script>alert" not in page
    assert "&lt;/textarea&gt;" in page


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_making_is_a_post(client_for, cleo, north, method):
    assert getattr(client_for(cleo), method)(CREATE).status_code == 405


def test_a_member_whose_role_sank_meanwhile_is_stopped(send, cleo, north, membership):
    row = membership(cleo, north)
    row.role = Role.VIEWER
    row.save()
    assert send(cleo).status_code == 403
