"""`embed` from the message to the result: steps and usage records."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.support.endpoint import Answer, reply
from tests.support.harness import Harness


def job(texts: list[str], **members: Any) -> dict[str, Any]:
    """Return the members of an embed job; `members` are its input's."""
    return {"action": "embed", "input": {"texts": texts} | members}


def numbers(count: int) -> list[str]:
    """Return `count` texts, each a number."""
    return [str(number) for number in range(count)]


def model() -> Answer:
    """Give each numbered text the vector [number, 0.5]."""

    async def answer(request: web.Request) -> web.StreamResponse:
        texts = (await request.json())["input"]
        data = [{"index": n, "embedding": [int(text), 0.5]} for n, text in enumerate(texts)]
        body = {"data": data[::-1], "model": "m-1", "usage": {"prompt_tokens": len(texts), "total_tokens": 9}}
        return await reply(body, headers={"x-request-id": "req-v"})(request)

    return answer


async def test_texts_become_vectors_in_one_call(harness: Harness):
    """Few texts are one call, whose usage is recorded with the job; the vectors are in the order of the texts."""
    customer = harness.customer()
    customer.account.will_answer(model())

    result = await customer.run(**job(["2", "0", "1"], dimensions=2, parameters={"user": "u"}))

    assert {"vectors": 3, "dimensions": 2, "embeddings": [[2, 0.5], [0, 0.5], [1, 0.5]]} == result["output"]
    (received,) = customer.account.received
    assert "/openai/v1/embeddings" == received.path
    assert {"model": "gpt-4o", "input": ["2", "0", "1"], "dimensions": 2, "user": "u"} == received.json
    assert (1, 3) == (result["usage"]["calls"], result["usage"]["input_tokens"])
    (record,) = await customer.usage()
    assert (3, "m-1", True) == (record["input_tokens"], record["answered_by"], record["reported"])
    assert not [row for row in await customer.rows() if row["RowKey"].startswith("s_")]
