"""What passes between people: requests for credits, notices, and files made to be fetched."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from .periods import Period
from .tasks import Batch
from .teams import Team


class CreditRequest(models.Model):
    """A member asks for more. May hold the order that did not fit, to be sent by itself when granted."""

    class Limit(models.TextChoices):
        """Whose limit bound, and so who can help: the team's admins, or the site's."""

        MEMBER = "member"
        TEAM = "team"

    class State(models.TextChoices):
        OPEN = "open", "Waiting for an answer"
        GRANTED = "granted", "Granted"
        DECLINED = "declined", "Declined"
        WITHDRAWN = "withdrawn", "Withdrawn"

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="requests")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="credit_requests")
    key = models.CharField(max_length=80)
    limit = models.CharField(max_length=6, choices=Limit)
    amount = models.BigIntegerField()
    reason = models.CharField(max_length=200, blank=True)
    created = models.DateTimeField(default=timezone.now, editable=False)

    # The order that did not fit, as orders.Order's fields, and its price then. Sent once, if at all.
    draft = models.JSONField(null=True, blank=True)
    price_seen = models.BigIntegerField(null=True, blank=True)
    sends_itself = models.BooleanField(default=False)
    send_due_at = models.DateTimeField(null=True, blank=True)  # set when granted; null when done with
    batch = models.ForeignKey(Batch, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    not_sent = models.CharField(max_length=300, blank=True)  # why, where it could not be

    state = models.CharField(max_length=9, choices=State, default=State.OPEN)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    granted = models.BigIntegerField(null=True, blank=True)
    period = models.ForeignKey(  # in which the member was given more, where it does not last
        Period, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    lasts = models.BooleanField(default=False)  # granted for good, not only until the period's end
    note = models.CharField(max_length=200, blank=True)  # to the member

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "key"], name="request_key_once"),
            models.CheckConstraint(condition=Q(amount__gte=1, amount__lte=10**12), name="request_amount_in_range"),
            models.CheckConstraint(
                condition=Q(state="granted", granted__gte=1) | (~Q(state="granted") & Q(granted=None)),
                name="request_granted_exactly_when_it_says_so",
            ),
        ]
        indexes = [
            models.Index(fields=["team", "state", "-created"], name="request_inbox"),
            models.Index(fields=["send_due_at"], condition=Q(send_due_at__isnull=False), name="request_due"),
        ]

    def __str__(self) -> str:
        return f"{self.user} asks for {self.amount}"


class Notice(models.Model):
    """Something one person should know, shown until they put it away; mailed too where `mail_due_at` says so."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notices")
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=80)  # one notice of a kind: told once, however many tell it
    tone = models.CharField(max_length=4, default="info")  # info, good, warn, bad
    text = models.CharField(max_length=300)
    url = models.CharField(max_length=200, blank=True)
    created = models.DateTimeField(default=timezone.now, editable=False)
    seen_at = models.DateTimeField(null=True, blank=True)
    mail_due_at = models.DateTimeField(null=True, blank=True)
    mail_tries = models.PositiveSmallIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="notice_once")]
        indexes = [
            models.Index(fields=["user", "-created", "-id"], name="notice_by_user"),
            models.Index(fields=["mail_due_at"], condition=Q(mail_due_at__isnull=False), name="notice_mail_due"),
        ]

    def __str__(self) -> str:
        return self.text


class Export(models.Model):
    """A file that somebody asked for and that takes a while: made by an actor, fetched from a page, gone after a time."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        RUNNING = "running", "Being made"
        DONE = "done", "Ready"
        FAILED = "failed", "Failed"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="exports")
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="exports")
    kind = models.CharField(max_length=20)
    query = models.JSONField(default=dict)  # the filters, as the page's query string had them
    name = models.CharField(max_length=120)  # the file's, for whoever saves it
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    rows_done = models.PositiveIntegerField(default=0)
    rows_total = models.PositiveIntegerField(null=True, blank=True)
    key = models.CharField(max_length=200, blank=True)  # in storage
    size_bytes = models.BigIntegerField(null=True, blank=True)
    problem = models.CharField(max_length=200, blank=True)
    created = models.DateTimeField(default=timezone.now, editable=False)
    due_at = models.DateTimeField(null=True, default=timezone.now)  # null when it has ended
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["user", "-created", "-id"], name="export_by_user"),
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="export_due"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.user}: {self.state}"
