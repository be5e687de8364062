"""`watch`: what becomes of jobs, as a table that follows them until all have ended."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Group
from rich.live import Live
from rich.text import Text

from aijobs.console import console, plain, table, tell
from aijobs.diagnostics import Refused
from aijobs.selection import AT_ONCE, Target, document, look, named_targets
from aijobs.settings import opened
from shared.contract.documents import ENDED, STATES, JobDocument
from shared.jobs.queries import Records
from shared.services import Services

FEW = 20
"""Jobs that have a row each; of more, there is a row a customer."""
_FAULTS = 5
_UNKNOWN = "not on record"


async def watch(asked: argparse.Namespace) -> int:
    """`watch FILE` or `watch --customer NAME`: 0 where no job has failed, so far as they have ended."""
    async with opened(asked.settings) as services:
        targets = named_targets(asked, services)
        if targets is None:
            newest, _ = await Records(services.table).newest(asked.customer, after="", most=FEW, wanted=lambda _: True)
            targets = [Target(one.customer, one.job_id) for one in newest]
        if not targets:
            raise Refused("There are no jobs.")
        watched = _Watched(targets)
        await watched.look(services)
        if not asked.once:
            await _follow(watched, services, asked.every)
    console().print(watched.screen())
    return 1 if watched.failed else 0


async def _follow(watched: _Watched, services: Services, every_s: float) -> None:
    if not sys.stdout.isatty():  # a line a change, for a log
        said = ""
        while not watched.over:
            said = _tell_change(watched, said)
            await watched.wait(services, every_s)
        return
    # What is taller than the window can't be drawn over: it is cut, and shown whole at the end.
    with Live(watched.screen(), console=console(), auto_refresh=False, transient=True) as live:
        while not watched.over:
            await watched.wait(services, every_s)
            live.update(watched.screen(), refresh=True)


def _tell_change(watched: _Watched, said: str) -> str:
    line = ", ".join(f"{count} {state}" for state, count in watched.states().items())
    if line != said:
        tell(line)
    return line


@dataclass(slots=True)
class _Watched:
    targets: Sequence[Target]
    known: dict[Target, JobDocument | None] = field(default_factory=dict)
    took_s: float = 0.0

    @property
    def over(self) -> bool:
        """Whether no job can change any more."""
        return not any(True for _ in self._open())

    @property
    def failed(self) -> bool:
        """Whether any has failed, or is not on record."""
        return any(one is None or one.status == "failed" for one in self.known.values())

    async def wait(self, services: Services, every_s: float) -> None:
        """Waits, at least as long as the last look took, and looks again."""
        await asyncio.sleep(max(every_s, self.took_s))
        await self.look(services)

    async def look(self, services: Services) -> None:
        """Reads the records of all jobs that had not ended."""
        began = time.monotonic()
        left = list(self._open())
        for first in range(0, len(left), AT_ONCE):
            some = left[first : first + AT_ONCE]
            for target, record in zip(some, await look(services, some), strict=True):
                self.known[target] = None if record is None else document(record)
        self.took_s = time.monotonic() - began

    def states(self) -> dict[str, int]:
        """How many jobs are in which state, in the order in which jobs go through them."""
        counts = Counter(_state(one) for one in self.known.values())
        return {state: counts[state] for state in (*STATES, _UNKNOWN) if counts[state]}

    def screen(self) -> Group:
        """How it stands: a row a job or a row a customer, and the commonest faults."""
        if len(self.targets) <= FEW:
            rows = [_row(one, self.known[one]) for one in self.targets]
            return Group(table(("customer", "job", "status", "attempts", "why"), rows))
        states = list(self.states())
        counts: dict[str, Counter[str]] = {}
        for target, one in self.known.items():
            counts.setdefault(target.customer, Counter())[_state(one)] += 1
        shown = [(name, *(count[state] for state in states), count.total()) for name, count in sorted(counts.items())]
        if len(shown) > 1:
            total = sum(counts.values(), Counter())
            shown.append(("all", *(total[state] for state in states), total.total()))
        made = table(("customer", *states, "jobs"), shown, right=frozenset({*states, "jobs"}))
        return Group(made, *self._faults())

    def _faults(self) -> list[Text]:
        codes = Counter(one.error.code for one in self.known.values() if one is not None and one.error is not None)
        lines = []
        for code, count in codes.most_common(_FAULTS):
            first = next(one for one in self.known.values() if one and one.error and one.error.code == code)
            assert first.error is not None  # noqa: S101  # it was found by its error
            lines.append(Text(plain(f"{count} of {code}, such as {first.job_id}: {first.error.message}")))
        return lines

    def _open(self) -> Iterable[Target]:
        return (
            target
            for target in self.targets
            if target not in self.known or ((one := self.known[target]) is not None and one.status not in ENDED)
        )


def _state(one: JobDocument | None) -> str:
    return _UNKNOWN if one is None else one.status


def _row(target: Target, one: JobDocument | None) -> tuple[object, ...]:
    if one is None:
        return target.customer, target.job_id, _UNKNOWN, None, None
    why = "" if one.error is None else f"{one.error.code}: {one.error.message}"
    return one.customer, one.job_id, one.status, str(one.attempts), why
