"""The tests that read the clock, at another time: none expires, and none fails at the turn of a month or a year."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.doc_samples import ROOT
from tests.support.moved_clock import MOVED_TO

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]
_reads_clock = re.compile(r"\bnow\(|tests\.support\.closable|20[0-9]{2}-[0-9]{2}").search
MONTHS = ("billing", "contract", "exports", "retention")
DEADLINES = ("batches", "http", "jobs", "webhooks")


@pytest.mark.parametrize(
    ("start", "rooms"),
    [("2027-01-01T00:02:00+00:00", MONTHS + DEADLINES), ("2028-02-29T12:00:00+00:00", MONTHS)],
)
def test_tests_pass_at_another_time(start: str, rooms: tuple[str, ...]):
    """Those of the default tier, in the rooms that deal with days and deadlines; in a leap year, with months alone."""
    files = (path for room in rooms for path in sorted((ROOT / "tests" / "unit" / room).rglob("test_*.py")))
    modules = [path for path in files if _reads_clock(path.read_text(encoding="utf-8"))]
    assert len(modules) > 20
    options = ["-n0", "-q", "-m", "not long", "-p", "no:cacheprovider", "-p", "tests.support.moved_clock"]

    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *modules],
        cwd=ROOT,
        env={**os.environ, MOVED_TO: start},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == ended.returncode, ended.stdout[-5000:]
