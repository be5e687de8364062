"""Whatever a job says and whatever an endpoint answers: a request, an answer, or a sentence; never an exception."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.chat import parse_chat
from shared.actions.claude_request import claude_request
from shared.actions.claude_response import as_completion
from shared.contract.chat import check_messages, check_parameters
from shared.errors import InvalidJob
from tests.support.memory_context import response

TYPES = [
    *("text", "image_url", "file", "refusal", "input_audio", "tool_use", "tool_result", "thinking", "function"),
    *("custom", "json_schema", "json_object", "auto", "any", "tool", "enabled", "redacted_thinking", "image"),
]
words = st.sampled_from(["", " ", "text", "none", "high", "data:image/png;base64,AA==", "data:,x", "https://e.com/a"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.floats(allow_nan=False, width=16), words)
names = st.sampled_from(
    [
        *(
            "text",
            "image_url",
            "url",
            "detail",
            "file",
            "file_data",
            "filename",
            "refusal",
            "cache_control",
            "function",
        ),
        *(
            "name",
            "arguments",
            "parameters",
            "schema",
            "json_schema",
            "input",
            "id",
            "content",
            "citations",
            "thinking",
        ),
        *("budget_tokens", "user_id", "effort", "custom", "input_schema"),
    ]
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(names, inner, max_size=3),
        st.builds(
            lambda kind, members: {"type": kind, **members},
            st.sampled_from(TYPES),
            st.dictionaries(names, inner, max_size=3),
        ),
    ),
    max_leaves=6,
)
parts = st.builds(
    lambda kind, members: {"type": kind, **members}, st.sampled_from(TYPES), st.dictionaries(names, values, max_size=3)
)
members = st.sampled_from(
    [
        *("tool_calls", "tool_call_id", "name", "refusal", "thinking_blocks", "content_blocks", "cache_control"),
        *("function_call", "audio", "is_error", "x"),
    ]
)
messages = st.builds(
    lambda role, content, more: {"role": role, "content": content, **more},
    st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", ""]),
    st.one_of(st.none(), words, st.lists(parts, max_size=3)),
    st.dictionaries(members, values, max_size=2),
)
parameters = st.dictionaries(
    st.sampled_from(
        [
            *(
                "temperature",
                "top_p",
                "top_k",
                "n",
                "stop",
                "max_tokens",
                "max_completion_tokens",
                "tools",
                "tool_choice",
            ),
            *("parallel_tool_calls", "response_format", "reasoning_effort", "thinking", "user", "metadata", "seed"),
            *("service_tier", "output_config", "logprobs", "logit_bias", "modalities", "system", "stop_sequences", "x"),
        ]
    ),
    st.one_of(values, st.lists(parts, max_size=2)),
    max_size=4,
)


@given(st.lists(messages, min_size=1, max_size=4), parameters)
def test_any_chat_is_a_request_or_is_refused(conversation: list[dict[str, Any]], settings: dict[str, Any]):
    """What the contract takes becomes JSON for Claude, or InvalidJob says why not."""
    with suppress(InvalidJob):
        check_messages(conversation, at="input.messages")
        check_parameters(settings)
        request = claude_request(conversation, settings)

        assert json.loads(msgspec.json.encode(request.body)).keys() == request.body.keys()
        assert request.body["messages"] or conversation


bodies = st.dictionaries(
    st.sampled_from(
        ["content", "stop_reason", "stop_sequence", "stop_details", "usage", "model", "id", "error", "type"]
    ),
    st.one_of(values, st.lists(parts, max_size=3), st.lists(st.dictionaries(st.just("type"), values), max_size=2)),
)


@given(bodies)
def test_any_answer_ends_the_job(body: dict[str, Any]):
    """An answer that was paid for has an outcome and one call on record, however little it is what Claude answers."""
    outcome = parse_chat(as_completion(response(body)))

    assert outcome.status in {"succeeded", "partial", "failed"}
    assert 1 == len(outcome.calls)
