"""The only door from an address to a row. What a member may not see does not exist: 404, the same as a missing id."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone

from .models import (
    Batch,
    Collection,
    CollectionItem,
    CollectionRole,
    CreditRequest,
    Invite,
    Membership,
    Reference,
    Result,
    Role,
    SavedPrompt,
    ShareLink,
    State,
    Task,
    Team,
    User,
)
from .models.base import token_hash

View = Callable[..., HttpResponse]
ORDER = [Role.VIEWER, Role.MEMBER, Role.ADMIN, Role.OWNER]  # each may do what those before it may
REFUSALS = {
    Role.MEMBER: "You can look at this team's pictures, but not make or change any. Ask a team admin for the role of member.",
    Role.ADMIN: "This is for the team's admins. Ask one of them.",
    Role.OWNER: "This is for the team's owner.",
}


def membership(user: User, slug: str) -> Membership:
    """The user's membership in an open team, fresh from the database at each request, or 404.

    All of the user's are read at once, with what a page's head shows of them: `everywhere` has them by name of team.
    """
    rows = Membership.objects.select_related("team__budget__period", "user").order_by("team__name")
    everywhere = list(rows.filter(user=user, user__is_active=True, team__closed_at=None))
    member = next((row for row in everywhere if row.team.slug == slug), None)
    if member is None:
        raise Http404
    member.everywhere = everywhere  # type: ignore[attr-defined]
    return member


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
    """The tasks this member may see: the team's, without those in the trash and what others keep to themselves."""
    return Task.objects.for_team(member.team).filter(_not_others(member), deleted_at=None)


def sees(task: Task, user_id: int | None) -> bool:
    """Whether this member of its team sees a task: what `tasks` asks the database, of a row at hand."""
    return task.deleted_at is None and (not task.private or task.user_id == user_id)


def trash(member: Membership):
    """What this member may take out of the trash: one's own, of the team's all for its admins. Until its time is up."""
    since = timezone.now() - timedelta(days=settings.TRASH_DAYS)
    thrown = Task.objects.for_team(member.team).filter(_not_others(member), deleted_at__gt=since)
    return thrown if member.may_manage else thrown.filter(user=member.user_id)


def _not_others(member: Membership) -> Q:
    return Q(private=False) | Q(user=member.user_id)


def collections(member: Membership):
    """The collections this member may look into."""
    rows = Collection.objects.filter(team=member.team, deleted_at=None)
    if member.may_manage:
        return rows
    named = CollectionRole.objects.filter(user=member.user_id).values("collection_id")
    return rows.filter(~Q(access=Collection.Access.NONE) | Q(owner=member.user_id) | Q(pk__in=named))


def collection(member: Membership, collection_id: int) -> Collection:
    return get_object_or_404(collections(member).select_related("owner"), pk=collection_id)


def share_link(token: str) -> ShareLink | None:
    """The open link that this token is of. None for all others alike: nobody learns whether there ever was one."""
    rows = ShareLink.objects.select_related("collection__team")
    still_there = {"collection__deleted_at": None, "collection__team__closed_at": None}
    now = timezone.now()
    return rows.filter(token_hash=token_hash(token), revoked_at=None, expires_at__gt=now, **still_there).first()


def shared_items(link: ShareLink):
    """What guests with this link see: the collection's pictures that the whole team sees."""
    seen = {"task__state": State.DONE, "task__private": False, "task__deleted_at": None}
    return CollectionItem.objects.filter(collection=link.collection_id, **seen).select_related("task__result")


def shared_task(link: ShareLink, task_id: int) -> Task | None:
    """Asked by its own id: of a number beyond all ids Django knows that there is none, of a foreign key's it does not."""
    items = shared_items(link).filter(task__in=Task.objects.filter(pk=task_id).values("pk"))
    item = items.first()
    return item.task if item else None


def task(member: Membership, task_id: int) -> Task:
    rows = tasks(member).select_related("user", "account", "result", "batch", "parent")
    return get_object_or_404(rows, pk=task_id)


def batch(member: Membership, batch_id: int) -> Batch:
    """One of which this member sees some task."""
    rows = Batch.objects.filter(team=member.team).select_related("saved_prompt")
    return get_object_or_404(rows.filter(Exists(tasks(member).filter(batch=OuterRef("pk")))), pk=batch_id)


def result(member: Membership, task_id: int) -> Result:
    """Of a picture in the trash too, for whoever may take it out again."""
    rows = Result.objects.filter(purged_at=None)
    seen = rows.filter(task__in=tasks(member).filter(pk=task_id)).first()
    return seen or get_object_or_404(rows, task__in=trash(member).filter(pk=task_id))


def references(member: Membership):
    """The references this member may use."""
    return seen_references(member).filter(deleted_at=None)


def seen_references(member: Membership):
    """Deleted ones too: a finished task still shows what it was made from."""
    return Reference.objects.filter(_not_others(member), team=member.team)


def sees_reference(reference: Reference, user_id: int | None) -> bool:
    """What `seen_references` asks the database, of a row of the team's at hand."""
    return not reference.private or reference.user_id == user_id


def reference_name(reference: Reference, user_id: int | None) -> str:
    return reference.name if sees_reference(reference, user_id) else "an image that only its author sees"


def reference(member: Membership, reference_id: int) -> Reference:
    return get_object_or_404(seen_references(member), pk=reference_id)


def saved_prompts(member: Membership):
    """The prompts on the team's shelf."""
    return SavedPrompt.objects.filter(team=member.team)


def saved_prompt(member: Membership, prompt_id: int) -> SavedPrompt:
    return get_object_or_404(saved_prompts(member).select_related("user"), pk=prompt_id)


def kept_reference(member: Membership, reference_id: int) -> Reference:
    """One that is in the library."""
    return get_object_or_404(references(member).select_related("user"), pk=reference_id)


def invite(member: Membership, invite_id: int) -> Invite:
    return get_object_or_404(Invite, team=member.team, pk=invite_id)


def credit_request(member: Membership, request_id: int) -> CreditRequest:
    rows = CreditRequest.objects.select_related("team__budget", "user", "decided_by")
    return get_object_or_404(rows, team=member.team, pk=request_id)


def any_team(slug: str) -> Team:
    """For the console only, which looks after every team."""
    return get_object_or_404(Team.objects.select_related("budget"), slug=slug)
