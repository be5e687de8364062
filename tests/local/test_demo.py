"""What the demo prints, without a stack: errors in full, sums of usage, and nothing wider than a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from local.demo.billing import PRICES, closed_month, in_month
from local.demo.jobs import FAILING, DemoJob, demo_jobs
from local.demo.patient import patient_jobs
from local.demo.run import note_on_repeat
from local.demo.tables import COLUMNS, amounts_table, error_texts, patient_table, results_table, usage_table
from shared.contract.job import ACTIONS
from shared.contract.price_book import decode_price_book

JOBS = demo_jobs(real=False)
USAGE = {"input_tokens": 12345, "output_tokens": 6789}
LONG = "Customer tailspin has no connection named default, and this sentence goes on for more than a line."


def failed(*titles: str) -> dict[str, dict[str, Any]]:
    """A result for each job: these have failed with a long message, the others have an answer."""
    error = {"status": "failed", "error": {"code": "connection_not_found", "message": LONG}}
    text = {"status": "succeeded", "action": "chat", "output": {"text": "word " * 40}}
    return {each.job_id: {"usage": USAGE, **(error if each.title in titles else text)} for each in JOBS}


def printed(table: Any) -> list[str]:
    """The lines of a table in a terminal of 80 columns."""
    console = Console(width=COLUMNS, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def record(customer: str, **counts: int) -> dict[str, Any]:
    """A usage record of the demo's first job."""
    names = dict.fromkeys(("calls", "input_tokens", "output_tokens", "images"), 0)
    common = {"PartitionKey": customer, "job_id": JOBS[0].job_id, "model": "gpt-image-2", "billed_to": "customer"}
    return {**common, **names, **counts}


def test_every_action_has_a_job():
    """And an endpoint of a customer's own gets only chats, of which summaries are made."""
    assert set(ACTIONS) == {each.job["action"] for each in JOBS}
    assert {"chat", "multi_chat", "summarize"} == {each.job["action"] for each in demo_jobs(real=True)}


def test_a_failed_job_has_its_code_in_the_table_and_its_message_below():
    """The code is in the job's row; the full message is below the table, in lines of at most 80 columns."""
    results = failed(*FAILING)

    lines = printed(results_table(JOBS, results))
    (text,) = error_texts(JOBS, results)

    rows = [line for line in lines if "failed" in line]
    assert 2 == len(rows)
    assert all(row.endswith(" connection_not_found") for row in rows)
    assert text.startswith("These jobs fail on purpose:\n  unknown member: connection_not_found. Customer")
    assert 2 == " ".join(text.split()).count(LONG)
    assert [] == [line for line in [*lines, *text.splitlines()] if len(line) > COLUMNS]


def test_an_unexpected_error_has_a_heading_of_its_own():
    """A job that was meant to succeed is not listed among those that fail on purpose."""
    unexpected, expected = error_texts(JOBS, failed("image", "no connection"))

    assert unexpected.startswith("These jobs failed:\n  image: ")
    assert expected.startswith("These jobs fail on purpose:\n  no connection: ")
    assert [] == error_texts(JOBS, failed())


def test_usage_is_summed_by_customer_and_model():
    """Records of one customer and model are one row, with their calls, tokens and images."""
    records = [
        record("contoso", calls=1, input_tokens=5, images=2),
        record("contoso", calls=1, output_tokens=7, images=1),
        record("northwind", calls=1),
    ]

    rows = [line.split() for line in printed(usage_table(records)) if "gpt-image-2" in line]

    assert [
        ["contoso", "gpt-image-2", "customer", "2", "5", "7", "3"],
        ["northwind", "gpt-image-2", "customer", "1", "0", "0", "0"],
    ] == rows


def test_amounts_are_as_the_app_says():
    """Each customer has a row with its jobs, calls and amount."""
    line = {"customer": "contoso", "jobs": 2, "calls": 3, "amount": "0.03", "currency": "USD"}

    rows = [row.split() for row in printed(amounts_table([line, line | {"customer": "northwind", "amount": "1.20"}]))]

    assert ["contoso", "2", "3", "0.03", "USD"] in rows
    assert ["northwind", "2", "3", "1.20", "USD"] in rows


def test_the_patient_jobs_are_the_same_at_both_prices():
    """Each is sent once for each way to buy it; they differ in nothing else."""
    jobs = patient_jobs()
    ways = [
        [each | {"job_id": "", "options": {}} for each in jobs if each["options"] == {"processing": processing}]
        for processing in ("standard", "batch")
    ]

    assert 10 == len(ways[0])
    assert ways[0] == ways[1]
    assert 20 == len({each["job_id"] for each in jobs})


def test_what_was_saved_is_as_the_statement_says():
    """A row for each way to buy calls, with its money as it stands in the line, within 80 columns."""
    money = {"list_amount": "0.060380", "amount": "0.172456", "saved": "0.000000", "currency": "USD"}
    line = {"processing": "standard", "jobs": 10, "total_tokens": 22630, **money}

    lines = printed(patient_table([line, line | {"processing": "batch", "saved": "0.036228"}]))

    assert ["standard", "10", "22630", "0.060380", "USD", "0.172456", "USD", "0.000000", "USD"] in map(str.split, lines)
    assert any("0.036228" in each for each in lines)
    assert all(len(each) <= COLUMNS for each in lines)


@pytest.mark.parametrize(
    ("at", "month"),
    [
        ("2026-11-29T12:00:00Z", "2026-10"),
        ("2026-12-01T00:59:59Z", "2026-10"),
        ("2026-12-01T01:00:00Z", "2026-11"),
        ("2027-01-15T00:00:00Z", "2026-12"),
        ("2027-01-01T00:30:00Z", "2026-11"),
    ],
)
def test_the_invoice_is_of_a_month_that_takes_no_more_records(at: str, month: str):
    """It is the last month; in the first hour after it, the one before."""
    assert month == closed_month(datetime.fromisoformat(at))


def test_a_record_is_copied_with_its_day():
    """The copy has another day in its key and in its time, and is the same otherwise."""
    at = datetime(2026, 11, 29, 12, 30, 5, tzinfo=UTC)
    row = {"PartitionKey": "northwind", "RowKey": "u_2026-11-29_demo_4_a_~1.1", "at": at, "calls": 1}

    copy = in_month(row, "2026-02")

    assert row | {"RowKey": "u_2026-02-15_demo_4_a_~1.1", "at": datetime(2026, 2, 15, 12, 30, 5, tzinfo=UTC)} == copy


def test_the_demos_prices_are_a_price_book():
    """It has a price for each model of the demo's endpoints that it prices, and a markup."""
    book = decode_price_book(PRICES.read_bytes())

    models = {"contoso-chat", "fabrikam-chat", "gpt-6-luna*", "gpt-image-2", "text-embedding-3-small"}
    assert models | {"claude-sonnet-4-5*", "gpt-transcribe", "gpt-speech"} == {price.model for price in book.prices}
    assert book.markups


def test_note_on_the_repeated_job_has_its_calls():
    """The note counts the calls of that job alone, and doesn't hide that two results differ."""
    job = DemoJob("chat", {"job_id": JOBS[0].job_id})
    other = record("contoso", calls=9) | {"job_id": "another"}

    once = note_on_repeat(job, [record("contoso", calls=1), other], identical=True)
    twice = note_on_repeat(job, [record("contoso", calls=1)] * 2, identical=False)

    assert "Sent “chat” a second time: two identical results, one call." == once
    assert "Sent “chat” a second time: two different results, 2 calls." == twice
