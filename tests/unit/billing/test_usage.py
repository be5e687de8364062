"""What calls consumed: read from responses of any shape, and summed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.usage import UNANSWERED, Call, as_fetched, as_lost, call_of_answer, call_of_values, total
from shared.contract.usage import COUNTS, Usage
from tests.support.rows import every_row
from tests.support.work import count_calls

REPORTED = Usage(calls=1, input_tokens=5, consistent=True)
CALL = Call(REPORTED, "gpt-4o", "req-1", provider_usage=b'{"prompt_tokens":5}')
NOTHING = Call(request_id="req-1")
UNREAD = replace(UNANSWERED, request_id="req-1")
_maybe = st.none() | st.integers(0, 100)
_sums = st.builds(
    Usage,
    calls=st.integers(0, 3),
    service_tier=st.sampled_from([None, "default", "priority"]),
    processing=st.sampled_from([None, "standard", "batch"]),
    derived=st.sampled_from([(), ("output_tokens",), ("input_tokens", "output_tokens")]),
    consistent=st.sampled_from([None, True, False]),
    **dict.fromkeys(COUNTS, _maybe),
)


@every_row(
    ("body", "expected"),
    [
        ({"usage": {"prompt_tokens": 5}, "model": "gpt-4o"}, CALL),
        (
            {"usage": {"prompt_tokens": 5}, "model": "gpt-4o", "service_tier": "priority"},
            replace(CALL, service_tier="priority"),
        ),
        ({"data": [{"b64_json": "AA=="}, {"url": "https://x"}]}, replace(NOTHING, images=2)),
        (
            {"data": [{"b64_json": "", "url": "https://x"}, {"b64_json": ""}, {"embedding": [1]}]},
            replace(NOTHING, images=1),
        ),
        ({"data": [{"embedding": [1]}]}, NOTHING),
        ({"data": []}, replace(NOTHING, images=0)),
        ({"usage": 7, "model": "", "data": {"url": "https://x"}, "service_tier": 7}, NOTHING),
        ({"model": 7, "data": [7]}, NOTHING),
        (None, UNREAD),
        ([{"usage": {"prompt_tokens": 5}}], NOTHING),
    ],
)
def test_call_is_read_from_the_response(body: object, expected: Call):
    """A response's call has its usage, model, tier and images; what is missing or invalid is unknown."""
    assert expected == call_of_answer(body, "req-1")


