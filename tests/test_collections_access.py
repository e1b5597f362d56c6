"""Every address of collections and links, and what each of nine people gets there. One table.

Cleo made "Finals", which the team may only look at; dan is named to add to it. Ana owns the team, ben is its admin, eve
only looks. Zoe is another team's owner, sam a site admin in no team, guest a browser that has the open link.
"""

from __future__ import annotations

import re

import pytest
from django.db import transaction
from django.test import Client

from flux2web import collecting
from flux2web.models import Collection, ShareLink, State, Task
from flux2web.models.base import new_token
from flux2web.urls import team_urls, urlpatterns

from . import factories

NINE = ("nobody", "zoe", "eve", "dan", "cleo", "ben", "ana", "sam", "guest")
# Address, method, what is sent; then what nobody, zoe, eve, dan, cleo, ben, ana, sam and the guest get.
# 302: done (or, signed out, to the sign-in page); 404: not there; 403: not in this role; 422: said what is wrong.
TABLE = [
    ("collections/", "get", {}, "login 404 200 200 200 200 200 404 login"),
    ("collections/make/", "post", {"name": "New", "access": "edit"}, "login 404 403 302 302 302 302 404 login"),
    ("collections/{finals}/", "get", {}, "login 404 200 200 200 200 200 404 login"),
    (
        "collections/{finals}/settings/",
        "post",
        {"name": "F", "access": "view"},
        "login 404 403 403 302 302 302 404 login",
    ),
    ("collections/{finals}/cover/", "post", {"task": "{inside}"}, "login 404 403 403 302 302 302 404 login"),
    (
        "collections/{finals}/roles/",
        "post",
        {"user": "{dan}", "role": "none"},
        "login 404 403 403 302 302 302 404 login",
    ),
    ("collections/{finals}/links/", "post", {"days": "3"}, "login 404 403 403 200 200 200 404 login"),
    ("collections/{finals}/links/{link}/revoke/", "post", {}, "login 404 403 403 302 302 302 404 login"),
    ("collections/{finals}/take-out/", "post", {"ids": "{inside}"}, "login 404 403 302 302 302 302 404 login"),
    ("collections/{finals}/delete/", "post", {}, "login 404 403 403 302 302 302 404 login"),
    ("tasks/{outside}/collect/", "get", {}, "login 404 403 200 200 200 200 404 login"),
    ("tasks/{outside}/collect/", "post", {"collection": "{finals}"}, "login 404 403 302 302 302 302 404 login"),
    ("tasks/{outside}/collect/", "post", {"name": "Mine"}, "login 404 403 302 302 302 302 404 login"),
    # cleo's own, which nobody else of the members sees
    ("collections/{secret}/", "get", {}, "login 404 404 404 200 200 200 404 login"),
    ("collections/{secret}/take-out/", "post", {"ids": "{inside}"}, "login 404 403 404 302 302 302 404 login"),
    ("collections/{secret}/delete/", "post", {}, "login 404 403 404 302 302 302 404 login"),
    ("tasks/{outside}/collect/", "post", {"collection": "{secret}"}, "login 404 403 404 302 302 302 404 login"),
    # a private picture of dan's
    ("tasks/{hidden}/collect/", "get", {}, "login 404 403 200 404 404 404 404 login"),
    ("tasks/{hidden}/collect/", "post", {"collection": "{finals}"}, "login 404 403 302 404 404 404 404 login"),
    # of another team, deleted, never there
    ("collections/{foreign}/", "get", {}, "login 404 404 404 404 404 404 404 login"),
    ("collections/{gone}/", "get", {}, "login 404 404 404 404 404 404 404 login"),
    ("collections/99999999/", "get", {}, "login 404 404 404 404 404 404 404 login"),
    ("collections/{foreign}/delete/", "post", {}, "login 404 403 404 404 404 404 404 login"),
    ("collections/{foreign}/links/{link}/revoke/", "post", {}, "login 404 403 404 404 404 404 404 login"),
    ("tasks/{foreigner}/collect/", "post", {"collection": "{finals}"}, "login 404 403 404 404 404 404 404 login"),
    ("tasks/{outside}/collect/", "post", {"collection": "{foreign}"}, "login 404 403 404 404 404 404 404 login"),
    # by link: whoever has it
    ("/s/{token}/", "get", {}, "200 200 200 200 200 200 200 200 200"),
    ("/s/{token}/{inside}/", "get", {}, "200 200 200 200 200 200 200 200 200"),
    ("/s/{token}/{inside}/", "post", {"name": "M", "text": "Hi"}, "302 302 302 302 302 302 302 302 302"),
    ("/s/{token}/{inside}/640", "get", {}, "200 200 200 200 200 200 200 200 200"),
    ("/s/{token}/{outside}/", "get", {}, "404 404 404 404 404 404 404 404 404"),
    ("/s/{token}/{hidden}/", "get", {}, "404 404 404 404 404 404 404 404 404"),
    ("/s/{token}/{hidden}/original", "get", {}, "404 404 404 404 404 404 404 404 404"),
    ("/s/{token}/{foreigner}/", "get", {}, "404 404 404 404 404 404 404 404 404"),
    ("/s/{closed}/", "get", {}, "404 404 404 404 404 404 404 404 404"),
    ("/s/{unknown}/", "get", {}, "404 404 404 404 404 404 404 404 404"),
    ("/s/{unknown}/{inside}/", "get", {}, "404 404 404 404 404 404 404 404 404"),
    ("/s/{unknown}/{inside}/640", "get", {}, "404 404 404 404 404 404 404 404 404"),
]


