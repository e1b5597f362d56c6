"""What is wrong with this installation, in plain words, and what to do about it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import redis
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import BaseCommand
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from flux2web import accounts, providers
from flux2web.models import Price, ProviderAccount, User
from flux2web.models.base import new_token
from flux2web.providers.base import Kind
from flux2web.views.health import CLOCK_LATE_S, broker_answers, clock_age_s

DISK_MIN_BYTES = 2**30
SECRET_MIN_CHARS = 32
PROBE = b"written by manage.py doctor, safe to delete"


@dataclass(frozen=True)
class Problem:
    what: str
    do: str


class Command(BaseCommand):
    help = "Say what is wrong with this installation, and what to do. Exit code: 0 nothing is wrong, 1 otherwise."

    def handle(self, **_):
        found = list(problems())
        for number, problem in enumerate(found, 1):
            self.stdout.write(f"{number}. {problem.what}\n   {problem.do}")
        if found:
            sys.exit(1)
        self.stdout.write("Nothing is wrong.")


def problems() -> Iterator[Problem]:
    for check in ABOUT_THE_MACHINE:
        yield from check()
    trouble = list(database())
    yield from trouble
    if not trouble:  # without tables there is nothing more to ask
        for check in ABOUT_THE_ROWS:
            yield from check()


# --- The machine -----------------------------------------------------------------------------------------------------


def debug() -> Iterator[Problem]:
    if settings.DEBUG:
        yield Problem(
            "DEBUG is on: errors show the inside of this site to whoever sees them.",
            "Remove DEBUG from the environment.",
        )


def secret() -> Iterator[Problem]:
    kept = settings.VAR_DIR / "secret_key"
    if not settings.EMBEDDED and kept.exists() and kept.read_text().strip() == settings.SECRET_KEY:
        yield Problem(
            "SECRET_KEY comes from a file on this machine, but the site is scaled out: other machines have another one, "
            "so that people are signed out at random and stored keys do not open there.",
            f"Set SECRET_KEY to the content of {kept} on every machine.",
        )
    if len(settings.SECRET_KEY) < SECRET_MIN_CHARS:
        yield Problem(
            f"SECRET_KEY is short ({len(settings.SECRET_KEY)} characters): sessions could be forged.",
            "Set a random one of 50 characters, and keep the old one in SECRET_KEYS behind it, so that stored keys open.",
        )


def disk() -> Iterator[Problem]:
    free = shutil.disk_usage(settings.VAR_DIR).free
    if free < DISK_MIN_BYTES:
        yield Problem(
            f"Only {free // 2**20} MB are free under {settings.VAR_DIR}: soon no picture can be saved.",
            "Make room, or move VAR_DIR to a larger disk.",
        )


def storage() -> Iterator[Problem]:
    """Writes, reads and deletes a small file."""
    place = f"the bucket {settings.S3_BUCKET}" if settings.S3_BUCKET else str(settings.MEDIA_ROOT)
    try:
        kept = _probe()
    except Exception as error:  # boto's errors share no base with OSError; whichever it is, our storage failed
        yield Problem(
            f"{place} cannot be written, read and cleaned ({error}): no picture can be saved.",
            "Check its rights and, for a bucket, the S3_ settings.",
        )
    else:
        if kept != PROBE:
            yield Problem(f"{place} gives back something else than was written.", "Do not trust this storage.")


def _probe() -> bytes:
    name = default_storage.save(f"doctor-{new_token()}.txt", ContentFile(PROBE))
    try:
        with default_storage.open(name) as file:
            return file.read()
    finally:
        default_storage.delete(name)


def broker() -> Iterator[Problem]:
    if not settings.BROKER_URL:
        return
    try:
        answers, why = broker_answers(), "it does not answer"
    except Exception as error:  # Redis's and RabbitMQ's errors share no base
        answers, why = False, str(error)
    if not answers:
        yield Problem(
            f"The broker at BROKER_URL cannot be reached ({why}): pictures wait until it is back; none is lost.",
            "Start it, or correct BROKER_URL.",
        )


def redis_answers() -> Iterator[Problem]:
    if not settings.REDIS_URL:
        return
    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2).ping()
    except (redis.RedisError, ValueError) as error:
        yield Problem(
            f"Redis at REDIS_URL cannot be reached ({error}): open pages learn of changes only by asking.",
            "Start it, or correct REDIS_URL.",
        )


# --- The database ----------------------------------------------------------------------------------------------------


def database() -> Iterator[Problem]:
    try:
        missing = _missing_migrations()
    except DatabaseError as error:
        yield Problem(f"The database does not answer: {error}".strip(), "Start it, or correct DATABASE_URL.")
        return
    if missing:
        command = "manage.py up does that by itself" if settings.EMBEDDED else "run manage.py prepare"
        yield Problem(
            f"The database is behind the program: {', '.join(missing[:3])}{' ...' if missing[3:] else ''} not applied.",
            f"Bring it up to date: {command}.",
        )


def _missing_migrations() -> list[str]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [str(migration) for migration, _ in plan]


# --- What is set up --------------------------------------------------------------------------------------------------


def administrator() -> Iterator[Problem]:
    if not User.objects.filter(is_site_admin=True, is_active=True).exists():
        yield Problem(
            "There is no site admin: nobody can look after teams, prices and providers.",
            "Open the setup link that `manage.py up` or `manage.py prepare` prints while there is no user.",
        )


def address() -> Iterator[Problem]:
    if accounts.is_public(settings.PUBLIC_URL):
        return
    given = f"PUBLIC_URL is {settings.PUBLIC_URL}, which" if settings.PUBLIC_URL else "PUBLIC_URL is not set, so"
    yield Problem(
        f"{given} providers cannot reach this site: they cannot call back, so pictures come some seconds later, by "
        f"asking; and references work only with providers that take uploads ({_takers_of_uploads()}).",
        "Set PUBLIC_URL to the https address of this site, with a proxy in front that has a certificate.",
    )


def _takers_of_uploads() -> str:
    able = [account for account in accounts.usable() if accounts.capabilities(account).takes_uploads]
    return ", ".join(_name(account) for account in able if not account.sandbox) or "none is set up"


def sandbox() -> Iterator[Problem]:
    if accounts.sandbox_on():
        yield Problem(
            "The sandbox is on: pretend providers draw the pictures. Fine for trying, not for work.",
            "Set a real key: manage.py provider set SLUG --key -. If SANDBOX=1 is set, remove it.",
        )


def keys() -> Iterator[Problem]:
    real = ProviderAccount.objects.real()
    for account in real.switched_on():
        yield from _key(account)
    if not real.switched_on().filter(keys__isnull=False).exists():
        yield Problem(
            "No provider with a key is switched on: no real picture can be made.",
            "Set one: manage.py provider set SLUG --key - (or SLUG_API_KEY in the environment, or the console).",
        )


def _key(account: ProviderAccount) -> Iterator[Problem]:
    if not account.key_version:
        yield Problem(f"{_name(account)} is switched on without a key: no task goes there.", _set(account, "--key -"))
    elif not accounts.key_opens(account):
        yield Problem(
            f"The key of {_name(account)} does not open: SECRET_KEY has changed since it was stored.",
            "Set SECRET_KEYS to the new secret and the old one behind it.",
        )


def pauses() -> Iterator[Problem]:
    for account in ProviderAccount.objects.real().switched_on():
        if account.is_paused(timezone.now()):
            until = f"{account.paused_until:%H:%M:%S} UTC"
            what = f"{_name(account)} is paused until {until} ({account.pause_kind}): {account.pause_reason}"
            yield Problem(what, _cure(account))


def _cure(account: ProviderAccount) -> str:
    cures: dict[str, str] = {
        Kind.AUTH: f"Set the right key: {_set(account, '--key -')}",
        Kind.BALANCE: f"Pay in at the provider; then end the pause: {_set(account, '--on')}",
        Kind.RATE: f"Nothing, it ends by itself. If it comes often, allow fewer calls: {_set(account, '--rate N/SECONDS')}",
    }
    return cures.get(account.pause_kind, "Nothing: it ends by itself. If it does not, ask the provider.")


def prices() -> Iterator[Problem]:
    """An account without a price is not offered, and says nothing about it."""
    known = set(Price.objects.in_force(timezone.now()).values_list("provider", "family", "resolution"))
    for account in ProviderAccount.objects.real().switched_on():
        able = accounts.capabilities(account)
        wanted = [(family, resolution) for family in able.families for resolution in able.resolutions]
        missing = [" ".join(pair) for pair in wanted if (account.provider, *pair) not in known]
        if missing:
            what = f"{_name(account)} has no price for {', '.join(missing)}: that is not offered there."
            yield Problem(what, "Set it in the console, under prices.")


def clock() -> Iterator[Problem]:
    age_s, start = clock_age_s(), "manage.py up" if settings.EMBEDDED else "manage.py clock"
    if age_s is None or age_s > CLOCK_LATE_S:
        since = "has never run" if age_s is None else f"has not run for {age_s:.0f} s"
        yield Problem(
            f"The clock {since}: waiting tasks are not looked after.", f"If the site should run, start {start}."
        )


def _name(account: ProviderAccount) -> str:
    return providers.get(account.provider).name


def _set(account: ProviderAccount, what: str) -> str:
    return f"manage.py provider set {account.provider} {what}"


ABOUT_THE_MACHINE: tuple[Callable[[], Iterator[Problem]], ...] = (debug, secret, disk, storage, broker, redis_answers)
ABOUT_THE_ROWS: tuple[Callable[[], Iterator[Problem]], ...] = (
    administrator,
    address,
    sandbox,
    keys,
    pauses,
    prices,
    clock,
)
