"""The blobs of results on Azurite."""

from __future__ import annotations

import hashlib
import uuid

import pytest

from tests.support.harness import Harness


@pytest.mark.parametrize("job_id", ["...", ".a", "a..b", "a.b_c-d"])
async def test_a_blob_is_below_its_customer(harness: Harness, job_id: str):
    """The blob has the name, below the customer's, and the content type that the result says."""
    customer = harness.customer()
    own = f"{job_id}{uuid.uuid4().hex}"

    result = await customer.run(job_id=own, output={"blob": True})

    name = f"{customer.name}/{own}/result.json"
    container = harness.blobs.get_container_client(harness.environment["RESULTS_CONTAINER"])
    blob = container.get_blob_client(name)
    data = await (await blob.download_blob()).readall()
    assert {
        "container": container.container_name,
        "name": name,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "content_type": "application/json",
    } == result["output_blob"]
    assert "application/json" == (await blob.get_blob_properties()).content_settings.content_type
    assert [name] == [each.name async for each in container.list_blobs(name_starts_with=customer.name)]
    assert "Hello." == result["output"]["text"]
