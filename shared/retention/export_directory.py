"""The files of an export: lists of JSON lines, blobs, and a manifest that is written last."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from shared.clock import rfc3339
from shared.storage.base import BlobProperties

FORMAT = 2
"""What a manifest says of its export, which an import reads. Exports without a number don't say their rows' types."""
MANIFEST = "manifest.json"


class Lists(NamedTuple):
    """The lists of an export that are for one reader."""

    rows: str
    blobs: str
    folder: str
    """Of the blobs' bytes."""


CUSTOMERS = Lists("rows.jsonl", "blobs.jsonl", "blobs")
OPERATORS = Lists("operator.jsonl", "operator-blobs.jsonl", "operator-blobs")
"""What is not for the customer."""
LISTS = tuple(name for lists in (CUSTOMERS, OPERATORS) for name in (lists.rows, lists.blobs))
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_FILES_PER_FOLDER = 1000


class ExportDirectory:
    """The files of an export, each with its hash."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise FileExistsError(f"{path} is not empty. An export needs a directory of its own.")
        self._path = path
        self._hashes: dict[str, Any] = {}
        self._stored = 0
        for name in LISTS:
            self.append(name)

    def append(self, name: str, *lines: dict[str, Any]) -> None:
        """Append lines to a file of JSON lines."""
        data = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode()
        self._hashes.setdefault(name, hashlib.sha256()).update(data)
        with (self._path / name).open("ab") as file:
            file.write(data)

    async def store(self, lists: Lists, container: str, blob: BlobProperties, chunks: AsyncIterator[bytes]) -> None:
        """Write a blob into a file of its own."""
        suffix = Path(blob.name).suffix
        number = self._stored
        name = (
            f"{lists.folder}/{number // _FILES_PER_FOLDER:04}/{number:07}{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        )
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
            lists.blobs,
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
        manifest = json.dumps({"format": FORMAT, **members, "files": files}, indent=2)
        (self._path / MANIFEST).write_text(f"{manifest}\n", encoding="utf-8")
