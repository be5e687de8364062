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


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"hello", "The job is not valid JSON: invalid character (byte 0).", id="text"),
        pytest.param(
            b"",
            "The job is not valid JSON: it ends too early, or a string contains half a surrogate pair.",
            id="empty",
        ),
        pytest.param(
            body()[:-1],
            "The job is not valid JSON: it ends too early, or a string contains half a surrogate pair.",
            id="cut off",
        ),
        pytest.param(body() + b" {}", "The job is not valid JSON: trailing characters (byte 71).", id="two of them"),
        pytest.param(b"[]", "The job must be an object, not a list.", id="list"),
        pytest.param(b"null", "The job must be an object, not null.", id="null"),
        pytest.param(b'"x"', "The job must be an object, not a string.", id="string"),
        pytest.param(b"12", "The job must be an object, not a whole number.", id="number"),
        pytest.param(b"true", "The job must be an object, not true or false.", id="boolean"),
        pytest.param(b"\xef\xbb\xbf" + body(), "The job begins with a byte order mark: leave it out.", id="BOM"),
        pytest.param("{}".encode("utf-16"), "The job is not valid UTF-8 (byte 0).", id="UTF-16"),
        pytest.param(b'{"customer": "\xff"}', "The job is not valid UTF-8 (byte 14).", id="UTF-8 in a member"),
        pytest.param(
            b'{"customer": "acme", "action": "chat", "input": {"prompt": "\xc3("}}',
            "The job is not valid UTF-8 (byte 60).",
            id="UTF-8 in the input",
        ),
        pytest.param(
            b'{"customer": "acme", "action": "chat", "input": {"\xff": 1}}',
            "The job is not valid UTF-8 (byte 50).",
            id="UTF-8 in a name in the input",
        ),
        pytest.param(
            body(input={"a": 1}).replace(b"1", b"NaN"),
            "The job is not valid JSON: invalid character (byte 54).",
            id="NaN",
        ),
        pytest.param(body(input={"a": 1}).replace(b"1", b"1e999"), "`input.a`: number out of range.", id="huge"),
        pytest.param(
            body(input={"messages": [{"content": "Hello?"}, {"seed": {"b": [0, 1]}}]}).replace(
                b"1]", b"1" * 5000 + b"]"
            ),
            "`input.messages[1].seed.b[1]`: integer value out of range.",
            id="huge deep down",
        ),
        pytest.param(
            body(input={"a": 0}).replace(b"0}", b"[" * 20 + b"1e999" + b"]" * 20 + b"}"),
            "`input.a[0][0][0][0][0][0][0]`: number out of range.",
            id="huge too deep down",
        ),
    ],
)
def test_text_that_is_not_a_json_object_is_refused(data: bytes, message: str):
    """What is not a JSON object in UTF-8 is refused with the position or the type at fault."""
    assert message == refusal(data)


@pytest.mark.parametrize("half", [r"\ud83d", r"\ud83d x", r"\ude00", r"\ud83d\u0041"])
@pytest.mark.parametrize("member", ["customer", "prompt", "metadata", "job_id"])
def test_half_a_character_is_refused_anywhere(half: str, member: str):
    """Half a surrogate pair, which UTF-8 can't encode, is refused in every member."""
    marked = {"customer": "acme", "prompt": "x", "metadata": "x", "job_id": "j"} | {member: "HALF"}
    data = body(
        customer=marked["customer"],
        input={"prompt": marked["prompt"]},
        metadata={"a": marked["metadata"]},
        job_id=marked["job_id"],
    )

    assert refusal(data.replace(b"HALF", half.encode())).startswith("The job is not valid JSON: ")


