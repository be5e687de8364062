"""
Requests to Key Vault through its SDK, which is imported with this module: jobs only need it if something goes wrong.

Onboarding writes, lists and deletes, which needs another role than reading.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.keyvault.secrets import SecretProperties
from azure.keyvault.secrets.aio import SecretClient

from shared.connections.store import SecretInfo, StoredCredential
from shared.connections.vault_errors import is_secret_disabled, mapped_errors, unavailable
from shared.connections.vault_limit import VaultLimit
from shared.connections.vault_policy import VaultPolicy
from shared.errors import ConnectionDisabled
from shared.secret import Secret

CHANGE_TIMEOUT_S = 60.0
"""Seconds for a change. Deleting and recovering a secret take long."""
LIST_TIMEOUT_S = 180.0
"""Seconds for a list, which reads the properties of all secrets of the vault. HTTP responses are due within 230 s."""
_RETRY_S = 0.5


class VaultSdk:
    """Secrets by their names. The info that is returned does not name the connection."""

    def __init__(
        self,
        url: str,
        credential: AsyncTokenCredential,
        limit: VaultLimit,
        *,
        transport: AsyncHttpTransport[Any, Any],
        private_ca: bool,
    ) -> None:
        options: dict[str, Any] = {"retry_policy": VaultPolicy(limit)}
        if private_ca:
            # A vault with a private certificate authority does not have a name under vault.azure.net either.
            options["verify_challenge_resource"] = False
        self._client = SecretClient(url, credential, transport=transport, **options)

    async def read(self, name: str, disabled: ConnectionDisabled) -> tuple[StoredCredential, SecretInfo] | None:
        """Return the newest version, or None. Raises `disabled`, VaultUnavailable. The caller sets the timeout."""
        try:
            secret = await self._client.get_secret(name)
        except ResourceNotFoundError:
            return None
        except HttpResponseError as exc:
            if is_secret_disabled(exc):
                raise disabled from None
            raise unavailable(exc) from exc
        except (AzureError, ValueError) as exc:
            raise unavailable(exc) from exc
        info = _info(secret.properties)
        stored = StoredCredential(
            Secret(secret.value or ""), info.version, info.enabled, info.not_before, info.expires_on, info.tags
        )
        return stored, info

    async def write(
        self, name: str, value: Secret, tags: Mapping[str, str], disabled: ConnectionDisabled
    ) -> SecretInfo:
        """
        Write a new version, enabled and without dates. A deleted secret is recovered first.

        Raises `disabled` if the deleted secret was also disabled (it is recovered, and stays disabled), VaultForbids,
        VaultUnavailable.
        """
        options: dict[str, Any] = {"tags": dict(tags)} if tags else {}
        if value.reveal().startswith("{"):
            options["content_type"] = "application/json"
        async with mapped_errors("write a secret", CHANGE_TIMEOUT_S):
            while True:
                try:
                    return _info((await self._client.set_secret(name, value.reveal(), **options)).properties)
                except ResourceExistsError as exc:
                    # The name belongs to a deleted secret, or to one that is being deleted or recovered, which takes
                    # longer than the SDK waits (Azure/azure-sdk-for-net, issue 31581).
                    if "ObjectIsDeletedButRecoverable" in str(exc) and not await self._recover(name):
                        raise disabled from None
                    await asyncio.sleep(_RETRY_S)

    async def set_tags(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of one version. Raises VaultForbids, VaultUnavailable."""
        async with mapped_errors("change a secret", CHANGE_TIMEOUT_S):
            await self._client.update_secret_properties(name, version, tags=dict(tags))

    async def _recover(self, name: str) -> bool:
        """Recover the deleted secret. Return whether it is enabled."""
        with contextlib.suppress(ResourceNotFoundError, ResourceExistsError):  # somebody else recovers it
            return (await self._client.recover_deleted_secret(name)).enabled is not False
        return True

    async def delete(self, name: str) -> bool:
        """Delete all versions. Return whether there was one. Raises VaultForbids, VaultUnavailable."""
        try:
            async with mapped_errors("delete a secret", CHANGE_TIMEOUT_S):
                await self._client.delete_secret(name)
        except ResourceNotFoundError:
            return False
        return True

    async def list(self) -> AsyncIterator[tuple[str, SecretInfo]]:
        """Iterate over the secrets with their names. Raises VaultForbids, VaultUnavailable."""
        async with mapped_errors("list secrets", LIST_TIMEOUT_S):
            async for each in self._client.list_properties_of_secrets():
                yield each.name or "", _info(each)


def _info(properties: SecretProperties) -> SecretInfo:
    return SecretInfo(
        connection="",
        enabled=properties.enabled is not False,
        version=properties.version or "",
        not_before=properties.not_before,
        expires_on=properties.expires_on,
        created_at=properties.created_on,
        updated_at=properties.updated_on,
        tags=properties.tags or {},
    )
