"""The host as a process: how it starts, fails to start, stops and dies; and the worker without it."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from argparse import Namespace

import httpx
import pytest

from local.host.__main__ import _serve
from local.host.errors import AppNotLoaded, HostError
from local.host.worker import Worker
from tests.support.host_fixtures import APP

HEAD = "import azure.functions as func\napp = func.FunctionApp()\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            HEAD + "import no_such_module\n",
            (
                r".*The app could not be loaded: ModuleNotFoundError: No module named 'no_such_module'"
                r".*function_app\.py\", line 3.*"
            ),
        ),
        # Azure would start it, and it would do nothing.
        pytest.param(HEAD, r".*has no functions.*", marks=pytest.mark.long),
    ],
    ids=["import error", "no functions"],
)
async def test_what_can_not_run_stops_the_start(start_host, tmp_path, source, expected):
    """The output has the worker's message with its traceback, or a sentence."""
    (tmp_path / "function_app.py").write_text(source)

    host = await start_host("none-", app=tmp_path, ready=False)

    assert await host.process.ended() == "exited with code 1"
    await host.process.stop()
    assert re.fullmatch(expected, "\n".join(host.lines), re.DOTALL)


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ("99999", r"^--port must be a number up to 65535 or auto\. It is '99999'\.$"),
        ("auto", r"^host\.json: extensions\.queues\.batchSize must be an integer from 1 to 32\. It is 33\.$"),
    ],
)
async def test_an_invalid_setting_is_an_error_before_the_app_is_loaded(tmp_path, monkeypatch, port, expected):
    """A sentence with the setting and its valid values; a host prints it like any other."""
    (tmp_path / "host.json").write_text('{"version": "2.0", "extensions": {"queues": {"batchSize": 33}}}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEBSITE_INSTANCE_ID", "test")

    with pytest.raises(HostError, match=expected):
        await _serve(Namespace(app=tmp_path, port=port, instance="0", visibility_timeout=1))


@pytest.mark.long
async def test_a_port_that_is_taken_stops_the_start(start_host):
    """The error is one sentence with the port, and says what to pass instead; there is no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        host = await start_host("taken-", "--port", str(port), ready=False)
        assert await host.process.ended() == "exited with code 1"
        await host.process.stop()

    assert f"The host can't listen on port {port} of loopback: " in host.lines[-1]
    assert host.lines[-1].endswith("Pass another `--port`, or none for a free one.")
    assert "Traceback" not in "\n".join(host.lines)


async def test_a_directory_without_an_app_is_an_error(tmp_path):
    """The message names the directory."""
    with pytest.raises(AppNotLoaded, match=r"There is no function_app\.py in"):
        await Worker.load(tmp_path)


@pytest.mark.long
async def test_sigterm_stops_at_once_and_abandons_the_job(start_host, queues):
    """The worker ends, and so does the host. The message stays, invisible, for another host."""
    host = await start_host("stopped-")
    await queues.put("stopped-slow", b'{"job": 1, "seconds": 600}')
    await host.printed("slow begins")
    await host.process.stop(grace_s=60)

    assert "SIGKILL" not in await host.process.ended()
    assert await queues.length("stopped-slow") == 1


HANDLING = """
import signal
from host_functions import app
signal.signal(signal.SIGTERM, lambda *_: print("told to stop", flush=True))
"""


@pytest.mark.long
@pytest.mark.parametrize(("seconds", "left"), [(0.2, 0), (600, 1)], ids=["short", "long"])
async def test_sigterm_waits_for_what_runs_if_the_app_handles_it(start_host, queues, tmp_path, seconds, left):
    """For ten seconds, and fetches nothing more: the message of a job that ends is deleted, and no other one."""
    (tmp_path / "host_functions.py").write_text((APP / "function_app.py").read_text())
    (tmp_path / "function_app.py").write_text(HANDLING)
    (tmp_path / "host.json").write_text((APP / "host.json").read_text())
    prefix = f"waited-{left}-"
    host = await start_host(prefix, app=tmp_path)
    await queues.put(f"{prefix}slow", json.dumps({"job": 1, "seconds": seconds}).encode())
    await host.printed("slow begins")
    os.kill(host.process.pid, signal.SIGTERM)
    await host.printed("told to stop")
    await queues.put(f"{prefix}echo", b"late")

    assert await host.process.ended() == "exited with code 0"
    assert [left, 1] == [await queues.length(f"{prefix}{name}") for name in ("slow", "echo")]


@pytest.mark.long
async def test_function_timeout_kills_the_process_even_if_it_blocks(start_host, queues):
    """A function that blocks the event loop is stopped, too."""
    host = await start_host("timed-", AzureFunctionsJobHost__functionTimeout="00:00:01")
    await queues.put("timed-block", b"600")

    assert await asyncio.wait_for(host.process.ended(), 60) == "exited with code 124"
    await host.process.stop()
    assert "Function 'block' ran longer than functionTimeout (1 s)" in host.lines[-1]


@pytest.mark.long
async def test_a_cancelled_error_hangs_until_the_timeout(start_host):
    """As in Azure, there is no response, and functionTimeout ends the process."""
    host = await start_host("lost-", "--port", "auto", AzureFunctionsJobHost__functionTimeout="00:00:01")
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"{host.url}/api/cancelled")

    assert await host.process.ended() == "exited with code 124"
    await host.printed("cancelled raised CancelledError")


def test_the_worker_runs_without_a_host(request, tmp_path):
    """In a process: load, invoke with bytes, read outputs and errors. A second app is an error."""
    script = f"""
import asyncio, json
from pathlib import Path
from local.host.errors import HostError
from local.host.worker import Worker

async def main():
    worker = await Worker.load(Path({str(APP)!r}))
    succeeded = await worker.invoke_queue("echo", b"bytes")
    failed = await worker.invoke_queue("failing", b"{{}}", dequeue_count=2)
    text = await worker.invoke_queue("echo", b"\\xff")
    response = await worker.invoke_http("plain", method="GET", url="http://x/")
    (Path({str(tmp_path)!r}) / "function_app.py").touch()
    try:
        await Worker.load(Path({str(tmp_path)!r}))
    except HostError as exc:
        error = str(exc)
    print(json.dumps([
        succeeded.outputs["echoed"].decode(),
        failed.ok, failed.error, failed.outputs, "function_app.py" in failed.traceback,
        text.error, response.return_value, "can load only one app" in error, sorted(worker.functions)[:2],
    ]))

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=request.config.rootpath,
        env={**os.environ, "PREFIX": ""},
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout) == [
        "bytes",
        False,
        "ValueError('attempt 2 fails')",
        {},
        True,
        "The message is not UTF-8 text, and the function does not take bytes.",
        "GET it is",
        True,
        ["block", "cancelled"],
    ]
