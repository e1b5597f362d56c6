"""A team with a past: people, pictures, a ledger that adds up. For trying the app, for screenshots, for load tests.

What `lifecycle` would have done over weeks, one task at a time, is written here in bulk: the one other place that writes
entries and sums. `check_ledger` must find nothing afterwards (tests/test_demo.py). A chunk of tasks is one transaction and
complete in itself, and each begins after the last one's end, so the ledger's lines stand in the order of their time.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import chain, count, repeat
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db.models import F
from django.utils import timezone
from django.utils.text import slugify
from PIL import Image

from . import accounts, inserts, ledger, periods, pricing, providers, search, storage, traces
from .models import (
    Act,
    Attempt,
    Batch,
    Budget,
    Callback,
    CreditRequest,
    Entry,
    Event,
    Hosting,
    Membership,
    Period,
    Price,
    ProviderAccount,
    Reference,
    Role,
    State,
    Tally,
    Task,
    TaskReference,
    Team,
    Usage,
    User,
    write,
)
from .models.base import new_token, token_hash
from .orders import Order
from .providers.base import Capabilities, Kind
from .sandbox import drawing

SLUG = "demo"
SPAN_DAYS, BUSIEST_PER_DAY = 42, 4000  # more tasks than that on average make the past longer
ROWS_AT_ONCE = 1000  # tasks in one transaction: about a second's work, in which nobody else can write on SQLite
NOT_LATER_THAN = timedelta(hours=3)  # before now: every story has ended by then
PICTURE_SIDE_PX = 640  # of the square; others have as many pixels
VARIANTS = 2  # pictures drawn for each scene
DAY = timedelta(days=1)

NAMES = (
    "Ana",
    "Ben",
    "Cleo",
    "Dan",
    "Finn",
    "Gita",
    "Hugo",
    "Ines",
    "Jon",
    "Kaya",
    "Luca",
    "Mina",
    "Nils",
    "Olga",
    "Pia",
)
VIEWER = "Eve"

SCENES = (
    ("Harbour at dawn, flat gouache, three boats and a long jetty", "4:3"),
    ("Misty hills above a valley in October, seen from a night train", "16:9"),
    ("Poster for a jazz festival, geometric shapes in ochre, black and cream", "3:4"),
    ("Bowl of lemons on a blue kitchen table, hard morning light", "1:1"),
    ("Portrait of a lighthouse keeper, oil on linen, wind in her hair", "3:4"),
    ("City street after rain, neon in the puddles, no people", "16:9"),
    ("Botanical plate of a fern, ink and watercolour, on old paper", "9:16"),
    ("Sand dunes at noon with a single walker far away", "16:9"),
    ("Layered paper cut of a fox in a winter wood", "1:1"),
    ("Isometric castle of a small toy town, soft shadows", "1:1"),
    ("Silk in a draught, deep green, studio backdrop for a perfume", "9:16"),
    ("River seen from above, currents like brush strokes", "4:3"),
    ("Skyscrapers in fog, the top floors in sunlight", "9:16"),
    ("Garden full of flowers against a brick wall, late June", "4:3"),
)
EDITS = (  # of references 1 .. n
    ("Hang image 1 in a bright hallway, eye level, linen wall", "4:3", 1),
    ("Image 1 and image 2 as a pair of framed prints above a sofa", "16:9", 2),
)
VARIATIONS = ("", ", warmer", ", in the last light", ", fewer colours", ", wider, more sky", ", a touch more contrast")

# kind, code, message, cause; {name} is the provider's.
REFUSALS = (
    (Kind.MODERATION, "400", "{name} says: The prompt was flagged by the content filter.", "create refused"),
    (Kind.INPUT, "422", "{name} says: This aspect ratio is not supported for the model.", "create refused"),
)
FAILURES = (
    (Kind.PROVIDER, "501", "Image generation failed. Please try again.", "query answer"),
    (Kind.PROVIDER, "500", "Internal error, please try again later.", "query answer"),
    (Kind.MODERATION, "400", "The picture was withheld by the content filter.", "query answer"),
)
LOST = (
    Kind.BAD_REPLY,
    "result_lost",
    "The provider made this picture, but it could not be fetched: its address refuses us (403).",
    "fetch",
)
NEVER_CONFIRMED = (
    Kind.BAD_REPLY,
    "",
    "The provider never confirmed that it took this. Nothing was charged.",
    "give-up rule",
)
NOBODY_TOOK_IT = (
    Kind.MAINTENANCE,
    "",
    "No provider could take this for a quarter of an hour. Try again later, or ask a site admin.",
    "limit",
)

Fate = Callable[["Story", "Offer"], None]


def exists() -> bool:
    return Team.objects.filter(slug=SLUG).exists()


def make(
    *, members: int, tasks: int, credits: int, password: str, tell: Callable[[int], None] = lambda written: None
) -> list[Membership]:
    """The team, its people and its history. Returns the memberships, owner first, the viewer last.

    `tell` hears after each chunk how many tasks are written.
    """
    pricing.seed_prices()
    if not ProviderAccount.objects.filter(sandbox=True).exists():
        accounts.seed_sandbox("http://127.0.0.1:8000")  # `up` corrects the address when it starts
    with write():
        began = timezone.now() - (_span_days(tasks) + 2) * DAY
        team = Team.objects.create(name="Demo", slug=SLUG, created=began)
        Budget.objects.create(team=team)
        people = _people(team, members, password)
    rng = Random(SLUG)  # the same past each time
    shots = _shots(team, people, rng)
    scribe = _Scribe(team, people, shots, credits, rng)
    scribe.write_history(tasks, tell)
    _set_limits(people, scribe.period(timezone.now()))
    traces.leave(people, rng)
    return people


def _set_limits(people: Sequence[Membership], period: Period) -> None:
    """One member has a cap of a round number that is nearly used up, and has asked for more."""
    capped = [member for member in people if member.role == Role.MEMBER][:1]
    for member in capped:
        used = Usage.objects.filter(period=period, user=member.user).first() or Usage()
        cap = max(200, -(-used.used // 100) * 100)
        with write():
            Membership.objects.filter(pk=member.pk).update(cap=cap)
            note = f"{cap:,} credits a month. Was: no cap"
            Act.objects.record(people[0].user, "set the cap of", team=member.team, about=str(member.user), note=note)
            CreditRequest.objects.create(
                team=member.team,
                user=member.user,
                key=new_token(),
                limit=CreditRequest.Limit.MEMBER,
                amount=120,
                reason="Six more variants for the festival poster",
            )


# --- People ----------------------------------------------------------------------------------------------------------


def _people(team: Team, members: int, password: str) -> list[Membership]:
    """Owner, admin, members and a viewer. Somebody who is here already keeps account and password."""
    roles = [Role.OWNER, Role.ADMIN, *[Role.MEMBER] * (members - 2)][:members]
    cast = [*zip(_names(members), roles, strict=True), (VIEWER, Role.VIEWER)]
    here = {user.email: user for user in User.objects.filter(email__in=[_email(name) for name, _ in cast])}
    secret = make_password(password)  # hashing is slow on purpose: once for all
    new = [_person(name, role, secret, team) for name, role in cast if _email(name) not in here]
    here |= {user.email: user for user in User.objects.bulk_create(new)}
    rows = [Membership(team=team, user=here[_email(name)], role=role, joined=team.created) for name, role in cast]
    return Membership.objects.bulk_create(rows)


def _names(members: int) -> list[str]:
    """Ana, Ben, ... Pia, Ana 2, Ben 2, ..."""
    rounds = (divmod(number, len(NAMES)) for number in range(members))
    return [NAMES[place] if not again else f"{NAMES[place]} {again + 1}" for again, place in rounds]


def _email(name: str) -> str:
    return f"{slugify(name)}@example.com"


def _person(name: str, role: Role, secret: str, team: Team) -> User:
    is_site_admin = role == Role.OWNER
    return User(email=_email(name), name=name, password=secret, is_site_admin=is_site_admin, last_team=team)


# --- Pictures --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """A prompt and a picture for it, stored once and shared by many tasks."""

    prompt: str
    aspect_ratio: str
    stored: storage.Stored
    references: tuple[Reference, ...] = ()


def _shots(team: Team, people: Sequence[Membership], rng: Random) -> list[list[Shot]]:
    """The pictures of each scene, drawn side by side on all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        plain = list(pool.map(partial(_scene_shots, team), SCENES))
        references = [_reference(team, rng.choice(people[:2]), shots[0]) for shots in plain[: EDITS[-1][2]]]
        edits = list(pool.map(partial(_edit_shots, team, references), EDITS))
    return [*plain, *edits]


