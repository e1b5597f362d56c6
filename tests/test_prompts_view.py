"""The team's shelf of prompts, what came of them, their table; and what a member wrote before."""

from __future__ import annotations

import re
import threading
from urllib.parse import urlencode

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from flux2web import drafts, promptbook
from flux2web.models import Batch, Result, SavedPrompt, Task
from flux2web.promptbook import Refused

from . import factories
from .test_studio_view import CREATE, GOOD, HTMX, STUDIO, slots, text, value

SHELF, SAVE, MINE = "/t/north/prompts/", "/t/north/prompts/save/", "/t/north/prompts/mine/"
SHEET, TAKE_IN = "/t/north/prompts/prompts.csv", "/t/north/prompts/import/"


@pytest.fixture
def revid(db):
    return factories.make_account("revid")


@pytest.fixture
def browser(client_for, cleo, revid):
    """Cleo's."""
    return client_for(cleo)


@pytest.fixture
def me(cleo, north, membership):
    return membership(cleo, north)


def keep(team, user, title="Heron", words="A {bird} in {style}", **fields) -> SavedPrompt:
    return SavedPrompt.objects.create(team=team, user=user, title=title, text=words, **fields)


def titles(page: str) -> list[str]:
    return re.findall(r'<h2><a href="[^"]*">([^<]*)</a></h2>', page)


# --- Putting there, using, changing ----------------------------------------------------------------------------------------


def test_a_prompt_is_saved_from_the_form_with_settings_and_images_and_fills_it_again(browser, north):
    image = factories.make_reference(north).pk
    said = {**GOOD, "family": "flex", "title": "Heron", "text": "A {bird}", "references": [image], "count": "4"}
    page = text(browser.post(SAVE, said, headers=HTMX))
    row = SavedPrompt.objects.get()
    assert f'data-saved="{row.pk}"' in page
    assert row.settings == {"family": "flex", "aspect_ratio": "4:3", "resolution": "1K", "count": "4"}
    studio = text(browser.get(STUDIO, {"saved": row.pk}))
    assert ">\nA {bird}" in studio
    assert value(studio, "variable") == "bird"
    assert value(studio, "saved") == str(row.pk)
    assert slots(studio) == [image]
    assert re.search(r'name="count" value="4" checked', studio)
    assert "From the shelf: <a" in studio


def test_what_is_sent_from_it_counts_as_its_use(browser, north, cleo):
    row = keep(north, cleo, words="A heron")
    assert browser.post(CREATE, {**GOOD, "prompt": "A heron", "saved": str(row.pk)}, headers=HTMX).status_code == 200
    assert Batch.objects.get().saved_prompt == row
    assert "used 1 time" in text(browser.get(SHELF))


@pytest.mark.parametrize("given", ["0", "x", "999999999999999999999", "-1"])
def test_a_shelf_number_that_is_none_is_left_out(browser, given):
    assert browser.post(CREATE, {**GOOD, "saved": given}, headers=HTMX).status_code == 200
    assert Batch.objects.get().saved_prompt is None
    assert browser.get(STUDIO, {"saved": given}).status_code == 200


def test_a_prompt_of_another_team_fills_nothing_and_counts_nowhere(browser, south, zoe):
    foreign = keep(south, zoe, words="Their secret")
    assert "secret" not in text(browser.get(STUDIO, {"saved": foreign.pk}))
    browser.post(CREATE, {**GOOD, "saved": str(foreign.pk)}, headers=HTMX)
    assert Batch.objects.get().saved_prompt is None


def test_images_of_another_team_are_not_saved_along(browser, south):
    foreign = factories.make_reference(south).pk
    browser.post(SAVE, {"title": "Heron", "text": "A heron", "references": [foreign, "x"]})
    assert SavedPrompt.objects.get().references == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"title": " ", "text": "A heron"}, "Give it a title."),
        ({"title": "x" * 81, "text": "A heron"}, "80 characters at most; this has 81"),
        ({"title": "a\u202eb", "text": "A heron"}, "a character that cannot be shown"),
        ({"title": "Heron", "text": "ab"}, "3 to 5,000 characters; this has 2"),
        ({"title": "Heron", "text": "x" * 5001}, "this has 5,001"),
        ({"title": "Taken", "text": "A heron"}, "There is a prompt called “Taken” already"),
    ],
)
@pytest.mark.parametrize("htmx", [True, False])
def test_what_is_wrong_is_said_and_what_was_typed_stays(browser, north, cleo, given, words, htmx):
    keep(north, cleo, title="Taken")
    answer = browser.post(SAVE, given, headers=HTMX if htmx else {})
    assert answer.status_code == 422
    assert words in text(answer)
    assert given["title"].strip() in text(answer)
    assert SavedPrompt.objects.count() == 1


