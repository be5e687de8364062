"""The stack with Functions hosts: they run an app, and one that is killed comes back."""

import asyncio
import os
import signal
import time

import httpx
import pytest

from local import stack
from local.processes import ProcessFailed

APP = """
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route("hello")
async def hello(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("hello")
"""


@pytest.fixture
def app(tmp_path):
    (tmp_path / "function_app.py").write_text(APP)
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    return tmp_path


async def test_hosts_run_the_app_and_come_back_when_killed(app):
    """Instance 0 has HTTP; whichever host is killed is started again, at the same URL, and this is told."""
    told = []
    async with stack.start(workers=2, app=app, tell=told.append) as running:
        hosts = running.hosts
        assert sorted(hosts.processes) == [0, 1]
        assert await hello(hosts.url) == "hello"

        killed = {instance: process.pid for instance, process in hosts.processes.items()}
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        await until(lambda: all(hosts.processes[instance].pid != pid for instance, pid in killed.items()))

        assert await hello(hosts.url) == "hello"
        assert "Functions host 1 was ended by SIGKILL; it is being started again." in told
        assert f"Functions host 1 runs again, as process {hosts.processes[1].pid}." in told


async def test_an_app_that_does_not_load_stops_the_start(app):
    """The error names the host and shows what the app said."""
    (app / "function_app.py").write_text("raise RuntimeError('this app is broken')")

    with pytest.raises(ProcessFailed, match=r"(?s)^Functions host [01] ended with .*this app is broken"):
        async with stack.start(workers=2, app=app, tell=str):
            pass


async def test_the_settings_lead_to_the_parts():
    """Every setting is text, and each URL is that of a running part on loopback."""
    async with stack.start(tell=str) as running:
        settings = running.settings()

        assert running.hosts is None
        assert all(isinstance(value, str) for value in settings.values())
        assert settings["KEY_VAULT_URL"] == running.vault.url
        assert settings["IDENTITY_ENDPOINT"].startswith("http://127.0.0.1:")
        assert [customer.id for customer in running.customers] == ["contoso", "fabrikam", "northwind"]
        assert len(running.vault.secrets.live) == 3


async def hello(url):
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{url}/api/hello")).text


async def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "This did not happen within 20 s."
        await asyncio.sleep(0.05)
