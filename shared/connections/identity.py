"""
The app's own identity, and tokens in its name. The only user of azure-identity, which is imported
on first use: it costs a cold start more than anything else here, and key-only setups never need it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from shared.errors import ConnectionInvalid, ProviderUnavailable, UpstreamFacts
from shared.secret import Secret

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

_EXCHANGE_SCOPE = "api://AzureADTokenExchange/.default"
# An id or a domain name. azure-identity puts it into the path at Entra as it is.
_is_tenant = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}").fullmatch


class Identity:
    """Credentials for the Azure SDKs, and tokens for customers' endpoints."""

    def __init__(self, *, client_id: str = "", entra_client_id: str = "", **options: Any) -> None:
        """`options` go to azure-identity's credentials as they are."""
        self._client_id = client_id
        self._entra_client_id = entra_client_id
        self._options = options
        self._own: dict[str, AsyncTokenCredential] = {}
        self._foreign: dict[str, AsyncTokenCredential] = {}
        self._assertion = ""

    def credential(self, client_id: str = "") -> AsyncTokenCredential:
        """The app's own credential: its managed identity on Azure, the developer's login elsewhere."""
        client_id = client_id or self._client_id
        if client_id not in self._own:
            self._own[client_id] = self._make_own(client_id)
        return self._own[client_id]

    async def token(self, scope: str, tenant_id: str | None) -> Secret:
        """
        A token for `scope`, of the app's own tenant, or of the customer's where `tenant_id` names one.

        A managed identity has no standing in another tenant: there, an app registration that the
        customer has consented to vouches with it (workload identity federation). Raises
        ConnectionInvalid where ENTRA_CLIENT_ID is not set or `tenant_id` is none, ProviderUnavailable
        where Entra refuses.
        """
        from azure.core.exceptions import AzureError  # noqa: PLC0415

        try:
            credential = await self._in_tenant(tenant_id) if tenant_id else self.credential()
            token = await credential.get_token(scope)
        except AzureError as exc:
            # Entra's own text names tenants and apps: the log has it, a result does not.
            raise ProviderUnavailable(
                f"Entra gave no token for {scope} ({type(exc).__name__}).", UpstreamFacts(transient=True)
            ) from exc
        return Secret(token.token)

    async def close(self) -> None:
        """Closes what was opened."""
        for credential in (*self._own.values(), *self._foreign.values()):
            await credential.close()

    def _make_own(self, client_id: str) -> AsyncTokenCredential:
        from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential  # noqa: PLC0415

        if os.environ.get("IDENTITY_ENDPOINT"):
            return ManagedIdentityCredential(client_id=client_id or None, **self._options)
        return DefaultAzureCredential(managed_identity_client_id=client_id or None, **self._options)

    async def _in_tenant(self, tenant_id: str) -> AsyncTokenCredential:
        if not self._entra_client_id:
            raise ConnectionInvalid(
                "The connection names a `tenant_id`, for which the app setting ENTRA_CLIENT_ID must name the "
                "app registration that the customer has consented to."
            )
        if not _is_tenant(tenant_id):
            raise ConnectionInvalid("The connection's `tenant_id` must be a tenant's id or domain name.")
        # azure-identity asks for the assertion in a plain call, so it is fetched (or found cached) before.
        self._assertion = (await self.credential().get_token(_EXCHANGE_SCOPE)).token
        if tenant_id not in self._foreign:
            from azure.identity.aio import ClientAssertionCredential  # noqa: PLC0415

            self._foreign[tenant_id] = ClientAssertionCredential(
                tenant_id, self._entra_client_id, lambda: self._assertion, **self._options
            )
        return self._foreign[tenant_id]
