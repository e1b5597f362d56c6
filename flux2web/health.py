"""How each account has done here in the last 24 hours: what routing, the provider page and the cards go by.

`take_stock` writes the record down that routing reads; `count_failure` counts what leaves no row of its own; `today` and
`failures` are asked for by the provider's page alone; `silent` finds who should ring and does not.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from django.db.models import Count, Exists, F, OuterRef, QuerySet, Sum
from django.utils import timezone

from .models import Attempt, Callback, Failures, ProviderAccount, RoutingRule, State, Task, write
from .models.tasks import IN_FLIGHT
from .providers.base import Kind

HOURS = 24
SAMPLE_MAX = 2000  # newest pictures whose seconds are looked at
KNOWN_FROM = 5  # tasks; fewer say nothing about an account
SLOW_TIMES = 3  # whoever takes so many times what the others take is not well
RINGS_SAMPLE = 20  # newest tasks: who stops ringing is known for it after a few
RINGS_PERCENT = 90  # of them; whoever rings for fewer is asked instead
# Failures that speak of the provider, not of what was asked for (providers.base.Kind).
ITS_FAULT = ("auth", "balance", "rate", "maintenance", "provider", "bad_reply")


@dataclass(frozen=True)
class Record:
    """Tasks that ended in the last 24 hours, and what its finished pictures took. Seconds are None until there are some."""

    done: int = 0
    failed: int = 0  # through its own fault
    median_s: float | None = None
    p90_s: float | None = None
    rings_percent: int | None = None  # of its newest tasks that it was to ring for, for how many it did before the end
    slow: bool = False  # beside the others

    @property
    def total(self) -> int:
        return self.done + self.failed

    @property
    def share_percent(self) -> int | None:
        """Of its tasks, how many ended well; None while there are too few to tell."""
        return round(100 * self.done / self.total) if self.total >= KNOWN_FROM else None


def record_of(account: ProviderAccount) -> Record:
    known = {name: account.record.get(name, default) for name, default in asdict(Record()).items()}
    return Record(**known)


def is_healthy(account: ProviderAccount, rule: RoutingRule) -> bool:
    """Well until known otherwise."""
    record = record_of(account)
    return not record.slow and (record.share_percent is None or record.share_percent >= rule.healthy_percent)


def rings(account: ProviderAccount) -> bool:
    """Whether its callbacks come, so that nobody needs to ask before a picture's usual time is over."""
    record = record_of(account)
    return record.median_s is not None and (record.rings_percent or 0) >= RINGS_PERCENT


def take_stock(now: datetime | None = None) -> None:
    """Work out every account's record anew, and forget what was counted before it. For the clock."""
    now = now or timezone.now()
    Failures.objects.filter(hour__lte=now - timedelta(hours=HOURS)).delete()
    for sandbox in (False, True):
        rows = ProviderAccount.objects.filter(sandbox=sandbox)
        records = {account.pk: measure(account, now - timedelta(hours=HOURS)) for account in rows}
        for pk, record in records.items():
            others = [other for key, other in records.items() if key != pk]
            found = asdict(replace(record, slow=_is_slow(record, others)))
            ProviderAccount.objects.filter(pk=pk).update(record=found, recorded_at=now)


def _is_slow(record: Record, others: list[Record]) -> bool:
    """Beside the median of the others, of those that are known."""
    known = [other.median_s for other in others if other.median_s is not None]
    return record.median_s is not None and bool(known) and record.median_s > SLOW_TIMES * statistics.median(known)


def measure(account: ProviderAccount, since: datetime) -> Record:
    ended = Task.objects.filter(account=account, finished_at__gte=since)
    seconds, failed = _seconds(ended), ended.filter(state=State.FAILED, fail_kind__in=ITS_FAULT)
    return Record(
        done=ended.filter(state=State.DONE).count(),
        failed=failed.count() + _passed_on(account, since) + _unanswered(account, since),
        median_s=round(statistics.median(seconds), 1) if len(seconds) >= KNOWN_FROM else None,
        p90_s=round(statistics.quantiles(seconds, n=10)[-1], 1) if len(seconds) >= KNOWN_FROM else None,
        rings_percent=_rings_percent(account, since),
    )


def _passed_on(account: ProviderAccount, since: datetime) -> int:
    """Tasks that it failed and another took over."""
    refused = Attempt.objects.filter(account=account, created__gte=since, refused_kind="provider")
    return refused.exclude(task__account=F("account")).count()


def _unanswered(account: ProviderAccount, since: datetime) -> int:
    """Creates that it answered in no readable way, of tasks that have not ended: their end is half an hour away."""
    lost = Attempt.objects.filter(account=account, created__gte=since, outcome=Attempt.Outcome.AMBIGUOUS)
    return lost.filter(task__finished_at=None).count()


