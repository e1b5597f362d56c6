"""One press for many pictures: prompts with places to fill in, further shapes and families, a ceiling, an end to failures."""

from __future__ import annotations

import re
import time
from urllib.parse import urlencode

import pytest
from django.http import QueryDict

from flux2web import requests
from flux2web.forms import ComposeForm
from flux2web.models import Batch, Budget, CreditRequest, Membership, Task
from flux2web.views import studio

from . import factories

STUDIO, CREATE, QUOTE = "/t/north/", "/t/north/tasks/", "/t/north/quote/"
HTMX = {"HX-Request": "true"}
GOOD = {
    "prompt": "A {animal} in {style}",
    "family": "pro",
    "aspect_ratio": "4:3",
    "resolution": "1K",
    "count": "1",
    "variable": ["animal", "style"],
    "value": ["heron | owl", "gouache"],
    "key": "press-1",
}


@pytest.fixture
def revid(db):
    """Pro at 10 and 15 credits, flex at 25 and 40."""
    return factories.make_account("revid")


@pytest.fixture
def send(client_for, cleo, revid):
    def do(*, htmx: bool = True, **given):
        return client_for(cleo).post(CREATE, {**GOOD, **given}, headers=HTMX if htmx else {})

    return do


def text(answer) -> str:
    return answer.content.decode()


def problems(page: str) -> str:
    return re.search(r'id="compose-problems".*?</div>', page, re.S)[0]


def typed(page: str) -> list[tuple[str, str]]:
    return re.findall(r'name="variable" value="([^"]*)"><input[^>]*? name="value"[^>]*? value="([^"]*)"', page)


def test_each_value_makes_a_picture_of_its_own(send):
    assert text(send()).count('data-state="queued"') == 2
    assert list(Task.objects.order_by("id").values_list("prompt", flat=True)) == [
        "A heron in gouache",
        "A owl in gouache",
    ]


def test_prompts_shapes_and_families_are_crossed_and_counted(send, north):
    answer = send(also_ratio=["1:1", "4:3"], also_family=["flex", "pro"], count="2", price=str(8 * 35))
    assert answer.status_code == 200
    made = set(Task.objects.values_list("prompt", "aspect_ratio", "family"))
    assert len(made) == 8
    assert Task.objects.count() == 16
    assert Batch.objects.count() == 1
    assert Budget.objects.get(team=north).held == 8 * 10 + 8 * 25


def test_a_place_without_a_value_is_refused_by_name_and_nothing_is_lost(send):
    answer = send(value=["heron|owl", " "])
    page = text(answer)
    assert answer.status_code == 422
    assert "Give {style} a value." in problems(page)
    assert 'data-field="value"' in problems(page)
    assert typed(page) == [("animal", "heron|owl"), ("style", " ")]
    assert page.count('aria-invalid="true"') == 1
    assert not Task.objects.exists()


def test_without_javascript_the_refused_form_comes_back_with_the_fields(send):
    page = text(send(htmx=False, variable=[], value=[]))
    assert "<html" in page
    assert typed(page) == [("animal", ""), ("style", "")]


def test_values_of_names_that_the_prompt_does_not_have_are_left_alone(send):
    assert send(prompt="A plain heron").status_code == 200
    assert Task.objects.get().prompt == "A plain heron"


def test_a_prompt_written_as_json_has_no_places_to_fill_in(send):
    assert send(prompt='{"scene": "harbour", "light": {"time": "dawn"}}', variable=[], value=[]).status_code == 200


def test_ten_thousand_pictures_are_refused_by_number_and_at_once(send):
    many = "|".join(map(str, range(100)))
    began = time.monotonic()
    answer = send(value=[many, many])
    assert answer.status_code == 422
    assert "10,000 pictures (10,000 prompts) are too many for one press: 64 at most." in problems(text(answer))
    assert time.monotonic() - began < 2
    assert not Task.objects.exists()


