"""The way of one chat job through the code: the frames from its trigger to the HTTP client, and all that it passes."""

from __future__ import annotations

import inspect
import tomllib
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest
import pytest_asyncio

import function_app
from shared.contract.budget import Budget
from shared.upstream.client import UpstreamClient
from tests.support.called_functions import profiled, stack_of
from tests.support.clients import Tokens
from tests.support.customers import Customer
from tests.support.endpoint import Endpoint
from tests.support.workers import Worker, open_worker

ROOT = Path(__file__).parents[3]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
LAYERS = {
    package.strip(): number for number, layer in enumerate(CONTRACTS[0]["layers"]) for package in layer.split("|")
}
PATH = [
    "function_app:run_job",
    "shared.jobs.worker:Worker.process",
    "shared.jobs.executor:Executor.execute",
    "shared.actions.chat:run",
    "shared.actions.completion:complete_chat",
    "shared.jobs.context:ActionContext.call",
    "shared.upstream.client:UpstreamClient.send",
]


class RecordingClient(UpstreamClient):
    """The HTTP client, which records the stack of each request."""

    def __init__(self) -> None:
        super().__init__(Tokens(), allow_local=True)
        self.stacks: list[list[str]] = []

    async def _exchange(self, *arguments: Any) -> Any:
        self.stacks.append([*stack_of(inspect.currentframe())][::-1])
        return await super()._exchange(*arguments)


def layer_of(name: str) -> int:
    """Return the number of a function's layer in import-linter's contract; the highest is 0, the triggers' -1."""
    return LAYERS[name.split(".")[1].partition(":")[0]] if name.startswith("shared.") else -1


@pytest_asyncio.fixture(loop_scope="session")
async def client() -> AsyncIterator[RecordingClient]:
    """A client that records stacks."""
    client = RecordingClient()
    yield client
    await client.close()


@pytest.fixture
def worker(endpoint: Endpoint, client: RecordingClient, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker, whose services the triggers use."""
    worker = open_worker(endpoint, client)
    monkeypatch.setattr(function_app, "services", lambda: worker.services)
    return worker


async def run_job(customer: Customer) -> list[bytes]:
    """Call the trigger with a chat job, as the Functions host does; return what it publishes."""
    published: list[bytes] = []
    message = func.QueueMessage(id=uuid.uuid4().hex, body=customer.body())
    await function_app.run_job._function.get_user_function()(message, SimpleNamespace(set=published.append))
    return published


async def test_seven_functions_lie_between_the_trigger_and_the_request(worker: Worker, client: RecordingClient):
    """A reader who follows a chat job meets these functions, each called by the one before it, and no other."""
    published = await run_job(worker.customer())

    assert (1, [PATH]) == (len(published), client.stacks)


async def test_a_chat_job_passes_few_functions(worker: Worker):
    """
    From its message to its result a job whose customer and connection are in memory passes so many modules, functions
    and calls at most. A change that needs more of them is a reason to look for what it could do without.
    """
    customer = worker.customer()
    await run_job(customer)

    with profiled() as calls:
        published = await run_job(customer)

    functions = {name for _, name in calls}
    assert 1 == len(published)
    assert len({name.partition(":")[0] for name in functions}) <= 61
    assert len(functions) <= 254
    assert len(calls) <= 412


async def test_a_budget_adds_few_calls(worker: Worker):
    """A job of a customer with one budget makes at most so many calls more than one without."""
    plain, budgeted = worker.customer(), worker.customer()
    budgets = {"main": Budget(limit=Decimal(10**9), unit="tokens", period="month")}
    await worker.services.customer_records.change(
        budgeted.name, lambda record: record.with_budgets(budgets), by="operator", subject="budgets"
    )
    counts = []
    for customer in (plain, budgeted):
        for _ in range(2):  # the first makes the buckets
            await run_job(customer)
        with profiled() as calls:
            await run_job(customer)
        counts.append(len(calls))

    assert counts[0] < counts[1] <= counts[0] + 116, counts


async def test_calls_lead_downwards_but_for_the_context(worker: Worker):
    """
    No package calls one of a higher layer, except that an action uses the context that it gets, and that a single
    flight and a request that begins run what their callers pass.
    """
    with profiled() as calls:
        await run_job(worker.customer())

    users = "shared.actions.chat:run", "shared.actions.completion:complete_chat"
    assert {(user, "shared.jobs.context:ActionContext") for user in users} == {
        (caller, name.rpartition(".")[0])
        for caller, name in calls
        if caller not in {None, "shared.single_flight:_settled", "shared.upstream.sending:Sending.start"}
        and layer_of(name) < layer_of(caller)
    }
