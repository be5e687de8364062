"""
Jobs of `processing: cheapest` beside batches that come late, end by halves, have no room or can't be read, connections
that go, and workers that die: all by chance, on a clock that moves, with Storage in memory.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, cast

import pytest

from local.provider.account import Account
from local.provider.faults import LOST, BatchFault, CallFault, ResponseFault, error
from local.provider.routes import CALLS
from shared.billing.customer_pricing import CustomerPricing
from shared.billing.statements import Statements
from shared.billing.usage_records import RECORD
from shared.clock import now
from shared.contract.price_book import decode_price_book
from shared.jobs.admission import Limiter
from shared.jobs.batch_message import PREFIX
from shared.storage.base import Row
from shared.upstream.capabilities import Capabilities
from shared.upstream.circuit_breaker import Breakers
from shared.upstream.client import UpstreamClient
from tests.support.counted_records import counted
from tests.support.endpoint import Endpoint
from tests.support.patience import MINUTE, patient_app
from tests.support.response_jobs import metered_key
from tests.support.worker_crashes import CrashingApp, Part, Process
from tests.support.workers import Memory, Worker, open_worker

HOUR = 3600.0
DEADLINES_S = (1 * HOUR, 1.5 * HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 16 * HOUR, 24 * HOUR, 25 * HOUR)
READ_FOR = 28 * HOUR
"""After the last deadline: a batch that could not be read in time is looked at for another day."""
SLACK_S = 10 * MINUTE
"""After its deadline, in which a job ends that nothing could be bought for in time."""
_ROUNDING = Decimal("0.0000005")
"""Of a statement's line."""
_BURST = 10
_NEW_SHARE = 0.3
"""Of bursts of jobs that are of another customer than those before."""
_PRICES = [
    {"provider": provider, "model": "*", **labels, "input": price, "output": f"{4 * int(price)}"}
    for provider in ("openai", "azure_openai", "anthropic")
    for labels, price in (({}, "2"), ({"processing": "batch"}, "1"), ({"service_tier": "flex"}, "1"))
]
_PRICES += [
    {"provider": provider, "model": "*", "processing": f"background_{hours}h", "input": price, "output": output}
    for provider in ("openai", "azure_openai")
    for hours, price, output in ((2, "1.4", "5.6"), (8, "1.2", "4.8"))
]

_CLAUDE_ROUTES = {
    "batches.create": "message_batches.create",
    "batches.get": "message_batches.get",
    "files.content": "message_batches.results",
}
Trait = Callable[[Account], None]


def _lasting(seconds: float) -> Trait:
    def add(account: Account) -> None:
        account.durations.in_progress_s = seconds

    return add


def _batches(times: int | None, **fault: Any) -> Trait:
    return lambda account: account.faults.batches.add(BatchFault(**fault), times)


def _route(name: str, fault: Any, times: int | None = 1) -> Trait:
    def add(account: Account) -> None:
        own = _CLAUDE_ROUTES.get(name, name) if account.style == "anthropic" else name
        account.faults.route(own, fault, times)

    return add


def _without_direct_calls(account: Account) -> None:
    for name in CALLS:
        account.faults.route(name, error(503), None)


def without_flex(account: Account) -> None:
    """Have the account refuse the flex tier."""
    refusal = CallFault(400, "invalid_value", "Invalid service_tier argument", if_parameter="service_tier")
    account.faults.calls.add(refusal, None)


def _never_cancelled(account: Account) -> None:
    account.durations.in_progress_s, account.durations.cancelling_s = 30 * HOUR, 3 * HOUR


TRAITS: Mapping[str, Trait] = {
    "quick": _lasting(300),
    "batches of an hour": _lasting(HOUR),
    "batches of ten hours": _lasting(10 * HOUR),
    "batches of 23 hours": _lasting(23 * HOUR),
    "batches without end": _lasting(100 * HOUR),
    "validating for hours": _batches(None, validating_s=6 * HOUR),
    "half expires": _batches(4, expire_share=0.5),
    "half always expires": _batches(None, expire_share=0.5),
    "no room for some": _batches(3, fail_code="token_limit_exceeded"),
    "never room": _batches(None, fail_code="token_limit_exceeded"),
    "lines missing": _batches(3, missing=1),
    "errors only": _batches(2, errors_only=True),
    "creations lost": _route("batches.create", LOST, 3),
    "creations refused": _route("batches.create", error(500), None),
    "flex refused": without_flex,
    "flex full": lambda account: account.faults.flex_unavailable.add(60, times=None),
    "cancelled late": _never_cancelled,
    "unreadable": _route("batches.get", error(503), None),
    "output unreadable": _route("files.content", error(503), None),
    "list price down": _without_direct_calls,
}


