"""Files of jobs: what was written is read, line by line, and anything else is one error."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aijobs.diagnostics import CommandError
from aijobs.job_file import Line, read_csv, read_job_file, read_json, read_jsonl
from aijobs.submit_plan import make_plan
from tests.support.rows import every_row

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
    """The members of a line, decoded."""
    assert line.error == ""
    return {name: json.loads(bytes(value)) for name, value in line.members.items()}


@given(st.lists(OBJECTS, max_size=5), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_json_round_trip(objects: list[dict[str, Any]], end: str, escaped: bool):
    """Objects with any characters are read back: one on each line, with their numbers, or one or all in JSON."""
    text = "".join(f"{json.dumps(value, ensure_ascii=escaped)}{end}{end}" for value in objects)

    lines = list(read_jsonl(text))

    assert objects == [members(line) for line in lines]
    assert [1 + 2 * number for number in range(len(objects))] == [line.number for line in lines]
    for whole in [objects, *objects[:1]]:
        read = [members(line) for line in read_json(json.dumps(whole, indent=1, ensure_ascii=escaped))]
        assert read == (whole if isinstance(whole, list) else [whole])


@given(st.data())
def test_csv_round_trip(data: st.DataObject):
    """Any cells, also with line breaks, quotes and delimiters, are read back with their line numbers."""
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

    full = [(number, nested) for number, row in zip(begins, rows, strict=True) if (nested := _nested(row))]
    expected = [nested for _, nested in full]
    assert expected == [members(line) for line in lines]
    assert [number for number, _ in full] == [line.number for line in lines]


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
def test_any_text_is_read_or_rejected(text: str, read: Any):
    """Any text becomes lines, each of them valid or with its error, or one error for the file."""
    try:
        lines = list(read(text))
    except CommandError:
        return
    plan = make_plan(lines, {"customer": "contoso"}, "b")

    assert len(lines) == len(plan.jobs) + len(plan.errors)
    assert sorted(line.number for line in lines) == [line.number for line in lines]


@every_row(
    ("header", "message"),
    [
        ("", "is empty"),
        ("customer,prompt", "prompt is not a member"),
        ("customer,", "(without a name) is not a member"),
        ("customer,input", "holds an object"),
        ("customer,customer", "name the same member"),
        ("input:json,input.prompt", "name the same member"),
        ("customer.name", "is not a member"),
        ("_envelope:json", "is not a member"),
        ("input..prompt", "is not a member"),
    ],
)
def test_invalid_header_is_rejected(header: str, message: str):
    """A column that is not a member of a job is named before any line is read."""
    with pytest.raises(CommandError) as error:
        list(read_csv(f"{header}\nx,y\n" if header else ""))

    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("customer,model\na\n", "1 cells, but the header has 2"),
        ("customer,input:json\na,{\n", "cell in the column input:json is not valid JSON"),
    ],
)
def test_error_of_a_record_has_its_line(text: str, message: str):
    """The error of a record has the number of the record's line."""
    (line,) = read_csv(text)

    assert (2, True) == (line.number, message in line.error)


@every_row(
    ("name", "data", "message"),
    [
        ("jobs.txt", b"", "must end in .jsonl"),
        ("jobs.csv", b"customer\nM\xfcller\n", "line 2: the file is not UTF-8"),
        ("jobs.csv", b'customer\n"a\n', "is not valid CSV"),
        ("jobs.json", b"[1,", "is not valid JSON"),
        ("none.csv", None, "can't be read"),
    ],
)
def test_unreadable_file_is_rejected(tmp_path: Path, name: str, data: bytes | None, message: str):
    """A file of another format or encoding, or that doesn't exist, is rejected in a sentence with its name."""
    file = tmp_path / name
    if data is not None:
        file.write_bytes(data)

    with pytest.raises(CommandError) as error:
        read_job_file(file)

    assert message in str(error.value)
    assert name in str(error.value)


def test_byte_order_mark_is_not_part_of_the_header(tmp_path: Path):
    """A spreadsheet's “CSV UTF-8” starts with a mark, which is skipped."""
    file = tmp_path / "jobs.csv"
    file.write_bytes(b"\xef\xbb\xbfcustomer;input.prompt\r\na;Hello, you?\r\n")

    (line,) = read_job_file(file)

    assert {"customer": "a", "input": {"prompt": "Hello, you?"}} == members(line)
