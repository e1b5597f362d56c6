"""Who works together: users, teams, memberships, invitations."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone

INVITE_DAYS = 14


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: object) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, email: str | None) -> User:
        return self.get(email__iexact=email)


class User(AbstractBaseUser):
    """A person who signs in by e-mail address. `is_site_admin` opens the console; roles are on the membership."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=80)
    is_active = models.BooleanField(default=True)
    is_site_admin = models.BooleanField(default=False)
    created = models.DateTimeField(default=timezone.now, editable=False)
    last_team = models.ForeignKey("Team", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    objects = UserManager()
    USERNAME_FIELD = EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["name"]

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_once")]

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def initial(self) -> str:
        return (str(self).strip() or "?")[0].upper()

    @property
    def hue(self) -> int:
        """One of eight colours for this person's initial (static/app.css .face[data-hue])."""
        return self.pk % 8


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    MEMBER = "member", "Member"
    VIEWER = "viewer", "Viewer"


MANAGERS = (Role.OWNER, Role.ADMIN)
MAKERS = (Role.OWNER, Role.ADMIN, Role.MEMBER)


class Team(models.Model):
    name = models.CharField(max_length=80)
    slug = models.SlugField(max_length=60, unique=True)
    created = models.DateTimeField(default=timezone.now, editable=False)
    closed_at = models.DateTimeField(null=True, blank=True)
    private_by_default = models.BooleanField(default=False)  # what a new picture is, unless its author says otherwise
    users: models.ManyToManyField = models.ManyToManyField(User, through="Membership", related_name="teams")

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    joined = models.DateTimeField(default=timezone.now, editable=False)

    # Credits a period. No cap of one's own: the team's for everyone holds. 0 is none at all.
    cap = models.BigIntegerField(null=True, blank=True)
    uncapped = models.BooleanField(default=False)  # explicitly: the team's cap for everyone does not hold either
    own_limit = models.BigIntegerField(null=True, blank=True)  # set by the member, for the member

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "user"], name="membership_once"),
            models.CheckConstraint(condition=Q(cap=None) | Q(uncapped=False), name="membership_capped_or_not"),
            models.CheckConstraint(
                condition=(Q(cap=None) | Q(cap__gte=0, cap__lte=10**12))
                & (Q(own_limit=None) | Q(own_limit__gte=0, own_limit__lte=10**12)),
                name="membership_limits_in_range",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.team} as {self.role}"

    @property
    def may_make(self) -> bool:
        return self.role in MAKERS

    @property
    def may_manage(self) -> bool:
        return self.role in MANAGERS


class InviteQuerySet(models.QuerySet["Invite"]):
    def open(self) -> InviteQuerySet:
        return self.filter(used_at=None, revoked_at=None, expires_at__gt=timezone.now())

    def pending(self) -> InviteQuerySet:
        return self.open().select_related("invited_by").order_by("-created")


def invite_expiry():
    return timezone.now() + timedelta(days=INVITE_DAYS)


class Invite(models.Model):
    """A link that lets one person into a team, once. The token itself is shown once and kept hashed."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="invites")
    token_hash = models.CharField(max_length=64, unique=True)
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    email = models.EmailField(blank=True)
    invited_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    created = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(default=invite_expiry)
    used_at = models.DateTimeField(null=True, blank=True)
    used_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = InviteQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(role=Role.OWNER), name="invite_never_makes_an_owner"),
        ]

    def __str__(self) -> str:
        return f"invite to {self.team} as {self.role}"
