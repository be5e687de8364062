"""`embed` from the message to the result: steps, blobs and usage records."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from aiohttp import web

from shared.actions.embed import MAX_TEXTS
from tests.support.endpoint import Answer, error, reply
from tests.support.harness import Customer, Harness


def job(texts: list[str], **members: Any) -> dict[str, Any]:
    """Return the members of an embed job; `members` are its input's."""
    return {"action": "embed", "input": {"texts": texts} | members}


def numbers(count: int) -> list[str]:
    """Return `count` texts, each a number."""
    return [str(number) for number in range(count)]


def model(limit: int, *, dimensions: int = 2) -> Answer:
    """Give each numbered text the vector [number, 0.5, 0.5 …], and refuse more than `limit` texts."""

    async def answer(request: web.Request) -> web.StreamResponse:
        texts = (await request.json())["input"]
        if len(texts) > limit:
            return await error(400, "invalid", "Too many inputs.")(request)
        data = [{"index": n, "embedding": [int(text)] + [0.5] * (dimensions - 1)} for n, text in enumerate(texts)]
        body = {"data": data[::-1], "model": "m-1", "usage": {"prompt_tokens": len(texts), "total_tokens": 9}}
        return await reply(body, headers={"x-request-id": "req-v"})(request)

    return answer


def sizes(customer: Customer) -> list[int]:
    """Return how many texts each of the customer's calls had."""
    return [len(received.json["input"]) for received in customer.account.received]


async def test_texts_become_vectors_in_one_call(harness: Harness):
    """Few texts are one call, whose usage is recorded with the job; the vectors are in the order of the texts."""
    customer = harness.customer()
    customer.account.will_answer(model(10))

    result = await customer.run(**job(["2", "0", "1"], dimensions=2, parameters={"user": "u"}))

    assert {"vectors": 3, "dimensions": 2, "embeddings": [[2, 0.5], [0, 0.5], [1, 0.5]]} == result["output"]
    (received,) = customer.account.received
    assert "/openai/v1/embeddings" == received.path
    assert {"model": "gpt-4o", "input": ["2", "0", "1"], "dimensions": 2, "user": "u"} == received.json
    assert {"calls": 1, "input_tokens": 3, "output_tokens": 0}.items() <= result["usage"].items()
    (record,) = await customer.usage()
    assert (3, "m-1", True) == (record["input_tokens"], record["answered_by"], record["reported"])
    assert not [row for row in await customer.rows() if row["RowKey"].startswith("s_")]


async def test_npy_is_a_blob_that_numpy_reads(harness: Harness):
    """With `format: npy` the vectors are a blob of the job, and not in the output."""
    customer = harness.customer()
    customer.account.will_answer(*[model(MAX_TEXTS)] * 2)

    result = await customer.run(job_id="file", **job(numbers(1000), format="npy"))

    output = result["output"]
    assert (1000, 2, {"vectors", "dimensions", "blob"}) == (output["vectors"], output["dimensions"], set(output))
    assert f"{customer.name}/file/embeddings.npy" == output["blob"]["name"]
    client = harness.blobs.get_blob_client(output["blob"]["container"], output["blob"]["name"])
    array = np.load(io.BytesIO(await (await client.download_blob()).readall()))
    assert [[number, 0.5] for number in range(1000)] == array.tolist()


async def test_many_texts_need_several_calls(harness: Harness):
    """More texts than one call takes need several, each with its own usage record; the large result is a blob."""
    customer = harness.customer()
    customer.account.will_answer(*[model(MAX_TEXTS, dimensions=8)] * 4)

    result = await customer.run(job_id="many", **job(numbers(2048)))

    client = harness.blobs.get_blob_client(result["output_blob"]["container"], result["output_blob"]["name"])
    output = json.loads(await (await client.download_blob()).readall())["output"]
    assert "output" not in result
    assert list(range(2048)) == [row[0] for row in output["embeddings"]]
    assert [512] * 4 == sizes(customer)
    assert (4, 2048, 4) == (result["usage"]["calls"], result["usage"]["input_tokens"], len(await customer.usage()))


async def test_calls_are_halved_until_the_provider_accepts_them(harness: Harness):
    """A refused number of texts halves the calls; the next job makes calls of an accepted size at once."""
    customer = harness.customer(default_model="takes-96")
    customer.account.will_answer(*[model(96)] * 99)

    first = await customer.run(**job(numbers(400)))
    first_sizes = sizes(customer)
    second = await customer.run(**job(numbers(130)))

    assert list(range(400)) == [row[0] for row in first["output"]["embeddings"]]
    assert ([50] * 8 + [100, 200, 400], 8) == (sorted(first_sizes), first["usage"]["calls"])
    assert [33, 32, 33, 32] == sizes(customer)[len(first_sizes) :]
    assert "succeeded" == second["status"]


async def test_later_attempt_makes_only_the_missing_calls(harness: Harness):
    """A requeued job keeps the calls that were answered, whatever limit is learned before its next attempt."""
    customer = harness.customer(default_model="resumed")
    customer.account.will_answer(model(MAX_TEXTS), error(429, retry_after="3600"), *[model(MAX_TEXTS)] * 9)

    assert await customer.deliver(job_id="resumed", **job(numbers(1000))) is None
    first_calls = len(customer.account.received)
    capabilities = harness.services.capabilities
    capabilities.learn_batch_limit(300, f"{harness.endpoint.url}/openai/v1", "resumed", "embeddings")
    result = await customer.run(job_id="resumed", **job(numbers(1000)))

    assert list(range(1000)) == [row[0] for row in result["output"]["embeddings"]]
    assert (2, [250, 250]) == (first_calls, sizes(customer)[first_calls:])
    assert (3, 1000) == (result["usage"]["calls"], result["usage"]["input_tokens"])


async def test_invalid_response_fails_the_job_and_is_recorded(harness: Harness):
    """A 2xx response without vectors fails the job; its call is recorded, as one without a reported usage."""
    customer = harness.customer()
    customer.account.will_answer(reply(b"{}"), model(512))

    result = await customer.run(**job(numbers(600)))

    assert ("failed", "provider_unavailable", 2) == (
        result["status"],
        result["error"]["code"],
        result["usage"]["calls"],
    )
    assert [(False, 0), (True, 300)] == sorted(
        (record["reported"], record["input_tokens"]) for record in await customer.usage()
    )


async def test_refused_encoding_is_left_out(harness: Harness):
    """If a provider refuses `encoding_format`, the call is repeated without it, and the result says so."""
    customer = harness.customer(default_model="no-encoding")
    refusal = {"code": "unknown_parameter", "message": "Unknown parameter: 'encoding_format'."}
    customer.account.will_answer(reply({"error": refusal | {"param": "encoding_format"}}, status=400), model(9))

    result = await customer.run(**job(["4"], parameters={"encoding_format": "base64"}))

    assert ([[4, 0.5]], ["encoding_format was left out"]) == (
        result["output"]["embeddings"],
        result["output"]["adapted"],
    )
