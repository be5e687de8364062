"""Parameters of chat completions as Claude's Messages API takes them."""

from __future__ import annotations

from typing import Any

import pytest

from shared.actions.claude_request import claude_request
from shared.errors import InvalidJob
from tests.support.claude_types import check_request
from tests.support.rows import every_row

USER = [{"role": "user", "content": "Hello?"}]
TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "F.", "parameters": {"type": "object", "properties": {}}, "strict": True},
    "cache_control": {"type": "ephemeral"},
}
OWN_TOOL = {
    "name": "f",
    "description": "F.",
    "input_schema": {"type": "object", "properties": {}},
    "cache_control": {"type": "ephemeral"},
    "strict": True,
}
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}


def sent(**parameters: Any) -> tuple[dict[str, Any], list[str]]:
    """Return what is sent beside the messages, which the SDK's types must have, and how it was adapted."""
    request = claude_request(USER, parameters)
    check_request(request.body)
    return {name: value for name, value in request.body.items() if name != "messages"}, request.adapted


@every_row(
    ("parameters", "body"),
    [
        ({"temperature": 0, "top_p": 0.5, "top_k": 5}, {"temperature": 0, "top_p": 0.5, "top_k": 5}),
        ({"temperature": 1}, {"temperature": 1}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["A", "B"], "max_tokens": 5, "max_completion_tokens": 6}, {"stop_sequences": ["A", "B"]}),
        ({"tools": [TOOL]}, {"tools": [OWN_TOOL]}),
        ({"tools": [OWN_TOOL], "tool_choice": "auto"}, {"tools": [OWN_TOOL], "tool_choice": {"type": "auto"}}),
        ({"tools": [{"type": "function", "function": {"name": "g"}}]}, None),
        ({"tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        ({"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tool_choice": {"type": "any"}}, {"tool_choice": {"type": "any"}}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tool_choice": {"type": "tool", "name": "f"}},
        ),
        (
            {"tools": [TOOL], "parallel_tool_calls": False},
            {"tools": [OWN_TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        ),
        (
            {"tools": [TOOL], "parallel_tool_calls": False, "tool_choice": "none"},
            {"tools": [OWN_TOOL], "tool_choice": {"type": "none"}},
        ),
        ({"parallel_tool_calls": False}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": FORMAT}, {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
        ({"reasoning_effort": "high"}, {"output_config": {"effort": "high"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            {"reasoning_effort": "low", "output_config": {"effort": "max"}},
            {"output_config": {"effort": "max"}},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        ),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"user": "u", "safety_identifier": "s"}, {"metadata": {"user_id": "s"}}),
        ({"metadata": {"user_id": "m"}, "user": "u"}, {"metadata": {"user_id": "m"}}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral"}}),
        ({"service_tier": "standard_only"}, {"service_tier": "standard_only"}),
        *(
            ({"reasoning_effort": each}, {"output_config": {"effort": each}})
            for each in ("low", "medium", "xhigh", "max")
        ),
        ({"n": 1, "logprobs": False, "top_logprobs": 0, "modalities": ["text"], "functions": []}, {}),
        ({"stream": False, "store": False, "presence_penalty": 0, "frequency_penalty": 0}, {}),
        ({"logit_bias": {}, "seed": None}, {}),
    ],
)
def test_parameters_that_claude_has(parameters: dict[str, Any], body: dict[str, Any] | None):
    """Each is sent under Claude's name, or as it is; what asks for nothing goes without a word."""
    assert (body if body is not None else sent(**parameters)[0], []) == sent(**parameters)


def test_unknown_parameters_are_passed_on():
    """A parameter that nobody here knows is the model's."""
    assert {"x_vendor": {"a": 1}} == {
        name: value for name, value in claude_request(USER, {"x_vendor": {"a": 1}}).body.items() if name != "messages"
    }


@every_row(
    ("parameters", "adapted"),
    [
        ({"temperature": 1.5}, ["temperature became 1"]),
        ({"seed": 0, "presence_penalty": 1}, ["presence_penalty was left out", "seed was left out"]),
        ({"logit_bias": {"1": 1}, "verbosity": "low"}, ["logit_bias was left out", "verbosity was left out"]),
        ({"frequency_penalty": 1, "prediction": {}}, ["frequency_penalty was left out", "prediction was left out"]),
        ({"prompt_cache_retention": "24h"}, ["prompt_cache_retention was left out"]),
        ({"metadata": {"order": "7"}, "store": True}, ["metadata was left out", "store was left out"]),
        ({"reasoning_effort": "minimal"}, ["reasoning_effort became low"]),
        ({"max_tokens": -1}, ["max_tokens was left out"]),
        (
            {"prompt_cache_key": "k", "stream_options": {}},
            ["prompt_cache_key was left out", "stream_options was left out"],
        ),
    ],
)
def test_what_only_tunes_an_answer_is_left_out_and_reported(parameters: dict[str, Any], adapted: list[str]):
    """The job has the same answer in kind, and its result says what the request went without."""
    assert adapted == sent(**parameters)[1]


@every_row(
    ("parameters", "part"),
    [
        ({"n": 2}, "`parameters.n` must be 1"),
        ({"logprobs": True}, "`parameters.logprobs` can't be set"),
        ({"top_logprobs": 3}, "`parameters.top_logprobs` can't be set"),
        ({"modalities": ["text", "audio"]}, "`parameters.modalities` must be text"),
        ({"audio": {"voice": "alloy"}}, "`parameters.audio` can't be set"),
        ({"functions": [{"name": "f"}]}, "use `tools`"),
        ({"function_call": "auto"}, "use `tool_choice`"),
        ({"web_search_options": {}}, "`parameters.web_search_options`"),
        ({"response_format": {"type": "json_object"}}, "`parameters.response_format` must have the type text"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "with a `schema`"),
        ({"reasoning_effort": "huge"}, "`parameters.reasoning_effort` must be none, minimal"),
        ({"service_tier": "flex"}, "`parameters.service_tier` must be auto"),
        ({"stop": ["\n"]}, "`parameters.stop` can't have a text of white space"),
        ({"tools": {}}, "`parameters.tools` must be a list"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "`parameters.tools[0]` must be a function"),
        ({"tools": [{"type": "function", "function": {}}]}, "`parameters.tools[0]` must be a function with a `name`"),
        ({"tool_choice": {"type": "allowed_tools"}}, "`parameters.tool_choice` must be auto"),
        ({"tool_choice": "any"}, "`parameters.tool_choice` must be auto"),
    ],
)
def test_what_claude_cannot_do_is_refused_by_name(parameters: dict[str, Any], part: str):
    """A parameter that would change the meaning or the shape of the answer is never dropped."""
    with pytest.raises(InvalidJob) as refused:
        claude_request(USER, parameters)

    assert part in str(refused.value)


def test_claudes_own_system_parameter():
    """It is sent as it is, and is refused beside a system message, one of which would be lost."""
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]

    assert {"system": system} == sent(system=system)[0]
    with pytest.raises(InvalidJob, match=r"`parameters\.system` can't be combined"):
        claude_request([{"role": "system", "content": "x"}, *USER], {"system": system})


def test_the_jobs_own_objects_are_unchanged():
    """A job may be run again: what it says is still what its sender wrote."""
    parameters: dict[str, Any] = {"output_config": {"effort": "low"}, "response_format": FORMAT, "tools": [TOOL]}
    messages: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "a"}]} for _ in range(2)]
    before = repr((messages, parameters))

    first = claude_request(messages, parameters).body
    second = claude_request(messages, parameters).body

    assert (before, first) == (repr((messages, parameters)), second)
