"""What the answers of the five have in common: reading, judging, and never saying a secret aloud.

An adapter maps its vendor's fields to `Answer` and `Seen`; the rules that follow from them stand here, once.
Sources are the vendors' public pages, read 2026-11: docs.kie.ai (which Revid and Apikley resell), apixo.ai/docs.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any

from flux2web import http, money
from flux2web.providers.base import (
    OUR_STORAGE,
    PROMPT_MAX,
    PROMPT_MIN,
    Accepted,
    Account,
    Capabilities,
    Kind,
    Provider,
    ProviderError,
    Reference,
    Report,
    Request,
    Sent,
)

CREATE_TIMEOUT_S = 60.0  # a lost answer costs money: wait long
LOOK_TIMEOUT_S = 15.0  # a lost look costs nothing
BALANCE_TIMEOUT_S = 5.0  # somebody waits for the page
NOT_FOUND_GRACE_S = 120.0  # kie's queries know a new id only after a while (docs.kie.ai)

CALLBACK_MAX_BYTES = 64 * 1024
CODE_MAX_CHARS = 64
RESULTS_MAX = 8
URL_MAX_CHARS = 4096  # signed addresses are long

# What is not here is still running: a word we do not know must not end a task.
STATES = {
    **dict.fromkeys(("waiting", "queuing", "queued", "pending", "in_queue", "starting"), "running"),
    **dict.fromkeys(("generating", "processing", "running", "in_progress"), "running"),
    **dict.fromkeys(("success", "succeeded", "completed", "ready"), "succeeded"),
    **dict.fromkeys(("fail", "failed", "error", "canceled", "cancelled"), "failed"),
    **dict.fromkeys(("request moderated", "content moderated"), "failed"),
}

# Every other number is the provider's own failure.
KINDS = {
    400: Kind.INPUT,
    401: Kind.AUTH,
    402: Kind.BALANCE,
    403: Kind.AUTH,
    404: Kind.INPUT,
    413: Kind.INPUT,
    422: Kind.INPUT,
    429: Kind.RATE,
    433: Kind.BALANCE,  # kie: this sub-key has used up its share (docs.kie.ai)
    455: Kind.MAINTENANCE,
    503: Kind.MAINTENANCE,
    505: Kind.MAINTENANCE,  # "feature disabled" (docs.apikley.ru)
}
SPOKEN = {400, 403, 422}  # numbers so broad that the words beside them decide (Apixo and Vtrix on 403)
REFUSED_BY_ANYONE = {400, 401, 402, 403, 404, 413, 422, 429}  # even a gateway that says so has let nothing through
REFUSED_BY_VENDOR = {433, 455, 503, 505}  # a refusal in the vendor's own words only; a gateway's 503 proves nothing
TAKEN_AND_FAILED = {500, 501}  # the same

# Compared without case, spaces, "_" and "-", because Apixo alone spells them in two ways (apixo.ai/docs).
MODERATION_WORDS = (
    *("sensitive", "nsfw", "prohibited", "violat", "moderat", "safety", "flagged"),
    *("contentblocked", "contentpolicy"),
)
BALANCE_WORDS = ("insufficientcredit", "insufficientbalance", "insufficientfund", "notenoughcredit")
FAIL_CODE_WORDS = (  # asked in this order, of a code only: "image" and "invalid" stand in many an innocent sentence
    (("credit",), Kind.BALANCE),
    (("timeout", "unavailable"), Kind.PROVIDER),
    (("prompt", "image", "format", "invalid"), Kind.INPUT),
)
NOT_FOUND_WORDS = ("recordinfoisnull", "notfound", "notexist")  # the first is kie's, sent as 422 (docs.kie.ai)

TEXT_FIELDS = ("msg", "message", "error_message", "error", "detail")


@dataclass(frozen=True)
class Answer:
    """One reply as read. `code` is the body's own number, None where the body is not this vendor's."""

    status: int
    code: int | None
    text: str = ""
    data: Any = None
    retry_after_s: float | None = None

    @property
    def fields(self) -> Mapping[str, Any]:
        return self.data if isinstance(self.data, Mapping) else {}

    @property
    def failure(self) -> int | None:
        """The number that says no, or None. The body's own is the more exact one, the HTTP status stands in for it."""
        for number in (self.code, self.status):
            if number is not None and 400 <= number < 600:
                return number
        return None if self.code is None or 200 <= self.code < 300 else self.code

    @property
    def sent(self) -> Sent:
        """What an answer without a task id proves about a create."""
        if self.failure in REFUSED_BY_ANYONE or self.code in REFUSED_BY_VENDOR:
            return "no"
        return "yes" if self.code in TAKEN_AND_FAILED else "unknown"

    @property
    def knows_no_such_task(self) -> bool:
        if self.code in (400, 422):
            return has_word(self.text, NOT_FOUND_WORDS)
        return self.code == 404 or (self.code is not None and self.failure is None and not self.data)


