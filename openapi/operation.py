"""The parts of an OpenAPI operation that no type and no route holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Body = Any
"""A type, which stands for its schema, a tuple of types of which it is one, or the schema itself."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query or a header."""

    name: str
    location: str
    description: str
    schema: Mapping[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """A response that is not an error."""

    description: str
    bodies: Mapping[str, Body] = field(default_factory=dict)
    """By media type."""
    headers: tuple[str, ...] = ()
    """Names of HEADERS that every such response has."""
    optional_headers: tuple[str, ...] = ()
    """Names of HEADERS that such a response may have."""
    example: Any = None
    links: tuple[str, ...] = ()
    """Routes whose path parameters are members of the body."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route does, beyond its path and role."""

    description: str
    responses: Mapping[int, Response]
    errors: Mapping[int, str] = field(default_factory=dict)
    """By status, beside the errors of every route: the code in backticks, a colon and what it means."""
    parameters: tuple[Parameter, ...] = ()
    body: Body = None
    body_required: bool = True
    body_example: Any = None
    query_example: str = ""
    header_example: Mapping[str, str] = field(default_factory=dict)
    retriable: frozenset[int] = frozenset({503})
    """Errors whose response may have the header `Retry-After`."""
