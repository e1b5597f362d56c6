"""The real thing as a test sees it: `manage.py` in processes of their own, used over HTTP, killed and started again."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import httpx

ROOT = Path(__file__).parent.parent
PERSON = {"name": "Ana", "email": "ana@example.com", "password": "a long pass phrase 1"}
READY_S = 90
# Nothing of the machine's own reaches the site: no provider key, no shape, no address.
OURS = re.compile(r"(_API_KEY|_URL)$|^(SECRET_KEYS?|LOG_LEVEL|SANDBOX|ALLOWED_HOSTS|DEBUG|CRASH_AT|VAR_DIR|S3_.*)$")


def environment(**env: str) -> dict[str, str]:
    """The machine's, without what is ours in it; quick limits; and `env`."""
    clean = {name: value for name, value in os.environ.items() if not OURS.search(name)}
    return clean | {"DJANGO_SETTINGS_MODULE": "tests.settings_quick"} | env


def manage(*args: str, env: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess:
    """One command, to its end."""
    command = [sys.executable, "manage.py", *args]
    return subprocess.run(command, cwd=ROOT, env=env, input=stdin, capture_output=True, text=True, timeout=120)


def spawn(*args: str, env: dict[str, str], log: Path) -> subprocess.Popen:
    """One command that runs until it is stopped, in a process group of its own; its words go to `log`."""
    with log.open("ab") as out:
        command = [sys.executable, "manage.py", *args]
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)


def stop(process: subprocess.Popen, sig: int = signal.SIGTERM) -> float:
    """Seconds until the process was gone."""
    began = time.monotonic()
    if process.poll() is None:
        process.send_signal(sig)
        process.wait(15)
    return time.monotonic() - began


def kill(process: subprocess.Popen) -> None:
    """The process and its children, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


class Site:
    def __init__(self, var: Path, **env: str) -> None:
        self.var, self.env, self.url, self.setup_url = var, env, "", ""
        self.process: subprocess.Popen | None = None
        self.port = 0
        self.log = var / "test.log"

    # --- The process

    def start(self, **env: str) -> Site:
        self._wait_ready(self.launch(**env))
        return self

    def launch(self, **env: str) -> int:
        """Start without waiting; returns where in the log its words begin."""
        self.var.mkdir(parents=True, exist_ok=True)
        start = self.log.stat().st_size if self.log.exists() else 0
        self.process = spawn("up", "--port", str(self.port), env=self._environment(env), log=self.log)
        return start

    def _environment(self, env: dict[str, str]) -> dict[str, str]:
        quick = {"SANDBOX_MIN_S": "0.2", "SANDBOX_MAX_S": "0.5", "VAR_DIR": str(self.var)}
        return environment(**quick | self.env | env)

    def _wait_ready(self, start: int) -> None:
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            said = self.log.read_bytes()[start:].decode(errors="replace")
            found = re.search(r"ready: (http://[^/\s]+)(/\S*)", said)
            if found and answers(found[1]):
                self.url, self.setup_url = found[1], found[1] + found[2]
                self.port = int(self.url.rsplit(":", 1)[1])
                return
            assert self.process.poll() is None, f"it ended: {said}"
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.log.read_text()[-2000:]}")

    def stop(self, sig: int = signal.SIGINT) -> float:
        """Seconds until the process was gone."""
        return stop(self.process, sig) if self.process else 0.0

    def wait_dead(self, timeout_s: float = 20) -> int:
        return self.process.wait(timeout_s)

    def manage(self, *args: str) -> subprocess.CompletedProcess:
        return manage(*args, env=self._environment({}))

    # --- The person

    def set_up(self, team: str = "North") -> Person:
        person = Person(self)
        person.post(self.setup_url, PERSON | {"team": team}, page=self.setup_url)
        return person

    # --- The rows, read beside the running site

    def rows(self, sql: str, *args: object) -> list[tuple]:
        with sqlite3.connect(f"file:{self.var / 'flux2web.sqlite3'}?mode=ro", uri=True, timeout=20) as db:
            return db.execute(sql, args).fetchall()

    def change(self, sql: str, *args: object) -> None:
        """Rows as a test wants them, beside the running site."""
        with closing(sqlite3.connect(self.var / "flux2web.sqlite3", timeout=20)) as db, db:
            db.execute(sql, args)

    def forget_drafts(self) -> None:
        """What anybody left in a compose form."""
        self.change("DELETE FROM flux2web_draft")

    def states(self) -> list[str]:
        return [state for (state,) in self.rows("SELECT state FROM flux2web_task ORDER BY id")]

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 30) -> None:
        until = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until, f"{self.states()}; {self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def wait_at_rest(self, timeout_s: float = 60) -> list[str]:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            states = self.states()
            if states and not set(states) - {"done", "failed", "cancelled"}:
                return states
            time.sleep(0.2)
        raise AssertionError(f"still {self.states()}; {self.log.read_text()[-3000:]}")


class HasUrl(Protocol):
    url: str


class Person:
    """Somebody with a browser without JavaScript."""

    def __init__(self, site: HasUrl) -> None:
        self.site = site
        self.http = httpx.Client(follow_redirects=True, timeout=30, trust_env=False)

    def get(self, path: str, **kwargs) -> httpx.Response:
        return self.http.get(self._at(path), **kwargs)

    def _at(self, path: str) -> str:
        return path if path.startswith("http") else self.site.url + path

    def fields(self, path: str, form: str = "") -> dict[str, str]:
        """The hidden fields of a page as rendered."""
        html = self.get(path).text
        hidden = re.findall(r'<input[^>]*type="hidden"[^>]*>', html)
        pairs = [(re.search(r'name="([^"]+)"', tag), re.search(r'value="([^"]*)"', tag)) for tag in hidden]
        return {name[1]: value[1] if value else "" for name, value in pairs if name}

    def post(self, path: str, data: dict, *, page: str, files=None) -> httpx.Response:
        token = {"csrfmiddlewaretoken": self.fields(page).get("csrfmiddlewaretoken", "")}
        answer = self.http.post(self._at(path), data=token | data, files=files, headers={"Referer": self._at(page)})
        assert answer.status_code < 500, answer.text[:2000]
        return answer

    def press(self, prompt: str, **fields) -> httpx.Response:
        """Press the button in the studio, also for what was made already."""
        shown = self.fields("/t/north/")
        asked = {"family": "pro", "aspect_ratio": "1:1", "resolution": "1K", "count": "1", "provider": "", "again": "1"}
        given = asked | {"prompt": prompt, "key": shown["key"]} | fields
        return self.post("/t/north/tasks/", given, page="/t/north/")


@contextmanager
def running(var: Path, **env: str) -> Iterator[Site]:
    site = Site(var, **env)
    try:
        yield site.start()
    finally:
        if site.process:
            kill(site.process)
