"""The environment makes the settings; what is wrong in it is said at once, in words."""

from __future__ import annotations

import ast
import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings

from . import site
from .brokers import reachable

HOUSE = site.ROOT / "flux2web"
POSTGRES = "postgres://postgres@127.0.0.1:5432/postgres"
REDIS = "redis://127.0.0.1:6379/11"
SCALED_OUT = {
    "DATABASE_URL": POSTGRES,
    "BROKER_URL": REDIS,
    "REDIS_URL": REDIS,
    "SECRET_KEY": "a-secret-of-this-test-" * 3,
}
HTTPS = {"PUBLIC_URL": "https://studio.example.com"}
NEEDS_POSTGRES = pytest.mark.skipif(not reachable(5432), reason="no PostgreSQL at 127.0.0.1:5432")


@pytest.fixture
def env(tmp_path):
    """env(PUBLIC_URL=…) is an operator's environment with nothing else of ours in it."""
    return lambda **given: site.environment(
        **{"DJANGO_SETTINGS_MODULE": "flux2web.settings", "VAR_DIR": str(tmp_path)} | given
    )


def ended(env: dict[str, str], code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=site.ROOT, env=env, capture_output=True, text=True, timeout=60
    )


def read(env: dict[str, str], *names: str) -> list:
    """These settings, as a process with this environment has them."""
    shown = f"import json; from flux2web import settings as s; print(json.dumps([getattr(s, n) for n in {names}], default=str))"
    process = ended(env, shown)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def complaint(process: subprocess.CompletedProcess) -> str:
    """The last line that an operator reads when the site does not start."""
    assert process.returncode != 0
    return process.stderr.strip().splitlines()[-1]


# --- Django's own questions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [{}, pytest.param(SCALED_OUT, marks=NEEDS_POSTGRES)], ids=["embedded", "scaled-out"])
def test_nothing_is_left_for_djangos_deployment_check(env, shape):
    check = site.manage("check", "--deploy", "--fail-level", "INFO", env=env(**HTTPS, **shape))
    assert check.returncode == 0, check.stderr
    assert "no issues (0 silenced)" in check.stdout


@pytest.mark.parametrize("shape", [{}, pytest.param(SCALED_OUT, marks=NEEDS_POSTGRES)], ids=["embedded", "scaled-out"])
def test_no_migration_is_missing(env, shape):
    made = site.manage("makemigrations", "--check", "--dry-run", env=env(**shape))
    assert (made.returncode, made.stdout.strip()) == (0, "No changes detected"), made.stdout + made.stderr


# --- What is missing or wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (SCALED_OUT | {"SECRET_KEY": ""}, "Set SECRET_KEY: several machines must share one secret."),
        (SCALED_OUT | {"BROKER_URL": ""}, "set BROKER_URL and REDIS_URL too"),
        (SCALED_OUT | {"REDIS_URL": ""}, "set BROKER_URL and REDIS_URL too"),
        (SCALED_OUT | {"BROKER_URL": "sqs://queue"}, "BROKER_URL must begin with redis:// or amqp://, not 'sqs'"),
    ],
    ids=["no secret", "no broker", "no bus", "strange broker"],
)
def test_a_scaled_out_site_says_what_it_lacks(env, given, said):
    assert said in complaint(ended(env(**given), "import flux2web.settings"))


def test_no_command_starts_without_what_is_lacking(env):
    assert "Set SECRET_KEY: several machines" in complaint(
        site.manage("web", env=env(**SCALED_OUT | {"SECRET_KEY": ""}))
    )
    assert "CommandError: Set PUBLIC_URL: the address" in complaint(site.manage("web", env=env(**SCALED_OUT)))


WRONG_ADDRESSES = [
    "studio.example.com",
    "ftp://studio.example.com",
    "https://",
    "https://studio.example.com/app",
    "https://studio.example.com?a=b",
    "https://studio.example.com#top",
    "https://ana:secret@studio.example.com",
    "https://studio.example.com:port",
    "https://studio.example.com:99999",
    "https://[::1",
    "https://studio example.com",
]


def test_a_wrong_address_is_refused_with_an_example(env):
    with ThreadPoolExecutor(2) as pool:
        processes = pool.map(lambda url: ended(env(PUBLIC_URL=url), "import flux2web.settings"), WRONG_ADDRESSES)
        for url, process in zip(WRONG_ADDRESSES, processes, strict=True):
            assert complaint(process).endswith(f"PUBLIC_URL must look like https://studio.example.com, not {url!r}.")


# --- Secrets ----------------------------------------------------------------------------------------------------------


def test_the_kept_secret_is_the_owners_alone_and_stays(env, tmp_path):
    [first], [second] = read(env(), "SECRET_KEY"), read(env(), "SECRET_KEY")
    kept = tmp_path / "secret_key"
    assert first == second == kept.read_text()
    assert len(first) >= 50
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(read_mode(tmp_path / "fresh", env)) == 0o700


