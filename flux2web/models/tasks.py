"""A task's rows: what was asked, where it stands, and each time it was sent."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from .periods import Period
from .prompts import SavedPrompt
from .providers import ProviderAccount
from .teams import Team


class State(models.TextChoices):
    """Where a task stands. Edges are in EDGES; lifecycle.py is the only one that takes them."""

    # Created with its hold. A look picks an account and moves it on; a member may cancel; a limit fails it only while no
    # account may take it.
    QUEUED = "queued", "Waiting"
    # Written before the create is sent, with an Attempt and its lease. The answer takes it out: running, failed, back to
    # queued when the request surely never left. Only a passed lease makes it uncertain.
    SUBMITTING = "submitting", "Sending"
    # A create whose answer nobody has. Never sent again. A callback's secret, or a late answer, teaches us the provider's
    # id; after 30 minutes and 20 looks it fails and the hold is released.
    UNCERTAIN = "uncertain", "No answer yet"
    # The provider has it. Looks ask how it stands; after 2 h of looking it fails, on a fresh answer only.
    RUNNING = "running", "Running"
    # The provider has finished; we fetch, check and store our own copy. Fails only when the result is lost for good.
    SAVING = "saving", "Saving our copy"
    # Our copy is stored, decoded and thumbnailed, and exactly then the hold is settled.
    DONE = "done", "Done"
    # The hold is released. Nobody pays for a failure.
    FAILED = "failed", "Failed"
    # Taken back by a member before it was sent. The hold is released.
    CANCELLED = "cancelled", "Cancelled"


EDGES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.SUBMITTING, State.CANCELLED, State.FAILED}),
    State.SUBMITTING: frozenset({State.RUNNING, State.UNCERTAIN, State.QUEUED, State.FAILED}),
    State.UNCERTAIN: frozenset({State.RUNNING, State.QUEUED, State.FAILED}),
    State.RUNNING: frozenset({State.SAVING, State.FAILED}),
    State.SAVING: frozenset({State.DONE, State.RUNNING, State.FAILED}),  # running: asked again for a fresh address
    State.DONE: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}
FINAL = tuple(state for state in State if not EDGES[state])
LIVE = tuple(state for state in State if EDGES[state])
IN_FLIGHT = (State.SUBMITTING, State.UNCERTAIN, State.RUNNING)  # counted against an account's concurrency


def before(*targets: State) -> tuple[State, ...]:
    """The states from which every one of `targets` can be reached in one step."""
    return tuple(state for state in LIVE if all(target in EDGES[state] for target in targets))


def _check_graph() -> None:
    reachable = {State.QUEUED}.union(*EDGES.values())
    if reachable != set(State):
        raise AssertionError(f"states nobody reaches: {set(State) - reachable}")


_check_graph()


class Batch(models.Model):
    """Tasks sent together by one press. Same key and same content: the same answer; other content: a conflict."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="batches")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    key = models.CharField(max_length=80)
    fingerprint = models.CharField(max_length=64)
    saved_prompt = models.ForeignKey(  # the shelf's prompt that it was written from
        SavedPrompt, null=True, blank=True, on_delete=models.SET_NULL, related_name="batches"
    )
    stop_after = models.PositiveSmallIntegerField(null=True, blank=True)  # failures that end what still waits
    collection = models.ForeignKey(  # to which its pictures are added as they are stored
        "Collection", null=True, blank=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "key"], name="batch_key_once")]

    def __str__(self) -> str:
        return f"batch {self.pk}"


class TaskQuerySet(models.QuerySet["Task"]):
    def live(self) -> TaskQuerySet:
        return self.filter(state__in=LIVE)

    def due(self, now) -> TaskQuerySet:
        return self.filter(due_at__lte=now)

    def in_flight(self) -> TaskQuerySet:
        return self.filter(state__in=IN_FLIGHT)

    def for_team(self, team: Team) -> TaskQuerySet:
        return self.filter(team=team)


