"""The tables that the demo prints: each job's result, and each customer's usage."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from local.demo.jobs import DemoJob, describe

_COLOURS = {"succeeded": "green", "partial": "yellow", "failed": "red"}


def results_table(jobs: Sequence[DemoJob], results: Mapping[str, dict[str, Any]]) -> Table:
    """A row for each job: customer, title, status, tokens (input + output), and the answer or the error."""
    table = _table("Results")
    for name in ("customer", "job", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("answer or error", ratio=1)
    for each in jobs:
        result = results[each.job_id]
        usage, colour = result["usage"], _COLOURS[result["status"]]
        failed = "error" in result
        table.add_row(
            each.job["customer"],
            each.title,
            f"[{colour}]{result['status']}[/{colour}]",
            f"{usage['input_tokens']} + {usage['output_tokens']}" if usage["input_tokens"] else "-",
            Text(describe(result), no_wrap=not failed, overflow="fold" if failed else "ellipsis"),
        )
    return table


def usage_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each customer, model and payer: the sums of its usage records."""
    table = _table("Usage")
    for name in ("customer", "model", "billed to"):
        table.add_column(name)
    for name in ("calls", "input tokens", "output tokens"):
        table.add_column(name, justify="right")
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for record in records:
        line = sums[record["PartitionKey"], record["model"], record["billed_to"]]
        for column, name in enumerate(("calls", "input_tokens", "output_tokens")):
            line[column] += record[name]
    for key, line in sorted(sums.items()):
        table.add_row(*key, *map(str, line))
    return table


def _table(title: str) -> Table:
    return Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
