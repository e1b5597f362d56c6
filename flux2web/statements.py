"""The daily statement of each account: what its provider accepted, what became of it, and whether its balance agrees.

One for each account and UTC day, drawn up once the day has ended. Until then a provisional one may stand in its place.
Failed pictures are counted as free. A provider is asked for its balance before any row is written, and what it answers
never stops the statements of the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import structlog
from django.db.models import Count, DecimalField, Exists, FilteredRelation, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone

from . import accounts, notices, providers
from .models import LIVE, Attempt, ProviderAccount, State, Statement, Task, User, write
from .money import credits_text
from .providers.base import Account, ProviderError

log = structlog.get_logger(__name__)
SETTLING = timedelta(minutes=5)  # after midnight, before the day is summed: what was accepted last is written by then
BACK_DAYS = 14  # days that nobody drew up, because nothing ran, are caught up with
OPEN_TOO_LONG = timedelta(hours=24)
DRIFT_MIN = Decimal("0.05")  # US dollars; below this it is rounding
BALANCE_MAX = Decimal(10**10)
NAMED_MAX = 20  # tasks named in one finding
ASKED_AT_ONCE = 5
COST_UNKNOWN = "at a cost that nobody knows: write it into the price list, in US dollars."
DOLLARS: DecimalField = DecimalField(max_digits=14, decimal_places=6)


def draw_due(now: datetime | None = None) -> list[Statement]:
    """Every statement of a day that has ended and has none yet. Asks each provider once, for its newest one."""
    now = now or timezone.now()
    missing = [(account, days) for account in _accounts(now) if (days := _missing(account, now))]
    told = ask([account for account, _ in missing])
    drawn = [
        _draw(account, day, told[account.pk] if day == days[-1] else Told(), now)
        for account, days in missing
        for day in days
    ]
    _follow(now)
    return drawn


def draw_today(now: datetime | None = None) -> list[Statement]:
    """What this day says so far; its own statement takes the place of these."""
    now = now or timezone.now()
    rows = _accounts(now)
    told = ask(rows)
    return [_draw(account, now.date(), told[account.pk], now) for account in rows]


def is_provisional(statement: Statement) -> bool:
    return statement.at < _ends(statement.day)


def unit(account: ProviderAccount) -> str:
    """Of its balance: "USD", or "credits" of the provider's own kind; "" where it tells none."""
    return providers.get(account.provider).balance_unit if account.provider in providers.ALL else ""


# --- Which -----------------------------------------------------------------------------------------------------------


