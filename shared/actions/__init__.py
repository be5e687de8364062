"""
The actions: what a job can ask a model for.

An action is a module with `decode(data)`, which gives its checked input or raises InvalidJob, and
`async run(asked, connection, model, send)`, which gives an Answer: pure ends, one await in the middle.
Only an action knows a provider's JSON. A module is imported when the first job asks for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

from msgspec import Raw

from shared.connections import Connection
from shared.contract.result import Status
from shared.errors import InvalidJob, JobError
from shared.transport import Reply, UpstreamRequest
from shared.usage import Call

_SERVED = ("chat",)

Send = Callable[[UpstreamRequest], Awaitable[Reply]]
"""Sends one request on the job's connection, under the job's options. Raises UpstreamError, Postponed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an action came to: its output, the calls that were paid for, and an error where it failed."""

    output: dict[str, Any] | None
    calls: Sequence[Call]
    status: Status = "succeeded"
    error: JobError | None = None


class Action(Protocol):
    """What a module of this package offers."""

    def decode(self, data: Raw | bytes) -> Any:
        """The job's `input`, checked. Raises InvalidJob."""

    async def run(self, asked: Any, connection: Connection, model: str, send: Send) -> Answer:
        """The answer to what `decode` gave. Raises UpstreamError where no call was answered, Postponed."""


def action_named(name: str) -> Action:
    """The action's module. Raises InvalidJob for one that this version does not serve."""
    if name not in _SERVED:
        raise InvalidJob(f"`action` {name} is not served by this version; {', '.join(_SERVED)} is.")
    return cast(Action, import_module(f"shared.actions.{name}"))
