"""
Jobs of many customers at the price of a batch, beside the same jobs at list price: the worker's CPU for each, its
memory, and how many batches they became. The provider is the local one, outside the measured process.
"""

import contextlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from benchmarks.environment import RunFailed, open_environment
from benchmarks.figures import table
from benchmarks.messages import patient_secrets
from benchmarks.side import open_side
from local.provider import server as provider
from local.provider.journal import Totals

JOBS = 10_000
CUSTOMERS = 20
WINDOW_S = 60
_ROUND_S = 1_500.0
_ROUNDING = Decimal("0.000001")
"""Of the line of a statement."""


async def measure(jobs: int = JOBS) -> dict[str, Any]:
    """The figures of a run. Raises RunFailed, NotInstalled, ProcessFailed."""
    async with contextlib.AsyncExitStack() as parts:
        endpoint = await parts.enter_async_context(provider.start())
        accounts = [endpoint.account() for _ in range(CUSTOMERS)]
        secrets = patient_secrets(accounts)
        own = await parts.enter_async_context(open_environment(1, secrets=secrets))
        environment = {**own, "BATCH_WINDOW_S": str(WINDOW_S)}
        side = await parts.enter_async_context(open_side("benchmarks.batch_side", environment))
        request = {"jobs": jobs, "customers": CUSTOMERS}
        await side.request({**request, "jobs": CUSTOMERS, "processing": "standard"})  # reads the connections
        sides = {
            processing: await side.request({**request, "processing": processing}, within_s=_ROUND_S)
            for processing in ("standard", "batch")
        }
    for name, each in sides.items():
        if each["results"] != {"succeeded": jobs} or each["processing"] != {name: jobs}:
            raise RunFailed(f"Jobs are missing or failed: {each}")
        _check_books(name, each["statements"], [account.journal.totals(name) for account in accounts])
    bought = [account.journal.totals().calls for account in accounts]
    return {"jobs": jobs, "customers": CUSTOMERS, "sides": sides, "bought": sum(bought)}


def _check_books(processing: str, stated: Mapping[str, Any], journals: Sequence[Totals]) -> None:
    """Raise RunFailed if the statements and the provider's journal differ, or half the list price was not saved."""
    cost = sum((each.cost for each in journals), Decimal(0))
    expected = (sum(each.calls for each in journals), cost, cost if processing == "batch" else Decimal(0))
    calls, amount, saved = stated["calls"], Decimal(stated["amount"]), Decimal(stated["saved"])
    if calls != expected[0] or max(abs(amount - expected[1]), abs(saved - expected[2])) > _ROUNDING * len(journals):
        raise RunFailed(f"Statements say {calls}, {amount}, {saved} of {processing}, and the journal {expected}.")


def report(figures: Mapping[str, Any]) -> str:
    """The figures as text."""
    sides = figures["sides"]
    total = {name: sum(each["cpu_ms"].values()) for name, each in sides.items()}
    head = ["processing", "CPU ms a job", "of that", "MB", "batches"]
    rows = [
        [
            name,
            f"{total[name]:.2f}",
            ", ".join(f"{phase} {value:.2f}" for phase, value in each["cpu_ms"].items()),
            f"{each['memory_mb']:.0f}",
            str(each["batches"]),
        ]
        for name, each in sides.items()
    ]
    return "\n".join(
        [
            f"{figures['jobs']:,} chat jobs of {figures['customers']} customers",
            "",
            table(head, rows, texts=1),
            "",
            f"CPU ratio {total['batch'] / total['standard']:.2f}; calls at the provider: {figures['bought']:,}",
        ]
    )