def test_nul_in_a_title_or_a_prompt_is_refused(browser):
    for given in ({"title": "a\0b", "text": "A heron"}, {"title": "Heron", "text": "a\0bcd"}):
        assert browser.post(SAVE, given).status_code == 422


def test_its_author_renames_rewrites_and_deletes_it_and_its_pictures_stay(browser, north, cleo):
    row = keep(north, cleo)
    task = factories.make_task(north, user=cleo, state="done")
    Batch.objects.filter(pk=task.batch_id).update(saved_prompt=row)
    change, delete = (reverse(name, args=["north", row.pk]) for name in ("change-prompt", "delete-prompt"))
    assert browser.post(change, {"title": "Crane", "text": "A crane"}).status_code == 302
    row.refresh_from_db()
    assert (row.title, row.text) == ("Crane", "A crane")
    assert browser.post(delete).status_code == 302
    assert not SavedPrompt.objects.exists()
    assert Task.objects.get().batch.saved_prompt is None


def test_a_title_is_not_changed_into_one_that_is_taken(browser, north, cleo):
    row, _ = keep(north, cleo), keep(north, cleo, title="Crane")
    answer = browser.post(reverse("change-prompt", args=["north", row.pk]), {"title": "Crane", "text": "A crane"})
    assert answer.status_code == 422
    assert "There is a prompt called “Crane” already" in text(answer)
    row.refresh_from_db()
    assert row.title == "Heron"


def test_a_full_shelf_says_so(browser, north, cleo, monkeypatch):
    monkeypatch.setattr(promptbook, "SHELF_MAX", 1)
    keep(north, cleo)
    answer = browser.post(SAVE, {"title": "Crane", "text": "A crane"})
    assert answer.status_code == 422
    assert "The shelf holds" in text(answer)


@pytest.mark.django_db(transaction=True)
def test_two_who_choose_one_title_at_once_are_told_apart(north, cleo, dan, membership):
    ends: list[str] = []

    def press(user) -> None:
        try:
            promptbook.save(membership(user, north), title="Heron", text="A heron", settings={}, references=[])
            ends.append("saved")
        except Refused:
            ends.append("taken")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=press, args=(user,)) for user in (cleo, dan)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(ends) == ["saved", "taken"]


# --- Looking -----------------------------------------------------------------------------------------------------------------


def made_from(row: SavedPrompt, user, **fields) -> Task:
    task = factories.make_task(row.team, user=user, **fields)
    Batch.objects.filter(pk=task.batch_id).update(saved_prompt=row)
    return task


def test_it_says_how_often_how_well_and_how_dear(browser, north, cleo):
    row = keep(north, cleo)
    for price in (10, 25):
        made_from(row, cleo, state="done", price=price)
    made_from(row, cleo, state="failed")
    newest = made_from(row, cleo, state="done", price=10)
    made_from(row, cleo, state="running")
    page = text(browser.get(SHELF))
    assert "used 5 times · 75 % ended well · 15 credits each" in " ".join(page.split())
    assert f"/t/north/results/{newest.pk}/320" in page


def test_a_picture_that_others_keep_to_themselves_is_not_its_face(browser, north, cleo, dan):
    row = keep(north, cleo)
    made_from(row, dan, state="done", private=True)
    assert "/results/" not in text(browser.get(SHELF))


def test_a_picture_whose_original_is_lost_is_not_its_face(browser, north, cleo):
    row = keep(north, cleo)
    there, lost = (made_from(row, cleo, state="done") for _ in range(2))
    Result.objects.filter(task=lost).update(lost_at=timezone.now())
    page = text(browser.get(SHELF))
    assert (f"/results/{there.pk}/" in page, f"/results/{lost.pk}/" in page) == (True, False)


