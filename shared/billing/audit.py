"""
The audit trail: who changed what, when, and from what to what. Append-only rows, in the partition of what changed.

A row is written in the transaction of the change itself wherever Storage holds both. No key or secret is ever in one:
whoever writes an entry passes documents, as GET returns them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from shared.billing.price_books import PRICES
from shared.clock import now, rfc3339
from shared.contract.audit import AuditDocument
from shared.storage.base import Row, Table

AUDIT_PREFIX = "a_"
PRICES_SUBJECT = "price book"
MAX_TEXT = 30_000
"""Bytes of JSON of what was before, and of what is after. A column of Azure's tables holds more than twice as much."""
_MAX_NAME = 200
_CONCERNS = "customers"
"""The column of the customers that a change of prices concerns; missing: all."""
_LATEST_US = 10**17 - 1
"""Microseconds since 1970, in the year 5138: subtracting from it sorts the newest first."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. `before` and `after` have what differs alone."""

    key: str
    at: datetime
    by: str
    subject: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


is_audit_key = re.compile(rf"{AUDIT_PREFIX}[0-9]{{17}}_[0-9a-f]{{8}}").fullmatch


def audit_row(
    partition: str,
    *,
    by: str,
    subject: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    concerns: Collection[str] | None = None,
) -> Row:
    """
    Return the row of a change that is made now: `a_{time}_{random}`, the newest first.

    `concerns`: in the partition of prices, the customers that the change concerns; None: all.
    """
    at = now()
    key = f"{audit_key_prefix(at)}_{secrets.token_hex(4)}"
    texts = {"by": by[:_MAX_NAME], "subject": subject[:_MAX_NAME], "before": _bounded(before), "after": _bounded(after)}
    names = "" if concerns is None else " ".join(sorted(concerns))
    if names and len(names) <= MAX_TEXT:
        texts[_CONCERNS] = f" {names} "
    return Row(partition, key, {"at": at, **texts})


def audit_key_prefix(at: datetime) -> str:
    """Return how the key of an entry of that time begins: the later, the smaller."""
    return f"{AUDIT_PREFIX}{_LATEST_US - int(at.timestamp() * 1_000_000):017}"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the members that differ, as they were and as they are. A missing one is None."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: before.get(name) for name in names}, {name: after.get(name) for name in names}


def read_entry(row: Row) -> AuditEntry:
    """Return the entry in a row."""
    values = row.values
    before, after = (msgspec.json.decode(values[name]) for name in ("before", "after"))
    return AuditEntry(row.key, values["at"], values["by"], values["subject"], before, after)


def describe(entry: AuditEntry) -> AuditDocument:
    """Return the entry as callers see it."""
    return AuditDocument(
        at=rfc3339(entry.at),
        by=entry.by,
        subject=entry.subject,
        before=dict(entry.before),
        after=dict(entry.after),
    )


@dataclass(frozen=True, slots=True)
class AuditTrail:
    """The entries of all customers. Every method raises StorageUnavailable."""

    table: Table

    async def append(
        self, customer: str, *, by: str, subject: str, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        """Record a change of what Storage does not hold, such as a connection; see `check`."""
        await self.table.insert(audit_row(customer, by=by, subject=subject, before=before, after=after))

    async def check(self, customer: str) -> None:
        """Raise StorageUnavailable if Storage does not answer: what could not be recorded is not changed."""
        await self.table.read(customer, AUDIT_PREFIX)

    async def page(self, customer: str, *, after: str, limit: int) -> tuple[list[AuditEntry], str]:
        """
        Return up to `limit` changes that concern the customer, the newest first, and where the next page starts.

        Those of prices are among them. `after` is where an earlier page said that this one starts, or empty.
        """
        rows = [*await self._rows(customer, after, limit + 1), *await self._prices(customer, after, limit + 1)]
        rows.sort(key=lambda row: row.key)
        continuation = rows[limit - 1].key if len(rows) > limit else ""
        return [_for_customer(read_entry(row), customer) for row in rows[:limit]], continuation

    async def _rows(self, partition: str, after: str, limit: int, customer: str = "") -> list[Row]:
        rows: list[Row] = []
        async for row in self.table.scan(partition, f"{after}!" if after else AUDIT_PREFIX, f"{AUDIT_PREFIX}~"):
            concerns = row.values.get(_CONCERNS)
            if concerns is None or f" {customer} " in concerns:
                rows.append(row)
                if len(rows) == limit:
                    break
        return rows

    async def _prices(self, customer: str, after: str, limit: int) -> list[Row]:
        return await self._rows(PRICES, after, limit, customer)


def _for_customer(entry: AuditEntry, customer: str) -> AuditEntry:
    """Return an entry without price book entries of other customers."""

    def own(members: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: [each for each in member if each.get("customer", customer) == customer]
            if isinstance(member, list) and entry.subject == PRICES_SUBJECT
            else member
            for name, member in members.items()
        }

    return replace(entry, before=own(entry.before), after=own(entry.after))


def _bounded(members: Mapping[str, Any]) -> str:
    """Return the members as JSON. The largest ones that do not fit are replaced by their size and hash."""
    texts = {name: msgspec.json.encode(member) for name, member in members.items()}
    while sum(map(len, texts.values())) + sum(map(len, texts)) * 2 > MAX_TEXT:
        largest = max(texts, key=lambda name: len(texts[name]))
        digest = hashlib.sha256(texts[largest]).hexdigest()
        texts[largest] = msgspec.json.encode({"omitted_bytes": len(texts[largest]), "sha256": digest})
    return msgspec.json.encode({name: msgspec.Raw(text) for name, text in texts.items()}).decode()
