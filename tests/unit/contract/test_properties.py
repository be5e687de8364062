"""What holds for any bytes: they are a job, a chat or a connection, or are refused in one short sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from shared.contract.chat import Chat, decode_chat
from shared.contract.connection import ConnectionRecord, decode_connection
from shared.contract.decoding import find_excess
from shared.contract.job import decode_job, named_blob, salvage
from shared.contract.result import Result, encode_result
from shared.errors import ConnectionInvalid, InvalidJob
from shared.jobs.fingerprint import fingerprint
from tests.support.job_strategies import anything, chats, few, jobs, paths, text

MAX_MESSAGE_CHARS = 1000
frames = st.text(st.sampled_from("conteusrPmp \n{}\\1"), max_size=12)
pieces = st.lists(
    st.sampled_from(["@@context", "@@userPrompt", "@@contextual", "@", "@@", r"\1", r"\g<0>", "x"]),
    max_size=4,
).map("".join)


def written(value: Any) -> bytes:
    return json.dumps(value).encode()


def attempt(decode: Callable[[], Any], refusal: type[Exception] = InvalidJob) -> tuple[Any, str]:
    """What `decode` returns, or the sentence of its refusal; anything else that it raises is raised."""
    try:
        return decode(), ""
    except refusal as refused:
        return None, str(refused)


def mutated(members: dict[str, Any], path: tuple[str, ...], value: Any) -> bytes:
    """Return a JSON object with one member replaced."""
    inner = members
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
        assume(isinstance(inner, dict))
    inner[path[-1]] = value
    return written(members)


def damaged(members: dict[str, Any], at: int, damage: bytes) -> bytes:
    """Return a JSON object with some bytes overwritten."""
    data = written(members)
    at %= len(data)
    return data[:at] + damage + data[at + len(damage) :]


CHAT_PATHS = [(name,) for name in ("messages", "prompt", "history", "template", "parameters", "x" * 2000)]
BYTES = (
    st.binary(max_size=200)
    | text.map(lambda value: value.encode("utf-8", "replace"))
    | anything.map(written)
    | st.builds(mutated, jobs, st.sampled_from(paths), anything | chats)
    | st.builds(damaged, jobs, st.integers(0, 10_000), st.binary(max_size=3))
    | st.builds(mutated, chats, st.sampled_from(CHAT_PATHS), anything)
)


@settings(max_examples=300)
@given(BYTES)
@example(b"")
@example(b"\xef\xbb\xbf{}")
def test_bytes_are_a_job_or_chat_or_refused(data: bytes):
    """Whatever the bytes are, such as a damaged job, they are a job or a chat, or are refused in one sentence."""
    job, refused = attempt(lambda: decode_job(data, default_id="m-1"))
    assert len(refused) <= MAX_MESSAGE_CHARS
    if job is None:
        assert refused.endswith((".", "?"))
        salvaged = encode_result(Result(**{"job_id": "m-1", **salvage(data)}, status="failed"))
        assert len(salvaged) < 6000
    else:
        named_blob(job)
        fingerprint(job)

    chat, refused = attempt(lambda: decode_chat(data))
    assert isinstance(chat, Chat) != refused.endswith((".", "?"))
    assert len(refused) <= MAX_MESSAGE_CHARS


odd_texts = text | st.sampled_from(['"', "\\\\", '\\\\"[', "[{", "{}", ":", '\\":'])


@few
@given(
    st.recursive(odd_texts, lambda inner: st.lists(inner, max_size=9) | st.dictionaries(odd_texts, inner, max_size=5))
)
def test_lists_are_counted_as_they_are_decoded(value: Any):
    """Whatever brackets, colons, quotes and backslashes texts contain, only lists, objects and members are counted."""

    def count(item: Any) -> tuple[int, int]:
        inner = (
            [count(each) for each in (item.values() if isinstance(item, dict) else item)] if is_container(item) else []
        )
        members = len(item) if isinstance(item, dict) else 0
        return sum(each[0] for each in inner) + is_container(item), sum(each[1] for each in inner) + members

    containers, members = count(value)
    for ascii_only in (True, False):
        data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")
        for limit in {max(number + change, 0) for number in (containers, members) for change in (-1, 0, 1)}:
            assert (containers > limit) == bool(find_excess(data, containers=limit, members=9999))
            assert (members > limit) == bool(find_excess(data, containers=9999, members=limit))


def is_container(item: Any) -> bool:
    """Return whether it is a list or an object."""
    return isinstance(item, list | dict)


@few
@given(chats)
def test_chats_are_complete(members: dict[str, Any]):
    """Messages, history and parameters are passed on as they are; the last message has the prompt."""
    chat = decode_chat(written(members))

    assert members.get("parameters", {}) == chat.parameters
    if "messages" in members:
        assert members["messages"] == chat.messages
    else:
        assert members.get("history", []) == chat.messages[("system" in members) : -1]
        assert members["prompt"] in chat.messages[-1]["content"]
        assert members.get("context", "") in chat.messages[-1]["content"]


@few
@given(frames, frames, frames, pieces, pieces.map("x{}".format))
@example("", "", "", "@@userPrompt", "@@context")
@example("@@user", "@@", "@@contex", "@@context", "@@userPrompt@@context")
def test_template_is_filled_in_one_pass(before: str, between: str, after: str, context: str, prompt: str):
    """Each placeholder is replaced by exactly its value, even if that contains a placeholder."""
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
def test_connections_are_complete_or_refused(name: str, value: Any, tags: dict[str, str]):
    """Whatever a secret or its tags hold, it is a connection or is refused in a sentence without the key."""
    for secret in (written({"api_key": "k-MARKED-0", name: value}).decode(), "k-MARKED-0"):
        record, refused = attempt(lambda text=secret: decode_connection(text, tags), ConnectionInvalid)
        assert "MARKED" not in refused
        assert "MARKED" not in repr(record)
        assert len(refused) <= MAX_MESSAGE_CHARS


@few
@given(st.text())
def test_any_text_is_a_key_or_refused(secret: str):
    """A secret of any text is a connection or is refused, and nothing else happens."""
    record, refused = attempt(lambda: decode_connection(secret), ConnectionInvalid)

    assert isinstance(record, ConnectionRecord) != refused.endswith((".", "?"))
    assert len(refused) <= MAX_MESSAGE_CHARS
