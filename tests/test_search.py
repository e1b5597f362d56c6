"""Words find pictures, the same on both databases: beginnings, phrases, accents, nonsense."""

from __future__ import annotations

import pytest

from flux2web import search

from . import factories

pytestmark = pytest.mark.django_db


def found(team, text: str, **how) -> list[int]:
    return search.find(team.pk, search.parse(text), **how)


@pytest.fixture
def tasks(north) -> dict[str, int]:
    prompts = {
        "dawn": "Harbour at dawn, flat gouache",
        "boats": "Three boats in the harbour, at noon",
        "cafe": "Café crème on a marble table — 3D render",
        "signs": '50% off! C++ & "quotes", o\'clock * (OR) NEAR',
        "arabic": "ميناء عند الفجر",
    }
    return {name: factories.make_task(north, prompt=prompt).pk for name, prompt in prompts.items()}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("harbour", ["boats", "dawn"]),
        ("HARB", ["boats", "dawn"]),
        ("harbour gou", ["dawn"]),
        ('"harbour at"', ["boats", "dawn"]),
        ('"at harbour"', []),
        ('"boats in the', ["boats"]),
        ("cafe creme", ["cafe"]),
        ("CAFÉ", ["cafe"]),
        ("3d", ["cafe"]),
        ("arbour", []),
        ("50% off!", ["signs"]),
        ("o'clock", ["signs"]),
        ("near or", ["signs"]),
        ("ميناء", ["arabic"]),
    ],
)
def test_words_find_what_begins_with_them_newest_first(north, tasks, text, names):
    assert found(north, text) == [tasks[name] for name in names]


@pytest.mark.parametrize("text", ["", "   ", '"', '"""', "***", "( ) ^ : - +", "!!!", "\x00", "\u200f"])
def test_no_words_are_nothing_to_look_for(text):
    assert not search.parse(text)


@pytest.mark.parametrize(
    "text", ["team:t1 a", "a OR b NOT c", "a AND", "x' OR '1'='1", "NEAR(a b)", "zq:*", "a & b | !c <-> d", "zq \\"]
)
def test_another_languages_operators_are_words(north, tasks, text):
    assert found(north, text) == []


def test_ten_thousand_characters_are_cut_and_said_to_be():
    words = search.parse(" ".join(f"word{n}" for n in range(2000)))
    assert (len(words.phrases), words.cut) == (search.TERMS_MAX, True)
    assert len(search.parse("x" * 10_000).phrases[0][0]) == search.WORD_MAX_CHARS


def test_other_teams_words_are_not_found(north, south, tasks):
    other = factories.make_task(south, prompt="Harbour of the others").pk
    assert other not in found(north, "harbour")
    assert found(south, "harbour") == [other]


def test_pages_follow_each_other_downward_and_upward(north):
    pks = [factories.make_task(north, prompt=f"heron {n}").pk for n in range(7)]
    first = found(north, "heron", limit=3)
    assert first == pks[:-4:-1]
    assert found(north, "heron", limit=3, beyond=first[-1]) == pks[-4:-7:-1]
    assert found(north, "heron", limit=3, upward=True, beyond=pks[0]) == pks[1:4]


def test_new_words_replace_the_old_ones(north, tasks):
    search.put([(tasks["dawn"], north.pk, "a lighthouse, at last")])
    assert found(north, "gouache") == []
    assert found(north, "lighthouse") == [tasks["dawn"]]
