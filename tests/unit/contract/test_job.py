"""The job: what is one, what is none and why, and how it is told apart from another."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from shared.contract.job import (
    ACTIONS,
    METADATA_LIMIT,
    BlobName,
    Job,
    Options,
    Output,
    decode_job,
    encode_job,
    fingerprint,
    named_blob,
    salvage,
)
from shared.contract.result import MESSAGE_LIMIT
from shared.errors import InvalidJob

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)

SMALLEST = {"customer": "acme", "action": "chat", "input": {"prompt": "Hello?"}}
CUSTOMER = "must be 1 to 50 lower-case letters, digits and single hyphens, starting and ending in a letter or digit."
JOB_ID = "`job_id` must be 1 to 100 letters, digits, `.`, `_` or `-`, and not `.` or `..`."
MODEL = "`model` must be the name of a model or deployment, 1 to 200 characters."
QUEUE = (
    "`output.queue` must be true, false or the name of a queue: 3 to 63 lower-case letters, digits and single hyphens."
)


def body(**members: Any) -> bytes:
    return json.dumps(SMALLEST | members).encode()


def decoded(**members: Any) -> Job:
    return decode_job(body(**members), default_id="m-1")


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidJob) as raised:
        decode_job(data, default_id="m-1")
    return str(raised.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"hello", "The job is not valid JSON: invalid character (byte 0).", id="text"),
        pytest.param(
            b"",
            "The job is not valid JSON: it ends too early, or a string holds half a character.",
            id="empty",
        ),
        pytest.param(
            body()[:-1],
            "The job is not valid JSON: it ends too early, or a string holds half a character.",
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
def test_what_is_no_json_object_is_refused(data: bytes, message: str):
    """What is no UTF-8 JSON object is refused with the place or the kind that was found."""
    assert message == refusal(data)


@pytest.mark.parametrize("half", [r"\ud83d", r"\ud83d x", r"\ude00", r"\ud83d\u0041"])
@pytest.mark.parametrize("where", ["customer", "prompt", "metadata", "job_id"])
def test_half_a_character_is_refused_anywhere(half: str, where: str):
    """Half a surrogate pair, which no UTF-8 can hold, is refused wherever it stands."""
    marked = {"customer": "acme", "prompt": "x", "metadata": "x", "job_id": "j"} | {where: "HALF"}
    data = body(
        customer=marked["customer"],
        input={"prompt": marked["prompt"]},
        metadata={"a": marked["metadata"]},
        job_id=marked["job_id"],
    )

    assert refusal(data.replace(b"HALF", half.encode())).startswith("The job is not valid JSON: ")


def test_too_deep_nesting_is_refused():
    """An input nested as deep as a message can hold ends in a sentence, not in a crash."""
    deep = b"[" * 24_000 + b"]" * 24_000
    data = body(input={"a": 0}).replace(b"0", deep)

    assert "The job is nested too deeply." == refusal(data)
    assert {} == salvage(data)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param({"tempo": 1}, "`tempo` is not a known member.", id="at the top"),
        pytest.param({"id": "x"}, "`id` is not a known member.", id="id"),
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
def test_unknown_member_is_refused_by_its_path(members: dict[str, Any], message: str):
    """A member that the contract does not know is named with its path, cut short and on one line."""
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
    """Of the three members that a job needs, a missing one is named."""
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
    """A member of the wrong type is named with its path, what was expected there and what was found."""
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
def test_null_is_refused_where_leaving_out_means_a_default(members: dict[str, Any], message: str):
    """A null is no default: a member that has one is left out, or has a value."""
    assert message == refusal(body(**members))


@pytest.mark.parametrize("members", [{"model": None}, {"job_id": None}, {"output": {"callback": None}}])
def test_null_is_nothing_where_the_default_is_nothing(members: dict[str, Any]):
    """A null where leaving out means nothing at all says the same as leaving out."""
    job = decoded(**members)

    assert (None, "m-1", None) == (job.model, job.id, job.output.callback)
    assert fingerprint(decoded()) == fingerprint(job)


@pytest.mark.parametrize("action", ACTIONS)
def test_the_six_actions_are_known(action: str):
    """Each action of the contract makes a job."""
    assert action == decoded(action=action).action


@pytest.mark.parametrize("action", ["", "Chat", "chat ", "sing", "chat\n"])
def test_unknown_action_is_refused(action: str):
    """An action that there is not is answered with the six that there are."""
    assert "`action` must be one of chat, multi_chat, image, summarize, embed, raw." == refusal(body(action=action))


NAMES = ["a", "0", "acme", "acme-2", "a-b-c", "a" * 50, "1-1"]
NO_NAMES = [
    *("", " ", "Acme", "a--b", "-a", "a-", "-", "a" * 51, "a_b", "a.b", "a/b", "..", "a b", "acme\n"),
    *("\nacme", "acmé", "\u0661", "a\u200bb", "a\x00", "*", "a%2db"),
]


@pytest.mark.parametrize("member", ["customer", "connection"])
@pytest.mark.parametrize("name", NAMES)
def test_customers_and_connections_have_plain_names(member: str, name: str):
    """Lower-case letters, digits and single hyphens name a customer and a connection."""
    assert name == getattr(decoded(**{member: name}), member)


@pytest.mark.parametrize("member", ["customer", "connection"])
@pytest.mark.parametrize("name", NO_NAMES)
def test_other_names_are_refused(member: str, name: str):
    """Whatever else stands as a customer or connection is refused with the rule."""
    assert f"`{member}` {CUSTOMER}" == refusal(body(**{member: name}))


@pytest.mark.parametrize("job_id", ["a", "A.b_c-9", "...", "-", "_", ".a", "0" * 100])
def test_job_ids_that_may_be(job_id: str):
    """Letters, digits, dots, underscores and hyphens make an id, up to 100 of them."""
    assert job_id == decoded(job_id=job_id).id


@pytest.mark.parametrize("job_id", ["", "a b", "a/b", "a\\b", "a#b", "a?b", "é", "a\n", "0" * 101, ".", ".."])
def test_job_ids_that_may_not_be(job_id: str):
    """Other ids are refused, those that would lead a path elsewhere included."""
    assert JOB_ID == refusal(body(job_id=job_id))


@pytest.mark.parametrize("model", ["", " ", "\t\n", "m" * 201])
def test_model_must_say_something(model: str):
    """An empty or endless model is refused."""
    assert MODEL == refusal(body(model=model))


def test_model_may_be_any_name():
    """What a provider calls its models is the provider's business."""
    assert "org/Mixtral 8x7B:v0.1 é" == decoded(model="org/Mixtral 8x7B:v0.1 é").model