def _rings_percent(account: ProviderAccount, since: datetime) -> int | None:
    """A ring after the end told nothing: whoever always rings late would never be asked again."""
    in_time = Callback.objects.filter(attempt=OuterRef("pk"), received__lte=OuterRef("task__finished_at"))
    in_time = in_time.exclude(signature=Callback.Signature.BAD)  # such a ring makes nobody look
    to_ring = account.attempts.filter(with_callback=True, outcome=Attempt.Outcome.ACCEPTED)
    ended = to_ring.filter(created__gte=since, task__finished_at__isnull=False).order_by("-created")
    rung = list(ended.annotate(rung=Exists(in_time)).values_list("rung", flat=True)[:RINGS_SAMPLE])
    return round(100 * sum(rung) / len(rung)) if len(rung) >= KNOWN_FROM else None


def _seconds(ended) -> list[float]:
    rows = ended.filter(state=State.DONE, provider_s__isnull=False).order_by("-finished_at")
    return list(rows.values_list("provider_s", flat=True)[:SAMPLE_MAX])


def count_failure(account_id: int, kind: str) -> None:
    """A look or a fetch that failed, by what it was. One UPDATE, and no task's row is held meanwhile."""
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    mine = Failures.objects.filter(account=account_id, hour=hour, kind=kind)
    with write():
        if not mine.update(total=F("total") + 1):
            first = Failures(account_id=account_id, hour=hour, kind=kind)
            Failures.objects.bulk_create([first], ignore_conflicts=True)
            mine.update(total=F("total") + 1)


# --- For the provider's page -------------------------------------------------------------------------------------------

Outcome = Attempt.Outcome
NOT_TAKEN = (Outcome.REFUSED, Outcome.NOT_SENT, Outcome.AMBIGUOUS)
WORDS = {  # what went wrong, in the order of the page
    "auth": "Key refused",
    "balance": "No money left there",
    "rate": "Too fast for it",
    "maintenance": "Closed for now",
    "provider": "It failed",
    "bad_reply": "Answer not readable",
    "input": "Request not accepted",
    "moderation": "Moderated",
    "not_sent": "Not reached",
    "ambiguous": "No answer to the create",
    "no_answer": "No answer in time",
    "gone": "Picture not there any more",
    "unreachable": "Picture not fetched",
    "no_picture": "What came is no picture",
    "forbidden": "Picture’s address not allowed",
    "": "Refused",  # before kinds were written down
}
STEPS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200)
BARS = 10
FAILURES_DAYS = 30


@dataclass(frozen=True)
class Trouble:
    """One way in which something went wrong today: how often at the create, how often when we asked how it stands or
    fetched the picture, and how many tasks failed of it after they were accepted."""

    word: str
    sending: int
    looking: int
    drawing: int


@dataclass(frozen=True)
class Today:
    """The last 24 hours of an account: its creates, what went wrong, how long its pictures took."""

    creates: int
    accepted: int
    troubles: list[Trouble]
    waits: list[tuple[str, int]]  # ("10–20 s", pictures)
    in_flight: int


def today(account: ProviderAccount, now: datetime) -> Today:
    since = now - timedelta(hours=HOURS)
    attempts = Attempt.objects.filter(account=account, created__gte=since).order_by()
    sent = [
        (row["outcome"], row["refused_kind"], row["total"])
        for row in attempts.values("outcome", "refused_kind").annotate(total=Count("pk"))
    ]
    ended = Task.objects.filter(account=account, finished_at__gte=since)
    return Today(
        creates=sum(total for _, _, total in sent),
        accepted=sum(total for outcome, _, total in sent if outcome == Outcome.ACCEPTED),
        troubles=_troubles(sent, _failed_looks(account, since), _failed_later(ended)),
        waits=waits(_seconds(ended)),
        in_flight=Task.objects.filter(account=account, due_at__isnull=False, state__in=IN_FLIGHT).count(),
    )


def _failed_later(ended: QuerySet[Task]) -> dict[str, int]:
    """Failures of what had been accepted, by kind."""
    failed = ended.filter(state=State.FAILED, accepted_at__isnull=False).order_by()
    return {row["fail_kind"]: row["total"] for row in failed.values("fail_kind").annotate(total=Count("pk"))}


def _failed_looks(account: ProviderAccount, since: datetime) -> dict[str, int]:
    """By kind, of the hours that began since."""
    rows = Failures.objects.filter(account=account, hour__gt=since).values("kind").annotate(sum=Sum("total"))
    return {row["kind"]: row["sum"] for row in rows}


