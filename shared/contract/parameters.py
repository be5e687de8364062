"""The `parameters` of an input: which of them the job sets elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.errors import InvalidJob


def merged_parameters(
    parameters: Mapping[str, Any], members: Mapping[str, Any], instead: Mapping[str, str]
) -> dict[str, Any]:
    """
    Return the parameters with those of the input's own `members` that are set.

    Raises InvalidJob for a parameter that is one of these members, or that `instead` says what to do about.
    """
    for name in instead:
        if name in parameters:
            raise InvalidJob(f"`input.parameters.{name}` is not allowed: {instead[name]}.")
    own = {name: value for name, value in members.items() if value is not None}
    for name in own:
        if name in parameters:
            raise InvalidJob(f"`input.parameters.{name}` repeats `input.{name}`: leave one of them out.")
    return {**own, **parameters}
