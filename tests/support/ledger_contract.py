"""
What the ledger, its queries and its updates do, on a table in memory and on Azurite.

`tests/unit/jobs/test_ledger.py` and `tests/integration/jobs/test_ledger.py` have a subclass each, and a `case` fixture.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.contract.job import Job
from shared.contract.result import Usage
from shared.errors import AlreadyRunning, JobConflict, LeaseLost, RetryLater, StorageUnavailable
from shared.jobs import ledger as ledgers
from shared.jobs import queries
from shared.jobs.job_updates import JobUpdates
from shared.jobs.lease import Lease
from shared.jobs.ledger import LEASE_S, Ledger
from shared.jobs.queries import JobQueries
from shared.jobs.records import FinishedJob, time_row
from shared.jobs.step_rows import StepRecord
from shared.storage.base import Row, Table
from tests.support.fakes import Fault

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
RESULT = b'{"status": "succeeded"}'
LATER = RetryLater("Later.", 1)

Advance = Callable[[float], None]
"""Moves the ledger's clock by so many seconds."""


@dataclass
class Case:
    """A ledger, a customer of the test's own, and the faults that its next writes meet."""

    table: Table
    faults: deque[Fault | None]
    customer: str = field(default_factory=lambda: f"c-{uuid.uuid4().hex}")

    def __post_init__(self) -> None:
        self.ledger, self.queries, self.updates = Ledger(self.table), JobQueries(self.table), JobUpdates(self.table)

    async def claim(self, job_id: str = "job-1", *, fingerprint: str = "fingerprint") -> Lease | FinishedJob:
        """Claim a job."""
        return await self.ledger.claim(self.customer, job_id, fingerprint=fingerprint, submitted_at=SUBMITTED)

    async def lease(self, job_id: str = "job-1", *, fingerprint: str = "fingerprint") -> Lease:
        """Claim a job; fails if it is finished."""
        lease = await self.claim(job_id, fingerprint=fingerprint)
        assert isinstance(lease, Lease)
        return lease

    async def complete(self, lease: Lease, result: bytes = RESULT, *, calls: int = 1) -> None:
        """Complete a job with so many usage records."""
        usage = [Row(self.customer, f"u_2026-11_{lease.job_id}_{n:04}", {"calls": 1}) for n in range(calls)]
        await self.ledger.complete(lease, result, status="succeeded", usage=usage)

    async def values(self, job_id: str = "job-1") -> dict[str, Any]:
        """Return the values of the job's row."""
        row = await self.table.read(self.customer, f"j_{job_id}")
        assert row is not None
        return dict(row.values)

    async def usage(self) -> list[str]:
        """Return the keys of the customer's usage records."""
        return [row.key async for row in self.table.scan(self.customer, "u_", "u`")]


