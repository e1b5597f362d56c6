"""A whole site in one thread, with whatever can go wrong, and a book beside it that knows what must come out.

Hypothesis chooses what happens next: a press, a message, a ring, an hour that passes, a crash. Services, rows and
constraints are the real ones; pretended are the providers, the queue, the time and the death of the process. After every
step the house's own audit finds nothing, and sums, prices and ends are those of a book that is kept apart from the rows.
"""

from __future__ import annotations

import functools
import itertools
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any

import time_machine
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flux2web import (
    accounts,
    actors,
    audit,
    bus,
    clock,
    faults,
    forms_people,
    http,
    imaging,
    ledger,
    lifecycle,
    providers,
    requests,
    routing,
)
from flux2web.models import (
    FINAL,
    LIVE,
    Batch,
    Budget,
    CreditRequest,
    Entry,
    Event,
    Membership,
    Period,
    Price,
    ProviderAccount,
    Role,
    State,
    Task,
    Team,
)
from flux2web.orders import Refusal
from flux2web.providers.base import Accepted, Kind, ProviderError, Report

from . import factories
from .peer import picture
from .road import order

BEGIN = datetime(2027, 3, 31, 23, 50, tzinfo=UTC)
PRICES = {"revid": 10, "vtrix": 12}  # of the one picture that is asked for here; revid rings, vtrix tells its cost
PLACE = {"family": "pro", "resolution": "1K"}
FILES = "https://files.example.com/"
PICTURE = picture(8, 8)
# Limits that a walk of some dozen steps can reach.
QUICK = {
    "PUBLIC_URL": "https://studio.example.com",
    "REDIS_URL": "",
    "QUEUED_LIMIT_S": 120,
    "RUNNING_LIMIT_S": 300,
    "SAVING_LIMIT_S": 200,
    "UNCERTAIN_LIMIT_S": 240,
    "UNCERTAIN_LOOKS": 4,
}
VERBS = {"grant": "grant", "expiring": "grant", "revoke": "revoke", "adjust up": "adjust", "adjust down": "adjust"}
CAUSES_OF_AN_END = {"create refused", "query answer", "fetch", "limit", "give-up rule"}  # or the user who cancelled


class Killed(BaseException):
    """The process is gone: nothing in it may catch this, and the open transaction is rolled back."""


# --- The providers ---------------------------------------------------------------------------------------------------


@dataclass
class Job:
    """A task as its provider knows it."""

    upstream_id: str
    task: int
    price: int  # in credits, what it must be settled at unless it has a cost
    state: str = "running"
    cost_usd: Decimal | None = None


@dataclass
class Script:
    """How the outside behaves while one message is worked on. As it stands here, all is well."""

    create: str = "accept"
    look: str = "succeeded"
    cost_usd: Decimal | None = None
    fetch: str = ""
    meanwhile: str = ""  # what happens while the provider thinks: a name of Machine.while_...


REFUSALS = [kind for kind in Kind if kind != Kind.BAD_REPLY]  # which nobody can read, so it is no refusal
CREATES = ("accept", "accept and cut", "cut", "known id", "not sent", *(f"refuse {kind}" for kind in REFUSALS))
STATES = ("running", "succeeded", "failed")
LOOKS = (*STATES, "cut", "no_urls", "not_found", "auth")
FETCHES = ("", "gone", "unreachable", "refused", "no picture")


class Outside:
    """All providers. It counts for itself what it was asked for: our rows are not believed about that."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.jobs: dict[str, Job] = {}
        self.arrived: Counter[int] = Counter()  # creates that a provider has, or may have, by task
        self.secrets: dict[str, tuple[int, str, str]] = {}  # of a callback: task, provider, upstream id
        self.told_failed: set[int] = set()
        self.given: set[int] = set()  # tasks whose picture was handed out
        self.asked = [0]  # the task that is being worked on, innermost last
        self.script = Script()

    def _meanwhile(self) -> None:
        happens, self.script.meanwhile = self.script.meanwhile, ""
        self.machine.meanwhile(happens)

    def for_task(self, task: int, look: Callable[[int], Any]) -> Any:
        self.asked.append(task)
        looked = look(task)
        self.asked.pop()
        return looked

    def create(self, provider: str, callback_url: str | None) -> Accepted:
        task, says = self.asked[-1], self.script.create
        if says == "not sent":
            raise ProviderError(Kind.PROVIDER, "nobody there", sent="no")
        if says.startswith("refuse"):
            kind = Kind(says.removeprefix("refuse "))
            raise ProviderError(kind, "no", sent="yes" if kind == Kind.PROVIDER else "no")
        self.arrived[task] += 1
        taken = Task.objects.filter(account__provider=provider).exclude(upstream_id="").first()
        upstream_id = taken.upstream_id if taken and says == "known id" else ""
        if says != "cut" and not upstream_id:
            upstream_id = self._take(task, provider, callback_url)
        faults.point("CP5")
        self._meanwhile()
        if "cut" in says:
            raise ProviderError(Kind.BAD_REPLY, "the answer was cut", sent="unknown")
        return Accepted(upstream_id)

    def _take(self, task: int, provider: str, callback_url: str | None) -> str:
        upstream_id = f"up-{len(self.jobs) + 1}"
        self.jobs[upstream_id] = Job(upstream_id, task, self.machine.book.price_there(task, provider))
        if callback_url:
            self.secrets[callback_url.rstrip("/").rpartition("/")[2]] = (task, provider, upstream_id)
        return upstream_id

    def report(self, upstream_id: str) -> Report:
        look, job = self.script.look, self.jobs[upstream_id]
        if look in STATES and job.state == "running":
            job.state, job.cost_usd = look, self.script.cost_usd
        self._meanwhile()
        if look in ("cut", "auth"):
            raise ProviderError(Kind.AUTH if look == "auth" else Kind.PROVIDER, "not now", sent="yes")
        if look not in STATES:
            raise ProviderError(Kind.BAD_REPLY, look, sent="yes", code=look)
        if job.state == "failed":
            self.told_failed.add(job.task)
            return Report("failed", kind=Kind.MODERATION, message="flagged")
        urls = (FILES + upstream_id,) if job.state == "succeeded" else ()
        return Report(job.state, urls, job.cost_usd)

    def fetch(self, url: str) -> bytes:
        fetch, job = self.script.fetch, self.jobs.get(url.removeprefix(FILES))
        assert job, f"no provider has told of a picture at {url}"
        self._meanwhile()
        if fetch == "no picture":
            return b"<html>not here</html>"
        if fetch:
            raise http.FetchFailed("It did not come.", fetch)  # type: ignore[arg-type]
        self.given.add(job.task)
        return PICTURE


class Pretended:
    """A provider's adapter with its own words and abilities, and nobody at the other end of the line."""

    def __init__(self, real: Any, stage: Stage) -> None:
        self._real, self._stage = real, stage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def submit(self, request, account, callback_url) -> Accepted:
        return self._stage.machine.outside.create(self._real.slug, callback_url)

    def report(self, upstream_id, route, account, *, age_s=0.0) -> Report:
        return self._stage.machine.outside.report(upstream_id)


