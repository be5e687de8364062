"""Files of jobs: what is written into them is what is read, line by line, and nothing else ever comes of one."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aijobs.diagnostics import Refused
from aijobs.job_file import Line, read_batch, read_csv, read_json, read_jsonl
from aijobs.submission_log import Acks, read_acks
from aijobs.submit_plan import make_plan

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)
CELLS = {
    "customer": TEXT,
    "model": TEXT,
    "job_id": TEXT,
    "input.prompt": TEXT,
    "input.parameters.seed:json": VALUES,
    "input.messages:json": VALUES,
    "options:json": OBJECTS,
    "metadata.a.b": TEXT,
}


def members(line: Line) -> dict[str, Any]:
    """What a line holds, decoded."""
    assert line.fault == ""
    return {name: json.loads(bytes(value)) for name, value in line.members.items()}


@given(st.lists(OBJECTS, max_size=5), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_lines_come_back_as_they_were_written(objects: list[dict[str, Any]], end: str, escaped: bool):
    """Any objects, whatever characters they hold, written a line each, are read as these, with their numbers."""
    text = "".join(f"{json.dumps(one, ensure_ascii=escaped)}{end}{end}" for one in objects)

    lines = list(read_jsonl(text))

    assert objects == [members(line) for line in lines]
    assert [1 + 2 * number for number in range(len(objects))] == [line.number for line in lines]


@given(st.lists(OBJECTS, min_size=1, max_size=5))
def test_list_of_jobs_comes_back(objects: list[dict[str, Any]]):
    """A JSON file holds one job or a list of them."""
    whole = list(read_json(json.dumps(objects, indent=1)))
    single = list(read_json(json.dumps(objects[0], indent=1)))

    assert objects == [members(line) for line in whole]
    assert objects[:1] == [members(line) for line in single]


@given(st.data())
def test_table_comes_back_as_it_was_written(data: st.DataObject):
    """Any cells, with line breaks, quotes and the delimiter in them, are read as these, at their lines."""
    columns = data.draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, unique=True))
    rows = data.draw(st.lists(st.fixed_dictionaries({name: st.none() | CELLS[name] for name in columns}), max_size=4))
    delimiter, end = data.draw(st.sampled_from([",", ";", "\t"])), data.draw(st.sampled_from(["\n", "\r\n"]))
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    begins = []
    for row in rows:
        begins.append(1 + sum(1 for _ in io.StringIO(file.getvalue(), newline="")))
        writer.writerow([_cell(name, row[name]) for name in columns])
    header = delimiter.join(columns)
    text = header + file.getvalue().partition(end)[1] + file.getvalue().partition(end)[2]

    lines = list(read_csv(text))

    expected = [_nested(row) for row in rows if any(_cell(name, value) for name, value in row.items())]
    assert expected == [members(line) for line in lines]
    full = [n for n, row in zip(begins, rows, strict=True) if any(_cell(name, value) for name, value in row.items())]
    assert full == [line.number for line in lines]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if name.endswith(":json") else value


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in row.items():
        if _cell(name, value) == "":
            continue
        first, *rest = name.removesuffix(":json").split(".")
        path = [first, ".".join(rest)] if first == "metadata" else [first, *rest]
        inner = made
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = value
    return made


@given(st.text(max_size=200), st.sampled_from([read_jsonl, read_json, read_csv]))
def test_any_text_is_read_or_refused(text: str, read: Any):
    """Whatever a file holds, it comes to lines, each sound or with its fault, or to one sentence."""
    try:
        lines = list(read(text))
    except Refused:
        return
    plan = make_plan(lines, {"customer": "contoso"}, "b")

    assert len(lines) == len(plan.jobs) + len(plan.faults)
    assert sorted(line.number for line in lines) == [line.number for line in lines]


@given(st.lists(st.sampled_from(["one", "two", "three"]), max_size=12), st.randoms(use_true_random=False))
def test_ids_stay_when_lines_move(prompts: list[str], chance: random.Random):
    """A job's id follows from what it asks: the same set of ids in any order, and each of equal jobs its own."""
    moved = list(prompts)
    chance.shuffle(moved)

    ids = [one.job.id for one in make_plan(_chats(*prompts), {}, "b").jobs]

    assert len(prompts) == len(set(ids))
    assert sorted(ids) == sorted(one.job.id for one in make_plan(_chats(*moved), {}, "b").jobs)
    assert not set(ids) & {one.job.id for one in make_plan(_chats(*prompts), {}, "c").jobs}


