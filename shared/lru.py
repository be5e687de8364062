"""A dictionary of bounded size, of which no customer has more than its share."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

CUSTOMERS = 100
"""So many customers can have as many entries as they like, and none loses one to another."""


class LRU(Generic[K, V]):
    """
    The `max_entries` entries that were read or set last. Use it on one event loop.

    A key that is a tuple begins with a customer, who has one CUSTOMERS-th of the entries at most: beyond that, its own
    least recently used entry is discarded, and nobody else's.
    """

    def __init__(self, max_entries: int) -> None:
        self.max_entries = max_entries
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._counts = Counter[Hashable]()
        """Entries of each customer."""

    def get(self, key: K) -> V | None:
        """Return the value, or None. The entry counts as used."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def set(self, key: K, value: V) -> None:
        """Add or replace an entry, and discard the least recently used one if there are too many."""
        customer = _customer(key)
        self._counts[customer] += key not in self._entries
        self._entries[key] = value
        self._entries.move_to_end(key)
        if self._counts[customer] > max(self.max_entries // CUSTOMERS, 1):
            self.pop(next(each for each in self._entries if _customer(each) == customer))
        elif len(self._entries) > self.max_entries:
            self.pop(next(iter(self._entries)))

    def pop(self, key: K) -> V | None:
        """Remove an entry and return its value, or None."""
        if key in self._entries:
            customer = _customer(key)
            self._counts[customer] -= 1
            if not self._counts[customer]:
                del self._counts[customer]
        return self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        """Whether there is an entry. It does not count as used."""
        return key in self._entries


def _customer(key: Hashable) -> Hashable:
    return key[0] if isinstance(key, tuple) else key
