"""What guests see by a link, and what they do not: no other picture, no prompt, no name, no way further."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone

from flux2web import collecting
from flux2web.models import Collection, Comment, Notice, ShareLink, State, Task, Team
from flux2web.settings import close_doors

from . import factories

SAID = {"name": "Mara", "text": "The second one, please."}
PROMPT = "Secret campaign, owl in a top hat"


@pytest.fixture
def guest() -> Client:
    return Client(enforce_csrf_checks=False)


@pytest.fixture
def pictures(north, cleo) -> list[Task]:
    return [factories.make_task(north, user=cleo, state=State.DONE, prompt=f"{PROMPT} {n}") for n in range(3)]


@pytest.fixture
def owls(north, cleo, membership, pictures) -> Collection:
    row = collecting.make(membership(cleo, north), "Owls")
    collecting.collect(membership(cleo, north), row, pictures)
    return row


@pytest.fixture
def link(cleo, north, membership, owls):
    """link(may_comment=True) is the address of a new link."""

    def make(**options) -> str:
        options = {"may_comment": False, "shows_prompts": False, **options}
        return f"/s/{collecting.share(membership(cleo, north), owls, **options)[1]}/"

    return make


def text_of(answer) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


# --- What they see -----------------------------------------------------------------------------------------------------


def test_a_guest_sees_the_pictures_one_by_one_and_their_files(guest, link, pictures):
    url = link()
    page = guest.get(url)
    assert page.status_code == 200
    assert re.findall(rf'href="{url}(\d+)/"', page.content.decode()) == [str(task.pk) for task in reversed(pictures)]
    assert guest.get(f"{url}{pictures[1].pk}/").status_code == 200
    for variant in ("640", "320", "original"):
        answer = guest.get(f"{url}{pictures[1].pk}/{variant}")
        assert (answer.status_code, b"".join(answer.streaming_content)) == (200, factories.PNG)


def test_nothing_else_of_the_team_is_on_these_pages(guest, link, pictures):
    url = link()
    for path in (url, f"{url}{pictures[1].pk}/"):
        page = guest.get(path).content.decode()
        for word in ("North", "north", "Cleo", "/t/", '<nav aria-label="Main"', "<script", "flux2web.sqlite"):
            assert word not in page, word
        assert PROMPT not in page


def test_prompts_are_shown_where_the_link_says_so(guest, link, pictures):
    url = link(shows_prompts=True)
    assert f"{PROMPT} 1" in text_of(guest.get(f"{url}{pictures[1].pk}/"))
    assert f'alt="{PROMPT} 1"' in guest.get(url).content.decode()


def test_a_description_that_somebody_wrote_is_read_out_instead_of_the_prompt(guest, link, pictures):
    Task.objects.filter(pk=pictures[0].pk).update(alt="An owl looks left")
    assert 'alt="An owl looks left"' in guest.get(link()).content.decode()


def test_only_what_the_whole_team_sees_is_shown(guest, link, pictures, north):
    url = link()
    Task.objects.filter(pk=pictures[0].pk).update(private=True)
    Task.objects.filter(pk=pictures[1].pk).update(deleted_at=timezone.now())
    outside = factories.make_task(north, state=State.DONE)
    page = guest.get(url).content.decode()
    for task, status in ((pictures[0], 404), (pictures[1], 404), (pictures[2], 200), (outside, 404)):
        assert (f'href="{url}{task.pk}/"' in page) == (status == 200)
        assert guest.get(f"{url}{task.pk}/").status_code == status
        assert guest.get(f"{url}{task.pk}/640").status_code == status


def test_a_private_picture_answers_as_one_that_never_was(guest, link, pictures):
    url = link()
    Task.objects.filter(pk=pictures[0].pk).update(private=True)
    hidden, missing = guest.get(f"{url}{pictures[0].pk}/"), guest.get(f"{url}{10**17}/")
    assert (hidden.status_code, hidden.content) == (missing.status_code, missing.content)


@pytest.mark.parametrize("variant", ["download", "jpeg", "key", "641", "..", "original%2F"])
def test_there_are_three_files_of_a_picture_and_no_more(guest, link, pictures, variant):
    assert guest.get(f"{link()}{pictures[0].pk}/{variant}").status_code == 404


def test_a_file_that_is_gone_from_storage_is_not_found(guest, link, pictures):
    pictures[0].result.__class__.objects.filter(task=pictures[0]).update(key="results/none.png")
    assert guest.get(f"{link()}{pictures[0].pk}/original").status_code == 404


def test_a_guest_reads_that_the_original_is_lost_beside_what_is_left_of_it(guest, link, pictures):
    url = f"{link()}{pictures[0].pk}/"
    default_storage.delete(pictures[0].result.key)
    assert guest.get(f"{url}original").status_code == 404
    page = guest.get(url)
    assert "The original is no longer available." in text_of(page)
    assert re.findall(rf'(?:src|href)="{url}(\w+)"', page.content.decode()) == ["640"]
    assert guest.get(f"{url}640").status_code == 200
    factories.store(pictures[0].result.key)
    guest.get(f"{url}640")
    assert "no longer available" not in text_of(guest.get(url))


def test_pages_follow_one_another(guest, link, pictures, monkeypatch):
    monkeypatch.setattr(collecting, "SHARED_PAGE", 2)
    url = link()
    first = guest.get(url).content.decode()
    more = re.search(r'href="(\?before=\d+)"', first).group(1)
    assert f'href="{url}{pictures[0].pk}/"' in guest.get(url + more).content.decode()
    for nonsense in ("x", "-1", "9" * 40):
        assert guest.get(url, {"before": nonsense}).status_code == 200


@pytest.mark.parametrize("many", [3, 30])
def test_a_guests_page_asks_as_often_for_30_as_for_3(
    guest, north, cleo, membership, many, django_assert_max_num_queries
):
    tasks = [factories.make_task(north, user=cleo, state=State.DONE, price=1) for _ in range(many)]
    row = collecting.make(membership(cleo, north), "Many")
    collecting.collect(membership(cleo, north), row, tasks)
    _, token = collecting.share(membership(cleo, north), row, may_comment=False, shows_prompts=False)
    with django_assert_max_num_queries(2):
        assert guest.get(f"/s/{token}/").content.decode().count('class="tile"') == many


def test_an_empty_collection_says_so(guest, cleo, north, membership):
    row = collecting.make(membership(cleo, north), "Empty")
    _, token = collecting.share(membership(cleo, north), row, may_comment=False, shows_prompts=False)
    assert "No pictures here yet" in text_of(guest.get(f"/s/{token}/"))


def test_no_index_no_cache_and_no_referrer(guest, link, pictures):
    url = link()
    for path in (url, f"{url}{pictures[0].pk}/", "/s/none/"):
        answer = guest.get(path)
        assert answer["X-Robots-Tag"].startswith("noindex")
        assert answer["Referrer-Policy"] == "no-referrer"
        assert answer["Cache-Control"] == "private, no-store"
        assert "default-src 'none'" in answer["Content-Security-Policy"]
        assert 'content="noindex' in answer.content.decode()
    file = guest.get(f"{url}{pictures[0].pk}/320")
    assert file["Cache-Control"] == "private, max-age=300"
    assert file["X-Content-Type-Options"] == "nosniff"


def test_a_member_who_opens_it_sees_what_guests_see(client_for, cleo, link, pictures):
    page = client_for(cleo).get(link()).content.decode()
    assert "Cleo" not in page
    assert "account/logout" not in page


# --- When it shows nothing -----------------------------------------------------------------------------------------------


def test_every_link_that_shows_nothing_answers_alike(guest, link, owls, pictures, north):
    unknown = guest.get("/s/AAAAAAAAAAAAAAAAAAAAAA/")
    assert unknown.status_code == 404
    assert "This link shows nothing" in text_of(unknown)
    url, now = link(), timezone.now()
    ends = {
        "run out": (ShareLink.objects, {"expires_at": now - timedelta(seconds=1)}),
        "revoked": (ShareLink.objects, {"revoked_at": now}),
        "collection deleted": (Collection.objects, {"deleted_at": now}),
        "team closed": (Team.objects, {"closed_at": now}),
    }
    back = {"expires_at": now + timedelta(days=1), "revoked_at": None, "deleted_at": None, "closed_at": None}
    for why, (rows, change) in ends.items():
        assert guest.get(url).status_code == 200, why
        rows.update(**change)
        for rest in ("", f"{pictures[0].pk}/", f"{pictures[0].pk}/320", "?before=3"):
            answer = guest.get(url + rest)
            assert (answer.status_code, answer.content) == (404, unknown.content), (why, rest)
        assert guest.post(f"{url}{pictures[0].pk}/", SAID).status_code == 404
        rows.update(**{name: back[name] for name in change})


@pytest.mark.parametrize("token", ["x", "a" * 5000, "%00", "%F0%9F%A6%89", "..", "' OR 1=1", "%ED%A0%80"])
def test_a_malformed_link_answers_like_an_unknown_one(guest, db, token):
    answer = guest.get(f"/s/{token}/")
    assert answer.status_code in (404, 301)
    assert (
        "This link shows nothing" in text_of(answer) or answer.status_code == 301 or b"Nothing here" in answer.content
    )


def test_a_task_number_beyond_all_numbers_is_not_found(guest, link):
    assert guest.get(f"{link()}{'9' * 60}/").status_code == 404


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_only_comments_are_posted(guest, link, pictures, method):
    url = link(may_comment=True)
    assert getattr(guest, method)(url).status_code == 405
    assert getattr(guest, method)(f"{url}{pictures[0].pk}/320").status_code == 405


# --- What they say -----------------------------------------------------------------------------------------------------


def test_a_guest_says_something_and_the_owner_is_told(guest, link, pictures, cleo):
    url = f"{link(may_comment=True)}{pictures[0].pk}/"
    page = guest.post(url, SAID, follow=True)
    assert "Sent. The team reads it." in text_of(page)
    assert "The second one, please." in text_of(page)
    assert 'value="Mara"' in page.content.decode()
    assert Comment.objects.get().guest == "Mara"
    assert Notice.objects.get(user=cleo).text.startswith("Mara, a guest of “Owls”")


def test_one_guest_does_not_read_another_nor_the_team(guest, link, pictures, cleo):
    url = f"{link(may_comment=True)}{pictures[0].pk}/"
    guest.post(url, SAID)
    Comment.objects.create(task=pictures[0], user=cleo, text="Between us: the client is difficult.")
    page = text_of(Client().get(url))
    assert "The second one" not in page
    assert "difficult" not in page
    assert "difficult" not in text_of(guest.get(url))


def test_a_link_without_comments_takes_none(guest, link, pictures):
    url = f"{link()}{pictures[0].pk}/"
    assert "What do you think?" not in text_of(guest.get(url))
    assert guest.post(url, SAID).status_code == 404
    assert not Comment.objects.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "Write your name"),
        ({"name": "Mara", "text": " "}, "Write something first."),
        ({"name": "\u202e", "text": "Hello"}, "Write your name in letters."),
        ({"name": "x" * 61, "text": "Hello"}, "60 characters"),
        ({"name": "Mara", "text": "x" * 2001}, "2000 characters"),
        ({"name": "Mara\x00", "text": "Hello"}, "Null characters"),
    ],
)
def test_what_is_wrong_is_said_and_what_was_typed_stays(guest, link, pictures, given, said):
    answer = guest.post(f"{link(may_comment=True)}{pictures[0].pk}/", given)
    assert answer.status_code == 422
    assert said in text_of(answer)
    assert given.get("text", "").strip()[:20] in answer.content.decode()
    assert not Comment.objects.exists()


def test_markup_of_a_guest_stays_words(guest, link, pictures):
    page = guest.post(
        f"{link(may_comment=True)}{pictures[0].pk}/", {"name": "<b>M</b>", "text": "<script>x</script>"}, follow=True
    ).content.decode()
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page


def test_who_says_too_much_is_asked_to_wait_and_keeps_what_was_typed(guest, link, pictures):
    url = f"{link(may_comment=True)}{pictures[0].pk}/"
    for _ in range(collecting.ONE_GUEST):
        assert guest.post(url, SAID).status_code == 302
    answer = guest.post(url, SAID)
    assert answer.status_code == 429
    assert "Wait ten minutes" in text_of(answer)
    assert "The second one, please." in answer.content.decode()
    cache.clear()
    assert guest.post(url, SAID).status_code == 302


def test_a_comment_needs_a_token_of_this_site(link, pictures):
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(f"{link(may_comment=True)}{pictures[0].pk}/", SAID).status_code == 403


def test_a_page_with_a_form_lets_the_browser_say_where_it_posts_from(guest, link, pictures):
    """With no referrer at all, browsers post with "Origin: null", and the form would be refused."""
    assert guest.get(f"{link(may_comment=True)}{pictures[0].pk}/")["Referrer-Policy"] == "same-origin"


def test_the_log_does_not_hand_the_link_on():
    assert "secret" not in close_doors(None, "", 'request="GET /s/secret-token/5/640"')
