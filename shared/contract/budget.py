"""A budget: how much a customer's jobs may use in a day or a month, in money, tokens or jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import product
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from shared.contract.decoding import decode
from shared.contract.job import CallbackUrl
from shared.contract.names import ModelName, Name
from shared.contract.price_book import MAX_AMOUNT, MAX_PLACES, places_in
from shared.errors import InvalidJob

BudgetUnit = Annotated[
    str,
    Meta(
        pattern=r"^([A-Z]{3}|tokens|jobs)\Z",
        description="an ISO 4217 code such as USD, `tokens` or `jobs`",
    ),
]
Period = Literal["day", "month"]
Owner = Literal["operator", "customer"]
Enforce = Literal["hard", "soft"]
Threshold = Annotated[int, Meta(ge=1, le=1000, description="a whole percentage, 1 to 1000")]
MAX_THRESHOLDS = 5
MAX_BUDGETS, MAX_APPLYING = 20, 5
"""Of a customer; and of those that can apply to the same job, because a transaction writes rows of all of them."""
MAX_OWN, MAX_OWN_APPLYING = 10, 2
"""Of these, what the customer itself may make: it must not leave the operator without room for a cap."""
MAX_BYTES = 30_000
"""Of a customer's budgets, as JSON in a column."""
MAX_COUNT = 10**15
"""The largest limit in tokens or jobs."""


class Budget(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How much may be used in each day or month (UTC)."""

    limit: Decimal
    """A decimal string, 0 or more: an amount of money, or a whole number of tokens or jobs."""
    unit: BudgetUnit
    """What is limited: money in a currency, after markup; `tokens`, in and out; or `jobs`."""
    period: Period
    connection: Name | None = None
    """Counts the jobs on this connection alone."""
    model: ModelName | None = None
    """Counts the jobs on this model or deployment alone."""
    enforce: Enforce = "hard"
    """`soft`: the budget counts and notifies, and refuses nothing."""
    thresholds: Annotated[list[Threshold], Meta(max_length=MAX_THRESHOLDS)] = msgspec.field(
        default_factory=lambda: [50, 80, 100]
    )
    """Percentages of the limit. As each is reached for the first time in a period, an event is sent."""
    notify: CallbackUrl | None = None
    """Where the budget's events are posted to, signed like a callback."""
    owner: Owner = "operator"
    """Set by the app. Who made it: `customer` if a caller that is tied to the customer did."""

    @property
    def is_money(self) -> bool:
        """Whether the limit is an amount of money."""
        return self.unit not in {"tokens", "jobs"}


class _Written(Struct):
    """What a budget's JSON has as its limit: a number could have been through a float."""

    limit: msgspec.Raw


class BudgetDocument(Budget, frozen=True, kw_only=True, omit_defaults=True):
    """A budget, and what of it is used in the current period. Amounts are decimal strings."""

    name: str
    enforce: Enforce
    thresholds: list[Threshold]
    owner: Owner
    period_start: str
    """When the current period began, RFC 3339 in UTC."""
    spent: str
    """What jobs have used. A call that may have been billed counts as the most that it can cost."""
    reserved: str
    """What running jobs may use beyond that."""
    remaining: str
    """What is left for further jobs."""


class BudgetList(Struct, frozen=True, kw_only=True):
    """A customer's budgets, in the order of their names."""

    budgets: list[BudgetDocument]


def check_together(budgets: Mapping[str, Budget]) -> None:
    """Raise InvalidJob if a customer can't have these budgets at the same time."""
    if len(budgets) > MAX_BUDGETS:
        raise InvalidJob(f"A customer can have at most {MAX_BUDGETS} budgets.")
    own = {name: budget for name, budget in budgets.items() if budget.owner == "customer"}
    if len(own) > MAX_OWN:
        raise InvalidJob(f"A customer can have at most {MAX_OWN} budgets of its own.")
    _check_applying(budgets, MAX_APPLYING, "budgets")
    _check_applying(own, MAX_OWN_APPLYING, "budgets of the customer's own")
    for those, limit in ((budgets, MAX_BYTES), (own, MAX_BYTES // 2)):
        if len(msgspec.json.encode(those)) > limit:
            raise InvalidJob(f"The customer's budgets are more than {limit:,} bytes of JSON: shorten their `notify`.")


def _check_applying(budgets: Mapping[str, Budget], limit: int, what: str) -> None:
    connections = {budget.connection for budget in budgets.values()}
    models = {budget.model and budget.model.lower() for budget in budgets.values()}
    for connection, model in product(connections, models):
        applying = [
            name
            for name, budget in sorted(budgets.items())
            if budget.connection in (None, connection) and (budget.model is None or budget.model.lower() == model)
        ]
        if len(applying) > limit:
            raise InvalidJob(f"At most {limit} {what} can apply to one job, and these do: {', '.join(applying)}.")


def _is_decimal_string(text: msgspec.Raw) -> bool:
    return re.fullmatch(rb'"[-+.0-9A-Za-z]*"', bytes(text)) is not None  # NaN is one that is no number


def decode_budget(data: bytes) -> Budget:
    """Return the budget in `data`. Raises InvalidJob, which names the member at fault."""
    budget = decode(data, Budget, root="The budget")
    if not _is_decimal_string(msgspec.json.decode(data, type=_Written).limit):
        raise InvalidJob('`limit` must be a decimal string, such as "100.50", and not a number.')
    limit = budget.limit
    if not limit.is_finite() or limit < 0:
        raise InvalidJob("`limit` must be a number, 0 or more.")
    places = places_in(limit)
    if budget.is_money:
        if limit >= MAX_AMOUNT or places > MAX_PLACES:
            raise InvalidJob(f"`limit` must be below 1,000,000,000 and have at most {MAX_PLACES} places.")
    elif places or limit > MAX_COUNT:
        raise InvalidJob(f"`limit` must be a whole number of {budget.unit}, at most {MAX_COUNT:,}.")
    if len(set(budget.thresholds)) < len(budget.thresholds):
        raise InvalidJob("`thresholds` has the same percentage twice.")
    limit = Decimal(f"{limit.normalize():f}") if limit else Decimal(0)  # without an exponent, nor a sign
    return msgspec.structs.replace(budget, limit=limit, thresholds=sorted(budget.thresholds))
