"""
Files of jobs: JSONL, CSV, JSON. Reads each line into the members of a job.

Doesn't check the members and submits nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from aijobs.diagnostics import CommandError, cant_be_read
from shared.contract.job import Job

_MAX_CELL_CHARS = 16 * 1024 * 1024
_MEMBERS = frozenset(Job.__struct_fields__)
_OBJECTS = frozenset({"input", "output", "options", "metadata"})
"""Members whose values are objects."""
_JSON_SUFFIX = ":json"


@dataclass(frozen=True, slots=True)
class Line:
    """One line: the members of a job as JSON, or the reason why they can't be read. `number` counts from 1."""

    number: int
    members: Mapping[str, msgspec.Raw] = field(default_factory=dict)
    error: str = ""


def read_job_file(file: Path) -> list[Line]:
    """Return the lines of a `.jsonl`, `.ndjson`, `.csv` or `.json` file. Raises CommandError."""
    readers = {".jsonl": read_jsonl, ".ndjson": read_jsonl, ".csv": read_csv, ".json": read_json}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise CommandError(f"{file} must end in .jsonl, .csv or .json.")
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise cant_be_read(str(file), exc) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        number = data[: exc.start].count(b"\n") + 1
        raise CommandError(
            f"{file}, line {number}: the file is not UTF-8. In a spreadsheet, save it as “CSV UTF-8”."
        ) from None
    try:
        return list(reader(text))
    except CommandError as exc:
        raise CommandError(f"{file}: {exc}") from None


def read_jsonl(text: str) -> Iterator[Line]:
    """Yield one job per line. Empty lines are skipped."""
    # `splitlines` would also split at characters that may occur within a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _parse_object(number, line)


def read_json(text: str) -> Iterator[Line]:
    """Yield one job, or each job of a list; a job's line number is its position in the list. Raises CommandError."""
    if not text.lstrip().startswith("["):
        yield _parse_object(1, text)
        return
    try:
        jobs = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise CommandError("the list is not valid JSON.") from None
    for number, job in enumerate(jobs, 1):
        yield _parse_object(number, job)


def read_csv(text: str) -> Iterator[Line]:
    """
    Yield one job per record. The header names members: `customer`, `input.prompt`, `input.parameters.seed:json`.

    A cell is text, or JSON if the column's name ends in `:json`; an empty cell is left out. The delimiter is the
    most frequent of comma, semicolon and tab in the header. Raises CommandError if the header is invalid.
    """
    csv.field_size_limit(_MAX_CELL_CHARS)
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = _parse_header(next(reader, []))
        last = reader.line_num
        for cells in reader:
            number, last = last + 1, reader.line_num
            if any(cells):
                yield _parse_record(number, columns, cells)
    except csv.Error as exc:
        raise CommandError(f"line {reader.line_num} is not valid CSV: {exc}.") from None


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    path: Sequence[str]
    is_json: bool


def _parse_header(names: Sequence[str]) -> list[_Column]:
    if not names:
        raise CommandError("the file is empty. Its first line must name the columns.")
    columns = [_parse_column(name.strip()) for name in names]
    for number, column in enumerate(columns):
        for other in columns[:number]:
            shorter = min(len(column.path), len(other.path))
            if column.path[:shorter] == other.path[:shorter]:
                raise CommandError(f"the columns {other.name} and {column.name} name the same member.")
    return columns


def _parse_column(name: str) -> _Column:
    path = name.removesuffix(_JSON_SUFFIX).split(".")
    if path[0] == "metadata" and len(path) > 1:  # names within metadata may have dots
        path = [path[0], ".".join(path[1:])]
    is_member = path[0] in _MEMBERS and all(path) and (len(path) == 1 or path[0] in _OBJECTS)
    if not is_member:
        raise CommandError(
            f"the column {name or '(without a name)'} is not a member of a job, such as customer, model, "
            "input.prompt, input.parameters.temperature:json or metadata.order."
        )
    is_json = name.endswith(_JSON_SUFFIX)
    if path[0] in _OBJECTS and len(path) == 1 and not is_json:
        raise CommandError(f"the column {name} holds an object: use {name}{_JSON_SUFFIX}, or a column per member.")
    return _Column(name, path, is_json)


def _parse_record(number: int, columns: Sequence[_Column], cells: Sequence[str]) -> Line:
    if len(cells) != len(columns):
        return Line(number, error=f"the line has {len(cells)} cells, but the header has {len(columns)}.")
    members: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        if cell == "":
            continue
        value: Any = cell
        if column.is_json:
            try:
                value = msgspec.Raw(msgspec.json.encode(msgspec.json.decode(cell)))
            except (msgspec.MsgspecError, RecursionError, UnicodeError):
                return Line(number, error=f"the cell in the column {column.name} is not valid JSON.")
        parent = members
        for name in column.path[:-1]:
            parent = parent.setdefault(name, {})
        parent[column.path[-1]] = value
    return Line(number, {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()})


def _parse_object(number: int, text: str | msgspec.Raw) -> Line:
    try:
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return Line(number, error="the line is not a JSON object.")
    except msgspec.DecodeError as exc:
        return Line(number, error=f"the line is not valid JSON: {str(exc).removeprefix('JSON is malformed: ')}.")
    except (RecursionError, UnicodeError):
        return Line(number, error="the line is not valid JSON.")
    return Line(number, {name: msgspec.Raw(bytes(value)) for name, value in members.items()})
