"""
The documents of a closed month: what a customer is billed for, in lines whose sum is the total.

They are written once and never changed. What comes later is a correction, a document of its own with the differences.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.contract.price_book import Markup
from shared.contract.statement import UnpricedCalls
from shared.contract.usage import Counts

MAX_CORRECTIONS = 9999
LineKind = Literal["usage", "credit", "debit", "rounding"]
StatementId = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])(-[1-9][0-9]{0,3})?\Z",
        description="a month such as 2026-11, or a correction of it such as 2026-11-1",
    ),
]
"""A document of a customer as text; see `parse_document_id`."""
_ID = re.compile(r"(?P<month>[1-9][0-9]{3}-(?:0[1-9]|1[0-2]))(?:-(?P<correction>[1-9][0-9]{0,3}))?")


class DocumentId(Struct, frozen=True, order=True):
    """Which document of a customer: a month's own, or one of its corrections."""

    month: str
    """Such as `2026-11`."""
    correction: int = 0
    """Counts from 1; 0: the month's own document."""

    def __str__(self) -> str:
        return f"{self.month}-{self.correction}" if self.correction else self.month


def parse_document_id(text: str) -> DocumentId | None:
    """Return the id in `2026-11` or `2026-11-1`, None if the text is neither."""
    match = _ID.fullmatch(text)
    return None if match is None else DocumentId(match["month"], int(match["correction"] or 0))


class DocumentLine(Counts, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a document: usage with the same labels, a credit or debit, or what rounding adds to the others."""

    kind: LineKind
    adjustment: str | None = None
    """The id of the credit or debit."""
    description: str | None = None
    """Of a credit or debit."""
    model: str | None = None
    """The deployment or model that the customer named."""
    action: str | None = None
    connection: str | None = None
    source: str | None = None
    provider: str | None = None
    billed_to: str | None = None
    outcome: str | None = None
    service_tier: str | None = None
    processing: str | None = None
    deployment_scope: str | None = None
    records: int = 0
    calls: int = 0
    jobs: int = 0
    """Jobs that succeeded, at least in part, with an answered call."""
    unpriced: int = 0
    """Records without a price. They are not in the amount."""
    amount: str | None = None
    """What the line adds to the total; a credit is negative. Missing if nothing in the line has a price."""
    saved: str | None = None
    """What the amount would be more at the price of standard processing."""
    list_amount: str | None = None
    """What the records cost before markup. Only the operator's document has it."""


class Party(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The customer as a document names it."""

    legal_name: str | None = None
    address: str | None = None
    tax_id: str | None = None


class ClosedMonth(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A closed month, or a correction of it, as the customer gets it. It never changes."""

    customer: str
    month: str
    correction: int | None = None
    """Counts from 1. Missing in the month's own document."""
    number: str
    """Of the customer's documents in the order in which they were made, without gaps, behind its prefix."""
    corrects: str | None = None
    """The number of the document that this one corrects."""
    closed_at: str
    party: Party
    currency: str
    """Of all amounts."""
    lines: list[DocumentLine]
    total: str
    """The sum of the lines' amounts. Contains no tax."""
    unpriced: list[UnpricedCalls] = []
    """What has no price, by model, and so is not in the total."""


class InternalMonth(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What a closed month was made from, for the operator alone.

    It is written before the document has its number, and all other documents are made from it.
    """

    customer: str
    month: str
    correction: int | None = None
    corrects: str | None = None
    closed_at: str
    party: Party
    invoice_prefix: str
    bill_outcomes: list[str]
    """The outcomes whose calls are billed."""
    price_book: str
    """SHA-256 of the price book."""
    markups: list[Markup]
    """Those that held for the customer on a day of the month."""
    currency: str
    lines: list[DocumentLine]
    total: str
    unpriced: list[UnpricedCalls] = []


class DocumentFile(Struct, frozen=True, kw_only=True):
    """A file of a document."""

    size: int
    sha256: str


class StatementInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The input of a job that closes a month."""

    month: Annotated[str, Meta(pattern=r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])\Z", description="a month such as 2026-11")]
    correction: Annotated[int, Meta(ge=0, le=MAX_CORRECTIONS)] = 0
    allow_unpriced: bool = False
    """Whether the month is closed even if calls that would be billed have no price."""

    @property
    def document(self) -> DocumentId:
        """The document that the job makes."""
        return DocumentId(self.month, self.correction)


class ClosedMonthSummary(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A document in the list of a customer's documents."""

    month: str
    correction: int | None = None
    number: str
    closed_at: str
    currency: str
    total: str
    files: dict[str, DocumentFile]
    """`json`, `csv` and `html`; `internal` only for callers that are not tied to a customer."""
    links: dict[str, str] = {}
    """`self`, whose `Accept` chooses the file."""


class ClosedMonthList(Struct, frozen=True, kw_only=True):
    """All documents of a customer, newest month first, each month's corrections after its own document."""

    statements: list[ClosedMonthSummary]
