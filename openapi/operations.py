"""
What each route of `shared.http.routes` does: parameters, body, responses and errors, with examples.

Who adds a route adds its operation. A test compares the two, and another sends requests described from these operations
to the running app.
"""

from __future__ import annotations

from collections.abc import Mapping

from openapi import examples
from openapi.agent_operations import AGENT_OPERATIONS
from openapi.batch_operations import BATCH_OPERATIONS
from openapi.budget_operations import BUDGET_OPERATIONS
from openapi.connection_operations import CONNECTION_OPERATIONS
from openapi.customer_operations import CUSTOMER_OPERATIONS
from openapi.job_operations import JOB_OPERATIONS
from openapi.operation import Operation, Parameter, Response
from openapi.shared_parts import (
    BAD_QUERY,
    IF_NONE_MATCH,
    JSON,
    NO_CUSTOMER,
    NOT_MODIFIED,
    RETRIABLE,
    TOO_MANY,
    paging,
)
from openapi.statement_operations import NO_STATEMENT_TYPE, STATEMENT_OPERATIONS
from shared.billing.statement_sums import DIMENSIONS
from shared.billing.statements import DEFAULT_DIMENSIONS
from shared.contract.statement import Statement, UsageOverview
from shared.http.usage import CSV, HTML, MAX_OVERVIEW

_ANY_DIMENSION = "|".join(DIMENSIONS)
_DAY = {"type": "string", "pattern": "^([1-9][0-9]{3}-[0-9]{2}-[0-9]{2})?$"}
"""The host drops a parameter without a value."""

_PERIOD = (
    Parameter(
        "month",
        "query",
        "The month, in UTC. The default is the current month, unless there are `from` and `to`.",
        {"type": "string", "pattern": "^([1-9][0-9]{3}-(0[1-9]|1[0-2]))?$"},
    ),
    Parameter("from", "query", "The first day, in UTC; not together with `month`.", _DAY),
    Parameter("to", "query", "The last day, which is included.", _DAY),
)
_USAGE_ERRORS = {
    400: BAD_QUERY,
    406: "`not_acceptable`: `Accept` allows neither JSON nor CSV.",
    429: TOO_MANY,
}
_USAGE_OPERATIONS: Mapping[str, Operation] = {
    "read_usage": Operation(
        "Returns what the customer used in a month, or from one day to another, both included, added up from the usage "
        "records: as JSON, CSV or a page, whichever "
        "`Accept` prefers. If the operator has published a price book, the statement has amounts.",
        {
            200: Response(
                "The statement. Without usage it has no lines.",
                {JSON: Statement, CSV: {"type": "string"}, HTML: {"type": "string"}},
                ("ETag", "Vary"),
                example=examples.STATEMENT,
            ),
            304: NOT_MODIFIED,
        },
        {**_USAGE_ERRORS, 404: NO_CUSTOMER, 406: NO_STATEMENT_TYPE},
        (
            *_PERIOD,
            Parameter(
                "by",
                "query",
                f"What distinguishes the lines: one or more of {', '.join(DIMENSIONS)}, separated by commas. "
                f"The default is {','.join(DEFAULT_DIMENSIONS)}.",
                {"type": "string", "pattern": f"^(({_ANY_DIMENSION})(,({_ANY_DIMENSION}))*)?$"},
            ),
            IF_NONE_MATCH,
        ),
        query_example="month=2026-11&by=model",
        retriable=RETRIABLE,
    ),
    "read_all_usage": Operation(
        "Returns a line for each customer that used anything in a month, or from one day to another, both included: "
        "the total of its answered calls, as JSON or CSV. A caller tied to a customer gets that customer alone.",
        {
            200: Response(
                "The lines, in the order of the customers' ids. If a CSV has a next page, `Link` names it.",
                {JSON: UsageOverview, CSV: {"type": "string"}},
                ("ETag", "Vary"),
                ("Link",),
                example=examples.OVERVIEW,
            ),
            304: NOT_MODIFIED,
        },
        _USAGE_ERRORS,
        (*_PERIOD, *paging(MAX_OVERVIEW, MAX_OVERVIEW), IF_NONE_MATCH),
        query_example="month=2026-11",
        retriable=RETRIABLE,
    ),
}

_APP_OPERATIONS: Mapping[str, Operation] = {
    "openapi": Operation(
        "Returns this document.",
        {
            200: Response("The document.", {JSON: {"type": "object", "required": ["openapi", "paths"]}}, ("ETag",)),
            304: NOT_MODIFIED,
        },
        parameters=(IF_NONE_MATCH,),
    ),
    "docs": Operation(
        "Returns this document as an HTML page, which loads nothing from elsewhere.",
        {200: Response("The page.", {"text/html": {"type": "string"}}, ("ETag",)), 304: NOT_MODIFIED},
        parameters=(IF_NONE_MATCH,),
    ),
    "console": Operation(
        "Returns the console, an HTML page. It holds no data: it asks this API for what it shows, with the key or "
        "token that a person gives it.",
        {200: Response("The page.", {"text/html": {"type": "string"}}, ("ETag",)), 304: NOT_MODIFIED},
        parameters=(IF_NONE_MATCH,),
    ),
    "health": Operation(
        "Responds if the app is loaded, with 200 however exports are doing. `exports` is missing if there are none.",
        {
            200: Response(
                "The app is loaded.",
                {
                    JSON: {
                        "type": "object",
                        "properties": {
                            "status": {"const": "ok"},
                            "exports": {
                                "enum": ["ok", "late", "failing", "unknown"],
                                "description": "How the worst export is doing: `late` if a record waits for more than "
                                "an hour, `failing` if a billing system can't be reached or refuses the key, "
                                "`unknown` if Storage does not say.",
                            },
                        },
                        "required": ["status"],
                    }
                },
                example={"status": "ok"},
            )
        },
    ),
}

_BY_TAG = {
    "jobs": {**JOB_OPERATIONS, **BATCH_OPERATIONS},
    "connections": CONNECTION_OPERATIONS,
    "customers": CUSTOMER_OPERATIONS,
    "budgets": BUDGET_OPERATIONS,
    "usage": _USAGE_OPERATIONS,
    "statements": STATEMENT_OPERATIONS,
    "agents": AGENT_OPERATIONS,
    "app": _APP_OPERATIONS,
}
OPERATIONS: Mapping[str, Operation] = {name: each for group in _BY_TAG.values() for name, each in group.items()}
"""By the name of the route."""
TAGS: Mapping[str, str] = {name: tag for tag, group in _BY_TAG.items() for name in group}
"""The tag of each route: generators make a module or a class of the operations with one tag."""
