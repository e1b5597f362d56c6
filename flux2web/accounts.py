"""Our accounts with the providers: seed, set, test, pause, and what an adapter gets of them."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Exists, OuterRef, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from . import providers
from .models import Act, ProviderAccount, ProviderKey, User, one, write
from .models.base import seal, token_hash, unseal
from .providers.base import Account, Capabilities, Kind, ProviderError

log = structlog.get_logger(__name__)
SANDBOX_KEY = "sandbox"
UNCHANGED: Any = object()
BY_ADMIN = "admin"  # as a pause's kind: no provider said so
# Seconds an account rests after a refusal of this kind: the first time, doubling with each in a row. 300 is the most
# (Retry-After is honoured within 1..300 as well).
PAUSE_S = {Kind.AUTH: 300, Kind.BALANCE: 300, Kind.RATE: 10, Kind.MAINTENANCE: 30, Kind.PROVIDER: 5}
PAUSE_MAX_S = 300
# Why an account is paused, for members: never the provider's own words, which may speak of our contract with it.
PAUSE_WORDS = {
    Kind.AUTH: "it refuses this site's key. A site admin can mend that.",
    Kind.BALANCE: "no money left there. This is not your budget.",
    Kind.RATE: "it was asked too fast. It goes on by itself.",
    Kind.MAINTENANCE: "it is closed for now. It goes on by itself.",
    Kind.PROVIDER: "it does not answer well. It is tried again by itself.",
    BY_ADMIN: "a site admin has paused it.",
}
BALANCE_KEPT_S = 60
BALANCE_ASKED_S = 20  # longer than a call may take: who died while asking keeps nobody from it for ever


def plain(account: ProviderAccount, key_version: int | None = None) -> Account:
    """What an adapter gets: no row. `key_version` None is the newest key; one that is gone falls back to the newest.

    A key that does not open is the account's trouble, like one that the provider refuses: ProviderError, nothing sent.
    """
    try:
        key = one(account.keys.filter(version=key_version)) if key_version else None
        key = key or account.key
    except ImproperlyConfigured:
        message = "Our stored key does not open: SECRET_KEY has changed. A site admin can set the key again."
        raise ProviderError(Kind.AUTH, message, sent="no") from None
    return Account(key=key.secret if key else "", base_url=account.base_url, options=account.options)


def callback_secret(account: ProviderAccount) -> str:
    """What this account's callbacks are signed with; "" where none is set, or where it does not open any more: then
    signatures are not checked, which loses nothing but quiet."""
    return _opened(account.sealed_callback_secret)


def _opened(sealed: str) -> str:
    """ "" where there is nothing, or nothing that opens."""
    try:
        return unseal(sealed) if sealed else ""
    except ImproperlyConfigured:
        return ""


def secrets_of(account_ids: Collection[int]) -> list[str]:
    """All keys and secrets of these accounts, so that none is shown where a provider repeats it. What does not open any
    more cannot be told from other text."""
    if not account_ids:
        return []
    keys = ProviderKey.objects.filter(account__in=account_ids).annotate(sealed=Cast("secret", TextField()))
    rows = ProviderAccount.objects.filter(pk__in=account_ids)
    sealed = [*keys.values_list("sealed", flat=True), *rows.values_list("sealed_callback_secret", flat=True)]
    return [secret for secret in map(_opened, sealed) if secret]


def capabilities(account: ProviderAccount) -> Capabilities:
    return providers.get(account.provider).capabilities(Account("", account.base_url, account.options))


def usable() -> list[ProviderAccount]:
    """Accounts that new tasks may be sent to: switched on, with a key; sandbox ones while the sandbox is on."""
    keys = ProviderKey.objects.filter(account=OuterRef("pk"))
    rows = list(ProviderAccount.objects.annotate(has_key=Exists(keys)))
    with_sandbox = _sandbox_on(any(not row.sandbox for row in rows))
    return [row for row in rows if row.enabled and row.has_key and (with_sandbox or not row.sandbox)]


def sandbox_on() -> bool:
    """Whether pretend providers take new tasks: as set, else until the first real account and on loopback only."""
    return _sandbox_on(ProviderAccount.objects.real().exists())


def _sandbox_on(any_real: bool) -> bool:
    if settings.SANDBOX is not None:
        return settings.SANDBOX
    on_loopback = is_loopback(settings.PUBLIC_URL) if settings.PUBLIC_URL else settings.EMBEDDED
    return on_loopback and not any_real


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def is_public(url: str) -> bool:
    """Whether a provider out there could reach this address: https, and no private or loopback host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" or "." not in host or host.endswith((".local", ".internal", ".localhost")):
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return True


