"""What a store of customers' connections has to offer, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.secret import Secret


class VaultForbids(Exception):
    """Key Vault does not allow the app's identity to do this. The operator has to grant the role."""


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """One version of a customer's secret."""

    value: Secret
    version: str
    enabled: bool = True
    not_before: datetime | None = None
    expires_on: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def is_early(self, at: datetime) -> bool:
        """Whether its dates have not begun at that time."""
        return self.not_before is not None and at < self.not_before

    def is_valid(self, at: datetime) -> bool:
        """Whether it is within its dates at that time. Key Vault returns its value all the same."""
        return not self.is_early(at) and (self.expires_on is None or at < self.expires_on)


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """A connection's secret, without its value. A list has no versions."""

    connection: str
    enabled: bool
    version: str = ""
    not_before: datetime | None = None
    expires_on: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class CredentialStore(Protocol):
    """Where customers' connections are kept. Key Vault is one; another is one class with this method."""

    async def get(self, customer: str, connection: str) -> StoredCredential | None:
        """
        Return the newest version, or None if there is none.

        Raises ConnectionDisabled if it is disabled and can't be read, VaultUnavailable if the store did not answer.
        """