def _windows(*names: str) -> Trait:
    def refuse(account: Account) -> None:
        account.no_windows = frozenset(names)

    return refuse


def _responses(**fault: Any) -> Trait:
    def add(account: Account) -> None:
        account.durations.in_progress_s = 23 * HOUR  # so that no batch is in time, once that has been seen
        account.faults.responses.add(ResponseFault("completed", in_window=True, **fault), None)

    return add


RESPONSE_TRAITS: Mapping[str, Trait] = {
    "slow windows": _responses(in_progress_s=30 * HOUR),
    "windows of an hour": _responses(in_progress_s=HOUR),
    "no long window": _windows("8h"),
    "no window": _windows("8h", "2h"),
    "response creations lost": _route("responses.create", LOST, 2),
    "responses unreadable for a while": _route("responses.get", error(503), 20),
}
"""The same for responses."""
_SLOW = ("batches of ten hours", "batches without end")
UNREADABLE_FOR_A_WHILE = frozenset({"unreadable", "output unreadable"})
"""What an account has only for some hours."""


class Sent(NamedTuple):
    """A job."""

    customer: str
    action: str
    deadline: datetime


@dataclass
class CheapestApp(CrashingApp):
    """A CrashingApp whose workers forget what they have learnt by the clock that moves."""

    def _open(self, process: Process) -> Worker:
        stored, clock = self.stored, self.clock
        memory = Memory(*(cast(Any, Part(n, getattr(stored, n), process)) for n in ("table", "blobs", "queues")))
        memory.credentials = stored.credentials
        return open_worker(
            cast(Endpoint, None),
            cast(UpstreamClient, Part("client", self.client, process)),
            memory=memory,
            drain=process.drain,
            capabilities=Capabilities(clock=clock),
            breakers=Breakers(clock=clock),
            limiter=Limiter(clock=clock),
        )


