"""Pictures: references that members gave us, results that providers made, and the addresses references are open at."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from .tasks import Task
from .teams import Team


class Reference(models.Model):
    """An uploaded input picture, re-encoded by us. `key` is its name in storage."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="references")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    name = models.CharField(max_length=120)
    key = models.CharField(max_length=160)
    thumb_key = models.CharField(max_length=160)
    mime = models.CharField(max_length=20)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveBigIntegerField()
    width_px = models.PositiveIntegerField()
    height_px = models.PositiveIntegerField()
    created = models.DateTimeField(default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True)
    private = models.BooleanField(default=False, db_default=False)  # seen by `user` only
    made_from = models.ForeignKey(Task, null=True, blank=True, on_delete=models.SET_NULL, related_name="images")
    purged_at = models.DateTimeField(null=True, blank=True)  # thrown out, never used, and its files with it

    class Meta:
        indexes = [models.Index(fields=["team", "-created", "-id"], name="reference_by_team")]

    def __str__(self) -> str:
        return self.name


class TaskReference(models.Model):
    """Reference number `number` (1 to 8) of a task."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="task_references")
    reference = models.ForeignKey(Reference, on_delete=models.PROTECT, related_name="uses")
    number = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["task", "number"], name="task_reference_number_once"),
            models.CheckConstraint(condition=models.Q(number__gte=1, number__lte=8), name="task_reference_1_to_8"),
        ]

    def __str__(self) -> str:
        return f"image {self.number} of task {self.task_id}"


class Hosting(models.Model):
    """An address at which a reference is open to whoever holds it: for one task, closed some hours after that task ended;
    or for a member who asked for one, from the start with an end."""

    token = models.CharField(max_length=32, unique=True)
    reference = models.ForeignKey(Reference, on_delete=models.CASCADE, related_name="hostings")
    task = models.ForeignKey(Task, null=True, blank=True, on_delete=models.CASCADE, related_name="hostings")
    created = models.DateTimeField(default=timezone.now, editable=False)
    closes_at = models.DateTimeField(null=True, blank=True)  # null while the task is live

    class Meta:
        constraints = [models.UniqueConstraint(fields=["reference", "task"], name="hosting_once_per_task")]

    def __str__(self) -> str:
        return f"hosting of reference {self.reference_id}"


class Result(models.Model):
    """A picture made by a task: our copy, decoded, stored, thumbnailed."""

    task = models.OneToOneField(Task, on_delete=models.PROTECT, related_name="result")
    key = models.CharField(max_length=160)
    key_640 = models.CharField(max_length=160)
    key_320 = models.CharField(max_length=160)
    mime = models.CharField(max_length=20)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveBigIntegerField()
    width_px = models.PositiveIntegerField()
    height_px = models.PositiveIntegerField()
    created = models.DateTimeField(default=timezone.now, editable=False)
    purged_at = models.DateTimeField(null=True, blank=True)  # its files were thrown away, 30 days after the picture was
    lost_at = models.DateTimeField(null=True, blank=True)  # since when storage has not had the original

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(width_px__gte=1, height_px__gte=1), name="result_has_pixels")
        ]

    def __str__(self) -> str:
        return f"result of task {self.task_id}"