def test_metadata_takes_4_kib_and_not_a_byte_more():
    """Metadata is measured as UTF-8 JSON: 4,096 bytes fit, one more does not."""
    fits = {"a": "é" * 2044}

    assert METADATA_LIMIT == len(msgspec.json.encode(fits))
    assert fits == decoded(metadata=fits).metadata
    assert "`metadata` takes more than 4096 bytes." == refusal(body(metadata={"a": "é" * 2044 + "b"}))


@pytest.mark.parametrize("queue", [True, False, "results", "r-2", "abc", "a" * 63])
def test_queue_is_yes_no_or_a_name(queue: object):
    """`output.queue` takes true, false and what Storage takes as a queue's name."""
    assert queue == decoded(output={"queue": queue}).output.queue


@pytest.mark.parametrize("queue", ["", "ab", "Results", "a--b", "-ab", "ab-", "a_b", "a" * 64, "a/b", "abc\n"])
def test_queue_that_no_storage_has_is_refused(queue: str):
    """A text that Storage takes for no queue's name is refused."""
    assert QUEUE == refusal(body(output={"queue": queue}))


def test_callback_is_an_address():
    """A callback is a URL; which ones may be called is for `outputs`."""
    job = decode_job(body(output={"callback": "https://example.com/told?a=b"}), default_id="m-1")

    assert "https://example.com/told?a=b" == job.output.callback


