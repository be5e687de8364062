"""What the demo's jobs cost, in invented prices: published with the operator's command line, and read over HTTP."""

import asyncio
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from subprocess import PIPE, STDOUT
from typing import Any

import aiohttp
from azure.data.tables.aio import TableClient

from local.paths import PROJECT
from local.stack.hosts import Hosts
from local.stack.processes import ProcessFailed
from local.stack.stack import Stack

PRICES = PROJECT / "local" / "demo" / "prices.json"
BILLED = "northwind"
"""The customer that gets an invoice."""
PROFILE = {"legal_name": "Northwind Traders", "address": "1 Harbour Street\n12345 Anytown", "currency": "USD"}
USAGE = "(RowKey ge 'u_' and RowKey lt 'u`') or (RowKey ge 'c_' and RowKey lt 'c`')"
"""Usage records, and the rows that count jobs (docs/bill.md)."""
TIME_LIMIT_S = 30.0


async def publish_prices(hosts: Hosts) -> None:
    """Publish the demo's price book. Raises ProcessFailed."""
    await _aijobs(hosts, "prices", "import", str(PRICES), "--yes")


async def usage_by_customer(hosts: Hosts) -> list[dict[str, Any]]:
    """What each customer used this month, with its amount."""
    async with make_client(hosts) as client, client.get("/api/usage") as response:
        lines: list[dict[str, Any]] = (await response.json())["lines"]
        return lines


async def make_invoice(running: Stack, hosts: Hosts) -> bytes:
    """
    Close a month of the billed customer. Returns the invoice, an HTML page.

    A month can be closed only after its end, so the customer's usage is first copied into one. Raises ProcessFailed,
    TimeoutError.
    """
    month = closed_month(datetime.now(UTC))
    async with TableClient.from_connection_string(running.storage.connection_string, "jobs") as table:
        rows = [row async for row in table.query_entities(f"PartitionKey eq '{BILLED}' and ({USAGE})")]
        await table.submit_transaction([("create", in_month(row, month)) for row in rows])
    path = f"/api/customers/{BILLED}"
    async with make_client(hosts) as client:
        async with client.put(f"{path}/profile", json=PROFILE):
            pass
        await _aijobs(hosts, "close-month", "--month", month, "--customer", BILLED, "--yes")
        async with asyncio.timeout(TIME_LIMIT_S):
            while not await _statements(client, path):  # noqa: ASYNC110  # a job of the app, elsewhere
                await asyncio.sleep(0.1)
        async with client.get(f"{path}/statements/{month}", headers={"Accept": "text/html"}) as response:
            return await response.read()


def closed_month(at: datetime) -> str:
    """The month before; in the first hour of a month, the one before that, as it may still take records."""
    return f"{(at - timedelta(hours=1)).replace(day=1) - timedelta(days=1):%Y-%m}"


def in_month(record: Mapping[str, Any], month: str) -> dict[str, Any]:
    """A copy of such a row in another month. The day is in its key and in its time."""
    day = f"{month}-15"
    kind, _, rest = record["RowKey"].split("_", 2)
    at = datetime.fromisoformat(f"{day}T{record['at']:%H:%M:%S}").replace(tzinfo=UTC)
    return {**record, "RowKey": f"{kind}_{day}_{rest}", "at": at}


def console_url(hosts: Hosts) -> str:
    """The address of the console."""
    return f"{hosts.url}/api/console"


def make_client(hosts: Hosts) -> aiohttp.ClientSession:
    """Return a client of the app's."""
    return aiohttp.ClientSession(hosts.url, raise_for_status=True)


async def _statements(client: aiohttp.ClientSession, path: str) -> list[dict[str, Any]]:
    async with client.get(f"{path}/statements") as response:
        statements: list[dict[str, Any]] = (await response.json())["statements"]
        return statements


async def _aijobs(hosts: Hosts, *arguments: str) -> None:
    """Run a command of the operator's command line. Raises ProcessFailed, with what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aijobs", *arguments), cwd=PROJECT, env=hosts.environment, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise ProcessFailed(f"`aijobs {' '.join(arguments)}` failed:\n{output.decode(errors='replace')}")
