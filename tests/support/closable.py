"""A customer with a month that can be closed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from shared.billing.adjustments import Adjustments
from shared.billing.closing_facts import CLOSABLE_AFTER
from shared.billing.customer_records import CustomerRecords
from shared.billing.price_books import PriceBooks
from shared.billing.usage import Call
from shared.billing.usage_records import RecordLabels, usage_rows
from shared.clock import now
from shared.contract.adjustment import NewAdjustment
from shared.contract.closed_month import DocumentId
from shared.contract.customer import CustomerProfile
from shared.contract.price_book import Price, PriceBook
from shared.contract.result import ConnectionLabel
from shared.contract.usage import Usage
from shared.storage.base import Blobs, Table

_LABEL = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")
_NEXT = (now() - CLOSABLE_AFTER).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
MONTH = f"{_NEXT - timedelta(days=1):%Y-%m}"
"""The last month that can be closed: in a month's first half hour, the one before the last."""
CLOSABLE_AT = _NEXT + CLOSABLE_AFTER
DOCUMENT = DocumentId(MONTH)
EARLIER = DocumentId(f"{_NEXT - timedelta(days=32):%Y-%m}")
"""The month before that one."""
CORRECTION = DocumentId(MONTH, 1)
JOB_ID = f"statement-{MONTH}"


async def publish_prices(
    table: Table, blobs: Blobs, price: str = "3", *, model: str = "gpt-5.5", container: str = "statements"
) -> None:
    """Have a million tokens of input of a model cost so much."""
    books = PriceBooks(table, blobs, container)
    book = PriceBook(currency="USD", prices=[Price(provider="openai", model=model, input=Decimal(price))])
    await books.publish(book, replaces=await books.current(), by="ann")


async def add_usage(
    table: Table,
    customer: str,
    *,
    job: str = "a",
    model: str = "gpt-5.5",
    month: str = MONTH,
    tokens: int = 1_000_000,
) -> None:
    """Add the record of a call with so many tokens of input."""
    labels = RecordLabels(customer, job, "chat", model, _LABEL)
    at = datetime.fromisoformat(f"{month}-15").replace(tzinfo=UTC)
    for row in usage_rows(labels, [Call(usage=Usage(calls=1, input_tokens=tokens), model=model)], at):
        await table.insert(row)


async def add_credit(
    table: Table, customer: str, credit: str = "goodwill", amount: str = "-1", description: str = "Goodwill"
) -> None:
    """Add a credit to the month."""
    new = NewAdjustment(id=credit, month=MONTH, amount=amount, currency="USD", description=description)
    await Adjustments(table).add(customer, new, by="ann")


async def put_profile(table: Table, customer: str, profile: CustomerProfile) -> None:
    """Write the customer's profile."""
    await CustomerRecords(table).change(
        customer, lambda record: record.with_profile(profile), by="a", subject="profile"
    )
