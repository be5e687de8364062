"""What one attempt consumes, and its usage records that are not written yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from shared.billing.usage import Call
from shared.contract.job import Job
from shared.contract.result import ConnectionLabel, Usage
from shared.jobs import attempt_usage
from shared.jobs.attempt_usage import AttemptUsage
from shared.jobs.lease import first_lease
from shared.storage.base import Row
from shared.upstream.messages import Response
from tests.support.counted_records import counted

MOMENT = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
UNANSWERED = Call(None, outcome="unanswered")


@pytest.fixture(autouse=True)
def fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is the last minute of a month."""
    monkeypatch.setattr(attempt_usage, "now", lambda: MOMENT)


def usage_of(**values: Any) -> AttemptUsage:
    """The usage of an attempt; `values` replace its lease's."""
    values = {"incarnation": "0123abcd", "attempt": 2, **values}
    lease = structs.replace(first_lease("acme", "job-1", MOMENT, MOMENT), **values)
    return AttemptUsage(Job(customer="acme", action="chat", job_id="job-1", model="m"), lease)


def response(prompt_tokens: int) -> Response:
    body = b'{"model": "gpt-4o", "usage": {"prompt_tokens": %d, "completion_tokens": 1}}' % prompt_tokens
    return Response(200, {}, body, f"req-{prompt_tokens}")


def places(rows: list[Row]) -> list[str]:
    """What is in the rows' keys after the incarnation."""
    return [row.key.removeprefix("u_2026-11-30_job-1_0123abcd_") for row in rows]


def test_unsettled_calls_are_numbered_and_counted():
    """Each has a place of its own under the attempt's number, also after those that were written and removed."""
    usage = usage_of(unrecoverable_usage=Usage(calls=5))
    assert (0, [], True) == (len(usage), usage.rows(), bool(usage))

    usage.add_unsettled_calls([UNANSWERED])
    usage.add_unsettled_calls([Call(Usage(calls=1, input_tokens=3), outcome="lost"), UNANSWERED])

    assert ["~2.1", "~2.2", "~2.3"] == places(usage.rows())
    assert ["unanswered", "lost", "unanswered"] == [row.values["outcome"] for row in usage.rows()]
    assert Usage(calls=6, input_tokens=3, processing="standard") == usage.unrecoverable
    assert ["~2.1", "~2.2"] == places(usage.rows(2))
    usage.remove(2)
    usage.add_unsettled_calls([UNANSWERED])
    assert (2, ["~2.3", "~2.4"]) == (len(usage), places(usage.rows()))


def test_discarded_responses_are_lost_calls():
    """
    Each has what its provider reported, in JSON or in a stream; the responses are forgotten, so that they are not
    recorded twice.
    """
    usage = usage_of()
    streamed = response(12)
    usage.responses += [response(11), replace(streamed, body=b"data: " + streamed.body + b"\n\ndata: [DONE]\n\n")]

    usage.discard_responses()
    usage.discard_responses()

    assert [("lost", 11, "gpt-4o", "req-11"), ("lost", 12, "gpt-4o", "req-12")] == [
        (row.values["outcome"], row.values["input_tokens"], row.values["answered_by"], row.values["request_id"])
        for row in usage.rows()
    ]
    unrecoverable = usage.unrecoverable
    assert (2, 23, 2) == (unrecoverable.calls, unrecoverable.input_tokens, unrecoverable.output_tokens)


def test_a_lost_answer_out_of_a_batch_is_metered_once():
    """It is recorded with a second row, by which the same answer, read again by a later attempt, has a record."""
    usage = usage_of()

    usage.add_lost_responses([replace(response(3), processing="batch", metered_as="line-1")])

    record, metered = usage.rows()
    assert ("lost", "batch", 3) == tuple(record.values[name] for name in ("outcome", "processing", "input_tokens"))
    assert ("m_line-1", record.key) == (metered.key, metered.values["record"])


def test_crashed_attempts_have_placeholders():
    """
    Each is unanswered, and consumed nothing that is known. The marker of an attempt that was only slow supersedes its
    placeholder; an attempt that has lost its lease leaves them to the one that took over, and keeps its own records.
    """
    slow, heir = usage_of(), usage_of(attempt=4, crashed_attempts=(1, 2))
    heir.add_unsettled_calls([UNANSWERED])

    heir.add_crashed_attempts()

    own, *placeholders = heir.rows()
    assert ["~1", "~2"] == places(placeholders)
    assert {("unanswered", 0, False)} == {
        (row.values["outcome"], row.values["calls"], row.values["reported"]) for row in placeholders
    }
    assert Usage() == heir.unrecoverable
    (marker,) = slow.settlement()
    assert "m_2026-11-30_job-1_0123abcd_~2" == marker.key
    assert placeholders == counted(placeholders)
    assert placeholders[:1] == counted([*placeholders, marker])
    assert [own.key, "m_2026-11-30_job-1_0123abcd_~4"] == [row.key for row in heir.settlement()]


def test_a_record_names_what_is_known_at_its_time():
    """
    Before the connection is resolved: what the job says, and the customer's own account. A call that was made in one
    month and is recorded in the next is in the first one's statement.
    """
    usage = usage_of()
    usage.add_unsettled_calls([UNANSWERED])
    names = ("connection", "source", "provider", "billed_to", "model")

    (before,) = usage.rows()
    usage.label = ConnectionLabel(name="eu", source="static", provider="openai", billed_to="operator")
    usage.model = "gpt-4o"
    later = usage.rows_of([Call(Usage(calls=1))] * 2, datetime(2026, 12, 1, tzinfo=UTC))

    assert ("default", "key_vault", "unknown", "customer", "m") == tuple(before.values[name] for name in names)
    assert [("eu", "static", "openai", "operator", "gpt-4o")] * 3 == [
        tuple(row.values[name] for name in names) for row in [*usage.rows(), *later]
    ]
    assert ["11-30_job-1_0123abcd_~2.1", "12-01_job-1_0123abcd_0000", "12-01_job-1_0123abcd_0001"] == [
        row.key.removeprefix("u_2026-") for row in [*usage.rows(), *later]
    ]
    assert {"acme"} == {row.partition for row in later}
