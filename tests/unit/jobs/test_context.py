"""What an action has while it runs: the model, steps, blobs."""

from __future__ import annotations

import json

import pytest

from tests.support.endpoint import reply
from tests.support.workers import Worker

GET = {"action": "raw", "input": {"path": "models", "method": "GET"}}


async def test_a_model_is_needed_only_if_it_is_used(worker: Worker):
    """A raw job without a model runs; a result names the model that the connection would have used if it was used."""
    customer = worker.customer(default_model=None)
    customer.account.will_answer(reply({"data": []}))

    result = await worker.run(customer, **GET)
    chat = await worker.run(customer)

    assert ("succeeded", None) == (result["status"], result.get("model"))
    assert ("invalid_job", "`model` is missing, and the connection default has no `default_model`.") == (
        chat["error"]["code"],
        chat["error"]["message"],
    )


async def test_a_raw_operation_has_the_connections_model_in_its_url(worker: Worker):
    """The model that the URL needs is the connection's default, and the result names it."""
    customer = worker.customer()
    worker.connect(customer, endpoint=customer.account.base)

    result = await worker.run(customer, action="raw", input={"path": "chat/completions", "json": {"messages": []}})

    assert ("succeeded", "gpt-4o") == (result["status"], result["model"])
    assert "/openai/deployments/gpt-4o/chat/completions" == customer.account.received[0].path


@pytest.mark.parametrize(
    ("container", "owner", "code"),
    [("inputs", "{me}", None), ("inputs", "other", "invalid_job"), ("x", "{me}", "invalid_job")],
)
async def test_an_action_reads_its_customers_blobs(worker: Worker, container: str, owner: str, code: str | None):
    """A blob that an input names is under the same rules as an input that is a blob."""
    customer = worker.customer()
    name = f"{owner.format(me=customer.name)}/text.txt"
    await worker.memory.blobs.write(container, name, b"A short text.", "text/plain")

    result = await worker.run(customer, action="summarize", input={"blob": f"{container}/{name}"})

    assert code == result.get("error", {}).get("code")
    assert int(code is None) == len(customer.account.received)
    assert code is not None or "A short text." in json.dumps(customer.account.received[0].json)
