"""
Exports or erases all data of one customer: its rows, and the blobs whose names begin with its id.

Does not distinguish kinds of rows, so that none is forgotten. Credentials, queues and logs are not included
(docs/retention.md).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from shared.clock import now, rfc3339
from shared.contract.names import NAME_RULE, is_name
from shared.errors import InvalidJob
from shared.jobs.schedule import erase_entries
from shared.settings import Settings
from shared.storage.base import BlobPage, BlobProperties, Blobs, ContainerMissing, Row, RowPage, Table
from shared.storage.bulk import delete_rows, gather_limited

_ALL_KEYS = ("", "~")
_ROUNDS = 3
"""Passes of an erasure, as long as each still finds something."""
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_FILES_PER_FOLDER = 1000


@dataclass(slots=True)
class Counts:
    """The number of rows, and of blobs by container; None: the container does not exist."""

    rows: int = 0
    blobs: dict[str, int | None] = field(default_factory=dict)
    unfinished: int = 0
    """Jobs among the rows that were not done."""
    nothing_left: bool = False
    """Whether the last pass of an erasure found nothing."""


class CustomerData:
    """One customer's data. Raises InvalidJob if `customer` is not a valid customer id."""

    def __init__(self, table: Table, blobs: Blobs, settings: Settings, customer: str) -> None:
        if not is_name(customer):
            raise InvalidJob(f"{customer!r} is not a customer id, which is {NAME_RULE}.")
        self.customer = customer
        self.containers = tuple(
            dict.fromkeys((settings.results_container, settings.templates_container, *settings.input_containers))
        )
        self._table = table
        self._blobs = blobs

    async def export(self, directory: Path) -> Counts:
        """
        Write everything into a directory, which must be new or empty. Holds one page in memory at a time.

        `rows.jsonl` has a row in each line, `blobs.jsonl` a blob in each line, with the file under `blobs/` that has
        its bytes, since a blob's name can't be a file name. `manifest.json` is written last: without it, an export is
        incomplete. Raises FileExistsError, StorageUnavailable.
        """
        export = _ExportDirectory(directory)
        counts = Counts()
        async for rows in self._rows(None):
            counts.rows += len(rows.rows)
            export.append("rows.jsonl", *(_row(row) for row in rows.rows))
        for container in self.containers:
            counts.blobs[container] = await self._export_blobs(container, export)
        export.finish(
            customer=self.customer,
            exported_at=rfc3339(now()),
            rows=counts.rows,
            blobs=counts.blobs,
        )
        return counts

    async def erase(self) -> Counts:
        """
        Delete everything permanently, blobs first, until a pass finds nothing, or three passes found something.

        If it fails, calling it again continues. Raises StorageUnavailable.
        """
        counts = Counts()
        for _ in range(_ROUNDS):
            deleted = 0
            for container in self.containers:
                blobs = await self._erase_blobs(container)
                deleted += blobs or 0
                counts.blobs[container] = None if blobs is None else blobs + (counts.blobs.get(container) or 0)
            async for page in self._rows(("state",)):
                jobs = [row for row in page.rows if row.key.startswith("j_")]
                counts.unfinished += sum(row.values.get("state") != "done" for row in jobs)
                await delete_rows(self._table, [Row(row.partition, row.key, {}) for row in page.rows])
                deleted += len(page.rows)
                counts.rows += len(page.rows)
            entries = await erase_entries(self._table, self.customer)
            deleted += entries
            counts.rows += entries
            if not deleted:
                counts.nothing_left = True
                break
        return counts

    async def _rows(self, columns: tuple[str, ...] | None) -> AsyncIterator[RowPage]:
        after = ""
        while True:
            page = await self._table.page(self.customer, *_ALL_KEYS, columns=columns, after=after)
            yield page
            after = page.after
            if not after:
                return

    async def _pages(self, container: str) -> AsyncIterator[BlobPage]:
        after = ""
        while True:
            page = await self._blobs.page(container, f"{self.customer}/", after)
            yield page
            after = page.after
            if not after:
                return

    async def _export_blobs(self, container: str, export: _ExportDirectory) -> int | None:
        count = 0
        try:
            async for page in self._pages(container):
                for blob in page.blobs:
                    chunks = await self._blobs.chunks(container, blob.name)
                    if chunks is not None:  # otherwise it was deleted meanwhile
                        await export.store(container, blob, chunks)
                        count += 1
        except ContainerMissing:
            return None
        return count

    async def _erase_blobs(self, container: str) -> int | None:
        count = 0
        try:
            async for page in self._pages(container):
                await gather_limited(self._blobs.delete(container, blob.name) for blob in page.blobs)
                count += len(page.blobs)
        except ContainerMissing:
            return None
        return count


class _ExportDirectory:
    """The files of an export, each with its hash."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise FileExistsError(f"{path} is not empty. An export needs a directory of its own.")
        self._path = path
        self._hashes: dict[str, Any] = {}
        self._stored = 0
        self.append("rows.jsonl")
        self.append("blobs.jsonl")

    def append(self, name: str, *lines: dict[str, Any]) -> None:
        """Append lines to a file of JSON lines."""
        data = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode()
        self._hashes.setdefault(name, hashlib.sha256()).update(data)
        with (self._path / name).open("ab") as file:
            file.write(data)

    async def store(self, container: str, blob: BlobProperties, chunks: AsyncIterator[bytes]) -> None:
        """Write a blob into a file of its own."""
        suffix = Path(blob.name).suffix
        number = self._stored
        name = f"blobs/{number // _FILES_PER_FOLDER:04}/{number:07}{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        (self._path / name).parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with (self._path / name).open("xb") as file:
            async for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        self._stored += 1
        properties = {"container": container, "name": blob.name, "content_type": blob.content_type}
        self.append(
            "blobs.jsonl",
            {
                **properties,
                "modified": rfc3339(blob.modified),
                "size": size,
                "sha256": digest.hexdigest(),
                "file": name,
            },
        )

    def finish(self, **members: Any) -> None:
        """Write the manifest with these members."""
        files = {name: {"sha256": digest.hexdigest()} for name, digest in self._hashes.items()}
        manifest = json.dumps({**members, "files": files}, indent=2)
        (self._path / "manifest.json").write_text(f"{manifest}\n", encoding="utf-8")


def _row(row: Row) -> dict[str, Any]:
    return {"key": row.key, **{name: _value(value) for name, value in row.values.items()}}


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        # The app's own bytes are JSON: a result, a step's value. Bytes that are no text stay bytes.
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"hex": value.hex()}
    return value
