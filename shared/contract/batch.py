"""The JSON documents of batches: jobs' calls that wait together for their provider."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

BatchState = Literal["gathering", "sending", "waiting", "harvesting", "waking", "done"]


class BatchDocument(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A batch of calls of a customer's jobs."""

    customer: str
    batch: str
    """Its id here."""
    state: BatchState
    """`gathering`: further calls may join. `sending`: its file is uploaded. `waiting`: it is at the provider.
    `harvesting`: its answers are read. `waking`: its jobs continue. `done`: they have continued."""
    connection: str
    model: str
    operation: str
    lines: int
    """Its calls."""
    answered: int
    """Lines with an answer that was read."""
    failed: int
    """Lines that the provider refused, or that it has not run."""
    opened_at: str
    deadline: str
    """That of the job that opened it. Others are at most an hour away from it."""
    cancel_at: str
    """When it is cancelled if it has not ended, so that what was answered reaches its jobs in time."""
    due_at: str | None = None
    """When it is looked at next. Missing once it is done."""
    late: bool = False
    """Whether four fifths of the time until `cancel_at` are over and it has not ended."""
    provider_id: str | None = None
    """Its id at the provider, once it is there."""
    provider_status: str | None = None
    """The provider's word, in lower case, such as `in_progress`."""
    error: str | None = None
    """Why the provider did not run it, or why the last try to send or read it came to nothing."""


class BatchPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some of a customer's batches, newest first."""

    batches: list[BatchDocument]
    continuation: str | None = None
    """For the next page. Missing on the last page."""
