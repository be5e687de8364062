"""The members of a job: which values they take, and their defaults."""

from __future__ import annotations

import msgspec
import pytest

from shared.contract.job import ACTIONS, METADATA_LIMIT, Options, Output, decode_job
from tests.support.job_bodies import body, decoded, refusal

CUSTOMER = "must be 1 to 50 lower-case letters, digits and single hyphens, starting and ending in a letter or digit."
JOB_ID = "`job_id` must be 1 to 100 letters, digits, `.`, `_` or `-`, and not `.` or `..`."
MODEL = "`model` must be the name of a model or deployment, 1 to 200 characters."
QUEUE = (
    "`output.queue` must be true, false or the name of a queue: 3 to 63 lower-case letters, digits and single hyphens."
)


@pytest.mark.parametrize("action", ACTIONS)
def test_the_six_actions_are_known(action: str):
    """Each action of the contract makes a job."""
    assert action == decoded(action=action).action


@pytest.mark.parametrize("action", ["", "Chat", "chat ", "sing", "chat\n"])
def test_unknown_action_is_refused(action: str):
    """An unknown action is refused with the six that exist."""
    assert "`action` must be one of chat, multi_chat, image, summarize, embed, raw." == refusal(body(action=action))


NAMES = ["a", "0", "acme", "acme-2", "a-b-c", "a" * 50, "1-1"]
INVALID_NAMES = [
    *("", " ", "Acme", "a--b", "-a", "a-", "-", "a" * 51, "a_b", "a.b", "a/b", "..", "a b", "acme\n"),
    *("\nacme", "acmé", "\u0661", "a\u200bb", "a\x00", "*", "a%2db"),
]


@pytest.mark.parametrize("member", ["customer", "connection"])
@pytest.mark.parametrize("name", NAMES)
def test_names_of_customers_and_connections(member: str, name: str):
    """Lower-case letters, digits and single hyphens make the name of a customer or a connection."""
    assert name == getattr(decoded(**{member: name}), member)


@pytest.mark.parametrize("member", ["customer", "connection"])
@pytest.mark.parametrize("name", INVALID_NAMES)
def test_other_names_are_refused(member: str, name: str):
    """Any other name of a customer or connection is refused with the rule."""
    assert f"`{member}` {CUSTOMER}" == refusal(body(**{member: name}))


@pytest.mark.parametrize("job_id", ["a", "A.b_c-9", "...", "-", "_", ".a", "0" * 100])
def test_valid_job_ids(job_id: str):
    """An id has up to 100 letters, digits, dots, underscores and hyphens."""
    assert job_id == decoded(job_id=job_id).id


@pytest.mark.parametrize("job_id", ["", "a b", "a/b", "a\\b", "a#b", "a?b", "é", "a\n", "0" * 101, ".", ".."])
def test_invalid_job_ids(job_id: str):
    """Other ids are refused, such as those that would change a path."""
    assert JOB_ID == refusal(body(job_id=job_id))


@pytest.mark.parametrize("model", ["", " ", "\t\n", "m" * 201])
def test_invalid_models_are_refused(model: str):
    """A blank or very long model is refused."""
    assert MODEL == refusal(body(model=model))


def test_model_may_be_any_other_name():
    """The provider decides how its models are called."""
    assert "org/Mixtral 8x7B:v0.1 é" == decoded(model="org/Mixtral 8x7B:v0.1 é").model


def test_metadata_takes_4_kib_and_not_a_byte_more():
    """Metadata is measured as UTF-8 JSON: 4,096 bytes are accepted, one more is not."""
    fits = {"a": "é" * 2044}

    assert METADATA_LIMIT == len(msgspec.json.encode(fits))
    assert fits == decoded(metadata=fits).metadata
    assert "`metadata` is larger than 4096 bytes." == refusal(body(metadata={"a": "é" * 2044 + "b"}))


@pytest.mark.parametrize("queue", [True, False, "results", "r-2", "abc", "a" * 63])
def test_queue_is_a_boolean_or_a_name(queue: object):
    """`output.queue` accepts true, false and what Storage accepts as a queue's name."""
    assert queue == decoded(output={"queue": queue}).output.queue


@pytest.mark.parametrize("queue", ["", "ab", "Results", "a--b", "-ab", "ab-", "a_b", "a" * 64, "a/b", "abc\n"])
def test_invalid_queue_names_are_refused(queue: str):
    """A text that Storage does not accept as a queue's name is refused."""
    assert QUEUE == refusal(body(output={"queue": queue}))


def test_callback_is_a_url():
    """A callback is a URL; the egress policy decides which hosts may be called."""
    job = decode_job(body(output={"callback": "https://example.com/done?a=b"}), default_id="m-1")

    assert "https://example.com/done?a=b" == job.output.callback


@pytest.mark.parametrize(
    "text",
    [
        *("", "ftp://example.com", "example.com/done", "https://", "https://é.com"),
        *("https://a.com/\n", "https://a.com/ b", f"https://a.com/{'x' * 2000}"),
    ],
)
def test_invalid_callbacks_are_refused(text: str):
    """What is not a URL, or a very long one, is refused."""
    assert "`output.callback` must be an https URL of at most 2000 ASCII characters." == refusal(
        body(output={"callback": text})
    )


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("timeout_s", 0.001, 480),
        ("max_retries", 0, 20),
        ("retry_delay_ms", 0, 300_000),
        ("deadline_s", 0.001, 604_800),
    ],
)
def test_options_may_be_at_their_limits(name: str, lowest: float, highest: float):
    """An option may be as small and as large as the contract says."""
    assert lowest == getattr(decoded(options={name: lowest}).options, name)
    assert highest == getattr(decoded(options={name: highest}).options, name)


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
    """An option beyond its limits is refused with the limits."""
    assert f"`options.{name}` must be {right}." == refusal(body(options={name: value}))


def test_members_that_are_left_out_have_defaults():
    """The smallest job has the message's id, the default connection and the default output and options."""
    job = decoded()

    assert ("m-1", "default", None, {}) == (job.id, job.connection, job.model, job.metadata)
    assert (Output(queue=True, blob=False, callback=None), Options()) == (job.output, job.options)
    assert (120, 4, 1000, True, False, False, 86_400) == msgspec.structs.astuple(job.options)


def test_own_id_takes_precedence():
    """A job with an id keeps it."""
    assert "mine" == decoded(job_id="mine").id