@dataclass(frozen=True)
class Seen:
    """What a status answer says of a task: the vendor's own values, any type, not judged yet."""

    id: Any
    state: Any
    urls: Any = ()
    fail_code: Any = None
    fail_message: str = ""
    cost_usd: Any = None


# Reading


def envelope(reply: http.Reply) -> Answer:
    """Read `{code, msg or message, data}`, which all but Vtrix answer with."""
    body = as_object(reply.json())
    text = said(body, as_object(body.get("data")).get("error"))  # data.error: Apixo (apixo.ai/docs)
    code = http_number(body.get("code"))
    if code is None and text and 400 <= reply.status < 500:
        code = reply.status  # a refusal in JSON without a code: none of the four rules it out
    return Answer(reply.status, code, text, body.get("data"), retry_after_s(reply.headers))


def as_object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def unfold(value: Any) -> Any:
    """Undo JSON kept in a string, twice at most: kie's callbacks encode some fields doubly."""
    for _ in range(2):
        if not isinstance(value, str | bytes):
            break
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value


def http_number(value: Any) -> int | None:
    """A code, sent as a number or as digits."""
    return int(scalar(value)) if re.fullmatch(r"[0-9]{1,6}", scalar(value)) else None


def scalar(value: Any) -> str:
    """Text or number as text; "" for null, missing, true, false and anything nested."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return ""
    return str(value).strip()


def said(*values: Any) -> str:
    """The words in these, where an object's words are in the first of its text fields that holds any."""
    return ": ".join(text for text in map(_words, values) if text)


def _words(value: Any, depth: int = 2) -> str:
    if not isinstance(value, Mapping) or not depth:
        return scalar(value)
    return next((text for name in TEXT_FIELDS if (text := _words(value.get(name), depth - 1))), "")


def has_word(text: str, words: tuple[str, ...]) -> bool:
    plain = re.sub(r"[\s_-]", "", text.casefold())
    return any(word in plain for word in words)


def task_id(value: Any) -> str | None:
    """A usable upstream id (a number is taken as its digits), or None."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return text if isinstance(text, str) and re.fullmatch(r"[\w.:-]{1,128}", text, re.ASCII) else None


def result_urls(value: Any) -> tuple[str, ...]:
    """The web addresses among these, each once, in order, no more than eight."""
    urls = dict.fromkeys(url for url in value if is_url(url)) if isinstance(value, list) else {}
    return tuple(urls)[:RESULTS_MAX]


def is_url(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value.lower().startswith(("https://", "http://"))
        and value.isprintable()
        and len(value) <= URL_MAX_CHARS
    )


def amount(value: Any) -> Decimal | None:
    """An amount of money or credits, or None where it is no number that anyone could mean."""
    try:
        number = Decimal(scalar(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number) < 10**12 else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The vendor's wish, given in seconds or as a date, between 1 s and 5 minutes; None where it has none."""
    wish = headers.get("retry-after", "").strip()
    seconds = float(wish) if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", wish) else _seconds_until(wish)
    return None if seconds is None else min(max(seconds, 1.0), 300.0)


