"""Statements over HTTP, as JSON or as CSV."""

from __future__ import annotations

from dataclasses import dataclass

from shared.billing.statement_csv import encode_csv
from shared.billing.statements import CHOICES, USUAL, Statements, is_month
from shared.clock import now
from shared.contract.names import is_name
from shared.http.auth import Caller
from shared.http.messages import JSON, Request, Response, json_response, tagged
from shared.http.problems import Problem, not_found

CSV = "text/csv"
_OFFERED = (JSON, CSV)


@dataclass(frozen=True, slots=True)
class UsageDoor:
    """The route of statements."""

    statements: Statements

    async def read(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/usage`: the statement of a month, this one where none is named."""
        customer = request.params["customer"]
        caller.check_reads(customer, "customer")
        if not is_name(customer):
            raise not_found("customer")
        month = request.query.get("month", f"{now():%Y-%m}")
        if not is_month(month):
            raise Problem(400, "invalid_request", "`month` must be one such as 2026-11.")
        by = _read_by(request)
        kind = accepted(request.headers.get("accept", "*/*"))
        statement = await self.statements.of(customer, month, by)
        if kind == JSON:
            response = json_response(statement, headers={"Vary": "Accept"})
        else:
            name = f'attachment; filename="usage-{customer}-{month}.csv"'
            headers = {"Vary": "Accept", "Content-Disposition": name}
            response = Response(200, encode_csv(statement), f"{CSV}; charset=utf-8; header=present", headers)
        return tagged(request, response)


def accepted(accept: str) -> str:
    """
    Which of JSON and CSV an `Accept` header prefers; JSON where it does not mind, or is empty.

    The most specific range that fits a type gives its weight (RFC 9110, 12.5.1). Raises Problem 406.
    """
    weights = {kind: _weight(accept.strip() or "*/*", kind) for kind in _OFFERED}
    best = max(_OFFERED, key=lambda kind: weights[kind])  # the first of equals
    if not weights[best]:
        raise Problem(406, "not_acceptable", f"`Accept` must allow {' or '.join(_OFFERED)}.", {"Vary": "Accept"})
    return best


def _read_by(request: Request) -> tuple[str, ...]:
    asked = request.query.get("by")
    if asked is None:
        return USUAL
    names = tuple(name.strip() for name in asked.split(","))
    if not set(names) <= set(CHOICES):
        raise Problem(400, "invalid_request", f"`by` must be some of {', '.join(CHOICES)}, with commas between.")
    return names


def _weight(accept: str, kind: str) -> float:
    best = (-1, 0.0)
    for piece in accept.lower().split(","):
        asked, *parameters = (part.strip() for part in piece.split(";"))
        exactness = {kind: 2, f"{kind.partition('/')[0]}/*": 1, "*/*": 0}.get(asked, -1)
        if exactness >= 0:
            best = max(best, (exactness, _quality(parameters)))
    return best[1]


def _quality(parameters: list[str]) -> float:
    text = next((one[2:].strip() for one in parameters if one.startswith("q=")), "1")
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