class Task(models.Model):
    """One picture that a member asked for."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="tasks")
    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="tasks")
    batch_number = models.SmallIntegerField(default=1, db_default=1)  # of all that were sent together,
    batch_size = models.SmallIntegerField(default=1, db_default=1)  # whatever became of the others
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="tasks")
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children")
    created = models.DateTimeField(default=timezone.now, editable=False)

    # What was asked.
    prompt = models.TextField()
    family = models.CharField(max_length=8)
    aspect_ratio = models.CharField(max_length=8)
    resolution = models.CharField(max_length=4)
    seed = models.BigIntegerField(null=True, blank=True)
    output_format = models.CharField(max_length=8, blank=True)
    safety_tolerance = models.SmallIntegerField(null=True, blank=True)
    reference_count = models.SmallIntegerField(default=0)
    provider = models.CharField(max_length=20, blank=True)  # the one asked for; empty: whoever is able and cheapest
    price_credits = models.BigIntegerField()  # the hold; a price edited later changes nothing here
    quoted_provider = models.CharField(max_length=20, blank=True)  # whose price that is
    period = models.ForeignKey(  # in which the hold was made; none where it was made before there were periods
        Period, null=True, blank=True, on_delete=models.PROTECT, related_name="tasks"
    )

    # Where it stands.
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    version = models.PositiveIntegerField(
        default=1
    )  # grows by one with every move: an older card never replaces a newer
    due_at = models.DateTimeField(null=True, default=timezone.now)
    state_since = models.DateTimeField(default=timezone.now)
    looked_at = models.DateTimeField(null=True, blank=True)
    waited_s = models.FloatField(default=0)  # time in this state in which we were looking; limits count this
    looks = models.PositiveIntegerField(default=0)  # in this state
    strikes = models.PositiveSmallIntegerField(default=0)  # failed looks or fetches in a row
    waits_for = models.ForeignKey(  # looked at, and stands in line for a turn there (turns.py)
        ProviderAccount, null=True, blank=True, on_delete=models.SET_NULL, related_name="waiting", db_index=False
    )

    # Who draws it.
    account = models.ForeignKey(ProviderAccount, null=True, blank=True, on_delete=models.PROTECT, related_name="tasks")
    upstream_id = models.CharField(max_length=128, blank=True)
    route = models.CharField(max_length=80, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True)
    result_urls = models.JSONField(default=list, blank=True)
    cost_usd = models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)
    provider_s = models.FloatField(null=True, blank=True)  # from acceptance to the provider's own end, as we saw it

    # How it ended.
    finished_at = models.DateTimeField(null=True, blank=True)
    charged_credits = models.BigIntegerField(null=True, blank=True)
    refunded_credits = models.BigIntegerField(
        default=0
    )  # given back later by a site admin; the only change after the end
    fail_kind = models.CharField(max_length=16, blank=True)
    fail_code = models.CharField(max_length=64, blank=True)
    fail_message = models.CharField(max_length=300, blank=True)

    # What people do with it afterwards. None of this moves credits.
    private = models.BooleanField(default=False, db_default=False)  # seen by its author only
    deleted_at = models.DateTimeField(null=True, blank=True)  # in the trash since; its files go after 30 days
    deleted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    alt = models.CharField(max_length=300, blank=True, db_default="")  # in words for who cannot see it; else its prompt
    favourites = models.PositiveIntegerField(default=0, db_default=0)  # hearts

    objects = TaskQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(due_at=None, state__in=FINAL) | (Q(due_at__isnull=False) & ~Q(state__in=FINAL)),
                name="task_due_exactly_while_live",
            ),
            models.CheckConstraint(condition=Q(state__in=list(State)), name="task_state_known"),
            models.CheckConstraint(condition=Q(price_credits__gte=1), name="task_price_positive"),
            models.CheckConstraint(
                condition=Q(charged_credits=None) | Q(charged_credits__gte=0, charged_credits__lte=F("price_credits")),
                name="task_charged_within_price",
            ),
            models.CheckConstraint(
                condition=Q(refunded_credits=0) | Q(refunded_credits__gt=0, refunded_credits__lte=F("charged_credits")),
                name="task_refunded_within_charge",
            ),
            models.UniqueConstraint(
                fields=["account", "upstream_id"], condition=~Q(upstream_id=""), name="task_upstream_id_once"
            ),
        ]
        indexes = [
            models.Index(fields=["team", "-created", "-id"], name="task_history"),
            models.Index(fields=["team", "user", "-created", "-id"], name="task_by_user"),
            models.Index(fields=["team", "state", "-created", "-id"], name="task_by_state"),
            models.Index(fields=["team", "-charged_credits", "-created", "-id"], name="task_by_cost"),
            models.Index(
                fields=["team", "-favourites", "-created", "-id"], condition=Q(favourites__gt=0), name="task_by_hearts"
            ),
            models.Index(fields=["deleted_at"], condition=Q(deleted_at__isnull=False), name="task_trash"),
            models.Index(fields=["due_at", "id"], condition=Q(due_at__isnull=False), name="task_due"),
            models.Index(fields=["account", "state"], condition=Q(due_at__isnull=False), name="task_in_flight"),
            models.Index(
                fields=["waits_for", "team", "user", "id"], condition=Q(waits_for__isnull=False), name="task_in_line"
            ),
            models.Index(fields=["account", "finished_at"], condition=Q(finished_at__isnull=False), name="task_by_end"),
            models.Index(
                fields=["account", "accepted_at"], condition=Q(accepted_at__isnull=False), name="task_by_acceptance"
            ),
        ]

    def __str__(self) -> str:
        return f"task {self.pk} {self.state}"

    @property
    def is_live(self) -> bool:
        return self.state in LIVE

    @property
    def in_line(self) -> bool:
        return self.waits_for_id is not None

    @property
    def mode(self) -> str:
        return "image-to-image" if self.reference_count else "text-to-image"


class Attempt(models.Model):
    """One sending of a task: whose key, which callback secret, until when its answer may come."""

    class Outcome(models.TextChoices):
        OPEN = "open"  # sent or about to be; no answer yet
        ACCEPTED = "accepted"
        AMBIGUOUS = "ambiguous"  # nobody knows whether the provider has it
        NOT_SENT = "not_sent"  # surely never reached the provider
        REFUSED = "refused"  # a readable no

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    account = models.ForeignKey(ProviderAccount, on_delete=models.PROTECT, related_name="attempts")
    key_version = models.PositiveIntegerField()
    price_credits = models.BigIntegerField(
        null=True
    )  # what is settled if this account delivers, unless it reports a cost
    list_usd = models.DecimalField(max_digits=10, decimal_places=4, null=True, blank=True)  # what it lists for this
    secret_hash = models.CharField(max_length=64, unique=True)
    lease_until = models.DateTimeField()
    with_callback = models.BooleanField(default=False)
    outcome = models.CharField(max_length=10, choices=Outcome, default=Outcome.OPEN)
    upstream_id = models.CharField(max_length=128, blank=True)
    refused_kind = models.CharField(max_length=16, blank=True)
    message = models.CharField(max_length=300, blank=True, default="", db_default="")  # why it was not accepted
    created = models.DateTimeField(default=timezone.now, editable=False)
    answered_at = models.DateTimeField(null=True, blank=True)
    rung_at = models.DateTimeField(null=True, blank=True)  # the last callback
    burst = models.PositiveSmallIntegerField(default=0)  # looks spent of the one burst that a ring may ask for

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["task", "number"], name="attempt_number_once"),
            # A provider is asked at most once for a hold: no second sending beside one that may have arrived.
            models.UniqueConstraint(
                fields=["task"],
                condition=Q(outcome__in=["open", "accepted", "ambiguous"]),
                name="attempt_at_most_one_may_have_arrived",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-created"], name="attempt_by_account"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of task {self.task_id}: {self.outcome}"
