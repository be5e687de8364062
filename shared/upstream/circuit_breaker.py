"""
A circuit breaker for each connection: an endpoint that keeps failing is not called for a while, then probed.

After FAILURES failed tries in a row the breaker opens, and calls wait without being sent. When its time is over it
is half-open: one call probes the endpoint, and its outcome closes the breaker or opens it for longer. A key that the
endpoint keeps refusing opens it too, unless the endpoint only refuses one operation; a new version of the secret has a
breaker of its own, so it is tried at once.
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
    NetworkRefused,
    PermissionRefused,
    ProviderUnavailable,
    UpstreamError,
    UpstreamFacts,
    UpstreamRetryLater,
    UpstreamTimeout,
)
from shared.event_names import BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN, NAMESPACE
from shared.lru import LRU

FAILURES = 8
"""Failed tries in a row that open the breaker."""
REFUSALS = 3
"""Refused credentials in a row that open the breaker, for REFUSED_S."""
OPEN_S = 10.0
"""Seconds that the breaker is open at first; doubled after each failed probe."""
MAX_OPEN_S = 300.0
REFUSED_S = 15.0
PROBE_S = 5.0
"""Seconds that other calls wait while one probes the endpoint."""
MAX_ENTRIES = 10_000
"""Breakers that a worker remembers."""

BreakerState = Literal["closed", "open", "half_open"]
OnChange = Callable[[str, str, BreakerState], None]
"""Called with customer, connection and the new state of its breaker."""

log = logging.getLogger(NAMESPACE)


@dataclass(slots=True)
class Breaker:
    """The circuit breaker of one version of a connection."""

    label: str
    """Names the connection in log lines."""
    clock: Callable[[], float]
    """Returns seconds."""
    on_change: Callable[[BreakerState], None]
    """Called with each new state."""
    failures: int = 0
    """Failed tries in a row."""
    refusals: int = 0
    """Refused credentials in a row."""
    times_opened: int = 0
    """How often it has opened since it was last closed."""
    open_until: float | None = None
    """On `clock`; None if it is closed."""
    probing: bool = False

    @property
    def state(self) -> BreakerState:
        """`half_open`: the outcome of the next call, or of the one under way, decides."""
        if self.open_until is None:
            return "closed"
        return "open" if self.clock() < self.open_until else "half_open"

    @contextmanager
    def attempt(self, retries: int, max_retries: int) -> Iterator[None]:
        """
        Wrap one try of a call that has used `retries` of its `max_retries` retries.

        If the breaker prevents the try, raises UpstreamRetryLater if the job can wait; otherwise the reason itself,
        CredentialRejected or ProviderUnavailable.
        """
        is_probe = self._admit(retries, max_retries)
        try:
            yield
        except UpstreamError as error:
            if not error.facts.unsent:
                self._count(error)
            raise
        else:
            self._close()
        finally:
            if is_probe:
                self.probing = False

    def _admit(self, retries: int, max_retries: int) -> bool:
        """Return whether the try is the probe. Raises as `attempt`."""
        state = self.state
        if state == "closed":
            return False
        if state == "half_open" and not self.probing:
            self.probing = True
            log.info("%s %s", BREAKER_HALF_OPEN, self.label)
            self.on_change("half_open")
            return True
        assert self.open_until is not None  # noqa: S101  # it is not closed
        wait = max(self.open_until - self.clock(), 0) or PROBE_S
        reason = self._reason(wait, state)
        if state == "half_open":  # another call probes; this one was not made, so it has used no retry
            raise UpstreamRetryLater(reason, wait, retries)
        if retries >= max(max_retries, 1):  # even a job without retries waits once: it was not tried
            raise reason
        raise UpstreamRetryLater(reason, wait, retries + 1)

    def _reason(self, wait_s: float, state: BreakerState) -> UpstreamError:
        facts = UpstreamFacts(transient=True, detail={"breaker": state})
        if self.refusals:
            times = f"refused this connection's key {self.refusals} times"
            return CredentialRejected(f"The endpoint {times} in a row, so it is not called for {wait_s:.0f} s.", facts)
        times = f"failed {self.failures} times"
        return ProviderUnavailable(f"The endpoint {times} in a row, so it is not called for {wait_s:.0f} s.", facts)

    def _count(self, error: UpstreamError) -> None:
        if _is_key_refused(error):
            self.refusals, self.failures = self.refusals + 1, 0
            if self.refusals >= REFUSALS:
                self._open(REFUSED_S, error)
        elif isinstance(error, ProviderUnavailable | UpstreamTimeout) and error.facts.transient:
            self.failures, self.refusals = self.failures + 1, 0
            if self.failures >= FAILURES:
                self._open(min(OPEN_S * 2 ** min(self.times_opened, 5), MAX_OPEN_S), error)
        else:
            self._close()  # any other error is a response, so the endpoint is up

    def _open(self, seconds: float, error: UpstreamError) -> None:
        if self.state == "open":  # a call that was under way when the breaker opened does not prolong it
            return
        self.open_until = self.clock() + seconds
        self.times_opened += 1
        log.warning(
            "%s %s for_s=%.0f failures=%d refusals=%d code=%s",
            BREAKER_OPEN,
            self.label,
            seconds,
            self.failures,
            self.refusals,
            error.code,
        )
        self.on_change("open")

    def _close(self) -> None:
        if self.open_until is not None:
            log.info("%s %s", BREAKER_CLOSED, self.label)
            self.on_change("closed")
        self.failures = self.refusals = self.times_opened = 0
        self.open_until = None


def _is_key_refused(error: Exception | None) -> bool:
    """Return whether `error` is about the key itself: not about the network, nor about one operation or model."""
    return isinstance(error, CredentialRejected) and not isinstance(error, NetworkRefused | PermissionRefused)


def _ignore(_customer: str, _connection: str, _state: BreakerState) -> None:
    pass


class Breakers:
    """The circuit breakers of a worker. Beyond MAX_ENTRIES, the least recently used one is forgotten."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, on_change: OnChange = _ignore) -> None:
        self._clock = clock
        self._on_change = on_change
        self._breakers = LRU[tuple[str, str, str], Breaker](MAX_ENTRIES)

    def of(self, customer: str, connection: str, version: str) -> Breaker:
        """Return the breaker of one version of a customer's connection."""
        key = (customer, connection, version)
        breaker = self._breakers.get(key)
        if breaker is None:
            label = f"customer={customer} connection={connection}"
            breaker = Breaker(label, self._clock, partial(self._on_change, customer, connection))
            self._breakers.set(key, breaker)
        return breaker
