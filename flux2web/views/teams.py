"""A team's people: who is in, and in which role."""

from __future__ import annotations

from dataclasses import dataclass
from smtplib import SMTPException

import structlog
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.core.mail import get_connection, send_mail
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from .. import access, caps
from ..caps import Standing
from ..forms_budget import CapForm, CapsForm
from ..forms_people import InviteForm, NewPersonForm, RoleForm
from ..models import Invite, Membership, Role
from ..models.base import token_hash
from ..notices import can_mail, mail_problem
from ..orders import Refusal
from ..teams import InviteGone, change_member, join, makes_owner
from ..teams import revoke_invite as take_back

log = structlog.get_logger(__name__)
MAIL_TIMEOUT_S = 10


# --- Members -------------------------------------------------------------------------------------------------------


@access.team()
def members(request: HttpRequest, member: Membership) -> HttpResponse:
    return members_page(request, member)


@dataclass(frozen=True)
class Row:
    """One member as the admins' table shows them, with the form for their cap."""

    standing: Standing
    form: CapForm

    @property
    def member(self) -> Membership:
        return self.standing.member


def members_page(request: HttpRequest, member: Membership, *, status: int = 200, **context: object) -> HttpResponse:
    """Everyone sees who is in; admins also see what everyone may spend, open invitations, and may act."""
    page: dict[str, object] = {"roles": roles_to_give(member)}
    if member.may_manage:
        page |= limits(member) | {"invites": list(member.team.invites.pending()), "form": InviteForm()}
    else:
        page["people"] = list(member.team.memberships.select_related("user").order_by("joined", "id"))
    page["count"] = len(page["rows" if member.may_manage else "people"])  # type: ignore[arg-type]
    return render(request, "teams/members.html", page | context, status=status)


def limits(member: Membership, *, only: int | None = None, form: CapForm | None = None) -> dict[str, object]:
    """Everyone's row (or `only` one), with `form` in the place of its member's."""
    budget = member.team.budget
    month = caps.month(budget)
    people = caps.with_last_day(member.team)
    found = caps.standings(budget, month, list(people.filter(pk=only) if only else people))
    forms = [CapForm(member=one.member, for_all=budget.member_cap) for one in found]
    if form:
        forms = [form if fresh.member.pk == form.member.pk else fresh for fresh in forms]
    return {
        "rows": [Row(one, fresh) for one, fresh in zip(found, forms, strict=True)],
        "month": month,
        "budget": budget,
        "caps_form": CapsForm(team=member.team, for_all=budget.member_cap),
    }


def roles_to_give(member: Membership) -> list[Role]:
    """The roles this person may give to others; an owner's role is an owner's business."""
    if not member.may_manage:
        return []
    return [role for role in Role if role != Role.OWNER or member.role == Role.OWNER]


@require_POST
@access.team(Role.ADMIN)
def set_role(request: HttpRequest, member: Membership, membership_id: int) -> HttpResponse:
    other = get_object_or_404(Membership.objects.select_related("user", "team"), team=member.team, pk=membership_id)
    form = RoleForm(request.POST)
    if not form.is_valid():
        return refused(request, member, Refusal("input", "role", "Choose one of the four roles."))
    refusal = change_member(other, member, Role(form.cleaned_data["role"]))
    if refusal:
        return refused(request, member, refusal)
    messages.success(request, f"{other.user} is now {Role(form.cleaned_data['role']).label.lower()}.")
    return redirect(onward(request, member, other))


@require_POST
@access.team(Role.ADMIN)
def remove_member(request: HttpRequest, member: Membership, membership_id: int) -> HttpResponse:
    other = get_object_or_404(Membership.objects.select_related("user", "team"), team=member.team, pk=membership_id)
    refusal = change_member(other, member, None)
    if refusal:
        return refused(request, member, refusal)
    messages.success(request, f"{other.user} is no longer in {member.team}.")
    return redirect(onward(request, member, other))


@require_POST
@access.team(Role.ADMIN)
def set_cap(request: HttpRequest, member: Membership, membership_id: int) -> HttpResponse:
    """With htmx the answer is the row, as it is now or with what is wrong."""
    other = get_object_or_404(Membership.objects.select_related("user", "team"), team=member.team, pk=membership_id)
    form = CapForm(request.POST, member=other, for_all=member.team.budget.member_cap)
    saved = form.is_valid() and form.save(member.user)
    status = 200 if saved else 422
    if request.htmx:  # type: ignore[attr-defined]
        return cap_row(request, member, other, None if saved else form, status=status)
    if not saved:
        return members_page(request, member, status=status, **limits(member, form=form))
    tell_caps(request, member, [other])
    return redirect("members", member.team.slug)


def cap_row(
    request: HttpRequest, member: Membership, other: Membership, form: CapForm | None, *, status: int
) -> HttpResponse:
    context = limits(member, only=other.pk, form=form)
    rows = context["rows"]
    if not rows:  # taken out of the team just now
        return HttpResponse(status=200)
    context |= {"row": rows[0], "roles": roles_to_give(member), "swapped": True}  # type: ignore[index]
    return render(request, "teams/_member.html", context, status=status)