def reaches_us(account: ProviderAccount) -> bool:
    """Whether this provider can call back and fetch hosted references."""
    if is_public(settings.PUBLIC_URL):
        return True
    return bool(settings.PUBLIC_URL) and is_loopback(account.base_url)


def own_origin(account: ProviderAccount) -> str:
    """The account's own scheme, host and port: results may come from there even on loopback."""
    parts = urlsplit(account.base_url)
    return f"{parts.scheme}://{parts.netloc}"


# --- Setting them up -----------------------------------------------------------------------------------------------


def set_account(
    provider: str,
    *,
    key: str | None = None,
    base_url: str | None = None,
    enabled: bool | None = None,
    options: Mapping[str, Any] | None = None,
    rate: tuple[int, float] | None = None,
    concurrent: int | None = UNCHANGED,
    callback_secret: str | None = None,
    by: User | None = None,
    label: str = "",
) -> ProviderAccount:
    """Make or change the real account. None leaves a field as it is; a new key becomes a new version; a pause ends.
    An empty `callback_secret` is none any more.

    `concurrent` is the exception: None there means no ceiling. `label` says who did it where that is no user.
    """
    with write():
        rows = ProviderAccount.objects.select_for_update(no_key=True).filter(provider=provider, sandbox=False)
        account = one(rows) or _new(provider)
        before = _facts(account) if account.pk else {}
        if callback_secret is not None:
            account.sealed_callback_secret = seal(callback_secret) if callback_secret else ""
        account.base_url = (base_url or account.base_url).rstrip("/")
        account.enabled = account.enabled if enabled is None else enabled
        account.options = dict(account.options if options is None else options)
        if rate and rate != (account.rate_count, account.rate_s):
            account.rate_count, account.rate_s = rate
        account.concurrent = account.concurrent if concurrent is UNCHANGED else concurrent
        account.paused_until, account.pause_kind, account.pause_reason, account.failures = None, "", "", 0
        account.save()
        secrets = ["set a new key"] if key and _add_key(account, key) else []
        secrets += ["set a new secret for callbacks"] if callback_secret else []
        _record(account, before, secrets, by=by, label=label)
    return account


def _facts(account: ProviderAccount) -> dict[str, str]:
    """An account's settings in words. The key is none of them."""
    return {
        "switched": "on" if account.enabled else "off",
        "address": account.base_url,
        "calls": f"{account.rate_count} in {account.rate_s:g} s",
        "at once": str(account.concurrent or "no ceiling"),
        "paused": "yes" if account.paused_until else "",
        "signatures": "checked" if account.sealed_callback_secret else "",
    } | {name.replace("_", " "): str(value) for name, value in account.options.items()}


def _record(account: ProviderAccount, before: dict, secrets: list[str], *, by: User | None, label: str) -> None:
    """What changed and what it was, in the transaction that changed it; of a secret only that there is another."""
    after = _facts(account)
    changed = [name for name in after if after[name] != before.get(name, "")]
    notes = secrets + [f"{name} {after[name] or 'no more'}{_was(before, name)}" for name in changed]
    if notes:
        name = providers.get(account.provider).name
        verb = "changed the provider" if before else "set up the provider"
        Act.objects.record(by, verb, about=name, note="; ".join(notes), label=label)


