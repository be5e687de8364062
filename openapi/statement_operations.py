"""The operations on closed months."""

from __future__ import annotations

from collections.abc import Mapping

from openapi import examples
from openapi.operation import Operation, Parameter, Response
from openapi.shared_parts import BAD_QUERY, IF_NONE_MATCH, JSON, NO_CUSTOMER, NOT_MODIFIED
from shared.contract.closed_month import ClosedMonth, ClosedMonthList, InternalMonth
from shared.http.usage import CSV

NO_STATEMENT_TYPE = "`not_acceptable`: `Accept` allows neither JSON, CSV nor HTML."
STATEMENT_OPERATIONS: Mapping[str, Operation] = {
    "list_statements": Operation(
        "Returns the customer's closed months and their corrections, the newest month first. Each has its number, its "
        "total and the hash of each file.",
        {
            200: Response("All of them.", {JSON: ClosedMonthList}, ("ETag",), example=examples.CLOSED_MONTHS),
            304: NOT_MODIFIED,
        },
        {404: NO_CUSTOMER},
        (IF_NONE_MATCH,),
    ),
    "read_statement": Operation(
        "Returns a closed month, or a correction of it, as it was written when the month was closed: as JSON, as CSV "
        "or as a page, whichever `Accept` prefers. It never changes.",
        {
            200: Response(
                "The document; with `internal`, what it was made from.",
                {JSON: (ClosedMonth, InternalMonth), CSV: {"type": "string"}, "text/html": {"type": "string"}},
                ("ETag", "Vary"),
                example=examples.CLOSED_MONTH,
            ),
            304: NOT_MODIFIED,
        },
        {
            400: BAD_QUERY,
            404: "`not_found`: the month is not closed, or no customer can have this id, or the token is tied to "
            "another customer.",
            406: NO_STATEMENT_TYPE,
        },
        (
            Parameter(
                "internal",
                "query",
                "`true`: the operator's own file instead, as JSON alone, with list prices, markups and the hash of "
                "the price book. A caller whose token is tied to a customer is refused.",
                {"type": "boolean"},
            ),
            IF_NONE_MATCH,
        ),
    ),
}
