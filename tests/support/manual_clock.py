"""A clock that only the test moves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ManualClock:
    """Returns seconds, which pass only if the test says so."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Let that many seconds pass."""
        self.seconds += seconds
