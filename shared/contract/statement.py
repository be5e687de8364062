"""
Statements as JSON: what customers used, and what it costs.

The OpenAPI document is made from these types: a docstring below a member is its description there.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from shared.contract.usage import Counts


class UsageTotals(Counts, frozen=True, kw_only=True, omit_defaults=True):
    """Usage records, added up. A count is missing if no record has it."""

    records: int
    calls: int
    """Responses from the endpoint; records of unanswered calls have none."""
    unreported: int
    """Calls among them whose provider reported no usage."""
    derived: tuple[str, ...] = ()
    """Names of counts of which a part was computed from the provider's total."""
    consistent: bool | None = None
    """False if the provider's own counts contradict each other in a record; missing if no record has any."""
    jobs: int
    """Jobs that succeeded, at least in part, with an answered call; each counts on the day of its end."""
    amount: str | None = None
    """What the priced records cost, after markup. Missing if there are none, or no price book."""
    currency: str | None = None
    """Of all amounts."""
    unpriced: int | None = None
    """Records without a price. They are not in the amount. Missing if there is no price book."""
    saved: str | None = None
    """What the amount would be more at the price of standard processing."""
    list_amount: str | None = None
    """What the records cost before markup. Only callers see it that are not tied to a customer."""


class StatementLine(UsageTotals, frozen=True, kw_only=True, omit_defaults=True):
    """Usage records with the same labels, added up as in UsageTotals. Of the first five labels it has those in `by`."""

    month: str | UnsetType = UNSET
    day: str | UnsetType = UNSET
    """UTC."""
    model: str | UnsetType = UNSET
    action: str | UnsetType = UNSET
    connection: str | UnsetType = UNSET
    source: str
    provider: str
    billed_to: str
    outcome: str
    service_tier: str | None = None
    """The tier that served."""
    processing: str | None = None
    deployment_scope: str | None = None
    kind: Literal["rounding"] | None = None
    """Missing for usage. `rounding`: what the lines of an outcome differ from its total; it has no usage."""


class UnpricedCalls(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Usage records that have no price."""

    model: str
    """The model that answered or, if that is not known, the deployment."""
    outcome: str
    """As in the lines: `answered`, `lost` or `unanswered`."""
    records: int
    reason: str | None = None
    """What is missing. Only callers see it that are not tied to a customer."""


class StatementTotals(Struct, frozen=True, kw_only=True):
    """The totals of a statement by outcome. Only `answered` is certain."""

    answered: UsageTotals
    lost: UsageTotals
    unanswered: UsageTotals


class Statement(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """What a customer used in a month, or on other days."""

    customer: str
    month: str | None = None
    """Missing if the days are not those of one month."""
    from_: str
    """The first day, in UTC."""
    to: str
    """The last day, which is included."""
    by: list[str]
    """The labels that distinguish the lines."""
    totals: StatementTotals
    lines: list[StatementLine]
    unpriced: list[UnpricedCalls] = []
    """What has no price, by model."""


class CustomerUsage(UsageTotals, frozen=True, kw_only=True, omit_defaults=True):
    """What a customer's answered calls add up to: the total `answered` of its statement."""

    customer: str
    lost: int
    """Records of calls that were answered, and whose answer could not be kept."""
    unanswered: int
    """Records of calls that may have been charged without an answer."""


class UsageOverview(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"from_": "from"}):
    """What customers used in a month, or on other days: a line for each that used anything, in the order of ids."""

    month: str | None = None
    """Missing if the days are not those of one month."""
    from_: str
    """The first day, in UTC."""
    to: str
    """The last day, which is included."""
    lines: list[CustomerUsage]
    continuation: str | None = None
    """For the next page. Missing on the last page; a page can be short or empty without being the last."""