def _scene_shots(team: Team, scene: tuple[str, str]) -> list[Shot]:
    prompt, ratio = scene
    return [Shot(prompt, ratio, _drawn(team, prompt, ratio, seed, ())) for seed in range(VARIANTS)]


def _edit_shots(team: Team, references: Sequence[Reference], edit: tuple[str, str, int]) -> list[Shot]:
    prompt, ratio, many = edit
    used = tuple(references[:many])
    return [Shot(prompt, ratio, _drawn(team, prompt, ratio, seed, used), used) for seed in range(VARIANTS)]


def _drawn(team: Team, prompt: str, ratio: str, seed: int, references: Sequence[Reference]) -> storage.Stored:
    """Stored as the results of task 0, which no task is: they belong to many."""
    pictures = [_opened(reference.key) for reference in references]
    wide, high = (int(part) for part in ratio.split(":"))
    size = (round(PICTURE_SIDE_PX * math.sqrt(wide / high)), round(PICTURE_SIDE_PX * math.sqrt(high / wide)))
    file = io.BytesIO()
    drawing.draw(prompt, seed, pictures, size).save(file, "JPEG", quality=90)
    return storage.store_result(Task(pk=0, team_id=team.pk), file.getvalue())


def _opened(key: str) -> Image.Image:
    with storage.open_file(key) as file:
        return Image.open(file).convert("RGB")


