"""The audit trail as callers see it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class AuditDocument(Struct, frozen=True, kw_only=True):
    """One change."""

    at: str
    """When it was made."""
    by: str
    """Who made it: the name and object id in the token, `function key`, or the command line's user."""
    subject: str
    """What was changed, such as `profile` or `connection default`."""
    before: dict[str, Any]
    """The members that differ, as they were; null: there was none. Never a key or another secret."""
    after: dict[str, Any]
    """The members that differ, as they are now; null: there is none."""


class AuditPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some of the changes, newest first."""

    entries: list[AuditDocument]
    continuation: str | None = None
    """For the next page. Missing on the last page."""
