"""One contract for the blobs in memory and those on Azurite."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import StorageUnavailable
from shared.storage import sdk_blobs
from shared.storage.base import BlobChanged, BlobProperties, Blobs, BlobTooLarge, ContainerMissing
from shared.storage.blobs import AzureBlobs
from tests.support.fake_blobs import MemoryBlobs
from tests.support.faulty_tables import account_of
from tests.support.harness import Harness


@pytest.fixture(params=["memory", "azure", "azure by the SDK"])
def blobs(request: pytest.FixtureRequest, harness: Harness) -> Blobs:
    """Blobs in memory, and on Azurite."""
    return MemoryBlobs() if request.param == "memory" else AzureBlobs(account_of(harness, request.param))


@pytest.fixture
def small_pages(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of two blobs."""
    monkeypatch.setattr(sdk_blobs, "_PAGE", 2)
    if isinstance(blobs, MemoryBlobs):
        blobs.page_size = 2


@pytest.fixture
def container(harness: Harness) -> str:
    """The container of results."""
    return harness.environment["RESULTS_CONTAINER"]


async def test_a_blob_is_read_as_it_was_written(blobs: Blobs, container: str, partition: str) -> None:
    """All bytes are read, at once and in chunks; a second write replaces the first; a missing blob is None."""
    expected = {"none": None, "empty": b"", "job 1/ä.json": bytes(range(256)), "large": bytes(range(256)) * 1000}
    await blobs.write(container, f"{partition}/job 1/ä.json", b"first", "application/json")
    for name, data in expected.items():
        if data is not None:
            await blobs.write(container, f"{partition}/{name}", data, "application/json")

    async def join_chunks(name: str) -> bytes | None:
        chunks = await blobs.chunks(container, f"{partition}/{name}")
        return None if chunks is None else b"".join([chunk async for chunk in chunks])

    assert expected == {name: await blobs.read(container, f"{partition}/{name}", 256_000) for name in expected}
    assert expected == {name: await join_chunks(name) for name in expected}


async def test_a_blob_that_is_written_once_stays(blobs: Blobs, container: str, partition: str) -> None:
    """Of many writers at once, one writes, and every reader gets its bytes; an error of Storage is no existing blob."""
    name = f"{partition}/2026-11.json"
    bodies = [f"writer {number}".encode() for number in range(8)]

    written = await asyncio.gather(
        *(blobs.write_once(container, name, body, "application/json") for body in bodies),
    )
    again = await blobs.write_once(container, name, b"later", "application/json")

    assert ([True], False) == ([each for each in written if each], again)
    assert bodies[written.index(True)] == await blobs.read(container, name, 100)
    if isinstance(blobs, AzureBlobs):
        with pytest.raises(StorageUnavailable, match="container never-made: write: 404 ContainerNotFound"):
            await blobs.write_once("never-made", name, b"x", "text/plain")


async def test_a_range_is_of_one_version(blobs: Blobs, container: str, partition: str) -> None:
    """A range is read of the version whose properties were read; one that was replaced or deleted is an error."""
    name = f"{partition}/a b/ä.wav"
    assert await blobs.properties(container, name) is None
    await blobs.write(container, name, bytes(range(100)), "audio/wav")

    blob = await blobs.properties(container, name)

    assert blob is not None
    assert (name, 100, "audio/wav", True) == (blob.name, blob.size, blob.content_type, bool(blob.etag))
    ranges = [(0, 100), (0, 1), (99, 1), (40, 20), (90, 30)]
    read = [await blobs.read_range(container, name, start, size, blob.etag) for start, size in ranges]
    assert [bytes(range(100))[start : start + size] for start, size in ranges] == read
    await blobs.write(container, name, bytes(range(1, 101)), "audio/wav")
    with pytest.raises(BlobChanged, match="was changed while it was read"):
        await blobs.read_range(container, name, 0, 10, blob.etag)
    await blobs.delete(container, name)
    with pytest.raises(BlobChanged):
        await blobs.read_range(container, name, 0, 10, blob.etag)


async def test_a_blob_is_read_up_to_the_limit(blobs: Blobs, container: str, partition: str) -> None:
    """A blob of exactly the limit is read; one byte more raises BlobTooLarge with the blob's name."""
    await blobs.write(container, f"{partition}/large", b"x" * 1000, "text/plain")

    assert b"x" * 1000 == await blobs.read(container, f"{partition}/large", 1000)
    with pytest.raises(BlobTooLarge, match=f"{partition}/large is larger than 999 bytes"):
        await blobs.read(container, f"{partition}/large", 999)


async def test_a_blob_has_its_media_type(harness: Harness, container: str, partition: str) -> None:
    """The content type of the write is the blob's own."""
    await AzureBlobs(account_of(harness)).write(container, f"{partition}/image", b"png", "image/png")

    blob = harness.blobs.get_blob_client(container, f"{partition}/image")
    properties = await blob.get_blob_properties()

    assert "image/png" == properties.content_settings.content_type


@pytest.mark.usefixtures("small_pages")
async def test_blobs_are_listed_by_prefix(blobs: Blobs, container: str, partition: str) -> None:
    """The pages have the blobs with the prefix, in order, with their properties."""
    before = datetime.now(UTC) - timedelta(seconds=2)
    for name in (f"{partition}/2/ä #%.json", f"{partition}/1", f"{partition}-other/1", f"{partition}/3"):
        await blobs.write(container, name, b"x" * 7, "text/plain")

    first = await blobs.page(container, f"{partition}/")
    second = await blobs.page(container, f"{partition}/", first.after)

    listed = [*first.blobs, *second.blobs]
    assert ([f"{partition}/1", f"{partition}/2/ä #%.json"], [f"{partition}/3"]) == (
        [blob.name for blob in first.blobs],
        [blob.name for blob in second.blobs],
    )
    assert "" == second.after
    assert BlobProperties(f"{partition}/1", 7, listed[0].modified, "text/plain") == listed[0]
    assert all(before < blob.modified < datetime.now(UTC) + timedelta(seconds=2) for blob in listed)
    assert [] == (await blobs.page(container, f"{partition}/4")).blobs


async def test_a_missing_container_has_its_own_error(blobs: Blobs) -> None:
    """A page of a container that does not exist raises ContainerMissing."""
    if isinstance(blobs, MemoryBlobs):
        blobs.missing.add("never-made")

    with pytest.raises(ContainerMissing, match="never-made"):
        await blobs.page("never-made", "x/")


async def test_a_blob_is_deleted(blobs: Blobs, harness: Harness, container: str, partition: str) -> None:
    """The blob and its snapshots are deleted, other blobs are not; deleting it again is no error."""
    await blobs.write(container, f"{partition}/1", b"x", "text/plain")
    await blobs.write(container, f"{partition}/2", b"x", "text/plain")
    if isinstance(blobs, AzureBlobs):
        await harness.blobs.get_blob_client(container, f"{partition}/1").create_snapshot()

    await blobs.delete(container, f"{partition}/1")
    await blobs.delete(container, f"{partition}/1")

    assert [f"{partition}/2"] == [blob.name for blob in (await blobs.page(container, f"{partition}/")).blobs]


async def test_the_error_for_a_missing_container_names_it(harness: Harness) -> None:
    """A failed write has the container, the operation and Storage's error code."""
    with pytest.raises(StorageUnavailable, match="container never-made: write: 404 ContainerNotFound"):
        await AzureBlobs(account_of(harness)).write("never-made", "x", b"x", "text/plain")
