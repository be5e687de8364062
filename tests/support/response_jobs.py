"""Jobs of `respond` on worker processes that are killed (see `worker_crashes`), beside the provider's events."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from local.provider.account import Account
from local.provider.batch_run import BatchRuns
from local.provider.handlers import Handlers
from local.provider.responses import Responses
from shared.jobs.waiting_rows import PREFIX
from shared.upstream.client import UpstreamClient
from tests.support.counted_records import counted
from tests.support.crashing_storage import WorkerDied
from tests.support.patience import PatientApp, patient_app
from tests.support.worker_crashes import CrashingApp, Message, Process

STEP_S = 5.0


async def send_response(app: PatientApp, customer: str, action: str = "respond", **members: Any) -> str:
    """Send a job of `respond`, or a chat; return its id."""
    options = {"processing": "standard", **members.pop("options", {})}
    job_id = members.pop("job_id", "job-1")
    members.setdefault("input", {"input" if action == "respond" else "prompt": f"Say {job_id}."})
    return await app.send(customer, action, job_id=job_id, options=options, **members)


async def finish(app: PatientApp, jobs: Sequence[str], *, within_s: float = 3600, step_s: float = STEP_S) -> None:
    """Let time pass until all these jobs have a result."""
    end = app.clock() + within_s
    while not {each["job_id"] for each in app.results}.issuperset(jobs):
        assert app.clock() < end, app.memory.table.rows
        await app.pass_time(step_s, step_s=step_s)


@dataclass
class EventfulApp(CrashingApp):
    """A CrashingApp that gets its provider's events, unless it is deaf."""

    is_deaf: bool = True
    in_doubt: Callable[[], int] = lambda: 0
    """How many responses there are of which it is not known whether they exist; asked when a process has died."""
    died_in_doubt: int = 0
    loses: int = 0
    """The message, counted from 1 among those of the app's own, that gets lost."""

    def begin(self, process: Process) -> None:
        """See CrashingApp."""
        self.died_in_doubt += self.in_doubt()
        CrashingApp.begin(self, process)

    def _take_due(self) -> list[Message]:
        due = CrashingApp._take_due(self)
        kept = []
        for each in due:
            if b"_envelope" in each.body or each.queue == "batches":
                self.loses -= 1
                if not self.loses:
                    continue
            kept.append(each)
        return kept

    def listen(self) -> None:
        """Have the provider's events come to the app."""
        self.is_deaf, self._events = False, list[tuple[str, str, str]]()
        timers = self.provider.timers

        def notify(account: Account, kind: str, name: str, _: float) -> None:
            customer = next(each for each, own in self.accounts.items() if own is account)
            self._events.append((customer, kind, name))

        self.provider._handlers = Handlers(BatchRuns(timers, notify), Responses(timers, notify))

    async def pass_time(self, seconds: float, *, step_s: float = STEP_S) -> None:
        """See PatientApp."""
        end = self.clock() + seconds
        while self.clock() < end:
            await CrashingApp.pass_time(self, min(step_s, end - self.clock()), step_s=step_s)
            await self.hear()
            await self.deliver()

    async def hear(self) -> None:
        """Receive the events that the provider has sent, each twice."""
        while not self.is_deaf and self._events:
            customer, kind, name = self._events.pop(0)
            body = json.dumps({"type": kind, "data": {"id": name}}).encode()
            try:
                for _ in range(2):
                    await self.worker.services.provider_events.receive(customer, "default", body)
            except WorkerDied:  # the provider sends it again
                self.crashes += 1
                self.begin(Process())
                self._events.insert(0, (customer, kind, name))

    def check_books(
        self,
        customer: str,
        jobs: Sequence[str],
        *,
        at_least: int = 0,
        hears: bool = False,
        calls_directly: bool = False,
    ) -> None:
        """
        Fail if a job has not one result, or if a response was bought and is neither on record nor in doubt.

        `at_least`: the calls that get no answer whatever dies. With events (`hears`), nothing that was bought is in
        doubt. `calls_directly`: what a worker that dies has bought need not be a response, and then nobody knows of it.
        """
        results = [self.result(job) for job in jobs]
        billed = self.accounts[customer].journal.billed()
        usage = [
            row.values
            for row in counted(row for (partition, _), row in self.stored.table.rows.items() if partition == customer)
        ]
        outcomes = Counter(row["outcome"] for row in usage)
        if not hears:
            assert outcomes["unanswered"] >= at_least
        died = self.crashes if calls_directly else self.died_in_doubt
        assert outcomes["unanswered"] <= at_least + died, outcomes
        in_doubt = 0 if hears and not calls_directly else outcomes["unanswered"]
        assert outcomes["lost"] == 0
        markers = {
            key for partition, key in self.stored.table.rows if partition == customer and key.startswith("m_response-")
        }
        own = {entry.custom_id: metered_key(entry.custom_id) for entry in billed if entry.custom_id}
        direct = {entry.request_id for entry in billed if not entry.custom_id}
        recorded = direct & {row["request_id"] for row in usage if row["outcome"] == "answered"}
        unrecorded = [*direct - recorded, *(name for name, key in own.items() if key not in markers)]
        assert len(unrecorded) <= in_doubt, unrecorded
        assert len(markers) == sum(key in markers for key in own.values())
        assert len(markers) + len(recorded) == outcomes["answered"]
        twice = self.accounts[customer].journal.bought_twice()
        assert sum(twice.values()) - len(twice) <= in_doubt
        assert sum(each["usage"]["calls"] for each in results if each.get("usage")) == outcomes["answered"]
        assert {row["state"] for row in self.rows(customer, "j_")} == {"done"}
        assert self.messages == []

    def left_rows(self, customer: str) -> list[dict[str, Any]]:
        """Return what says that responses are waited for."""
        return self.rows(customer, PREFIX)


def in_doubt(app: EventfulApp, customer: str) -> int:
    """How many jobs' steps say that a creation has no answer."""
    keys = {key for partition, key in app.stored.table.rows if partition == customer and key.startswith("s_")}
    begun = [key.split("~begin") for key in keys if "~begin" in key]
    return sum(keys.isdisjoint({f"{job}~{end}{number}" for end in ("id", "void", "lost")}) for job, number in begun)


def metered_key(response_id: str) -> str:
    """Return the key of the row that says that a response is on record."""
    return f"m_response-{hashlib.sha256(response_id.encode()).hexdigest()[:40]}"


@asynccontextmanager
async def eventful_app(
    client: UpstreamClient, monkeypatch: pytest.MonkeyPatch, process: Process
) -> AsyncIterator[EventfulApp]:
    """An app whose first worker is `process`."""
    async with patient_app(client, monkeypatch) as plain:
        app = EventfulApp(plain.provider, plain.worker, plain.clock, stored=plain.memory, client=client)
        app.begin(process)
        yield app
