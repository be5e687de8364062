"""The audit entry of a price book that replaces another one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from shared.billing.audit import PRICES_SUBJECT, audit_row
from shared.billing.price_books import PRICES
from shared.contract.price_book import PriceBook
from shared.storage.base import Row

_KINDS = ("prices", "models", "markups", "rates")
_MAX_ENTRIES = 50
"""Entries of a kind that the audit entry has on each side. The books that it names by their hashes have them all."""

_Book = tuple[str, PriceBook] | None
"""A book and its hash."""


def publication_row(old: _Book, new: tuple[str, PriceBook], *, by: str) -> Row:
    """Return one audit row for all changes: the entries that only one of the two books has, by kind."""
    lists = [{kind: getattr(each[1], kind) if each else [] for kind in _KINDS} for each in (old, new)]
    before, after = ({kind: _without(own[kind], other[kind]) for kind in _KINDS} for own, other in (lists, lists[::-1]))
    customers = {
        getattr(entry, "customer", None) for side in (before, after) for entries in side.values() for entry in entries
    }
    is_for_all = None in customers or old is None or old[1].currency != new[1].currency
    return audit_row(
        PRICES,
        by=by,
        subject=PRICES_SUBJECT,
        before=_members(old, before),
        after=_members(new, after),
        concerns=None if is_for_all else [customer for customer in customers if customer],
    )


def _without(entries: Sequence[Struct], others: Sequence[Struct]) -> list[Struct]:
    excluded = {*others}
    return [entry for entry in entries if entry not in excluded]


def _members(book: _Book, entries: dict[str, list[Struct]]) -> dict[str, Any]:
    if book is None:
        return {}
    lists: dict[str, list[Any]] = {kind: list(listed[:_MAX_ENTRIES]) for kind, listed in entries.items() if listed}
    for kind, listed in lists.items():
        if len(entries[kind]) > len(listed):
            listed.append({"omitted": len(entries[kind]) - len(listed)})
    return {"sha256": book[0], "currency": book[1].currency, **lists}
