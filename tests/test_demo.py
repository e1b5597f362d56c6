"""The demo team: people who can sign in, a past that looks lived in, and books that add up."""

from __future__ import annotations

import io
import re
import time
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db.models import F
from django.utils import timezone
from PIL import Image

from flux2web import accounts, audit, demo, promptbook, traces
from flux2web.models import (
    Attempt,
    Budget,
    Collection,
    Comment,
    Draft,
    Entry,
    Event,
    Favourite,
    Membership,
    ProviderAccount,
    Reference,
    Result,
    Role,
    SavedPrompt,
    State,
    Tag,
    Task,
    TaskReference,
    Team,
    User,
)
from flux2web.models.tasks import EDGES

from . import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    here = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = settings.STORAGES | {"default": here}
    return tmp_path


@pytest.fixture
def few_pictures(monkeypatch):
    """Drawing takes the time, and most tests look at rows."""
    monkeypatch.setattr(demo, "SCENES", demo.SCENES[:2])
    monkeypatch.setattr(demo, "PICTURE_SIDE_PX", 96)


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("demo", *arguments, stdout=out)
    return out.getvalue()


def team() -> Team:
    return Team.objects.get(slug="demo")


@pytest.mark.slow
def test_two_hundred_tasks_within_fifteen_seconds_of_work():
    began_s = time.process_time()
    run()
    assert time.process_time() - began_s < 15
    assert Task.objects.filter(team=team()).count() == 200
    assert audit.ledger() == []
    assert audit.files() == []


def test_the_books_add_up_over_many_chunks(few_pictures, monkeypatch):
    monkeypatch.setattr(demo, "ROWS_AT_ONCE", 40)
    run("--tasks", "333")
    assert Task.objects.count() == 333
    assert audit.ledger() == []
    lines = list(Entry.objects.order_by("id").values_list("created", flat=True))
    assert lines == sorted(lines)
    newest = Entry.objects.latest("id")
    assert newest.available_after == Budget.objects.get().available


def test_every_line_tells_what_was_left_after_it(few_pictures):
    run("--tasks", "60")
    left = 0
    for entry in Entry.objects.select_related("task").order_by("id"):
        price = entry.task.price_credits if entry.task else 0
        left += {"grant": entry.amount, "hold": -entry.amount, "settle": price - entry.amount, "release": price}[
            entry.kind
        ]
        assert entry.available_after == left


def test_the_team_has_the_budget_it_was_given(few_pictures):
    run("--tasks", "20", "--credits", "5000")
    budget = Budget.objects.get(team=team())
    assert budget.granted == 5000
    assert 0 < budget.spent < 5000
    assert budget.held == 0


def test_a_history_dearer_than_the_budget_is_paid_by_further_grants(few_pictures, monkeypatch):
    monkeypatch.setattr(demo, "ROWS_AT_ONCE", 10)
    run("--tasks", "60", "--credits", "300")
    assert Entry.objects.filter(kind="grant").count() > 1
    assert min(Entry.objects.values_list("available_after", flat=True)) >= 0
    assert audit.ledger() == []


def test_ana_owns_ben_helps_cleo_and_dan_make_eve_looks(few_pictures):
    run("--tasks", "0", "--password", "harbour at dawn")
    roles = dict(Membership.objects.filter(team=team()).values_list("user__email", "role"))
    assert roles == {
        "ana@example.com": Role.OWNER,
        "ben@example.com": Role.ADMIN,
        "cleo@example.com": Role.MEMBER,
        "dan@example.com": Role.MEMBER,
        "eve@example.com": Role.VIEWER,
    }
    assert list(User.objects.filter(is_site_admin=True).values_list("name", flat=True)) == ["Ana"]
    assert all(user.check_password("harbour at dawn") for user in User.objects.all())


@pytest.mark.parametrize(("members", "people"), [(1, 2), (2, 3), (40, 41)])
def test_smaller_and_larger_teams(few_pictures, members, people):
    run("--tasks", "10", "--members", str(members))
    assert User.objects.count() == people
    assert User.objects.get(name="Eve").memberships.get().role == Role.VIEWER
    assert not Task.objects.filter(user__name="Eve").exists()


def test_a_password_is_made_and_printed_once_and_opens_the_door(few_pictures, client):
    shown = run("--tasks", "5")
    email, password = re.search(r"(dan@example.com)\s+(\S+)  \(member\)", shown).groups()
    answer = client.post("/accounts/login/", {"login": email, "password": password})
    assert answer.status_code == 302
    assert password not in run("--tasks", "5")


def test_somebody_who_is_here_keeps_password_and_rights(few_pictures):
    factories.make_user(name="Ana")
    shown = run("--tasks", "5", "--password", "harbour at dawn")
    ana = User.objects.get(email="ana@example.com")
    assert ana.check_password(factories.PASSWORD)
    assert not ana.is_site_admin
    assert "ana@example.com          the password they had  (owner)" in shown


