"""Who may open and do what where pictures are: nine people and a guest's link against every address of the history.

Cleo made PIC, which the team sees, and FAILED; THROWN of hers is in the trash. HIDDEN is Dan's own, THEIRS is of another
team, MISSING never was. A collection with PIC and HIDDEN in it is shared by a link.
`found`: they may (what they send is a form's business), `refused`: 403 in words, `nothing`: 404 as if it were not there,
`signs in`: to the sign-in page.
"""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.urls import get_resolver, resolve
from django.utils import timezone

from flux2web import collecting, shelf
from flux2web.models import Comment, Export, Favourite, Role, SavedSearch, State, Tag, Task
from flux2web.models.base import new_token
from flux2web.urls import team_urls

from . import factories

pytestmark = pytest.mark.django_db
# Nobody, another team's owner, one put out of the team, the viewer, the author, a member, admin, owner, site admin.
PEOPLE = ("nobody", "zoe", "finn", "eve", "cleo", "dan", "ben", "ana", "sam")
FOUND, REFUSED, NOTHING, SIGNS_IN = "found", "refused", "nothing", "signs in"
VIEWS = ("history", "bulk", "compare", "shelf", "tasks", "images", "exports")


def roles(eve: str, cleo: str, dan: str, ben: str, ana: str) -> dict[str, str]:
    """A team's address: for those outside of it, site admins too, it does not exist."""
    answers = (SIGNS_IN, NOTHING, NOTHING, eve, cleo, dan, ben, ana, NOTHING)
    return dict(zip(PEOPLE, answers, strict=True))


