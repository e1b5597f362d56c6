"""The words by which two prompts differ."""

from __future__ import annotations

import time

import pytest

from flux2web import lineage


def said(before: str, after: str) -> list[tuple[str, str]]:
    return [(piece.kind, piece.text.strip()) for piece in lineage.words(before, after) if piece.text.strip()]


def test_equal_prompts_do_not_differ():
    assert said("A heron", "A heron") == []


def test_what_was_removed_stands_before_what_was_added():
    assert said("A red bowl", "A blue bowl") == [("same", "A"), ("removed", "red"), ("added", "blue"), ("same", "bowl")]


def test_a_far_stretch_is_cut():
    middle = " ".join(f"w{number}" for number in range(40))
    pieces = said(f"a {middle} y", f"b {middle} z")
    assert pieces[2] == ("same", "w0 w1 w2 w3 w4 w5  … w34 w35 w36 w37 w38 w39")


@pytest.mark.parametrize("after", ["", "★ ☆", "風景 山", "a" * 5000, "\n\n"])
def test_any_text_is_compared(after):
    pieces = lineage.words("A heron, at dawn", after)
    assert "".join(piece.text for piece in pieces if piece.kind == "removed")


def test_the_longest_prompts_are_compared_in_a_blink():
    began = time.perf_counter()
    lineage.words("a " * 2500, "a b " * 1250)
    lineage.words(" ".join(map(str, range(1000))), " ".join(map(str, range(1000, 0, -1))))
    assert time.perf_counter() - began < 1


def test_a_word_at_the_end_is_the_same_word_when_more_follows():
    assert said("more sky", "more sky and a cat") == [("same", "more sky"), ("added", "and a cat")]
