"""What holds for any bytes whatever: a job or one bounded sentence, and nothing lost on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from shared.contract.chat import Chat, decode_chat
from shared.contract.connection import ConnectionRecord, decode_connection
from shared.contract.decoding import has_more_containers
from shared.contract.job import Job, decode_job, named_blob, salvage
from shared.contract.result import Result, encode_result
from shared.errors import ConnectionInvalid, InvalidJob
from shared.jobs.envelope import decode_queued_job, encode_queued_job
from shared.jobs.fingerprint import fingerprint

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)

MESSAGE_MOST = 1000
few = settings(max_examples=120)

text = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": text}),
    min_size=1,
    max_size=3,
)
parameters = st.dictionaries(st.sampled_from(["temperature", "tools", "seed", "x"]), anything, max_size=3)
chats = st.fixed_dictionaries({"messages": messages}, optional={"parameters": parameters}) | (
    st.fixed_dictionaries(
        {"prompt": text.filter(str.strip)},
        optional={"system": text, "history": messages, "context": text, "parameters": parameters},
    )
)
names = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)
jobs = st.fixed_dictionaries(
    {"customer": names, "action": st.sampled_from(["chat", "embed", "raw"]), "input": chats},
    optional={
        "job_id": st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True),
        "connection": names,
        "model": text.filter(str.strip),
        "output": st.fixed_dictionaries({}, optional={"queue": st.booleans(), "blob": st.booleans()}),
        "options": st.fixed_dictionaries(
            {},
            optional={
                "timeout_s": st.integers(1, 480),
                "max_retries": st.integers(0, 20),
                "retry_on_all_errors": st.booleans(),
            },
        ),
        "metadata": st.dictionaries(text, text, max_size=3),
    },
)
paths = [
    *(("customer",), ("action",), ("input",), ("input_blob",), ("job_id",), ("connection",), ("model",)),
    *(("output",), ("output", "queue"), ("output", "blob"), ("output", "callback"), ("output", "x")),
    *(("options",), ("options", "timeout_s"), ("options", "max_retries"), ("options", "deadline_s")),
    *(("metadata",), ("metadata", "x"), ("input", "prompt"), ("input", "messages"), ("input", "input_blob")),
    *(("x" * 2000,), ("output", "x`" * 1000), ("metadata", "x" * 2000)),
]


def written(value: Any) -> bytes:
    return json.dumps(value).encode()


def attempt(decode: Callable[[], Any], refusal: type[Exception] = InvalidJob) -> tuple[Any, str]:
    """What `decode` gives, or the sentence with which it refuses; anything else that it raises goes on."""
    try:
        return decode(), ""
    except refusal as refused:
        return None, str(refused)


def check_job(data: bytes) -> Job | None:
    """The job in `data`, or None where it was refused as it should be."""
    job, refused = attempt(lambda: decode_job(data, default_id="m-1"))
    assert len(refused) <= MESSAGE_MOST
    if job is None:
        assert refused.endswith(".")
        echoed = encode_result(Result(**{"job_id": "m-1", **salvage(data)}, status="failed"))
        assert len(echoed) < 6000
        return None
    named_blob(job)
    fingerprint(job)
    return job


def check_chat(data: bytes) -> None:
    """Holds that `data` is a chat or refused as it should be."""
    chat, refused = attempt(lambda: decode_chat(data))
    assert isinstance(chat, Chat) != refused.endswith(".")
    assert len(refused) <= MESSAGE_MOST


@few
@given(st.binary(max_size=200) | text.map(lambda value: value.encode("utf-8", "replace")))
@example(b"")
@example(b"\xef\xbb\xbf{}")
def test_bytes_are_a_job_or_refused(data: bytes):
    """Whatever bytes come in, they are refused in one sentence or are a job."""
    check_job(data)
    check_chat(data)


@few
@given(
    st.recursive(text | st.sampled_from(['"', "\\\\", '\\\\"[', "[{", "{}"]), lambda inner: st.lists(inner, max_size=9))
)
def test_lists_are_counted_as_they_are_decoded(value: Any):
    """However brackets, quotes and backslashes stand in texts, lists and objects alone are counted."""

    def opened(one: Any) -> int:
        return 1 + sum(map(opened, one)) if isinstance(one, list) else 0

    for most in range(opened(value) + 2):
        for ascii_only in (True, False):
            data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")
            assert (opened(value) > most) == has_more_containers(data, most)


@few
@given(anything)
def test_json_is_a_job_or_refused(value: Any):
    """Whatever JSON comes in, it is refused in one sentence or is a job."""
    check_job(written(value))
    check_chat(written(value))


@few
@given(jobs, st.sampled_from(paths), anything | chats)
def test_mutated_jobs_are_jobs_or_refused(members: dict[str, Any], path: tuple[str, ...], value: Any):
    """A job with any one member turned into anything is refused in one sentence or is a job."""
    inner = members
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
        assume(isinstance(inner, dict))
    inner[path[-1]] = value

    check_job(written(members))


@few
@given(jobs, st.integers(0, 10_000), st.binary(max_size=3))
def test_damaged_jobs_are_jobs_or_refused(members: dict[str, Any], at: int, damage: bytes):
    """A job with bytes overwritten anywhere is refused in one sentence or is a job."""
    data = written(members)
    at %= len(data)

    check_job(data[:at] + damage + data[at + len(damage) :])


@few
@given(chats, st.sampled_from(["messages", "prompt", "history", "template", "parameters", "x" * 2000]), anything)
def test_mutated_chats_are_chats_or_refused(members: dict[str, Any], name: str, value: Any):
    """A chat's input with any one member turned into anything is refused in one sentence or is a chat."""
    check_chat(written(members | {name: value}))


