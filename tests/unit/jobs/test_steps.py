"""The steps of an attempt: stored with their usage, read by the next attempt, in blobs if they are large."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from shared.actions.base import Completed, Step
from shared.billing.usage import Call
from shared.clock import now
from shared.contract.job import Job
from shared.contract.result import ConnectionLabel, Usage
from shared.errors import ContentFiltered, RetryLater, StorageUnavailable, UpstreamFacts
from shared.jobs.attempt import OUTCOME_STEP, Attempt
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.outputs import Outputs
from shared.jobs.step_rows import MAX_STEP_BYTES
from shared.jobs.steps import Steps
from tests.support.fakes import Fault
from tests.support.workers import SETTINGS, Memory

JOB = Job(customer="acme", action="multi_chat", job_id="job-1")
CALL = Call(Usage(calls=1, input_tokens=11))
LABEL = ConnectionLabel(name="eu", source="static", provider="openai", billed_to="operator")
LATER = RetryLater("Later.", 1)


@dataclass
class Case:
    """A job on Storage in memory."""

    memory: Memory

    async def attempt(self) -> Steps:
        """The steps of its next attempt."""
        ledger = Ledger(self.memory.table)
        lease = await ledger.claim(JOB.customer, JOB.id, fingerprint="f", submitted_at=now())
        assert isinstance(lease, Lease)
        return Steps(Attempt(JOB, lease, ledger), Outputs(SETTINGS, self.memory.blobs))

    def rows(self, kind: str) -> list[str]:
        """The keys of its rows of a kind, after that."""
        return [key.removeprefix(f"{kind}_") for _, key in sorted(self.memory.table.rows) if key.startswith(f"{kind}_")]


@pytest.fixture
def case() -> Case:
    """A new job."""
    return Case(Memory())


async def test_a_step_is_stored_with_its_usage(case: Case):
    """This attempt has it at once, with its calls; the next one reads its value. A first attempt reads nothing."""
    steps = await case.attempt()
    before = case.memory.table.operations
    assert await steps.get("0001") is None
    assert before == case.memory.table.operations

    await steps.save("0001", Step({"text": "One."}, [CALL]))

    assert Step({"text": "One."}, [CALL]) == await steps.get("0001")
    assert before + 1 == case.memory.table.operations
    assert CALL.consumed() == steps.attempt.usage.billed
    await steps.attempt.release(LATER)
    again = await case.attempt()
    assert Step({"text": "One."}) == await again.get("0001")
    assert await again.get("0002") is None
    assert CALL.consumed() == again.attempt.usage.billed
    assert 1 == len(case.rows("u"))


async def test_steps_are_read_once(case: Case):
    """However many parts ask for theirs."""
    steps = await case.attempt()
    await steps.save("0001", Step(1))
    await steps.attempt.release(LATER)
    again = await case.attempt()
    before = case.memory.table.operations

    for _ in range(3):
        await again.get("0001")

    assert before + 1 == case.memory.table.operations


@pytest.mark.parametrize("size", [MAX_STEP_BYTES, MAX_STEP_BYTES + 1])
async def test_a_large_value_is_in_a_blob(case: Case, size: int):
    """Beyond what a row takes; a later attempt reads it from there."""
    steps = await case.attempt()
    value = "x" * (size - 2)  # its JSON has two quotation marks

    await steps.save("0001", Step(value, [CALL]))

    large = size > MAX_STEP_BYTES
    row = case.memory.table.rows["acme", "s_job-1~0001"]
    assert (large, b"" if large else f'"{value}"'.encode()) == (row.values["in_blob"], row.values["value"])
    assert ([("results", "acme/job-1/steps/0001.json")] if large else []) == [*case.memory.blobs.blobs]
    await steps.attempt.release(LATER)
    assert Step(value) == await (await case.attempt()).get("0001")


@pytest.mark.parametrize("waits", [(), (0.001,)], ids=["no wait", "one wait"])
async def test_a_value_whose_blob_can_not_be_written_is_lost(
    case: Case, monkeypatch: pytest.MonkeyPatch, waits: tuple[float, ...]
):
    """Its calls are recorded as lost with the attempt's next write; no step is stored."""
    monkeypatch.setattr("shared.jobs.attempt.STORAGE_WAITS_S", waits)
    steps = await case.attempt()
    case.memory.blobs.down = True

    with pytest.raises(StorageUnavailable):
        await steps.save("0001", Step("x" * MAX_STEP_BYTES, [CALL]))
    await steps.attempt.release(LATER)

    assert ([], 1) == (case.rows("s"), len(case.rows("u")))
    assert case.rows("u")[0].endswith("_~1.1")
    assert CALL.consumed() == (await case.attempt()).attempt.usage.unrecoverable


