"""What a site admin should see first: how every team stands, and what needs somebody's attention.

A constant number of queries, however many teams, people and pictures there are; none adds up entries or tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Count, F, Max, Min, Q, Sum
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone

from . import accounts, health, periods, providers, spend
from .models import (
    Audit,
    Budget,
    CreditRequest,
    Period,
    Price,
    ProviderAccount,
    RoutingRule,
    State,
    Statement,
    Task,
    Team,
    Usage,
)
from .money import credits_text, format_credits
from .providers.base import Kind, Provider

LOW_PERCENT, SCARCE_PERCENT = 80, 95
UNCERTAIN_AFTER = timedelta(minutes=10)


# --- Teams ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TeamStanding:
    """A team's credits as they are. Held, charged and refunded are those of the period that lasts."""

    team: Team
    budget: Budget
    people: int
    held: int = 0
    charged: int = 0
    refunded: int = 0

    @property
    def spent(self) -> int:
        return self.charged - self.refunded

    @property
    def used(self) -> int:
        return self.held + self.spent

    @property
    def has(self) -> int:
        """What there was and is for this period."""
        return self.budget.available + self.used

    @property
    def used_percent(self) -> int:
        return self.used * 100 // self.has if self.has > 0 else 100

    @property
    def kind(self) -> str:
        if self.budget.available <= 0:
            return "bad"
        return "bad" if self.used_percent >= SCARCE_PERCENT else "warn" if self.used_percent >= LOW_PERCENT else ""

    @property
    def word(self) -> str:
        if not self.budget.granted:
            return "no credits yet"
        if self.budget.available <= 0:
            return "nothing left"
        return f"{self.used_percent} % used"

    def forecast(self, now: datetime) -> str:
        """Where this period is heading; "" where nothing tells yet."""
        period = self.budget.period
        if period is None or period.ends_at <= now or not self.used or self.budget.available <= 0:
            return ""
        zone = ZoneInfo(self.budget.time_zone)
        empty = periods.pace(self.used, self.has, period.starts_at, period.ends_at, now)
        if empty:
            return f"empty on {empty.astimezone(zone):%-d %B}"
        used = spend.forecast(self.used, period.starts_at, period.ends_at, now)
        return "" if used is None else f"about {format_credits(used)} by {period.ends_at.astimezone(zone):%-d %B}"


def standings(now: datetime) -> list[TeamStanding]:
    """Every team's, the closed ones last. Two queries."""
    used = _used_by_period(now)
    teams = Team.objects.select_related("budget__period").annotate(people=Count("memberships"))
    rows = teams.order_by(F("closed_at").asc(nulls_first=True), "name", "id")
    return [TeamStanding(row, row.budget, row.people, *used.get(row.budget.period_id, ())) for row in rows]


def standing(team: Team, people: int, now: datetime) -> TeamStanding:
    """One team's."""
    return TeamStanding(team, team.budget, people, *_used_by_period(now, team=team).get(team.budget.period_id, ()))


def _used_by_period(now: datetime, **of: Team) -> dict[int | None, tuple[int, int, int]]:
    """What is held, charged and refunded in each period that lasts."""
    lasting = Budget.objects.filter(period__ends_at__gt=now, **of).values("period")
    rows = Usage.objects.filter(period__in=lasting).values("period").order_by()
    found = rows.annotate(all_held=Sum("held"), all_spent=Sum("spent"), all_refunded=Sum("refunded"))
    return {row["period"]: (row["all_held"], row["all_spent"], row["all_refunded"]) for row in found}


def totals(rows: list[TeamStanding]) -> dict[str, int]:
    return {
        "granted": sum(row.budget.granted for row in rows),
        "spent": sum(row.spent for row in rows),
        "held": sum(row.budget.held for row in rows),
        "left": sum(row.budget.available for row in rows),
    }


@dataclass(frozen=True)
class Renewal:
    """When a team's next period begins, in its own time, and how many of the credits left end then."""

    at: datetime
    ending: int

    @property
    def day(self) -> str:
        return f"{self.at:%-d %B}"

    @property
    def said(self) -> str:
        return f"{self.at:%-d %B %Y, %H:%M} {self.at.tzinfo}"


def renewal(row: TeamStanding, now: datetime) -> Renewal:
    budget, zone = row.budget, ZoneInfo(row.budget.time_zone)
    if budget.period is None or budget.period.ends_at <= now:
        return Renewal(periods.after(now, budget.start_day, zone).astimezone(zone), 0)
    return Renewal(budget.period.ends_at.astimezone(zone), _ending(budget.period, row))


