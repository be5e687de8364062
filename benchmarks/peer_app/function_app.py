"""
The function that most people would write for the same job: the official clients, a cache of clients by customer, and
the queue output binding. It has no ledger, no usage records and no validation; this app does that in addition.
"""

import json
import os
from typing import Any

import azure.functions as func
from azure.identity.aio import DefaultAzureCredential
from azure.keyvault.secrets.aio import SecretClient
from openai import AsyncOpenAI

app = func.FunctionApp()

credential = DefaultAzureCredential()
vault = SecretClient(
    os.environ["KEY_VAULT_URL"],
    credential,
    # For the local Key Vault, whose certificate and host are not Azure's.
    connection_verify=os.environ["KEY_VAULT_CA_FILE"],
    verify_challenge_resource=False,
)
clients: dict[str, AsyncOpenAI] = {}


async def client_of(customer: str) -> AsyncOpenAI:
    """The customer's client, created from the customer's secret."""
    if customer not in clients:
        secret = await vault.get_secret(f"ai--{customer}--default")
        connection: dict[str, Any] = json.loads(secret.value or "")
        clients[customer] = AsyncOpenAI(base_url=connection["endpoint"], api_key=connection["api_key"])
    return clients[customer]


@app.queue_trigger(arg_name="message", queue_name="jobs", connection="JobStorage")
@app.queue_output(arg_name="results", queue_name="results", connection="JobStorage")
async def run_job(message: func.QueueMessage, results: func.Out[bytes]) -> None:
    """Run one job."""
    job = json.loads(message.get_body())
    client = await client_of(job["customer"])
    completion = await client.chat.completions.create(model=job["model"], messages=job["input"]["messages"])
    result = {"job_id": message.id, "status": "succeeded", "output": completion.model_dump(mode="json")}
    results.set(json.dumps(result).encode())
