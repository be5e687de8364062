"""
Customers' connections and signing secrets in Azure Key Vault. The only user of its SDK.

Jobs only read. Onboarding also writes, lists and deletes, which needs another role.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.keyvault.secrets import KeyVaultSecret, SecretProperties
from azure.keyvault.secrets.aio import SecretClient

from shared.connections.store import SecretInfo, StoredCredential
from shared.connections.vault_errors import is_secret_disabled, mapped_errors, unavailable
from shared.connections.vault_policy import VaultPolicy
from shared.errors import ConnectionDisabled
from shared.secret import Secret

READ_TIMEOUT_S = 10.0
"""Seconds for a read, retries included."""
CHANGE_TIMEOUT_S = 60.0
"""Seconds for a change. Deleting and recovering a secret take long."""
LIST_TIMEOUT_S = 180.0
"""Seconds for a list, which reads the properties of all secrets of the vault. HTTP responses are due within 230 s."""
MAX_TAGS = 15
"""Tags that a secret may have."""
_RETRY_S = 0.5


class KeyVaultCredentials:
    """
    The secrets `ai--{customer}--{connection}`, one for each connection, `webhook--{customer}` and `export--{name}`.

    Key Vault returns a secret before `nbf` and after `exp`, too, so the caller has to enforce the dates. It answers 403
    for a disabled secret, for a missing role (ForbiddenByRbac, ForbiddenByPolicy) and for a network that has no access
    (ForbiddenByFirewall, ForbiddenByConnection); an inner error code distinguishes them
    (learn.microsoft.com/rest/api/keyvault/secrets/get-secret, /azure/key-vault/general/rest-error-codes).
    """

    def __init__(
        self,
        url: str,
        credential: AsyncTokenCredential,
        *,
        transport: AsyncHttpTransport[Any, Any],
        private_ca: bool = False,
    ) -> None:
        options: dict[str, Any] = {"retry_policy": VaultPolicy()}
        if private_ca:
            # A vault with a private certificate authority does not have a name under vault.azure.net either.
            options["verify_challenge_resource"] = False
        self._client = SecretClient(url, credential, transport=transport, **options)

    async def get(self, customer: str, connection: str) -> StoredCredential | None:
        """See CredentialStore."""
        result = await self.get_with_info(customer, connection)
        return None if result is None else result[0]

    async def get_with_info(self, customer: str, connection: str) -> tuple[StoredCredential, SecretInfo] | None:
        """As `get`, with the other properties of the secret."""
        secret = await self._read(_name(customer, connection), _disabled(customer, connection))
        return None if secret is None else (_stored(secret), _info(secret.properties, connection))

    async def signing_secret(self, customer: str) -> StoredCredential | None:
        """See SigningStore."""
        secret = await self._read(_signing_name(customer), _signing_disabled(customer))
        return None if secret is None else _stored(secret)

    async def export_secret(self, export: str) -> StoredCredential | None:
        """Return the newest version of the key of an export, or None. Raises ConnectionDisabled, VaultUnavailable."""
        disabled = ConnectionDisabled(f"The secret of the export {export} is disabled.")
        secret = await self._read(_export_name(export), disabled)
        return None if secret is None else _stored(secret)

    async def signing_customers(self) -> list[str]:
        """See SigningStore."""
        return [customer async for customer, _ in self.list_signing_secrets()]

    async def list_signing_secrets(self) -> AsyncIterator[tuple[str, SecretInfo]]:
        """Iterate over the customers with signing secrets. Raises VaultForbids, VaultUnavailable."""
        async for prefix, customer, properties in self._list():
            if prefix == "webhook" and customer:
                yield customer, _info(properties, "")

    async def _read(self, name: str, disabled: ConnectionDisabled) -> KeyVaultSecret | None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._client.get_secret(name)
        except ResourceNotFoundError:
            return None
        except HttpResponseError as exc:
            if is_secret_disabled(exc):
                raise disabled from None
            raise unavailable(exc) from exc
        except (AzureError, TimeoutError, ValueError) as exc:
            raise unavailable(exc) from exc

    async def put(
        self, customer: str, connection: str, value: Secret, *, tags: Mapping[str, str] | None = None
    ) -> SecretInfo:
        """
        Write a new version, enabled and without dates. A deleted secret is recovered first.

        Its tags are `tags`; those of a bare key are its settings. Raises ConnectionDisabled if the deleted secret was
        also disabled (it is recovered, and stays disabled), VaultForbids, VaultUnavailable.
        """
        name, disabled = _name(customer, connection), _disabled(customer, connection)
        return _info(await self._write(name, value, tags or {}, disabled), connection)

    async def put_signing_secret(self, customer: str, value: Secret, *, tags: Mapping[str, str]) -> SecretInfo:
        """As `put`, for the customer's signing secret."""
        return _info(await self._write(_signing_name(customer), value, tags, _signing_disabled(customer)), "")

    async def _write(
        self, name: str, value: Secret, tags: Mapping[str, str], disabled: ConnectionDisabled
    ) -> SecretProperties:
        options: dict[str, Any] = {"tags": dict(tags)} if tags else {}
        if value.reveal().startswith("{"):
            options["content_type"] = "application/json"
        async with mapped_errors("write a secret", CHANGE_TIMEOUT_S):
            while True:
                try:
                    return (await self._client.set_secret(name, value.reveal(), **options)).properties
                except ResourceExistsError as exc:
                    # The name belongs to a deleted secret, or to one that is being deleted or recovered, which takes
                    # longer than the SDK waits (Azure/azure-sdk-for-net, issue 31581).
                    if "ObjectIsDeletedButRecoverable" in str(exc) and not await self._recover(name):
                        raise disabled from None
                    await asyncio.sleep(_RETRY_S)

    async def set_tags(self, customer: str, connection: str, version: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of one version, whichever is the newest by then. Raises VaultForbids, VaultUnavailable."""
        async with mapped_errors("change a secret", CHANGE_TIMEOUT_S):
            await self._client.update_secret_properties(_name(customer, connection), version, tags=dict(tags))

    async def _recover(self, name: str) -> bool:
        """Recover the deleted secret. Return whether it is enabled."""
        with contextlib.suppress(ResourceNotFoundError, ResourceExistsError):  # somebody else recovers it
            return (await self._client.recover_deleted_secret(name)).enabled is not False
        return True

    async def delete(self, customer: str, connection: str) -> bool:
        """
        Delete all versions of the secret. Return whether there was one.

        The vault keeps it recoverable for its retention period. Raises VaultForbids, VaultUnavailable.
        """
        return await self._delete(_name(customer, connection))

    async def delete_signing_secret(self, customer: str) -> bool:
        """As `delete`, for the customer's signing secret."""
        return await self._delete(_signing_name(customer))

    async def _delete(self, name: str) -> bool:
        try:
            async with mapped_errors("delete a secret", CHANGE_TIMEOUT_S):
                await self._client.delete_secret(name)
        except ResourceNotFoundError:
            return False
        return True

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
        async for prefix, rest, properties in self._list():
            customer, _, connection = rest.partition("--")
            if prefix == "ai" and customer and connection:
                yield customer, _info(properties, connection)

    async def _list(self) -> AsyncIterator[tuple[str, str, SecretProperties]]:
        async with mapped_errors("list secrets", LIST_TIMEOUT_S):
            async for each in self._client.list_properties_of_secrets():
                prefix, _, rest = (each.name or "").lower().partition("--")  # as Key Vault compares names
                yield prefix, rest, each


def _name(customer: str, connection: str) -> str:
    return f"ai--{customer}--{connection}"  # 106 of Key Vault's 127 characters at most


def _signing_name(customer: str) -> str:
    return f"webhook--{customer}"


def _export_name(export: str) -> str:
    return f"export--{export}"


def _signing_disabled(customer: str) -> ConnectionDisabled:
    return ConnectionDisabled(f"The signing secret of customer {customer} is disabled.")


def _disabled(customer: str, connection: str) -> ConnectionDisabled:
    return ConnectionDisabled(f"The secret of customer {customer}'s connection {connection} is disabled.")


def _stored(secret: KeyVaultSecret) -> StoredCredential:
    properties = secret.properties
    return StoredCredential(
        value=Secret(secret.value or ""),
        version=properties.version or "",
        enabled=properties.enabled is not False,
        not_before=properties.not_before,
        expires_on=properties.expires_on,
        tags=properties.tags or {},
    )


def _info(properties: SecretProperties, connection: str) -> SecretInfo:
    return SecretInfo(
        connection=connection,
        enabled=properties.enabled is not False,
        version=properties.version or "",
        not_before=properties.not_before,
        expires_on=properties.expires_on,
        created_at=properties.created_on,
        updated_at=properties.updated_on,
        tags=properties.tags or {},
    )
