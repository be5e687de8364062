"""
The app's Entra identity and its tokens. The only user of azure-identity.

That is imported on first use: it would cost a cold start more than anything else here, and a function app's managed
identity only needs it if something goes wrong.
"""

from __future__ import annotations

import asyncio
import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from shared.errors import ConnectionInvalid, ProviderUnavailable, UpstreamFacts
from shared.network.credential import TOKEN_TIMEOUT_S, Credential, NoToken
from shared.network.identity_endpoint import IdentityEndpoint
from shared.network.pool import Pool
from shared.secret import Secret
from shared.single_flight import SingleFlight

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

_EXCHANGE_SCOPE = "api://AzureADTokenExchange/.default"
# An id or a domain name. azure-identity inserts it into the URL without encoding.
_is_tenant = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}").fullmatch


class Identity:
    """Credentials for the Azure SDKs, and tokens for customers' endpoints."""

    def __init__(self, pool: Pool, *, client_id: str = "", entra_client_id: str = "", **options: Any) -> None:
        """`options` are passed to the credentials of azure-identity."""
        self._pool = pool
        self._client_id = client_id
        self._entra_client_id = entra_client_id
        self._options = options
        self._own: dict[str, Credential] = {}
        self._foreign: AsyncTokenCredential | None = None
        self._assertion = Secret("")
        self._requests: SingleFlight[tuple[str, str], Secret] = SingleFlight()

    def credential(self, client_id: str = "") -> Credential:
        """Return the app's own credential: its managed identity on Azure, the developer's login elsewhere."""
        client_id = client_id or self._client_id
        if client_id not in self._own:
            endpoint = IdentityEndpoint.of(os.environ, client_id, self._pool)
            self._own[client_id] = Credential(endpoint, partial(self._make_own, client_id))
        return self._own[client_id]

    async def token(self, scope: str, tenant_id: str | None) -> Secret:
        """
        Return a token for `scope`, from the app's own tenant or, if `tenant_id` is set, from the customer's.

        A managed identity can't get tokens of another tenant. There, an app registration that the customer has
        consented to gets them, with the identity's own token as its assertion (workload identity federation).
        A token is requested once, however many need it at the same time, and kept. Raises ConnectionInvalid if
        ENTRA_CLIENT_ID is not set or `tenant_id` is invalid, ProviderUnavailable if Entra refuses.
        """
        if tenant_id:
            return await self._requests.run((scope, tenant_id), partial(self._request_foreign, scope, tenant_id))
        try:
            return await self.credential().token(scope)
        except NoToken as exc:
            raise _not_issued(scope, exc.__cause__ or exc) from exc

    async def _request_foreign(self, scope: str, tenant_id: str) -> Secret:
        from azure.core.exceptions import AzureError  # noqa: PLC0415

        try:
            async with asyncio.timeout(TOKEN_TIMEOUT_S):
                credential = await self._of_other_tenants(tenant_id)
                return Secret((await credential.get_token(scope, tenant_id=tenant_id)).token)
        except (AzureError, TimeoutError) as exc:
            raise _not_issued(scope, exc) from exc

    async def close(self) -> None:
        """Close all credentials."""
        for credential in (*self._own.values(), self._foreign):
            if credential is not None:
                await credential.close()

    def _make_own(self, client_id: str) -> AsyncTokenCredential:
        from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential  # noqa: PLC0415

        if os.environ.get("IDENTITY_ENDPOINT"):
            return ManagedIdentityCredential(client_id=client_id or None, **self._options)
        return DefaultAzureCredential(managed_identity_client_id=client_id or None, **self._options)

    async def _of_other_tenants(self, tenant_id: str) -> AsyncTokenCredential:
        """Return the one credential for all tenants but the app's own, so that no list of tenants takes memory."""
        if not self._entra_client_id:
            raise ConnectionInvalid(
                "The connection has a `tenant_id`, which requires the app setting ENTRA_CLIENT_ID: the id of the app "
                "registration that the customer has consented to."
            )
        if not _is_tenant(tenant_id):
            raise ConnectionInvalid("The connection's `tenant_id` must be the id or a domain name of an Entra tenant.")
        # azure-identity gets the assertion by a synchronous call, so it is fetched (or taken from its cache) before.
        self._assertion = await self.token(_EXCHANGE_SCOPE, None)
        if self._foreign is None:
            from azure.identity.aio import ClientAssertionCredential  # noqa: PLC0415

            self._foreign = ClientAssertionCredential(
                "organizations",  # each token names its tenant
                self._entra_client_id,
                self._reveal_assertion,
                additionally_allowed_tenants=["*"],
                **self._options,
            )
        return self._foreign

    def _reveal_assertion(self) -> str:
        return self._assertion.reveal()


def _not_issued(scope: str, cause: BaseException) -> ProviderUnavailable:
    # Entra's own message names tenants and apps. It is logged, but not shown in a result.
    return ProviderUnavailable(
        f"Entra issued no token for {scope} ({type(cause).__name__}).", UpstreamFacts(transient=True)
    )
