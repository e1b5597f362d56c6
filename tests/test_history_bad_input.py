"""Nonsense in every address about finished pictures: a clear page, never a 500, and nothing moved."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flux2web import history
from flux2web.models import Collection, Comment, Tag, Task

from . import factories
from .road import sums

pytestmark = pytest.mark.django_db
NONSENSE = [
    "",
    "\x00",
    "x\x00y",
    "-1",
    str(2**63),
    "9" * 400,
    "1e9",
    "NaN",
    "١٢٣",
    "'; --",
    "*\"'" * 400,
    "\u202e\u200f🦉",
    "../../etc",
]
READS = [
    "/t/north/history/",
    "/t/north/history/filters/",
    "/t/north/collections/",
    "/t/north/compare/",
    "/t/north/tasks/TASK/",
    "/t/north/",
]
ASKED = (
    "q",
    "person",
    "tag",
    "tags",
    "collection",
    "since",
    "until",
    "cost_min",
    "sort",
    "tab",
    "cursor",
    "ids",
    "like",
    "day",
)
POSTS = {
    "/t/north/tasks/TASK/like/": ("liked",),
    "/t/north/tasks/TASK/tags/": ("name",),
    "/t/north/tasks/TASK/untag/": ("name",),
    "/t/north/tasks/TASK/visibility/": ("private",),
    "/t/north/tasks/TASK/alt/": ("text", "alt"),
    "/t/north/tasks/TASK/comments/": ("text",),
    "/t/north/tasks/TASK/collect/": ("collection", "name"),
    "/t/north/collections/make/": ("name", "access"),
    "/t/north/history/bulk/": ("verb", "ids", "filters", "all", "name", "collection"),
    "/t/north/history/save/": ("name", "query", "filters"),
}


@pytest.fixture
def task(north, cleo) -> Task:
    return factories.make_task(north, user=cleo, state="done", prompt="heron")


@pytest.mark.parametrize("address", READS)
@pytest.mark.parametrize("word", NONSENSE)
def test_a_question_of_nonsense_is_answered(client_for, cleo, task, address, word):
    browser = client_for(cleo)
    for name in ASKED:
        answer = browser.get(address.replace("TASK", str(task.pk)), {name: word})
        assert answer.status_code < 500, (address, name)


@pytest.mark.parametrize("address", POSTS)
@pytest.mark.parametrize("word", NONSENSE)
def test_a_post_of_nonsense_moves_no_credit_and_breaks_nothing(client_for, cleo, north, task, address, word):
    browser, before = client_for(cleo), sums(north)
    for names in [(name,) for name in POSTS[address]] + [POSTS[address]]:
        answer = browser.post(address.replace("TASK", str(task.pk)), dict.fromkeys(names, word))
        assert answer.status_code < 500, (address, names)
    assert sums(north) == before
    kept = [
        *Tag.objects.values_list("name"),
        *Comment.objects.values_list("text"),
        *Collection.objects.values_list("name"),
    ]
    assert not [text for (text,) in kept if "\x00" in text or not text.strip()]


@pytest.mark.parametrize("number", [0, 2**31, 2**63 - 1, 2**63, 10**60])
@pytest.mark.parametrize(
    "address", ["tasks/{}/", "tasks/{}/card/", "collections/{}/", "results/{}/640", "references/{}/thumb"]
)
def test_an_id_beyond_all_ids_is_a_missing_one(client_for, cleo, number, address):
    assert client_for(cleo).get(f"/t/north/{address.format(number)}").status_code == 404


@pytest.mark.parametrize("zone", ["+23:59", "-23:59", "+16:00", "Z"])
def test_a_place_in_a_list_is_asked_for_in_utc(zone):
    """PostgreSQL knows no zone further than 16 hours away."""
    moment = history.read_place("newest", f"2026-01-01T00:00:00{zone},1")[0]
    assert moment.utcoffset() == timedelta(0)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["cursor", "after"])
def test_a_place_in_a_far_zone_is_no_error(client_for, ana, north, name):
    assert client_for(ana).get("/t/north/history/", {name: "2026-01-01T00:00:00+23:59,1"}).status_code == 200
