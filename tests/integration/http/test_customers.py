"""The list of customers, on a vault of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from local.vault import server as vaults
from local.vault.server import Vault
from shared.connections.key_vault import KeyVaultCredentials
from shared.connections.store import VaultForbids
from shared.errors import VaultUnavailable
from shared.http.shares import LIST_WEIGHT, MAX_VAULT_REQUESTS
from tests.support.endpoint import Endpoint
from tests.support.harness import Harness
from tests.support.http_client import HttpResponse, send
from tests.support.memory_harness import open_memory_harness
from tests.support.principals import token

ENTRA = {"HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True"}
READ = token("Billing.Read", "Customers.All")


@pytest_asyncio.fixture
async def own_vault(
    vault: Vault,  # noqa: ARG001  # sets the managed identity in the environment
    endpoint: Endpoint,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Harness]:
    """An app with a table and a vault of its own, behind App Service authentication."""
    async with (
        vaults.start(tmp_path_factory.mktemp("vault")) as own,
        open_memory_harness(own, endpoint, **ENTRA) as opened,
    ):
        yield opened


async def listed(harness: Harness, headers: dict[str, str] = READ, **query: str) -> HttpResponse:
    """The response to a request for the list."""
    return await send(harness, "GET", "customers", headers=headers, query=query)


async def test_who_has_a_connection_or_a_record_is_listed(own_vault: Harness):
    """
    A customer with only a connection, with only a job, and with both is each listed once; a signing secret makes no
    customer. A page says where the next one starts.
    """
    both, connected = own_vault.customer(), own_vault.customer()
    only_job = own_vault.customer(connection=None)
    await both.run()
    await only_job.run()
    own_vault.put_secret("webhook--nobody", "whsec_x")
    names = sorted(each.name for each in (both, connected, only_job))

    whole = await listed(own_vault)
    first = await listed(own_vault, limit="2")
    second = await listed(own_vault, limit="2", continuation=first.json["continuation"])

    assert (200, {"customers": [{"customer": name} for name in names]}) == (whole.status, whole.json)
    assert first.json["customers"] + second.json["customers"] == whole.json["customers"]
    assert (names[1], False) == (first.json["continuation"], "continuation" in second.json)


async def test_roles_and_customers_of_a_token(own_vault: Harness):
    """The list needs Billing.Read. A token that is tied to a customer gets that one, as if there were no other."""
    mine, _ = own_vault.customer(), own_vault.customer()
    tied = await listed(own_vault, token("Billing.Read", customer=mine.name))
    of_a_newcomer = await listed(own_vault, token("Billing.Read", "Customers.All", customer="newcomer"))

    assert {"customers": [{"customer": mine.name}]} == tied.json
    assert {"customers": [{"customer": "newcomer"}]} == of_a_newcomer.json
    (await listed(own_vault, token("Billing.Read"))).assert_problem(403, "forbidden", "Customers.All")
    (await listed(own_vault, token("Jobs.Read", "Customers.All"))).assert_problem(403, "forbidden", "Billing.Read")
    (await listed(own_vault, {})).assert_problem(401, "unauthorized")


@pytest.mark.parametrize(
    ("error", "sentence", "is_temporary"),
    [(VaultForbids("Grant it."), "Grant it.", False), (VaultUnavailable("No answer."), "try again later", True)],
)
async def test_a_vault_that_does_not_answer_is_503(
    own_vault: Harness, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str, is_temporary: bool
):
    """The list is whole or an error: no customer is left out because the vault is down or forbids it."""

    async def fail(_: KeyVaultCredentials) -> AsyncIterator[Any]:
        raise error
        yield

    monkeypatch.setattr(KeyVaultCredentials, "list_all", fail)
    response = await listed(own_vault)

    response.assert_problem(503, "unavailable", sentence)
    assert is_temporary == ("Retry-After" in response.headers)


async def test_lists_of_customers_have_a_share_of_the_vault(own_vault: Harness):
    """Beyond the operator's share, 429; customers' own requests find room."""
    handler: Any = own_vault.services.http.handlers["list_customers"]
    (shares,) = [cell.cell_contents for cell in handler.__closure__ if hasattr(cell.cell_contents, "taken")]
    with shares.tried("", MAX_VAULT_REQUESTS // 2):
        (await listed(own_vault)).assert_problem(429, "rate_limited", "repeat this one later")
        assert shares.has_room("contoso", LIST_WEIGHT)
    assert 200 == (await listed(own_vault)).status
