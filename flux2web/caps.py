"""How much each member may spend in a period: what a team's admins set, and how everyone stands against it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from . import bus, periods, spend
from .ledger.limits import cap_of, warn_anew
from .models import Act, Budget, Membership, Period, Tally, Team, Usage, User, write
from .models.teams import MAKERS
from .money import credits_text, format_credits
from .orders import Refusal
from .spend import Share

# --- What is set ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cap:
    """A member's limit as it is set: so many credits, explicitly none, or (neither) the team's for everyone."""

    credits: int | None = None
    unlimited: bool = False

    @classmethod
    def of(cls, member: Membership) -> Cap:
        return cls(member.cap, member.uncapped)

    @classmethod
    def read(cls, text: str) -> Cap | None:
        """What `str` wrote; None for anything else."""
        if text in ("inherits", "no cap"):
            return cls(unlimited=text == "no cap")
        return cls(int(text)) if text.isascii() and text.isdigit() and len(text) < 14 else None

    def __str__(self) -> str:
        if self.unlimited:
            return "no cap"
        return "inherits" if self.credits is None else str(self.credits)

    @property
    def inherits(self) -> bool:
        return self.credits is None and not self.unlimited

    @property
    def columns(self) -> dict[str, int | bool | None]:
        return {"cap": self.credits, "uncapped": self.unlimited}

    def words(self, for_all: int | None) -> str:
        """For people; `for_all` is the team's cap for members without their own."""
        if self.inherits:
            return f"inherits {format_credits(for_all)}" if for_all else f"{limit_words(for_all)}, inherited"
        return limit_words(self.credits)


def limit_words(credits: int | None) -> str:
    if credits is None:
        return "no cap"
    return format_credits(credits) if credits else "none"


def set_cap(member: Membership, cap: Cap, *, was: Cap, by: User) -> Refusal | None:
    """Give a member another cap, if it is still what the admin saw. The same again changes nothing."""
    if cap == was:
        return None
    with write():
        rows = Membership.objects.filter(pk=member.pk)
        if rows.filter(**was.columns).update(**cap.columns):
            warn_anew(member.team_id, [member.user_id])
            _written(member, cap, was, by)
            return None
        now = rows.first()
    if now is None:
        return Refusal("role", "cap", f"{member.user} is not in {member.team} any more.")
    found = Cap.of(now)
    return (
        None
        if found == cap
        else Refusal("conflict", "cap", f"Meanwhile somebody set it: {found}. Save again to set yours.")
    )


def set_caps(team: Team, ids: Collection[int], cap: Cap, *, by: User) -> list[Membership] | Refusal:
    """One cap for all of these memberships, or for none if one of them is not of the team. Those it changed."""
    with write():
        rows = Membership.objects.select_for_update(of=("self",)).filter(team=team).select_related("user", "team")
        members = [member for member in rows.order_by("pk") if member.pk in ids]
        if len(members) < len(set(ids)):
            gone = "Somebody you ticked is not in the team any more. Nothing was changed: load the page again."
            return Refusal("input", "ids", gone)
        changed = [member for member in members if Cap.of(member) != cap]
        Membership.objects.filter(pk__in=[member.pk for member in changed]).update(**cap.columns)
        warn_anew(team.pk, [member.user_id for member in changed])
        for member in changed:
            _written(member, cap, Cap.of(member), by)
    return changed


def _written(member: Membership, cap: Cap, was: Cap, by: User) -> None:
    Act.objects.record(by, "set the cap of", team=member.team, about=str(member.user), note=f"{cap}. Was: {was}")
    bus.publish_balance(member.team_id)


@dataclass(frozen=True)
class Rule:
    """A rule of a team's budget: its column, how that is said, and what setting it is called."""

    column: str
    words: Callable[[Any], str]
    verb: str


def confirm_words(credits: int | None) -> str:
    if credits is None:
        return "never"
    return f"above {credits_text(credits)}" if credits else "always"


MEMBER_CAP = Rule("member_cap", limit_words, "set the cap for members of")
CONFIRM_ABOVE = Rule("confirm_above", confirm_words, "set when presses are confirmed in")


def set_rule(team: Team, rule: Rule, to: Any, *, was: Any, by: User) -> Refusal | None:
    """Another value, if it is still what the admin saw. The same again changes nothing."""
    if to == was:
        return None
    with write():
        if rule is MEMBER_CAP:
            warn_anew(team.pk)  # before the budget is locked, as whoever holds credits has it
        if Budget.objects.filter(pk=team.pk, **{rule.column: was}).update(**{rule.column: to}):
            note = f"{rule.words(to)}. Was: {rule.words(was)}"
            Act.objects.record(by, rule.verb, team=team, about=str(team), note=note)
            bus.publish_balance(team.pk)
            return None
        found = Budget.objects.values_list(rule.column, flat=True).get(pk=team.pk)
    if found == to:
        return None
    said = f"Meanwhile somebody set it: {rule.words(found)}. Save again to set yours."
    return Refusal("conflict", rule.column, said)


