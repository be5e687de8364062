"""The messages of the queue of batches: a batch of jobs is looked at, or the responses that jobs wait for. Pure."""

from __future__ import annotations

import msgspec

from shared.contract.decoding import UNREADABLE
from shared.jobs.versions import VERSION, Version, check_version

PREFIX, LAST = "p_", "p`"
"""How the keys of batches' rows begin, and the end of their range. `b_` are budgets' (see `billing.bucket_rows`)."""


class BatchMessage(msgspec.Struct, frozen=True):
    """A message of the queue of batches: look at this batch, or at this connection's responses (see `jobs.polls`)."""

    customer: str
    batch: str
    version: Version = VERSION
    connection: str = ""
    """Empty: look at a batch."""
    generation: int = 0
    """Of the connection's poll."""


class _Versioned(msgspec.Struct, frozen=True):
    version: Version = 0


def batch_key(batch_id: str) -> str:
    """Return the key of a batch's row (see `batches.records`)."""
    return f"{PREFIX}{batch_id}"


def encode_batch_message(customer: str, batch_id: str) -> bytes:
    """Return the message that has a batch looked at."""
    return msgspec.json.encode(BatchMessage(customer, batch_id))


def encode_poll_message(customer: str, connection: str, generation: int) -> bytes:
    """Return the message that has the responses of a connection looked at."""
    return msgspec.json.encode(BatchMessage(customer, "", connection=connection, generation=generation))


def decode_batch_message(body: bytes) -> BatchMessage | None:
    """Return the message, or None for what is none. Raises NewerVersion, whatever a later version's has in it."""
    try:
        check_version(msgspec.json.decode(body, type=_Versioned).version, "message")
        return msgspec.json.decode(body, type=BatchMessage)
    except UNREADABLE:
        return None
