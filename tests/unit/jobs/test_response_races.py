"""Responses beside doubled messages and killed workers: each is bought once, and each job has one result."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.provider.faults import ResponseFault
from shared.jobs.polls import poll_key
from tests.support.clients import open_client
from tests.support.patience import patient_app
from tests.support.response_jobs import EventfulApp, finish, in_doubt, send_response
from tests.support.worker_crashes import Message, Process

# A killed worker leaves coroutines that it has not awaited yet.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine 'Part._operation:RuntimeWarning")
MAX_EXAMPLES = 60
MAX_DOUBLED = 8
"""Messages at a time: what is sent again by both workers would be more each time."""


@dataclass
class RestlessApp(EventfulApp):
    """An app whose processes are killed, and whose messages come to two workers at once, as chance has it."""

    chance: random.Random = field(default_factory=random.Random)
    kills_left: int = 0
    """Processes that are still to be killed."""

    def begin(self, process: Process) -> None:
        """See CrashingApp."""
        process.chance = self.chance
        if self.kills_left:
            self.kills_left -= 1
            process.dies_at, process.after = self.chance.randrange(1, 50), self.chance.random() < 0.5
        EventfulApp.begin(self, process)

    def _take_due(self) -> list[Message]:
        due = EventfulApp._take_due(self)
        self.delivers_twice = len(due) <= MAX_DOUBLED and self.chance.random() < 0.5
        return due


async def live(app: RestlessApp) -> str:
    """Have jobs wait, and whatever may happen to them happen; return their customer."""
    chance, customer = app.chance, app.customer()
    app.listen()
    app.kills_left = kills = chance.choice((0, 1, 2, 4))
    app.in_doubt = lambda: in_doubt(app, customer)
    app.begin(Process())
    jobs = list[str]()
    for number in range(chance.randrange(2, 7)):
        seconds = chance.choice((1, 3, 20, 45, 90))  # within ADOPT_WINDOW_S
        app.accounts[customer].faults.responses.add(ResponseFault("completed", in_progress_s=seconds))
        jobs.append(await send_response(app, customer, job_id=f"job-{number}"))
        app.loses = 0 if kills else chance.choice((0, 1, 3))  # a queue loses nothing of what a killed worker had
        await app.pass_time(chance.choice((1, 5, 30, 130)))
    app.kills_left, app.loses = 0, 0
    app.begin(Process())
    await finish(app, jobs, within_s=3600)
    await app.pass_time(1800, step_s=60)
    assert {app.result(job)["status"] for job in jobs} == {"succeeded"}
    app.check_books(customer, jobs, hears=True)
    return customer


def run_seed(seed: int) -> None:
    """Run what this seed chooses."""

    async def run() -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            async with open_client() as client, patient_app(client, monkeypatch) as plain:
                parts = plain.provider, plain.worker, plain.clock
                app = RestlessApp(*parts, stored=plain.memory, client=client, chance=random.Random(seed))
                customer = await live(app)
                assert (customer, poll_key("default")) not in app.stored.table.rows
                assert app.messages == []

    asyncio.run(run())


def test_what_waits_is_looked_at_though_a_worker_died_before_its_poll_began() -> None:
    """What waited was left behind once."""
    run_seed(459)


@pytest.mark.long
@settings(max_examples=MAX_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6))
def test_each_response_is_bought_once_whatever_happens(seed: int) -> None:
    """In any order of kills, lost and doubled messages and events; and nobody looks forever."""
    run_seed(seed)
