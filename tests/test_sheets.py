"""CSV in which no cell is a formula, and nothing is lost on the way."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux2web import promptbook, sheets


@pytest.mark.parametrize("begins", [*"=+-@\t\r\n", *"＝＋－＠"])
def test_a_cell_that_could_be_a_formula_is_text(begins):
    assert sheets.cell(f"{begins}1+1") == f"'{begins}1+1"


@pytest.mark.parametrize("value", ["", None, 0, 12, "a=1", "x\ny", 'said "so"', "a,b;c", "١٢"])
def test_anything_else_stays_as_it_is(value):
    text = "".join(sheets.lines(("a", "b"), [(value, "end")]))
    assert text.startswith(sheets.BOM)
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == ["" if value is None else str(value), "end"]


WORDS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("'=+-@\t\r\n＝\"',;"), min_size=1, max_size=40
)
TITLES = WORDS.filter(lambda title: not promptbook.title_problem(title) and title == title.strip())
TEXTS = WORDS.filter(lambda text: not promptbook.text_problem(text) and text == text.strip() and "\r\n" not in text)


@given(st.lists(st.tuples(TITLES, TEXTS), max_size=4))
def test_what_the_shelf_gives_out_it_takes_in_as_it_was(rows):
    data = "".join(sheets.lines(("title", "text"), rows)).encode()
    assert [(row["title"], row["text"]) for _, row in promptbook._read(data)] == rows


@given(WORDS)
def test_no_cell_is_ever_a_formula_and_each_is_read_back(text):
    assert not sheets.cell(text).startswith(sheets.DANGEROUS)
    assert sheets.plain(sheets.cell(text)) == text
