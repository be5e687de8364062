"""The steps of an attempt: stored with their usage, read by the next attempt, in blobs if they are large."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from shared.actions.base import Completed, Step
from shared.billing.usage import Call
from shared.contract.result import ConnectionLabel, Usage
from shared.errors import ContentFiltered, StorageUnavailable, Throttled, UpstreamFacts
from shared.jobs import steps as module
from shared.jobs.attempt import OUTCOME_STEP
from shared.jobs.inputs import Inputs
from shared.jobs.outputs import Outputs
from shared.jobs.step_rows import MAX_STEP_BYTES
from shared.jobs.steps import Steps
from tests.support.attempts import LATER, expire, keys, start
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryTable
from tests.support.workers import SETTINGS

CALL = Call(Usage(calls=1, input_tokens=11))
LABEL = ConnectionLabel(name="eu", source="static", provider="openai", billed_to="operator")


class CountingBlobs(MemoryBlobs):
    """Blobs whose reads are counted."""

    reads = 0

    async def read(self, container: str, name: str, limit: int) -> bytes | None:
        """See `Blobs`."""
        self.reads += 1
        await asyncio.sleep(0)
        return await super().read(container, name, limit)


@dataclass
class Case:
    """A job on Storage in memory."""

    table: MemoryTable = field(default_factory=MemoryTable)
    blobs: CountingBlobs = field(default_factory=CountingBlobs)
    inputs: Inputs = field(default_factory=lambda: Inputs(SETTINGS, MemoryBlobs()))

    async def attempt(self) -> Steps:
        """The steps of its next attempt."""
        return Steps(await start(self.table), Outputs(SETTINGS, self.blobs), self.inputs.reserve)

    async def next_attempt(self, steps: Steps) -> Steps:
        """The steps of the attempt after one that is released."""
        await steps.attempt.release(LATER)
        return await self.attempt()


@pytest.fixture
def case() -> Case:
    """A new job."""
    return Case()


async def test_a_step_is_stored_with_its_usage(case: Case):
    """This attempt has it at once, with its calls; the next one reads its value. A first attempt reads nothing."""
    steps = await case.attempt()
    before = case.table.operations
    assert await steps.get("0001") is None
    assert before == case.table.operations

    await steps.save("0001", Step({"text": "One."}, [CALL]))

    assert Step({"text": "One."}, [CALL]) == await steps.get("0001")
    assert before + 1 == case.table.operations
    assert CALL.consumed() == steps.attempt.usage.billed
    again = await case.next_attempt(steps)
    assert Step({"text": "One."}) == await again.get("0001")
    assert await again.get("0002") is None
    assert CALL.consumed() == again.attempt.usage.billed
    assert 1 == len(keys(case.table, "u"))


async def test_a_step_that_is_done_has_the_values_of_its_parts(case: Case, monkeypatch: pytest.MonkeyPatch):
    """They count no longer for the limit of all values, and a later attempt reads none of them; their calls count."""
    monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 2 * MAX_STEP_BYTES)
    steps = await case.attempt()
    for key in ("0001-1", "0001-2", "0001", "0002-1"):
        await steps.save(key, Step("x" * (MAX_STEP_BYTES if key == "0001-2" else 1000), [CALL] if "-" in key else ()))
    assert {"0001", "0002-1"} == {*await steps.keys()}
    assert 2 * 1002 == steps._size

    again = await case.next_attempt(steps)

    assert {"0001", "0002-1"} == {*await again.keys()}
    assert 0 == case.blobs.reads
    assert 3 == again.attempt.usage.billed.calls


@pytest.mark.parametrize("down", [False, True])
async def test_steps_are_read_once(case: Case, down: bool):
    """However many parts of a job wait for theirs at once; if that fails, they all fail, and nothing is read again."""
    steps = await case.attempt()
    await steps.save("0001", Step("x" * MAX_STEP_BYTES))
    again = await case.next_attempt(steps)
    case.blobs.down, before = down, case.table.operations

    loaded = await asyncio.gather(*(again.get(f"{number:04}") for number in range(20)), return_exceptions=True)

    assert (1, before) == (case.blobs.reads, case.table.operations)
    if down:
        assert {StorageUnavailable} == {type(error) for error in loaded}
    else:
        assert [Step("x" * MAX_STEP_BYTES)] == [step for step in loaded if step is not None]


@pytest.mark.parametrize("large", [False, True])
async def test_a_large_value_is_in_a_blob(case: Case, large: bool):
    """Beyond what a row takes; a later attempt reads it from there."""
    steps = await case.attempt()
    value = "x" * (MAX_STEP_BYTES + large - 2)  # its JSON has two quotation marks

    await steps.save("0001", Step(value, [CALL]))

    row = case.table.rows["acme", "s_job-1~0001"]
    stored = str(MAX_STEP_BYTES + 1) if large else f'"{value}"'
    assert (large, stored.encode()) == (row.values["in_blob"], row.values["value"])
    assert [("results", "acme/job-1/steps/0001.json")] * large == [*case.blobs.blobs]
    assert Step(value) == await (await case.next_attempt(steps)).get("0001")


async def test_values_in_blobs_are_counted_as_memory(case: Case, monkeypatch: pytest.MonkeyPatch):
    """
    As long as the attempt lasts: many jobs may wake at a time. Without room, none is read, and no part waits again for
    itself. One job counts at most what it can ever get, and what an earlier version wrote, nothing.
    """
    monkeypatch.setattr("shared.jobs.inputs.MAX_WAIT_S", 0.2)
    steps = await case.attempt()
    for number in range(2):
        await steps.save(f"{number:04}", Step("x" * 100_000))
    taken = case.inputs._memory.taken
    assert {} == taken
    steps = await case.next_attempt(steps)
    await steps.get("0001")
    assert {"acme": 3 * 2 * 100_002} == taken

    monkeypatch.setattr(module, "_COPIES", 10_000)
    waiting = await case.next_attempt(steps)
    case.inputs._memory.add("acme", 20 << 20)
    reads, started = case.blobs.reads, asyncio.get_running_loop().time()
    errors = await asyncio.gather(*(waiting.get(f"{number:04}") for number in range(20)), return_exceptions=True)
    assert {Throttled} == {type(error) for error in errors}
    assert asyncio.get_running_loop().time() - started < 1
    assert reads == case.blobs.reads

    case.inputs._memory.give_back("acme", 20 << 20)
    del steps
    await asyncio.sleep(0.01)
    again = await case.next_attempt(waiting)
    await again.get("0001")
    assert {"acme": 112 << 20} == taken
    for number in range(2):
        row = case.table.rows["acme", f"s_job-1~{number:04}"]
        await case.table.merge(replace(row, values={"value": b""}))
    before = await case.next_attempt(again)
    del again
    await asyncio.sleep(0.01)
    assert Step("x" * 100_000) == await before.get("0001")
    assert {} == taken


@pytest.mark.parametrize("waits", [(), (0.001,)], ids=["no wait", "one wait"])
async def test_a_value_whose_blob_can_not_be_written_is_lost(
    case: Case, monkeypatch: pytest.MonkeyPatch, waits: tuple[float, ...]
):
    """Its calls are recorded as lost with the attempt's next write; no step is stored."""
    monkeypatch.setattr("shared.jobs.attempt.STORAGE_WAITS_S", waits)
    steps = await case.attempt()
    case.blobs.down = True

    with pytest.raises(StorageUnavailable):
        await steps.save("0001", Step("x" * MAX_STEP_BYTES, [CALL]))
    again = await case.next_attempt(steps)

    (record,) = keys(case.table, "u")
    assert ([], True) == (keys(case.table, "s"), record.endswith("_~1.1"))
    assert CALL.consumed() == again.attempt.usage.unrecoverable


