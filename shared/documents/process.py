"""
Reads documents in processes that have nothing: the worker's side of `child`.

A parser of other people's files may have a hole. So each document is read by a process of its own, which is spawned
with an empty environment, two open files and an empty folder, and which gives up everything else (`sandbox`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO
from weakref import WeakValueDictionary

from shared.documents.extracted import MAX_OUTPUT_BYTES, TOO_MUCH, Extracted, decode
from shared.documents.kinds import Problem
from shared.errors import Throttled

AT_ONCE = 2
"""Documents that a worker reads at a time; one of them a customer's."""
MAX_WALL_S = 150.0
"""More than the processor's time that `sandbox` allows: others may need the processor, too."""
MAX_WAIT_S = 60.0
"""The longest that a job waits for its turn."""
_RETRY_S = 10.0
_MAX_EXTENSION = 10
_COMMAND = "import sys; sys.path[:] = sys.argv[2:]; from shared.documents.child import main; main(sys.argv[1])"
_LIBRARIES = "LD_LIBRARY_PATH"
"""The one variable that is passed on if there is one: without it, such a Python does not start."""


class Overtaxing(Exception):
    """The process ended without a result: the document takes too much, or has crashed what reads it."""


class Killed(Overtaxing):
    """Somebody else has ended the process, such as the system, for want of memory."""


class Documents:
    """The turns of a worker's documents."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._turns = WeakValueDictionary[str, asyncio.Lock]()

    @asynccontextmanager
    async def turn(self, customer: str) -> AsyncIterator[None]:
        """Wait until a document of the customer may be read, for the block. Raises Throttled."""
        own_turn = self._turns.setdefault(customer, asyncio.Lock())
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(MAX_WAIT_S):
                    await stack.enter_async_context(own_turn)
                    await stack.enter_async_context(self._turn)
            except TimeoutError:
                raise Throttled("The worker reads other documents.", _RETRY_S) from None
            yield


async def extract(file: BinaryIO, name: str, draws: bool = False) -> Extracted | Problem:
    """
    Return the text of the document in `file`, which has a descriptor, or why there is none. Call it within a turn.

    `name`: the blob's. `draws`: pages without text become pictures. Raises Overtaxing, Killed, and Throttled if the
    system has no process left.
    """
    file.seek(0, os.SEEK_END)  # forgets what was read ahead: to its start, it would move within that alone
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    with tempfile.TemporaryFile() as output:
        # Without a name, the folder stays empty, and a worker that is killed leaves nothing behind.
        with tempfile.TemporaryDirectory() as folder:
            process = await _start(file, output, name, folder, draws)
        try:
            async with asyncio.timeout(MAX_WALL_S):
                status = await process.wait()
        except TimeoutError:
            status = TOO_MUCH
        finally:
            await _end(process)
        if status:
            raise Killed if status == -signal.SIGKILL else Overtaxing
        return await asyncio.to_thread(_read, output)


async def _start(file: BinaryIO, output: BinaryIO, name: str, folder: str, draws: bool) -> Process:
    # Whoever lists processes sees the arguments: not the blob's name, but how it ends.
    extension = "".join(filter(str.isalnum, name.rpartition(".")[2]))[:_MAX_EXTENSION]
    what = f"{'draws' * draws}.{extension}"  # see `child.DRAWS`
    command = sys.executable, "-I", "-S", "-X", "utf8", "-c", _COMMAND, what, *filter(None, sys.path)
    environment = {_LIBRARIES: os.environ[_LIBRARIES]} if _LIBRARIES in os.environ else {}
    try:
        return await asyncio.create_subprocess_exec(
            *command, stdin=file, stdout=output, stderr=DEVNULL, env=environment, cwd=folder, start_new_session=True
        )
    except OSError:
        raise Throttled("The worker has no process left to read a document.", _RETRY_S) from None


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _read(output: BinaryIO) -> Extracted | Problem:
    output.seek(0)
    try:
        return decode(output.read(MAX_OUTPUT_BYTES))
    except ValueError:
        raise Overtaxing from None