def _reference(team: Team, member: Membership, shot: Shot) -> Reference:
    name = f"{slugify(shot.prompt.split(',')[0])}.jpg"
    reference = storage.save_reference(team, member.user, io.BytesIO(shot.stored.picture.data), name)
    Reference.objects.filter(pk=reference.pk).update(created=team.created)
    return reference


# --- One task's story ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Offer:
    """Where a shot could have been made, and for how much."""

    account: ProviderAccount
    able: Capabilities
    family: str
    resolution: str
    credits: int


@dataclass
class Story:
    """One task from the button to its end, before it is written down. `at` is where the telling has got to."""

    task: Task
    batch: Batch
    user: User
    shot: Shot
    at: datetime
    events: list[Event] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)
    retry_of: Story | None = None

    def goes(self, after_s: float, state: State, cause: str, note: str = "") -> None:
        """The next state, so many seconds later."""
        self.at += timedelta(seconds=after_s)
        self.task.state, self.task.state_since = state, self.at
        self.task.version += 1
        self.notes(state, cause, note)

    def notes(self, kind: str, cause: str, note: str = "") -> None:
        self.events.append(inserts.row(Event, at=self.at, kind=kind, cause=cause, note=note))


class _Teller:
    """Invents stories, each as lifecycle.py would have let it happen."""

    def __init__(self, team: Team, shots: Sequence[Sequence[Shot]], second_tries: int, rng: Random) -> None:
        self._team, self._rng, self._numbers = team, rng, count(1)
        self._second_tries = second_tries
        self._run = new_token()[:6]  # so that the ids of two demo teams, one after the other, never meet
        self._scenes = list(shots)
        self._offers = {shots[0].prompt: _offers(shots[0]) for shots in self._scenes}
        self._fates = self._in_shares(
            {
                self._is_done: 86,
                self._is_refused: 3,
                self._fails_there: 4,
                self._is_lost: 1,
                self._is_never_confirmed: 1,
                self._is_taken_by_nobody: 1,
                self._is_cancelled: 4,
            }
        )

    @staticmethod
    def _in_shares(shares: dict[Fate, int]) -> list[Fate]:
        """How tasks go: each fate as often as its share."""
        return [fate for fate, share in shares.items() for _ in range(share)]

    def press(self, at: datetime, user: User, many: int) -> list[Story]:
        """One press of the button, `many` pictures; after a failure sometimes another try."""
        shots = self._rng.choice(self._scenes)
        offer, asked = self._chosen(shots[0])
        order = self._order(shots[0], offer, asked, many)
        batch = inserts.row(
            Batch, team=self._team, user=user, key=new_token(), fingerprint=order.fingerprint, created=at
        )
        stories = [self._story(order, offer, batch, shots[n % len(shots)]) for n in range(many)]
        for number, story in enumerate(stories, 1):
            story.task.batch_number, story.task.batch_size = number, many
        again = [self._again(story, order, offer) for story in stories if self._is_tried_again(story)]
        return stories + again

    def _chosen(self, shot: Shot) -> tuple[Offer, str]:
        """Somebody chose the provider, or nobody did: then the cheapest one that makes the same has it."""
        offer = self._rng.choice(self._offers[shot.prompt])
        if self._rng.random() < 0.6:
            return offer, offer.account.provider
        same = [o for o in self._offers[shot.prompt] if (o.family, o.resolution) == (offer.family, offer.resolution)]
        return min(same, key=lambda o: o.credits), ""

    def _order(self, shot: Shot, offer: Offer, asked: str, many: int) -> Order:
        rng, extras = self._rng, offer.able.extras if asked else ()
        return Order(
            prompt=shot.prompt + rng.choice(VARIATIONS),
            family=offer.family,
            aspect_ratio=shot.aspect_ratio,
            resolution=offer.resolution,
            count=many,
            provider=asked,
            seed=rng.randrange(2**32) if "seed" in extras and rng.random() < 0.4 else None,
            references=tuple(reference.pk for reference in shot.references),
        )

    def _story(self, order: Order, offer: Offer, batch: Batch, shot: Shot) -> Story:
        story = Story(self._task(order, offer, batch), batch, batch.user, shot, batch.created)  # type: ignore[arg-type]
        story.notes(State.QUEUED, f"user {story.user.pk}")
        self._rng.choice(self._fates)(story, offer)
        story.task.finished_at = story.at
        return story

    def _task(self, order: Order, offer: Offer, batch: Batch) -> Task:
        return inserts.row(
            Task,
            team=self._team,
            user=batch.user,
            created=batch.created,
            due_at=None,
            prompt=order.prompt,
            family=order.family,
            aspect_ratio=order.aspect_ratio,
            resolution=order.resolution,
            seed=order.seed,
            reference_count=len(order.references),
            provider=order.provider,
            price_credits=offer.credits,
        )

    def _is_tried_again(self, story: Story) -> bool:
        tried = story.task.state == State.FAILED and self._second_tries > 0 and self._rng.random() < 0.5
        self._second_tries -= tried
        return tried

    def _again(self, first: Story, order: Order, offer: Offer) -> Story:
        at = first.at + timedelta(seconds=self._rng.uniform(10, 120))
        batch = inserts.row(
            Batch, team=self._team, user=first.user, key=new_token(), fingerprint=order.fingerprint, created=at
        )
        story = self._story(order, offer, batch, first.shot)
        story.retry_of = first
        return story

    # Fates: each ends the story.

    def _is_done(self, story: Story, offer: Offer) -> None:
        if self._rng.random() < 0.04:
            self._is_refused_for_now(story, offer)
        self._is_accepted(story, offer)
        self._is_made(story, offer)
        task = story.task
        if offer.account.provider == "vtrix":  # the one that tells its cost
            task.cost_usd = offer.credits * settings.CREDIT_USD * Decimal(self._rng.choice(("0.84", "0.96", "1")))
        task.charged_credits = pricing.charge(
            task.price_credits, task.price_credits, task.cost_usd, settings.CREDIT_USD
        )
        story.goes(self._rng.uniform(0.4, 2.5), State.DONE, "fetch")

    def _is_refused(self, story: Story, offer: Offer) -> None:
        self._is_sent(story, offer, Attempt.Outcome.REFUSED)
        self._fails(story, offer, 0.8, self._rng.choice(REFUSALS))

    def _fails_there(self, story: Story, offer: Offer) -> None:
        self._is_accepted(story, offer)
        self._fails(story, offer, self._rng.uniform(8, 60), self._rng.choice(FAILURES))

    def _is_lost(self, story: Story, offer: Offer) -> None:
        self._is_accepted(story, offer)
        self._is_made(story, offer)
        self._fails(story, offer, 9, LOST)

    def _is_never_confirmed(self, story: Story, offer: Offer) -> None:
        self._is_sent(story, offer, Attempt.Outcome.AMBIGUOUS)
        story.goes(60, State.UNCERTAIN, "create answer", "the answer never came")
        self._fails(story, offer, 1860, NEVER_CONFIRMED)

    def _is_taken_by_nobody(self, story: Story, offer: Offer) -> None:
        self._fails(story, offer, 910, NOBODY_TOOK_IT)

    def _is_cancelled(self, story: Story, offer: Offer) -> None:
        story.goes(self._rng.uniform(2, 9), State.CANCELLED, f"user {story.user.pk}", "cancelled by its sender")

    # Steps on the way.

    def _is_sent(self, story: Story, offer: Offer, outcome: Attempt.Outcome) -> Attempt:
        story.goes(self._rng.uniform(0.1, 1.5), State.SUBMITTING, f"chose {offer.account}")
        story.task.account = offer.account
        attempt = inserts.row(
            Attempt,
            number=len(story.attempts) + 1,
            account=offer.account,
            key_version=1,
            secret_hash=token_hash(new_token()),
            lease_until=story.at + timedelta(seconds=settings.SUBMIT_LEASE_S),
            with_callback=offer.able.callback,
            outcome=outcome,
            price_credits=offer.credits,
            list_usd=offer.credits * settings.CREDIT_USD,
            created=story.at,
            answered_at=story.at + timedelta(seconds=0.8),
        )
        story.attempts.append(attempt)
        return attempt

    def _is_refused_for_now(self, story: Story, offer: Offer) -> None:
        self._is_sent(story, offer, Attempt.Outcome.REFUSED)
        note = f"{offer.account}: {providers.get(offer.account.provider).name} says: Too many requests."
        story.goes(0.8, State.QUEUED, "create answer", note)
        story.at += timedelta(seconds=10)

    def _is_accepted(self, story: Story, offer: Offer) -> None:
        attempt = self._is_sent(story, offer, Attempt.Outcome.ACCEPTED)
        attempt.upstream_id = story.task.upstream_id = f"demo-{self._run}-{next(self._numbers)}"
        story.goes(0.8, State.RUNNING, "create answer")
        story.task.accepted_at = story.at

    def _is_made(self, story: Story, offer: Offer) -> None:
        task, attempt = story.task, story.attempts[-1]
        task.provider_s = round(self._rng.lognormvariate(math.log(offer.able.usual_s), 0.35), 1)
        story.at += timedelta(seconds=task.provider_s)
        if attempt.with_callback:
            self._rings(story, attempt)
        task.result_urls = [f"{offer.account.base_url}/files/{task.upstream_id}.jpg"]
        story.goes(0.2, State.SAVING, "query answer")

    def _rings(self, story: Story, attempt: Attempt) -> None:
        body = json.dumps({"taskId": attempt.upstream_id, "state": "success"}).encode()
        attempt.rung_at, attempt.burst = story.at, 1
        came = {"provider": attempt.account.provider, "method": "POST", "body": body, "size_bytes": len(body)}
        story.callbacks.append(inserts.row(Callback, attempt=attempt, received=story.at, **came))
        story.notes("callback", attempt.account.provider)

    def _fails(self, story: Story, offer: Offer, after_s: float, failure: tuple[Kind, str, str, str]) -> None:
        kind, code, message, cause = failure
        task = story.task
        task.fail_kind, task.fail_code = kind, code
        task.fail_message = message.format(name=providers.get(offer.account.provider).name)
        story.goes(after_s, State.FAILED, cause, task.fail_message)


