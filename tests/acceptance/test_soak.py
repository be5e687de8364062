"""A short soak: the app on real hosts, under faults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from local.soak.reconciliation import CHECKS

ROOT = Path(__file__).parents[2]
TIME_LIMIT_S = 300


@pytest.mark.long
@pytest.mark.timeout(TIME_LIMIT_S + 90)  # a stack, and 200 jobs with faults: half a minute on an idle machine
@pytest.mark.xdist_group("stack")
def test_every_call_is_accounted_for(tmp_path: Path):
    """A short soak: with faults, two killed workers and a rotation, nothing is lost, billed twice or unexplained."""
    file = tmp_path / "figures.json"
    options = {"jobs": 200, "customers": 4, "workers": 2, "kills": 2, "backlog": 60, "seed": 1, "seconds": TIME_LIMIT_S}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "local", "soak", *arguments, "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT_S + 60,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert dict.fromkeys(CHECKS, 0) == report["must be 0"]
    figures, outcomes = report["figures"], report["figures"]["requests by outcome"]
    assert 200 + 60 + 1 == figures["jobs"] == figures["results"]
    assert (2, 1) == (figures["workers killed"], report["seed"])
    assert figures["failed attempts"] > 0 < figures["unused calls on record"]
    assert {"answered", "429", "500", "503", "reset before", "reset after", "slow"} <= set(outcomes)
    assert figures["another customer's job, seconds"] <= figures["backlog, seconds"]
    assert "Every call is accounted for (seed 1)." in done.stdout
