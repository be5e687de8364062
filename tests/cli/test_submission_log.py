"""The log beside a file of jobs: it survives a killed run, and belongs to one batch in one deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from aijobs.diagnostics import CommandError
from aijobs.submission_log import SubmissionLog, read_log


def job_ids(file: Path) -> list[str]:
    """The ids in the log of a file."""
    return [entry.job_id for entry in read_log(file, "here")]


def test_incomplete_line_of_a_killed_run_is_dropped(tmp_path: Path):
    """Only whole lines count, and the next run starts a line of its own."""
    file = tmp_path / "jobs.csv"
    with SubmissionLog(file, batch="b", deployment="here") as log:
        log.add(2, "contoso", "b-1")
        log.add(3, "contoso", "b-2")
    path = tmp_path / "jobs.csv.submitted"
    path.write_bytes(path.read_bytes()[:-5])

    with SubmissionLog(file, batch="b", deployment="here") as log:
        assert ["b-1"] == [entry.job_id for entry in log.entries]
        log.add(3, "contoso", "b-2")

    assert ["b-1", "b-2"] == job_ids(file)


@pytest.mark.parametrize("data", [b'{"batch": "b"', b""])
def test_log_with_an_incomplete_header_is_started_again(tmp_path: Path, data: bytes):
    """A run that was killed in its first line leaves no entries."""
    file = tmp_path / "jobs.csv"
    (tmp_path / "jobs.csv.submitted").write_bytes(data)

    with SubmissionLog(file, batch="b", deployment="here") as log:
        log.add(2, "contoso", "b-1")

    assert ["b-1"] == job_ids(file)


@pytest.mark.parametrize(("batch", "deployment"), [("c", "here"), ("b", "there")])
def test_log_of_another_batch_or_deployment_is_rejected(tmp_path: Path, batch: str, deployment: str):
    """A log is used only for the batch and the deployment that wrote it."""
    file = tmp_path / "jobs.csv"
    with SubmissionLog(file, batch="b", deployment="here") as log:
        log.add(2, "contoso", "b-1")

    with pytest.raises(CommandError, match=r"move .* away"):
        SubmissionLog(file, batch=batch, deployment=deployment)
    with pytest.raises(CommandError, match="submitted to here, not to there"):
        read_log(file, "there")


def test_other_file_is_not_read_as_a_log(tmp_path: Path):
    """A file with the log's name and other content is neither read nor overwritten."""
    (tmp_path / "jobs.csv.submitted").write_text("customer,job\ncontoso,1\n")

    with pytest.raises(CommandError, match="is not a submission log"):
        SubmissionLog(tmp_path / "jobs.csv", batch="b", deployment="here")
