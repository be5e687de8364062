"""What the demo's jobs cost, in invented prices: published with the operator's command line, and read over HTTP."""

import asyncio
import sys
from subprocess import PIPE, STDOUT
from typing import Any

import aiohttp

from local.paths import PROJECT
from local.stack.hosts import Hosts
from local.stack.processes import ProcessFailed

PRICES = PROJECT / "local" / "demo" / "prices.json"


async def publish_prices(hosts: Hosts) -> None:
    """Publish the demo's price book. Raises ProcessFailed."""
    await _aijobs(hosts, "prices", "import", str(PRICES), "--yes")


async def usage_by_customer(hosts: Hosts) -> list[dict[str, Any]]:
    """What each customer used this month, with its amount."""
    async with (
        aiohttp.ClientSession(raise_for_status=True) as client,
        client.get(f"{hosts.url}/api/usage") as response,
    ):
        lines: list[dict[str, Any]] = (await response.json())["lines"]
        return lines


def console_url(hosts: Hosts) -> str:
    """The address of the console."""
    return f"{hosts.url}/api/console"


async def _aijobs(hosts: Hosts, *arguments: str) -> None:
    """Run a command of the operator's command line. Raises ProcessFailed, with what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aijobs", *arguments), cwd=PROJECT, env=hosts.environment, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise ProcessFailed(f"`aijobs {' '.join(arguments)}` failed:\n{output.decode(errors='replace')}")
