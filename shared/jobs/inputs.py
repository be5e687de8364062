"""The inputs of jobs: in the message or in a blob, and blobs that the input names."""

from __future__ import annotations

import msgspec

from shared.contract.job import Job, named_blob
from shared.contract.names import BlobName
from shared.errors import InvalidJob
from shared.jobs.fingerprint import is_own_input
from shared.settings import Settings
from shared.storage.base import Blobs, BlobTooLarge

MAX_INPUT_BYTES = 16 * 1024 * 1024
"""Of a blob that a job names."""


class Inputs:
    """Reads blobs for jobs: only from the operator's input containers, and only those of the job's customer."""

    def __init__(self, settings: Settings, blobs: Blobs) -> None:
        self._settings = settings
        self._blobs = blobs

    async def load(self, job: Job) -> msgspec.Raw | bytes:
        """Return the job's `input`. Raises InvalidJob, StorageUnavailable."""
        blob = named_blob(job)
        if blob is not None:
            return await self.read(job.customer, blob, at="input_blob")
        assert isinstance(job.input, msgspec.Raw)  # noqa: S101  # `decode_job_as` makes sure of it
        return job.input

    def check(self, customer: str, blob: BlobName, *, at: str) -> None:
        """Raise InvalidJob, naming the member `at`, if a job of the customer may not read the blob."""
        containers = self._settings.input_containers
        # The input of a job that would not have fit its message (see Outputs.message_of).
        own = blob.container == self._settings.results_container and is_own_input(f"{blob.container}/{blob.name}")
        if not (own or blob.container in containers) or not blob.name.startswith(f"{customer}/"):
            raise InvalidJob(f"`{at}` must be in {' or '.join(containers)}, and its name must begin with {customer}/.")

    async def read(self, customer: str, blob: BlobName, *, at: str) -> bytes:
        """Return the blob's bytes. Raises InvalidJob, naming the member `at`, and StorageUnavailable."""
        self.check(customer, blob, at=at)
        try:
            data = await self._blobs.read(blob.container, blob.name, MAX_INPUT_BYTES)
        except BlobTooLarge as exc:
            raise InvalidJob(str(exc)) from None
        if data is None:
            raise InvalidJob(f"`{at}` names a blob that does not exist.")
        return data
