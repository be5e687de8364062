"""A month is closed once: the same bytes and the same number, whoever closes it, however often, and after any crash."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest

from shared.billing.adjustments import Adjustments
from shared.billing.closed_records import ERASED_KEY, ClosedRecord, blob_name
from shared.billing.closing import Closing
from shared.billing.customer_records import CustomerRecords
from shared.billing.price_books import PriceBooks
from shared.billing.usage import Call
from shared.billing.usage_records import RecordLabels, usage_rows
from shared.contract.adjustment import NewAdjustment
from shared.contract.closed_month import ClosedMonth, DocumentId, InternalMonth
from shared.contract.customer import CustomerProfile
from shared.contract.price_book import Markup, Price, PriceBook, Rate
from shared.contract.result import ConnectionLabel
from shared.contract.usage import Usage
from shared.errors import InvalidJob, RetryLater, StorageUnavailable
from shared.storage.base import Row
from tests.support.crashing_storage import Fate, Mortal, WorkerDied
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryTable
from tests.support.rows import every_row

OCTOBER = DocumentId("2026-10")
CORRECTION = DocumentId("2026-10", 1)
LABEL = ConnectionLabel(name="default", source="static", provider="openai", billed_to="operator")
FILES = ("internal", "json", "csv", "html")


def book(price: str, **members: Any) -> PriceBook:
    """Return a book in which a million tokens of input cost so much."""
    prices = [Price(provider="openai", model="gpt-5.5", input=Decimal(price))]
    return PriceBook(**{"currency": "USD", "prices": prices, "markups": [Markup(percent=Decimal(10))]} | members)


@dataclass
class Office:
    """An app's Storage, and who closes months in it."""

    table: MemoryTable = field(default_factory=MemoryTable)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    at: datetime = datetime(2026, 11, 1, 0, 30, tzinfo=UTC)

    def closing(self, fate: Fate | None = None) -> Closing:
        """Return what closes months in a worker of its own."""
        table, blobs = (Mortal(store, fate or Fate()) for store in (self.table, self.blobs))
        books = PriceBooks(cast(Any, table), cast(Any, blobs), "statements")
        customers = CustomerRecords(cast(Any, table))
        return Closing(cast(Any, table), cast(Any, blobs), "statements", books, customers, 24, lambda: self.at)

    async def close(self, document: DocumentId = OCTOBER, **options: Any) -> ClosedRecord | None:
        """Close a month of contoso in a worker of its own, some time after the last one."""
        self.at += timedelta(hours=1)
        return await self.closing().close("contoso", document, **options)

    async def closed(self, document: DocumentId = OCTOBER, **options: Any) -> ClosedRecord:
        """As `close`; fails if nothing was closed."""
        record = await self.close(document, **options)
        assert record is not None
        return record

    async def publish(self, price_book: PriceBook) -> None:
        """Publish a price book."""
        books = PriceBooks(self.table, self.blobs, "statements")
        await books.publish(price_book, replaces=await books.current(), by="ann")

    async def add_usage(self, job: str, tokens: int = 1_000_000, day: int = 5, **call: Any) -> None:
        """Add a call's usage record."""
        values: dict[str, Any] = {"usage": Usage(calls=1, input_tokens=tokens), "model": "gpt-5.5"} | call
        rows = usage_rows(
            RecordLabels("contoso", job, "chat", "gpt-5.5", LABEL),
            [Call(**values)],
            datetime(2026, 10, day, tzinfo=UTC),
        )
        for row in rows:
            await self.table.insert(row)

    async def adjust(self, adjustment: str, amount: str, **members: Any) -> None:
        """Add a credit or debit."""
        values = {"month": "2026-10", "currency": "USD", "description": "Goodwill"} | members
        await Adjustments(self.table).add("contoso", NewAdjustment(id=adjustment, amount=amount, **values), by="ann")

    async def set_profile(self, **members: Any) -> None:
        """Replace the profile."""
        profile = CustomerProfile(**members)
        await CustomerRecords(self.table).change(
            "contoso", lambda record: record.with_profile(profile), by="ann", subject="profile"
        )

    def document(self, document: DocumentId = OCTOBER) -> ClosedMonth:
        """Return the customer's document."""
        return msgspec.json.decode(self.file(document, "json"), type=ClosedMonth)

    def internal(self, document: DocumentId = OCTOBER) -> InternalMonth:
        """Return the operator's document."""
        return msgspec.json.decode(self.file(document, "internal"), type=InternalMonth)

    def file(self, document: DocumentId, name: str) -> bytes:
        """Return a file."""
        return self.blobs.blobs["statements", blob_name("contoso", document, name)][0]

    def numbers(self) -> list[tuple[str, str]]:
        """Return all numbers with their documents."""
        return [
            (key, row.values["document"]) for (_, key), row in sorted(self.table.rows.items()) if key.startswith("n_")
        ]

    def check(self, record: ClosedRecord) -> None:
        """Fail unless the document's files are those of its record, and those that the facts in the first one make."""
        files = {name: self.file(record.document, name) for name in FILES}
        assert {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()} == {
            name: (file.size, file.sha256) for name, file in record.files.items()
        }
        document, internal = self.document(record.document), self.internal(record.document)
        assert (internal.total, internal.closed_at) == (document.total, document.closed_at)
        assert Decimal(document.total) == sum(Decimal(line.amount or 0) for line in document.lines)
        assert (record.total, record.printed_number) == (document.total, document.number)


