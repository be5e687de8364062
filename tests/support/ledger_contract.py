"""
What the ledger, its queries and its updates do, on a table in memory and on Azurite.

`tests/unit/jobs/test_ledger.py` and `tests/integration/jobs/test_ledger.py` have a subclass each, and a `case` fixture.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from shared.clock import now
from shared.contract.job import Job
from shared.contract.result import Usage
from shared.errors import AlreadyRunning, JobConflict, LeaseLost, RetryLater, StorageUnavailable
from shared.jobs import ledger as ledgers
from shared.jobs import queries
from shared.jobs.job_updates import JobUpdates
from shared.jobs.lease import Lease, first_lease, lease_values
from shared.jobs.ledger import LEASE_S, Ledger
from shared.jobs.queries import JobQueries
from shared.jobs.records import FinishedJob, JobRecord
from shared.jobs.step_rows import StepRecord
from shared.jobs.versions import VERSION
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
        left_s = (values.pop("lease_until") - now()).total_seconds()
        expected = first_lease(case.customer, "job-1", SUBMITTED, lease.started_at)
        own = {"owner": lease.owner, "etag": lease.etag, "began": lease.began}
        assert structs.replace(expected, incarnation=lease.incarnation, **own) == lease
        expected_values = lease_values(lease, SUBMITTED, LEASE_S) | {
            "incarnation": lease.incarnation,
            "fingerprint": "fingerprint",
            "action": "",
            "submitted_at": SUBMITTED,
        }
        del expected_values["lease_until"]
        assert expected_values == values
        assert LEASE_S - 10 < left_s <= LEASE_S

    async def test_a_submitted_job_is_claimed_as_it_is(self, case: Case):
        """A job that was submitted over HTTP is queued; its first attempt keeps its submission time and incarnation."""
        job = Job(customer=case.customer, action="embed", job_id="job-1", model="m")
        bare = Job(customer=case.customer, action="embed", job_id="job-2")
        earlier = SUBMITTED - timedelta(hours=1)
        record = await case.ledger.submit(job, fingerprint="fingerprint", submitted_at=earlier)
        again = await case.ledger.submit(job, fingerprint="fingerprint", submitted_at=SUBMITTED)
        incarnation = (await case.values())["incarnation"]

        lease = await case.lease()

        expected = JobRecord(case.customer, "job-1", "queued", 0, earlier, "fingerprint", "embed", "m", version=VERSION)
        assert [expected] * 2 == [record, again]
        assert "" == (await case.ledger.submit(bare, fingerprint="fingerprint", submitted_at=earlier)).model
        first = first_lease(case.customer, "job-1", earlier, lease.started_at)
        own = {"owner": lease.owner, "etag": lease.etag, "began": lease.began}
        assert structs.replace(first, incarnation=incarnation, **own) == lease
        assert 8 == len(incarnation)
        assert incarnation != (await case.values("job-2"))["incarnation"]
        with pytest.raises(JobConflict):
            await case.ledger.submit(job, fingerprint="other", submitted_at=SUBMITTED)

    @pytest.mark.parametrize("calls", [0, 1, 3])
    async def test_a_finished_job_gives_its_result(self, case: Case, advance: Advance, calls: int):
        """
        However often it is claimed, its result is the same bytes. Its row says when it was submitted, started and
        finished, and who finished it.
        """
        result, lease = bytes(range(256)) * 192, await case.lease()
        advance(5)
        await case.complete(lease, result, calls=calls)

        again = [await case.claim() for _ in range(2)]

        values = await case.values()
        assert [FinishedJob(result)] * 2 == again
        assert calls == len(await case.usage())
        assert ("done", "succeeded", 1, lease.owner, SUBMITTED) == tuple(
            values[name] for name in ("state", "status", "attempt", "owner", "submitted_at")
        )
        assert values["finished_at"] - values["started_at"] >= timedelta(seconds=5)

    @pytest.mark.parametrize("done", [False, True], ids=["running", "done"])
    async def test_an_id_of_another_job_is_a_conflict(self, case: Case, done: bool):
        """The same id with another fingerprint is one, if the first job runs or is done; another customer's is not."""
        lease = await case.lease()
        if done:
            await case.complete(lease)

        with pytest.raises(JobConflict, match="job-1 belongs to a job of customer c-"):
            await case.claim(fingerprint="other")
        case.customer = f"{case.customer}-2"
        assert 1 == (await case.lease(fingerprint="other")).attempt

    @pytest.mark.parametrize("fault", [None, Fault.LOST], ids=["", "worker never learned of it"])
    async def test_a_running_job_is_not_claimed(self, case: Case, advance: Advance, fault: Fault | None):
        """Until its lease expires, another claim has to wait: for 15 seconds at most, or for what is left."""
        case.faults.append(fault)
        with pytest.raises(StorageUnavailable) if fault else contextlib.nullcontext():
            await case.claim()

        with pytest.raises(AlreadyRunning, match="Another worker runs job job-1") as early:
            await case.claim()
        advance(LEASE_S - 10)
        with pytest.raises(AlreadyRunning) as late:
            await case.claim()
        advance(10)

        assert 15 == early.value.delay_s
        assert 10 <= late.value.delay_s <= 11
        assert 2 == (await case.lease()).attempt

    async def test_a_job_is_claimed_again(self, case: Case, advance: Advance):
        """
        At once if it was released, and after its lease has expired if its worker died: another attempt of the same job,
        with its first start. A crash is a failed attempt, and so is a release because of Storage; a wait is not.
        """
        usage = Usage(calls=2, input_tokens=7)
        leases = [await case.lease()]
        advance(LEASE_S)
        leases.append(await case.lease())
        releases: list[dict[str, Any]] = [{"failed": True}, {"retries": 3, "unrecoverable_usage": usage}, {}]
        for values in releases:
            await case.ledger.release(leases[-1], LATER, **values)
            leases.append(await case.lease())
        await case.complete(leases[-1])

        died = "The worker that ran it died."
        names = ("attempt", "failed_attempts", "crashed_attempts", "retries", "reason", "unrecoverable_usage")
        assert [
            (1, 0, (), 0, "", Usage()),
            (2, 1, (1,), 0, died, Usage()),
            (3, 2, (1,), 0, "Later.", Usage()),
            (4, 2, (1,), 3, "Later.", usage),
            (5, 2, (1,), 0, "Later.", usage),
        ] == [tuple(getattr(lease, name) for name in names) for lease in leases]
        assert {(SUBMITTED, leases[0].started_at, leases[0].incarnation)} == {
            (lease.submitted_at, lease.started_at, lease.incarnation) for lease in leases
        }
        assert 5 == len({lease.owner for lease in leases})
        assert FinishedJob(RESULT) == await case.claim()

    async def test_of_claims_at_once_one_succeeds(self, case: Case, advance: Advance):
        """Of many workers that claim a job at once, new or left behind, one gets it."""
        for attempt in (1, 2):
            claims = await asyncio.gather(*(case.claim() for _ in range(8)), return_exceptions=True)

            (lease,) = [claim for claim in claims if isinstance(claim, Lease)]
            assert attempt == lease.attempt
            assert 7 == sum(isinstance(claim, AlreadyRunning) for claim in claims)
            advance(LEASE_S)

        await case.complete(lease)

    # Lost leases.

    @pytest.mark.parametrize("calls", [0, 2])
    async def test_a_lost_lease_writes_nothing(self, case: Case, advance: Advance, calls: int):
        """
        A worker whose job was taken over or that has released it writes neither result, step nor usage: while another
        one runs it, after that one has released it, and after the job's end.
        """
        first = await case.lease()
        advance(LEASE_S)
        released = await case.lease()

        async def assert_lost(*leases: Lease) -> None:
            before = await case.values()
            for lease in leases:
                for write in (
                    case.complete(lease, b"late", calls=calls),
                    case.ledger.release(lease, LATER, failed=True),
                    case.ledger.renew(lease),
                    case.ledger.save_steps(lease, [StepRecord("0002", b"2", Usage())]),
                ):
                    with pytest.raises(LeaseLost, match="job-1"):
                        await write
            assert before == await case.values()

        await assert_lost(first)
        await case.ledger.release(released, LATER)
        await assert_lost(first)
        with pytest.raises(LeaseLost):
            await case.complete(released, calls=calls)
        last = await case.ledger.renew(await case.lease())
        last = await case.ledger.save_steps(last, [StepRecord("0001", b"1", Usage())])
        await assert_lost(first, released)
        await case.complete(last, calls=calls)
        await assert_lost(first, released)

        assert FinishedJob(RESULT) == await case.claim()
        assert calls == len(await case.usage())
        assert ["0001"] == [step.key for step in await case.ledger.steps(last)]

    async def test_a_renewed_lease_lasts_longer(self, case: Case, advance: Advance):
        """A renewal counts from its own time. An expired lease still completes if nobody has taken the job over."""
        lease = await case.lease()
        advance(LEASE_S - 1)
        renewed = await case.ledger.renew(lease)
        advance(LEASE_S - 1)

        with pytest.raises(AlreadyRunning):
            await case.claim()
        advance(LEASE_S)
        await case.complete(renewed)

        assert FinishedJob(RESULT) == await case.claim()

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

    @pytest.mark.parametrize("calls", [0, 2])
    async def test_a_write_that_storage_receives_twice_is_made_once(self, case: Case, advance: Advance, calls: int):
        """A claim of a job, new or left behind, is one attempt; so is a release; a job is completed and billed once."""
        case.faults.append(Fault.TWICE)
        leases = [await case.lease()]
        advance(LEASE_S)
        case.faults.extend([None, Fault.TWICE])  # the first write is the insert that finds the row
        leases.append(await case.lease())
        case.faults.append(Fault.TWICE)
        await case.ledger.release(leases[-1], LATER)
        leases.append(await case.lease())
        case.faults.append(Fault.TWICE)
        await case.complete(leases[-1], calls=calls)

        assert [(1, 0), (2, 1), (3, 1)] == [(lease.attempt, lease.failed_attempts) for lease in leases]
        assert FinishedJob(RESULT) == await case.claim()
        assert calls == len(await case.usage())

    @pytest.mark.parametrize(("fault", "state", "written"), [(Fault.REFUSED, "running", 0), (Fault.LOST, "done", 2)])
    async def test_a_completion_without_a_response_can_be_repeated(
        self, case: Case, fault: Fault, state: str, written: int
    ):
        """The job and its usage records are written together or not at all; repeated under its id, they are once."""
        lease = await case.lease()
        case.faults.append(fault)
        usage = [Row(case.customer, f"u_2026-11_job-1_{n:04}", {"calls": 1}) for n in range(2)]
        complete = partial(case.ledger.complete, lease, RESULT, status="succeeded", usage=usage, operation_id="op-1")

        with pytest.raises(StorageUnavailable):
            await complete()
        assert (state, written) == ((await case.values())["state"], len(await case.usage()))
        await complete()

        assert FinishedJob(RESULT) == await case.claim()
        assert 2 == len(await case.usage())

    # Queries and updates.

    async def test_an_unfinished_job_is_found_by_its_content(self, case: Case, advance: Advance):
        """
        Of a customer's jobs with the same fingerprint: one whose worker died, neither done nor waiting. One that waits
        because Storage failed is not given up in place of one whose worker may have just died.
        """
        find = partial(case.queries.find_unfinished, case.customer, "same")
        await case.complete(await case.lease("done", fingerprint="same"))
        await case.ledger.release(await case.lease("waiting", fingerprint="same"), LATER)
        await case.lease("other", fingerprint="other")
        assert await find() is None
        await case.ledger.release(await case.lease("failed", fingerprint="same"), LATER, failed=True)
        assert "failed" == await find()

        await case.lease("dead", fingerprint="same")
        with pytest.raises(AlreadyRunning) as raised:  # it may still run
            await find()
        advance(LEASE_S)

        assert 15 == raised.value.delay_s
        assert "dead" == await find()
        assert await case.queries.find_unfinished(f"{case.customer}-2", "same") is None

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
