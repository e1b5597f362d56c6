"""A provider that is slow, switched off, out of credit, answers HTML and is healed again, in the middle of 200 tasks, on two
screens: nothing is lost, nothing is paid twice, and every card says how its task stands."""

from __future__ import annotations

import threading
import time
import urllib.request

import pytest

from ..peer import Handler, Peer, _Server
from ..site import running

pytestmark = pytest.mark.browser
TOTAL, PRICE, AT_ONCE = 200, 10, 40
DRAWS_S = 0.3
PATIENCE_S = 300  # how long it takes is no matter here


class Moody(Peer):
    """Revid's wire, in a mood for its first so many tasks, in another from then on. It rings for every second task; the
    others are found by looking."""

    def __init__(self) -> None:
        super().__init__()
        self.quota, self.first, self.then = TOTAL, "well", "well"
        self.taken: dict[str, float] = {}  # every task that it took, by its id here: when
        self._taking = threading.Lock()
        self._server: _Server | None = None

    def be(self, first: str, quota: int = TOTAL, then: str = "well") -> None:
        self.quota, self.first, self.then = quota, first, then

    @property
    def mood(self) -> str:
        return self.first if len(self.taken) < self.quota else self.then

    def switch_on(self, port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads, self._server.peer = True, self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def switch_off(self) -> int:
        """From here on connections are refused. The port, for switching on again."""
        self._server.shutdown()
        self._server.server_close()
        return self._server.server_port

    def accept(self, handler: Handler, upstream_id: str) -> None:
        with self._taking:
            mood = self.mood
            if mood in ("well", "slow") or (mood == "html" and int(upstream_id[3:]) % 3 == 0):
                self.take(upstream_id, rings=mood == "html" or int(upstream_id[3:]) % 2 == 0)
        if mood == "slow":
            time.sleep(1)
        if mood == "poor":
            return handler.envelope(402, None, "balance is insufficient")
        if mood == "html":  # whether it took it, it does not say; of what it took it rings
            return handler.say(502, b"<html><h1>Bad gateway</h1></html>", "text/html")
        handler.envelope(200, {"taskId": upstream_id})

    def take(self, upstream_id: str, *, rings: bool) -> None:
        self.taken[upstream_id] = time.monotonic()
        self.jobs[upstream_id] = "waiting"
        if rings:
            threading.Timer(DRAWS_S + 0.1, self.ring, (upstream_id, self._address(upstream_id))).start()

    def _address(self, upstream_id: str) -> str:
        return self.creates[int(upstream_id[3:]) - 1]["callBackUrl"]

    def ring(self, upstream_id: str, address: str) -> None:
        body = self.callback_body(upstream_id, "success")
        urllib.request.urlopen(urllib.request.Request(address, body, method="POST"), timeout=30).close()

    def _look(self, handler: Handler, upstream_id: str) -> None:
        if self.mood == "html":
            return handler.say(200, b"<html>We are busy</html>", "text/html")
        if time.monotonic() - self.taken.get(upstream_id, time.monotonic()) > DRAWS_S:
            self.jobs[upstream_id] = "success"
        super()._look(handler, upstream_id)


@pytest.fixture
def moody():
    moody = Moody()
    moody.switch_on()
    yield moody
    moody.switch_off()


@pytest.fixture
def site(tmp_path, moody):
    quick = {"DJANGO_SETTINGS_MODULE": "tests.settings_patient", "SANDBOX": "0", "LOG_LEVEL": "ERROR"}
    with running(tmp_path / "var", **quick, REVID_API_KEY="k" * 20, REVID_URL=moody.url) as site:
        site.person = site.set_up()
        grant = "from flux2web import ledger; from flux2web.models import Team, write\nwith write():\n"
        grant += "    ledger.grant(Team.objects.get(), 2000, actor=None, reason='for 200 pictures', key='more')\n"
        assert site.manage("shell", "-c", grant).returncode == 0
        assert heal(site).returncode == 0
        yield site


def heal(site):
    """What a site admin does once the provider is well: the pause ends."""
    return site.manage("provider", "set", "revid", "--on", "--rate", "1000/1", "--concurrency", str(AT_ONCE))


def truth(site) -> dict[str, str]:
    return {str(task_id): state for task_id, state in site.rows("SELECT id, state FROM flux2web_task")}


def shown(page) -> dict[str, str]:
    said = "nodes => nodes.map(node => [node.dataset.task, node.dataset.state])"
    return dict(page.eval_on_selector_all("#cards article[data-task]", said))


def all_say_the_truth(site, pages, timeout_s: float = 120) -> None:
    """Each card of each screen, within this time, without a reload; the rows are read before and after."""
    until = time.monotonic() + timeout_s
    for page in pages:
        while not (before := truth(site)) == shown(page) == truth(site):
            wrong = {key: (state, before.get(key)) for key, state in shown(page).items() if before.get(key) != state}
            missing = len(before.keys() - shown(page).keys())
            assert time.monotonic() < until, f"shown and true: {wrong}; not shown: {missing}"
            page.wait_for_timeout(100)


def test_two_hundred_tasks_outlive_every_mood_of_their_provider(site, moody, sign_in):
    pages = [sign_in(), sign_in(width=360)]
    moody.be("slow", 24, then="poor")
    press_all(site)
    site.wait_until(lambda: site.states().count("done") == 24, PATIENCE_S)
    all_say_the_truth(site, pages)
    assert site.states().count("queued") == TOTAL - 24, "without balance it takes nothing, and nothing fails of it"

    port = moody.switch_off()
    heal(site)
    site.wait_until(lambda: attempts(site, "not_sent") > 0, PATIENCE_S)
    all_say_the_truth(site, pages)
    assert len(moody.taken) == 24

    moody.be("well", 100, then="html")
    moody.switch_on(port)
    heal(site)
    site.wait_until(lambda: "uncertain" in site.states(), PATIENCE_S)
    for page in pages:
        page.wait_for_selector("#cards article[data-state=uncertain]", timeout=30_000)

    moody.be("well")
    states = site.wait_at_rest(PATIENCE_S)
    all_say_the_truth(site, pages)

    assert len(states) == TOTAL
    assert states.count("done") == len(moody.taken), "what it took is stored and paid for once"
    assert set(states) <= {"done", "failed"}
    ids = [upstream_id for (upstream_id,) in site.rows("SELECT upstream_id FROM flux2web_task WHERE state = 'done'")]
    assert sorted(ids) == sorted(moody.taken)
    [(granted, held, spent)] = site.rows("SELECT granted, held, spent FROM flux2web_budget")
    assert (granted, held, spent) == (3000, 0, PRICE * len(ids))
    checked = site.manage("check_ledger", "--storage")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for page in pages:
        assert page.locator("#cards article[data-state=done] img").count() == len(ids)
        assert page.errors == []


def attempts(site, outcome: str) -> int:
    return site.rows("SELECT count(*) FROM flux2web_attempt WHERE outcome = ?", outcome)[0][0]


def press_all(site) -> None:
    for number in range(TOTAL // 8):
        assert site.person.press(f"Harbour number {number}", count="8", provider="revid").status_code == 200