@pytest.fixture
async def office() -> Office:
    """A month with usage, prices, a credit and a profile."""
    office = Office()
    await office.publish(book("3"))
    await office.add_usage("a", 2_000_001)
    await office.adjust("welcome", "-1.005")
    await office.set_profile(legal_name="Contoso Ltd", address="1 Main St\nSpringfield", tax_id="DE123")
    return office


async def test_a_month_is_closed(office: Office):
    """Its documents have the calls at their price after markup, the credit, the rounding and the total."""
    record = await office.closed()

    office.check(record)
    document = office.document()
    assert [("usage", "6.600003"), ("credit", "-1.005000"), ("rounding", "0.004997")] == [
        (line.kind, line.amount) for line in document.lines
    ]
    assert ("5.60", "USD", "contoso-0001", "Contoso Ltd") == (
        document.total,
        document.currency,
        document.number,
        document.party.legal_name,
    )
    assert [("n_00000001", "2026-10")] == office.numbers()
    assert "6.000003" == office.internal().lines[0].list_amount
    assert [Markup(percent=Decimal(10))] == office.internal().markups
    assert b"6.000003" not in office.file(OCTOBER, "json") + office.file(OCTOBER, "csv") + office.file(OCTOBER, "html")


async def change_nothing(_: Office) -> None:
    """Leave everything as it is."""


async def change_everything(office: Office) -> None:
    """Change the prices, the profile, the adjustments and the usage."""
    await office.publish(book("7"))
    await office.set_profile(legal_name="Contoso AG", invoice_prefix="X", bill_outcomes=("lost",))
    await office.adjust("later", "-3")
    await office.add_usage("late", day=31)


@pytest.mark.parametrize("change", [change_nothing, change_everything])
@pytest.mark.parametrize("after", [False, True])
async def test_a_crash_at_any_step_leaves_one_document(office: Office, after: bool, change: Callable[[Office], Any]):
    """
    Whatever a worker that dies has written, the next one ends with one number and files that fit each other, even if
    prices, profile, adjustments and usage have changed; and so does everybody else, however often.
    """
    whole = Fate()
    rows, blobs = dict(office.table.rows), dict(office.blobs.blobs)
    await office.closing(whole).close("contoso", OCTOBER)
    assert whole.operations > 10
    for operation in range(1, whole.operations + 1):
        office.table.rows, office.blobs.blobs = dict(rows), dict(blobs)
        with pytest.raises(WorkerDied):
            await office.closing(Fate(operation, after)).close("contoso", OCTOBER)
        await change(office)

        record = await office.closed()

        office.check(record)
        assert [("n_00000001", "2026-10")] == office.numbers()
        written = dict(office.blobs.blobs)
        assert record == await office.closed()
        assert written == office.blobs.blobs


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(8, 40))])
async def test_two_workers_close_a_month_once(office: Office, seed: int):
    """
    They do so at the same time, at different moments and by different clocks, one may die at any step, and another
    month is closed beside them: each document has one number, without a gap, and the bytes that all others get as well.
    """
    chance = random.Random(seed)
    september = DocumentId("2026-09")
    fates = [Fate(chance.choice([0, chance.randint(1, 25)]), chance.random() < 0.5, chance) for _ in range(3)]
    closings = [office.closing(fate) for fate in fates]
    for number, closing in enumerate(closings):
        object.__setattr__(closing, "clock", lambda number=number: office.at + timedelta(seconds=number))

    ended = await asyncio.gather(
        closings[0].close("contoso", OCTOBER),
        closings[1].close("contoso", OCTOBER),
        closings[2].close("contoso", september),
        return_exceptions=True,
    )

    again = [await office.closed(document) for document in (OCTOBER, OCTOBER, september)]
    for before, record in zip(ended, again, strict=True):
        assert isinstance(before, WorkerDied) or before == record
        office.check(record)
    assert again[0] == again[1]
    assert {1, 2} == {again[0].number, again[2].number}
    assert ["n_00000001", "n_00000002"] == [key for key, _ in office.numbers()]


