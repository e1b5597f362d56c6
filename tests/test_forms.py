"""What the compose form takes, and what it says when it does not."""

from __future__ import annotations

import pytest
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from flux2web import forms
from flux2web.forms import ComposeForm
from flux2web.models import Reference
from flux2web.orders import Quote, Refusal

from . import factories
from .pictures import HUGE_WEBP, upload

UNREADABLE = chr(0xFFFD)  # what decoding leaves of bytes that are no UTF-8
GOOD = {"prompt": "A quiet harbour at dawn", "family": "pro", "aspect_ratio": "4:3", "resolution": "1K", "key": "k"}


@pytest.fixture
def member(cleo, membership, north):
    return membership(cleo, north)


@pytest.fixture
def fill(member):
    """fill(seed="4") is the form as cleo sent it."""

    def make(files=(), **given) -> ComposeForm:
        data = QueryDict(mutable=True)
        for name, value in {**GOOD, **given}.items():
            data.setlist(name, value if isinstance(value, list) else [value])
        return ComposeForm(data, MultiValueDict({"files": list(files)}), member=member)

    return make


def complaint(form: ComposeForm, field: str) -> str:
    assert not form.is_valid()
    return " ".join(form.errors[field])


# --- The prompt ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["abc", "x" * 5000, "🦉" * 5000, "  abc  ", "ab\r\nc", "ü\n" * 2500])
def test_prompts_of_3_to_5000_characters_are_taken(fill, prompt):
    assert fill(prompt=prompt).is_valid()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "Say what to draw."),
        ("   \n ", "Say what to draw."),
        ("ab", "Write at least 3 characters; this has 2."),
        ("x" * 5001, "Write 5,000 characters at most; this has 5,001."),
        ("x" * 2**20, "Write 5,000 characters at most; this has 1,048,576."),
        ("abc\0def", "Character 4 of the prompt is broken"),
        ("abc\ud800def", "Character 4 of the prompt is broken"),
        (f"abc{UNREADABLE}def", "Character 4 of the prompt is broken"),
    ],
)
def test_other_prompts_are_refused_in_words_that_say_why(fill, prompt, words):
    assert words in complaint(fill(prompt=prompt), "prompt")


def test_line_ends_count_once_and_are_sent_plain(fill):
    form = fill(prompt="one\r\ntwo")
    assert form.is_valid()
    assert form.order().prompt == "one\ntwo"


# --- The settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("family", "max"),
        ("aspect_ratio", "7:5"),
        ("resolution", "4K"),
        ("count", "9"),
        ("count", "0"),
        ("seed", "-1"),
        ("seed", str(2**32)),
        ("seed", "41.5"),
        ("output_format", "gif"),
        ("safety_tolerance", "6"),
        ("provider", "x" * 21),
    ],
)
def test_values_that_do_not_exist_are_refused_at_their_field(fill, field, value):
    assert complaint(fill(**{field: value}), field)


def test_what_was_left_empty_is_left_to_the_provider(fill):
    form = fill(seed="", output_format="", safety_tolerance="", provider="", count="")
    assert form.is_valid()
    order = form.order()
    assert (order.seed, order.output_format, order.safety_tolerance) == (None, "", None)
    assert (order.provider, order.count) == ("", 1)


def test_everything_said_reaches_the_order(fill):
    form = fill(seed="41", output_format="png", safety_tolerance="2", provider="vtrix", count="4", family="flex")
    assert form.is_valid()
    order = form.order()
    assert (order.seed, order.output_format, order.safety_tolerance) == (41, "png", 2)
    assert (order.provider, order.count, order.family) == ("vtrix", 4, "flex")


def test_automatic_shape_needs_an_image(fill, north):
    assert "add an image" in complaint(fill(aspect_ratio="auto"), "aspect_ratio")
    assert fill(aspect_ratio="auto", references=[factories.make_reference(north).pk]).is_valid()


@pytest.mark.parametrize(("price", "seen"), [("30", 30), ("", None), ("  ", None), ("cheap", None)])
def test_the_price_on_the_button_comes_along(fill, price, seen):
    form = fill(price=price)
    assert form.is_valid()
    assert form.price_seen == seen


