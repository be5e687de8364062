"""Inputs in blobs: only from the operator's input containers, and only those of the job's customer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.job import Job, decode_job
from shared.contract.names import BlobName
from shared.errors import InvalidJob
from shared.jobs.inputs import MAX_INPUT_BYTES, Inputs
from shared.settings import read_settings
from tests.support.fake_blobs import MemoryBlobs

SETTINGS = read_settings({"JobStorage": "UseDevelopmentStorage=true", "INPUT_CONTAINERS": "inputs,uploads"})
OWN_INPUT = f"acme/job-1/input-{'0' * 32}.json"


def job(**members: Any) -> Job:
    return decode_job(json.dumps({"customer": "acme", "action": "chat"} | members).encode(), default_id="job-1")


async def test_an_input_in_the_message_is_read_from_there():
    """No blob is read."""
    blobs = MemoryBlobs(down=True)

    assert b'{"prompt":"x"}' == bytes(await Inputs(SETTINGS, blobs).load(job(input={"prompt": "x"}))).replace(b" ", b"")


@pytest.mark.parametrize("name", ["inputs/acme/a.json", "uploads/acme/b/c.json", f"results/{OWN_INPUT}"])
@pytest.mark.parametrize("member", ["input_blob", "input"])
async def test_an_input_in_a_blob_is_read(name: str, member: str):
    """It is in one of the input containers, or is the job's own input, which did not fit its message."""
    container, _, blob = name.partition("/")
    blobs = MemoryBlobs()
    await blobs.write(container, blob, b'{"prompt": "x"}', "application/json")

    named = {"input_blob": name}
    assert b'{"prompt": "x"}' == await Inputs(SETTINGS, blobs).load(
        job(**(named if member == "input_blob" else {"input": named}))
    )


@pytest.mark.parametrize(
    ("container", "name"),
    [
        ("inputs", "other/a.json"),
        ("inputs", "acme"),
        ("inputs", "acme-2/a.json"),
        ("results", "acme/job-1/result.json"),
        ("results", f"other/job-1/input-{'0' * 32}.json"),
        ("elsewhere", "acme/a.json"),
    ],
)
async def test_other_blobs_are_refused(container: str, name: str):
    """The error names the member, and where the blob must be; nothing is read."""
    inputs = Inputs(SETTINGS, MemoryBlobs(down=True))

    with pytest.raises(InvalidJob) as raised:
        await inputs.read("acme", BlobName(container, name), at="input.blob")

    assert "`input.blob` must be in inputs or uploads, and its name must begin with acme/." == str(raised.value)


async def test_a_blob_that_is_too_large_is_an_invalid_job():
    """It may have MAX_INPUT_BYTES, and not one more."""
    blobs = MemoryBlobs()
    for size in (MAX_INPUT_BYTES, MAX_INPUT_BYTES + 1):
        await blobs.write("inputs", f"acme/{size}", bytes(size), "")
    inputs = Inputs(SETTINGS, blobs)

    assert MAX_INPUT_BYTES == len(await inputs.read("acme", BlobName("inputs", f"acme/{MAX_INPUT_BYTES}"), at="x"))
    with pytest.raises(InvalidJob, match="is larger than"):
        await inputs.read("acme", BlobName("inputs", f"acme/{MAX_INPUT_BYTES + 1}"), at="x")
