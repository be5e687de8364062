"""
What the host prints: the app's log records as Azure would keep them, and the host's own warnings.

Of an app's record only the formatted message and the level survive, and only inside an invocation;
what Azure would drop is shown and marked.
"""

import logging
import os
import sys
from collections.abc import Mapping

from azure_functions_runtime.utils.executor import invocation_id_cv

_ENGINE = "azure.functions"
_HOST = "host."


def start_logging(running: Mapping[str, str]) -> None:
    """Sends log records to stderr. `running` are the invocations in flight: id to function name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format(running))
    handler.addFilter(_is_worth_a_line)
    root = logging.getLogger()
    root.addHandler(handler)
    debug = os.environ.get("PYTHON_ENABLE_DEBUG_LOGGING", "").lower() in {"1", "true", "t", "yes", "y"}
    root.setLevel(logging.DEBUG if debug else logging.INFO)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    if record.name == _ENGINE:
        # The engine logs an app's exceptions with their tracebacks, and so does the host, from the outcome.
        return record.levelno >= logging.WARNING and not record.exc_info
    if record.levelno < logging.WARNING and invocation_id_cv.get() is None:
        return not record.name.startswith("azure.")  # the host's own requests
    return True


class _Format(logging.Formatter):
    def __init__(self, running: Mapping[str, str]) -> None:
        super().__init__()
        self._running = running

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname} {self._place(record)}: {super().format(record)}"

    def _place(self, record: logging.LogRecord) -> str:
        if record.name.startswith(_HOST) or record.name == _ENGINE:
            return record.name
        invocation_id = invocation_id_cv.get()
        if invocation_id in self._running:
            return f"{self._running[invocation_id]} {invocation_id[:8]}"
        return "(outside an invocation: Azure drops this)"
