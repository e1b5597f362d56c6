"""Words to pictures: SQLite's FTS5 or PostgreSQL's full text behind one small interface, newest first.

Both are given the same words, folded and split here, so that they find the same. A word finds what begins with it; words
in quotes find each other in that order.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection

TERMS_MAX = 12  # words or phrases that are looked at; more of them find nothing more in practice
WORD_MAX_CHARS = 60


@dataclass(frozen=True)
class Words:
    """What to look for: phrases of one or more words, all of which must occur. `cut` where the text had more of them."""

    phrases: tuple[tuple[str, ...], ...]
    cut: bool = False

    def __bool__(self) -> bool:
        return bool(self.phrases)


def fold(text: str) -> list[str]:
    """A text's words: small letters, no accents, letters and digits only."""
    plain = unicodedata.normalize("NFKD", text[:20_000])
    plain = "".join(char for char in plain if not unicodedata.combining(char)).casefold()
    return [word[:WORD_MAX_CHARS] for word in re.findall(r"[^\W_]+", plain)]


def parse(text: str) -> Words:
    """`harbour "at dawn" gou` -> harbour*, "at dawn", gou*. A quote that is not closed counts to the end."""
    found: list[tuple[str, ...]] = []
    for number, part in enumerate(text[:20_000].split('"')):
        words = fold(part)
        found += [tuple(words)] if number % 2 and words else [(word,) for word in words]
    return Words(tuple(dict.fromkeys(found))[:TERMS_MAX], len(set(found)) > TERMS_MAX)


def put(rows: Iterable[tuple[int, int, str]]) -> None:
    """Keep the words of tasks: (task id, team id, text). What was kept of them before is forgotten."""
    values = [(task_id, team_id, " ".join(fold(text))) for task_id, team_id, text in rows]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.executemany(PUT_POSTGRESQL, values)
        else:
            cursor.executemany(PUT_SQLITE, [(task_id, f"t{team_id}", text) for task_id, team_id, text in values])


PUT_SQLITE = "INSERT OR REPLACE INTO flux2web_words (rowid, team, text) VALUES (%s, %s, %s)"
PUT_POSTGRESQL = """
    INSERT INTO flux2web_words (task_id, team_id, vector) VALUES (%s, %s, to_tsvector('simple', %s))
    ON CONFLICT (task_id) DO UPDATE SET vector = EXCLUDED.vector"""


def find(team_id: int, words: Words, *, beyond: int | None = None, upward: bool = False, limit: int = 100) -> list[int]:
    """Ids of this team's tasks with all of these words, the newest first, or (upward) the oldest; beyond that id."""
    place = beyond if beyond is not None else (0 if upward else 2**62)
    if connection.vendor == "postgresql":
        return _find_postgresql(team_id, _tsquery(words), place, limit, upward=upward)
    match = f'team:"t{team_id}" AND text:({_match(words)})'
    return _ids(_turned(FIND_SQLITE, upward=upward), [match, place, limit])


FIND_SQLITE = (
    "SELECT rowid FROM flux2web_words WHERE flux2web_words MATCH %s AND rowid < %s ORDER BY rowid DESC LIMIT %s"
)
# The newest 3,000 are tried before the index is asked: a common word is among them anyway.
RECENT_POSTGRESQL = """
    SELECT task_id FROM (
        SELECT task_id, vector FROM flux2web_words WHERE team_id = %s AND task_id < %s ORDER BY task_id DESC LIMIT 3000
    ) newest WHERE vector @@ to_tsquery('simple', %s) ORDER BY task_id DESC LIMIT %s"""
ALL_POSTGRESQL = """
    WITH hit AS MATERIALIZED (SELECT task_id, team_id FROM flux2web_words WHERE vector @@ to_tsquery('simple', %s))
    SELECT task_id FROM hit WHERE team_id = %s AND task_id < %s ORDER BY task_id DESC LIMIT %s"""


def _turned(sql: str, *, upward: bool) -> str:
    return sql.replace("DESC", "ASC").replace(" < %s", " > %s") if upward else sql


def _find_postgresql(team_id: int, query: str, place: int, limit: int, *, upward: bool) -> list[int]:
    """A common word fills the page from the newest rows; a rare one has few rows, which its index names at once.

    Left to itself the planner takes the wrong way of the two now and then: it guesses how common a beginning is.
    """
    recent = _ids(_turned(RECENT_POSTGRESQL, upward=upward), [team_id, place, query, limit])
    if len(recent) >= limit:
        return recent
    return _ids(_turned(ALL_POSTGRESQL, upward=upward), [query, team_id, place, limit])


def _ids(sql: str, params: list[Any]) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return [row[0] for row in cursor.fetchall()]


def _match(words: Words) -> str:
    """FTS5's language. Every word is quoted, so that none of it is taken for an operator."""
    return " AND ".join(f'"{" ".join(phrase)}"' + ("*" if len(phrase) == 1 else "") for phrase in words.phrases)


def _tsquery(words: Words) -> str:
    return " & ".join(
        "(" + " <-> ".join(f"'{word}'" for word in phrase) + ")" if len(phrase) > 1 else f"'{phrase[0]}':*"
        for phrase in words.phrases
    )
