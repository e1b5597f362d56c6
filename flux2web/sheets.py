"""CSV that a spreadsheet opens without running anything in it. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence

# A cell that begins so may be taken for a formula (OWASP, CSV injection); some spreadsheets read full-width signs too.
DANGEROUS = (*"=+-@\t\r\n", *"＝＋－＠")
GUARDED = re.compile(f"'*[{re.escape(''.join(DANGEROUS))}]")
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
    """As text; one that could be a formula gets an apostrophe in front, and so does one that looks as if it had."""
    text = "" if value is None else str(value)
    return f"'{text}" if GUARDED.match(text) else text


def plain(text: str) -> str:
    """What `cell` made this of."""
    return text[1:] if text.startswith("'") and GUARDED.match(text) else text
