"""
What the app reports about its work while it works. `Telemetry` itself discards everything; it serves if telemetry
is off.

Knows no telemetry library, so that nothing is loaded if telemetry is off. `opentelemetry` implements it
(docs/telemetry.md). No method raises, waits, or changes the outcome of a job.
"""
# ruff: noqa: ARG002  # the base class ignores its arguments

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from shared.contract.job import Job

LOADED_AT = time.monotonic()
"""When this worker loaded the app, on the monotonic clock."""


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """A call's request. Telemetry reports only parts of the URL and of the body."""

    customer: str
    connection: str
    provider: str
    model: str
    url: str
    body: bytes


class CallObserver:
    """Observes one call."""

    def observe_try(self) -> AbstractContextManager[None]:
        """Wrap each try in it. The time between two tries counts as waiting."""
        return _NOTHING

    def response_received(self, body: bytes) -> None:
        """Report the body of the endpoint's 2xx response; nothing of a large one, which takes long to read."""


_NOTHING = nullcontext()
_UNOBSERVED = nullcontext(CallObserver())


class Telemetry:
    """Every report that the app makes. What takes time is wrapped in a context manager."""

    def http_request(self, method: str, route: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """Wrap a request to a route, such as `/api/jobs/{customer}/{job_id}`. Header names are in lower case."""
        return _NOTHING

    def http_responded(self, status: int) -> None:
        """Report the status of the response to the current HTTP request."""

    def job_submitted(self, job: Job) -> str | None:
        """Report that the current HTTP request submits the job; return the traceparent for the job's message."""
        return None

    def job(self, job: Job, traceparent: str | None) -> AbstractContextManager[None]:
        """Wrap the processing of one message of the jobs queue, from its decoding to its end."""
        return _NOTHING

    def attempt_started(self, job: Job, attempt: int, age_s: float) -> None:
        """Report that an attempt starts. `attempt` counts from 1; `age_s`: the seconds from submission to the first."""

    def job_requeued(self, job: Job, reason: Exception, delay_s: float) -> None:
        """Report that the job goes back into the queue for `delay_s` seconds."""

    def requeue_traceparent(self, traceparent: str | None, reason: Exception) -> str | None:
        """Return the traceparent for the message of a job that is requeued for that reason; it had `traceparent`."""
        return None

    def job_finished(self, customer: str | None, action: str | None, status: str, code: str | None) -> None:
        """Report that a job has its result. `code` is the contract's error code, or None."""

    def call(self, request: RequestInfo) -> AbstractContextManager[CallObserver]:
        """Wrap a call with its retries."""
        return _UNOBSERVED

    def breaker_changed(self, customer: str, connection: str, state: str) -> None:
        """Report the new state of a connection's circuit breaker."""

    def exported(self, export: str, counts: Mapping[str, int], lag_s: float) -> None:
        """Report what a run sent of an export, by what became of it, and the age of the oldest that is not sent."""

    def batch_sent(self, customer: str) -> None:
        """Report that a batch of the customer's calls is at its provider."""

    def batch_ended(self, customer: str, status: str, lines: Mapping[str, int], age_s: float) -> None:
        """Report that a batch has ended: its status at the provider, its lines by what became of them, and its age."""

    def close(self) -> None:
        """Send what has not been sent yet. May wait for the network, for seconds."""


SILENT = Telemetry()