def _chats(*prompts: str) -> list[Line]:
    jobs = ({"customer": "contoso", "action": "chat", "input": {"prompt": prompt}} for prompt in prompts)
    return list(read_json(json.dumps(list(jobs))))


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("", "is empty"),
        ("customer,prompt", "prompt is no member"),
        ("customer,", "(without a name) is no member"),
        ("customer,input", "holds an object"),
        ("customer,customer", "name the same member"),
        ("input:json,input.prompt", "name the same member"),
        ("customer.name", "is no member"),
        ("_put_back:json", "is no member"),
        ("input..prompt", "is no member"),
    ],
)
def test_header_that_is_wrong_is_told(header: str, told: str):
    """A column that is no member of a job is named before anything is read."""
    with pytest.raises(Refused) as refused:
        list(read_csv(f"{header}\nx,y\n" if header else ""))

    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("customer,model\na\n", "1 cells, the header 2"),
        ("customer,input:json\na,{\n", "input:json is not valid JSON"),
    ],
)
def test_record_that_is_wrong_has_its_line(text: str, told: str):
    """What is wrong with a record is told with the record's line."""
    (line,) = read_csv(text)

    assert (2, True) == (line.number, told in line.fault)


def test_faults_name_the_member():
    """A line that is no job is told in the words of the contract; the others are jobs."""
    lines = read_jsonl(
        '{"action": "chat", "input": {"prompt": "Hello?"}}\n'
        '{"action": "chat", "input": {"prompt": 7}}\n'
        '{"action": "dance", "input": {}}\n'
        '{"action": "chat", "urgent": true, "input": {"prompt": "Hello?"}}\n'
        "[]\n"
        '{"action": "chat"\n'
        '{"action": "chat", "job_id": "a", "input": {"prompt": "Hello?"}}\n'
        '{"action": "chat", "job_id": "a", "input": {"prompt": "Hello!"}}\n'
    )

    plan = make_plan(lines, {"customer": "contoso"}, "b")

    assert [1, 7] == [one.number for one in plan.jobs]
    told = dict(plan.faults)
    assert [2, 3, 4, 5, 6, 8] == list(told)
    assert "input.prompt" in told[2]
    assert "`action`" in told[3]
    assert "`urgent` is not a known member" in told[4]
    assert "no JSON object" in told[5]
    assert "not valid JSON" in told[6]
    assert "that of line 7" in told[8]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("jobs.txt", b"", "must end in .jsonl"),
        ("jobs.csv", b"customer\nM\xfcller\n", "line 2: the file is not UTF-8"),
        ("jobs.csv", b'customer\n"a\n', "is no CSV"),
        ("jobs.json", b"[1,", "is not valid JSON"),
        ("none.csv", None, "can't be read"),
    ],
)
def test_file_that_can_not_be_read_is_told(tmp_path: Path, name: str, data: bytes | None, told: str):
    """A file of another kind, in another encoding, or that is not there, is refused in a sentence with its name."""
    file = tmp_path / name
    if data is not None:
        file.write_bytes(data)

    with pytest.raises(Refused) as refused:
        read_batch(file)

    assert told in str(refused.value)
    assert name in str(refused.value)


def test_byte_order_mark_of_a_spreadsheet_is_no_part_of_the_header(tmp_path: Path):
    """“CSV UTF-8” begins with a mark, and is read."""
    file = tmp_path / "jobs.csv"
    file.write_bytes(b"\xef\xbb\xbfcustomer;input.prompt\r\na;Hello, you?\r\n")

    (line,) = read_batch(file)

    assert {"customer": "a", "input": {"prompt": "Hello, you?"}} == members(line)


def test_half_a_line_of_a_killed_run_is_dropped(tmp_path: Path):
    """What was submitted is what whole lines say, and the next run writes on a line of its own."""
    file = tmp_path / "jobs.csv"
    with Acks(file, batch="b", to="here") as acks:
        acks.add(2, "contoso", "b-1")
        acks.add(3, "contoso", "b-2")
    path = tmp_path / "jobs.csv.submitted"
    path.write_bytes(path.read_bytes()[:-5])

    with Acks(file, batch="b", to="here") as acks:
        assert ["b-1"] == [ack.job_id for ack in acks.known]
        acks.add(3, "contoso", "b-2")

    assert ["b-1", "b-2"] == [ack.job_id for ack in read_acks(file, "here")]


@pytest.mark.parametrize("data", [b'{"batch": "b"', b""])
def test_file_that_was_killed_at_its_first_line_is_begun_anew(tmp_path: Path, data: bytes):
    """Half a head says nothing."""
    file = tmp_path / "jobs.csv"
    (tmp_path / "jobs.csv.submitted").write_bytes(data)

    with Acks(file, batch="b", to="here") as acks:
        acks.add(2, "contoso", "b-1")

    assert ["b-1"] == [ack.job_id for ack in read_acks(file, "here")]


@pytest.mark.parametrize(("batch", "to"), [("c", "here"), ("b", "there")])
def test_what_was_submitted_elsewhere_counts_only_there(tmp_path: Path, batch: str, to: str):
    """The file beside belongs to one batch in one deployment."""
    file = tmp_path / "jobs.csv"
    with Acks(file, batch="b", to="here") as acks:
        acks.add(2, "contoso", "b-1")

    with pytest.raises(Refused, match=r"move .* away"):
        Acks(file, batch=batch, to=to)
