"""The operation on batches, with its example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openapi.operation import Operation, Response
from openapi.shared_parts import BAD_QUERY, JSON, NO_CUSTOMER, PAGING
from shared.contract.batch import BatchPage

_BATCH: dict[str, Any] = {
    "customer": "contoso",
    "batch": "01795180320000-9f3c1b2a",
    "state": "waiting",
    "connection": "default",
    "model": "gpt-5.5",
    "operation": "chat/completions",
    "lines": 1200,
    "answered": 0,
    "failed": 0,
    "opened_at": "2026-11-20T13:12:00.000Z",
    "deadline": "2026-11-21T14:12:00.000Z",
    "cancel_at": "2026-11-21T13:52:00.000Z",
    "due_at": "2026-11-20T13:20:04.000Z",
    "provider_id": "batch_abc123",
    "provider_status": "in_progress",
}
_BATCHES: dict[str, Any] = {"batches": [_BATCH], "continuation": _BATCH["batch"]}
BATCH_OPERATIONS: Mapping[str, Operation] = {
    "list_batches": Operation(
        "Returns the customer's batches, newest first: what jobs with `processing` `batch` or `cheapest` wait for. It "
        "has no prompt and no answer.",
        {200: Response("A page.", {JSON: BatchPage}, example=_BATCHES)},
        {400: BAD_QUERY, 404: NO_CUSTOMER},
        PAGING,
        query_example="limit=20",
    ),
}
