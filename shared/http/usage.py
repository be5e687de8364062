"""Statements over HTTP, as JSON or CSV."""

from __future__ import annotations

from dataclasses import dataclass

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from shared.billing.price_books import PriceBooks
from shared.billing.statement_csv import encode_csv
from shared.billing.statement_sums import DIMENSIONS
from shared.billing.statements import DEFAULT_DIMENSIONS, Statements, for_customer, is_month
from shared.clock import now
from shared.contract.names import is_name
from shared.http.auth import Caller
from shared.http.conditional import with_etag
from shared.http.messages import JSON, Request, Response, json_response
from shared.http.problems import Problem, invalid_request, not_found

CSV = "text/csv"
_MEDIA_TYPES = (JSON, CSV)


@dataclass(frozen=True, slots=True)
class UsageResource:
    """The route of statements."""

    statements: Statements
    price_books: PriceBooks

    async def read(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/usage`: the statement of a month, by default the current one."""
        customer = request.params["customer"]
        caller.check_reads(customer, "customer")
        if not is_name(customer):
            raise not_found("customer")
        month = request.query.get("month", f"{now():%Y-%m}")
        if not is_month(month):
            raise invalid_request("`month` must be a month such as 2026-11.")
        by = _read_by(request)
        media_type = negotiate(request.headers.get("accept", ""))
        statement = await self.statements.read(customer, month, by, await self.price_books.pricing())
        if caller.customer is not None:
            statement = for_customer(statement)
        if media_type == JSON:
            response = json_response(statement, headers={"Vary": "Accept"})
        else:
            name = f'attachment; filename="usage-{customer}-{month}.csv"'
            headers = {"Vary": "Accept", "Content-Disposition": name}
            response = Response(200, encode_csv(statement), f"{CSV}; charset=utf-8; header=present", headers)
        return with_etag(request, response)


def negotiate(accept: str) -> str:
    """
    JSON or CSV, whichever an `Accept` header prefers; JSON if it has no preference or is empty.

    Parameters of media types, such as a charset, make no difference. Raises Problem 406.
    """
    ranges = parse_accept_header(accept.strip() or "*/*")
    accepted = MIMEAccept((media_range.partition(";")[0], quality) for media_range, quality in ranges)
    best = accepted.best_match(_MEDIA_TYPES)
    if best is None:
        raise Problem(406, "not_acceptable", f"`Accept` must allow {' or '.join(_MEDIA_TYPES)}.", {"Vary": "Accept"})
    return best


def _read_by(request: Request) -> tuple[str, ...]:
    text = request.query.get("by")
    if text is None:
        return DEFAULT_DIMENSIONS
    names = tuple(name.strip() for name in text.split(","))
    if not set(names) <= set(DIMENSIONS):
        raise invalid_request(f"`by` must be one or more of {', '.join(DIMENSIONS)}, separated by commas.")
    return names
