"""Who is in a team: opening one, inviting, joining, roles, leaving. Each verb writes down who did it."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify

from . import bus, ledger
from .models import Act, Budget, Invite, Membership, Role, ShareLink, Team, User, write
from .models.base import new_token, token_hash
from .models.teams import MANAGERS
from .money import credits_text
from .orders import Refusal

log = structlog.get_logger(__name__)

# --- Teams ---------------------------------------------------------------------------------------------------------


def open_team(name: str, credits: int, *, by: User, reason: str, key: str = "first") -> Team:
    """A team with its budget, called inside the caller's transaction. `key` is its first grant's."""
    team = _named(name)
    Budget.objects.create(team=team)
    ledger.grant(team, credits, actor=by, reason=reason, key=key)
    Act.objects.record(by, "made the team", team=team, about=name, note=f"{credits_text(credits)} {reason}")
    return team


def _named(name: str) -> Team:
    """Two of one name at the same moment find the same address free: the second looks again."""
    while True:
        try:
            with transaction.atomic():
                return Team.objects.create(name=name, slug=free_slug(name))
        except IntegrityError:
            log.info("address of a team taken a moment ago", name=name)


def free_slug(name: str) -> str:
    """`north`, or `north-2` where that is taken; `team` where the name has no letter that an address can carry."""
    base = slugify(name)[:50].strip("-") or "team"
    taken = set(Team.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    return next(slug for slug in _numbered(base) if slug not in taken)


def _numbered(base: str) -> Iterator[str]:
    yield base
    yield from (f"{base}-{number}" for number in range(2, 10**6))


def make_owner(team: Team, user: User, *, by: User) -> None:
    """Somebody who is here looks after the team from now on."""
    with write():
        before = Membership.objects.filter(team=team, user=user).first()
        Membership.objects.update_or_create(team=team, user=user, defaults={"role": Role.OWNER})
        was = before.get_role_display().lower() if before else "not in the team"
        Act.objects.record(by, "made an owner of", team=team, about=str(user), note=f"owner. Was: {was}")
        bus.publish_access_changed(team.pk)


# --- Invitations ---------------------------------------------------------------------------------------------------


class InviteGone(Exception):
    """The invitation was used, taken back or ran out a moment ago. Undoes the transaction it is raised in."""


def new_invite(team: Team, by: User, *, role: str, email: str = "") -> tuple[Invite, str]:
    """The invitation and its token, which exists nowhere else: only its hash is kept."""
    token = new_token()
    with write():
        invite = Invite.objects.create(
            team=team, token_hash=token_hash(token), role=role, email=email.lower(), invited_by=by
        )
        Act.objects.record(by, "invited", team=team, about=_invited(invite), note=f"as {Role(role).label.lower()}")
    return invite, token


def revoke_invite(invite: Invite, *, by: User) -> bool:
    """Whether we were in time."""
    with write():
        in_time = bool(Invite.objects.open().filter(pk=invite.pk).update(revoked_at=timezone.now()))
        if in_time:
            Act.objects.record(by, "took back the invitation of", team=invite.team, about=_invited(invite))
    return in_time


def _invited(invite: Invite) -> str:
    return invite.email or "whoever has the link"


def join(invite: Invite, user: User) -> Membership:
    """Somebody who is here already takes an invitation."""
    with write():
        claim(invite)
        return seat(invite, user)


def claim(invite: Invite) -> None:
    """Use the invitation up. Only the first use counts; a later one raises InviteGone.

    The UPDATE asks for columns of its own row only. With a join it would become `id IN (SELECT ...)`, and that is not
    asked again when PostgreSQL has waited for another's update: six of six got in (seen 2026-11).
    """
    if invite.team.closed_at or not Invite.objects.open().filter(pk=invite.pk).update(used_at=timezone.now()):
        raise InviteGone


def seat(invite: Invite, user: User) -> Membership:
    Invite.objects.filter(pk=invite.pk).update(used_by=user)
    role = Role.OWNER if makes_owner(invite) else invite.role
    return Membership.objects.get_or_create(team=invite.team, user=user, defaults={"role": role})[0]


def makes_owner(invite: Invite) -> bool:
    """A team made in the console for somebody who was not here yet has no owner: its first admin becomes that."""
    from_console = invite.role == Role.ADMIN and invite.invited_by.is_site_admin
    return from_console and not invite.team.memberships.filter(role=Role.OWNER).exists()


# --- Members -------------------------------------------------------------------------------------------------------


def change_member(member: Membership, by: Membership, role: Role | None) -> Refusal | None:
    """Give `member` a role, or (None) take them out of the team. At once: their open pages are told to look again."""
    with write():
        # Two owners may not remove each other at once; who inserts a row of the team's need not wait for that.
        Team.objects.select_for_update(no_key=True).get(pk=member.team_id)
        if not Membership.objects.filter(pk=member.pk).exists():
            return Refusal("role", "role", f"{member.user} is not in {member.team} any more.")
        member.refresh_from_db()
        refusal = _why_not(member, by, role)
        if refusal is None:
            _change(member, by.user, role)
    return refusal


def _why_not(member: Membership, by: Membership, role: Role | None) -> Refusal | None:
    is_owner, stays_owner = member.role == Role.OWNER, role == Role.OWNER
    if (is_owner or stays_owner) and by.role != Role.OWNER:
        return Refusal("role", "role", "Only an owner can make, change or remove an owner.")
    owners = member.team.memberships.filter(role=Role.OWNER)
    if is_owner and not stays_owner and not owners.exclude(pk=member.pk).exists():
        return Refusal("role", "role", f"{member.user} is the only owner. Make somebody else an owner first.")
    return None


def _change(member: Membership, by: User, role: Role | None) -> None:
    if role is None:
        Membership.objects.filter(pk=member.pk).delete()
    else:
        Membership.objects.filter(pk=member.pk).update(role=role)
    lost = 0 if role in MANAGERS else _take_back_invitations(member)
    closed = 0 if role else _close_share_links(member)
    if role != member.role:
        _record_change(member, by, role, lost, closed)
    bus.publish_access_changed(member.team_id)


def _take_back_invitations(member: Membership) -> int:
    """The links of somebody who may not invite any more: else the way back in lies in their own mailbox. A site
    admin's stay, who may make one at any time."""
    links = Invite.objects.open().filter(team=member.team, invited_by=member.user, invited_by__is_site_admin=False)
    return links.update(revoked_at=timezone.now())


def _close_share_links(member: Membership) -> int:
    """What somebody shows to guests, whoever is out of the team shows no more. Others of it can share it again."""
    links = ShareLink.objects.filter(collection__team=member.team, made_by=member.user, revoked_at=None)
    return links.filter(expires_at__gt=timezone.now()).update(revoked_at=timezone.now())


def _record_change(member: Membership, by: User, role: Role | None, lost: int, closed: int) -> None:
    verb = "changed the role of" if role else "removed"
    change = f"{role.label.lower()}. Was: " if role else "Was: "
    links = f". Open invitations taken back: {lost}" if lost else ""
    links += f". Links for guests closed: {closed}" if closed else ""
    note = f"{change}{member.get_role_display().lower()}{links}"
    Act.objects.record(by, verb, team=member.team, about=str(member.user), note=note)