@pytest.fixture
def places(cast, north, south, membership) -> dict[str, object]:
    cleo, dan, zoe = (membership(cast[n], t) for n, t in (("cleo", north), ("dan", north), ("zoe", south)))
    inside = factories.make_task(north, user=cast["cleo"], state=State.DONE)
    hidden = factories.make_task(north, user=cast["dan"], state=State.DONE)
    finals, secret = collecting.make(cleo, "Finals", "view"), collecting.make(cleo, "Secret", "none")
    collecting.set_role(cleo, finals, cast["dan"], "edit")
    collecting.collect(dan, finals, [inside, hidden])
    collecting.collect(cleo, secret, [inside])
    Task.objects.filter(pk=hidden.pk).update(private=True)
    gone = collecting.make(cleo, "Gone")
    collecting.delete(cleo, gone)
    link, token = collecting.share(cleo, finals, may_comment=True, shows_prompts=False)
    closed, closed_token = collecting.share(cleo, finals, may_comment=True, shows_prompts=False)
    collecting.revoke(cleo, finals, closed.pk)
    return {
        "inside": inside.pk,
        "outside": factories.make_task(north, user=cast["cleo"], state=State.DONE).pk,
        "hidden": hidden.pk,
        "foreigner": factories.make_task(south, user=cast["zoe"], state=State.DONE).pk,
        "finals": finals.pk,
        "secret": secret.pk,
        "gone": gone.pk,
        "foreign": collecting.make(zoe, "Theirs").pk,
        "dan": cast["dan"].pk,
        "link": link.pk,
        "token": token,
        "closed": closed_token,
        "unknown": new_token(),
    }


def outcome(answer) -> str:
    is_login = answer.status_code == 302 and answer.url.startswith("/accounts/login/")
    return "login" if is_login else str(answer.status_code)


@pytest.mark.parametrize("who", NINE)
def test_each_of_nine_people_gets_what_the_table_says(cast, client_for, places, who):
    client = client_for(cast.get(who))
    if who == "guest":
        client.get(f"/s/{places['token']}/")
    got = []
    for path, method, given, _ in TABLE:
        url = path.format(**places)
        url = url if url.startswith("/") else f"/t/north/{url}"
        sent = {name: value.format(**places) for name, value in given.items()}
        with transaction.atomic():
            got.append(outcome(getattr(client, method)(url, sent)))
            transaction.set_rollback(True)
    said = [row[3].split()[NINE.index(who)] for row in TABLE]
    assert [(row[:3], is_, meant) for row, is_, meant in zip(TABLE, got, said, strict=True) if is_ != meant] == []


def test_the_table_has_every_address_of_collections_and_links():
    """Each as the table writes it: its arguments, whatever they are called, in braces."""
    asked = {re.sub(r"\{\w+\}|99999999", "*", path).lstrip("/") for path, *_ in TABLE}
    views = ("flux2web.views.collections", "flux2web.views.share")
    ours = [url for url in (*team_urls, *urlpatterns) if getattr(url.callback, "__module__", "") in views]
    assert len(ours) == 14
    patterns = {re.sub(r"<\w+:\w+>", "*", str(url.pattern)) for url in ours}
    assert patterns - {"s/*/*/*"} == asked - {"s/*/*/640", "s/*/*/original"}


def test_nobody_learns_by_posting_what_they_may_not_see(cast, client_for, places):
    """The answer about a collection that is there and one that is not is the same page."""
    client = client_for(cast["dan"])
    hidden, missing = (client.get(f"/t/north/collections/{pk}/") for pk in (places["secret"], 99999999))
    assert hidden.content == missing.content


@pytest.mark.parametrize("who", ["eve", "zoe", "sam"])
def test_who_may_not_changes_nothing(cast, client_for, places, who):
    before = list(Collection.objects.order_by("pk").values()), list(ShareLink.objects.order_by("pk").values())
    client = client_for(cast[who])
    for path, method, given, _ in TABLE:
        if method == "post" and not path.startswith("/"):
            client.post(
                f"/t/north/{path.format(**places)}", {name: value.format(**places) for name, value in given.items()}
            )
    after = list(Collection.objects.order_by("pk").values()), list(ShareLink.objects.order_by("pk").values())
    assert before == after


def test_every_change_needs_a_post_with_this_sites_token(cast, client_for, places):
    strict = client_for(cast["cleo"], enforce_csrf_checks=True)
    for path, method, _, _ in TABLE:
        if method == "post" and "/collect/" not in path and not path.startswith("/s/{unknown}"):
            url = path.format(**places)
            url = url if url.startswith("/") else f"/t/north/{url}"
            assert strict.post(url).status_code in (403, 404), url
            if not path.startswith("/"):
                assert strict.get(url).status_code == 405, url
    assert Client().get("/t/north/collections/make/").status_code in (302, 405)
