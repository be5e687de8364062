"""
Files of jobs, line by line: JSONL, CSV, JSON. Reads them into the members of jobs; knows nothing of what makes a
job right, and sends nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from aijobs.diagnostics import Refused
from shared.contract.job import Job

_CELL_LIMIT = 16 * 1024 * 1024
_TOP = frozenset(Job.__struct_fields__) - {"put_back"}
_NESTED = frozenset({"input", "output", "options", "metadata"})
_JSON = ":json"
_NOT_JSON = "is not valid JSON"


@dataclass(frozen=True, slots=True)
class Line:
    """What stands in a line: the members of a job as JSON, or what is wrong with it. `number` counts from 1."""

    number: int
    members: Mapping[str, msgspec.Raw] = field(default_factory=dict)
    fault: str = ""


def read_batch(file: Path) -> list[Line]:
    """The lines of a file, by its ending: `.jsonl` or `.ndjson`, `.csv`, `.json`. Raises Refused."""
    kinds = {".jsonl": read_jsonl, ".ndjson": read_jsonl, ".csv": read_csv, ".json": read_json}
    kind = kinds.get(file.suffix.lower())
    if kind is None:
        raise Refused(f"{file} must end in .jsonl, .csv or .json.")
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise Refused(f"{file} can't be read: {exc.strerror}.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        number = data[: exc.start].count(b"\n") + 1
        raise Refused(f"{file}, line {number}: the file is not UTF-8. A spreadsheet saves it as “CSV UTF-8”.") from None
    try:
        return list(kind(text))
    except Refused as exc:
        raise Refused(f"{file}: {exc}") from None


def read_jsonl(text: str) -> Iterator[Line]:
    """A job a line; empty lines are none."""
    # Not `splitlines`: a string may hold other characters that Unicode counts as the ends of lines.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _object(number, line)


def read_json(text: str) -> Iterator[Line]:
    """One job, or a list of jobs, whose numbers in the list are told for lines. Raises Refused."""
    if not text.lstrip().startswith("["):
        yield _object(1, text)
        return
    try:
        jobs = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise Refused(f"it {_NOT_JSON}.") from None
    for number, job in enumerate(jobs, 1):
        yield _object(number, job)


def read_csv(text: str) -> Iterator[Line]:
    """
    A job a record, with a header that names members: `customer`, `input.prompt`, `input.parameters.seed:json`.

    A cell is text; in a column whose name ends in `:json` it is JSON. An empty cell is left out. Cells are
    parted by what parts the header's: a comma, semicolon or tab. Raises Refused for the header.
    """
    csv.field_size_limit(_CELL_LIMIT)
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = _columns(next(reader, []))
        before = reader.line_num
        for cells in reader:
            number, before = before + 1, reader.line_num
            if any(cells):
                yield _record(number, columns, cells)
    except csv.Error as exc:
        raise Refused(f"line {reader.line_num} is no CSV: {exc}.") from None


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    path: Sequence[str]
    is_json: bool


def _columns(names: Sequence[str]) -> list[_Column]:
    if not names:
        raise Refused("it is empty: the first line names the columns.")
    columns = [_column(name.strip()) for name in names]
    for number, column in enumerate(columns):
        for other in columns[:number]:
            shorter = min(len(column.path), len(other.path))
            if column.path[:shorter] == other.path[:shorter]:
                raise Refused(f"the columns {other.name} and {column.name} name the same member.")
    return columns


def _column(name: str) -> _Column:
    path = name.removesuffix(_JSON).split(".")
    if path[0] == "metadata" and len(path) > 1:  # whose own names may have dots
        path = [path[0], ".".join(path[1:])]
    known = path[0] in _TOP and all(path) and (len(path) == 1 or path[0] in _NESTED)
    if not known:
        raise Refused(
            f"the column {name or '(without a name)'} is no member of a job, such as customer, model, input.prompt, "
            "input.parameters.temperature:json, metadata.order."
        )
    if path[0] in _NESTED and len(path) == 1 and not name.endswith(_JSON):
        raise Refused(f"the column {name} holds an object: name its members, as {name}.…, or it {name}{_JSON}.")
    return _Column(name, path, name.endswith(_JSON))


def _record(number: int, columns: Sequence[_Column], cells: Sequence[str]) -> Line:
    if len(cells) != len(columns):
        return Line(number, fault=f"it has {len(cells)} cells, the header {len(columns)}.")
    members: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        if cell == "":
            continue
        value: Any = cell
        if column.is_json:
            try:
                value = msgspec.Raw(msgspec.json.encode(msgspec.json.decode(cell)))
            except (msgspec.MsgspecError, RecursionError, UnicodeError):
                return Line(number, fault=f"the column {column.name} {_NOT_JSON}.")
        inner = members
        for name in column.path[:-1]:
            inner = inner.setdefault(name, {})
        inner[column.path[-1]] = value
    return Line(number, {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()})


def _object(number: int, text: str | msgspec.Raw) -> Line:
    try:
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return Line(number, fault="it is no JSON object.")
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as exc:
        why = (
            str(exc).removeprefix("JSON is malformed: ") if isinstance(exc, msgspec.DecodeError) else "it can't be read"
        )
        return Line(number, fault=f"it {_NOT_JSON}: {why}.")
    return Line(number, {name: msgspec.Raw(bytes(value)) for name, value in members.items()})
