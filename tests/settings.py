"""Settings of the test suite: the product's own, with a throw-away var/ and quick limits."""

import os
import tempfile

os.environ.setdefault("VAR_DIR", tempfile.mkdtemp(prefix="flux2web-tests-"))
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if WORKER and not os.environ["VAR_DIR"].endswith(f"/{WORKER}"):  # two workers' task 1 must not share a file
    os.environ["VAR_DIR"] += f"/{WORKER}"
os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 40)

from flux2web.settings import *  # noqa: E402, F403
from flux2web.settings import DATABASES, STORAGES, VAR_DIR  # noqa: E402

# Never by themselves: still reading while the next test empties the tables.
AUDIT_EVERY_S = HEALTH_EVERY_S = STATEMENTS_EVERY_S = TRASH_EVERY_S = 10**9
LOCAL = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}  # rate limits of one worker only
CACHES = {"default": LOCAL, "process": LOCAL}
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # argon2 is slow on purpose
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
if "sqlite3" in DATABASES["default"]["ENGINE"]:
    # A file, not memory: threads of one test must see the same rows through connections of their own.
    DATABASES["default"]["TEST"] = {"NAME": VAR_DIR / "test.sqlite3"}
