"""What the soak's endpoint was asked and what it did: the witness that the app's own records are held against."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from local.soak.plan import Piece

PAID = frozenset({"answered", "slow", "reset after"})
"""What an endpoint does that a customer pays for: the work was done, whether or not its answer arrived."""


@dataclass(slots=True)
class Entry:
    """One request. `did` is empty until it is dealt with; tokens are what was, or would have been, told."""

    at: float
    customer: str
    """Whose key came with it; empty for a key that nobody has."""
    piece: Piece | None
    request_id: str
    did: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    ended: float = 0.0

    @property
    def paid(self) -> bool:
        """Whether the work was done."""
        return self.did in PAID


@dataclass(slots=True)
class Journal:
    """All requests, oldest first. Times are seconds on `clock`."""

    clock: Callable[[], float] = time.monotonic
    entries: list[Entry] = field(default_factory=list)
    tries: Counter[Piece] = field(default_factory=Counter)

    def open(self, customer: str, piece: Piece | None) -> Entry:
        """A new entry, with an id of its own for the answer to bear."""
        entry = Entry(self.clock(), customer, piece, f"soak-{len(self.entries):07}")
        self.entries.append(entry)
        if piece is not None:
            self.tries[piece] += 1
        return entry

    def close(self, entry: Entry, did: str) -> None:
        """Says what was done."""
        entry.did, entry.ended = did, self.clock()

    @property
    def in_flight(self) -> int:
        """How many requests are not dealt with yet."""
        return sum(not entry.did for entry in self.entries)
