"""Jobs over HTTP: submitted, asked for, listed, called off."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from shared.actions import action_named
from shared.clock import now, rfc3339
from shared.contract.decoding import is_job_id, is_name
from shared.contract.documents import ENDED, STATES, CallbackState, JobDocument, JobPage, JobState
from shared.contract.job import BlobName, Job, decode_job, named_blob
from shared.contract.result import ErrorBody, Result
from shared.contract.summarize import Summarize
from shared.errors import InvalidJob, NotNow
from shared.http.callers import Caller
from shared.http.messages import Request, Response, json_response, tagged
from shared.http.problems import Problem, not_found
from shared.http.reading import check_body, read_number, read_wait
from shared.inputs import INPUT_LIMIT, Inputs
from shared.ledger import Ledger
from shared.outputs import Outputs
from shared.records import Records, is_place
from shared.routes import PREFIX
from shared.rows import JobRecord
from shared.submissions import Submissions

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
        except (InvalidJob, NotNow):
            # The blob that it names may be gone by now: a job that is known is the job that exists.
            known = None if named_blob(job) is None else await self.submissions.known(job)
            if known is None:
                raise
            record = known
        else:
            record = await self.submissions.submit(job)
        if wait_s is not None:
            # The job is accepted by now: after an error, whoever let us choose its id would hand it in once more.
            with contextlib.suppress(NotNow):
                record = await self._wait(record, wait_s)
                if record.told is not None:
                    return await self._result(record, record.told, {"Preference-Applied": f"wait={wait_s:g}"})
        headers = {"Location": _path(record), "Retry-After": str(_RETRY_AFTER_S)}
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
        return Response(200, told, headers={**headers, "Content-Location": f"{_path(record)}/result"})


def document_of(record: JobRecord) -> JobDocument:
    """The status document of a job."""
    done = None if record.told is None else msgspec.json.decode(record.told, type=Result)
    error = None if done is None else done.error
    if done is None and record.reason:
        error = ErrorBody(code=record.reason_code or "internal", message=record.reason)
    links = {"self": _path(record)}
    if done is not None:
        links["result"] = f"{_path(record)}/result"
    return JobDocument(
        job_id=record.job_id,
        customer=record.customer,
        status=_state(record, done),
        attempts=record.attempt,
        submitted_at=rfc3339(record.submitted_at),
        action=record.action or None,
        model=(done.model if done is not None else None) or record.model or None,
        started_at=None if record.started_at is None else rfc3339(record.started_at),
        finished_at=None if record.finished_at is None else rfc3339(record.finished_at),
        error=error,
        callback=_callback(record),
        links=links,
    )


def _wanted(record: JobRecord, status: str | None) -> bool:
    return status is None or document_of(record).status == status


def _state(record: JobRecord, done: Result | None) -> JobState:
    off = record.state == "cancelled" or (record.cancelled and done is None)
    if off or (done is not None and done.error is not None and done.error.code == "cancelled"):
        return "cancelled"
    if done is not None:
        return done.status
    # A lease that ended is one whose worker has died: the job waits to be taken over.
    died = record.state == "running" and record.lease_until is not None and record.lease_until < now()
    return "waiting" if died or record.state == "done" else record.state


def _callback(record: JobRecord) -> CallbackState | None:
    if not record.callback_status:
        return None
    return CallbackState(
        status=record.callback_status,
        attempts=record.callback_attempts,
        last_status=record.callback_last_status or None,
        error=record.callback_error or None,
    )


def _path(record: JobRecord) -> str:
    return f"{PREFIX}/jobs/{quote(record.customer)}/{quote(record.job_id)}"
