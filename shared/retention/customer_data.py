"""
All that is kept of one customer, to be handed out or deleted: its rows, and the blobs whose names begin with it.

Knows no kinds of rows, so that none is forgotten. Credentials, queues and logs are not in it (docs/retention.md).
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
from shared.retention.expiry import delete_rows, together
from shared.settings import Settings
from shared.storage.base import BlobPage, BlobProperties, Blobs, ContainerMissing, Row, RowPage, Table

_ALL_KEYS = ("", "~")
_ROUNDS = 3
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_FILES_A_FOLDER = 1000


@dataclass(slots=True)
class Counts:
    """How much there was: rows, and blobs by container; None for a container that is not there."""

    rows: int = 0
    blobs: dict[str, int | None] = field(default_factory=dict)
    unfinished: int = 0
    """Jobs among the rows that were not done."""
    nothing_left: bool = False
    """Whether the last look found nothing any more."""


class CustomerData:
    """One customer's data. Raises InvalidJob for what is no customer's name."""

    def __init__(self, table: Table, blobs: Blobs, settings: Settings, customer: str) -> None:
        if not is_name(customer):
            raise InvalidJob(f"{customer!r} is no customer: {NAME_RULE}.")
        self.customer = customer
        self.containers = tuple(
            dict.fromkeys((settings.results_container, settings.templates_container, *settings.input_containers))
        )
        self._table = table
        self._blobs = blobs

    async def export(self, directory: Path) -> Counts:
        """
        Writes everything into a directory, which must be new or empty, in memory of a page.

        `rows.jsonl` has a row a line, `blobs.jsonl` a blob a line with the file under `blobs/` that holds
        its bytes; blobs' own names are no file names. `manifest.json` comes last: without it, an export is
        not whole. Raises FileExistsError, StorageUnavailable.
        """
        folder = _Folder(directory)
        counts = Counts()
        async for rows in self._rows(None):
            counts.rows += len(rows.rows)
            folder.append("rows.jsonl", *(_row(row) for row in rows.rows))
        for container in self.containers:
            counts.blobs[container] = await self._export_blobs(container, folder)
        folder.finish(
            customer=self.customer,
            exported_at=rfc3339(now()),
            rows=counts.rows,
            blobs=counts.blobs,
        )
        return counts

    async def erase(self) -> Counts:
        """
        Deletes everything for good, blobs first, until a look finds nothing, or three looks found something.

        Where it breaks off, calling it again goes on. Raises StorageUnavailable.
        """
        counts = Counts()
        for _ in range(_ROUNDS):
            found = 0
            for container in self.containers:
                erased = await self._erase_blobs(container)
                found += erased or 0
                counts.blobs[container] = erased if erased is None else erased + (counts.blobs.get(container) or 0)
            async for page in self._rows(("state",)):
                jobs = [row for row in page.rows if row.key.startswith("j_")]
                counts.unfinished += sum(row.values.get("state") != "done" for row in jobs)
                await delete_rows(self._table, [Row(row.partition, row.key, {}) for row in page.rows])
                found += len(page.rows)
                counts.rows += len(page.rows)
            if not found:
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

    async def _export_blobs(self, container: str, folder: _Folder) -> int | None:
        count = 0
        try:
            async for page in self._pages(container):
                for blob in page.blobs:
                    chunks = await self._blobs.chunks(container, blob.name)
                    if chunks is not None:  # else it has been deleted meanwhile
                        await folder.store(container, blob, chunks)
                        count += 1
        except ContainerMissing:
            return None
        return count

    async def _erase_blobs(self, container: str) -> int | None:
        count = 0
        try:
            async for page in self._pages(container):
                await together(self._blobs.delete(container, blob.name) for blob in page.blobs)
                count += len(page.blobs)
        except ContainerMissing:
            return None
        return count


class _Folder:
    """The files of an export, each with its hash."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise FileExistsError(f"{path} is not empty: an export needs a directory of its own.")
        self._path = path
        self._hashes: dict[str, Any] = {}
        self._stored = 0
        self.append("rows.jsonl")
        self.append("blobs.jsonl")

    def append(self, name: str, *members: dict[str, Any]) -> None:
        """Adds lines to a file of JSON lines."""
        data = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in members).encode()
        self._hashes.setdefault(name, hashlib.sha256()).update(data)
        with (self._path / name).open("ab") as file:
            file.write(data)

    async def store(self, container: str, blob: BlobProperties, chunks: AsyncIterator[bytes]) -> None:
        """Writes a blob into a file of its own."""
        suffix = Path(blob.name).suffix
        number = self._stored
        name = f"blobs/{number // _FILES_A_FOLDER:04}/{number:07}{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        (self._path / name).parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with (self._path / name).open("xb") as file:
            async for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        self._stored += 1
        about = {"container": container, "name": blob.name, "content_type": blob.content_type}
        self.append(
            "blobs.jsonl",
            {**about, "modified": rfc3339(blob.modified), "size": size, "sha256": digest.hexdigest(), "file": name},
        )

    def finish(self, **about: Any) -> None:
        """Writes the manifest."""
        files = {name: {"sha256": digest.hexdigest()} for name, digest in self._hashes.items()}
        manifest = json.dumps({**about, "files": files}, indent=2)
        (self._path / "manifest.json").write_text(f"{manifest}\n", encoding="utf-8")


def _row(row: Row) -> dict[str, Any]:
    return {"key": row.key, **{name: _value(value) for name, value in row.values.items()}}


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        # Ours hold JSON: a result, a step's value. What is no text stays what it is.
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"hex": value.hex()}
    return value
