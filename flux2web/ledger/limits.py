"""Which limit binds a member, what is left under each, and the words for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from django.db.models import F, Value
from django.db.models.expressions import CombinedExpression
from django.utils import timezone

from .. import bus, periods
from ..models import Budget, Membership, Period, Usage
from ..money import credits_text, format_credits
from ..orders import Refusal

NAMES = {"own": "Your own limit", "cap": "Your limit", "team": "The team's budget"}


@dataclass(frozen=True)
class Limit:
    """One limit: what it leaves, of how much. `name` is own, cap or team; a refusal's kind names the same."""

    name: str
    left: int
    of: int

    @property
    def title(self) -> str:
        return NAMES[self.name]

    @property
    def used_percent(self) -> int:
        """Of the whole, rounded down; a limit of nothing is used up."""
        return min(100, (self.of - self.left) * 100 // self.of) if self.of > 0 else 100


@dataclass(frozen=True)
class Left:
    """All limits of one member at a moment, the one that binds first in front."""

    limits: tuple[Limit, ...]
    used: int  # by the member, in this period
    extra: int  # granted to the member on top of the cap, in this period
    held: int  # by the member, of what is used
    renews_at: datetime  # when caps begin anew, and the allowance comes
    zone: ZoneInfo
    allowance: int

    @property
    def binding(self) -> Limit:
        return self.limits[0]

    @property
    def least(self) -> int:
        return max(0, self.binding.left)

    def named(self, name: str) -> Limit | None:
        return next((limit for limit in self.limits if limit.name == name), None)

    @property
    def renews_on(self) -> datetime:
        """In the team's own time."""
        return self.renews_at.astimezone(self.zone)

    @property
    def days(self) -> int:
        """Whole days until then, at least 1."""
        return max(1, -(-int((self.renews_at - timezone.now()).total_seconds()) // 86_400))


def cap_of(member: Membership, budget: Budget) -> int | None:
    """A member's cap for a period, without extra; None: no cap."""
    if member.uncapped:
        return None
    return budget.member_cap if member.cap is None else member.cap


def left(member: Membership, now: datetime | None = None, budget: Budget | None = None) -> Left:
    """What this member may still spend, as it stands. Two queries; one where a fresh `budget` is at hand."""
    now = now or timezone.now()
    budget = budget or Budget.objects.select_related("period").get(pk=member.team_id)
    zone, lasts = ZoneInfo(budget.time_zone), budget.period is not None and now < budget.period.ends_at
    usage = Usage.objects.filter(period=budget.period, user=member.user_id).first() if lasts else None
    usage = usage or Usage()
    renews_at = budget.period.ends_at if budget.period and lasts else periods.after(now, budget.start_day, zone)
    limits = tuple(sorted(_limits(member, budget, usage), key=lambda limit: limit.left))
    return Left(limits, usage.used, usage.extra, usage.held, renews_at, zone, budget.allowance)


def _limits(member: Membership, budget: Budget, usage: Usage) -> list[Limit]:
    """The member's own ones first: where they leave as little as the team's, they are what to speak of."""
    cap, own = cap_of(member, budget), member.own_limit
    found = [] if own is None else [Limit("own", own - usage.used, own)]
    if cap is not None:
        found.append(Limit("cap", cap + usage.extra - usage.used, cap + usage.extra))
    return [*found, Limit("team", budget.available, budget.granted - budget.spent)]


def use(member: Membership, period: Period, credits: int) -> bool:
    """Count a hold against the member's limits, as they stand in the row; False where one does not leave so much."""
    rows = Usage.objects.filter(period=period, user=member.user_id)
    for room in _rooms(member, credits):
        rows = rows.filter(held__lte=room - F("spent") + F("refunded"))
    if rows.update(held=F("held") + credits):
        return True
    if Usage.objects.filter(period=period, user=member.user_id).exists():
        return False
    Usage.objects.bulk_create([Usage(period=period, user_id=member.user_id)], ignore_conflicts=True)
    return use(member, period, credits)


def _rooms(member: Membership, credits: int) -> list[CombinedExpression]:
    """What may be in use before `credits` more are, under each limit that the member has."""
    cap = cap_of(member, member.team.budget)
    rooms = [] if cap is None else [F("extra") + (cap - credits)]
    return rooms if member.own_limit is None else [*rooms, Value(member.own_limit - credits) + 0]


def give_extra(member: Membership, period: Period, credits: int) -> None:
    """Let a member spend more than the cap, until the period ends."""
    Usage.objects.get_or_create(period=period, user_id=member.user_id)
    Usage.objects.filter(period=period, user_id=member.user_id).update(extra=F("extra") + credits, warned_percent=0)
    bus.publish_balance(member.team_id)


def warn_anew(team_id: int, users: Collection[int] | None = None) -> None:
    """Their limit (None: everyone's) is another now: who used most of the old one is warned by this one.

    Locked in one order: two that change the limits of several never wait for each other.
    """
    rows = Usage.objects.filter(period__in=Budget.objects.filter(pk=team_id).values("period"))
    rows = rows if users is None else rows.filter(user__in=users)
    mine = list(rows.select_for_update(of=("self",), no_key=True).order_by("pk").values_list("pk", flat=True))
    Usage.objects.filter(pk__in=mine).update(warned_percent=0)


def refusal(left: Left, total: int) -> Refusal:
    """Which limit bound, what the others leave, and when it begins anew."""
    binding = left.binding
    others = [f"{other.title} has {format_credits(max(0, other.left))} left." for other in left.limits[1:]]
    words = " ".join([_short(left, binding, total), *others, _renewal(left, binding), "Nothing was held."])
    return Refusal("budget" if binding.name == "team" else binding.name, "", " ".join(words.split()))


def _short(left: Left, binding: Limit, total: int) -> str:
    needs = f"Not sent: this needs {credits_text(total)}"
    if binding.name == "team":
        return f"{needs}, and the team has {credits_text(max(0, binding.left))} left."
    whose = "of your own limit of" if binding.name == "own" else "of"
    return f"{needs}, you have {format_credits(max(0, binding.left))} left {whose} {format_credits(binding.of)} this period."


def _renewal(left: Left, binding: Limit) -> str:
    """The team's budget renews only where it has an allowance."""
    days = f"{left.renews_on:%-d %B} (in {left.days} day{'' if left.days == 1 else 's'})"
    if binding.name != "team":
        return f"{binding.title} renews on {days}."
    return f"{format_credits(left.allowance)} more come on {days}." if left.allowance else ""
