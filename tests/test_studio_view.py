"""The studio: opening it, asking the price, pressing the button, and everything that can be wrong with a form."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web import lifecycle
from flux2web.models import Batch, Budget, Collection, Membership, Price, Reference, Result, Role, Task, Team

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


def at_the_button(page: str) -> str:
    return re.search(r'id="short".*?</div>', page, re.S)[0]


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


def test_one_example_comes_with_an_image_that_is_kept_once(client_for, cleo, north, revid):
    client = client_for(cleo)
    assert 'action="/t/north/example/"' in text(client.get(STUDIO))
    addresses = [client.post("/t/north/example/")["Location"] for _ in range(2)]
    image = Reference.objects.get(team=north)
    assert (image.user, image.name, image.width_px) == (cleo, "lighthouse.webp", 768)
    assert addresses[0] == addresses[1]
    filled = text(client.get(addresses[0]))
    assert ">\nThe lighthouse of image 1 in winter" in filled
    assert slots(filled) == [image.pk]


def test_an_example_whose_image_cannot_be_stored_says_so(client_for, cleo, north, revid, settings, tmp_path):
    nowhere = tmp_path / "a file where a folder should be"
    nowhere.touch()
    settings.STORAGES = settings.STORAGES | {
        "default": settings.STORAGES["default"] | {"OPTIONS": {"location": nowhere}}
    }
    answer = client_for(cleo).post("/t/north/example/", follow=True)
    assert "cannot store pictures right now" in text(answer)
    assert not Reference.objects.exists()


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


def test_who_sees_it_is_said_with_the_press_or_left_to_the_team(send, client_for, ana, north):
    for default, given, is_hidden in (
        (False, {}, False),
        (False, {"private": "1"}, True),
        (True, {}, True),
        (True, {"private": "0"}, False),
    ):
        Team.objects.filter(pk=north.pk).update(private_by_default=default)
        send(key=f"{default}{given}", again="1", **given)
        assert Task.objects.latest("pk").private is is_hidden, (default, given)
    assert len(re.findall("<article", text(client_for(ana).get(STUDIO)))) == 2


def test_the_same_key_for_other_eyes_is_a_conflict(send):
    assert send(key="eyes", private="1").status_code == 200
    assert send(key="eyes", private="0").status_code == 409
    assert send(key="eyes").status_code == 409


def test_an_unknown_audience_is_refused_and_nothing_is_sent(send):
    answer = send(private="2")
    assert answer.status_code == 422
    assert "There is no such choice: 2." in problems(text(answer))
    assert not Task.objects.exists()


def test_what_was_hidden_stays_so_when_it_is_tried_again_but_not_in_a_remix(send, client_for, cleo, membership, north):
    send(private="1")
    task = Task.objects.get()
    lifecycle.cancel(task, cleo)
    task.refresh_from_db()
    again = lifecycle.retry(membership(cleo, north), task)
    assert again.tasks.get().private
    assert 'name="private" value="0" checked' in text(client_for(cleo).get(f"{STUDIO}?like={task.pk}"))


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
    assert "this needs 40 credits, and the team has 15 credits left" in at_the_button(page)
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


# --- Limits: which one binds, and what to do about it ------------------------------------------------------------------


@pytest.fixture
def capped(cleo, north, ben):
    """Cleo with a cap of 50 a period, and Ben who could grant more."""
    Membership.objects.filter(user=cleo).update(cap=50)


def line(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", re.search(r'<p class="line.*?</p>', page, re.S)[0]).split())


def test_the_line_under_the_button_says_what_is_left_under_each_limit(client_for, cleo, north, revid, capped):
    assert "50 left of your 50 · team 1,000" in line(text(client_for(cleo).get(STUDIO)))


def test_without_a_cap_it_speaks_of_the_team_alone(client_for, cleo, north, revid):
    assert line(text(client_for(cleo).get(STUDIO))).endswith("Revid 1,000 left")


def test_where_the_team_binds_first_it_says_so(client_for, cleo, north, revid, capped):
    Budget.objects.filter(team=north).update(granted=20)
    assert "20 left in the team · 50 of your 50" in line(text(client_for(cleo).get(STUDIO)))


def test_short_of_the_cap_it_offers_what_fits_the_cap_and_asking(client_for, cleo, north, revid, capped):
    page = text(client_for(cleo).get(QUOTE, {"count": "8"}))
    assert "only 50 left of your 50" in page
    assert "Make 4 instead · 40 credits" in page
    assert re.search(r'name="amount"[^>]*value="30"', page)
    assert re.search(r'name="sends_itself" checked', page)
    assert "Ask Ben" in page


def test_a_cap_refuses_at_the_button_and_touches_nothing(send, north, capped):
    answer = send(count="8", price="80", amount="30", short="30", reason="for the poster")
    page = text(answer)
    assert answer.status_code == 422
    assert "Not sent: this needs 80 credits, you have 50 left of 50 this period." in at_the_button(page)
    assert "The team&#x27;s budget has 1,000 left." in at_the_button(page)
    assert "Your limit renews on" in at_the_button(page)
    assert "<li>" not in problems(page)
    assert ">\nA quiet harbour at dawn" in page
    assert re.search(r'name="reason"[^>]*value="for the poster"', page)
    assert Budget.objects.get(team=north).held == 0


def test_an_amount_that_was_typed_stays_and_one_that_was_not_follows_the_price(send, capped):
    assert re.search(r'name="amount"[^>]*value="70"', text(send(count="8", price="80", amount="70", short="30")))
    assert re.search(r'name="amount"[^>]*value="30"', text(send(count="8", price="80", amount="10", short="10")))


def test_what_is_not_to_send_itself_stays_so(send, capped):
    assert not re.search(r'name="sends_itself" checked', text(send(count="8", price="80", amount="70", short="30")))


def test_ones_own_limit_is_changed_not_asked_about(client_for, cleo, north, revid):
    Membership.objects.filter(user=cleo).update(own_limit=15)
    page = text(client_for(cleo).get(QUOTE, {"count": "4"}))
    assert "only 15 left of your own 15" in page
    assert "/t/north/usage/#own-limit" in page
    assert "Ask for more" not in page


def test_an_empty_team_budget_names_who_can_help(client_for, cleo, north, revid, sam):
    Budget.objects.filter(team=north).update(granted=5)
    assert "Ask Sam" in text(client_for(cleo).get(QUOTE))


def test_the_chip_tells_the_limit_that_binds_first_and_in_its_title_all(client_for, cleo, north, revid, capped):
    page = text(client_for(cleo).get("/t/north/balance/"))
    assert 'data-available="1000" data-held="0"' in page
    assert re.search(r'title="50 of your 50 this period, team 1,000\. Renews on', page)
    assert 'href="/t/north/usage/"' in page
    assert '<meter min="0" max="50"' in page


def test_keys_of_the_house_are_not_for_typing(send):
    """request:7 is the batch that request 7 will send: nobody may be there before it."""
    assert send(key="request:7").status_code == 200
    assert Batch.objects.get().key == "request-7"


def test_a_short_studio_asks_no_more_of_the_database_the_more_there_is(client_for, cleo, north, revid, capped):
    client = client_for(cleo)

    def queries_with(number: int) -> int:
        for _ in range(number):
            factories.make_task(north, state="done", price=1)
        client.get(QUOTE, {"count": "8"})
        with CaptureQueriesContext(connection) as seen:
            client.get(QUOTE, {"count": "8"})
        return len(seen)

    assert queries_with(1) == queries_with(20)


# --- Made for a collection ---------------------------------------------------------------------------------------------------


@pytest.fixture
def make(north, dan):
    """make("Finals", "view") is dan's collection, which the team may only look at."""

    def do(name: str, access: str = "edit", **fields) -> Collection:
        return Collection.objects.create(team=north, owner=dan, name=name, access=access, **fields)

    return do


