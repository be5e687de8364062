"""`processing: cheapest`: the job is done by its deadline if list price can still do it, whatever batches do."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from shared.jobs import batch_context
from tests.support.cheapest_runs import cheapest_runs

log = logging.getLogger(__name__)

# A killed worker leaves coroutines that it has not awaited yet.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine 'Part._operation:RuntimeWarning")


async def _run(client, monkeypatch, seed: int, jobs: int, *, hours: float, step_s: float, **members: Any) -> None:
    async with cheapest_runs(client, monkeypatch, seed, step_s, **members) as runs:
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
    await _run(client, monkeypatch, 6, 20, hours=2, step_s=180)


@pytest.fixture(params=[True, False], ids=["batches", "windows"])
def seed(request: pytest.FixtureRequest, monkeypatch) -> int:
    """Chance, for responses that may be in batches, or that no batch is expected to do in time."""
    if not request.param:
        monkeypatch.setattr(batch_context, "MIN_BATCH_S", 1e9)
    return 24 if request.param else 41


@pytest.mark.usefixtures("seed")
async def test_responses_are_never_late_where_list_price_could_do_them(client, monkeypatch) -> None:
    """See above, and chats that may be responses; windows may be refused, and may last too long."""
    await _run(client, monkeypatch, 10, 12, hours=3, step_s=180, actions=("respond", "respond", "chat"))


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_more_responses(client, monkeypatch, seed: int) -> None:
    """See above."""
    await _run(client, monkeypatch, seed, 120, hours=24, step_s=120, actions=("respond", "chat"))


CLAUDE = {"style": "anthropic", "actions": ("chat", "chat", "multi_chat", "summarize")}


async def test_claude_is_never_late_where_list_price_could_do_it(client, monkeypatch) -> None:
    """See above. A batch whose creation got no answer is known only when it has ended."""
    await _run(client, monkeypatch, 9, 12, hours=2, step_s=180, **CLAUDE)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_more_of_claude_s(client, monkeypatch) -> None:
    """See above."""
    await _run(client, monkeypatch, 6, 120, hours=24, step_s=120, **CLAUDE)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_a_thousand_of_the_cheapest(client, monkeypatch) -> None:
    """See above."""
    await _run(client, monkeypatch, 2, 1000, hours=24, step_s=60)
