"""The input of `chat`: both of its forms, its errors, its template, and complete jobs as people send them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.contract.chat import Chat, decode_chat
from shared.contract.job import decode_job
from shared.errors import InvalidJob
from tests.support.rows import every_row

GOLDEN = sorted((Path(__file__).parents[2] / "data" / "jobs").glob("*.json"))
HELLO = {"role": "user", "content": "Hello?"}


def chat(**members: Any) -> Chat:
    return decode_chat(json.dumps(members).encode())


@every_row("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_jobs_are_decoded_completely(path: Path):
    """A job as people send it yields the model's messages and parameters unchanged."""
    golden = json.loads(path.read_text(encoding="utf-8"))
    job = decode_job(json.dumps(golden["job"], ensure_ascii=False).encode(), default_id="m-1")
    assert isinstance(job.input, msgspec.Raw)

    decoded = decode_chat(job.input)

    assert golden["messages"] == decoded.messages
    assert golden["parameters"] == decoded.parameters
    assert golden["job"].get("job_id", "m-1") == job.id
    assert golden["job"].get("model") == job.model
    assert golden["job"].get("metadata", {}) == job.metadata


def test_there_are_golden_jobs():
    """The golden jobs are in the folder that the test reads."""
    assert 6 == len(GOLDEN)


def test_messages_are_passed_on():
    """The first form passes its messages on, with members that the app does not know."""
    messages = [
        {"role": "developer", "content": ""},
        HELLO | {"name": "kari", "of_the_future": [1]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "assistant"},
        {"role": "function", "name": "f", "content": None},
        {"role": "of the future", "content": [{"type": "of the future", "x": 1}]},
        {"role": "user", "content": []},
    ]

    assert Chat(messages, {}) == chat(messages=messages)


def test_prompt_follows_system_and_history():
    """The second form makes messages: system and history, if there are any, and the prompt as the user's last."""
    system, answer = {"role": "system", "content": "Be kind."}, {"role": "assistant", "content": "Hi."}

    assert [system, HELLO, answer, {"role": "user", "content": "And you?"}] == (
        chat(prompt="And you?", system="Be kind.", history=[HELLO, answer]).messages
    )
    assert [HELLO] == chat(prompt="Hello?").messages
    assert [HELLO] == chat(prompt="Hello?", history=[]).messages
    assert [HELLO] == chat(prompt="Hello?", system=None, history=None, context=None, template=None).messages


@every_row(
    ("members", "content"),
    [
        pytest.param({"context": "C"}, "C\n\nP", id="no template"),
        pytest.param({"context": ""}, "\n\nP", id="empty context"),
        pytest.param({"template": "<@@userPrompt>"}, "<P>", id="no context"),
        pytest.param({"template": "@@context|@@userPrompt"}, "|P", id="placeholder of a missing context"),
        pytest.param({"template": "@@userPrompt/@@context", "context": "C"}, "P/C", id="other order"),
        pytest.param({"template": "@@userPrompt @@userPrompt"}, "P P", id="twice"),
        pytest.param({"template": "@@UserPrompt @@userPrompt"}, "@@UserPrompt P", id="case"),
    ],
)
def test_template_is_filled(members: dict[str, Any], content: str):
    """Context and prompt replace their placeholders in one pass; other text stays as it is."""
    assert [{"role": "user", "content": content}] == chat(prompt="P", **members).messages


ROLE = "must be a string such as system, user or assistant."
MESSAGE = "must be an object with `role` and `content`."
PART = "must be a content part: an object with a `type`."
PROMPTS = "must be text that contains @@userPrompt."


