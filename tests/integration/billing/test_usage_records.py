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