async def test_years_later_it_is_the_same(office: Office):
    """Also if the usage records are gone, and nothing is left of the job that closed the month."""
    record = await office.closed()
    written = dict(office.blobs.blobs)
    office.table.rows = {id_: row for id_, row in office.table.rows.items() if id_[1][:2] in {"x_", "n_"}}
    office.at += timedelta(days=3000)

    assert record == await office.closed()
    assert written == office.blobs.blobs


async def test_what_comes_later_is_a_correction(office: Office):
    """
    It has the differences alone, at the prices that the month was closed by, names the document that it corrects, and
    has the next number. The next one has what came after that.
    """
    first = await office.closed()
    written = dict(office.blobs.blobs)
    await change_everything(office)

    second = await office.closed(CORRECTION)

    office.check(second)
    document = office.document(CORRECTION)
    assert [("usage", "3.300000", 1), ("credit", "-3.000000", 0)] == [
        (line.kind, line.amount, line.calls) for line in document.lines
    ]
    assert ("X-0002", "contoso-0001", 1, "0.30") == (
        document.number,
        document.corrects,
        document.correction,
        document.total,
    )
    assert written.items() <= office.blobs.blobs.items()
    assert first == await office.closed()
    assert second == await office.closed(CORRECTION)
    assert None is await office.close(DocumentId("2026-10", 2))
    await office.adjust("even-later", "0.5")
    third = await office.closed(DocumentId("2026-10", 2))
    assert ("X-0003", "0.50") == (third.printed_number, third.total)


async def test_nothing_to_correct_takes_no_number(office: Office):
    """There is no document either."""
    await office.closed()
    written, numbers = dict(office.blobs.blobs), office.numbers()

    assert None is await office.close(CORRECTION)

    assert (written, numbers) == (office.blobs.blobs, office.numbers())


async def test_a_call_without_a_price_closes_no_month(office: Office):
    """
    The error names the model, and neither a price nor a reason, since the customer may read it. With `allow_unpriced`
    the month is closed without the call, which is listed; only the operator's file says what is missing.
    """
    await office.add_usage("odd", model="gpt-new")

    with pytest.raises(InvalidJob, match="Billed calls of 2026-10 have no price: 1 of gpt-new") as refused:
        await office.close()
    assert [] == office.numbers()
    record = await office.closed(allow_unpriced=True)

    office.check(record)
    assert "holds" not in str(refused.value)
    assert [("gpt-new", 1, None)] == [(each.model, each.records, each.reason) for each in office.document().unpriced]
    assert "no price holds for gpt-new" in (office.internal().unpriced[0].reason or "")
    assert "5.60" == record.total


async def test_only_billed_outcomes_need_a_price(office: Office):
    """A call that is not billed, such as an unanswered one, neither adds to the total nor needs a price."""
    await office.add_usage("cut", outcome="unanswered")
    await office.add_usage("lost", outcome="lost")

    assert "5.60" == (await office.closed()).total


async def test_the_profile_says_which_outcomes_are_billed(office: Office):
    """Here lost calls, too; the correction of a month keeps what that was closed by."""
    await office.set_profile(bill_outcomes=("answered", "lost"), invoice_prefix="INV-")
    await office.add_usage("lost", outcome="lost")

    record = await office.closed()

    assert ("8.90", "INV-0001") == (record.total, record.printed_number)
    await office.set_profile()
    assert None is await office.close(CORRECTION)


