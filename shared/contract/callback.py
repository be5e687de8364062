"""The message of a callback in the callbacks queue. It is not part of the public contract."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import Struct

from shared.contract.decoding import UNREADABLE


class CallbackMessage(Struct, frozen=True, kw_only=True):
    """One callback. After a failed delivery it is requeued with the next `attempt`."""

    customer: str
    job_id: str
    url: str
    attempt: int = 0
    """Deliveries that were tried before this one."""
    first_at: datetime
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
