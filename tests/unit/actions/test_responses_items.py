"""Messages of chat completions as items of the Responses API, each checked by the types of OpenAI's own SDK."""

from __future__ import annotations

from typing import Any

import pytest

from shared.actions.responses_items import read_items
from shared.errors import InvalidJob
from tests.support.responses_types import check_item
from tests.support.rows import every_row

REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CUSTOM = {"id": "call_2", "type": "custom", "custom": {"name": "c", "input": "x"}}
BREAKPOINT = {"mode": "explicit"}


def items(*messages: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the items of messages, which the SDK's types must have, and how they were changed."""
    read, changes = read_items(messages)
    for item in read:
        check_item(item)
    return read, changes


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    """Return a user's message."""
    return {"role": "user", "content": list(parts)}


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_text_stays_where_it_is(role: str):
    """Each role has its message, in order."""
    assert ([{"role": role, "content": "A."}], []) == items({"role": role, "content": "A."})


@every_row(
    ("part", "expected"),
    [
        ({"type": "text", "text": "A."}, {"type": "input_text", "text": "A."}),
        (
            {"type": "text", "text": "A.", "prompt_cache_breakpoint": BREAKPOINT},
            {"type": "input_text", "text": "A.", "prompt_cache_breakpoint": BREAKPOINT},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://e.com/a.png"}},
            {"type": "input_image", "image_url": "https://e.com/a.png", "detail": "auto"},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "high"}},
            {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "high"},
        ),
        (
            {"type": "image_url", "image_url": "https://e.com/a.png"},
            {"type": "input_image", "image_url": "https://e.com/a.png", "detail": "auto"},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, {"type": "input_file", "file_id": "file-1"}),
    ],
)
def test_parts(part: dict[str, Any], expected: dict[str, Any]):
    """Text, pictures by URL or as data, and files have their names there."""
    assert ([{"role": "user", "content": [expected]}], []) == items(user(part))


def test_calls_and_their_results_are_items():
    """Each result is of its call's kind; what the model said before it called stays before that."""
    read, changes = items(
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL, CUSTOM]},
        {"role": "tool", "tool_call_id": "call_1", "content": "17"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "18"}]},
    )

    assert [] == changes
    assert [
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "c", "input": "x"},
        {"type": "function_call_output", "call_id": "call_1", "output": "17"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "18"}]},
    ] == read


def test_an_answer_is_sent_back_as_it_came():
    """With its reasoning, if encrypted, since nothing is stored, and with its phase. The summary is for people."""
    answer = {
        "role": "assistant",
        "content": "17.",
        "refusal": None,
        "reasoning_content": "Hm.",
        "reasoning_items": [REASONING, {"type": "reasoning", "id": "rs_2", "summary": []}],
        "phase": "final_answer",
        "annotations": [],
        "audio": None,
        "function_call": None,
    }

    assert ([REASONING, {"role": "assistant", "content": "17.", "phase": "final_answer"}], []) == items(answer)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "A"}, {"type": "refusal", "refusal": "B"}]}, "AB"),
        ({"content": None, "refusal": "No."}, "No."),
    ],
)
def test_an_answer_of_parts_is_its_text(message: dict[str, Any], text: str):
    """A refusal is what the model said."""
    assert ([{"role": "assistant", "content": text}], []) == items({"role": "assistant", **message})


def test_an_answer_of_nothing_is_no_item():
    """The API refuses one, which chat completions take."""
    assert ([], []) == items({"role": "assistant", "content": None}, {"role": "assistant", "content": ""})


def test_members_that_the_api_does_not_have_are_reported_once():
    """Names of people, above all."""
    named = {"role": "user", "content": "A.", "name": "Ada", "x": []}

    assert ["messages[].name was left out"] == items(named, named)[1]


@every_row(
    ("message", "reason"),
    [
        ({"role": "function", "content": "A."}, r"`messages\[0\]\.role` must be system"),
        (user({"type": "input_audio", "input_audio": {}}), r"`messages\[0\]\.content\[0\]` .* takes no sound"),
        (user({"type": "tool_use"}), r"has the type tool_use, .* takes text, image_url and file in a chat"),
        (user({"type": "image_url", "image_url": {}}), r"`messages\[0\]\.content\[0\]\.image_url\.url` must be"),
        ({"role": "assistant", "content": [{"type": "image_url"}]}, r"`messages\[0\]\.content\[0\]` must be a text"),
        ({"role": "assistant", "content": "", "function_call": {"name": "f"}}, r"`messages\[0\]\.function_call` can't"),
        ({"role": "assistant", "content": "", "audio": {"id": "a"}}, r"`messages\[0\]\.audio` can't be sent"),
        ({"role": "assistant", "content": "", "tool_calls": "f"}, r"`messages\[0\]\.tool_calls` must be a list"),
        *(
            (
                {"role": "assistant", "content": "", "tool_calls": [call]},
                r"`messages\[0\]\.tool_calls\[0\]` must be the call",
            )
            for call in (
                "f",
                {"type": "web_search"},
                {"type": "function", "function": {"name": "f", "arguments": {}}},
                {"type": "custom", "custom": {"input": "x"}},
            )
        ),
    ],
)
def test_what_the_api_can_not_read_is_refused_by_name(message: dict[str, Any], reason: str):
    """The job's author learns where it is."""
    with pytest.raises(InvalidJob, match=reason):
        read_items([message])
