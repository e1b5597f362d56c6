"""A zip of many pictures: how much memory its maker needs beyond what it needs for a few.

In a process of its own (`python -m tests.bench.files PICTURES`), which makes one zip of each size and looks at its peak.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ..site import ROOT
from . import stage

FEW, MANY, PICTURE_BYTES, TARGET_MB = 10, 1_000, 3 * 2**20, 50


def main() -> None:
    with tempfile.TemporaryDirectory() as var:
        env = os.environ | {"VAR_DIR": var, "LOG_LEVEL": "ERROR", "DJANGO_SETTINGS_MODULE": "flux2web.settings"}
        command = [sys.executable, "-m", "tests.bench.files"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    head = ["pictures", "s", "zip MB", "peak MB", f"more than before (target < {TARGET_MB} MB)"]
    stage.table(f"A zip of pictures of {PICTURE_BYTES // 2**20} MB each", head, rows)


# --- Inside the process that has the database ---------------------------------------------------------------------------


def peak_mb() -> float:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def figures() -> None:
    call_command("migrate", verbosity=0)
    factories.make_account("revid")
    team = factories.make_team(name="North", credits=100_000)
    user = factories.make_member(team).user
    content = os.urandom(PICTURE_BYTES)  # one file, named by all: the disk holds it once, the zip as often as they are
    key, before = factories.store("results/bench.png", content), 0.0
    ids: list[int] = []
    for many in (FEW, MANY):
        while len(ids) < many:
            task = factories.make_task(team, user=user, state="done")
            Result.objects.filter(task=task).update(key=key, size_bytes=PICTURE_BYTES)
            ids.append(task.pk)
        del content
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = before or peak_mb()
        export = exports.start(user, team, "zip", {"ids": ids}, "bench.zip", rows=len(ids))
        began = time.perf_counter()
        exports.run(export.pk)
        took = time.perf_counter() - began
        export.refresh_from_db()
        assert export.state == "done", export.problem
        size_mb = export.size_bytes / 2**20
        default_storage.delete(export.key)
        print(f"{many} {took:.1f} {size_mb:.0f} {peak_mb():.1f} {peak_mb() - before:.1f}")


if __name__ == "__main__":
    import django

    django.setup()
    from django.core.files.storage import default_storage
    from django.core.management import call_command

    from flux2web import exports
    from flux2web.models import Result

    from .. import factories

    figures()