def _offers(shot: Shot) -> list[Offer]:
    """What can make this picture, at today's prices."""
    prices = {(row.provider, row.family, row.resolution): row for row in Price.objects.in_force(timezone.now())}
    sandbox = ProviderAccount.objects.filter(sandbox=True)
    able = [(account, accounts.capabilities(account)) for account in sandbox]
    return [
        Offer(account, can, family, resolution, row.credits + row.credits_per_reference * len(shot.references))
        for account, can in able
        if shot.aspect_ratio in can.aspect_ratios
        for family in can.families
        for resolution in can.resolutions
        if (row := prices.get((account.provider, family, resolution)))
    ]


# --- Writing it down ---------------------------------------------------------------------------------------------------


class _Scribe:
    """Writes stories down, chunk by chunk, with the ledger's lines in the order of their time."""

    def __init__(
        self, team: Team, people: Sequence[Membership], shots: Sequence[Sequence[Shot]], credits: int, rng: Random
    ) -> None:
        self._team, self._credits, self._rng = team, credits, rng
        self._owner = people[0].user
        self._makers = [member.user for member in people if member.may_make]
        self._shots = shots
        self._available = 0
        self._written_until = team.created
        self._periods: dict[datetime, Period] = {}

    def write_history(self, tasks: int, tell: Callable[[int], None]) -> None:
        self._grant(self._credits, "the team's budget")
        written, chunk = 0, list[Story]()
        for told in self._told(tasks):
            chunk += told[: tasks - written - len(chunk)]
            is_last = written + len(chunk) == tasks
            if is_last or len(chunk) >= ROWS_AT_ONCE:
                self._write(chunk)
                written, chunk = written + len(chunk), []
                tell(written)
            if is_last:
                return

    def _told(self, tasks: int) -> Iterator[list[Story]]:
        """Press by press, at least so many stories, some of them second tries; the last day takes what is missing."""
        second_tries = tasks // 30
        teller = _Teller(self._team, self._shots, second_tries, self._rng)
        last = (timezone.now() - NOT_LATER_THAN, 1)
        for at, many in chain(_presses(tasks - second_tries, self._rng), repeat(last)):
            yield teller.press(max(at, self._written_until), self._rng.choice(self._makers), many)

    def _grant(self, amount: int, reason: str) -> None:
        self._available += amount
        with write():
            Budget.objects.filter(team=self._team).update(granted=F("granted") + amount)
            Entry.objects.create(
                team=self._team,
                kind=Entry.Kind.GRANT,
                amount=amount,
                available_after=self._available,
                actor=self._owner,
                actor_label=str(self._owner),
                reason=reason,
                key=f"demo:{new_token()}",
                created=self._written_until,
            )

    def _write(self, stories: list[Story]) -> None:
        needed = sum(story.task.price_credits for story in stories)
        if needed > self._available:
            self._grant(max(self._credits, needed - self._available), "more, for a busy team")
        stories.sort(key=lambda story: story.task.created)
        with write():
            for story in stories:
                story.task.period = self.period(story.task.created)
            _write_tasks(stories)
            _write_attempts(stories)
            _write_pictures(stories)
            inserts.insert(_events(stories))
            self._write_money(stories)
        latest = timezone.now() - NOT_LATER_THAN
        self._written_until = min(latest, max((story.at for story in stories), default=self._written_until))

    def _write_money(self, stories: list[Story]) -> None:
        entries = sorted((line for story in stories for line in _entries(story)), key=lambda entry: entry.created)
        for entry in entries:
            self._available += _change(entry)
            entry.available_after = self._available
        inserts.insert(entries)
        spent = sum(story.task.charged_credits or 0 for story in stories)
        Budget.objects.filter(team=self._team).update(spent=F("spent") + spent)
        _write_usage(stories)
        _write_tallies(stories)

    def period(self, at: datetime) -> Period:
        """The month of this moment; the last one asked for is the team's current one."""
        starts_at, ends_at = periods.around(at, 1, ZoneInfo("UTC"))
        if starts_at not in self._periods:
            defaults = {"ends_at": ends_at}
            period, _ = Period.objects.get_or_create(team=self._team, starts_at=starts_at, defaults=defaults)
            Budget.objects.filter(team=self._team).update(period=period)
            self._periods[starts_at] = period
        return self._periods[starts_at]


