"""
Parameters from evidence: what a provider's own refusal says to change in a request.

A deployment's name says nothing about its model, so nothing is guessed from it: a request is sent as it
was given, and changed only where the provider has answered that it does not take a parameter. What was
learned of an endpoint and model is remembered for a while, so that later requests are right at once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from shared.errors import UpstreamError
from shared.lru import LRU

T = TypeVar("T")

REMEMBERED_S = 3600.0
"""A deployment can be given another model: what was learned of it is forgotten after this."""
MAX_ENTRIES = 10_000
"""Endpoints and models that a worker remembers."""

# Reasoning models refuse these (learn.microsoft.com/azure/ai-services/openai/how-to/reasoning); each only
# steers how an answer is drawn, so a request without it still asks the same.
SAMPLING = frozenset(
    {
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
        "logit_bias",
    }
)
RENAMED = {"max_tokens": "max_completion_tokens"}
_CODES = frozenset({"unsupported_parameter", "unsupported_value", "parameter_not_supported", "unknown_parameter"})
_QUOTED = re.compile(r"(?:[Uu]nsupported|[Uu]nknown|[Uu]nrecognized)[^'\"`]{0,60}['\"`]([A-Za-z_.]{1,60})['\"`]")
_REFUSED = frozenset({400, 422})


@dataclass(frozen=True, slots=True)
class Adaptation:
    """One parameter that an endpoint's model does not take, and what it is called there, if anything."""

    parameter: str
    renamed: str | None = None

    def __str__(self) -> str:
        return f"{self.parameter} became {self.renamed}" if self.renamed else f"{self.parameter} was left out"

    def change(self, body: dict[str, Any]) -> dict[str, Any]:
        """`body` without the parameter, its value under the other name where there is one."""
        changed = {name: value for name, value in body.items() if name != self.parameter}
        if self.renamed is not None:
            changed.setdefault(self.renamed, body[self.parameter])
        return changed


def read_adaptation(error: UpstreamError, body: dict[str, Any], *, droppable: frozenset[str]) -> Adaptation | None:
    """What `error` says to change in `body`; None where it says nothing, or nothing that may be changed."""
    facts = error.facts
    if facts.status not in _REFUSED:
        return None
    parameter = facts.detail.get("param")
    quoted = _QUOTED.search(str(error))
    if facts.detail.get("code") not in _CODES and quoted is None:
        return None
    if not isinstance(parameter, str) or parameter not in body:
        parameter = quoted[1] if quoted else None
    if parameter is None or parameter not in body:
        return None
    if parameter in RENAMED:
        return Adaptation(parameter, RENAMED[parameter])
    return Adaptation(parameter) if parameter in droppable else None


class Adaptations:
    """What has been learned of places: an endpoint, a model, an operation, and what else it may hold for alone."""

    def __init__(self, *, ticks: Callable[[], float] = time.monotonic) -> None:
        self._learned = _Memory[dict[str, Adaptation]](ticks)
        self._most = _Memory[int](ticks)
        self._replacements = _Memory[str](ticks)

    def known(self, *place: str) -> list[Adaptation]:
        """The parameters that a place refuses, as far as refusals have told."""
        return list((self._learned.recall(place) or {}).values())

    def learn(self, adaptation: Adaptation, *place: str) -> None:
        """Remembers it; beyond MAX_ENTRIES, the least recently used place is forgotten."""
        learned = {one.parameter: one for one in self.known(*place)} | {adaptation.parameter: adaptation}
        self._learned.keep(place, learned)

    def most(self, *place: str) -> int | None:
        """How many things one call of a place takes, pictures or texts; None where no refusal has told."""
        return self._most.recall(place)

    def learn_most(self, most: int, *place: str) -> None:
        """Remembers it, if it is less than what is known; as `learn`."""
        known = self.most(*place)
        self._most.keep(place, most if known is None else min(most, known))

    def replacement(self, *place: str) -> str | None:
        """The operation that a place takes instead of its own; None where no refusal has told."""
        return self._replacements.recall(place)

    def learn_replacement(self, operation: str, *place: str) -> None:
        """Remembers it; as `learn`."""
        self._replacements.keep(place, operation)


class _Memory(Generic[T]):
    """The last value of each place, for REMEMBERED_S."""

    def __init__(self, ticks: Callable[[], float]) -> None:
        self._ticks = ticks
        self._entries = LRU[tuple[str, ...], tuple[float, T]](MAX_ENTRIES)

    def recall(self, place: tuple[str, ...]) -> T | None:
        since, value = self._entries.get(place) or (0.0, None)
        return value if self._ticks() - since < REMEMBERED_S else None

    def keep(self, place: tuple[str, ...], value: T) -> None:
        self._entries.set(place, (self._ticks(), value))
