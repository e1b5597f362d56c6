"""The only door from an address to a row. What a member may not see does not exist: 404, the same as a missing id."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from .models import Invite, Membership, Reference, Result, Role, Task, Team, User

View = Callable[..., HttpResponse]
ORDER = [Role.VIEWER, Role.MEMBER, Role.ADMIN, Role.OWNER]  # each may do what those before it may
REFUSALS = {
    Role.MEMBER: "You can look at this team's pictures, but not make or change any. Ask a team admin for the role of member.",
    Role.ADMIN: "This is for the team's admins. Ask one of them.",
    Role.OWNER: "This is for the team's owner.",
}


def membership(user: User, slug: str) -> Membership:
    """The user's membership in an open team, fresh from the database at each request, or 404."""
    rows = Membership.objects.select_related("team__budget", "user")
    return get_object_or_404(rows, team__slug=slug, team__closed_at=None, user=user, user__is_active=True)


def team(role: Role = Role.VIEWER) -> Callable[[View], View]:
    """A page of a team: the view gets the Membership in place of the slug. Too low a role: 403 in plain words."""

    def mark(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, team: str, **kwargs: Any) -> HttpResponse:
            member = membership(request.user, team)  # type: ignore[arg-type]
            if ORDER.index(Role(member.role)) < ORDER.index(role):
                raise PermissionDenied(REFUSALS[role])
            request.membership = member  # type: ignore[attr-defined]
            remember_team(member)
            return view(request, member, **kwargs)

        guarded.access = f"team:{role}"  # type: ignore[attr-defined]
        return guarded

    return mark


def remember_team(member: Membership) -> None:
    """`/` leads back to the team last seen."""
    if member.user.last_team_id != member.team_id:
        User.objects.filter(pk=member.user_id).update(last_team=member.team)


def site_admin(view: View) -> View:
    """A console page. For anyone else it does not exist."""

    @wraps(view)
    def guarded(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if not request.user.is_site_admin:  # type: ignore[union-attr]
            raise Http404
        return view(request, **kwargs)

    guarded.access = "site_admin"  # type: ignore[attr-defined]
    return guarded


def signed_in(view: View) -> View:
    """Any signed-in user; LoginRequiredMiddleware sees to it."""
    view.access = "signed_in"  # type: ignore[attr-defined]
    return view


def public(view: View) -> View:
    """Open to anyone: callbacks, hosted references, health, setup, invitations."""
    view.access = "public"  # type: ignore[attr-defined]
    return login_not_required(view)


def tasks(member: Membership):
    """The tasks this member may see."""
    return Task.objects.for_team(member.team)


def task(member: Membership, task_id: int) -> Task:
    rows = tasks(member).select_related("user", "account", "result", "batch", "parent")
    return get_object_or_404(rows, pk=task_id)


def result(member: Membership, task_id: int) -> Result:
    return get_object_or_404(Result, task__team=member.team, task_id=task_id)


def references(member: Membership):
    """The references this member may use."""
    return Reference.objects.filter(team=member.team, deleted_at=None)


def reference(member: Membership, reference_id: int) -> Reference:
    """Deleted ones too: a finished task still shows what it was made from."""
    return get_object_or_404(Reference, team=member.team, pk=reference_id)


def invite(member: Membership, invite_id: int) -> Invite:
    return get_object_or_404(Invite, team=member.team, pk=invite_id)


def any_team(slug: str) -> Team:
    """For the console only, which looks after every team."""
    return get_object_or_404(Team.objects.select_related("budget"), slug=slug)