@pytest.mark.parametrize(
    "text",
    [
        *("", "ftp://example.com", "example.com/told", "https://", "https://é.com"),
        *("https://a.com/\n", "https://a.com/ b", f"https://a.com/{'x' * 2000}"),
    ],
)
def test_a_callback_that_is_no_address_is_refused(text: str):
    """What is no URL, or a long one, is refused when it comes in."""
    assert "`output.callback` must be an https URL of at most 2000 ASCII characters." == refusal(
        body(output={"callback": text})
    )


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("timeout_s", 0.001, 480),
        ("max_retries", 0, 20),
        ("retry_delay_ms", 0, 300_000),
        ("deadline_s", 0.001, 604_800),
    ],
)
def test_options_reach_to_their_limits(name: str, least: float, most: float):
    """An option may be as small and as large as the contract says."""
    assert least == getattr(decoded(options={name: least}).options, name)
    assert most == getattr(decoded(options={name: most}).options, name)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("timeout_s", 0, "a number above 0 and at most 480"),
        ("timeout_s", -1, "a number above 0 and at most 480"),
        ("timeout_s", 480.5, "a number above 0 and at most 480"),
        ("max_retries", -1, "a whole number from 0 to 20"),
        ("max_retries", 21, "a whole number from 0 to 20"),
        ("retry_delay_ms", -1, "a whole number from 0 to 300,000"),
        ("retry_delay_ms", 300_001, "a whole number from 0 to 300,000"),
        ("deadline_s", 0, "a number above 0 and at most 604,800"),
        ("deadline_s", 604_801, "a number above 0 and at most 604,800"),
    ],
)
def test_options_beyond_their_limits_are_refused(name: str, value: float, right: str):
    """An option beyond its limit is refused with the limit."""
    assert f"`options.{name}` must be {right}." == refusal(body(options={name: value}))


def test_what_is_left_out_has_its_default():
    """The smallest job has the message's id, the default connection and the default output and options."""
    job = decoded()

    assert ("m-1", "default", None, {}) == (job.id, job.connection, job.model, job.metadata)
    assert (Output(queue=True, blob=False, callback=None), Options()) == (job.output, job.options)
    assert (120, 4, 1000, True, False, False, 86_400) == msgspec.structs.astuple(job.options)


def test_own_id_wins_over_the_default():
    """A job that brings its id keeps it."""
    assert "mine" == decoded(job_id="mine").id


# The input in a blob


@pytest.mark.parametrize("as_input", [False, True], ids=["input_blob", "input"])
@pytest.mark.parametrize("name", ["acme/a.json", "..a", "a..", "a b", "é/ü", "a?b#c", "%2e%2e/x", "n" * 900])
def test_input_may_stand_in_a_blob(as_input: bool, name: str):
    """Both ways of naming a blob give its container and name as they stand."""
    members = dict(SMALLEST)
    del members["input"]
    text = f"inputs/{name}"
    members |= {"input": {"input_blob": text}} if as_input else {"input_blob": text}

    job = decode_job(json.dumps(members).encode(), default_id="m-1")

    assert BlobName("inputs", name) == named_blob(job)


@pytest.mark.parametrize("as_input", [False, True], ids=["input_blob", "input"])
@pytest.mark.parametrize(
    "text",
    [
        *("", "inputs", "inputs/", "/a", "inputs//a", "inputs/a/", "inputs/..", "inputs/../other/a"),
        *("inputs/acme/../other/a", "inputs/./a", "inputs/a/.", "../inputs/a", "inputs/a\\b", "inputs\\a"),
        *("inputs/a\x00", "inputs/a\nb", "Inputs/a", "in--puts/a", "-inputs/a", "in/a", "$root/a"),
        *("https://example.com/a", "i" * 64 + "/a", "inputs/" + "n" * 901),
    ],
)
def test_blob_names_with_tricks_are_refused(as_input: bool, text: str):
    """A name that leads elsewhere, or that Storage would read in another way, is refused."""
    members = dict(SMALLEST)
    del members["input"]
    members |= {"input": {"input_blob": text}} if as_input else {"input_blob": text}
    at = "input.input_blob" if as_input else "input_blob"

    assert f"`{at}` must be a blob's `container/name`." == refusal(json.dumps(members).encode())


def test_blob_name_must_be_a_text():
    """A number as the name of a blob is refused in both places."""
    assert "`input.input_blob` must be a blob's `container/name`." == refusal(body(input={"input_blob": 3}))
    assert "`input_blob` must be a string, not a whole number." == refusal(body(input_blob=3))


def test_input_and_blob_together_are_refused():
    """A job that brings its input and names a blob as well does not say which it means."""
    assert "`input_blob` stands in place of `input`: give one of the two." == refusal(
        body(input_blob="inputs/acme/a.json")
    )