@pytest.mark.parametrize(
    ("at", "document", "words"),
    [
        ((2026, 11, 1, 0, 24), OCTOBER, "2026-10 can be closed from 2026-11-01T00:30:00.000Z on"),
        ((2026, 10, 15, 12, 0), OCTOBER, "can be closed from"),
        ((2026, 11, 1, 0, 31), CORRECTION, "corrects 2026-10, which is not closed"),
        ((2026, 11, 1, 0, 31), DocumentId("2026-10", 3), "corrects 2026-10-2, which is not closed"),
        ((2028, 10, 31, 23, 59), OCTOBER, None),
        ((2028, 11, 1, 0, 31), OCTOBER, "no longer kept .RETAIN_USAGE_MONTHS."),
    ],
)
async def test_a_month_that_can_not_be_closed(
    office: Office, at: tuple[int, ...], document: DocumentId, words: str | None
):
    """It is not over, its usage is gone, or there is nothing to correct; the error says which."""
    office.at = datetime(*at, tzinfo=UTC)  # type: ignore[arg-type,misc]

    closing = office.closing().close("contoso", document)
    if words is None:
        assert await closing is not None
    else:
        with pytest.raises(InvalidJob, match=words):
            await closing
        assert [] == office.numbers()


@pytest.mark.parametrize(("at", "delay_s"), [((0, 25), 301), ((0, 29), 61)])
async def test_a_month_that_can_be_closed_in_a_moment_waits(office: Office, at: tuple[int, int], delay_s: float):
    """The worker's clock may be behind that of the timer, which has put the job into the queue at the first moment."""
    office.at = datetime(2026, 11, 1, *at, tzinfo=UTC)

    with pytest.raises(RetryLater, match="can be closed from") as wait:
        await office.closing().close("contoso", OCTOBER)

    assert (delay_s, []) == (wait.value.delay_s, office.numbers())


@dataclass
class Interrupted(Fate):
    """Before one of the worker's operations, another one does something from beginning to end."""

    at: int = 0
    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def begin(self) -> int:
        """See Fate."""
        number = await super().begin()
        if number == self.at and self.meanwhile is not None:
            await self.meanwhile()
        return number


@pytest.mark.parametrize("change", [change_nothing, change_everything])
async def test_another_worker_closes_it_between_any_two_steps(office: Office, change: Callable[[Office], Any]):
    """Both have the same document, wherever the first one was, and whatever has changed before the second one."""
    rows, blobs = dict(office.table.rows), dict(office.blobs.blobs)
    closed: list[ClosedRecord] = []

    async def meanwhile() -> None:
        await change(office)
        closed.append(await office.closed())

    for number in range(1, 100):
        office.table.rows, office.blobs.blobs, closed[:] = dict(rows), dict(blobs), []

        record = await office.closing(Interrupted(at=number, meanwhile=meanwhile)).close("contoso", OCTOBER)

        if not closed:
            break
        assert record == closed[0]
        office.check(closed[0])
        assert [("n_00000001", "2026-10")] == office.numbers()
    assert 10 < number < 99


async def test_a_preview_is_what_was_begun(office: Office):
    """Once the sums are final, nothing that has changed since is shown as what the month would come to."""
    with pytest.raises(WorkerDied):
        await office.closing(Fate(dies_at=await operations_until_pinned(office), after=True)).close("contoso", OCTOBER)
    await change_everything(office)

    preview = await office.closing().preview("contoso", OCTOBER)

    assert (office.internal(), []) == (preview, office.numbers())


async def operations_until_pinned(office: Office) -> int:
    """Return the number of the operation that writes the operator's file."""
    rows, blobs = dict(office.table.rows), dict(office.blobs.blobs)
    for number in range(1, 100):
        office.table.rows, office.blobs.blobs = dict(rows), dict(blobs)
        with pytest.raises(WorkerDied):
            await office.closing(Fate(number, after=True)).close("contoso", OCTOBER)
        if len(office.blobs.blobs) > len(blobs):
            office.table.rows, office.blobs.blobs = dict(rows), dict(blobs)
            return number
    pytest.fail("It was not written.")


@pytest.mark.parametrize(("erased_at", "total"), [((2026, 10, 31), "5.60"), ((2026, 11, 1), None)])
async def test_a_month_of_which_all_was_erased_is_not_closed(
    office: Office, erased_at: tuple[int, int, int], total: str | None
):
    """What is left of it, such as a credit, would be a wrong bill. Usage since an erasure in the month is billed."""
    await office.table.insert(Row("contoso", ERASED_KEY, {"at": datetime(*erased_at, tzinfo=UTC)}))

    if total is not None:
        assert total == (await office.closed()).total
    else:
        with pytest.raises(InvalidJob, match="The usage records of 2026-10 were erased on 2026-11-01"):
            await office.close()
        assert [] == office.numbers()


