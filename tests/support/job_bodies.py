"""Jobs for the unit tests of the contract."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.job import Job, decode_job
from shared.errors import InvalidJob

SMALLEST: dict[str, Any] = {"customer": "acme", "action": "chat", "input": {"prompt": "Hello?"}}
COMPLETE: dict[str, Any] = {
    "job_id": "order-7",
    "customer": "acme",
    "action": "chat",
    "connection": "eu",
    "model": "gpt-4.1",
    "input": {"prompt": "Grüße 😀", "parameters": {"seed": 2**70, "temperature": 0.5}},
    "output": {"queue": "special", "blob": True},
    "options": {
        "timeout_s": 30,
        "max_retries": 2,
        "retry_delay_ms": 10,
        "exponential_backoff": False,
        "retry_on_all_errors": True,
        "deadline_s": 60,
    },
    "metadata": {"order": "7"},
}


def body(**members: Any) -> bytes:
    """The smallest job with these members."""
    return json.dumps(SMALLEST | members).encode()


def decoded(**members: Any) -> Job:
    """The smallest job with these members, decoded."""
    return decode_job(body(**members), default_id="m-1")


def refusal(data: bytes) -> str:
    """The message with which a job is refused."""
    with pytest.raises(InvalidJob) as raised:
        decode_job(data, default_id="m-1")
    return str(raised.value)
