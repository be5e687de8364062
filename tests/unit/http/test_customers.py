"""The list of customers: its pages and what they cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.connections.store import SecretInfo
from shared.http import customers
from shared.http.auth import Caller
from shared.http.customers import CustomersResource
from shared.http.messages import Request
from shared.http.problems import Problem
from shared.storage.base import Row
from tests.support.fakes import MemoryTable
from tests.support.rows import every_row

NAMES = st.sets(st.from_regex(r"[ab0](-?[ab0]){0,2}", fullmatch=True), max_size=12)


@dataclass
class ListedVault:
    """The vault's list alone, with one connection of each customer. `lists` counts how often it was read."""

    customers: set[str]
    connection: str = "default"
    lists: int = 0

    async def list_all(self) -> AsyncIterator[tuple[str, SecretInfo]]:
        """See KeyVaultCredentials."""
        self.lists += 1
        for customer in sorted(self.customers, reverse=True):
            yield customer, SecretInfo(self.connection, enabled=True)


@dataclass
class Listing:
    """The list of the customers in a vault and in a table, which also has partitions that are no customers'."""

    in_vault: set[str]
    in_table: set[str]
    vault: ListedVault = field(init=False)
    table: MemoryTable = field(init=False)

    def __post_init__(self) -> None:
        partitions = {*self.in_table, "~schedule-0", "~schedule-1", "~sweep"}
        self.table = MemoryTable({(name, key): Row(name, key, {}) for name in partitions for key in ("j_1", "j_2")})
        self.vault = ListedVault(self.in_vault)
        self.resource = CustomersResource(self.table, self.vault)  # type: ignore[arg-type]

    async def page(self, caller: Caller | None = None, **query: str) -> dict[str, Any]:
        """One page."""
        response = await self.resource.list(Request("GET", "", query=query), caller or Caller())
        page: dict[str, Any] = msgspec.json.decode(response.body)
        return page

    async def pages(self, limit: int) -> list[list[str]]:
        """The customers of all pages, from the first to the last."""
        page = await self.page(limit=str(limit))
        pages = [[each["customer"] for each in page["customers"]]]
        while "continuation" in page:
            page = await self.page(limit=str(limit), continuation=page["continuation"])
            pages.append([each["customer"] for each in page["customers"]])
        return pages


@given(in_vault=NAMES, in_table=NAMES, limit=st.integers(1, 5))
async def test_pages_have_each_customer_once(in_vault: set[str], in_table: set[str], limit: int):
    """
    All pages together are the customers of the vault and of the table, in order; each page but the last is full. The
    vault is read once, and the table one row for each customer of a page, and a few.
    """
    listing = Listing(in_vault, in_table)
    pages = await listing.pages(limit)

    assert sorted(in_vault | in_table) == [name for page in pages for name in page]
    assert all(len(page) == limit for page in pages[:-1])
    assert 1 == listing.vault.lists
    assert listing.table.operations <= len(pages) * (limit + 1 + 3)


async def test_a_continuation_is_good_without_its_customer():
    """It is a name: whoever is removed in the meantime, and whoever comes, moves nothing."""
    listing = Listing({"a", "c", "e"}, {"b"})
    first = await listing.page(limit="2")
    listing.vault.customers -= {"a", "c"}
    del listing.table.rows["b", "j_1"], listing.table.rows["b", "j_2"]
    second = await listing.page(continuation=first["continuation"])

    assert {"customers": [{"customer": "a"}, {"customer": "b"}], "continuation": "b"} == first
    assert {"customers": [{"customer": "c"}, {"customer": "e"}]} == second


async def test_a_walk_uses_the_list_of_its_first_page(monkeypatch: pytest.MonkeyPatch):
    """A first page reads the vault's list anew, a further one only if the worker has none or an old one."""
    listing = Listing({"a", "b"}, set())
    await listing.page(continuation="a")
    await listing.page(continuation="a")
    assert 1 == listing.vault.lists

    listing.vault.customers.add("c")
    assert ["a", "b", "c"] == [each["customer"] for each in (await listing.page())["customers"]]
    assert 2 == listing.vault.lists

    monkeypatch.setattr(customers, "WALK_S", -1.0)
    await listing.page(continuation="a")
    assert 3 == listing.vault.lists


async def test_a_tied_caller_gets_its_customer_alone():
    """Other customers do not exist for it, and nothing is read."""
    listing = Listing({"mine", "other"}, {"another"})

    assert {"customers": [{"customer": "mine"}]} == await listing.page(Caller(frozenset({"Billing.Read"}), "mine"))
    assert (0, 0) == (listing.vault.lists, listing.table.operations)


async def test_names_that_no_customer_has_are_left_out():
    """A secret that somebody named by hand may look like a connection's."""
    listing = Listing({"contoso", "not a name", "a--b"}, set())
    assert [["contoso"]] == await listing.pages(5)

    listing.vault.connection = "not a name"
    assert [[]] == await listing.pages(5)


async def test_without_a_vault_the_table_is_listed():
    """An app with the operator's own connection alone has customers, too."""
    listing = Listing(set(), {"contoso"})
    listing.resource = CustomersResource(listing.table, None)

    assert [["contoso"]] == await listing.pages(5)


@every_row(
    ("name", "text"),
    [
        *(("limit", text) for text in ("0", "101", "x", "-1", "1.0")),
        *(("continuation", text) for text in ("A", "~", "a/b")),
    ],
)
async def test_invalid_paging_is_refused(name: str, text: str):
    """Each is a 400 that names the parameter, also for a tied caller."""
    for caller in (Caller(), Caller(frozenset(), "mine")):
        with pytest.raises(Problem, match=f"`{name}` must be ") as caught:
            await Listing(set(), set()).page(caller, **{name: text})
        assert (400, "invalid_request") == (caught.value.status, caught.value.code)