def tell_caps(request: HttpRequest, member: Membership, changed: list[Membership]) -> None:
    """Who may use how much now, and who has used more already."""
    month, ids = caps.month(member.team.budget), [row.pk for row in changed]
    people = list(member.team.memberships.filter(pk__in=ids).select_related("user"))
    found = caps.standings(member.team.budget, month, people)
    names = ", ".join(str(one.member.user) for one in found[:5]) + (f" and {len(found) - 5} more" if found[5:] else "")
    if found:
        messages.success(request, f"The cap of {names}: {found[0].words}.")
    over = caps.over_text([one for one in found if one.is_over], month)
    if over:
        messages.warning(request, over)


@require_POST
@access.team(Role.ADMIN)
def set_caps(request: HttpRequest, member: Membership) -> HttpResponse:
    form = CapsForm(request.POST, team=member.team, for_all=member.team.budget.member_cap)
    changed = form.save(member.user) if form.is_valid() else None
    if changed is None:
        return members_page(request, member, status=422, caps_form=form)
    if changed:
        tell_caps(request, member, changed)
    else:
        messages.info(request, "Nothing was changed: they have this cap already.")
    return redirect("members", member.team.slug)


def refused(request: HttpRequest, member: Membership, refusal: Refusal) -> HttpResponse:
    messages.error(request, refusal.message)
    return members_page(request, member, status=409)


def onward(request: HttpRequest, member: Membership, other: Membership) -> str:
    """Whoever took themselves out has no members page to go back to."""
    return reverse("home") if other.user_id == member.user_id else reverse("members", args=[member.team.slug])


# --- Invitations ---------------------------------------------------------------------------------------------------


@require_POST
@access.team(Role.ADMIN)
@never_cache
def invite(request: HttpRequest, member: Membership) -> HttpResponse:
    """The answer shows the link, once: it is kept nowhere, so there is no page to redirect to."""
    form = InviteForm(request.POST)
    if not form.is_valid():
        return members_page(request, member, status=422, form=form)
    row, token = form.save(member.team, member.user)
    link = invite_link(request, token)
    return members_page(request, member, link=link, made=row, mailed=send_invite(row, link))


@require_POST
@access.team(Role.ADMIN)
def revoke_invite(request: HttpRequest, member: Membership, invite_id: int) -> HttpResponse:
    row = access.invite(member, invite_id)
    if take_back(row, by=member.user):
        messages.success(request, "The link does not work any more.")
    else:
        messages.warning(request, "Too late: this link was used or had run out already.")
    return redirect("members", member.team.slug)


def invite_link(request: HttpRequest, token: str) -> str:
    path = reverse("accept-invite", args=[token])
    return f"{settings.PUBLIC_URL}{path}" if settings.PUBLIC_URL else request.build_absolute_uri(path)


def send_invite(row: Invite, link: str) -> bool | None:
    """True: sent. False: the mail server did not take it. None: there was nothing to send, or no mail is set up."""
    if not row.email or not can_mail():
        return None
    text = render_to_string("invites/mail.txt", {"invite": row, "link": link})
    subject = " ".join(f"Join {row.team} on flux2web".split())  # a name may hold a line break, a header must not
    server = get_connection(timeout=MAIL_TIMEOUT_S)
    try:
        return bool(send_mail(subject, text, None, [row.email], connection=server))
    except (OSError, SMTPException) as error:
        log.warning("invitation not mailed", invite=row.pk, error=mail_problem(error))
        return False


@access.public
@never_cache
def accept_invite(request: HttpRequest, token: str) -> HttpResponse:
    rows = Invite.objects.select_related("team", "invited_by")
    row = get_object_or_404(rows, token_hash=token_hash(token))
    answer = known_person if request.user.is_authenticated else new_person
    try:
        return answer(request, row) if is_open(row) else gone(request, row)
    except InviteGone:
        row.refresh_from_db()
        return gone(request, row)


def is_open(row: Invite) -> bool:
    return row.team.closed_at is None and Invite.objects.open().filter(pk=row.pk).exists()


def gone(request: HttpRequest, row: Invite) -> HttpResponse:
    """Used, taken back or run out; whoever it let in is shown the way."""
    user = request.user
    inside = user.is_authenticated and user.memberships.filter(team=row.team, team__closed_at=None).exists()
    return render(request, "invites/gone.html", {"invite": row, "inside": inside}, status=410)


def known_person(request: HttpRequest, row: Invite) -> HttpResponse:
    user = request.user
    if user.memberships.filter(team=row.team).exists():  # type: ignore[union-attr]
        messages.info(request, f"You are in {row.team} already. The link still works for somebody else.")
        return redirect("studio", row.team.slug)
    if request.method == "POST":
        return welcome(request, join(row, user))  # type: ignore[arg-type]
    return render(request, "invites/page.html", about(row))


def new_person(request: HttpRequest, row: Invite) -> HttpResponse:
    form = NewPersonForm(request.POST or None, initial={"email": row.email})
    member = form.save(row) if form.is_valid() else None
    if member is None:
        return render(request, "invites/page.html", about(row) | {"form": form}, status=422 if form.is_bound else 200)
    login(request, member.user, backend=settings.AUTHENTICATION_BACKENDS[0])
    return welcome(request, member)


def about(row: Invite) -> dict[str, object]:
    return {"invite": row, "role": Role.OWNER if makes_owner(row) else Role(row.role)}


def welcome(request: HttpRequest, member: Membership) -> HttpResponse:
    messages.success(request, f"Welcome to {member.team}.")
    return redirect("studio", member.team.slug)
