"""The input of `summarize`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.names import BlobName
from shared.contract.summarize import Summarize, decode_summarize
from shared.errors import InvalidJob


def decoded(**members: Any) -> Summarize:
    """Return a decoded input with these members."""
    return decode_summarize(json.dumps(members).encode())


REFUSED = {
    "nothing": ({}, "`input` needs `text` or `blob`."),
    "both": (
        {"text": "x", "blob": "inputs/a"},
        "`input.text` and `input.blob` can't be combined: leave one of them out.",
    ),
    "blank": ({"text": " \n"}, "`input.text` must be text that is not blank."),
    "no blob name": ({"blob": "x"}, "`input.blob` must be a blob's `container/name`."),
    "style": ({"text": "x", "style": "poem"}, "`input.style` must be one of paragraph, bullets, headline."),
    "no words": ({"text": "x", "max_words": 0}, "`input.max_words`"),
    "words as text": ({"text": "x", "max_words": "9"}, "`input.max_words`"),
    "language": ({"text": "x", "language": ""}, "`input.language` must be text that is not blank."),
    "several answers": (
        {"text": "x", "parameters": {"n": 2}},
        "`input.parameters.n` can only be 1: a summary is one answer.",
    ),
    "stream": ({"text": "x", "parameters": {"stream": True}}, "`input.parameters.stream`"),
    "unknown": ({"text": "x", "tone": "dry"}, "`input.tone` is not a known member."),
}


@pytest.mark.parametrize(("members", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_input_is_refused(members: dict[str, Any], message: str):
    """An error begins with the path of the member at fault, and says what would be valid."""
    with pytest.raises(InvalidJob) as refused:
        decoded(**members)

    assert str(refused.value).startswith(message)


def test_members_are_decoded_completely():
    """Every member is decoded; one that is left out has its default."""
    assert Summarize("x", "paragraph") == decoded(text="x")
    assert Summarize(BlobName("texts", "a/n"), "headline", 9, "Dutch", "Go.", {"seed": 1}) == decoded(
        blob="texts/a/n", style="headline", max_words=9, language="Dutch", instructions="Go.", parameters={"seed": 1}
    )
