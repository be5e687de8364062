"""Budgets over HTTP. A caller that is tied to a customer makes budgets of its own, which can only tighten."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from shared.billing.budget_views import BudgetViews
from shared.contract.budget import BudgetDocument, BudgetList, decode_budget
from shared.contract.names import NAME_RULE, is_name
from shared.errors import ConnectionInvalid, InvalidJob
from shared.http.auth import Caller
from shared.http.messages import Request, Response, json_response
from shared.http.problems import Problem, invalid_request, not_found
from shared.http.request_parsing import check_body, check_media_type, customer_to_read
from shared.settings import Settings
from shared.upstream.egress_policy import check_public

_NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class BudgetsResource:
    """The routes of budgets."""

    settings: Settings
    views: BudgetViews

    async def list(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/budgets`."""
        budgets = await self.views.list(customer_to_read(request, caller))
        return json_response(BudgetList(budgets=[_shown(budget, caller) for budget in budgets]))

    async def read(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/budgets/{name}`."""
        budget = await self.views.get(customer_to_read(request, caller), request.params["name"])
        if budget is None:
            raise not_found("budget")
        return json_response(_shown(budget, caller))

    async def put(self, request: Request, caller: Caller) -> Response:
        """`PUT /customers/{customer}/budgets/{name}`: make a budget, or replace all of it."""
        customer, name = customer_to_read(request, caller), request.params["name"]
        if not is_name(name):
            raise invalid_request(f"The budget's name must be {NAME_RULE}.")
        check_body(request)
        try:
            budget = decode_budget(request.body)
            if budget.notify is not None:
                check_public(budget.notify, allow_local=self.settings.allow_local_endpoints, member="notify")
            budget = msgspec.structs.replace(budget, owner="operator" if caller.customer is None else "customer")
            document = await self.views.put(customer, name, budget, by=caller.name)
        except (InvalidJob, ConnectionInvalid) as exc:
            raise invalid_request(str(exc)) from None
        except PermissionError:
            raise _operators() from None
        return json_response(_shown(document, caller))

    async def delete(self, request: Request, caller: Caller) -> Response:
        """`DELETE /customers/{customer}/budgets/{name}`."""
        customer, name = customer_to_read(request, caller), request.params["name"]
        check_media_type(request)
        try:
            existed = await self.views.delete(customer, name, by=caller.name, is_operator=caller.customer is None)
        except PermissionError:
            raise _operators() from None
        if not existed:
            raise not_found("budget")
        return Response(_NO_CONTENT, b"")


def _shown(budget: BudgetDocument, caller: Caller) -> BudgetDocument:
    """Return what the caller sees of a budget: where the operator's events go is the operator's alone."""
    is_hidden = caller.customer is not None and budget.owner == "operator"
    return msgspec.structs.replace(budget, notify=None) if is_hidden else budget


def _operators() -> Problem:
    return Problem(403, "forbidden", "The operator made this budget. You can make others, which apply as well.")