STREAMS = {
    "OpenAI": [
        {"model": "gpt-4o", "usage": None},
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}},
    ],
    "Kimi": [
        {"choices": [{"delta": {}}]},
        {"model": "kimi", "choices": [{"usage": {"prompt_tokens": 5, "completion_tokens": 3}}]},
    ],
    "Responses": [
        {"type": "response.created", "response": {"id": "r", "object": "response", "usage": None}},
        {
            "type": "response.completed",
            "response": {"id": "r", "object": "response", "usage": {"input_tokens": 5, "output_tokens": 3}},
        },
    ],
    "Anthropic": [
        {"type": "message_start", "message": {"model": "claude", "usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "message_delta", "usage": {"output_tokens": 3}},
    ],
    "Anthropic, whose later event has nulls": [
        {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "message_delta", "usage": {"input_tokens": None, "output_tokens": 3}},
    ],
    "Groq": [{"choices": []}, {"x_groq": {"id": "req", "usage": {"prompt_tokens": 5, "completion_tokens": 3}}}],
    "xAI, which sends sums": [{"usage": {"prompt_tokens": 5, "completion_tokens": n}} for n in (1, 2, 3)],
}


@every_row("events", STREAMS.values(), ids=STREAMS)
def test_usage_is_read_from_a_stream(events: list[object]):
    """The counts of a stream are read wherever its events have them; the last of each counts."""
    usage = call_of_values(["", None, *events, "text"], None).usage

    assert usage is not None
    assert (1, 5, 3) == (usage.calls, usage.input_tokens, usage.output_tokens)


def test_stored_responses_and_batches_have_an_identity():
    """A stored response or batch is metered as itself once its usage is reported; fetching it is no call."""
    response = {"object": "response", "id": "resp_1", "usage": {"input_tokens": 5, "output_tokens": 3}}
    batch = {**response, "object": "batch", "id": "batch_1"}
    calls = [call_of_answer(body, None) for body in (response, batch)]

    assert ["response-", "batch-"] == [call.metered_as[:-40] for call in calls]
    assert ["standard", "batch"] == [call.processing for call in calls]
    assert "" == call_of_answer(response | {"usage": None}, None).metered_as
    assert "" == call_of_answer(response | {"object": "chat.completion"}, None).metered_as
    assert [(0, 5), (0, 5)] == [
        (usage.calls, usage.input_tokens) for usage in (as_fetched(call).consumed() for call in calls)
    ]
    assert NOTHING == as_fetched(NOTHING)


@every_row(
    ("body", "metered_as"),
    [
        ({"usage": {"prompt_tokens": 5}, "service_tier": "default"}, "line-1"),
        ({}, "line-1"),
        ({"object": "response", "id": "r", "usage": {"input_tokens": 5}}, "line-1"),
        ({"object": "batch", "id": "b", "usage": {"input_tokens": 5}}, "line-1"),
        ({"object": "batch", "id": "b"}, "line-1"),
    ],
    ids=["answer", "unreadable", "stored response", "batch", "unfinished batch"],
)
def test_an_answer_out_of_a_batch_is_metered_as_such(body: dict[str, Any], metered_as: str):
    """Whatever it says itself, even if it is stored under an id of its own: its batch knows it as its line."""
    call = call_of_answer(body, None, "batch", "line-1")

    assert ("batch", metered_as) == (call.processing, call.metered_as[:-40] or call.metered_as)
    assert ("answered" if body else "unanswered") == call.outcome


@given(
    st.recursive(
        st.none() | st.integers() | st.sampled_from(["", "batch", "response", "completed"]),
        lambda values: (
            st.lists(values, max_size=2)
            | st.dictionaries(
                st.sampled_from(["object", "id", "status", "usage", "model", "response", "data", "choices"]), values
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_can_be_read(value: object):
    """A gateway's own shapes, such as an `object` that is one, don't fail what was paid for."""
    assert call_of_values([value, {"usage": {"prompt_tokens": 5}}], None).outcome == "answered"


@pytest.mark.parametrize(
    ("kind", "states", "end"),
    [
        ("batch", ["validating", "in_progress", "finalizing", "cancelling"], "completed"),
        ("response", ["queued", "in_progress"], "incomplete"),
    ],
)
def test_what_has_not_finished_has_no_usage_yet(kind: str, states: list[str], end: str):
    """OpenAI's batches report zeros from the start: metered then, they would not be metered when they are done."""
    zeros, counts = {"input_tokens": 0, "total_tokens": 0}, {"input_tokens": 5, "total_tokens": 8}
    calls = [call_of_answer({"object": kind, "id": "1", "status": state, "usage": zeros}, None) for state in states]
    ended = call_of_answer({"object": kind, "id": "1", "status": end, "usage": counts}, None)

    assert {(None, "")} == {(call.usage, call.metered_as) for call in calls}
    assert ended.usage is not None
    assert (5, f"{kind}-") == (ended.usage.input_tokens, ended.metered_as[:-40])


def test_the_providers_own_object_is_kept():
    """It is kept as the provider wrote it, at most 1 KB: of a larger one the last members are left out."""
    usage = {"prompt_tokens": 5, "cost": 0.0125, "server_tool_use": {"web_search_requests": 2}}

    kept = call_of_answer({"usage": usage}, None).provider_usage
    cut = call_of_answer({"usage": usage | {"x": "y" * 2000}}, None).provider_usage

    assert kept is not None
    assert (usage, kept) == (msgspec.json.decode(kept), cut)
    assert None is call_of_answer({"usage": {"x": "y" * 2000}}, None).provider_usage


def test_lost_calls_keep_what_they_consumed():
    """A call whose response could not be kept is `lost`, with the consumption that its response reported."""
    lost = replace(CALL, outcome="lost")

    assert [lost, lost] == as_lost([CALL, lost])
    assert CALL.consumed() == lost.consumed()


def test_total_is_the_sum_over_calls():
    """A call without a reported usage counts as one call with its images; an unanswered one as nothing."""
    calls = [
        Call(Usage(calls=1, input_tokens=5, output_tokens=3, cached_tokens=2, consistent=True), service_tier="default"),
        Call(images=2, service_tier="default"),
        Call(Usage(calls=1, input_tokens=7, derived=("output_tokens",), seconds=0.1), outcome="lost"),
        Call(Usage(calls=1, seconds=0.2), processing="batch"),
        replace(UNANSWERED, usage=Usage(calls=1, input_tokens=100), images=1),
    ]

    assert Usage(
        calls=4,
        input_tokens=12,
        output_tokens=3,
        cached_tokens=2,
        images=2,
        seconds=0.3,
        service_tier="default",
        processing="mixed",
        derived=("output_tokens",),
        consistent=True,
    ) == total(calls)
    assert Usage() == total([])


@given(st.lists(_sums, max_size=4), st.randoms())
def test_sums_depend_on_no_order(usages: list[Usage], random: object):
    """Usage sums up to the same in any order; unknown is not zero, and one contradiction is never lost."""
    shuffled = usages[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    result = sum(usages, Usage())

    assert result == sum(shuffled, Usage())
    for name in COUNTS:
        counts = [count for usage in usages if (count := getattr(usage, name)) is not None]
        assert getattr(result, name) == (sum(counts) if counts else None)
    assert (result.consistent is False) == any(usage.consistent is False for usage in usages)


@every_row("length", [1, 2, 50])
def test_a_usage_object_of_any_length_is_cut_with_little_work(length: int):
    """The first members that fit are kept: as many as possible. Those that don't fit are not tried one by one."""
    usage = {f"{number:0{length}}": 1 for number in range(20_000)}

    kept = call_of_answer({"usage": usage}, None).provider_usage

    assert count_calls(lambda: call_of_answer({"usage": usage}, None)) < 5000
    assert kept is not None
    members = json.loads(kept)
    assert list(usage.items())[: len(members)] == list(members.items())
    one_more = dict(list(usage.items())[: len(members) + 1])
    assert len(kept) <= 1024 < len(json.dumps(one_more, separators=(",", ":")))