def _write_usage(stories: Iterable[Story]) -> None:
    spent: Counter[tuple[Period, User]] = Counter()
    for story in stories:
        spent[story.task.period, story.user] += story.task.charged_credits or 0  # type: ignore[index]
    for (period, user), credits in spent.items():
        usage, _ = Usage.objects.get_or_create(period=period, user=user)
        Usage.objects.filter(pk=usage.pk).update(spent=F("spent") + credits)


def _write_tallies(stories: Sequence[Story]) -> None:
    sums: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for story in stories:
        task = story.task
        provider = task.account.provider if task.account else ""
        kind = (provider, task.family, task.mode, task.resolution)
        place: tuple[Any, ...] = (task.team, story.user, story.at.date(), *kind)
        sums[place].update({task.state: 1, "credits": task.charged_credits or 0})
        if task.state == State.DONE:
            sums[place].update({"references": task.reference_count, "cost_usd": _cost_usd(task)})
    names = ("team", "user", "day", "provider", "family", "mode", "resolution")
    tallies = [Tally(**dict(zip(names, place, strict=True)), **more) for place, more in sums.items()]
    inserts.add_up(tallies, once=names, sums=("done", "failed", "cancelled", "references", "credits", "cost_usd"))


def _cost_usd(task: Task) -> Decimal:
    """What the provider told, or what so many credits are worth: the demo's suppliers list just that."""
    return task.cost_usd or task.price_credits * settings.CREDIT_USD


