"""The audit trail over HTTP. It is the operator's alone."""

from __future__ import annotations

from dataclasses import dataclass

from shared.billing.audit import AuditTrail, describe, is_audit_key
from shared.contract.audit import AuditPage
from shared.http.auth import Caller
from shared.http.messages import Request, Response, json_response
from shared.http.request_parsing import customer_to_read, read_page


@dataclass(frozen=True, slots=True)
class AuditResource:
    """The route of the audit trail."""

    audit: AuditTrail

    async def list(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/audit`: a page, newest first."""
        customer = customer_to_read(request, caller)
        after, limit = read_page(request, is_audit_key)
        entries, continuation = await self.audit.page(customer, after=after, limit=limit)
        return json_response(
            AuditPage(entries=[describe(entry) for entry in entries], continuation=continuation or None)
        )