def test_words_find_it_in_title_or_text_however_they_are_written(browser, north, cleo):
    keep(north, cleo, title="Größe und Ähre", words="Golden field")
    keep(north, cleo, title="Heron", words="A bird at dawn, gouache")
    for query, found in {
        "AHRE": ["Größe und Ähre"],
        "gou": ["Heron"],
        '"at dawn"': ["Heron"],
        "dawn field": [],
    }.items():
        assert titles(text(browser.get(SHELF, {"q": query}))) == found


def test_a_long_shelf_comes_page_by_page_each_once(browser, north, cleo):
    for number in range(60):
        keep(north, cleo, title=f"Prompt {number:02}")
    seen, url = [], SHELF
    while url:
        page = text(browser.get(url))
        seen += titles(page)
        more = re.search(r'href="(\?[^"]*after=[^"]*)"', page)
        url = SHELF + more[1].replace("&amp;", "&") if more else ""
    assert seen == [f"Prompt {number:02}" for number in range(59, -1, -1)]


@pytest.mark.parametrize(
    "query",
    [
        {"after": "x"},
        {"after": "2026-01-01,1"},
        {"after": "2026-01-01T00:00:00+23:59,1"},
        {"q": "\0"},
        {"q": '"' * 300},
        {"after": "\0"},
    ],
)
def test_a_broken_address_is_no_error(browser, query):
    assert browser.get(SHELF, query).status_code == 200
    assert browser.get(MINE, query).status_code == 200


def test_the_shelf_takes_as_many_queries_for_twenty_as_for_two(browser, north, cleo):
    def queries_with(number: int) -> int:
        for _ in range(number):
            made_from(keep(north, cleo, title=f"Prompt {SavedPrompt.objects.count()}"), cleo, state="done")
        browser.get(SHELF)
        with CaptureQueriesContext(connection) as seen:
            assert browser.get(SHELF).status_code == 200
        return len(seen)

    assert queries_with(2) == queries_with(18)


# --- As a table --------------------------------------------------------------------------------------------------------------


def take_in(browser, content: str | bytes, **headers):
    data = content.encode() if isinstance(content, str) else content
    return browser.post(TAKE_IN, {"sheet": SimpleUploadedFile("prompts.csv", data)}, **headers)


def test_what_goes_out_comes_in_again_as_it_was(browser, north, south, cleo, client_for, zoe):
    keep(north, cleo, title="=Heron", words='-A {bird},\n“quoted” "twice"', settings={"family": "flex"})
    out = browser.get(SHEET).content
    assert out.startswith(b"\xef\xbb\xbftitle,text,family")
    assert b"'=Heron" in out
    SavedPrompt.objects.all().delete()
    assert take_in(browser, out).status_code == 302
    row = SavedPrompt.objects.get()
    assert (row.title, row.text, row.settings) == ("=Heron", '-A {bird},\n“quoted” "twice"', {"family": "flex"})
    assert b"Heron" not in client_for(zoe).get("/t/south/prompts/prompts.csv").content


def test_a_title_that_is_there_is_changed_and_others_are_new(browser, north, cleo):
    keep(north, cleo, title="Heron", settings={"family": "pro"})
    answer = browser.post(
        TAKE_IN,
        {"sheet": SimpleUploadedFile("p.csv", b"text,TITLE,count\nA crane,Heron,2\nAn owl,Owl,\n")},
        follow=True,
    )
    assert "Taken in: 1 new, 1 changed." in text(answer)
    assert SavedPrompt.objects.get(title="Heron").text == "A crane"
    assert SavedPrompt.objects.get(title="Heron").settings == {"count": "2"}


