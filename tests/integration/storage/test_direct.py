"""What a job sends to Storage needs nothing of the SDK, unless something goes wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Never

import pytest

from shared.errors import StorageUnavailable
from shared.storage.account import Account
from shared.storage.base import Row, RowChanged, RowExists
from shared.storage.blobs import AzureBlobs
from shared.storage.queues import AzureQueues
from shared.storage.tables import AzureTable
from tests.support.faulty_tables import account_of, table_name
from tests.support.harness import Harness


def no_transport() -> Never:
    """Fail, as the SDK asks for its transport."""
    raise AssertionError("The SDK is not needed.")


@pytest.fixture
def account(harness: Harness) -> Account:
    """The account, without what the SDK needs."""
    return replace(account_of(harness), transport=no_transport)


async def test_a_row_is_written_read_and_deleted_directly(account: Account, harness: Harness, partition: str) -> None:
    """Alone and in a transaction, with its conflicts; keys have every character that a table allows."""
    table, key = AzureTable(account, table_name(harness)), "j_ä 'quoted' (1), a=b&c;d:e@f+g$h!i*j~k%20"
    row = Row(partition, key, {"text": "ü", "n": 1})
    etag = await table.insert(row)
    with pytest.raises(RowExists):
        await table.insert(row)
    etag = await table.merge(replace(row, values={"n": 2}, etag=etag))
    with pytest.raises(RowChanged):
        await table.merge(replace(row, etag='W/"other"'))
    etag, _ = await table.merge_and_insert(replace(row, values={"n": 3}, etag=etag), [Row(partition, "u_1", {})])
    with pytest.raises(RowChanged):
        await table.merge_and_insert(replace(row, etag=etag), [Row(partition, "u_1", {})])
    await table.insert(Row(partition, "j_2", {}), beside=[Row(partition, "t_2", {})])

    assert replace(row, values={"text": "ü", "n": 3}, etag=etag) == await table.read(partition, key)
    assert [key] == await table.delete([replace(row, etag='W/"other"'), Row(partition, "j_2", {})])
    assert [None, None] == [await table.read(partition, each) for each in ("j_2", "j_3")]
    assert [] == await table.delete([replace(row, etag=etag)])
    assert await table.read(partition, key) is None


async def test_messages_and_blobs_are_written_directly(account: Account, harness: Harness, partition: str) -> None:
    """A blob that must not be overwritten is not."""
    await harness.queues.create_queue(f"q-{partition}")
    await AzureQueues(account).send(f"q-{partition}", b'{"a": "<&>"}')
    blobs, container = AzureBlobs(account), harness.environment["RESULTS_CONTAINER"]
    name = f"{partition}/ä 'b' (1)+2&c=%20;~$!*,@:.json"
    assert await blobs.write_once(container, name, b"{}", "application/json")
    assert not await blobs.write_once(container, name, b"[]", "application/json")
    await blobs.write(container, name, b"[1]", "text/plain")

    assert [b'{"a": "<&>"}'] == await harness.messages(f"q-{partition}")
    blob = harness.blobs.get_blob_client(container, name)
    assert ("text/plain", b"[1]") == (
        (await blob.get_blob_properties()).content_settings.content_type,
        await (await blob.download_blob()).readall(),
    )


@pytest.mark.parametrize("missing", ["table", "queue", "container"])
async def test_what_is_missing_is_an_error_of_the_sdk(harness: Harness, missing: str) -> None:
    """As without direct requests: it names the operation, and Storage's code."""
    account = account_of(harness)
    row = Row("p", "k", {})
    uses: dict[str, Any] = {
        "table": lambda: AzureTable(account, "nowhere").insert(row, beside=[Row("p", "l", {})]),
        "queue": lambda: AzureQueues(account).send("nowhere", b""),
        "container": lambda: AzureBlobs(account).write("nowhere", "x", b"", "text/plain"),
    }
    with pytest.raises(StorageUnavailable, match=f"{missing} nowhere: .*404.*NotFound"):
        await uses[missing]()
