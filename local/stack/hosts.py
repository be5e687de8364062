"""
The Functions hosts of the local stack: N processes of `local.host`, each started again when it dies.

As in Azure, a host that dies takes the jobs in flight with it, and another one carries on.
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
PAUSE = 1  # seconds before a host that died is started again
_SETTINGS = PROJECT / "local.settings.sample.json"
_FOREIGN = (
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
    """The running hosts, by instance; instance 0 has HTTP, at `url`. All have the same `environment`."""

    def __init__(
        self,
        app: Path,
        settings: Mapping[str, str],
        port: int,
        tell: Callable[[str], None],
        invisible: int | None = None,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.processes: dict[int, Process] = {}
        self._command = [sys.executable, "-m", "local.host", "--app", str(app)]
        if invisible is not None:
            self._command += ["--invisible", str(invisible)]
        self.environment = {**_inherited(), **settings}
        self._port = port
        self._tell = tell

    async def keep(self, instance: int, started: asyncio.Future[None]) -> None:
        """Runs one host for ever. If it does not start at first, that is `started`'s exception."""
        while True:
            try:
                await self._run(instance, started)
            except ProcessFailed as exc:
                if not started.done():
                    started.set_exception(exc)
                    return
                self._tell(str(exc))
            await asyncio.sleep(PAUSE)

    async def _run(self, instance: int, started: asyncio.Future[None]) -> None:
        name = f"Functions host {instance}"
        command = [*self._command, "--instance", str(instance)]
        if instance == 0:  # the same port each time it is started, so that the URL stays
            command += ["--port", str(self._port)]
        heard = False  # what a host says before it is ready is in the error if it never is

        def tell(line: str) -> None:
            if heard:
                self._tell(f"[host {instance}] {line}")

        async with running(
            name,
            command,
            ready=[READY],
            env=self.environment,
            cwd=PROJECT,
            tell=tell,
        ) as (process, _):
            heard = True
            self.processes[instance] = process
            if started.done():
                self._tell(f"{name} runs again, as process {process.pid}.")
            else:
                started.set_result(None)
            self._tell(f"{name} {await process.ended()}; it is being started again.")


@contextlib.asynccontextmanager
async def start(
    count: int,
    app: Path,
    settings: Mapping[str, str],
    port: int,
    tell: Callable[[str], None],
    *,
    invisible: int | None = None,
) -> AsyncIterator[Hosts]:
    """
    `count` hosts, all ready, until the block ends. `invisible`: seconds that they hide a message while its
    job runs, and so the time after which a dead host's messages come back; as long as in Azure if left out.

    Raises ProcessFailed.
    """
    hosts = Hosts(app, settings, port, tell, invisible)
    loop = asyncio.get_running_loop()
    started = [loop.create_future() for _ in range(count)]
    keepers = [asyncio.create_task(hosts.keep(instance, first)) for instance, first in enumerate(started)]
    try:
        await asyncio.gather(*started)
        yield hosts
    finally:
        for unfinished in (*keepers, *started):
            unfinished.cancel()
        await asyncio.gather(*keepers, *started, return_exceptions=True)


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _inherited() -> dict[str, str]:
    """Our environment without the app's own settings and what else would lead it elsewhere, such as to a real key."""
    settings = json.loads(_SETTINGS.read_text(encoding="utf-8"))["Values"]
    kept = {name: value for name, value in os.environ.items() if name not in settings and not name.startswith(_FOREIGN)}
    kept["PYTHONUNBUFFERED"] = "1"
    return kept
