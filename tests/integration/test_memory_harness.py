"""What a test writes for a job in the harness's Storage, by clients of the harness's own."""

from __future__ import annotations

from local.stack.azurite import Azurite
from local.vault.server import Vault
from tests.support.endpoint import Endpoint
from tests.support.faults import open_faulty_harness
from tests.support.harness import Harness
from tests.support.input_blobs import NOTES, with_blobs

JOB = {"action": "summarize", "input": {"blob": "INPUTS/notes.md"}}


async def test_a_tests_own_blobs_pass_no_proxy(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> None:
    """A fault of the app's Storage meets none of them, and no operation of a job is counted for them."""
    async with open_faulty_harness(azurite, vault, endpoint) as faulty:
        customer = faulty.customer()
        await with_blobs(customer, JOB)

        assert [] == faulty.proxy.of(customer.name)


async def test_blobs_are_where_jobs_read_them(memory_harness: Harness) -> None:
    """In memory, too."""
    customer = memory_harness.customer()
    result = await customer.run(**await with_blobs(customer, JOB))

    assert "succeeded" == result["status"]
    container = memory_harness.environment["INPUT_CONTAINERS"]
    data = await memory_harness.services.blobs.read(container, f"{customer.name}/inputs/notes.md", 1000)
    assert data == NOTES
