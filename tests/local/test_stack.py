"""The stack with Functions hosts: they run an app, and are restarted when they are killed."""

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


@pytest.mark.long
async def test_a_killed_host_is_restarted(app):
    """Instance 0 serves HTTP. A killed host is restarted, at the same URL, and this is logged."""
    lines = []
    async with stack.start(workers=2, app=app, on_line=lines.append) as running:
        started = running.hosts
        assert sorted(started.processes) == [0, 1]
        assert await hello(started.url) == "hello"

        killed = {instance: process.pid for instance, process in started.processes.items()}
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        await wait_for(lambda: all(started.processes[instance].pid != pid for instance, pid in killed.items()))

        assert await hello(started.url) == "hello"
        assert "Functions host 1 was killed by SIGKILL; restarting it." in lines
        assert f"Functions host 1 is running again, as process {started.processes[1].pid}." in lines


def test_settings_of_the_shell_do_not_reach_the_hosts(app, monkeypatch):
    """The hosts don't inherit app settings that the shell exports, such as an operator's real key."""
    names = json.loads((stack.PROJECT / "local.settings.sample.json").read_text())["Values"]
    for name in (*names, "WEBSITE_AUTH_ENABLED", "AzureFunctionsJobHost__functionTimeout"):
        monkeypatch.setenv(name, "the shell's")
    monkeypatch.setenv("HARMLESS", "the shell's")

    environment = hosts.Hosts(app, {"JOBS_QUEUE": "jobs"}, 0, print).environment

    assert {name for name, value in environment.items() if value == "the shell's"} == {"HARMLESS"}
    assert environment["JOBS_QUEUE"] == "jobs"


@pytest.mark.long
async def test_an_app_that_can_not_be_loaded_stops_the_start(app):
    """The error names the host and has the app's output."""
    (app / "function_app.py").write_text("raise RuntimeError('this app is broken')")

    with pytest.raises(ProcessFailed, match=r"(?s)^Functions host [01] exited with .*this app is broken"):
        async with stack.start(workers=2, app=app, on_line=str):
            pass


async def hello(url):
    async with httpx.AsyncClient(timeout=60) as client:
        return (await client.get(f"{url}/api/hello")).text


async def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "The condition did not hold within 60 s."
        await asyncio.sleep(0.05)
