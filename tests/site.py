"""The real thing as a test sees it: `manage.py up` in a process of its own, used over HTTP, killed and started again."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent
PERSON = {"name": "Ana", "email": "ana@example.com", "password": "a long pass phrase 1"}
READY_S = 40
# Nothing of the machine's own reaches the site: no provider key, no shape, no address.
OURS = re.compile(r"(_API_KEY|_URL)$|^(SECRET_KEY|SANDBOX|ALLOWED_HOSTS|DEBUG|CRASH_AT|VAR_DIR|S3_.*)$")


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
        command = [sys.executable, "manage.py", "up", "--port", str(self.port)]
        with self.log.open("ab") as log:
            start = log.tell()
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment(env), stdout=log, stderr=log, start_new_session=True
            )
        return start

    def _environment(self, env: dict[str, str]) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not OURS.search(name)}
        quick = {"DJANGO_SETTINGS_MODULE": "tests.settings_quick", "SANDBOX_MIN_S": "0.2", "SANDBOX_MAX_S": "0.5"}
        return clean | quick | {"VAR_DIR": str(self.var)} | self.env | env

    def _wait_ready(self, start: int) -> None:
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            said = self.log.read_bytes()[start:].decode(errors="replace")
            found = re.search(r"ready: (http://[^/\s]+)(/\S*)", said)
            if found and self._answers(found[1]):
                self.url, self.setup_url = found[1], found[1] + found[2]
                self.port = int(self.url.rsplit(":", 1)[1])
                return
            assert self.process.poll() is None, f"it ended: {said}"
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.log.read_text()[-2000:]}")

    def _answers(self, url: str) -> bool:
        try:
            return httpx.get(f"{url}/health/live", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, sig: int = signal.SIGINT) -> float:
        """Seconds until the process was gone."""
        began = time.monotonic()
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(15)
        return time.monotonic() - began

    def wait_dead(self, timeout_s: float = 20) -> int:
        return self.process.wait(timeout_s)

    def manage(self, *args: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "manage.py", *args]
        return subprocess.run(command, cwd=ROOT, env=self._environment({}), capture_output=True, text=True, timeout=120)

    # --- The person

    def set_up(self, team: str = "North") -> Person:
        person = Person(self)
        person.post(self.setup_url, PERSON | {"password1": PERSON["password"], "team": team}, page=self.setup_url)
        return person

    # --- The rows, read beside the running site

    def rows(self, sql: str, *args: object) -> list[tuple]:
        with sqlite3.connect(f"file:{self.var / 'flux2web.sqlite3'}?mode=ro", uri=True, timeout=20) as db:
            return db.execute(sql, args).fetchall()

    def states(self) -> list[str]:
        return [state for (state,) in self.rows("SELECT state FROM flux2web_task ORDER BY id")]

    def wait_at_rest(self, timeout_s: float = 60) -> list[str]:
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            states = self.states()
            if states and not set(states) - {"done", "failed", "cancelled"}:
                return states
            time.sleep(0.2)
        raise AssertionError(f"still {self.states()}; {self.log.read_text()[-3000:]}")


class Person:
    """Somebody with a browser without JavaScript."""

    def __init__(self, site: Site) -> None:
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
        """Press the button in the studio."""
        shown = self.fields("/t/north/")
        asked = {"family": "pro", "aspect_ratio": "1:1", "resolution": "1K", "count": "1", "provider": ""}
        given = asked | {"prompt": prompt, "key": shown["key"]} | fields
        return self.post("/t/north/tasks/", given, page="/t/north/")


@contextmanager
def running(var: Path, **env: str) -> Iterator[Site]:
    site = Site(var, **env).start()
    try:
        yield site
    finally:
        if site.process and site.process.poll() is None:
            site.process.kill()
            site.process.wait(10)
