"""The whole way with the generated Python client: onboard, submit, wait, read the result and the usage, cancel."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
from customer_ai_jobs_client import AuthenticatedClient
from customer_ai_jobs_client.api.agents import use_tools
from customer_ai_jobs_client.api.app import console, docs, health, openapi
from customer_ai_jobs_client.api.budgets import delete_budget, list_budgets, put_budget, read_budget
from customer_ai_jobs_client.api.connections import (
    delete_connection,
    list_connections,
    put_connection,
    read_connection,
    test_connection,
)
from customer_ai_jobs_client.api.customers import (
    add_adjustment,
    list_adjustments,
    list_audit,
    list_customers,
    put_profile,
    put_state,
    read_profile,
    read_state,
)
from customer_ai_jobs_client.api.jobs import (
    cancel_job,
    list_batches,
    list_jobs,
    read_job,
    read_result,
    receive_provider_event,
    receive_webhook,
    submit_job,
)
from customer_ai_jobs_client.api.statements import list_statements, read_statement
from customer_ai_jobs_client.api.usage import read_all_usage, read_usage
from customer_ai_jobs_client.models import (
    Budget,
    BudgetPeriod,
    ChatInput,
    ChatInputParameters,
    ChatJob,
    ConnectionRecord,
    ConnectionRecordProviderType0,
    ConnectionTestRequest,
    CustomerProfile,
    CustomerState,
    CustomerStateState,
    JobDocument,
    JobDocumentStatus,
    Message,
    NewAdjustment,
    Options,
    ProblemDocument,
    Result,
    UseToolsBody,
)

ENDED = {
    JobDocumentStatus.SUCCEEDED,
    JobDocumentStatus.PARTIAL,
    JobDocumentStatus.FAILED,
    JobDocumentStatus.CANCELLED,
}


def run(url: str, customer: str, endpoint: str, key: str) -> dict[str, Any]:
    """What the journey saw."""
    function_key = {"token": "any", "auth_header_name": "x-functions-key", "prefix": ""}
    with AuthenticatedClient(url, timeout=httpx.Timeout(60), **function_key) as client:
        return travel(client, customer, endpoint, key)


def travel(client: AuthenticatedClient, customer: str, endpoint: str, key: str) -> dict[str, Any]:
    """Each step of the journey, and what it returned."""
    seen: dict[str, Any] = {"health": health.sync(client=client).status}

    record = ConnectionRecord(
        endpoint=endpoint,
        provider=ConnectionRecordProviderType0.AZURE_OPENAI,
        api_key=key,
        default_model="gpt-4o",
    )
    stored = put_connection.sync(customer, "default", client=client, body=record)
    tested = test_connection.sync(customer, "default", client=client, body=ConnectionTestRequest())
    listed = list_connections.sync(customer, client=client)
    seen["connection"] = [stored.settings.default_model, tested.ok, [each.name for each in listed.connections]]

    messages = [Message(role="system", content="Be brief."), Message(role="user", content="Hello?")]
    chat = ChatInput(messages=messages, parameters=ChatInputParameters.from_dict({"temperature": 0.3}))
    job = ChatJob(customer=customer, action="chat", job_id="generated-1", input_=chat)
    accepted = submit_job.sync(client=client, body=job)
    assert isinstance(accepted, JobDocument)
    while (status := read_job.sync(customer, "generated-1", client=client)).status not in ENDED:
        time.sleep(0.2)
    result = read_result.sync(customer, "generated-1", client=client)
    assert isinstance(result, Result)
    seen["result"] = [status.status.value, result.status.value, result.output["text"], result.usage.calls]
    seen["tokens"] = [result.usage.input_tokens, result.usage.output_tokens]

    waited = submit_job.sync(
        client=client,
        body=ChatJob(customer=customer, action="chat", job_id="generated-2", input_=ChatInput(prompt="Hello?")),
        prefer="wait=30",
    )
    assert isinstance(waited, Result)
    seen["waited"] = waited.output["text"]

    later = ChatJob(
        customer=customer,
        action="chat",
        job_id="generated-3",
        input_=ChatInput(prompt="Hello?"),
        options=Options(run_at=datetime.now(UTC) + timedelta(hours=1)),
    )
    submit_job.sync(client=client, body=later)
    seen["cancelled"] = cancel_job.sync(customer, "generated-3", client=client).status.value

    statement = read_usage.sync(customer, client=client, by="model")
    seen["usage"] = [statement.totals.answered.calls, [line.model for line in statement.lines]]
    everybody = read_all_usage.sync(client=client, from_=date(2026, 11, 1), to=datetime.now(UTC).date())
    seen["all_usage"] = [line.calls for line in everybody.lines if line.customer == customer]
    seen["jobs"] = [each.job_id for each in list_jobs.sync(customer, client=client, limit=2).jobs]
    seen["batches"] = len(list_batches.sync(customer, client=client, limit=1).batches)
    seen["customers"] = len(list_customers.sync(client=client, limit=1).customers)
    problems = (
        read_job.sync(customer, "no-such-job", client=client),
        receive_webhook.sync(customer, client=client, body={"action": "chat"}, webhook_id="msg_1"),
        receive_provider_event.sync(customer, "default", client=client, body={}, webhook_id="evt_1"),
    )
    ping = UseToolsBody.from_dict({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    seen["agents"] = use_tools.sync_detailed(client=client, body=ping).status_code.value
    seen["problems"] = [each.code for each in problems if isinstance(each, ProblemDocument)]

    put_profile.sync(customer, client=client, body=CustomerProfile(legal_name="Contoso", currency="USD"))
    put_state.sync(customer, client=client, body=CustomerState(state=CustomerStateState.ACTIVE))
    credit = NewAdjustment(
        id="credit-1", month=f"{datetime.now(UTC):%Y-%m}", amount="-5", currency="USD", description="Credit"
    )
    add_adjustment.sync(customer, client=client, body=credit)
    profile, state = read_profile.sync(customer, client=client), read_state.sync(customer, client=client)
    (adjustment,) = list_adjustments.sync(customer, client=client).adjustments
    changes = [each.subject for each in list_audit.sync(customer, client=client).entries]
    seen["account"] = [profile.legal_name, state.state.value, adjustment.amount, changes]

    seen |= {"closed": closed_months(client, customer), "budgets": budgets(client, customer)}
    tag = read_connection.sync_detailed(customer, "default", client=client).headers["ETag"]
    unchanged = read_connection.sync_detailed(customer, "default", client=client, if_none_match=tag)
    deleted = delete_connection.sync_detailed(customer, "default", client=client, if_match=tag)
    seen["deleted"] = [int(unchanged.status_code), int(deleted.status_code)]
    pages = [docs.sync(client=client), console.sync(client=client)]
    seen["documents"] = [openapi.sync(client=client)["openapi"], *(page[:15] for page in pages)]
    return seen


def budgets(client: AuthenticatedClient, customer: str) -> list[Any]:
    """A budget that is made, read, listed and deleted."""
    put_budget.sync(customer, "calls", client=client, body=Budget(limit="5", unit="jobs", period=BudgetPeriod.DAY))
    budget = read_budget.sync(customer, "calls", client=client)
    listed = list_budgets.sync(customer, client=client).budgets
    deleted = delete_budget.sync_detailed(customer, "calls", client=client)
    return [budget.remaining, [each.name for each in listed], int(deleted.status_code)]


def closed_months(client: AuthenticatedClient, customer: str) -> list[Any]:
    """How many documents the customer has, and the code of one that doesn't exist."""
    closed = list_statements.sync(customer, client=client).statements
    unclosed = read_statement.sync(customer, f"{datetime.now(UTC):%Y-%m}", client=client)
    assert isinstance(unclosed, ProblemDocument)
    return [len(closed), unclosed.code]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(*sys.argv[1:])))
