"""
The AI endpoints on this machine: aimock, which answers from fixtures in every URL shape that a
connection can have, checks keys, and keeps a journal of what it received.

What it does not do: check `api-version` or whether a deployment exists, read `n`, count tokens for
embeddings or images, add Azure's `innererror`. Its counted tokens are characters / 4.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from local.stack.node import node, script
from local.stack.processes import Process, running

FIXTURES = Path(__file__).parent / "ai-fixtures.json"

_FLAGS = ("--port", "0", "--validate-on-load", "--journal-max", "0", "--log-level", "info")
_READY = (r"server listening on (http://\S+)",)


@dataclass(frozen=True, slots=True)
class Ai:
    """A running AI stand-in; `url` is the base that every URL shape hangs from."""

    process: Process
    url: str
    _key: str = field(repr=False)

    async def journal(self, **filters: str | int) -> list[dict[str, Any]]:
        """
        What it received, oldest first: `method`, `path` with the query, `headers` (keys redacted), `body`,
        `response.status`.

        `filters` are aimock's: `path` (a part of it), `method`, `status`, `requestId`, `limit`, `offset`.
        """
        reply: list[dict[str, Any]] = await self._control("GET", "journal", params=filters)
        return reply

    async def forget(self) -> None:
        """Empties the journal; fixtures and their counts stay."""
        await self._control("POST", "reset/journal")

    async def add(self, *fixtures: Mapping[str, Any]) -> None:
        """
        More fixtures while it runs. They come before the catch-all answers and after everything else in
        the file, so match on a text of your own.
        """
        await self._control("POST", "fixtures", json={"fixtures": fixtures})

    async def _control(self, method: str, path: str, **request: Any) -> Any:
        headers = {"api-key": self._key}
        async with (
            aiohttp.ClientSession(headers=headers, raise_for_status=True) as client,
            client.request(method, f"{self.url}/__aimock/{path}", **request) as reply,
        ):
            return await reply.json()


@contextlib.asynccontextmanager
async def start(fixtures: Path = FIXTURES, keys: Sequence[str] = ("local",)) -> AsyncIterator[Ai]:
    """
    The stand-in on a free port, letting in the holders of `keys`, until the block ends.

    Raises Missing, ProcessFailed.
    """
    command: list[str | Path] = [node(), script("@copilotkit/aimock/dist/cli.js"), *_FLAGS, "--fixtures", fixtures]
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIMOCK_")}
    env["AIMOCK_API_KEYS"] = ",".join(keys)  # not an argument: any user of the machine can read those
    async with running("The AI stand-in", command, ready=_READY, env=env) as (process, (listening,)):
        yield Ai(process, listening[1], keys[0])