def test_the_parent_must_be_one_that_the_member_may_see(fill, north, south):
    own, others = factories.make_task(north), factories.make_task(south)
    for pk, parent in ((own.pk, own.pk), (others.pk, None), ("x", None), ("", None)):
        form = fill(parent=str(pk))
        assert form.is_valid()
        assert form.order().parent == parent


# --- References ------------------------------------------------------------------------------------------------------------


def test_references_keep_the_order_of_their_slots(fill, north):
    first, second = factories.make_reference(north), factories.make_reference(north)
    form = fill(references=[second.pk, first.pk])
    assert form.is_valid()
    assert form.order().references == (second.pk, first.pk)


def test_without_javascript_numbers_are_typed_and_an_empty_one_removes(fill, north):
    a, b, c = (factories.make_reference(north).pk for _ in range(3))
    form = fill(references=[a, b, c], place=["3", "", "1"])
    assert form.is_valid()
    assert form.order().references == (c, a)


def test_nine_references_are_one_too_many_and_all_are_kept(fill, north):
    ids = [factories.make_reference(north).pk for _ in range(9)]
    form = fill(references=ids)
    assert complaint(form, "references") == "9 images; a task takes 8. Remove 1."
    assert [slot.id for slot in form.slots] == ids


def test_a_reference_of_another_team_is_not_there(fill, north, south):
    mine, foreign = factories.make_reference(north), factories.make_reference(south)
    form = fill(references=[mine.pk, foreign.pk])
    assert "Image 2 is not here any more" in complaint(form, "references")
    assert [bool(slot.reference) for slot in form.slots] == [True, False]


def test_a_deleted_reference_is_not_there(fill, north):
    gone = factories.make_reference(north, deleted_at="2026-01-01T00:00Z")
    assert "Image 1 is not here any more" in complaint(fill(references=[gone.pk]), "references")


@pytest.mark.parametrize("reference", ["x", "-1", "9" * 30, "", "1e3", "٣"])
def test_what_is_no_id_is_named_like_one_that_is_gone(fill, reference):
    assert "Image 1 is not here any more" in complaint(fill(references=[reference]), "references")


def test_uploaded_files_follow_the_references(fill, north):
    kept = factories.make_reference(north)
    form = fill(references=[kept.pk], files=[upload(name="new.png")])
    assert form.is_valid()
    assert form.order().references == (kept.pk, Reference.objects.get(name="new.png").pk)


def test_a_file_uploaded_in_a_failing_post_is_kept(fill):
    form = fill(prompt="ab", files=[upload(name="vase.png")])
    assert not form.is_valid()
    assert form.slots[0].reference.name == "vase.png"


@pytest.mark.parametrize("content", [b"only text", HUGE_WEBP, b"", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_named_and_the_others_are_kept(fill, content):
    form = fill(files=[upload(name="good.png"), upload(content, name="bad.png")])
    assert complaint(form, "files").startswith("bad.png: ")
    assert [slot.reference.name for slot in form.slots] == ["good.png"]


# --- The price -------------------------------------------------------------------------------------------------------------


def test_the_price_follows_the_form_and_needs_no_prompt(member):
    factories.make_account("revid")
    quoted = forms.price(member, QueryDict("family=flex&resolution=2K&count=2"))
    assert isinstance(quoted, Quote)
    assert (quoted.each, quoted.total) == (40, 80)


def test_a_form_that_cannot_be_sent_has_no_price_but_a_reason(member):
    factories.make_account("revid")
    quoted = forms.price(member, QueryDict("aspect_ratio=auto"))
    assert isinstance(quoted, Refusal)
    assert quoted.field == "aspect_ratio"


def test_a_form_filled_from_a_task_asks_for_the_same(member, north):
    reference = factories.make_reference(north)
    task = factories.make_task(north, seed=0, family="flex", aspect_ratio="3:2", references=[reference])
    filled = forms.like(task)
    assert (filled["prompt"], filled["family"], filled["aspect_ratio"]) == (task.prompt, "flex", "3:2")
    assert (filled["seed"], filled["references"]) == ("0", [reference.pk])
