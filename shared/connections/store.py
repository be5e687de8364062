"""Where customers' connections are kept: Key Vault is one such place; another is one class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.secret import Secret


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """One version of a customer's connection, as it is kept."""

    value: Secret
    version: str
    enabled: bool = True
    not_before: datetime | None = None
    expires_on: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class CredentialStore(Protocol):
    """Where customers' connections are kept. Key Vault is one; another is one class with this method."""

    async def get(self, customer: str, connection: str) -> StoredCredential | None:
        """
        The newest version, or None where there is none.

        Raises ConnectionDisabled where it is switched off and can't be read, VaultUnavailable where
        the store gave no answer.
        """
