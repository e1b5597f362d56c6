"""The whole suite, as README's second command runs it: style, types, templates, tests on SQLite, tests on PostgreSQL.

python -m tests              everything
python -m tests -k ledger    pytest's own words go to both runs; style and types are left out
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from tests.reach import reachable

HERE = [sys.executable, "-m"]
POSTGRES = {
    "DATABASE_URL": "postgres://postgres@127.0.0.1:5432/postgres",
    "BROKER_URL": "redis://127.0.0.1:6379/9",
    "REDIS_URL": "redis://127.0.0.1:6379/9",
}
# What no database has a say in, or what starts a site of its own, runs once.
ONCE = [
    "providers",
    "browser",
    "test_http.py",
    "test_imaging.py",
    "test_sandbox.py",
    "test_conventions.py",
    "test_money.py",
    "test_charts.py",
    "test_periods.py",
    "test_prompts.py",
    "test_references_uploads.py",
    "test_sheets.py",
]
ONCE += ["test_up.py", "test_crashes.py", "test_scaled_out.py", "test_settings.py"]
SOME_FAILED, NONE_CHOSEN = 1, 5  # pytest's exit codes
# These start sites of their own and mostly wait for them: file by file, beside each other, after the others.
SITES = ["tests/browser", "tests/test_crashes.py", "tests/test_scaled_out.py"]
# These time things, or load every core themselves: alone.
ALONE = ["tests/test_up.py", "tests/test_races.py"]
TOGETHER = ["-n", "auto"]
BY_FILE = ["--dist", "loadfile"]  # a file's tests share their site


def main(words: list[str]) -> int:
    began = time.monotonic()
    failed = [name for name, command, env in steps(words) if not run(name, command, env)]
    print(f"\n{'Failed: ' + ', '.join(failed) if failed else 'All of it passed'} in {time.monotonic() - began:.0f} s.")
    return 1 if failed else 0


def steps(words: list[str]):
    """(name, command, environment) of each step."""
    if not words:
        yield "style", [*HERE, "ruff", "check", "."], {}
        yield "format", [*HERE, "ruff", "format", "--check", "."], {}
        yield "types", [*HERE, "mypy"], {}
        yield "templates", [*HERE, "djlint", "templates", "--lint", "--quiet"], {}
    pytest = [*HERE, "pytest", "-q", *words]
    yield "tests on SQLite", [*pytest, *TOGETHER, *(f"--ignore={path}" for path in [*SITES, *ALONE])], {}
    if reachable(5432) and reachable(6379):
        once = [f"--ignore=tests/{name}" for name in ONCE]
        others = [*once, "--ignore=tests/test_races.py"]
        yield "tests on PostgreSQL", [*pytest, *TOGETHER, *others], POSTGRES
        yield "races on PostgreSQL", [*pytest, "tests/test_races.py"], POSTGRES
    else:
        print("No PostgreSQL at 127.0.0.1:5432 or no Redis at 127.0.0.1:6379: the tests run on SQLite only.")
    yield "real sites and browser", [*pytest, *TOGETHER, *BY_FILE, *SITES], {}
    yield "races and stops", [*pytest, *ALONE], {}


def run(name: str, command: list[str], env: dict[str, str]) -> bool:
    print(f"\n── {name} " + "─" * (100 - len(name)), flush=True)
    code = subprocess.run(command, env=os.environ | env, check=False).returncode
    if code == SOME_FAILED and "pytest" in command:
        return passes_alone(command, env)
    return code in (0, NONE_CHOSEN)


def passes_alone(command: list[str], env: dict[str, str]) -> bool:
    """What failed, once more and one after the other: tests that race and time share their cores with the others.
    What fails twice has failed."""
    print("\n── what failed, again and alone " + "─" * 70, flush=True)
    alone = [word for word in command if word not in (*TOGETHER, *BY_FILE)]
    return (
        subprocess.run([*alone, "--last-failed", "--last-failed-no-failures", "none"], env=os.environ | env).returncode
        == 0
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
