"""The Storage stand-in, through Azure's own clients."""

from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from local.stack.stack import NAMES, create_storage


async def test_a_message_goes_round(storage):
    """What is put into a queue comes out of it."""
    async with QueueServiceClient.from_connection_string(storage.connection_string) as service:
        queue = await service.create_queue("round-trip")
        async with queue:
            await queue.send_message("hello")
            received = await queue.receive_message()

    assert received.content == "hello"


async def test_a_row_is_inserted(storage):
    """What is put into a table is read back."""
    async with TableServiceClient.from_connection_string(storage.connection_string) as service:
        table = await service.create_table("rows")
        async with table:
            await table.create_entity({"PartitionKey": "p", "RowKey": "r", "n": 7})
            found = await table.get_entity("p", "r")

    assert found["n"] == 7


async def test_the_app_finds_its_queues_containers_and_table(storage):
    """All that the settings name is there, and the poison queue beside the jobs."""
    await create_storage(storage.connection_string)

    text = storage.connection_string
    async with (
        QueueServiceClient.from_connection_string(text) as queues,
        BlobServiceClient.from_connection_string(text) as blobs,
        TableServiceClient.from_connection_string(text) as tables,
    ):
        queue_names = {found.name async for found in queues.list_queues()}
        container_names = {found.name async for found in blobs.list_containers()}
        table_names = {found.name async for found in tables.list_tables()}

    assert {"jobs", "jobs-poison", "results", "callbacks"} <= queue_names
    assert {"results", "inputs"} <= container_names
    assert NAMES["JOBS_TABLE"] in table_names
