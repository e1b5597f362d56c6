"""Rows for tests: plain functions with defaults for everything, keyword-only. What they make is consistent.

A task made here has the batch, attempt, event, entries and budget sums that its state implies, so that `check_ledger`
finds nothing wrong with a database filled by this file.
"""

from __future__ import annotations

import itertools
from datetime import timedelta

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.text import slugify

from flux2web import ledger, search
from flux2web.models import (
    FINAL,
    Attempt,
    Batch,
    Budget,
    Entry,
    Event,
    Hosting,
    Invite,
    Membership,
    Price,
    ProviderAccount,
    ProviderKey,
    Reference,
    Result,
    Role,
    State,
    Task,
    TaskReference,
    Team,
    Usage,
    User,
)
from flux2web.models.base import new_token, token_hash

PASSWORD = "correct horse battery"  # of every user made here
_number = itertools.count(1)

# Credits for pro 1K, pro 2K, flex 1K, flex 2K; per reference; whether the provider publishes them.
PRICES = {
    "revid": ((10, 15, 25, 40), 0, True),
    "flux2api": ((30, 30, 100, 100), 0, True),
    "apikley": ((None, None, 28, 48), 0, False),
    "apixo": ((20, 28, 40, 52), 0, False),
    "vtrix": ((12, 30, None, None), 6, False),
}
GRID = (("pro", "1K"), ("pro", "2K"), ("flex", "1K"), ("flex", "2K"))

# The smallest PNG there is: one grey pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c636800000082008177cd72b60000000049454e44ae426082"
)


# --- People and teams ------------------------------------------------------------------------------------------------


def make_user(*, name: str = "", email: str = "", password: str | None = PASSWORD, **fields) -> User:
    """A user who can sign in with PASSWORD. `name="Ana"` gives ana@example.com."""
    name = name or f"Person {next(_number)}"
    email = email or f"{slugify(name)}@example.com"
    return User.objects.create_user(email, password, name=name, **fields)


def make_team(*, name: str = "", credits: int = 1000, owner: User | None = None, **fields) -> Team:
    """A team with a budget of `credits`, granted by an entry like any other."""
    name = name or f"Team {next(_number)}"
    team = Team.objects.create(name=name, slug=fields.pop("slug", slugify(name)), **fields)
    Budget.objects.create(team=team)
    if credits:
        book(team, "grant", credits, granted=credits)
    if owner:
        make_member(team, owner, role=Role.OWNER)
    return team


def make_member(team: Team, user: User | None = None, *, role: str = Role.MEMBER, **fields) -> Membership:
    return Membership.objects.create(team=team, user=user or make_user(), role=role, **fields)


def make_invite(team: Team, *, token: str = "", invited_by: User | None = None, **fields) -> tuple[Invite, str]:
    """An open invitation and the token that is its link's last part."""
    token = token or new_token()
    invited_by = invited_by or make_member(team, role=Role.ADMIN).user
    return Invite.objects.create(team=team, token_hash=token_hash(token), invited_by=invited_by, **fields), token


# --- Money -----------------------------------------------------------------------------------------------------------


def book(
    team: Team,
    kind: str,
    amount: int,
    *,
    task: Task | None = None,
    actor: User | None = None,
    reason: str = "",
    **moves,
) -> Entry:
    """One ledger line and the sums it moves: book(team, "hold", 10, task=task, held=10)."""
    Budget.objects.filter(team=team).update(**{name: F(name) + by for name, by in moves.items()})
    return Entry.objects.create(
        team=team,
        task=task,
        kind=kind,
        amount=amount,
        available_after=Budget.objects.get(team=team).available,
        actor=actor,
        actor_label=str(actor) if actor else "flux2web",
        reason=reason or f"made for a test: {kind}",
        key=f"factory-{kind}-{next(_number)}",
    )


# --- Providers -------------------------------------------------------------------------------------------------------


