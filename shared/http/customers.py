"""
The list of customers over HTTP: who has a connection in Key Vault, or a row in the jobs table.

The table has its partitions in order, so a page reads as many rows as it has customers. The vault's list has to be read
whole, 25 secrets an operation: a walk through all pages reads it once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from shared.connections.key_vault import KeyVaultCredentials
from shared.contract.documents import CustomerDocument, CustomerPage
from shared.contract.names import is_name
from shared.http.auth import Caller
from shared.http.messages import Request, Response, json_response
from shared.http.request_parsing import read_page
from shared.jobs.queries import next_customers
from shared.storage.base import Table

WALK_S = 300.0
"""How long further pages use the vault's list that the first page read."""


@dataclass(slots=True)
class CustomersResource:
    """The route of the list of customers. `vault` is None if the app has no Key Vault."""

    table: Table
    vault: KeyVaultCredentials | None
    _in_vault: frozenset[str] = frozenset()
    _read_at: float = float("-inf")

    async def list(self, request: Request, caller: Caller) -> Response:
        """`GET /customers`: a page, in the order of their ids. For a caller tied to a customer there is no other."""
        after, limit = read_page(request, is_name)
        if caller.customer is not None:
            return json_response(CustomerPage(customers=[CustomerDocument(customer=caller.customer)]))
        in_vault = [name for name in await self._vault_customers(is_first=not after) if name > after]
        in_table = await next_customers(self.table, after, limit + 1)
        names = sorted({*in_vault, *in_table})
        page = [CustomerDocument(customer=name) for name in names[:limit]]
        continuation = page[-1].customer if len(names) > limit else None
        return json_response(CustomerPage(customers=page, continuation=continuation))

    async def _vault_customers(self, *, is_first: bool) -> frozenset[str]:
        if self.vault is not None and (is_first or time.monotonic() - self._read_at > WALK_S):
            secrets = [(customer, facts.connection) async for customer, facts in self.vault.list_all()]
            self._in_vault = frozenset(customer for customer, name in secrets if is_name(customer) and is_name(name))
            self._read_at = time.monotonic()
        return self._in_vault
