"""`budgets` lists, makes and deletes a customer's budgets."""

from __future__ import annotations

import argparse

import msgspec

from aijobs.confirmation import is_confirmed
from aijobs.diagnostics import CommandError, InvalidArguments
from aijobs.person import person
from aijobs.report import Report
from aijobs.scope import check_customer
from aijobs.settings import open_services
from aijobs.table import make_table
from shared.billing.budget_views import BudgetViews
from shared.billing.customer_records import FRESH_S
from shared.contract.budget import Budget, BudgetDocument, BudgetList, decode_budget
from shared.contract.names import NAME_RULE, is_name
from shared.errors import ConnectionInvalid, InvalidJob
from shared.settings import Settings
from shared.upstream.egress_policy import check_public

_COLUMNS = ("name", "limit", "unit", "period", "spent", "reserved", "remaining", "scope")


async def list_all(args: argparse.Namespace) -> Report:
    """Run `budgets list CUSTOMER`."""
    customer = check_customer(args.customer)
    async with open_services(args.settings) as services:
        budgets = await BudgetViews(services.budgets).list(customer)
    if not budgets:
        return Report(BudgetList(budgets=[]), [f"{customer} has no budgets."])
    rows = [[_scope(each) if name == "scope" else str(getattr(each, name)) for name in _COLUMNS] for each in budgets]
    numeric = frozenset({"limit", "spent", "reserved", "remaining"})
    return Report(BudgetList(budgets=budgets), [make_table(_COLUMNS, rows, numeric=numeric, prose="scope")])


async def store(args: argparse.Namespace) -> Report:
    """Run `budgets set CUSTOMER NAME`. The exit code is 1 if it was not confirmed."""
    customer, name = check_customer(args.customer), _name(args)
    async with open_services(args.settings) as services:
        budget = _budget(args, services.settings)
        consequence = (
            f"This limits {customer} to {args.limit} {budget.unit} a {budget.period} by the budget {name}. A budget of "
            "that name is replaced."
        )
        if not is_confirmed(args, services.settings, consequence, customer):
            return Report({"customer": customer, "changed": False}, ["Nothing was changed."], 1)
        try:
            document = await BudgetViews(services.budgets).put(customer, name, budget, by=person())
        except InvalidJob as exc:
            raise InvalidArguments(str(exc)) from None
    text = f"{customer} has the budget {name}. Workers know within {FRESH_S:g} seconds."
    return Report({"customer": customer, "changed": True, "budget": document}, [text])


async def delete(args: argparse.Namespace) -> Report:
    """Run `budgets delete CUSTOMER NAME`. The exit code is 1 if it was not confirmed."""
    customer, name = check_customer(args.customer), _name(args)
    async with open_services(args.settings) as services:
        consequence = f"This deletes the budget {name} of {customer}: its jobs are no longer limited by it."
        if not is_confirmed(args, services.settings, consequence, customer):
            return Report({"customer": customer, "deleted": False}, ["Nothing was deleted."], 1)
        if not await BudgetViews(services.budgets).delete(customer, name, by=person(), is_operator=True):
            raise CommandError(f"{customer} has no budget {name}.")
    return Report({"customer": customer, "deleted": True}, [f"Deleted the budget {name} of {customer}."])


def _budget(args: argparse.Namespace, settings: Settings) -> Budget:
    members = {
        "limit": args.limit,
        "unit": args.unit,
        "period": args.period,
        "connection": args.connection,
        "model": args.model,
        "enforce": "soft" if args.soft else None,
        "thresholds": args.threshold,
        "notify": args.notify,
    }
    named = {member: value for member, value in members.items() if value is not None}
    try:
        budget = decode_budget(msgspec.json.encode(named))
        if budget.notify is not None:
            check_public(budget.notify, allow_local=settings.allow_local_endpoints, member="notify")
    except (InvalidJob, ConnectionInvalid) as exc:
        raise InvalidArguments(str(exc)) from None
    return budget


def _name(args: argparse.Namespace) -> str:
    name: str = args.name
    if not is_name(name):
        raise InvalidArguments(f"The budget's name must be {NAME_RULE}.")
    return name


def _scope(budget: BudgetDocument) -> str:
    parts = [f"{what} {value}" for what in ("connection", "model") if (value := getattr(budget, what)) is not None]
    return ", ".join([*parts, *(["soft"] if budget.enforce == "soft" else [])])
