"""Forms about people: setting up, joining, inviting, roles. Each one's save() is its verb."""

from __future__ import annotations

from django import forms
from django.conf import settings
from django.contrib.auth.password_validation import get_default_password_validators, validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection

from .models import Invite, Membership, Role, Team, User, write
from .orders import Refusal
from .teams import change_member, claim, new_invite, open_team, seat

# --- Fields --------------------------------------------------------------------------------------------------------


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


# --- Invitations ---------------------------------------------------------------------------------------------------


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


# --- Members -------------------------------------------------------------------------------------------------------


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)

    def save(self, member: Membership, by: Membership) -> Refusal | None:
        return change_member(member, by, Role(self.cleaned_data["role"]))