def make_account(
    provider: str = "revid", *, sandbox: bool = False, key: str | None = "", prices: bool = True, **fields
) -> ProviderAccount:
    """An account that may take tasks: on, with a key (None: without) and, unless told otherwise, the provider's prices."""
    defaults = {"base_url": f"https://{provider}.example.com", "rate_count": 1000, "rate_s": 1.0} | fields
    account = ProviderAccount.objects.create(provider=provider, sandbox=sandbox, **defaults)
    if key is not None:
        secret = key or f"test-key-of-{provider}-1234"
        ProviderKey.objects.create(account=account, version=1, secret=secret)
    if prices:
        make_prices(provider)
    return account


def make_prices(*providers: str) -> None:
    """The seeded prices of these providers (of all five where none is named). Those that exist stay as they are."""
    for provider in providers or PRICES:
        amounts, per_reference, published = PRICES[provider]
        for (family, resolution), credits in zip(GRID, amounts, strict=True):
            if credits is not None:
                values = {"credits": credits, "credits_per_reference": per_reference, "published": published}
                place = {"provider": provider, "family": family, "resolution": resolution}
                if not Price.objects.filter(**place).exists():
                    Price.objects.create(**place, **values)


def make_price(
    provider: str = "revid", family: str = "pro", resolution: str = "1K", *, credits: int = 10, **fields
) -> Price:
    values = {"credits": credits, "published": True} | fields
    return Price.objects.update_or_create(provider=provider, family=family, resolution=resolution, defaults=values)[0]


def make_priced_from(
    valid_from, *, provider: str = "revid", family: str = "pro", resolution: str = "1K", credits: int = 10, **fields
) -> Price:
    """One more price of a picture, that holds from then on."""
    place = {"provider": provider, "family": family, "resolution": resolution}
    return Price.objects.create(**place, credits=credits, valid_from=valid_from, **{"published": True} | fields)


def any_account(provider: str = "revid") -> ProviderAccount:
    """The provider's real account, made if there is none."""
    return ProviderAccount.objects.real().filter(provider=provider).first() or make_account(provider)


# --- Pictures --------------------------------------------------------------------------------------------------------


def store(key: str, content: bytes = PNG) -> str:
    """Put `content` into storage unless a file of that name is there; the name."""
    return key if default_storage.exists(key) else default_storage.save(key, ContentFile(content))


def make_reference(team: Team, *, user: User | None = None, content: bytes = PNG, **fields) -> Reference:
    """A stored picture. Its files exist."""
    number = next(_number)
    defaults = {
        "name": f"reference-{number}.png",
        "key": store(f"references/test-{number}.png", content),
        "thumb_key": store(f"references/test-{number}-320.png", content),
        "mime": "image/png",
        "sha256": f"{number:064x}",
        "size_bytes": len(content),
        "width_px": 1024,
        "height_px": 768,
    }
    return Reference.objects.create(team=team, user=user, **defaults | fields)


def make_result(task: Task, *, content: bytes = PNG, **fields) -> Result:
    """Our copy of a task's picture. Its files exist; their pixels are one grey one, whatever width and height say."""
    defaults = {
        "key": store(f"results/test-{task.pk}.png", content),
        "key_640": store(f"results/test-{task.pk}-640.png", content),
        "key_320": store(f"results/test-{task.pk}-320.png", content),
        "mime": "image/png",
        "sha256": f"{task.pk:064x}",
        "size_bytes": len(content),
        "width_px": 1024,
        "height_px": 768,
    }
    return Result.objects.create(task=task, **defaults | fields)


def make_hosting(reference: Reference, task: Task, **fields) -> Hosting:
    return Hosting.objects.create(token=new_token(), reference=reference, task=task, **fields)


# --- Tasks -----------------------------------------------------------------------------------------------------------

OUTCOMES = {  # of the attempt that a task in this state has; queued and cancelled tasks were never sent
    State.SUBMITTING: Attempt.Outcome.OPEN,
    State.UNCERTAIN: Attempt.Outcome.AMBIGUOUS,
    State.RUNNING: Attempt.Outcome.ACCEPTED,
    State.SAVING: Attempt.Outcome.ACCEPTED,
    State.DONE: Attempt.Outcome.ACCEPTED,
    State.FAILED: Attempt.Outcome.ACCEPTED,
}


