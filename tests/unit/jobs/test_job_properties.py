"""What holds for any job: its message and its fingerprint are those of the same job."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contract.job import decode_job
from shared.errors import InvalidJob
from shared.jobs.envelope import decode_queued_job, encode_queued_job
from shared.jobs.fingerprint import fingerprint
from tests.support.job_strategies import few, jobs

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)


@few
@given(jobs)
def test_a_message_keeps_the_job(members: dict[str, Any]):
    """A valid job is decoded from its message with the same id, fingerprint and input."""
    job = decode_job(json.dumps(members).encode(), default_id="m-1")

    again = decode_queued_job(encode_queued_job(job, submitted_at=SUBMITTED), default_id="m-2")

    assert (job.id, fingerprint(job)) == (again.id, fingerprint(again))
    assert json.loads(bytes(job.input)) == json.loads(bytes(again.input)) == members["input"]


@few
@given(jobs, st.randoms(use_true_random=False))
def test_fingerprint_ignores_order_and_spacing(members: dict[str, Any], chance: Any):
    """However a job's members are ordered and spaced, its fingerprint is the same."""
    shuffled = list(members.items())
    chance.shuffle(shuffled)
    spaced = json.dumps(dict(shuffled), indent=chance.randint(0, 4), ensure_ascii=chance.random() < 0.5)

    first = decode_job(json.dumps(members).encode(), default_id="m-1")

    assert fingerprint(first) == fingerprint(decode_job(spaced.encode(), default_id="m-2"))


@pytest.mark.parametrize("depth", [10, 500, 800, 930, 960, 980, 990, 1000])
def test_a_job_that_is_decoded_can_be_requeued(depth: int):
    """A job whose nesting is just shallow enough to be decoded has a fingerprint and can be encoded again."""
    deep = b'{"customer":"a","action":"chat","input":{"prompt":"x","parameters":{"a":%s}}}' % (
        b"[" * depth + b"]" * depth
    )

    try:
        job = decode_job(deep, default_id="m-1")
    except InvalidJob:
        return
    again = decode_queued_job(encode_queued_job(job, submitted_at=SUBMITTED), default_id="m")

    assert fingerprint(job) == fingerprint(again)
