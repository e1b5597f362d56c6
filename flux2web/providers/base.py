"""What every provider is asked, and what it answers. Plain values in, plain values out: no row, no request, no queue.

An adapter is one file that speaks one reseller's language. It gets a `Request` (what to draw) and an `Account` (with
whose key, at which address) and returns `Accepted` or `Report`, or raises `ProviderError`. Nothing of a vendor's spelling
leaves its file. All facts about the vendors come from their public pages, read 2026-11; nothing was tried against a live
key.

The rules that keep money right:

* A create is never repeated here. None of the five documents an idempotency key, so whether a create may be sent again
  is decided by `ProviderError.sent` alone: "no" means the request surely did not reach the vendor or was refused by a
  readable answer, "yes" that a readable answer says it was taken and failed, "unknown" that nobody can tell.
* Both the HTTP status and the body's own `code` are read; the one that says no wins, the body's where both do. Yet an
  answer which carries a usable task id is an acceptance whatever else it says.
* A state word that nobody knows means "still running".
* A callback body is never believed. `parse_callback` reads the upstream id out of it and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import IO, Any, Literal, Protocol

# Characters (Unicode code points, trimmed): docs.revidapi.com, docs.apikley.ru, apixo.ai/docs; assumed for the others.
PROMPT_MIN, PROMPT_MAX = 3, 5000
REFERENCES_MAX = 8
SUBMIT_LIMIT_S = 300.0  # the longest that `submit` takes: eight uploads of 30 s (Apikley) and a create of 60 s


class Kind(StrEnum):
    """Why a provider said no, in our words (one list for all five)."""

    AUTH = "auth"  # the key is wrong: the account's owner must act
    BALANCE = "balance"  # the account has no money left: the same
    INPUT = "input"  # this request is wrong: the member must act
    MODERATION = "moderation"  # the model's filter refused prompt or picture
    RATE = "rate"  # too fast: wait
    MAINTENANCE = "maintenance"  # closed for now: wait longer
    PROVIDER = "provider"  # their failure
    BAD_REPLY = "bad_reply"  # an answer nobody can read


Sent = Literal["no", "yes", "unknown"]
OUR_STORAGE = "our_storage"  # the code of an error that is ours: a reference could not be read here


class ProviderError(Exception):
    """A provider could not be asked, refused, or answered nonsense.

    `message` is safe to show (no key, no callback address, at most 300 characters, one line);
    `retry_after_s` is the vendor's own wish, clamped to 1..300; `code` is what the vendor calls it.
    """

    def __init__(
        self, kind: Kind, message: str, *, sent: Sent, retry_after_s: float | None = None, code: str = ""
    ) -> None:
        super().__init__(message)
        self.kind, self.message, self.sent = kind, message, sent
        self.retry_after_s, self.code = retry_after_s, code


@dataclass(frozen=True)
class Reference:
    """One input picture: `url` where the provider can fetch it, None where nobody outside can; `open` for its bytes."""

    url: str | None
    open: Callable[[], IO[bytes]]
    mime: str = "image/jpeg"


@dataclass(frozen=True)
class Request:
    """What to draw. The mode follows from having references."""

    prompt: str
    family: str  # "pro" | "flex"
    aspect_ratio: str  # "1:1" ... or "auto", which takes the shape of reference 1
    resolution: str  # "1K" | "2K"
    references: tuple[Reference, ...] = ()
    seed: int | None = None
    output_format: str | None = None  # "jpeg" | "png"; None leaves it to the provider
    safety_tolerance: int | None = None  # 1 strict .. 5 lenient; None leaves it to the provider

    @property
    def mode(self) -> str:
        return "image-to-image" if self.references else "text-to-image"


@dataclass(frozen=True)
class Account:
    """With whose key and where. `options` are the adapter's own settings, e.g. {"body": "flat"} at Vtrix."""

    key: str = field(repr=False)
    base_url: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Accepted:
    """The provider took the task. `route` keeps what a later look needs even if a setting has changed since."""

    upstream_id: str
    route: str = ""


@dataclass(frozen=True)
class Report:
    """How the task stands. `cost_usd` only where the provider tells; `code` and `message` only on failure."""

    state: Literal["running", "succeeded", "failed"]
    urls: tuple[str, ...] = ()
    cost_usd: Decimal | None = None
    kind: Kind | None = None
    code: str = ""
    message: str = ""
    unknown_word: str = ""  # a state word nobody knows, for the log


@dataclass(frozen=True)
class PollPlan:
    """When to look where no callback comes: first after `first_s`, then by age of the task: (older than s, every s)."""

    first_s: float
    steps: tuple[tuple[float, float], ...]

    def wait_s(self, age_s: float) -> float:
        """Seconds until the next look at a task of this age."""
        wait = self.first_s
        for older_than_s, every_s in self.steps:
            if age_s >= older_than_s:
                wait = every_s
        return wait


@dataclass(frozen=True)
class Throttle:
    """At most `count` calls in `per_s` seconds per key, and `concurrent` tasks at once (None: no ceiling known)."""

    count: int
    per_s: float
    concurrent: int | None = None
    counts_looks: bool = False  # whether status calls use up the same allowance


@dataclass(frozen=True)
class Capabilities:
    """What this provider can say. The form offers nothing else."""

    families: tuple[str, ...]
    modes: tuple[str, ...]
    aspect_ratios: tuple[str, ...]  # without "auto"
    auto_ratio: bool  # "auto", with a reference only
    resolutions: tuple[str, ...] = ("1K", "2K")
    max_references: int = REFERENCES_MAX
    extras: frozenset[str] = frozenset()  # of "seed", "output_format", "safety_tolerance"
    callback: bool = True
    takes_uploads: bool = False  # references need no address that the provider can fetch
    poll: PollPlan = PollPlan(3, ((0, 3), (30, 7), (120, 20)))
    throttle: Throttle = Throttle(5, 10)
    signs_callbacks: bool = False  # may sign them, with a secret that the account's owner makes there
    usual_s: float = 25  # typical time to a picture, until our own record says better


class Provider(Protocol):
    """One reseller."""

    slug: str
    name: str
    base_url: str  # the vendor's own address
    docs_url: str
    options: Mapping[str, tuple[str, ...]]  # the adapter's own settings, default first; a single value: free text
    balance_unit: str  # "USD", or "credits" of its own kind, which nobody sets a dollar price on; "" where no call is
    reports_cost: bool  # a picture's cost comes with its report

    def capabilities(self, account: Account) -> Capabilities:
        """What this account can say (an option may widen or narrow it)."""
        ...

    def submit(self, request: Request, account: Account, callback_url: str | None) -> Accepted:
        """Ask for one picture. Called once for a hold; never repeats the create by itself."""
        ...

    def report(self, upstream_id: str, route: str, account: Account, *, age_s: float = 0.0) -> Report:
        """Ask how a task stands. `age_s` since acceptance decides what "not found"."""
        ...

    def parse_callback(self, body: bytes) -> str | None:
        """The upstream id that a callback body speaks of, or None. Never raises."""
        ...

    def is_signed(self, body: bytes, headers: Mapping[str, str], secret: str) -> bool | None:
        """Whether this callback is signed with `secret`; None where the provider has no such thing. Never raises.

        Header names are found without regard to case, or are in lower case.
        """
        ...

    def balance(self, account: Account) -> Decimal | None:
        """What is left with the provider, in its own unit, or None where there is no such call."""
        ...