@dataclass
class CheapestRuns:
    """Many such jobs, and what came of them."""

    app: CheapestApp
    chance: random.Random
    step_s: float = MINUTE
    """Between two times at which the timer runs."""
    actions: Sequence[str] = ("chat", "chat", "multi_chat", "summarize", "embed")
    style: str = ""
    """Of all accounts; empty: OpenAI's, and now and then Azure's."""
    traits: dict[str, list[str]] = field(default_factory=dict)
    """By customer."""
    jobs: dict[str, Sent] = field(default_factory=dict)
    gone: dict[str, list[tuple[datetime, datetime]]] = field(default_factory=dict)
    """When a customer's connection was not there."""
    _mend_at: dict[str, float] = field(default_factory=dict)
    _order: list[str] = field(default_factory=lambda: [*TRAITS])

    def __post_init__(self) -> None:
        if "respond" in self.actions:
            self._order += RESPONSE_TRAITS
        self.chance.shuffle(self._order)

    async def run(self, jobs: int, *, hours: float) -> None:
        """Send so many jobs within some hours, and live until nothing more can come of them."""
        app, ends_at = self.app, self.app.clock() + hours * HOUR
        while len(self.jobs) < jobs:
            left = jobs - len(self.jobs)
            await self._send(min(self.chance.randrange(1, _BURST + 1), left))
            pause_s = (ends_at - app.clock()) / max(left / (_BURST / 2), 1)
            await self._pass_time(max(pause_s, self.step_s) * self.chance.uniform(0.5, 1.5))
        last = max(job.deadline for job in self.jobs.values())
        await self._pass_time((last - now()).total_seconds())
        app.begin(Process())
        await self._pass_time(READ_FOR, step_s=10 * MINUTE)

    def late(self) -> dict[str, str]:
        """Return the jobs that have not succeeded by their deadline, each with why."""
        late = {}
        for job_id, job in self.jobs.items():
            result = self.app.result(job_id)
            if result["status"] != "succeeded" or datetime.fromisoformat(result["finished_at"]) > job.deadline:
                code = result.get("error", {}).get("code", result["status"])
                late[job_id] = f"{job.action} {code}, {', '.join(self.traits[job.customer])}"
        return late

    def could_be_bought(self, job_id: str) -> bool:
        """
        Return whether list price could do a job.

        The endpoint answers a direct call at once. So it could, if the customer's connection was there from the job's
        submission to its deadline, and direct calls were not refused.
        """
        job = self.jobs[job_id]
        sent_at = datetime.fromisoformat(self.app.result(job_id)["submitted_at"])
        is_there = not any(since < job.deadline and back > sent_at for since, back in self.gone.get(job.customer, []))
        return is_there and "list price down" not in self.traits[job.customer]

    def check_ends(self) -> None:
        """Fail if a job has no result, two, or one long after its deadline; or if something goes on."""
        for job_id, job in self.jobs.items():
            finished_at = datetime.fromisoformat(self.app.result(job_id)["finished_at"])
            assert finished_at <= job.deadline + timedelta(seconds=SLACK_S), (job_id, job, self.traits[job.customer])
        for customer in self.traits:
            assert {row["state"] for row in self.app.rows(customer, "j_")} <= {"done"}
            assert {row["state"] for row in self.app.rows(customer, PREFIX)} <= {"done"}
        assert self.app.messages == []

    async def check_books(self) -> Counter[str]:
        """
        Fail if journal, records and statement differ, or a call was bought twice for no reason; return what was bought.

        A worker that dies during a direct call leaves an `unanswered` record, and the call is made again. A batch that
        can't be read in time has its calls bought otherwise, and what it has answered is on record as `lost`.
        """
        sums = Counter[str]()
        services = self.app.worker.services
        for customer in self.traits:
            billed = {each.request_id: each for each in self.app.accounts[customer].journal.billed()}
            rows = counted(row for (name, _), row in self.app.stored.table.rows.items() if name == customer)
            outcomes = Counter(row.values["outcome"] for row in rows)
            kept = [row for row in rows if row.values["outcome"] != "unanswered"]
            recorded = self._request_ids(customer, kept)
            assert len(recorded) == len(set(recorded))
            assert set(recorded) <= set(billed)
            assert len(billed) - len(recorded) <= outcomes["unanswered"], (customer, self.traits[customer], outcomes)
            again = len(billed) - len({(each.model, each.prompt_hash) for each in billed.values()})
            assert again <= outcomes["lost"] + outcomes["unanswered"], (customer, self.traits[customer], outcomes)
            pricing = await CustomerPricing(services.price_books, services.customer_records).read(customer)
            last = now().date()
            statement = await Statements(self.app.stored.table).read(
                customer, last - timedelta(days=6), last, pricing=pricing
            )
            amounts = [Decimal(line.amount or 0) for line in statement.lines if line.kind is None]
            costs = sum((billed[each].cost for each in recorded), Decimal(0))
            assert abs(sum(amounts, Decimal(0)) - costs) <= _ROUNDING * len(amounts)
            sums += outcomes
            for row in kept:
                tier = row.values.get("service_tier")
                sums[tier if tier == "flex" else row.values["processing"]] += 1
            sums["again"] += again
        return sums

    def _request_ids(self, customer: str, kept: Sequence[Row]) -> list[str]:
        """Return the requests that these records are of. A response in the background was made by an earlier one."""
        made = {
            metered_key(each.custom_id): each.request_id
            for each in self.app.accounts[customer].journal
            if each.custom_id and not each.batch_id
        }
        rows = ((key, row) for (name, key), row in self.app.stored.table.rows.items() if name == customer)
        own = {row.values[RECORD]: made[key] for key, row in rows if key in made}
        return [own.get(row.key) or row.values["request_id"] for row in kept]

    async def _send(self, number: int) -> None:
        is_new = not self.traits or self.chance.random() < _NEW_SHARE
        customer = self._customer() if is_new else self.chance.choice([*self.traits])
        action = self.chance.choice(self.actions)
        deadline_s = self.chance.choice(DEADLINES_S)
        for _ in range(number):
            job_id = f"job-{len(self.jobs)}"
            options = {"processing": "cheapest", "deadline_s": deadline_s, "retry_delay_ms": 0}
            members = {"model": "text-embedding-3-small"} if action == "embed" else {}
            work = _input(action, job_id, self.chance)
            await self.app.send(customer, action, job_id=job_id, options=options, input=work, **members)
            self.jobs[job_id] = Sent(customer, action, now() + timedelta(seconds=deadline_s))
        await self.app.deliver()

    def _customer(self) -> str:
        traits = [self._order[len(self.traits) % len(self._order)]]
        if self.chance.random() < 1 / 2:
            traits.append(self.chance.choice(["flex refused", "flex full", *_SLOW]))
        style = self.style or ("azure" if self.chance.random() < 1 / 5 else "openai")
        customer = self.app.customer(style=style)
        for trait in traits:
            {**TRAITS, **RESPONSE_TRAITS}[trait](self.app.accounts[customer])
        self.traits[customer] = traits
        if UNREADABLE_FOR_A_WHILE & set(traits):
            self._mend_at[customer] = self.app.clock() + self.chance.uniform(1, 20) * HOUR
        return customer

    async def _pass_time(self, seconds: float, *, step_s: float = 0) -> None:
        end, step_s = self.app.clock() + seconds, step_s or self.step_s
        while self.app.clock() < end:
            if self.chance.random() < step_s / (4 * HOUR):
                self.app.begin(Process(self.chance.randrange(1, 150), after=self.chance.random() < 1 / 2))
            if self.chance.random() < step_s / (5 * HOUR) and self.traits:
                self._disconnect(self.chance.choice([*self.traits]))
            self._restore()
            await self.app.pass_time(step_s, step_s=step_s)

    def _disconnect(self, customer: str) -> None:
        if self.app.stored.credentials.secrets.pop((customer, "default"), None) is not None:
            back = now() + timedelta(hours=self.chance.uniform(0.1, 4))
            self.gone.setdefault(customer, []).append((now(), back))
            self.app.worker.services.connections.forget(customer, "default")

    def _restore(self) -> None:
        """Make up for what does not last."""
        for customer, times in self.gone.items():
            if times[-1][1] <= now() and (customer, "default") not in self.app.stored.credentials.secrets:
                self.app.connect(customer, self.app.accounts[customer])
                self.app.worker.services.connections.forget(customer, "default")
        for customer in [each for each, at in self._mend_at.items() if at <= self.app.clock()]:
            del self._mend_at[customer]
            self.app.accounts[customer].faults.routes.clear()


