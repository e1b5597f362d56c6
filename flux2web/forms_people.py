"""Forms about people and money: setting up, joining, roles, budgets, accounts, prices. Each one's save() is its verb."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.contrib.auth.password_validation import get_default_password_validators, validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection
from django.utils import timezone
from django.utils.text import slugify

from . import bus, ledger, lifecycle
from .accounts import set_account
from .models import Budget, Entry, Invite, Membership, Price, ProviderAccount, Role, Task, Team, User, write
from .models.base import new_token, token_hash
from .models.teams import MANAGERS
from .money import parse_credits
from .orders import Refusal
from .providers.base import Account, Provider

COUNT_MAX = 10**6  # calls or tasks at once: more is a slip of the finger
REFERENCE_CREDITS_MAX = 10**6


# --- Fields --------------------------------------------------------------------------------------------------------


class CreditsField(forms.CharField):
    """A whole, positive number of credits. What was typed stays in the form, whatever it was."""

    widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"})

    def clean(self, value: object) -> int | None:
        text = super().clean(value)
        try:
            return parse_credits(text) if text else None
        except ValueError as error:
            raise ValidationError(str(error)) from None


def password_field(label: str) -> forms.CharField:
    """A new password, with the rules beside it."""
    rules = " ".join(rule.get_help_text() for rule in get_default_password_validators()[1:2])
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
    return forms.CharField(label=label, strip=False, max_length=200, widget=widget, help_text=rules)


# --- People --------------------------------------------------------------------------------------------------------


class PersonForm(forms.Form):
    """Someone who is new here."""

    name = forms.CharField(label="Your name", max_length=80, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    email = forms.EmailField(
        label="Email",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "username"}),
        help_text="You sign in with it.",
    )
    password = password_field("Password")

    def clean_email(self) -> str:
        email = self.cleaned_data["email"].lower()
        if User.objects.filter(email__iexact=email).exists():
            raise ValidationError("Somebody with this address is here already. Sign in, then open the link again.")
        return email

    def clean(self) -> None:
        person = User(name=self.cleaned_data.get("name", ""), email=self.cleaned_data.get("email", ""))
        try:
            validate_password(self.cleaned_data.get("password", ""), person)
        except ValidationError as error:
            self.add_error("password", error)

    def make_user(self, *, is_site_admin: bool = False) -> User:
        given = self.cleaned_data
        return User.objects.create_user(
            given["email"], given["password"], name=given["name"], is_site_admin=is_site_admin
        )


class SetupForm(PersonForm):
    """The first person and the first team."""

    team = forms.CharField(label="Your team's name", max_length=80, widget=forms.TextInput(attrs={"autofocus": True}))
    field_order = ("team", "name", "email", "password")

    def save(self) -> User | None:
        """The first user, their team and its credits. None when somebody else was first."""
        with write():
            one_at_a_time()
            if User.objects.exists():
                return None
            user = self.make_user(is_site_admin=True)
            team = open_team(self.cleaned_data["team"], settings.FIRST_TEAM_CREDITS, by=user, reason="to begin with")
            Membership.objects.create(team=team, user=user, role=Role.OWNER)
        return user


def one_at_a_time() -> None:
    """Two first administrators must not both find the table empty. SQLite has one writer anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE flux2web_user IN SHARE ROW EXCLUSIVE MODE")


def open_team(name: str, credits: int, *, by: User, reason: str) -> Team:
    """A team with its budget, called inside the caller's transaction."""
    team = Team.objects.create(name=name, slug=free_slug(name))
    Budget.objects.create(team=team)
    ledger.grant(team, credits, actor=by, reason=reason, key="first")
    return team


def free_slug(name: str) -> str:
    """`north`, or `north-2` where that is taken; `team` where the name has no letter that an address can carry."""
    base = slugify(name)[:50].strip("-") or "team"
    taken = set(Team.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    return next(slug for slug in _numbered(base) if slug not in taken)


def _numbered(base: str) -> Iterator[str]:
    yield base
    yield from (f"{base}-{number}" for number in range(2, 10**6))


# --- Invitations ---------------------------------------------------------------------------------------------------


class InviteGone(Exception):
    """The invitation was used, taken back or ran out a moment ago. Undoes the transaction it is raised in."""


class InviteForm(forms.Form):
    """A one-time link into the team."""

    role = forms.ChoiceField(
        choices=[(role.value, role.label) for role in (Role.MEMBER, Role.VIEWER, Role.ADMIN)], initial=Role.MEMBER
    )
    email = forms.EmailField(
        label="Email", required=False, max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "off"})
    )

    def save(self, team: Team, by: User) -> tuple[Invite, str]:
        return new_invite(team, by, role=self.cleaned_data["role"], email=self.cleaned_data["email"])


