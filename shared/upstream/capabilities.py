"""
What an endpoint's model accepts, learned from the provider's own refusals.

A deployment's name says nothing about its model, so nothing is guessed from it: a request is sent as the caller
wrote it, and changed only after the provider has refused a parameter. What an endpoint and model refused is
remembered for a while, so that later requests are right at once.
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

MAX_AGE_S = 3600.0
"""A deployment can be given another model, so what was learned is forgotten after this."""
MAX_BATCH_AGE_S = 86_400.0
"""How long a provider's batches take differs by the time of day rather than by the hour."""
MAX_ENTRIES = 10_000
"""Keys that a worker remembers, for each kind of capability."""

# Reasoning models refuse these (learn.microsoft.com/azure/ai-services/openai/how-to/reasoning). Each only controls
# sampling, so a request without it still asks for the same.
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
_CODES = frozenset(
    {"unsupported_parameter", "unsupported_value", "parameter_not_supported", "unknown_parameter", "extra_forbidden"}
)
_QUOTED = re.compile(r"(?:[Uu]nsupported|[Uu]nknown|[Uu]nrecognized)[^'\"`]{0,60}['\"`]([A-Za-z_.]{1,60})['\"`]")
# OpenAI, with 403: "You are not allowed to request logprobs from this model."
_NOT_ALLOWED = re.compile(r"not allowed to request ['\"`]?([A-Za-z_.]{1,60})", re.IGNORECASE)
_REFUSED = frozenset({400, 403, 422})
_COMPANIONS = {"logprobs": ("top_logprobs",)}
"""Parameters that are refused without another one, and so go with it."""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """A parameter that a model refuses, and its name there, if it has another one."""

    parameter: str
    new_name: str | None = None

    def changes(self, body: dict[str, Any]) -> list[str]:
        """Return what `apply` does to `body`, in words."""
        if self.new_name:
            return [f"{self.parameter} became {self.new_name}"]
        return [f"{name} was left out" for name in self._names() if name in body]

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return `body` without the parameter, with its value under the new name if there is one."""
        adapted = {name: value for name, value in body.items() if name not in self._names()}
        if self.new_name is not None:
            adapted.setdefault(self.new_name, body[self.parameter])
        return adapted

    def _names(self) -> tuple[str, ...]:
        return (self.parameter, *_COMPANIONS.get(self.parameter, ()))


def read_adaptation(error: UpstreamError, body: dict[str, Any], *, droppable: frozenset[str]) -> Adaptation | None:
    """
    Return the change to `body` that `error` asks for, or None.

    None if the error names no parameter of `body`, or one that is neither in RENAMED nor in `droppable`.
    """
    facts = error.facts
    if facts.status not in _REFUSED:
        return None
    parameter = facts.detail.get("param")
    quoted = _QUOTED.search(str(error)) or _NOT_ALLOWED.search(str(error))
    named = quoted[1] if quoted else _named_by_claude(error)
    if facts.detail.get("code") not in _CODES and named is None:
        return None
    if not isinstance(parameter, str) or parameter not in body:
        parameter = named
    if parameter is None or parameter not in body:
        return None
    if parameter in RENAMED:
        return Adaptation(parameter, RENAMED[parameter])
    return Adaptation(parameter) if parameter in droppable else None


def _named_by_claude(error: UpstreamError) -> str | None:
    if error.facts.detail.get("type") != "invalid_request_error":
        return None
    from shared.upstream.claude_refusals import refused_parameter  # noqa: PLC0415  # few customers have Claude

    return refused_parameter(str(error))


class Capabilities:
    """
    What a worker has learned from refusals, each under a key.

    A key is a customer, its connection and endpoint, a model, an operation, and whatever else it depends on, such as
    the reasoning effort. What one customer's endpoint refuses changes no other customer's requests.
    `clock` returns seconds. Beyond MAX_ENTRIES, the least recently used key is forgotten.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._adaptations = _Memory[dict[str, Adaptation]](clock)
        self._batch_limits = _Memory[int](clock)
        self._replacements = _Memory[str](clock)
        self._batch_seconds = _Memory[float](clock, MAX_BATCH_AGE_S)

    def adaptations(self, *key: str) -> list[Adaptation]:
        """Return the adaptations of requests to that key, in the order in which they were learned."""
        return list((self._adaptations.get(key) or {}).values())

    def learn(self, adaptation: Adaptation, *key: str) -> None:
        """Remember that requests to that key need the adaptation."""
        learned = {other.parameter: other for other in self.adaptations(*key)}
        self._adaptations.set(key, learned | {adaptation.parameter: adaptation})

    def batch_limit(self, *key: str) -> int | None:
        """Return how many inputs or images one call takes, or None if no refusal has shown it."""
        return self._batch_limits.get(key)

    def learn_batch_limit(self, limit: int, *key: str) -> None:
        """Remember how many inputs or images one call takes; the lowest limit holds."""
        lowest = self.batch_limit(*key)
        self._batch_limits.set(key, limit if lowest is None else min(limit, lowest))

    def batch_seconds(self, *key: str) -> float | None:
        """Return how long the last batch took, or None if there was none for a day."""
        return self._batch_seconds.get(key)

    def learn_batch_seconds(self, seconds: float, *key: str) -> None:
        """Remember how long a batch took, from its first line to its end."""
        self._batch_seconds.set(key, seconds)

    def replacement_for(self, name: str, *key: str) -> str:
        """Return the operation or role that the model takes in place of `name`: itself, unless another was learned."""
        return self._replacements.get((*key, name)) or name

    def learn_replacement(self, name: str, other: str, *key: str) -> None:
        """Remember that the model takes another operation or role in place of `name`."""
        self._replacements.set((*key, name), other)

    def of(self, *key: str) -> ModelCapabilities:
        """Return what was learned of one connection's model. `key`: the connection's identity, and the model."""
        return ModelCapabilities(self, key)


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """What a worker has learned about one model of one connection, by operation. See Capabilities."""

    capabilities: Capabilities
    key: tuple[str, ...]

    def batch_limit(self, operation: str) -> int | None:
        """Return the most items that one call of an operation takes, if a refusal has shown it; else None."""
        return self.capabilities.batch_limit(*self.key, operation)

    def learn_batch_limit(self, operation: str, limit: int) -> None:
        """Remember the most items that one call takes."""
        self.capabilities.learn_batch_limit(limit, *self.key, operation)

    def replacement_for(self, name: str) -> str:
        """Return the operation or role that the model takes instead, if a refusal has shown it; else `name`."""
        return self.capabilities.replacement_for(name, *self.key)

    def learn_replacement(self, name: str, other: str) -> None:
        """Remember that the model takes `other` instead."""
        self.capabilities.learn_replacement(name, other, *self.key)


class _Memory(Generic[T]):
    """The last value of each key, for a limited time."""

    def __init__(self, clock: Callable[[], float], max_age_s: float = MAX_AGE_S) -> None:
        self._clock, self._max_age_s = clock, max_age_s
        self._entries = LRU[tuple[str, ...], tuple[float, T]](MAX_ENTRIES)

    def get(self, key: tuple[str, ...]) -> T | None:
        since, value = self._entries.get(key) or (0.0, None)
        return value if self._clock() - since < self._max_age_s else None

    def set(self, key: tuple[str, ...], value: T) -> None:
        self._entries.set(key, (self._clock(), value))
