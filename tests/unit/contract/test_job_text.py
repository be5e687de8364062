"""A job as text: what is not a JSON object, and members that are unknown, missing or of the wrong type."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from shared.contract.job import decode_job, salvage
from shared.contract.result import MESSAGE_LIMIT
from shared.jobs.fingerprint import fingerprint
from tests.support.job_bodies import SMALLEST, body, decoded, refusal
from tests.support.rows import every_row

ENDS_EARLY = "The job is not valid JSON: it ends too early, or a string contains half a surrogate pair."
TEXTS = {
    "text": (b"hello", "The job is not valid JSON: invalid character (byte 0)."),
    "empty": (b"", ENDS_EARLY),
    "cut off": (body()[:-1], ENDS_EARLY),
    "two of them": (body() + b" {}", "The job is not valid JSON: trailing characters (byte 71)."),
    "list": (b"[]", "The job must be an object, not a list."),
    "null": (b"null", "The job must be an object, not null."),
    "string": (b'"x"', "The job must be an object, not a string."),
    "number": (b"12", "The job must be an object, not a whole number."),
    "boolean": (b"true", "The job must be an object, not true or false."),
    "BOM": (b"\xef\xbb\xbf" + body(), "The job begins with a byte order mark: leave it out."),
    "UTF-16": ("{}".encode("utf-16"), "The job is not valid UTF-8 (byte 0)."),
    "UTF-8 in a member": (b'{"customer": "\xff"}', "The job is not valid UTF-8 (byte 14)."),
    "UTF-8 in the input": (body(input={"a": "b"}).replace(b"b", b"\xc3("), "The job is not valid UTF-8 (byte 55)."),
    "UTF-8 in a name": (body(input={"b": "a"}).replace(b"b", b"\xff"), "The job is not valid UTF-8 (byte 50)."),
    "NaN": (body(input={"a": 1}).replace(b"1", b"NaN"), "The job is not valid JSON: invalid character (byte 54)."),
    "huge": (body(input={"a": 1}).replace(b"1", b"1e999"), "`input.a`: number out of range."),
    "huge deep down": (
        body(input={"messages": [{"content": "Hello?"}, {"seed": {"b": [0, 1]}}]}).replace(b"1]", b"1" * 5000 + b"]"),
        "`input.messages[1].seed.b[1]`: integer value out of range.",
    ),
    "huge too deep down": (
        body(input={"a": 0}).replace(b"0}", b"[" * 20 + b"1e999" + b"]" * 20 + b"}"),
        "`input.a[0][0][0][0][0][0][0]`: number out of range.",
    ),
}


@every_row(("data", "message"), TEXTS.values(), ids=TEXTS)
def test_text_that_is_not_a_json_object_is_refused(data: bytes, message: str):
    """What is not a JSON object in UTF-8 is refused with the position or the type at fault."""
    assert message == refusal(data)


@every_row("half", [r"\ud83d", r"\ud83d x", r"\ude00", r"\ud83d\u0041"])
@every_row(
    "members", [{"customer": "HALF"}, {"input": {"prompt": "HALF"}}, {"metadata": {"a": "HALF"}}, {"job_id": "HALF"}]
)
def test_half_a_character_is_refused_anywhere(half: str, members: dict[str, Any]):
    """Half a surrogate pair, which UTF-8 can't encode, is refused in every member."""
    data = body(**members).replace(b"HALF", half.encode())

    assert refusal(data).startswith("The job is not valid JSON: ")


def test_too_deep_nesting_is_refused():
    """An input that is nested as deeply as a message can hold is refused with a message, and crashes nothing."""
    deep = b"[" * 24_000 + b"]" * 24_000
    data = body(input={"a": 0}).replace(b"0", deep)

    assert "The job is nested too deeply." == refusal(data)
    assert {} == salvage(data)


LONG = "n" * 40_000


