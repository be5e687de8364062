"""The message of a callback that is to be made, as it stands in the callbacks queue. Ours alone."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import Struct

from shared.contract.decoding import UNREADABLE


class CallbackMessage(Struct, frozen=True, kw_only=True):
    """One callback; it goes back into its queue with the next `attempt` until it is done with."""

    customer: str
    job_id: str
    url: str
    attempt: int = 0
    """Attempts that were made before this one."""
    first_at: datetime
    """When the job was told."""


def encode_callback(message: CallbackMessage) -> bytes:
    """The message as bytes."""
    return msgspec.json.encode(message)


def decode_callback(body: bytes) -> CallbackMessage | None:
    """The message in these bytes, or None where there is none."""
    try:
        return msgspec.json.decode(body, type=CallbackMessage)
    except UNREADABLE:
        return None
