"""The app as it was, and as it may be: directories that the local host runs beside this one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from shared.jobs.versions import VERSION

ROOT = Path(__file__).parents[2]
EARLIER = "b25c0aa5f759af31d78b0ddb7a3897b538f55dab"
"""The version before: the last commit without versions of messages and rows. A release sets it to its own tag."""
_APP = ("function_app.py", "host.json", "shared")


def earlier_app(directory: Path) -> Path:
    """Return the directory with the earlier app. Skips the test in a clone without its commit, which CI must have."""
    archive = subprocess.run(["git", "archive", EARLIER, *_APP], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        message = f"This clone has no commit {EARLIER}: `git fetch --unshallow --tags` gets it."
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    subprocess.run(["tar", "-x", "-C", directory], input=archive.stdout, check=True)
    return directory


def later_app(directory: Path) -> Path:
    """Return the directory with this app as a later version that knows one option more, `invented`."""
    for name in _APP:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory)
    _replace(directory / "shared/jobs/versions.py", rf"^VERSION = {VERSION}$", f"VERSION = {VERSION + 1}")
    _replace(directory / "shared/contract/job.py", r"^(    max_retries: .*)$", r'    invented: str = ""\n\1')
    return directory


def _replace(file: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, file.read_text(), flags=re.MULTILINE)
    assert 1 == count, f"{pattern} is not in {file.name}"
    file.write_text(text)
