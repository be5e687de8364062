"""
Tokens of the app's identity, for the requests that are sent directly and for the SDKs.

Each is requested once, however many need it, and kept until it is renewed: directly if the platform is App Service,
and by azure-identity if that has no certain result, or anywhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self

from shared.lru import LRU
from shared.network.identity_endpoint import IdentityEndpoint
from shared.network.response import NotReached
from shared.network.token import RETRY_S, Token, new_token
from shared.secret import Secret
from shared.single_flight import SingleFlight

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.core.credentials_async import AsyncTokenCredential

TOKEN_TIMEOUT_S = 30.0
"""Seconds for a token, the SDK's retries included: all that need it wait for the same request."""
MAX_SCOPES = 1000


class NoToken(NotReached):
    """The identity has no token, so that nothing was sent. The cause is an error of the SDK, or TimeoutError."""


class Credential:
    """One identity's tokens. To the SDKs, it is an AsyncTokenCredential."""

    def __init__(
        self,
        endpoint: IdentityEndpoint | None,
        make_sdk: Callable[[], AsyncTokenCredential],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint, self._make_sdk, self._clock = endpoint, make_sdk, clock
        self._tokens = LRU[str, Token](MAX_SCOPES)
        self._requests = SingleFlight[str, "Token | Exception"]()

    @property
    def is_managed(self) -> bool:
        """Whether it is a managed identity that needs no SDK. Its tokens are of its own tenant, whatever one wants."""
        return self._endpoint is not None

    async def token(self, scope: str) -> Secret:
        """Return a token for `scope`. Raises NoToken."""
        return (await self._get(scope)).value

    def forget(self, scope: str) -> None:
        """Keep no token that a service has refused."""
        self._tokens.pop(scope)
        self._requests.forget(scope)

    async def get_token(
        self, *scopes: str, claims: str | None = None, tenant_id: str | None = None, **options: Any
    ) -> AccessToken:
        """See AsyncTokenCredential: for the SDKs. Raises azure-identity's errors."""
        # An SDK that calls this has loaded them.
        from azure.core.credentials import AccessToken  # noqa: PLC0415
        from azure.core.exceptions import AzureError, ClientAuthenticationError  # noqa: PLC0415

        if self._endpoint is None or claims or len(scopes) != 1:
            return await self._sdk.get_token(*scopes, claims=claims, tenant_id=tenant_id, **options)
        try:
            token = await self._get(scopes[0])
        except NoToken as exc:
            cause = exc.__cause__
            raise (cause if isinstance(cause, AzureError) else ClientAuthenticationError(str(exc))) from None
        return AccessToken(token.value.reveal(), int(token.expires_on))

    async def close(self) -> None:
        """Close the SDK's credential, if it was needed."""
        if "_sdk" in self.__dict__:
            await self._sdk.close()

    async def __aenter__(self) -> Self:
        """See AsyncTokenCredential."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """See AsyncTokenCredential."""
        await self.close()

    @cached_property
    def _sdk(self) -> AsyncTokenCredential:
        return self._make_sdk()

    async def _get(self, scope: str) -> Token:
        token, now = self._tokens.get(scope), self._clock()
        left_s = 0 if token is None else token.expires_on - now
        if token is not None and left_s > 0 and now < token.renew_on:
            return token
        if token is not None and left_s > TOKEN_TIMEOUT_S:  # it outlives the request, so nobody waits for that
            self._tokens.set(scope, token._replace(renew_on=now + RETRY_S))
            self._requests.start(scope, partial(self._request, scope))
            return token
        result = await self._requests.run(scope, partial(self._request, scope))
        if isinstance(result, Token):
            return result
        if token is not None and left_s > 0:
            return token
        raise NoToken(f"There is no token ({type(result).__name__}).") from result

    async def _request(self, scope: str) -> Token | Exception:
        token: Token | Exception | None = None
        try:
            async with asyncio.timeout(TOKEN_TIMEOUT_S):
                if self._endpoint is not None:
                    token = await self._endpoint.request(scope, self._clock())
                if token is None:
                    token = await self._request_by_sdk(scope)
        except TimeoutError as exc:
            return exc
        if isinstance(token, Token) and self._requests.is_current(scope):
            self._tokens.set(scope, token)
        return token

    async def _request_by_sdk(self, scope: str) -> Token | Exception:
        from azure.core.exceptions import AzureError  # noqa: PLC0415  # most workers never need it

        now = self._clock()
        try:
            issued = await self._sdk.get_token(scope)
        except (AzureError, ValueError) as exc:
            return exc
        return new_token(issued.token, issued.expires_on, now)
