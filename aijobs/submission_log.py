"""
What of a file was submitted, in a file beside it: `jobs.csv.submitted`, a line a job, added when the job is in the
queue. So a second run goes on where the first one stopped, and `watch` and `results` know whom to ask for.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Self

import msgspec
from msgspec import Struct

from aijobs.diagnostics import Refused
from shared.settings import Settings


class _Head(Struct, frozen=True):
    batch: str
    to: str


class Ack(Struct, frozen=True):
    """A job that was submitted."""

    line: int
    customer: str
    job_id: str


class Acks:
    """The acknowledged jobs of one file in one deployment. Raises Refused for a file that is another's."""

    def __init__(self, file: Path, *, batch: str, to: str) -> None:
        self._path = acks_of(file)
        head, self.known = (None, []) if not self._path.exists() else _read(self._path)
        if head is not None and head != _Head(batch, to):
            raise Refused(
                f"{self._path} says that the file was submitted as batch {head.batch} to {head.to}, not as {batch} to "
                f"{to}. To submit it there, move {self._path} away."
            )
        self._head = None if head else _Head(batch, to)
        self._out: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.close()

    def add(self, line: int, customer: str, job_id: str) -> None:
        """Notes that a job is in the queue. What is noted outlives the process."""
        if self._out is None:
            self._out = self._open()
        self._write(Ack(line, customer, job_id))

    def _open(self) -> IO[bytes]:
        if self._path.exists():
            # A run that was killed may have left half a line.
            data = self._path.read_bytes()
            self._path.write_bytes(data[: data.rfind(b"\n") + 1])
        self._out = self._path.open("ab", buffering=0)
        if self._head is not None:
            self._write(self._head)
        return self._out

    def _write(self, what: Struct) -> None:
        assert self._out is not None  # noqa: S101  # only called once it is open
        self._out.write(msgspec.json.encode(what) + b"\n")


def acks_of(file: Path) -> Path:
    """The file beside a file of jobs."""
    return file.with_name(f"{file.name}.submitted")


def read_acks(file: Path, to: str) -> list[Ack]:
    """The jobs of a file that were submitted to a deployment. Raises Refused where that never happened."""
    path = acks_of(file)
    if not path.exists():
        raise Refused(f"There is no {path}: {file} was not submitted from here.")
    head, acks = _read(path)
    if head is not None and head.to != to:
        raise Refused(f"{path} says that the file was submitted to {head.to}, not to {to}.")
    return acks


def deployment_of(settings: Settings) -> str:
    """A deployment's name: where its table is, without a credential."""
    account = settings.job_storage
    if account.connection_string is None:
        where = account.table_service_uri.rstrip("/")
    else:
        parts = dict(part.partition("=")[::2] for part in account.connection_string.reveal().split(";"))
        where = parts.get("TableEndpoint") or parts.get("AccountName") or "the storage emulator"
    return f"{where.rstrip('/')}/{settings.jobs_table}"


def _read(path: Path) -> tuple[_Head | None, list[Ack]]:
    try:
        head, *lines = path.read_bytes().split(b"\n")[:-1] or [b""]  # behind the last end of line: half a line
    except OSError as exc:
        raise Refused(f"{path} can't be read: {exc.strerror}.") from None
    try:
        return msgspec.json.decode(head, type=_Head) if head else None, [
            msgspec.json.decode(line, type=Ack) for line in lines
        ]
    except msgspec.MsgspecError:
        raise Refused(f"{path} is not what was submitted: move it away, and submit again.") from None
