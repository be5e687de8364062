"""
Child processes that end with their parent: start one, wait until its output says that it is ready, stop it.

Knows nothing of what the processes do.

Each child leads its own process group, so that Ctrl-C in a terminal reaches only the parent, which stops its
children in order. On Linux the kernel kills a child whose parent died, even by SIGKILL. On other systems a child
outlives a parent that could not clean up.
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

# Looked up here and not in the child: no library may be loaded between fork and exec.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class ProcessFailed(Exception):
    """A child process did not start, did not become ready, or ended too early. The message is a sentence."""


class Process:
    """A running child: its `pid`, the last lines of its output, and how it ended."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, on_line: Callable[[str], None] | None) -> None:
        self.name = name
        self.pid = child.pid
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._child = child
        self._on_line = on_line
        self._matches: dict[re.Pattern[str], asyncio.Future[re.Match[str]]] = {}
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Self:
        """
        Start `command`, with stderr redirected to stdout.

        Raises ProcessFailed if the program does not exist.
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
                preexec_fn=_end_with(os.getpid()),
            )
        except OSError as exc:
            raise ProcessFailed(f"{name} could not be started: {command[0]}: {exc.strerror}.") from exc
        return cls(name, child, on_line)

    async def ready(self, patterns: Sequence[str], within: float) -> list[re.Match[str]]:
        """
        Wait until a line of output has matched each pattern. Returns the matches in the order of the patterns.

        Raises ProcessFailed if that takes longer than `within` seconds or the process ends first.
        """
        loop = asyncio.get_running_loop()
        matches = [self._matches.setdefault(re.compile(pattern), loop.create_future()) for pattern in patterns]
        self._reader = asyncio.create_task(self._read())
        pending: set[asyncio.Future[re.Match[str]] | asyncio.Task[None]] = {*matches}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while pending and not self._reader.done():
                    _, pending = await asyncio.wait({*pending, self._reader}, return_when=asyncio.FIRST_COMPLETED)
                    pending.discard(self._reader)
        if all(future.done() for future in matches):
            return [future.result() for future in matches]
        if self._reader.done():
            raise ProcessFailed(f"{self.name} {await self.ended()} before it was ready.{self._tail()}")
        raise ProcessFailed(f"{self.name} was not ready within {within:g} s.{self._tail()}")

    async def ended(self) -> str:
        """Wait for the process to end. Returns how it ended, as the rest of a sentence about it."""
        code = await self._child.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    async def stop(self, grace_s: float = 10) -> None:
        """Send SIGTERM to the process and its children, and SIGKILL to those left after `grace_s` seconds."""
        if self._child.returncode is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.wait(), grace_s)
        self._signal(signal.SIGKILL)
        await self._child.wait()
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        with contextlib.suppress(TimeoutError):  # a grandchild that left the group may hold the pipe open
            await asyncio.wait_for(self._reader, grace_s)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a zombie's group
            os.killpg(self.pid, number)

    async def _read(self) -> None:
        async for line in _lines(self._child.stdout):
            self.last_lines.append(line)
            if self._on_line:
                self._on_line(line)
            for pattern, future in self._matches.items():
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
    on_line: Callable[[str], None] | None = None,
) -> AsyncIterator[tuple[Process, list[re.Match[str]]]]:
    """
    A process once it is ready, and the matches of the patterns in `ready`. It is stopped when the block ends.

    `on_line` is called with each line of its output; `within` is in seconds. Raises ProcessFailed.
    """
    process = await Process.start(name, command, env=env, cwd=cwd, on_line=on_line)
    try:
        yield process, await process.ready(ready, within)
    finally:
        await process.stop()


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[str]:
    """Lines of any length; `StreamReader.readline` has a limit."""
    rest = b""
    while stream and (chunk := await stream.read(65536)):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").rstrip()
    if rest:
        yield rest.decode(errors="replace").rstrip()


def _end_with(parent: int) -> Callable[[], None] | None:
    """What a child runs before it becomes the program: it asks the kernel for SIGKILL when the parent dies."""
    if _prctl is None:
        return None
    prctl = _prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before this call
            os._exit(1)

    return ask