def _presses(tasks: int, rng: Random) -> Iterator[tuple[datetime, int]]:
    """When the button was pressed, and for how many pictures: on workdays, more of late."""
    sizes: list[int] = []
    while tasks > 0:
        sizes.append(min(tasks, rng.choice((1, 1, 1, 1, 2, 2, 4))))
        tasks -= sizes[-1]
    now, days = timezone.now(), _span_days(sum(sizes))
    times = sorted(_moment(now, days, rng) for _ in sizes)
    return zip(times, sizes, strict=True)


def _span_days(tasks: int) -> float:
    return max(SPAN_DAYS, tasks / BUSIEST_PER_DAY)


def _moment(now: datetime, span_days: float, rng: Random) -> datetime:
    """In office hours of one of the last days. Weekends are quiet."""
    while True:
        days = span_days * rng.random() ** 1.2
        at = now.replace(hour=0, minute=0) - int(days) * DAY + timedelta(hours=rng.triangular(7, 20, 11))
        is_quiet = at.weekday() >= 5 and rng.random() < 0.85
        if at < now - NOT_LATER_THAN and not is_quiet:
            return at


def _write_tasks(stories: list[Story]) -> None:
    inserts.insert({id(story.batch): story.batch for story in stories}.values())
    inserts.number([story.task for story in stories])
    for story in stories:
        story.task.batch = story.batch
        if story.retry_of:
            story.task.parent = story.retry_of.task
    inserts.insert(story.task for story in stories)
    search.put((story.task.pk, story.task.team_id, _words(story)) for story in stories)