def read_mode(var: Path, env) -> int:
    """The mode of a var/ that a start has made."""
    read(env(VAR_DIR=str(var)), "VAR_DIR")
    return var.stat().st_mode


def test_processes_that_start_at_once_keep_one_secret(env, tmp_path):
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: read(env(), "SECRET_KEY")[0], range(6)))
    assert len(set(found)) == 1
    assert found[0]
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_a_secret_is_taken_as_it_stands(env):
    given = {"SECRET_KEY": "$HOME-is-no-variable-here", "REVID_API_KEY": "$key", "SECRET_KEYS": "older, oldest"}
    key, keys, seeds = read(env(**given), "SECRET_KEY", "SECRET_KEYS", "PROVIDER_SEEDS")
    assert key == "$HOME-is-no-variable-here"
    assert keys == [key, "older", "oldest"]
    assert seeds["revid"] == ["$key", ""]


def test_only_the_settings_read_the_environment():
    allowed = {HOUSE / "settings.py"}
    readers = [path for path in HOUSE.rglob("*.py") if path not in allowed and reads_environment(path)]
    assert readers == []


def reads_environment(path: Path) -> bool:
    """os.environ, os.getenv and friends, but for naming the settings module. A WSGI environ is another thing."""
    tree = ast.parse(path.read_text())
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_of_os(node)]
    imported = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "environ")
        for alias in node.names
    ]
    packages = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    found = [*names, *({"environ", "environb", "getenv", "Env"} & set(imported)), *({"environ"} & set(packages))]
    return len(found) > len(settings_defaults(tree))


def is_of_os(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr in ("environ", "environb", "getenv")


def settings_defaults(tree: ast.Module) -> list[ast.Call]:
    wanted = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'flux2web.settings')"
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node) == wanted]


# --- What follows from the address ------------------------------------------------------------------------------------

FOLLOWING = (
    "SESSION_COOKIE_SECURE",
    "CSRF_COOKIE_SECURE",
    "SECURE_SSL_REDIRECT",
    "SECURE_HSTS_SECONDS",
    "SESSION_COOKIE_NAME",
    "ALLOWED_HOSTS",
    "CSRF_TRUSTED_ORIGINS",
)
LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]
YEAR_S = 31_536_000


def test_https_makes_cookies_secure_and_hsts_long(env):
    assert read(env(PUBLIC_URL="https://Studio.Example.com/"), *FOLLOWING) == [
        *(True, True, True, YEAR_S, "__Host-session"),
        ["studio.example.com", *LOOPBACK],
        ["https://studio.example.com"],
    ]


def test_http_on_this_machine_works_without_both(env):
    assert read(env(PUBLIC_URL="http://[::1]:8000"), *FOLLOWING) == [
        *(False, False, False, 0, "session"),
        ["[::1]", *LOOPBACK],
        ["http://[::1]:8000"],
    ]


def test_hosts_that_are_given_stand_and_without_an_address_only_this_machine_is_served(env):
    assert read(env(**HTTPS, ALLOWED_HOSTS="a.example.com,b.example.com"), "ALLOWED_HOSTS") == [
        ["a.example.com", "b.example.com"]
    ]
    assert read(env(), "ALLOWED_HOSTS", "SECURE_HSTS_SECONDS", "DEBUG") == [LOOPBACK, 0, False]


# --- Every answer -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/", "/accounts/login/", "/t/north/", "/t/north/history/", "/nothing/", "/health/live"]
)
def test_every_answer_has_a_strict_policy_and_no_sniffing(path, ana, client_for):
    for person in (ana, None):
        answer = client_for(person).get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not {"*", "http:", "https:", "data:"} & set(policy.replace(";", " ").split())
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "same-origin"


def test_the_policy_lets_pictures_come_from_the_bucket_and_nothing_else(env):
    given = {"S3_BUCKET": "pictures", "S3_ENDPOINT_URL": "https://files.example.com:9000/path"}
    [policy] = read(env(**given), "CONTENT_SECURITY_POLICY")
    ours = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    assert policy["DIRECTIVES"] == ours | {"img-src": [*ours["img-src"], "https://files.example.com:9000"]}


# --- The log ----------------------------------------------------------------------------------------------------------


def test_addresses_that_open_doors_are_closed_in_the_log(env):
    log = "import logging, django; django.setup(); logging.warning('Gone: %s', '{}')"
    paths = ["/hooks/revid/s3cret/", "/i/s3cret.png", "/setup/s3cret/?x", "/invites/s3cret/"]
    said = ended(env(), log.format(" ".join(paths))).stderr
    assert said.count("[hidden]") == len(paths)
    assert "s3cret" not in said
