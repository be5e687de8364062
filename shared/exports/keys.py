"""The keys of exports: the secret `export--{name}` in Key Vault, kept in memory for as long as other secrets are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from shared.connections.secret_cache import Entry, SecretCache
from shared.connections.store import StoredCredential
from shared.contract.pasted import unquote
from shared.errors import ConnectionDisabled
from shared.export_settings import Export
from shared.secret import Secret

_is_key = re.compile(r"[!-~]{1,4096}").fullmatch


class ExportStore(Protocol):
    """Where the keys of exports are kept."""

    async def export_secret(self, export: str) -> StoredCredential | None:
        """Return the newest version, or None. Raises ConnectionDisabled, VaultUnavailable."""


@dataclass(frozen=True, slots=True)
class SigningExports:
    """The signing secrets of exports, as `webhooks.signing` reads those of customers."""

    store: ExportStore

    async def signing_secret(self, customer: str) -> StoredCredential | None:
        """Return the signing secret of the export with that name. Raises as ExportStore."""
        return await self.store.export_secret(customer)

    async def signing_customers(self) -> list[str]:
        """Return nobody: nothing that an export has signed comes in."""
        return []


def shared_keys(keys: Iterable[tuple[Export, Secret]]) -> dict[str, str]:
    """
    Return what is wrong with exports that have the key of an earlier one at the same system, by their names.

    They are one account there, which takes the events of the second for those of the first: both have the same ids.
    """
    first, wrong = dict[tuple[str, str, str], str](), dict[str, str]()
    for export, key in keys:
        if export.needs_key and export.kind != "cloudevents" and key.reveal():
            other = first.setdefault((export.kind, export.url, key.reveal()), export.name)
            if other != export.name:
                wrong[export.name] = (
                    f"It has the same key as the export {other}: one account would take the events of one export for "
                    "those of the other. Remove it, or give it an account of its own."
                )
    return wrong


class NoKey(Exception):
    """An export has no key that can be used; the message says why."""


@dataclass(frozen=True, slots=True)
class _Key:
    secret: Secret
    problem: str


@dataclass(slots=True)
class ExportKeys:
    """Reads the keys. Without a vault there are none."""

    store: ExportStore | None
    cache: SecretCache[str, _Key] = field(default_factory=SecretCache[str, _Key])

    async def get(self, export: str) -> Secret:
        """Return the export's key. Raises NoKey, VaultUnavailable."""
        entry = await self.cache.get(export, partial(self._load, export))
        problem = entry.value.problem or ("" if entry.is_valid() else "is outside its dates")
        if problem:
            raise NoKey(f"The secret export--{export} {problem}.")
        return entry.value.secret

    def forget(self, export: str) -> None:
        """Have the key read again: its receiver refused it."""
        self.cache.forget(export)

    async def _load(self, export: str) -> Entry[_Key]:
        stored, secret, problem = None, Secret(""), "doesn't exist"
        try:
            stored = await self.store.export_secret(export) if self.store else None
        except ConnectionDisabled:
            problem = "is disabled"
        if stored is not None:
            text = unquote(stored.value.reveal()).strip()
            if not stored.enabled:
                problem = "is disabled"
            elif not _is_key(text):
                problem = "is not a key: one word of ASCII characters"
            else:
                secret, problem = Secret(text), ""
        return Entry(_Key(secret, problem), stored, is_usable=not problem)
