"""How `watch` shows jobs: what matters first, with times, in any window."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aijobs import job_view
from aijobs.job_view import MAX_ROWS, JobView, duration
from aijobs.selection import JobKey
from aijobs.table import height_of, lines_of
from shared.clock import rfc3339
from shared.contract.documents import ENDED, STATES, JobDocument
from shared.contract.result import ErrorBody
from tests.support.cli_runner import CliRunner
from tests.support.rows import every_row

Job = tuple[JobKey, JobDocument | None]
NOW = datetime(2026, 11, 29, 15, 46, 47, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def _time_stands_still() -> Iterator[None]:
    """The view is drawn at NOW."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_view, "now", lambda: NOW)
        yield


def job(job_id: str, status: str, *, age_s: int = 60, customer: str = "contoso", **members: object) -> Job:
    """A job that has been in its state for some time."""
    at = rfc3339(NOW - timedelta(seconds=age_s))
    began = {"started_at": at} if status not in {"queued", "waiting"} else {}
    ended = {"finished_at": at} if status in ENDED else {}
    error = {"error": ErrorBody(code="internal", message="It broke.")} if status == "failed" else {}
    document = JobDocument(
        job_id=job_id,
        customer=customer,
        status=status,  # type: ignore[arg-type]
        submitted_at=at,
        **{"attempts": 1, **began, **ended, **error, **members},  # type: ignore[arg-type]
    )
    return JobKey(customer, job_id), document


def lines(view: JobView, width: int | None = 80) -> list[str]:
    """What is printed."""
    return [line.plain for part in view.text() for line in lines_of(part, width)]


async def test_nothing_to_watch_is_said(cli: CliRunner):
    """A customer without jobs is named, and that is no error."""
    await cli.expect("watch --customer nobody", out="Customer nobody has no jobs.\n")
    assert {"counts": {}, "jobs": [], "not_found": []} == json.loads(
        (await cli.run("watch --customer nobody --json")).out
    )


def test_what_matters_comes_first():
    """Running jobs are first, the longest running before the others; then failed ones; what succeeded is last."""
    jobs = [
        job("old", "succeeded", age_s=7200),
        job("new", "succeeded"),
        job("queued", "queued"),
        job("later", "waiting", due_at=rfc3339(NOW + timedelta(seconds=330))),
        job("broken", "failed", age_s=400, attempts=5),
        job("short", "running", age_s=5),
        job("long", "running", age_s=400),
        (JobKey("contoso", "gone"), None),
    ]

    summary, _, *rows = lines(JobView(jobs))

    assert "1 queued, 2 running, 1 waiting, 2 succeeded, 1 failed, 1 not found" == summary
    assert [
        ["contoso", "long", "running", "6m"],
        ["contoso", "short", "running", "5s"],
        ["contoso", "broken", "failed", "6m", "5", "internal"],
        ["contoso", "gone", "not", "found"],
        ["contoso", "later", "waiting", "in", "5m"],
        ["contoso", "queued", "queued", "1m"],
        ["contoso", "new", "succeeded", "1m"],
        ["contoso", "old", "succeeded", "2h"],
    ] == [row.split() for row in rows[:8]]
    assert ["1 internal, for example broken: It broke."] == rows[8:]


def test_all_running_jobs_are_shown():
    """Of many jobs all that run have a row, and the rest is counted, also by customer if there are several."""
    jobs = [job(f"done-{number}", "succeeded", customer="fabrikam") for number in range(500)]
    jobs += [job(f"busy-{number}", "running") for number in range(MAX_ROWS + 10)]

    printed = lines(JobView(jobs), None)

    assert MAX_ROWS + 10 == sum("busy-" in line for line in printed)
    assert "And 500 more: 500 succeeded." in printed
    assert ["fabrikam", "0", "500", "500"] in [line.split() for line in printed]
    assert ["all", "30", "500", "530"] in [line.split() for line in printed]


def test_many_jobs_that_succeeded_are_only_counted():
    """Of more jobs than rows, those that succeeded have none."""
    jobs = [job(f"done-{number}", "succeeded") for number in range(MAX_ROWS)]

    assert MAX_ROWS + 2 == len(lines(JobView(jobs)))
    assert ["21 succeeded"] == lines(JobView([*jobs, job("last", "succeeded")]))
    assert "broken" in lines(JobView([*jobs, job("broken", "failed")]))[2]


@given(st.lists(st.sampled_from(STATES), min_size=1, max_size=60), st.integers(6, 40), st.sampled_from([8, 70, 100]))
def test_screen_fits_the_window(states: list[str], height: int, id_length: int):
    """What is redrawn is less than a screen high, and no running job is left out while another one is shown."""
    jobs = [job(f"{number}-{state}".ljust(id_length, "x"), state) for number, state in enumerate(states)]
    size = os.terminal_size((80, height))

    text = JobView(jobs).screen(size)
    printed = [line.plain for part in text for line in lines_of(part, 80)]

    assert height_of(text, 80) < height
    visible = {state for state in states for line in printed if f"-{state}" in line}
    running = sum("-running" in line and " more: " not in line for line in printed)
    assert running == states.count("running") or visible <= {"running"}


@every_row(
    ("seconds", "text"),
    [(-1, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86399, "23h"), (200_000, "2d")],
)
def test_duration_has_one_unit(seconds: float, text: str):
    """A duration is rounded down to its largest unit."""
    assert text == duration(seconds)
