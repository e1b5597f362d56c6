"""All settings. The environment is read here and nowhere else.

Units are in the names: _S seconds, _BYTES, _CREDITS. What is not asked for in the environment has a default that a small
team can live with: SQLite, files and an in-memory broker, all under var/ (the embedded shape). With DATABASE_URL set the
same code runs scaled out.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import environ
import structlog
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = env.bool("DEBUG", default=False)
VAR_DIR = Path(env("VAR_DIR", default=str(BASE_DIR / "var"))).resolve()  # database, files, spool, secret: back this up
VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
EMBEDDED = not env("DATABASE_URL", default="")  # one process, one machine


def as_it_stands(name: str) -> str:
    """A secret, character by character: Env would take one that begins with $ for the name of another variable."""
    return os.environ.get(name, "").strip()


def kept_secret(path: Path) -> str:
    """The secret in `path`, made on first use and readable by its owner only. Whole or not there, however many start."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
        with suppress(FileExistsError):  # another process was first: its secret stands
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()


SECRET_KEY = as_it_stands("SECRET_KEY")
if not SECRET_KEY:
    if not (EMBEDDED or DEBUG):
        raise ImproperlyConfigured("Set SECRET_KEY: several machines must share one secret.")
    SECRET_KEY = kept_secret(VAR_DIR / "secret_key")
# Provider keys are stored under SECRET_KEY; those that were stored under an older one of SECRET_KEYS still open.
_older = [secret.strip() for secret in as_it_stands("SECRET_KEYS").split(",")]
SECRET_KEYS: list[str] = list(dict.fromkeys(secret for secret in [SECRET_KEY, *_older] if secret))

# --- Where we are reached ------------------------------------------------------------------------------------------


def public_url(given: str) -> str:
    """Scheme, host and perhaps a port, spelt as browsers spell it. Empty stays empty."""
    url = given.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        is_origin = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # brackets that do not match, a port that is none
        is_origin = False
    if url and not (is_origin and re.fullmatch(r"\w+://[^\s/?#@]+", url)):
        raise ImproperlyConfigured(f"PUBLIC_URL must look like https://studio.example.com, not {given!r}.")
    return url.lower()


# Empty means: not told. `up` then serves on loopback and fills this in once it knows the port it got.
PUBLIC_URL = public_url(env("PUBLIC_URL", default=""))
HTTPS = PUBLIC_URL.startswith("https://")
PUBLIC_HOST = re.sub(r":\d+$", "", urlsplit(PUBLIC_URL).netloc)  # an IPv6 address keeps its brackets, as in Host
LOOPBACK_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=[]) or [
    host for host in (PUBLIC_HOST, *LOOPBACK_HOSTS) if host
]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = ("__Host-session", "__Host-csrf") if HTTPS else ("session", "csrf")
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
# Our server speaks plain http; where PUBLIC_URL says https, the proxy in front must set (and strip) this header.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^health/"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "blob:"],  # blob: the thumbnail of a file just dropped, before it is uploaded
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "object-src": [NONE],
    }
}
_unused_powers = [
    "accelerometer",
    "camera",
    "display-capture",
    "geolocation",
    "gyroscope",
    "microphone",
    "payment",
    "usb",
]
PERMISSIONS_POLICY: dict[str, list[str]] = {power: [] for power in _unused_powers}

# --- The application ---------------------------------------------------------------------------------------------

ROOT_URLCONF = "flux2web.urls"
AUTH_USER_MODEL = "flux2web.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "flux2web.apps.Flux2WebConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "csp",
    "django_htmx",
    "django_structlog",
    "django_dramatiq",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_permissions_policy.PermissionsPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "flux2web.views.ways.SignInFirst",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "flux2web.views.context.site",
            ],
        },
    }
]
LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

# --- Database ----------------------------------------------------------------------------------------------------

if EMBEDDED:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": VAR_DIR / "flux2web.sqlite3",
            "CONN_MAX_AGE": None,
            # IMMEDIATE: in the deferred default up to 198 of 200 concurrent writers were refused as "locked" (measured).
            # FULL: a hold that was answered for must survive the power cut.
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                # Each connection keeps pages of its own, 2 MB by default: with dozens open that was most of what 10,000
                # waiting tasks cost (2026-11). The system's cache has them all anyway.
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-512;",
            },
        }
    }
else:
    DATABASES = {"default": {**env.db("DATABASE_URL"), "CONN_MAX_AGE": 300, "CONN_HEALTH_CHECKS": True}}

# --- Queue, live events, cache -----------------------------------------------------------------------------------

BROKER_URL = env("BROKER_URL", default="")
REDIS_URL = env("REDIS_URL", default="")
if not EMBEDDED and not (BROKER_URL and REDIS_URL):
    raise ImproperlyConfigured("With DATABASE_URL set, set BROKER_URL and REDIS_URL too: processes need a common bus.")