def test_a_matrix_beyond_all_numbers_is_refused_as_quickly(send):
    prompt = " ".join(f"{{v{number}}}" for number in range(8))
    names = [f"v{number}" for number in range(8)]
    answer = send(prompt=prompt, variable=names, value=["|".join(f"{n}" for n in range(250))] * 8)
    assert answer.status_code == 422
    assert "More than 1,000,000 pictures are too many" in problems(text(answer))


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"count": "9"}, "count", "less than or equal to 8"),
        ({"stop_after": "0"}, "stop_after", "from 1 to 64"),
        ({"stop_after": "many"}, "stop_after", "from 1 to 64"),
        ({"ceiling": "lots"}, "ceiling", "whole number of credits"),
        ({"value": ["a\0b", "c"]}, "value", "A character in {animal} is broken"),
        ({"value": ["x" * 1001, "c"]}, "value", "{animal} takes 1,000 characters at most; this has 1,001."),
        ({"prompt": "{animal} " * 500, "value": ["a heron in reeds", ""]}, "prompt", "With the values filled in"),
        ({"prompt": " ".join(f"{{v{n}}}" for n in range(9))}, "prompt", "8 variables in braces at most"),
        ({"prompt": "{style}", "variable": ["style"], "value": ["ab"]}, "prompt", "has 2 characters"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(send, given, field, words):
    answer = send(**given)
    assert answer.status_code == 422
    assert words in re.search(rf'id="{field}-error".*?</p>', text(answer), re.S)[0]
    assert not Task.objects.exists()


def test_choices_that_do_not_exist_add_nothing(send):
    assert send(also_ratio=["99:1", "auto"], also_family=["max"]).status_code == 200
    assert Task.objects.count() == 2


def test_above_the_ceiling_nothing_is_sent_and_it_is_said_there(send, north):
    answer = send(ceiling="15")
    assert answer.status_code == 422
    assert "These 2 cost 20 credits together; your ceiling is 15." in text(answer)
    assert Budget.objects.get(team=north).held == 0
    assert send(ceiling="20", key="press-2").status_code == 200


def test_the_number_of_failures_that_end_it_goes_along(send):
    send(stop_after="3")
    assert Batch.objects.get().stop_after == 3


def test_a_number_up_to_eight_is_one_press_away(client_for, cleo, north, revid):
    page = text(client_for(cleo).get(STUDIO))
    assert re.findall(r'name="count" value="(\d)"', page) == list("12345678")


def test_the_button_says_how_many_and_how_much(client_for, cleo, north, revid):
    asked = {"variable": ["a", "b"], "value": ["1|2", "x|y|z"], "also_family": "flex", "ceiling": "100"}
    page = text(client_for(cleo).get(QUOTE, asked))
    assert "Generate 12" in page
    assert "210 credits" in page
    assert "10 to 25 each × 12" in page
    assert "Above your ceiling of 100 credits" in page
    assert re.search(r'name="price" value="210"', page)


def test_a_place_without_a_value_costs_as_one_while_it_is_written(client_for, cleo, north, revid):
    page = text(client_for(cleo).get(QUOTE, {"variable": ["a"], "value": [""]}))
    assert "10 credits" in page


def test_the_price_of_too_many_is_no_price_but_a_reason(client_for, cleo, north, revid):
    page = text(client_for(cleo).get(QUOTE, {"variable": ["a"], "value": ["|".join(map(str, range(100)))]}))
    assert "100 pictures (100 prompts) are too many" in page
    assert re.search(r'name="price" value=""', page)


def test_pressed_twice_a_matrix_is_one_batch(send):
    assert send().status_code == send().status_code == 200
    assert Task.objects.count() == 2


def test_other_values_under_the_same_key_are_a_conflict(send):
    send()
    assert send(value=["heron | crane", "gouache"]).status_code == 409


def test_variations_are_shown_open_where_they_are_in_use(send):
    page = text(send(also_ratio=["1:1"], value=["", ""]))
    assert re.search(r'id="variations" open', page)
    assert re.search(r'name="also_ratio" value="1:1" checked', page)


# --- Who draws it, why, and what the others cost ---------------------------------------------------------------------------


def test_the_quote_says_why_this_provider_and_what_the_others_cost(client_for, cleo, north, revid):
    factories.make_account("flux2api")
    page = text(client_for(cleo).get(QUOTE))
    assert "The cheapest that can do this" in page
    assert re.search(r"Flux2API.*?30 credits", re.search(r'id="others".*?</details>', page, re.S)[0], re.S)


def test_a_provider_that_was_chosen_stands_alone(client_for, cleo, north, revid):
    factories.make_account("flux2api")
    page = text(client_for(cleo).get(QUOTE, {"provider": "flux2api"}))
    assert "Your choice" in page
    assert 'id="others"' not in page


def test_a_request_opens_as_the_matrix_that_was_asked_for(client_for, cleo, north, revid, settings):
    """What is sent from there is what the request would have sent itself."""
    settings.PUBLIC_URL = "https://studio.example.com"
    Budget.objects.filter(team=north).update(granted=0)
    image = factories.make_reference(north)
    given = {**GOOD, "count": "2", "also_ratio": ["1:1"], "also_family": ["flex"], "references": [image.pk]}
    given |= {"amount": "500", "sends_itself": "1", "ceiling": "400", "stop_after": "3"}
    browser = client_for(cleo)
    assert browser.post("/t/north/ask/", given, headers=HTMX).status_code == 200
    asked = CreditRequest.objects.get()
    browser.post("/t/north/draft/clear/")
    page = text(browser.get(STUDIO, {"draft": asked.pk}))
    assert ">\nA {animal} in {style}" in page
    assert typed(page) == [("animal", "heron | owl"), ("style", "gouache")]
    member = Membership.objects.get(user=cleo)
    shown = studio._initial(member, QueryDict(f"draft={asked.pk}"))
    again = ComposeForm(QueryDict(urlencode(shown, doseq=True)), member=member)
    assert again.is_valid()
    assert again.order() == requests.order_of(asked.draft)
    assert again.order().pictures == 16


def test_a_request_of_an_older_release_opens_with_its_first_picture(client_for, cleo, north, revid):
    draft = {"prompt": "A heron", "family": "flex", "aspect_ratio": "1:1", "resolution": "1K", "count": 2, "form": "?"}
    row = CreditRequest.objects.create(team=north, user=cleo, key="k", limit="member", amount=5, draft=draft)
    page = text(client_for(cleo).get(STUDIO, {"draft": row.pk}))
    assert ">\nA heron" in page
