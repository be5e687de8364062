"""The identity's tokens: requested once, directly, renewed before anybody has to wait, and by the SDK if need be."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError, ClientAuthenticationError

from shared.network import credential as credentials
from shared.network.credential import Credential, NoToken
from shared.network.identity_endpoint import IdentityEndpoint
from shared.secret import Secret
from tests.support.manual_clock import ManualClock
from tests.support.storage_pools import ClosedPool, RecordingPool

SCOPE = "https://storage.azure.com/.default"


class Sdk:
    """A credential of azure-identity that issues numbered tokens, fails, or never ends."""

    def __init__(self, clock: ManualClock, *, valid_s: float = 3600, failure: Exception | None = None) -> None:
        self.failure = failure
        self.calls: list[dict[str, Any]] = []
        self.is_closed = False
        self._clock, self._valid_s = clock, valid_s

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Issue a token after a moment."""
        self.calls.append({"scopes": scopes, **options})
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return AccessToken(f"sdk-{len(self.calls)}", int(self._clock() + self._valid_s))

    async def close(self) -> None:
        """Note it."""
        self.is_closed = True


class Endpoint(IdentityEndpoint):
    """App Service's endpoint, which issues tokens that are valid for `valid_s`."""

    def __init__(self, valid_s: float) -> None:
        self.pool = RecordingPool(200)
        self.valid_s = valid_s
        super().__init__("http://localhost/msi/token", Secret("header"), "", self.pool)

    async def request(self, scope: str, now: float) -> Any:
        """Issue a numbered token after a moment."""
        await asyncio.sleep(0)
        number, expires_on = len(self.pool.requests) + 1, int(now + self.valid_s)
        self.pool.body = json.dumps({"access_token": f"direct-{number}", "expires_on": str(expires_on)}).encode()
        return await super().request(scope, now)


@pytest.fixture
def clock() -> ManualClock:
    """A clock."""
    return ManualClock()


def of(clock: ManualClock, endpoint: IdentityEndpoint | None, sdk: Sdk | None = None) -> Credential:
    """A credential. Without `sdk`, nothing may need it."""

    def make_sdk() -> Any:
        assert sdk is not None, "The SDK is not needed."
        return sdk

    return Credential(endpoint, make_sdk, clock=clock)


async def test_a_token_is_requested_once_and_kept(clock: ManualClock):
    """Many that need it at once share a request. Each scope has its own token, and no repr shows one."""
    endpoint = Endpoint(3600)
    credential = of(clock, endpoint)

    tokens = await asyncio.gather(*(credential.token(SCOPE) for _ in range(20)))
    clock.advance(3600 - 301)
    later, other = await credential.token(SCOPE), await credential.token("https://vault.azure.net/.default")

    assert {"direct-1"} == {each.reveal() for each in [*tokens, later]}
    assert "direct-2" == other.reveal()
    assert 2 == len(endpoint.pool.requests)
    assert "direct" not in f"{vars(credential)} {credential._tokens.get(SCOPE)}"


async def test_a_long_token_is_renewed_while_it_serves(clock: ManualClock):
    """After half of a day: nobody waits for the new one, and one request is sent, also if it fails, for 30 seconds."""
    endpoint = Endpoint(24 * 3600)
    credential = of(clock, endpoint, Sdk(clock, failure=ClientAuthenticationError("No.")))
    await credential.token(SCOPE)
    clock.advance(12 * 3600)
    endpoint.pool.status = 500
    assert ["direct-1"] * 3 == [(await credential.token(SCOPE)).reveal() for _ in range(3)]
    await asyncio.sleep(0.01)
    assert 2 == len(endpoint.pool.requests)

    endpoint.pool.status = 200
    clock.advance(29)
    assert "direct-1" == (await credential.token(SCOPE)).reveal()
    clock.advance(1)
    assert "direct-1" == (await credential.token(SCOPE)).reveal()
    await asyncio.sleep(0.01)

    assert "direct-3" == (await credential.token(SCOPE)).reveal()
    assert 3 == len(endpoint.pool.requests)


async def test_a_short_token_is_renewed_in_its_last_five_minutes(clock: ManualClock):
    """Nobody waits for the new one as long as the old one outlives the request, which may take 30 seconds to fail."""
    endpoint, sdk = Endpoint(3600), Sdk(clock, failure=ClientAuthenticationError("No."))
    credential = of(clock, endpoint, sdk)
    await credential.token(SCOPE)
    clock.advance(3600 - 300)
    endpoint.pool.status = 500
    for _ in range(9):
        assert ["direct-1"] * 3 == [(await credential.token(SCOPE)).reveal() for _ in range(3)]
        await asyncio.sleep(0.01)
        clock.advance(30)

    assert 1 + 9 == len(endpoint.pool.requests)


