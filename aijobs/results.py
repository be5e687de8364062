"""`results`: what jobs have ended with, as one file of lines, and their blobs in folders beside it."""

from __future__ import annotations

import argparse
import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from aijobs.console import progress, tell, warn
from aijobs.selection import Target, named_targets, records_of
from aijobs.settings import opened
from shared.contract.result import Result
from shared.jobs.records import JobRecord
from shared.services import Services

LINES = "results.jsonl"
_is_file_name = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,200}").fullmatch
_OURS = re.compile(r"result\.json|input-[0-9a-f]{32}\.json")
"""Blobs of a job that are no output of it, or stand in the lines."""


async def results(asked: argparse.Namespace) -> int:
    """`results FILE --to DIR` or `results --customer NAME --to DIR`: 1 where some have not ended."""
    async with opened(asked.settings) as services:
        targets = named_targets(asked, services)
        asked.to.mkdir(parents=True, exist_ok=True)
        folder = _Folder(services, asked.to)
        # Whole or not at all: a list that breaks off looks like one that is complete.
        draft = asked.to / f".{LINES}.part"
        with draft.open("wb") as lines, progress() as bar:
            task = bar.add_task("downloading", total=None if targets is None else len(targets))
            async for target, record in records_of(services, asked, targets):
                line = await folder.take(target, record)
                if line is not None:
                    lines.write(line + b"\n")
                bar.advance(task)
        await asyncio.to_thread(draft.replace, asked.to / LINES)
    counts = folder.counts
    told = ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "none"
    tell(f"Results in {asked.to / LINES}: {told}; {folder.files} files of {folder.blobs} blobs.")
    if folder.gone:
        warn(f"{folder.gone} results name blobs that are gone.")
    if folder.left:
        warn(f"{folder.left} jobs have no result yet: the same command later gets them as well.")
    if folder.unknown:
        warn(f"{folder.unknown} jobs are not on record: they were never submitted here, or their time is over.")
    return 1 if folder.left or folder.unknown or folder.gone else 0


@dataclass(slots=True)
class _Folder:
    services: Services
    to: Path
    counts: Counter[str] = field(default_factory=Counter)
    files: int = 0
    """Blobs that were written now; others were there already."""
    blobs: int = 0
    left: int = 0
    unknown: int = 0
    gone: int = 0

    async def take(self, target: Target, record: JobRecord | None) -> bytes | None:
        """The job's whole result on one line, its blobs written; None where there is none."""
        if record is None:
            self.unknown += 1
            return None
        if record.told is None:
            if record.state == "cancelled":
                self.counts["cancelled"] += 1
            else:
                self.left += 1
            return None
        result = msgspec.json.decode(record.told, type=Result)
        told = record.told
        if result.output is None and result.output_blob is not None:
            told = await self.services.outputs.read_result(result, told)
            self.gone += told is record.told
        await self._blobs(target)
        self.counts[result.status] += 1
        return msgspec.json.format(told, indent=-1)

    async def _blobs(self, target: Target) -> None:
        container = self.services.settings.results_container
        prefix, after = f"{target.customer}/{target.job_id}/", ""
        while True:
            page = await self.services.blobs.page(container, prefix, after)
            for blob in page.blobs:
                name = blob.name.removeprefix(prefix)
                if _OURS.fullmatch(name) or not _is_file_name(name):  # steps have folders of their own
                    continue
                self.blobs += 1
                await self._write(container, blob.name, self.to / target.customer / target.job_id / name, blob.size)
            after = page.after
            if not after:
                return

    async def _write(self, container: str, blob: str, file: Path, size: int) -> None:
        if _is_there(file, size):
            return
        chunks = await self.services.blobs.chunks(container, blob)
        if chunks is None:
            self.gone += 1
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.part")
        with draft.open("wb") as out:
            async for chunk in chunks:
                out.write(chunk)
        draft.replace(file)
        self.files += 1


def _is_there(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size