def offered(page: str) -> list[str]:
    """The collections in the form; the chosen one with a star."""
    [select] = re.findall(r'<select id="collection".*?</select>', page, re.S) or [""]
    found = re.findall(r"<option value=\"\d+\"( selected)?>([^<]*)</option>", select)
    return [f"*{name}" if chosen else name for chosen, name in found]


def test_the_form_offers_the_collections_that_one_may_add_to(client_for, cleo, dan, revid, make):
    assert "Add to collection" not in text(client_for(cleo).get(STUDIO))
    make("Seen", "view")
    assert "Add to collection" not in text(client_for(cleo).get(STUDIO))
    make("Owls")
    make("Boats")
    make("Hidden", "none")
    make("Gone", deleted_at=timezone.now())
    assert offered(text(client_for(cleo).get(STUDIO))) == ["Boats", "Owls"]
    assert offered(text(client_for(dan).get(STUDIO))) == ["Boats", "Hidden", "Owls", "Seen"]


def test_what_is_sent_is_made_for_the_collection_and_the_form_keeps_it(send, client_for, cleo, make):
    row = make("Owls")
    assert send(collection=row.pk).status_code == 200
    assert Batch.objects.get().collection == row
    assert offered(text(client_for(cleo).get(STUDIO))) == ["*Owls"]
    assert send(collection=row.pk, prompt="", key="press-2").status_code == 422
    assert send(collection="", key="press-3").status_code == 200
    assert Batch.objects.get(key="press-3").collection is None


