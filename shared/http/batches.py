"""Batches over HTTP: what waits at a customer's provider. They hold no prompt and no answer."""

from __future__ import annotations

from dataclasses import dataclass

from shared.batches.queries import BatchQueries, describe, is_batch_id
from shared.contract.batch import BatchPage
from shared.http.auth import Caller
from shared.http.messages import Request, Response, json_response
from shared.http.request_parsing import customer_to_read, read_page


@dataclass(frozen=True, slots=True)
class BatchesResource:
    """The route of batches."""

    queries: BatchQueries

    async def list(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/batches`: a page, newest first."""
        customer = customer_to_read(request, caller)
        after, limit = read_page(request, is_batch_id)
        batches, continuation = await self.queries.newest(customer, after=after, limit=limit)
        return json_response(
            BatchPage(batches=[describe(batch) for batch in batches], continuation=continuation or None)
        )
