"""From lines to jobs: ids that stay the same in every run, and errors that name the member."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from aijobs.job_file import Line, read_json, read_jsonl
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
