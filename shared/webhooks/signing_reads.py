"""How many signing secrets a worker reads, and which it reads in advance."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from shared.errors import VaultUnavailable
from shared.event_names import NAMESPACE, SIGNING_SECRETS_UNREAD
from shared.jobs.crash_log import log_text
from shared.webhooks.signing_store import SigningStore

READS_A_SECOND = 50
"""
Reads of the vault for customers that the worker knows, and as many again for senders whose signature does not verify:
made-up names use up neither what Key Vault allows the jobs nor what customers need.
"""
PREFETCH_S = 600.0
"""From the beginning of a prefetch to that of the next one, at least."""
_PREFETCHES_A_SECOND = 25

log = logging.getLogger(NAMESPACE)


class ReadLimit:
    """At most READS_A_SECOND reads within a second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._read_at = deque[float](maxlen=READS_A_SECOND)

    def count(self) -> None:
        """Count one read. Raises VaultUnavailable if it is one too many."""
        read_at = self._clock()
        if len(self._read_at) == READS_A_SECOND and read_at - self._read_at[0] < 1:
            raise VaultUnavailable("Too many signing secrets are being read. Try again in 2 seconds.", 2)
        self._read_at.append(read_at)


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Of reads for owners that the worker knows, and for senders whose signature does not verify."""

    owners: ReadLimit
    senders: ReadLimit

    @classmethod
    def of(cls, clock: Callable[[], float]) -> Self:
        """Return limits by this clock."""
        return cls(ReadLimit(clock), ReadLimit(clock))


class Prefetch:
    """
    Reads the signing secrets of all customers, when names that senders make up take all reads for senders.

    From then on a webhook with a valid signature needs no such read. It goes by the names in the vault alone, so
    nothing about it depends on what senders send.
    """

    def __init__(
        self, store: SigningStore | None, read: Callable[[str], Awaitable[object]], clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._read = read
        self._clock = clock
        self._began_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin in the background, unless it began a while ago."""
        is_running = self._task is not None and not self._task.done()
        if self._store is None or is_running or self._clock() - self._began_at < PREFETCH_S:
            return
        self._began_at = self._clock()
        self._task = asyncio.create_task(self._run(self._store))

    async def _run(self, store: SigningStore) -> None:
        try:
            customers = await store.signing_customers()
        except Exception as exc:  # noqa: BLE001  # the identity may not list secrets, or the vault is down
            # Senders get what they get without this.
            log.warning("%s count=all: %s", SIGNING_SECRETS_UNREAD, log_text(exc))
            return
        failures: list[VaultUnavailable] = []
        for customer in customers:
            try:
                await self._read(customer)
            except VaultUnavailable as exc:
                failures.append(exc)
            await asyncio.sleep(1 / _PREFETCHES_A_SECOND)
        if failures:
            log.warning("%s count=%d: %s", SIGNING_SECRETS_UNREAD, len(failures), log_text(failures[-1]))