async def test_a_correction_lists_what_has_no_price_since(office: Office):
    """Not once more what an earlier document lists."""
    await office.add_usage("odd", model="gpt-new")
    await office.closed(allow_unpriced=True)
    await office.adjust("later", "-1")
    await office.closed(CORRECTION)  # nothing new is without a price
    for job in ("odd-2", "odd-3"):
        await office.add_usage(job, model="gpt-new")
    second = DocumentId("2026-10", 2)

    with pytest.raises(InvalidJob, match="have no price: 2 of gpt-new"):
        await office.close(second)
    await office.closed(second, allow_unpriced=True)

    documents = [office.document(each) for each in (OCTOBER, CORRECTION, second)]
    assert [[("gpt-new", 1)], [], [("gpt-new", 2)]] == [
        [(each.model, each.records) for each in document.unpriced] for document in documents
    ]


async def test_erased_usage_is_not_taken_back(office: Office):
    """After an erasure the month has no usage any more; that makes no correction."""
    await office.closed()
    office.table.rows = {id_: row for id_, row in office.table.rows.items() if id_[1][:2] in {"x_", "n_", "h_", "cu"}}
    await office.publish(book("3"))
    await office.table.insert(Row("contoso", ERASED_KEY, {"at": office.at}))

    with pytest.raises(InvalidJob, match="The usage records of 2026-10 were erased on 2026-11-01"):
        await office.close(CORRECTION)


async def test_an_adjustment_in_another_currency_closes_no_month(office: Office):
    """The error names it."""
    await office.adjust("euros", "5", currency="EUR")

    with pytest.raises(InvalidJob, match="The credit or debit euros is in EUR, the customer's documents in USD"):
        await office.close()


async def test_adjustments_in_another_currency_that_cancel_out_are_on_no_document(office: Office):
    """Neither the month's own nor a correction; one that was not taken back in full holds both up."""
    await office.adjust("euros", "5", currency="EUR")
    await office.adjust("not-euros", "-4.99", currency="EUR")
    with pytest.raises(InvalidJob, match="not-euros is in EUR"):
        await office.close()
    await office.adjust("the-rest", "-0.01", currency="EUR")

    assert "5.60" == (await office.closed()).total
    await office.adjust("yen", "5", currency="JPY")
    with pytest.raises(InvalidJob, match="yen is in JPY"):
        await office.close(CORRECTION)
    await office.adjust("no-yen", "-5", currency="JPY")
    assert None is await office.close(CORRECTION)


async def test_a_document_is_in_the_customers_currency(office: Office):
    """By the rate of each day; a correction stays in the currency of the month that it corrects."""
    rates = [
        Rate(source="USD", target="EUR", rate=Decimal("0.5"), effective_from=date(2026, 10, 1)),
        Rate(source="USD", target="EUR", rate=Decimal(2), effective_from=date(2026, 10, 20)),
    ]
    office.table.rows = {at: row for at, row in office.table.rows.items() if not at[1].startswith("d_")}
    await office.publish(book("3", rates=rates))
    await office.set_profile(currency="EUR")
    await office.add_usage("later", day=25)

    first = await office.closed()
    await office.set_profile(currency="USD")
    await office.add_usage("late", day=31)
    second = await office.closed(CORRECTION)

    assert ("9.90", "EUR") == (first.total, first.currency)
    assert ("6.60", "EUR") == (second.total, second.currency)


async def test_without_a_rate_no_month_is_closed(office: Office):
    """Nor are amounts taken over as they are."""
    office.table.rows = {at: row for at, row in office.table.rows.items() if not at[1].startswith("d_")}
    await office.set_profile(currency="JPY")

    with pytest.raises(InvalidJob, match=r"Billed calls of 2026-10 have no price: 1 of gpt-5.5"):
        await office.close()


async def test_without_a_price_book_no_month_is_closed():
    """The error says how to publish one."""
    with pytest.raises(InvalidJob, match="aijobs prices import"):
        await Office().close()


async def test_a_month_without_usage_has_a_document_of_zero(office: Office):
    """If it is to be closed all the same."""
    record = await office.closed(DocumentId("2026-08"))

    assert "0.00" == record.total
    assert b"There is no usage." in office.file(DocumentId("2026-08"), "html")


@pytest.mark.parametrize("file", FILES)
async def test_a_file_that_was_changed_is_not_shown(office: Office, file: str):
    """Neither is one that is gone: whoever reads it gets an error instead of other bytes."""
    record = await office.closed()
    closing = office.closing()
    assert office.file(OCTOBER, file) == await closing.read_file(record, file)
    at = ("statements", blob_name("contoso", OCTOBER, file))

    for replacement in ({at: (b"{}", "")}, {}):
        del office.blobs.blobs[at]
        office.blobs.blobs |= replacement
        with pytest.raises(StorageUnavailable, match="is missing, or was changed"):
            await closing.read_file(record, file)