def test_a_prompt_that_speaks_of_blobs_is_a_prompt():
    """The word input_blob within an input makes no blob of it."""
    assert named_blob(decoded(input={"prompt": 'What is "input_blob"?'})) is None
    assert named_blob(decoded(input={"prompt": "x", "input_blob": "inputs/a"})) is None


# Size, identity, round trip


def test_job_of_a_whole_message_decodes():
    """A job that fills a queue message to the last byte decodes, and its input arrives whole."""
    text = "n" * (MESSAGE_LIMIT - len(body(input={"prompt": ""})))
    data = body(input={"prompt": text})

    job = decode_job(data, default_id="m-1")

    assert 49_152 == len(data)
    assert isinstance(job.input, msgspec.Raw)
    assert {"prompt": text} == json.loads(bytes(job.input))


WHOLE = {
    "job_id": "order-7",
    "customer": "acme",
    "action": "chat",
    "connection": "eu",
    "model": "gpt-4.1",
    "input": {"prompt": "Grüße 😀", "parameters": {"seed": 2**70, "temperature": 0.5}},
    "output": {"queue": "special", "blob": True},
    "options": {
        "timeout_s": 30,
        "max_retries": 2,
        "retry_delay_ms": 10,
        "exponential_backoff": False,
        "retry_on_all_errors": True,
        "deadline_s": 60,
    },
    "metadata": {"order": "7"},
}


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(SMALLEST, id="smallest"),
        pytest.param(WHOLE, id="whole"),
        pytest.param({"customer": "a", "action": "raw", "input_blob": "inputs/a/b"}, id="blob"),
        pytest.param(SMALLEST | {"output": {"queue": False}}, id="no queue"),
        pytest.param(SMALLEST | {"options": {"max_retries": 5}}, id="one option, the others left out"),
        pytest.param(SMALLEST | {"options": {"timeout_s": 30}}, id="whole seconds"),
    ],
)
def test_job_that_is_put_back_is_the_same_job(members: dict[str, Any]):
    """Encoding a job and decoding it again keeps its id, its hash and every member."""
    job = decode_job(json.dumps(members).encode(), default_id="m-1")

    again = decode_job(encode_job(job, submitted_at=SUBMITTED), default_id="m-2")

    assert job.id == again.id
    assert fingerprint(job) == fingerprint(again)
    assert encode_job(job, submitted_at=SUBMITTED) == encode_job(again, submitted_at=SUBMITTED)
    assert (job.output, job.options, job.metadata) == (again.output, again.options, again.metadata)


def test_encoded_job_holds_nothing_but_what_was_asked():
    """A job is put back without its defaults, so that it does not outgrow its message by them."""
    envelope = {"_envelope": {"submitted_at": "2026-11-20T13:12:00.000Z"}}
    assert SMALLEST | {"job_id": "m-1"} | envelope == json.loads(encode_job(decoded(), submitted_at=SUBMITTED))


def test_hash_sees_what_is_asked_and_not_how_it_is_written():
    """Another id, white space, order, escapes and spelt-out defaults make no other job."""
    first = fingerprint(decode_job(json.dumps(WHOLE).encode(), default_id="m-1"))
    reverse = {name: WHOLE[name] for name in reversed(WHOLE)} | {"job_id": "other"}
    reverse["input"] = {name: WHOLE["input"][name] for name in reversed(WHOLE["input"])}

    assert first == fingerprint(decode_job(json.dumps(reverse, indent=3).encode(), default_id="m-1"))
    assert first == fingerprint(decode_job(json.dumps(WHOLE, ensure_ascii=False).encode(), default_id="m-1"))
    assert fingerprint(decoded()) == fingerprint(
        decoded(connection="default", output={"queue": True}, options={"max_retries": 4}, metadata={})
    )
    assert 64 == len(first)


CHANGES: list[dict[str, Any]] = [
    {},
    {"customer": "acme-2"},
    {"action": "image"},
    {"connection": "us"},
    {"model": "gpt-4.1"},
    {"model": "gpt-4.1-mini"},
    {"input": {}},
    {"input": {"prompt": "Hello? "}},
    {"input": {"prompt": ["Hello?"]}},
    {"input": {"prompt": "Hello?", "parameters": {}}},
    {"input": {"prompt": "Hello?", "parameters": {"seed": 1}}},
    {"input": {"prompt": "Hello?", "parameters": {"seed": "1"}}},
    {"input": {"prompt": "Hello?", "parameters": {"seed": 2**70}}},
    {"input": {"prompt": "Hello?", "parameters": {"seed": 2**70 + 1}}},
    {"output": {"queue": False}},
    {"output": {"queue": "results"}},
    {"output": {"blob": True}},
    {"options": {"max_retries": 5}},
    {"options": {"deadline_s": 60}},
    {"metadata": {"a": "b"}},
    {"metadata": {"b": "a"}},
]


