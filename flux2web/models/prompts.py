"""What is written before it is sent: each member's draft, and the prompts that a team keeps."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from .teams import Team

User = settings.AUTH_USER_MODEL


class SavedPrompt(models.Model):
    """A prompt on the team's shelf, with places to fill in: "a {animal} in {style}". What came of it, its batches tell."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="saved_prompts")
    user = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")  # who put it there
    title = models.CharField(max_length=80)
    text = models.TextField()
    settings = models.JSONField(default=dict, blank=True)  # of the compose form: family, aspect_ratio, resolution, ...
    references = models.JSONField(
        default=list, blank=True
    )  # ids in slot order; one that is gone is said where it is used
    created = models.DateTimeField(default=timezone.now, editable=False)
    changed = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "title"], name="saved_prompt_title_once")]
        indexes = [models.Index(fields=["team", "-changed", "-id"], name="saved_prompt_by_team")]

    def __str__(self) -> str:
        return self.title


class Draft(models.Model):
    """One member's compose form as it stands: kept while it is written, and through a refusal, a crash or a sign-out."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="drafts")
    values = models.JSONField(default=dict)  # form field: text, or a list of texts where it is repeated
    changed = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="draft_once")]

    def __str__(self) -> str:
        return f"draft of {self.user} in {self.team}"
