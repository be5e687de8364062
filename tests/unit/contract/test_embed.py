"""The input of `embed`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.embed import Embed, decode_embed
from shared.errors import InvalidJob


def decoded(**members: Any) -> Embed:
    """Return a decoded input with these members."""
    return decode_embed(json.dumps({"texts": ["x"]} | members).encode())


@pytest.mark.parametrize(
    ("members", "message"),
    [
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
)
def test_invalid_input_is_refused(members: dict[str, Any], message: str):
    """An error begins with the path of the member at fault."""
    with pytest.raises(InvalidJob) as refused:
        decoded(**members)

    assert str(refused.value).startswith(message)


def test_dimensions_are_a_parameter():
    """`dimensions` is sent with the other parameters, which pass through."""
    assert Embed(["x"], {}, "json") == decoded()
    assert Embed(["x"], {"dimensions": 3, "x-own": [1]}, "npy") == decoded(
        dimensions=3, parameters={"x-own": [1]}, format="npy"
    )
