"""Posts marked events to a receiver, some requests at a time, and notes what it meets there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.clock import now
from shared.exports.events import Event
from shared.exports.outbox_rows import EventState
from shared.exports.receivers import AT_ONCE, Answer, Receiver, Verdict
from shared.secret import Secret

_MAX_FAILURES = 5
"""
Requests in a row that may fail before the run leaves the receiver alone: with one customer's events, or with those of
several. The events of one customer may be what the receiver fails at.
"""

Position = tuple[int, int]
"""Of an event: the number of its row in the batch, and its number in the row."""


@dataclass
class Receipts:
    """What one run has met at one receiver."""

    counts: Counter[str] = field(default_factory=Counter)
    """Events by the state that they have come to."""
    fault: str = ""
    """What is wrong with the export or its receiver."""
    failures: Counter[str] = field(default_factory=Counter)
    """Requests that failed one after the other, by customer."""
    has_worked: bool = False
    """Whether any request did not fail."""
    blocked_until: datetime | None = None
    key_refused: bool = False
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    """Of all customers' requests."""

    def block(self, fault: str, blocked_until: datetime) -> None:
        """Have nothing sent, because something is wrong with the export itself."""
        self.fault, self.blocked_until = fault, blocked_until
        self.failures[""] = 1

    def note(self, answer: Answer, customer: str, at: datetime) -> None:
        """Note what a request has met."""
        if answer.fault:
            self.failures[customer] += 1
        else:
            self.failures.clear()
        self.has_worked |= not answer.fault
        self.fault = answer.fault or self.fault
        self.key_refused |= answer.key_refused
        if answer.wait_s:
            self.blocked_until = max(at + timedelta(seconds=answer.wait_s), self.blocked_until or at)

    def is_blocked(self, customer: str, at: datetime) -> bool:
        """Return whether nothing more of a customer is to be sent in this run."""
        if self.blocked_until is not None and at < self.blocked_until:
            return True
        failures = self.failures.total() if len(self.failures) > 1 else self.failures[customer]
        return failures >= _MAX_FAILURES


async def post(
    receiver: Receiver,
    key: Secret,
    receipts: Receipts,
    events: Mapping[Position, Event],
    states: Mapping[Position, EventState],
    deadline: datetime,
) -> dict[Position, Verdict]:
    """Post a customer's events until the deadline, and return what became of each that was posted."""
    together = [position for position in events if not states[position].alone]
    size = receiver.max_events
    requests = [together[start : start + size] for start in range(0, len(together), size)]
    requests += [[position] for position in events if states[position].alone]
    of_customer, verdicts = asyncio.Semaphore(receiver.at_once), dict[Position, Verdict]()

    async def post_some(positions: Sequence[Position]) -> None:
        async with of_customer, receipts.gate:
            at = now()
            customer = events[positions[0]].customer
            too_late = at > deadline or any(states[each].is_outside(receiver.window, at) for each in positions)
            if too_late or receipts.is_blocked(customer, at):
                return
            answer = await receiver.send([events[position] for position in positions], key)
            receipts.note(answer, customer, now())
            verdicts.update(zip(positions, answer.verdicts, strict=True))

    await asyncio.gather(*map(post_some, requests))
    return verdicts