def _begins(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def _ends(day: date) -> datetime:
    return _begins(day + timedelta(days=1))


def _accounts(now: datetime) -> list[ProviderAccount]:
    """Those that may take tasks, and those that took one lately."""
    usable = {row.pk for row in accounts.usable()}
    lately = Task.objects.filter(account=OuterRef("pk"), accepted_at__gte=now - timedelta(days=2))
    rows = ProviderAccount.objects.filter(created__lte=now).annotate(is_busy=Exists(lately))
    return [row for row in rows if row.pk in usable or row.is_busy]


def _missing(account: ProviderAccount, now: datetime) -> list[date]:
    """The ended days without a final statement: yesterday, and those before it back to the last one we have."""
    last = (now - SETTLING).date() - timedelta(days=1)
    days = {
        row.day: is_provisional(row)
        for row in Statement.objects.filter(account=account, day__gt=last - timedelta(days=BACK_DAYS))
    }
    first = max(min(days, default=last), account.created.date())
    wanted = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [day for day in wanted if days.get(day, True)]


# --- What the provider says ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """A provider's balance, in its own unit, or why there is none; neither where it has no call for it."""

    balance: Decimal | None = None
    problem: str = ""


def ask(rows: Iterable[ProviderAccount]) -> dict[int, Told]:
    """All at once, so that one that hangs makes nobody wait longer. Touches no database: not in those threads."""
    asked: dict[int, tuple[str, Account]] = {}
    told = {}
    for row in rows:
        told[row.pk] = Told()
        try:
            if row.enabled and unit(row):
                asked[row.pk] = (row.provider, accounts.plain(row))
        except ProviderError as error:
            told[row.pk] = Told(problem=error.message)
    with ThreadPoolExecutor(max_workers=ASKED_AT_ONCE) as pool:
        answers = pool.map(lambda of: _balance(*of), asked.values())
        return told | dict(zip(asked, answers, strict=True))


def _balance(provider: str, account: Account) -> Told:
    try:
        balance = providers.get(provider).balance(account)
    except ProviderError as error:
        return Told(problem=error.message)
    except Exception as error:  # an adapter's mistake costs one balance, not the other statements
        log.error("balance not read", provider=provider, error=repr(error))
        return Told(problem="we could not make sense of what we got.")
    if balance is not None and abs(balance) >= BALANCE_MAX:
        return Told(problem="the amount is larger than any that could be meant.")
    return Told(balance)


# --- The statement ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sums:
    """Of the tasks accepted in some stretch of time."""

    accepted: int
    done: int
    failed: int
    open: int
    credits: int
    cost_usd: Decimal  # of the done ones: reported, else as listed
    open_usd: Decimal  # of the open ones, as listed
    unknown: int  # done without a known cost

    @property
    def row(self) -> dict[str, int | Decimal]:
        names = ("accepted", "done", "failed", "open", "credits", "cost_usd")
        return {name: getattr(self, name) for name in names}


def _draw(account: ProviderAccount, day: date, told: Told, now: datetime) -> Statement:
    sums = add_up(account, _begins(day), _ends(day))
    drift, unexplained = _drift(account, day, told, now)
    unread = [f"The balance could not be read: {told.problem}"] if told.problem else []
    findings = [
        *unexplained,
        *_open_too_long(account, now),
        *_ambiguous(account, day),
        *unread,
        *_costs_unknown(sums),
    ]
    balance = None if told.balance is None else round(told.balance, 4)
    values = sums.row | {"at": now, "balance": balance, "drift": drift, "findings": findings}
    with write():
        return _keep(account, day, values)


def _keep(account: ProviderAccount, day: date, values: dict) -> Statement:
    """In place of a provisional one; a final one stays whoever comes later. Told once, when it is final."""
    same = Statement.objects.filter(account=account, day=day)
    written = bool(same.filter(at__lt=_ends(day)).update(**values))
    row, made = Statement.objects.get_or_create(account=account, day=day, defaults=values)
    if (written or made) and row.findings and not is_provisional(row):
        _tell(row)
    return row


def _tell(row: Statement) -> None:
    """Every site admin, once a statement; of costs that nobody knows once an account, for that stays so for long."""
    lasting = all(finding.endswith(COST_UNKNOWN) for finding in row.findings)
    key = f"statement-costs:{row.account_id}" if lasting else f"statement:{row.pk}"
    name = providers.get(row.account.provider).name + (" (sandbox)" if row.account.sandbox else "")
    more = len(row.findings) - 1
    also = f" And {more} more." if more else ""
    text = f"Statement of {name}, {row.day:%-d %B}: {row.findings[0]}"[: 300 - len(also)] + also
    for admin in User.objects.filter(is_site_admin=True, is_active=True):
        notices.tell(admin, key=key, text=text, url=reverse("statements"), tone="warn", mails=True)


def _follow(now: datetime) -> None:
    """What was open when its day was drawn up ends later: counts and sums follow, balance and findings stay."""
    since = now.date() - timedelta(days=BACK_DAYS)
    for row in Statement.objects.filter(open__gt=0, day__gte=since, at__lt=now).select_related("account"):
        sums = add_up(row.account, _begins(row.day), _ends(row.day))
        with write():
            Statement.objects.filter(pk=row.pk, at=row.at).update(**sums.row)


def add_up(account: ProviderAccount, since: datetime, until: datetime) -> Sums:
    """One query, by the index on (account, accepted_at)."""
    done, failed, live = Q(state=State.DONE), Q(state__in=(State.FAILED, State.CANCELLED)), Q(state__in=LIVE)
    taken = FilteredRelation("attempts", condition=Q(attempts__outcome=Attempt.Outcome.ACCEPTED))
    rows = accepted(account, since, until).annotate(taken=taken)
    found = rows.annotate(usd=Coalesce("cost_usd", "taken__list_usd", output_field=DOLLARS)).aggregate(
        accepted=Count("pk"),
        done=Count("pk", filter=done),
        failed=Count("pk", filter=failed),
        open=Count("pk", filter=live),
        credits=Sum("charged_credits", default=0),
        cost_usd=Sum("usd", filter=done, default=Decimal(0)),
        open_usd=Sum("usd", filter=live, default=Decimal(0)),
        unknown=Count("pk", filter=done & Q(usd=None)),
    )
    return Sums(**found)


def accepted(account: ProviderAccount, since: datetime, until: datetime) -> QuerySet[Task]:
    return Task.objects.filter(account=account, accepted_at__gte=since, accepted_at__lt=until)


# --- What is found ---------------------------------------------------------------------------------------------------


def _open_too_long(account: ProviderAccount, now: datetime) -> list[str]:
    since = now - OPEN_TOO_LONG
    found = [task for task, at in still_open(account).values_list("pk", "accepted_at") if at and at < since]
    return [f"Accepted more than a day ago and still open: {_named(found)}."] if found else []


def still_open(account: ProviderAccount) -> QuerySet[Task]:
    """By the index of the live ones, which are few. Were the time asked for too, a planner would read all that ended."""
    return Task.objects.filter(account=account, due_at__isnull=False, state__in=LIVE)


def _costs_unknown(sums: Sums) -> list[str]:
    what = "picture was" if sums.unknown == 1 else "pictures were"
    return [f"{sums.unknown} {what} made {COST_UNKNOWN}"] if sums.unknown else []


def _ambiguous(account: ProviderAccount, day: date) -> list[str]:
    """Sent, and nobody knows whether they arrived."""
    rows = Attempt.objects.filter(account=account, outcome=Attempt.Outcome.AMBIGUOUS)
    of_day = rows.filter(created__gte=_begins(day), created__lt=_ends(day))
    found = list(of_day.values_list("task", flat=True)[: NAMED_MAX + 1])
    return [f"Sent without an answer, maybe paid for nothing: {_named(found)}."] if found else []


def _named(tasks: list[int]) -> str:
    named = ", ".join(str(task) for task in sorted(tasks[:NAMED_MAX]))
    return f"task{'' if len(tasks) == 1 else 's'} {named}{' and more' if tasks[NAMED_MAX:] else ''}"


def _drift(account: ProviderAccount, day: date, told: Told, now: datetime) -> tuple[Decimal | None, list[str]]:
    """What the balance fell by since the last one we have, beyond what the pictures accepted since then explain.

    Nobody knows where the balance is in credits of the provider's own kind, where a cost is unknown, or where somebody
    paid in. Open pictures may be paid already, so what they are listed at is no finding; failed ones count as free.
    """
    older = Statement.objects.filter(account=account, day__lt=day, balance__isnull=False).order_by("-day").first()
    if told.balance is None or older is None or older.balance is None:
        return None, []
    sums = add_up(account, older.at, now)
    fall = older.balance - round(told.balance, 4)
    paid = sums.done + sums.open
    if fall < 0 or (paid and (unit(account) != "USD" or sums.unknown)):
        return None, []
    drift = round(fall - sums.cost_usd, 4)
    if drift - sums.open_usd < DRIFT_MIN:
        return drift, []
    return drift, [_say_drift(unit(account), fall, drift, sums)]


def _say_drift(unit: str, fall: Decimal, drift: Decimal, sums: Sums) -> str:
    fell = f"The balance fell by {fall.normalize():f} {unit}"
    failed = f" {sums.failed} failed, counted as free." if sums.failed else ""
    if not sums.done:
        return f"{fell}, though no picture was made since the last statement.{failed}"
    explained = f"{sums.done} made for {credits_text(sums.credits)} explain {sums.cost_usd.normalize():f}"
    return f"{fell}, {drift.normalize():f} more than expected: {explained}.{failed}"
