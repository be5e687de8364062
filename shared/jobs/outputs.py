"""Results and blobs of jobs: a result is in the message if it fits, in a blob if that is requested or needed."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from shared.contract.job import Job, Output, named_blob
from shared.contract.result import MESSAGE_LIMIT, OutputBlob, Result, encode_result
from shared.errors import ConnectionInvalid, InvalidJob, StorageUnavailable
from shared.jobs.envelope import QueuedJob, encode_queued_job
from shared.jobs.fingerprint import move_input, without_white_space
from shared.settings import Settings
from shared.storage.base import Blobs
from shared.upstream.egress_policy import check_public
from shared.upstream.messages import LARGE_BYTES

if TYPE_CHECKING:
    from shared.jobs.attempt import Attempt

_JSON = "application/json"
_MAX_OWN_BLOB = 256 * 1024 * 1024
CHECKED_S = 300.0
"""Seconds for which blobs are taken to be writable after a check."""
CHECK_BLOB = "~check"
"""An empty blob; no customer's id begins so."""


class Outputs:
    """Writes results where their jobs say. A blob's name begins with its customer."""

    def __init__(self, settings: Settings, blobs: Blobs) -> None:
        self._settings = settings
        self._blobs = blobs
        self._checked_until = float("-inf")

    def check(self, job: Job) -> None:
        """Raise InvalidJob if the job names a queue, or a callback address, that is not allowed to its customer."""
        output = job.output
        if isinstance(output.queue, str) and output.queue not in (
            allowed := self._settings.result_queues(job.customer)
        ):
            raise InvalidJob(
                f"`output.queue` {output.queue} is not allowed. The app setting ALLOWED_RESULT_QUEUES allows "
                f"{', '.join(allowed)}."
            )
        if output.callback is not None:
            try:
                check_public(
                    output.callback, allow_local=self._settings.allow_local_endpoints, member="output.callback"
                )
            except ConnectionInvalid as exc:
                raise InvalidJob(str(exc)) from None

    def allowed(self, job: Job) -> Output:
        """Return the job's output, or the default one if it is no longer allowed: the job was accepted before."""
        try:
            self.check(job)
        except InvalidJob:
            return Output(blob=job.output.blob)
        return job.output

    def is_inline(self, job: Job, result_body: bytes) -> bool:
        """Return whether an encoded result is published as it is. If not, it needs a blob."""
        return not job.output.blob and len(result_body) <= MESSAGE_LIMIT

    async def save(self, job: Job, result: Result, result_body: bytes) -> bytes:
        """
        Write the result's blob, which is `result_body`, and return the result as it is published.

        Raises StorageUnavailable.
        """
        blob = await self.write(job, "result.json", result_body, _JSON)
        if len(result_body) <= MESSAGE_LIMIT:  # else it is not encoded once more: that takes long
            body = encode_result(msgspec.structs.replace(result, output_blob=blob))
            if len(body) <= MESSAGE_LIMIT:
                return body
        return encode_result(_shortened(msgspec.structs.replace(result, output_blob=blob, output=None)))

    async def check_writable(self) -> None:
        """
        Write an empty blob, so that no call is billed whose result can't be saved. Raises StorageUnavailable.

        A success holds for CHECKED_S.
        """
        if time.monotonic() >= self._checked_until:
            await self._blobs.write(self._settings.results_container, CHECK_BLOB, b"", "text/plain")
            self._checked_until = time.monotonic() + CHECKED_S

    async def write(self, job: Job, name: str, data: bytes, content_type: str) -> OutputBlob:
        """Write a blob of the job: `{customer}/{job_id}/{name}`. Raises StorageUnavailable."""
        blob = OutputBlob(
            container=self._settings.results_container,
            name=f"{job.customer}/{job.id}/{name}",
            size=len(data),
            sha256=_digest(data) if len(data) < LARGE_BYTES else await asyncio.to_thread(_digest, data),
            content_type=content_type,
        )
        await self._blobs.write(blob.container, blob.name, data, content_type)
        return blob

    async def next_message(self, attempt: Attempt) -> bytes:
        """Return the message with which the job of an attempt continues, as `message_of`."""
        job = attempt.job
        envelope = job.envelope if isinstance(job, QueuedJob) else None
        return await self.message_of(
            job,
            submitted_at=attempt.time.submitted_at,
            traceparent=envelope.traceparent if envelope else None,
            generation=attempt.lease.generation,
        )

    async def message_of(self, job: Job, *, submitted_at: datetime, traceparent: str | None, generation: int) -> bytes:
        """
        Return the job as a message, with its input in a blob of its own if it would not fit otherwise.

        Raises StorageUnavailable.
        """
        encode = partial(encode_queued_job, submitted_at=submitted_at, traceparent=traceparent, generation=generation)
        body = encode(job)
        if len(body) <= MESSAGE_LIMIT:
            return body
        if job.job_id is None:  # a blob would belong to no job, so the host has to deliver its message again
            raise StorageUnavailable("A job in plain JSON without a `job_id` does not fit a message in base64.")
        if named_blob(job) is not None:
            job = without_white_space(job)
        else:
            job, name, data = move_input(job, self._settings.results_container)
            await self.write(job, name, data, _JSON)
        return encode(job)

    async def read_own_blob(self, job: Job, name: str) -> bytes:
        """Read a blob that `write` has written for the job. Raises StorageUnavailable."""
        name = f"{job.customer}/{job.id}/{name}"
        data = await self._blobs.read(self._settings.results_container, name, _MAX_OWN_BLOB)
        if data is None:
            raise StorageUnavailable(f"The blob {name} does not exist any more.")
        return data

    async def read_result(self, job: Job | Result, result_body: bytes) -> bytes:
        """Return the full result of a job whose message had no room for it; `result_body` if its blob is gone."""
        data = await self._blobs.read(
            self._settings.results_container, f"{job.customer}/{job.job_id}/result.json", _MAX_OWN_BLOB
        )
        return result_body if data is None else data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _shortened(result: Result) -> Result:
    # A provider's error detail can be of any size; with it the message could still be too large.
    if result.error is None or result.error.detail is None:
        return result
    return msgspec.structs.replace(result, error=msgspec.structs.replace(result.error, detail=None))
