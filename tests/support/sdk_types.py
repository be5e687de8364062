"""What the types of an SDK's requests take. To make a type's validator takes as long as thousands of validations."""

from __future__ import annotations

import functools
from typing import Any, get_type_hints

from pydantic import TypeAdapter


@functools.cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return the validator of a type."""
    return TypeAdapter(kind)


@functools.cache
def members(kind: Any) -> frozenset[str]:
    """Return the names of a type's members."""
    return frozenset(get_type_hints(kind))
