"""Jobs over HTTP: bodies and inputs that are refused before anything is recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.decoding import MAX_CONTAINERS
from shared.http.request_parsing import MAX_BODY_BYTES
from shared.jobs.inputs import MAX_INPUT_BYTES
from tests.support.harness import Customer, Harness
from tests.support.http_client import send
from tests.support.http_jobs import post


@pytest.fixture(name="harness")
def _harness(own_harness: Harness) -> Harness:
    return own_harness


@pytest.fixture
def customer(harness: Harness) -> Customer:
    """A customer of one test."""
    return harness.customer()


LISTS = b"[]," * 200_000 + b"[]"


async def test_a_body_above_the_limit_is_refused(customer: Customer):
    """413, with the limit in the message."""
    refused = await send(customer.harness, "POST", "jobs", body=b" " * (MAX_BODY_BYTES + 1))

    assert (413, "too_large") == (refused.status, refused.json["code"])
    assert str(MAX_BODY_BYTES) in refused.json["detail"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"customer": "No Customer"}, "`customer` must be"),
        ({"action": "dance"}, "`action` must be one of"),
        ({"input": {"promt": "Hello?"}}, "`input.promt` is not a known member"),
        ({"input": {"prompt": 1}}, "`input.prompt`"),
        ({"_envelope": {"submitted_at": "2030-01-01T00:00:00Z"}}, "`_envelope` is not a known member"),
        ({"output": {"queue": "somebody-elses"}}, "`output.queue`"),
        ({"options": {"max_retries": 99}}, "`options.max_retries`"),
        ({"input": {"input_blob": "secrets/of/others.json"}}, "`input_blob` must be in"),
    ],
)
async def test_what_the_queue_refuses_is_refused_at_once(customer: Customer, members: dict[str, Any], message: str):
    """400 with the same message that names the member; nothing is recorded or queued."""
    refused = await post(customer, job_id="bad", **members)

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert message in refused.json["detail"]
    assert [] == await customer.rows()
    assert [] == await customer.queued()


@pytest.mark.parametrize("blob", ["{inputs}/somebody-else/a.txt", "nowhere/{customer}/a.txt"])
async def test_a_blob_that_the_job_may_not_read_is_refused_at_once(customer: Customer, blob: str):
    """400 before the job is accepted, with the message of a run."""
    name = blob.format(inputs=customer.harness.environment["INPUT_CONTAINERS"], customer=customer.name)
    refused = await post(customer, action="summarize", input={"blob": name})
    result = await customer.run(action="summarize", input={"blob": name})

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert result["error"]["message"] == refused.json["detail"]
    assert "`input.blob` must be in" in refused.json["detail"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {"content-encoding": "gzip"}, 415),
    ],
)
async def test_a_body_that_is_not_json_is_refused(harness: Harness, body: bytes, headers: dict[str, str], status: int):
    """400 or 415 as a problem."""
    refused = await send(harness, "POST", "jobs", body=body, headers=headers)

    assert (status, "application/problem+json") == (refused.status, refused.media_type)


async def test_an_empty_body_is_explained(harness: Harness):
    """Azure's host drops a body that is sent in chunks: the message says so, and not that its JSON is invalid."""
    refused = await send(harness, "POST", "jobs")

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert "Content-Length" in refused.json["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"customer":"a","action":"chat","input":{"prompt":"x","parameters":{"stop":[%s]}}}' % LISTS,
        b'{"customer":"a","action":"chat","input":{"prompt":"x"},"metadata":[%s]}' % LISTS.replace(b"[]", b"{}"),
        b'{"customer":"a","action":"raw","input":{"path":"a","json":[%s]}}' % LISTS.replace(b"[]", b'["["]'),
        LISTS,
    ],
    ids=["lists", "objects", "with texts", "no job"],
)
async def test_a_body_of_too_many_lists_is_refused(customer: Customer, body: bytes):
    """400 before it is decoded: as objects, it would take twenty times the memory, and seconds of CPU."""
    refused = await send(customer.harness, "POST", "jobs", body=body)

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert "more than 200,000 lists and objects" in refused.json["detail"]


async def test_a_blob_of_too_many_lists_is_refused(customer: Customer):
    """An input in a blob has the same limit as a body."""
    container = customer.harness.environment["INPUT_CONTAINERS"]
    blob = customer.harness.blobs.get_blob_client(container, f"{customer.name}/in.json")
    await blob.upload_blob(b'{"prompt":"x","parameters":{"stop":[%s]}}' % LISTS)
    job = {"customer": customer.name, "action": "chat", "input_blob": f"{container}/{customer.name}/in.json"}
    refused = await send(customer.harness, "POST", "jobs", json_body=job)

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert "`input` contains more than 200,000 lists and objects" in refused.json["detail"]


@pytest.mark.parametrize(
    ("action", "job_input"),
    [
        ("summarize", {"text": 'x[["\\"]]={{}}\n' * 51_000}),
        ("embed", {"texts": ["[{" * 200] * 2048}),
        ("multi_chat", {"prompts": [[{"role": "user", "content": "[{" * 60}] * 2] * 1000}),
    ],
    ids=["code", "texts", "conversations"],
)
async def test_brackets_in_texts_are_not_counted(customer: Customer, action: str, job_input: dict[str, Any]):
    """Large inputs are accepted, whatever their texts contain."""
    body = json.dumps({"customer": customer.name, "action": action, "input": job_input}).encode()
    assert MAX_CONTAINERS < body.count(b"[") + body.count(b"{")
    accepted = await send(customer.harness, "POST", "jobs", body=body)
    await customer.queued()

    assert 202 == accepted.status, accepted.body


async def test_too_large_an_input_is_refused_at_once(customer: Customer):
    """An input that could not be read later is not accepted."""
    refused = await post(customer, input={"prompt": "x" * (MAX_INPUT_BYTES + 10)})

    assert (413, "too_large") == (refused.status, refused.json["code"])
