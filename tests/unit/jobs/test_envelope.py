"""A job as a message of the queue, and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import example, given

from shared.contract.job import decode_job
from shared.errors import InvalidJob
from shared.jobs.envelope import decode_queued_job, encode_queued_job
from shared.jobs.fingerprint import fingerprint
from shared.jobs.versions import VERSION
from tests.support.job_bodies import COMPLETE, SMALLEST, decoded
from tests.support.job_strategies import few, jobs
from tests.support.rows import every_row

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)


@few
@given(jobs)
@example(COMPLETE)
@example({"customer": "a", "action": "raw", "input_blob": "inputs/a/b"})
@example(SMALLEST | {"options": {"timeout_s": 30}})
def test_a_requeued_job_is_the_same_job(members: dict[str, Any]):
    """Encoding a job and decoding it again keeps its id, its fingerprint and every member."""
    job = decode_job(json.dumps(members).encode(), default_id="m-1")

    again = decode_queued_job(encode_queued_job(job, submitted_at=SUBMITTED, generation=0), default_id="m-2")

    assert (job.id, fingerprint(job)) == (again.id, fingerprint(again))
    bodies = [encode_queued_job(each, submitted_at=SUBMITTED, generation=0) for each in (job, again)]
    assert bodies[0] == bodies[1]
    assert (job.output, job.options, job.metadata) == (again.output, again.options, again.metadata)
    if "input" in members:
        assert json.loads(bytes(job.input)) == json.loads(bytes(again.input)) == members["input"]


@every_row("depth", [10, 500, 800, 930, 960, 980, 990, 1000])
def test_a_job_that_is_decoded_can_be_requeued(depth: int):
    """A job whose nesting is just shallow enough to be decoded has a fingerprint and can be encoded again."""
    deep = b'{"customer":"a","action":"chat","input":{"prompt":"x","parameters":{"a":%s}}}' % (
        b"[" * depth + b"]" * depth
    )

    try:
        job = decode_job(deep, default_id="m-1")
    except InvalidJob:
        return
    again = decode_queued_job(encode_queued_job(job, submitted_at=SUBMITTED, generation=0), default_id="m")

    assert fingerprint(job) == fingerprint(again)


def test_a_message_has_no_defaults():
    """A job is requeued without its defaults, so that they do not make it too large for its message."""
    envelope = {"_envelope": {"submitted_at": "2026-11-20T13:12:00.000Z", "version": VERSION}}
    body = encode_queued_job(decoded(), submitted_at=SUBMITTED, generation=0)
    assert SMALLEST | {"job_id": "m-1"} | envelope == json.loads(body)
