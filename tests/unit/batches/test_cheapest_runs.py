"""`processing: cheapest`: the job is done by its deadline if list price can still do it, whatever batches do."""

from __future__ import annotations

import logging

import pytest

from tests.support.cheapest_runs import cheapest_runs

log = logging.getLogger(__name__)


async def _run(client, monkeypatch, seed: int, jobs: int, *, hours: float, step_s: float) -> None:
    async with cheapest_runs(client, monkeypatch, seed, step_s) as runs:
        await runs.run(jobs, hours=hours)
        runs.check_ends()
        late = runs.late()
        named = "\n".join(f"{job_id}: {why}" for job_id, why in late.items())
        assert [job_id for job_id in late if runs.could_be_bought(job_id)] == [], named
        bought = await runs.check_books()
        crashes, customers = runs.app.crashes, len(runs.traits)
        log.info("%d jobs of %d customers, %d crashes, %d late: %s", jobs, customers, crashes, len(late), dict(bought))
        log.info("late:\n%s", named)


async def test_the_cheapest_is_never_late_where_list_price_could_do_it(client, monkeypatch) -> None:
    """By seeded chance, on a moved clock; see `CheapestRuns.could_be_bought`. The others are named, and end in time."""
    await _run(client, monkeypatch, 8, 40, hours=3, step_s=180)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_a_thousand_of_the_cheapest(client, monkeypatch) -> None:
    """See above."""
    await _run(client, monkeypatch, 2, 1000, hours=24, step_s=60)
