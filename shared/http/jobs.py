"""Jobs over HTTP: submit, follow, list and cancel them."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from dataclasses import dataclass, field

import msgspec

from shared.actions.base import action_named
from shared.contract.documents import ENDED, STATES, JobDocument, JobPage
from shared.contract.job import Job, decode_job, named_blob
from shared.contract.names import blobs_of, is_job_id, is_name
from shared.contract.result import Result
from shared.errors import InvalidJob, RetryLater
from shared.http.auth import Caller
from shared.http.conditional import with_etag
from shared.http.messages import Request, Response, json_response
from shared.http.problems import Problem, invalid_request, not_found
from shared.http.request_parsing import check_body, customer_to_read, read_page, read_wait
from shared.http.shares import MAX_WAITS
from shared.jobs.cancellation import cancel_job
from shared.jobs.drain import Drain
from shared.jobs.inputs import MAX_INPUT_BYTES, Inputs
from shared.jobs.job_updates import JobUpdates
from shared.jobs.outputs import Outputs
from shared.jobs.queries import JobQueries, is_continuation
from shared.jobs.records import JobRecord
from shared.jobs.schedule import Schedule
from shared.jobs.status import document_of, job_path
from shared.jobs.submission import Submissions
from shared.shares import Shares

RETRY_AFTER_S = 2
"""Seconds to wait before looking again at a job that has not ended."""
_POLL_INTERVALS_S = (0.1, 0.2, 0.3, 0.5, 1.0)
"""Seconds between two reads of a job whose result is waited for; the last one for all further reads."""


@dataclass(frozen=True, slots=True)
class JobsResource:
    """The routes of jobs. Each method handles one route; `problems` maps what it raises."""

    updates: JobUpdates
    queries: JobQueries
    inputs: Inputs
    outputs: Outputs
    submissions: Submissions
    schedule: Schedule
    drain: Drain
    waits: Shares = field(default_factory=lambda: Shares(MAX_WAITS))
    """Beyond its customer's share, a request is not kept waiting: `Prefer` is no demand."""

    async def submit(self, request: Request, caller: Caller) -> Response:
        """`POST /jobs`: 202 with the status document, or 200 with the result if it is waited for and ready."""
        check_body(request, code="invalid_job")
        job = decode_job(request.body, default_id=uuid.uuid4().hex)
        caller.check_writes(job.customer)
        return await self.accept(request, job, reads_results=caller.has_role("Jobs.Read"))

    async def accept(self, request: Request, job: Job, *, reads_results: bool) -> Response:
        """
        Check, record and queue a decoded job, wherever it came from. The response is that of `submit`.

        A sender that reads no results does not get this one either: `Prefer: wait` is ignored.
        """
        return await self.accept_waiting(job, read_wait(request), reads_results=reads_results)

    async def accept_waiting(self, job: Job, wait_s: float | None, *, reads_results: bool) -> Response:
        """As `accept`, with the seconds to wait for the result."""
        try:
            await self._check(job)
        except (InvalidJob, RetryLater):
            # The blob that the job names may be deleted by now: a job on record is accepted as it was before.
            existing = None if named_blob(job) is None else await self.submissions.find(job)
            if existing is None:
                raise
            record = existing
        else:
            record = await self.submissions.submit(job)
        # The job is accepted by now. An error would make a caller without a job id of its own submit it again.
        with contextlib.suppress(RetryLater):
            return await self._progress(record, wait_s if reads_results else None, reads_results=reads_results)
        return _accepted(record, reads_results=reads_results)

    async def follow(self, request: Request, caller: Caller, wait_s: float) -> Response:
        """200 with the result of a job on record if it is ready within `wait_s`, else 202 with the status document."""
        return await self._progress(await self._find(request, caller), wait_s, reads_results=True)

    async def read(self, request: Request, caller: Caller) -> Response:
        """`GET /jobs/{customer}/{job_id}`."""
        document = document_of(await self._find(request, caller))
        headers = {} if document.status in ENDED else {"Retry-After": str(RETRY_AFTER_S)}
        return with_etag(request, json_response(document, headers=headers))

    async def read_result(self, request: Request, caller: Caller) -> Response:
        """`GET /jobs/{customer}/{job_id}/result`: complete, even if a queue message had no room for the output."""
        record = await self._find(request, caller)
        if record.result_body is None:
            raise Problem(404, "not_found", "The job has no result yet.", {"Retry-After": str(RETRY_AFTER_S)})
        response = await self._result(record, record.result_body, {})
        return await asyncio.to_thread(with_etag, request, response)  # a result can be long, and so takes its hash

    async def cancel(self, request: Request, caller: Caller) -> Response:
        """`DELETE /jobs/{customer}/{job_id}`: the status document; 409 if the job is running or has ended."""
        record = await self._find(request, caller)
        if record.marker:
            raise Problem(409, "conflict", "The job closes a month: it can't be cancelled.")
        state = await cancel_job(self.updates, self.schedule, record.customer, record.job_id)
        if state is None:
            raise not_found("job")
        document = _document(await self._find(request, caller), caller.has_role("Jobs.Read"))
        if state != "cancelled" and document.status != "cancelled":
            reason = "is running" if state == "running" else "has ended"
            raise Problem(409, "conflict", f"The job {reason}: only a job that has not started can be cancelled.")
        return json_response(document)

    async def list(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/jobs`: a page, newest first."""
        customer = customer_to_read(request, caller)
        after, limit = read_page(request, is_continuation)
        status = request.query.get("status")
        if status is not None and status not in STATES:
            raise invalid_request(f"`status` must be one of {', '.join(STATES)}.")
        records, continuation = await self.queries.newest(
            customer, after=after, limit=limit, wanted=lambda record: _has_status(record, status)
        )
        jobs = [document_of(record) for record in records]
        return json_response(JobPage(jobs=jobs, continuation=continuation or None))

    async def _check(self, job: Job) -> None:
        """Raises for every job that the queue would refuse: the same decoders, the same messages."""
        if isinstance(job.input, msgspec.Raw) and len(bytes(job.input)) > MAX_INPUT_BYTES:
            raise Problem(413, "too_large", f"`input` is larger than {MAX_INPUT_BYTES} bytes.")
        self.outputs.check(job)
        job_input, _ = await self.inputs.load(job, action_named(job.action).decode)
        for named in blobs_of(job_input):
            # Whether the blob exists shows when the job runs: nothing of it is needed here.
            self.inputs.check(job.customer, named.blob, at=named.at)

    async def _find(self, request: Request, caller: Caller) -> JobRecord:
        customer, job_id = request.params["customer"], request.params["job_id"]
        caller.check_reads(customer, "job")
        if not is_name(customer) or not is_job_id(job_id):
            raise not_found("job")
        record = await self.queries.get(customer, job_id)
        if record is None:
            raise not_found("job")
        return record

    async def _progress(self, record: JobRecord, wait_s: float | None, *, reads_results: bool) -> Response:
        if wait_s is not None:
            with self.waits.tried(record.customer) as is_waited_for:
                if is_waited_for:
                    record = await self._wait(record, wait_s)
                if record.result_body is not None:
                    return await self._result(record, record.result_body, {"Preference-Applied": f"wait={wait_s:g}"})
        return _accepted(record, reads_results=reads_results)

    async def _wait(self, record: JobRecord, wait_s: float) -> JobRecord:
        deadline = time.monotonic() + wait_s
        reads = 0
        while record.result_body is None and (remaining := deadline - time.monotonic()) > 0:
            if self.drain.is_stopping:
                break  # nobody would be there to answer
            interval = _POLL_INTERVALS_S[min(reads, len(_POLL_INTERVALS_S) - 1)]
            await asyncio.sleep(min(interval, remaining))
            reads += 1
            record = await self.queries.get(record.customer, record.job_id) or record
        return record

    async def _result(self, record: JobRecord, body: bytes, headers: dict[str, str]) -> Response:
        result = msgspec.json.decode(body, type=Result)
        if result.output is None and result.output_blob is not None:
            body = await self.outputs.read_result(result, body)
        return Response(200, body, headers={**headers, "Content-Location": f"{job_path(record)}/result"})


def _document(record: JobRecord, reads_results: bool) -> JobDocument:
    """The status document, without the error, a part of the result, for a sender that reads no results."""
    document = document_of(record)
    return document if reads_results else msgspec.structs.replace(document, error=None)


def _accepted(record: JobRecord, *, reads_results: bool) -> Response:
    headers = {"Location": job_path(record), "Retry-After": str(RETRY_AFTER_S)}
    return json_response(_document(record, reads_results), status=202, headers=headers)


def _has_status(record: JobRecord, status: str | None) -> bool:
    return status is None or document_of(record).status == status