def _seconds_until(http_date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(http_date)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def callback_id(body: bytes, *names: str) -> str | None:
    """The task id under one of these names, in `data` or beside it."""
    message = as_object(unfold(body)) if len(body) <= CALLBACK_MAX_BYTES else {}
    places = (as_object(unfold(message.get("data"))), message)
    return next((found for place in places for name in names if (found := task_id(place.get(name)))), None)


# Judging


def kind_of(number: int, text: str = "") -> Kind:
    """The class of a number that says no, made finer by the words where the number is broad."""
    return (number in SPOKEN and _kind_by_words(text)) or KINDS.get(number, Kind.PROVIDER)


def failure_kind(code: str, message: str) -> Kind:
    """The class of a task's failure. Both vocabularies are open, so parts of words decide (apixo.ai/docs)."""
    number = http_number(code)
    if kind := _kind_by_words(f"{code} {message}"):
        return kind
    if number is not None:
        return KINDS.get(number, Kind.PROVIDER)
    return next((kind for words, kind in FAIL_CODE_WORDS if has_word(code, words)), Kind.PROVIDER)


def _kind_by_words(text: str) -> Kind | None:
    if has_word(text, MODERATION_WORDS):
        return Kind.MODERATION
    return Kind.BALANCE if has_word(text, BALANCE_WORDS) else None


@dataclass(frozen=True)
class Line:
    """One account at one vendor: sends, and turns what comes back into `Accepted`, `Report` or a safe ProviderError."""

    vendor: Provider
    account: Account
    headers: Mapping[str, str] = field(repr=False)
    callback_url: str | None = field(default=None, repr=False)  # known here only so that no message repeats it
    read: Callable[[http.Reply], Answer] = envelope

    def ask(self, method: str, path: str, *, timeout_s: float = LOOK_TIMEOUT_S, **what: Any) -> Answer:
        """Send one request, once. `what` is json, params, data or files, and whether it is `repeatable`."""
        self._check_key()
        url = (self.account.base_url or self.vendor.base_url).rstrip("/") + path
        try:
            reply = http.call(method, url, headers=self.headers, timeout_s=timeout_s, **what)
        except http.Unreachable as exc:
            raise self.error(Kind.PROVIDER, f"gave no answer: {exc.message}", sent=exc.sent) from exc
        return self.read(reply)

    def _check_key(self) -> None:
        key = self.account.key
        if not key or not key.isascii() or not key.isprintable() or key != key.strip():
            raise self.error(Kind.AUTH, "has no usable key here", sent="no")

    def accepted(self, answer: Answer, upstream_id: Any, route: str = "") -> Accepted:
        """An answer with a usable id is an acceptance whatever else it says; any other raises what it proves."""
        if found := task_id(upstream_id):
            return Accepted(found, route)
        raise self.refusal(answer, sent=answer.sent)

    def refusal(self, answer: Answer, *, sent: Sent) -> ProviderError:
        """What this answer says, as an error."""
        number = answer.failure
        if number is None:
            return self.error(Kind.BAD_REPLY, f"sent an answer that makes no sense (HTTP {answer.status})", sent=sent)
        text = f"says: {answer.text}" if answer.text else f"answered {number} and nothing readable"
        kind = kind_of(number, answer.text)
        return self.error(kind, text, sent=sent, code=str(number), retry_after_s=answer.retry_after_s)

    def judge(self, answer: Answer, seen: Seen, asked_id: str, *, age_s: float) -> Report:
        """How the task stands. Its own state counts more than the envelope around it (Apixo fails with code 200)."""
        if task_id(seen.id) not in (None, asked_id):
            raise self.error(Kind.BAD_REPLY, "answered for another task", sent="yes", code="other_task")
        word = scalar(seen.state)
        if not word:
            return self._judge_without_state(answer, age_s=age_s)
        state = STATES.get(word.casefold())
        if state == "succeeded":
            return self._succeeded(seen)
        if state == "failed":
            return self._failed(seen)
        return Report("running", unknown_word="" if state else self.safe(word)[:CODE_MAX_CHARS])

    def _judge_without_state(self, answer: Answer, *, age_s: float) -> Report:
        if not answer.knows_no_such_task:
            raise self._look_error(answer)
        if age_s < NOT_FOUND_GRACE_S:
            return Report("running")
        raise self.error(Kind.INPUT, "does not know this task", sent="yes", code="not_found")

    def _look_error(self, answer: Answer) -> ProviderError:
        error = self.refusal(answer, sent="yes")
        if answer.code is None and error.kind is Kind.INPUT:
            error.kind = Kind.BAD_REPLY  # a gateway's 404 page says nothing about the task
        return error

    def _succeeded(self, seen: Seen) -> Report:
        urls = result_urls(seen.urls)
        if not urls:
            raise self.error(Kind.BAD_REPLY, "reports success without a picture", sent="yes", code="no_urls")
        return Report("succeeded", urls, money.parse_usd(seen.cost_usd))

    def _failed(self, seen: Seen) -> Report:
        code, message = self.safe(scalar(seen.fail_code))[:CODE_MAX_CHARS], self.safe(seen.fail_message)
        kind = failure_kind(code, message)
        return Report("failed", kind=kind, code=code, message=message or f"{self.vendor.name} gives no reason")

    def balance(self, answer: Answer, value: Any) -> Decimal:
        if answer.failure is not None:
            raise self._look_error(answer)
        left = amount(value)
        if left is None:
            raise self.error(Kind.BAD_REPLY, "told no balance", sent="yes")
        return left

    def error(
        self, kind: Kind, message: str, *, sent: Sent, code: str = "", retry_after_s: float | None = None
    ) -> ProviderError:
        """An error that begins with the vendor's name and holds neither key nor callback address."""
        text = self.safe(f"{self.vendor.name} {message}")
        return ProviderError(kind, text, sent=sent, code=code, retry_after_s=retry_after_s)

    def safe(self, text: str) -> str:
        """Foreign text, fit to be shown and stored: one line, at most 300 characters, no secret."""
        token = (self.callback_url or "").rstrip("/").rpartition("/")[2]
        secrets = (secret for secret in (self.account.key, self.callback_url, token) if secret)
        return http.redact(text, *secrets)


# Sending


def bearer(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.key}"}


def option(vendor: Provider, account: Account, name: str) -> str:
    """The account's setting, or its default where it is unset or not one of several values."""
    values = vendor.options[name]
    chosen = scalar(account.options.get(name))
    is_free_text = len(values) == 1
    return chosen if chosen and (is_free_text or chosen in values) else values[0]


def check(vendor: Provider, request: Request, account: Account) -> None:
    """Refuse here what this vendor has no words for. What it merely might refuse is its own business."""
    can = vendor.capabilities(account)
    for trouble in (_check_words(request, can), _check_shape(request, can), _check_references(request, can)):
        if trouble:
            raise ProviderError(Kind.INPUT, f"{vendor.name} {trouble}", sent="no")


def _check_words(request: Request, can: Capabilities) -> str:
    if not PROMPT_MIN <= len(request.prompt.strip()) <= PROMPT_MAX:
        return f"takes prompts of {PROMPT_MIN} to {PROMPT_MAX} characters"
    if request.family not in can.families:
        return f"does not offer FLUX.2 {request.family}"
    if request.mode not in can.modes:
        return f"does not offer {request.mode}"
    extras = ("seed", "output_format", "safety_tolerance")
    unsaid = [name for name in extras if getattr(request, name) is not None and name not in can.extras]
    return f"has no {unsaid[0].replace('_', ' ')}" if unsaid else ""


def _check_shape(request: Request, can: Capabilities) -> str:
    if request.resolution not in can.resolutions:
        return f"does not draw at {request.resolution}"
    if request.aspect_ratio != "auto":
        return "" if request.aspect_ratio in can.aspect_ratios else f"does not draw {request.aspect_ratio}"
    if not can.auto_ratio:
        return "cannot take the shape from an image"
    return "" if request.references else "needs an image to take the shape from"


def _check_references(request: Request, can: Capabilities) -> str:
    if len(request.references) > can.max_references:
        return f"takes at most {can.max_references} images"
    if can.takes_uploads or all(reference.url for reference in request.references):
        return ""
    return "fetches images itself, and they have no public address"


def read_bytes(vendor: Provider, reference: Reference) -> bytes:
    """The reference's bytes. Whatever our own storage raises, nothing was sent: the task may wait and try again."""
    try:
        with reference.open() as file:
            return file.read()
    except Exception as exc:
        message = f"was not asked: an image could not be read here ({type(exc).__name__})"
        raise ProviderError(Kind.PROVIDER, f"{vendor.name} {message}", sent="no", code=OUR_STORAGE) from exc


def public_urls(request: Request) -> list[str]:
    """The references' addresses, after `check` has made sure that each has one."""
    return [reference.url for reference in request.references if reference.url]


# kie's shape: Revid and Apikley pass kie.ai's API on under their own addresses (docs.kie.ai), Apixo answers in its form


def kie_create(request: Request, urls: list[str], callback_url: str | None) -> dict[str, Any]:
    """The create body of Revid and Apikley . Text-to-image leaves `input_urls` out: not even `[]`."""
    pictures = {"input_urls": urls} if urls else {}
    callback = {"callBackUrl": callback_url} if callback_url else {}
    shape = {"aspect_ratio": request.aspect_ratio, "resolution": request.resolution}
    model = f"flux-2/{request.family}-{request.mode}"
    return {"model": model, **callback, "input": {**pictures, "prompt": request.prompt.strip(), **shape}}


def kie_seen(answer: Answer) -> Seen:
    """A status answer of Revid, Apikley or Apixo. Its `param` is never read: it repeats our callback address."""
    data = answer.fields
    if answer.code == 501 and not data.get("state"):
        return Seen(None, "fail", fail_code="501", fail_message=answer.text)  # "generation failed" (docs.apikley.ru)
    result = unfold(data.get("resultJson"))
    urls = result.get("resultUrls") if isinstance(result, Mapping) else None
    return Seen(data.get("taskId"), data.get("state"), urls, data.get("failCode"), scalar(data.get("failMsg")))


def kie_is_signed(upstream_id: str | None, headers: Mapping[str, str], secret: str) -> bool:
    """kie's scheme (docs.kie.ai/common-api/webhook-verification, 2026-11). The signature covers the task's id and a time,
    not the body: whoever has seen one can send any body with that id. So it keeps strangers quiet, and proves nothing."""
    signed = f"{upstream_id or ''}.{headers.get('x-webhook-timestamp', '')}"
    right = b64encode(hmac.digest(secret.encode(), signed.encode("utf-8", "replace"), "sha256"))
    return hmac.compare_digest(right, headers.get("x-webhook-signature", "").strip().encode("utf-8", "replace"))
