"""The hint of a refused member: where it belongs, by the contract's own types."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from shared.actions.base import action_named
from shared.contract.connection import ConnectionRecord, decode_connection
from shared.contract.inputs import INPUTS
from shared.contract.job import Job, Options, Output, decode_job
from shared.errors import ConnectionInvalid, InvalidJob
from shared.jobs.envelope import decode_queued_job
from tests.support.rows import every_row

SMALLEST: dict[str, dict[str, Any]] = {
    "chat": {"prompt": "x"},
    "multi_chat": {"prompts": ["x"]},
    "image": {"prompt": "x"},
    "summarize": {"text": "x"},
    "embed": {"texts": ["x"]},
    "raw": {"path": "x"},
    "edit_image": {"images": ["inputs/c/a.png"], "prompt": "x"},
    "transcribe": {"blob": "inputs/c/a.mp3"},
    "speak": {"text": "x", "voice": "alloy"},
    "respond": {"input": "x"},
}
OUTSIDE: dict[str, type[msgspec.Struct]] = {"": Job, "options": Options, "output": Output}


@functools.cache
def names(struct: type[msgspec.Struct]) -> set[str]:
    """The names of a type's members."""
    return {field.encode_name for field in msgspec.structs.fields(struct)}


def refusal_of_job(at: str, name: str, action: str = "chat") -> str:
    """Why a job with this unknown member is refused."""
    job: dict[str, Any] = {"customer": "c", "action": action, "input": SMALLEST[action]}
    job.setdefault(at, {})[name] = 1
    if not at:
        job |= job.pop("")
    with pytest.raises(InvalidJob) as refused:
        decode_job(json.dumps(job).encode(), default_id="x")
    return str(refused.value)


def refusal_of_input(action: str, members: dict[str, Any]) -> str:
    """Why an input with these members is refused."""
    with pytest.raises(InvalidJob) as refused:
        action_named(action).decode(json.dumps(SMALLEST[action] | members).encode())
    return str(refused.value)


def misplaced() -> Iterator[tuple[str, str, str]]:
    """Each member of a job outside `input`, in each other place, with its own path."""
    for owner, struct in OUTSIDE.items():
        for folder, other in OUTSIDE.items():
            for name in names(struct) - names(other):
                yield folder, name, f"{owner}.{name}".lstrip(".")


@every_row(("folder", "name", "path"), sorted(misplaced()))
def test_members_outside_input_are_sent_to_their_place(folder: str, name: str, path: str):
    """A member that stands in the wrong object of a job is refused with the path where it belongs."""
    assert refusal_of_job(folder, name).endswith((f" `{path}`.", f" `{path}`?"))


@every_row("action", INPUTS)
def test_members_of_the_input_are_sent_there(action: str):
    """A member of the action's input that stands beside `input`, or in its `options`, belongs in `input`."""
    for name in names(INPUTS[action]) - names(Job) - names(Options) - names(Output):
        assert refusal_of_job("", name, action).endswith(f"It belongs in `input.{name}`.")
        assert refusal_of_job("options", name, action).endswith(f"It belongs in `input.{name}`.")


@every_row("action", INPUTS)
def test_members_within_input_are_sent_out_of_it(action: str):
    """A member of the job, its options or its output that stands in `input` is sent to its own path."""
    for at, struct in OUTSIDE.items():
        for name in names(struct) - names(INPUTS[action]) - {"input"}:
            path = f"{at}.{name}".lstrip(".")
            assert f"`{path}`." in refusal_of_input(action, {name: 1})


@every_row("action", INPUTS)
def test_members_of_other_actions_name_them(action: str):
    """What only another action's input has is said to belong to that action."""
    outside = set().union(*map(names, OUTSIDE.values()))
    others = set().union(*(names(kind) for kind in INPUTS.values())) - names(INPUTS[action]) - outside
    for name in others:
        owners = [other for other, kind in INPUTS.items() if name in names(kind)]
        refusal = refusal_of_input(action, {name: 1})
        assert any(f"It belongs to the action {owner}." in refusal for owner in owners)


def other_spellings(name: str) -> list[str]:
    """The name in the spellings of other languages."""
    first, *rest = name.split("_")
    camel = first + "".join(map(str.capitalize, rest))
    return [camel, camel[:1].upper() + camel[1:], name.replace("_", "-"), name.upper()]


@every_row("struct", [*OUTSIDE.values(), *INPUTS.values(), ConnectionRecord])
def test_other_spellings_are_recognised(struct: type[msgspec.Struct]):
    """A member in camel case, in capitals or with hyphens is refused with its own spelling."""
    at = next((at for at, kind in OUTSIDE.items() if kind is struct), "input" if struct in INPUTS.values() else "")
    for name in names(struct):
        for spelling in set(other_spellings(name)) - {name}:
            if struct is ConnectionRecord:
                with pytest.raises(ConnectionInvalid) as invalid:
                    decode_connection(json.dumps({"api_key": "k", spelling: "x"}))
                refusal = str(invalid.value)
            elif at == "input":
                action = next(action for action, kind in INPUTS.items() if kind is struct)
                refusal = refusal_of_input(action, {spelling: 1})
            else:
                refusal = refusal_of_job(at, spelling)
            assert refusal.endswith(f"Did you mean `{f'{at}.{name}'.lstrip('.')}`?")


