"""Every callback that came: what it was, whose, and a look again. What stands in it is shown, and believed in nothing."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.db.models import BinaryField, QuerySet
from django.db.models.functions import Substr
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from .. import access, accounts, actors, http, lifecycle
from .. import providers as adapters
from ..forms_console import NAMES_NONE, CallbacksForm
from ..models import Callback, Membership, State, Task, User
from .acts import link, read_cursor

PAGE = 30
READ_BYTES, SHOWN_CHARS = 8192, 2048  # secrets are hidden in what is read, before it is cut to what is shown
KINDS = {"matched": "good", "malformed": "warn", "unknown": "warn"}


@dataclass(frozen=True)
class Line:
    """A callback as its row shows it."""

    row: Callback
    body: str
    is_theirs: bool  # the task is in a team that this admin is in, and they may see it
    is_readable: bool  # it names a task, of ours or not

    @property
    def kind(self) -> str:
        return KINDS.get(self.row.verdict, "")

    @property
    def verdict(self) -> str:
        if self.row.verdict == Callback.Verdict.MALFORMED and self.is_readable:
            return NAMES_NONE
        return self.row.get_verdict_display()

    @property
    def name(self) -> str:
        """ "" where it was no provider's address."""
        return adapters.get(self.row.provider).name if self.row.provider in adapters.ALL else ""

    @property
    def task(self) -> Task | None:
        return self.row.attempt.task if self.row.attempt else None

    @property
    def is_cut(self) -> bool:
        return self.body.endswith("…") or self.row.size_bytes > READ_BYTES

    @property
    def may_look(self) -> bool:
        return self.task is not None and self.task.state in (State.UNCERTAIN, State.RUNNING)

    @property
    def is_private(self) -> bool:
        """Its author keeps the picture, and what was asked for, to themselves: providers repeat it in what they send."""
        return self.task is not None and self.task.private and not self.is_theirs


@require_GET
@access.site_admin
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    form, cursor = CallbacksForm(request.GET), read_cursor(request.GET.get("before"))
    rows = list(_older(form.rows(), cursor)) if form.is_valid() else []
    context = {
        "form": form,
        "lines": _lines(rows[:PAGE], request.user),  # type: ignore[arg-type]
        "next": link(request, rows[PAGE - 1].pk) if len(rows) > PAGE else "",
        "newest": link(request) if cursor else "",
        "is_filtered": form.is_valid() and any(form.cleaned_data.values()),
        "query": request.GET.urlencode(),
    }
    return render(request, "console/callbacks.html", context, status=200 if form.is_valid() else 422)


def _older(rows: QuerySet[Callback], cursor: int | None) -> QuerySet[Callback]:
    """By id, which grows with time; of each body only as much as is shown."""
    rows = rows.filter(pk__lt=cursor) if cursor else rows
    shown = rows.annotate(start=Substr("body", 1, READ_BYTES, output_field=BinaryField())).defer("body")
    return shown.select_related("attempt__task__team", "attempt__task__user").order_by("-pk")[: PAGE + 1]


def _lines(rows: list[Callback], user: User) -> list[Line]:
    secrets = accounts.secrets_of({row.attempt.account_id for row in rows if row.attempt})
    teams = set(Membership.objects.filter(user=user).values_list("team_id", flat=True))
    return [_line(row, user, teams, secrets) for row in rows]


def _line(row: Callback, user: User, teams: set[int], secrets: list[str]) -> Line:
    task = row.attempt.task if row.attempt else None
    is_theirs = task is not None and task.team_id in teams and access.sees(task, user.pk)
    start = row.start or b""  # type: ignore[attr-defined]  # SQLite cuts nothing out of nothing: NULL
    text = bytes(start).decode("utf-8", "replace")
    return Line(row, http.redact(text, *secrets, max_chars=SHOWN_CHARS), is_theirs, _names_a_task(row, bytes(start)))


def _names_a_task(row: Callback, body: bytes) -> bool:
    return row.provider in adapters.ALL and adapters.get(row.provider).parse_callback(body) is not None


@require_POST
@access.site_admin
def look(request: HttpRequest, callback_id: int) -> HttpResponse:
    """Ask the provider about its task once more. A task that has ended, or was looked at just now, is left alone."""
    row = get_object_or_404(Callback.objects.select_related("attempt__task"), pk=callback_id)
    task = row.attempt.task if row.attempt else None
    next_ = lifecycle.look_now(task, request.user) if task else None  # type: ignore[arg-type]
    if task and next_:
        actors.kick(task.pk, next_)
        messages.success(request, f"Task {task.pk}: we ask how it stands, now.")
    else:
        messages.info(request, _why_not(task))
    query = request.GET.urlencode()
    return redirect(f"{reverse('callbacks')}?{query}" if query else reverse("callbacks"))


def _why_not(task: Task | None) -> str:
    if task is None:
        return "This belongs to no task of ours: there is nothing to look at."
    if task.is_live:
        return f"Task {task.pk} was looked at a moment ago, or is being looked at. Try again in a few seconds."
    return f"Task {task.pk} has ended: there is nothing to look at."
