"""A process of its own on a test's database, for what must be exact across processes. test_races.py starts several.

python -m tests.racer DATABASE take ACCOUNT SECONDS     takes calls of its allowance as fast as it gives them
python -m tests.racer DATABASE submit ACCOUNT TASK…     sends waiting tasks

It says "ready", waits for a line, and says when each call was taken, or nothing.
"""

from __future__ import annotations

import os
import sys
import time

import django
from django.conf import settings


def take(account_id: str, seconds: str) -> None:
    account, until = ProviderAccount.objects.get(pk=account_id), time.time() + float(seconds)
    while time.time() < until:
        free_at = account.take_call()
        if free_at is None:
            print(account.calls[-1])
        else:
            time.sleep(max(0.0, min(free_at.timestamp(), until) - time.time()))


def submit(_: str, *task_ids: str) -> None:
    for task_id in task_ids:
        lifecycle.submit(int(task_id))


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    database, verb, *words = sys.argv[1:]
    settings.DATABASES["default"]["NAME"] = database
    django.setup()

    from flux2web import lifecycle
    from flux2web.models import ProviderAccount

    ProviderAccount.objects.get(pk=words[0])  # connected
    print("ready", flush=True)
    sys.stdin.readline()
    {"take": take, "submit": submit}[verb](*words)
