"""What a job's row says that it has reserved of its customer's budgets, and for what. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from shared.contract.result import ConnectionLabel


class ReservedAmount(msgspec.Struct, array_like=True, frozen=True):
    """What a job's row says that it has reserved of one budget."""

    budget: str
    unit: str
    period: str
    bucket: int
    amount: Decimal


class ReservedFor(msgspec.Struct, frozen=True):
    """
    What a job's row says of the calls that it has reserved for, or that are lines of batches.

    It is needed if the job ends without its connection, or without an attempt.
    """

    model: str
    connection: ConnectionLabel
    deployment_scope: str | None = None
    output_limit: int | None = None
    """See JobBudgets."""


def read_reserved(text: str) -> Sequence[ReservedAmount]:
    """Return what a job's row says that it has reserved."""
    return msgspec.json.decode(text, type=list[ReservedAmount]) if text else ()


def read_reserved_for(text: str) -> ReservedFor | None:
    """Return what a job's row says of the calls that it has reserved for."""
    return msgspec.json.decode(text, type=ReservedFor) if text else None
