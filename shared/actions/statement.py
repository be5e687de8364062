"""`statement`: closes a month of its customer. Calls no endpoint; only the app itself sends such jobs."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from msgspec import Raw

from shared.actions.base import Completed
from shared.billing.closing import Closing
from shared.contract.closed_month import StatementInput
from shared.contract.decoding import decode as decode_json

NEEDS_MODEL = False


class ClosingContext(Protocol):
    """What the action can use while it runs."""

    @property
    def customer(self) -> str:
        """Whose month is closed."""

    @property
    def closing(self) -> Closing:
        """Closes months."""


def decode(data: Raw | bytes) -> StatementInput:
    """See Action."""
    return decode_json(data, StatementInput, at="input")


def keeps_blobs(_: StatementInput) -> bool:
    """See Action."""
    return False


async def run(request: StatementInput, ctx: ClosingContext) -> Completed:
    """See Action."""
    record = await ctx.closing.close(ctx.customer, request.document, allow_unpriced=request.allow_unpriced)
    output: dict[str, Any] = {"month": request.month}
    if request.correction:
        output["correction"] = request.correction
    if record is None:
        return Completed({**output, "nothing_to_correct": True})
    # Without the operator's file: the customer can read the result, and gets it if its profile has `notify`.
    return Completed({**output, **msgspec.to_builtins(record.summary())})
