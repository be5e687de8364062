"""The host as a process: how it starts, refuses to start, stops and dies; and the worker without it."""

import asyncio
import json
import os
import subprocess
import sys

import httpx
import pytest

from local.host.errors import AppNotLoaded
from local.host.worker import Worker
from tests.support.host_fixtures import APP

HEAD = "import azure.functions as func\napp = func.FunctionApp()\n"


@pytest.fixture
async def refuse(start_host, tmp_path):
    """Starts a host on an app that it must refuse, and gives what it says."""

    async def start(source=None, host_json=None, **settings):
        if source is not None:
            (tmp_path / "function_app.py").write_text(source)
        if host_json is not None:
            (tmp_path / "host.json").write_text(host_json)
        host = await start_host("none-", app=tmp_path, ready=False, **settings)
        how = await host.process.ended()
        await host.process.stop()
        assert how == "ended with exit code 1"
        return "\n".join(host.lines)

    return start


async def test_an_import_error_is_reported_with_its_traceback(refuse):
    """The worker's message and traceback, down to the line."""
    said = await refuse(HEAD + "import no_such_module\n")

    assert "The app did not load: ModuleNotFoundError: No module named 'no_such_module'" in said
    assert 'function_app.py", line 3' in said


async def test_an_app_without_functions_is_refused(refuse):
    """In Azure it would start, and do nothing."""
    assert "has no functions" in await refuse(HEAD)


async def test_a_directory_without_an_app_is_refused(tmp_path):
    """And named."""
    with pytest.raises(AppNotLoaded, match=r"There is no function_app\.py in"):
        await Worker.load(tmp_path)


async def test_a_wrong_host_json_is_refused(refuse):
    """With the setting's name and what it must be."""
    said = await refuse(HEAD, '{"version": "2.0", "extensions": {"queues": {"batchSize": 33}}}')

    assert "extensions.queues.batchSize must be a whole number from 1 to 32, and is 33" in said


async def test_a_port_that_no_machine_has_is_refused(start_host, tmp_path):
    """With the numbers that there are, in place of a traceback."""
    host = await start_host("none-", "--port", "99999", app=tmp_path, ready=False)
    how = await host.process.ended()
    await host.process.stop()

    assert how == "ended with exit code 1"
    assert host.lines == ["--port must be a number up to 65535 or auto, and is '99999'."]


async def test_sigterm_stops_at_once_and_abandons_the_job(start_host, queues):
    """No drain: the message stays, hidden, for another host."""
    host = await start_host("stopped-")
    await queues.put("stopped-slow", b'{"job": 1, "seconds": 600}')
    await host.printed("slow begins")
    await host.process.stop(patience=60)

    assert "SIGKILL" not in await host.process.ended()
    assert await queues.length("stopped-slow") == 1


async def test_function_timeout_kills_the_process_even_if_it_blocks(start_host, queues):
    """A function that blocks the event loop cannot keep its worker alive."""
    host = await start_host("timed-", AzureFunctionsJobHost__functionTimeout="00:00:01")
    await queues.put("timed-block", b"600")

    assert await asyncio.wait_for(host.process.ended(), 60) == "ended with exit code 124"
    await host.process.stop()
    assert "Function 'block' ran longer than functionTimeout (1 s)" in host.lines[-1]


async def test_a_cancelled_error_hangs_until_the_timeout(start_host):
    """Azure's worker never answers then; neither do we, and functionTimeout ends it."""
    host = await start_host("lost-", "--port", "auto", AzureFunctionsJobHost__functionTimeout="00:00:01")
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"{host.url}/api/cancelled")

    assert await host.process.ended() == "ended with exit code 124"
    await host.printed("cancelled let CancelledError out")


def test_the_worker_runs_without_a_host(request, tmp_path):
    """In process: load, invoke on bytes, look at outputs and errors. A second app is refused."""
    script = f"""
import asyncio, json
from pathlib import Path
from local.host.errors import HostError
from local.host.worker import Worker

async def main():
    worker = await Worker.load(Path({str(APP)!r}))
    good = await worker.invoke_queue("echo", b"bytes")
    bad = await worker.invoke_queue("failing", b"{{}}", dequeue_count=2)
    text = await worker.invoke_queue("echo", b"\\xff")
    reply = await worker.invoke_http("plain", method="GET", url="http://x/")
    (Path({str(tmp_path)!r}) / "function_app.py").touch()
    try:
        await Worker.load(Path({str(tmp_path)!r}))
    except HostError as exc:
        refused = str(exc)
    print(json.dumps([
        good.outputs["echoed"].decode(), bad.ok, bad.error, bad.outputs, "function_app.py" in bad.traceback,
        text.error, reply.return_value, "can load one app" in refused, sorted(worker.functions)[:2],
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
        "The message is not UTF-8 text, and the function does not ask for bytes.",
        "GET it is",
        True,
        ["block", "bury"],
    ]
