"""Where results go: into the message if they fit, into the blob where asked for or too large."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

import pytest

from shared.contract.job import Job, Output, decode_job
from shared.contract.result import MESSAGE_LIMIT, ErrorBody, Result, encode_result
from shared.errors import InvalidJob, StorageUnavailable
from shared.jobs.outputs import Outputs
from shared.settings import Settings, read_settings
from tests.support.harness import World


class Kept:
    """Blobs in memory."""

    def __init__(self, *, broken: bool = False) -> None:
        self.blobs: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._broken = broken

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """Keeps the blob."""
        if self._broken:
            raise StorageUnavailable("Storage refused.")
        self.blobs[container, name] = (data, content_type)

    async def read(self, container: str, name: str, limit: int) -> bytes | None:
        """Gives it back."""
        data, _ = self.blobs.get((container, name), (b"", ""))
        return data[:limit] or None


def settings(**environment: str) -> Settings:
    return read_settings({"JobStorage": "x", "RESULTS_CONTAINER": "rc"} | environment)


def job(job_id: str = "job-1", **output: Any) -> Job:
    members = {
        "customer": "acme",
        "action": "chat",
        "input": {"prompt": "x"},
        "job_id": job_id,
        "output": output,
    }
    return decode_job(json.dumps(members).encode(), default_id="m-1")


def result(**members: Any) -> Result:
    return Result(**{"job_id": "job-1", "customer": "acme", "status": "succeeded"} | members)


def padded(size: int) -> Result:
    """A result of exactly `size` bytes."""
    empty = len(encode_result(result(output={"text": ""})))
    return result(output={"text": "x" * (size - empty)})


@pytest.mark.parametrize("size", [200, MESSAGE_LIMIT - 1, MESSAGE_LIMIT])
async def test_result_that_fits_is_told_whole_and_not_written(size: int):
    """A result up to the size of a message is the message, and there is no blob."""
    blobs = Kept()

    assert encode_result(padded(size)) == Outputs(settings(), blobs).inline_body(job(), padded(size))
    assert Outputs(settings(), blobs).inline_body(job(blob=True), padded(size)) is None
    assert {} == blobs.blobs


@pytest.mark.parametrize("size", [MESSAGE_LIMIT + 1, 300_000])
async def test_result_that_is_too_large_is_written_and_told_without_its_output(size: int):
    """Beyond that size the blob holds the whole result, and the message where it is."""
    blobs = Kept()
    whole = encode_result(padded(size))

    assert Outputs(settings(), blobs).inline_body(job(), padded(size)) is None
    told = await Outputs(settings(), blobs).save(job(), padded(size))

    assert {("rc", "acme/job-1/result.json"): (whole, "application/json")} == blobs.blobs
    assert json.loads(encode_result(result())) | {
        "output_blob": {
            "container": "rc",
            "name": "acme/job-1/result.json",
            "size": size,
            "sha256": hashlib.sha256(whole).hexdigest(),
            "content_type": "application/json",
        }
    } == json.loads(told)


async def test_blob_that_was_asked_for_is_written_beside_the_message():
    """A job that asks for a blob has its result in both, the message saying where the blob is."""
    blobs = Kept()
    given = result(output={"text": "Hello."})

    told = json.loads(await Outputs(settings(), blobs).save(job(blob=True), given))

    assert {("rc", "acme/job-1/result.json"): (encode_result(given), "application/json")} == blobs.blobs
    assert {"text": "Hello."} == told["output"]
    assert len(encode_result(given)) == told["output_blob"]["size"]


async def test_result_that_just_fits_gives_way_to_the_name_of_its_blob():
    """Where naming the blob would make the message too large, the output is left to the blob."""
    told = await Outputs(settings(), Kept()).save(job(blob=True), padded(MESSAGE_LIMIT))

    assert len(told) < 1000
    assert "output" not in json.loads(told)


async def test_giant_error_detail_still_fits_a_message():
    """A provider's endless detail goes to the blob; the message keeps code and sentence."""
    blobs = Kept()
    error = ErrorBody(code="request_rejected", message="No.", status=400, detail={"code": "x" * 200_000})
    given = result(status="failed", error=error, output={"text": "y" * 100_000})

    told = await Outputs(settings(), blobs).save(job(), given)

    assert len(told) <= MESSAGE_LIMIT
    assert {"code": "request_rejected", "message": "No.", "status": 400} == json.loads(told)["error"]
    assert [encode_result(given)] == [data for data, _ in blobs.blobs.values()]


