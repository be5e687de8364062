"""
The AI endpoint on this machine: aimock, which responds from fixtures at every URL form that a connection can have,
checks keys, and keeps a journal of the requests it received.

It does not check `api-version` or whether a deployment exists, does not read `n`, does not count tokens of
embeddings or images, and does not add Azure's `innererror`. Its token counts are characters / 4.
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
class AiEndpoint:
    """A running aimock. `url` is the base of every URL form."""

    process: Process
    url: str
    _key: str = field(repr=False)

    async def journal(self, **filters: str | int) -> list[dict[str, Any]]:
        """
        The requests it received, oldest first: `method`, `path` with the query, `headers` (keys redacted), `body`,
        `response.status`.

        `filters` are aimock's: `path` (a part of it), `method`, `status`, `requestId`, `limit`, `offset`.
        """
        entries: list[dict[str, Any]] = await self._control("GET", "journal", params=filters)
        return entries

    async def clear_journal(self) -> None:
        """Empty the journal. Fixtures and their counts stay."""
        await self._control("POST", "reset/journal")

    async def add_fixtures(self, *fixtures: Mapping[str, Any]) -> None:
        """
        Add fixtures while it runs. They precede the catch-all fixtures and follow all others of the file, so they
        should match a text that no other fixture matches.
        """
        await self._control("POST", "fixtures", json={"fixtures": fixtures})

    async def _control(self, method: str, path: str, **options: Any) -> Any:
        headers = {"api-key": self._key}
        async with (
            aiohttp.ClientSession(headers=headers, raise_for_status=True) as client,
            client.request(method, f"{self.url}/__aimock/{path}", **options) as response,
        ):
            return await response.json()


@contextlib.asynccontextmanager
async def start(fixtures: Path = FIXTURES, keys: Sequence[str] = ("local",)) -> AsyncIterator[AiEndpoint]:
    """
    The endpoint on a free port, accepting `keys`, until the block ends.

    Raises NotInstalled, ProcessFailed.
    """
    command: list[str | Path] = [node(), script("@copilotkit/aimock/dist/cli.js"), *_FLAGS, "--fixtures", fixtures]
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIMOCK_")}
    env["AIMOCK_API_KEYS"] = ",".join(keys)  # not an argument: any user of the machine can read those
    async with running("The AI endpoint", command, ready=_READY, env=env) as (process, (listening,)):
        yield AiEndpoint(process, listening[1], keys[0])
