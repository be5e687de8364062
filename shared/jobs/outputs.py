"""Where a result goes: into the message if it fits, into the blob where asked for or too large."""

from __future__ import annotations

import hashlib
import time
from datetime import datetime

import msgspec

from shared.contract.job import Job, Output, encode_job, with_own_blob
from shared.contract.result import MESSAGE_LIMIT, OutputBlob, Result, encode_result
from shared.errors import ConnectionInvalid, InvalidJob, StorageUnavailable
from shared.settings import Settings
from shared.storage.base import Blobs
from shared.upstream.egress_policy import check_public

_JSON = "application/json"
_OWN_LIMIT = 256 * 1024 * 1024
PROVED_S = 300.0
PROOF = "~proof"
"""A blob that says nothing; no customer's name begins like it."""


class Outputs:
    """Puts results where their jobs say. A blob's name starts from its customer."""

    def __init__(self, settings: Settings, blobs: Blobs) -> None:
        self._settings = settings
        self._blobs = blobs
        self._proved_until = float("-inf")

    def check(self, output: Output) -> None:
        """Raises InvalidJob where a job names a queue, or a callback's address, that is not allowed."""
        if isinstance(output.queue, str) and output.queue not in self._queues():
            raise InvalidJob(
                f"`output.queue` {output.queue} is not allowed; the app setting ALLOWED_RESULT_QUEUES allows "
                f"{', '.join(self._queues())}."
            )
        if output.callback is not None:
            try:
                check_public(
                    output.callback, allow_local=self._settings.allow_local_endpoints, member="output.callback"
                )
            except ConnectionInvalid as exc:
                raise InvalidJob(str(exc)) from None

    def allowed(self, output: Output) -> Output:
        """The output; where it is allowed no more, the usual one, for a job that was on record before."""
        try:
            self.check(output)
        except InvalidJob:
            return Output(blob=output.blob)
        return output

    def whole(self, job: Job, result: Result) -> bytes | None:
        """The result as it will be told, if that needs no blob."""
        whole = encode_result(result)
        return None if job.output.blob or len(whole) > MESSAGE_LIMIT else whole

    async def save(self, job: Job, result: Result) -> bytes:
        """Writes the result's blob, and gives the result as it will be told. Raises StorageUnavailable."""
        whole = encode_result(result)
        blob = await self.write(job, "result.json", whole, _JSON)
        told = encode_result(msgspec.structs.replace(result, output_blob=blob))
        if len(told) <= MESSAGE_LIMIT:
            return told
        return encode_result(_shortened(msgspec.structs.replace(result, output_blob=blob, output=None)))

    async def prove(self) -> None:
        """
        Sees to it that blobs can be written, by writing one, for jobs that would else be bought in vain.

        What was found to work is taken to work for PROVED_S. Raises StorageUnavailable.
        """
        if time.monotonic() >= self._proved_until:
            await self._blobs.write(self._settings.results_container, PROOF, b"", "text/plain")
            self._proved_until = time.monotonic() + PROVED_S

    async def write(self, job: Job, name: str, data: bytes, content_type: str) -> OutputBlob:
        """Writes one of the job's blobs: `{customer}/{job_id}/{name}`. Raises StorageUnavailable."""
        blob = OutputBlob(
            container=self._settings.results_container,
            name=f"{job.customer}/{job.id}/{name}",
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            content_type=content_type,
        )
        await self._blobs.write(blob.container, blob.name, data, content_type)
        return blob

    async def message_of(self, job: Job, *, submitted_at: datetime, traceparent: str | None) -> bytes:
        """
        The job as a message of ours, its input in a blob of its own where it would not fit otherwise.

        Raises StorageUnavailable.
        """
        body = encode_job(job, submitted_at=submitted_at, traceparent=traceparent)
        if len(body) <= MESSAGE_LIMIT:
            return body
        job, name, data = with_own_blob(job, self._settings.results_container)
        await self.write(job, name, data, _JSON)
        return encode_job(job, submitted_at=submitted_at, traceparent=traceparent)

    async def read_back(self, job: Job, name: str) -> bytes:
        """One of the job's blobs that `write` has written. Raises StorageUnavailable."""
        name = f"{job.customer}/{job.id}/{name}"
        data = await self._blobs.read(self._settings.results_container, name, _OWN_LIMIT)
        if data is None:
            raise StorageUnavailable(f"The blob {name} is gone.")
        return data

    async def read_result(self, job: Job | Result, told: bytes) -> bytes:
        """The whole result of a job whose message had no room for it; as `told`, where its blob is gone."""
        data = await self._blobs.read(
            self._settings.results_container, f"{job.customer}/{job.job_id}/result.json", _OWN_LIMIT
        )
        return told if data is None else data

    def _queues(self) -> tuple[str, ...]:
        settings = self._settings
        own = {
            settings.jobs_queue,
            settings.poison_queue,
            settings.callbacks_queue,
            settings.callbacks_poison_queue,
        }
        return tuple(name for name in (settings.results_queue, *settings.allowed_result_queues) if name not in own)


def _shortened(result: Result) -> Result:
    # A provider's error detail has no bound; with it the message could still be too large.
    if result.error is None or result.error.detail is None:
        return result
    return msgspec.structs.replace(result, error=msgspec.structs.replace(result.error, detail=None))
