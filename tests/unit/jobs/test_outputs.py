"""Results are in the message if they fit, and in a blob if that is requested or they are too large."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from shared.contract.job import Job, Output, decode_job, named_blob
from shared.contract.result import MESSAGE_LIMIT, ErrorBody, Result, encode_result
from shared.errors import InvalidJob, StorageUnavailable
from shared.jobs import outputs as outputs_module
from shared.jobs.envelope import decode_queued_job
from shared.jobs.fingerprint import fingerprint
from shared.jobs.inputs import Inputs
from shared.jobs.outputs import Outputs
from shared.settings import Settings, read_settings
from tests.support.fake_blobs import MemoryBlobs
from tests.support.manual_clock import ManualClock
from tests.support.rows import every_row

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)


def settings(**environment: str) -> Settings:
    return read_settings({"JobStorage": "UseDevelopmentStorage=true", "RESULTS_CONTAINER": "own-results"} | environment)


def job(job_id: str = "job-1", prompt: str = "x", **output: Any) -> Job:
    members = {"customer": "acme", "action": "chat", "input": {"prompt": prompt}, "job_id": job_id, "output": output}
    return decode_job(json.dumps(members).encode(), default_id="m-1")


def result(**members: Any) -> Result:
    return Result(**{"job_id": "job-1", "customer": "acme", "status": "succeeded"} | members)


def padded(size: int) -> Result:
    """A result of exactly `size` bytes."""
    empty = len(encode_result(result(output={"text": ""})))
    return result(output={"text": "x" * (size - empty)})


@pytest.mark.parametrize("size", [200, MESSAGE_LIMIT - 1, MESSAGE_LIMIT])
async def test_a_result_that_fits_is_the_message(size: int):
    """A result up to the size of a message is published as it is, without a blob, unless a blob is requested."""
    blobs = MemoryBlobs()

    assert Outputs(settings(), blobs).is_inline(job(), encode_result(padded(size)))
    assert not Outputs(settings(), blobs).is_inline(job(blob=True), encode_result(padded(size)))
    assert {} == blobs.blobs


@pytest.mark.parametrize("size", [MESSAGE_LIMIT + 1, 300_000])
async def test_a_result_that_is_too_large_is_in_its_blob(size: int):
    """Beyond that size the blob has the full result, and the message names the blob in place of the output."""
    blobs = MemoryBlobs()
    full = encode_result(padded(size))

    assert not Outputs(settings(), blobs).is_inline(job(), encode_result(padded(size)))
    published = await Outputs(settings(), blobs).save(job(), padded(size), encode_result(padded(size)))

    assert {("own-results", "acme/job-1/result.json"): (full, "application/json")} == blobs.blobs
    assert json.loads(encode_result(result())) | {
        "output_blob": {
            "container": "own-results",
            "name": "acme/job-1/result.json",
            "size": size,
            "sha256": hashlib.sha256(full).hexdigest(),
            "content_type": "application/json",
        }
    } == json.loads(published)


async def test_a_requested_blob_is_written_besides_the_message():
    """
    A job that requests a blob has its result in both, and the message names the blob. If that makes the message too
    large, the output is in the blob alone.
    """
    blobs = MemoryBlobs()
    full = result(output={"text": "Hello."})

    published = json.loads(await Outputs(settings(), blobs).save(job(blob=True), full, encode_result(full)))
    just_fits = await Outputs(settings(), MemoryBlobs()).save(
        job(blob=True), padded(MESSAGE_LIMIT), encode_result(padded(MESSAGE_LIMIT))
    )

    assert {("own-results", "acme/job-1/result.json"): (encode_result(full), "application/json")} == blobs.blobs
    assert {"text": "Hello."} == published["output"]
    assert len(encode_result(full)) == published["output_blob"]["size"]
    assert len(just_fits) < 1000
    assert "output" not in json.loads(just_fits)


async def test_the_largest_result_fits_a_message():
    """
    A result with the longest names, metadata and sentences fits a message without its output and a provider's detail of
    any size, which are in the blob; the error's code, sentence, status and request id remain.
    """
    blobs = MemoryBlobs()
    error = {"code": "x", "message": "é" * 1000, "status": 400, "request_id": "r" * 8000}
    full = result(
        job_id="j" * 100,
        customer="c" * 50,
        model="m" * 200,
        metadata={"a": "\x01" * 680},
        output={"text": "x" * MESSAGE_LIMIT},
        error=ErrorBody(**error, detail={"a": "x" * 99_999}),
    )

    published = await Outputs(settings(), blobs).save(job("j" * 100), full, encode_result(full))

    assert len(published) <= MESSAGE_LIMIT
    assert error == json.loads(published)["error"]
    assert [encode_result(full)] == [data for data, _ in blobs.blobs.values()]


@every_row("queue", [True, False, "results", "special", "more"])
def test_allowed_queues(queue: object):
    """The results queue, those that the setting names for all or for the customer, and no queue at all, are allowed."""
    outputs = Outputs(settings(ALLOWED_RESULT_QUEUES="special,acme=more"), MemoryBlobs())

    assert outputs.check(job(queue=queue)) is None


@every_row("queue", ["other", "jobs", "jobs-poison", "callbacks", "special-2", "theirs", "acme"])
def test_other_queues_are_refused(queue: str):
    """
    The error lists the queues that the customer may name, and no other customer's. The app's own queues are never
    among them, as the setting can't name them.
    """
    names = "special,acme2=theirs,acm=theirs,fabrikam=acme"
    outputs = Outputs(settings(ALLOWED_RESULT_QUEUES=names), MemoryBlobs())

    with pytest.raises(InvalidJob) as raised:
        outputs.check(job(queue=queue))

    assert (
        f"`output.queue` {queue} is not allowed. The app setting ALLOWED_RESULT_QUEUES allows results, "
        "special." == str(raised.value)
    )


@every_row(
    ("callback", "allow_local", "words"),
    [
        ("https://example.com/hook", False, ""),
        ("http://127.0.0.1:7071/hook", True, ""),
        ("http://127.0.0.1:7071/hook", False, "`output.callback` must not be on this machine"),
        ("http://example.com/hook", False, "`output.callback` must begin with https://"),
        ("https://10.0.0.5/hook", False, "`output.callback` must name a public host"),
    ],
)
def test_callbacks_are_under_the_egress_policy(callback: str, allow_local: bool, words: str):
    """A callback is https to a public host, or on this machine if that is allowed."""
    outputs = Outputs(settings(ALLOW_LOCAL_ENDPOINTS=str(allow_local)), MemoryBlobs())

    if words:
        with pytest.raises(InvalidJob, match=words):
            outputs.check(job(callback=callback))
        assert Output(blob=True) == outputs.allowed(job(callback=callback, queue="xyz", blob=True))
    else:
        outputs.check(job(callback=callback))
        assert Output(callback=callback) == outputs.allowed(job(callback=callback))


async def test_blobs_are_checked_once_in_a_while(monkeypatch: pytest.MonkeyPatch):
    """A success holds for five minutes; a failure is repeated at once."""
    clock, blobs = ManualClock(), MemoryBlobs(down=True)
    monkeypatch.setattr(outputs_module, "time", SimpleNamespace(monotonic=clock))
    outputs, writes = Outputs(settings(), blobs), []
    with pytest.raises(StorageUnavailable):
        await outputs.check_writable()
    blobs.down = False
    for seconds in (0, 299, 1):
        clock.advance(seconds)
        blobs.blobs.clear()
        await outputs.check_writable()
        writes.append([*blobs.blobs])

    assert [[("own-results", "~check")], [], [("own-results", "~check")]] == writes


async def test_a_jobs_own_blobs_are_read():
    """If a result's blob is gone, what was published is all that is left; another that is gone is Storage's failure."""
    blobs = MemoryBlobs()
    outputs = Outputs(settings(), blobs)
    published = await outputs.save(job(), padded(300_000), encode_result(padded(300_000)))
    blob = await outputs.write(job(), "steps/0001.json", b"7", "application/json")

    assert ("own-results", "acme/job-1/steps/0001.json", 1) == (blob.container, blob.name, blob.size)
    assert encode_result(padded(300_000)) == await outputs.read_result(job(), published)
    assert b"7" == await outputs.read_own_blob(job(), "steps/0001.json")
    blobs.blobs.clear()
    assert published == await outputs.read_result(job(), published)
    with pytest.raises(StorageUnavailable, match=r"The blob acme/job-1/steps/0001\.json does not exist any more\."):
        await outputs.read_own_blob(job(), "steps/0001.json")


@pytest.mark.parametrize("larger", [False, True])
async def test_an_input_that_does_not_fit_a_message_goes_to_a_blob(larger: bool):
    """The message names it then; the job has the same fingerprint, and the same input when it is read."""
    blobs = MemoryBlobs()
    outputs, inputs = Outputs(settings(), blobs), Inputs(settings(), blobs)
    empty = len(await outputs.message_of(job(prompt=""), submitted_at=SUBMITTED, traceparent=None, generation=0))
    sent = job(prompt="x" * (MESSAGE_LIMIT - empty + larger))

    body = await outputs.message_of(sent, submitted_at=SUBMITTED, traceparent=None, generation=0)

    received = decode_queued_job(body, default_id="")
    assert larger == (len(body) < 1000)
    assert larger == bool(blobs.blobs)
    assert fingerprint(sent) == fingerprint(received)
    assert bytes(sent.input) == (await inputs.load(received, bytes))[0]
    assert {SUBMITTED} == {received.envelope.submitted_at}


async def test_white_space_in_an_input_that_names_a_blob_is_left_out():
    """A message has room for 64 KiB of plain JSON: the next one, which is base64, still names the same blob."""
    spaced = Raw(b'{"input_blob":' + b" " * MESSAGE_LIMIT + b'"inputs/acme/a"}')
    sent = msgspec.structs.replace(job(), input=spaced)
    blobs = MemoryBlobs()

    body = await Outputs(settings(), blobs).message_of(sent, submitted_at=SUBMITTED, traceparent=None, generation=0)

    received = decode_queued_job(body, default_id="")
    assert {} == blobs.blobs
    assert (len(body) < 1000, fingerprint(sent)) == (True, fingerprint(received))
    assert named_blob(sent) == named_blob(received)
