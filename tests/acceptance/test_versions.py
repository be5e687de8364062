"""
Two versions of the app on one Storage, as in a rolling update: jobs that one of them has begun are ended by the other.

The first one is killed while its jobs are at each place where a job can be: at work, waiting for seconds, waiting in
the schedule, to start later, ended and delivered again, its callback to be repeated.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from local.stack.azurite import Azurite
from local.stack.processes import Process, running
from local.vault.server import Vault
from shared.clock import now, rfc3339
from shared.jobs.versions import VERSION
from tests.support.app_versions import ROOT, earlier_app, later_app
from tests.support.callback_receiver import Receiver, answers_with, open_receiver
from tests.support.endpoint import Answer, Endpoint, reply
from tests.support.harness import Customer, Harness, open_harness
from tests.support.signatures import new_secret

pytestmark = pytest.mark.long

CALLS = {"first": 1, "second": 1, "held": 2, "soon": 2, "later": 2, "timed": 1, "done": 1, "notified": 1}
"""The calls that each prompt needs: one more where the first version's was cut off, or answered with a wait."""


@dataclass
class Host:
    """A host that runs a version of the app."""

    process: Process
    url: str
    lines: list[str]

    async def kill(self) -> None:
        """Let it die with all that it has in hand."""
        os.kill(self.process.pid, signal.SIGKILL)
        await self.process.ended()


@dataclass
class Scene:
    """A customer, and its jobs by what they are prompted with."""

    harness: Harness
    customer: Customer
    receiver: Receiver
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def calls(self) -> Counter[str]:
        """The calls that the endpoint got, by prompt."""
        return Counter(each.json["messages"][-1]["content"] for each in self.customer.account.received)

    async def answer(self, request: web.Request, usual: Answer) -> web.StreamResponse:
        """Hold, or put off, the first call of some prompts."""
        prompt = (await request.json())["messages"][-1]["content"]
        if self.calls()[prompt] == 1:
            if prompt == "held":
                await self.released.wait()
            waits = {"soon": "6", "later": "3600"}
            if prompt in waits:
                return await reply({}, status=429, headers={"retry-after": waits[prompt]})(request)
        return await usual(request)

    async def begin(self, host: Host, **options: Any) -> None:
        """Submit the jobs, and wait until each is where the other version shall take it over."""
        several = {"action": "multi_chat", "input": {"prompts": ["first", "second", "held"]}}
        await self.send(**several, job_id="several")
        for job_id in ("soon", "later", "done"):
            await self.send(input={"prompt": job_id}, job_id=job_id)
        self.receiver.answers.append(answers_with(500))
        await self.send(
            input={"prompt": "notified"}, job_id="notified", output={"queue": False, "callback": self.receiver.url}
        )
        options = {"run_at": rfc3339(now() + timedelta(seconds=8)), **options}
        timed = self.customer.job(input={"prompt": "timed"}, job_id="timed", options=options)
        async with httpx.AsyncClient(base_url=host.url, trust_env=False) as http:
            response = await http.post("/api/jobs", json=timed)
        assert 202 == response.status_code, response.text

        async def is_begun() -> bool:
            rows = {row["RowKey"]: row for row in await self.customer.rows()}
            steps = [key for key in rows if key.startswith("s_several~")]
            states = [rows.get(f"j_{job_id}", {}).get("state") for job_id in ("soon", "later", "timed", "done")]
            waiting = rows.get("j_notified", {}).get("callback_status")
            at_work = self.calls()["held"] == 1 and len(steps) == len(["first", "second"])
            return at_work and states == ["waiting", "waiting", "queued", "done"] and waiting == "waiting"

        await self.wait_for(is_begun, host)

    async def continue_jobs(self) -> None:
        """Have come what would take long: the end of the dead worker's lease, the schedule, a message once more."""
        for row in await self.customer.rows():
            if row["RowKey"].startswith("j_") and row["state"] == "running":
                key = {"PartitionKey": row["PartitionKey"], "RowKey": row["RowKey"]}
                await self.harness.table.update_entity({**key, "lease_until": now() - timedelta(seconds=1)})
        assert await self.harness.services.schedule.wake(self.customer.name, "later")
        await self.send(input={"prompt": "done"}, job_id="done")

    async def send(self, **members: Any) -> None:
        """Put a job into the queue as a sender does."""
        queue = self.harness.queues.get_queue_client(self.harness.environment["JOBS_QUEUE"])
        await queue.send_message(base64.b64encode(self.customer.body(**members)).decode())

    async def wait_for(self, condition: Callable[[], Awaitable[bool]], *hosts: Host) -> None:
        """Wait until a condition is met."""
        try:
            async with asyncio.timeout(90):
                while not await condition():  # noqa: ASYNC110  # Storage has no event
                    await asyncio.sleep(0.2)
        except TimeoutError:
            lines = [line for host in hosts for line in host.lines]
            raise AssertionError("\n".join([f"The hosts came to a halt. {self.calls()}", *lines])) from None

    async def is_ended(self) -> bool:
        """Whether each job is done, the callback delivered, and the message that came once more is gone."""
        rows = [row for row in await self.customer.rows() if row["RowKey"].startswith("j_")]
        callbacks = [row["callback_status"] for row in rows if row["RowKey"] == "j_notified"]
        queue = self.harness.queues.get_queue_client(self.harness.environment["JOBS_QUEUE"])
        left = (await queue.get_queue_properties()).approximate_message_count
        return {"done"} == {row["state"] for row in rows} and callbacks == ["delivered"] and not left

    async def check(self) -> None:
        """Nothing is lost, and no call is made or billed twice that was answered and stored."""
        assert CALLS == dict(self.calls())
        results = [json.loads(body) for body in await self.harness.messages(self.harness.environment["RESULTS_QUEUE"])]
        assert {"succeeded"} == {result["status"] for result in results}
        published = Counter(result["job_id"] for result in results)
        assert {"several", "soon", "later", "timed", "done"} == published.keys()
        assert 1 == len({json.dumps(result) for result in results if result["job_id"] == "done"})
        delivered = [json.loads(body)["job_id"] for _, body in self.receiver.received]
        assert ["notified"] * 2 == delivered
        usage = await self.customer.usage()
        answered = Counter(row["job_id"] for row in usage if row["outcome"] == "answered")
        assert {"several": 3, "soon": 1, "later": 1, "timed": 1, "done": 1, "notified": 1} == answered
        # The call that was cut off may have been charged.
        assert ["several"] == [row["job_id"] for row in usage if row["outcome"] != "answered"]


