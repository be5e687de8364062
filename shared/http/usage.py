"""Statements over HTTP, of one customer or of all, as JSON or CSV."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from shared.billing.customer_pricing import CustomerPricing
from shared.billing.overview import overview_for_customer, overview_of
from shared.billing.periods import Days, PeriodInvalid, read_period
from shared.billing.statement_csv import encode_csv, encode_overview_csv
from shared.billing.statement_page import PAGE_POLICY, open_page
from shared.billing.statement_sums import DIMENSIONS
from shared.billing.statements import DEFAULT_DIMENSIONS, Statements, for_customer
from shared.clock import now
from shared.contract.names import is_name
from shared.contract.statement import Statement
from shared.http.auth import Caller
from shared.http.conditional import with_etag
from shared.http.messages import JSON, Request, Response, json_response
from shared.http.problems import Problem, invalid_request
from shared.http.request_parsing import customer_to_read, read_page
from shared.jobs.queries import next_customers
from shared.storage.base import Table
from shared.storage.bulk import gather_limited

CSV = "text/csv"
HTML = "text/html"
MAX_OVERVIEW = 1000
"""Customers in one response."""
OVERVIEW_S = 60.0
"""Seconds after which a response ends with the customers that it has: Azure's gateway waits for 230."""
_AT_ONCE = 32
_VARY = {"Vary": "Accept"}


@dataclass(frozen=True, slots=True)
class UsageResource:
    """The routes of statements."""

    table: Table
    statements: Statements
    pricing: CustomerPricing
    clock: Callable[[], float] = time.monotonic

    async def read(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/usage`: the statement of a month, by default the current one, or of other days."""
        customer = customer_to_read(request, caller)
        days, by, media_type = _read_days(request), _read_by(request), _media_type(request, JSON, CSV, HTML)
        statement = await self._statement(customer, days, by)
        if caller.customer is not None:
            statement = for_customer(statement)
        if media_type == JSON:
            return with_etag(request, json_response(statement, headers=_VARY))
        if media_type == HTML:
            return with_etag(request, page_response(open_page(statement), _VARY))
        return with_etag(request, _csv_response(encode_csv(statement), f"usage-{customer}", days))

    async def read_all(self, request: Request, caller: Caller) -> Response:
        """`GET /usage`: a line for each customer. For a caller tied to a customer there is no other."""
        days, media_type = _read_days(request), _media_type(request, JSON, CSV)
        after, limit = read_page(request, is_name, default=MAX_OVERVIEW, largest=MAX_OVERVIEW)
        ends_at = self.clock() + OVERVIEW_S
        names = [caller.customer] if caller.customer else await next_customers(self.table, after, limit + 1)
        statements: list[Statement] = []
        while len(statements) < min(len(names), limit) and (not statements or self.clock() < ends_at):
            some = names[len(statements) : min(len(statements) + _AT_ONCE, limit)]
            statements += await gather_limited(self._statement(name, days, ()) for name in some)
        continuation = names[len(statements) - 1] if len(names) > len(statements) else None
        overview = overview_of(days, statements, continuation=continuation)
        if caller.customer is not None:
            overview = overview_for_customer(overview)
        if media_type == JSON:
            return with_etag(request, json_response(overview, headers=_VARY))
        response = _csv_response(encode_overview_csv(overview), "usage", days)
        if overview.continuation is not None:
            query = urlencode({**request.query, "continuation": overview.continuation})
            response = replace(response, headers={**response.headers, "Link": f'<?{query}>; rel="next"'})
        return with_etag(request, response)

    async def _statement(self, customer: str, days: Days, by: Sequence[str]) -> Statement:
        pricing = await self.pricing.read(customer)
        return await self.statements.read(customer, days.first, days.last, by, pricing)


def _csv_response(body: bytes, name: str, days: Days) -> Response:
    period = days.month or f"{days.first}-to-{days.last}"
    headers = {**_VARY, "Content-Disposition": f'attachment; filename="{name}-{period}.csv"'}
    return Response(200, body, f"{CSV}; charset=utf-8; header=present", headers)


def page_response(body: bytes, headers: Mapping[str, str]) -> Response:
    """The page of a statement as a response: nothing is loaded, nothing runs, and no other page has it in a frame."""
    policy = f"{PAGE_POLICY}; frame-ancestors 'none'"
    return Response(200, body, f"{HTML}; charset=utf-8", {**headers, "Content-Security-Policy": policy})


def _media_type(request: Request, *media_types: str) -> str:
    return negotiate(request.headers.get("accept", ""), media_types)


def negotiate(accept: str, media_types: Sequence[str]) -> str:
    """
    The media type that an `Accept` header prefers; the first one if it has no preference or is empty.

    Parameters of media types, such as a charset, make no difference. Raises Problem 406.
    """
    ranges = parse_accept_header(accept.strip() or "*/*")
    accepted = MIMEAccept((media_range.partition(";")[0], quality) for media_range, quality in ranges)
    best = accepted.best_match(media_types)
    if best is None:
        raise Problem(406, "not_acceptable", f"`Accept` must allow {' or '.join(media_types)}.", _VARY)
    return best


def _read_days(request: Request) -> Days:
    try:
        return read_period(request.query, now().date(), lambda name: f"`{name}`")
    except PeriodInvalid as exc:
        raise invalid_request(str(exc)) from None


def _read_by(request: Request) -> tuple[str, ...]:
    text = request.query.get("by")
    if text is None:
        return DEFAULT_DIMENSIONS
    names = tuple(name.strip() for name in text.split(","))
    if not set(names) <= set(DIMENSIONS):
        raise invalid_request(f"`by` must be one or more of {', '.join(DIMENSIONS)}, separated by commas.")
    return names
