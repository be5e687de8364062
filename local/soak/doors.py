"""The app's doors as honest customers use them: queue, HTTP, signed webhooks; and a receiver of their callbacks."""

import asyncio
import base64
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
from aiohttp import web
from standardwebhooks import Webhook

from local.soak.plan import PlannedJob
from local.soak.storage import Storage

ACCEPTED = (200, 202)
_LATER = (429, 503)
_WAIT_S = 20
_JSON = {"content-type": "application/json"}


class Doors:
    """Sends jobs by the door that each is planned for, and again if the app says so."""

    def __init__(
        self, storage: Storage, http: aiohttp.ClientSession, url: str, signing_secrets: Mapping[str, str]
    ) -> None:
        self.statuses: Counter[int] = Counter()
        """How the app responded over HTTP."""
        self._storage = storage
        self._http = http
        self._url = url
        self._secrets = signing_secrets

    async def send(self, job: PlannedJob) -> None:
        """Send a job until it is accepted. `Storage.sent_at` has the time of the first try."""
        if job.door == "queue":
            await self._storage.send([job])
            return
        self._storage.sent_at.setdefault(job.key, time.monotonic())
        while (status := await self._post(job)) not in ACCEPTED:
            if status not in _LATER:
                raise RuntimeError(f"A job of {job.customer} got {status} over HTTP.")
            await asyncio.sleep(1)

    async def _post(self, job: PlannedJob) -> int:
        headers, path = dict(_JSON), "jobs"
        if job.door == "wait":
            headers["prefer"] = f"wait={_WAIT_S}"
        if job.door == "webhook":
            path = f"webhooks/{job.customer}"
            headers |= sign(self._secrets[job.customer], job)
        async with self._http.post(f"{self._url}/api/{path}", data=job.body, headers=headers) as response:
            await response.read()
            self.statuses[response.status] += 1
            return response.status


@dataclass(slots=True)
class Receiver:
    """Receives callbacks at `url`. `received_at` has the time of each job's first, on `time.monotonic`."""

    url: str = ""
    received_at: dict[tuple[str, str], float] = field(default_factory=dict)

    async def receive(self, request: web.Request) -> web.Response:
        """Receive a callback."""
        await request.read()
        self.received_at.setdefault((request.match_info["customer"], request.match_info["job_id"]), time.monotonic())
        return web.Response()


@contextlib.asynccontextmanager
async def open_receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port of loopback, until the block ends."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{customer}/{job_id}", receiver.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()


def new_signing_secret() -> str:
    """A secret that webhooks are signed with."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def sign(secret: str, job: PlannedJob) -> dict[str, str]:
    """The headers of a signed webhook."""
    at = datetime.now(UTC)
    return {
        "webhook-id": job.job_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(job.job_id, at, job.body.decode()),
    }
