"""
The version of what is stored of jobs: messages and rows say which one wrote them (docs/architecture.md).

During an update, workers of two versions share queues and table. Each reads what the earlier one wrote. What a later
one wrote, it leaves alone: it can't know what else it means.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from shared.contract.decoding import UNREADABLE
from shared.errors import RetryLater

VERSION = 5
"""Of what this code writes. 0, or none, is what was written before there were versions."""
Version = Annotated[int, Meta(ge=0)]


class NewerVersion(RetryLater):
    """A later version of the app wrote the message or the row: a worker of that version takes it."""

    usual_delay_s = 30


class _Envelope(Struct, frozen=True):
    version: Version = 0


class _Message(Struct, frozen=True):
    envelope: _Envelope = msgspec.field(default_factory=_Envelope, name="_envelope")


def check_version(version: int, what: str) -> None:
    """Raise NewerVersion if `what` has a later version than this code's."""
    if version > VERSION:
        raise NewerVersion(f"A later version of the app wrote the {what} (version {version}; this one has {VERSION}).")


def check_message_version(body: bytes) -> None:
    """Raise NewerVersion for a message that this code can't read because a later version sent it."""
    try:
        version = msgspec.json.decode(body, type=_Message).envelope.version
    except UNREADABLE:
        return
    check_version(version, "message")
