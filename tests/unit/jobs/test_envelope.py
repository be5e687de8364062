"""A job as a message of the queue, and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.contract.job import decode_job
from shared.jobs.envelope import decode_queued_job, encode_queued_job
from shared.jobs.fingerprint import fingerprint
from tests.support.job_bodies import COMPLETE, SMALLEST, decoded

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(SMALLEST, id="smallest"),
        pytest.param(COMPLETE, id="whole"),
        pytest.param({"customer": "a", "action": "raw", "input_blob": "inputs/a/b"}, id="blob"),
        pytest.param(SMALLEST | {"output": {"queue": False}}, id="no queue"),
        pytest.param(SMALLEST | {"options": {"max_retries": 5}}, id="one option, the others left out"),
        pytest.param(SMALLEST | {"options": {"timeout_s": 30}}, id="whole seconds"),
    ],
)
def test_a_requeued_job_is_the_same_job(members: dict[str, Any]):
    """Encoding a job and decoding it again keeps its id, its fingerprint and every member."""
    job = decode_job(json.dumps(members).encode(), default_id="m-1")

    again = decode_queued_job(encode_queued_job(job, submitted_at=SUBMITTED), default_id="m-2")

    assert job.id == again.id
    assert fingerprint(job) == fingerprint(again)
    assert encode_queued_job(job, submitted_at=SUBMITTED) == encode_queued_job(again, submitted_at=SUBMITTED)
    assert (job.output, job.options, job.metadata) == (again.output, again.options, again.metadata)


def test_a_message_has_no_defaults():
    """A job is requeued without its defaults, so that they do not make it too large for its message."""
    envelope = {"_envelope": {"submitted_at": "2026-11-20T13:12:00.000Z"}}
    assert SMALLEST | {"job_id": "m-1"} | envelope == json.loads(encode_queued_job(decoded(), submitted_at=SUBMITTED))