def _input(action: str, job_id: str, chance: random.Random) -> dict[str, Any]:
    if action == "multi_chat":
        return {"prompts": [f"{job_id}: say {number}." for number in range(chance.randrange(2, 6))]}
    if action == "summarize":
        paragraphs = chance.choice([1, 300])
        return {
            "text": "\n\n".join(f"{job_id} {number}. " + "Words follow words. " * 20 for number in range(paragraphs))
        }
    if action == "respond":
        return {"input": f"{job_id}: say it."}
    if action == "embed":
        return {"texts": [f"{job_id} text {number}" for number in range(chance.randrange(1, 4))]}
    return {"prompt": f"{job_id}: say it."}


@asynccontextmanager
async def cheapest_runs(
    client: UpstreamClient, monkeypatch: pytest.MonkeyPatch, seed: int, step_s: float, **members: Any
) -> AsyncIterator[CheapestRuns]:
    """Runs that `seed` decides, with a price book."""
    async with patient_app(client, monkeypatch) as plain:
        app = CheapestApp(plain.provider, plain.worker, plain.clock, stored=plain.memory, client=client)
        book = decode_price_book(json.dumps({"currency": "USD", "prices": _PRICES}).encode())
        await plain.worker.services.price_books.publish(book, replaces=None, by="ann")
        app.begin(Process())
        yield CheapestRuns(app, random.Random(seed), step_s, **members)
