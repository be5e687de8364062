"""Customers' connections in Azure Key Vault: one secret each. The only user of the Key Vault SDK."""

from __future__ import annotations

import asyncio
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.keyvault.secrets.aio import SecretClient

from shared.errors import ConnectionDisabled, VaultUnavailable
from shared.secret import Secret
from shared.stores import StoredCredential

ANSWER_S = 10.0
"""Seconds that a vault may take, tries included, before it counts as down."""


class KeyVaultCredentials:
    """
    The secrets `ai--{customer}--{connection}`.

    A GET succeeds before `nbf` and after `exp` as well, so the dates are given on, for the caller to
    enforce. A disabled secret answers 403 (learn.microsoft.com/rest/api/keyvault/secrets/get-secret).
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
        try:
            async with asyncio.timeout(ANSWER_S):
                secret = await self._client.get_secret(f"ai--{customer}--{connection}")
        except ResourceNotFoundError:
            return None
        except HttpResponseError as exc:
            if exc.status_code == 403 and "disabled" in str(exc).lower():  # noqa: PLR2004
                raise ConnectionDisabled(
                    f"The secret of customer {customer}'s connection {connection} is disabled."
                ) from None
            # Without a status it never got that far: the app's own identity gave no token.
            said = exc.status_code or f"nothing ({type(exc).__name__})"
            raise VaultUnavailable(f"Key Vault answered {said}.") from exc
        except (AzureError, TimeoutError) as exc:
            raise VaultUnavailable(f"Key Vault answered nothing ({type(exc).__name__}).") from exc
        about = secret.properties
        return StoredCredential(
            value=Secret(secret.value or ""),
            version=about.version or "",
            enabled=about.enabled is not False,
            not_before=about.not_before,
            expires_on=about.expires_on,
            tags=about.tags or {},
        )
