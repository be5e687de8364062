"""What becomes of a job: claimed by one, done once, with its usage records; in memory and on Azurite."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.contract.job import Job
from shared.contract.result import Usage
from shared.errors import AlreadyRunning, JobConflict, LeaseLost, RetryLater, StorageUnavailable
from shared.jobs import ledger as module
from shared.jobs import queries as queries_module
from shared.jobs.job_updates import JobUpdates
from shared.jobs.lease import Lease
from shared.jobs.ledger import LEASE_S, Ledger
from shared.jobs.queries import JobQueries
from shared.jobs.records import FinishedJob, time_row
from shared.jobs.step_rows import StepRecord, fitting
from shared.storage.base import Row, RowExists, RowPage, Table
from tests.support.fakes import Fault, MemoryTable
from tests.support.faulty_tables import faulty_table
from tests.support.harness import World

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
TOLD = b'{"status": "succeeded"}'


LATER = RetryLater("Later.", 1)


@dataclass
class Case:
    """A ledger of either kind, a customer of one test's own, and what will go wrong with the next changes."""

    ledger: Ledger
    table: Table
    faults: deque[Fault | None]
    customer: str

    @property
    def queries(self) -> JobQueries:
        """Reads of the same table."""
        return JobQueries(self.table)

    @property
    def updates(self) -> JobUpdates:
        """Other changes of the same table."""
        return JobUpdates(self.table)

    async def claim(self, job_id: str = "job-1", *, fingerprint: str = "fingerprint") -> Lease | FinishedJob:
        """A claim on a job."""
        return await self.ledger.claim(self.customer, job_id, fingerprint=fingerprint, submitted_at=SUBMITTED)

    async def mine(self, job_id: str = "job-1", *, fingerprint: str = "fingerprint") -> Lease:
        """A claim that must be had."""
        claim = await self.claim(job_id, fingerprint=fingerprint)
        assert isinstance(claim, Lease)
        return claim

    async def complete(self, claim: Lease, told: bytes = TOLD, *, calls: int = 1) -> None:
        """Completes a job with as many usage records."""
        usage = [Row(self.customer, f"u_2026-11_{claim.job_id}_{n:04}", {"calls": 1}) for n in range(calls)]
        await self.ledger.complete(claim, told, status="succeeded", usage=usage)

    async def values(self, job_id: str = "job-1") -> dict[str, Any]:
        """The job's row."""
        row = await self.table.read(self.customer, f"j_{job_id}")
        assert row is not None
        return dict(row.values)

    async def usage(self) -> list[str]:
        """The keys of the customer's usage records."""
        return [row.key async for row in self.table.scan(self.customer, "u_", "u`")]