def _ending(period: Period, row: TeamStanding) -> int:
    """Holds use the credits that end before those that last."""
    return max(0, min(period.expiring - period.expired - row.held - row.charged, row.budget.available))


# --- Accounts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AccountStanding:
    """A provider's account in a word, and why; `kind` colours the word (good, warn, bad or nothing)."""

    adapter: Provider
    account: ProviderAccount | None
    kind: str
    word: str
    why: str = ""


def of_account(
    adapter: Provider, account: ProviderAccount | None, priced: set[str], rule: RoutingRule
) -> AccountStanding:
    return AccountStanding(adapter, account, *_account_words(account, priced, rule))


def _account_words(account: ProviderAccount | None, priced: set[str], rule: RoutingRule) -> tuple[str, str, str]:
    if account is None:
        return "", "Not set up", "No key yet."
    if account.sandbox and not accounts.sandbox_on():
        return "", "Off", "The sandbox takes no new tasks."
    if not account.enabled:
        return "", "Off", "Switched off here. Running tasks finish."
    if not account.key_version:
        return "bad", "No key", "It takes no task until it has one."
    if not accounts.key_opens(account):
        return "bad", "Key lost", "SECRET_KEY has changed, so the stored key does not open. Set the key again."
    if account.provider not in priced:
        return "bad", "No price", "It takes no task until it has one."
    if account.paused_until and account.is_paused(timezone.now()):
        return "warn", "Paused", account.pause_reason
    if not health.is_healthy(account, rule):
        return "warn", "Unwell", _unwell_text(account, rule)
    return "good", "On", ""


def _unwell_text(account: ProviderAccount, rule: RoutingRule) -> str:
    record = health.record_of(account)
    slow = f"Slow: it usually takes {record.median_s:.0f} s, over {health.SLOW_TIMES} times what the others take."
    return f"{slow if record.slow else share_text(account)} “Auto” asks the others first, within the premium."


def share_text(account: ProviderAccount) -> str:
    """ "40 % of its 12 tasks in 24 hours ended well."; "" while there are too few to tell."""
    record = health.record_of(account)
    if record.share_percent is None:
        return ""
    return f"{record.share_percent} % of its {format_credits(record.total)} tasks in 24 hours ended well."


# --- Attention -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Matter:
    """Something that somebody should look at, and where. `kind` is bad, warn or info, worst first."""

    kind: str
    text: str
    url: str
    action: str


ORDER = ("bad", "warn", "info")


def attention(teams: list[TeamStanding], audit: Audit | None, now: datetime) -> list[Matter]:
    """All of it, the worst first."""
    found = [
        *_ledger(audit),
        *_statements(),
        *_accounts(now),
        *_silent(now),
        *_unpriced(now),
        *_uncertain(now),
        *_short_teams(teams, now),
        *_requests(),
        *_blocked(now),
    ]
    return sorted(found, key=lambda matter: ORDER.index(matter.kind))


def _ledger(audit: Audit | None) -> list[Matter]:
    if audit is None or not audit.findings:
        return []
    return [Matter("bad", f"The ledger does not add up: {_many(len(audit.findings), 'finding')}.", "#audit", "Look")]


def _statements() -> list[Matter]:
    """Of the last day that was compared with what the providers say."""
    rows = Statement.objects.filter(day=Statement.objects.aggregate(last=Max("day"))["last"]).select_related("account")
    url = reverse("statements")
    return [
        Matter("bad", f"{_name(row.account.provider)}'s statement of {row.day:%-d %B}: {row.findings[0]}", url, "Look")
        for row in rows
        if row.findings
    ]


def _accounts(now: datetime) -> list[Matter]:
    """Those that are on and take no task all the same. A price that is missing has a line of its own."""
    rows = ProviderAccount.objects.switched_on().filter(Q(sandbox=False) | Q(paused_until__gt=now))
    rule = RoutingRule.current()
    found = [(row, of_account(providers.get(row.provider), row, {row.provider}, rule)) for row in rows]
    return [
        Matter(it.kind, f"{it.adapter.name}: {it.word.lower()}. {it.why}", account_url(row), "Open")
        for row, it in found
        if it.kind in ORDER
    ]


def _silent(now: datetime) -> list[Matter]:
    silent = health.silent(now)
    rows = ProviderAccount.objects.filter(pk__in=silent) if silent else ()
    return [Matter("warn", silent_text(row, silent[row.pk]), account_url(row), "Open") for row in rows]


def silent_text(account: ProviderAccount, tasks: int) -> str:
    """What is known, and that nothing is lost by it."""
    said = f"{_name(account.provider)} was asked for callbacks and sent none, for {tasks} tasks that ended in the last hour."
    return f"{said} Pictures come all the same, only later: we look by ourselves."