@transaction.atomic
def make_task(
    team: Team,
    *,
    user: User | None = None,
    state: str = State.QUEUED,
    price: int = 10,
    charged: int | None = None,
    account: ProviderAccount | None = None,
    references: tuple[Reference, ...] | list[Reference] = (),
    secret: str = "",
    **fields,
) -> Task:
    """A task in any state, with hold and outcome booked, attempt and event written, result and files stored.

    `charged` (of a done task; default: the price) may be below the price. `secret` is the callback secret of its attempt.
    The team's budget must cover the price.
    """
    state = State(state)
    user = user or team.users.first() or make_member(team).user
    asked = {
        "prompt": "Harbour at dawn, flat gouache",
        "family": "pro",
        "aspect_ratio": "4:3",
        "resolution": "1K",
        "batch": fields.pop("batch", None) or make_batch(team, user),
        "reference_count": len(references),
    }
    task = Task.objects.create(
        team=team,
        user=user,
        state=state,
        price_credits=price,
        period=ledger.current(team, timezone.now()),
        **asked | _standing(state, account, charged or price) | fields,
    )
    for number, reference in enumerate(references, 1):
        TaskReference.objects.create(task=task, reference=reference, number=number)
    words = " ".join([task.prompt, *(reference.name for reference in references)])
    search.put([(task.pk, task.team_id, words)])
    _book_task(task, user)
    _send(task, secret or new_token())
    _end_task(task)
    Event.objects.create(task=task, kind=task.state, cause="factory")
    if state == State.DONE:
        make_result(task)
    return task


def make_batch(team: Team, user: User | None = None, *, key: str = "") -> Batch:
    return Batch.objects.create(team=team, user=user, key=key or new_token(), fingerprint="f" * 64)


def _standing(state: State, account: ProviderAccount | None, charged: int) -> dict:
    """The columns that follow from a state."""
    now = timezone.now()
    columns: dict = {"due_at": None, "finished_at": now} if state in FINAL else {"due_at": now + timedelta(minutes=1)}
    if state in OUTCOMES:
        columns["account"] = account or any_account()
    if OUTCOMES.get(state) == Attempt.Outcome.ACCEPTED:
        columns |= {"upstream_id": f"up-{next(_number)}", "accepted_at": now}
    if state == State.SAVING:
        columns["result_urls"] = ["https://results.example.com/picture.png"]
    if state == State.DONE:
        columns |= {"charged_credits": charged, "provider_s": 12.0}
    if state == State.FAILED:
        columns |= {"fail_kind": "provider", "fail_message": "The provider could not make this picture."}
    return columns


def _book_task(task: Task, user: User) -> None:
    book(task.team, "hold", task.price_credits, task=task, actor=user, held=task.price_credits)
    usage, _ = Usage.objects.get_or_create(period=task.period, user=user)
    Usage.objects.filter(pk=usage.pk).update(held=F("held") + task.price_credits)


def _end_task(task: Task) -> None:
    """The ledger's own words: so that every sum there is moves with it."""
    if task.state == State.DONE:
        ledger.settle(task, task.charged_credits)
    elif not task.is_live:
        ledger.release(task, "made for a test", counts_as=task.state)


def _send(task: Task, secret: str) -> None:
    if task.account is None:
        return
    outcome = OUTCOMES[State(task.state)]
    key = task.account.key
    Attempt.objects.create(
        task=task,
        number=1,
        account=task.account,
        key_version=key.version if key else 1,
        secret_hash=token_hash(secret),
        lease_until=timezone.now() + timedelta(seconds=90),
        with_callback=True,
        outcome=outcome,
        upstream_id=task.upstream_id,
        answered_at=timezone.now() if outcome == Attempt.Outcome.ACCEPTED else None,
    )