class LedgerContract:
    """The tests of both."""

    @pytest.fixture
    def advance(self, monkeypatch: pytest.MonkeyPatch) -> Advance:
        """Moves the ledger's clock."""

        def advance(seconds: float) -> None:
            time = ledgers.now() + timedelta(seconds=seconds)
            for module in (ledgers, queries):
                monkeypatch.setattr(module, "now", lambda: time)

        return advance

    # Claims.

    async def test_a_new_job_is_claimed(self, case: Case):
        """The first lease is attempt 1; the job's row says what it is, who runs it, and until when."""
        lease = await case.lease()

        values = await case.values()
        left_s = (values.pop("lease_until") - datetime.now(UTC)).total_seconds()
        assert (case.customer, "job-1", 1, SUBMITTED) == (
            lease.customer,
            lease.job_id,
            lease.attempt,
            lease.submitted_at,
        )
        assert {
            "state": "running",
            "attempt": 1,
            "failed_attempts": 0,
            "crashed_attempts": "",
            "reason": "",
            "reason_code": "",
            "cancelled": False,
            "owner": lease.owner,
            "incarnation": lease.incarnation,
            "fingerprint": "fingerprint",
            "action": "",
            "submitted_at": SUBMITTED,
            "started_at": lease.started_at,
        } == values
        assert LEASE_S - 10 < left_s <= LEASE_S

    async def test_a_submitted_job_is_claimed_as_it_is(self, case: Case):
        """A job that was submitted over HTTP is queued; its first attempt keeps its submission time and incarnation."""
        job = Job(customer=case.customer, action="embed", job_id="job-1", model="m")
        earlier = SUBMITTED - timedelta(hours=1)
        record = await case.ledger.submit(job, fingerprint="fingerprint", submitted_at=earlier)
        again = await case.ledger.submit(job, fingerprint="fingerprint", submitted_at=SUBMITTED)

        lease = await case.lease()

        assert ("queued", 0, earlier, "embed", "m") == (
            record.state,
            record.attempt,
            record.submitted_at,
            record.action,
            record.model,
        )
        assert record == again
        bare = Job(customer=case.customer, action="embed", job_id="job-2")
        assert "" == (await case.ledger.submit(bare, fingerprint="fingerprint", submitted_at=earlier)).model
        assert (1, 0, earlier) == (lease.attempt, lease.failed_attempts, lease.submitted_at)
        with pytest.raises(JobConflict):
            await case.ledger.submit(job, fingerprint="other", submitted_at=SUBMITTED)

    @pytest.mark.parametrize("calls", [0, 1, 3])
    async def test_a_finished_job_gives_its_result(self, case: Case, calls: int):
        """However often it is claimed, its result is the same bytes."""
        result = bytes(range(256)) * 192
        await case.complete(await case.lease(), result, calls=calls)

        again = [await case.claim() for _ in range(2)]

        assert [FinishedJob(result)] * 2 == again
        assert calls == len(await case.usage())

    async def test_a_finished_job_keeps_its_history(self, case: Case, advance: Advance):
        """Its row says when it was submitted, started and finished, and who finished it."""
        lease = await case.lease()
        advance(5)
        await case.complete(lease)

        values = await case.values()

        assert ("done", "succeeded", 1, lease.owner) == tuple(
            values[name] for name in ("state", "status", "attempt", "owner")
        )
        assert SUBMITTED == values["submitted_at"]
        assert values["finished_at"] - values["started_at"] >= timedelta(seconds=5)

    @pytest.mark.parametrize("done", [False, True], ids=["running", "done"])
    async def test_an_id_of_another_job_is_a_conflict(self, case: Case, done: bool):
        """The same id with another fingerprint is a conflict, whether the first job runs or is done."""
        lease = await case.lease()
        if done:
            await case.complete(lease)

        with pytest.raises(JobConflict, match="job-1 belongs to a job of customer c-"):
            await case.claim(fingerprint="other")

    async def test_ids_are_the_customers_own(self, case: Case):
        """Two customers may use the same id."""
        await case.complete(await case.lease())
        case.customer = f"{case.customer}-2"

        assert 1 == (await case.lease(fingerprint="other")).attempt

    async def test_a_running_job_is_not_claimed(self, case: Case, advance: Advance):
        """Until its lease expires, another claim is told to wait: for 15 seconds at most, or for what is left."""
        await case.lease()

        with pytest.raises(AlreadyRunning, match="Another worker runs job job-1") as early:
            await case.claim()
        advance(LEASE_S - 10)
        with pytest.raises(AlreadyRunning) as late:
            await case.claim()

        assert 15 == early.value.delay_s
        assert 10 <= late.value.delay_s <= 11

    async def test_a_job_whose_worker_died_is_claimed_again(self, case: Case, advance: Advance):
        """After its lease has expired the next one is another attempt of the same job, with its first start."""
        leases = []
        for _ in range(3):
            leases.append(await case.lease())
            advance(LEASE_S)

        assert [1, 2, 3] == [lease.attempt for lease in leases]
        assert [0, 1, 2] == [lease.failed_attempts for lease in leases]
        assert [(), (1,), (1, 2)] == [lease.crashed_attempts for lease in leases]
        assert {(SUBMITTED, leases[0].started_at)} == {(lease.submitted_at, lease.started_at) for lease in leases}
        assert 3 == len({lease.owner for lease in leases})
        assert 1 == len({lease.incarnation for lease in leases})

    async def test_a_released_job_is_claimed_at_once(self, case: Case):
        """Its attempt stays counted; a wait is no failed attempt."""
        await case.ledger.release(await case.lease(), LATER, retries=3)

        lease = await case.lease()
        await case.complete(lease)

        assert (2, 0, 3, "Later.") == (lease.attempt, lease.failed_attempts, lease.retries, lease.reason)
        await case.ledger.release(await case.lease("job-2"), LATER)
        assert 0 == (await case.lease("job-2")).retries
        assert FinishedJob(RESULT) == await case.claim()

    async def test_failed_attempts_are_counted(self, case: Case, advance: Advance):
        """A crash counts, and a release because of Storage; a wait does not."""
        await case.lease()
        advance(LEASE_S + 1)
        crashed = await case.lease()
        await case.ledger.release(crashed, LATER, failed=True)
        failed = await case.lease()
        await case.ledger.release(failed, LATER)
        waited = await case.lease()

        assert [1, 2, 2] == [lease.failed_attempts for lease in (crashed, failed, waited)]

    async def test_of_claims_at_once_one_succeeds(self, case: Case, advance: Advance):
        """Of many workers that claim a job at once, new or left behind, one gets it."""
        for attempt in (1, 2):
            claims = await asyncio.gather(*(case.claim() for _ in range(8)), return_exceptions=True)

            (lease,) = [claim for claim in claims if isinstance(claim, Lease)]
            assert attempt == lease.attempt
            assert 7 == sum(isinstance(claim, AlreadyRunning) for claim in claims)
            advance(LEASE_S)

        await case.complete(lease)

    async def test_every_job_has_an_incarnation(self, case: Case, advance: Advance):
        """All leases of a job have the one that its row got first; another job has another one."""
        job = Job(customer=case.customer, action="chat", job_id="job-1")
        await case.ledger.submit(job, fingerprint="fingerprint", submitted_at=SUBMITTED)
        first = await case.lease()
        advance(LEASE_S)

        second, other = await case.lease(), await case.lease("job-2")

        assert first.incarnation == second.incarnation != other.incarnation
        assert [8, 8] == [len(lease.incarnation) for lease in (first, other)]

    async def test_a_row_without_an_incarnation_is_claimed(self, case: Case, advance: Advance):
        """A row with few columns is claimed, renewed and finished as any other."""
        time = ledgers.now()
        values = {
            "state": "running",
            "attempt": 1,
            "owner": "older",
            "fingerprint": "fingerprint",
            "submitted_at": SUBMITTED,
            "started_at": time,
            "lease_until": time,
        }
        row = Row(case.customer, "j_job-1", values)
        await case.table.insert(row, beside=[time_row(case.customer, "job-1", SUBMITTED)])
        advance(1)

        lease = await case.lease()
        await case.complete(lease)

        assert ("", 2) == (lease.incarnation, lease.attempt)
        assert FinishedJob(RESULT) == await case.claim()

    # Lost leases.

    async def test_a_released_lease_writes_nothing(self, case: Case):
        """A worker that has released a job can't complete it."""
        lease = await case.lease()
        await case.ledger.release(lease, LATER)

        with pytest.raises(LeaseLost):
            await case.complete(lease)

        assert [] == await case.usage()

    @pytest.mark.parametrize("calls", [0, 2])
    async def test_a_lost_lease_writes_nothing(self, case: Case, advance: Advance, calls: int):
        """A worker whose job was taken over writes neither result, step nor usage, before and after the job's end."""
        first = await case.lease()
        advance(LEASE_S)
        second = await case.lease()

        with pytest.raises(LeaseLost, match="job-1"):
            await case.complete(first, b"late", calls=calls)
        with pytest.raises(LeaseLost):
            await case.ledger.release(first, LATER)
        second = await case.ledger.renew(second)
        with pytest.raises(LeaseLost):
            await case.ledger.renew(first)
        second = await case.ledger.save_steps(second, [StepRecord("0001", b"1", Usage())])
        with pytest.raises(LeaseLost):
            await case.ledger.save_steps(first, [StepRecord("0002", b"2", Usage())])
        await case.complete(second, calls=calls)
        with pytest.raises(LeaseLost):
            await case.complete(first, b"later", calls=calls)

        assert FinishedJob(RESULT) == await case.claim()
        assert calls == len(await case.usage())

    async def test_a_lost_lease_does_not_release_a_released_job(self, case: Case, advance: Advance):
        """The other worker's release is not taken for the lost lease's own."""
        first = await case.lease()
        advance(LEASE_S)
        await case.ledger.release(await case.lease(), LATER)

        with pytest.raises(LeaseLost):
            await case.ledger.release(first, LATER, failed=True)

        assert 1 == (await case.values())["failed_attempts"]

    async def test_an_expired_lease_still_completes(self, case: Case, advance: Advance):
        """A job that took longer than its lease is finished, if nobody has taken it over meanwhile."""
        lease = await case.lease()
        advance(2 * LEASE_S)

        await case.complete(lease)

        assert FinishedJob(RESULT) == await case.claim()

    async def test_a_renewed_lease_lasts_longer(self, case: Case, advance: Advance):
        """A renewal counts from its own time."""
        lease = await case.lease()
        advance(LEASE_S - 1)
        renewed = await case.ledger.renew(lease)
        advance(LEASE_S - 1)

        with pytest.raises(AlreadyRunning):
            await case.claim()
        await case.complete(renewed)

    async def test_an_outdated_etag_is_no_lost_lease(self, case: Case):
        """A lease whose etag is behind, because its own last change was made unseen, still renews, saves, releases."""
        lease = await case.lease()
        await case.ledger.save_steps(lease, [StepRecord("0001", b"1", Usage())])  # its response, with the etag, is lost

        renewed = await case.ledger.renew(lease)
        await case.ledger.save_steps(lease, [StepRecord("0002", b"2", Usage())])
        await case.ledger.release(lease, LATER)

        assert renewed.etag != lease.etag
        again = await case.lease()
        assert (2, 0) == (again.attempt, again.failed_attempts)
        assert ["0001", "0002"] == [step.key for step in await case.ledger.steps(again)]

    # Usage records.

    async def test_a_job_and_its_usage_are_written_together(self, case: Case):
        """If the usage records can't be written, the job is not finished either, and can be finished later."""
        lease = await case.lease()
        case.faults.append(Fault.REFUSED)

        with pytest.raises(StorageUnavailable):
            await case.complete(lease, calls=2)
        assert ("running", []) == ((await case.values())["state"], await case.usage())
        await case.complete(lease, calls=2)

        assert FinishedJob(RESULT) == await case.claim()
        assert 2 == len(await case.usage())

    async def test_a_usage_record_that_exists_keeps_no_job_from_its_end(
        self, case: Case, caplog: pytest.LogCaptureFixture
    ):
        """
        Another record under the key of one of the job's own is a fault of ours, and is logged. It stays as it is, the
        job ends, and its own record has another key.
        """
        lease = await case.lease()
        await case.table.insert(Row(case.customer, "u_2026-11_job-1_0001", {"calls": 9}))

        await case.complete(lease, calls=2)

        assert FinishedJob(RESULT) == await case.claim()
        keys = [f"u_2026-11_job-1_{number}" for number in ("0000", "0001", f"0001_{lease.owner[:8]}")]
        assert keys == await case.usage()
        other = await case.table.read(case.customer, keys[1])
        assert other is not None
        assert 9 == other.values["calls"]
        assert f"usage_record_exists customer={case.customer} job_id=job-1 key={keys[1]}" in caplog.text

    async def test_usage_is_appended_once(self, case: Case):
        """An attempt that has lost its lease appends its records as often as it likes; the first ones stay."""
        rows = [Row(case.customer, f"u_2026-11_job-1_~1.{number}", {"calls": number}) for number in (1, 2)]

        await case.ledger.append_usage(rows[:1])
        await case.ledger.append_usage([Row(case.customer, rows[0].key, {"calls": 9}), rows[1]])

        assert [row.key for row in rows] == await case.usage()
        assert await case.ledger.is_written(rows[0])
        assert not await case.ledger.is_written(Row(case.customer, rows[0].key, {"calls": 9}))
        assert not await case.ledger.is_written(Row(case.customer, "u_2026-11_job-1_~1.3", {"calls": 1}))

    # Responses of Storage that get lost.

    async def test_a_repeated_claim_is_made_once(self, case: Case, advance: Advance):
        """A claim that Storage receives twice, of a new job or of one left behind, is one attempt, and completes."""
        case.faults.append(Fault.TWICE)
        first = await case.lease()
        advance(LEASE_S)
        case.faults.extend([None, Fault.TWICE])  # the first write is the insert that finds the row

        second = await case.lease()
        await case.complete(second)

        assert [1, 2] == [first.attempt, second.attempt]
        assert FinishedJob(RESULT) == await case.claim()

    @pytest.mark.parametrize("calls", [0, 2])
    async def test_a_repeated_completion_is_made_once(self, case: Case, calls: int):
        """The job is done and its usage recorded once."""
        lease = await case.lease()
        case.faults.append(Fault.TWICE)

        await case.complete(lease, calls=calls)

        assert FinishedJob(RESULT) == await case.claim()
        assert calls == len(await case.usage())

    async def test_a_repeated_release_is_made_once(self, case: Case):
        """The next attempt is the second one."""
        lease = await case.lease()
        case.faults.append(Fault.TWICE)

        await case.ledger.release(lease, LATER)

        assert 2 == (await case.lease()).attempt

    async def test_a_completion_without_a_response_may_have_been_made(self, case: Case):
        """The worker gets StorageUnavailable; repeated under its operation id it succeeds, and the job is done once."""
        lease = await case.lease()
        case.faults.append(Fault.LOST)
        usage = [Row(case.customer, "u_2026-11_job-1_0000", {"calls": 1})]

        async def complete() -> None:
            await case.ledger.complete(lease, RESULT, status="succeeded", usage=usage, operation_id="op-1")

        with pytest.raises(StorageUnavailable):
            await complete()
        assert FinishedJob(RESULT) == await case.claim()
        await complete()

        assert FinishedJob(RESULT) == await case.claim()
        assert 1 == len(await case.usage())

    async def test_a_claim_without_a_response_lasts_for_one_lease(self, case: Case, advance: Advance):
        """A claim whose worker never learned of it delays the job by a lease, no longer."""
        case.faults.append(Fault.LOST)
        with pytest.raises(StorageUnavailable):
            await case.claim()
        with pytest.raises(AlreadyRunning):
            await case.claim()

        advance(LEASE_S)

        assert 2 == (await case.lease()).attempt

    # Queries and updates.

    async def test_a_job_whose_worker_died_is_found_by_its_content(self, case: Case, advance: Advance):
        """Of a customer's jobs with the same fingerprint, the one whose worker died is found: not done, not waiting."""
        await case.complete(await case.lease("done", fingerprint="same"))
        await case.ledger.release(await case.lease("waiting", fingerprint="same"), LATER)
        await case.lease("other", fingerprint="other")
        assert await case.queries.find_unfinished(case.customer, "same") is None

        await case.lease("dead", fingerprint="same")
        with pytest.raises(AlreadyRunning):  # it may still run
            await case.queries.find_unfinished(case.customer, "same")
        advance(LEASE_S)

        assert "dead" == await case.queries.find_unfinished(case.customer, "same")
        assert await case.queries.find_unfinished(f"{case.customer}-2", "same") is None

    async def test_a_job_that_storage_failed_is_found_only_if_none_died(self, case: Case, advance: Advance):
        """A job that waits because Storage failed is not given up in place of one whose worker may have just died."""
        await case.ledger.release(await case.lease("waiting", fingerprint="same"), LATER, failed=True)
        assert "waiting" == await case.queries.find_unfinished(case.customer, "same")
        await case.lease("dead", fingerprint="same")

        with pytest.raises(AlreadyRunning) as raised:
            await case.queries.find_unfinished(case.customer, "same")
        advance(LEASE_S)

        assert 15 == raised.value.delay_s
        assert "dead" == await case.queries.find_unfinished(case.customer, "same")

    async def test_failed_attempts_are_corrected_while_nobody_runs_the_job(self, case: Case):
        """They can be counted up, or reset; those of a running job are its worker's."""
        await case.ledger.release(await case.lease(), LATER)
        for _ in range(2):
            await case.updates.add_failed_attempt(case.customer, "job-1")
        twice = (await case.values())["failed_attempts"]
        await case.updates.reset_failed_attempts(case.customer, "job-1")
        reset = (await case.values())["failed_attempts"]
        await case.lease()
        await case.updates.add_failed_attempt(case.customer, "job-1")
        await case.updates.add_failed_attempt(case.customer, "unknown")
        await case.updates.reset_failed_attempts(case.customer, "unknown")

        assert (2, 0, 0) == (twice, reset, (await case.values())["failed_attempts"])