async def test_largest_of_everything_else_fits_a_message():
    """A result with the longest names, metadata and sentences fits a message once it is shortened."""
    given = result(
        job_id="j" * 100,
        customer="c" * 50,
        model="m" * 200,
        metadata={"a": "\x01" * 680},
        output={"text": "x" * MESSAGE_LIMIT},
        error=ErrorBody(code="x", message="é" * 1000, request_id="r" * 8000, detail={"a": "x" * 99_999}),
    )

    assert len(await Outputs(settings(), Kept()).save(job("j" * 100), given)) <= MESSAGE_LIMIT


async def test_nothing_is_told_where_the_blob_was_not_written():
    """A result whose blob could not be written is not told of."""
    with pytest.raises(StorageUnavailable):
        await Outputs(settings(), Kept(broken=True)).save(job(blob=True), result())


@pytest.mark.parametrize("queue", [True, False, "results", "special", "more"])
def test_queues_that_the_operator_allows(queue: object):
    """The results queue and those that the setting names are allowed, and no queue at all."""
    outputs = Outputs(settings(ALLOWED_RESULT_QUEUES="special,more"), Kept())

    assert outputs.check(Output(queue=queue)) is None


@pytest.mark.parametrize("queue", ["other", "jobs", "jobs-poison", "callbacks", "special-2"])
def test_other_queues_are_refused(queue: str):
    """A queue that is not allowed is refused with those that are, the jobs' own even where allowed."""
    outputs = Outputs(settings(ALLOWED_RESULT_QUEUES="special,jobs,jobs-poison,callbacks"), Kept())

    with pytest.raises(InvalidJob) as raised:
        outputs.check(Output(queue=queue))

    assert (
        f"`output.queue` {queue} is not allowed. The app setting ALLOWED_RESULT_QUEUES allows results, "
        "special." == str(raised.value)
    )


@pytest.mark.parametrize("job_id", ["...", ".a", "a..b", "a.b_c-d"])
async def test_blob_lies_below_its_customer(world: World, job_id: str):
    """In Storage itself the blob bears the name that is told, below the customer's, with its type."""
    customer = world.customer()
    own = f"{job_id}{uuid.uuid4().hex}"

    told = await customer.run(job_id=own, output={"blob": True})

    blob = world.blobs.get_blob_client(world.environment["RESULTS_CONTAINER"], f"{customer.name}/{own}/result.json")
    data = await (await blob.download_blob()).readall()
    assert {
        "container": world.environment["RESULTS_CONTAINER"],
        "name": f"{customer.name}/{own}/result.json",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "content_type": "application/json",
    } == told["output_blob"]
    assert "application/json" == (await blob.get_blob_properties()).content_settings.content_type
    container = world.blobs.get_container_client(world.environment["RESULTS_CONTAINER"])
    names = [found.name async for found in container.list_blobs(name_starts_with=customer.name)]
    assert [f"{customer.name}/{own}/result.json"] == names


@pytest.mark.parametrize("job_id", [".", ".."])
async def test_no_job_id_leads_out_of_its_customers_blobs(world: World, job_id: str):
    """An id that would lead a blob's path upwards is refused before anything is spent."""
    customer = world.customer()

    told = await customer.run(job_id=job_id, output={"blob": True})

    assert ("failed", "invalid_job") == (told["status"], told["error"]["code"])
    assert [] == customer.account.received
