"""Parameters of chat completions as the Responses API takes them, each checked by the types of OpenAI's own SDK."""

from __future__ import annotations

from typing import Any

import pytest

from shared.actions.responses_request import MAX_COUNT, responses_request
from shared.errors import InvalidJob
from tests.support.responses_types import check_request
from tests.support.rows import every_row

USER = [{"role": "user", "content": "Hello?"}]
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": SCHEMA, "strict": True}}
OWN_TOOL = {"type": "function", "name": "f", "description": "F.", "parameters": SCHEMA, "strict": True}
GRAMMAR = {"definition": "a", "syntax": "regex"}
FORMAT = {"name": "a", "strict": True, "schema": SCHEMA, "description": "A."}


def sent(**parameters: Any) -> tuple[dict[str, Any], list[str]]:
    """Return what is sent beside the messages, which the SDK's types must have, and how it was adapted."""
    request = responses_request(USER, parameters)
    check_request(request.body)
    assert USER == request.body["input"]
    assert request.body["store"] is False
    return {name: value for name, value in request.body.items() if name not in {"input", "store"}}, request.adapted


@every_row(
    ("parameters", "body"),
    [
        ({}, {}),
        ({"temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": 0.5}),
        ({"max_completion_tokens": 99}, {"max_output_tokens": 99}),
        ({"max_tokens": 99}, {"max_output_tokens": 99}),
        ({"max_tokens": 99, "max_completion_tokens": 98}, {"max_output_tokens": 98}),
        ({"tools": [TOOL]}, {"tools": [OWN_TOOL]}),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            {
                "tools": [
                    {
                        "type": "function",
                        "name": "f",
                        "parameters": {"type": "object", "properties": {}},
                        "strict": False,
                    }
                ]
            },
        ),
        (
            {"tools": [{"type": "custom", "custom": {"name": "c", "description": "C.", "format": {"type": "text"}}}]},
            {"tools": [{"type": "custom", "name": "c", "description": "C.", "format": {"type": "text"}}]},
        ),
        (
            {"tools": [{"type": "custom", "custom": {"name": "c", "format": {"type": "grammar", "grammar": GRAMMAR}}}]},
            {"tools": [{"type": "custom", "name": "c", "format": {"type": "grammar", **GRAMMAR}}]},
        ),
        *(({"tool_choice": word}, {"tool_choice": word}) for word in ("auto", "none", "required")),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tool_choice": {"type": "function", "name": "f"}},
        ),
        (
            {"tool_choice": {"type": "custom", "custom": {"name": "c"}}},
            {"tool_choice": {"type": "custom", "name": "c"}},
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": "f"}}],
                    },
                }
            },
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "f"}],
                }
            },
        ),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"response_format": {"type": "text"}}, {"text": {"format": {"type": "text"}}}),
        ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
        (
            {"response_format": {"type": "json_schema", "json_schema": FORMAT}, "verbosity": "low"},
            {"text": {"format": {"type": "json_schema", **FORMAT}, "verbosity": "low"}},
        ),
        ({"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}),
        (
            {"reasoning_effort": "low", "reasoning": {"summary": "auto"}},
            {"reasoning": {"effort": "low", "summary": "auto"}},
        ),
        ({"verbosity": "low", "text": {"verbosity": "high"}}, {"text": {"verbosity": "high"}}),
        ({"user": "u", "safety_identifier": "s"}, {"user": "u", "safety_identifier": "s"}),
        ({"metadata": {"order": "1"}}, {"metadata": {"order": "1"}}),
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        (
            {"prompt_cache_key": "k", "prompt_cache_retention": "24h"},
            {"prompt_cache_key": "k", "prompt_cache_retention": "24h"},
        ),
        (
            {"prompt_cache_options": {"mode": "explicit", "ttl": "30m", "comparison_response_id": "resp_1"}},
            {"prompt_cache_options": {"mode": "explicit", "ttl": "30m"}},
        ),
        ({"include": ["reasoning.encrypted_content"]}, {"include": ["reasoning.encrypted_content"]}),
        ({"n": 1, "logprobs": False, "stream": False, "presence_penalty": 0, "logit_bias": {}, "seed": None}, {}),
        ({"store": False, "modalities": ["text"], "functions": [], "stop": None, "top_logprobs": 0}, {}),
    ],
)
def test_parameters_that_the_api_has(parameters: dict[str, Any], body: dict[str, Any]):
    """Each is sent under its name there; what asks for nothing goes without a word."""
    assert (body, []) == sent(**parameters)


