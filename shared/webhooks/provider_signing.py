"""The signing secrets of providers' own webhooks, one for each connection, as `signing` reads those of customers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from shared.connections.store import SecretInfo, StoredCredential
from shared.contract.names import is_name

_BETWEEN = "--"
"""No name contains it."""


class EventsStore(Protocol):
    """The secrets `events--{customer}--{connection}`."""

    async def events_secret(self, customer: str, connection: str) -> StoredCredential | None:
        """
        Return the newest version, or None if there is none.

        Raises ConnectionDisabled if it is disabled and can't be read, VaultUnavailable.
        """

    def list_events_secrets(self) -> AsyncIterator[tuple[str, SecretInfo]]:
        """Iterate over the connections that have one, each with its customer. Raises whatever prevents that."""


@dataclass(frozen=True, slots=True)
class SigningConnections:
    """A SigningStore whose owners are connections."""

    store: EventsStore

    async def signing_secret(self, customer: str) -> StoredCredential | None:
        """Return the secret of an owner (see `owner_of`). Raises as EventsStore."""
        return await self.store.events_secret(*customer.split(_BETWEEN))

    async def signing_customers(self) -> list[str]:
        """Return the owners that have a secret. Raises as EventsStore."""
        return [owner_of(customer, info.connection) async for customer, info in self.store.list_events_secrets()]


def owner_of(customer: str, connection: str) -> str:
    """Return what `Signing` calls a connection."""
    return f"{customer}{_BETWEEN}{connection}"


def is_owner(text: str) -> bool:
    """Return whether a connection may be called so."""
    customer, _, connection = text.partition(_BETWEEN)
    return is_name(customer) and is_name(connection)