async def test_a_token_about_to_expire_is_waited_for(clock: ManualClock):
    """In its last 30 seconds. If there is no new one, it still serves until it expires."""
    endpoint, sdk = Endpoint(3600), Sdk(clock, failure=ClientAuthenticationError("No."))
    credential = of(clock, endpoint, sdk)
    await credential.token(SCOPE)
    clock.advance(3600 - 30)
    assert "direct-2" == (await credential.token(SCOPE)).reveal()

    endpoint.pool.status = 500
    clock.advance(3599)
    assert "direct-2" == (await credential.token(SCOPE)).reveal()
    clock.advance(1)
    with pytest.raises(NoToken):
        await credential.token(SCOPE)


async def test_a_token_that_comes_late_is_not_requested_each_time(clock: ManualClock):
    """The platform keeps tokens, and returns the same one until it is about to expire."""
    endpoint = Endpoint(60)
    credential = of(clock, endpoint)
    for _ in range(20):
        await credential.token(SCOPE)
        await asyncio.sleep(0.01)

    assert 1 == len(endpoint.pool.requests)


async def test_a_refused_token_is_forgotten(clock: ManualClock):
    """With one that is being requested."""
    credential = of(clock, Endpoint(3600))
    await credential.token(SCOPE)
    credential.forget(SCOPE)
    under_way = asyncio.create_task(credential.token(SCOPE))
    await asyncio.sleep(0)
    credential.forget(SCOPE)

    assert ["direct-3", "direct-2"] == [(await credential.token(SCOPE)).reveal(), (await under_way).reveal()]
    assert "direct-3" == (await credential.token(SCOPE)).reveal()


@pytest.mark.parametrize("is_azure", [True, False])
async def test_without_a_certain_result_the_sdk_requests_it(
    is_azure: bool, clock: ManualClock, caplog: pytest.LogCaptureFixture
):
    """Once for all who wait, and the token is kept as well. Only if something was tried before, it is logged."""
    sdk = Sdk(clock)
    endpoint = IdentityEndpoint("http://localhost/msi/token", Secret("h"), "", ClosedPool()) if is_azure else None
    credential = of(clock, endpoint, sdk)

    tokens = await asyncio.gather(*(credential.token(SCOPE) for _ in range(20)))
    await credential.token(SCOPE)
    await credential.close()

    assert {"sdk-1"} == {each.reveal() for each in tokens}
    assert [{"scopes": (SCOPE,)}] == sdk.calls
    assert sdk.is_closed
    logged = [("customer_ai_jobs", logging.WARNING, "sdk_repeated host=localhost: Nothing was sent.")]
    assert (logged if is_azure else []) == caplog.record_tuples


@pytest.mark.parametrize("failure", [ClientAuthenticationError("Tenant 1234."), ValueError("No client id."), None])
async def test_if_there_is_no_token_all_who_wait_fail_at_once(
    failure: Exception | None, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    """With errors of their own, after one request; to the SDKs, it is an error that they know."""
    sdk = Sdk(clock, failure=failure)
    if failure is None:
        monkeypatch.setattr(credentials, "TOKEN_TIMEOUT_S", 0.01)
        monkeypatch.setattr(sdk, "get_token", lambda *_: asyncio.sleep(60))
    endpoint = IdentityEndpoint("http://localhost/msi/token", Secret("h"), "", ClosedPool())
    credential = of(clock, endpoint, sdk)

    errors = await asyncio.gather(*(credential.token(SCOPE) for _ in range(20)), return_exceptions=True)
    with pytest.raises(AzureError) as raised:
        await credential.get_token(SCOPE)

    assert {f"There is no token ({type(failure or TimeoutError()).__name__})."} == set(map(str, errors))
    assert 20 == len({id(error) for error in errors if isinstance(error, NoToken)})
    assert failure is None or 2 == len(sdk.calls)
    assert isinstance(raised.value, ClientAuthenticationError)


async def test_the_sdks_get_the_same_tokens(clock: ManualClock):
    """They pass the tenant of a challenge, which a managed identity ignores; new claims are azure-identity's matter."""
    sdk, endpoint = Sdk(clock), Endpoint(3600)
    async with of(clock, endpoint, sdk) as credential:
        direct = await credential.token(SCOPE)
        issued = await credential.get_token(SCOPE, tenant_id="t", enable_cae=True)
        claimed = await credential.get_token(SCOPE, claims="{}", tenant_id="t", enable_cae=True)

    assert AccessToken(direct.reveal(), int(clock() + 3600)) == issued
    assert "sdk-1" == claimed.token
    assert [{"scopes": (SCOPE,), "claims": "{}", "tenant_id": "t", "enable_cae": True}] == sdk.calls


async def test_elsewhere_the_sdks_have_their_own_credential(clock: ManualClock):
    """A developer's login gets tokens of the tenant that a vault's challenge names."""
    sdk = Sdk(clock)

    await of(clock, None, sdk).get_token(SCOPE, tenant_id="t")

    assert [{"scopes": (SCOPE,), "claims": None, "tenant_id": "t"}] == sdk.calls