def test_the_same_key_for_another_collection_is_a_conflict(send, make):
    send(collection=make("Owls").pk)
    assert send(collection=make("Boats").pk).status_code == 409


@pytest.mark.parametrize("which", ["seen", "hidden", "gone", "foreign", "0", "-1", "x", "9" * 400, "²"])
def test_a_collection_that_one_may_not_add_to_is_said_and_nothing_is_sent(send, client_for, cleo, south, make, which):
    rows = {
        "seen": make("Seen", "view"),
        "hidden": make("Hidden", "none"),
        "gone": make("Gone", deleted_at=timezone.now()),
        "foreign": Collection.objects.create(team=south, name="Foreign"),
    }
    make("Owls")
    answer = send(collection=rows[which].pk if which in rows else which)
    page = text(answer)
    assert answer.status_code == 422
    assert "This collection is not there any more, or you may not add to it." in problems(page)
    assert 'id="collection-error"' in page
    assert offered(page) == ["Owls"]
    assert "10 credits" in page
    assert not Batch.objects.exists()
    kept = text(client_for(cleo).get(STUDIO))
    assert GOOD["prompt"] in kept
    assert 'name="price" value="10"' in kept


def test_where_there_is_none_left_to_add_to_the_message_has_its_place(send, make):
    page = text(send(collection=make("Gone", deleted_at=timezone.now()).pk))
    assert 'id="collection-error"' in page


def test_the_form_takes_as_many_queries_for_many_collections(client_for, cleo, revid, make):
    def count() -> int:
        client = client_for(cleo)
        client.get(STUDIO)
        with CaptureQueriesContext(connection) as seen:
            client.get(STUDIO)
        return len(seen)

    make("Owls")
    before = count()
    for number in range(20):
        make(f"Boats {number}")
    assert count() == before


# --- Asked before much is spent ----------------------------------------------------------------------------------------------


@pytest.fixture
def asks_above(north):
    """asks_above(50): what costs more than 50 credits is asked about."""

    def put(credits: int | None) -> None:
        Budget.objects.filter(team=north).update(confirm_above=credits)

    return put


