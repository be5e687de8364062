"""The inputs of jobs: in the message or in a blob, and blobs that the input names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from shared.actions.base import InputBlob, InputBlobs, InputFile
from shared.contract.job import Job, named_blob
from shared.contract.names import BlobName, NamedBlob
from shared.errors import InvalidJob, ProviderUnavailable, Throttled
from shared.jobs.fingerprint import is_own_input
from shared.settings import Settings
from shared.shares import Reservation, Shares
from shared.storage.base import Blobs, BlobTooLarge
from shared.upstream.messages import is_large

if TYPE_CHECKING:
    from shared.contract.chat import Chat
    from shared.jobs.document_inputs import DocumentInputs
    from shared.upstream.side_process import SideProcess

MAX_INPUT_BYTES = 16 * 1024 * 1024
"""Of a blob that a job names."""
MAX_MEMORY_BYTES = 256 * 1024 * 1024
"""Of the inputs from blobs that a worker keeps at a time: one customer's are half of that at most."""
MAX_WAIT_S = 5.0
"""The longest that a job waits for memory."""
_RETRY_S = 10.0
_SMALL_BYTES = 1024 * 1024
"""What takes less memory is not counted."""
MAX_DECODED_BYTES = 112 * 1024 * 1024
"""What a blob takes at most, decoded: as text, and the lists, objects and members that `decoding` allows."""
COPIES = 4
"""What is sent of a blob is in memory so often: as it is, and a third longer as base64, as JSON and as it is sent."""
_BYTES_PER_MARK = {b"[": 70, b"{": 70, b":": 150}

T = TypeVar("T")


class Inputs:
    """Reads blobs for jobs: only from the operator's input containers, and only those of the job's customer."""

    def __init__(self, settings: Settings, blobs: Blobs) -> None:
        self._settings = settings
        self._blobs = blobs
        self._memory = Shares(MAX_MEMORY_BYTES)

    @cached_property
    def _side_process(self) -> SideProcess:
        # Not the one that reads answers: these would wait for the inputs of jobs that have not begun.
        from shared.upstream.side_process import SideProcess  # noqa: PLC0415  # most workers never need it

        return SideProcess()

    @cached_property
    def documents(self) -> DocumentInputs:
        """Reads the documents that jobs name."""
        from shared.jobs.document_inputs import DocumentInputs  # noqa: PLC0415  # few jobs name any

        return DocumentInputs(self)

    async def load(self, job: Job, decode: Callable[[bytes], T]) -> tuple[T, object]:
        """
        Return the job's `input`, decoded, and its memory as in InputBlob. Raises as `read`.

        `decode` is a function of a module: a large input is decoded in another process.
        """
        named = named_blob(job)
        if named is not None:
            data, memory = await self.read(job.customer, named, at="input_blob")
        else:
            assert isinstance(job.input, msgspec.Raw)  # noqa: S101  # `decode_job_as` makes sure of it
            data, memory = bytes(job.input), None
        try:
            decoded = await self._side_process.call(job.customer, decode, data) if is_large(data) else decode(data)
        except ProviderUnavailable:
            raise InvalidJob("The job's input takes too much memory or time to decode.") from None
        if job.options.processing == "flex":
            from shared.jobs.flex import check_flex_tier  # noqa: PLC0415  # few jobs have it

            check_flex_tier(decoded)
        elif job.options.processing == "background" and job.action == "chat":
            from shared.actions.chat_in_background import request_of  # noqa: PLC0415  # few chats wait

            request_of(cast("Chat", decoded))
        return decoded, memory

    def check(self, customer: str, blob: BlobName, *, at: str) -> None:
        """Raise InvalidJob, naming the member `at`, if a job of the customer may not read the blob."""
        containers = self._settings.input_containers
        # The input of a job that would not have fit its message (see Outputs.message_of).
        own = blob.container == self._settings.results_container and is_own_input(f"{blob.container}/{blob.name}")
        if not (own or blob.container in containers) or not blob.name.startswith(f"{customer}/"):
            raise InvalidJob(f"`{at}` must be in {' or '.join(containers)}, and its name must begin with {customer}/.")

    async def read_small(self, customer: str, named: NamedBlob) -> bytes | None:
        """Return a blob of little memory, or None if it has more. Raises InvalidJob, StorageUnavailable."""
        self.check(customer, named.blob, at=named.at)
        try:
            data = await self._blobs.read(named.blob.container, named.blob.name, _SMALL_BYTES)
        except BlobTooLarge:
            return None
        if data is None:
            raise _missing(named.at)
        return data

    async def read(self, customer: str, blob: BlobName, *, at: str) -> InputBlob:
        """
        Read a blob, as soon as there is memory for it.

        Raises InvalidJob, naming the member `at`, StorageUnavailable, and Throttled if there is no memory in time.
        """
        self.check(customer, blob, at=at)
        memory = None
        try:
            try:
                data = await self._blobs.read(blob.container, blob.name, _SMALL_BYTES)
            except BlobTooLarge:
                memory = await self.reserve(customer, MAX_DECODED_BYTES)
                data = await self._blobs.read(blob.container, blob.name, MAX_INPUT_BYTES)
        except BlobTooLarge as exc:
            raise InvalidJob(str(exc)) from None
        if data is None:
            raise _missing(at)
        size = len(data) + sum(data.count(mark) * count for mark, count in _BYTES_PER_MARK.items())
        if memory is not None:
            memory.shrink(size)
        elif size > _SMALL_BYTES:
            memory = await self.reserve(customer, min(size, MAX_DECODED_BYTES))
        return InputBlob(data, memory)

    async def read_all(self, customer: str, blobs: Sequence[NamedBlob], *, max_bytes: int) -> InputBlobs:
        """
        Read blobs, of at most `max_bytes` together, that one request holds as base64. Raises as `read`.

        Memory is taken once for all of them: a job that has some would wait for more, and so would others.
        """
        files = [await self.open(customer, each.blob, at=each.at, max_bytes=MAX_INPUT_BYTES) for each in blobs]
        size = sum(file.size for file in files)
        if size > max_bytes:
            raise InvalidJob(f"The blobs that the input names have more than {max_bytes >> 20} MiB together.")
        amount = min(COPIES * size, MAX_DECODED_BYTES)  # more would never be free beside a large input of the same job
        memory = await self.reserve(customer, amount) if amount > _SMALL_BYTES else None
        return InputBlobs([await file.read(0, file.size) for file in files], memory)

    async def open(self, customer: str, blob: BlobName, *, at: str, max_bytes: int) -> InputFile:
        """Return a blob that is read in pieces. Raises as `read`."""
        from shared.jobs.input_file import open_file  # noqa: PLC0415  # few jobs name large blobs

        self.check(customer, blob, at=at)
        return await open_file(self._blobs, blob, at=at, max_bytes=max_bytes)

    async def reserve(self, customer: str, amount: int) -> Reservation:
        """Take memory for a large input, at most MAX_DECODED_BYTES. Raises Throttled if there is none in time."""
        # Not for as long as it takes: a job that waits has a slot of its customer's, and may have memory itself.
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                return await self._memory.reserve(customer, amount)
        except TimeoutError:
            message = "The jobs that run have all the memory that there is for this customer's large inputs."
            raise Throttled(message, _RETRY_S) from None


def _missing(at: str) -> InvalidJob:
    return InvalidJob(f"`{at}` names a blob that does not exist.")
