"""From lines to jobs: ids that stay the same in every run, errors that name the member; the log of what was sent."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aijobs.diagnostics import CommandError
from aijobs.job_file import Line, read_json, read_jsonl
from aijobs.submission_log import Entry, SubmissionLog, read_log
from aijobs.submit_plan import make_plan


@given(st.lists(st.sampled_from(["one", "two", "three"]), max_size=12), st.randoms(use_true_random=False))
def test_ids_stay_when_lines_move(prompts: list[str], chance: random.Random):
    """A job's id follows from its content: the same ids in any order, and an id of its own for each equal job."""
    moved = list(prompts)
    chance.shuffle(moved)

    ids = planned_ids(prompts, "b")

    assert len(prompts) == len(set(ids))
    assert sorted(ids) == sorted(planned_ids(moved, "b"))
    assert not set(ids) & set(planned_ids(prompts, "c"))


def planned_ids(prompts: list[str], batch: str) -> list[str]:
    """The ids of chat jobs with these prompts."""
    jobs = [{"customer": "contoso", "action": "chat", "input": {"prompt": prompt}} for prompt in prompts]
    lines: list[Line] = list(read_json(json.dumps(jobs)))
    return [planned.job.id for planned in make_plan(lines, {}, batch).jobs]


def test_errors_name_the_member():
    """An invalid line has an error in the contract's words; the other lines are jobs."""
    lines = read_jsonl(
        '{"action": "chat", "input": {"prompt": "Hello?"}}\n'
        '{"action": "chat", "input": {"prompt": 7}}\n'
        '{"action": "dance", "input": {}}\n'
        '{"action": "chat", "urgent": true, "input": {"prompt": "Hello?"}}\n'
        "[]\n"
        '{"action": "chat"\n'
        '{"action": "chat", "job_id": "a", "input": {"prompt": "Hello?"}}\n'
        '{"action": "chat", "job_id": "a", "input": {"prompt": "Hello!"}}\n'
        '{"action": "chat", "_envelope": {}, "input": {"prompt": "Hello?"}}\n'
    )

    plan = make_plan(lines, {"customer": "contoso"}, "b")

    assert [1, 7] == [planned.line for planned in plan.jobs]
    errors = dict(plan.errors)
    assert [2, 3, 4, 5, 6, 8, 9] == list(errors)
    assert "input.prompt" in errors[2]
    assert "`action`" in errors[3]
    assert "`urgent` is not a known member" in errors[4]
    assert "not a JSON object" in errors[5]
    assert "not valid JSON" in errors[6]
    assert "also that of line 7" in errors[8]
    assert "_envelope" in errors[9]


def open_log(directory: Path, *, batch: str = "b", deployment: str = "here") -> SubmissionLog:
    """The log beside `jobs.csv`."""
    return SubmissionLog(directory / "jobs.csv", batch=batch, deployment=deployment)


@pytest.mark.parametrize(("size", "ids"), [(-5, ["b-1"]), (13, []), (0, [])], ids=["entry", "header", "empty"])
def test_incomplete_line_of_a_killed_run_is_dropped(tmp_path: Path, size: int, ids: list[str]):
    """Only whole lines count, and the next run starts a line of its own, the log's first if that was incomplete."""
    with open_log(tmp_path) as log:
        log.add(Entry(2, "contoso", "b-1"))
        log.add(Entry(3, "contoso", "b-2"))
    path = tmp_path / "jobs.csv.submitted"
    path.write_bytes(path.read_bytes()[:size])

    with open_log(tmp_path) as log:
        assert ids == [entry.job_id for entry in log.entries]
        log.add(Entry(3, "contoso", "b-2"))

    assert [*ids, "b-2"] == [entry.job_id for entry in read_log(tmp_path / "jobs.csv", "here").entries]


@pytest.mark.parametrize("other", [{"batch": "c"}, {"deployment": "there"}])
def test_log_of_another_batch_or_deployment_is_rejected(tmp_path: Path, other: dict[str, str]):
    """A log is used only for the batch and the deployment that wrote it."""
    with open_log(tmp_path) as log:
        log.add(Entry(2, "contoso", "b-1"))

    with pytest.raises(CommandError, match=r"move .* away"):
        open_log(tmp_path, **other)
    with pytest.raises(CommandError, match="submitted to here, not to there"):
        read_log(tmp_path / "jobs.csv", "there")


def test_other_file_is_not_read_as_a_log(tmp_path: Path):
    """A file with the log's name and other content is neither read nor overwritten."""
    (tmp_path / "jobs.csv.submitted").write_text("customer,job\ncontoso,1\n")

    with pytest.raises(CommandError, match="is not a submission log"):
        open_log(tmp_path)
