"""Credits and debits over HTTP. They are the operator's alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.billing.adjustments import Adjustments
from shared.billing.closing_facts import ClosingFacts
from shared.billing.periods import is_month
from shared.contract.adjustment import decode_adjustment
from shared.errors import InvalidJob
from shared.http.auth import Caller
from shared.http.messages import Request, Response, json_response
from shared.http.problems import invalid_request
from shared.http.request_parsing import check_body, customer_to_change, customer_to_read, read_page

_is_continuation = re.compile(r"[0-9]{4}-[0-9]{2}_[A-Za-z0-9._-]{1,100}").fullmatch


@dataclass(frozen=True, slots=True)
class AdjustmentsResource:
    """The routes of credits and debits."""

    adjustments: Adjustments
    facts: ClosingFacts

    async def add(self, request: Request, caller: Caller) -> Response:
        """`POST /customers/{customer}/adjustments`: 201; 200 for one that exists; 409 for its id with other content."""
        customer = customer_to_change(request)
        check_body(request)
        try:
            new = decode_adjustment(request.body)
            await self.facts.check_adjustable(customer, new)
        except InvalidJob as exc:
            raise invalid_request(str(exc)) from None
        customers, price_books = self.facts.customers, self.facts.price_books
        currency = await self.adjustments.currency(customer, new.month, customers, price_books)
        is_other = currency is not None and new.currency != currency
        if is_other and not await self.adjustments.takes_back(customer, new):
            raise invalid_request(
                f"`currency` must be {currency}, the currency of the customer's documents of {new.month}."
            )
        adjustment, is_new = await self.adjustments.add(customer, new, by=caller.name)
        return json_response(adjustment, status=201 if is_new else 200)

    async def list(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/adjustments`: a page, of one month or of all."""
        customer = customer_to_read(request, caller)
        after, limit = read_page(request, _is_continuation)
        month = request.query.get("month")
        if month is not None and not is_month(month):
            raise invalid_request("`month` must be a month, such as 2026-11.")
        return json_response(await self.adjustments.page(customer, after=after, limit=limit, month=month))
