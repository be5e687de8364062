"""Reads an export, and checks that it is complete and unchanged: by its manifest, and by the hash of each blob."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from shared.contract.names import is_name
from shared.retention.export_directory import FORMAT, LISTS, MANIFEST, Lists
from shared.retention.exported_rows import decode_row
from shared.storage.base import Row


class InvalidExport(Exception):
    """The directory has no export that can be imported. The message says why."""


class StoredBlob(NamedTuple):
    """A blob of an export."""

    container: str
    name: str
    content_type: str
    sha256: str
    file: Path


class ExportReader:
    """An export in a directory. Raises InvalidExport if it is incomplete, changed, or of another version."""

    def __init__(self, path: Path) -> None:
        self._path = path
        manifest = self._manifest()
        self.customer: str = manifest["customer"]
        self.exported_at = datetime.fromisoformat(manifest["exported_at"]).astimezone(UTC)
        """When it began."""
        self.rows_in_all: int = manifest["rows"]
        self.blobs_in_all: int = sum(filter(None, manifest["blobs"].values()))
        for name in LISTS:
            if self._hash(name) != manifest["files"][name]["sha256"]:
                raise InvalidExport(f"{path / name} is not the file that the manifest describes.")

    def rows(self, lists: Lists) -> Iterator[tuple[Row, int]]:
        """Iterate over the rows, each with the length of its line in bytes."""
        for line, members in self._lines(lists.rows):
            try:
                yield decode_row(self.customer, members), len(line)
            except (AttributeError, KeyError, TypeError, ValueError) as exc:
                raise InvalidExport(f"{self._path / lists.rows} has a line that is no row.") from exc

    def blobs(self, lists: Lists) -> Iterator[StoredBlob]:
        """Iterate over the blobs, without their bytes."""
        for _, members in self._lines(lists.blobs):
            try:
                container, name, content_type = (members[each] for each in ("container", "name", "content_type"))
                file, is_own = (self._path / members["file"]).resolve(), name.startswith(f"{self.customer}/")
                blob = StoredBlob(container, name, content_type, members["sha256"], file)
            except (AttributeError, KeyError, TypeError, ValueError) as exc:
                raise InvalidExport(f"{self._path / lists.blobs} has a line that is no blob.") from exc
            if not is_own or not file.is_relative_to(self._path.resolve()):
                raise InvalidExport(f"{self._path / lists.blobs} names a blob or a file that is not the customer's.")
            yield blob

    def read_blob(self, blob: StoredBlob) -> bytes:
        """Return a blob's bytes."""
        data = self._read(blob.file)
        if hashlib.sha256(data).hexdigest() != blob.sha256:
            raise InvalidExport(f"{blob.file} is not the blob that was exported.")
        return data

    def _manifest(self) -> Any:
        if not (self._path / MANIFEST).is_file():
            raise InvalidExport(f"{self._path} has no {MANIFEST}: it is no export, or an incomplete one.")
        try:
            manifest = json.loads(self._read(MANIFEST))
            number, customer = manifest.get("format", 1), manifest["customer"]
            is_ours = number != FORMAT or self._has_all(manifest)
        except (AttributeError, KeyError, TypeError, ValueError):
            is_ours = False
        if not is_ours or not is_name(customer):
            raise InvalidExport(f"{self._path / MANIFEST} is no manifest of an export.")
        if number != FORMAT:
            raise InvalidExport(
                f"{self._path} is an export of format {number}. This version imports format {FORMAT}: "
                "import it with the version that wrote it, or export again."
            )
        return manifest

    @staticmethod
    def _has_all(manifest: Any) -> bool:
        datetime.fromisoformat(manifest["exported_at"])
        counts = (manifest["rows"], *filter(None, manifest["blobs"].values()))
        return all(isinstance(count, int) for count in counts) and all(
            isinstance(manifest["files"][name]["sha256"], str) for name in LISTS
        )

    def _lines(self, name: str) -> Iterator[tuple[bytes, Any]]:
        with self._open(name) as file:
            for line in file:
                try:
                    yield line, json.loads(line)
                except ValueError as exc:
                    raise InvalidExport(f"{self._path / name} has a line that is not JSON.") from exc

    def _hash(self, name: str) -> str:
        with self._open(name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _read(self, name: str | Path) -> bytes:
        with self._open(name) as file:
            return file.read()

    def _open(self, name: str | Path) -> BufferedReader:
        try:
            return (self._path / name).open("rb")
        except OSError as exc:
            raise InvalidExport(f"{self._path / name} can't be read: {exc.strerror}.") from exc
