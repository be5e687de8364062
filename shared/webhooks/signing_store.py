"""Where customers' signing secrets are kept."""

from __future__ import annotations

from typing import Protocol

from shared.connections.store import StoredCredential


class SigningStore(Protocol):
    """The secrets `webhook--{customer}`."""

    async def signing_secret(self, customer: str) -> StoredCredential | None:
        """
        Return the newest version, or None if there is none.

        Raises ConnectionDisabled if it is disabled and can't be read, VaultUnavailable.
        """

    async def signing_customers(self) -> list[str]:
        """Return the customers that have a signing secret. Raises whatever prevents that."""