PARAMETERS = "A parameter of the model belongs in `input.parameters`"
BODY = "A member of the request's body belongs in `input.json`."


@every_row(
    ("action", "members", "hint"),
    [
        *(
            (action, {name: 1}, f"{PARAMETERS}.")
            for action in INPUTS
            for name in ("temperature", "max_tokens", "response_format", "user")
            if action != "raw" and (action, name) != ("transcribe", "response_format")
        ),
        ("raw", {"temperature": 1}, BODY),
        ("raw", {"model": "gpt"}, f"It belongs in the job's own `model`. {BODY}"),
        ("raw", {"messages": []}, f"It belongs to the action chat. {BODY}"),
        ("chat", {"n": 1}, f"It belongs to the action image. {PARAMETERS}."),
        ("embed", {"input": "x"}, "Did you mean `input.texts`?"),
        ("respond", {"messages": []}, f"It belongs to the action chat. {PARAMETERS}."),
        ("edit_image", {"image": "x"}, "Did you mean `input.images`?"),
        ("transcribe", {"file": "x"}, "Did you mean `input.blob`?"),
        ("speak", {"input": "x"}, "Did you mean `input.text`?"),
        ("chat", {"input": "x"}, "Did you mean `input.messages`?"),
        ("chat", {"promt": "x"}, "Did you mean `input.prompt`?"),
        ("raw", {"body": {}}, "Did you mean `input.json`?"),
        ("raw", {"files": {"a": {"content": "", "name": "x"}}}, "Did you mean `input.files.a.filename`?"),
        ("raw", {"files": {"a": ["", {"contentType": "x"}]}}, "Did you mean `input.files.a[1].content_type`?"),
        ("raw", {"files": {"a": {"content": "", "mime_type": "x"}}}, "Did you mean `input.files.a.content_type`?"),
        ("raw", {"data": {"a": 1}}, "must be a string, not an object. JSON belongs in `input.json`."),
        ("raw", {"data": [1]}, "must be a string, not a list. JSON belongs in `input.json`."),
        ("raw", {"data": 1}, "must be a string, not a whole number."),
        ("raw", {"path": {}}, "must be a string, not an object."),
        ("raw", {"form": {"a": {}}}, "must be a string or a list, not an object."),
    ],
)
def test_hints_for_inputs(action: str, members: dict[str, Any], hint: str):
    """What no type knows is a parameter of the model, or of the request's body; other APIs' names are recognised."""
    assert refusal_of_input(action, members).endswith(hint)


@every_row(
    ("at", "name", "hint"),
    [
        ("", "temperature", f"{PARAMETERS}, a note of your own in `metadata`."),
        ("", "id", "Did you mean `job_id`?"),
        ("", "customer_id", "Did you mean `customer`?"),
        ("", "deployment", "Did you mean `model`?"),
        ("", "callbackUrl", "Did you mean `output.callback`?"),
        ("", "retries", "Did you mean `options.max_retries`?"),
        ("", "_envelope", "is not a known member."),
        ("", "n" * 101, "is not a known member."),
        ("options", "temperature", f"{PARAMETERS}."),
        ("output", "webhook_url", "Did you mean `output.callback`?"),
        ("output", "url", "Did you mean `output.callback`?"),
        ("output", "topic", "`output.topic` is not a known member."),
    ],
)
def test_hints_for_jobs(at: str, name: str, hint: str):
    """Names much like a member's are recognised; a name that says nothing has no hint."""
    assert refusal_of_job(at, name).endswith(hint)


@every_row("name", ["temperature", "jobId", "callback", "retries", "prompt"])
def test_jobs_in_the_queue_have_the_same_hints(name: str):
    """A job in the queue, which may have an envelope, is refused in the words for a job over HTTP."""
    job = {"customer": "c", "action": "chat", "input": {"prompt": "x"}, name: 1}

    with pytest.raises(InvalidJob) as refused:
        decode_queued_job(json.dumps(job).encode(), default_id="x")

    assert refusal_of_job("", name) == str(refused.value)


@every_row(
    ("name", "hint"),
    [("base_url", "endpoint"), ("key", "api_key"), ("deployment", "default_model"), ("apiVersion", "api_version")],
)
def test_hints_for_connections(name: str, hint: str):
    """A connection's members have hints, too, which quote nothing of its secret."""
    with pytest.raises(ConnectionInvalid) as invalid:
        decode_connection(json.dumps({"api_key": "MARK", name: "MARK"}))

    assert str(invalid.value).endswith(f"`{name}` is not a known member. Did you mean `{hint}`?")
    assert "MARK" not in str(invalid.value)
