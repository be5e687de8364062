"""
What the app tells of its work while it works. `Telemetry` itself tells nobody: it stands where telemetry is off.

Knows no telemetry library, so that nothing is loaded where nobody listens; `spans` tells it in OpenTelemetry's
words (docs/telemetry.md). Nothing here or there raises, waits, or changes what a job comes to.
"""
# ruff: noqa: ARG002  # who tells nobody uses nothing of what it is told

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from shared.contract.job import Job

LOADED_AT = time.monotonic()
"""When this worker loaded the app."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to a model's endpoint, as telemetry tells of it; of the address and the body only parts."""

    customer: str
    connection: str
    provider: str
    model: str
    url: str
    body: bytes


class Watch:
    """What is told of one call."""

    def attempt(self) -> AbstractContextManager[None]:
        """Around each try; what lies between two was spent waiting."""
        return _NOTHING

    def answered(self, body: bytes) -> None:
        """The endpoint's answer came."""


_NOTHING = nullcontext()
_UNWATCHED = nullcontext(Watch())


class Telemetry:
    """All that can be told. Around what takes time stands a `with`."""

    def request(self, method: str, route: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """An HTTP request to a route, such as `/api/jobs/{customer}/{job_id}`. Header names are in lower case."""
        return _NOTHING

    def responded(self, status: int) -> None:
        """The request within which this is called was answered."""

    def submitted(self, job: Job) -> str | None:
        """The request within which this is called hands in the job; gives what its message is to carry."""
        return None

    def job(self, job: Job) -> AbstractContextManager[None]:
        """A message of the jobs queue, from its decoding to its end."""
        return _NOTHING

    def carried(self, job: Job, reason: Exception) -> str | None:
        """What the job's message is to carry where it goes back into the queue for that reason: its trace."""
        return None

    def claimed(self, job: Job, attempt: int, age_s: float) -> None:
        """The job is run for the so-manieth time, so long after it was submitted."""

    def put_back(self, job: Job, reason: Exception, delay_s: float) -> None:
        """The job goes back into the queue for a while."""

    def ended(self, customer: str | None, action: str | None, status: str, code: str | None) -> None:
        """A job has its result."""

    def call(self, asked: Asked) -> AbstractContextManager[Watch]:
        """A call with its retries."""
        return _UNWATCHED

    def breaker(self, customer: str, connection: str, state: str) -> None:
        """A connection's breaker has changed to that state."""

    def close(self) -> None:
        """Tells what has not been told yet. May wait for the network, for seconds."""


SILENT = Telemetry()
