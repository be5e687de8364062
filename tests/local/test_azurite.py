"""Azurite, through Azure's own clients."""

from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from local.stack.stack import NAMES, create_storage


async def test_a_message_round_trip(storage):
    """A message that was sent is received."""
    async with QueueServiceClient.from_connection_string(storage.connection_string) as service:
        queue = await service.create_queue("round-trip")
        async with queue:
            await queue.send_message("hello")
            received = await queue.receive_message()

    assert received.content == "hello"


async def test_a_row_round_trip(storage):
    """A row that was inserted is read."""
    async with TableServiceClient.from_connection_string(storage.connection_string) as service:
        table = await service.create_table("rows")
        async with table:
            await table.create_entity({"PartitionKey": "p", "RowKey": "r", "n": 7})
            row = await table.get_entity("p", "r")

    assert row["n"] == 7


async def test_queues_containers_and_table_are_created(storage):
    """Everything that the settings name exists, and the poison queue of the jobs."""
    await create_storage(storage.connection_string)

    text = storage.connection_string
    async with (
        QueueServiceClient.from_connection_string(text) as queues,
        BlobServiceClient.from_connection_string(text) as blobs,
        TableServiceClient.from_connection_string(text) as tables,
    ):
        queue_names = {queue.name async for queue in queues.list_queues()}
        container_names = {container.name async for container in blobs.list_containers()}
        table_names = {table.name async for table in tables.list_tables()}

    assert {"jobs", "jobs-poison", "results", "callbacks"} <= queue_names
    assert {"results", "inputs"} <= container_names
    assert NAMES["JOBS_TABLE"] in table_names
