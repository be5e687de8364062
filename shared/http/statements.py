"""Closed months over HTTP: which there are, and each as JSON, CSV or a page. What is read here never changes."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from shared.billing.closed_records import INTERNAL, MEDIA_TYPES, ClosedRecord, blob_name
from shared.billing.closing import Closing
from shared.contract.closed_month import ClosedMonthList, ClosedMonthSummary, parse_document_id
from shared.contract.documents import API_PREFIX
from shared.http.auth import Caller
from shared.http.conditional import with_etag
from shared.http.messages import JSON, Request, Response, json_response
from shared.http.problems import invalid_request, not_found
from shared.http.request_parsing import customer_to_read
from shared.http.usage import CSV, HTML, negotiate, page_response

_FILES = {media_type: file for file, media_type in MEDIA_TYPES.items()}


@dataclass(frozen=True, slots=True)
class StatementsResource:
    """The routes of closed months."""

    closing: Closing

    async def list(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/statements`: all of them, newest month first."""
        customer = customer_to_read(request, caller)
        records = await self.closing.records.list(customer)
        statements = [_summary(record, caller) for record in records]
        return with_etag(request, json_response(ClosedMonthList(statements=statements)))

    async def read(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/statements/{statement}`: a file of one, or the operator's with `internal`."""
        customer = customer_to_read(request, caller)
        document = parse_document_id(request.params["statement"])
        internal = _read_internal(request)
        if internal:
            caller.check_operator()
        media_type = negotiate(request.headers.get("accept", ""), (JSON,) if internal else tuple(_FILES))
        record = None if document is None else await self.closing.records.read(customer, document)
        if record is None:
            raise not_found("statement")
        file = INTERNAL if internal else _FILES[media_type]
        body = await self.closing.read_file(record, file)
        disposition = "attachment" if media_type == CSV else "inline"
        name = f"statement-{blob_name(customer, record.document, file).replace('/', '-')}"
        headers = {"Vary": "Accept", "Content-Disposition": f'{disposition}; filename="{name}"'}
        if media_type == HTML:
            return with_etag(request, page_response(body, headers))
        content_type = f"{CSV}; charset=utf-8; header=present" if media_type == CSV else JSON
        return with_etag(request, Response(200, body, content_type, headers))


def _read_internal(request: Request) -> bool:
    text = request.query.get("internal", "false")
    if text not in {"true", "false"}:
        raise invalid_request("`internal` must be true or false.")
    return text == "true"


def _summary(record: ClosedRecord, caller: Caller) -> ClosedMonthSummary:
    link = f"{API_PREFIX}/customers/{quote(record.customer)}/statements/{record.document}"
    summary = record.summary(internal=caller.customer is None)
    return msgspec.structs.replace(summary, links={"self": link})
