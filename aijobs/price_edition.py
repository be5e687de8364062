"""A price book that is about to replace the one in use: what it changes, and whether it may. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

import msgspec

from aijobs.console import plural
from aijobs.price_changes import Change, as_documents, as_text, changes_between
from aijobs.price_sources.base import LeftOut
from aijobs.price_timeline import describe
from aijobs.report import Report, Verbatim
from aijobs.table import Table
from shared.billing.price_books import PublishedBook
from shared.contract.price_book import PriceBook, decode_price_book

_MAX_NAMES = 3
"""Names that a text gives of what was left out, for each reason."""

Text = list[str | Verbatim | Table]


@dataclass(frozen=True)
class Edition:
    """The next price book."""

    current: PublishedBook | None
    book: PriceBook
    left_out: Sequence[LeftOut] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        """Raise InvalidJob if the book is invalid, as a worker would."""
        decode_price_book(msgspec.json.encode(self.book))

    @property
    def _old(self) -> PriceBook | None:
        return self.current.book if self.current is not None else None

    @cached_property
    def changes(self) -> list[Change]:
        """What the book changes."""
        return changes_between(self._old, self.book)

    @property
    def is_empty(self) -> bool:
        """Whether the book changes nothing."""
        return not self.changes and self._old is not None and self._old.currency == self.book.currency

    @property
    def large(self) -> list[str]:
        """What changes by more than half, in words."""
        changed = [describe(change.old) for change in self.changes if change.kind == "prices" and change.is_large]
        changed += [
            f"{change.old.source} in {change.old.target}"
            for change in self.changes
            if change.kind == "rates" and change.is_large
        ]
        if self._old is not None and self._old.currency != self.book.currency:
            changed.append(f"the currency, from {self._old.currency} to {self.book.currency}")
        return changed

    @property
    def text(self) -> Text:
        """What the book changes and what was left out, for people."""
        text: Text = [*as_text(self.changes)]
        for reason, entries in groupby(sorted(self.left_out), lambda entry: entry.reason):
            names = [entry.name for entry in entries]
            rest = len(names) - _MAX_NAMES
            more = f" and {rest} more" if rest > 0 else ""
            text.append(f"Left out, because it {reason}: {', '.join(names[:_MAX_NAMES])}{more}.")
        return text

    @property
    def consequence(self) -> str:
        """What publishing the book does."""
        return f"This changes what calls cost: {plural(len(self.changes), 'change')}, in {self.book.currency}."

    def report(self, conclusion: str, *, published: PublishedBook | None = None, exit_code: int = 0) -> Report:
        """Return a report of the changes, and of what became of them."""
        document: dict[str, Any] = {
            "published": published is not None,
            "currency": self.book.currency,
            "changes": as_documents(self.changes),
            "left_out": [{"name": entry.name, "reason": entry.reason} for entry in sorted(self.left_out)],
        }
        if published is not None:
            document |= {"sha256": published.sha256}
        return Report(document, [*self.text, conclusion], exit_code)

    def _large_text(self, before: str) -> str:
        """Return a sentence that names what changes by more than half, or nothing."""
        names, rest = self.large[:_MAX_NAMES], len(self.large) - _MAX_NAMES
        more = f" and {rest} more" if rest > 0 else ""
        return f"{before} more than half is changed for {', '.join(names)}{more}." if names else ""

    def refusal(self, *, only_check: bool, may_be_large: bool) -> Report | None:
        """Return the report if there is nothing to publish, or if it may not be; None: ask."""
        if self.is_empty:
            return self.report("The price book says this already. Nothing was published.")
        if only_check:
            return self.report(f"Nothing was published.{self._large_text(' It would need --force:')}")
        if self.large and not may_be_large:
            text = self._large_text(" Check them, then use --force:")
            return self.report(f"Nothing was published.{text}", exit_code=1)
        return None