def test_too_deep_nesting_is_refused():
    """An input that is nested as deeply as a message can hold is refused with a message, and crashes nothing."""
    deep = b"[" * 24_000 + b"]" * 24_000
    data = body(input={"a": 0}).replace(b"0", deep)

    assert "The job is nested too deeply." == refusal(data)
    assert {} == salvage(data)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param({"tempo": 1}, "`tempo` is not a known member.", id="at the top"),
        pytest.param({"id": "x"}, "`id` is not a known member.", id="id"),
        pytest.param({"_envelope": {}}, "`_envelope` is not a known member.", id="what the queue's messages have"),
        pytest.param({"Customer": "acme"}, "`Customer` is not a known member.", id="other case"),
        pytest.param({"": 1}, "`` is not a known member.", id="no name"),
        pytest.param({"output": {"topic": 1}}, "`output.topic` is not a known member.", id="output"),
        pytest.param({"options": {"tries": 1}}, "`options.tries` is not a known member.", id="options"),
        pytest.param({"n" * 40_000: 1}, f"`{'n' * 100}…` is not a known member.", id="a name of 40,000 characters"),
        pytest.param(
            {"options": {"n" * 40_000: 1}},
            f"`options.{'n' * 100}…` is not a known member.",
            id="in options, a name of 40,000 characters",
        ),
        pytest.param({"a\r\nb\u202e": 1}, "`a\ufffd\ufffdb\ufffd` is not a known member.", id="line break"),
    ],
)
def test_unknown_member_is_refused_with_its_path(members: dict[str, Any], message: str):
    """A member that the contract does not have is named with its path, cut short and on one line."""
    assert message == refusal(body(**members))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("customer", "`customer` is missing."),
        ("action", "`action` is missing."),
        ("input", "`input` is missing."),
    ],
)
def test_missing_member_is_named(missing: str, message: str):
    """If one of the three required members is missing, it is named."""
    members = {name: value for name, value in SMALLEST.items() if name != missing}

    assert message == refusal(json.dumps(members).encode())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"customer": 5}, "`customer` must be a string, not a whole number."),
        ({"customer": None}, "`customer` must be a string, not null."),
        ({"action": ["chat"]}, "`action` must be a string, not a list."),
        ({"job_id": 7}, "`job_id` must be a string or null, not a whole number."),
        ({"connection": {}}, "`connection` must be a string, not an object."),
        ({"model": 4.1}, "`model` must be a string or null, not a decimal number."),
        ({"input": []}, "`input` must be an object, not a list."),
        ({"input": "Hello?"}, "`input` must be an object, not a string."),
        ({"output": True}, "`output` must be an object, not true or false."),
        ({"output": {"queue": 3}}, "`output.queue` must be true, false or a string, not a whole number."),
        ({"output": {"blob": "yes"}}, "`output.blob` must be true or false, not a string."),
        ({"options": []}, "`options` must be an object, not a list."),
        ({"options": {"timeout_s": "30"}}, "`options.timeout_s` must be a number, not a string."),
        ({"options": {"max_retries": 1.5}}, "`options.max_retries` must be a whole number, not a decimal number."),
        (
            {"options": {"max_retries": True}},
            "`options.max_retries` must be a whole number, not true or false.",
        ),
        (
            {"options": {"exponential_backoff": 1}},
            "`options.exponential_backoff` must be true or false, not a whole number.",
        ),
        ({"metadata": ["a"]}, "`metadata` must be an object, not a list."),
        ({"metadata": {"order": 7}}, "`metadata.order` must be a string, not a whole number."),
        ({"metadata": {"order": None}}, "`metadata.order` must be a string, not null."),
        ({"metadata": {"n" * 9000: 7}}, f"`metadata.{'n' * 100}…` must be a string, not a whole number."),
    ],
)
def test_wrong_type_is_refused_with_its_path(members: dict[str, Any], message: str):
    """A member of the wrong type is named with its path, the right type and its own."""
    assert message == refusal(body(**members))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"connection": None}, "`connection` must be a string, not null."),
        ({"output": None}, "`output` must be an object, not null."),
        ({"options": None}, "`options` must be an object, not null."),
        ({"metadata": None}, "`metadata` must be an object, not null."),
        ({"input": None}, "`input` must be an object, not null."),
        ({"input_blob": None}, "`input_blob` must be a string, not null."),
        ({"options": {"timeout_s": None}}, "`options.timeout_s` must be a number, not null."),
        ({"output": {"queue": None}}, "`output.queue` must be true, false or a string, not null."),
    ],
)
def test_null_is_refused_if_the_member_has_a_default(members: dict[str, Any], message: str):
    """A null does not stand for the default: such a member is left out, or has a value."""
    assert message == refusal(body(**members))


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