def test_bad_lines_are_named_and_then_nothing_comes_in(browser, north, dan):
    keep(north, dan, title="Dan’s")
    lines = [
        "title,text,family",
        "Good,A heron,pro",
        ",No title,",
        "Short,ab,",
        "Odd,A heron,max",
        "Dan’s,A heron,",
        "Good,Again,",
    ]
    answer = take_in(browser, "\n".join(lines))
    page = text(answer)
    assert answer.status_code == 422
    for words in (
        "Line 3: Give it a title.",
        "Line 4: A prompt has 3 to 5,000 characters; this has 2.",
        "Line 5: “max” is no family.",
        "Line 6: Only who put it there, or a team admin",
        "Line 7: “Good” stands in line 2 already.",
        "Nothing was taken in.",
    ):
        assert words in page
    assert SavedPrompt.objects.count() == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "This file is empty"),
        (b"\xff\xfe\x00", "no CSV file in UTF-8"),
        (b"name,words\na,b\n", "title and text"),
        (b"\n\n", "title and text"),
        (b'title,text\n"open,never closed', "no CSV file that can be read"),
        (b"title,text\n" + b"x" * 200_000 + b",y\n", "no CSV file that can be read"),
        (b"title,text\n" + b"a,bcd\n" * 1001, "1,001 rows; 1,000 at most"),
        (b"title,text\n" + b"x" * 2**20, "larger than 1 MB"),
        (b"title,text\na,b\0cd\n", "broken character"),
        (b"title,text\na\0,bcd\n", "cannot be shown"),
        (b"title,text\nonly a title\n", "Line 2: A prompt has"),
    ],
)
def test_a_file_that_is_no_table_of_prompts_is_refused_in_plain_words(browser, content, words):
    answer = take_in(browser, content)
    assert answer.status_code == 422
    assert words in text(answer)
    assert not SavedPrompt.objects.exists()


def test_no_file_at_all_is_asked_for(browser):
    answer = browser.post(TAKE_IN, {"sheet": "just text"})
    assert answer.status_code == 422
    assert "Choose a CSV file first." in text(answer)


def test_a_shelf_is_not_filled_beyond_its_size_by_a_table(browser, monkeypatch):
    monkeypatch.setattr(promptbook, "SHELF_MAX", 1)
    assert "this would make 2" in text(take_in(browser, "title,text\na,bcd\nb,bcd\n"))


def test_neither_title_nor_words_are_called_optional(browser, north, cleo):
    for page in (f"{SHELF}?new=1", f"{SHELF}{keep(north, cleo).pk}/"):
        assert "optional" not in text(browser.get(page))


# --- Changed from the studio ----------------------------------------------------------------------------------------------


def test_what_the_studio_says_takes_the_place_of_all_but_the_title(browser, north, cleo):
    old, new = factories.make_reference(north), factories.make_reference(north)
    row = keep(north, cleo, settings={"family": "pro", "seed": "1"}, references=[old.pk])
    studio = text(browser.get(STUDIO, {"saved": row.pk}))
    assert f'action="/t/north/prompts/{row.pk}/fill/"' in studio
    assert "Save to “Heron”" in studio
    said = {**GOOD, "prompt": "An {owl}", "family": "flex", "references": [new.pk], "saved": row.pk}
    page = text(browser.post(f"{SHELF}{row.pk}/fill/", said, headers=HTMX))
    assert "“Heron” on <a" in page
    row.refresh_from_db()
    assert (row.title, row.text, row.references) == ("Heron", "An {owl}", [new.pk])
    assert row.settings == {"family": "flex", "aspect_ratio": "4:3", "resolution": "1K", "count": GOOD["count"]}


def test_without_a_script_its_page_takes_over_what_the_draft_says(browser, north, cleo, me):
    row = keep(north, cleo)
    page = f"{SHELF}{row.pk}/"
    assert "Save the form to this prompt" not in text(browser.get(page))
    given = QueryDict(urlencode({"prompt": "An owl", "family": "flex", "saved": row.pk}))
    drafts.keep(me, given)
    assert "Save the form to this prompt" in text(browser.get(page))
    assert "Saved." in text(browser.post(f"{page}fill/", follow=True))
    row.refresh_from_db()
    assert (row.text, row.settings) == ("An owl", {"family": "flex"})


@pytest.mark.parametrize("prompt", ["", "x" * 50_000, "\ufffd"])
def test_what_is_no_prompt_does_not_take_its_place(browser, north, cleo, prompt):
    row = keep(north, cleo)
    answer = browser.post(f"{SHELF}{row.pk}/fill/", {"prompt": prompt, "saved": row.pk}, headers=HTMX)
    assert answer.status_code == 422
    assert "not begun from" not in text(answer)
    assert 'role="alert"' in text(answer)
    assert SavedPrompt.objects.get().text == row.text


