"""
An outbox row as an export sees it: the records that it names, and how far each has come. Pure.

For each export a row has two columns: `to_{export}`, a word for all of its events, and `events_{export}`, a state for
each of them, which is missing as long as nobody has looked at them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import Struct

from shared.billing.money import EXACT, amount_text
from shared.billing.outbox import export_column
from shared.storage.base import Row

OPEN, HELD, DONE = "open", "held", "done"
"""What a row says of all its events: something is to be sent; a person has to decide about some; nothing is left."""
WINDOW_MARGIN = timedelta(minutes=15)
"""How long before the end of a receiver's window an event is no longer sent again: clocks differ, and requests last."""
BUSY = timedelta(minutes=5)
"""How long an event that is being sent is left to whoever sends it."""
MAX_DELAY = timedelta(hours=1)
"""Between two tries of an event."""
_ALONE_AFTER = 3
"""Tries of an event together with others: it may be the one that the receiver fails at."""
_IN_OPEN = frozenset({"waiting", "sending"})
_IN_HELD = frozenset({"refused", "in_doubt"})


class EventState(Struct, frozen=True, omit_defaults=True):
    """How far one event has come."""

    state: Literal["waiting", "sending", "sent", "left_out", "refused", "in_doubt"] = "waiting"
    since: datetime | None = None
    """When it may have been received for the first time."""
    due_at: datetime | None = None
    """Until then it is left alone."""
    subject: str = ""
    """The customer's id at the receiver, as it was sent."""
    value: str = ""
    """As it was sent."""
    currency: str = ""
    """Of a value that is an amount, as it was sent."""
    reason: str = ""
    """Why it waits, or was refused."""
    tries: int = 0
    alone: bool = False

    def is_due(self, at: datetime) -> bool:
        """Return whether it is to be looked at."""
        # What a worker has postponed by a wrong clock is due at once.
        return self.state in _IN_OPEN and not (self.due_at and at < self.due_at <= at + MAX_DELAY + WINDOW_MARGIN)

    def is_outside(self, window: timedelta | None, at: datetime) -> bool:
        """
        Return whether the receiver might not recognize it any more if it has it.

        A time that is still to come says that a clock was wrong, and nothing about how long ago that was.
        """
        if window is None or self.since is None:
            return False
        return not -WINDOW_MARGIN <= at - self.since <= window - WINDOW_MARGIN

    def sending(self, at: datetime, **sent: str) -> EventState:
        """Return the state while it is being sent. `sent`: what is new of `subject`, `value` and `currency`."""
        since, tries = self.since or at, self.tries + 1
        return msgspec.structs.replace(
            self, state="sending", since=since, due_at=at + BUSY, reason="", tries=tries, **sent
        )

    def in_doubt(self, reason: str = "") -> EventState:
        """Return the state of an event that the receiver may have, and might not recognize any more."""
        return msgspec.structs.replace(self, state="in_doubt", due_at=None, reason=reason or self.reason)

    def postponed(self, at: datetime, delay: timedelta, reason: str) -> EventState:
        """Return the state of an event that waits for something other than its receiver."""
        return msgspec.structs.replace(self, state="waiting", due_at=at + delay, reason=reason)

    def not_taken(self, at: datetime, reason: str, *, alone: bool = False) -> EventState:
        """Return the state of an event that its receiver has not taken this time."""
        if self.tries > 1:  # it may have taken it an earlier time
            return msgspec.structs.replace(self.uncertain(at, reason), alone=alone or self.alone)
        return EventState(due_at=at, reason=reason, alone=alone or self.alone)

    def uncertain(self, at: datetime, reason: str) -> EventState:
        """Return the state of an event that its receiver may have taken: it is sent again, after a while."""
        delay = min(timedelta(minutes=2 ** min(self.tries, 10)), MAX_DELAY)
        alone = self.alone or self.tries >= _ALONE_AFTER
        return msgspec.structs.replace(self, due_at=at + delay, reason=reason, alone=alone)

    def refused(self, reason: str) -> EventState:
        """Return the state of an event that its receiver does not want as it is."""
        return msgspec.structs.replace(self, state="refused", due_at=None, reason=reason)

    def sent(self) -> EventState:
        """Return the state of an event that its receiver has."""
        return EventState("sent", self.since, subject=self.subject, value=self.value, currency=self.currency)

    def renewed(self) -> EventState:
        """
        Return the state of a refused event that is made again and sent: what is wrong with it has been corrected.

        If an earlier try may have been received, that stays known, and the value what it was.
        """
        if self.tries == 1:
            return EventState()
        return EventState(since=self.since, value=self.value, currency=self.currency, tries=1)


@dataclass
class OutboxRow:
    """A row of one customer's outbox. Its states change here first, and then in the table."""

    row: Row
    keys: Sequence[str] = field(init=False)
    """Of the usage records."""

    def __post_init__(self) -> None:
        self.keys = msgspec.json.decode(self.row.values["records"], type=list[str])

    @property
    def at(self) -> datetime:
        """When its records were written."""
        return self.row.values["at"]  # type: ignore[no-any-return]

    def word(self, export: str) -> str:
        """Return what the row says of all its events of an export; empty if that gets none of them."""
        return self.row.values.get(export_column(export)) or ""

    def states(self, export: str) -> list[EventState]:
        """Return the state of each record's event."""
        data = self.row.values.get(_states_column(export))
        if not data:
            return [EventState("sent" if self.word(export) == DONE else "waiting")] * len(self.keys)
        return msgspec.json.decode(data, type=list[EventState])

    def change(self, export: str, states: Sequence[EventState]) -> Row:
        """Return the row that merges these states into the table's, and has the etag of what is known of it."""
        word = _word(states)
        values: dict[str, Any] = {export_column(export): word}
        # What is done is not worth its bytes.
        values[_states_column(export)] = b"" if word == DONE else msgspec.json.encode(states)
        return Row(self.row.partition, self.row.key, values, self.row.etag)

    def written(self, change: Row, etag: str) -> None:
        """Note that a change was written."""
        self.row = Row(self.row.partition, self.row.key, {**self.row.values, **change.values}, etag)

    @property
    def is_done(self) -> bool:
        """Whether no export needs it any more."""
        return all(value == DONE for name, value in self.row.values.items() if name.startswith(export_column("")))


def _states_column(export: str) -> str:
    return export_column(export).replace("to_", "events_", 1)


def _word(states: Iterable[EventState]) -> str:
    words = {state.state for state in states}
    return OPEN if words & _IN_OPEN else HELD if words & _IN_HELD else DONE


@dataclass(frozen=True, slots=True)
class Tally:
    """What an export has been sent of a customer's day: `y_{day}_{export}`."""

    row: Row | None
    events: int
    value: Decimal


def tally_key(day: date, export: str) -> str:
    """Return the key of the row that counts what an export was sent of a day."""
    return f"y_{day}_{export}"


def read_tally(row: Row | None) -> Tally:
    """Return the tally in a row; nothing was sent without one."""
    values: Mapping[str, Any] = {} if row is None else row.values
    return Tally(row, values.get("events", 0), Decimal(values.get("value", "0")))


def tally_row(customer: str, key: str, tally: Tally, sent: Sequence[EventState]) -> Row:
    """Return the row that adds sent events to a tally: merged if it exists, else inserted."""
    value = tally.value
    for state in sent:
        value = EXACT.add(value, Decimal(state.value or "0"))
    values = {"events": tally.events + len(sent), "value": amount_text(value)}
    return Row(customer, key, values, tally.row.etag if tally.row else "")
