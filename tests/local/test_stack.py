"""The stack with Functions hosts: they run an app, and one that is killed comes back."""

import asyncio
import json
import os
import signal
import time

import httpx
import pytest

from local.stack import hosts, stack
from local.stack.processes import ProcessFailed

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
        started = running.hosts
        assert sorted(started.processes) == [0, 1]
        assert await hello(started.url) == "hello"

        killed = {instance: process.pid for instance, process in started.processes.items()}
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        await until(lambda: all(started.processes[instance].pid != pid for instance, pid in killed.items()))

        assert await hello(started.url) == "hello"
        assert "Functions host 1 was ended by SIGKILL; it is being started again." in told
        assert f"Functions host 1 runs again, as process {started.processes[1].pid}." in told


def test_the_shells_own_settings_do_not_reach_the_hosts(app, monkeypatch):
    """What a shell exports of the app's settings, such as an operator's real key, is not what the hosts run on."""
    names = json.loads((stack.PROJECT / "local.settings.sample.json").read_text())["Values"]
    for name in (*names, "WEBSITE_AUTH_ENABLED", "AzureFunctionsJobHost__functionTimeout"):
        monkeypatch.setenv(name, "the shell's")
    monkeypatch.setenv("HARMLESS", "the shell's")

    environment = hosts.Hosts(app, {"JOBS_QUEUE": "jobs"}, 0, print).environment

    assert {name for name, value in environment.items() if value == "the shell's"} == {"HARMLESS"}
    assert environment["JOBS_QUEUE"] == "jobs"


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
    async with httpx.AsyncClient(timeout=60) as client:
        return (await client.get(f"{url}/api/hello")).text


async def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "This did not happen within 60 s."
        await asyncio.sleep(0.05)
