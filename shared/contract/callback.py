"""
The message of a callback in the callbacks queue. It is not part of the public contract.

It only names a job: what is sent, and where to, stands in the job's row, so that whoever can write to the queue can't
have a result sent elsewhere.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from shared.contract.decoding import UNREADABLE
from shared.contract.names import JobId, Name


class CallbackMessage(Struct, frozen=True, kw_only=True):
    """One callback. After a failed delivery it is requeued with the next `attempt`."""

    customer: Name
    job_id: JobId
    attempt: Annotated[int, Meta(ge=0)] = 0
    """Deliveries that were tried before this one."""
    first_at: Annotated[datetime, Meta(tz=True)]
    """When the job ended."""


def encode_callback(message: CallbackMessage) -> bytes:
    """The message as bytes."""
    return msgspec.json.encode(message)


def decode_callback(body: bytes) -> CallbackMessage | None:
    """The message in `body`, or None if `body` is not one."""
    try:
        return msgspec.json.decode(body, type=CallbackMessage)
    except UNREADABLE:
        return None