def new_invite(team: Team, by: User, *, role: str, email: str = "") -> tuple[Invite, str]:
    """The invitation and its token, which exists nowhere else: only its hash is kept."""
    token = new_token()
    with write():
        invite = Invite.objects.create(
            team=team, token_hash=token_hash(token), role=role, email=email.lower(), invited_by=by
        )
    return invite, token


class NewPersonForm(PersonForm):
    """Somebody new takes an invitation."""

    def save(self, invite: Invite) -> Membership | None:
        """Their membership. None when their address was taken a moment ago, which is then in the form."""
        try:
            with write():
                claim(invite)
                return seat(invite, self.make_user())
        except IntegrityError:
            self.add_error("email", "Somebody with this address has just joined. Sign in, then open the link again.")
            return None


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


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)

    def save(self, member: Membership, by: Membership) -> Refusal | None:
        return change_member(member, by, Role(self.cleaned_data["role"]))


def change_member(member: Membership, by: Membership, role: Role | None) -> Refusal | None:
    """Give `member` a role, or (None) take them out of the team. At once: their open pages are told to look again."""
    with write():
        Team.objects.select_for_update().get(pk=member.team_id)  # two owners may not remove each other at once
        if not Membership.objects.filter(pk=member.pk).exists():
            return Refusal("role", "role", f"{member.user} is not in {member.team} any more.")
        member.refresh_from_db()
        refusal = _why_not(member, by, role)
        if refusal is None:
            _change(member, role)
    return refusal


def _why_not(member: Membership, by: Membership, role: Role | None) -> Refusal | None:
    is_owner, stays_owner = member.role == Role.OWNER, role == Role.OWNER
    if (is_owner or stays_owner) and by.role != Role.OWNER:
        return Refusal("role", "role", "Only an owner can make, change or remove an owner.")
    owners = member.team.memberships.filter(role=Role.OWNER)
    if is_owner and not stays_owner and not owners.exclude(pk=member.pk).exists():
        return Refusal("role", "role", f"{member.user} is the only owner. Make somebody else an owner first.")
    return None


def _change(member: Membership, role: Role | None) -> None:
    if role is None:
        Membership.objects.filter(pk=member.pk).delete()
    else:
        Membership.objects.filter(pk=member.pk).update(role=role)
    if role not in MANAGERS:
        _take_back_invitations(member)
    bus.publish_access_changed(member.team_id)


def _take_back_invitations(member: Membership) -> None:
    """The links of somebody who may not invite any more: else the way back in lies in their own mailbox. A site
    admin's stay, who may make one at any time."""
    links = Invite.objects.open().filter(team=member.team, invited_by=member.user, invited_by__is_site_admin=False)
    links.update(revoked_at=timezone.now())


# --- The console ---------------------------------------------------------------------------------------------------


class OwnerForm(forms.Form):
    """Who looks after a team: somebody who is here, by address, else whoever opens a link."""

    owner = forms.EmailField(
        label="Owner's email",
        required=False,
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
        help_text="Nobody here has this address, or it is empty? Then you get a link to pass on.",
    )

    def appoint(self, team: Team, by: User) -> str | None:
        """Make them the owner; or the token of an invitation that will, where nobody has that address."""
        email = self.cleaned_data["owner"].lower()
        user = User.objects.filter(email__iexact=email, is_active=True).first() if email else None
        if user is None:
            return new_invite(team, by, role=Role.ADMIN, email=email)[1]
        Membership.objects.update_or_create(team=team, user=user, defaults={"role": Role.OWNER})
        bus.publish_access_changed(team.pk)
        return None


class TeamForm(OwnerForm):
    """A new team, its first credits, and who looks after it."""

    name = forms.CharField(label="Name", max_length=80)
    credits = CreditsField(label="Credits", initial=settings.FIRST_TEAM_CREDITS)
    field_order = ("name", "credits", "owner")

    def save(self, by: User) -> tuple[Team, str | None]:
        """The team, and the token of its owner's invitation where one is needed."""
        with write():
            team = open_team(self.cleaned_data["name"], self.cleaned_data["credits"], by=by, reason="to begin with")
            return team, self.appoint(team, by)


REFUND = Entry.Kind.REFUND.value


