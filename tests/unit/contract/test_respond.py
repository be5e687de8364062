"""The input of `respond`: what is refused, and by which sentence; where blobs are named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.names import BlobName
from shared.contract.respond import MAX_BLOBS, MAX_METADATA, decode_respond
from shared.errors import InvalidJob
from tests.support.rows import every_row


def part(**members: Any) -> dict[str, Any]:
    """An input with one content part."""
    return {"input": [{"role": "user", "content": [members]}]}


@every_row(
    ("data", "sentence"),
    [
        ({}, "`input.input` is missing."),
        ({"input": ""}, "`input.input` must be"),
        ({"input": []}, "`input.input` must be"),
        ({"input": ["x"]}, "`input.input[0]` must be an object"),
        ({"input": "x", "previous_response_id": ""}, "`input.previous_response_id`"),
        ({"input": "x", "temperature": 1}, "belongs in `input.parameters`"),
        *(
            ({"input": "x", "parameters": {name: "y"}}, f"set `input.{name}` instead")
            for name in ("input", "instructions", "previous_response_id")
        ),
        ({"input": "x", "parameters": {"model": "y"}}, "set the job's own `model` instead"),
        ({"input": "x", "parameters": {"stream": True}}, "doesn't stream"),
        (
            {"input": "x", "parameters": {"background_options": {"completion_window": "2h"}}},
            "set `options.processing` to background instead",
        ),
        ({"input": "x", "parameters": {"metadata": "y"}}, "must be an object"),
        ({"input": "x", "parameters": {"metadata": {"customer_job": "y"}}}, "none of them customer_job"),
        ({"input": "x", "parameters": {"metadata": dict.fromkeys(map(str, range(16)), "y")}}, f"{MAX_METADATA} mem"),
        (part(type="input_file", blob="../x"), "`input.input[0].content[0].blob` must be a blob's"),
        (part(type="input_image", blob=7), "`input.input[0].content[0].blob` must be a blob's"),
        (
            {"input": [{"content": [{"type": "input_file", "blob": "inputs/c/x"}] * (MAX_BLOBS + 1)}]},
            f"more than {MAX_BLOBS} blobs",
        ),
    ],
    ids=str,
)
def test_what_no_response_can_be_made_of_is_refused(data: dict[str, Any], sentence: str) -> None:
    """The sentence names the member and what would be right."""
    with pytest.raises(InvalidJob) as refused:
        decode_respond(json.dumps(data).encode())
    assert sentence in str(refused.value)


def test_parts_with_blobs_are_found() -> None:
    """Of images and files alone; all else is the provider's."""
    items = [
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "x", "blob": "inputs/c/text"},
                {"type": "input_file", "blob": "inputs/c/a.pdf"},
                {"type": "input_image", "blob": "inputs/c/b.png", "detail": "low"},
                {"type": "input_image", "image_url": "https://example.com/c.png"},
                "odd",
            ],
        },
        {"role": "user", "content": "plain"},
        {"type": "function_call_output", "output": [{"type": "input_image", "blob": "inputs/c/c.png"}]},
    ]
    named = decode_respond(json.dumps({"input": items}).encode()).blobs
    assert [
        (BlobName("inputs", "c/a.pdf"), "input.input[1].content[1].blob"),
        (BlobName("inputs", "c/b.png"), "input.input[1].content[2].blob"),
        (BlobName("inputs", "c/c.png"), "input.input[3].output[0].blob"),
    ] == [(each.blob, each.at) for each in named]


@every_row(
    ("parameters", "expected"),
    [
        *(({}, True), ({"store": True}, True), ({"background": True}, True), ({"store": None}, True)),
        *(({"background": False}, False), ({"store": False}, False)),
    ],
    ids=str,
)
def test_the_background_is_the_default(parameters: dict[str, Any], *, expected: bool) -> None:
    """Unless the job asks for an answer at once, or for one that is not stored."""
    data = json.dumps({"input": "x", "parameters": parameters}).encode()
    assert expected == decode_respond(data).in_background