def question(page: str) -> str:
    """What is asked at the button, as words; "" where nothing is."""
    found = re.search(r'<div class="twin" id="confirm".*?</div></div>\s*</div>', page, re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", found[0]).split()) if found else ""


FOUR = {"count": "4", "price": "40"}


def test_what_costs_more_than_the_team_says_is_asked_about_and_nothing_is_sent(send, north, asks_above):
    asks_above(30)
    Budget.objects.filter(team=north).update(member_cap=200)
    answer = send(**FOUR)
    assert answer.status_code == 422
    assert answer["HX-Retarget"] == "#compose"
    page = text(answer)
    assert question(page).startswith(
        "These 4 pictures cost 40 credits. Above 30 your team asks first. Nothing was sent. "
        "After it: 160 left of your 200 · team 960."
    )
    assert 'name="confirm" value="40">Send 4 · 40 credits</button>' in page
    assert GOOD["prompt"] in page
    assert "data-problems" not in problems(page)
    assert not Task.objects.exists()
    assert not Batch.objects.exists()
    assert Budget.objects.get(team=north).held == 0


def test_what_costs_no_more_than_that_is_not_asked_about(send, asks_above):
    asks_above(40)
    assert send(**FOUR).status_code == 200
    asks_above(None)
    assert send(**FOUR, key="press-2").status_code == 200


def test_a_team_may_have_every_press_asked_about(send, asks_above):
    asks_above(0)
    assert question(text(send())).startswith("This picture costs 10 credits. Your team asks before every press.")
    assert send(confirm="10").status_code == 200


def test_confirmed_it_is_sent_once(send, asks_above, north):
    asks_above(30)
    for _ in range(2):
        answer = send(**FOUR, confirm="40")
        assert answer.status_code == 200
        assert text(answer).count("<article") == 4
    assert Budget.objects.get(team=north).held == 40


def test_without_javascript_the_question_is_on_the_page_and_its_button_sends(send, client_for, cleo, asks_above, north):
    asks_above(30)
    answer = send(**FOUR, htmx=False)
    page = text(answer)
    assert (answer.status_code, page[:15]) == (422, "<!doctype html>")
    assert "These 4 pictures cost 40 credits." in question(page)
    assert re.search(r'value="4" checked', page)
    given = {**GOOD, **FOUR, "key": value(page, "key"), "confirm": value(page, "confirm")}
    assert client_for(cleo).post(CREATE, given).status_code == 302
    assert Budget.objects.get(team=north).held == 40


def test_not_now_leads_back_to_the_form_as_it_was(send, client_for, cleo, asks_above):
    asks_above(30)
    page = text(send(**FOUR, htmx=False))
    assert re.search(rf'href="{STUDIO}" data-not-now>Not now', page)
    kept = text(client_for(cleo).get(STUDIO))
    assert GOOD["prompt"] in kept
    assert re.search(r'name="count" value="4" checked', kept)
    assert not question(kept)


def test_a_price_that_rose_since_it_was_confirmed_is_asked_about_again(send, asks_above, north):
    asks_above(30)
    factories.make_price("revid", credits=12)
    answer = send(**FOUR, confirm="40")
    assert "The price has changed from 40 to 48 credits" in problems(text(answer))
    assert answer.status_code == 422
    answer = send(count="4", price="48", confirm="40")
    assert "These 4 pictures cost 48 credits." in question(text(answer))
    assert Budget.objects.get(team=north).held == 0
    assert send(count="4", price="48", confirm="48").status_code == 200


def test_a_price_that_fell_since_it_was_confirmed_is_not_asked_about_again(send, asks_above, north):
    asks_above(30)
    factories.make_price("revid", credits=9)
    assert send(**FOUR, confirm="40").status_code == 200
    assert Budget.objects.get(team=north).held == 36


@pytest.mark.parametrize("confirm", ["", "0", "-40", "yes", "4e1", "9" * 400, "٤٠", "39"])
def test_what_confirms_nothing_is_asked_about(send, asks_above, confirm):
    asks_above(30)
    assert "These 4 pictures cost 40 credits." in question(text(send(**FOUR, confirm=confirm)))
    assert not Batch.objects.exists()


def test_a_matrix_is_asked_about_by_its_total(send, asks_above, north):
    asks_above(50)
    crossed = {"also_ratio": ["1:1", "16:9"], "also_family": ["flex"], "price": "105"}
    assert "These 6 pictures cost 105 credits." in question(text(send(**crossed)))
    assert send(**crossed, confirm="105").status_code == 200
    assert Budget.objects.get(team=north).held == 105


def test_who_cannot_pay_for_it_is_told_so_and_not_asked(send, asks_above, north):
    asks_above(30)
    Budget.objects.filter(team=north).update(granted=20)
    page = text(send(**FOUR))
    assert "this needs 40 credits" in at_the_button(page)
    assert not question(page)


def test_what_costs_too_little_to_be_asked_about_is_offered_beside_it(send, asks_above, north):
    asks_above(20)
    page = text(send(family="flex", count="4", price="100"))
    assert "With Pro instead" not in question(page)  # four of them are 40
    asks_above(40)
    page = text(send(family="flex", count="4", price="100"))
    assert 'name="instead" value="count=1">Make 1 instead · 25 credits' in page
    assert 'name="instead" value="family=pro">With Pro instead · 40 credits' in page
    assert send(family="flex", count="4", price="100", instead="family=pro").status_code == 200
    assert Budget.objects.get(team=north).held == 40


def test_a_cheaper_way_that_is_asked_about_too_is_what_the_form_says_then(send, asks_above, north):
    asks_above(15)
    Budget.objects.filter(team=north).update(granted=50)
    page = text(send(count="8", price="80", instead="count=4"))
    assert "These 4 pictures cost 40 credits." in question(page)
    assert re.search(r'name="count" value="4" checked', page)


def test_the_question_follows_the_form_until_it_is_none(client_for, cleo, north, revid, asks_above):
    asks_above(30)

    def asked(**given) -> str:
        return question(text(client_for(cleo).get(QUOTE, given)))

    assert "These 4 pictures cost 40 credits." in asked(count="4", asks="1")
    assert "These 8 pictures cost 80 credits." in asked(count="8", asks="1")
    assert not asked(count="3", asks="1")
    assert not asked(count="4")
    assert not asked(count="4", asks="no")


def test_of_the_same_as_somebody_made_one_is_asked_first_whether_to_make_it(send, made, asks_above):
    asks_above(5)
    made()
    answer = send()
    assert answer.status_code == 409
    assert not question(text(answer))
    page = text(send(again="1"))
    assert "This picture costs 10 credits." in question(page)
    assert send(again=value(page, "again"), confirm="10", key="press-2").status_code == 200


def test_a_press_that_was_sent_before_the_team_asked_is_answered_as_it_was(send, asks_above, north):
    first = send(**FOUR)
    asks_above(30)
    assert text(send(**FOUR)).count("<article") == text(first).count("<article") == 4
    assert Budget.objects.get(team=north).held == 40


# --- Somebody made this already ----------------------------------------------------------------------------------------------


@pytest.fixture
def made(north, dan, revid):
    """made(seed=3) is dan's finished picture of what GOOD asks for."""

    def make(**fields) -> Task:
        return factories.make_task(north, user=dan, state="done", **{"prompt": GOOD["prompt"], **fields})

    return make


def test_before_spending_on_the_same_again_the_picture_is_offered(send, made, north):
    twin = made(price=24)
    answer = send(prompt="  a QUIET harbour\nat dawn")
    assert answer.status_code == 409
    assert answer["HX-Retarget"] == "#compose"
    page = text(answer)
    assert re.search(r"Dan made this on \d+ \w+</strong> for 24 credits", page)
    assert f'href="/t/north/tasks/{twin.pk}/"' in page
    assert "a QUIET harbour" in page
    assert Batch.objects.count() == 1
    assert Budget.objects.get(team=north).held == 0


def test_a_picture_whose_original_is_lost_stands_in_nobodys_way(send, made):
    made()
    Result.objects.update(lost_at=timezone.now())
    assert send().status_code == 200


def test_without_javascript_it_is_offered_on_the_page(send, made):
    made()
    answer = send(htmx=False)
    assert answer.status_code == 409
    assert "Make it anyway" in text(answer)
    assert text(answer).startswith("<!doctype html>")


def test_made_anyway_it_is_made_and_not_asked_about_again(send, made):
    made()
    answer = send(again="1")
    assert answer.status_code == 200
    mark = value(text(answer), "again")
    assert mark
    assert send(again=mark, key="press-2").status_code == 200
    assert send(again=mark, key="press-3", resolution="2K", price="15").status_code == 200
    made(resolution="2K")
    assert send(again=mark, key="press-4", resolution="2K", price="15").status_code == 409


def test_a_press_that_was_sent_before_is_answered_as_it_was(send, made):
    first = send()
    made()
    assert text(send()).count("article") == text(first).count("article")
    assert Batch.objects.filter(key="press-1").count() == 1


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "A quiet harbour at dawn, warmer"},
        {"family": "flex", "price": 25},
        {"aspect_ratio": "1:1"},
        {"resolution": "2K"},
        {"private": True},
        {"deleted_at": timezone.now()},
        {"references": 1},
    ],
)
def test_what_differs_or_is_hidden_is_not_the_same(send, made, north, other):
    other = dict(other)
    if "references" in other:
        other["references"] = [factories.make_reference(north)]
    made(**other)
    assert send().status_code == 200


