"""What every page may show: who is here, in which teams, and whether the pictures are pretend."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from .. import accounts
from ..models import Membership, ProviderAccount, User


def site(request: HttpRequest) -> dict[str, object]:
    """`member` is set by access.team alone; pages outside a team have none. The rest is asked only where shown."""
    return {
        "member": getattr(request, "membership", None),
        "memberships": SimpleLazyObject(lambda: open_memberships(request.user)),  # type: ignore[arg-type]
        "sandbox": SimpleLazyObject(is_sandbox),
    }


def open_memberships(user: User) -> list[Membership]:
    rows = Membership.objects.filter(user_id=user.pk, team__closed_at=None)
    return list(rows.select_related("team").order_by("team__name"))


def is_sandbox() -> bool:
    return accounts.sandbox_on() and ProviderAccount.objects.switched_on().filter(sandbox=True).exists()
