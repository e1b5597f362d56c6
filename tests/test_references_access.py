"""Who may do what with the team's images: every address of the library, asked by nine people."""

from __future__ import annotations

import re

import pytest
from django.db import transaction
from django.utils import timezone

from flux2web import references, storage
from flux2web.models import Hosting, Reference, State
from flux2web.urls import team_urls

from . import factories
from .pictures import upload

NINE = ("nobody", "zoe", "eve", "dan", "cleo", "ben", "ana", "sam", "guest")
# Of cleo's image: nobody is signed in; zoe is of another team; eve views; dan is another member; ben and ana manage; sam is
# a site admin in no team; guest is nobody again, who holds an open address.
TABLE = [
    ("", "get", {}, "login 404 200 200 200 200 200 404 login"),
    ("", "post", {"file": "a picture"}, "login 404 403 302 302 302 302 404 login"),
    ("?q=vase", "get", {}, "login 404 200 200 200 200 200 404 login"),
    ("pick/", "get", {}, "login 404 403 200 200 200 200 404 login"),
    ("pick/?of=history", "get", {}, "login 404 403 200 200 200 200 404 login"),
    ("from/{picture}/", "post", {}, "login 404 403 302 302 302 302 404 login"),
    ("from/{hidden}/", "post", {}, "login 404 403 302 404 404 404 404 login"),
    ("from/{foreigner}/", "post", {}, "login 404 403 404 404 404 404 404 login"),
    ("{image}/", "get", {}, "login 404 200 200 200 200 200 404 login"),
    ("{image}/slot/", "get", {}, "login 404 403 200 200 200 200 404 login"),
    ("{image}/rename/", "post", {"name": "Vase"}, "login 404 403 403 302 302 302 404 login"),
    ("{image}/share/", "post", {}, "login 404 403 403 302 403 403 404 login"),
    ("{image}/delete/", "post", {}, "login 404 403 403 302 302 302 404 login"),
    ("{image}/restore/", "post", {}, "login 404 403 403 302 302 302 404 login"),
    ("{image}/addresses/", "post", {}, "login 404 403 302 302 302 302 404 login"),
    ("{image}/addresses/{address}/close/", "post", {}, "login 404 403 302 302 302 302 404 login"),
    ("{image}/addresses/{address}/check/", "post", {}, "login 404 403 302 302 302 302 404 login"),
    ("{image}/addresses/{other}/close/", "post", {}, "login 404 403 404 404 404 404 404 login"),
    ("{image}/addresses/{other}/check/", "post", {}, "login 404 403 404 404 404 404 404 login"),
    ("{image}/thumb", "get", {}, "login 404 200 200 200 200 200 404 login"),
    # deleted: shown where a picture was made from it, and put back by who may; nothing else
    ("{gone}/", "get", {}, "login 404 404 404 404 404 404 404 login"),
    ("{gone}/slot/", "get", {}, "login 404 403 404 404 404 404 404 login"),
    ("{gone}/rename/", "post", {"name": "Vase"}, "login 404 403 404 404 404 404 404 login"),
    ("{gone}/addresses/", "post", {}, "login 404 403 404 404 404 404 404 login"),
    ("{gone}/restore/", "post", {}, "login 404 403 403 302 302 302 404 login"),
    ("{gone}/thumb", "get", {}, "login 404 200 200 200 200 200 404 login"),
    # of another team, never there
    ("{foreign}/", "get", {}, "login 404 404 404 404 404 404 404 login"),
    ("{foreign}/delete/", "post", {}, "login 404 403 404 404 404 404 404 login"),
    ("{foreign}/addresses/", "post", {}, "login 404 403 404 404 404 404 404 login"),
    ("{foreign}/addresses/{other}/close/", "post", {}, "login 404 403 404 404 404 404 404 login"),
    ("99999999/", "get", {}, "login 404 404 404 404 404 404 404 login"),
    ("99999999/slot/", "get", {}, "login 404 403 404 404 404 404 404 login"),
]