def test_what_is_not_finished_is_not_offered(send, made, north, dan):
    for state in ("failed", "running", "cancelled"):
        factories.make_task(north, user=dan, state=state, prompt=GOOD["prompt"])
    assert send().status_code == 200


def test_a_seed_that_was_chosen_has_to_be_the_same(send, made):
    factories.make_account("vtrix")  # which can be told a seed
    made(seed=5)
    assert send(seed="6", price="").status_code == 200
    assert send(seed="5", key="press-2").status_code == 409
    assert send(key="press-3").status_code == 409


def test_images_are_the_same_by_what_they_show_in_their_order(send, made, north, cleo, settings):
    settings.PUBLIC_URL = "https://flux2web.example.com"
    one, two = (factories.make_reference(north, name=name) for name in ("a.png", "b.png"))
    copy = factories.make_reference(north, name="copy.png", sha256=one.sha256, user=cleo)
    made(references=[one, two])
    assert send(references=[two.pk, one.pk]).status_code == 200
    assert send(references=[copy.pk, two.pk], key="press-2").status_code == 409


def test_looking_for_the_same_takes_as_many_queries_among_many(send, made, client_for, cleo):
    def count(key: str) -> int:
        with CaptureQueriesContext(connection) as seen:
            assert send(key=key).status_code == 409
        return len(seen)

    for _ in range(3):
        made()
    count("press-1")
    few = count("press-2")
    for _ in range(27):
        made()
    assert count("press-3") == few