@every_row(
    ("members", "member", "rule"),
    [
        ({}, "", "needs `messages` or `prompt`."),
        ({"system": "Be kind."}, "", "needs `messages` or `prompt`."),
        ({"messages": None, "prompt": None}, "", "needs `messages` or `prompt`."),
        ({"prompt": ""}, ".prompt", "must be text that is not blank."),
        ({"prompt": " \n\t"}, ".prompt", "must be text that is not blank."),
        ({"prompt": 3}, ".prompt", "must be a string or null, not a whole number."),
        ({"prompt": "P", "system": []}, ".system", "must be a string or null, not a list."),
        ({"prompt": "P", "context": {}}, ".context", "must be a string or null, not an object."),
        ({"prompt": "P", "history": "x"}, ".history", "must be a list or null, not a string."),
        (
            {"prompt": "P", "temperature": 1},
            ".temperature",
            "is not a known member. A parameter of the model belongs in `input.parameters`.",
        ),
        ({"messages": []}, ".messages", "must be a list of at least one message."),
        ({"messages": HELLO}, ".messages", "must be a list or null, not an object."),
        ({"messages": ["x"]}, ".messages[0]", MESSAGE),
        ({"messages": [HELLO, None]}, ".messages[1]", MESSAGE),
        ({"prompt": "P", "history": [7]}, ".history[0]", MESSAGE),
        ({"messages": [{"content": "x"}]}, ".messages[0].role", ROLE),
        ({"messages": [HELLO, HELLO, {"role": 1, "content": "x"}]}, ".messages[2].role", ROLE),
        ({"messages": [{"role": "user"}]}, ".messages[0].content", "is missing."),
        ({"messages": [{"role": "tool", "content": None}]}, ".messages[0].content", "is missing."),
        ({"prompt": "P", "history": [HELLO, {"role": "user"}]}, ".history[1].content", "is missing."),
        (
            {"messages": [{"role": "user", "content": {"type": "text"}}]},
            ".messages[0].content",
            "must be a string or a list of content parts.",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}, "y"]}]}, ".messages[0].content[1]", PART),
        ({"messages": [{"role": "assistant", "content": [{"text": "x"}]}]}, ".messages[0].content[0]", PART),
        ({"prompt": "P", "template": "@@context"}, ".template", PROMPTS),
        ({"prompt": "P", "template": ""}, ".template", PROMPTS),
        (
            {"prompt": "P", "template": "@@userPrompt", "context": "C"},
            ".template",
            "must contain @@context, because `input.context` is set.",
        ),
        ({"prompt": "P", "parameters": None}, ".parameters", "must be an object, not null."),
        (
            {"prompt": "P", "parameters": {"model": "x"}},
            ".parameters.model",
            "is not allowed: set the job's own `model` instead.",
        ),
        (
            {"prompt": "P", "parameters": {"messages": []}},
            ".parameters.messages",
            "is not allowed: set `input.messages` instead.",
        ),
        (
            {"prompt": "P", "parameters": {"stream": True}},
            ".parameters.stream",
            "can't be true: a job doesn't stream its result.",
        ),
        *(
            (
                {"messages": [HELLO], name: [] if name == "history" else "@@userPrompt"},
                f".{name}",
                "belongs to `prompt` and can't be combined with `messages`.",
            )
            for name in ("prompt", "system", "history", "context", "template")
        ),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_errors_name_the_member_and_its_rule(members: dict[str, Any], member: str, rule: str):
    """An invalid chat is refused with the path of the member at fault and what would be right."""
    with pytest.raises(InvalidJob) as raised:
        chat(**members)

    assert f"`input{member}` {rule}" == str(raised.value)


@every_row(
    ("data", "message"),
    [
        (b"", "`input` is not valid JSON: it ends too early, or a string contains half a surrogate pair."),
        (b"[]", "`input` must be an object, not a list."),
        (b'{"prompt": "\xff"}', "`input` is not valid UTF-8 (byte 0 of a string)."),
        (b'\xef\xbb\xbf{"prompt": "x"}', "`input` begins with a byte order mark: leave it out."),
        (b'{"messages": ' + b"[" * 50_000, "`input` is nested too deeply."),
        (b'{"prompt": "x"} x', "`input` is not valid JSON: trailing characters (byte 17)."),
    ],
    ids=["empty", "list", "UTF-8", "BOM", "deep", "trailing"],
)
def test_input_from_a_blob_is_checked(data: bytes, message: str):
    """The bytes of an input, which may come from a blob unchecked, are refused as an input."""
    with pytest.raises(InvalidJob) as raised:
        decode_chat(data)

    assert message == str(raised.value)


def test_parameters_are_passed_on_unchanged():
    """Parameters stay as they are, whatever their names, and none is added."""
    parameters = {
        "temperature": 0,
        "top_p": 1.0,
        "n": 3,
        "stream": False,
        "seed": 2**63,
        "stop": None,
        "response_format": {"type": "json_object"},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}],
        "of_the_future": {"": [[], {}, None, False, "é", 1e-9]},
    }

    assert parameters == chat(prompt="P", parameters=parameters).parameters
    assert parameters == chat(messages=[HELLO], parameters=parameters).parameters
    assert {} == chat(prompt="P").parameters