async def test_a_step_that_can_not_be_stored_goes_along_with_the_release(case: Case, monkeypatch: pytest.MonkeyPatch):
    """It is bought once: the next attempt has it."""
    monkeypatch.setattr("shared.jobs.attempt.STORAGE_WAITS_S", ())
    steps = await case.attempt()
    case.memory.table.faults.append(Fault.REFUSED)

    with pytest.raises(StorageUnavailable):
        await steps.save("0001", Step(1, [CALL]))
    await steps.attempt.release(LATER)

    again = await case.attempt()
    assert Step(1) == await again.get("0001")
    assert (CALL.consumed(), Usage()) == (again.attempt.usage.billed, again.attempt.usage.unrecoverable)


OUTCOMES = [
    Completed({"text": "Hello."}, [CALL]),
    Completed(None, [CALL], "failed", ContentFiltered("Stopped.", UpstreamFacts(200, "r", detail={"x": 1}))),
]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=["succeeded", "failed"])
async def test_an_outcome_is_a_step(case: Case, outcome: Completed):
    """The next attempt ends with it: with its output, status, error, model and connection."""
    steps = await case.attempt()
    steps.attempt.usage.model, steps.attempt.usage.label = "gpt-4o", LABEL

    await steps.save_outcome(outcome)

    assert [f"job-1~{OUTCOME_STEP}"] == case.rows("s")
    await steps.attempt.release(LATER)
    again = await case.attempt()
    stored = await again.get_outcome()
    assert stored is not None
    assert replace(outcome, calls=(), error=None) == replace(stored, error=None)
    assert ("gpt-4o", LABEL, CALL.consumed()) == (
        again.attempt.usage.model,
        again.attempt.usage.label,
        again.attempt.usage.billed,
    )
    if outcome.error is not None:
        assert stored.error is not None
        assert (type(outcome.error), str(outcome.error), outcome.error.facts.detail) == (  # type: ignore[attr-defined]
            type(stored.error),
            str(stored.error),
            stored.error.facts.detail,  # type: ignore[attr-defined]
        )


async def test_an_outcome_has_no_connection_if_none_was_resolved(case: Case):
    """Neither has the next attempt."""
    steps = await case.attempt()
    await steps.save_outcome(OUTCOMES[0])
    await steps.attempt.release(LATER)
    again = await case.attempt()

    await again.get_outcome()

    assert (None, None) == (again.attempt.usage.model, again.attempt.usage.label)


async def test_a_crash_after_the_outcome_was_stored_has_no_placeholder(case: Case):
    """The job ends with that outcome, whose calls are recorded; after other steps it has one."""
    for key, expected in ((OUTCOME_STEP, 0), ("0001", 1)):
        case.memory.table.rows.clear()
        steps = await case.attempt()
        if key == OUTCOME_STEP:
            await steps.save_outcome(OUTCOMES[0])
        else:
            await steps.save(key, Step(1, [CALL]))
        row = case.memory.table.rows["acme", "j_job-1"]
        await case.memory.table.merge(replace(row, values={"lease_until": now() - timedelta(seconds=1)}))
        again = await case.attempt()

        await again.get_outcome()

        assert expected == len(again.attempt.usage)