@pytest.fixture(params=["memory", "azure"])
def case(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A ledger of either kind."""
    faulty = faulty_table(request.param, world, monkeypatch)
    return Case(Ledger(faulty.table), faulty.table, faulty.faults, f"c-{uuid.uuid4().hex}")


@pytest.fixture
def pass_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the ledger's clock go by some seconds."""

    def pass_by(seconds: float) -> None:
        moment = module.now() + timedelta(seconds=seconds)
        for each in (module, queries_module):
            monkeypatch.setattr(each, "now", lambda: moment)

    return pass_by


async def test_a_new_job_is_claimed(case: Case) -> None:
    """The first claim is attempt one, and its row says whose job it is, what it asked for, and until when."""
    claim = await case.mine()

    values = await case.values()
    left_s = (values.pop("lease_until") - datetime.now(UTC)).total_seconds()
    assert (case.customer, "job-1", 1, SUBMITTED) == (
        claim.customer,
        claim.job_id,
        claim.attempt,
        claim.submitted_at,
    )
    assert {
        "state": "running",
        "attempt": 1,
        "failed_attempts": 0,
        "crashed_attempts": "",
        "reason": "",
        "reason_code": "",
        "cancelled": False,
        "owner": claim.owner,
        "incarnation": claim.incarnation,
        "fingerprint": "fingerprint",
        "action": "",
        "submitted_at": SUBMITTED,
        "started_at": claim.started_at,
    } == values
    assert LEASE_S - 10 < left_s <= LEASE_S


@pytest.mark.parametrize("calls", [0, 1, 3])
async def test_a_done_job_is_told_again(case: Case, calls: int) -> None:
    """A job that is done gives its result, byte by byte, however often it comes again."""
    told = bytes(range(256)) * 192
    await case.complete(await case.mine(), told, calls=calls)

    again = [await case.claim() for _ in range(2)]

    assert [FinishedJob(told)] * 2 == again
    assert calls == len(await case.usage())


async def test_a_done_job_keeps_its_history(case: Case, pass_by: Callable[[float], None]) -> None:
    """The row of a done job still says when it was submitted and started, and by whom it was done."""
    claim = await case.mine()
    pass_by(5)
    await case.complete(claim)

    values = await case.values()

    assert ("done", "succeeded", 1, claim.owner) == tuple(
        values[name] for name in ("state", "status", "attempt", "owner")
    )
    assert SUBMITTED == values["submitted_at"]
    assert values["finished_at"] - values["started_at"] >= timedelta(seconds=5)


@pytest.mark.parametrize("done", [False, True], ids=["running", "done"])
async def test_an_id_belongs_to_what_it_asked_for(case: Case, done: bool) -> None:
    """The same id with other content is a conflict, whether the first job runs or is done."""
    claim = await case.mine()
    if done:
        await case.complete(claim)

    with pytest.raises(JobConflict, match="job-1 belongs to a job of customer c-"):
        await case.claim(fingerprint="other")


async def test_ids_are_the_customers_own(case: Case) -> None:
    """Two customers may use the same id."""
    await case.complete(await case.mine())
    case.customer = f"{case.customer}-2"

    assert 1 == (await case.mine(fingerprint="other")).attempt


async def test_a_job_that_runs_is_busy(case: Case) -> None:
    """While the lease holds, the job is nobody else's; it is looked at again within seconds."""
    await case.mine()

    with pytest.raises(AlreadyRunning, match="Another worker runs job job-1") as raised:
        await case.claim()

    assert 15 == raised.value.delay_s


async def test_a_lease_that_ends_soon_is_waited_for(case: Case, pass_by: Callable[[float], None]) -> None:
    """Near the lease's end, the wait is what is left of it and a moment."""
    await case.mine()
    pass_by(LEASE_S - 10)

    with pytest.raises(AlreadyRunning) as raised:
        await case.claim()

    assert 10 <= raised.value.delay_s <= 11


async def test_a_job_whose_worker_is_gone_is_taken_over(case: Case, pass_by: Callable[[float], None]) -> None:
    """After the lease's end the next claim is another attempt of the same job, from its first start on."""
    first = await case.mine()
    pass_by(LEASE_S)

    second = await case.mine()
    pass_by(LEASE_S)
    third = await case.mine()

    assert [1, 2, 3] == [claim.attempt for claim in (first, second, third)]
    assert {SUBMITTED} == {claim.submitted_at for claim in (first, second, third)}
    assert {first.started_at} == {claim.started_at for claim in (first, second, third)}
    assert 3 == len({claim.owner for claim in (first, second, third)})


async def test_a_released_job_is_claimed_at_once(case: Case) -> None:
    """A claim that was given up is nobody's; the attempt stays counted."""
    await case.ledger.release(await case.mine(), LATER)

    claim = await case.mine()
    await case.complete(claim)

    assert 2 == claim.attempt
    assert FinishedJob(TOLD) == await case.claim()


async def test_a_released_claim_completes_nothing(case: Case) -> None:
    """Who has given a claim up can't complete the job with it."""
    claim = await case.mine()
    await case.ledger.release(claim, LATER)

    with pytest.raises(LeaseLost):
        await case.complete(claim)

    assert [] == await case.usage()


@pytest.mark.parametrize("calls", [0, 2])
async def test_a_lost_claim_completes_nothing(case: Case, pass_by: Callable[[float], None], calls: int) -> None:
    """A worker that comes back after its job was taken over writes neither result nor usage."""
    first = await case.mine()
    pass_by(LEASE_S)
    second = await case.mine()

    with pytest.raises(LeaseLost, match="job-1"):
        await case.complete(first, b"late", calls=calls)
    with pytest.raises(LeaseLost):
        await case.ledger.release(first, LATER)
    await case.complete(second, calls=calls)
    with pytest.raises(LeaseLost):
        await case.complete(first, b"later", calls=calls)

    assert FinishedJob(TOLD) == await case.claim()
    assert calls == len(await case.usage())


async def test_a_lease_that_ended_unnoticed_still_completes(case: Case, pass_by: Callable[[float], None]) -> None:
    """A job that took longer than its lease is done if nobody has taken it over meanwhile."""
    claim = await case.mine()
    pass_by(2 * LEASE_S)

    await case.complete(claim)

    assert FinishedJob(TOLD) == await case.claim()


async def test_of_claims_at_once_one_wins(case: Case, pass_by: Callable[[float], None]) -> None:
    """Of many workers that claim a job at once, new or left behind, one gets it."""
    for attempt in (1, 2):
        found = await asyncio.gather(*(case.claim() for _ in range(8)), return_exceptions=True)

        (claim,) = [one for one in found if isinstance(one, Lease)]
        assert attempt == claim.attempt
        assert 7 == sum(isinstance(one, AlreadyRunning) for one in found)
        pass_by(LEASE_S)

    await case.complete(claim)


async def test_a_job_and_its_usage_are_done_together(case: Case) -> None:
    """Where the usage records can't be written, the job is not done either."""
    claim = await case.mine()
    case.faults.append(Fault.REFUSED)

    with pytest.raises(StorageUnavailable):
        await case.complete(claim, calls=2)

    assert ("running", []) == ((await case.values())["state"], await case.usage())


async def test_a_usage_record_that_is_there_already_keeps_no_job_from_its_end(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Another's record under the key of one of a job's own is a fault of ours, and is logged: it stays as it is, the
    job is done and told, and its own record stands beside it.
    """
    claim = await case.mine()
    await case.table.insert(Row(case.customer, "u_2026-11_job-1_0001", {"calls": 9}))

    await case.complete(claim, calls=2)

    assert FinishedJob(TOLD) == await case.claim()
    keys = [f"u_2026-11_job-1_{number}" for number in ("0000", "0001", f"0001_{claim.owner[:8]}")]
    assert keys == await case.usage()
    found = await case.table.read(case.customer, keys[1])
    assert found is not None
    assert 9 == found.values["calls"]
    assert f"usage_record_exists customer={case.customer} job_id=job-1 key={keys[1]}" in caplog.text


async def test_a_job_of_an_older_version_goes_on(case: Case, pass_by: Callable[[float], None]) -> None:
    """A row without a nonce is claimed, renewed and done as it always was."""
    moment = module.now()
    values = {
        "state": "running",
        "attempt": 1,
        "owner": "older",
        "fingerprint": "fingerprint",
        "submitted_at": SUBMITTED,
    }
    old = Row(case.customer, "j_job-1", values | {"started_at": moment, "lease_until": moment})
    await case.table.insert(old, beside=[time_row(case.customer, "job-1", SUBMITTED)])
    pass_by(1)

    claim = await case.mine()
    await case.complete(claim)

    assert ("", 2) == (claim.incarnation, claim.attempt)
    assert FinishedJob(TOLD) == await case.claim()


async def test_a_job_keeps_its_nonce(case: Case, pass_by: Callable[[float], None]) -> None:
    """All claims of a job have the nonce that it was put on record with; another job has another."""
    job = Job(customer=case.customer, action="chat", job_id="job-1")
    await case.ledger.submit(job, fingerprint="fingerprint", submitted_at=SUBMITTED)
    first = await case.mine()
    pass_by(LEASE_S)

    second, other = await case.mine(), await case.mine("job-2")

    assert first.incarnation == second.incarnation != other.incarnation
    assert [8, 8] == [len(claim.incarnation) for claim in (first, other)]


async def test_a_claim_whose_answer_was_lost_is_ones_own(case: Case) -> None:
    """Asked again after a lost answer, the ledger knows its own row, and the claim is good to complete with."""
    case.faults.append(Fault.TWICE)

    claim = await case.mine()
    await case.complete(claim)

    assert 1 == claim.attempt
    assert FinishedJob(TOLD) == await case.claim()


async def test_a_takeover_whose_answer_was_lost_is_ones_own(case: Case, pass_by: Callable[[float], None]) -> None:
    """The same goes for a job that was left behind: it is taken over once, as one attempt."""
    await case.mine()
    pass_by(LEASE_S)
    case.faults.extend([None, Fault.TWICE])  # the first change is the insert that finds the row

    claim = await case.mine()
    await case.complete(claim)

    assert 2 == claim.attempt
    assert FinishedJob(TOLD) == await case.claim()


@pytest.mark.parametrize("calls", [0, 2])
async def test_a_completion_whose_answer_was_lost_is_ones_own(case: Case, calls: int) -> None:
    """Asked again after a lost answer, the ledger finds its own change: the job is done, its usage once."""
    claim = await case.mine()
    case.faults.append(Fault.TWICE)

    await case.complete(claim, calls=calls)

    assert FinishedJob(TOLD) == await case.claim()
    assert calls == len(await case.usage())


async def test_a_release_whose_answer_was_lost_is_ones_own(case: Case) -> None:
    """A release that was made twice is one."""
    claim = await case.mine()
    case.faults.append(Fault.TWICE)

    await case.ledger.release(claim, LATER)

    assert 2 == (await case.mine()).attempt


async def test_a_completion_that_seemed_to_fail_for_good_is_found_done(case: Case) -> None:
    """Where no answer ever came, the worker is told so, and the next delivery finds the job done."""
    claim = await case.mine()
    case.faults.append(Fault.LOST)

    with pytest.raises(StorageUnavailable):
        await case.complete(claim)

    assert FinishedJob(TOLD) == await case.claim()
    assert 1 == len(await case.usage())


async def test_a_completion_that_was_refused_can_be_made_again(case: Case) -> None:
    """Where Storage did nothing, the claim is still good."""
    claim = await case.mine()
    case.faults.append(Fault.REFUSED)
    with pytest.raises(StorageUnavailable):
        await case.complete(claim)
    assert [] == await case.usage()

    await case.complete(claim)

    assert FinishedJob(TOLD) == await case.claim()


async def test_a_claim_that_seemed_to_fail_for_good_is_nobodys_until_its_lease_ends(
    case: Case, pass_by: Callable[[float], None]
) -> None:
    """A claim whose worker never heard of it holds the job up for a lease, no longer."""
    case.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await case.claim()
    with pytest.raises(AlreadyRunning):
        await case.claim()

    pass_by(LEASE_S)

    assert 2 == (await case.mine()).attempt


class Vanishing(MemoryTable):
    """A table whose rows exist when they are inserted, and are gone when they are read."""

    async def insert(self, row: Row, **_: Any) -> str:
        """Raises RowExists for every row."""
        raise RowExists(row.key)


async def test_a_row_that_was_just_removed_is_waited_for() -> None:
    """Between an insert that found the row and the reading of it, the row may go: a moment later it is new."""
    with pytest.raises(AlreadyRunning) as raised:
        await Ledger(Vanishing()).claim("contoso", "job-1", fingerprint="fingerprint", submitted_at=SUBMITTED)

    assert 1 == raised.value.delay_s


async def test_a_job_whose_worker_died_is_found_by_what_it_asked_for(
    case: Case, pass_by: Callable[[float], None]
) -> None:
    """Of a customer's jobs that asked for the same, the one whose worker died: not one that is done, or waits."""
    await case.complete(await case.mine("done", fingerprint="same"))
    await case.ledger.release(await case.mine("waiting", fingerprint="same"), LATER)
    await case.mine("other", fingerprint="other")
    assert await case.queries.find_unfinished(case.customer, "same") is None

    await case.mine("dead", fingerprint="same")
    with pytest.raises(AlreadyRunning):  # it may still run
        await case.queries.find_unfinished(case.customer, "same")
    pass_by(LEASE_S)

    assert "dead" == await case.queries.find_unfinished(case.customer, "same")
    assert await case.queries.find_unfinished(f"{case.customer}-2", "same") is None


async def test_of_two_alike_the_one_that_waits_is_not_taken_for_the_one_whose_worker_died(
    case: Case, pass_by: Callable[[float], None]
) -> None:
    """A job that only waits because Storage had failed is not given up for one whose worker may have just died."""
    await case.ledger.release(await case.mine("waiting", fingerprint="same"), LATER, failed=True)
    await case.mine("dead", fingerprint="same")

    with pytest.raises(AlreadyRunning):
        await case.queries.find_unfinished(case.customer, "same")
    pass_by(LEASE_S)

    assert "dead" == await case.queries.find_unfinished(case.customer, "same")


async def test_a_job_is_looked_for_without_reading_results() -> None:
    """Storage itself looks for a job by what it asked for: none that is done is read, nor more than is needed."""
    read: list[Row] = []

    class Watched(MemoryTable):
        async def page(self, *where: Any, **how: Any) -> RowPage:
            page = await super().page(*where, **how)
            read.extend(page.rows)
            return page

        scan = None  # type: ignore[assignment]

    table = Watched(page_size=1)
    case = Case(Ledger(table), table, table.faults, "contoso")
    for number in range(3):
        await case.complete(await case.mine(f"done-{number}", fingerprint="same"), b"large")
    for name in ("one", "two"):
        await case.ledger.release(await case.mine(name, fingerprint="same"), LATER, failed=name == "two")

    assert "two" == await case.queries.find_unfinished("contoso", "same")
    assert ["j_one", "j_two"] == [row.key for row in read]
    assert {"state", "lease_until", "failed_attempts"} == {name for row in read for name in row.values}


async def test_failed_runs_are_counted_and_forgiven(case: Case) -> None:
    """A job that waits to be run can be told to have failed once more, or never; one that runs is the worker's."""
    await case.ledger.release(await case.mine(), LATER)
    for _ in range(2):
        await case.updates.add_failed_attempt(case.customer, "job-1")
    twice = (await case.values())["failed_attempts"]
    await case.updates.reset_failed_attempts(case.customer, "job-1")
    never = (await case.values())["failed_attempts"]
    await case.mine()
    await case.updates.add_failed_attempt(case.customer, "job-1")
    await case.updates.add_failed_attempt(case.customer, "unknown")

    assert (2, 0, 0) == (twice, never, (await case.values())["failed_attempts"])


@pytest.mark.parametrize("use", ["claim", "release", "complete", "find_unfinished"])
async def test_without_storage_nothing_is_promised(use: str) -> None:
    """Every use of a ledger whose table is down raises StorageUnavailable."""
    table = MemoryTable()
    case = Case(Ledger(table), table, table.faults, "contoso")
    claim = await case.mine()
    table.down = True
    uses = {
        "claim": case.claim,
        "release": lambda: case.ledger.release(claim, LATER),
        "complete": lambda: case.complete(claim),
        "find_unfinished": lambda: case.queries.find_unfinished("contoso", "fingerprint"),
    }

    with pytest.raises(StorageUnavailable):
        await uses[use]()


@pytest.mark.parametrize(("rows", "expected"), [(1, 30), (2, 30), (3, 24), (98, 1), (200, 1)])
def test_a_transaction_takes_as_many_steps_as_fit(rows: int, expected: int):
    """Steps are stored together up to 30, and to the 99 rows that a transaction has room for beside the job's."""
    row = Row("p", "k", {})
    steps = [StepRecord(f"{number}", b"", Usage(), usage_rows=[row] * rows) for number in range(40)]

    assert expected == len(fitting(steps))


async def test_a_change_that_seemed_to_fail_does_not_lose_the_claim(case: Case) -> None:
    """A claim whose etag is behind, because its own last change was made unseen, is still its owner's to give up."""
    claim = await case.mine()
    await case.ledger.save_steps(
        claim, [StepRecord("0001", b"1", Usage())]
    )  # its answer, and with it the etag, is lost

    await case.ledger.release(claim, LATER)

    again = await case.claim()
    assert isinstance(again, Lease)
    assert (2, 0) == (again.attempt, again.failed_attempts)


async def test_runs_that_came_to_nothing_are_counted(case: Case, pass_by: Callable[[float], None]) -> None:
    """A claim that was left behind, and one given up because of Storage, count; a wait does not."""
    await case.mine()
    pass_by(LEASE_S + 1)
    left_behind = await case.claim()
    assert isinstance(left_behind, Lease)
    await case.ledger.release(left_behind, LATER, failed=True)
    unkept = await case.claim()
    assert isinstance(unkept, Lease)
    await case.ledger.release(unkept, LATER)
    waited = await case.claim()
    assert isinstance(waited, Lease)

    assert [1, 2, 2] == [claim.failed_attempts for claim in (left_behind, unkept, waited)]