def ask_above(member: Membership, confirmed: int | None) -> int | None:
    """What a press of this member's may cost before it is asked about: what the team says, or what was agreed to."""
    rule = member.team.budget.confirm_above
    return None if rule is None else max(rule, confirmed or 0)


# --- How everyone stands -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Month:
    """The period that limits hold for: when it began and ends, in UTC. `period` is None where nobody needed one yet."""

    period: Period | None
    begins: datetime
    ends: datetime
    zone: ZoneInfo

    @property
    def begins_on(self) -> datetime:
        return self.begins.astimezone(self.zone)

    @property
    def renews_on(self) -> datetime:
        """In the team's own time."""
        return self.ends.astimezone(self.zone)

    @property
    def first_day(self) -> date:
        """For sums by day, whose days are UTC's."""
        return self.begins.date()


def month(budget: Budget, now: datetime | None = None) -> Month:
    """As it stands; whoever looks opens no period."""
    now, zone, period = now or timezone.now(), ZoneInfo(budget.time_zone), budget.period
    if period is not None and now < period.ends_at:
        return Month(period, period.starts_at, period.ends_at, zone)
    begins, ends = periods.around(now, budget.start_day, zone)
    return Month(None, begins, ends, zone)


@dataclass(frozen=True)
class Standing:
    """One member in this period: the limit, what is used of it, and what came of it."""

    member: Membership
    budget: Budget
    usage: Usage
    made: Share
    active: date | None  # the last day on which a picture of theirs ended

    @property
    def cap(self) -> Cap:
        return Cap.of(self.member)

    @property
    def words(self) -> str:
        return self.cap.words(self.budget.member_cap)

    @property
    def limit(self) -> int | None:
        """What may be used in this period, with what was granted on top; None: no cap."""
        cap = cap_of(self.member, self.budget)
        return None if cap is None else cap + self.usage.extra

    @property
    def left(self) -> int:
        """Under the cap or the team's budget, whichever leaves less; below zero nothing is left either."""
        free = self.budget.available
        return max(0, free if self.limit is None else min(free, self.limit - self.usage.used))

    @property
    def team_binds(self) -> bool:
        return self.limit is None or self.budget.available < self.limit - self.usage.used

    @property
    def percent(self) -> int:
        """Of the limit, for a bar; a limit of nothing is used up."""
        return min(100, self.usage.used * 100 // self.limit) if self.limit else 100

    @property
    def is_over(self) -> bool:
        return self.limit is not None and self.usage.used > self.limit


def standings(budget: Budget, month: Month, members: list[Membership]) -> list[Standing]:
    """Everyone's, in two queries. The memberships come from `with_last_day`."""
    usages = {usage.user_id: usage for usage in Usage.objects.filter(period=month.period)} if month.period else {}
    made = {share.key: share for share in spend.by(spend.rows(team=budget.team, since=month.first_day), "user")}
    return [
        Standing(
            member,
            budget,
            usages.get(member.user_id) or Usage(user_id=member.user_id),
            made.get(member.user_id) or Share(member.user_id, str(member.user)),
            getattr(member, "last_day", None),
        )
        for member in members
    ]


def with_last_day(team: Team) -> QuerySet[Membership]:
    """The team's memberships; the last day of each comes off the end of an index, not out of a sum."""
    days = Tally.objects.filter(team=team, user=OuterRef("user")).order_by("-day").values("day")[:1]
    rows = team.memberships.select_related("user").annotate(last_day=Subquery(days))
    return rows.order_by("joined", "id")


@dataclass(frozen=True)
class Heirs:
    """Whom the team's cap for members is for."""

    inherit: int
    own: int  # those with a cap of their own, or explicitly none
    over: list[Standing]  # those who inherit and have used more already
    over_text: str


def heirs(budget: Budget, month: Month) -> Heirs:
    """Two queries. Viewers spend nothing and count nowhere."""
    members = list(budget.team.memberships.filter(role__in=MAKERS).select_related("user").order_by("joined", "id"))
    used = {usage.user_id: usage for usage in Usage.objects.filter(period=month.period)} if month.period else {}
    inherit = [member for member in members if Cap.of(member).inherits]
    stand = [
        Standing(member, budget, used.get(member.user_id) or Usage(), Share(member.user_id, ""), None)
        for member in inherit
    ]
    over = [one for one in stand if one.is_over]
    return Heirs(len(inherit), len(members) - len(inherit), over, over_text(over, month))


def over_text(over: Collection[Standing], month: Month) -> str:
    """Who has used more than their cap leaves, and what that means for them; "" for nobody."""
    if not over:
        return ""
    names = [f"{one.member.user} ({format_credits(one.usage.used)} used)" for one in list(over)[:10]]
    more = f" and {len(over) - 10} more" if len(over) > 10 else ""
    return (
        f"Above it already: {', '.join(names)}{more}. What is being made is finished and charged; "
        f"nothing new until {month.renews_on:%-d %B}."
    )
