"""
A statement of a million usage records, from rollups and from the records, over the table in memory of the tests.

Both are compared: they are the same document. The seconds are CPU time of this software alone, without Storage's.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from shared.billing.pricing import Pricing
from shared.billing.rollups import Rollups
from shared.billing.statements import Statements
from shared.billing.usage import Call
from shared.billing.usage_records import RecordLabels, usage_rows, with_closed_job
from shared.contract.price_book import decode_price_book
from shared.contract.result import ConnectionLabel
from shared.contract.statement import Statement
from shared.contract.usage import NO_USAGE, Usage
from shared.storage.base import Row
from tests.support.fakes import MemoryTable

RECORDS = 1_000_000
_DAYS = 30
_FIRST, _LAST = date(2026, 11, 1), date(2026, 11, 30)
_MODELS = ("gpt-5.5", "gpt-5.5-mini", "gpt-4.1", "gpt-4.1-mini", "claude-opus-4-7", "text-embedding-3-large")
_ACTIONS = ("chat", "multi_chat", "summarize", "embed")
_BATCHES = 0.3
_BOOK = {
    "currency": "USD",
    "prices": [
        {
            "provider": "azure_openai",
            "model": f"{model}*",
            "processing": processing,
            "min_input_tokens": step,
            "input": f"{number + 1}.{step // 1000 + 1}3",
            "cached": "0.17",
            "output": f"{number + 3}.99",
        }
        for number, model in enumerate(_MODELS)
        for processing in ("standard", "batch")
        for step in (0, 1000, 272_000)
    ],
    "markups": [{"percent": "12.5", "per_job": "0.0001"}],
}


async def measure(records: int = RECORDS) -> dict[str, Any]:
    """Return the figures."""
    table, pricing = MemoryTable(), Pricing(decode_price_book(json.dumps(_BOOK).encode()))
    for row in _rows(records):
        await table.insert(row)
    started = time.process_time()
    raw = await Statements(table).read("contoso", _FIRST, _LAST, pricing=pricing)
    raw_s = time.process_time() - started
    started = time.process_time()
    rollups = Rollups(table, lambda: datetime(2026, 12, 1, 1, tzinfo=UTC))
    while await rollups.advance("contoso", pricing.steps):
        pass
    built_s = time.process_time() - started
    started = time.process_time()
    rolled = await Statements(table).read("contoso", _FIRST, _LAST, pricing=pricing)
    rolled_s = time.process_time() - started
    tracemalloc.start()
    again = await Statements(table).read("contoso", _FIRST, _LAST, pricing=pricing)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    stored = [row for (_, key), row in table.rows.items() if key.startswith("r_2")]
    read = {day: rollup async for day, rollup in rollups.read("contoso", _FIRST, _LAST)}
    return {
        "records": records,
        "lines": len(rolled.lines),
        "groups": sum(len(rollup.entries) for rollup in read.values() if rollup),
        "rows": len(stored),
        "bytes": sum(len(row.values["groups"]) for row in stored),
        "raw_s": round(raw_s, 2),
        "built_s": round(built_s, 2),
        "rolled_s": round(rolled_s, 3),
        "rolled_mb": round(peak / 1e6, 1),
        "equal": _is_equal(raw, rolled, again),
    }


def report(figures: dict[str, Any]) -> str:
    """Return the figures as text."""
    return (
        f"{figures['records']} records: {figures['rolled_s']} s and {figures['rolled_mb']} MB from {figures['rows']} "
        f"rollup rows ({figures['groups']} groups, {figures['bytes']} bytes), {figures['raw_s']} s from the records; "
        f"{figures['lines']} lines, equal: {figures['equal']}; rolling up took {figures['built_s']} s"
    )


def _is_equal(*statements: Statement) -> bool:
    return all(statement == statements[0] for statement in statements)


def _rows(records: int) -> Iterator[Row]:
    chance = random.Random(13)  # noqa: S311  # the same records each time
    label = ConnectionLabel(name="default", source="key_vault", provider="azure_openai", billed_to="customer")
    for day in range(_DAYS):
        at = datetime.combine(_FIRST + timedelta(days=day), datetime.min.time(), UTC)
        labels = RecordLabels("contoso", "", "", "", label, "global", "0123abcd")
        number = records * (day + 1) // _DAYS - records * day // _DAYS
        for job in range(number):
            model = chance.choice(_MODELS)
            labels = replace(labels, job_id=f"job-{job:06}", model=model, action=chance.choice(_ACTIONS))
            usage = Usage(
                calls=1,
                input_tokens=int(chance.expovariate(1 / 3000)),
                output_tokens=int(chance.expovariate(1 / 400)),
                cached_tokens=chance.choice([None, 0, 128]),
                reasoning_tokens=chance.choice([None, 0, 64]),
                consistent=True,
            )
            call = Call(
                usage,
                f"{model}-2026-04-14",
                service_tier=chance.choice([None, "default"]),
                processing="batch" if chance.random() < _BATCHES else "standard",
            )
            yield from with_closed_job(labels, usage_rows(labels, [call], at), NO_USAGE, at)


if __name__ == "__main__":
    print(report(asyncio.run(measure())))
