"""The connection of an attempt: found or not, its model, and a key that is refused or rotated."""

from __future__ import annotations

import pytest

from shared.jobs.executor import MAX_FAILED_ATTEMPTS
from tests.support.endpoint import Answer, error
from tests.support.workers import Worker


async def test_the_named_connection_is_used(worker: Worker):
    """`connection` names one of the customer's connections; another fails the job, and nothing is called."""
    customer = worker.customer(connection=None)
    worker.connect(customer, "eu", default_model="eu-model")

    missing = await worker.run(customer, connection="us")

    assert ("failed", "connection_not_found") == (missing["status"], missing["error"]["code"])
    assert [] == customer.account.received + worker.usage(customer)
    result = await worker.run(customer, connection="eu")
    assert ("eu-model", "eu") == (result["model"], result["connection"]["name"])


async def test_a_rotated_key_fails_no_job(worker: Worker):
    """If a key is refused and the secret has a new version, the job runs with the new key."""
    customer = worker.customer()
    await worker.run(customer)
    del worker.endpoint.accounts[customer.account.key]
    customer.account = worker.endpoint.account()
    worker.connect(customer)

    result = await worker.run(customer)

    assert ("succeeded", 1) == (result["status"], result["usage"]["calls"])
    assert 1 == len(customer.account.received)
    assert [("answered", 1, 18)] * 2 == worker.outcomes(customer)


@pytest.mark.parametrize(
    ("answer", "reads"),
    [(error(401), 3), (error(403, message="Access denied due to Virtual Network/Firewall rules."), 1)],
    ids=["key", "network"],
)
async def test_a_refused_key_is_read_again(worker: Worker, answer: Answer, reads: int):
    """A key that stays refused is read again for each job that it fails; a refused network is no reason to."""
    customer = worker.customer()
    customer.account.answers[:] = [answer] * 3

    results = [await worker.run(customer) for _ in range(2)]

    assert ["credential_rejected"] * 2 == [result["error"]["code"] for result in results]
    assert reads == worker.memory.credentials.reads[customer.name, "default"]


async def test_a_key_that_is_refused_while_the_vault_is_down_requeues_the_job(worker: Worker):
    """Whether there is a new key is not known, so the job waits for the vault."""
    customer = worker.customer()
    customer.account.will_answer(error(401))
    await worker.services.connections.resolve(customer.name, "default")
    worker.memory.credentials.down = True

    assert await worker.deliver(customer, job_id="waits") is None
    ((body, delay_s),) = worker.requeued()
    worker.memory.credentials.down = False
    result = await worker.run(customer, body)

    assert 30 <= delay_s <= 33
    assert ("succeeded", 2) == (result["status"], result["attempts"])


async def test_a_vault_that_does_not_answer_uses_up_no_failed_attempt(worker: Worker):
    """A job waits for the vault as often as it must, and ends at its deadline with that reason."""
    customer = worker.customer()
    worker.memory.credentials.down = True
    for _ in range(MAX_FAILED_ATTEMPTS + 1):
        assert await worker.deliver(customer, job_id="waits") is None

    result = await worker.run(customer, job_id="late", options={"deadline_s": 20})

    assert 0 == worker.row(customer, "waits")["failed_attempts"]
    assert "timeout" == result["error"]["code"]
    assert "Key Vault answered 503." in result["error"]["message"]


async def test_the_endpoint_gets_the_customers_key_model_and_messages(worker: Worker):
    """The request has the customer's key, the model, the messages, and in its body every parameter of any name."""
    customer, other = worker.customer(), worker.customer()
    parameters = {"temperature": 0.2, "n": 1, "stop": ["\n"], "response_format": {"type": "json_object"}, "x-own": [1]}
    parameters |= {"api-key": other.account.key, "authorization": other.account.key, "base_url": "http://x"}
    request = {"prompt": "Hi", "system": "Be brief.", "parameters": parameters}

    await worker.run(customer, input=request, model="my-deployment")

    (received,) = customer.account.received
    assert ("/openai/v1/chat/completions", customer.account.key) == (received.path, received.headers["api-key"])
    assert "authorization" not in received.headers
    assert {
        "model": "my-deployment",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        **parameters,
    } == received.json
    assert [] == other.account.received
