"""What an attempt comes to: an exception as an outcome, an outcome as a result."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from shared.actions.base import Completed, Deferred, failed
from shared.billing.usage import Call
from shared.contract.job import Job
from shared.contract.result import ConnectionLabel, ErrorBody, Result, Timings, Usage
from shared.errors import (
    ContentFiltered,
    CredentialRejected,
    DeadlinePassed,
    InternalError,
    InvalidJob,
    LeaseLost,
    NetworkRefused,
    RateLimited,
    StorageUnavailable,
    UpstreamFacts,
    UpstreamRetryLater,
)
from shared.jobs import outcomes
from shared.jobs.attempt import Attempt
from shared.jobs.lease import Lease, first_lease
from shared.jobs.ledger import Ledger
from shared.jobs.outcomes import deferred, given_up, is_key_rejected, outcome_of, result_of
from shared.upstream.messages import Response
from tests.support.fakes import MemoryTable
from tests.support.rows import every_row

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
RESPONSE = Response(200, {}, b'{"usage": {"prompt_tokens": 11, "completion_tokens": 7}}', "req-1")
LIMITED = RateLimited("Slow down.", UpstreamFacts(status=429, transient=True))


@pytest.fixture
def lease() -> Lease:
    """A first lease."""
    return first_lease("acme", "job-1", SUBMITTED, SUBMITTED + timedelta(seconds=1))


@pytest.fixture
def attempt(lease: Lease) -> Attempt:
    """A first attempt, with a response that nothing was made of."""
    job = Job(customer="acme", action="chat", job_id="job-1", model="requested", metadata={"a": "b"})
    attempt = Attempt(job, lease, Ledger(MemoryTable()))
    attempt.usage.responses.append(RESPONSE)
    return attempt


def test_an_error_of_the_job_fails_it(attempt: Attempt):
    """The outcome has the error and no output; the response is lost."""
    error = InvalidJob("`input` is wrong.")

    assert failed(error) == outcome_of(error, attempt)
    unrecoverable = attempt.usage.unrecoverable
    assert (1, 11, 7) == (unrecoverable.calls, unrecoverable.input_tokens, unrecoverable.output_tokens)
    assert ([], ["lost"]) == (attempt.usage.responses, [row.values["outcome"] for row in attempt.usage.rows()])


@pytest.mark.parametrize(
    ("exc", "fallback"),
    [
        (UpstreamRetryLater(LIMITED, 60, 2), LIMITED),
        (StorageUnavailable("Storage is down."), DeadlinePassed("Storage is down.")),
    ],
)
def test_an_error_that_may_pass_defers_the_job(attempt: Attempt, exc: Any, fallback: Exception):
    """If the deadline comes first, the job ends with the endpoint's error, or as `timeout` with the reason."""
    outcome = outcome_of(exc, attempt)

    assert isinstance(outcome, Deferred)
    assert deferred(exc).reason is outcome.reason is exc
    assert (type(fallback), str(fallback)) == (type(outcome.fallback.error), str(outcome.fallback.error))
    assert ("failed", None) == (outcome.fallback.status, outcome.fallback.output)


def test_a_fault_fails_the_job_as_internal(attempt: Attempt, caplog: pytest.LogCaptureFixture):
    """Its text is in neither the outcome nor the log."""
    outcome = outcome_of(ValueError("a text that may hold a key"), attempt)

    assert isinstance(outcome, Completed)
    assert isinstance(outcome.error, InternalError)
    assert "a text that may hold a key" not in f"{outcome.error} {caplog.text}"
    assert "job_error customer=acme job_id=job-1 ValueError" in caplog.text


def test_a_lost_lease_is_no_outcome(attempt: Attempt):
    """It is raised, and what was received is lost."""
    with pytest.raises(LeaseLost):
        outcome_of(LeaseLost("Gone."), attempt)

    assert 1 == len(attempt.usage.rows())


@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        ({}, "internal", "The job was given up by the queue."),
        ({"failed_attempts": 1}, "internal", "The job was given up after 1 failed attempt."),
        (
            {"failed_attempts": 5, "reason": "It died."},
            "internal",
            "The job was given up after 5 failed attempts. The last known reason: It died.",
        ),
        (
            {"failed_attempts": 2, "reason": "Slow down.", "reason_code": "rate_limited"},
            "rate_limited",
            "The job was given up after 2 failed attempts. The last known reason: Slow down.",
        ),
    ],
)
def test_a_job_that_is_given_up_has_the_last_known_reason(
    lease: Lease, values: dict[str, Any], code: str, message: str
):
    """Its code is the reason's, if that has one; the message counts the attempts that failed."""
    outcome = given_up(replace(lease, **values))

    assert outcome.error is not None
    assert ("failed", None, code, message) == (outcome.status, outcome.output, outcome.error.code, str(outcome.error))


@every_row(
    ("outcome", "expected"),
    [
        (failed(CredentialRejected("No.")), True),
        (failed(NetworkRefused("No.")), False),
        (failed(InvalidJob("No.")), False),
        (Completed({}, rejected=CredentialRejected("A part's.")), True),
        (Completed({}), False),
        (Deferred(StorageUnavailable("Down."), failed(CredentialRejected("No."))), False),
    ],
)
def test_a_new_key_may_help_if_the_key_was_refused(outcome: Completed | Deferred, expected: bool):
    """Not if the network was, nor if the job waits anyway."""
    assert expected is is_key_rejected(outcome)


def test_a_result_has_what_all_attempts_consumed(attempt: Attempt, monkeypatch: pytest.MonkeyPatch):
    """The sum of its own calls, of stored steps, and of what could not be recovered; and where its time went."""
    attempt.usage.label = ConnectionLabel(name="eu", source="static", provider="openai", billed_to="operator")
    attempt.usage.model, attempt.usage.deployment_scope = "gpt-4o", "global"
    attempt.usage.billed = Usage(calls=10)
    attempt.usage.unrecoverable = Usage(calls=100)
    error = ContentFiltered("Stopped.", UpstreamFacts(status=200, request_id="r", detail={"x": 1}))
    outcome = Completed({"text": ""}, [Call(Usage(calls=1, input_tokens=2))], "partial", error)

    attempt.time.upstream_s = 1.25
    monkeypatch.setattr(outcomes, "time", SimpleNamespace(perf_counter=lambda: attempt.lease.began + 1.2614))

    result = result_of(attempt, outcome, SUBMITTED + timedelta(seconds=2))

    assert (
        Result(
            job_id="job-1",
            status="partial",
            customer="acme",
            action="chat",
            model="gpt-4o",
            metadata={"a": "b"},
            output={"text": ""},
            usage=Usage(calls=111, input_tokens=2, processing="standard", deployment_scope="global"),
            timings=Timings(queued_ms=1000, upstream_ms=1250, overhead_ms=11),
            error=ErrorBody(code="content_filtered", message="Stopped.", status=200, request_id="r", detail={"x": 1}),
            connection=attempt.usage.label,
            attempts=1,
            submitted_at="2026-11-20T13:12:00.000Z",
            started_at="2026-11-20T13:12:01.000Z",
            finished_at="2026-11-20T13:12:02.000Z",
        )
        == result
    )


def test_a_result_without_a_connection_has_the_model_that_the_job_requested(attempt: Attempt):
    """If the connection was never resolved, nothing is known of it."""
    result = result_of(attempt, failed(InvalidJob("No.")), SUBMITTED)

    assert ("requested", None) == (result.model, result.connection)
