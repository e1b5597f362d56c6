"""The rules that the adapters share, and the registry."""

import datetime as dt
import re
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux2web import providers
from flux2web.providers import wire
from flux2web.providers.base import (
    REFERENCES_MAX,
    SUBMIT_LIMIT_S,
    Account,
    Capabilities,
    Kind,
    ProviderError,
)
from flux2web.providers.wire import Answer

README = Path(providers.__file__).with_name("README.md")


# What an answer without a task id proves


@pytest.mark.parametrize(
    ("status", "code", "sent"),
    [
        (200, 200, "unknown"),  # "yes" and no id
        (200, None, "unknown"),
        (500, 200, "unknown"),  # the two contradict each other
        (503, 200, "unknown"),
        (500, None, "unknown"),
        (502, None, "unknown"),
        (503, None, "unknown"),  # a gateway's word for itself
        (455, None, "unknown"),
        (301, None, "unknown"),
        (405, None, "unknown"),
        (200, 408, "unknown"),
        (200, 502, "unknown"),
        (200, 504, "unknown"),
        (200, 0, "unknown"),
        (200, 1001, "unknown"),
        (401, None, "no"),
        (429, 1001, "no"),
        (500, 402, "no"),
        (502, 429, "no"),
        (200, 433, "no"),
        (200, 455, "no"),
        (503, 503, "no"),
        (200, 505, "no"),
        (200, 500, "yes"),
        (429, 500, "yes"),
        (500, 501, "yes"),
    ],
)
def test_sent_follows_from_both_numbers(status, code, sent):
    assert Answer(status, code).sent == sent


@pytest.mark.parametrize(
    ("number", "text", "kind"),
    [
        (400, "Invalid aspect_ratio", Kind.INPUT),
        (400, "Insufficient credits", Kind.BALANCE),
        (403, "", Kind.AUTH),
        (403, "Request violates content policy", Kind.MODERATION),
        (403, "insufficient balance", Kind.BALANCE),
        (422, "NSFW prompt", Kind.MODERATION),
        (401, "sensitive", Kind.AUTH),
        (505, "", Kind.MAINTENANCE),
        (504, "", Kind.PROVIDER),
    ],
)
def test_broad_numbers_are_read_with_their_words(number, text, kind):
    assert wire.kind_of(number, text) is kind


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("CONTENT_VIOLATION", "", Kind.MODERATION),
        ("NSFW_DETECTED", "", Kind.MODERATION),
        ("NSFW", "", Kind.MODERATION),
        ("SensitiveContentDetected", "", Kind.MODERATION),
        ("InputImageSensitiveContentDetected", "", Kind.MODERATION),
        ("ProhibitedContentDetected", "", Kind.MODERATION),
        ("CONTENT_BLOCKED", "", Kind.MODERATION),
        ("", "Request Moderated", Kind.MODERATION),
        ("400", "Your prompt was flagged by our filter", Kind.MODERATION),
        ("INSUFFICIENT_CREDITS", "", Kind.BALANCE),
        ("PROMPT_TOO_LONG", "", Kind.INPUT),
        ("PromptLengthExceeded", "", Kind.INPUT),
        ("INVALID_PROMPT", "", Kind.INPUT),
        ("INVALID_IMAGE_URL", "", Kind.INPUT),
        ("IMAGE_TOO_LARGE", "", Kind.INPUT),
        ("IMAGE_DOWNLOAD_FAILED", "", Kind.INPUT),
        ("UNSUPPORTED_FORMAT", "", Kind.INPUT),
        ("PROCESSING_TIMEOUT", "", Kind.PROVIDER),
        ("MODEL_UNAVAILABLE", "", Kind.PROVIDER),
        ("GENERATION_FAILED", "The image could not be made, no credits were taken", Kind.PROVIDER),
        ("500", "Internal Error", Kind.PROVIDER),
        ("422", "Bad picture", Kind.INPUT),
        ("", "", Kind.PROVIDER),
    ],
)
def test_failures_are_classed_by_parts_of_words(code, message, kind):
    assert wire.failure_kind(code, message) is kind


