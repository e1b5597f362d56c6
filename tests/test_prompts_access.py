"""Every address of the shelf, of drafts and of examples, and what each of eight people gets there. One table.

"Heron" is cleo's. Ana owns the team, ben is its admin, dan another member, eve only looks. Zoe is another team's owner,
sam a site admin in no team.
"""

from __future__ import annotations

import re

import pytest
from django.db import transaction

from flux2web.models import Draft, SavedPrompt
from flux2web.urls import team_urls

EIGHT = ("nobody", "zoe", "eve", "dan", "cleo", "ben", "ana", "sam")
WORDS = {"title": "New", "text": "A crane"}
# Address, method, what is sent; then what nobody, zoe, eve, dan, cleo, ben, ana and sam get.
TABLE = [
    ("prompts/", "get", {}, "login 404 200 200 200 200 200 404"),
    ("prompts/mine/", "get", {}, "login 404 200 200 200 200 200 404"),
    ("prompts/prompts.csv", "get", {}, "login 404 200 200 200 200 200 404"),
    ("prompts/save/", "post", WORDS, "login 404 403 302 302 302 302 404"),
    ("prompts/import/", "post", {}, "login 404 403 422 422 422 422 404"),
    ("prompts/{heron}/", "get", {}, "login 404 200 200 200 200 200 404"),
    ("prompts/{heron}/change/", "post", WORDS, "login 404 403 403 302 302 302 404"),
    ("prompts/{heron}/fill/", "post", {"prompt": "A crane"}, "login 404 403 403 302 302 302 404"),
    ("prompts/{heron}/delete/", "post", {}, "login 404 403 403 302 302 302 404"),
    # of another team, never there
    ("prompts/{foreign}/", "get", {}, "login 404 404 404 404 404 404 404"),
    ("prompts/{foreign}/change/", "post", WORDS, "login 404 403 404 404 404 404 404"),
    ("prompts/{foreign}/fill/", "post", {"prompt": "A crane"}, "login 404 403 404 404 404 404 404"),
    ("prompts/{foreign}/delete/", "post", {}, "login 404 403 404 404 404 404 404"),
    ("prompts/99999999/", "get", {}, "login 404 404 404 404 404 404 404"),
    ("prompts/99999999/delete/", "post", {}, "login 404 403 404 404 404 404 404"),
    ("example/", "post", {}, "login 404 403 302 302 302 302 404"),
    ("draft/", "post", {"prompt": "x"}, "login 404 403 204 204 204 204 404"),
    ("draft/clear/", "post", {}, "login 404 403 302 302 302 302 404"),
    ("draft/back/", "post", {}, "login 404 403 302 302 302 302 404"),
]


@pytest.fixture
def places(cast, north, south) -> dict[str, int]:
    heron = SavedPrompt.objects.create(team=north, user=cast["cleo"], title="Heron", text="A heron")
    foreign = SavedPrompt.objects.create(team=south, user=cast["zoe"], title="Theirs", text="A secret")
    return {"heron": heron.pk, "foreign": foreign.pk}


def outcome(answer) -> str:
    is_login = answer.status_code == 302 and answer.url.startswith("/accounts/login/")
    return "login" if is_login else str(answer.status_code)


@pytest.mark.parametrize("who", EIGHT)
def test_each_of_eight_people_gets_what_the_table_says(cast, client_for, places, who):
    client, got = client_for(cast.get(who)), []
    for path, method, given, _ in TABLE:
        with transaction.atomic():
            got.append(outcome(getattr(client, method)(f"/t/north/{path.format(**places)}", given)))
            transaction.set_rollback(True)
    said = [row[3].split()[EIGHT.index(who)] for row in TABLE]
    assert [(row[:3], is_, meant) for row, is_, meant in zip(TABLE, got, said, strict=True) if is_ != meant] == []


def test_the_table_has_every_address_of_the_shelf_of_drafts_and_of_examples():
    asked = {re.sub(r"\{\w+\}|99999999", "*", path) for path, *_ in TABLE}
    ours = [str(url.pattern) for url in team_urls if str(url.pattern).startswith(("prompts/", "draft/", "example/"))]
    assert {re.sub(r"<\w+:\w+>", "*", pattern) for pattern in ours} == asked


@pytest.mark.parametrize("who", ["eve", "zoe", "sam", "dan"])
def test_who_may_not_changes_nothing_of_anothers(cast, client_for, places, who):
    before = list(SavedPrompt.objects.filter(pk__in=places.values()).order_by("pk").values())
    client = client_for(cast[who])
    for path, method, given, _ in TABLE:
        if method == "post":
            client.post(f"/t/north/{path.format(**places)}", given)
    assert list(SavedPrompt.objects.filter(pk__in=places.values()).order_by("pk").values()) == before
    assert who == "dan" or not Draft.objects.exists()


def test_every_change_needs_a_post_with_this_sites_token(cast, client_for, places):
    strict = client_for(cast["cleo"], enforce_csrf_checks=True)
    for path, method, _, _ in TABLE:
        if method == "post":
            url = f"/t/north/{path.format(**places)}"
            assert strict.post(url).status_code in (403, 404), url
            assert strict.get(url).status_code == 405, url
