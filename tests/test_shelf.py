"""What members do with finished pictures, alone and at once: hearts, tags, who sees it, the trash, words."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from flux2web import access, audit, search, shelf
from flux2web.models import (
    Act,
    Comment,
    Entry,
    Event,
    Favourite,
    Membership,
    Notice,
    Result,
    Role,
    State,
    Tag,
    Task,
    TaskTag,
)

from . import factories
from .test_races import at_once

pytestmark = pytest.mark.django_db


def done(team, user, **fields) -> Task:
    return factories.make_task(team, user=user, state=State.DONE, **fields)


def fresh(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def found(team, text: str) -> list[int]:
    return search.find(team.pk, search.parse(text))


# --- Hearts ----------------------------------------------------------------------------------------------------------


def test_a_heart_counts_once_however_often_it_is_pressed(north, cleo, dan, membership):
    task = done(north, cleo)
    for user in (cleo, cleo, dan):
        assert shelf.like(membership(user, north), [task, task]) == shelf.Done(1)
    assert (fresh(task).favourites, Favourite.objects.count()) == (2, 2)
    for user in (cleo, cleo):
        assert shelf.unlike(membership(user, north), [task]) == shelf.Done(1)
    assert (fresh(task).favourites, Favourite.objects.get().user) == (1, dan)


def test_a_viewer_may_like_and_nothing_else(north, cleo, eve, membership):
    task, viewer = done(north, cleo), membership(eve, north)
    assert shelf.like(viewer, [task]).done == 1
    for verb in (
        lambda: shelf.add_tag(viewer, [task], "sea"),
        lambda: shelf.remove_tag(viewer, [task], "sea"),
        lambda: shelf.set_private(viewer, [task], private=True),
        lambda: shelf.throw_away(viewer, [task]),
        lambda: shelf.restore(viewer, [task]),
    ):
        assert verb() == shelf.Done(0, {shelf.VIEWER: 1})
    for typed in (lambda: shelf.comment(viewer, task, "hi"), lambda: shelf.set_alt(viewer, task, "hi")):
        with pytest.raises(shelf.Refused, match="role of member"):
            typed()


def test_what_one_may_not_see_is_counted_as_not_there(north, south, cleo, dan, zoe, membership):
    mine, hidden, foreign = done(north, dan), done(north, cleo, private=True), done(south, zoe)
    thrown, gone = done(north, dan, deleted_at=timezone.now()), Task(pk=10**9)
    tasks = [mine, hidden, foreign, thrown, gone]
    member = membership(dan, north)
    for verb in (
        lambda: shelf.like(member, tasks),
        lambda: shelf.unlike(member, tasks),
        lambda: shelf.add_tag(member, tasks, "sea"),
        lambda: shelf.remove_tag(member, tasks, "sea"),
        lambda: shelf.set_private(member, tasks, private=True),
        lambda: shelf.throw_away(member, tasks),
    ):
        assert verb() == shelf.Done(1, {shelf.GONE: 4})
    assert [fresh(task).version for task in (hidden, foreign, thrown)] == [1, 1, 1]


@pytest.mark.django_db(transaction=True)
def test_two_hearts_of_one_person_at_once_are_one(north, cleo, dan, membership):
    task, members = done(north, cleo), [membership(cleo, north), membership(dan, north)]
    at_once([lambda who=who: shelf.like(who, [task]) for who in members * 8])
    assert (fresh(task).favourites, Favourite.objects.count()) == (2, 2)
    at_once([lambda who=who: shelf.unlike(who, [task]) for who in members * 8])
    assert (fresh(task).favourites, Favourite.objects.count()) == (0, 0)


# --- Tags ------------------------------------------------------------------------------------------------------------


def test_a_tag_is_kept_as_first_written_and_is_one_whatever_its_capitals(north, cleo, dan, membership):
    one, other = done(north, cleo), done(north, dan)
    assert shelf.add_tag(membership(cleo, north), [one], "  Äpfel \n rot ").done == 1
    assert shelf.add_tag(membership(dan, north), [one, other], "äpfel ROT").done == 2
    tag = Tag.objects.get()
    assert (tag.name, tag.used, TaskTag.objects.count()) == ("Äpfel rot", 2, 2)
    assert set(found(north, "apfel")) == {one.pk, other.pk}


def test_a_tag_on_no_picture_is_forgotten(north, cleo, membership):
    task, member = done(north, cleo), membership(cleo, north)
    shelf.add_tag(member, [task], "sea")
    assert shelf.remove_tag(member, [task], "SEA") == shelf.remove_tag(member, [task], "sea") == shelf.Done(1)
    assert not Tag.objects.exists()
    assert not found(north, "sea")


def test_a_tag_that_nothing_could_take_is_not_made(north, south, cleo, zoe, membership):
    assert shelf.add_tag(membership(cleo, north), [done(south, zoe)], "sea").done == 0
    assert not Tag.objects.exists()


@pytest.mark.parametrize("name", ["🎨", "👩‍🎨 studio", "ים תיכון", "بحر", "C++", "海", "a" * 40, "No. 5"])
def test_any_script_and_emoji_are_welcome(name, north, cleo, membership):
    shelf.add_tag(membership(cleo, north), [done(north, cleo)], name)
    assert Tag.objects.get().name == name


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("a\x00b\x1b[1m", "ab[1m"),
        ("sea\u202egnp", "seagnp"),
        ("\ud800sea", "sea"),
        ("e\u0301", "é"),
        ("a\t\u00a0b", "a b"),
    ],
)
def test_what_cannot_be_seen_is_left_out(typed, kept):
    assert shelf.tag_name(typed) == kept


@pytest.mark.parametrize("name", ["", "  ", "\x00", "\u200d", "\u200f\u200e", "a" * 41, "🎨" * 41, "x" * 100_000])
def test_no_name_or_too_long_a_one_is_refused_in_words(name, north, cleo, membership):
    with pytest.raises(shelf.Refused, match="tag"):
        shelf.add_tag(membership(cleo, north), [done(north, cleo)], name)
    assert not Tag.objects.exists()


def test_a_picture_has_20_tags_and_a_team_500(north, cleo, membership, monkeypatch):
    task, other, member = done(north, cleo), done(north, cleo), membership(cleo, north)
    for number in range(20):
        shelf.add_tag(member, [task], f"tag {number}")
    assert shelf.add_tag(member, [task], "tag 3") == shelf.Done(1)
    assert shelf.add_tag(member, [task, other], "one more") == shelf.Done(1, {shelf.FULL: 1})
    monkeypatch.setattr(shelf, "TEAM_TAGS_MAX", 21)
    with pytest.raises(shelf.Refused, match="tags already"):
        shelf.add_tag(member, [other], "too many")


@pytest.mark.django_db(transaction=True)
def test_tags_given_and_taken_at_once_add_up(north, cleo, dan, membership):
    tasks = [done(north, cleo) for _ in range(4)]
    members = [membership(cleo, north), membership(dan, north)]
    at_once(
        [
            lambda w=who, n=name, t=task: shelf.add_tag(w, [t], n)
            for who in members
            for name in ("Sea", "sea")
            for task in tasks
        ]
    )
    assert Tag.objects.get().used == TaskTag.objects.count() == 4
    at_once([lambda w=who, t=task: shelf.remove_tag(w, [t], "SEA") for who in members for task in tasks])
    assert not Tag.objects.exists()


# --- Who sees it -----------------------------------------------------------------------------------------------------


def test_only_its_author_hides_a_picture(north, ana, cleo, membership):
    task = done(north, cleo)
    assert shelf.set_private(membership(ana, north), [task], private=True) == shelf.Done(0, {shelf.OTHERS: 1})
    assert shelf.set_private(membership(cleo, north), [task], private=True) == shelf.Done(1)
    assert shelf.set_private(membership(cleo, north), [task], private=True) == shelf.Done(1)
    assert shelf.set_private(membership(ana, north), [task], private=False) == shelf.Done(0, {shelf.GONE: 1})
    assert fresh(task).private
    assert Event.objects.filter(task=task, kind="made private", cause=f"user {cleo.pk}").count() == 1
    shelf.set_private(membership(cleo, north), [task], private=False)
    assert [fresh(task).private, fresh(task).version] == [False, 3]


def test_what_new_pictures_are_is_the_teams_to_say_and_written_down(north, ana, membership):
    member = membership(ana, north)
    assert shelf.set_default(member, private=True)
    assert not shelf.set_default(member, private=True)
    north.refresh_from_db()
    assert north.private_by_default
    act = Act.objects.get()
    assert (act.actor, act.team, act.note) == (ana, north, "only their author. Was: the team")


# --- The trash -------------------------------------------------------------------------------------------------------


def test_into_the_trash_and_out_again(north, cleo, dan, membership):
    task, member = done(north, cleo), membership(cleo, north)
    shelf.like(membership(dan, north), [task])
    before = fresh(task)
    assert shelf.throw_away(membership(dan, north), [task]) == shelf.Done(0, {shelf.OTHERS: 1})
    assert shelf.throw_away(member, [task]) == shelf.Done(1)
    assert (fresh(task).deleted_by, access.tasks(member).count(), access.trash(member).count()) == (cleo, 0, 1)
    assert shelf.restore(membership(dan, north), [task]) == shelf.Done(0, {shelf.GONE: 1})
    assert shelf.restore(member, [task]) == shelf.restore(member, [task]) == shelf.Done(1)
    now = fresh(task)
    assert (now.deleted_at, now.deleted_by, now.favourites, now.version) == (None, None, 1, before.version + 2)
    kinds = Event.objects.filter(task=task, cause=f"user {cleo.pk}").values_list("kind", flat=True)
    assert list(kinds) == ["deleted", "restored"]


def test_what_had_lost_its_file_before_it_was_thrown_away_comes_back_as_it_was(north, cleo, membership):
    member, task = membership(cleo, north), done(north, cleo)
    Result.objects.filter(task=task).update(purged_at=timezone.now())
    shelf.throw_away(member, [task])
    assert shelf.restore(member, [task]) == shelf.Done(1)
    assert access.tasks(member).filter(pk=task.pk).exists()


def test_an_admin_throws_away_and_restores_what_others_made(north, ben, cleo, membership):
    task, admin = done(north, cleo), membership(ben, north)
    assert shelf.throw_away(admin, [task]) == shelf.restore(admin, [task]) == shelf.Done(1)


def test_failed_ones_may_go_and_live_ones_may_not(north, cleo, membership):
    tasks = [factories.make_task(north, user=cleo, state=state) for state in State]
    outcome = shelf.throw_away(membership(cleo, north), tasks)
    assert outcome == shelf.Done(3, {shelf.STILL_LIVE: 5})
    assert outcome.left == "5 are still being made: cancel first"


def test_throwing_away_moves_no_credit_and_removes_nothing_else(north, cleo, membership):
    task, entries = done(north, cleo), Entry.objects.count()
    shelf.throw_away(membership(cleo, north), [task])
    assert (Entry.objects.count(), Result.objects.get().purged_at) == (entries, None)
    assert audit.ledger() == []


def test_what_was_in_the_trash_too_long_stays_there(north, cleo, membership):
    task, member = done(north, cleo), membership(cleo, north)
    shelf.throw_away(member, [task])
    Result.objects.update(purged_at=timezone.now())
    assert shelf.restore(member, [task]) == shelf.Done(0, {shelf.PURGED: 1})
    Task.objects.update(deleted_at=timezone.now() - timedelta(days=settings.TRASH_DAYS))
    assert shelf.restore(member, [task]) == shelf.Done(0, {shelf.GONE: 1})


# --- Words -----------------------------------------------------------------------------------------------------------


def test_words_for_who_cannot_see_are_found_and_bring_no_other_words_away(north, cleo, dan, membership):
    reference = factories.make_reference(north, user=cleo, name="skizze.png")
    task, member = done(north, cleo, references=[reference], prompt="Harbour at dawn"), membership(dan, north)
    shelf.add_tag(member, [task], "sea")
    shelf.set_alt(member, task, "  Two boats\nat a jetty ")
    assert fresh(task).alt == "Two boats at a jetty"
    assert all(found(north, word) == [task.pk] for word in ("boats", "harbour", "sea", "skizze"))
    shelf.set_alt(member, task, "")
    assert not found(north, "boats")
    with pytest.raises(shelf.Refused, match="at most 300"):
        shelf.set_alt(member, task, "x" * 301)


def test_a_comment_is_kept_and_who_is_named_in_it_is_told(north, south, ana, cleo, dan, eve, zoe, membership):
    task = done(north, cleo)
    row = shelf.comment(
        membership(dan, north), task, "  @Cleo, @EVE@ and @ana: look\r\n\r\n@zoe @dan x@cleo.org @Clea\x00 "
    )
    assert row.text == "@Cleo, @EVE@ and @ana: look\n\n@zoe @dan x@cleo.org @Clea"
    assert sorted(Notice.objects.values_list("user__name", flat=True)) == ["Ana", "Cleo"]
    notice = Notice.objects.get(user=cleo)
    assert notice.url == f"/t/north/tasks/{task.pk}/#comment-{row.pk}"
    assert notice.text.startswith("Dan mentioned you: @Cleo, ")


def test_the_longest_name_that_fits_is_meant(north, cleo, membership):
    ann = factories.make_member(north, factories.make_user(name="Ann", email="a@example.com")).user
    lee = factories.make_member(north, factories.make_user(name="Ann Lee", email="b@example.com")).user
    gone = factories.make_member(north, factories.make_user(name="Bo", email="c@example.com", is_active=False)).user
    assert shelf.mentioned(north, "hello @ann lee!") == [lee]
    assert shelf.mentioned(north, "hello @Ann, @b") == [ann, lee]
    assert shelf.mentioned(north, "@Annabel @Bo a@ann") == []
    assert gone


def test_of_a_private_picture_nobody_is_told(north, cleo, membership):
    factories.make_member(north, factories.make_user(name="Ann"))
    shelf.comment(membership(cleo, north), done(north, cleo, private=True), "@Ann look")
    assert not Notice.objects.exists()


@pytest.mark.parametrize("text", ["", " \n\t ", "\x00\x07", "x" * 2001])
def test_a_comment_of_nothing_or_too_much_is_refused(text, north, cleo, membership):
    with pytest.raises(shelf.Refused):
        shelf.comment(membership(cleo, north), done(north, cleo), text)


def test_comments_are_deleted_by_who_wrote_them_and_by_admins(north, ben, cleo, dan, membership):
    task, other = done(north, cleo), done(north, cleo)
    row = shelf.comment(membership(dan, north), task, "no")
    with pytest.raises(shelf.Refused, match="Only who wrote"):
        shelf.delete_comment(membership(cleo, north), task, row.pk)
    assert not shelf.delete_comment(membership(dan, north), other, row.pk)
    assert shelf.delete_comment(membership(dan, north), task, row.pk)
    assert not shelf.delete_comment(membership(dan, north), task, row.pk)
    row = shelf.comment(membership(dan, north), task, "no")
    assert shelf.delete_comment(membership(ben, north), task, row.pk)
    assert not Comment.objects.exists()


def test_nothing_is_said_of_a_picture_that_is_gone(north, cleo, dan, membership):
    task = done(north, cleo)
    shelf.throw_away(membership(cleo, north), [task])
    for verb in (shelf.comment, shelf.set_alt):
        with pytest.raises(shelf.Refused, match="not there any more"):
            verb(membership(dan, north), task, "words")


# --- Many ------------------------------------------------------------------------------------------------------------


def statements(act) -> int:
    with CaptureQueriesContext(connection) as found:
        act()
    return len(found)


def test_a_verb_takes_as_many_statements_for_30_pictures_as_for_3(north, cleo):
    member = access.membership(cleo, north.slug)

    def all_verbs(tasks) -> list[int]:
        return [
            statements(lambda: shelf.like(member, tasks)),
            statements(lambda: shelf.unlike(member, tasks)),
            statements(lambda: shelf.add_tag(member, tasks, "sea")),
            statements(lambda: shelf.remove_tag(member, tasks, "sea")),
            statements(lambda: shelf.set_private(member, tasks, private=True)),
            statements(lambda: shelf.throw_away(member, tasks)),
            statements(lambda: shelf.restore(member, tasks)),
        ]

    few, many = ([done(north, cleo) for _ in range(number)] for number in (3, 30))
    assert all_verbs(few) == all_verbs(many)


def test_more_than_one_chunk_is_done_whole(north, cleo, membership, monkeypatch):
    monkeypatch.setattr(shelf, "CHUNK", 4)
    tasks, member = [done(north, cleo) for _ in range(10)], membership(cleo, north)
    assert shelf.add_tag(member, [*tasks, Task(pk=10**9)], "sea") == shelf.Done(10, {shelf.GONE: 1})
    assert Tag.objects.get().used == 10
    assert shelf.throw_away(member, tasks) == shelf.Done(10)


def test_nobody_without_the_role_of_member_acts_however_the_call_came(north, cleo, membership):
    Membership.objects.filter(user=cleo).update(role=Role.VIEWER)
    assert shelf.throw_away(membership(cleo, north), [done(north, cleo)]).done == 0
