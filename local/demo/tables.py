"""What the demo prints: each job's result, why jobs failed, and each customer's usage. Lines fit 80 columns."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from local.demo.jobs import FAILING, DemoJob, describe

COLUMNS = 80
"""Columns of a terminal that is not wider."""
_COLOURS = {"succeeded": "green", "partial": "yellow", "failed": "red"}


def results_table(jobs: Sequence[DemoJob], results: Mapping[str, dict[str, Any]]) -> Table:
    """A row for each job: customer, title, status, tokens (input + output), and the answer or the error's code."""
    table = _table("Results")
    for name in ("customer", "job", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("answer or error", ratio=1)
    for each in jobs:
        result = results[each.job_id]
        usage, colour = result["usage"], _COLOURS[result["status"]]
        table.add_row(
            each.job["customer"],
            each.title,
            f"[{colour}]{result['status']}[/{colour}]",
            f"{usage['input_tokens']} + {usage['output_tokens'] or 0}" if usage["input_tokens"] else "-",
            Text(describe(result), no_wrap=True, overflow="ellipsis"),
        )
    return table


def error_texts(jobs: Sequence[DemoJob], results: Mapping[str, dict[str, Any]]) -> list[str]:
    """The errors of the jobs that failed, in full, under a heading for those that were meant to and the others."""
    texts = []
    for heading, on_purpose in (("These jobs failed:", False), ("These jobs fail on purpose:", True)):
        failed = [each for each in jobs if "error" in results[each.job_id] and (each.title in FAILING) is on_purpose]
        lines = [_error_text(each.title, results[each.job_id]["error"]) for each in failed]
        if lines:
            texts.append("\n".join([heading, *lines]))
    return texts


def _error_text(title: str, error: Mapping[str, str]) -> str:
    indent = " " * 2
    return wrapped(f"{indent}{title}: {error['code']}. {error['message']}", indent=indent * 2)


def usage_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each customer, model and payer: the sums of its usage records."""
    table = _table("Usage")
    for name in ("customer", "model", "billed to"):
        table.add_column(name, no_wrap=True)
    measures = ("calls", "input_tokens", "output_tokens", "images")
    for name in measures:
        table.add_column(name.replace("_", "\n"), justify="right")
    sums: dict[tuple[str, str, str], list[int | None]] = defaultdict(lambda: [None] * len(measures))
    for record in records:
        line = sums[record["PartitionKey"], record["model"], record["billed_to"]]
        for column, name in enumerate(measures):
            if name in record:
                line[column] = (line[column] or 0) + record[name]
    for key, line in sorted(sums.items()):
        table.add_row(*key, *("-" if count is None else str(count) for count in line))
    return table


def amounts_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each customer: its jobs, calls and amount."""
    table = _table("Amounts, by the demo's own prices")
    table.add_column("customer", no_wrap=True)
    for name in ("jobs", "calls", "amount"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(line["customer"], str(line["jobs"]), str(line["calls"]), f"{line['amount']} {line['currency']}")
    return table


def patient_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each way to buy calls: what the provider charges, what the customer pays, and what that saved."""
    table = _table("The same ten jobs at both prices, as the statement has them")
    table.add_column("processing", no_wrap=True)
    for name in ("jobs", "tokens", "provider's price", "amount", "saved"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        money = (f"{line[name]} {line['currency']}" for name in ("list_amount", "amount", "saved"))
        table.add_row(line["processing"], str(line["jobs"]), f"{line['total_tokens']}", *money)
    return table


def wrapped(text: str, *, indent: str = "") -> str:
    """The text in lines of at most 80 columns, all but the first with an indent."""
    return fill(text, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _table(title: str) -> Table:
    return Table(
        box=SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="bold",
        collapse_padding=True,
        pad_edge=False,
    )
