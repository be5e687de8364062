"""
Customers' connections in Azure Key Vault, one secret each, and their signing secrets. The only user of its SDK.

Jobs only read. Writing, listing and deleting are for onboarding over HTTP, and need a role that jobs do not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.keyvault.secrets import KeyVaultSecret, SecretProperties
from azure.keyvault.secrets.aio import SecretClient

from shared.connections.store import StoredCredential
from shared.errors import ConnectionDisabled, VaultUnavailable
from shared.secret import Secret

ANSWER_S = 10.0
"""Seconds that a vault may take, tries included, before it counts as down."""
CHANGE_S = 60.0
"""The same for a change: Key Vault takes its time to delete and to recover."""
LIST_S = 180.0
"""The same for a list, which leads over all secrets of the vault: HTTP answers within 230 s."""
_AGAIN_S = 0.5
_FORBIDDEN = 403
_DISABLED_SAID = "Operation get is not allowed on a disabled secret"


class VaultForbids(Exception):
    """The app's identity may not do this in Key Vault: the operator's to mend."""


@dataclass(frozen=True, slots=True)
class SecretFacts:
    """What the vault tells of a connection's secret besides its value. A list tells no version."""

    connection: str
    enabled: bool
    version: str = ""
    not_before: datetime | None = None
    expires_on: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class KeyVaultCredentials:
    """
    The secrets `ai--{customer}--{connection}`, one a connection, and `webhook--{customer}`.

    A GET succeeds before `nbf` and after `exp` as well, so the dates are given on, for the caller to
    enforce. A disabled secret answers 403, as do a role that is missing (ForbiddenByRbac, ForbiddenByPolicy)
    and a network that is not let in (ForbiddenByFirewall, ForbiddenByConnection); an inner code tells which
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
        # The SDK's own ten tries are too patient inside a job.
        options: dict[str, Any] = {"retry_total": 2, "retry_backoff_factor": 0.2, "retry_backoff_max": 2}
        if private_ca:
            # A vault behind a certificate authority of one's own has no name below vault.azure.net either.
            options["verify_challenge_resource"] = False
        self._client = SecretClient(url, credential, transport=transport, **options)

    async def get(self, customer: str, connection: str) -> StoredCredential | None:
        """See CredentialStore."""
        found = await self.look(customer, connection)
        return None if found is None else found[0]

    async def look(self, customer: str, connection: str) -> tuple[StoredCredential, SecretFacts] | None:
        """As `get`, with what else the vault tells of the secret."""
        secret = await self._read(_name(customer, connection), _disabled(customer, connection))
        return None if secret is None else (_stored(secret), _facts(secret.properties, connection))

    async def signing_secret(self, customer: str) -> StoredCredential | None:
        """See `signing.SigningStore`."""
        disabled = ConnectionDisabled(f"The signing secret of customer {customer} is disabled.")
        secret = await self._read(f"webhook--{customer}", disabled)
        return None if secret is None else _stored(secret)

    async def _read(self, name: str, disabled: ConnectionDisabled) -> KeyVaultSecret | None:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._client.get_secret(name)
        except ResourceNotFoundError:
            return None
        except HttpResponseError as exc:
            if _says_disabled(exc):
                raise disabled from None
            raise _unavailable(exc) from exc
        except (AzureError, TimeoutError, ValueError) as exc:
            raise _unavailable(exc) from exc

    async def put(
        self, customer: str, connection: str, value: Secret, *, tags: Mapping[str, str] | None = None
    ) -> SecretFacts:
        """
        Keeps a new version, enabled and without dates, over what there is. One that was deleted is recovered first.

        It has these `tags` and no others: of a bare key they are its settings.

        Raises ConnectionDisabled where the one that was deleted was also switched off (it then is recovered,
        and stays switched off), VaultForbids, VaultUnavailable.
        """
        name = _name(customer, connection)
        about: dict[str, Any] = {"tags": dict(tags)} if tags else {}
        if value.reveal().startswith("{"):
            about["content_type"] = "application/json"
        async with _changing("keep a secret", CHANGE_S):
            while True:
                try:
                    made = await self._client.set_secret(name, value.reveal(), **about)
                except ResourceExistsError as exc:
                    # The name belongs to one that was deleted; or that is only being deleted or recovered, which
                    # outlasts what the SDK waits for (Azure/azure-sdk-for-net, issue 31581).
                    if "ObjectIsDeletedButRecoverable" in str(exc) and not await self._recover(name):
                        raise _disabled(customer, connection) from None
                    await asyncio.sleep(_AGAIN_S)
                else:
                    return _facts(made.properties, connection)

    async def _recover(self, name: str) -> bool:
        with contextlib.suppress(ResourceNotFoundError, ResourceExistsError):  # somebody else was quicker
            return (await self._client.recover_deleted_secret(name)).enabled is not False
        return True

    async def delete(self, customer: str, connection: str) -> bool:
        """
        Deletes the secret, all versions; a vault keeps it recoverable for a while. False: there was none.

        Raises VaultForbids, VaultUnavailable.
        """
        try:
            async with _changing("delete a secret", CHANGE_S):
                await self._client.delete_secret(_name(customer, connection))
        except ResourceNotFoundError:
            return False
        return True

    async def list(self, customer: str) -> AsyncIterator[SecretFacts]:
        """
        The customer's connections, without their values. Asks for the properties of all secrets of the vault.

        Raises VaultForbids, VaultUnavailable.
        """
        async for whose, facts in self.everybody():
            if whose == customer:
                yield facts

    async def everybody(self) -> AsyncIterator[tuple[str, SecretFacts]]:
        """As `list`, of all customers, each fact with its customer."""
        async with _changing("list secrets", LIST_S):
            async for about in self._client.list_properties_of_secrets():
                kind, _, rest = (about.name or "").lower().partition("--")  # as Key Vault compares names
                customer, _, connection = rest.partition("--")
                if kind == "ai" and customer and connection:
                    yield customer, _facts(about, connection)


def _name(customer: str, connection: str) -> str:
    return f"ai--{customer}--{connection}"  # 106 of Key Vault's 127 characters at most


@contextlib.asynccontextmanager
async def _changing(what: str, seconds: float) -> AsyncIterator[None]:
    # `from None`: the SDK's errors hold the request, and with it the value that was to be kept.
    try:
        async with asyncio.timeout(seconds):
            yield
    except ResourceNotFoundError:
        raise
    except HttpResponseError as exc:
        if exc.status_code == _FORBIDDEN:
            raise VaultForbids(
                f"Key Vault does not let the app {what} (403): its identity needs the role Key Vault Secrets "
                "Officer on the vault, and its network must be let in."
            ) from None
        raise _unavailable(exc) from None
    except (AzureError, TimeoutError, ValueError) as exc:
        raise _unavailable(exc) from None


def _unavailable(exc: Exception) -> VaultUnavailable:
    if isinstance(exc, ValueError):
        # The SDK's, where the challenge is for another domain than was asked: the token would go to a stranger.
        return VaultUnavailable(
            "What was asked does not answer as a Key Vault of that name: KEY_VAULT_URL must be the vault's own "
            "address, such as https://my-vault.vault.azure.net."
        )
    # Without a status it never got that far: no connection, or the app's own identity gave no token.
    status = exc.status_code if isinstance(exc, HttpResponseError) else None
    if status is None:
        return VaultUnavailable(f"Key Vault answered nothing ({type(exc).__name__}).")
    inner = _inner_code(exc)
    return VaultUnavailable(f"Key Vault answered {status}{f' ({inner})' if inner.isidentifier() else ''}.")


def _says_disabled(exc: HttpResponseError) -> bool:
    # A closed network is "disabled" in the vault's words, too: only the inner code tells it from a secret.
    inner = _inner_code(exc)
    said = inner == "SecretDisabled" if inner else _DISABLED_SAID in str(exc)
    return exc.status_code == _FORBIDDEN and said


def _inner_code(exc: Exception) -> str:
    inner = getattr(getattr(exc, "error", None), "innererror", None)
    code = inner.get("code") if isinstance(inner, dict) else None
    return code if isinstance(code, str) else ""


def _disabled(customer: str, connection: str) -> ConnectionDisabled:
    return ConnectionDisabled(f"The secret of customer {customer}'s connection {connection} is disabled.")


def _stored(secret: KeyVaultSecret) -> StoredCredential:
    about = secret.properties
    return StoredCredential(
        value=Secret(secret.value or ""),
        version=about.version or "",
        enabled=about.enabled is not False,
        not_before=about.not_before,
        expires_on=about.expires_on,
        tags=about.tags or {},
    )


def _facts(about: SecretProperties, connection: str) -> SecretFacts:
    return SecretFacts(
        connection=connection,
        enabled=about.enabled is not False,
        version=about.version or "",
        not_before=about.not_before,
        expires_on=about.expires_on,
        created_at=about.created_on,
        updated_at=about.updated_on,
    )