def test_hash_differs_for_any_other_difference():
    """Jobs that differ in anything but their id have different hashes."""
    hashes = {fingerprint(decoded(**change)) for change in CHANGES}

    assert len(CHANGES) == len(hashes)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (SMALLEST, "9a61c2664a9090f9066c547ee078d8417225b4e51fae5adcc5786ea8004fa955"),
        (WHOLE, "1fd24c51c5c115e78047f8b944864ce654fcc20d2898fdd5328a67cf0e5fbda4"),
    ],
    ids=["smallest", "whole"],
)
def test_hash_is_the_same_in_every_version(members: dict[str, Any], expected: str):
    """It stands in rows that outlive a version: one that changes it makes a `conflict` of every job on record."""
    assert expected == fingerprint(decode_job(json.dumps(members).encode(), default_id="m"))


def test_hash_does_not_change_by_an_option_that_is_added():
    """A job that says nothing of an option that a later version knows asks for what it asked for before."""
    fields = [(field.name, field.type, field.default) for field in msgspec.structs.fields(Options)]
    later = msgspec.defstruct("Later", [*fields, ("priority", int, 0)], kw_only=True)
    job = decoded(options={"deadline_s": 60})
    options = msgspec.structs.asdict(job.options)

    hashes = [
        fingerprint(msgspec.structs.replace(job, options=later(**options, priority=priority))) for priority in (0, 1)
    ]

    assert fingerprint(job) == hashes[0] != hashes[1]


def test_hash_of_input_in_a_blob_is_that_of_its_name():
    """Two jobs that name the same blob ask for the same, two that name different ones do not."""

    def hash_of(name: str) -> str:
        members = {"customer": "acme", "action": "chat", "input_blob": name}
        return fingerprint(decode_job(json.dumps(members).encode(), default_id="m"))

    assert hash_of("inputs/acme/a") == hash_of("inputs/acme/a")
    assert hash_of("inputs/acme/a") != hash_of("inputs/acme/b")


# What is left of a refused job


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        pytest.param(WHOLE, ["job_id", "customer", "action", "model", "metadata"], id="all are valid"),
        pytest.param(WHOLE | {"tempo": 1}, ["job_id", "customer", "action", "model", "metadata"], id="unknown"),
        pytest.param({"customer": "Acme", "action": "chat"}, ["action"], id="customer"),
        pytest.param({"job_id": "..", "customer": "acme"}, ["customer"], id="job id"),
        pytest.param({"job_id": 7, "customer": ["acme"], "action": {"chat": 1}}, [], id="types"),
        pytest.param({"model": "m" * 201, "action": "sing"}, [], id="model and action"),
        pytest.param({"model": " ", "metadata": {"a": 1}}, [], id="blank model, number in metadata"),
        pytest.param({"metadata": {"a": "b" * 4096}, "job_id": None}, [], id="large metadata, null id"),
        pytest.param({}, [], id="nothing"),
    ],
)
def test_only_valid_members_are_echoed(members: dict[str, Any], kept: list[str]):
    """Of a refused job the result echoes the members that are valid by themselves, and no other."""
    assert {name: members[name] for name in kept} == salvage(json.dumps(members).encode())


def test_members_are_echoed_whatever_stands_beside_them():
    """A number out of range, or bytes that are no UTF-8, in one member take nothing from the others."""
    data = b'{"job_id": "a", "model": "\xff", "action": "chat", "metadata": {"b": "c"}, "input": {"seed": 1e999}}'

    assert {"job_id": "a", "action": "chat", "metadata": {"b": "c"}} == salvage(data)


@pytest.mark.parametrize("data", [b"", b"hello", b"[]", b"\xff", b"null", b"[" * 9999])
def test_nothing_is_echoed_of_what_is_no_json_object(data: bytes):
    """What is no JSON object leaves nothing to echo, and raises nothing."""
    assert {} == salvage(data)
