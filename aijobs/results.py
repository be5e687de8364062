"""`results` downloads the results of jobs into one file, a line each, and their blobs into directories beside it."""

from __future__ import annotations

import argparse
import asyncio
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from aijobs.console import plural, progress_bar, warn
from aijobs.report import Report
from aijobs.selection import JobKey, read_selection, select_jobs, warn_not_found
from aijobs.settings import open_services
from shared.contract.documents import ENDED
from shared.contract.result import OutputBlob, Result
from shared.jobs.records import JobRecord
from shared.jobs.status import document_of
from shared.services import Services

RESULTS_FILE, FAILED_FILE = "results.jsonl", "failed.jsonl"
_is_file_name = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,200}").fullmatch
_is_internal = re.compile(r"result\.json|input-[0-9a-f]{32}\.json").fullmatch
"""Blobs of a job that are not output, or whose content is in the results file."""


async def results(args: argparse.Namespace) -> Report:
    """Run `results FILE --to DIR` or `results --customer ID --to DIR`. The code is 1 if something is missing."""
    async with open_services(args.settings) as services:
        keys = select_jobs(args, services)
        args.to.mkdir(parents=True, exist_ok=True)
        file = args.to / (FAILED_FILE if args.failed else RESULTS_FILE)
        download = _Download(services, args.to, only_failed=args.failed)
        # Written under another name first, so that an incomplete file is not mistaken for a complete one.
        draft = file.with_name(f".{file.name}.part")
        with draft.open("wb") as lines, progress_bar() as bar:
            task = bar.add_task("downloading", total=None if keys is None else len(keys))
            async for key, record in read_selection(services, args, keys):
                line = await download.fetch(key, record)
                if line is not None:
                    lines.write(line + b"\n")
                bar.advance(task)
        await asyncio.to_thread(draft.replace, file)
    counts = ", ".join(f"{count} {status}" for status, count in download.counts.most_common()) or "none"
    summary = f"Results in {file}: {counts}. Downloaded {download.new_blobs} of {download.blobs} blobs."
    if download.missing_blobs:
        warn(f"Missing: {plural(download.missing_blobs, 'blob')} that a result names.")
    if download.unfinished:
        warn(f"No result yet: {plural(download.unfinished, 'job')}. Run the command again later.")
    warn_not_found(download.unknown)
    document = {
        "file": str(file),
        "counts": download.counts,
        "blobs": download.blobs,
        "new_blobs": download.new_blobs,
        "missing_blobs": download.missing_blobs,
        "unfinished": download.unfinished,
        "not_found": download.unknown,
    }
    return Report(document, [summary], 1 if download.unfinished or download.unknown or download.missing_blobs else 0)


@dataclass(slots=True)
class _Download:
    services: Services
    directory: Path
    only_failed: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    blobs: int = 0
    new_blobs: int = 0
    """Blobs that this run wrote; the others were there already."""
    unfinished: int = 0
    unknown: int = 0
    missing_blobs: int = 0

    async def fetch(self, key: JobKey, record: JobRecord | None) -> bytes | None:
        """Write a job's blobs, and return its whole result on one line, or None if it has no result."""
        if record is None:
            self.unknown += 1
            return None
        if self.only_failed and document_of(record).status in ENDED - {"failed"}:
            return None
        if record.result_body is None:
            if record.state == "cancelled":
                self.counts["cancelled"] += 1
            else:
                self.unfinished += 1
            return None
        result = msgspec.json.decode(record.result_body, type=Result)
        body = record.result_body
        if result.output is None and result.output_blob is not None:
            body = await self.services.outputs.read_result(result, body)
            self.missing_blobs += body is record.result_body
        sizes = _sizes_of_blobs(msgspec.json.decode(body, type=Result).output)
        await self._fetch_blobs(key, sizes)
        self.counts[result.status] += 1
        return msgspec.json.format(body, indent=-1)

    async def _fetch_blobs(self, key: JobKey, sizes: dict[str, int]) -> None:
        """Write a job's blobs, and count those of its result, with these sizes, that are neither there nor here."""
        container = self.services.settings.results_container
        prefix, after = f"{key.customer}/{key.job_id}/", ""
        directory = self.directory / key.customer / key.job_id
        while True:
            page = await self.services.blobs.page(container, prefix, after)
            for blob in page.blobs:
                name = blob.name.removeprefix(prefix)
                if _is_internal(name) or not _is_file_name(name):  # steps have paths with further slashes
                    continue
                self.blobs += 1
                sizes.pop(blob.name, None)
                await self._write(container, blob.name, directory / name, blob.size)
            after = page.after
            if not after:
                break
        gone = {name.removeprefix(prefix): size for name, size in sizes.items() if name.startswith(prefix)}
        self.missing_blobs += sum(not _exists(directory / name, size) for name, size in gone.items())

    async def _write(self, container: str, blob: str, file: Path, size: int) -> None:
        if _exists(file, size):
            return
        chunks = await self.services.blobs.chunks(container, blob)
        if chunks is None:
            self.missing_blobs += 1
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.part")
        with draft.open("wb") as out:
            async for chunk in chunks:
                out.write(chunk)
        draft.replace(file)
        self.new_blobs += 1


def _sizes_of_blobs(output: Any) -> dict[str, int]:
    """Return the names and sizes of the blobs that an output names, such as its images."""
    sizes: dict[str, int] = {}
    parts = [output]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            with suppress(msgspec.ValidationError):
                blob = msgspec.convert(part, OutputBlob)
                sizes[blob.name] = blob.size
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return sizes


def _exists(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size