# --- The book --------------------------------------------------------------------------------------------------------


@dataclass
class Press:
    """What was asked for under a key, at which prices; `batch` once it was taken."""

    member: Membership
    provider: str
    count: int
    prices: dict[str, int]
    batch: int = 0


@dataclass
class Asked:
    """A member's request for more, and whether it was answered."""

    member: Membership
    limit: str
    amount: int
    answer: str = ""


@dataclass
class Book:
    """What must be in the rows, told apart from them. Only where a task stands is taken from there, and judged."""

    granted: dict[int, int]  # by team
    prices: dict[str, int] = field(default_factory=lambda: dict(PRICES))
    holds: dict[int, int] = field(default_factory=dict)  # by task: its price when it was asked for
    quoted_by: dict[int, str] = field(default_factory=dict)
    refunded: Counter[int] = field(default_factory=Counter)  # by task
    presses: dict[tuple[int, str], Press] = field(default_factory=dict)  # by team and key
    posts: dict[tuple[int, str], tuple[str, int]] = field(default_factory=dict)  # by team and key: kind and amount
    ended: dict[int, dict] = field(default_factory=dict)  # every column of a task at its end
    lines: list[tuple] = field(default_factory=list)  # the ledger as it was seen last
    versions: dict[int, int] = field(default_factory=dict)

    # Periods and limits.
    rules: dict[int, tuple[int, bool]] = field(default_factory=dict)  # by team: allowance, whether it rolls over
    team_caps: dict[int, int | None] = field(default_factory=dict)
    caps: dict[int, int | str | None] = field(default_factory=dict)  # by user: their own, "none", None: the team's
    own_limits: dict[int, int | None] = field(default_factory=dict)
    opened: dict[int, int] = field(default_factory=dict)  # by period: the allowance that it began with
    expiring: Counter[int] = field(default_factory=Counter)  # by period
    taken_back: Counter[int] = field(default_factory=Counter)  # by team, by admins
    extra: Counter[tuple[int, int]] = field(default_factory=Counter)  # by period and user: on top of the cap
    asked: dict[int, Asked] = field(default_factory=dict)  # by request

    def cap(self, team: int, user: int) -> int | None:
        cap = self.caps.get(user)
        return None if cap == "none" else self.team_caps.get(team) if cap is None else int(cap)

    def price_there(self, task: int, provider: str) -> int:
        """What a picture of this provider is settled at: the price that was quoted; another's is never dearer."""
        hold = self.holds[task]
        return hold if provider == self.quoted_by[task] else min(hold, self.prices[provider])

    def charge(self, job: Job) -> int:
        if job.cost_usd is None:
            return job.price
        cost = int((job.cost_usd / Decimal("0.0025")).to_integral_value(ROUND_CEILING))
        return max(1, min(self.holds[job.task], cost))


# --- The stage -------------------------------------------------------------------------------------------------------


