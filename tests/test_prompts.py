"""Places to fill in: which braces are one, what a field's values are, and how many prompts they make."""

from __future__ import annotations

import pytest

from flux2web import prompts


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A {animal} in {style}", ["animal", "style"]),
        ("{style} and {style} again", ["style"]),
        ("{ style}", []),
        ("{style } and {style}", ["style"]),
        ("{first name} {a-b_c} {größe} {2nd}", ["first name", "a-b_c", "größe"]),
        ('{"scene": "harbour", "mood": {"light": "dawn"}}', []),
        ("{}{{}}{a:b}{a.b}", []),
        ("{{style}}", ["style"]),
        (f"{{{'x' * 30}}} {{{'y' * 31}}}", ["x" * 30]),
    ],
)
def test_what_is_a_place_to_fill_in(text, names):
    assert prompts.variables(text) == names


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("gouache", ["gouache"]),
        (" gouache | screen print ", ["gouache", "screen print"]),
        ("a|a| |b||", ["a", "b"]),
        ("  |  ", []),
    ],
)
def test_a_field_takes_several_values(typed, found):
    assert prompts.values(typed) == found


def test_every_combination_is_made_the_last_changing_fastest():
    given = {"animal": ["heron", "owl"], "style": ["ink", "oil"]}
    assert list(prompts.variants("A {animal} in {style}", given)) == [
        "A heron in ink",
        "A heron in oil",
        "A owl in ink",
        "A owl in oil",
    ]


def test_braces_in_a_value_stay_as_they_are():
    assert list(prompts.variants("{a}{b}", {"a": ["{b}"], "b": ["1"]})) == ["{b}1"]


def test_a_prompt_without_places_is_itself():
    assert list(prompts.variants("A {2} heron", {})) == ["A {2} heron"]


def test_counting_makes_nothing():
    assert prompts.how_many({str(name): ["x"] * 500 for name in range(8)}) == 500**8
