"""
The submission log, `jobs.csv.submitted` beside `jobs.csv`: one line per job, written once the job is queued.

It lets a second run continue where the first one stopped, and `watch` and `results` find the jobs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Self

import msgspec
from msgspec import Struct

from aijobs.diagnostics import CommandError, NotFound, cant_be_read
from shared.settings import Settings


class _Header(Struct, frozen=True):
    batch: str
    deployment: str


class Entry(Struct, frozen=True, omit_defaults=True):
    """A job that was submitted, and its line in the file of jobs."""

    line: int
    customer: str
    job_id: str
    resubmits: str = ""
    """The id that the job was submitted under first, before it failed; empty: this is that id."""


class SubmittedFile(Struct, frozen=True):
    """What is submitted of a file: its batch, and an entry for each job in the order of submission."""

    batch: str
    entries: list[Entry]

    def current(self) -> list[Entry]:
        """Return the newest entry of each job, in the order in which the jobs were submitted first."""
        newest: dict[tuple[str, str], Entry] = {}
        for entry in self.entries:
            newest[entry.customer, entry.resubmits or entry.job_id] = entry
        return list(newest.values())


class SubmissionLog:
    """
    The submitted jobs of one file, as one batch in one deployment.

    Raises CommandError if the file's log belongs to another batch or deployment.
    """

    def __init__(self, file: Path, *, batch: str, deployment: str) -> None:
        self._path = log_path(file)
        header, self.entries = (None, []) if not self._path.exists() else _read(self._path)
        if header is not None and header != _Header(batch, deployment):
            raise CommandError(
                f"According to {self._path}, the file was submitted as batch {header.batch} to {header.deployment}, "
                f"not as {batch} to {deployment}. To submit it there, move {self._path} away."
            )
        self._new_header = None if header else _Header(batch, deployment)
        self._out: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.close()

    def add(self, entry: Entry) -> None:
        """Record that a job is queued. The entry survives if the process is killed."""
        if self._out is None:
            self._out = self._open()
        self._out.write(_encode(entry))

    def _open(self) -> IO[bytes]:
        if self._path.exists():
            # A run that was killed may have left an incomplete line. A run that is still going keeps all of its lines.
            data = self._path.read_bytes()
            if not data.endswith(b"\n"):
                os.truncate(self._path, data.rfind(b"\n") + 1)
        out = self._path.open("ab", buffering=0)
        if self._new_header is not None:
            out.write(_encode(self._new_header))
        return out


def log_path(file: Path) -> Path:
    """Return the path of the submission log of a file of jobs."""
    return file.parent / f"{file.name}.submitted"


def read_log(file: Path, deployment: str) -> SubmittedFile:
    """Return what was submitted of a file to a deployment. Raises CommandError if nothing was."""
    path = log_path(file)
    if not path.exists():
        raise NotFound(f"{file} was not submitted from here: there is no {path}.")
    header, entries = _read(path)
    if header is not None and header.deployment != deployment:
        raise CommandError(f"According to {path}, the file was submitted to {header.deployment}, not to {deployment}.")
    return SubmittedFile("" if header is None else header.batch, entries)


def deployment_name(settings: Settings) -> str:
    """Return a name of the deployment, the address of its table without a credential."""
    account = settings.job_storage
    if account.connection_string is None:
        address = account.table_service_uri
    else:
        parts = dict(part.partition("=")[::2] for part in account.connection_string.reveal().split(";"))
        address = parts.get("TableEndpoint") or parts.get("AccountName") or "the storage emulator"
    return f"{address.rstrip('/')}/{settings.jobs_table}"


def _encode(line: Struct) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _read(path: Path) -> tuple[_Header | None, list[Entry]]:
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line break is an incomplete line
    except OSError as exc:
        raise cant_be_read(str(path), exc) from None
    if not lines:
        return None, []
    try:
        header = msgspec.json.decode(lines[0], type=_Header)
        # Two runs that began at the same time have written the same header.
        return header, [msgspec.json.decode(line, type=Entry) for line in lines if line != lines[0]]
    except msgspec.MsgspecError:
        raise CommandError(f"{path} is not a submission log. Move it away, and submit the file again.") from None
