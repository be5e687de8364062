"""What is done about a customer's responses before it is erased: nobody would read or cancel them afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from shared.actions.respond import ENDED
from shared.batches.parts import BatchParts
from shared.connections.account import is_at
from shared.connections.connection import Connection
from shared.errors import ConnectionInvalid, JobError, RetryLater, UpstreamError
from shared.jobs.crash_log import log_text
from shared.jobs.job_updates import JobUpdates
from shared.jobs.response_context import read_head
from shared.jobs.response_requests import NOT_FOUND, send_request
from shared.jobs.response_steps import last_creation
from shared.jobs.versions import NewerVersion
from shared.jobs.waiting_rows import LAST, PREFIX, names_of
from shared.storage.base import Row
from shared.storage.bulk import gather_limited, read_pages
from shared.upstream.messages import Response

_TRIES, _WAIT_S, _MAX_WAIT_S = 3, 1.0, 30.0
"""Of a request that fails for now."""
_UNKNOWN = "its creation got no answer; if there is one, its metadata has this as customer_job"
_MOVED = "The connection {} leads to another account than when the response was created."


@dataclass(slots=True)
class ResponseErasure:
    """What became of responses at providers, by the provider's ids."""

    cancelled: list[str] = field(default_factory=list)
    """Those that had not ended."""
    left: dict[str, str] = field(default_factory=dict)
    """Those that may go on, each with the reason; one without an id by what its metadata says."""


async def cancel_responses(parts: BatchParts, customer: str) -> ResponseErasure:
    """
    Cancel the responses that a customer's jobs wait for, as far as that is possible, and the jobs: they buy no other.

    Raises StorageUnavailable if the table can't be read.
    """
    erasure = ResponseErasure()
    async for rows in read_pages(parts.table, customer, PREFIX, LAST):
        await gather_limited(_erase(parts, row, erasure) for row in rows if names_of(row)[1])
    return erasure


async def _erase(parts: BatchParts, row: Row, erasure: ResponseErasure) -> None:
    customer, job_id, (connection_name, creation) = row.partition, row.values["job_id"], names_of(row)
    name, account, model = (row.values.get(column, "") for column in ("response", "account", "model"))
    if await _is_over(parts, customer, job_id):
        return  # it has left the row
    if not name:  # its job has not begun to wait for it
        begun = await last_creation(parts.table, customer, job_id)
        if begun is None or begun.name != creation:
            return
        name, account, model = begun.response_id, begun.account, begun.model
    if not name:
        erasure.left[creation] = _UNKNOWN
        return
    try:
        connection = await parts.connections.resolve(customer, connection_name)
        if not is_at(connection, account):
            raise ConnectionInvalid(_MOVED.format(connection_name))
        if await _is_cancelled(parts, connection, model, name) and name not in erasure.cancelled:
            erasure.cancelled.append(name)
    except (JobError, RetryLater) as exc:
        erasure.left[name] = log_text(exc)


async def _is_over(parts: BatchParts, customer: str, job_id: str) -> bool:
    """Return whether a job has ended. One that has not is cancelled, so that it buys nothing instead."""
    try:
        return await JobUpdates(parts.table).cancel(customer, job_id) in {None, "done"}
    except NewerVersion:
        return False


async def _is_cancelled(parts: BatchParts, connection: Connection, model: str, name: str) -> bool:
    """Return whether a response was cancelled now; False if it had ended, or is gone. Raises UpstreamError."""
    try:
        return read_head(await _request(parts, connection, model, name, "/cancel")).status not in ENDED - {"cancelled"}
    except UpstreamError as exc:
        if exc.facts.status in NOT_FOUND:
            return False
        if exc.facts.status is None or exc.facts.transient:
            raise
        if read_head(await _request(parts, connection, model, name)).status not in ENDED:
            raise
    return False


async def _request(parts: BatchParts, connection: Connection, model: str, name: str, path: str = "") -> Response:
    for number in range(1, _TRIES + 1):
        try:
            return await send_request(parts.client, parts.drain, connection, model, name, path=path)
        except UpstreamError as exc:
            if number == _TRIES or not (exc.facts.transient or exc.facts.status is None):
                raise
            wait_s = min(max(exc.facts.retry_after_s or 0, _WAIT_S), _MAX_WAIT_S)
        await asyncio.sleep(wait_s)
    raise AssertionError