@pytest.fixture
async def scene(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Scene]:
    """A scene on a Storage of its own."""
    quick = {"AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.2"}
    async with open_harness(azurite, vault, endpoint, **quick) as harness, open_receiver() as receiver:
        customer = harness.customer()
        harness.put_secret(f"webhook--{customer.name}", new_secret())
        opened = Scene(harness, customer, receiver)
        customer.account.around = opened.answer
        yield opened
        opened.released.set()


@asynccontextmanager
async def run_host(scene: Scene, app: Path) -> AsyncIterator[Host]:
    """Run a version of the app. A message that it has when it dies returns after 5 s."""
    lines: list[str] = []
    command = [sys.executable, "-m", "local.host", "--app", app, "--port", "auto", "--visibility-timeout", "5"]
    environment = {**os.environ, **scene.harness.environment}
    async with running(
        "host", command, ready=[r"^host ready (\S+)"], env=environment, cwd=ROOT, on_line=lines.append
    ) as (process, (ready,)):
        yield Host(process, ready[1], lines)


@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
async def test_earlier_version_beside_this_one(scene: Scene, tmp_path: Path, direction: str):
    """An update from the earlier version to this one, and the way back: each ends what the other has begun."""
    versions = [earlier_app(tmp_path), ROOT]
    first, second = versions if direction == "upgrade" else reversed(versions)
    async with run_host(scene, first) as host:
        await scene.begin(host)
        await host.kill()
    async with run_host(scene, second) as host:
        await scene.continue_jobs()
        await scene.wait_for(scene.is_ended, host)

    await scene.check()


async def test_this_version_before_a_later_one(scene: Scene, tmp_path: Path):
    """A later version reads what this one wrote, and ends it."""
    async with run_host(scene, ROOT) as host:
        await scene.begin(host)
        await host.kill()
    async with run_host(scene, later_app(tmp_path)) as host:
        await scene.continue_jobs()
        await scene.wait_for(scene.is_ended, host)

    await scene.check()


async def test_this_version_leaves_what_a_later_one_wrote(scene: Scene, tmp_path: Path):
    """
    This version makes no call for a job of a later one, ends none and changes no row, whether it can read the message
    or not. When the later version is back, it ends all of them.
    """
    later = later_app(tmp_path)
    async with run_host(scene, later) as host:
        await scene.begin(host, invented="x")
        await host.kill()
    before = scene.calls()
    async with run_host(scene, ROOT) as host:
        await scene.continue_jobs()
        rows = {row["RowKey"]: dict(row) for row in await scene.customer.rows()}
        words = f"version {VERSION + 1}; this one has {VERSION}"

        async def is_left() -> bool:
            left = [line for line in host.lines if "job_requeued" in line and words in line]
            unread = [line for line in left if "job_requeued customer=- " in line]
            read = all(any(f" job_id={job_id} " in line for line in left) for job_id in ("several", "done"))
            return read and len(unread) >= len(["soon", "later", "timed"])

        await scene.wait_for(is_left, host)
    assert (before, 1) == (scene.calls(), len(scene.receiver.received))
    assert rows == {row["RowKey"]: dict(row) for row in await scene.customer.rows()}
    async with run_host(scene, later) as host:
        await scene.wait_for(scene.is_ended, host)

    await scene.check()