OUTCOMES = {
    "succeeded": Completed({"text": "Hello."}, [CALL]),
    "failed": Completed(None, [CALL], "failed", ContentFiltered("Stopped.", UpstreamFacts(200, "r", detail={"x": 1}))),
}


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
@pytest.mark.parametrize(("model", "label"), [("gpt-4o", LABEL), (None, None)], ids=["resolved", "not resolved"])
async def test_an_outcome_is_a_step(case: Case, outcome: Completed, model: str | None, label: ConnectionLabel | None):
    """The next attempt ends with it: its output, status, error, and model, connection and scope if there were any."""
    steps = await case.attempt()
    steps.attempt.usage.model, steps.attempt.usage.label = model, label
    steps.attempt.usage.deployment_scope = scope = "global" if label else None

    await steps.save_outcome(outcome)

    assert [f"job-1~{OUTCOME_STEP}"] == keys(case.table, "s")
    again = await case.next_attempt(steps)
    stored = await again.get_outcome()
    assert stored is not None
    assert replace(outcome, calls=(), error=None) == replace(stored, error=None)
    usage = again.attempt.usage
    assert (model, label, CALL.consumed()) == (usage.model, usage.label, usage.billed)
    assert scope == usage.deployment_scope
    assert facts_of(outcome) == facts_of(stored)


def facts_of(outcome: Completed) -> tuple[type, str, object]:
    """The kind, the text and the details of an outcome's error, if it has one."""
    facts = getattr(outcome.error, "facts", None)
    return type(outcome.error), str(outcome.error), facts and facts.detail


@pytest.mark.parametrize(("key", "placeholders"), [(OUTCOME_STEP, 0), ("0001", 1)])
async def test_a_crash_after_the_outcome_was_stored_has_no_placeholder(case: Case, key: str, placeholders: int):
    """The job ends with that outcome, whose calls are recorded; after other steps it has one."""
    steps = await case.attempt()
    await (steps.save_outcome(OUTCOMES["succeeded"]) if key == OUTCOME_STEP else steps.save(key, Step(1, [CALL])))
    await expire(case.table)
    again = await case.attempt()

    await again.get_outcome()

    assert placeholders == len(again.attempt.usage)
