"""What every page may show: who is here, in which teams, and whether the pictures are pretend."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.core.cache import caches
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from .. import accounts, ledger, notices
from ..ledger import Left, Limit
from ..models import Membership, ProviderAccount, User
from ..money import format_credits


def site(request: HttpRequest) -> dict[str, object]:
    """`member` is set by access.team alone; pages outside a team have none. The rest is asked only where shown."""
    member: Membership | None = getattr(request, "membership", None)
    return {
        "member": member,
        "purse": SimpleLazyObject(lambda: purse(member, changed=request.method == "POST") if member else None),
        "memberships": SimpleLazyObject(lambda: open_memberships(request.user, member)),  # type: ignore[arg-type]
        "sandbox": SimpleLazyObject(is_sandbox),
        "strip": SimpleLazyObject(lambda: notices.strip(request.user)),  # type: ignore[arg-type]
    }


def open_memberships(user: User, member: Membership | None) -> list[Membership]:
    if hasattr(member, "everywhere"):
        return member.everywhere  # type: ignore[union-attr]
    rows = Membership.objects.filter(user_id=user.pk, team__closed_at=None)
    return list(rows.select_related("team").order_by("team__name"))


SANDBOX_CACHE_S = 5


def is_sandbox() -> bool:
    """As each process has seen it some seconds ago: it changes once in an installation's life."""
    process = caches["process"]
    found = process.get("sandbox")
    if found is None:
        found = accounts.sandbox_on() and ProviderAccount.objects.switched_on().filter(sandbox=True).exists()
        process.set("sandbox", found, SANDBOX_CACHE_S)
    return found


# --- What is left for this member -----------------------------------------------------------------------------------

OF = {"own": "{left} of your own {of}", "cap": "{left} of your {of}", "team": "team {left}"}


@dataclass(frozen=True)
class Purse:
    """All limits of a member in words, the one that binds first in front."""

    left: Left

    @property
    def least(self) -> int:
        return self.left.least

    @property
    def binding(self) -> Limit:
        return self.left.binding

    @property
    def is_personal(self) -> bool:
        """Whether it is a limit of the member's own that binds."""
        return self.binding.name != "team"

    @property
    def line(self) -> list[str]:
        """What the button's line says: ["310 left of your 500", "team 4,120"]."""
        first = said(self.binding).removeprefix("team ").replace(" of", " left of", 1)
        if not self.is_personal:
            first = f"{first} left in the team" if len(self.left.limits) > 1 else f"{first} left"
        return [first, *map(said, self.left.limits[1:])]

    def after(self, credits: int) -> Purse:
        """As it will be once these are held."""
        limits = (replace(limit, left=limit.left - credits) for limit in self.left.limits)
        return Purse(replace(self.left, limits=tuple(limits)))

    @property
    def text(self) -> str:
        """ "310 of your 500 this period, team 4,120. Renews on 1 December." """
        limits = [said(limit) + (" this period" if limit.name != "team" else "") for limit in self.left.limits]
        renews = f" Renews on {self.left.renews_on:%-d %B}." if len(limits) > 1 or self.left.allowance else ""
        return f"{', '.join(limits)}.{renews}"


def said(limit: Limit) -> str:
    return OF[limit.name].format(left=format_credits(max(0, limit.left)), of=format_credits(limit.of))


def purse(member: Membership, *, changed: bool = True) -> Purse:
    """Asked once for a membership, and so once a request, however many places show it. `changed`: since the membership
    was read, so that the budget which came with it may be old."""
    if not hasattr(member, "_purse"):
        budget = None if changed else member.team.budget
        member._purse = Purse(ledger.left(member, budget=budget))  # type: ignore[attr-defined]
    return member._purse  # type: ignore[attr-defined]
