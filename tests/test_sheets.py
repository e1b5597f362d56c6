"""CSV in which no cell is a formula, and nothing is lost on the way."""

from __future__ import annotations

import csv
import io

import pytest

from flux2web import sheets


@pytest.mark.parametrize("begins", [*"=+-@\t\r\n", *"＝＋－＠"])
def test_a_cell_that_could_be_a_formula_is_text(begins):
    assert sheets.cell(f"{begins}1+1") == f"'{begins}1+1"


@pytest.mark.parametrize("value", ["", None, 0, 12, "a=1", "x\ny", 'said "so"', "a,b;c", "١٢"])
def test_anything_else_stays_as_it_is(value):
    text = "".join(sheets.lines(("a", "b"), [(value, "end")]))
    assert text.startswith(sheets.BOM)
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == ["" if value is None else str(value), "end"]
