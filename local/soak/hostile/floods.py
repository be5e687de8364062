"""
What hostile senders do at the app's doors besides sending jobs: floods of requests, of messages that are no jobs, and
of the same job again and again. Each is sent at a pace.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from local.soak.hostile.attacks import PREFIX
from local.soak.plan import PlannedJob
from local.soak.storage import Storage

_JSON = {"content-type": "application/json"}
_BODY_BYTES = 16 * 1024 * 1024
_WAITS = 200
_INVALID = frozenset({"invalid_job"})
_IDS = ("..", ".", "a.", "a" * 101, "a/b", "a%2Fb", "%2e%2e", "a\x00", "ü", "%", "*", "'", "j_secret", "~check")


@dataclass(slots=True)
class Floods:
    """What the floods send and count. `planned` grows by the messages that get a result."""

    storage: Storage
    http: aiohttp.ClientSession
    url: str
    customers: Sequence[str]
    """The honest customers, in whose names something is sent."""
    planned: list[PlannedJob]
    statuses: Counter[int] = field(default_factory=Counter)
    """How the app responded over HTTP."""

    async def send_webhook(self, number: int) -> None:
        """A webhook without a valid signature, to a made-up customer or to an honest one."""
        customer = self.customers[number % len(self.customers)] if number % 3 == 0 else f"made-up-{number}"
        headers = {
            "webhook-id": f"msg_{number}",
            "webhook-timestamp": "1763640000",
            "webhook-signature": f"v1,{'A' * 43}=",
        }
        await self._request("POST", f"webhooks/{customer}", b'{"action": "chat"}', _JSON | headers)

    async def send_body(self, number: int) -> None:
        """A body that is too large, or costs much to read."""
        await self._request("POST", "jobs", _bodies()[number % len(_bodies())], _JSON)

    async def send_id(self, number: int) -> None:
        """An invalid id, in a path and in a body."""
        job_id = _IDS[number % len(_IDS)]
        await self._request("GET", f"jobs/{PREFIX}ids/{quote(job_id, safe='%')}")
        body = {"customer": f"{PREFIX}ids", "job_id": job_id, "action": "sing", "input": {"prompt": "Hello?"}}
        await self._request("POST", "jobs", json.dumps(body).encode(), _JSON)

    async def send_list(self, number: int) -> None:
        """A request that makes the app read much."""
        paths = ("connections", "usage", "jobs?limit=100&status=failed")
        await self._request("GET", f"customers/{PREFIX}backlog/{paths[number % len(paths)]}")

    async def send_message(self, number: int) -> None:
        """A message that is no job."""
        texts = _messages()
        message_id = await self.storage.send_text(texts[number % len(texts)])
        self.planned.append(PlannedJob("", message_id, 0, b"", _INVALID, in_ledger=False))

    async def wait(self, job: PlannedJob) -> None:
        """Send a job many times at once, and have each request wait for its result."""
        headers = _JSON | {"prefer": "wait=10"}
        await asyncio.gather(*(self._request("POST", "jobs", job.body, headers) for _ in range(_WAITS)))

    async def _request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        url = URL(f"{self.url}/api/{path}", encoded=True)
        try:
            async with self.http.request(method, url, data=body, headers=headers) as response:
                await response.read()
                self.statuses[response.status] += 1
        except aiohttp.ClientError:
            self.statuses[0] += 1  # closed before the whole body was sent


FLOODS: dict[str, tuple[float, Callable[[Floods, int], Awaitable[None]]]] = {
    "webhooks": (0.1, Floods.send_webhook),
    "bodies": (5.0, Floods.send_body),
    "ids": (0.5, Floods.send_id),
    "requests": (0.2, Floods.send_list),
    "messages": (0.5, Floods.send_message),
}
"""The floods by name: the seconds from each response to the next request, and what is sent."""


def warm_up() -> None:
    """Make the large bodies, so that no request waits for it."""
    _bodies()


@cache
def _bodies() -> list[bytes]:
    shell = b'{"customer":"hostile-bodies","action":"raw","input":{"path":"a","json":%s}}'
    inner = (
        b"[" * _BODY_BYTES,
        b"[%s]" % b",".join([b"[]"] * (_BODY_BYTES // 3)),
        b"{%s}" % b",".join(b'"k%07d":0' % number for number in range(_BODY_BYTES // 12)),
        b'"%s"' % (rb"\\" * (_BODY_BYTES // 2 - 100)) + b"}",
        b'"%s"' % (b"a" * (_BODY_BYTES + 100_000)),
    )
    return [shell % each for each in inner]


@cache
def _messages() -> list[str]:
    job: dict[str, Any] = {"action": "chat", "input": {"prompt": "Hello?"}}
    deep = "[" * 20_000 + "]" * 20_000
    return [
        "hello",
        "\u2028",
        "[1, 2]",
        "eyJub3QiOiBKU09O",
        json.dumps(job),
        json.dumps(job | {"customer": "No Customer"}),
        json.dumps(job | {"customer": ["a"], "job_id": {}}),
        json.dumps(job | {"customer": "../x", "job_id": ".."}),
        json.dumps(job | {"_envelope": {"submitted_at": "yesterday"}}),
        json.dumps({"action": "chat"})[:-1] + f', "input": {deep}}}',
        json.dumps({"action": "chat"})[:-1] + ', "input": {' + ",".join(f'"k{n}":0' for n in range(5000)) + "}}",
        json.dumps({"action": "chat", "input": "\\" * 20_000}),
    ]
