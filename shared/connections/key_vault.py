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
from shared.connections.vault_policy import VaultPolicy
from shared.errors import ConnectionDisabled, VaultUnavailable
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
_FORBIDDEN = 403
_DISABLED_MESSAGE = "Operation get is not allowed on a disabled secret"


class VaultForbids(Exception):
    """Key Vault does not allow the app's identity to do this. The operator has to grant the role."""


class KeyVaultCredentials:
    """
    The secrets `ai--{customer}--{connection}`, one for each connection, and `webhook--{customer}`.

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
        disabled = ConnectionDisabled(f"The signing secret of customer {customer} is disabled.")
        secret = await self._read(f"webhook--{customer}", disabled)
        return None if secret is None else _stored(secret)

    async def signing_customers(self) -> list[str]:
        """See SigningStore."""
        return [customer async for prefix, customer, _ in self._list() if prefix == "webhook" and customer]

    async def _read(self, name: str, disabled: ConnectionDisabled) -> KeyVaultSecret | None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._client.get_secret(name)
        except ResourceNotFoundError:
            return None
        except HttpResponseError as exc:
            if _is_secret_disabled(exc):
                raise disabled from None
            raise _unavailable(exc) from exc
        except (AzureError, TimeoutError, ValueError) as exc:
            raise _unavailable(exc) from exc

    async def put(
        self, customer: str, connection: str, value: Secret, *, tags: Mapping[str, str] | None = None
    ) -> SecretInfo:
        """
        Write a new version, enabled and without dates. A deleted secret is recovered first.

        Its tags are `tags`; those of a bare key are its settings. Raises ConnectionDisabled if the deleted secret was
        also disabled (it is recovered, and stays disabled), VaultForbids, VaultUnavailable.
        """
        name = _name(customer, connection)
        options: dict[str, Any] = {"tags": dict(tags)} if tags else {}
        if value.reveal().startswith("{"):
            options["content_type"] = "application/json"
        async with _mapped_errors("write a secret", CHANGE_TIMEOUT_S):
            while True:
                try:
                    written = await self._client.set_secret(name, value.reveal(), **options)
                except ResourceExistsError as exc:
                    # The name belongs to a deleted secret, or to one that is being deleted or recovered, which takes
                    # longer than the SDK waits (Azure/azure-sdk-for-net, issue 31581).
                    if "ObjectIsDeletedButRecoverable" in str(exc) and not await self._recover(name):
                        raise _disabled(customer, connection) from None
                    await asyncio.sleep(_RETRY_S)
                else:
                    return _info(written.properties, connection)

    async def set_tags(self, customer: str, connection: str, version: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of one version, whichever is the newest by then. Raises VaultForbids, VaultUnavailable."""
        async with _mapped_errors("change a secret", CHANGE_TIMEOUT_S):
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
        try:
            async with _mapped_errors("delete a secret", CHANGE_TIMEOUT_S):
                await self._client.delete_secret(_name(customer, connection))
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
        async with _mapped_errors("list secrets", LIST_TIMEOUT_S):
            async for each in self._client.list_properties_of_secrets():
                prefix, _, rest = (each.name or "").lower().partition("--")  # as Key Vault compares names
                yield prefix, rest, each


def _name(customer: str, connection: str) -> str:
    return f"ai--{customer}--{connection}"  # 106 of Key Vault's 127 characters at most


@contextlib.asynccontextmanager
async def _mapped_errors(operation: str, timeout_s: float) -> AsyncIterator[None]:
    # `from None`: the SDK's exceptions hold the request, and with it the new value of the secret.
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except ResourceNotFoundError:
        raise
    except HttpResponseError as exc:
        if exc.status_code == _FORBIDDEN:
            raise VaultForbids(
                f"Key Vault does not allow the app to {operation} (403): its identity needs the role Key Vault Secrets "
                "Officer on the vault, and the vault must allow access from its network."
            ) from None
        raise _unavailable(exc) from None
    except (AzureError, TimeoutError, ValueError) as exc:
        raise _unavailable(exc) from None


def _unavailable(exc: Exception) -> VaultUnavailable:
    if isinstance(exc, ValueError):
        # The SDK raises it if the challenge is for another domain: the token would go to a stranger.
        return VaultUnavailable(
            "KEY_VAULT_URL is not the URL of a key vault in this app's cloud. It must be the vault's own URL, such as "
            "https://my-vault.vault.azure.net."
        )
    # Without a status there was no response: no network connection, or no token for the app's identity.
    status = exc.status_code if isinstance(exc, HttpResponseError) else None
    if status is None:
        return VaultUnavailable(f"Key Vault did not answer ({type(exc).__name__}).")
    inner = _inner_code(exc)
    return VaultUnavailable(f"Key Vault answered {status}{f' ({inner})' if inner.isidentifier() else ''}.")


def _is_secret_disabled(exc: HttpResponseError) -> bool:
    # The message for a closed network has the word "disabled", too, so the inner code counts if there is one.
    inner = _inner_code(exc)
    is_disabled = inner == "SecretDisabled" if inner else _DISABLED_MESSAGE in str(exc)
    return exc.status_code == _FORBIDDEN and is_disabled


def _inner_code(exc: Exception) -> str:
    inner = getattr(getattr(exc, "error", None), "innererror", None)
    code = inner.get("code") if isinstance(inner, dict) else None
    return code if isinstance(code, str) else ""


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
