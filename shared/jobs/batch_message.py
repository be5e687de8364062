"""The message that has a batch of jobs looked at. Pure."""

from __future__ import annotations

import msgspec

from shared.contract.decoding import UNREADABLE
from shared.jobs.versions import VERSION, Version, check_version

PREFIX, LAST = "p_", "p`"
"""How the keys of batches' rows begin, and the end of their range. `b_` are budgets' (see `billing.bucket_rows`)."""


class BatchMessage(msgspec.Struct, frozen=True):
    """A message of the queue of batches: look at this one."""

    customer: str
    batch: str
    version: Version = VERSION


def batch_key(batch_id: str) -> str:
    """Return the key of a batch's row (see `batches.records`)."""
    return f"{PREFIX}{batch_id}"


def encode_batch_message(customer: str, batch_id: str) -> bytes:
    """Return the message that has a batch looked at."""
    return msgspec.json.encode(BatchMessage(customer, batch_id))


def decode_batch_message(body: bytes) -> BatchMessage | None:
    """Return the message, or None for what is none. Raises NewerVersion."""
    try:
        message = msgspec.json.decode(body, type=BatchMessage)
    except UNREADABLE:
        return None
    check_version(message.version, "message")
    return message