def broker(url: str) -> dict:
    """Which broker carries the hints. heartbeat and maintenance: with Dramatiq's defaults a killed worker's message
    came back after up to 1,267 s (measured); the row's due_at heals it anyway, this only makes it quicker."""
    if url.startswith(("redis://", "rediss://", "unix://")):
        options = {"url": url, "heartbeat_timeout": 15_000, "maintenance_chance": 100_000}
        return {"BROKER": "dramatiq.brokers.redis.RedisBroker", "OPTIONS": options}
    if url.startswith(("amqp://", "amqps://")):
        return {"BROKER": "dramatiq.brokers.rabbitmq.RabbitmqBroker", "OPTIONS": {"url": url}}
    if url:
        raise ImproperlyConfigured(f"BROKER_URL must begin with redis:// or amqp://, not {url.split(':')[0]!r}.")
    return {"BROKER": "flux2web.brokers.EmbeddedBroker", "OPTIONS": {}}


DRAMATIQ_BROKER = broker(BROKER_URL) | {
    # No Retries, no Results: rows retry, messages don't, and rows hold the results.
    "MIDDLEWARE": [
        "dramatiq.middleware.TimeLimit",
        "dramatiq.middleware.ShutdownNotifications",
        "django_dramatiq.middleware.DbConnectionsMiddleware",
        "flux2web.hands.Hands",
        "flux2web.brokers.LogContext",
    ],
}
DRAMATIQ_AUTODISCOVER_MODULES = ["actors"]
# Worker threads by queue in the embedded shape; each queue has its own. Almost all of them wait: hands.py says how many
# work at once, so that a provider that hangs, or hundreds of calls open at once, starve nothing.
WORKER_THREADS = {"submit": 96, "check": 224, "save": 16, "mail": 1, "export": 1}

CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},  # what may be some seconds old
}

# --- Files -------------------------------------------------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
MEDIA_ROOT = VAR_DIR / "media"
SPOOL_DIR = VAR_DIR / "spool"  # fetched results, until they are stored
# Where nginx has MEDIA_ROOT as an internal location, "/stored/" say: it then sends files itself. Empty: we do.
X_ACCEL = env("X_ACCEL", default="")
S3_BUCKET = env("S3_BUCKET", default="")
S3_ENDPOINT_URL = env("S3_ENDPOINT_URL", default="")  # empty: Amazon's own
S3_REGION = env("S3_REGION", default="us-east-1")


def bucket(name: str) -> dict:
    """Files in a bucket; pictures come to the browser from there, by signed addresses."""
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": name,
            "endpoint_url": S3_ENDPOINT_URL or None,
            "region_name": S3_REGION,
            "access_key": as_it_stands("S3_ACCESS_KEY_ID") or None,  # None: whatever boto finds, a machine's role say
            "secret_key": as_it_stands("S3_SECRET_ACCESS_KEY") or None,
            "default_acl": None,
            "file_overwrite": True,  # names carry the content's hash: the same name is the same picture
            "client_config": S3Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                connect_timeout=5,  # boto's own: 60 s five times, and a hanging bucket would hold every thread
                read_timeout=20,
                retries={"mode": "standard", "total_max_attempts": 2},
                request_checksum_calculation="when_required",  # not every bucket that is not Amazon's knows the new ones
                response_checksum_validation="when_required",
            ),
        },
    }


def bucket_origin() -> str:
    """Where signed addresses lead."""
    if S3_ENDPOINT_URL:
        return "://".join(urlsplit(S3_ENDPOINT_URL)[:2])
    zone = "" if S3_REGION == "us-east-1" else f".{S3_REGION}"
    country = ".cn" if S3_REGION.startswith("cn-") else ""
    return f"https://s3{zone}.amazonaws.com{country}"


if S3_BUCKET:
    from botocore.config import Config as S3Config  # half a second of a start that most do not need

    CONTENT_SECURITY_POLICY["DIRECTIVES"]["img-src"].append(bucket_origin())