@pytest.mark.parametrize("begun_from", ["", "another", "0"])
def test_a_form_that_was_not_begun_from_it_does_not_take_its_place(browser, north, cleo, begun_from):
    row, another = keep(north, cleo), keep(north, cleo, title="Crane")
    said = {"prompt": "An owl", "saved": another.pk if begun_from == "another" else begun_from}
    answer = browser.post(f"{SHELF}{row.pk}/fill/", said, headers=HTMX)
    assert answer.status_code == 422
    assert "not begun from this prompt" in text(answer)
    row.refresh_from_db()
    assert row.text == "A {bird} in {style}"


def test_a_draft_that_another_has_replaced_does_not_take_its_place(browser, north, cleo, me):
    row = keep(north, cleo)
    drafts.keep(me, QueryDict(urlencode({"prompt": "An owl", "saved": row.pk})))
    assert "Save the form to this prompt" in text(browser.get(f"{SHELF}{row.pk}/"))
    drafts.keep(me, QueryDict(urlencode({"prompt": "Of another tab", "saved": ""})))
    assert "not begun from this prompt" in text(browser.post(f"{SHELF}{row.pk}/fill/", follow=True))
    row.refresh_from_db()
    assert row.text == "A {bird} in {style}"


def test_who_may_not_change_it_is_not_offered_to(client_for, north, cleo, dan, revid):
    row = keep(north, cleo)
    assert "Save to “Heron”" not in text(client_for(dan).get(STUDIO, {"saved": row.pk}))


def test_one_that_went_meanwhile_is_not_said_to_be_saved(me, north, cleo):
    row = keep(north, cleo)
    promptbook.delete(me, row)
    with pytest.raises(Refused, match="not on the shelf"):
        promptbook.change(me, row, title="Heron", text="A heron")
    with pytest.raises(Refused, match="not on the shelf"):
        promptbook.fill(me, row, text="A heron", settings={}, references=[])


# --- What was written before -------------------------------------------------------------------------------------------------


def earlier(page: str) -> list[str]:
    return re.findall(r"data-earlier>([^<]*)</a>", page)


def test_ones_own_prompts_come_newest_first_each_once(browser, north, cleo, dan):
    for words in ("one", "two", "one", "three"):
        factories.make_task(north, user=cleo, prompt=words)
    factories.make_task(north, user=dan, prompt="Dan’s")
    assert earlier(text(browser.get(MINE))) == ["three", "one", "two"]


def test_of_htmx_it_is_the_list_alone(browser, north, cleo):
    factories.make_task(north, user=cleo, prompt="one")
    assert "<html" not in text(browser.get(MINE, headers=HTMX))
    assert "<html" in text(browser.get(MINE))


def test_words_find_ones_own_in_the_whole_history(browser, north, cleo, dan):
    for user, words in ((cleo, "A heron at dawn"), (cleo, "An owl"), (dan, "A heron of Dan’s")):
        factories.make_task(north, user=user, prompt=words)
    assert earlier(text(browser.get(MINE, {"q": "HER"}))) == ["A heron at dawn"]


def test_they_lead_to_the_form_with_the_prompt_and_the_rest_of_the_draft(browser, north, cleo):
    task = factories.make_task(north, user=cleo, prompt="one")
    page = text(browser.get(MINE))
    assert f'href="/t/north/?like={task.pk}&amp;what=prompt"' in page


def test_there_are_a_hundred_at_most_and_few_queries(browser, north, cleo, monkeypatch):
    monkeypatch.setattr(promptbook, "EARLIER_MAX", 3)
    for number in range(6):
        factories.make_task(north, user=cleo, prompt=f"Prompt {number}")
    with CaptureQueriesContext(connection) as seen:
        page = text(browser.get(MINE, headers=HTMX))
    assert earlier(page) == ["Prompt 5", "Prompt 4", "Prompt 3"]
    assert not [one for one in seen if "OFFSET" in one["sql"] or ("COUNT(" in one["sql"] and "task" in one["sql"])]
