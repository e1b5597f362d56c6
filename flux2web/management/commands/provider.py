"""Accounts with the providers, without the console."""

import sys

from django.core.exceptions import ValidationError
from django.core.management import BaseCommand, CommandError
from django.utils import timezone

from flux2web import accounts, providers
from flux2web.forms_console import clean_address, parse_rate
from flux2web.models import ProviderAccount

READ_STDIN = "-"


class Command(BaseCommand):
    help = "Look after the accounts with the providers: list them, try their keys, set one up."

    def add_arguments(self, parser):
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help="every account, with its switches; of keys only the last characters")
        check = verbs.add_parser("check", help="try the keys, where the provider has a call that costs nothing")
        check.add_argument("slug", nargs="?", choices=providers.ALL, metavar="SLUG", help="only this provider's")
        _add_settings(verbs.add_parser("set", help="make or change an account; what is not named stays"))

    def handle(self, *, verb: str, **options):
        {"list": self.show, "check": self.try_keys, "set": self.change}[verb](**options)

    def show(self, **_):
        lines = [_line(account) for account in ProviderAccount.objects.all()]
        self.stdout.write("\n".join(lines) or "No account yet. Make one: manage.py provider set SLUG --key -")

    def try_keys(self, *, slug: str | None, **_):
        found = [account for account in ProviderAccount.objects.real() if slug in (None, account.provider)]
        if not found:
            raise CommandError(f"No account{f' with {slug}' if slug else ''} yet: manage.py provider set SLUG --key -")
        works = [self._try(account) for account in found]
        if not all(works):
            sys.exit(1)

    def _try(self, account: ProviderAccount) -> bool:
        works, message = accounts.check_account(account) if account.key_version else (False, "No key is set.")
        self.stdout.write(f"{account.provider}: {message}")
        return works

    def change(self, *, slug: str, key: str | None, url: str | None, enabled: bool | None, rate, concurrency, **_):
        if (key, url, enabled, rate, concurrency) == (None,) * 5:
            raise CommandError("Say what to set: --key, --url, --on, --off, --rate or --concurrency.")
        had_sandbox = accounts.sandbox_on()
        account = accounts.set_account(
            slug,
            key=None if key is None else clean_key(sys.stdin.readline() if key == READ_STDIN else key),
            base_url=None if url is None else clean_url(url),
            enabled=enabled,
            rate=None if rate is None else clean_rate(rate),
            concurrent=accounts.UNCHANGED if concurrency is None else clean_concurrency(concurrency),
            label="command line",
        )
        self.stdout.write(_line(account))
        if had_sandbox and not accounts.sandbox_on():
            self.stdout.write("The sandbox takes no more tasks: from now on pictures are real and cost money.")


def _add_settings(parser) -> None:
    parser.add_argument("slug", choices=providers.ALL, metavar="SLUG", help=", ".join(providers.ALL))
    parser.add_argument("--key", metavar="K", help="the API key; - reads it from stdin, out of the shell's history")
    parser.add_argument("--url", metavar="U", help="another address than the provider's own")
    parser.add_argument("--on", dest="enabled", action="store_const", const=True, help="send it new tasks")
    parser.add_argument("--off", dest="enabled", action="store_const", const=False, help="send it no new tasks")
    parser.add_argument("--rate", metavar="N/SECONDS", help="at most N calls in so many seconds, e.g. 20/10")
    parser.add_argument("--concurrency", type=int, metavar="N", help="at most N tasks at once")


# --- What was typed --------------------------------------------------------------------------------------------------


def clean_key(text: str) -> str:
    key = text.strip()
    if not key:
        raise CommandError("The key is empty: nothing was changed.")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise CommandError("A key has no spaces, line breaks or accents. Was something else copied with it?")
    return key


def clean_url(text: str) -> str:
    """Public https, or this very machine: a key must not cross a network in the clear."""
    try:
        url = clean_address(text)
    except ValidationError as error:
        raise CommandError(f"--url: {error.message}") from None
    if not (accounts.is_loopback(url) or accounts.is_public(url)):
        raise CommandError("--url: only https:// and a public host, or an address on this very machine.")
    return url


def clean_rate(text: str) -> tuple[int, float]:
    try:
        return parse_rate(text)
    except ValidationError as error:
        raise CommandError(f"--rate: {error.message}") from None


def clean_concurrency(number: int) -> int:
    if number < 1:
        raise CommandError("--concurrency: at least 1. To stop new tasks use --off; no ceiling is set in the console.")
    return number


# --- What is shown ---------------------------------------------------------------------------------------------------


def _line(account: ProviderAccount) -> str:
    """One account on one line. No secret in it."""
    ceiling = f", {account.concurrent} at once" if account.concurrent else ""
    facts = [
        f"{account!s:20}",
        "on " if account.enabled else "off",
        _key_hint(account),
        account.base_url,
        f"{account.rate_count}/{account.rate_s:g} s{ceiling}",
        _pause(account),
    ]
    return "  ".join(fact for fact in facts if fact)


def _key_hint(account: ProviderAccount) -> str:
    return f"key {account.key_hint}" if account.key_version else "no key"


def _pause(account: ProviderAccount) -> str:
    if not account.is_paused(timezone.now()):
        return ""
    return f"paused until {account.paused_until:%H:%M:%S} UTC: {account.pause_reason}"
