"""What an address says about the history: what is good counts, what is nonsense is said and left out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.http import QueryDict

from flux2web import access, history
from flux2web.forms_history import SORTS, TABS, FilterForm, SaveSearchForm
from flux2web.history import Filters
from flux2web.models import Budget, Collection, SavedSearch, Tag

from . import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(cleo, north):
    return access.membership(cleo, "north")


def form(member, query: str = "") -> FilterForm:
    return FilterForm(QueryDict(query), member=member)


def test_the_page_names_every_tab_and_order_that_there_is():
    assert set(TABS) == set(history.TABS)
    assert set(SORTS) == set(history.SORTS)


def test_nothing_said_is_everything_newest_first(member):
    empty = form(member)
    assert empty.filters() == Filters()
    assert (empty.query(), empty.chips(), empty.wrong()) == ("", [], [])


def test_everything_that_can_be_said_is_heard_and_said_again(member, north, ana):
    tags = [Tag.objects.create(team=north, name=name) for name in ("night", "blue")]
    box = Collection.objects.create(team=north, name="Posters", owner=member.user)
    query = (
        f"tab=mine&q=owl&person={ana.pk}&family=flex&mode=image-to-image&resolution=2K&ratio=16%3A9&provider=vtrix"
        f"&state=done&collection={box.pk}&tag={tags[0].pk}&tag={tags[1].pk}&tags=any&since=2026-06-01&until=2026-06-30"
        "&refs=yes&liked=yes&cost_min=10&cost_max=40&sort=oldest"
    )
    said = form(member, query)
    assert said.wrong() == []
    assert said.filters() == Filters(
        tab="mine",
        text="owl",
        person=ana.pk,
        family="flex",
        mode="image-to-image",
        resolution="2K",
        ratio="16:9",
        provider="vtrix",
        state="done",
        collection=box.pk,
        tags=tuple(tag.pk for tag in Tag.objects.order_by("name")),
        any_tag=True,
        since=datetime(2026, 6, 1, tzinfo=UTC),
        until=datetime(2026, 7, 1, tzinfo=UTC),
        references=True,
        liked=True,
        cost_min=10,
        cost_max=40,
        sort="oldest",
    )
    again = form(member, said.query())
    assert again.filters() == said.filters()
    assert again.query() == said.query()
    assert [chip.label for chip in said.chips()] == [
        "“owl”",
        "by Ana",
        "Flex",
        "From images",
        "2K",
        "16:9",
        "Done",
        "With images",
        "Vtrix",
        "in Posters",
        "tagged blue or night",
        "in June",
        "liked by me",
        "10 to 40 credits",
    ]


def test_days_are_the_teams_own_and_the_last_one_counts(member, north):
    Budget.objects.filter(team=north).update(time_zone="Asia/Tokyo")
    member.team.budget.refresh_from_db()
    found = form(member, "since=2026-06-03&until=2026-06-03").filters()
    assert found.since == datetime(2026, 6, 2, 15, tzinfo=UTC)
    assert found.until == datetime(2026, 6, 3, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("tab=secret", "tab"),
        ("person=x", "person"),
        ("person=99999999999999999999999", "person"),
        ("person=-1", "person"),
        ("person=%D9%A3", "person"),
        ("family=max", "family"),
        ("mode=video", "mode"),
        ("resolution=64K", "resolution"),
        ("ratio=1:7", "ratio"),
        ("provider=nobody", "provider"),
        ("state=gone", "state"),
        ("collection=7", "collection"),
        ("tag=7", "tag"),
        ("tag=x", "tag"),
        ("&".join(f"tag={n}" for n in range(30)), "tag"),
        ("tags=none", "tags"),
        ("since=2026-02-30", "since"),
        ("until=0001-01-01", "until"),
        ("since=2026-06-03&until=2026-06-02", "until"),
        ("refs=maybe", "refs"),
        ("liked=2", "liked"),
        ("cost_min=many", "cost_min"),
        ("cost_min=-4", "cost_min"),
        ("cost_max=99999999999999999999999", "cost_max"),
        ("cost_min=40&cost_max=10", "cost_max"),
        ("sort=random", "sort"),
        ("q=a%00b", "q"),
    ],
)
def test_nonsense_is_said_at_its_field_and_left_out_while_the_rest_holds(member, query, field):
    said = form(member, f"{query}&{'resolution=2K' if field == 'family' else 'family=flex'}")
    kept = said.filters()
    assert list(said.errors) == [field]
    assert said.wrong()[0][1].endswith(".")
    assert (kept.resolution if field == "family" else kept.family) in ("2K", "flex")
    assert field not in QueryDict(said.query())
    good = form(member, said.query())
    assert (good.filters(), good.errors) == (kept, {})


def test_people_collections_and_tags_of_others_are_nonsense(member, south, zoe, dan, north):
    foreign = [
        f"person={zoe.pk}",
        f"collection={Collection.objects.create(team=south, name='Theirs').pk}",
        f"collection={Collection.objects.create(team=north, name='Dan only', owner=dan, access='none').pk}",
        f"tag={Tag.objects.create(team=south, name='night').pk}",
    ]
    for query in foreign:
        said = form(member, query)
        assert said.filters() == Filters()
        assert len(said.errors) == 1


def test_somebody_who_left_is_found_by_what_they_made(member, north, dan):
    factories.make_task(north, user=dan, state="done")
    north.memberships.filter(user=dan).delete()
    assert form(member, f"person={dan.pk}").filters().person == dan.pk


def test_a_long_search_is_cut_and_many_words_are_said_to_be_ignored(member):
    long = form(member, f"q={'x' * 10_001}")
    assert long.filters().words == Filters(text="x" * 10_001).words
    assert len(long.query()) < 100
    assert "10,000 characters" in long.wrong()[0][1]
    many = form(member, f"q={'+'.join(f'w{n}' for n in range(13))}")
    assert "first 12 words" in many.wrong()[0][1]
    assert many.errors == {}
    assert len(form(member, f"q={'+'.join(f'word{n}' for n in range(1600))}").query()) < 200


@pytest.mark.parametrize("q", ["%22%22%22", "***", "%22*%22", "%F0%9F%A6%89", "%ff%fe"])
def test_a_search_without_a_word_is_said_and_left_out(member, q):
    said = form(member, f"q={q}")
    assert said.filters() == Filters()
    assert "no letters or digits" in said.wrong()[0][1]
    assert said.query() == ""


@pytest.mark.parametrize("q", ["+", "%D7%A9%D7%9C%D7%95%D7%9D", "%E6%B8%AF"])
def test_words_of_any_script_are_words(member, q):
    said = form(member, f"q={q}")
    said.filters()
    assert said.wrong() == []


def test_with_words_the_order_is_by_time_and_that_is_said(member):
    said = form(member, "q=owl&sort=cost")
    assert said.filters().sort == "newest"
    assert "newest or oldest" in said.wrong()[0][1]
    assert said.query() == "q=owl"
    assert form(member, "q=owl&sort=oldest").filters().sort == "oldest"


def test_each_chip_leads_to_the_same_without_it(member, ana):
    said = form(member, f"q=owl&person={ana.pk}&family=flex&sort=oldest")
    assert [chip.without for chip in said.chips()] == [
        f"person={ana.pk}&family=flex&sort=oldest",
        "q=owl&family=flex&sort=oldest",
        f"q=owl&person={ana.pk}&sort=oldest",
    ]
    assert said.sentence() == "“owl” by Ana, Flex"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("since=2020-12-01&until=2020-12-31", "in December 2020"),
        ("since=2020-02-01&until=2020-02-29", "in February 2020"),
        ("since=2020-02-01&until=2020-02-28", "1 February 2020 to 28 February 2020"),
        ("since=2020-02-03&until=2020-02-03", "on 3 February 2020"),
        ("since=2020-02-03", "since 3 February 2020"),
        ("until=2020-02-03", "until 3 February 2020"),
    ],
)
def test_days_in_words(member, query, words):
    said = form(member, query)
    said.filters()
    assert said.days_text == words


# --- Saved -------------------------------------------------------------------------------------------------------------


def save(member, name: str, query: str) -> SaveSearchForm:
    saving = SaveSearchForm(QueryDict(mutable=True) | {"name": name, "query": query}, member=member)
    if saving.is_valid():
        saving.save()
    return saving


def test_a_search_is_saved_as_a_page_would_show_it_and_its_name_is_unique(member):
    save(member, "Owls", "sort=newest&family=flex&q=owl&cursor=7&state=nonsense")
    save(member, "Owls", "q=owl")
    assert [(row.name, row.query) for row in SavedSearch.objects.all()] == [("Owls", "q=owl")]


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("", "q=owl"),
        ("x" * 61, "q=owl"),
        ("Owls", ""),
        ("Owls", "x=1"),
        ("Owls", "q=%22" + "+".join(f"word{n}" for n in range(300)) + "%22"),
    ],
)
def test_what_cannot_be_saved_is_said(member, name, query):
    assert save(member, name, query).errors
    assert not SavedSearch.objects.exists()


def test_there_is_an_end_to_saved_searches(member):
    for n in range(50):
        save(member, f"Search {n}", "q=owl")
    assert "50" in str(save(member, "One more", "q=owl").errors)
    assert not save(member, "Search 7", "q=heron").errors
