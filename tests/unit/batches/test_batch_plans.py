"""Jobs of many calls in batches, whose attempts have learned other limits: what is bought already is what they use."""

from __future__ import annotations

import pytest

from local.provider.faults import CallFault
from shared.batches.job_lines import parts_of
from shared.jobs.lines import Line
from shared.upstream.capabilities import Capabilities
from tests.support.patience import PatientApp, patient_app

MODEL = "text-embedding-3-small"
TEXTS = {"texts": [str(number) for number in range(8)]}


def test_lines_of_a_job_that_are_too_large_for_a_batch_are_several():
    """As many answers to pictures may be, of a model that gives one a call: a provider refuses a larger file."""
    body = bytes(20_000_000)
    lines = [Line(f"~{number}", "responses", body) for number in range(5)]
    assert [2, 2, 1] == [len(part) for part in parts_of(lines)]
    whole = [Line("~1", "responses", bytes(60_000_000)), *lines[:1]]
    assert [1, 1] == [len(part) for part in parts_of(whole)]


@pytest.fixture
async def at(client, monkeypatch):
    """The patient_app."""
    async with patient_app(client, monkeypatch) as made:
        yield made


def bought(at: PatientApp, customer: str) -> tuple[int, int]:
    """Return the calls and the input tokens that the provider was paid for, which are those on record."""
    totals = at.accounts[customer].journal.totals()
    rows = [row for row in at.rows(customer, "u_") if row["outcome"] == "answered"]
    assert (totals.calls, totals.input_tokens) == (len(rows), sum(row["input_tokens"] for row in rows))
    return totals.calls, totals.input_tokens


async def learn(at: PatientApp, customer: str, limit: int) -> None:
    """Have the worker learn how many texts a call takes."""
    connection = await at.worker.services.connections.resolve(customer, "default")
    at.worker.services.capabilities.learn_batch_limit(limit, *connection.identity, MODEL, "embeddings")


@pytest.mark.parametrize("learns_first", [True, False])
async def test_texts_in_a_batch_are_not_bought_again_in_other_calls(at: PatientApp, learns_first: bool) -> None:
    """Another worker knows nothing of a limit, or has learned one meanwhile."""
    customer = at.customer(default_model=MODEL)
    if learns_first:
        await learn(at, customer, 2)
    job = await at.send(customer, "embed", input=TEXTS)
    await at.deliver()
    at.worker.services.capabilities._batch_limits = Capabilities()._batch_limits
    if not learns_first:
        await learn(at, customer, 2)

    await at.finish([job])

    assert ("succeeded", 8) == (at.result(job)["status"], at.result(job)["output"]["vectors"])
    assert (4 if learns_first else 1, 8) == bought(at, customer)
    assert 1 == len(at.accounts[customer].batches)


async def test_parts_in_a_batch_are_not_bought_again_in_smaller_ones(at: PatientApp) -> None:
    """One of them is refused as too long, and is split; the others, which are as long, have their answers."""
    customer = at.customer()
    fault = CallFault(status=400, code="context_length_exceeded", message="The maximum context length is 8192 tokens.")
    at.accounts[customer].faults.calls.add(fault, times=1)
    job = await at.send(customer, "summarize", input={"text": "Some words to say. " * 8000})

    await at.finish([job])

    assert ("succeeded", 6) == (at.result(job)["status"], at.result(job)["output"]["parts"])
    assert 7 == bought(at, customer)[0]
