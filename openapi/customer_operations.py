"""The operations on what the operator records about a customer: profile, state, credits and debits, audit trail."""

from __future__ import annotations

from collections.abc import Mapping

from openapi import examples
from openapi.operation import Operation, Parameter, Response
from openapi.shared_parts import (
    BAD_QUERY,
    COMPRESSED,
    IF_MATCH_ANY,
    IF_NONE_MATCH,
    JSON,
    NO_CUSTOMER,
    NOT_MODIFIED,
    PAGING,
    RETRIABLE,
    TOO_LARGE,
    TOO_MANY_LISTS,
)
from shared.contract.adjustment import Adjustment, AdjustmentPage, NewAdjustment
from shared.contract.audit import AuditPage
from shared.contract.customer import CustomerProfile, CustomerState
from shared.contract.documents import CustomerPage

_BAD_BODY = "`invalid_request`: the body or the customer's id is invalid."
_CHANGED = "`precondition_failed`: it does not meet `If-Match` or `If-None-Match`."
_WRITE_ERRORS = {400: _BAD_BODY, 412: _CHANGED, 413: TOO_LARGE, 415: COMPRESSED}

CUSTOMER_OPERATIONS: Mapping[str, Operation] = {
    "list_customers": Operation(
        "Returns the customers that have a connection in Key Vault, or jobs or usage records, in the order of their "
        "ids. A caller whose token is tied to a customer gets that customer alone.",
        {200: Response("A page.", {JSON: CustomerPage}, example=examples.CUSTOMERS)},
        {400: BAD_QUERY, 429: TOO_MANY_LISTS},
        PAGING,
        query_example="limit=2",
        retriable=RETRIABLE,
    ),
    "read_profile": Operation(
        "Returns what documents of the customer are made out to, and how it is billed. A caller whose token is tied to "
        "the customer gets it without `bill_outcomes` and `external_ids`.",
        {
            200: Response(
                "The profile. One that nobody has written is empty.",
                {JSON: CustomerProfile},
                ("ETag",),
                example=examples.PROFILE,
            ),
            304: NOT_MODIFIED,
        },
        {404: NO_CUSTOMER},
        (IF_NONE_MATCH,),
    ),
    "put_profile": Operation(
        "Replaces the whole profile: a member that is left out is no longer set.",
        {200: Response("The profile.", {JSON: CustomerProfile}, ("ETag",), example=examples.PROFILE)},
        _WRITE_ERRORS,
        (IF_MATCH_ANY,),
        body=CustomerProfile,
        body_example=examples.PROFILE,
    ),
    "read_state": Operation(
        "Returns whether the customer's jobs are run.",
        {
            200: Response("The state.", {JSON: CustomerState}, ("ETag",), example=examples.STATE),
            304: NOT_MODIFIED,
        },
        {404: NO_CUSTOMER},
        (IF_NONE_MATCH,),
    ),
    "put_state": Operation(
        "Suspends the customer, or ends its suspension. Within ten seconds, no attempt of a suspended customer's jobs "
        "starts any more; they end with the error `customer_suspended`.",
        {200: Response("The state.", {JSON: CustomerState}, ("ETag",), example=examples.STATE)},
        _WRITE_ERRORS,
        (IF_MATCH_ANY,),
        body=CustomerState,
        body_example=examples.STATE,
    ),
    "list_adjustments": Operation(
        "Returns the customer's credits and debits, in the order of their months and ids.",
        {200: Response("A page.", {JSON: AdjustmentPage}, example=examples.ADJUSTMENTS)},
        {400: BAD_QUERY, 404: NO_CUSTOMER},
        (
            Parameter(
                "month",
                "query",
                "A month: only what belongs to it.",
                {"type": "string", "pattern": "^([1-9][0-9]{3}-(0[1-9]|1[0-2]))?$"},
            ),
            *PAGING,
        ),
        query_example="month=2026-11",
    ),
    "add_adjustment": Operation(
        "Adds a credit or debit to a month. It is never changed or deleted; another one corrects it. Sending it again "
        "adds nothing.",
        {
            200: Response("It exists already.", {JSON: Adjustment}, example=examples.ADJUSTMENT),
            201: Response("It is added.", {JSON: Adjustment}, example=examples.ADJUSTMENT),
        },
        {
            400: f"{_BAD_BODY[:-1]}, or the currency is not that of the documents of the month.",
            409: "`conflict`: the id belongs to a credit or debit with other content.",
            413: TOO_LARGE,
            415: COMPRESSED,
        },
        body=NewAdjustment,
        body_example=examples.NEW_ADJUSTMENT,
    ),
    "list_audit": Operation(
        "Returns who changed what for the customer, newest first: profile, state, budgets, credits and debits, "
        "connections, and those changes of prices that concern it.",
        {200: Response("A page.", {JSON: AuditPage}, example=examples.AUDIT)},
        {400: BAD_QUERY, 404: NO_CUSTOMER},
        PAGING,
        query_example="limit=2",
    ),
}