VIEWERS = roles(FOUND, FOUND, FOUND, FOUND, FOUND)
MAKERS = roles(REFUSED, FOUND, FOUND, FOUND, FOUND)
ADMINS = roles(REFUSED, REFUSED, REFUSED, FOUND, FOUND)
CLEO_OR_ADMIN = roles(REFUSED, FOUND, REFUSED, FOUND, FOUND)
CLEO_OR_ADMIN_LOOK = roles(NOTHING, FOUND, NOTHING, FOUND, FOUND)
CLEO_OR_ADMIN_ACT = roles(REFUSED, FOUND, NOTHING, FOUND, FOUND)
ONLY_CLEO = roles(NOTHING, FOUND, NOTHING, NOTHING, NOTHING)
ONLY_DAN = roles(NOTHING, NOTHING, FOUND, NOTHING, NOTHING)
ONLY_DAN_ACTS = roles(REFUSED, NOTHING, FOUND, NOTHING, NOTHING)
NONE = roles(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
NONE_ACTS = roles(REFUSED, NOTHING, NOTHING, NOTHING, NOTHING)
ALL, NO_ONE = dict.fromkeys(PEOPLE, FOUND), dict.fromkeys(PEOPLE, NOTHING)

ACTS = ("more", "use", "alt", "comments", "comments/COMMENT/delete", "tags", "untag", "visibility", "delete", "retry")
WAITING_ACTS = ("cancel", "check", "report")
LOOKS = ("", "card/")
FILES = ("320", "640", "original", "download", "jpeg", "png", "webp", "download?settings=1")
ADDRESSES = [
    ("get", "history/", VIEWERS),
    ("get", "history/?tab=trash", VIEWERS),
    ("get", "history/filters/", VIEWERS),
    ("post", "history/save/", VIEWERS),
    ("post", "history/saved/CLEOS_SEARCH/forget/", ONLY_CLEO),
    ("post", "history/saved/MISSING/forget/", NONE),
    ("post", "history/bulk/", VIEWERS),
    ("get", "history/bulk/count/", VIEWERS),
    ("post", "history/bulk/undo/", MAKERS),
    ("get", "compare/?ids=PIC,OTHER", VIEWERS),
    ("get", "compare/?ids=PIC,HIDDEN", ONLY_DAN),
    ("get", "compare/?ids=PIC,THROWN", NONE),
    ("get", "compare/?ids=PIC,THEIRS", NONE),
    ("get", "compare/?ids=PIC,MISSING", NONE),
    *(("get", f"tasks/PIC/{look}", VIEWERS) for look in LOOKS),
    *(("get", f"tasks/HIDDEN/{look}", ONLY_DAN) for look in LOOKS),
    *(("get", f"tasks/{one}/{look}", NONE) for one in ("THROWN", "THEIRS", "MISSING") for look in LOOKS),
    ("post", "tasks/PIC/like/", VIEWERS),
    ("post", "tasks/HIDDEN/like/", ONLY_DAN),
    *(("post", f"tasks/{one}/like/", NONE) for one in ("THROWN", "THEIRS", "MISSING")),
    *(("post", f"tasks/PIC/{act}/", MAKERS) for act in ACTS if act not in ("alt", "comments/COMMENT/delete")),
    *(("post", f"tasks/HIDDEN/{act}/", ONLY_DAN_ACTS) for act in ACTS if act != "comments/COMMENT/delete"),
    *(("post", f"tasks/{one}/{act}/", NONE_ACTS) for one in ("THROWN", "THEIRS", "MISSING") for act in ACTS),
    ("post", "tasks/PIC/alt/", CLEO_OR_ADMIN),
    ("post", "tasks/PIC/comments/COMMENT/delete/", CLEO_OR_ADMIN),
    ("post", "tasks/PIC/comments/MISSING/delete/", MAKERS),  # gone already, which is what was asked for
    ("post", "tasks/PIC/cancel/", CLEO_OR_ADMIN),
    ("post", "tasks/PIC/check/", MAKERS),
    ("post", "tasks/PIC/report/", CLEO_OR_ADMIN),
    *(("post", f"tasks/HIDDEN/{act}/", ONLY_DAN_ACTS) for act in WAITING_ACTS),
    *(("post", f"tasks/{one}/{act}/", NONE_ACTS) for one in ("THEIRS", "MISSING") for act in WAITING_ACTS),
    ("post", "tasks/THROWN/restore/", CLEO_OR_ADMIN_ACT),
    ("post", "tasks/HIDDEN/restore/", ONLY_DAN_ACTS),
    *(("post", f"tasks/{one}/restore/", NONE_ACTS) for one in ("THEIRS", "MISSING")),
    *(("get", f"results/PIC/{file}", VIEWERS) for file in FILES),
    *(("get", f"results/HIDDEN/{file}", ONLY_DAN) for file in FILES),
    *(("get", f"results/THROWN/{file}", CLEO_OR_ADMIN_LOOK) for file in FILES),
    *(("get", f"results/{one}/{file}", NONE) for one in ("THEIRS", "MISSING") for file in FILES),
    ("get", "results/PIC/secret", NONE),
    ("get", "references/IMAGE/thumb", VIEWERS),
    ("get", "references/IMAGE/full", VIEWERS),
    ("get", "references/THEIR_IMAGE/thumb", NONE),
    ("get", "references/MISSING/full", NONE),
    ("post", "members/default/", ADMINS),
    ("get", "cards/", VIEWERS),
    ("get", "live/", VIEWERS),
    ("get", "exports/", VIEWERS),
    ("get", "exports/CLEOS_ZIP/", ONLY_CLEO),
    ("get", "exports/MISSING/", NONE),
    # By link, whoever has it, and with the rights of nobody.
    ("get", "/s/LINK/", ALL),
    ("get", "/s/LINK/PIC/", ALL),
    ("get", "/s/LINK/PIC/640", ALL),
    *(("get", f"/s/LINK/{one}/", NO_ONE) for one in ("HIDDEN", "OTHER", "THROWN", "THEIRS", "MISSING")),
    *(("get", f"/s/LINK/{one}/original", NO_ONE) for one in ("HIDDEN", "OTHER", "THROWN", "THEIRS", "MISSING")),
    ("post", "/s/LINK/HIDDEN/", NO_ONE),
    ("get", "/s/UNKNOWN/", NO_ONE),
    ("get", "/s/UNKNOWN/PIC/320", NO_ONE),
]


@pytest.fixture
def names(cast, north, south, membership) -> dict[str, object]:
    """This test's rows, by their names in capitals."""
    cast["finn"] = factories.make_user(name="Finn")
    factories.make_member(north, cast["finn"], role=Role.ADMIN).delete()
    cleo, dan = membership(cast["cleo"], north), membership(cast["dan"], north)
    rows = {name: _picture(north, cast["cleo"]) for name in ("PIC", "OTHER", "THROWN")}
    rows |= {"HIDDEN": _picture(north, cast["dan"]), "THEIRS": _picture(south, cast["zoe"])}
    finals = collecting.make(cleo, "Finals", "edit")
    collecting.collect(dan, finals, [rows["PIC"], rows["HIDDEN"], rows["THROWN"]])
    _, token = collecting.share(cleo, finals, may_comment=True, shows_prompts=False)
    comment = shelf.comment(cleo, rows["PIC"], "The second one, please")
    shelf.add_tag(cleo, [rows["PIC"]], "final")
    shelf.set_private(dan, [rows["HIDDEN"]], private=True)
    shelf.throw_away(cleo, [rows["THROWN"]])
    search = SavedSearch.objects.create(team=north, user=cast["cleo"], name="Nights", query="q=night")
    images = {"IMAGE": factories.make_reference(north), "THEIR_IMAGE": factories.make_reference(south)}
    others = {"COMMENT": comment, "CLEOS_SEARCH": search, "CLEOS_ZIP": _zip(north, cast["cleo"])}
    ids = {name: row.pk for name, row in {**rows, **images, **others}.items()}
    return {**ids, "MISSING": 10**9, "LINK": token, "UNKNOWN": new_token()}


def _picture(team, user) -> Task:
    task = factories.make_task(team, user=user, state=State.DONE)
    Task.objects.filter(pk=task.pk).update(reference_count=0)
    return task


def _zip(team, user) -> Export:
    key = default_storage.save(f"exports/{new_token()}.zip", ContentFile(b"PK"))
    ends = {"due_at": None, "expires_at": timezone.now() + timedelta(days=1)}
    return Export.objects.create(
        user=user, team=team, kind="zip", name="a.zip", key=key, state="done", size_bytes=2, **ends
    )


def fill(address: str, names: dict[str, object]) -> str:
    path = address if address.startswith("/") else f"/t/north/{address}"
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: str(names[found[0]]), path)