class GrantForm(forms.Form):
    """Give a team credits, take some back, or refund a picture.

    `key` is made when the form is shown: sent twice, it counts once.
    """

    kind = forms.ChoiceField(
        label="What",
        choices=[(Entry.Kind.GRANT.value, "Grant"), (Entry.Kind.REVOKE.value, "Take back"), (REFUND, "Refund")],
        initial=Entry.Kind.GRANT,
        widget=forms.RadioSelect,
    )
    amount = CreditsField(label="Credits")
    task = forms.CharField(
        label="Task",
        required=False,
        max_length=18,
        help_text="Of a refund: the number of the picture it is for.",
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
    )
    reason = forms.CharField(
        label="Reason",
        max_length=200,
        help_text="The team reads it.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    key = forms.CharField(max_length=60, initial=new_token, widget=forms.HiddenInput)

    def save(self, team: Team, by: User) -> Entry | None:
        """The entry, new or that of the first sending; None after a refusal, which is then in the form."""
        entry = self._enter(team, by)
        if isinstance(entry, Refusal):
            self.add_error(entry.field or None, entry.message)
            return None
        return entry

    def _enter(self, team: Team, by: User) -> Entry | Refusal:
        given = self.cleaned_data
        why = {"actor": by, "reason": given["reason"], "key": f"console:{given['key']}"}
        if given["kind"] != REFUND:
            verb = ledger.grant if given["kind"] == Entry.Kind.GRANT else ledger.revoke
            return verb(team, given["amount"], **why)
        number = given["task"].strip()
        is_id = number.isascii() and number.isdigit()
        task = Task.objects.for_team(team).filter(pk=int(number)).first() if is_id else None
        if task is None:
            return Refusal("input", "task", f"{team} has no such task. Its number stands in the ledger.")
        return lifecycle.refund(task, given["amount"], **why)


# --- Providers -----------------------------------------------------------------------------------------------------


class ProviderForm(forms.Form):
    """The real account with one provider. The key goes in and never comes out; left empty, the one we have stays."""

    enabled = forms.BooleanField(
        label="Switched on", required=False, help_text="Off: no new tasks; running ones finish."
    )
    key = forms.CharField(
        label="API key",
        required=False,
        max_length=500,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    base_url = forms.CharField(label="Address", max_length=200, widget=forms.TextInput(attrs={"inputmode": "url"}))
    rate = forms.CharField(
        label="Calls",
        max_length=20,
        help_text="At most so many creates in so many seconds, for example 20/10.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    concurrent = forms.IntegerField(
        label="Tasks at once",
        required=False,
        min_value=1,
        max_value=COUNT_MAX,
        help_text="Empty: no ceiling.",
    )

    def __init__(self, data=None, *, adapter: Provider, account: ProviderAccount | None) -> None:
        super().__init__(data, initial=_as_typed(adapter, account))
        self.adapter, self.account = adapter, account
        for name, values in adapter.options.items():
            self.fields[f"option_{name}"] = _option_field(name, values)

    @property
    def options(self) -> list[forms.BoundField]:
        """The adapter's own settings, for the template."""
        return [self[f"option_{name}"] for name in self.adapter.options]

    def clean_key(self) -> str:
        key = self.cleaned_data["key"].strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValidationError("A key has no spaces, line breaks or accents. Was something else copied with it?")
        if not key and not (self.account and self.account.key_version):
            raise ValidationError("Enter the key that this provider gave you.")
        return key

    def clean_base_url(self) -> str:
        return clean_address(self.cleaned_data["base_url"])

    def clean_rate(self) -> tuple[int, float]:
        return parse_rate(self.cleaned_data["rate"])

    def save(self) -> ProviderAccount:
        given = self.cleaned_data
        return set_account(
            self.adapter.slug,
            key=given["key"] or None,
            base_url=given["base_url"],
            enabled=given["enabled"],
            options={name: given[f"option_{name}"] for name in self.adapter.options},
            rate=given["rate"],
            concurrent=given["concurrent"],
        )


def _as_typed(adapter: Provider, account: ProviderAccount | None) -> dict:
    """The account's settings as the form shows them; the adapter's own advice where there is no account yet."""
    options = dict(account.options) if account else {}
    chosen = {f"option_{name}": options.get(name, values[:1] and values[0]) for name, values in adapter.options.items()}
    if account:
        rate = f"{account.rate_count}/{account.rate_s:g}"
        return chosen | {
            "enabled": account.enabled,
            "base_url": account.base_url,
            "rate": rate,
            "concurrent": account.concurrent,
        }
    advice = adapter.capabilities(Account("", adapter.base_url)).throttle
    rate = f"{advice.count}/{advice.per_s:g}"
    return chosen | {"enabled": True, "base_url": adapter.base_url, "rate": rate, "concurrent": advice.concurrent}


def _option_field(name: str, values: tuple[str, ...]) -> forms.Field:
    """One of several values; free text where the adapter names only its default (or none)."""
    label = name.replace("_", " ").capitalize()
    if len(values) > 1:
        choices = [(value, value or "not sent") for value in values]
        return forms.ChoiceField(label=label, choices=choices, required=False)
    help_text = f"Usually {values[0]}" if values else ""
    return forms.CharField(label=label, required=False, max_length=120, help_text=help_text)


def clean_address(text: str) -> str:
    """An http(s) address with a plain path and nothing else, without the last slash: what we append must stay below it."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValidationError("This is no web address.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValidationError("Write an address that begins with https:// (or http:// on your own network).")
    if (
        parts.username is not None
        or parts.password is not None
        or parts.query
        or parts.fragment
        or "?" in text
        or "#" in text
    ):
        raise ValidationError("Only scheme, host, port and path, please: no name, password, ? or #.")
    path = parts.path.rstrip("/")
    plain_host = re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]", parts.netloc.removesuffix(f":{parts.port}"))
    if not plain_host or not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*", path):
        raise ValidationError("The host and path may hold letters, digits, dots and hyphens only, and no .. parts.")
    return f"{parts.scheme}://{parts.netloc}{path}"


def parse_rate(text: str) -> tuple[int, float]:
    """ "20/10" is 20 calls in 10 seconds."""
    found = re.fullmatch(r"([0-9]{1,7})\s*/\s*([0-9]{1,6}(?:\.[0-9]{1,3})?)", text.strip())
    count, seconds = (int(found[1]), float(found[2])) if found else (0, 0.0)
    if not 1 <= count <= COUNT_MAX or not (math.isfinite(seconds) and seconds > 0):
        raise ValidationError("Write calls/seconds, for example 20/10 for 20 calls in 10 seconds.")
    return count, seconds


# --- Prices --------------------------------------------------------------------------------------------------------


class PriceForm(forms.Form):
    """What one picture costs a team, in one row of the price list."""

    credits = CreditsField(label="Credits a picture", required=False)
    each = forms.IntegerField(
        label="Credits a reference",
        required=False,
        min_value=0,
        max_value=REFERENCE_CREDITS_MAX,
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
    )
    confirmed = forms.BooleanField(label="Confirm", required=False)

    def __init__(self, data=None, *, provider: str, family: str, resolution: str, price: Price | None) -> None:
        self.place: dict[str, Any] = {"provider": provider, "family": family, "resolution": resolution}
        self.price = price
        shown = {"credits": price.credits, "each": price.credits_per_reference or ""} if price else {}
        super().__init__(data, prefix="-".join(self.place.values()), initial=shown)
        for field in (self.fields["credits"], self.fields["each"]):
            field.widget.attrs["aria-label"] = f"{field.label}, {provider} {family} {resolution}"

    def clean_credits(self) -> int | None:
        credits = self.cleaned_data["credits"]
        if credits is None and self.price:
            raise ValidationError("Enter a price. To offer it no more, switch the provider off.")
        return credits

    @property
    def usd(self) -> str:
        """ "0.025", "0.10", or nothing where no dollar price is known."""
        if self.price is None or self.price.usd is None:
            return ""
        whole, _, part = f"{self.price.usd:.4f}".rstrip("0").partition(".")
        return f"{whole}.{part:0<2}"

    @property
    def is_assumed(self) -> bool:
        return self.price is not None and not (self.price.published or self.price.confirmed_at)

    def save(self) -> None:
        """Write the row if somebody changed or confirmed it. A changed price is ours, no longer the provider's."""
        credits, each = self.cleaned_data["credits"], self.cleaned_data["each"] or 0
        same = self.price is not None and (self.price.credits, self.price.credits_per_reference) == (credits, each)
        if credits is None or (same and not self.cleaned_data["confirmed"]):
            return
        published = bool(same and self.price and self.price.published)
        values = {"credits": credits, "credits_per_reference": each, "published": published}
        Price.objects.update_or_create(**self.place, defaults=values | {"confirmed_at": timezone.now()})


def save_prices(forms: list[PriceForm]) -> None:
    """All rows of the list, or none."""
    with write():
        for form in forms:
            form.save()