class Stage:
    """Teams, accounts and pretended surroundings, set up once; every example is rolled back to here."""

    machine: Machine

    @classmethod
    @contextmanager
    def set(cls, monkeypatch, settings) -> Iterator[Stage]:
        with time_machine.travel(BEGIN, tick=False) as time:
            yield cls(monkeypatch, settings, time)

    def __init__(self, monkeypatch, settings, time) -> None:
        self.time, self.settings = time, settings
        for name, value in QUICK.items():
            setattr(settings, name, value)
        self._people()
        self._surroundings(monkeypatch)

    def _people(self) -> None:
        north, south = factories.make_team(name="North", credits=60), factories.make_team(name="South", credits=25)
        self.teams: list[Team] = [north, south]
        self.owners = {team.pk: factories.make_member(team, role=Role.OWNER) for team in self.teams}
        self.admin = factories.make_user(is_site_admin=True)
        self.makers = [factories.make_member(team) for team in (north, north, south)]
        for slug, credits in PRICES.items():
            factories.make_account(slug, prices=False)
            Price.objects.create(**PLACE, provider=slug, credits=credits, published=True)

    def _surroundings(self, monkeypatch) -> None:
        quote = routing.quote
        monkeypatch.setattr(routing, "quote", lambda order: self.machine.quoted(quote(order)))
        # Always the same few bytes: the child that decodes them is not the matter here.
        monkeypatch.setattr(imaging, "save_result", functools.cache(imaging.save_result))
        # Not the one that reads the schema, which no step changes; nor that looks are on time: nobody promises it here,
        # where the clock ticks when the example says so. The two take longer than all others.
        left_out = (audit.money_has_no_floats, audit.live_tasks_are_looked_at)
        checks = tuple(check for check in audit.CHECKS if check not in left_out)
        monkeypatch.setattr(audit, "CHECKS", checks)
        monkeypatch.setattr(faults, "point", lambda name: self.machine.point(name))
        monkeypatch.setattr(http, "fetch", lambda url, **_: self.machine.outside.fetch(url))
        # A message may find that it is another's turn: what a provider is asked for then is that one's picture.
        submit = lifecycle.submit
        monkeypatch.setattr(lifecycle, "submit", lambda task: self.machine.outside.for_task(task, submit))
        monkeypatch.setattr(actors, "_send", lambda *message: self.machine.sent(*message))
        for slug in PRICES:
            monkeypatch.setitem(providers.ALL, slug, Pretended(providers.get(slug), self))


# --- The machine -----------------------------------------------------------------------------------------------------

pick = st.integers(0, 63)  # one of what there is, counted round
WHILE = ("ring", "lease", "give_up", "press", "cancel", "price", "look")
meanwhile = st.sampled_from(("",) * 7 + WHILE)


scripts = st.builds(
    Script,
    create=st.sampled_from(("accept",) * 6 + CREATES),
    look=st.sampled_from(("succeeded",) * 4 + LOOKS),
    cost_usd=st.sampled_from([None, None, None, Decimal("0.0251"), Decimal("0.01"), Decimal("9")]),
    fetch=st.sampled_from(("",) * 4 + FETCHES),
    meanwhile=meanwhile,
)


def dying(*points: str) -> st.SearchStrategy[str]:
    """Where a process dies that may pass there. Mostly it lives."""
    return st.sampled_from(("",) * 3 * len(points) + points)


deaths = dying(*(f"CP{number}" for number in range(3, 11)))


