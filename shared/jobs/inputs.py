"""What a job brings: its input, in the message or in a blob, and blobs that the input names."""

from __future__ import annotations

import msgspec

from shared.contract.job import OWN_INPUT, Job, named_blob
from shared.contract.names import BlobName
from shared.errors import InvalidJob
from shared.settings import Settings
from shared.storage.base import Blobs, BlobTooLarge

INPUT_LIMIT = 16 * 1024 * 1024
"""Bytes of a blob that a job names."""


class Inputs:
    """Reads blobs for jobs: out of the operator's input containers, and of the job's own customer only."""

    def __init__(self, settings: Settings, blobs: Blobs) -> None:
        self._settings = settings
        self._blobs = blobs

    async def of(self, job: Job) -> msgspec.Raw | bytes:
        """The job's `input`. Raises InvalidJob, StorageUnavailable."""
        blob = named_blob(job)
        if blob is not None:
            return await self.read(job.customer, blob, at="input_blob")
        assert isinstance(job.input, msgspec.Raw)  # noqa: S101  # `decode_job` has seen to it
        return job.input

    def check(self, customer: str, blob: BlobName, *, at: str) -> None:
        """Raises InvalidJob naming the member `at` for a blob where a job of the customer may read none."""
        containers = self._settings.input_containers
        # Where a job that came over HTTP had its input put (see submissions).
        own = blob.container == self._settings.results_container and OWN_INPUT.fullmatch(
            f"{blob.container}/{blob.name}"
        )
        if not (own or blob.container in containers) or not blob.name.startswith(f"{customer}/"):
            raise InvalidJob(f"`{at}` must be in {' or '.join(containers)}, its name beginning with {customer}/.")

    async def read(self, customer: str, blob: BlobName, *, at: str) -> bytes:
        """The blob's bytes. Raises InvalidJob naming the member `at`, StorageUnavailable."""
        self.check(customer, blob, at=at)
        try:
            data = await self._blobs.read(blob.container, blob.name, INPUT_LIMIT)
        except BlobTooLarge as exc:
            raise InvalidJob(str(exc)) from None
        if data is None:
            raise InvalidJob(f"`{at}` names a blob that does not exist.")
        return data
