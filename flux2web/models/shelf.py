"""What a team does with finished pictures: hearts, tags, collections and their links, comments, saved searches."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone

from .tasks import Task
from .teams import Team

User = settings.AUTH_USER_MODEL


class Favourite(models.Model):
    """One person's heart on one picture. `Task.favourites` keeps the count."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="favourites")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="hearts")
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "task"], name="favourite_once")]
        indexes = [models.Index(fields=["team", "user", "-task"], name="favourite_by_user")]

    def __str__(self) -> str:
        return f"{self.user} likes task {self.task_id}"


class Tag(models.Model):
    """A word that the team files pictures under. Two that differ by capitals only are one."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="tags")
    name = models.CharField(max_length=40)
    used = models.PositiveIntegerField(default=0)  # pictures that have it

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint("team", Lower("name"), name="tag_once")]

    def __str__(self) -> str:
        return self.name


class TaskTag(models.Model):
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="task_tags")
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE, related_name="uses")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tag", "task"], name="task_tag_once")]

    def __str__(self) -> str:
        return f"task {self.task_id} is {self.tag}"


class Collection(models.Model):
    """Pictures that belong together. A picture may be in many; deleting a collection deletes no picture."""

    class Access(models.TextChoices):
        """What everyone in the team may do with it; its owner, and team admins, may do all."""

        NONE = "none", "Nobody else"
        VIEW = "view", "The team may look"
        EDIT = "edit", "The team may add and remove"

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="collections")
    name = models.CharField(max_length=80)
    owner = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    access = models.CharField(max_length=4, choices=Access, default=Access.EDIT)
    cover = models.ForeignKey(Task, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    size = models.PositiveIntegerField(default=0)  # pictures in it
    created = models.DateTimeField(default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["team", "-created", "-id"], name="collection_by_team")]

    def __str__(self) -> str:
        return self.name


class CollectionItem(models.Model):
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="items")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="placed")
    added_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["collection", "task"], name="collected_once")]

    def __str__(self) -> str:
        return f"task {self.task_id} in {self.collection_id}"


class CollectionRole(models.Model):
    """One person's own right in a collection, beside what the whole team has."""

    class Role(models.TextChoices):
        EDITOR = "edit", "Editor"
        VIEWER = "view", "Viewer"

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="roles")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    role = models.CharField(max_length=4, choices=Role)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["collection", "user"], name="collection_role_once")]

    def __str__(self) -> str:
        return f"{self.user} may {self.role} {self.collection_id}"


class ShareLink(models.Model):
    """A link that shows one collection to whoever has it. The token is shown once and kept hashed."""

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="links")
    token_hash = models.CharField(max_length=64, unique=True)
    may_comment = models.BooleanField(default=False)
    shows_prompts = models.BooleanField(default=False)
    made_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"link to {self.collection_id}"

    def is_open(self) -> bool:
        return self.revoked_at is None and self.expires_at > timezone.now() and self.collection.deleted_at is None


class Comment(models.Model):
    """Somebody's words under a picture: a member's, or those of a guest who came by a link."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="comments")
    user = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    guest = models.CharField(max_length=60, blank=True)  # the name that a guest gave
    text = models.CharField(max_length=2000)
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes = [models.Index(fields=["task", "created", "id"], name="comment_by_task")]
        constraints = [models.CheckConstraint(condition=~Q(text=""), name="comment_says_something")]

    def __str__(self) -> str:
        return f"{self.user or self.guest}: {self.text[:40]}"


class SavedSearch(models.Model):
    """A search that one member kept, as the address bar had it."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="saved_searches")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000)
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "user", "name"], name="saved_search_once")]

    def __str__(self) -> str:
        return self.name