class Machine(RuleBasedStateMachine):
    """One example: a day on this site."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage, stage.machine = stage, self
        self.outside = Outside(self)
        self.book = Book({team.pk: Budget.objects.get(team=team).granted for team in stage.teams})
        self.members: list[Membership] = list(stage.makers)
        self.gone: list[Membership] = []
        self.messages: list[tuple[State, int, datetime]] = []
        self.told: set[int] = set()  # tasks whose pages were told to look
        self.fatal = ""  # the point at which the process dies
        self.after_quote = ""
        self.keys = (f"key-{number}" for number in itertools.count(1))
        self.typed: set[str] = set()  # keys of presses, not of retries and drafts
        self.hang_up = bus.subscribe(lambda hint: self.told.add(hint.task_id))
        self.example = transaction.atomic()
        self.example.__enter__()
        stage.time.move_to(BEGIN, tick=False)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._come_to_rest()
        finally:
            self.hang_up()
            shutil.rmtree(self.stage.settings.SPOOL_DIR, ignore_errors=True)  # the next example has the same ids
            transaction.set_rollback(True)
            self.example.__exit__(None, None, None)

    def _come_to_rest(self) -> None:
        """All faults are mended, the providers finish, the clock goes on: every task ends, and nothing stays held."""
        self._set_prices(1)
        for account in ProviderAccount.objects.all():
            accounts.set_account(account.provider, enabled=True, concurrent=None)
        for _ in range(60):
            soonest = Task.objects.live().order_by("due_at").first()
            if soonest is None:
                break
            self._pass_to(soonest.due_at)
            with self.process():
                self._clock_and_messages()
        self.everything_adds_up()
        assert not Task.objects.live().exists(), "a task that never ends"
        assert not Budget.objects.exclude(held=0).exists()

    # --- What surrounds the process

    def point(self, name: str) -> None:
        if name == self.fatal:
            self.fatal = ""
            raise Killed(name)

    def sent(self, state: State, task: int, wait_s: float) -> None:
        self.messages.append((state, task, timezone.now() + timedelta(seconds=wait_s)))

    @contextmanager
    def process(self, dies: str = "") -> Iterator[None]:
        """What is done inside is done by a process that dies when it comes to that point."""
        self.fatal = dies
        try:
            yield
        except Killed:
            self._after_commit()
            self.messages.clear()
            self._find_what_was_cut_off()
        self.fatal, self.after_quote, self.outside.script, self.outside.asked = "", "", Script(), [0]
        self._after_commit()

    def _after_commit(self) -> None:
        """The example is one transaction that never commits: what waits for the inner ones is done here."""
        hooks, connection.run_on_commit = connection.run_on_commit, []
        for _, hook, _ in hooks:
            hook()

    def _find_what_was_cut_off(self) -> None:
        for (team, key), press in list(self.book.presses.items()):
            batch = None if press.batch else Batch.objects.filter(team=team, key=key).first()
            if batch:
                self._enter(press, batch)
            elif not press.batch:
                del self.book.presses[team, key]

    # --- Members press

    @initialize(
        counts=st.lists(st.integers(1, 2), min_size=1, max_size=3),
        expiring=st.sampled_from([0, 15, 40]),
        allowance=st.sampled_from([0, 20, 40]),
        rolls_over=st.booleans(),
        cap=st.sampled_from([None, None, 24, 40]),
    )
    def day_begins(self, counts: list[int], expiring: int, allowance: int, rolls_over: bool, cap: int | None) -> None:
        if expiring:
            self.admin_changes_the_budget(0, "expiring", expiring, old=1, dies="")
        if allowance:
            self.admin_sets_rules(0, 1, "UTC", allowance, rolls_over)
        self.admin_caps_everyone(0, cap)
        for member, count in zip(self.members, counts, strict=False):
            with self.process():
                self._press(member, "", count, next(self.keys))

    @precondition(lambda self: self.members)
    @rule(
        who=pick,
        provider=st.sampled_from(["", *PRICES]),
        count=st.integers(1, 3),
        seen=st.sampled_from([None, None, 25, 10]),
        old=pick,
        also=meanwhile,
        dies=dying("CP1", "CP2"),
    )
    def member_presses(self, who, provider, count, seen, old, also, dies) -> None:
        """One time in three with a key that was used before."""
        member = self.members[who % len(self.members)]
        known = [
            key for team, key in self.book.presses if team == member.team_id and key in self.typed and old % 3 == 0
        ]
        key = known[old % len(known)] if known else next(self.keys)
        with self.process(dies):
            self.after_quote = also
            self._press(member, provider, count, key, seen=seen and seen * count)

    @precondition(lambda self: self.book.presses)
    @rule(which=pick)
    def member_presses_again(self, which: int) -> None:
        (team, key), press = self._one(list(self.book.presses.items()), which)
        member = next((member for member in self.members if member.team_id == team), None)
        if member and key in self.typed:
            with self.process():
                self._press(member, press.provider, press.count, key)

    def _press(self, member: Membership, provider: str, count: int, key: str, *, seen: int | None = None) -> None:
        self.typed.add(key)
        known, prices = self.book.presses.get((member.team_id, key)), dict(self.book.prices)
        press = known or self.book.presses.setdefault((member.team_id, key), Press(member, provider, count, prices))
        outcome = lifecycle.create(member, order(provider=provider, count=count), key=key, price_seen=seen)
        if known:
            same = (known.provider, known.count) == (provider, count)
            said = outcome.kind if isinstance(outcome, Refusal) else outcome.pk
            assert said == (known.batch if same else "conflict"), "the same key, and not the same answer"
        else:
            self._take_answer(press, member.team_id, key, outcome)

    def _take_answer(self, press: Press, team: int, key: str, outcome: Batch | Refusal) -> None:
        if isinstance(outcome, Batch):
            self._enter(press, outcome)
            actors.kick_batch(outcome)
            return
        del self.book.presses[team, key]
        assert outcome.kind in ("budget", "cap", "own", "price", "provider"), outcome
        room = self._rooms(press.member).get(outcome.kind) if self._period_lasts(team) else None
        assert room is None or room < press.count * max(press.prices.values()), outcome.message

    def _enter(self, press: Press, batch: Batch) -> None:
        press.batch = batch.pk
        tasks = list(batch.tasks.all())
        assert len(tasks) == press.count
        for task in tasks:
            assert press.provider in ("", task.quoted_provider)
            self.book.holds[task.pk] = press.prices[task.quoted_provider]
            self.book.quoted_by[task.pk] = task.quoted_provider
            lasts = task.period.starts_at <= timezone.now() < task.period.ends_at
            assert lasts, f"task {task.pk} is held in a period that does not last"
        over = {name: room for name, room in self._rooms(press.member).items() if room < 0}
        assert not over, f"held beyond what the limits left: {over}"

    def _rooms(self, member: Membership) -> dict[str, int]:
        """What each limit of a member leaves, by the book."""
        team, user = member.team_id, member.user_id
        used, rooms = self._used(team, user), {"budget": self._available(team)}
        cap, own = self.book.cap(team, user), self.book.own_limits.get(user)
        cap = None if cap is None else cap + self.book.extra[Budget.objects.get(pk=team).period_id, user]
        return rooms | {name: limit - used for name, limit in (("cap", cap), ("own", own)) if limit is not None}

    def _used(self, team: int, user: int) -> int:
        period = Budget.objects.get(pk=team).period_id
        ours = Task.objects.filter(user=user, period=period).values()
        return sum(self._still_held(task) + self._charge(task) - self.book.refunded[task["id"]] for task in ours)

    def _still_held(self, task: dict) -> int:
        return self.book.holds.get(task["id"], 0) if task["state"] in LIVE else 0

    def _period_lasts(self, team: int) -> bool:
        return Budget.objects.filter(pk=team, period__ends_at__gt=timezone.now()).exists()

    def quoted(self, quote):
        """Others press and prices change between a quote and its hold."""
        happens, self.after_quote = self.after_quote, ""
        self.meanwhile(happens)
        return quote

    @precondition(lambda self: self.book.holds)
    @rule(which=pick, dies=dying("CP7", "CP8"))
    def member_cancels(self, which: int, dies: str) -> None:
        with self.process(dies):
            self._cancel(self._one(list(self.book.holds), which))

    def _cancel(self, task_id: int) -> None:
        task = Task.objects.get(pk=task_id)
        cancelled = lifecycle.cancel(task, task.user)
        assert cancelled == (task.state == State.QUEUED), f"cancelled: {cancelled}, and it was {task.state}"

    @precondition(lambda self: self.book.ended)
    @rule(which=pick)
    def member_retries(self, which: int) -> None:
        task = Task.objects.get(pk=self._one(list(self.book.ended), which))
        member = next((member for member in self.members if member.team_id == task.team_id), None)
        if member is None:
            return
        key = f"retry:{task.pk}:{task.version}:{member.user_id}"
        press = Press(member, task.provider, 1, dict(self.book.prices))
        with self.process():
            self.book.presses[task.team_id, key] = press
            self._take_answer(press, task.team_id, key, lifecycle.retry(member, task))

    @precondition(lambda self: self.book.holds)
    @rule(which=pick)
    def member_asks_for_a_look(self, which: int) -> None:
        task = Task.objects.get(pk=self._one(list(self.book.holds), which))
        with self.process():
            actors.kick(task.pk, lifecycle.look_now(task, task.user))

    @precondition(lambda self: self.members)
    @rule(
        who=pick,
        limit=st.sampled_from(["cap", "team"]),
        amount=st.integers(1, 30),
        sends=st.booleans(),
        answer=st.sampled_from(["", "lasts", "this period"]),
        dies=dying("CP17"),
    )
    def member_asks_for_more(self, who, limit, amount, sends, answer, dies) -> None:
        """And is perhaps answered at once, with a draft that then sends itself."""
        member = self._one(self.members, who)
        draft = order() if sends else None
        wish = {"limit": limit, "amount": amount, "reason": "", "key": next(self.keys)}
        asked = requests.ask(member, **wish, draft=draft, price_seen=None, sends_itself=sends)
        if isinstance(asked, Refusal):
            assert sum(not ask.answer and ask.member.user_id == member.user_id for ask in self.book.asked.values()) >= 5
            return
        self.book.asked[asked.pk] = Asked(member, limit, amount)
        if answer:
            self._answer(asked.pk, answer, dies)

    @precondition(lambda self: self.book.asked)
    @rule(which=pick, answer=st.sampled_from(["lasts", "this period", "no"]), dies=dying("CP17"))
    def admin_answers(self, which: int, answer: str, dies: str) -> None:
        self._answer(self._one(list(self.book.asked), which), answer, dies)

    def _answer(self, pk: int, answer: str, dies: str) -> None:
        asked, request, outcome = self.book.asked[pk], CreditRequest.objects.get(pk=pk), None
        with self.process(dies):
            if answer == "no":
                outcome = requests.decline(request, by=self.stage.admin, note="")
            else:
                lasts = answer == "lasts"
                outcome = requests.approve(request, by=self.stage.admin, amount=asked.amount, lasts=lasts, note="")
        if outcome is None:  # died before it was written down
            return
        is_here = asked.limit == "team" or answer == "no" or self._is_member(asked.member)
        is_new = not asked.answer and is_here
        assert isinstance(outcome, Refusal) != (is_new or answer == asked.answer), outcome
        if is_new:
            asked.answer = answer
        if is_new and answer != "no":
            self._give(asked, lasts=answer == "lasts")

    def _is_member(self, member: Membership) -> bool:
        return any((other.team_id, other.user_id) == (member.team_id, member.user_id) for other in self.members)

    def _give(self, asked: Asked, *, lasts: bool) -> None:
        team, user = asked.member.team_id, asked.member.user_id
        period, cap = Budget.objects.get(pk=team).period_id, self.book.cap(team, user)
        if asked.limit == "team":
            self.book.granted[team] += asked.amount
            self.book.expiring[period] += 0 if lasts else asked.amount
        elif not lasts:
            self.book.extra[period, user] += asked.amount
        elif cap is not None:
            self.book.caps[user] = cap + asked.amount

    @precondition(lambda self: self.book.asked)
    @rule(dies=dying("CP1", "CP2", "CP18"))
    def drafts_are_sent(self, dies: str) -> None:
        with self.process(dies):
            for pk in list(requests.due(timezone.now())):
                self._send_draft(pk)

    def _send_draft(self, pk: int) -> None:
        member, key = self.book.asked[pk].member, f"request:{pk}"
        press = self.book.presses.setdefault((member.team_id, key), Press(member, "", 1, dict(self.book.prices)))
        batch = requests.send_due(pk)
        if batch and press.batch:
            assert batch.pk == press.batch, f"request {pk} has sent its draft twice"
        elif batch:
            self._enter(press, batch)
        elif not press.batch:
            del self.book.presses[member.team_id, key]

    # --- Members go

    @precondition(lambda self: len(self.members) > 1)
    @rule(who=pick)
    def member_leaves(self, who: int) -> None:
        member = self.members.pop(who % len(self.members))
        self.gone.append(member)
        self.book.caps.pop(member.user_id, None)
        self.book.own_limits.pop(member.user_id, None)
        with self.process():
            assert forms_people.change_member(member, self.stage.owners[member.team_id], None) is None

    @precondition(lambda self: self.gone)
    @rule()
    def member_comes_back(self) -> None:
        gone = self.gone.pop()
        self.members.append(Membership.objects.create(team=gone.team, user=gone.user, role=gone.role))

    # --- Messages and time

    @precondition(lambda self: self.messages)
    @rule(which=pick, twice=st.booleans(), script=scripts, dies=deaths)
    def message_arrives(self, which: int, twice: bool, script: Script, dies: str) -> None:
        message = self._one(self.messages, which)
        if not twice:
            self.messages.remove(message)
        with self.process(dies):
            self._deliver(message, replace(script))

    @precondition(lambda self: len(self.book.holds) > len(self.book.ended))
    @rule(which=pick, script=scripts, dies=deaths)
    def task_falls_due(self, which: int, script: Script, dies: str) -> None:
        task = self._one(list(Task.objects.live()), which)
        with self.process(dies):
            self._deliver((State(task.state), task.pk, task.due_at), replace(script))

    @precondition(lambda self: self.messages)
    @rule()
    def messages_are_lost(self) -> None:
        self.messages.clear()

    @rule()
    def site_starts_again(self) -> None:
        self.messages.clear()
        lifecycle.wake()

    @rule(seconds=st.sampled_from([1, 4, 31, 61, 95, 400]))
    def time_passes(self, seconds: int) -> None:
        self.stage.time.shift(timedelta(seconds=seconds))

    @rule(dies=dying("CP13"))
    def clock_ticks(self, dies: str) -> None:
        with self.process(dies):
            self._tick()

    @precondition(lambda self: self.book.holds)
    @rule(rounds=st.integers(1, 4))
    def all_goes_well(self, rounds: int) -> None:
        """Nothing is lost and everyone answers, for a while."""
        with self.process():
            for _ in range(rounds):
                self.stage.time.shift(timedelta(seconds=11))
                self._clock_and_messages()

    @rule(team=pick, late=st.sampled_from([-1, 0, 1, 86_400, 40 * 86_400]))
    def month_ends(self, team: int, late: int) -> None:
        """Or very nearly, or long ago."""
        period = Budget.objects.get(pk=self._one(self.stage.teams, team).pk).period
        if period:
            self._pass_to(period.ends_at + timedelta(seconds=late))

    @rule()
    def clock_renews(self) -> None:
        with self.process():
            ledger.renew_due(timezone.now())
        assert not Budget.objects.filter(period__ends_at__lte=timezone.now()).exists()

    def _tick(self) -> None:
        for task_id, state, due_at in clock.due(timezone.now()):
            actors.send_due(state, task_id, due_at)

    def _clock_and_messages(self) -> None:
        self._after_commit()
        self._tick()
        self._after_commit()
        arrived, self.messages = self.messages, []
        for message in arrived:
            self._deliver(message, Script())

    def _deliver(self, message: tuple[State, int, datetime], script: Script) -> None:
        state, task, at = message
        self._pass_to(at)
        before, self.outside.script = self.outside.script, script
        self.outside.for_task(task, actors.LOOKERS[State(state)])
        self.outside.script = before

    def _pass_to(self, at: datetime) -> None:
        self.stage.time.move_to(max(at, timezone.now()), tick=False)

    # --- What happens while a provider thinks, or between a quote and its hold

    def meanwhile(self, name: str) -> None:
        if name:
            getattr(self, f"while_{name}")()

    def while_ring(self) -> None:
        for secret, (task, *_) in self.outside.secrets.items():
            if task == self.outside.asked[-1]:
                self._ring(secret, "success")

    def while_lease(self) -> None:
        self.stage.time.shift(timedelta(seconds=95))
        self._clock_and_messages()

    def while_give_up(self) -> None:
        for _ in range(8):
            self.while_lease()

    def while_press(self) -> None:
        for member in self.members[:1]:
            self._press(member, "", 2, next(self.keys))

    def while_cancel(self) -> None:
        if self.outside.asked[-1]:
            self._cancel(self.outside.asked[-1])

    def while_price(self) -> None:
        self._set_prices(25)

    def while_look(self) -> None:
        task = Task.objects.filter(pk=self.outside.asked[-1], state__in=LIVE).first()
        if task:
            self._deliver((State(task.state), task.pk, timezone.now()), Script())

    # --- Providers

    @precondition(lambda self: self.outside.secrets)
    @rule(which=pick, says=st.sampled_from(["success", "fail", "nonsense"]), dies=dying("CP11", "CP12"))
    def provider_rings(self, which: int, says: str, dies: str) -> None:
        """Early, late, again; and what it says need not be so."""
        with self.process(dies):
            self._ring(self._one(self._expected_rings() or list(self.outside.secrets), which), says)

    def _expected_rings(self) -> list[str]:
        """The secrets of those tasks whose id we were never told, where there are any."""
        unsure = set(Task.objects.filter(state=State.UNCERTAIN).values_list("pk", flat=True))
        return [secret for secret, (task, *_) in self.outside.secrets.items() if task in unsure]

    def _ring(self, secret: str, says: str) -> None:
        task, provider, upstream_id = self.outside.secrets[secret]
        data = {"taskId": upstream_id, "state": says, "resultJson": json.dumps({"resultUrls": [FILES + "forged"]})}
        body = b"\xff{" if says == "nonsense" else json.dumps({"code": 200, "data": data}).encode()
        found = lifecycle.ring(provider, secret, "POST", body)
        assert found, "a genuine ring was turned away"
        assert found[0] == task
        actors.kick(*found)

    @rule(secret=st.sampled_from(["", "guessed"]), which=pick)
    def stranger_rings(self, secret: str, which: int) -> None:
        """With a secret that is none, or at another provider's door with one that is."""
        if not secret and self.outside.secrets:
            secret = self._one(list(self.outside.secrets), which)
        assert lifecycle.ring("vtrix", secret, "POST", b'{"taskId": "up-1", "state": "success"}') is None

    # --- Admins

    @rule(
        team=pick,
        kind=st.sampled_from(["grant", "expiring", "revoke", "adjust up", "adjust down"]),
        amount=st.integers(1, 40),
        old=pick,
        dies=dying("CP15"),
    )
    def admin_changes_the_budget(self, team: int, kind: str, amount: int, old: int, dies: str) -> None:
        at = self._one(self.stage.teams, team)
        key, gives = self._admins_key(at.pk, old), kind in ("grant", "expiring", "adjust up")
        verb, amount = getattr(ledger, VERBS[kind]), -amount if kind == "adjust down" else amount
        extra = {"expires": True} if kind == "expiring" else {}
        post = functools.partial(verb, at, amount, actor=None, reason="why", key=key, **extra)
        if self._is_new(
            at.pk, VERBS[kind], amount, key, post, room=None if gives else self._available(at.pk), dies=dies
        ):
            self.book.granted[at.pk] += abs(amount) if gives else -abs(amount)
            self.book.taken_back[at.pk] += 0 if gives else abs(amount)
            if kind == "expiring":
                self.book.expiring[Budget.objects.get(pk=at.pk).period_id] += amount

    @precondition(lambda self: self.book.ended)
    @rule(which=pick, amount=st.integers(1, 12), old=pick, dies=dying("CP14"))
    def admin_refunds(self, which: int, amount: int, old: int, dies: str) -> None:
        task = Task.objects.select_related("team").get(pk=self._one(list(self.book.ended), which))
        key, actor = self._admins_key(task.team_id, old), self.stage.owners[task.team_id].user
        refund = functools.partial(lifecycle.refund, task, amount, actor=actor, reason="blurred", key=key)
        charged = self._charge({"id": task.pk, "state": task.state, "upstream_id": task.upstream_id})
        room = charged - self.book.refunded[task.pk]
        if self._is_new(task.team_id, "refund", amount, key, refund, room=room, dies=dies):
            self.book.refunded[task.pk] += amount

    def _admins_key(self, team: int, old: int) -> str:
        known = [key for at, key in self.book.posts if at == team and old % 3 == 0]
        return known[old % len(known)] if known else next(self.keys)

    def _is_new(self, team: int, kind: str, amount: int, key: str, post, *, room: int | None, dies: str) -> bool:
        """Post it, and judge the answer: no more than there is room for. Whether it counts, by the book."""
        known, outcome = self.book.posts.get((team, key)), None
        with self.process(dies):
            outcome = post()
        if outcome is None:  # died before it was written down
            return False
        accepted = isinstance(outcome, Entry)
        if known:
            assert accepted == (known == (kind, amount)), outcome
            return False
        assert accepted == (room is None or abs(amount) <= room), outcome
        if accepted:
            self.book.posts[team, key] = (kind, amount)
        return accepted

    @rule(who=pick, cap=st.sampled_from([None, "none", 0, 12, 24, 40]))
    def admin_caps_a_member(self, who: int, cap: int | str | None) -> None:
        if self.members:
            member = self._one(self.members, who)
            values = {"cap": None if cap == "none" else cap, "uncapped": cap == "none"}
            Membership.objects.filter(team=member.team, user=member.user).update(**values)
            self.book.caps[member.user_id] = cap

    @rule(team=pick, cap=st.sampled_from([None, 0, 12, 30]))
    def admin_caps_everyone(self, team: int, cap: int | None) -> None:
        at = self._one(self.stage.teams, team).pk
        Budget.objects.filter(pk=at).update(member_cap=cap)
        self.book.team_caps[at] = cap

    @rule(who=pick, limit=st.sampled_from([None, 0, 20]))
    def member_sets_own_limit(self, who: int, limit: int | None) -> None:
        if self.members:
            member = self._one(self.members, who)
            Membership.objects.filter(team=member.team, user=member.user).update(own_limit=limit)
            self.book.own_limits[member.user_id] = limit

    @rule(
        team=pick,
        day=st.sampled_from([1, 2, 28]),
        zone=st.sampled_from(["UTC", "Pacific/Auckland", "America/Sao_Paulo"]),
        allowance=st.sampled_from([0, 15, 40]),
        rolls_over=st.booleans(),
    )
    def admin_sets_rules(self, team: int, day: int, zone: str, allowance: int, rolls_over: bool) -> None:
        at = self._one(self.stage.teams, team)
        rules = {"start_day": day, "time_zone": zone, "allowance": allowance, "rolls_over": rolls_over}
        with self.process():
            ledger.set_rules(at, actor=self.stage.owners[at.pk].user, **rules, now=timezone.now())
        self._note_periods()  # those that were due have begun under the old rules
        self.book.rules[at.pk] = (allowance, rolls_over)

    @rule(credits=st.sampled_from([10, 3, 12, 25]), provider=st.sampled_from(list(PRICES)))
    def admin_edits_a_price(self, credits: int, provider: str) -> None:
        self._set_prices(credits, provider)

    def _set_prices(self, credits: int, *slugs: str) -> None:
        given = {"credits": credits, "published": True}
        for slug in slugs or PRICES:
            Price.objects.update_or_create(**PLACE, provider=slug, valid_from=timezone.now(), defaults=given)
            self.book.prices[slug] = credits

    @rule(provider=st.sampled_from(list(PRICES)), enabled=st.booleans(), concurrent=st.sampled_from([None, 1]))
    def admin_switches_an_account(self, provider: str, enabled: bool, concurrent: int | None) -> None:
        accounts.set_account(provider, enabled=enabled, concurrent=concurrent)

    # --- What holds at all times

    @invariant()
    def everything_adds_up(self) -> None:
        found = audit.ledger()
        assert not found, "; ".join(f"{one.invariant} task {one.task}: {one.message}" for one in found)
        self._note_periods()
        tasks = {task["id"]: task for task in Task.objects.values()}
        assert tasks.keys() == self.book.holds.keys(), "tasks that nobody asked for, or asked for and not there"
        self._sums_are_the_books(tasks)
        self._periods_are_the_books(tasks)
        self._entries_are_the_books(tasks)
        self._ends_stay(tasks)
        self._pages_were_told(tasks)
        twice = [task for task, times in self.outside.arrived.items() if times > 1]
        assert not twice, f"I16: providers were asked more than once for tasks {twice}"

    def _sums_are_the_books(self, tasks: dict[int, dict]) -> None:
        for budget in Budget.objects.all():
            told = self._sums(budget.team_id, tasks)
            assert (budget.granted, budget.held, budget.spent) == told, f"I2, I14: {budget}, by the book {told}"

    def _sums(self, team: int, tasks: dict[int, dict]) -> tuple[int, int, int]:
        """(granted, held, spent) by the book."""
        ours = [task for task in tasks.values() if task["team_id"] == team]
        held = sum(self._still_held(task) for task in ours)
        spent = sum(self._charge(task) - self.book.refunded[task["id"]] for task in ours)
        expired = sum(Period.objects.filter(team=team).values_list("expired", flat=True))
        return self.book.granted[team] - expired, held, spent

    def _note_periods(self) -> None:
        """A period after the first begins with the allowance of the rules that held until now."""
        for period in Period.objects.exclude(pk__in=self.book.opened).order_by("starts_at"):
            is_first = not Period.objects.filter(team=period.team_id, starts_at__lt=period.starts_at).exists()
            allowance, rolls_over = (0, True) if is_first else self.book.rules.get(period.team_id, (0, True))
            self.book.opened[period.pk] = allowance
            self.book.granted[period.team_id] += allowance
            self.book.expiring[period.pk] += 0 if rolls_over else allowance

    def _periods_are_the_books(self, tasks: dict[int, dict]) -> None:
        """What expires has gone when its period has, unless it was used, or taken back by an admin before."""
        current = dict(Budget.objects.values_list("pk", "period"))
        before: dict[int, Period] = {}
        for period in Period.objects.order_by("team", "starts_at"):
            last, before[period.team_id] = before.get(period.team_id), period
            assert last is None or last.ends_at == period.starts_at, "periods that overlap, or leave a gap"
            assert period.expiring == self.book.expiring[period.pk], f"of period {period.pk} expires {period.expiring}"
            if current[period.team_id] != period.pk:
                used = sum(self._still_held(t) + self._charge(t) for t in tasks.values() if t["period_id"] == period.pk)
                unused = max(0, period.expiring - used)
                least = max(0, unused - self.book.taken_back[period.team_id])
                assert least <= period.expired <= unused, f"{period.expired} of {unused} unused have expired"

    def _charge(self, task: dict) -> int:
        return self.book.charge(self.outside.jobs[task["upstream_id"]]) if task["state"] == State.DONE else 0

    def _available(self, team: int) -> int:
        self._note_periods()
        granted, held, spent = self._sums(team, {task["id"]: task for task in Task.objects.values()})
        return granted - held - spent

    def _entries_are_the_books(self, tasks: dict[int, dict]) -> None:
        lines = list(Entry.objects.order_by("id").values_list("id", "team_id", "task_id", "kind", "amount", "key"))
        assert lines[: len(self.book.lines)] == self.book.lines, "I9: a line of the ledger was changed"
        self.book.lines = lines
        for pk, task in tasks.items():
            assert task["price_credits"] == self.book.holds[pk], f"I15: the price of task {pk} has changed"
            outcome = [(kind, amount) for _, _, of, kind, amount, _ in lines if of == pk and kind != "refund"]
            assert outcome == [("hold", self.book.holds[pk]), *self._outcome(task)], f"I3, I4, I5: {task}"

    def _outcome(self, task: dict) -> list[tuple[str, int]]:
        if task["state"] in LIVE:
            return []
        return [("settle", self._charge(task))] if task["state"] == State.DONE else [("release", task["price_credits"])]

    def _ends_stay(self, tasks: dict[int, dict]) -> None:
        for pk, task in tasks.items():
            columns = {name: value for name, value in task.items() if name not in ("version", "refunded_credits")}
            if pk in self.book.ended:
                assert columns == self.book.ended[pk], f"I6: task {pk} has changed after its end"
            elif task["state"] in FINAL:
                self.book.ended[pk] = columns
                self._ended_for_a_reason(task)

    def _ended_for_a_reason(self, task: dict) -> None:
        """I18: by somebody who knows, and for something that was really said."""
        cause = Event.objects.get(task=task["id"], kind=task["state"]).cause
        if task["state"] == State.DONE:
            job = self.outside.jobs[task["upstream_id"]]
            assert (job.task, job.state) == (task["id"], "succeeded"), f"done, and it is {job}"
            assert task["id"] in self.outside.given, f"task {task['id']} is done, and nobody gave its picture"
        elif task["state"] == State.CANCELLED:
            assert cause == f"user {task['user_id']}"
        else:
            assert cause in CAUSES_OF_AN_END, f"I18: task {task['id']} has failed by {cause}"
            said = cause != "query answer" or task["id"] in self.outside.told_failed or task["fail_code"] == "no_urls"
            assert said, f"I18: no provider has said that task {task['id']} failed"

    def _pages_were_told(self, tasks: dict[int, dict]) -> None:
        versions = {pk: task["version"] for pk, task in tasks.items()}
        changed = {pk for pk in versions if versions[pk] != self.book.versions.get(pk)}
        assert changed <= self.told, f"nobody was told that tasks {changed - self.told} have changed"
        self.book.versions = versions
        self.told.clear()

    def _one(self, things: list, which: int) -> Any:
        return things[which % len(things)]
