"""The operations on a customer's budgets."""

from __future__ import annotations

from collections.abc import Mapping

from openapi import examples
from openapi.operation import Operation, Response
from openapi.shared_parts import COMPRESSED, JSON, NO_CUSTOMER, TOO_LARGE
from shared.contract.budget import Budget, BudgetDocument, BudgetList

_NO_BUDGET = "`not_found`: the customer has no such budget, or the token is tied to another customer."

BUDGET_OPERATIONS: Mapping[str, Operation] = {
    "list_budgets": Operation(
        "Returns the customer's budgets and what is used of them in the current period, in the order of their names.",
        {200: Response("The budgets.", {JSON: BudgetList}, example=examples.BUDGETS)},
        {404: NO_CUSTOMER},
    ),
    "read_budget": Operation(
        "Returns a budget and what is used of it in the current period.",
        {200: Response("The budget.", {JSON: BudgetDocument}, example=examples.BUDGET_DOCUMENT)},
        {404: _NO_BUDGET},
    ),
    "put_budget": Operation(
        "Makes a budget, or replaces all of it. Every worker knows it within ten seconds. A caller whose token is tied "
        "to the customer makes budgets of its own, which apply beside the operator's.",
        {200: Response("The budget.", {JSON: BudgetDocument}, example=examples.BUDGET_DOCUMENT)},
        {
            400: "`invalid_request`: the body or a name in the path is invalid, or the customer would have too many.",
            404: NO_CUSTOMER,
            413: TOO_LARGE,
            415: COMPRESSED,
        },
        body=Budget,
        body_example=examples.BUDGET,
    ),
    "delete_budget": Operation(
        "Deletes a budget. What was spent in the period counts again if it is made again.",
        {204: Response("The budget is deleted.")},
        {404: _NO_BUDGET},
    ),
}
