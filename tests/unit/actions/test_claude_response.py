"""Answers of Claude's as chat completions, each checked by the types of both providers' SDKs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.chat import parse_chat
from shared.actions.claude_messages import read_conversation
from shared.actions.claude_response import as_completion
from shared.billing.usage import call_of_answer
from shared.contract.decoding import json_object
from shared.errors import ContentFiltered, ProviderUnavailable
from shared.upstream.messages import Response
from tests.support.memory_context import response
from tests.support.rows import every_row
from tests.support.sdk_types import sdk_type

USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 30,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
    "output_tokens": 7,
    "output_tokens_details": {"thinking_tokens": 3},
    "service_tier": "priority",
}
TEXT = {"type": "text", "text": "Hello.", "citations": None}
USE = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome", "days": [1, None]}}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "s"}


def message(*blocks: dict[str, Any], stop_reason: str | None = "end_turn", **more: Any) -> dict[str, Any]:
    """Return a message, which must be one of the SDK's."""
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": list(blocks),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": USAGE,
    } | more
    sdk_type("anthropic", "Message").model_validate(body)
    return body


def completed(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the body of the chat completion that a message becomes."""
    return json_object(as_completion(response(message(*blocks, **more))).body)


def test_an_answer_has_the_shape_of_openais():
    """Text, calls and thinking stand apart; OpenAI's own type takes it, but for the date, which Claude doesn't say."""
    body = completed(THINKING, TEXT, {"type": "text", "text": " Wait."}, USE, stop_reason="tool_use")

    choice = body["choices"][0]
    assert "Hello. Wait." == choice["message"]["content"]
    assert ("tool_calls", "tool_use") == (choice["finish_reason"], choice["stop_reason"])
    call = choice["message"]["tool_calls"][0]
    assert ("toolu_1", "function", "get_weather") == (call["id"], call["type"], call["function"]["name"])
    assert USE["input"] == json.loads(call["function"]["arguments"])
    assert ("Hm.", [THINKING]) == (choice["message"]["reasoning_content"], choice["message"]["thinking_blocks"])
    assert "content_blocks" not in choice["message"]
    sdk_type("openai", "chat.ChatCompletion").model_validate(body | {"created": 0, "usage": None})


@pytest.mark.parametrize(
    "blocks", [[THINKING, TEXT, THINKING, USE], [USE, TEXT], [TEXT, THINKING]], ids=["between", "after", "last"]
)
def test_what_stands_between_other_blocks_stays_there(blocks: list[dict[str, Any]]):
    """Claude takes thinking back only where it was. So the message has its blocks as they came, too."""
    answer = completed(*blocks)["choices"][0]["message"]

    assert blocks == answer["content_blocks"]
    assert [{"role": "assistant", "content": blocks}] == read_conversation([answer]).messages


def test_an_answer_has_nothing_that_it_does_not_need():
    """Text alone is a message as OpenAI sends it: without calls, thoughts or blocks, and without an error."""
    body = completed(TEXT)

    assert {"role": "assistant", "content": "Hello."} == body["choices"][0]["message"]
    assert {"id", "model", "usage", "object", "choices"} == set(body)


def test_an_error_beside_the_answer_is_the_outcomes():
    """As gateways send it, with status 200."""
    error = {"type": "overloaded_error", "message": "The kitchen burns."}
    body = {"type": "message", "role": "assistant", "content": [], "error": error}

    outcome = parse_chat(as_completion(response(body)))

    assert "failed" == outcome.status
    assert "The kitchen burns." in str(outcome.error)


def test_usage_is_everything_that_went_in_with_cache_writes_by_life():
    """The record keeps Anthropic's own object, and its input counts what the cache read and wrote."""
    outcome = parse_chat(as_completion(response(message(TEXT))))

    (call,) = outcome.calls
    usage = call.consumed()
    assert (140, 100, 20, 10) == (
        usage.input_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.cache_write_long_tokens,
    )
    assert (7, 3, None, True) == (usage.output_tokens, usage.reasoning_tokens, usage.total_tokens, usage.consistent)
    assert ("priority", "claude-sonnet-4-5", USAGE) == (
        call.service_tier,
        call.model,
        json.loads(call.provider_usage or b""),
    )
    assert call == call_of_answer(message(TEXT), "req-1")


@every_row(
    ("reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
        (None, None),
    ],
)
def test_reasons(reason: str | None, finish_reason: str | None):
    """Each of the SDK's reasons has OpenAI's word, but for a pause, of which OpenAI knows nothing."""
    assert finish_reason == completed(TEXT, stop_reason=reason)["choices"][0]["finish_reason"]


def test_a_refusal_is_content_filtered_and_billed():
    """The error keeps what Anthropic says of it."""
    details = {"type": "refusal", "category": "cyber", "explanation": "No."}
    outcome = parse_chat(as_completion(response(message(stop_reason="refusal", stop_details=details))))

    assert ("failed", 1) == (outcome.status, len(outcome.calls))
    assert isinstance(outcome.error, ContentFiltered)
    assert {"content_filter_result": details} == outcome.error.facts.detail
    assert outcome.output is not None
    assert outcome.output["text"] is None


def test_stop_sequence_is_shown():
    """Which of the job's stops ended the answer; OpenAI's answers don't say."""
    choice = completed(TEXT, stop_reason="stop_sequence", stop_sequence="END")["choices"][0]

    assert ("stop", "END") == (choice["finish_reason"], choice["stop_sequence"])


def test_blocks_that_a_completion_has_no_place_for_are_kept_whole():
    """Server tools, and the sources of a text."""
    used = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}

    assert [used, TEXT] == completed(used, TEXT)["choices"][0]["message"]["content_blocks"]


@every_row(
    "body",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        {"content": "text"},
        {"content": [1]},
        {"choices": []},
        b"<html>",
    ],
)
def test_what_is_no_answer_stays_as_it_is(body: Any):
    """It fails the job as it would at any other endpoint, and the call is on record."""
    received = response(body)

    assert received is as_completion(received)
    outcome = parse_chat(as_completion(received))
    assert ("failed", 1) == (outcome.status, len(outcome.calls))
    assert isinstance(outcome.error, ProviderUnavailable)


arguments = st.dictionaries(
    st.text(max_size=3),
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**53), 2**53),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=3),
        ),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
uses = st.builds(
    lambda n, value: {"type": "tool_use", "id": f"t{n}", "name": "f", "input": value}, st.integers(0, 9), arguments
)


def _has_no_white_end(text: str) -> bool:
    return text == text.rstrip()


@given(
    st.lists(st.builds(lambda thought: {"type": "thinking", "thinking": thought, "signature": "s"}, texts), max_size=2),
    st.lists(st.builds(lambda written: {"type": "text", "text": written}, texts.filter(_has_no_white_end)), max_size=1),
    st.lists(uses, max_size=2),
)
def test_an_answer_that_is_sent_back_is_the_same_answer(
    thoughts: list[dict[str, Any]], written: list[dict[str, Any]], calls: list[dict[str, Any]]
):
    """
    A job's output, as the next job's message, becomes Claude's blocks as they came: nothing is lost either way, but
    white space that Claude doesn't take at its end.
    """
    blocks = [*thoughts, *written, *calls]
    body = json_object(as_completion(Response(200, {}, json.dumps({"content": blocks}).encode(), None)).body)

    returned = read_conversation([{"role": "user", "content": "x"}, body["choices"][0]["message"]])

    assert blocks == (returned.messages[1]["content"] if blocks else [])