def refusal_text(account: ProviderAccount) -> str:
    """Who takes nothing until somebody acts, and what to do."""
    name = _name(account.provider)
    if account.pause_kind == Kind.BALANCE:
        return f"No money is left at {name}, so it takes no task. Pay in there, then resume it."
    return f"{name} refuses this site’s key, so it takes no task. Set a key that works."


def _unpriced(now: datetime) -> list[Matter]:
    """What a switched-on provider can make and nobody may ask for."""
    known = set(Price.objects.in_force(now).values_list("provider", "family", "resolution"))
    found = []
    for account in accounts.usable():
        able = accounts.capabilities(account)
        kinds = [(family, size) for family in able.families for size in able.resolutions]
        missing = [f"{kind.capitalize()} {size}" for kind, size in kinds if (account.provider, kind, size) not in known]
        if missing:
            text = f"{_name(account.provider)} has no price for {', '.join(missing)}: not offered until it has one."
            found.append(Matter("warn", text, reverse("prices"), "Set a price"))
    return found


def _uncertain(now: datetime) -> list[Matter]:
    rows = Task.objects.filter(state=State.UNCERTAIN, due_at__isnull=False, state_since__lte=now - UNCERTAIN_AFTER)
    sums = rows.values("team__name", "account__provider").order_by("team__name", "account__provider")
    return [
        Matter("warn", _uncertain_text(row, now), _provider_url(row["account__provider"]), "Open")
        for row in sums.annotate(many=Count("id"), since=Min("state_since"))
    ]


def _uncertain_text(row: Mapping[str, Any], now: datetime) -> str:
    minutes = int((now - row["since"]).total_seconds()) // 60
    pictures = f"{_many(row['many'], 'picture')} of {row['team__name']}"
    return f"For {minutes} minutes nobody knows whether {_name(row['account__provider'])} has taken {pictures}."


def _short_teams(teams: list[TeamStanding], now: datetime) -> list[Matter]:
    return [
        Matter(row.kind, _short_text(row, now), reverse("console-team", args=[row.team.slug]), "Open")
        for row in teams
        if row.kind and row.budget.granted and not row.team.closed_at
    ]


def _short_text(row: TeamStanding, now: datetime) -> str:
    if row.budget.available <= 0:
        return f"{row.team} has nothing left."
    forecast = row.forecast(now)
    heading = f", and at this pace is {forecast}" if forecast.startswith("empty") else ""
    return f"{row.team} has used {row.used_percent} % of what it has this period{heading}."


def _requests() -> list[Matter]:
    rows = CreditRequest.objects.filter(state=CreditRequest.State.OPEN, limit=CreditRequest.Limit.TEAM)
    sums = rows.values("team__name").order_by("team__name").annotate(many=Count("id"), total=Sum("amount"))
    url = reverse("console-requests")
    return [
        Matter("info", f"{row['team__name']} asks for {credits_text(row['total'])}{_in_requests(row)}.", url, "Answer")
        for row in sums
    ]


def _in_requests(row: Mapping[str, Any]) -> str:
    return f" in {row['many']} requests" if row["many"] > 1 else ""


def _blocked(now: datetime) -> list[Matter]:
    """People whose cap leaves nothing, by team. Their team's admins can help; a site admin should know."""
    lasting = Budget.objects.filter(period__ends_at__gt=now, team__closed_at=None).values("period")
    rows = Usage.objects.filter(
        period__in=lasting, period__team__memberships__user=F("user"), period__team__memberships__uncapped=False
    ).annotate(cap=Coalesce("period__team__memberships__cap", "period__team__budget__member_cap"))
    full = rows.filter(cap__isnull=False, held__gte=F("cap") + F("extra") - F("spent") + F("refunded"))
    by_team = full.values("period__team__name", "period__team__slug").order_by("period__team__name")
    return [
        Matter("info", _blocked_text(row), reverse("console-team", args=[row["period__team__slug"]]), "Open")
        for row in by_team.annotate(many=Count("id"))
    ]


def _blocked_text(row: Mapping[str, Any]) -> str:
    have = "has" if row["many"] == 1 else "have"
    return f"{_many(row['many'], 'member')} of {row['period__team__name']} {have} reached their limit for this period."


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _name(provider: str) -> str:
    return providers.get(provider).name if provider in providers.ALL else provider


def account_url(account: ProviderAccount) -> str:
    if account.provider not in providers.ALL:
        return reverse("providers")
    return reverse("sandbox-provider" if account.sandbox else "provider", args=[account.provider])


def _provider_url(provider: str) -> str:
    return reverse("provider", args=[provider]) if provider in providers.ALL else reverse("providers")
