"""The endpoint's journal: every request and its outcome. The app's own records are compared with it."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local.soak.plan import CallKey

BILLABLE = frozenset({"answered", "slow", "reset after", "unreadable", "hung"})
"""
The outcomes that a customer pays for: the work was done, whether or not the answer arrived. `unreadable`: it did, but
nobody can read it, so that it reports no tokens. `hung`: it did not, or not all of it, before the client gave up.
"""


@dataclass(slots=True)
class Entry:
    """One request. `outcome` is empty until it has ended; the tokens are those of its response, sent or not."""

    at: float
    customer: str
    """Whose key it had; empty for an unknown key."""
    call: CallKey | None
    request_id: str
    outcome: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    service_tier: str = ""
    ended: float = 0.0

    def consume(self, input_tokens: int, chance: random.Random) -> None:
        """Set what the request consumes."""
        self.input_tokens = input_tokens
        self.output_tokens = chance.randint(1, 200)
        self.cached_tokens = chance.choice([0, self.input_tokens // 2])
        self.cache_write_tokens = chance.choice([0, self.input_tokens // 3])
        self.reasoning_tokens = chance.choice([0, self.output_tokens // 2])
        self.service_tier = chance.choice(["default", "flex", "priority"])

    @property
    def chat_usage(self) -> dict[str, Any]:
        """The members of a chat completion that report what the request consumed."""
        usage = {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "prompt_tokens_details": {
                "cached_tokens": self.cached_tokens,
                "cache_write_tokens": self.cache_write_tokens,
            },
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }
        return {"usage": usage, "service_tier": self.service_tier}

    @property
    def billable(self) -> bool:
        """Whether the work was done."""
        return self.outcome in BILLABLE


@dataclass(slots=True)
class Journal:
    """All requests, oldest first. Times are seconds of `clock`."""

    clock: Callable[[], float] = time.monotonic
    entries: list[Entry] = field(default_factory=list)
    tries: Counter[CallKey] = field(default_factory=Counter)

    def open(self, customer: str, call: CallKey | None) -> Entry:
        """A new entry, with a new request id for the response."""
        entry = Entry(self.clock(), customer, call, f"soak-{len(self.entries):07}")
        self.entries.append(entry)
        if call is not None:
            self.tries[call] += 1
        return entry

    def close(self, entry: Entry, outcome: str) -> None:
        """Record the outcome of a request."""
        entry.outcome, entry.ended = outcome, self.clock()

    @property
    def in_flight(self) -> int:
        """The number of requests that have not ended."""
        return sum(not entry.outcome for entry in self.entries)
