"""The inputs of `embed`, `image` and `summarize`; see the tests of `chat` and `raw` for theirs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.embed import Embed, decode_embed
from shared.contract.image import Image, decode_image
from shared.contract.names import BlobName, NamedBlob
from shared.contract.summarize import MAX_BLOBS, Summarize, decode_summarize
from shared.errors import InvalidJob

DECODERS = {"embed": decode_embed, "image": decode_image, "summarize": decode_summarize}
SMALLEST: dict[str, dict[str, Any]] = {
    "embed": {"texts": ["x"]},
    "image": {"prompt": "A cat"},
    "summarize": {"text": "x"},
}
REFUSED = {
    "embed": [
        ({"texts": []}, "`input.texts` must be a list of 1 to 2,048 items"),
        ({"texts": ["x"] * 2049}, "`input.texts` must be a list of 1 to 2,048 items"),
        ({"texts": ["x", ""]}, "`input.texts[1]` must be text that is not empty"),
        ({"texts": ["x", 3]}, "`input.texts[1]` must be a string"),
        ({"texts": "x"}, "`input.texts`"),
        ({"dimensions": 0}, "`input.dimensions`"),
        ({"format": "csv"}, "`input.format`"),
        ({"colour": 1}, "`input.colour` is not a known member"),
        ({"parameters": {"input": "x"}}, "`input.parameters.input` is not allowed: set `input.texts` instead."),
        ({"parameters": {"model": "x"}}, "`input.parameters.model` is not allowed: set the job's own `model` instead."),
        ({"dimensions": 3, "parameters": {"dimensions": 4}}, "`input.parameters.dimensions` repeats"),
    ],
    "image": [
        ({"prompt": " "}, "`input.prompt` must be text that is not blank"),
        ({"n": 0}, "`input.n`"),
        ({"n": 11}, "`input.n`"),
        ({"n": 1.5}, "`input.n`"),
        ({"size": 1024}, "`input.size`"),
        ({"colour": "red"}, "`input.colour` is not a known member"),
        ({"parameters": {"n": 2}}, "`input.parameters.n` is not allowed: set `input.n` instead."),
        ({"parameters": {"prompt": "x"}}, "`input.parameters.prompt` is not allowed: set `input.prompt` instead."),
        ({"parameters": {"model": "x"}}, "`input.parameters.model` is not allowed: set the job's own `model` instead."),
        ({"parameters": {"stream": False}}, "`input.parameters.stream`"),
        ({"size": "1x1", "parameters": {"size": "2x2"}}, "`input.parameters.size` repeats `input.size`"),
    ],
    "summarize": [
        ({"text": None}, "`input` needs `text`, `blob` or `blobs`."),
        ({"text": None, "blob": "inputs/a", "blobs": ["inputs/a"]}, "`input.blob` and `input.blobs` can't be combined"),
        ({"text": None, "blobs": []}, "`input.blobs`"),
        ({"text": None, "blobs": ["inputs/a"] * (MAX_BLOBS + 1)}, "`input.blobs`"),
        ({"text": None, "blobs": ["inputs/a", "x"]}, "`input.blobs[1]` must be a blob's `container/name`."),
        ({"blob": "inputs/a"}, "`input.text` and `input.blob` can't be combined: leave one of them out."),
        ({"text": " \n"}, "`input.text` must be text that is not blank."),
        ({"text": None, "blob": "x"}, "`input.blob` must be a blob's `container/name`."),
        ({"style": "poem"}, "`input.style` must be one of paragraph, bullets, headline."),
        ({"max_words": 0}, "`input.max_words`"),
        ({"max_words": "9"}, "`input.max_words`"),
        ({"language": ""}, "`input.language` must be text that is not blank."),
        ({"parameters": {"n": 2}}, "`input.parameters.n` can only be 1: a summary is one answer."),
        ({"parameters": {"stream": True}}, "`input.parameters.stream`"),
        ({"tone": "dry"}, "`input.tone` is not a known member."),
    ],
}


def decoded(action: str, **members: Any) -> Any:
    """Return the decoded input of an action."""
    return DECODERS[action](json.dumps(members).encode())


@pytest.mark.parametrize(
    ("action", "members", "message"), [(action, *row) for action, rows in REFUSED.items() for row in rows]
)
def test_invalid_input_is_refused(action: str, members: dict[str, Any], message: str):
    """An error begins with the path of the member at fault, and says what would be valid."""
    with pytest.raises(InvalidJob) as refused:
        decoded(action, **SMALLEST[action] | members)

    assert str(refused.value).startswith(message)


def test_members_are_decoded_completely():
    """Members become parameters or their own; unknown parameters pass through; what is left out has its default."""
    assert Embed(["x"], {}, "json") == decoded("embed", texts=["x"])
    assert Embed(["x"], {"dimensions": 3, "x-own": [1]}, "npy") == decoded(
        "embed", texts=["x"], dimensions=3, parameters={"x-own": [1]}, format="npy"
    )
    assert Image("A cat", 1, {"size": "3840x16", "quality": "hd", "x-own": [1]}) == decoded(
        "image", prompt="A cat", size="3840x16", parameters={"quality": "hd", "x-own": [1]}
    )
    assert Summarize("x", "paragraph") == decoded("summarize", text="x")
    assert Summarize(
        (NamedBlob(BlobName("texts", "a/n"), "input.blob"),), "headline", 9, "Dutch", "Go.", {"seed": 1}
    ) == decoded(
        "summarize",
        blob="texts/a/n",
        style="headline",
        max_words=9,
        language="Dutch",
        instructions="Go.",
        parameters={"seed": 1},
    )
