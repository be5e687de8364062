"""
A breaker a connection: an endpoint that keeps failing is left alone for a while, then tried with one call.

A key that the endpoint keeps refusing is not tried again and again either; a new version of the secret
has a breaker of its own, and so is tried at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

from shared.errors import (
    CredentialRejected,
    ProviderUnavailable,
    UpstreamError,
    UpstreamFacts,
    UpstreamRetryLater,
    UpstreamTimeout,
)
from shared.event_names import BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN
from shared.lru import LRU

FAILURES = 8
"""Tries in a row that fail, before the endpoint is left alone."""
REFUSALS = 3
"""Tries in a row whose key is refused, before the key is not tried for REFUSED_S."""
OPEN_S = 10.0
"""How long it is left alone at first; doubled each time that the trial fails."""
LONGEST_S = 300.0
REFUSED_S = 15.0
TRIAL_S = 5.0
"""How long other calls wait for what the one on trial finds."""
MAX_ENTRIES = 10_000
"""Breakers that a worker keeps."""
_UNAUTHORIZED = 401

BreakerState = Literal["closed", "open", "half_open"]
OnChange = Callable[[str, str, BreakerState], None]
"""Called with customer, connection and the new state of its breaker."""

log = logging.getLogger("customer_ai_jobs")


@dataclass(slots=True)
class Breaker:
    """The state of one connection; `ticks` is a clock of seconds."""

    name: str
    ticks: Callable[[], float]
    changed: Callable[[BreakerState], None]
    """Is told each new state."""
    failures: int = 0
    refusals: int = 0
    opened: int = 0
    """How often in a row it has opened."""
    until: float | None = None
    trying: bool = False

    @property
    def state(self) -> BreakerState:
        """`half_open`: the next call, or the one under way, decides."""
        if self.until is None:
            return "closed"
        return "open" if self.ticks() < self.until else "half_open"

    @contextmanager
    def attempt(self, retries: int, max_retries: int) -> Iterator[None]:
        """
        Around one try of a call, which has used up `retries`.

        Raises CredentialRejected, ProviderUnavailable, or UpstreamRetryLater where the job may wait, instead of
        letting it be made.
        """
        trial = self._enter(retries, max_retries)
        try:
            yield
        except UpstreamError as error:
            self._count(error)
            raise
        else:
            self._close()
        finally:
            if trial:
                self.trying = False

    def _enter(self, retries: int, max_retries: int) -> bool:
        state = self.state
        if state == "closed":
            return False
        if state == "half_open" and not self.trying:
            self.trying = True
            log.info("%s %s", BREAKER_HALF_OPEN, self.name)
            self.changed("half_open")
            return True
        if self.refusals:
            raise CredentialRejected(
                f"The endpoint has refused this connection's key {self.refusals} times in a row; it is not tried now.",
                UpstreamFacts(detail={"breaker": state}),
            )
        assert self.until is not None  # noqa: S101  # it is not closed
        wait = max(self.until - self.ticks(), 0) or TRIAL_S
        reason = ProviderUnavailable(
            f"The endpoint failed {self.failures} times in a row, and is left alone for {wait:.0f} s.",
            UpstreamFacts(transient=True, detail={"breaker": state}),
        )
        if state == "half_open":  # it waits for another's call to tell, and has not been made itself
            raise UpstreamRetryLater(reason, wait, retries)
        if retries >= max_retries:
            raise reason
        raise UpstreamRetryLater(reason, wait, retries + 1)

    def _count(self, error: UpstreamError) -> None:
        if isinstance(error, CredentialRejected) and error.facts.status == _UNAUTHORIZED:
            # Not 403: a key may be good for one model, or one operation, and not for another.
            self.refusals, self.failures = self.refusals + 1, 0
            self._trip(self.refusals >= REFUSALS, REFUSED_S, error)
        elif isinstance(error, ProviderUnavailable | UpstreamTimeout) and error.facts.transient:
            self.failures, self.refusals = self.failures + 1, 0
            self._trip(self.failures >= FAILURES, min(OPEN_S * 2 ** min(self.opened, 5), LONGEST_S), error)
        else:
            self._close()  # it answers, whatever it says

    def _trip(self, enough: bool, seconds: float, error: UpstreamError) -> None:
        if self.state == "open" or not enough:  # a call that was under way when it opened tells nothing new
            return
        self.until = self.ticks() + seconds
        self.opened += 1
        log.warning(
            "%s %s for_s=%.0f failures=%d refusals=%d code=%s",
            BREAKER_OPEN,
            self.name,
            seconds,
            self.failures,
            self.refusals,
            error.code,
        )
        self.changed("open")

    def _close(self) -> None:
        if self.until is not None:
            log.info("%s %s", BREAKER_CLOSED, self.name)
            self.changed("closed")
        self.failures = self.refusals = self.opened = 0
        self.until = None


def _ignore(_customer: str, _connection: str, _state: BreakerState) -> None:
    pass


class Breakers:
    """The breakers of a worker; those of connections that are idle are forgotten first."""

    def __init__(self, *, ticks: Callable[[], float] = time.monotonic, on_change: OnChange = _ignore) -> None:
        self._ticks = ticks
        self._on_change = on_change
        self._breakers = LRU[tuple[str, str, str], Breaker](MAX_ENTRIES)

    def of(self, customer: str, connection: str, version: str) -> Breaker:
        """The breaker of one version of a customer's connection."""
        key = (customer, connection, version)
        breaker = self._breakers.get(key)
        if breaker is None:
            changed = partial(self._on_change, customer, connection)
            named = f"customer={customer} connection={connection}"
            breaker = Breaker(named, self._ticks, changed)
            self._breakers.set(key, breaker)
        return breaker
