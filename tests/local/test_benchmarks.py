"""The benchmarks run and measure both sides. The figures depend on the machine, so no test compares them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import density, pickup
from local.paths import PROJECT


@pytest.mark.long
@pytest.mark.timeout(450)  # both sides, with their own parts: fifteen seconds on an idle machine
@pytest.mark.parametrize("name", ["cold_start", "warm_job"])
def test_a_benchmark_measures_both_sides(name: str, tmp_path: Path):
    """One round of a benchmark succeeds, with figures of this app and of the peer."""
    file = tmp_path / "figures.json"

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--rounds", "1", "--json", str(file)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "this app" in done.stdout
    assert "openai" in done.stdout
    assert name in json.loads(file.read_text())


def test_a_benchmark_compares_statements(tmp_path: Path):
    """A statement of few records from rollups is that of the records, and figures of both are written."""
    file = tmp_path / "figures.json"
    arguments = ["statements", "--rounds", "300", "--json", str(file)]

    subprocess.run([sys.executable, "-m", "benchmarks", *arguments], cwd=PROJECT, timeout=60, check=True)

    figures = json.loads(file.read_text())["statements"]
    assert (300, 30, True) == (figures["records"], figures["rows"], figures["equal"])


def test_a_benchmark_compares_customers_with_and_without_budgets(tmp_path: Path):
    """Jobs on no budget, on one and on two, in one run: the figures of each, and how many transactions were refused."""
    file = tmp_path / "figures.json"
    arguments = ["budgets", "--rounds", "200", "--json", str(file)]

    subprocess.run([sys.executable, "-m", "benchmarks", *arguments], cwd=PROJECT, timeout=60, check=True)

    sides = json.loads(file.read_text())["budgets"]["budgets"]
    assert ["0", "1", "2"] == list(sides)
    assert (1, 0) == (sides["0"]["ratio"], sides["0"]["refused"])
    assert all(side["ratio"] < 1 and side["requests"] > sides["0"]["requests"] for side in (sides["1"], sides["2"]))


@pytest.mark.long
@pytest.mark.timeout(450)
async def test_a_benchmark_shows_memory_and_latency_by_the_jobs_in_flight():
    """Each level has its figures, the long run has at least one block, and the report has a row for each level."""
    figures = await density.measure(0.001, levels=(2, 40), long_level=4, delay_s=0.2)

    assert [2, 40] == [level["in_flight"] for level in figures["levels"]]
    assert all(level["peak_mb"] >= level["memory_mb"] > 0 < level["cpu_ms"] for level in figures["levels"])
    assert 20 == figures["long"]["jobs"]
    assert 2 + 2 == sum(line.startswith("|") for line in density.report(figures).splitlines())


@pytest.mark.long
@pytest.mark.timeout(450)
async def test_a_benchmark_measures_how_long_an_idle_queues_job_waits():
    """Each message but the first, which finds a cold worker, has a wait."""
    figures = await pickup.measure(2, pauses_s=(0.1, 0.2))

    assert (2, True) == (len(figures["waits_s"]), all(wait_s > 0 for wait_s in figures["waits_s"]))
    assert "2 messages" in pickup.report(figures)