def said(answer) -> str:
    if answer.status_code == 302 and answer["Location"].startswith("/accounts/login/"):
        return SIGNS_IN
    return {403: REFUSED, 404: NOTHING}.get(answer.status_code, FOUND)


def ask(client, verb: str, url: str):
    """What is asked for, with nothing of it left behind."""
    with transaction.atomic():
        answer = getattr(client, verb)(url)
        if getattr(answer, "streaming", False):
            b"".join(answer.streaming_content)
        transaction.set_rollback(True)
    return answer


@pytest.mark.parametrize("who", PEOPLE)
def test_everyone_gets_what_is_theirs_and_no_more(cast, client_for, names, who):
    client = client_for(None if who == "nobody" else cast[who])
    nowhere = client_for(None).get("/i/nowhere.png").content
    for verb, address, allowed in ADDRESSES:
        answer = ask(client, verb, fill(address, names))
        assert (verb, address, said(answer)) == (verb, address, allowed[who])
        if said(answer) == NOTHING and not address.startswith("/s/"):
            assert answer.content == nowhere, "what is not there for somebody looks like what was never there"


def test_no_address_is_forgotten_above(names):
    """Whoever adds a page of pictures says here who may see it."""
    paths = [fill(address, names).partition("?")[0] for _, address, _ in ADDRESSES]
    asked = {resolve(path).url_name for path in paths}
    shared = {url.name for url in get_resolver().url_patterns if _module(url) == "share"}
    assert {url.name for url in team_urls if _module(url) in VIEWS} | shared == asked


def _module(url) -> str:
    return getattr(url.callback, "__module__", "").rpartition(".")[2]


@pytest.mark.parametrize("who", ["zoe", "finn", "eve", "sam"])
def test_who_may_not_changes_nothing(cast, client_for, names, who):
    """A viewer's own hearts and searches are hers; a picture's are everybody's."""
    before = _state()
    client = client_for(cast[who])
    for verb, address, _ in ADDRESSES:
        if verb == "post" and not address.endswith(("/like/", "history/save/")):
            client.post(
                fill(address, names), {"verb": "delete", "ids": names["PIC"], "private": "1", "name": "x", "text": "x"}
            )
    assert _state() == before


def _state() -> list[list[dict]]:
    rows = (Task, Comment, Tag, Favourite, SavedSearch, Export)
    return [list(model.objects.order_by("pk").values()) for model in rows]


@pytest.mark.parametrize("who", ["eve", "cleo", "dan", "ben"])
def test_bulk_acts_touch_what_one_may_touch_alone(cast, client_for, names, who):
    """The same rights by the bar as by a picture's own buttons, for each picture by itself."""
    ids = ",".join(str(names[one]) for one in ("PIC", "HIDDEN", "THEIRS", "MISSING"))
    client_for(cast[who]).post(fill("history/bulk/", names), {"verb": "delete", "ids": ids})
    thrown = set(Task.objects.exclude(deleted_at=None).values_list("pk", flat=True)) - {names["THROWN"]}
    theirs = {"eve": set(), "cleo": {"PIC"}, "dan": {"HIDDEN"}, "ben": {"PIC"}}
    assert thrown == {names[one] for one in theirs[who]}


def test_a_list_shows_each_person_only_what_they_may_open(cast, client_for, names):
    for who in ("eve", "cleo", "dan", "ben", "ana"):
        page = client_for(cast[who]).get("/t/north/history/").content.decode()
        shown = {one for one in ("PIC", "HIDDEN", "THROWN", "THEIRS") if f'id="tile-{names[one]}"' in page}
        assert shown == ({"PIC", "HIDDEN"} if who == "dan" else {"PIC"})
        trash = client_for(cast[who]).get("/t/north/history/?tab=trash").content.decode()
        assert (f'id="tile-{names["THROWN"]}"' in trash) == (who in ("cleo", "ben", "ana"))


def test_every_change_needs_a_post_with_this_sites_token(cast, client_for, names):
    strict = client_for(cast["cleo"], enforce_csrf_checks=True)
    for verb, address, _ in ADDRESSES:
        if verb == "post" and not address.startswith("/s/"):
            assert strict.post(fill(address, names)).status_code == 403, address
            assert strict.get(fill(address, names)).status_code == 405, address
