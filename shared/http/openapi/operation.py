"""The words in which `operations` tells of a route: its parameters, answers and errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Kind = Any
"""A type whose schema is meant, or that schema itself."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of the query or a header."""

    name: str
    place: str
    about: str
    schema: Mapping[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes with one status that is no error."""

    about: str
    bodies: Mapping[str, Kind] = field(default_factory=dict)
    """Media type to type."""
    headers: tuple[str, ...] = ()
    """Those that always come; names of HEADERS."""
    maybe: tuple[str, ...] = ()
    """Those that may come."""
    example: Any = None
    links: tuple[str, ...] = ()
    """Routes whose places are members of this answer."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One route."""

    about: str
    answers: Mapping[int, Answer]
    errors: Mapping[int, str] = field(default_factory=dict)
    """Besides those of every route."""
    parameters: tuple[Parameter, ...] = ()
    body: Kind = None
    body_required: bool = True
    body_example: Any = None
    query_example: str = ""
    header_example: Mapping[str, str] = field(default_factory=dict)
    waits: frozenset[int] = frozenset({503})
    """Errors that may say in `Retry-After` when to ask again."""
