"""
functionTimeout: ends this process when an invocation takes too long, and every other job with it.

A thread of its own, because the usual culprit is a function that blocks the event loop.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class Watchdog:
    """
    Watches invocations; calls `bite` with a sentence, from its thread, when one is overdue. A timeout of
    None is never overdue.
    """

    def __init__(self, timeout: float | None, bite: Callable[[str], None]) -> None:
        self._timeout = timeout
        self._bite = bite
        self._lock = threading.Lock()
        self._started: dict[int, tuple[float, str]] = {}  # in the order of their deadlines
        self._count = 0
        if timeout is not None:
            threading.Thread(target=self._watch, args=(timeout,), name="watchdog", daemon=True).start()

    @contextlib.contextmanager
    def watching(self, function: str) -> Iterator[None]:
        """From the start of an invocation to its end."""
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
                self._bite(
                    f"Function '{oldest[1]}' ran longer than functionTimeout ({timeout:g} s): this worker is"
                    f" killed, and {others} other jobs on it die too."
                )
                return
