"""Jobs over HTTP: submitted, asked for, listed, called off."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from dataclasses import dataclass

import msgspec

from shared.actions.base import action_named
from shared.contract.documents import ENDED, STATES, JobPage
from shared.contract.job import Job, decode_job, named_blob
from shared.contract.names import BlobName, is_job_id, is_name
from shared.contract.result import Result
from shared.contract.summarize import Summarize
from shared.errors import InvalidJob, RetryLater
from shared.http.auth import Caller
from shared.http.messages import Request, Response, json_response, tagged
from shared.http.problems import Problem, not_found
from shared.http.request_parsing import check_body, read_number, read_wait
from shared.jobs.inputs import INPUT_LIMIT, Inputs
from shared.jobs.ledger import Ledger
from shared.jobs.outputs import Outputs
from shared.jobs.queries import Records, is_place
from shared.jobs.records import JobRecord
from shared.jobs.status import document_of, job_path
from shared.jobs.submission import Submissions

MOST = 100
"""Jobs on a page."""
_RETRY_AFTER_S = 2
_LOOKS_S = (0.1, 0.2, 0.3, 0.5, 1.0)
"""Seconds between looks at a job that is waited for; the last for all further ones."""


@dataclass(frozen=True, slots=True)
class JobsDoor:
    """The routes of jobs. Each method answers one route, and raises what `problems` knows."""

    ledger: Ledger
    records: Records
    inputs: Inputs
    outputs: Outputs
    submissions: Submissions

    async def submit(self, request: Request, caller: Caller) -> Response:
        """`POST /jobs`: 202 with the status document, or 200 with the result where it is waited for and ready."""
        check_body(request, code="invalid_job")
        job = decode_job(request.body, default_id=uuid.uuid4().hex)
        caller.check_writes(job.customer)
        return await self.accept(request, job)

    async def accept(self, request: Request, job: Job) -> Response:
        """A decoded job, from wherever it came: checked at the door, put on record and into the queue."""
        wait_s = read_wait(request)
        try:
            await self._check(job)
        except (InvalidJob, RetryLater):
            # The blob that it names may be gone by now: a job that is known is the job that exists.
            known = None if named_blob(job) is None else await self.submissions.known(job)
            if known is None:
                raise
            record = known
        else:
            record = await self.submissions.submit(job)
        if wait_s is not None:
            # The job is accepted by now: after an error, whoever let us choose its id would hand it in once more.
            with contextlib.suppress(RetryLater):
                record = await self._wait(record, wait_s)
                if record.told is not None:
                    return await self._result(record, record.told, {"Preference-Applied": f"wait={wait_s:g}"})
        headers = {"Location": job_path(record), "Retry-After": str(_RETRY_AFTER_S)}
        return json_response(document_of(record), status=202, headers=headers)

    async def read(self, request: Request, caller: Caller) -> Response:
        """`GET /jobs/{customer}/{job_id}`."""
        record = await self._find(request, caller)
        document = document_of(record)
        headers = {} if document.status in ENDED else {"Retry-After": str(_RETRY_AFTER_S)}
        return tagged(request, json_response(document, headers=headers))

    async def read_result(self, request: Request, caller: Caller) -> Response:
        """`GET /jobs/{customer}/{job_id}/result`: whole, also where the queue had to leave the output out."""
        record = await self._find(request, caller)
        if record.told is None:
            raise Problem(404, "not_found", "The job has no result yet.", {"Retry-After": str(_RETRY_AFTER_S)})
        return tagged(request, await self._result(record, record.told, {}))

    async def cancel(self, request: Request, caller: Caller) -> Response:
        """`DELETE /jobs/{customer}/{job_id}`: the status document; 409 where it has started, or is done."""
        record = await self._find(request, caller)
        state = await self.ledger.cancel(record.customer, record.job_id)
        if state is None:
            raise not_found("job")
        document = document_of(await self._find(request, caller))
        if state != "cancelled" and document.status != "cancelled":
            was = "runs already" if state == "running" else "is done already"
            raise Problem(409, "conflict", f"The job {was}: only one that has not started can be cancelled.")
        return json_response(document)

    async def list(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/jobs`: a page, newest first."""
        customer = request.params["customer"]
        caller.check_reads(customer, "customer")
        if not is_name(customer):
            raise not_found("customer")
        limit = read_number(request, "limit", 50, MOST)
        status = request.query.get("status")
        if status is not None and status not in STATES:
            raise Problem(400, "invalid_request", f"`status` must be one of {', '.join(STATES)}.")
        after = request.query.get("continuation", "")
        if after and not is_place(after):
            raise Problem(400, "invalid_request", "`continuation` must be what the page before gave.")
        records, continuation = await self.records.newest(
            customer, after=after, most=limit, wanted=lambda one: _wanted(one, status)
        )
        return json_response(JobPage(jobs=[document_of(one) for one in records], continuation=continuation or None))

    async def _check(self, job: Job) -> None:
        """All that the queue would refuse, and is refused here: the same decoders, in the same words."""
        if job.put_back is not None:
            raise InvalidJob("`_put_back` is not a known member.")
        if isinstance(job.input, msgspec.Raw) and len(bytes(job.input)) > INPUT_LIMIT:
            raise Problem(413, "too_large", f"`input` is larger than {INPUT_LIMIT} bytes.")
        self.outputs.check(job.output)
        asked = action_named(job.action).decode(await self.inputs.of(job))
        if isinstance(asked, Summarize) and isinstance(asked.source, BlobName):
            # Whether it is there is found out when the job runs: nothing of it is needed here.
            self.inputs.check(job.customer, asked.source, at="input.blob")

    async def _find(self, request: Request, caller: Caller) -> JobRecord:
        customer, job_id = request.params["customer"], request.params["job_id"]
        caller.check_reads(customer, "job")
        if not is_name(customer) or not is_job_id(job_id):
            raise not_found("job")
        record = await self.records.look(customer, job_id)
        if record is None:
            raise not_found("job")
        return record

    async def _wait(self, record: JobRecord, wait_s: float) -> JobRecord:
        until = time.monotonic() + wait_s
        looks = 0
        while record.told is None and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(_LOOKS_S[min(looks, len(_LOOKS_S) - 1)], left))
            looks += 1
            record = await self.records.look(record.customer, record.job_id) or record
        return record

    async def _result(self, record: JobRecord, told: bytes, headers: dict[str, str]) -> Response:
        result = msgspec.json.decode(told, type=Result)
        if result.output is None and result.output_blob is not None:
            told = await self.outputs.read_result(result, told)
        return Response(200, told, headers={**headers, "Content-Location": f"{job_path(record)}/result"})


def _wanted(record: JobRecord, status: str | None) -> bool:
    return status is None or document_of(record).status == status