def _was(before: dict, name: str) -> str:
    return f" (was: {before[name]})" if before.get(name) else ""


def _new(provider: str, *, sandbox: bool = False, base_url: str = "") -> ProviderAccount:
    adapter = providers.get(provider)
    account = ProviderAccount(provider=provider, sandbox=sandbox, base_url=base_url or adapter.base_url)
    throttle = capabilities(account).throttle
    account.rate_count, account.rate_s, account.concurrent = throttle.count, throttle.per_s, throttle.concurrent
    return account


def _add_key(account: ProviderAccount, secret: str) -> bool:
    """Whether it is another than the newest we have."""
    if account.key_version and key_opens(account) and account.key and account.key.secret == secret:
        return False
    ProviderKey.objects.create(account=account, version=account.key_version + 1, secret=secret)
    return True


def key_opens(account: ProviderAccount) -> bool:
    """Whether SECRET_KEY still opens the stored key. If not, setting the key anew mends it."""
    try:
        return account.key is not None
    except ImproperlyConfigured:
        return False


def seed_from_environment() -> None:
    """Accounts named in the environment that do not exist yet. What an admin has set since is never overwritten."""
    for slug, (key, url) in settings.PROVIDER_SEEDS.items():
        if key and not ProviderAccount.objects.real().filter(provider=slug).exists():
            set_account(slug, key=key, base_url=url or None, label="environment")
            log.info("account seeded from the environment", provider=slug)


def seed_sandbox(origin: str) -> None:
    """The five pretend accounts, at the address we are really bound to."""
    for slug in providers.ALL:
        base_url = f"{origin}/sandbox/{slug}"
        account = ProviderAccount.objects.filter(provider=slug, sandbox=True).first()
        if account is None:
            account = _new(slug, sandbox=True, base_url=base_url)
            account.rate_count, account.rate_s, account.concurrent = 100, 1.0, None
            account.save()
        else:
            ProviderAccount.objects.filter(pk=account.pk).update(base_url=base_url)
        _add_key(account, SANDBOX_KEY)


def check_account(account: ProviderAccount) -> tuple[bool, str]:
    """Try the key by asking for the balance, where there is a call for it."""
    try:
        balance = providers.get(account.provider).balance(plain(account))
    except ProviderError as error:
        return False, error.message
    if balance is None:
        return True, "This provider has no call that tries a key for nothing. The first task will tell."
    return True, f"The key works. Balance there: {balance}."


@dataclass(frozen=True)
class Balance:
    """What is left with a provider, in a sentence; or why nobody knows."""

    works: bool
    said: str
    at: datetime | None = None  # None: not asked


BEING_ASKED = Balance(works=False, said="It is being asked at this moment. Ask again in a few seconds.")


def balance_there(account: ProviderAccount) -> Balance:
    """Asked once a minute at most, and once at a time: pages must not queue behind a provider that hangs."""
    how = f"{account.pk}:{account.key_version}:{account.base_url}"
    key, asking = f"balance:{token_hash(how)}", f"balance-asked:{token_hash(how)}"
    if known := cache.get(key):
        return known
    if not cache.add(asking, True, BALANCE_ASKED_S):
        return BEING_ASKED
    try:
        found = Balance(*_balance(account), at=timezone.now())
        cache.set(key, found, BALANCE_KEPT_S)
        return found
    finally:
        cache.delete(asking)


def _balance(account: ProviderAccount) -> tuple[bool, str]:
    adapter = providers.get(account.provider)
    try:
        left = adapter.balance(plain(account))
    except ProviderError as error:
        return False, f"{error.message.rstrip('.')}. What is left there is not known; try again later."
    if left is None:
        return True, f"{adapter.name} has no call that tells."
    return True, f"{left:,f} {adapter.balance_unit} left there."


