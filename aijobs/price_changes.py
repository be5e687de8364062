"""What sets two price books apart: which entries begin, change or end, and by how much. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any

from msgspec import Struct

from aijobs.table import Table, make_table
from shared.contract.price_book import RATES, Price, PriceBook, days_of, entry_key

KINDS = ("prices", "models", "markups", "rates")
MAX_ROWS = 40
"""Rows of prices in a text: a first import has thousands."""
_DAYS = ("effective_from", "effective_to")
_LARGE = Decimal("0.5")
"""The share of an old price by which a new one may differ without `--force`."""
_CACHE_PARTS = frozenset({"cached", "cache_write", "cache_write_long"})
_COLUMNS = (
    *("change", "model", "provider", "scope", "processing", "tier", "min input", "customer", "from", "to"),
    "prices",
)
_ORDER = {"changed": 0, "ended": 1, "added": 2}


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of one kind that is another on certain days; None: there is none."""

    kind: str
    start: date
    end: date
    old: Any
    new: Any

    @property
    def name(self) -> str:
        """Return `added`, `changed` or `ended`."""
        return "added" if self.old is None else "ended" if self.new is None else "changed"

    @property
    def is_large(self) -> bool:
        """Whether an amount changes by more than half."""
        if self.old is None or self.new is None:
            return False
        names = RATES if self.kind == "prices" else ("rate",) if self.kind == "rates" else ()
        pairs = [(_charged(self.old, name), _charged(self.new, name)) for name in names]
        return any(old is not None and new is not None and abs(new - old) > old * _LARGE for old, new in pairs)

    @property
    def values(self) -> dict[str, tuple[Any, Any]]:
        """Return the members that differ, with their old and new values."""
        old, new = _values(self.old), _values(self.new)
        names = [name for name in (self.old or self.new).__struct_fields__ if name not in _DAYS]
        identity = _identity(self.kind)
        return {
            name: (old.get(name), new.get(name))
            for name in names
            if name not in identity and old.get(name) != new.get(name)
        }


def changes_between(old: PriceBook | None, new: PriceBook) -> list[Change]:
    """Return all changes: first what changes, large changes before others, then what ends, then what is new."""
    changes: list[Change] = []
    for kind in KINDS:
        groups: defaultdict[tuple[Any, ...], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
        for side, book in enumerate((old, new)):
            for entry in getattr(book, kind) if book is not None else ():
                groups[entry_key(kind, entry)][side].append(entry)
        for before, after in groups.values():
            changes += _over_time(kind, before, after)
    return sorted(changes, key=lambda change: (KINDS.index(change.kind), _ORDER[change.name], not change.is_large))


def as_documents(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Return the changes for programs: each with the whole old and new entry, and the days."""
    return [
        {
            "change": change.name,
            "kind": change.kind,
            **_span(change),
            **({} if change.old is None else {"old": change.old}),
            **({} if change.new is None else {"new": change.new}),
            "more_than_half": change.is_large,
        }
        for change in changes
    ]


def as_text(changes: Sequence[Change]) -> list[str | Table]:
    """Return the changes for people."""
    prices = [change for change in changes if change.kind == "prices"]
    text: list[str | Table] = []
    if prices:
        text.append(
            make_table(_COLUMNS, map(_row, prices[:MAX_ROWS]), numeric=frozenset({"min input"}), prose="prices")
        )
    if len(prices) > MAX_ROWS:
        text.append(f"… and {len(prices) - MAX_ROWS} more, all of which `--check --json` shows.")
    for change in changes:
        if change.kind != "prices":
            entry = change.new or change.old
            words = [
                f"{name} {value}" for name in _identity(change.kind) if (value := getattr(entry, name)) is not None
            ]
            days = "".join(f" {name} {day}" for name, day in _span(change).items())
            text.append(f"{change.name} in `{change.kind}`: {' '.join([*words, _prose(change)])}{days}.")
    return text


def _over_time(kind: str, before: Sequence[Any], after: Sequence[Any]) -> Iterator[Change]:
    """Yield the changes of entries that are for the same, one for all days that have the same change."""
    edges = sorted({day for entry in (*before, *after) for day in days_of(entry)})
    last: Change | None = None
    for start, end in pairwise(edges):
        old, new = (_held(entries, start) for entries in (before, after))
        if _values(old) == _values(new):
            continue
        if last is not None and (last.end, _values(last.old), _values(last.new)) == (start, _values(old), _values(new)):
            last = Change(kind, last.start, end, old, new)
            continue
        if last is not None:
            yield last
        last = Change(kind, start, end, old, new)
    if last is not None:
        yield last


def _held(entries: Sequence[Any], day: date) -> Any:
    return next((entry for entry in entries if days_of(entry)[0] <= day < days_of(entry)[1]), None)


def _values(entry: Struct | None) -> dict[str, Any]:
    if entry is None:
        return {}
    return {name: getattr(entry, name) for name in entry.__struct_fields__ if name not in _DAYS}


def _charged(price: Any, name: str) -> Decimal | None:
    """Return what a part of a call costs: a part of a cache without a price of its own costs what input costs."""
    amount: Decimal | None = getattr(price, name)
    return price.input if amount is None and name in _CACHE_PARTS else amount


def _identity(kind: str) -> tuple[str, ...]:
    return {
        "prices": tuple(name for name in Price.__struct_fields__ if name not in (*RATES, *_DAYS, "source")),
        "models": ("deployment", "customer", "connection"),
        "markups": ("customer",),
        "rates": ("source", "target"),
    }[kind]


def _span(change: Change) -> dict[str, str]:
    first = {} if change.start == date.min else {"from": f"{change.start}"}
    return first | ({} if change.end == date.max else {"to": f"{change.end}"})


def _row(change: Change) -> list[Any]:
    price = change.new or change.old
    days = _span(change)
    processing = "" if price.processing == "standard" else price.processing
    return [
        *(change.name, price.model, price.provider, price.deployment_scope, processing, price.tier),
        *(price.min_input_tokens or None, price.customer, days.get("from"), days.get("to"), _prose(change)),
    ]


def _prose(change: Change) -> str:
    """Return the members that differ in words, such as `input 2.5 -> 2 (-20%)`."""
    parts = []
    for name, (old, new) in change.values.items():
        if name == "source" and change.name != "changed":
            continue
        if old is None or new is None or change.name != "changed":
            value = f"{old if new is None else new}"
            gone = change.name == "changed" and new is None
            parts.append(f"{name} {'no longer ' if gone else 'now ' if change.name == 'changed' else ''}{value}")
        elif isinstance(old, Decimal) and old:
            parts.append(f"{name} {old:f} -> {new:f} ({(new - old) / old * 100:+.0f}%)")
        else:
            parts.append(f"{name} {old} -> {new}")
    return ", ".join(parts)