STORAGES = {
    "default": bucket(S3_BUCKET)
    if S3_BUCKET
    else {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": MEDIA_ROOT}},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
UPLOAD_MAX_BYTES = 10 * 2**20  # one reference: the smallest of five limits (docs.revidapi.com, docs.apikley.ru)
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 2**20
BODY_MAX_BYTES = 8 * UPLOAD_MAX_BYTES + DATA_UPLOAD_MAX_MEMORY_SIZE  # a form with eight files
BODY_MAX_S = 120  # a body must have arrived whole by then
CALLBACK_MAX_BYTES = 64 * 1024
HOSTED_OPEN_S = 6 * 3600  # a hosted reference stays open this long after the last task that used it ended

# --- Signing in --------------------------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_ADAPTER = "flux2web.views.accounts.Adapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"  # accounts are made by invitation; no mail server is needed for anything
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = "flux2web: "
ALLAUTH_TRUSTED_PROXY_COUNT = 1 if HTTPS else 0
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "flux2web"
MFA_ALLOW_UNVERIFIED_EMAIL = True  # nobody verifies addresses here: accounts are made by invitation
MFA_ADAPTER = "flux2web.views.accounts.SecondFactor"
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = f"flux2web@{PUBLIC_HOST or 'localhost'}"

# --- The life of a task ------------------------------------------------------------------------------------------

CREATE_TIMEOUT_S = 60  # the whole create call
LOOK_TIMEOUT_S = 15
FETCH_TIMEOUT_S = 60
SUBMIT_LEASE_S = CREATE_TIMEOUT_S + 30  # after this an unanswered create is uncertain
UPLOAD_LEASE_S = 30  # more for each reference that is uploaded to the provider first
LOOK_LEASE_S = 30  # a claimed look that died is due again after this
SAVE_LEASE_S = FETCH_TIMEOUT_S + 30
QUEUED_LIMIT_S = 15 * 60  # while no account may take the task; waiting for a turn does not count
RUNNING_LIMIT_S = 2 * 3600
SAVING_LIMIT_S = 3600
UNCERTAIN_LIMIT_S, UNCERTAIN_LOOKS = 30 * 60, 20
# A limit counts time in which we were looking: a longer gap between two looks counts as this much.
GAP_MAX_S = 90
RING_BURST_S = (1, 2, 4)  # waits between looks after a ring (which is itself a look) that finds it still running
RING_MIN_S = 3  # otherwise a ringing callback makes us look this often at most
LOOK_SCALE = 1.0  # multiplies every polling wait; tests make it small
BACKOFF_S = (2, 5, 15, 30, 60)  # after the n-th failed look or fetch in a row
SLOW_AFTER_S = 180  # the card then says "slower than usual"
STRIKES_MAX = 3  # unreadable results in a row before a task is given up
CREATE_GRACE_S = 3  # creates in flight when we stop get this long
CLOCK_TICK_S = 1.0
AUDIT_EVERY_S = 600  # the whole ledger is re-added this often
HEALTH_EVERY_S = 60  # and how each account has done in the last 24 hours is worked out this often
STATEMENTS_EVERY_S = 600  # whether a day has ended whose statements are missing
TRASH_DAYS = 30  # a picture stays this long in the trash; then its files go
CALLBACKS_DAYS = 30  # what providers sent when they rang is kept so long
CALLBACKS_EVERY_S = 60 * 60
TRASH_EVERY_S = 60 * 60  # how often the trash is looked through
NOTICES_DAYS, NOTICES_UNREAD_DAYS = 90, 365  # a notice stays so long that was put away, and one that never was
SPOOL_HOURS = 24  # what a crash left in SPOOL_DIR stays so long
CLEANING_EVERY_S = 60 * 60  # notices, sessions, spool
CLOCK_RESEND_S = 30  # the clock does not send the same task again within this time
CRASH_AT = env("CRASH_AT", default="")  # tests only: "CP4:2" kills this process at the second pass of that point

# --- Money and providers -----------------------------------------------------------------------------------------

CREDIT_USD = Decimal("0.0025")
FIRST_TEAM_CREDITS = 1000
PROVIDER_SEEDS = {
    slug: (as_it_stands(f"{slug.upper()}_API_KEY"), env(f"{slug.upper()}_URL", default=""))
    for slug in ("revid", "apikley", "apixo", "flux2api", "vtrix")
}
SANDBOX: bool | None = env.bool(
    "SANDBOX", default=None
)  # None: on while there is no real account and we are on loopback
SANDBOX_S = (env.float("SANDBOX_MIN_S", default=2.0), env.float("SANDBOX_MAX_S", default=6.0))

# --- Logs --------------------------------------------------------------------------------------------------------

DJANGO_STRUCTLOG_USER_ID_FIELD = "pk"
# Addresses whose last part opens a door to whoever reads it: a request's line in the log must not hand it on.
_DOORS = re.compile(r"(/(?:hooks/[\w-]+|i|s|setup|invites|accounts/password/reset/key)/)[^\s/\"'\\?]+")


def close_doors(_: object, __: str, line: str) -> str:
    return _DOORS.sub(r"\1[hidden]", line)


_shared_processors: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.TimeStamper(fmt="iso"),
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": _shared_processors,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
                close_doors,
            ],
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env("LOG_LEVEL", default="WARNING")},
    "loggers": {
        "flux2web": {"level": env("LOG_LEVEL", default="INFO")},
        # Each worker of the embedded shape adds its own middleware to the one broker, which Dramatiq remarks on.
        "dramatiq.broker": {"level": "ERROR"},
    },
}
structlog.configure(
    processors=[
        *_shared_processors,
        structlog.processors.StackInfoRenderer(),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
