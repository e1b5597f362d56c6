"""Where the address `/` leads, and how allauth behaves here."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from .. import access
from ..models import Membership, User
from ..models.base import seal, unseal


class Adapter(DefaultAccountAdapter):
    """Accounts are made by invitation and by `up`, never by signing up."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False


class SecondFactor(DefaultMFAAdapter):
    """The secrets of authenticator apps are encrypted at rest, like provider keys."""

    def encrypt(self, text: str) -> str:
        return seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(encrypted_text)


@access.signed_in
def home(request: HttpRequest) -> HttpResponse:
    """The team last seen, else the first one, else the console, else a page that says what is missing."""
    user: User = request.user  # type: ignore[assignment]
    member = last_seat(user)
    if member:
        return redirect("studio", member.team.slug)
    return redirect("console") if user.is_site_admin else render(request, "account/no_team.html")


def last_seat(user: User) -> Membership | None:
    rows = user.memberships.filter(team__closed_at=None).select_related("team").order_by("joined", "id")
    return rows.filter(team=user.last_team_id).first() or rows.first()