@pytest.fixture
def places(cast, north, south, membership) -> dict[str, object]:
    image = factories.make_reference(north, user=cast["cleo"], name="vase.png")
    gone = factories.make_reference(north, user=cast["cleo"], deleted_at=timezone.now())
    foreign = factories.make_reference(south, user=cast["zoe"])
    return {
        "image": image.pk,
        "gone": gone.pk,
        "foreign": foreign.pk,
        "address": references.open_address(membership(cast["cleo"], north), image).pk,
        "other": references.open_address(membership(cast["zoe"], south), foreign).pk,
        "picture": factories.make_task(north, user=cast["cleo"], state=State.DONE).pk,
        "hidden": factories.make_task(north, user=cast["dan"], state=State.DONE, private=True).pk,
        "foreigner": factories.make_task(south, user=cast["zoe"], state=State.DONE).pk,
    }


def outcome(answer) -> str:
    is_login = answer.status_code == 302 and answer.url.startswith("/accounts/login/")
    return "login" if is_login else str(answer.status_code)


def given(fields: dict) -> dict:
    return {"file": upload()} if "file" in fields else fields


@pytest.mark.parametrize("who", NINE)
def test_each_of_nine_people_gets_what_the_table_says(cast, client_for, places, who):
    client, got = client_for(cast.get(who)), []
    for path, method, fields, _ in TABLE:
        with transaction.atomic():
            got.append(outcome(getattr(client, method)(f"/t/north/references/{path.format(**places)}", given(fields))))
            transaction.set_rollback(True)
    said = [row[3].split()[NINE.index(who)] for row in TABLE]
    assert [(row[:3], is_, meant) for row, is_, meant in zip(TABLE, got, said, strict=True) if is_ != meant] == []


def test_the_table_has_every_address_of_the_library():
    asked = {re.sub(r"\{\w+\}|99999999", "*", path).partition("?")[0] for path, *_ in TABLE}
    ours = {
        re.sub(r"<\w+:\w+>", "*", str(url.pattern)) for url in team_urls if str(url.pattern).startswith("references/")
    }
    assert ours - {"references/*/*"} == {f"references/{path}" for path in asked - {"*/thumb"}}
    assert len(ours) == 13


@pytest.mark.parametrize("who", ["nobody", "eve", "zoe", "sam"])
def test_who_may_not_changes_nothing(cast, client_for, places, who):
    before = list(Reference.objects.order_by("pk").values()), list(Hosting.objects.order_by("pk").values())
    client = client_for(cast.get(who))
    for path, method, fields, _ in TABLE:
        if method == "post":
            client.post(f"/t/north/references/{path.format(**places)}", given(fields))
    assert before == (list(Reference.objects.order_by("pk").values()), list(Hosting.objects.order_by("pk").values()))


def test_a_deleted_a_foreign_and_a_missing_image_are_one_page(client_for, dan, places):
    client = client_for(dan)
    pages = {client.get(f"/t/north/references/{pk}/").content for pk in (places["gone"], places["foreign"], 99999999)}
    assert len(pages) == 1


def test_every_change_needs_a_post_with_this_sites_token(cast, client_for, places):
    strict = client_for(cast["cleo"], enforce_csrf_checks=True)
    for path, method, _, _ in TABLE:
        if method == "post":
            url = f"/t/north/references/{path.format(**places)}"
            assert strict.post(url).status_code == 403, url
            assert path == "" or strict.get(url).status_code == 405, url


def test_an_address_is_open_to_a_guest_and_told_to_no_viewer(cast, client_for, client, north, places):
    path = storage.hosting_path(Hosting.objects.select_related("reference").get(pk=places["address"]))
    assert client.get(path).status_code == 200
    page = f"/t/north/references/{places['image']}/"
    assert path in client_for(cast["dan"]).get(page).content.decode()
    assert path not in client_for(cast["eve"]).get(page).content.decode()
