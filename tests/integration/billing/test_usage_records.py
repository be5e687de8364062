"""Usage records in a real table."""

from __future__ import annotations

from tests.support.endpoint import reply
from tests.support.harness import Harness


async def test_long_names_in_a_response_cost_one_call(harness: Harness):
    """A job whose endpoint returns a model name of 40,000 characters succeeds after one call, and has its record."""
    customer = harness.customer()
    choices = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}]
    answer = reply({"model": "m" * 40_000, "choices": choices}, headers={"x-request-id": "r" * 4000})
    customer.account.will_answer(answer)

    result = await customer.run()

    (record,) = await customer.usage()
    assert ("succeeded", 1) == (result["status"], len(customer.account.received))
    assert ("m" * 200, "r" * 200) == (record["answered_by"], record["request_id"])


async def test_a_duration_is_kept(harness: Harness):
    """A transcription that is charged by its seconds, or by a part of one, ends its job, and has its record."""
    customer = harness.customer()
    durations = (27, 9.4701)
    for seconds in durations:
        customer.account.will_answer(reply({"text": "Hello.", "usage": {"type": "duration", "seconds": seconds}}))

    results = [
        await customer.run(action="raw", input={"path": "audio/transcriptions", "method": "POST", "json": {"n": n}})
        for n in range(len(durations))
    ]

    assert ["succeeded"] * len(durations) == [result["status"] for result in results]
    assert [9.47, 27.0] == sorted(record["seconds"] for record in await customer.usage())
