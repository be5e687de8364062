"""A measured process of a benchmark, which runs blocks of equal work on request (see `blocks`)."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

from benchmarks.environment import RunFailed
from local.paths import PROJECT

_LINE_LIMIT = 1 << 20
_RESPONSE_S = 60


class Side:
    """A process that runs blocks on request."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.pid = child.pid
        self._child = child

    async def request(self, request: Mapping[str, Any], *, within_s: float = _RESPONSE_S) -> dict[str, Any]:
        """Send a request. Returns the response; raises RunFailed if the process has ended."""
        assert self._child.stdin is not None  # noqa: S101 -- `open_side` makes it a pipe
        self._child.stdin.write(json.dumps(request).encode() + b"\n")
        return await self.response(within_s=within_s)

    async def response(self, *, within_s: float = _RESPONSE_S) -> dict[str, Any]:
        """The next response. Raises RunFailed if the process has ended."""
        assert self._child.stdout is not None  # noqa: S101 -- `open_side` makes it a pipe
        line = await asyncio.wait_for(self._child.stdout.readline(), within_s)
        if not line:
            raise RunFailed("A measured process ended. Its output is above.")
        response: dict[str, Any] = json.loads(line)
        return response


@contextlib.asynccontextmanager
async def open_side(module: str, environment: Mapping[str, str], *arguments: str) -> AsyncIterator[Side]:
    """A process that runs a module, once it has loaded. It is killed when the block ends."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        env=dict(environment),
        cwd=PROJECT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
    )
    try:
        side = Side(child)
        await side.response()  # it has loaded
        yield side
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