def _troubles(sent: list[tuple[str, str, int]], looks: dict[str, int], later: dict[str, int]) -> list[Trouble]:
    at_create: dict[str, int] = {}
    for outcome, kind, total in sent:
        if outcome in NOT_TAKEN:
            what = kind if outcome == Outcome.REFUSED else outcome
            at_create[what] = at_create.get(what, 0) + total
    return [
        Trouble(word, at_create.get(kind, 0), looks.get(kind, 0), later.get(kind, 0))
        for kind, word in WORDS.items()
        if kind in at_create or kind in looks or kind in later
    ]


def waits(seconds: list[float]) -> list[tuple[str, int]]:
    """How many pictures took how long, in at most BARS + 1 equal steps; the last one holds whatever took longer."""
    if not seconds:
        return []
    longest = max(seconds)
    step = next((each for each in STEPS_S if each * BARS > longest), STEPS_S[-1])
    slots = Counter(min(int(each / step), BARS) for each in seconds)
    return [(_span(slot, step), slots[slot]) for slot in range(max(slots) + 1)]


def _span(slot: int, step: int) -> str:
    if slot == BARS:
        return f"over {_time(slot * step)}"
    return f"{slot * step}–{_time((slot + 1) * step)}" if step < 60 else f"to {_time((slot + 1) * step)}"


def _time(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds >= 60 and seconds % 60 == 0 else f"{seconds} s"


@dataclass(frozen=True)
class Failure:
    at: datetime
    word: str
    message: str
    task: Task


def failures(account: ProviderAccount, limit: int = 10) -> list[Failure]:
    """The newest of the last month, at the create or afterwards."""
    since = timezone.now() - timedelta(days=FAILURES_DAYS)
    attempts = Attempt.objects.filter(account=account, created__gte=since, outcome__in=NOT_TAKEN)
    attempts = attempts.select_related("task__team")
    sending = [_not_taken(row) for row in attempts.order_by("-created")[:limit]]
    tasks = Task.objects.filter(account=account, state=State.FAILED, finished_at__gte=since)
    failed = tasks.filter(accepted_at__isnull=False).select_related("team").order_by("-finished_at")[:limit]
    drawing = [
        Failure(row.finished_at, WORDS.get(row.fail_kind, ""), row.fail_message, row)
        for row in failed
        if row.finished_at
    ]
    return sorted(sending + drawing, key=lambda failure: failure.at, reverse=True)[:limit]


def _not_taken(attempt: Attempt) -> Failure:
    what = attempt.refused_kind if attempt.outcome == Outcome.REFUSED else attempt.outcome
    return Failure(attempt.answered_at or attempt.created, WORDS.get(what, ""), attempt.message, attempt.task)


# --- Who refuses us altogether -------------------------------------------------------------------------------------------


def refusing(now: datetime) -> QuerySet[ProviderAccount]:
    """Accounts that somebody must mend: their key or balance was refused in the last day, and nothing accepted since. That
    the pause is over mends nothing: the next try begins another."""
    rows = ProviderAccount.objects.switched_on().filter(pause_kind__in=(Kind.AUTH, Kind.BALANCE))
    return rows.filter(paused_until__gt=now - timedelta(hours=HOURS))


# --- Who should ring and does not -----------------------------------------------------------------------------------------

SILENT_FROM = 5  # tasks; fewer say nothing
SILENT_AFTER = timedelta(hours=1)


def silent(now: datetime) -> dict[int, int]:
    """Accounts that were given an address to ring at, and rang for none of the tasks that ended in the last hour, with how
    many those were. By account id."""
    since = now - SILENT_AFTER
    rows = Attempt.objects.filter(
        task__account__in=list(ProviderAccount.objects.switched_on().values_list("pk", flat=True)),
        task__account=F("account"),
        task__finished_at__gte=since,
        created__gte=since - timedelta(hours=HOURS),  # nothing is under way for longer; and no older rows are read
        with_callback=True,
        outcome=Outcome.ACCEPTED,
    )
    counted = rows.order_by().values("account").annotate(total=Count("pk"), rung=Count("rung_at"))
    found = {row["account"]: row["total"] for row in counted if row["total"] >= SILENT_FROM and not row["rung"]}
    return {account: total for account, total in found.items() if not _has_rung(account, since)}


def _has_rung(account_id: int, since: datetime) -> bool:
    """For a task that is still under way, say."""
    return Attempt.objects.filter(
        account=account_id, created__gte=since - timedelta(hours=HOURS), rung_at__gte=since
    ).exists()
