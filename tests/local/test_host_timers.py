"""Timers of the host, run manually as in Azure: a real host process, Microsoft's worker engine."""

import asyncio
import json
import re
import shlex

import httpx
import pytest

from local.paths import PROJECT

JSON = {"Content-Type": "application/json"}


async def test_a_timer_function_runs_manually(http, queues):
    """The response is immediate, the function gets a timer's data; it does not run by its own schedule."""
    response = await http.post("/admin/functions/Tick", headers=JSON, content=b"{}")

    assert (response.status_code, response.content) == (202, b"")
    (tick,) = await queues.take("shared-ticks")
    assert json.loads(tick) == {"past_due": False}
    assert await queues.length("shared-ticks") == 0


@pytest.mark.long
async def test_a_timer_of_each_minute_runs_by_itself(queues, host):  # noqa: ARG001  # the host runs
    """So that what waits in the app's schedule is woken here, too."""
    async with asyncio.timeout(70):
        while not await queues.length("shared-minutes"):  # noqa: ASYNC110  # another process sends it
            await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("method", "name", "headers", "status"),
    [
        *(("POST", name, JSON, 404) for name in ("none", "echo", "plain")),  # no function, and other triggers
        ("POST", "tick", {}, 415),
        ("GET", "tick", JSON, 404),
    ],
)
async def test_other_requests_run_nothing(http, method, name, headers, status):
    """As in Azure, a manual run is a POST with a JSON media type for a timer function."""
    response = await http.request(method, f"/admin/functions/{name}", headers=headers, content=b"{}")

    assert response.status_code == status


async def test_a_timer_function_that_fails_is_logged(http, host):
    """The response is the same, and the host continues."""
    assert (await http.post("/admin/functions/fail_tick", headers=JSON, content=b"{}")).status_code == 202

    await host.printed("fail_tick")
    await host.printed("This timer fails.")
    assert (await http.get("/api/plain")).status_code == 200


async def test_the_docs_command_runs_the_retention_sweep(start_host, azurite):
    """The command on the page, with the local host's URL, runs the app's own sweep."""
    from azure.data.tables.aio import TableClient  # noqa: PLC0415

    (line,) = re.findall(r"^curl .*/admin/.*$", (PROJECT / "docs/retention.md").read_text(), re.MULTILINE)
    words = shlex.split(line)
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    settings = {"JOBS_QUEUE": "swept-jobs", "RESULTS_QUEUE": "swept-results", "JOBS_TABLE": "swept"}
    table = TableClient.from_connection_string(azurite.connection_string, "swept")
    async with table, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        await table.create_table()
        host = await start_host("swept-", "--port", "auto", app=PROJECT, **settings)
        url = words[words.index("POST") + 1].replace("https://APP.azurewebsites.net", host.url)
        response = await client.request("POST", url, headers=headers, content=words[words.index("-d") + 1])

        assert response.status_code == 202
        await host.printed("sweep_finished complete")