@every_row(
    ("parameters", "adapted"),
    [
        ({"seed": 0, "presence_penalty": 1}, ["presence_penalty was left out", "seed was left out"]),
        (
            {"frequency_penalty": 1, "logit_bias": {"1": 1}},
            ["frequency_penalty was left out", "logit_bias was left out"],
        ),
        ({"logprobs": True, "top_logprobs": 2}, ["logprobs was left out", "top_logprobs was left out"]),
        ({"store": True, "stream_options": {}}, ["store was left out", "stream_options was left out"]),
        ({"prediction": {"type": "content", "content": "a"}}, ["prediction was left out"]),
        ({"max_tokens": -1}, ["max_tokens was left out"]),
        ({"n": 3}, ["n became 1, in 3 calls"]),
        ({"stop": "END"}, ["stop was looked for in the whole answer"]),
    ],
)
def test_what_the_api_does_not_have_is_left_out_and_reported(parameters: dict[str, Any], adapted: list[str]):
    """It only tunes an answer; or the app does it in the API's place."""
    assert ({}, adapted) == sent(**parameters)


def test_a_limit_that_is_too_low_is_raised_unless_a_budget_counts_on_it():
    """The API takes 16 tokens at least."""
    assert ({"max_output_tokens": 16}, ["max_completion_tokens became 16"]) == sent(max_completion_tokens=3)
    budgeted = responses_request(USER, {"max_tokens": 3}, raise_limit=False)
    assert (3, []) == (budgeted.body["max_output_tokens"], budgeted.adapted)


def test_count_and_stops_are_the_apps():
    """Neither is sent: they say how many calls are made, and where their answers end."""
    request = responses_request(USER, {"n": 2, "stop": ["a", "b"]})

    assert (2, ("a", "b"), {"input", "store"}) == (request.count, request.stops, request.body.keys())


@every_row(
    ("parameters", "message"),
    [
        ({"audio": {"voice": "alloy"}}, r"`parameters\.audio` can't be set: .* answers in text"),
        ({"modalities": ["text", "audio"]}, r"`parameters\.modalities` must be text alone"),
        ({"functions": [{"name": "f"}]}, "use `tools`"),
        ({"function_call": "auto"}, "use `tool_choice`"),
        ({"web_search_options": {}}, "the action respond has tools that search"),
        ({"n": 0}, f"`parameters.n` must be a whole number from 1 to {MAX_COUNT}"),
        ({"n": MAX_COUNT + 1}, "must be a whole number"),
        ({"n": True}, "must be a whole number"),
        ({"stop": ""}, r"`parameters\.stop` must be"),
        ({"stop": [1]}, r"`parameters\.stop` must be"),
        ({"response_format": "json"}, r"`parameters\.response_format` must have the type"),
        ({"response_format": {"type": "json_schema"}}, r"`parameters\.response_format` must have the type"),
        ({"tools": {}}, r"`parameters\.tools` must be a list"),
        ({"tools": [{"type": "web_search"}]}, r"`parameters\.tools\[0\]` must be a function .* The action respond"),
        ({"tools": [{"type": "function", "function": {}}]}, r"`parameters\.tools\[0\]` must be a function"),
        ({"tools": ["f"]}, r"`parameters\.tools\[0\]` must be a function"),
        ({"tool_choice": "any"}, r"`parameters\.tool_choice` must be auto"),
        ({"tool_choice": {"type": "file_search"}}, r"`parameters\.tool_choice` must be auto"),
        ({"reasoning": "high"}, r"`parameters\.reasoning` must be an object"),
        ({"text": 1}, r"`parameters\.text` must be an object"),
        # These reach what others have stored in the same account, or wait for what nobody looks at.
        *(
            ({name: "resp_1"}, rf"`parameters\.{name}` can't be set")
            for name in ("previous_response_id", "conversation", "prompt", "input", "instructions", "background")
        ),
        ({"max_output_tokens": 10**6}, r"`parameters\.max_output_tokens` can't be set"),
        ({"x" * 99: 1}, rf"`parameters\.{'x' * 60}` can't be set"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(parameters: dict[str, Any], message: str):
    """The job's author learns what to change."""
    with pytest.raises(InvalidJob, match=message):
        responses_request(USER, parameters)
