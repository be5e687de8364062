"""
Child processes that die with us: start one, wait until it says that it is ready, stop it.

Knows nothing of what the processes are for.

Each child leads a process group of its own, so Ctrl-C in a terminal reaches us alone and we stop the
children in order. On Linux the kernel kills a child whose parent died, even of SIGKILL; elsewhere a
child outlives a parent that could not clean up.
"""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

LAST_LINES = 40  # enough for a traceback
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Looked up here and not in the child: between fork and exec nothing may load a library.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class ProcessFailed(Exception):
    """A child process did not start, did not get ready, or ended too early. The message is for people."""


class Process:
    """A running child: its `pid`, its last lines of output, and how it ended."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, tell: Callable[[str], None] | None) -> None:
        self.name = name
        self.pid = child.pid
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._child = child
        self._tell = tell
        self._waiting: dict[re.Pattern[str], asyncio.Future[re.Match[str]]] = {}
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> Self:
        """
        Starts `command`, its errors in line with its output.

        Raises ProcessFailed if there is no such program.
        """
        try:
            child = await asyncio.create_subprocess_exec(
                *map(str, command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=env,
                cwd=cwd,
                process_group=0,
                preexec_fn=_die_with(os.getpid()),
            )
        except OSError as exc:
            raise ProcessFailed(f"{name} could not be started: {command[0]}: {exc.strerror}.") from exc
        return cls(name, child, tell)

    async def ready(self, patterns: Sequence[str], within: float) -> list[re.Match[str]]:
        """
        Waits until a line of output has matched each pattern, and gives the matches in that order.

        Raises ProcessFailed when that takes longer than `within` seconds or the process ends first.
        """
        loop = asyncio.get_running_loop()
        waiting = [self._waiting.setdefault(re.compile(pattern), loop.create_future()) for pattern in patterns]
        self._reader = asyncio.create_task(self._read())
        pending: set[asyncio.Future[re.Match[str]] | asyncio.Task[None]] = {*waiting}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while pending and not self._reader.done():
                    _, pending = await asyncio.wait({*pending, self._reader}, return_when=asyncio.FIRST_COMPLETED)
                    pending.discard(self._reader)
        if all(future.done() for future in waiting):
            return [future.result() for future in waiting]
        if self._reader.done():
            raise ProcessFailed(f"{self.name} {await self.ended()} before it was ready.{self._tail()}")
        raise ProcessFailed(f"{self.name} was not ready within {within:g} s.{self._tail()}")

    async def ended(self) -> str:
        """Waits for the process to end, and says how."""
        code = await self._child.wait()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def stop(self, patience: float = 10) -> None:
        """SIGTERM to the process and to what it started, SIGKILL to what is left after `patience` seconds."""
        if self._child.returncode is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.wait(), patience)
        self._signal(signal.SIGKILL)
        await self._child.wait()
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        with contextlib.suppress(TimeoutError):  # a grandchild that left the group may hold the pipe open
            await asyncio.wait_for(self._reader, patience)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a zombie's group
            os.killpg(self.pid, number)

    async def _read(self) -> None:
        async for line in _lines(self._child.stdout):
            self.last_lines.append(line)
            if self._tell:
                self._tell(line)
            for pattern, future in self._waiting.items():
                if not future.done() and (match := pattern.search(line)):
                    future.set_result(match)

    def _tail(self) -> str:
        if not self.last_lines:
            return " It printed nothing."
        return "".join(["\nIts last lines:", *(f"\n  {line}" for line in self.last_lines)])


@contextlib.asynccontextmanager
async def running(
    name: str,
    command: Sequence[str | Path],
    *,
    ready: Sequence[str],
    within: float = 60,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> AsyncIterator[tuple[Process, list[re.Match[str]]]]:
    """
    A process from when it is ready, with the matches of the patterns in `ready`, until it is stopped.

    `tell` gets every line of its output. Raises ProcessFailed.
    """
    process = await Process.start(name, command, env=env, cwd=cwd, tell=tell)
    try:
        yield process, await process.ready(ready, within)
    finally:
        await process.stop()


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[str]:
    """Lines of any length, which `StreamReader.readline` does not give."""
    rest = b""
    while stream and (chunk := await stream.read(65536)):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").rstrip()
    if rest:
        yield rest.decode(errors="replace").rstrip()


def _die_with(parent: int) -> Callable[[], None] | None:
    """What a child does before it becomes the program: ask the kernel to be killed when we die."""
    if _prctl is None:
        return None
    prctl = _prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # we died before the child could ask
            os._exit(1)

    return ask