def test_a_submit_ends_within_its_limit():
    assert REFERENCES_MAX * wire.LOOK_TIMEOUT_S + wire.CREATE_TIMEOUT_S <= SUBMIT_LIMIT_S


# Reading


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [
        ("7", 7),
        ("0", 1),
        ("-5", 1),
        ("2.5", 2.5),
        ("9" * 400, 300),
        ("", None),
        ("soon", None),
        ("NaN", None),
        ("1e9", None),
    ],
)
def test_retry_after_is_clamped(wish, seconds):
    assert wire.retry_after_s({"retry-after": wish}) == seconds


@pytest.mark.parametrize(("in_s", "least_s", "most_s"), [(-3600, 1, 1), (60, 55, 60), (10**8, 300, 300)])
def test_retry_after_may_be_a_date(in_s, least_s, most_s):
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=in_s)
    seconds = wire.retry_after_s({"retry-after": format_datetime(moment, usegmt=True)})
    assert seconds is not None
    assert least_s <= seconds <= most_s


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} -?\d+ \d+:\d+:\d+ ?([A-Z]{3}|[+-]\d+)?"))
def test_retry_after_never_raises(wish):
    seconds = wire.retry_after_s({"retry-after": wish})
    assert seconds is None or 1 <= seconds <= 300


@pytest.mark.parametrize(
    ("value", "number"),
    [(200, 200), ("200", 200), (" 402 ", 402), (True, None), (None, None), ("", None), ("2x", None), ([200], None)],
)
def test_a_code_may_be_digits(value, number):
    assert wire.http_number(value) == number


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        ('{"a":1}', {"a": 1}),
        ('"{\\"a\\":1}"', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        (None, None),
        ("{", None),
        ("[" * 10**5, None),
    ],
    ids=range(6),
)
def test_json_in_a_string_is_unfolded(value, inside):
    assert wire.unfold(value) == inside


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (100, Decimal(100)),
        (Decimal("74.87"), Decimal("74.87")),
        ("-0.5", Decimal("-0.5")),
        ("NaN", None),
        ("Infinity", None),
        ("1e30", None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_an_amount_is_a_number_that_somebody_could_mean(value, number):
    assert wire.amount(value) == number


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (({"msg": "no"},), "no"),
        (({"msg": "", "message": "no"},), "no"),
        (({"error": {"code": "1", "message": "no"}},), "no"),
        (({"message": "no", "detail": "x"}, "because"), "no: because"),
        (({"error": {"error": {"error": "too deep"}}},), ""),
        (("plain", None, 7), "plain: 7"),
        (({"msg": ["no"]},), ""),
    ],
)
def test_words_are_found_where_vendors_put_them(values, words):
    assert wire.said(*values) == words


# The registry and its table


def test_there_are_five_in_order():
    assert list(providers.ALL) == ["revid", "apikley", "apixo", "flux2api", "vtrix"]
    assert all(providers.get(slug).slug == slug for slug in providers.ALL)
    with pytest.raises(KeyError):
        providers.get("sixth")


def test_the_readme_says_who_can_do_what():
    """The table in README.md is the code's own: paste what this prints when it fails."""
    told = re.search(r"^\| provider .*?(?=\n\n)", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert told is not None
    assert told.group(0) == table()


def table() -> str:
    head = (
        "provider | families | ratios | auto | resolutions | references | by | extras | callback | balance | settings"
    )
    rows = [head.split(" | "), ["---"] * 11, *map(row, providers.ALL.values())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(provider) -> list[str]:
    can: Capabilities = provider.capabilities(Account("", ""))
    return [
        provider.slug,
        " ".join(can.families),
        str(len(can.aspect_ratios)),
        yes(can.auto_ratio),
        " ".join(can.resolutions),
        str(can.max_references),
        "upload" if can.takes_uploads else "address",
        ", ".join(sorted(can.extras)) or "–",
        yes(can.callback),
        yes(asks_for_balance(provider)),
        ", ".join(f"`{name}`" for name in provider.options) or "–",
    ]


def asks_for_balance(provider) -> bool:
    try:
        return provider.balance(Account("key", "http://127.0.0.1:1")) is not None
    except ProviderError:
        return True  # nobody is there to answer


def yes(value: bool) -> str:
    return "yes" if value else "–"
