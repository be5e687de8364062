"""Examples for the OpenAPI document and its page: one job from request to result. A test checks them all."""

from __future__ import annotations

from typing import Any

_ID = {"job_id": "order-4711.reply", "customer": "contoso"}
_WHEN = "2026-11-20T13:12:00.000Z"
_LINK = "/api/jobs/contoso/order-4711.reply"

PATH_PARAMETERS = {**_ID, "name": "default", "connection": "default", "statement": "2026-11"}
PROBLEM_DETAILS = {
    "rate_limited": "Too many such requests are being answered: repeat this one later.",
    "invalid_job": "`input.promt` is not a known member. Did you mean `input.prompt`?",
    "invalid_request": "`limit` must be a whole number from 1 to 100.",
    "unauthorized": "The request has no valid token: send one that was issued for this app.",
    "forbidden": "The token lacks the role Jobs.Read, which this request needs.",
    "not_found": "There is no such job.",
    "method_not_allowed": "Only POST is supported: there is no session, and no stream of events.",
    "not_acceptable": "`Accept` must allow application/json or text/csv.",
    "conflict": "The job has ended: only a job that has not started can be cancelled.",
    "precondition_failed": "The connection does not meet `If-Match` or `If-None-Match`: read it again, and use its "
    "new `ETag`.",
    "too_large": "The body is larger than the limit.",
    "unsupported_media_type": "The body must be application/json.",
    "connection_invalid": "The connection's secret has no `api_key`, and its `auth` is not `entra`.",
    "internal": "The request failed because of a fault in the app; the app's log describes it.",
    "unavailable": "Storage or Key Vault does not respond: try again later.",
}
"""The sentence of a problem, by its code."""
JOB: dict[str, Any] = {
    **_ID,
    "action": "chat",
    "input": {
        "system": "You answer customers' mails, briefly and kindly.",
        "prompt": "Order 4711 arrived damaged; I ask for a refund.",
        "parameters": {"max_completion_tokens": 300},
    },
    "metadata": {"order": "4711"},
}
QUEUED: dict[str, Any] = {
    **_ID,
    "status": "queued",
    "attempts": 0,
    "submitted_at": _WHEN,
    "action": "chat",
    "links": {"self": _LINK},
}
SUCCEEDED: dict[str, Any] = {
    **QUEUED,
    "status": "succeeded",
    "attempts": 1,
    "model": "gpt-5.5",
    "started_at": "2026-11-20T13:12:00.120Z",
    "finished_at": "2026-11-20T13:12:01.530Z",
    "links": {"self": _LINK, "result": f"{_LINK}/result"},
}
CANCELLED: dict[str, Any] = {**QUEUED, "status": "cancelled"}
PAGE: dict[str, Any] = {"jobs": [SUCCEEDED], "continuation": "t_98204803079999_order-4711.reply"}
RESULT: dict[str, Any] = {
    **_ID,
    "action": "chat",
    "model": "gpt-5.5",
    "status": "succeeded",
    "metadata": {"order": "4711"},
    "output": {
        "text": "I'm sorry that the parcel arrived damaged. …",
        "finish_reason": "stop",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "I'm sorry …"}}],
    },
    "usage": {
        "calls": 1,
        "input_tokens": 27,
        "output_tokens": 45,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "images": 0,
    },
    "connection": {"name": "default", "source": "key_vault", "provider": "azure_openai", "billed_to": "customer"},
    "attempts": 1,
    "submitted_at": _WHEN,
    "started_at": "2026-11-20T13:12:00.120Z",
    "finished_at": "2026-11-20T13:12:01.530Z",
}
WEBHOOK: dict[str, Any] = {name: value for name, value in JOB.items() if name not in {"job_id", "customer"}}
PROVIDER_EVENT: dict[str, Any] = {
    "id": "evt_4711",
    "object": "event",
    "created_at": 1795180320,
    "type": "batch.completed",
    "data": {"id": "batch_4711"},
}
_SUMS = {
    "records": 1,
    "calls": 1,
    "unreported": 0,
    "input_tokens": 27,
    "output_tokens": 45,
    "cached_tokens": 0,
    "reasoning_tokens": 0,
    "images": 0,
    "jobs": 1,
}
_WHOSE = {"source": "key_vault", "provider": "azure_openai", "billed_to": "customer", "outcome": "answered"}
_MONTH = {"month": "2026-11", "from": "2026-11-01", "to": "2026-11-30"}
STATEMENT: dict[str, Any] = {
    "customer": "contoso",
    **_MONTH,
    "by": ["model"],
    "totals": {"answered": _SUMS, "lost": dict.fromkeys(_SUMS, 0), "unanswered": dict.fromkeys(_SUMS, 0)},
    "lines": [{"model": "gpt-5.5", **_WHOSE, **_SUMS}],
}
OVERVIEW: dict[str, Any] = {**_MONTH, "lines": [{"customer": "contoso", "lost": 0, "unanswered": 0, **_SUMS}]}
_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_CLOSED: dict[str, Any] = {
    "month": "2026-11",
    "number": "contoso-0001",
    "closed_at": "2026-12-01T00:30:12.345Z",
    "currency": "USD",
}
CLOSED_MONTHS: dict[str, Any] = {
    "statements": [
        {
            **_CLOSED,
            "total": "12.35",
            "files": {name: {"size": 1234, "sha256": _DIGEST} for name in ("json", "csv", "html")},
            "links": {"self": "/api/customers/contoso/statements/2026-11"},
        }
    ]
}
CLOSED_MONTH: dict[str, Any] = {
    "customer": "contoso",
    **_CLOSED,
    "party": {"legal_name": "Contoso Ltd", "address": "1 Main Street\nSpringfield", "tax_id": "DE123456789"},
    "lines": [
        {
            "kind": "usage",
            "model": "gpt-5.5",
            "action": "chat",
            "connection": "default",
            **_WHOSE,
            "records": 1,
            "calls": 1,
            "jobs": 1,
            "input_tokens": 27,
            "output_tokens": 45,
            "amount": "13.345600",
        },
        {"kind": "credit", "adjustment": "outage-17", "description": "Outage", "amount": "-1.000000"},
        {"kind": "rounding", "amount": "0.004400"},
    ],
    "total": "12.35",
}
CONNECTION_RECORD: dict[str, Any] = {
    "endpoint": "https://contoso.openai.azure.com/openai/v1",
    "api_key": "KEY",
    "default_model": "gpt-5.5",
}
_LISTED = {
    "customer": "contoso",
    "name": "default",
    "enabled": True,
    "created_at": _WHEN,
    "updated_at": _WHEN,
}
CUSTOMERS: dict[str, Any] = {
    "customers": [{"customer": "contoso"}, {"customer": "fabrikam"}],
    "continuation": "fabrikam",
}
PROFILE: dict[str, Any] = {
    "legal_name": "Contoso GmbH",
    "address": "Hauptstraße 1\n10115 Berlin",
    "tax_id": "DE123456789",
    "currency": "EUR",
    "invoice_prefix": "CON",
    "external_ids": {"stripe": "cus_Na6dX7aXxi11N4"},
    "notify": "https://contoso.example/billing",
}
STATE: dict[str, Any] = {"state": "active"}
BUDGET: dict[str, Any] = {
    "limit": "500",
    "unit": "USD",
    "period": "month",
    "thresholds": [50, 80, 100],
    "notify": "https://example.com/budgets",
}
BUDGET_DOCUMENT: dict[str, Any] = {
    **BUDGET,
    "enforce": "hard",
    "owner": "operator",
    "name": PATH_PARAMETERS["name"],
    "period_start": "2026-11-01T00:00:00.000Z",
    "spent": "123.4502",
    "reserved": "1.2",
    "remaining": "375.3498",
}
BUDGETS: dict[str, Any] = {"budgets": [BUDGET_DOCUMENT]}
NEW_ADJUSTMENT: dict[str, Any] = {
    "id": "credit-2026-11-outage",
    "month": "2026-11",
    "amount": "-12.50",
    "currency": "EUR",
    "description": "Credit for the outage of 12 November",
}
ADJUSTMENT: dict[str, Any] = {**NEW_ADJUSTMENT, "at": _WHEN, "by": "Ann Lee (9f3c1b2a-0000-4000-8000-000000000000)"}
ADJUSTMENTS: dict[str, Any] = {"adjustments": [ADJUSTMENT]}
AUDIT: dict[str, Any] = {
    "entries": [
        {
            "at": _WHEN,
            "by": ADJUSTMENT["by"],
            "subject": "state",
            "before": {"state": "active"},
            "after": {"state": "suspended"},
        }
    ],
}
CONNECTIONS: dict[str, Any] = {"connections": [_LISTED]}
CONNECTION: dict[str, Any] = {
    **_LISTED,
    "version": "8b1ee6a3c6f14c2a9d7c3a1f0e5d4b2c",
    "settings": {
        "endpoint": "https://contoso.openai.azure.com/openai/v1",
        "provider": "azure_openai",
        "auth": "api_key",
        "default_model": "gpt-5.5",
    },
}
CONNECTION_TEST: dict[str, Any] = {
    "ok": True,
    "message": "The endpoint accepts the key and answers as gpt-5.5.",
    "status": 200,
    "provider": "azure_openai",
    "model": "gpt-5.5",
    "latency_ms": 430,
}