# --- Pausing -------------------------------------------------------------------------------------------------------


def pause(account: ProviderAccount, kind: Kind, reason: str, retry_after_s: float | None = None) -> datetime:
    """No creates for a while: the provider's own wish, else by kind, doubling with each failure in a row. What fails while it
    is paused already was under way before: many at once are one failure."""
    fresh, now = ProviderAccount.objects.get(pk=account.pk), timezone.now()
    before = max(0, fresh.failures - fresh.is_paused(now))
    wait_s = retry_after_s or PAUSE_S.get(kind, PAUSE_S[Kind.PROVIDER]) * 2 ** min(before, 6)
    until = now + timedelta(seconds=max(1, min(wait_s, PAUSE_MAX_S)))
    rows = ProviderAccount.objects.filter(pk=account.pk)
    rested = rows.filter(pause_kind=BY_ADMIN, paused_until__range=(now, until))
    if rested.update(paused_until=until, failures=before + 1):  # still the admin's: no success may end it
        return until
    if rows.filter(paused_until__gt=until).update(failures=before + 1):  # a wrong key is not mended by a slip of speed
        return fresh.paused_until or until
    rows.update(paused_until=until, pause_kind=kind, pause_reason=reason[:300], failures=before + 1)
    log.warning("account paused", provider=account.provider, kind=str(kind), until=until.isoformat(), reason=reason)
    return until


def pause_words(account: ProviderAccount) -> str:
    """Why it is paused, for a member; "" where it is not."""
    if not account.is_paused(timezone.now()):
        return ""
    why = PAUSE_WORDS.get(account.pause_kind, PAUSE_WORDS[Kind.PROVIDER])
    return f"{providers.get(account.provider).name} is paused: {why}"


def paused_for(account: ProviderAccount, now: datetime) -> str:
    """For how long yet; "" where it is not. Members read it in any time zone."""
    if account.paused_until is None or not account.is_paused(now):
        return ""
    return f"paused for {math.ceil((account.paused_until - now).total_seconds() / 60)} min"


def worked(account: ProviderAccount) -> None:
    """A create was accepted: the account is well again. What an admin has paused stays paused."""
    if not account.failures and account.paused_until is None:
        return
    rows = ProviderAccount.objects.filter(pk=account.pk).exclude(failures=0, paused_until=None)
    rows.exclude(pause_kind=BY_ADMIN).update(failures=0, paused_until=None, pause_kind="", pause_reason="")


def rest(account: ProviderAccount, minutes: int, by: User) -> datetime:
    """An admin's pause: no creates for so long, whatever it was before. Tasks that it has go on."""
    until = timezone.now() + timedelta(minutes=minutes)
    reason = f"Paused by {by} for {minutes} minutes."[:300]
    with write():
        rows = ProviderAccount.objects.filter(pk=account.pk)
        rows.update(paused_until=until, pause_kind=BY_ADMIN, pause_reason=reason)
        _note(account, "paused the provider", by, f"for {minutes} minutes, until {until:%H:%M} UTC")
    return until


def resume(account: ProviderAccount, by: User) -> bool:
    """End whatever pause there is. False where there was none."""
    with write():
        paused = ProviderAccount.objects.filter(pk=account.pk, paused_until__gt=timezone.now())
        if not paused.update(paused_until=None, pause_kind="", pause_reason="", failures=0):
            return False
        _note(account, "resumed the provider", by, f"was: {account.pause_reason}" if account.pause_reason else "")
    return True


def try_key(account: ProviderAccount, by: User) -> tuple[bool, str]:
    """`check_account`, on record."""
    works, said = check_account(account)
    _note(account, "tried the key of", by, said)
    return works, said


def _note(account: ProviderAccount, verb: str, by: User, note: str) -> None:
    name = providers.get(account.provider).name
    Act.objects.record(by, verb, about=f"{name} (sandbox)" if account.sandbox else name, note=note)
