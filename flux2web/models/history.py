"""What happened: a task's events, the callbacks that rang, what admins did, the clock's pulse, what the audits found."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from .tasks import Attempt, Task
from .teams import Team, User


class Event(models.Model):
    """One thing that happened to a task, written in the transaction of the change it tells of."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(default=timezone.now, editable=False)
    kind = models.CharField(max_length=20)  # a state's name, or what else happened: callback, refusal, late, conflict
    cause = models.CharField(
        max_length=80
    )  # who or what: "user 3", "create answer", "query answer", "fetch", "limit", ...
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} by {self.cause}"


class Callback(models.Model):
    """Somebody rang at a provider's address. The raw bytes are kept; nothing in them is believed."""

    class Verdict(models.TextChoices):
        MATCHED = "matched", "Matched"  # the first that speaks of this attempt's task
        DUPLICATE = "duplicate", "Rang before"
        LATE = "late", "After the end"
        MALFORMED = "malformed", "Not readable"  # the right address, but a body that names no task, or another's
        UNKNOWN = "unknown", "Unknown address"  # nobody's secret

    class Signature(models.TextChoices):
        """Of providers that sign (kie's scheme), where its secret is set here. It lowers noise; it proves nothing."""

        NONE = "", "Not checked"
        GOOD = "good", "Signed"
        BAD = "bad", "Wrongly signed"

    attempt = models.ForeignKey(Attempt, null=True, blank=True, on_delete=models.CASCADE, related_name="callbacks")
    provider = models.CharField(max_length=20, db_default="", default="")  # whose address it was
    verdict = models.CharField(max_length=9, choices=Verdict, default=Verdict.MATCHED, db_default=Verdict.MATCHED)
    signature = models.CharField(max_length=4, choices=Signature, default="", db_default="", blank=True)
    received = models.DateTimeField(default=timezone.now, editable=False)
    method = models.CharField(max_length=10)
    body = models.BinaryField()
    size_bytes = models.PositiveIntegerField(default=0, db_default=0)  # as it came: of an unknown one less is kept

    class Meta:
        indexes = [
            models.Index(fields=["attempt", "-received"], name="callback_by_attempt"),
            models.Index(fields=["verdict", "-id"], name="callback_by_verdict"),
            models.Index(fields=["provider", "-id"], name="callback_by_provider"),
        ]

    def __str__(self) -> str:
        return f"callback to attempt {self.attempt_id}"


class Heartbeat(models.Model):
    """When a loop last went round; /health/ready looks at it."""

    name = models.CharField(max_length=40, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} at {self.at}"


class Audit(models.Model):
    """One re-adding of the whole ledger; `findings` says in words what did not add up, and is empty when all did."""

    at = models.DateTimeField(default=timezone.now, editable=False)
    took_s = models.FloatField()
    findings = models.JSONField(default=list)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"audit at {self.at}: {len(self.findings)} findings"


class ActManager(models.Manager["Act"]):
    def record(
        self,
        actor: User | None,
        verb: str,
        *,
        team: Team | None = None,
        about: str = "",
        note: str = "",
        label: str = "",
    ) -> Act:
        """Write down what an admin does, in the transaction that does it. `label` says who it was where it is no user."""
        return self.create(
            actor=actor,
            actor_label=str(actor or label or "flux2web")[:80],
            verb=verb,
            team=team,
            about=about[:120],
            note=note[:300],
        )


class Act(models.Model):
    """One administrative act: who did what, to whom, and what it was before."""

    at = models.DateTimeField(default=timezone.now, editable=False)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    actor_label = models.CharField(max_length=80)  # stays when the person goes
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.PROTECT, related_name="acts")
    verb = models.CharField(max_length=40)  # in words: "granted", "set the cap of", "changed the price of"
    about = models.CharField(max_length=120, blank=True)  # whom or what
    note = models.CharField(max_length=300, blank=True)  # the change, and the reason where one was given

    objects = ActManager()

    class Meta:
        indexes = [models.Index(fields=["team", "-id"], name="act_by_team")]

    def __str__(self) -> str:
        return f"{self.actor_label} {self.verb} {self.about}".strip()
