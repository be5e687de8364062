"""
functionTimeout: ends this process, with all its other jobs, when an invocation takes too long.

It runs in a thread of its own, because the usual cause is a function that blocks the event loop.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn


class Watchdog:
    """
    Watches invocations, and calls `on_timeout` with a sentence, from its thread, when one takes longer than `timeout`
    seconds. With a timeout of None it never does.
    """

    def __init__(self, timeout: float | None, on_timeout: Callable[[str], None]) -> None:
        self._on_timeout = on_timeout
        self._lock = threading.Lock()
        self._started: dict[int, tuple[float, str]] = {}  # in the order of their deadlines
        self._count = 0
        if timeout is not None:
            threading.Thread(target=self._watch, args=(timeout,), name="watchdog", daemon=True).start()

    @contextlib.contextmanager
    def watching(self, function: str) -> Iterator[None]:
        """Watch an invocation until the block ends."""
        with self._lock:
            self._count += 1
            key = self._count
            self._started[key] = (time.monotonic(), function)
        try:
            yield
        finally:
            with self._lock:
                del self._started[key]

    def _watch(self, timeout: float) -> None:
        while True:
            time.sleep(min(timeout / 4, 0.25))
            with self._lock:
                oldest = next(iter(self._started.values()), None)
                others = len(self._started) - 1
            if oldest is not None and time.monotonic() - oldest[0] > timeout:
                self._on_timeout(
                    f"Function '{oldest[1]}' ran longer than functionTimeout ({timeout:g} s), so this worker is"
                    f" killed, with {others} other jobs in flight."
                )
                return


def leave(code: int) -> NoReturn:
    """End the process at once, and abandon the jobs in flight, as when Azure kills a worker."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
