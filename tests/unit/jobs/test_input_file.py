"""A blob that an input names, read in pieces."""

from __future__ import annotations

import asyncio

import pytest

from shared.contract.names import BlobName
from shared.errors import InvalidJob, StorageUnavailable
from shared.jobs.input_file import open_file
from tests.support.fake_blobs import MemoryBlobs
from tests.support.work import peak_bytes

MIB = 1024 * 1024
BLOB = BlobName("inputs", "contoso/call.wav")


async def stored(data: bytes) -> MemoryBlobs:
    """Return blobs of which one has this data."""
    blobs = MemoryBlobs()
    await blobs.write(BLOB.container, BLOB.name, data, "audio/wav")
    return blobs


async def test_any_part_can_be_read():
    """At once and in pieces; beyond its end there is nothing."""
    data = bytes(range(256)) * 10_000
    file = await open_file(await stored(data), BLOB, at="input.blob", max_bytes=len(data))

    parts = [(0, len(data)), (5, 2 * MIB), (MIB - 1, 2), (len(data) - 3, 3)]
    read = [b"".join([chunk async for chunk in file.chunks(start, size)]) for start, size in parts]

    assert [data[start : start + size] for start, size in parts] == read
    assert (data[7:9], data[-2:], b"") == (
        await file.read(7, 2),
        await file.read(len(data) - 2, 100),
        await file.read(len(data), 5),
    )


def test_a_large_one_takes_little_memory():
    """However large it is, a megabyte of it is in memory at a time."""
    blobs = asyncio.run(stored(bytes(5 * MIB)))
    file = asyncio.run(open_file(blobs, BLOB, at="input.blob", max_bytes=5 * MIB))

    async def read() -> int:
        return sum([len(chunk) async for chunk in file.chunks(0, file.size)])

    assert peak_bytes(lambda: asyncio.run(read())) < 3 * MIB


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "`input.blob` names a blob that does not exist."),
        (b"", "`input.blob` names a blob of no bytes."),
        (bytes(2_000_001), "`input.blob` names a blob of more than 2 MB."),
    ],
)
async def test_what_can_not_be_read_is_refused(data: bytes | None, message: str):
    """With the member's name, before anything of it is read."""
    blobs = MemoryBlobs() if data is None else await stored(data)

    with pytest.raises(InvalidJob) as refused:
        await open_file(blobs, BLOB, at="input.blob", max_bytes=2_000_000)

    assert message == str(refused.value)


@pytest.mark.parametrize("change", ["written", "deleted"])
async def test_only_one_version_is_read(change: str):
    """Pieces of two recordings are never mixed."""
    blobs = await stored(b"first")
    file = await open_file(blobs, BLOB, at="input.blob", max_bytes=10)
    if change == "written":
        await blobs.write(BLOB.container, BLOB.name, b"other", "audio/wav")
    else:
        await blobs.delete(BLOB.container, BLOB.name)

    with pytest.raises(InvalidJob, match="changed while the job ran"):
        await file.read(0, 5)


async def test_storage_that_is_down_is_waited_for():
    """It says nothing about the job."""
    blobs = await stored(b"first")
    blobs.down = True

    with pytest.raises(StorageUnavailable):
        await open_file(blobs, BLOB, at="input.blob", max_bytes=10)
