"""The connection of an attempt: found or not, its model, and a key that is refused or rotated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.jobs.executor import MAX_FAILED_ATTEMPTS
from tests.support.endpoint import error
from tests.support.workers import Worker


@pytest.mark.parametrize(
    ("secret", "attributes", "code"),
    [
        (None, {}, "connection_not_found"),
        ("", {"enabled": False}, "connection_disabled"),
        ("", {"expires_on": datetime.now(UTC) - timedelta(minutes=1)}, "connection_expired"),
        ("", {"not_before": datetime.now(UTC) + timedelta(hours=1)}, "connection_expired"),
        ('{"endpoint": ', {}, "connection_invalid"),
        ('{"api_key": "k", "end_point": "x"}', {}, "connection_invalid"),
        (
            '{"api_key": "k", "provider": "openai", "endpoint": "https://evil.example/v1"}',
            {},
            "connection_invalid",
        ),
    ],
    ids=["none", "disabled", "expired", "not yet valid", "malformed", "unknown member", "endpoint not allowed"],
)
async def test_a_connection_that_can_not_be_used_fails_the_job(
    worker: Worker, secret: str | None, attributes: dict[str, Any], code: str
):
    """A missing, disabled, expired or malformed secret fails the job with its own code, and nothing is called."""
    customer = worker.customer(connection=None)
    if secret is not None:
        worker.memory.credentials.put(customer.name, value=secret or customer.secret(), **attributes)

    result = await worker.run(customer)

    assert ("failed", code) == (result["status"], result["error"]["code"])
    assert [] == customer.account.received + worker.usage(customer)


async def test_the_named_connection_is_used(worker: Worker):
    """`connection` names one of the customer's connections; another name is not found."""
    customer = worker.customer()
    worker.connect(customer, "eu", default_model="eu-model")

    result = await worker.run(customer, connection="eu")
    missing = await worker.run(customer, connection="us")

    assert ("eu-model", "eu") == (result["model"], result["connection"]["name"])
    assert "connection_not_found" == missing["error"]["code"]


async def test_a_model_must_agree_with_the_endpoint(worker: Worker):
    """If the endpoint names the deployment, a job that names another one is rejected; one that agrees runs."""
    customer = worker.customer()
    worker.connect(customer, endpoint=f"{customer.account.base}/openai/deployments/mine")

    refused = await worker.run(customer, model="other")
    agreed = await worker.run(customer, model="mine")

    assert "invalid_job" == refused["error"]["code"]
    assert ("succeeded", "mine") == (agreed["status"], agreed["model"])
    assert "/openai/deployments/mine/chat/completions" == customer.account.received[0].path
    assert {"api-version": "2024-10-21"} == customer.account.received[0].query


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


async def test_a_refused_key_is_read_again_once(worker: Worker):
    """A key that stays refused fails the job as `credential_rejected`; its secret is read once more."""
    customer = worker.customer(api_key="a-key-of-nobody")

    results = [await worker.run(customer) for _ in range(3)]

    assert [("credential_rejected", 401)] * 3 == [
        (result["error"]["code"], result["error"]["status"]) for result in results
    ]
    assert 2 == worker.memory.credentials.reads[customer.name, "default"]


async def test_a_refused_network_is_no_reason_to_read_the_key_again(worker: Worker):
    """A firewall that blocks the app is named, without its own text; another key would not help."""
    customer = worker.customer()
    customer.account.will_answer(error(403, "AccessDenied", "Access denied due to Virtual Network/Firewall rules."))

    result = await worker.run(customer)

    assert "credential_rejected" == result["error"]["code"]
    assert "network rules block this app (403)" in result["error"]["message"]
    assert "Access denied" not in result["error"]["message"]
    assert 1 == worker.memory.credentials.reads[customer.name, "default"]


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
    """The request has the customer's key, the model, the messages, and every parameter as the job has it."""
    customer = worker.customer()
    parameters = {"temperature": 0.2, "n": 1, "stop": ["\n"], "response_format": {"type": "json_object"}, "x-own": [1]}

    await worker.run(
        customer, input={"prompt": "Hi", "system": "Be brief.", "parameters": parameters}, model="my-deployment"
    )

    (received,) = customer.account.received
    assert ("/openai/v1/chat/completions", customer.account.key) == (received.path, received.headers["api-key"])
    assert {
        "model": "my-deployment",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        **parameters,
    } == received.json


async def test_parameters_change_neither_address_nor_authentication(worker: Worker):
    """Parameters go into the body, whatever their names are."""
    customer, other = worker.customer(), worker.customer()
    parameters = {"api-key": other.account.key, "authorization": other.account.key, "base_url": "http://x"}

    await worker.run(customer, input={"prompt": "x", "parameters": parameters})

    (received,) = customer.account.received
    assert parameters.items() <= received.json.items()
    assert customer.account.key == received.headers["api-key"]
    assert "authorization" not in received.headers
    assert [] == other.account.received
