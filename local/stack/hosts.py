"""
The Functions hosts of the local stack: N processes of `local.host`, each restarted when it dies.

As in Azure, a host that dies drops the jobs in flight, and another host processes their messages again.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from local.paths import PROJECT
from local.stack.processes import Process, ProcessFailed, running

READY = r"^host ready(?: (http://\S+))?"
RESTART_DELAY_S = 1
_SETTINGS = PROJECT / "local.settings.sample.json"
_REMOVED_PREFIXES = (
    "AZURE_",
    "AzureFunctionsJobHost__",
    "AzureWebJobs",
    "IDENTITY_",
    "MSI_",
    "PYTHON",
    "FUNCTIONS_",
    "WEBSITE_",
)


class Hosts:
    """The running hosts, by instance. Instance 0 serves HTTP, at `url`. All have the same `environment`."""

    def __init__(
        self,
        app: Path,
        settings: Mapping[str, str],
        port: int,
        on_line: Callable[[str], None],
        visibility_timeout_s: int | None = None,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.processes: dict[int, Process] = {}
        self.environment = {**_inherited_environment(), **settings}
        self._command = [sys.executable, "-m", "local.host", "--app", str(app)]
        if visibility_timeout_s is not None:
            self._command += ["--visibility-timeout", str(visibility_timeout_s)]
        self._port = port
        self._on_line = on_line

    async def supervise(self, instance: int, started: asyncio.Future[None]) -> None:
        """Run one host, and restart it, until cancelled. A failure of the first start becomes `started`'s exception."""
        while True:
            try:
                await self._run(instance, started)
            except ProcessFailed as exc:
                if not started.done():
                    started.set_exception(exc)
                    return
                self._on_line(str(exc))
            await asyncio.sleep(RESTART_DELAY_S)

    async def _run(self, instance: int, started: asyncio.Future[None]) -> None:
        name = f"Functions host {instance}"
        command = [*self._command, "--instance", str(instance)]
        if instance == 0:  # the same port after each restart, so that the URL stays valid
            command += ["--port", str(self._port)]
        is_ready = False  # earlier lines are part of the error, if it never becomes ready

        def forward(line: str) -> None:
            if is_ready:
                self._on_line(f"[host {instance}] {line}")

        host = running(name, command, ready=[READY], env=self.environment, cwd=PROJECT, on_line=forward)
        async with host as (process, _):
            is_ready = True
            self.processes[instance] = process
            if started.done():
                self._on_line(f"{name} is running again, as process {process.pid}.")
            else:
                started.set_result(None)
            self._on_line(f"{name} {await process.ended()}; restarting it.")


@contextlib.asynccontextmanager
async def start(
    count: int,
    app: Path,
    settings: Mapping[str, str],
    port: int,
    on_line: Callable[[str], None],
    *,
    visibility_timeout_s: int | None = None,
) -> AsyncIterator[Hosts]:
    """
    `count` hosts, all ready, until the block ends.

    `on_line` is called with each line that the hosts print and with their restarts. `visibility_timeout_s` is how
    long a message is invisible while its job runs, and so the time after which a dead host's messages are delivered
    again; Azure's 600 s if left out. Raises ProcessFailed.
    """
    hosts = Hosts(app, settings, port, on_line, visibility_timeout_s)
    loop = asyncio.get_running_loop()
    started = [loop.create_future() for _ in range(count)]
    supervisors = [asyncio.create_task(hosts.supervise(instance, first)) for instance, first in enumerate(started)]
    try:
        await asyncio.gather(*started)
        yield hosts
    finally:
        for unfinished in (*supervisors, *started):
            unfinished.cancel()
        await asyncio.gather(*supervisors, *started, return_exceptions=True)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _inherited_environment() -> dict[str, str]:
    """This environment without the app's settings, and without variables that could lead it to a real account."""
    settings = json.loads(_SETTINGS.read_text(encoding="utf-8"))["Values"]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in settings and not name.startswith(_REMOVED_PREFIXES)
    }
    environment["PYTHONUNBUFFERED"] = "1"
    return environment