def test_the_past_looks_lived_in(few_pictures):
    run("--tasks", "300")
    tasks = Task.objects.filter(team=team())
    assert not tasks.live().exists()
    assert set(tasks.values_list("state", flat=True)) == {State.DONE, State.FAILED, State.CANCELLED}
    assert tasks.filter(state=State.DONE).count() > 200
    assert tasks.values("prompt").distinct().count() > 15
    assert set(tasks.values_list("family", "resolution")) == set(factories.GRID)
    assert set(tasks.exclude(account=None).values_list("account__provider", flat=True)) == set(factories.PRICES)
    assert tasks.filter(provider="").exists()
    assert tasks.filter(seed__isnull=False).exists()
    assert tasks.filter(parent__isnull=False, parent__state=State.FAILED).exists()
    assert tasks.filter(charged_credits__lt=F("price_credits")).exists()  # Vtrix told its cost
    assert TaskReference.objects.filter(number=2).exists()
    assert set(tasks.values_list("user__name", flat=True)) == {"Ana", "Ben", "Cleo", "Dan"}
    assert len(set(tasks.filter(state=State.FAILED).values_list("fail_kind", flat=True))) >= 3
    assert not tasks.filter(state=State.FAILED, fail_message="").exists()


def test_the_team_touched_and_filed_its_pictures_and_keeps_prompts_images_and_drafts(few_pictures, membership):
    run("--tasks", "80")
    ana = membership(User.objects.get(email="ana@example.com"), team())
    liked = Task.objects.filter(team=team(), favourites__gt=0)
    assert liked.count() > 5
    assert sum(task.favourites for task in liked) == Favourite.objects.count()
    assert set(Tag.objects.filter(used__gt=0).values_list("name", flat=True)) == set(traces.TAGS)
    assert [row.size for row in Collection.objects.all()] == [row.items.count() for row in Collection.objects.all()]
    assert min(Collection.objects.values_list("size", flat=True)) >= 5
    assert Comment.objects.count() == len(traces.COMMENTS)
    lines = promptbook.page(ana).lines
    assert len(lines) == len(traces.PROMPTS)
    assert any(line.uses and line.face and line.share_percent for line in lines)
    assert Reference.objects.filter(team=team()).count() >= 2
    assert Draft.objects.count() == 2
    assert [audit.ledger(), audit.files()] == [[], []]


def test_a_team_without_pictures_keeps_prompts_all_the_same(few_pictures):
    run("--tasks", "1", "--members", "2")
    assert SavedPrompt.objects.count() == len(traces.PROMPTS)


def test_every_column_holds_what_a_form_would_have_put_there(few_pictures):
    """Rows are written without their models: a default of the database's own is its value, not its name."""
    run("--tasks", "40")
    for model in (Task, Attempt, Event, Entry, Result, TaskReference):
        texts = [value for row in model.objects.values_list() for value in row if isinstance(value, str)]
        assert not [text for text in texts if "django" in text]
    assert set(Task.objects.values_list("alt", "private", "waits_for")) == {("", False, None)}


def test_the_past_is_over_and_not_long_ago(few_pictures):
    run("--tasks", "100")
    now = timezone.now()
    for moments in (
        Task.objects.values_list("created", flat=True),
        Task.objects.values_list("finished_at", flat=True),
        Event.objects.values_list("at", flat=True),
        Entry.objects.values_list("created", flat=True),
    ):
        assert max(moments) <= now
        assert max(moments) > now - timedelta(days=6)
        assert min(moments) > now - timedelta(days=60)


def test_each_story_is_one_that_the_lifecycle_tells(few_pictures, monkeypatch):
    """Every step is an edge of the state graph, and the version counts the moves."""
    monkeypatch.setattr(traces, "leave", lambda *_: None)  # hearts and tags count too
    run("--tasks", "150")
    for task in Task.objects.prefetch_related("events"):
        states = [event.kind for event in task.events.all() if event.kind in State.values]
        assert states[0] == State.QUEUED
        assert all(after in EDGES[before] for before, after in zip(states, states[1:], strict=False))
        assert task.version == len(states)
        assert [event.at for event in task.events.all()] == sorted(event.at for event in task.events.all())


def test_pictures_are_shared_and_their_files_are_there(few_pictures):
    run("--tasks", "100")
    assert Result.objects.values("key").distinct().count() <= 8
    for result in Result.objects.all()[:10]:
        with default_storage.open(result.key) as file:
            assert Image.open(file).size == (result.width_px, result.height_px)
        assert default_storage.exists(result.key_320)
        assert default_storage.exists(result.key_640)


def test_the_history_was_made_in_the_sandbox_and_does_not_switch_it_off(few_pictures, settings):
    settings.PUBLIC_URL = "http://127.0.0.1:8000"
    accounts.seed_sandbox("http://127.0.0.1:8765")
    run("--tasks", "20")
    assert accounts.sandbox_on()
    assert not ProviderAccount.objects.real().exists()
    assert ProviderAccount.objects.get(provider="revid").base_url == "http://127.0.0.1:8765/sandbox/revid"
    assert set(Attempt.objects.values_list("account__sandbox", flat=True)) == {True}


def test_a_second_run_says_so_and_adds_nothing(few_pictures):
    run("--tasks", "20")
    assert run("--tasks", "500") == "The team `demo` is here already, with 20 tasks. Nothing was added.\n"
    assert Task.objects.count() == 20
    assert User.objects.count() == 5


@pytest.mark.parametrize("arguments", [("--members", "0"), ("--tasks", "-1"), ("--credits", "0")])
def test_numbers_that_make_no_sense_are_refused(arguments):
    with pytest.raises(CommandError, match="At least"):
        run(*arguments)
