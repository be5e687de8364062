"""The input of `image`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.image import Image, decode_image
from shared.errors import InvalidJob


def decoded(**members: Any) -> Image:
    """Return a decoded input with these members."""
    return decode_image(json.dumps({"prompt": "A cat"} | members).encode())


@pytest.mark.parametrize(
    ("members", "message"),
    [
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
)
def test_invalid_input_is_refused(members: dict[str, Any], message: str):
    """An error begins with the path of the member at fault."""
    with pytest.raises(InvalidJob) as refused:
        decoded(**members)

    assert str(refused.value).startswith(message)


def test_parameters_pass_through():
    """Sizes, qualities and unknown parameters are passed on unchecked, from either place."""
    request = decoded(size="3840x16", parameters={"quality": "hd", "x-own": [1]})

    assert {"size": "3840x16", "quality": "hd", "x-own": [1]} == request.parameters