@few
@given(jobs)
def test_round_trip_keeps_the_job(members: dict[str, Any]):
    """A valid job decodes, and comes back from its encoding with the same id, hash and input."""
    job = check_job(written(members))
    assert job is not None

    again = decode_queued_job(encode_queued_job(job, submitted_at=SUBMITTED), default_id="m-2")

    assert (job.id, fingerprint(job)) == (again.id, fingerprint(again))
    assert json.loads(bytes(job.input)) == json.loads(bytes(again.input)) == members["input"]


@few
@given(jobs, st.randoms(use_true_random=False))
def test_hash_knows_no_order_or_spacing(members: dict[str, Any], chance: Any):
    """However a job's members are ordered and spaced, its hash is the same."""
    shuffled = list(members.items())
    chance.shuffle(shuffled)
    spaced = json.dumps(dict(shuffled), indent=chance.randint(0, 4), ensure_ascii=chance.random() < 0.5)

    first = decode_job(written(members), default_id="m-1")

    assert fingerprint(first) == fingerprint(decode_job(spaced.encode(), default_id="m-2"))


@few
@given(chats)
def test_chats_lose_nothing(members: dict[str, Any]):
    """Messages, history and parameters arrive as they were given, the last message holding the prompt."""
    chat = decode_chat(written(members))

    assert members.get("parameters", {}) == chat.parameters
    if "messages" in members:
        assert members["messages"] == chat.messages
    else:
        assert members.get("history", []) == chat.messages[("system" in members) : -1]
        assert members["prompt"] in chat.messages[-1]["content"]
        assert members.get("context", "") in chat.messages[-1]["content"]


frames = st.text(st.sampled_from("conteusrPmp \n{}\\1"), max_size=12)
pieces = st.lists(
    st.sampled_from(["@@context", "@@userPrompt", "@@contextual", "@", "@@", r"\1", r"\g<0>", "x"]),
    max_size=4,
).map("".join)


@few
@given(frames, frames, frames, pieces, pieces.map("x{}".format))
@example("", "", "", "@@userPrompt", "@@context")
@example("@@user", "@@", "@@contex", "@@context", "@@userPrompt@@context")
def test_template_is_filled_in_one_pass(before: str, between: str, after: str, context: str, prompt: str):
    """Each place is replaced by exactly what belongs there, though that may itself look like a place."""
    members = {
        "prompt": prompt,
        "context": context,
        "template": f"{before}@@context{between}@@userPrompt{after}",
    }

    chat = decode_chat(written(members))

    assert f"{before}{context}{between}{prompt}{after}" == chat.messages[-1]["content"]


@few
@given(
    st.sampled_from(ConnectionRecord.__struct_fields__),
    anything,
    st.dictionaries(st.sampled_from(["max_concurrency", "monthly_budget", "auth"]), text),
)
def test_connections_are_whole_or_refused(name: str, value: Any, tags: dict[str, str]):
    """Whatever a secret or its tags hold, it is a connection or refused in a sentence without the key."""
    for secret in (written({"api_key": "k-MARKED-0", name: value}).decode(), "k-MARKED-0"):
        record, refused = attempt(lambda text=secret: decode_connection(text, tags), ConnectionInvalid)
        assert "MARKED" not in refused
        assert "MARKED" not in repr(record)
        assert len(refused) <= MESSAGE_MOST


@few
@given(st.text())
def test_any_text_is_a_key_or_refused(secret: str):
    """A secret of any text is a connection or refused, and nothing else happens."""
    record, refused = attempt(lambda: decode_connection(secret), ConnectionInvalid)

    assert isinstance(record, ConnectionRecord) != refused.endswith(".")
    assert len(refused) <= MESSAGE_MOST


@pytest.mark.parametrize("depth", [10, 500, 800, 930, 960, 980, 990, 1000])
def test_what_decodes_can_be_hashed_and_put_back(depth: int):
    """A job whose nesting is just bearable to decode is bearable afterwards as well."""
    deep = b'{"customer":"a","action":"chat","input":{"prompt":"x","parameters":{"a":%s}}}' % (
        b"[" * depth + b"]" * depth
    )

    job = check_job(deep)

    if job is not None:
        assert fingerprint(job) == fingerprint(
            decode_queued_job(encode_queued_job(job, submitted_at=SUBMITTED), default_id="m")
        )