@every_row(
    ("members", "member"),
    [
        *(({name: 1}, name) for name in ("tempo", "id", "_envelope", "Customer", "")),
        ({"output": {"topic": 1}}, "output.topic"),
        ({"options": {"tries": 1}}, "options.tries"),
        pytest.param({LONG: 1}, f"{LONG[:100]}…", id="a long name"),
        pytest.param({"options": {LONG: 1}}, f"options.{LONG[:100]}…", id="a long name in options"),
        ({"a\r\nb\u202e": 1}, "a\ufffd\ufffdb\ufffd"),
    ],
)
def test_unknown_member_is_refused_with_its_path(members: dict[str, Any], member: str):
    """A member that the contract does not have is named with its path, cut short and on one line."""
    assert refusal(body(**members)).startswith(f"`{member}` is not a known member.")


@pytest.mark.parametrize("missing", ["customer", "action", "input"])
def test_missing_member_is_named(missing: str):
    """If one of the three required members is missing, it is named."""
    members = {name: value for name, value in SMALLEST.items() if name != missing}

    assert f"`{missing}` is missing." == refusal(json.dumps(members).encode())


@every_row(
    ("members", "member", "types"),
    [
        ({"customer": 5}, "customer", "a string, not a whole number"),
        ({"customer": None}, "customer", "a string, not null"),
        ({"action": ["chat"]}, "action", "a string, not a list"),
        ({"job_id": 7}, "job_id", "a string or null, not a whole number"),
        ({"connection": {}}, "connection", "a string or a list, not an object"),
        ({"connection": None}, "connection", "a string or a list, not null"),
        ({"model": 4.1}, "model", "a string or null, not a decimal number"),
        ({"input": []}, "input", "an object, not a list"),
        ({"input": "Hello?"}, "input", "an object, not a string"),
        ({"input": None}, "input", "an object, not null"),
        ({"input_blob": None}, "input_blob", "a string, not null"),
        ({"output": True}, "output", "an object, not true or false"),
        ({"output": None}, "output", "an object, not null"),
        ({"output": {"queue": 3}}, "output.queue", "true, false or a string, not a whole number"),
        ({"output": {"queue": None}}, "output.queue", "true, false or a string, not null"),
        ({"output": {"blob": "yes"}}, "output.blob", "true or false, not a string"),
        ({"options": []}, "options", "an object, not a list"),
        ({"options": None}, "options", "an object, not null"),
        ({"options": {"timeout_s": "30"}}, "options.timeout_s", "a number, not a string"),
        ({"options": {"timeout_s": None}}, "options.timeout_s", "a number, not null"),
        ({"options": {"max_retries": 1.5}}, "options.max_retries", "a whole number, not a decimal number"),
        ({"options": {"max_retries": True}}, "options.max_retries", "a whole number, not true or false"),
        ({"options": {"exponential_backoff": 1}}, "options.exponential_backoff", "true or false, not a whole number"),
        ({"metadata": ["a"]}, "metadata", "an object, not a list"),
        ({"metadata": None}, "metadata", "an object, not null"),
        ({"metadata": {"order": 7}}, "metadata.order", "a string, not a whole number"),
        ({"metadata": {"order": None}}, "metadata.order", "a string, not null"),
        ({"metadata": {"n" * 9000: 7}}, f"metadata.{'n' * 100}…", "a string, not a whole number"),
    ],
)
def test_wrong_type_is_refused_with_its_path(members: dict[str, Any], member: str, types: str):
    """A member of the wrong type is named with its path and both types; null doesn't stand for a default."""
    assert f"`{member}` must be {types}." == refusal(body(**members))


@pytest.mark.parametrize("members", [{"model": None}, {"job_id": None}, {"output": {"callback": None}}])
def test_null_is_allowed_if_the_default_is_nothing(members: dict[str, Any]):
    """If leaving a member out means that there is nothing, null means the same."""
    job = decoded(**members)

    assert (None, "m-1", None) == (job.model, job.id, job.output.callback)
    assert fingerprint(decoded()) == fingerprint(job)


def test_job_that_fills_a_message_is_decoded():
    """A job that fills a queue message to the last byte is decoded with its complete input."""
    text = "n" * (MESSAGE_LIMIT - len(body(input={"prompt": ""})))
    data = body(input={"prompt": text})

    job = decode_job(data, default_id="m-1")

    assert 49_152 == len(data)
    assert isinstance(job.input, msgspec.Raw)
    assert {"prompt": text} == json.loads(bytes(job.input))
