"""
A response that an earlier attempt of its job has created, or may have: it is read, waited for, adopted or cancelled.

Each look is one request. Its errors end nothing: what is at the provider is paid for, so it is tried again until the
deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from shared.actions.base import Completed, Outcome, failed
from shared.actions.respond import ENDED, read_response
from shared.billing.usage import as_lost
from shared.clock import now
from shared.connections.account import is_at
from shared.connections.connection import Connection
from shared.contract.respond import JOB_METADATA
from shared.errors import (
    ConnectionFault,
    ConnectionInvalid,
    CredentialRejected,
    DeadlinePassed,
    JobCancelled,
    JobError,
    ProviderUnavailable,
    UpstreamError,
)
from shared.jobs.attempt import Attempt
from shared.jobs.base import JobServices
from shared.jobs.outcomes import deferred
from shared.jobs.response_context import Head, is_response_id, read_head
from shared.jobs.response_requests import FAULT_WAIT_S, NOT_FOUND, NOT_FOUND_FOR_S, send_request
from shared.jobs.response_rows import ResponseRows
from shared.jobs.response_steps import Creation, Creations, ResponseSteps
from shared.jobs.response_wait import CANCEL_BEFORE_S, adopted_by, is_replaceable, margin_s, wait_for
from shared.jobs.windows import BUY_MARKS_S
from shared.upstream.messages import Response

_LAST_TRIES, _LAST_WAIT_S = 3, 1.0
"""Of the last look, or of a cancellation."""
_NOT_SAID = frozenset({None, 401})
"""Without an answer, or with a key that may just have been rotated."""


def lost_too_often(attempt: Attempt, lost: int) -> Completed | None:
    """Return what a job ends with if so many of its creations got no answer; None if it may create another."""
    if lost <= max(attempt.job.options.max_retries, 1):
        return None
    message = "The provider did not say which response it had created, as often as the job may be tried."
    return failed(ProviderUnavailable(message))


def _may_be_read_later(error: UpstreamError | ConnectionFault) -> bool:
    """Return whether an error says nothing about what was to be read."""
    return isinstance(error, ConnectionFault) or error.facts.transient or error.facts.status in _NOT_SAID


@dataclass(slots=True)
class PendingResponse:
    """The last response that a job has begun, in one of its later attempts."""

    services: JobServices
    attempt: Attempt
    own: ResponseSteps
    creations: Creations
    creation: Creation
    ends: Completed | None
    """What the job is to end with, unless its response has ended; None: it may wait."""

    async def resume(self) -> Outcome | None:
        """Return what the job ends with, or that it waits; None if another response is to be created."""
        usage, creation = self.attempt.usage, self.creation
        usage.label, usage.model, usage.deployment_scope = creation.label, creation.model, creation.deployment_scope
        if not creation.response_id and creation.in_background:
            await self._adopt()
            window_s = self.services.settings.adopt_window_s
            if (
                not self.creation.response_id
                and self.ends is None
                and now() < adopted_by(self.attempt, creation, window_s)
            ):
                return self._later()
        if not self.creation.response_id:
            return await self._give_up()
        return await self._look()

    async def _adopt(self) -> None:
        """Take what an event has named for the response that was created, if it says so itself."""
        job, rows = self.attempt.job, ResponseRows(self.services.schedule.table)
        own = job.customer, self.creation.label.name, self.creation.name
        names = await rows.candidates(*own)
        looked_at = 0
        for name in names:
            try:
                head = read_head(await self._last_request(await self._connection(), name))
            except (UpstreamError, ConnectionFault) as error:
                if _may_be_read_later(error):
                    break
                head = Head()  # another account's, or gone
            if is_response_id(head.id) and (head.metadata or {}).get(JOB_METADATA) == self.creation.name:
                self.creation = await self.own.created(self.creation, head.id, self.creation.adapted)
                return
            looked_at += 1
        if looked_at:
            await rows.looked_at(*own, looked_at)

    async def _give_up(self) -> Outcome | None:
        await self.own.lost(self.creation)
        return self.ends or lost_too_often(self.attempt, self.creations.lost + 1)

    async def _look(self) -> Outcome | None:
        is_last = self.ends is not None or self._is_late
        try:
            connection = await self._connection()
            request = self._last_request if is_last else self._request
            response = await request(connection, self.creation.response_id)
            if read_head(response).status not in ENDED:
                if not is_last:
                    return self._later()
                response = await self._cancelled(connection)
        except (UpstreamError, ConnectionFault) as error:
            return await self._unreachable(error)
        if read_head(response).status not in ENDED:
            return await self._without(self._end())
        return await self._answered(replace(response, processing=self.creation.processing))

    async def _cancelled(self, connection: Connection) -> Response:
        """Cancel the response, and return it as it is then: it may have ended before."""
        name = self.creation.response_id
        try:
            response = await self._last_request(connection, name, "/cancel")
        except UpstreamError as error:
            if error.facts.transient or error.facts.status is None:
                raise
        else:
            if read_head(response).status in ENDED:
                return response
        return await self._last_request(connection, name)

    async def _answered(self, response: Response) -> Outcome | None:
        read, arguments = self._reader(), (response, self.creation.adapted)
        client, customer = self.services.client, self.attempt.job.customer
        if response.is_large:
            outcome = await client.side_process.call(customer, read, *arguments)
        else:
            outcome = read(*arguments)
        if isinstance(outcome.error, JobCancelled) and self._is_replaceable:
            return await self._without(outcome, is_over=True)
        self._learn_time()
        if isinstance(outcome.error, JobCancelled) and (self.ends is not None or self._is_late):
            return replace(self._end(), calls=outcome.calls)  # it was cancelled for that
        if self.attempt.lease.cancelled:
            return replace(self._end(), calls=outcome.calls)
        return outcome

    def _reader(self) -> Callable[..., Completed]:
        if self.attempt.job.action != "chat":
            return read_response
        from shared.actions.chat_in_background import read_chat_response  # noqa: PLC0415  # few chats wait

        return read_chat_response

    async def _without(self, outcome: Completed, *, is_over: bool = False) -> Outcome | None:
        """
        Return what follows if the job may not get its response: `outcome`, a wait, or None if it creates another.

        `is_over`: nothing more comes of the response.
        """
        left_s = self.attempt.time.seconds_left()
        if not self._is_replaceable or left_s <= CANCEL_BEFORE_S:
            return outcome
        if not is_over and left_s > BUY_MARKS_S[-1]:
            return self._later()
        self._learn_time()
        await self.own.lost(self.creation, as_lost(outcome.calls))
        return lost_too_often(self.attempt, self.creations.lost + 1)

    def _learn_time(self) -> None:
        """Remember how long a window took, or would not have been enough."""
        connection, creation = self.attempt.connection, self.creation
        if connection is not None and creation.processing != "standard":
            key, took_s = (*connection.identity, creation.model, creation.processing), now() - creation.at
            self.services.capabilities.learn_batch_seconds(took_s.total_seconds(), *key)

    async def _unreachable(self, error: JobError) -> Outcome | None:
        """Return what follows from a look that failed."""
        facts = error.facts if isinstance(error, UpstreamError) else None
        is_old = (now() - self.creation.at).total_seconds() > NOT_FOUND_FOR_S
        if facts is not None and facts.status in NOT_FOUND and is_old:
            gone = failed(ProviderUnavailable("The provider does not have the response any more.", facts))
            return await self._without(self.ends or gone, is_over=True)
        if self._is_late:
            return await self._without(self.ends or failed(error))
        rotated = None
        if isinstance(error, CredentialRejected) and self.attempt.connection is not None:
            rotated = await self.services.connections.find_rotated(self.attempt.connection)
        if rotated is not None:
            return self._later()
        return self._later(max(facts.retry_after_s or 0, 0) if facts is not None else FAULT_WAIT_S)

    def _later(self, at_least_s: float = 0) -> Outcome:
        return deferred(wait_for(self.services, self.attempt, self.creation, at_least_s=at_least_s))

    def _end(self) -> Completed:
        message = f"The job's deadline of {self.attempt.job.options.lasts_s:g} s passed before its response had ended."
        return self.ends or failed(DeadlinePassed(message))

    @property
    def _is_late(self) -> bool:
        margin = BUY_MARKS_S[0] if self._is_replaceable else margin_s(self.attempt, self.creation)
        return self.attempt.time.seconds_left() <= margin

    @property
    def _is_replaceable(self) -> bool:
        return self.ends is None and is_replaceable(self.attempt, self.creation)

    async def _connection(self) -> Connection:
        """Return the connection. Raises ConnectionFault, also if it leads to another account now."""
        attempt, name = self.attempt, self.creation.label.name
        connection = await self.services.connections.resolve(attempt.job.customer, name)
        if not is_at(connection, self.creation.account):
            message = f"The connection {name} leads to another account than when the response was created."
            raise ConnectionInvalid(message)
        attempt.connection, attempt.usage.label = connection, connection.label()
        return connection

    async def _last_request(self, connection: Connection, name: str, path: str = "") -> Response:
        """As `_request`, tried again at once; with the new key if it was rotated."""
        for number in range(1, _LAST_TRIES + 1):
            try:
                return await self._request(connection, name, path)
            except CredentialRejected:
                if number == _LAST_TRIES or await self.services.connections.find_rotated(connection) is None:
                    raise
                connection = await self._connection()
            except UpstreamError as error:
                if number == _LAST_TRIES or not (error.facts.transient or error.facts.status is None):
                    raise
            await asyncio.sleep(_LAST_WAIT_S)
        raise AssertionError

    async def _request(self, connection: Connection, name: str, path: str = "") -> Response:
        """Return the provider's answer to a request that costs nothing. Raises UpstreamError, WorkerStopping."""
        services = self.services
        with self.attempt.time.calling():
            return await send_request(services.client, services.drain, connection, self.creation.model, name, path=path)
