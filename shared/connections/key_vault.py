"""
Customers' connections and signing secrets in Azure Key Vault.

Jobs only read: directly, and through the SDK if that has no certain result. Onboarding also writes, lists and deletes,
through the SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shared.connections.store import SecretInfo, StoredCredential
from shared.connections.vault_limit import VaultLimit
from shared.connections.vault_reads import VaultReads
from shared.errors import ConnectionDisabled, VaultUnavailable
from shared.network.credential import Credential
from shared.network.fallback import log_repeated
from shared.network.pool import Pool
from shared.network.response import ExchangeFailed
from shared.secret import Secret

if TYPE_CHECKING:
    from azure.core.pipeline.transport import AsyncHttpTransport

    from shared.connections.vault_sdk import VaultSdk

READ_TIMEOUT_S = 10.0
"""Seconds for a read, retries included."""
MAX_TAGS = 15
"""Tags that a secret may have."""


class KeyVaultCredentials:
    """
    The secrets `ai--{customer}--{connection}` and `events--{customer}--{connection}`, one of each for a connection,
    `webhook--{customer}` and `export--{name}`.

    Key Vault returns a secret before `nbf` and after `exp`, too, so the caller has to enforce the dates. It answers 403
    for a disabled secret, for a missing role (ForbiddenByRbac, ForbiddenByPolicy) and for a network that has no access
    (ForbiddenByFirewall, ForbiddenByConnection); an inner error code distinguishes them
    (learn.microsoft.com/rest/api/keyvault/secrets/get-secret, /azure/key-vault/general/rest-error-codes).
    """

    def __init__(
        self,
        url: str,
        credential: Credential,
        pool: Pool,
        *,
        transport: Callable[[], AsyncHttpTransport[Any, Any]],
        private_ca: bool = False,
    ) -> None:
        self._url, self._credential, self._transport, self._private_ca = url, credential, transport, private_ca
        self._limit = VaultLimit()
        self._direct = VaultReads.of(url, credential, pool, self._limit, private_ca=private_ca)

    @cached_property
    def _sdk(self) -> VaultSdk:
        from shared.connections.vault_sdk import VaultSdk  # noqa: PLC0415  # few jobs need it

        return VaultSdk(
            self._url, self._credential, self._limit, transport=self._transport(), private_ca=self._private_ca
        )

    async def get(self, customer: str, connection: str) -> StoredCredential | None:
        """See CredentialStore."""
        result = await self.get_with_info(customer, connection)
        return None if result is None else result[0]

    async def get_with_info(self, customer: str, connection: str) -> tuple[StoredCredential, SecretInfo] | None:
        """As `get`, with the other properties of the secret."""
        result = await self._read(_name(customer, connection), _disabled(customer, connection))
        return None if result is None else (result[0], replace(result[1], connection=connection))

    async def signing_secret(self, customer: str) -> StoredCredential | None:
        """See SigningStore."""
        result = await self._read(_signing_name(customer), _signing_disabled(customer))
        return None if result is None else result[0]

    async def events_secret(self, customer: str, connection: str) -> StoredCredential | None:
        """See webhooks.provider_signing.EventsStore."""
        result = await self._read(_events_name(customer, connection), _events_disabled(customer, connection))
        return None if result is None else result[0]

    async def list_events_secrets(self) -> AsyncIterator[tuple[str, SecretInfo]]:
        """Iterate over the connections with such secrets, each with its customer. Raises as `list`."""
        async for owner, info in self._list_connections("events"):
            yield owner, info

    async def export_secret(self, export: str) -> StoredCredential | None:
        """Return the newest version of the key of an export, or None. Raises ConnectionDisabled, VaultUnavailable."""
        disabled = ConnectionDisabled(f"The secret of the export {export} is disabled.")
        result = await self._read(_export_name(export), disabled)
        return None if result is None else result[0]

    async def signing_customers(self) -> list[str]:
        """See SigningStore."""
        return [customer async for customer, _ in self.list_signing_secrets()]

    async def list_signing_secrets(self) -> AsyncIterator[tuple[str, SecretInfo]]:
        """Iterate over the customers with signing secrets. Raises VaultForbids, VaultUnavailable."""
        async for prefix, customer, info in self._list():
            if prefix == "webhook" and customer:
                yield customer, info

    async def _read(self, name: str, disabled: ConnectionDisabled) -> tuple[StoredCredential, SecretInfo] | None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                if self._direct is not None:
                    try:
                        return await self._direct.read(name)
                    except ExchangeFailed as exc:
                        log_repeated(self._direct.host, exc.reason)
                return await self._sdk.read(name, disabled)
        except TimeoutError as exc:
            raise VaultUnavailable("Key Vault did not answer (TimeoutError).") from exc

    async def put(
        self, customer: str, connection: str, value: Secret, *, tags: Mapping[str, str] | None = None
    ) -> SecretInfo:
        """
        Write a new version, enabled and without dates. A deleted secret is recovered first.

        Its tags are `tags`; those of a bare key are its settings. Raises ConnectionDisabled if the deleted secret was
        also disabled (it is recovered, and stays disabled), VaultForbids, VaultUnavailable.
        """
        name, disabled = _name(customer, connection), _disabled(customer, connection)
        return replace(await self._sdk.write(name, value, tags or {}, disabled), connection=connection)

    async def put_signing_secret(self, customer: str, value: Secret, *, tags: Mapping[str, str]) -> SecretInfo:
        """As `put`, for the customer's signing secret."""
        return await self._sdk.write(_signing_name(customer), value, tags, _signing_disabled(customer))

    async def put_events_secret(self, customer: str, connection: str, value: Secret) -> SecretInfo:
        """As `put`, for the secret of a connection's events."""
        disabled = _events_disabled(customer, connection)
        return await self._sdk.write(_events_name(customer, connection), value, {}, disabled)

    async def delete_events_secret(self, customer: str, connection: str) -> bool:
        """As `delete`, for the secret of a connection's events."""
        return await self._sdk.delete(_events_name(customer, connection))

    async def set_tags(self, customer: str, connection: str, version: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of one version, whichever is the newest by then. Raises VaultForbids, VaultUnavailable."""
        await self._sdk.set_tags(_name(customer, connection), version, tags)

    async def delete(self, customer: str, connection: str) -> bool:
        """
        Delete all versions of the secret. Return whether there was one.

        The vault keeps it recoverable for its retention period. Raises VaultForbids, VaultUnavailable.
        """
        return await self._sdk.delete(_name(customer, connection))

    async def delete_signing_secret(self, customer: str) -> bool:
        """As `delete`, for the customer's signing secret."""
        return await self._sdk.delete(_signing_name(customer))

    async def list(self, customer: str) -> AsyncIterator[SecretInfo]:
        """
        Iterate over the customer's connections. Reads the properties of all secrets of the vault.

        Raises VaultForbids, VaultUnavailable.
        """
        async for owner, info in self.list_all():
            if owner == customer:
                yield info

    async def list_all(self) -> AsyncIterator[tuple[str, SecretInfo]]:
        """As `list`, with the connections of all customers, each with its customer."""
        async for owner, info in self._list_connections("ai"):
            yield owner, info

    async def _list_connections(self, kind: str) -> AsyncIterator[tuple[str, SecretInfo]]:
        async for prefix, rest, info in self._list():
            customer, _, connection = rest.partition("--")
            if prefix == kind and customer and connection:
                yield customer, replace(info, connection=connection)

    async def _list(self) -> AsyncIterator[tuple[str, str, SecretInfo]]:
        async for name, info in self._sdk.list():
            prefix, _, rest = name.lower().partition("--")  # as Key Vault compares names
            yield prefix, rest, info


def _name(customer: str, connection: str) -> str:
    return f"ai--{customer}--{connection}"  # 106 of Key Vault's 127 characters at most


def _signing_name(customer: str) -> str:
    return f"webhook--{customer}"


def _events_name(customer: str, connection: str) -> str:
    return f"events--{customer}--{connection}"


def _export_name(export: str) -> str:
    return f"export--{export}"


def _signing_disabled(customer: str) -> ConnectionDisabled:
    return ConnectionDisabled(f"The signing secret of customer {customer} is disabled.")


def _events_disabled(customer: str, connection: str) -> ConnectionDisabled:
    return ConnectionDisabled(f"The secret of the events of customer {customer}'s connection {connection} is disabled.")


def _disabled(customer: str, connection: str) -> ConnectionDisabled:
    return ConnectionDisabled(f"The secret of customer {customer}'s connection {connection} is disabled.")
