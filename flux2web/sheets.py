"""CSV that a spreadsheet opens without running anything in it. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence

# A cell that begins so may be taken for a formula (OWASP, CSV injection); some spreadsheets read full-width signs too.
DANGEROUS = (*"=+-@\t\r\n", *"＝＋－＠")
BOM = "\ufeff"  # or Excel takes UTF-8 for something else


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, line: str) -> str:
        return line


def lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """The text of a CSV file, line by line."""
    writer = csv.writer(_Echo())
    yield BOM + writer.writerow(header)
    for row in rows:
        yield writer.writerow([cell(value) for value in row])


def cell(value: object) -> str:
    """As text; one that could be a formula gets an apostrophe in front."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(DANGEROUS) else text
