"""What happened: a task's events, the callbacks that rang, the clock's pulse, and what the audits found."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from .tasks import Attempt, Task


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
    """A provider rang. The raw bytes are kept; nothing in them is believed."""

    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="callbacks")
    received = models.DateTimeField(default=timezone.now, editable=False)
    method = models.CharField(max_length=10)
    body = models.BinaryField()

    class Meta:
        indexes = [models.Index(fields=["attempt", "-received"], name="callback_by_attempt")]

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
