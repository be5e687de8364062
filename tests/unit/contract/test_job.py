"""The members of a job: which values they take, and their defaults."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from shared.clock import now, rfc3339
from shared.contract.job import ACTIONS, MAX_RUN_AHEAD, METADATA_LIMIT, Options, Output
from tests.support.job_bodies import body, decoded, refusal
from tests.support.rows import every_row

NAME_RULE = "must be 1 to 50 lower-case letters, digits and single hyphens, starting and ending in a letter or digit."
RULES = {
    "action": "must be one of chat, multi_chat, image, summarize, embed, raw, edit_image, transcribe, speak, respond.",
    "customer": NAME_RULE,
    "connection": NAME_RULE,
    "job_id": "must be 1 to 100 letters, digits, `.`, `_` or `-`, and not ending in `.`.",
    "model": "must be the name of a model or deployment, 1 to 200 characters.",
    "output.queue": (
        "must be true, false or the name of a queue: 3 to 63 lower-case letters, digits and single hyphens."
    ),
    "output.callback": "must be an https URL of at most 2000 ASCII characters.",
    "options.timeout_s": "must be a number above 0 and at most 480.",
    "options.max_retries": "must be a whole number from 0 to 20.",
    "options.retry_delay_ms": "must be a whole number from 0 to 300,000.",
    "options.deadline_s": "must be a number above 0 and at most 604,800.",
}
NAMES = ["a", "0", "acme", "acme-2", "a-b-c", "a" * 50, "1-1"]
VALID: dict[str, list[Any]] = {
    "action": [*ACTIONS],
    "customer": NAMES,
    "connection": NAMES,
    "job_id": ["a", "A.b_c-9", ".a.-", "-", "_", ".a", "0" * 100],
    "model": ["org/Mixtral 8x7B:v0.1 é"],
    "output.queue": [True, False, "results", "r-2", "abc", "a" * 63],
    "output.callback": ["https://example.com/done?a=b"],
    "options.timeout_s": [0.001, 480],
    "options.max_retries": [0, 20],
    "options.retry_delay_ms": [0, 300_000],
    "options.deadline_s": [0.001, 604_800],
}
INVALID_NAMES = [
    *("", " ", "Acme", "a--b", "-a", "a-", "-", "a" * 51, "a_b", "a.b", "a/b", "..", "a b", "acme\n"),
    *("\nacme", "acmé", "\u0661", "a\u200bb", "a\x00", "*", "a%2db"),
]
INVALID: dict[str, list[Any]] = {
    "action": ["", "Chat", "chat ", "sing", "chat\n"],
    "customer": INVALID_NAMES,
    "connection": INVALID_NAMES,
    "job_id": ["", "a b", "a/b", "a\\b", "a#b", "a?b", "é", "a\n", "0" * 101, ".", "..", "a.", "." * 100],
    "model": ["", " ", "\t\n", "m" * 201],
    "output.queue": ["", "ab", "Results", "a--b", "-ab", "ab-", "a_b", "a" * 64, "a/b", "abc\n"],
    "output.callback": [
        *("", "ftp://example.com", "example.com/done", "https://", "https://é.com"),
        *("https://a.com/\n", "https://a.com/ b", f"https://a.com/{'x' * 2000}"),
    ],
    "options.timeout_s": [0, -1, 480.5],
    "options.max_retries": [-1, 21],
    "options.retry_delay_ms": [-1, 300_001],
    "options.deadline_s": [0, 604_801],
}


def members(path: str, value: Any) -> dict[str, Any]:
    """Return a job's members with a value at a path."""
    outer, _, inner = path.partition(".")
    return {outer: {inner: value} if inner else value}


@every_row(("path", "value"), [(path, value) for path, values in VALID.items() for value in values])
def test_valid_values_are_decoded(path: str, value: Any):
    """Each member takes the values of its rule, up to the limits. The egress policy decides about hosts."""
    job: Any = decoded(**members(path, value))

    for name in path.split("."):
        job = getattr(job, name)
    assert value == job


@every_row(("path", "value"), [(path, value) for path, values in INVALID.items() for value in values])
def test_invalid_values_are_refused_with_the_rule(path: str, value: Any):
    """Any other value is refused with the rule, such as a name that would change a path."""
    assert f"`{path}` {RULES[path]}" == refusal(body(**members(path, value)))


TIME_RULE = "must be a time with an offset, such as 2026-12-01T09:00:00Z (RFC 3339)"


@every_row(
    ("value", "rule"),
    [
        *((text, f"{TIME_RULE}.") for text in ("2026-12-01T09:00:00", "2026-12-01", "", "2026-13-01T00:00:00Z")),
        (1_800_000_000, f"{TIME_RULE} or null, not a whole number."),
        pytest.param(
            rfc3339(now() + MAX_RUN_AHEAD + timedelta(hours=1)), "is more than 30 days ahead", id="an hour later"
        ),
        ("9999-12-31T23:59:59.999999Z", "is more than 30 days ahead: it may be "),
    ],
)
def test_a_time_without_offset_or_too_far_ahead_is_refused(value: Any, rule: str):
    """`run_at` is a time that means the same everywhere."""
    assert refusal(body(options={"run_at": value})).startswith(f"`options.run_at` {rule}")


@every_row("hours", [-(24 * 365 * 2000), -1, 1, 24 * 30 - 1])
def test_any_other_time_is_taken(hours: int):
    """Also one that has passed."""
    run_at = now() + timedelta(hours=hours)

    assert run_at == decoded(options={"run_at": run_at.isoformat()}).options.run_at


def test_metadata_takes_4_kib_and_not_a_byte_more():
    """Metadata is measured as UTF-8 JSON: 4,096 bytes are accepted, one more is not."""
    fits = {"a": "é" * 2044}

    assert METADATA_LIMIT == len(msgspec.json.encode(fits))
    assert fits == decoded(metadata=fits).metadata
    assert "`metadata` is larger than 4096 bytes." == refusal(body(metadata={"a": "é" * 2044 + "b"}))


def test_members_that_are_left_out_have_defaults():
    """The smallest job has the message's id, the default connection and the default output and options."""
    job = decoded()

    assert ("m-1", "default", None, {}) == (job.id, job.connection, job.model, job.metadata)
    assert (Output(queue=True, blob=False, callback=None), Options()) == (job.output, job.options)
    assert (120, 4, 1000, True, False, False, UNSET, "fail", "standard", None) == msgspec.structs.astuple(job.options)
    assert 86_400 == job.options.lasts_s