async def test_removed_documents_are_not_made_again(office: Office):
    """Once retention has removed them, their number stays taken, and the month is not closed with other facts."""
    await office.closed()
    office.table.rows = {id_: row for id_, row in office.table.rows.items() if not id_[1].startswith("x_")}
    office.blobs.blobs = {at: blob for at, blob in office.blobs.blobs.items() if at[1].startswith("prices/")}

    with pytest.raises(InvalidJob, match="2026-10 was closed, and its documents have been removed"):
        await office.close()


@every_row("at", ["2026-11-03", "2028-10-31", "2028-11-01"])
@every_row("erased_at", ["", "2026-09-30", "2026-10-15", "2026-11-02"])
@every_row("is_closed", [False, True])
async def test_a_credit_is_taken_only_if_a_document_will_have_it(is_closed: bool, erased_at: str, at: str):
    """A month that can be neither closed nor corrected any more refuses it, and says why, so that none gets lost."""
    office = Office()
    await office.publish(book("1"))
    await office.add_usage("a")
    if is_closed:
        await office.closed()
    if erased_at:
        await office.table.insert(Row("contoso", ERASED_KEY, {"at": datetime.fromisoformat(f"{erased_at}T12:00Z")}))
    office.at = datetime.fromisoformat(f"{at}T12:00Z")
    document = CORRECTION if is_closed else OCTOBER
    credit = NewAdjustment(id="c", amount="-1", month="2026-10", currency="USD", description="Goodwill")
    if await is_adjustable(office, credit):
        await office.adjust("c", "-1")
        await office.closed(document)
        assert ["-1.000000"] == [line.amount for line in office.document(document).lines if line.kind == "credit"]
        return
    with pytest.raises(InvalidJob, match=r"no longer kept|were erased"):
        await office.close(document)
    await office.adjust("c", "-1")
    assert await is_adjustable(office, credit), "the same again adds nothing"


async def is_adjustable(office: Office, credit: NewAdjustment) -> bool:
    """Return whether a credit is taken; a refusal says why."""
    try:
        await office.closing().facts.check_adjustable("contoso", credit)
    except InvalidJob as exc:
        return "nothing is added to 2026-10 any more. The usage records of 2026-10 " not in str(exc)
    return True


async def test_a_restored_table_takes_the_numbers_that_are_printed():
    """
    The table is as it was before two months were closed, the documents are there: closed again in another order, each
    has its own number and bytes.
    """
    office = Office()
    await office.publish(book("5"))
    await office.add_usage("a")
    await office.adjust("september", "1", month="2026-09")
    before = dict(office.table.rows)
    first = [await office.closed(OCTOBER), await office.closed(DocumentId("2026-09"))]
    documents = dict(office.blobs.blobs)
    office.table.rows = before

    again = [await office.closed(DocumentId("2026-09")), await office.closed(OCTOBER)]

    assert [each.printed_number for each in reversed(first)] == [each.printed_number for each in again]
    assert [("n_00000001", "2026-10"), ("n_00000002", "2026-09")] == office.numbers()
    assert documents == office.blobs.blobs
    for each in again:
        office.check(each)


async def test_a_restored_table_gives_no_printed_number_again():
    """A month that was not closed before gets the number after all that are printed, also if it is closed first."""
    office = Office()
    await office.publish(book("5"))
    await office.add_usage("a")
    before = dict(office.table.rows)
    first = await office.closed(OCTOBER)
    await office.adjust("credit", "-1")
    correction = await office.closed(CORRECTION)
    office.table.rows = before

    september = await office.closed(DocumentId("2026-09"))
    again = await office.closed(OCTOBER)

    assert (1, 2, 3, 1) == (first.number, correction.number, september.number, again.number)
    assert [("n_00000001", "2026-10"), ("n_00000002", "2026-10-1"), ("n_00000003", "2026-09")] == office.numbers()


async def test_two_documents_never_have_one_number():
    """A number that a restored table has given to another document is not given again: closing says what to do."""
    office = Office()
    await office.publish(book("5"))
    await office.add_usage("a")
    await office.closed()
    for key in [key for key in office.table.rows if key[1].startswith(("n_", "x_"))]:
        del office.table.rows[key]
    await office.table.insert(Row("contoso", "n_00000001", {"document": "2026-09"}))

    with pytest.raises(InvalidJob, match="printed with the number 1, which the table has for another document"):
        await office.close()
