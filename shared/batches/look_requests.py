"""The requests of a turn at a poll: one look at each response that is due (see `batches.response_poll`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.actions.respond import ENDED
from shared.batches.parts import BatchParts
from shared.clock import now
from shared.connections.account import is_at
from shared.connections.connection import Connection
from shared.errors import (
    ConnectionFault,
    CredentialRejected,
    JobError,
    RateLimited,
    RetryLater,
    UpstreamError,
)
from shared.event_names import NAMESPACE, RESPONSES_DELAYED
from shared.jobs.crash_log import log_crash, log_text
from shared.jobs.drain import WorkerStopping
from shared.jobs.polls import TURN_S, Poll
from shared.jobs.response_context import read_head
from shared.jobs.response_looks import MAX_WAIT_S
from shared.jobs.response_requests import FAULT_WAIT_S, NOT_FOUND, NOT_FOUND_FOR_S, send_request
from shared.storage.base import Row
from shared.storage.bulk import gather_limited

_REFUSED_WAIT_S = 15.0
"""After a refusal for too many requests that names no wait."""

log = logging.getLogger(NAMESPACE)


@dataclass(slots=True)
class LookRequests:
    """Those of one turn."""

    parts: BatchParts
    poll: Poll
    pause_s: float | None = None
    """Set once no more requests are made: for so long."""
    _ends_at: float = field(default_factory=lambda: time.monotonic() + TURN_S)

    async def look_at(self, rows: Sequence[Row]) -> dict[str, bool | None]:
        """Return by their keys whether responses have ended, or are gone; None: it was not looked at."""
        if not rows:
            return {}
        try:
            connection = await self.parts.connections.resolve(self.poll.customer, self.poll.connection)
        except (ConnectionFault, RetryLater) as exc:
            self._pause(exc, exc.delay_s if isinstance(exc, RetryLater) else FAULT_WAIT_S)
            return dict.fromkeys((row.key for row in rows), None)
        rows = [row for row in rows if is_at(connection, row.values["account"])]
        looks = await gather_limited(self._look(connection, row) for row in rows)
        return {row.key: look for row, look in zip(rows, looks, strict=True)}

    async def _look(self, connection: Connection, row: Row) -> bool | None:
        """Return whether a response has ended, or is gone; None if it was not looked at, and another turn goes on."""
        if time.monotonic() >= self._ends_at:
            self.pause_s = self.pause_s or 0
        if self.pause_s is not None:
            return None
        client, drain, values = self.parts.client, self.parts.drain, row.values
        try:
            response = await send_request(client, drain, connection, values["model"], values["response"])
        except WorkerStopping as exc:
            self.pause_s = exc.delay_s
            return None
        except (CredentialRejected, ConnectionFault) as exc:  # also of an address that may not be called any more
            self._pause(exc, FAULT_WAIT_S)
            if await self._is_rotated(connection):
                self.pause_s = 0
        except UpstreamError as exc:
            wait_s = exc.facts.retry_after_s or (_REFUSED_WAIT_S if isinstance(exc, RateLimited) else 0)
            if wait_s:
                self._pause(exc, min(wait_s, MAX_WAIT_S))
            is_old = (now() - values["at"]).total_seconds() > NOT_FOUND_FOR_S
            return is_old and exc.facts.status in NOT_FOUND
        except Exception as exc:  # noqa: BLE001  # a fault of ours must not keep the others waiting
            log_crash(exc, f"customer={self.poll.customer} connection={self.poll.connection}")
        else:
            return read_head(response).status in ENDED
        return False

    async def _is_rotated(self, connection: Connection) -> bool:
        try:
            return await self.parts.connections.find_rotated(connection) is not None
        except (JobError, RetryLater):
            return False  # the next turn meets it

    def _pause(self, reason: Exception, seconds: float) -> None:
        self.pause_s = seconds
        names = RESPONSES_DELAYED, self.poll.customer, self.poll.connection
        log.warning("%s customer=%s connection=%s delay_s=%.0f %s", *names, seconds, log_text(reason))