def _words(story: Story) -> str:
    return " ".join([story.task.prompt, *(reference.name for reference in story.shot.references)])


def _write_attempts(stories: list[Story]) -> None:
    for story in stories:
        for attempt in story.attempts:
            attempt.task = story.task
    inserts.insert(attempt for story in stories for attempt in story.attempts)
    inserts.insert(callback for story in stories for callback in story.callbacks)


def _write_pictures(stories: list[Story]) -> None:
    done = [story for story in stories if story.task.state == State.DONE]
    results = [storage.result_row(story.task, story.shot.stored) for story in done]
    for story, result in zip(done, results, strict=True):
        result.created = story.at
    inserts.insert(results)
    uses = [(story, number, one) for story in stories for number, one in enumerate(story.shot.references, 1)]
    inserts.insert(inserts.row(TaskReference, task=s.task, reference=one, number=n) for s, n, one in uses)
    inserts.insert(_hosting(story, reference) for story, _, reference in uses)


def _hosting(story: Story, reference: Reference) -> Hosting:
    closes_at = story.at + timedelta(seconds=settings.HOSTED_OPEN_S)
    created = story.task.created
    return inserts.row(
        Hosting, token=new_token(), reference=reference, task=story.task, created=created, closes_at=closes_at
    )


def _events(stories: Iterable[Story]) -> list[Event]:
    for story in stories:
        for event in story.events:
            event.task = story.task
    return sorted((event for story in stories for event in story.events), key=lambda event: event.at)


def _entries(story: Story) -> Iterator[Entry]:
    task = story.task
    yield _entry(story, Entry.Kind.HOLD, task.price_credits, task.created, "asked for a picture", actor=story.user)
    if task.charged_credits is not None:
        yield _entry(story, Entry.Kind.SETTLE, task.charged_credits, story.at, "picture stored")
    else:
        reason = task.fail_message or "cancelled by its sender"
        yield _entry(story, Entry.Kind.RELEASE, task.price_credits, story.at, reason)


def _entry(
    story: Story, kind: Entry.Kind, amount: int, at: datetime, reason: str, *, actor: User | None = None
) -> Entry:
    return inserts.row(
        Entry,
        team_id=story.task.team_id,
        task=story.task,
        kind=kind,
        amount=amount,
        actor=actor,
        actor_label=str(actor) if actor else ledger.SYSTEM,
        reason=reason[:200],
        key=f"{kind}:{story.task.pk}",
        created=at,
    )


def _change(entry: Entry) -> int:
    """What a line does to the credits that are free."""
    if entry.kind == Entry.Kind.HOLD:
        return -entry.amount
    if entry.kind == Entry.Kind.RELEASE:
        return entry.amount
    return entry.task.price_credits - entry.amount if entry.task else 0