# --- Again, from a picture -------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(client_for, cleo, north, revid, dan):
    """asked("remix") is the studio that cleo opens with that of dan's picture, and the picture."""
    images = [factories.make_reference(north) for _ in range(3)]
    task = factories.make_task(
        north,
        user=dan,
        state="done",
        prompt="A heron",
        family="flex",
        resolution="2K",
        seed=7,
        price=40,
        references=images,
    )

    def open_(what: str) -> str:
        return text(client_for(cleo).get(STUDIO, {"like": task.pk, "what": what}))

    open_.task, open_.images = task, images
    return open_


@pytest.mark.parametrize(
    ("what", "prompt", "seed", "images", "flex"),
    [
        ("all", "A heron", "7", 3, True),
        ("remix", "A heron", "", 3, True),
        ("prompt", "A heron", "", 0, False),
        ("settings", "", "", 0, True),
        ("nonsense", "A heron", "7", 3, True),
    ],
)
def test_the_form_takes_from_a_picture_what_was_asked_for(asked, what, prompt, seed, images, flex):
    page = asked(what)
    assert re.search(r'id="prompt".*?>\n?(.*?)</textarea>', page, re.S)[1] == prompt
    assert value(page, "seed") == seed
    assert len(slots(page)) == images
    assert bool(re.search(r'value="flex" checked', page)) is flex


def test_the_banner_says_whose_picture_it_began_from_and_the_task_keeps_it(asked, send):
    page = asked("remix")
    assert "Remixing <a" in page
    assert "Dan’s" in page
    assert value(page, "parent") == str(asked.task.pk)
    send(parent=str(asked.task.pk))
    assert Task.objects.latest("id").parent == asked.task
    assert value(asked("prompt"), "parent") == ""


@pytest.mark.parametrize("gone", [{"lost_at": timezone.now()}, {"purged_at": timezone.now()}])
def test_the_banner_shows_a_picture_only_while_its_original_is_there(asked, gone):
    def banner() -> str:
        with CaptureQueriesContext(connection) as seen:
            page = asked("remix")
        assert not [each for each in seen if 'FROM "flux2web_result"' in each["sql"]], "asked for apart"
        return page.split('id="compose-from"')[1].split("</div>")[0]

    assert f"/results/{asked.task.pk}/320" in banner()
    Result.objects.filter(task=asked.task).update(**gone)
    assert "Remixing <a" in banner()
    assert "/results/" not in banner()


def test_images_that_are_gone_are_named_by_their_place_and_the_others_keep_theirs(asked):
    Reference.objects.filter(pk=asked.images[1].pk).update(deleted_at=timezone.now())
    page = asked("remix")
    assert "Image 2 is gone: upload it again" in page
    assert slots(page) == [row.pk for row in asked.images]


def test_a_picture_that_one_may_not_see_fills_nothing(client_for, cleo, dan, north, revid):
    hidden = factories.make_task(north, user=dan, state="done", prompt="A secret heron", private=True)
    page = text(client_for(cleo).get(STUDIO, {"like": hidden.pk, "parent": hidden.pk}))
    assert "secret" not in page
    assert "Remixing" not in page
